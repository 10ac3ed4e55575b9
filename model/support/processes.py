"""The processes that this one started, and those that they did in turn."""

import contextlib
import os
import signal
import subprocess
from pathlib import Path

__all__ = ["Started", "end_with_this_process", "started", "terminate"]

Started = tuple[int, int]
"""A process: its id, and when it began, as an id may come again."""


def started() -> list[Started]:
    """All that run below this process; none where the system has no ``/proc``."""
    parents: dict[int, tuple[int, int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        # Its name is in brackets, and may hold anything; it may end meanwhile.
        with contextlib.suppress(OSError, IndexError, ValueError):
            fields = path.read_text(errors="replace").rpartition(")")[2].split()
            parents[int(path.parent.name)] = int(fields[1]), int(fields[19])
    found: list[Started] = []
    above = {os.getpid()}
    while above:
        below = {process: begun for process, (parent, begun) in parents.items() if parent in above}
        found += below.items()
        above = set(below)
    return found


def terminate(processes: list[Started]) -> None:
    """End those that still run, whoever is their parent by now."""
    for process, begun in processes:
        with contextlib.suppress(OSError, IndexError, ValueError):
            fields = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[19]) == begun and fields[0] != "Z":
                os.kill(process, signal.SIGTERM)


# A shell outside the group, which nothing else ends: it reads to the end of a pipe, which comes when nobody holds the other end.
_KILLS_THE_GROUP = 'trap "" TERM; read -r line; kill -s KILL -- "-$1"'


def end_with_this_process() -> None:
    """Have whatever this process starts from now on end with it, in whatever way it ends: killed, too.

    It becomes the first of a process group of its own, which is killed when it is gone. That is not for a command on a terminal,
    whose Ctrl-C no longer comes to it.
    """
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    # No other process inherits the end that is written to, and it stays open.
    end, _ = os.pipe()
    subprocess.Popen(
        ["sh", "-c", _KILLS_THE_GROUP, "sh", str(os.getpid())],
        stdin=end,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(end)
