"""The cycle model of the folded machine: when everything happens, cycle for cycle as `hw.folded.machine` does it.

What passes is given by `model.machine.schedule`, as for the pipeline. There is one core, which does one thing after the other:
here the states of its control follow each other as in the hardware, and under the same names.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from numba import njit

from model.engine.engine import Stream, run_streams
from model.events import Events
from model.machine.cycles import CoreUse, Cycles
from model.machine.folded_layout import Folded, FoldedLayer
from model.machine.plan import Plan
from model.machine.randomness import first_number, shifted
from model.machine.schedule import END, OUTSIDE, Schedule, schedule
from model.machine.stages import stages
from model.network import INPUT, Network

__all__ = ["simulate_folded"]

Ints = npt.NDArray[np.int64]

PIPELINE = 4
"""Cycles from a block issued to what it fires."""

POOL_PIPELINE = 3
"""Cycles from a position of the pool's window asked for to its count."""

(_NOW, _RANDOM, _HOST, _RESULT_READY, _WATCHED_READY, _RESULT, _COPY, _TOKENS, _ANSWERED, _WATCHED, _GENERATION, _STATE) = range(
    12
)
"""Registers: the cycle; those of the source and the sinks in `sim.recorder`; whether a result and a copy wait; tokens that the
source still has; results and copies taken; the generation."""

_STEP_CYCLES, _HAS_POOL, _BLOCKS, _QUEUED, _HIGHEST, _BUSY, _CONSTANTS = range(7)
"""Of each layer: cycles from one block to the next, whether a pool follows, blocks at a position; events that wait for it,
the most that ever did, and the cycles spent on it."""

_TOKEN_STEPS, _FIRED_STEP, _FIRED_TOKEN, _SURVIVORS, _MEMBERS, _LISTS = range(6)
"""Lists of each layer: of each token the blocks of its walk, `END` for an end of frame; of each block that fires (and each end)
its number in the walk, its token, the spikes that leave for it, and the positions of the pool's window that it is in."""


def simulate_folded(
    network: Network,
    plan: Plan,
    images: npt.NDArray[np.uint8] | Sequence[Events],
    *,
    idle: int = 0,
    stall: int = 0,
    seed: int = 1,
    watch: int = 0,
    activity: int = 0,
    batch: int,
    done: Callable[[int], None] | None = None,
) -> Cycles:
    """Run frames back to back through a folded machine.

    Arguments and result are those of `model.machine.pipeline_cycles.simulate`; every token is recorded. Cycle 0 is the first
    after reset, or, where weights have to be loaded, the first in which they are.
    """
    folded = Folded.of(network, plan)
    layers = folded.layers
    links = [INPUT, *(stage.name for stage in stages(network))]
    names = [layer.name for layer in network.layers]
    watched = np.array([bool(watch) and bool(watch >> port & 1) for port in [0, *(1 + names.index(name) for name in links[1:])]])
    state = np.zeros(_STATE, np.int64)
    state[_RANDOM] = first_number(seed)
    state[_GENERATION] = 1
    registers = np.zeros((len(layers), _CONSTANTS), np.int64)
    registers[:, :_QUEUED] = [[la.step_cycles, la.pool is not None, la.blocks] for la in layers]
    options = np.array(
        [
            idle,
            stall,
            layers[-1].lanes * layers[-1].blocks,
            folded.tag_depth,
            2**folded.generation_bits - 1,
            not folded.single_weight_words,
        ]
    )
    shown = np.zeros((len(layers), activity), np.int8)
    logs: dict[str, list[Ints]] = {}
    for begin in range(0, len(images), batch):
        streams = run_streams(network, images[begin : begin + batch])
        frames = len(streams[INPUT].starts) - 1
        found = [schedule(network, plan, stage, streams) for stage in stages(network)]
        lists = [_lists(of, la, streams[la.layer.name]) for of, la in zip(found, layers, strict=True)]
        counts = {f"events_{name}": len(streams[name].address) + frames for name in links}
        for of, la in zip(found, layers, strict=True):
            counts[f"groups_{la.layer.name}"] = len(of.fired_token)
            if la.pool:
                counts[f"groups_{la.pool.name}"] = len(of.tokens)
        counts |= {"started": frames, "compared": frames, "answered": frames + 1, "watched": sum(counts.values())}
        places = dict(zip(counts, np.cumsum([0, *counts.values()]), strict=False))
        groups = [[places[f"groups_{of.name}"] if of else 0 for of in (la.layer, la.pool)] for la in layers]
        log = np.full(sum(counts.values()), -1)
        # The source already offers the next batch's first token while the last one of this batch is worked off, so it is told of
        # one token more than the batch has, unless it is the last.
        final = begin + frames == len(images)
        state[_TOKENS] += len(lists[0][_TOKEN_STEPS]) + (not final) - (begin > 0)
        state[_ANSWERED] = state[_WATCHED] = 0
        _run(
            state,
            options,
            registers,
            watched,
            np.array([[len(values) for values in of] for of in lists]),
            tuple(np.concatenate([of[number] for of in lists]) for number in range(_LISTS)),
            log,
            np.array([places[f"events_{name}"] for name in links]),
            np.array(groups),
            np.array([places[name] for name in ("started", "compared", "answered", "watched")]),
            begin == 0,
            final,
            shown,
        )
        for name, count in counts.items():
            part = log[places[name] : places[name] + count]
            logs.setdefault(name, []).append(part[part >= 0])
        if done:
            done(frames)
    passed = {name: np.concatenate(parts) for name, parts in logs.items()}
    total = int(passed["answered"][-1])
    return Cycles(
        frames=len(images),
        watched=passed.pop("watched"),
        started=passed.pop("started"),
        compared=passed.pop("compared"),
        answered=passed.pop("answered"),
        passed=passed,
        cores=tuple(
            CoreUse(
                name=(la.pool or la.layer).name,
                starved=total - int(registers[number, _BUSY]),
                working=int(registers[number, _BUSY]),
                blocked=0,
                sweeping=0,
                group_fifo=0,
                pool_fifo=0,
                event_fifo=int(registers[number + 1, _HIGHEST]) if number + 1 < len(layers) else 0,
            )
            for number, la in enumerate(layers)
        ),
        activity=shown[:, :total],
    )


def _lists(found: Schedule, la: FoldedLayer, spikes: Stream) -> list[Ints]:
    """The lists of one layer."""
    frames = len(spikes.starts) - 1
    frame = np.repeat(np.arange(frames), np.diff(spikes.starts))
    position, channel = np.divmod(spikes.address, la.output.channels)
    key = np.stack([frame, spikes.cause, position, channel // la.lanes])
    first = np.ones(len(frame), bool)
    first[1:] = (key[:, 1:] != key[:, :-1]).any(axis=0)
    y, x = np.divmod(position[first], la.output.width)
    sizes = [np.array([entry[2] if entry else 0 for entry in la.window(axis)]) for axis in (0, 1)]
    ends = found.groups == END
    members = np.zeros(len(found.groups), np.int64)
    members[~ends] = sizes[0][y] * sizes[1][x]
    survivors = np.where(found.groups == OUTSIDE, 0, found.groups)
    return [found.steps, found.fired_step, found.fired_token, survivors, members]


@njit(cache=True)
def _tick(state, options, log, marks, takes, copies, answers):  # type: ignore[no-untyped-def]
    """A clock edge: ``takes`` a token of the host, ``copies`` one for it, ``answers`` a frame."""
    if state[_RESULT] and state[_RESULT_READY]:
        log[marks[2] + state[_ANSWERED]] = state[_NOW]
        state[_ANSWERED] += 1
        state[_RESULT] = 0
    if state[_COPY] and state[_WATCHED_READY]:
        log[marks[3] + state[_WATCHED]] = state[_NOW]
        state[_WATCHED] += 1
        state[_COPY] = 0
    if answers:
        state[_RESULT] = 1
    if copies:
        state[_COPY] = 1
    first = shifted(state[_RANDOM])
    second = shifted(first)
    third = shifted(second)
    state[_RANDOM] = third
    state[_RESULT_READY] = (first & 0xFFFF) >= options[1]
    state[_WATCHED_READY] = (second & 0xFFFF) >= options[1]
    if takes:
        state[_HOST] = 0
    if not state[_HOST] and state[_TOKENS] and (third & 0xFFFF) >= options[0]:
        state[_HOST] = 1
        state[_TOKENS] -= 1
    state[_NOW] += 1


@njit(cache=True)
def _pass(state, options, log, marks, cycles):  # type: ignore[no-untyped-def]
    """Cycles in which the machine has nothing to do with the host."""
    settled = state[_HOST] and state[_RESULT_READY] and not state[_RESULT] and not state[_COPY]
    if settled and options[0] == 0 and options[1] == 0:
        state[_NOW] += cycles
        return
    for _ in range(cycles):
        _tick(state, options, log, marks, False, False, False)


@njit(cache=True)
def _run(  # type: ignore[no-untyped-def]
    state, options, registers, watched, lengths, lists, log, links, groups, marks, starts, final, shown
):
    """Until all tokens are taken and answered."""
    layers = len(registers)
    last = layers - 1
    at = np.zeros((layers, _LISTS), np.int64)
    for number in range(_LISTS):
        for layer in range(1, layers):
            at[layer, number] = at[layer - 1, number] + lengths[layer - 1, number]
    token_base = at[:, _TOKEN_STEPS].copy()
    fired_end = at[:, _FIRED_TOKEN] + lengths[:, _FIRED_TOKEN]
    tokens_left = lengths[0, _TOKEN_STEPS]
    frame = 0
    in_frame = False
    reset = starts and options[5]
    if reset:
        _pass(state, options, log, marks, options[3])
    while tokens_left:
        # PICK
        begun = state[_NOW]
        layer = last
        while layer > 0 and not registers[layer, _QUEUED]:
            layer -= 1
        if layer:
            registers[layer, _QUEUED] -= 1
            _pass(state, options, log, marks, 2)
        else:
            is_end = lists[_TOKEN_STEPS][at[0, _TOKEN_STEPS]] == END
            while not state[_HOST] or (watched[0] and state[_COPY]) or (is_end and state[_RESULT]):
                _tick(state, options, log, marks, False, False, False)
            begun = state[_NOW]
            log[links[0]] = begun
            links[0] += 1
            if not in_frame:
                log[marks[0] + frame] = begun
            in_frame = not is_end
            tokens_left -= 1
            if is_end:
                for of in range(layers):
                    log[links[of + 1]] = begun
                    log[groups[of, 0]] = begun
                    links[of + 1] += 1
                    groups[of, 0] += 1
                    if registers[of, _HAS_POOL]:
                        log[groups[of, 1]] = begun
                        groups[of, 1] += 1
                    for number in (_FIRED_STEP, _FIRED_TOKEN, _SURVIVORS, _MEMBERS, _TOKEN_STEPS):
                        at[of, number] += 1
                _tick(state, options, log, marks, True, watched[0], False)
                if watched[1:].any():
                    # ENDS
                    for port in range(1, layers + 1):
                        while watched[port] and state[_COPY]:
                            _tick(state, options, log, marks, False, False, False)
                        _tick(state, options, log, marks, False, watched[port], False)
                # LOOK, SUM, WALK, DRAIN, COMPARE
                walk = (registers[last, _BLOCKS] - 1) * registers[last, _STEP_CYCLES] + PIPELINE + 1
                _pass(state, options, log, marks, 2 + walk + options[2] - 1)
                log[marks[1] + frame] = state[_NOW]
                _tick(state, options, log, marks, False, False, True)
                frame += 1
                state[_GENERATION] += 1
                if state[_GENERATION] > options[4]:
                    state[_GENERATION] = 1
                    _pass(state, options, log, marks, options[3])
                continue
            _tick(state, options, log, marks, True, watched[0], False)
        # LOOK, SUM
        _pass(state, options, log, marks, 2)
        steps = lists[_TOKEN_STEPS][at[layer, _TOKEN_STEPS]]
        token = at[layer, _TOKEN_STEPS] - token_base[layer]
        at[layer, _TOKEN_STEPS] += 1
        at_step, cycles = 0, registers[layer, _STEP_CYCLES]
        while at_step < steps:
            # WALK, DRAIN: to the next block that fires, or to the last.
            fired = at[layer, _FIRED_TOKEN]
            fires = fired < fired_end[layer] and lists[_FIRED_TOKEN][fired] == token
            stop = lists[_FIRED_STEP][fired] if fires else steps - 1
            _pass(state, options, log, marks, (stop - at_step) * cycles + PIPELINE)
            at_step = stop + 1
            if not fires:
                _pass(state, options, log, marks, 1)
                break
            log[groups[layer, 0]] = state[_NOW]
            groups[layer, 0] += 1
            survivors, members = lists[_SURVIVORS][fired], lists[_MEMBERS][fired]
            for number in (_FIRED_STEP, _FIRED_TOKEN, _SURVIVORS, _MEMBERS):
                at[layer, number] += 1
            # FIRED; MEMBERS, SETTLE; EMIT; RESUME
            _pass(state, options, log, marks, 2)
            if registers[layer, _HAS_POOL] and members:
                _pass(state, options, log, marks, members + POOL_PIPELINE)
                if not survivors:
                    _pass(state, options, log, marks, 1)
            for number in range(survivors):
                while watched[layer + 1] and state[_COPY]:
                    _tick(state, options, log, marks, False, False, False)
                if number == 0 and registers[layer, _HAS_POOL]:
                    log[groups[layer, 1]] = state[_NOW]
                    groups[layer, 1] += 1
                log[links[layer + 1]] = state[_NOW]
                links[layer + 1] += 1
                _tick(state, options, log, marks, False, watched[layer + 1], False)
            if layer < last:
                registers[layer + 1, _QUEUED] += survivors
                registers[layer + 1, _HIGHEST] = max(registers[layer + 1, _HIGHEST], registers[layer + 1, _QUEUED])
            _pass(state, options, log, marks, 1)
        registers[layer, _BUSY] += state[_NOW] - begun
        shown[layer, begun : state[_NOW]] = 1
    while final and (state[_RESULT] or state[_COPY]):
        _tick(state, options, log, marks, False, False, False)
