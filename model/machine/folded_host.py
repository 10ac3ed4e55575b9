"""What the cycle models of folded machines share: the machine's registers, and cycles in which the host comes and goes."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from model.arrays import Images, Ints
from model.engine.engine import Stream, run_streams
from model.events import Events
from model.machine.cycles import CoreUse, Cycles
from model.machine.folded_layout import Folded
from model.machine.registers import ANSWERED, HOST, WATCHED, by_trace, draw, logged, record, reset_host, write
from model.machine.stages import stages
from model.network import INPUT, Network
from model.support.compiled import njit

__all__ = ["MACHINE", "found_cycles", "note", "pass_cycles", "reset_machine", "run_batches", "tick", "wait_for_copy"]

MACHINE = record(
    *HOST,
    # What it is: cycles in which the answers are compared, words of a sweep, the last generation; whether the input is watched,
    # whether any other port is, a link's or not; whether events and groups are logged.
    *("outputs", "tag_depth", "generations", "watched", "watches", "records"),
    # Whether the source offers a token, and how many it has left.
    *("host", "tokens"),
    # Whether a result and a copy wait; whether the tags are still to be swept.
    *("result", "copy", "in_frame", "generation", "sweeps"),
)


def reset_machine(folded: Folded, *, idle: int, stall: int, seed: int, watch: int) -> npt.NDArray[np.void]:
    """Its registers after reset, one record."""
    machine, last = np.zeros(1, MACHINE), folded.layers[-1]
    machine["outputs"], machine["tag_depth"] = last.lanes * last.blocks, folded.tag_depth
    machine["generations"], machine["generation"] = 2**folded.generation_bits - 1, 1
    machine["watched"], machine["watches"] = watch & 1, watch >> 1 != 0
    reset_host(machine, idle=idle, stall=stall, seed=seed)
    # Where weights are loaded, the tags are swept meanwhile.
    machine["sweeps"] = not folded.single_weight_words
    return machine


def run_batches(
    network: Network,
    machine: npt.NDArray[np.void],
    images: Images | Sequence[Events],
    *,
    batch: int,
    done: Callable[[int], None] | None,
    run: Callable[[dict[str, Stream], int, bool], Ints],
) -> dict[str, Any]:
    """Run frames back to back, a batch at a time.

    Parameters
    ----------
    network, images, batch, done
        As of `model.machine.simulate.simulate`.
    machine : array of MACHINE
        The registers, one record.
    run : callable
        Takes the streams of a batch, the tokens that the host sends, and whether it is the last; gives the log.

    Returns
    -------
    dict
        As of `model.machine.registers.logged`.
    """
    logs, cores = [], stages(network)
    for begin in range(0, len(images), batch):
        streams = run_streams(network, images[begin : begin + batch])
        frames = len(streams[INPUT].starts) - 1
        final = begin + frames == len(images)
        # The source already offers the next batch's first token while the last one of this batch is worked off, so it is told of
        # one token more than the batch has, unless it is the last.
        tokens = len(streams[INPUT].address) + frames
        machine["tokens"] += tokens + (not final) - (begin > 0)
        machine["logged"] = 0
        logs.append(by_trace(run(streams, tokens, final), cores))
        if done:
            done(frames)
    return logged(logs, cores)


def found_cycles(
    network: Network, frames: int, found: dict[str, Any], *, busy: Ints, queued: Ints, activity: npt.NDArray[np.int8]
) -> Cycles:
    """What a folded machine did: of each core the cycles that were spent on it, and the most events that waited after it."""
    total = int(found["answered"][-1])
    return Cycles(
        frames=frames,
        **found,
        cores=tuple(
            CoreUse(
                name=stage.name,
                starved=total - int(spent),
                working=int(spent),
                blocked=0,
                sweeping=0,
                group_fifo=0,
                pool_fifo=0,
                event_fifo=int(waiting),
            )
            for stage, spent, waiting in zip(stages(network), busy, queued, strict=True)
        ),
        activity=activity[:, :total],
    )


@njit(cache=True)
def tick(machine, log, takes, copies, answers):  # type: ignore[no-untyped-def]
    """A clock edge: ``takes`` a token of the host, ``copies`` one for it, ``answers`` a frame."""
    if machine.result and machine.result_ready:
        write(machine, log, ANSWERED)
        machine.result = 0
    if machine.copy and machine.watched_ready:
        write(machine, log, WATCHED)
        machine.copy = 0
    if answers:
        machine.result = 1
    if copies:
        machine.copy = 1
    willing = draw(machine)
    if takes:
        machine.host = 0
    if not machine.host and machine.tokens and willing:
        machine.host = 1
        machine.tokens -= 1
    machine.cycle += 1


@njit(cache=True)
def pass_cycles(machine, log, cycles):  # type: ignore[no-untyped-def]
    """Cycles in which the machine has nothing to do with the host."""
    settled = machine.host and machine.result_ready and not machine.result and not machine.copy
    if settled and machine.idle == 0 and machine.stall == 0:
        machine.cycle += cycles
        return
    for _ in range(cycles):
        tick(machine, log, False, False, False)


@njit(cache=True)
def wait_for_copy(machine, log, watched):  # type: ignore[no-untyped-def]
    """Until there is room for a copy, where a link is watched."""
    while watched and machine.copy:
        tick(machine, log, False, False, False)


@njit(cache=True)
def note(machine, log, trace):  # type: ignore[no-untyped-def]
    """Log an event or a group, if these are."""
    if machine.records:
        write(machine, log, trace)
