"""Jobs of a campaign of inputs: some thousand of them, each drawn from the seed and its number."""

import json
import signal
import subprocess
import sys
import time
from functools import cache, partial
from pathlib import Path
from typing import Any

from model.support.cache import source_hash
from model.support.errors import ToolError
from sim.campaigns.jobs import DifferenceError, Kind, Parameters
from sim.campaigns.report import added
from sim.campaigns.verification import ROOT
from sim.fuzzing.judge import ACCEPTED, FAILED, MOST_BYTES, REFUSED
from sim.fuzzing.targets import TARGETS, drawn, target_named

__all__ = ["FUZZ", "fuzz"]

_MOST_KEPT = 20
"""Inputs of a job that are kept."""

_MOST_DEATHS = 10
"""Of processes of a job; more say that something else is wrong."""

_STILL_SECONDS = 600.0
"""How long a process may stay at one input without taking any time of a processor."""

_POLL_SECONDS = 0.1


@cache
def _version() -> str:
    """What decides which inputs are drawn, and what comes of them."""
    return source_hash(*(ROOT / package for package in ("model", "hw", "sim", "boards")))


def fuzz(target: str, parameters: Parameters, folder: Path) -> dict[str, Any]:
    """Read a job's inputs in a process of their own; those that fail are left in the folder, with their numbers."""
    seed, inputs = int(parameters["seed"]), int(parameters["inputs"])
    first = int(parameters["number"]) * inputs
    found: dict[str, Any] = {"inputs": 0, "bytes": 0, REFUSED: {}, ACCEPTED: {}, FAILED: {}}
    failures: list[dict[str, Any]] = []
    ranges, deaths = [(first, inputs)], 0
    while ranges:
        begin, count = ranges.pop()
        part, died_at, why = _in_a_process(target, seed, begin, count, folder)
        if part is not None:
            failures += part.pop("failures")
            found = added(found, part)
            continue
        deaths += 1
        if deaths > _MOST_DEATHS:
            raise ToolError(f"{deaths} processes ended at inputs up to {died_at}: {why}")
        failures.append({"number": died_at, "kind": why, "message": why})
        found = added(found, {"inputs": 1, FAILED: {why: 1}})
        # Those before it once more, for what came of them was lost.
        ranges += [(at, size) for at, size in ((died_at + 1, begin + count - died_at - 1), (begin, died_at - begin)) if size]
    if failures:
        _keep(target, seed, failures, folder)
        listed = [f"input {each['number']}: {each['kind']}: {each['message']}" for each in failures]
        raise DifferenceError("\n".join(listed), found)
    return found


def _keep(target: str, seed: int, failures: list[dict[str, Any]], folder: Path) -> None:
    """Leave the inputs that failed in the folder."""
    way_in = target_named(target)
    for each in failures[:_MOST_KEPT]:
        content, _ = drawn(way_in, seed, each["number"])
        (folder / f"{each['number']}{way_in.ending}").write_bytes(content)
    told = [{"seed": seed, **each} for each in failures]
    (folder / "failures.json").write_text(json.dumps(told, indent=2) + "\n")


def _in_a_process(target: str, seed: int, first: int, count: int, folder: Path) -> tuple[dict[str, Any] | None, int, str]:
    """What came of some inputs; or, where the process ended, at which one and why."""
    at = folder / "cache" / "at"
    at.parent.mkdir(exist_ok=True)
    at.write_bytes((1 << 63).to_bytes(8, "little"))
    asked = {"module": TARGETS[target][0], "seed": seed, "first": first, "count": count, "at": str(at)}
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", "from sim.fuzzing.child import main; main()"],
        cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True, errors="replace",
    )
    why = ""
    try:
        out, err, why = _waited(process, json.dumps(asked) + "\n", at)
    finally:
        process.kill()
        process.wait()
    if process.returncode == 0 and not why:
        return json.loads(out), 0, ""
    number = int.from_bytes(at.read_bytes(), "little")
    if number >= 1 << 63:
        last = (err.strip().splitlines() or ["no word"])[-1]
        raise ToolError(f"inputs of {target} cannot be read at all: {last}")
    if not why:
        names = {-int(each): each.name for each in signal.Signals}
        why = names.get(process.returncode, f"exit code {process.returncode}")
        why = "hang" if why == "SIGXCPU" else why
    return None, number, why


def _waited(process: "subprocess.Popen[str]", asked: str, at: Path) -> tuple[str, str, str]:
    """What a process says on both streams when it has ended; and why it was ended, where it stood still."""
    seen, since = "", time.monotonic()
    given: str | None = asked
    while True:
        try:
            out, err = process.communicate(given, timeout=_POLL_SECONDS)
            return out, err, ""
        except subprocess.TimeoutExpired:
            given = None
        now = f"{at.read_bytes()!r} {_taken_time(process.pid)}"
        if now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > _STILL_SECONDS:
            process.kill()
            out, err = process.communicate()
            return out, err, "stands still"


def _taken_time(process: int) -> str:
    """Time of the processor that a process took, however the system counts it."""
    try:
        return " ".join(Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()[11:15])
    except OSError:
        return ""


FUZZ = {
    name: Kind(name=f"fuzz-{name}", version=_version, run=partial(fuzz, name), memory_bytes=(MOST_BYTES + (1 << 29)), threads=1)
    for name in TARGETS
}
"""Of each way in the kind of its jobs: of `seed`, `number`, and how many `inputs` one has."""
