"""A process that reads inputs one after the other, so that one that ends it or never ends takes nothing else along.

It is told what to do by a line of JSON on standard input, and says what came of it by one on standard output. The number of the
input at hand is always in a file, which is there when the process is not any more.
"""

import importlib
import json
import mmap
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sim.fuzzing.judge import ACCEPTED, FAILED, REFUSED, bounded, judged
from sim.fuzzing.targets import Target, drawn

__all__ = ["main", "read_inputs"]



def read_inputs(
    target: Target, seed: int, first: int, count: int, *, begins: Callable[[int], object], isolated: bool = False
) -> dict[str, Any]:
    """Draw inputs and read them.

    Parameters
    ----------
    target : Target
        The way in.
    seed, first, count : int
        Which inputs.
    begins : Callable[[int], object]
        Told the number of each before it is drawn.
    isolated : bool
        Whether this process is only there for them.

    Returns
    -------
    dict
        Numbers of inputs, by what came of them; and those that failed, with why.
    """
    found = {REFUSED: Counter[str](), ACCEPTED: Counter[str](), FAILED: Counter[str]()}
    failures: list[dict[str, Any]] = []
    size = 0
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=base) as name:
        folder = Path(name)
        for content in target.seeds():
            # What is loaded and compiled at the first of all counts for none.
            target.read(content, folder)
        with bounded():
            for number in range(first, first + count):
                begins(number)
                content, right = drawn(target, seed, number)
                size += len(content)
                verdict = judged(target, content, folder, right=right, isolated=isolated)
                found[verdict.outcome][verdict.kind] += 1
                if verdict.outcome == FAILED:
                    failures.append({"number": number, "kind": verdict.kind, "message": verdict.message})
    return {"inputs": count, "bytes": size, **{name: dict(kinds) for name, kinds in found.items()}, "failures": failures}


def main() -> None:
    """Do what standard input asks for."""
    asked = json.loads(sys.stdin.readline())
    # Whatever else writes there does not stand in what is found.
    told = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    with open(asked["at"], "r+b") as file, mmap.mmap(file.fileno(), 8) as at:

        def begins(number: int) -> None:
            at[:] = number.to_bytes(8, "little")

        target = importlib.import_module(asked["module"]).TARGET
        found = read_inputs(target, asked["seed"], asked["first"], asked["count"], begins=begins, isolated=True)
    told.write(json.dumps(found))
    told.close()
    # Nothing is left to clean up, and what inputs did to compiled code cannot show any more.
    os._exit(0)
