"""Steps of long work: told as they start, move and end, and run side by side where they do not wait for each other."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

__all__ = ["Steps", "side_by_side"]

_LINE = 100
"""Characters of a tool's line that are shown."""


class Steps:
    """Tells how steps go: on a terminal a line that moves for each that runs, elsewhere plain lines.

    Parameters
    ----------
    console : Console
        Where to tell.
    pause_seconds : float
        Where there is no terminal, how long a step is silent at most.
    """

    def __init__(self, console: Console, *, pause_seconds: float = 20.0) -> None:
        self._console, self._pause = console, pause_seconds
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._number = 0
        self._lock = threading.Lock()

    def __enter__(self) -> "Steps":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """One line."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def step(self, title: str) -> Iterator[Callable[[str], None]]:
        """A step; gives what to call with what it is doing."""
        with self._lock:
            self._number += 1
            label = f"{self._number}. {title}"
        task = self._bar.add_task(label, total=None)
        if self._bar.disable:
            self.say(f"{label} ...")
        doing = [""]
        started = time.monotonic()

        def tell(text: str) -> None:
            if text.strip():
                doing[0] = text.strip()[:_LINE]
                self._bar.update(task, description=f"{label}: {doing[0]}")

        ended = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(label, doing, started, ended), daemon=True)
        ticker.start()
        try:
            yield tell
        finally:
            ended.set()
            ticker.join()
            self._bar.remove_task(task)
        self.say(f"{label}: done in {time.monotonic() - started:.1f} s")

    def _tick(self, label: str, doing: list[str], started: float, ended: threading.Event) -> None:
        while self._bar.disable and not ended.wait(self._pause):
            self.say(f"{label}: {time.monotonic() - started:.0f} s{f', {doing[0]}' if doing[0] else ''}")


def side_by_side(
    *works: Callable[[], Any], stop: Callable[[], AbstractContextManager[object]], at_once: int | None = None
) -> list[Any]:
    """Run all ``works`` at once, in threads; gives their results, in order.

    Parameters
    ----------
    *works : Callable[[], Any]
        What to run. Each spends its time in other processes, or waits.
    stop : Callable[[], AbstractContextManager]
        Gives the context in which they end early, entered as soon as one of them fails.
    at_once : int or None
        How many at most; None for all.

    Raises
    ------
    Exception
        The first one of any of them.
    """
    with ThreadPoolExecutor(at_once or len(works)) as pool:
        futures = [pool.submit(work) for work in works]
        try:
            done, left = wait(futures, return_when=FIRST_EXCEPTION)
        except BaseException:
            # Ctrl-C: the pool would wait for all of them.
            with stop():
                pool.shutdown(cancel_futures=True)
            raise
        failed = next((future for future in futures if future in done and future.exception()), None)
        if failed is None:
            return [future.result() for future in futures]
        for future in left:
            future.cancel()
        with stop():
            wait(left)
        raise failed.exception()  # type: ignore[misc]
