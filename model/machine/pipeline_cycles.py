"""The cycle model of the pipeline: when everything happens, cycle for cycle as the hardware does it.

What passes is given by `model.machine.schedule`; here are only the handshakes: register stages, FIFOs, credits, the router's
forks. Every part of a core, and of what is around the cores, is a function, with the hardware's registers under the hardware's
names. A core's parts come from its end to its beginning, as whether a part is ready depends on those after it. `sim.verify`
holds the cycle of every token on every link equal to that of the RTL.
"""

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from model.arrays import Images, Ints
from model.engine.engine import Stream, run_streams
from model.events import Events
from model.machine.cycles import ACTIVITIES, CoreUse, CycleError, Cycles
from model.machine.limits import FRAMES_IN_FLIGHT, FRAMES_TO_LEAF, POOL_CYCLES, STARTS_UNSEEN, STEP_CYCLES, WATCHED_FIFO
from model.machine.plan import Plan
from model.machine.randomness import first_number, shifted
from model.machine.registers import ANSWERED, COMPARED, EVENTS, STARTED, WATCHED, by_trace, logged, record, write
from model.machine.schedule import END, FLUSHED, OUTSIDE, Schedule, flush_steps, schedule, state_words
from model.machine.stages import Stage, core_plan, ports, stages
from model.network import INPUT, MaxPool, Network, Neurons

__all__ = ["simulate_pipeline"]

PIPELINE = 1 + len(STEP_CYCLES)
"""Cycles from a step issued to what it fires in the FIFO."""

POOL_PIPELINE = len(POOL_CYCLES)
"""Those of a max-pool."""

_PIPE_MASK = (1 << 2 * PIPELINE) - 1
_POOL_PIPE_MASK = (1 << 2 * POOL_PIPELINE) - 1
"""A pipeline is two bits a stage: 0 nothing, 1 a step that fires nothing, 2 one that does."""

_HANG = 1_000_000
"""Cycles without a transfer on any link after which it is said to hang: more than any sweep takes."""

_AHEAD = 3
"""Batches whose spikes are in memory."""

_STARVED, _WORKING, _BLOCKED, _SWEEPING = range(len(ACTIVITIES))

_LISTS = {
    "steps": "at_token",
    "fired_token": "at_fired",
    "fired_step": "at_fired",
    "fired_groups": "at_step",
    "groups": "at_group",
    "tokens": "at_leaving",
    "frame_events": "at_frame",
}
"""The lists of a schedule, each with how far it is read; the last one is of events per frame that leave the core."""


_CORE = record(
    # What it is.
    *("has_neurons", "has_pool", "event_fifo", "depth", "pool_depth", "generations", "flush", "pool_flushes"),
    # Its registers.
    *("gets", "buffer", "buffer_second", "held", "step", "credits", "returned", "pipe", "sweep", "generation"),
    *("groups", "waiting", "selecting", "left", "turning", "selected"),
    *("pool_credits", "pool_returned", "pool_outside", "pool_pipe", "pool_sweep", "pool_generation", "pooled"),
    *("between", "between_second", "serializing", "serial_left", "events", "output", "output_second"),
    # How far each part has come in the lists of its schedule; where each of them begins among all lists.
    *("at_token", "at_fired", "at_step", "at_group", "at_leaving", "at_frame"),
    *(f"{name}_from" for name in _LISTS),
    # The most that each FIFO held.
    *("most_groups", "most_pooled", "most_events"),
)

_LINK = record(
    # How many read it, and whether none of them is a core.
    *("readers", "leaf"),
    # Whether it has a token, whether that passes, whether a copy of it is made.
    *("valid", "passes", "copied"),
    # Events left of its frame, or -1 before it; frames on their way to it, where it is a leaf; copies for the host.
    *("left", "frames", "copy", "copy_second"),
)

_MACHINE = record(
    # What is around the cores, and how source and sinks behave.
    *("inject", "outputs", "output_link", "idle", "stall"),
    *("cycle", "random", "host_valid", "result_ready", "watched_ready", "door", "door_second"),
    *("in_frame", "began", "starts", "room", "nearly_full"),
    *("read_gets", "read_held", "read_is_end", "comparing", "compared", "result_valid", "watches"),
    # Tokens that the source has, frames to be answered, input frames begun, cycles without a transfer, entries of the log.
    *("tokens_left", "frames_left", "inputs_read", "quiet", "logged"),
)


class _Hardware(NamedTuple):
    """The registers.

    Parameters
    ----------
    machine : array of _MACHINE
        One.
    cores : array of _CORE
        In the order of the network.
    links : array of _LINK
        The input and, of each core, the link that leaves it.
    readers : Ints
        Of each link (row) its readers: cores, the readout (as many as there are cores), the copies for the host (one more).
    taken : array of bool
        Of each link (row) the readers that have taken its token.
    used : Ints
        Of each core (row) the cycles of each of `ACTIVITIES`.
    activity : array of int8
        As of `Cycles`.
    """

    machine: npt.NDArray[np.void]
    cores: npt.NDArray[np.void]
    links: npt.NDArray[np.void]
    readers: Ints
    taken: npt.NDArray[np.bool_]
    used: Ints
    activity: npt.NDArray[np.int8]


def simulate_pipeline(
    network: Network,
    plan: Plan,
    images: Images | Sequence[Events],
    *,
    idle: int,
    stall: int,
    seed: int,
    watch: int,
    record: bool,
    activity: int,
    batch: int,
    done: Callable[[int], None] | None,
) -> Cycles:
    """Run frames back to back through a pipeline.

    Arguments and result are those of `model.machine.simulate.simulate`.
    """
    machine = _Machine.of(network, plan, idle=idle, stall=stall, seed=seed, watch=watch, activity=activity)
    begins = range(0, len(images), batch)

    def spikes(begin: int) -> tuple[list[Schedule], Stream, list[Stream]]:
        streams = run_streams(network, images[begin : begin + batch])
        found = [schedule(network, plan, stage, streams) for stage in machine.stages]
        return found, streams[INPUT], [streams[stage.name] for stage in machine.stages]

    # What fires does not depend on when: the next batches' spikes are found while the cycles of this one pass.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        ahead = deque(pool.submit(spikes, begin) for begin in begins[:_AHEAD])
        for number, begin in enumerate(begins):
            machine.feed(*ahead.popleft().result())
            if number + _AHEAD < len(begins):
                ahead.append(pool.submit(spikes, begins[number + _AHEAD]))
            machine.run(final=begin == begins[-1], record=record)
            if done:
                done(min(batch, len(images) - begin))
    return machine.cycles(len(images))


@dataclass(kw_only=True)
class _Machine:
    """The machine's registers, and what is still to pass.

    Parameters
    ----------
    plan, stages : Plan, tuple of Stage
        What it is of.
    hardware : _Hardware
        The registers.
    lists : list of dict of str to Ints
        Of each core, the lists of its schedule.
    forgotten : list of dict of str to int
        How much of each list has been read and dropped.
    tokens_fed : list of int
        Input tokens of each core so far.
    input_frames : Ints
        Events of each frame that has not begun.
    logs : list of list of Ints
        Of each batch when what passed, by trace.
    """

    plan: Plan
    stages: tuple[Stage, ...]
    hardware: _Hardware
    lists: list[dict[str, Ints]]
    forgotten: list[dict[str, int]]
    tokens_fed: list[int]
    input_frames: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    logs: list[list[Ints]] = field(default_factory=list)

    @classmethod
    def of(cls, network: Network, plan: Plan, *, idle: int, stall: int, seed: int, watch: int, activity: int) -> "_Machine":
        """A machine after reset."""
        found = stages(network)
        names = [INPUT, *(stage.name for stage in found)]
        cores = np.zeros(len(found), _CORE)
        for stage, core in zip(found, cores, strict=True):
            _reset(core, network, plan, stage)
        readers = np.zeros((len(names), len(cores) + 2), np.int64)
        links = np.zeros(len(names), _LINK)
        links["left"] = -1
        for number, (link, name) in enumerate(zip(links, names, strict=True)):
            by_cores = [core for core, stage in enumerate(found) if stage.source == name]
            by_all = list(by_cores)
            if name == network.output.name:
                by_all.append(len(cores))
            if plan.watch and watch >> ports(network)[name] & 1:
                by_all.append(len(cores) + 1)
            link["readers"], link["leaf"] = len(by_all), not by_cores
            readers[number, : len(by_all)] = by_all
        machine = np.zeros(1, _MACHINE)
        machine["inject"], machine["outputs"], machine["idle"], machine["stall"] = plan.inject, network.outputs, idle, stall
        machine["output_link"] = names.index(network.output.name)
        machine["random"], machine["room"] = first_number(seed), 1
        return cls(
            plan=plan,
            stages=found,
            hardware=_Hardware(
                machine=machine,
                cores=cores,
                links=links,
                readers=readers,
                taken=np.zeros(readers.shape, bool),
                used=np.zeros((len(cores), len(ACTIVITIES)), np.int64),
                activity=np.zeros((len(cores), activity), np.int8),
            ),
            lists=[{name: np.zeros(0, np.int64) for name in _LISTS} for _ in found],
            forgotten=[dict.fromkeys(_LISTS, 0) for _ in found],
            tokens_fed=[0] * len(found),
        )

    def feed(self, schedules: Sequence[Schedule], inputs: Stream, leaving: Sequence[Stream]) -> None:
        """More frames; what has been read of the ones before is forgotten."""
        for number, (found, core) in enumerate(zip(schedules, self.hardware.cores, strict=True)):
            more = {name: getattr(found, name) for name in _LISTS if name != "frame_events"}
            more["fired_token"] = more["fired_token"] + self.tokens_fed[number]
            more["frame_events"] = np.diff(leaving[number].starts)
            self.tokens_fed[number] += len(found.steps)
            for name, at in _LISTS.items():
                # The token in the walker's hand has been counted already.
                read = max(0, core[at] - (name == "steps") - self.forgotten[number][name])
                self.lists[number][name] = np.concatenate([self.lists[number][name][read:], more[name]])
                self.forgotten[number][name] += read
        events = np.diff(inputs.starts)
        self.input_frames = np.concatenate([self.input_frames, events])
        self.hardware.machine["tokens_left"] += int(events.sum()) + len(events)
        self.hardware.machine["frames_left"] += len(events)

    def run(self, *, final: bool, record: bool) -> None:
        """Until the source has no more tokens, or, if these are the last, until the last answer is taken."""
        begin, machine = 0, self.hardware.machine[0]
        for lists, forgotten, core in zip(self.lists, self.forgotten, self.hardware.cores, strict=True):
            for name, values in lists.items():
                core[f"{name}_from"] = begin - forgotten[name]
                begin += len(values)
        machine["inputs_read"] = 0
        every = np.concatenate([values for lists in self.lists for values in lists.values()])
        log, hangs = _run(self.hardware, every, self.input_frames, final, record)
        if hangs:
            raise CycleError(f"plan {self.plan.name!r}: nothing has moved for {_HANG} cycles, at cycle {machine['cycle']}")
        self.input_frames = self.input_frames[machine["inputs_read"] :]
        self.logs.append(by_trace(log, self.stages))

    def cycles(self, frames: int) -> Cycles:
        """What was found."""
        hardware = self.hardware
        return Cycles(
            frames=frames,
            **logged(self.logs, self.stages),
            cores=tuple(
                CoreUse(
                    name=stage.name,
                    **dict(zip(ACTIVITIES, map(int, used), strict=True)),
                    group_fifo=int(core["most_groups"]),
                    pool_fifo=int(core["most_pooled"]),
                    event_fifo=int(core["most_events"]),
                )
                for stage, used, core in zip(self.stages, hardware.used, hardware.cores, strict=True)
            ),
            activity=hardware.activity[:, : int(hardware.machine["cycle"][0])],
        )


def _reset(core: Any, network: Network, plan: Plan, stage: Stage) -> None:
    """Make a record of zeros a core after reset."""
    first, last, planned = stage.layers[0], stage.layers[-1], core_plan(network, plan, stage)
    core["has_neurons"], core["has_pool"] = isinstance(first, Neurons), isinstance(last, MaxPool)
    core["event_fifo"] = planned.event_fifo
    core["generations"] = 2**planned.generation_bits - 1
    core["depth"] = core["sweep"] = state_words(first, network, planned)
    core["pool_depth"] = core["pool_sweep"] = state_words(last, network, replace(planned, rows=1, columns=1))
    core["flush"], core["pool_flushes"] = flush_steps(network, first, planned), network.deferred
    core["credits"] = core["pool_credits"] = planned.group_fifo
    core["generation"] = core["pool_generation"] = 1


@njit(cache=True, nogil=True)
def _serialize(core, lists, gives):  # type: ignore[no-untyped-def]
    """Serializer: an event per cycle into the FIFO; ``gives``: one leaves the output buffer after it.

    Returns whether it takes a group, and whether one enters.
    """
    room = core.events != core.event_fifo
    pushes = core.serializing and room
    ready = not core.serializing or (core.serial_left <= 1 and room)
    leaving = core.pooled > 0 if core.has_pool else core.between != 0
    leaves = leaving and ready
    if ready:
        core.serializing = leaves
        if leaves:
            core.serial_left = lists[core.tokens_from + core.at_leaving]
            core.at_leaving += 1
    elif room:
        core.serial_left -= 1
    pops = core.events > 0 and not core.output_second
    if not core.output or gives:
        core.output = 1 if core.output_second else pops
        core.output_second = 0
    elif not core.output_second:
        core.output_second = pops
    core.events += pushes - pops
    core.most_events = max(core.most_events, core.events)
    return ready, leaves


@njit(cache=True, nogil=True)
def _pool(core, lists, serializer_ready, leaves):  # type: ignore[no-untyped-def]
    """Max-pool after a register stage, or that stage alone; before it the group selector, or the events as they come.

    Returns whether it takes a group, whether there is one, and whether a step of a flush passes.
    """
    neurons, pool = core.has_neurons, core.has_pool
    able = pool and core.pool_credits != 0 and core.pool_sweep == 0
    group = (core.selected if neurons else core.buffer) != 0
    present = core.between != 0 if neurons else group
    # Before it takes the end of a frame, a pool that fires deferred visits its windows.
    flushing = pool and core.pool_flushes and present and lists[core.groups_from + core.at_group] <= FLUSHED
    pool_ready = able and not flushing
    ready = core.between_second == 0 if neurons or not pool else pool_ready
    if pool:
        pools = able and present
        code, outside = 0, False
        core.pool_sweep -= core.pool_sweep > 0
        if pools:
            events = lists[core.groups_from + core.at_group]
            core.at_group += 1
            if flushing:
                events = FLUSHED - events
            outside = events == OUTSIDE
            code = 0 if outside else 1 if events == 0 else 2
            if events == END:
                core.pool_generation += 1
                if core.pool_generation > core.generations:
                    core.pool_generation, core.pool_sweep = 1, core.pool_depth
        out = core.pool_pipe >> 2 * POOL_PIPELINE - 2
        core.pool_pipe = (core.pool_pipe << 2 | code) & _POOL_PIPE_MASK
        core.pool_credits += core.pool_returned - pools
        core.pool_returned = leaves + (out == 1) + core.pool_outside
        core.pool_outside = outside
        core.pooled += (out == 2) - leaves
        core.most_pooled = max(core.most_pooled, core.pooled)
    else:
        core.at_group += group and ready
    if neurons or not pool:
        if not core.between or (pool_ready if pool else serializer_ready):
            core.between = 1 if core.between_second else group
            core.between_second = 0
        elif not core.between_second:
            core.between_second = group
    return ready, group, flushing and able


@njit(cache=True, nogil=True)
def _select(core, lists, taker_ready):  # type: ignore[no-untyped-def]
    """Group selector: the groups of a step that fired, one after the other. Returns whether it takes a step from the FIFO."""
    selected_ready = not core.selected or taker_ready
    turning_ready = not core.turning or selected_ready
    moves = core.selecting and turning_ready
    ready = not core.selecting or (moves and core.left <= 1)
    selects = (not core.waiting or ready) and core.groups > 0
    if selected_ready:
        core.selected = core.turning
    if turning_ready:
        core.turning = core.selecting
    if ready:
        core.selecting = core.waiting
        if core.waiting:
            core.left = lists[core.fired_groups_from + core.at_step]
            core.at_step += 1
    elif moves:
        core.left -= 1
    if not core.waiting or ready:
        core.waiting = selects
    return selects


@njit(cache=True, nogil=True)
def _walk(core, lists, selects):  # type: ignore[no-untyped-def]
    """Walker: a step a cycle while there are credits. Returns whether it takes an event, and what it does."""
    steps = lists[core.steps_from + core.at_token - 1] if core.held else 0
    is_end = core.held and steps == END and core.step == core.flush
    able = core.held and core.sweep == 0
    issue = able and core.credits != 0 and steps != 0
    done = (issue and (is_end or core.step + 1 == steps)) or (able and steps == 0)
    doing = _SWEEPING if core.sweep else _STARVED if not core.held else _WORKING if issue or done else _BLOCKED
    code = 0
    core.sweep -= core.sweep > 0
    if issue:
        # An end of frame fires, so there always is one more that does.
        fires = (
            lists[core.fired_token_from + core.at_fired] == core.at_token - 1
            and lists[core.fired_step_from + core.at_fired] == core.step
        )
        core.at_fired += fires
        code = 2 if fires else 1
        core.step = 0 if done else core.step + 1
        if is_end:
            core.generation += 1
            if core.generation > core.generations:
                core.generation, core.sweep = 1, core.depth
    out = core.pipe >> 2 * PIPELINE - 2
    core.pipe = (core.pipe << 2 | code) & _PIPE_MASK
    core.credits += core.returned - issue
    core.returned = selects + (out == 1)
    core.groups += (out == 2) - selects
    core.most_groups = max(core.most_groups, core.groups)
    return not core.held or done, doing


@njit(cache=True, nogil=True)
def _step_core(core, lists, gives):  # type: ignore[no-untyped-def]
    """One clock edge of a core; ``gives``: an event leaves its output buffer.

    Returns what the walker does, and whether a group passes after the group selector, and after the max-pool.
    """
    pool_sweeps = core.pool_sweep > 0
    serializer_ready, leaves = _serialize(core, lists, gives)
    taker_ready, group, flushes = _pool(core, lists, serializer_ready, leaves)
    passes = group and taker_ready
    if core.has_neurons:
        taken, doing = _walk(core, lists, _select(core, lists, taker_ready))
    else:
        taken = taker_ready
        doing = _SWEEPING if pool_sweeps else _WORKING if passes or flushes else _BLOCKED if group else _STARVED
    # Input buffer.
    held, gets = core.buffer, core.gets
    core.gets = 0
    if not held or taken:
        if taken and held and core.has_neurons:
            core.at_token += 1
        core.buffer = 1 if core.buffer_second else gets
        core.buffer_second = 0
    elif not core.buffer_second:
        core.buffer_second = gets
    if taken and core.has_neurons:
        core.held = held
    return doing, passes and core.has_neurons != 0, leaves and core.has_pool != 0


@njit(cache=True, nogil=True)
def _read_takes(machine):  # type: ignore[no-untyped-def]
    """Whether the readout takes a token."""
    return not machine.read_held or not machine.read_is_end or (not machine.comparing and not machine.result_valid)


@njit(cache=True, nogil=True)
def _host_takes(machine):  # type: ignore[no-untyped-def]
    """Whether the source may offer a token: the one before has gone into the register stage at the door."""
    return not machine.host_valid or not machine.door_second


@njit(cache=True, nogil=True)
def _route(machine, cores, links, readers, taken, lists, input_frames):  # type: ignore[no-untyped-def]
    """The router: which links have a token, who takes it, and whether it passes, which is when the last one has taken it."""
    readout = len(cores)
    may_start = machine.in_frame or (machine.room and not (machine.inject and machine.nearly_full))
    fullest = 0
    for number in range(len(links)):
        fullest = max(fullest, links[number].frames)
    machine.nearly_full = fullest >= FRAMES_TO_LEAF - 1
    for number in range(len(links) - 1, -1, -1):
        link = links[number]
        link.valid = cores[number - 1].output if number else machine.door and may_start
        link.passes = link.copied = 0
        if not link.valid:
            continue
        everyone = True
        for at in range(link.readers):
            reader = readers[number, at]
            if reader < readout:
                ready = not cores[reader].buffer_second
            elif reader == readout:
                ready = _read_takes(machine)
            else:
                ready = not link.copy_second
            if ready and not taken[number, at]:
                if reader < readout:
                    cores[reader].gets = 1
                elif reader == readout:
                    machine.read_gets = 1
                else:
                    link.copied = 1
                taken[number, at] = True
            everyone &= taken[number, at]
        link.passes = everyone
        if everyone:
            for at in range(link.readers):
                taken[number, at] = False
        # Which tokens are ends of frames: each link counts down its frame's events.
        if link.left < 0:
            if number == 0:
                link.left = input_frames[machine.inputs_read]
                machine.inputs_read += 1
            else:
                core = cores[number - 1]
                link.left = lists[core.frame_events_from + core.at_frame]
                core.at_frame += 1


@njit(cache=True, nogil=True)
def _read_out(machine, log, spike_is_end):  # type: ignore[no-untyped-def]
    """Readout. Returns whether an answer is found, and whether the host takes one."""
    takes = _read_takes(machine)
    answers = machine.result_valid and machine.result_ready
    compares = machine.comparing and machine.compared == machine.outputs - 1
    ends = machine.read_held and takes and machine.read_is_end
    if machine.comparing:
        machine.compared += 1
    if ends:
        machine.comparing, machine.compared = 1, 0
    if takes:
        machine.read_held, machine.read_is_end = machine.read_gets, machine.read_gets and spike_is_end
    machine.read_gets = 0
    if compares:
        machine.comparing, machine.result_valid = 0, 1
        write(machine, log, COMPARED)
    if answers:
        machine.result_valid = 0
        machine.frames_left -= 1
        write(machine, log, ANSWERED)
    return compares, answers


@njit(cache=True, nogil=True)
def _count_frames(machine, links, log, compares, record):  # type: ignore[no-untyped-def]
    """Frames under way. Returns whether a token passes on any link."""
    starting = links[0].valid and not machine.in_frame
    if links[0].valid:
        machine.in_frame = 1
    if starting:
        for number in range(len(links)):
            links[number].frames += links[number].leaf
        write(machine, log, STARTED)
    machine.room = machine.starts <= FRAMES_IN_FLIGHT - STARTS_UNSEEN
    machine.starts += machine.began - compares
    machine.began = starting
    moved = False
    for number in range(len(links)):
        link = links[number]
        if not link.passes:
            continue
        moved = True
        if record:
            write(machine, log, EVENTS + number)
        link.left -= 1
        if link.left < 0:
            link.frames -= link.leaf
            if number == 0:
                machine.in_frame = 0
    return moved


@njit(cache=True, nogil=True)
def _copy(machine, links, log):  # type: ignore[no-untyped-def]
    """Copies for the host: of each link a register stage, the last link first."""
    leaves = machine.watches > 0 and machine.watched_ready
    if leaves:
        write(machine, log, WATCHED)
    has_room = machine.watches != WATCHED_FIFO
    machine.watches -= leaves
    for number in range(len(links) - 1, -1, -1):
        link = links[number]
        turn = link.copy and has_room
        if turn:
            has_room = False
            machine.watches += 1
        if not link.copy or turn:
            link.copy = 1 if link.copy_second else link.copied
            link.copy_second = 0
        elif not link.copy_second:
            link.copy_second = link.copied


@njit(cache=True, nogil=True)
def _drive(machine, passes):  # type: ignore[no-untyped-def]
    """The host: a register stage at the door, and the source and sinks of `sim.recorder` outside it."""
    takes, offered = _host_takes(machine), machine.host_valid
    first = shifted(machine.random)
    second = shifted(first)
    third = shifted(second)
    machine.random = third
    machine.result_ready = (first & 0xFFFF) >= machine.stall
    machine.watched_ready = (second & 0xFFFF) >= machine.stall
    if takes:
        machine.host_valid = 0
        if (third & 0xFFFF) >= machine.idle and machine.tokens_left:
            machine.host_valid = 1
            machine.tokens_left -= 1
    if not machine.door or passes:
        machine.door = 1 if machine.door_second else offered
        machine.door_second = 0
    elif not machine.door_second:
        machine.door_second = offered


@njit(cache=True, nogil=True)
def _busy(machine, links):  # type: ignore[no-untyped-def]
    """Whether anything is on its way."""
    busy = machine.frames_left != 0 or machine.watches != 0
    for number in range(len(links)):
        link = links[number]
        busy = busy or link.copy != 0 or link.copy_second != 0 or link.frames != 0
    return busy


@njit(cache=True, nogil=True)
def _run(hardware, lists, input_frames, final, record):  # type: ignore[no-untyped-def]
    """Cycle after cycle, until the source has no more tokens or, at the end, nothing is on its way.

    Returns the log, trace and cycle of each token, and whether the machine hangs.
    """
    machine, cores, links = hardware.machine[0], hardware.cores, hardware.links
    log, most = np.empty((2, 4096), np.int64), 4 + len(links) + 2 * len(cores)
    machine.logged = 0
    while not final or _busy(machine, links):
        if not final and _host_takes(machine) and not machine.tokens_left:
            break
        if machine.logged + most > log.shape[1]:
            longer = np.empty((2, 2 * log.shape[1]), np.int64)
            longer[:, : log.shape[1]] = log
            log = longer
        _route(machine, cores, links, hardware.readers, hardware.taken, lists, input_frames)
        compares, answers = _read_out(machine, log, links[machine.output_link].left == 0)
        moved = _count_frames(machine, links, log, compares, record)
        _copy(machine, links, log)
        for number in range(len(cores)):
            doing, selected, pooled = _step_core(cores[number], lists, links[number + 1].passes)
            hardware.used[number, doing] += 1
            if machine.cycle < hardware.activity.shape[1]:
                hardware.activity[number, machine.cycle] = doing
            groups = EVENTS + len(links) + 2 * number
            if record and selected:
                write(machine, log, groups)
            if record and pooled:
                write(machine, log, groups + 1)
        _drive(machine, links[0].passes)
        machine.cycle += 1
        machine.quiet = 0 if moved or answers else machine.quiet + 1
        if machine.quiet > _HANG:
            return log[:, : machine.logged], True
    return log[:, : machine.logged], False
