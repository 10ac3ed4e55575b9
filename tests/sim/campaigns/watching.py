"""A campaign of `tests.sim.campaigns.tiny` as a process of its own: it is started, watched and ended."""

import collections
import subprocess
import sys
import time
from pathlib import Path

from sim.campaigns.store import Store

__all__ = ["HANGS_SECONDS", "ROOT", "alive", "begun", "dask", "end", "started", "stored", "until", "workers_of"]

ROOT = Path(__file__).parents[3]

HANGS_SECONDS = 900
"""Far longer than anything here takes."""


def started(path, folder, numbers, *more, before=(), **options):
    """A campaign as a process of its own; ``before`` are words that start a command elsewhere."""
    command = [*before, sys.executable, "-m", "tests.sim.campaigns.tiny", path, folder, numbers, *more]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    return subprocess.Popen([str(word) for word in command], cwd=ROOT, **options)


def dask(stack, *words):
    """A scheduler or a worker, until a `contextlib.ExitStack` ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dask", *words], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def until(condition, process):
    """Wait for something, while a process runs."""
    deadline = time.monotonic() + HANGS_SECONDS
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it hangs"
        time.sleep(0.02)


def end(process):
    """What a campaign says when it has ended."""
    out, err = process.communicate(timeout=HANGS_SECONDS)
    assert process.returncode == 0, err
    return out, err


def begun(folder):
    """How often each job was begun."""
    path = folder / "begun"
    lines = path.read_text().splitlines() if path.exists() else []
    return collections.Counter(int(line.split()[0]) for line in lines)


def workers_of(folder):
    """The processes in which jobs were begun."""
    return {int(line.split()[1]) for line in (folder / "begun").read_text().splitlines()}


def stored(path):
    """How many jobs a store has; none where it is not there yet."""
    if not path.exists() or not path.stat().st_size:
        return 0
    with Store(path) as store:
        return len(list(store.results()))


def alive(process):
    """Whether a process is there, and not dead already."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
