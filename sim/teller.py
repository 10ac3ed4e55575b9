"""What a long simulation tells: on a terminal after the bar's name, and elsewhere in a line now and then."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["Teller"]


class Teller:
    """Tells what is being done: after the bar's name on a terminal, in a line now and then where there is none."""

    PAUSE_SECONDS = 20

    def __init__(self, bar: Progress, task: TaskID, label: str) -> None:
        self._bar, self._task, self._label = bar, task, label
        self._told = time.monotonic()

    def line(self, text: str) -> None:
        """What is being done; most of it is Yosys', and not worth a line each."""
        if not self._bar.disable:
            self._bar.update(self._task, description=f"{self._label}: {text.strip()[:60]}")
        elif time.monotonic() - self._told > self.PAUSE_SECONDS and text.strip():
            self._told = time.monotonic()
            print(f"{self._label}: {text.strip()[:100]}", file=sys.stderr, flush=True)

    def frames(self, done: int) -> None:
        """How many frames are answered."""
        self._bar.update(self._task, completed=done)
