"""What the cycle models share: registers by name, and the log of which token passes where, and when."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from model.arrays import Ints
from model.machine.randomness import first_number, shifted
from model.machine.stages import Stage
from model.network import INPUT, MaxPool
from model.support.compiled import inlined

__all__ = [
    "ANSWERED",
    "COMPARED",
    "EVENTS",
    "HOST",
    "STARTED",
    "WATCHED",
    "by_trace",
    "draw",
    "logged",
    "record",
    "reset_host",
    "write",
]

STARTED, COMPARED, ANSWERED, WATCHED, EVENTS = range(5)
"""What is logged: frames that start, answers that are found and taken, copies that are taken; from `EVENTS` on the events of each
link in the order of the network, and after these the groups of each core, those of its neurons and those of its max-pool."""


def record(*names: str) -> np.dtype[np.void]:
    """The type of a record of registers, all of 64 bits."""
    return np.dtype([(name, np.int64) for name in names], align=True)


HOST = ("idle", "stall", "random", "result_ready", "watched_ready", "cycle", "logged")
"""Registers of every machine's record: how source and sinks behave, the number last drawn, whether the sinks are ready; the
cycle; entries of the log so far."""


def reset_host(machine: npt.NDArray[np.void], *, idle: int, stall: int, seed: int) -> None:
    """Set the registers of `HOST` in a record of zeros."""
    machine["idle"], machine["stall"], machine["random"] = idle, stall, first_number(seed)


@inlined
def draw(machine):  # type: ignore[no-untyped-def]
    """Draw for the next cycle, as `sim.recorder` does: whether each sink is ready. Returns whether the source is willing."""
    if not machine.idle | machine.stall:
        machine.result_ready = machine.watched_ready = 1
        return True
    first = shifted(machine.random)
    second = shifted(first)
    third = shifted(second)
    machine.random = third
    machine.result_ready = (first & 0xFFFF) >= machine.stall
    machine.watched_ready = (second & 0xFFFF) >= machine.stall
    return (third & 0xFFFF) >= machine.idle


@inlined
def write(machine, log, trace):  # type: ignore[no-untyped-def]
    """Add a token to the log, shape ``(2, tokens)``: its trace and its cycle.

    ``machine`` is a record with the fields of `HOST`.
    """
    log[0, machine.logged], log[1, machine.logged] = trace, machine.cycle
    machine.logged += 1


def by_trace(log: Ints, stages: Sequence[Stage]) -> list[Ints]:
    """A batch's log, taken apart: of each trace the cycles of its tokens."""
    traces, cycles = log
    # Numbers of 16 bits are sorted in linear time.
    order = np.argsort(traces.astype(np.int16), kind="stable")
    ends = np.cumsum(np.bincount(traces, minlength=EVENTS + 1 + 3 * len(stages)))
    return np.split(cycles[order], ends[:-1])


def logged(batches: Sequence[Sequence[Ints]], stages: Sequence[Stage]) -> dict[str, Any]:
    """What successive batches' logs say, each taken `by_trace`: the fields of `model.machine.cycles.Cycles` that hold cycles."""
    every = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
    groups = EVENTS + 1 + len(stages)
    passed = {f"events_{INPUT}": every[EVENTS]}
    for number, stage in enumerate(stages):
        passed[f"events_{stage.name}"] = every[EVENTS + 1 + number]
        for layer in stage.layers:
            passed[f"groups_{layer.name}"] = every[groups + 2 * number + isinstance(layer, MaxPool)]
    return {
        "passed": passed,
        "watched": every[WATCHED],
        "started": every[STARTED],
        "compared": every[COMPARED],
        "answered": every[ANSWERED],
    }
