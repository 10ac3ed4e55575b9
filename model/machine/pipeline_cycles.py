"""The cycle model: when everything happens, cycle for cycle as the hardware does it.

What passes is given by `model.machine.schedule`; here are only the handshakes: register stages, FIFOs, credits, the router's
forks. Every part of a core has a paragraph in `_core`, in the order of `hw/pipeline/core.py`, with the hardware's registers under
the hardware's names. `sim.verify` holds the cycle of every token on every link equal to that of the RTL.
"""

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from numba import njit

from model.engine.engine import Stream, run_streams
from model.events import Events
from model.machine.checks import check_plan
from model.machine.limits import FRAMES_IN_FLIGHT, FRAMES_TO_LEAF, POOL_CYCLES, STARTS_UNSEEN, STEP_CYCLES, WATCHED_FIFO
from model.machine.plan import Plan
from model.machine.randomness import first_number, shifted
from model.machine.schedule import END, OUTSIDE, Schedule, schedule, state_words
from model.machine.stages import Stage, core_plan, stages
from model.network import INPUT, MaxPool, Network, Neurons
from model.support.errors import MismatchError

__all__ = ["ACTIVITIES", "BATCH", "CoreUse", "CycleError", "Cycles", "simulate"]

Ints = npt.NDArray[np.int64]

ACTIVITIES = ("starved", "working", "blocked", "sweeping")
"""What a core's walker does in a cycle: it has no event; it takes a step; what is behind it has no room; it clears tags."""

PIPELINE = 1 + len(STEP_CYCLES)
"""Cycles from a step issued to what it fires in the FIFO."""

POOL_PIPELINE = len(POOL_CYCLES)
"""Those of a max-pool."""

_PIPE_MASK = (1 << 2 * PIPELINE) - 1
_POOL_PIPE_MASK = (1 << 2 * POOL_PIPELINE) - 1
"""A pipeline is two bits a stage: 0 nothing, 1 a step that fires nothing, 2 one that does."""

_HANG = 1_000_000
"""Cycles without a transfer on any link after which it is said to hang: more than any sweep takes."""

BATCH = 64
"""Frames whose spikes are found at once."""

_AHEAD = 3
"""Batches whose spikes are in memory."""


class CycleError(MismatchError):
    """The machine hangs."""


# Registers of a core.
(
    _BUFFER,
    _BUFFER_SECOND,
    _HELD,
    _STEP,
    _CREDITS,
    _RETURNED,
    _SWEEP,
    _GENERATION,
    _GROUPS,
    _WAITING,
    _SELECTING,
    _LEFT,
    _TURNING,
    _SELECTED,
    _POOL_CREDITS,
    _POOL_RETURNED,
    _POOL_SWEEP,
    _POOL_GENERATION,
    _POOL_OUTSIDE,
    _POOLED,
    _BETWEEN,
    _BETWEEN_SECOND,
    _SERIALIZING,
    _SERIAL_LEFT,
    _EVENTS,
    _OUTPUT,
    _OUTPUT_SECOND,
    _PIPE,
    _POOL_PIPE,
    _REGISTERS,
) = range(30)

# How far each part of a core has come in the lists of its schedule.
_AT_TOKEN, _AT_FIRED, _AT_STEP, _AT_GROUP, _AT_LEAVING, _AT_FRAME, _POINTERS = range(7)

_LISTS = {
    "steps": _AT_TOKEN,
    "fired_token": _AT_FIRED,
    "fired_step": _AT_FIRED,
    "fired_groups": _AT_STEP,
    "groups": _AT_GROUP,
    "tokens": _AT_LEAVING,
    "frame_events": _AT_FRAME,
}
"""The lists of a schedule, each with how far it is read; the last one is of events a frame that leave the core."""
_STEPS, _FIRED_TOKEN, _FIRED_STEP, _FIRED_GROUPS, _GROUP_EVENTS, _TOKENS, _FRAME_EVENTS = range(7)

# What a core is.
(
    _HAS_NEURONS,
    _HAS_POOL,
    _GROUP_FIFO,
    _EVENT_FIFO,
    _DEPTH,
    _POOL_DEPTH,
    _GENERATIONS,
    _CONSTANTS,
) = range(8)

# The machine besides its cores.
(
    _CYCLE,
    _RANDOM,
    _HOST_VALID,
    _RESULT_READY,
    _WATCHED_READY,
    _DOOR,
    _DOOR_SECOND,
    _IN_FRAME,
    _BEGAN,
    _STARTS,
    _ROOM,
    _NEARLY_FULL,
    _READ_HELD,
    _READ_IS_END,
    _COMPARING,
    _COMPARED,
    _RESULT_VALID,
    _WATCHES,
    _TOKENS_LEFT,
    _FRAMES_LEFT,
    _QUIET,
    _STATE,
) = range(22)

_STARTED, _COMPARED_LOG, _ANSWERED, _WATCHED, _TRACES = range(5)
"""What is logged besides the links and the groups, which follow."""


@dataclass(frozen=True, kw_only=True)
class CoreUse:
    """How one core spent its cycles.

    Parameters
    ----------
    name : name of the core: of the link that leaves it
    starved, working, blocked, sweeping : cycles, see `ACTIVITIES`; a max-pool alone has no walker and only starves
    group_fifo, pool_fifo, event_fifo : the most that each FIFO held
    """

    name: str
    starved: int
    working: int
    blocked: int
    sweeping: int
    group_fifo: int
    pool_fifo: int
    event_fifo: int

    @property
    def utilization(self) -> float:
        """Share of the cycles in which the walker took a step."""
        return self.working / max(1, self.starved + self.working + self.blocked + self.sweeping)


@dataclass(frozen=True, kw_only=True)
class Cycles:
    """What a machine did, cycle by cycle; cycle 0 is the first after reset.

    Parameters
    ----------
    frames : frames answered
    passed : of each trace of the hardware (``events_NAME``, ``groups_NAME``), the cycle in which each token passes, ends of
        frames included; empty where it was not recorded
    watched : cycles in which a watched copy leaves
    started, compared, answered : of each frame, the cycle in which its first token is offered to a core, that in which its
        answer is found, and that in which the host takes it
    cores : how each core spent its cycles up to the last answer
    activity : of each core (row), what its walker did in each cycle recorded: an index into `ACTIVITIES`
    """

    frames: int
    passed: dict[str, Ints]
    watched: Ints
    started: Ints
    compared: Ints
    answered: Ints
    cores: tuple[CoreUse, ...]
    activity: npt.NDArray[np.int8]

    @property
    def latency(self) -> Ints:
        """Of each frame, cycles from its first token to its answer, as the hardware's `Result` has it."""
        return self.compared - self.started

    @property
    def cycles_per_frame(self) -> float:
        """Mean cycles a frame: from the first token taken to the last answer, over the frames."""
        return float(self.answered[-1] - self.started[0]) / self.frames


def simulate(
    network: Network,
    plan: Plan,
    images: npt.NDArray[np.uint8] | Sequence[Events],
    *,
    idle: int = 0,
    stall: int = 0,
    seed: int = 1,
    watch: int = 0,
    record: bool = False,
    activity: int = 0,
    batch: int = BATCH,
    done: Callable[[int], None] | None = None,
) -> Cycles:
    """Run frames back to back through the machine.

    Parameters
    ----------
    network, plan : the machine
    images : uint8 frames, or sequences of input events
    idle, stall : chance, of 65,536 in a cycle, that the source is idle, that a sink is stalled
    seed : of those, as `sim.recorder` draws them
    watch : mask of watched ports
    record : whether to keep the cycle of every token
    activity : cycles to record what the walkers do in
    batch : frames whose spikes are found at once
    done : called with the number of frames more that have entered

    Raises
    ------
    PlanError : the plan does not suit the network
    CycleError : the machine hangs
    """
    check_plan(network, plan)
    if not len(images):
        raise ValueError("images must be at least one frame")
    if plan.folded:
        # That module builds on this one.
        from model.machine.folded_cycles import simulate_folded

        return simulate_folded(
            network,
            plan,
            images,
            idle=idle,
            stall=stall,
            seed=seed,
            watch=watch,
            activity=activity,
            batch=batch,
            done=done,
        )
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
    """The machine's registers, and what is still to pass."""

    network: Network
    plan: Plan
    stages: tuple[Stage, ...]
    constants: Ints
    readers: npt.NDArray[np.bool_]
    options: Ints
    state: Ints
    registers: Ints
    pointers: Ints
    taken: npt.NDArray[np.bool_]
    leaf_frames: Ints
    copies: Ints
    used: Ints
    highest: Ints
    activity: npt.NDArray[np.int8]
    lists: list[list[Ints]]
    bases: Ints
    left: Ints
    input_frames: Ints
    tokens_fed: Ints
    logs: list[Ints] = field(default_factory=list)

    @classmethod
    def of(
        cls, network: Network, plan: Plan, *, idle: int, stall: int, seed: int, watch: int, activity: int
    ) -> "_Machine":
        cores = stages(network)
        links = [INPUT, *(stage.name for stage in cores)]
        constants = np.zeros((len(cores), _CONSTANTS), np.int64)
        registers = np.zeros((len(cores), _REGISTERS), np.int64)
        readers = np.zeros((len(links), len(cores) + 2), bool)
        for number, stage in enumerate(cores):
            first, last = stage.layers[0], stage.layers[-1]
            core = core_plan(network, plan, stage)
            row, now = constants[number], registers[number]
            row[_HAS_NEURONS], row[_HAS_POOL] = isinstance(first, Neurons), isinstance(last, MaxPool)
            row[_GROUP_FIFO], row[_EVENT_FIFO] = core.group_fifo, core.event_fifo
            row[_GENERATIONS] = 2**core.generation_bits - 1
            row[_DEPTH] = state_words(first, network, core)
            row[_POOL_DEPTH] = state_words(last, network, replace(core, rows=1, columns=1))
            now[_CREDITS] = now[_POOL_CREDITS] = core.group_fifo
            now[_GENERATION] = now[_POOL_GENERATION] = 1
            now[_SWEEP], now[_POOL_SWEEP] = row[_DEPTH], row[_POOL_DEPTH]
            readers[links.index(stage.source), number] = True
        ports = [0, *(1 + [layer.name for layer in network.layers].index(stage.name) for stage in cores)]
        readers[links.index(network.output.name), -2] = True
        readers[:, -1] = [plan.watch and bool(watch >> port & 1) for port in ports]
        state = np.zeros(_STATE, np.int64)
        state[_RANDOM] = first_number(seed)
        state[_ROOM] = 1
        return cls(
            network=network,
            plan=plan,
            stages=cores,
            constants=constants,
            readers=readers,
            options=np.array([idle, stall, network.outputs, plan.inject]),
            state=state,
            registers=registers,
            pointers=np.zeros((len(cores), _POINTERS), np.int64),
            taken=np.zeros(readers.shape, bool),
            leaf_frames=np.zeros(len(links), np.int64),
            copies=np.zeros((len(links), 2), np.int64),
            used=np.zeros((len(cores), len(ACTIVITIES)), np.int64),
            highest=np.zeros((len(cores), 3), np.int64),
            activity=np.zeros((len(cores), activity), np.int8),
            lists=[[np.zeros(0, np.int64) for _ in _LISTS] for _ in cores],
            bases=np.zeros((len(cores), len(_LISTS)), np.int64),
            left=np.full(len(links), -1),
            input_frames=np.zeros(0, np.int64),
            tokens_fed=np.zeros(len(cores), np.int64),
        )

    def feed(self, schedules: Sequence[Schedule], inputs: Stream, leaving: Sequence[Stream]) -> None:
        """More frames; what has been read of the ones before is forgotten."""
        read = list(_LISTS.values())
        for core, found in enumerate(schedules):
            more = [getattr(found, name) for name in list(_LISTS)[:-1]] + [np.diff(leaving[core].starts)]
            more[_FIRED_TOKEN] = more[_FIRED_TOKEN] + self.tokens_fed[core]
            self.tokens_fed[core] += len(found.steps)
            for number, values in enumerate(more):
                old, pointer = self.lists[core][number], self.pointers[core, read[number]]
                # The token in the walker's hand has been counted already.
                keep = max(0, pointer - (number == _STEPS) - self.bases[core, number])
                self.lists[core][number] = np.concatenate([old[keep:], values])
                self.bases[core, number] += keep
        events = np.diff(inputs.starts)
        self.input_frames = np.concatenate([self.input_frames, events])
        self.state[_TOKENS_LEFT] += int(events.sum()) + len(events)
        self.state[_FRAMES_LEFT] += len(events)

    def run(self, *, final: bool, record: bool) -> None:
        """Until the source has no more tokens, or, if these are the last, until the last answer is taken."""
        flat, starts = [], np.zeros((len(self.lists), len(_LISTS)), np.int64)
        for number in range(len(_LISTS)):
            parts = [lists[number] for lists in self.lists]
            starts[:, number] = np.cumsum([0, *map(len, parts)])[:-1] - self.bases[:, number]
            flat.append(np.concatenate(parts))
        log, inputs_read, hangs = _run(
            self.constants,
            self.readers,
            self.options,
            self.state,
            self.registers,
            self.pointers,
            self.taken,
            self.leaf_frames,
            self.copies,
            self.used,
            self.highest,
            self.activity,
            starts,
            tuple(flat),
            self.left,
            self.input_frames,
            final,
            record,
        )
        if hangs:
            raise CycleError(f"plan {self.plan.name!r}: nothing has moved for {_HANG} cycles, at cycle {self.state[_CYCLE]}")
        self.input_frames = self.input_frames[inputs_read:]
        self.logs.append(log)

    def cycles(self, frames: int) -> Cycles:
        """What was found."""
        log = np.concatenate(self.logs, axis=1)
        by_trace = {number: log[1, log[0] == number] for number in range(_TRACES + 3 * len(self.stages) + 1)}
        passed = {f"events_{INPUT}": by_trace[_TRACES]}
        for number, stage in enumerate(self.stages):
            passed[f"events_{stage.name}"] = by_trace[_TRACES + 1 + number]
            at = _TRACES + 1 + len(self.stages) + 2 * number
            for layer in stage.layers:
                passed[f"groups_{layer.name}"] = by_trace[at + isinstance(layer, MaxPool)]
        return Cycles(
            frames=frames,
            passed=passed,
            watched=by_trace[_WATCHED],
            started=by_trace[_STARTED],
            compared=by_trace[_COMPARED_LOG],
            answered=by_trace[_ANSWERED],
            cores=tuple(
                CoreUse(
                    name=stage.name,
                    **dict(zip(ACTIVITIES, map(int, self.used[number]), strict=True)),
                    **dict(zip(("group_fifo", "pool_fifo", "event_fifo"), map(int, self.highest[number]), strict=True)),
                )
                for number, stage in enumerate(self.stages)
            ),
            activity=self.activity[:, : int(self.state[_CYCLE])],
        )


@njit(cache=True, nogil=True)
def _logged(log, found, trace, cycle):  # type: ignore[no-untyped-def]
    if found == log.shape[1]:
        more = np.empty((2, 2 * found), np.int64)
        more[:, :found] = log
        log = more
    log[0, found], log[1, found] = trace, cycle
    return log


@njit(cache=True, nogil=True)
def _core(core, constants, r, at, used, highest, starts, lists, gets, gives):  # type: ignore[no-untyped-def]
    """One clock edge of a core.

    ``gets``: a token enters its input buffer; ``gives``: one leaves its output buffer. Returns what the walker does, and
    whether a group passes behind the group selector, and behind the max-pool.
    """
    neurons, pool = constants[core, _HAS_NEURONS] != 0, constants[core, _HAS_POOL] != 0

    # Serializer: an event a cycle into the FIFO.
    room = r[core, _EVENTS] != constants[core, _EVENT_FIFO]
    pushes = r[core, _SERIALIZING] and room
    serializer_ready = not r[core, _SERIALIZING] or (r[core, _SERIAL_LEFT] <= 1 and room)
    leaving = r[core, _POOLED] > 0 if pool else r[core, _BETWEEN] != 0

    # Max-pool behind a register stage, or that stage alone; before it the group selector, or the events as they come.
    pool_ready = pool and r[core, _POOL_CREDITS] != 0 and r[core, _POOL_SWEEP] == 0
    taker_ready = r[core, _BETWEEN_SECOND] == 0 if neurons or not pool else pool_ready
    group = (r[core, _SELECTED] if neurons else r[core, _BUFFER]) != 0
    passes = group and taker_ready
    pools = pool_ready and (r[core, _BETWEEN] != 0 if neurons else group)
    selected_ready = not r[core, _SELECTED] or taker_ready
    turning_ready = not r[core, _TURNING] or selected_ready
    selector_moves = r[core, _SELECTING] and turning_ready
    selector_ready = not r[core, _SELECTING] or (selector_moves and r[core, _LEFT] <= 1)
    selects = (not r[core, _WAITING] or selector_ready) and r[core, _GROUPS] > 0

    # Walker: a step a cycle while there are credits.
    issue = done = is_end = False
    code = 0
    if not neurons:
        taken = taker_ready
        doing = 3 if r[core, _POOL_SWEEP] else 1 if passes else 2 if group else 0
    else:
        steps = lists[_STEPS][starts[core, _STEPS] + at[core, _AT_TOKEN] - 1] if r[core, _HELD] else 0
        is_end = r[core, _HELD] and steps == END
        able = r[core, _HELD] and r[core, _SWEEP] == 0
        issue = able and r[core, _CREDITS] != 0 and steps != 0
        done = (issue and (is_end or r[core, _STEP] + 1 == steps)) or (able and steps == 0)
        taken = not r[core, _HELD] or done
        doing = 3 if r[core, _SWEEP] else 0 if not r[core, _HELD] else 1 if issue or done else 2
        if issue:
            fired = starts[core, _FIRED_TOKEN] + at[core, _AT_FIRED]
            fires = (
                fired < len(lists[_FIRED_TOKEN])
                and lists[_FIRED_TOKEN][fired] == at[core, _AT_TOKEN] - 1
                and lists[_FIRED_STEP][starts[core, _FIRED_STEP] + at[core, _AT_FIRED]] == r[core, _STEP]
            )
            at[core, _AT_FIRED] += fires
            code = 2 if fires else 1

    # From here on the clock edge. Input buffer:
    if not r[core, _BUFFER] or taken:
        if taken and r[core, _BUFFER] and neurons:
            at[core, _AT_TOKEN] += 1
        held = r[core, _BUFFER]
        r[core, _BUFFER] = 1 if r[core, _BUFFER_SECOND] else gets
        r[core, _BUFFER_SECOND] = 0
    else:
        held = r[core, _BUFFER]
        if not r[core, _BUFFER_SECOND]:
            r[core, _BUFFER_SECOND] = gets
    if neurons:
        r[core, _SWEEP] -= r[core, _SWEEP] > 0
        if taken:
            r[core, _HELD] = held
        if issue:
            r[core, _STEP] = 0 if done else r[core, _STEP] + 1
            if is_end:
                r[core, _GENERATION] += 1
                if r[core, _GENERATION] > constants[core, _GENERATIONS]:
                    r[core, _GENERATION], r[core, _SWEEP] = 1, constants[core, _DEPTH]
        out = r[core, _PIPE] >> 2 * PIPELINE - 2
        r[core, _PIPE] = (r[core, _PIPE] << 2 | code) & _PIPE_MASK
        r[core, _CREDITS] += r[core, _RETURNED] - issue
        r[core, _RETURNED] = selects + (out == 1)
        r[core, _GROUPS] += (out == 2) - selects
        if selected_ready:
            r[core, _SELECTED] = r[core, _TURNING]
        if turning_ready:
            r[core, _TURNING] = r[core, _SELECTING]
        if selector_ready:
            r[core, _SELECTING] = r[core, _WAITING]
            if r[core, _WAITING]:
                r[core, _LEFT] = lists[_FIRED_GROUPS][starts[core, _FIRED_GROUPS] + at[core, _AT_STEP]]
                at[core, _AT_STEP] += 1
        elif selector_moves:
            r[core, _LEFT] -= 1
        if not r[core, _WAITING] or selector_ready:
            r[core, _WAITING] = selects

    leaves = leaving and serializer_ready
    if pool:
        code, outside = 0, False
        r[core, _POOL_SWEEP] -= r[core, _POOL_SWEEP] > 0
        if pools:
            events = lists[_GROUP_EVENTS][starts[core, _GROUP_EVENTS] + at[core, _AT_GROUP]]
            at[core, _AT_GROUP] += 1
            outside = events == OUTSIDE
            code = 0 if outside else 1 if events == 0 else 2
            if events == END:
                r[core, _POOL_GENERATION] += 1
                if r[core, _POOL_GENERATION] > constants[core, _GENERATIONS]:
                    r[core, _POOL_GENERATION], r[core, _POOL_SWEEP] = 1, constants[core, _POOL_DEPTH]
        out = r[core, _POOL_PIPE] >> 2 * POOL_PIPELINE - 2
        r[core, _POOL_PIPE] = (r[core, _POOL_PIPE] << 2 | code) & _POOL_PIPE_MASK
        r[core, _POOL_CREDITS] += r[core, _POOL_RETURNED] - pools
        r[core, _POOL_RETURNED] = leaves + (out == 1) + r[core, _POOL_OUTSIDE]
        r[core, _POOL_OUTSIDE] = outside
        r[core, _POOLED] += (out == 2) - leaves
    else:
        at[core, _AT_GROUP] += passes
    if neurons or not pool:
        if not r[core, _BETWEEN] or (pool_ready if pool else serializer_ready):
            r[core, _BETWEEN] = 1 if r[core, _BETWEEN_SECOND] else group
            r[core, _BETWEEN_SECOND] = 0
        elif not r[core, _BETWEEN_SECOND]:
            r[core, _BETWEEN_SECOND] = group

    if serializer_ready:
        r[core, _SERIALIZING] = leaves
        if leaves:
            r[core, _SERIAL_LEFT] = lists[_TOKENS][starts[core, _TOKENS] + at[core, _AT_LEAVING]]
            at[core, _AT_LEAVING] += 1
    elif room:
        r[core, _SERIAL_LEFT] -= 1

    # Output buffer.
    pops = r[core, _EVENTS] > 0 and not r[core, _OUTPUT_SECOND]
    if not r[core, _OUTPUT] or gives:
        r[core, _OUTPUT] = 1 if r[core, _OUTPUT_SECOND] else pops
        r[core, _OUTPUT_SECOND] = 0
    elif not r[core, _OUTPUT_SECOND]:
        r[core, _OUTPUT_SECOND] = pops
    r[core, _EVENTS] += pushes - pops

    used[core, doing] += 1
    highest[core, 0] = max(highest[core, 0], r[core, _GROUPS])
    highest[core, 1] = max(highest[core, 1], r[core, _POOLED])
    highest[core, 2] = max(highest[core, 2], r[core, _EVENTS])
    return doing, passes and neurons, leaves and pool


@njit(cache=True, nogil=True)
def _run(  # type: ignore[no-untyped-def]
    constants,
    readers,
    options,
    state,
    registers,
    pointers,
    taken,
    leaf_frames,
    copies,
    used,
    highest,
    activity,
    starts,
    lists,
    left,
    input_frames,
    final,
    record,
):
    cores, links = len(constants), len(constants) + 1
    readout, copy = cores, cores + 1
    idle, stall, outputs, inject = options
    log, found = np.empty((2, 4096), np.int64), 0
    valid, passes = np.zeros(links, np.bool_), np.zeros(links, np.bool_)
    # Of each link who reads it, and whether no core does.
    reader_list, reader_count = np.zeros(readers.shape, np.int64), np.zeros(links, np.int64)
    leaf, output_link = np.ones(links, np.bool_), 0
    for link in range(links):
        for reader in range(cores + 2):
            if readers[link, reader]:
                reader_list[link, reader_count[link]] = reader
                reader_count[link] += 1
                leaf[link] &= reader >= cores
        if readers[link, readout]:
            output_link = link
    ready, gets, copied = np.zeros(cores + 2, np.bool_), np.zeros(cores + 2, np.bool_), np.zeros(links, np.bool_)
    inputs_read = 0
    while not final or state[_FRAMES_LEFT] or state[_WATCHES] or copies.any() or leaf_frames.any():
        host_takes = not state[_HOST_VALID] or not state[_DOOR_SECOND]
        if not final and host_takes and not state[_TOKENS_LEFT]:
            break
        cycle = state[_CYCLE]

        # The router: who has a token, who takes it.
        may_start = state[_IN_FRAME] or (state[_ROOM] and not (inject and state[_NEARLY_FULL]))
        state[_NEARLY_FULL] = leaf_frames.max() >= FRAMES_TO_LEAF - 1
        valid[0] = state[_DOOR] and may_start
        read_takes = not state[_READ_HELD] or not state[_READ_IS_END] or (not state[_COMPARING] and not state[_RESULT_VALID])
        gets[:] = False
        copied[:] = False
        for link in range(links - 1, -1, -1):
            passes[link] = False
            if link > 0:
                valid[link] = registers[link - 1, _OUTPUT]
            if not valid[link]:
                continue
            everyone = True
            for n in range(reader_count[link]):
                reader = reader_list[link, n]
                if reader < cores:
                    ready[n] = not registers[reader, _BUFFER_SECOND]
                elif reader == readout:
                    ready[n] = read_takes
                else:
                    ready[n] = not copies[link, 1]
                if not taken[link, reader]:
                    gets[reader] |= ready[n]
                    copied[link] |= reader == copy and ready[n]
                everyone &= ready[n] or taken[link, reader]
            passes[link] = everyone
            for n in range(reader_count[link]):
                reader = reader_list[link, n]
                taken[link, reader] = (ready[n] or taken[link, reader]) and not everyone

        # Which tokens are ends of frames: each link counts down its frame's events.
        for link in range(links):
            if valid[link] and left[link] < 0:
                if link == 0:
                    left[link] = input_frames[inputs_read]
                    inputs_read += 1
                else:
                    left[link] = lists[_FRAME_EVENTS][starts[link - 1, _FRAME_EVENTS] + pointers[link - 1, _AT_FRAME]]
                    pointers[link - 1, _AT_FRAME] += 1
        spike_is_end = left[output_link] == 0

        # Readout.
        answers = state[_RESULT_VALID] and state[_RESULT_READY]
        compares = state[_COMPARING] and state[_COMPARED] == outputs - 1
        ends = state[_READ_HELD] and read_takes and state[_READ_IS_END]
        if state[_COMPARING]:
            state[_COMPARED] += 1
        if ends:
            state[_COMPARING], state[_COMPARED] = 1, 0
        if read_takes:
            state[_READ_HELD], state[_READ_IS_END] = gets[readout], gets[readout] and spike_is_end
        if compares:
            state[_COMPARING], state[_RESULT_VALID] = 0, 1
            log = _logged(log, found, _COMPARED_LOG, cycle)
            found += 1
        if answers:
            state[_RESULT_VALID] = 0
            state[_FRAMES_LEFT] -= 1
            log = _logged(log, found, _ANSWERED, cycle)
            found += 1

        # Frames under way.
        starting = valid[0] and not state[_IN_FRAME]
        if valid[0]:
            state[_IN_FRAME] = 1
        if starting:
            for link in range(links):
                leaf_frames[link] += leaf[link]
            log = _logged(log, found, _STARTED, cycle)
            found += 1
        state[_ROOM] = state[_STARTS] <= FRAMES_IN_FLIGHT - STARTS_UNSEEN
        state[_STARTS] += state[_BEGAN] - compares
        state[_BEGAN] = starting
        moved = answers
        for link in range(links):
            if not passes[link]:
                continue
            moved = True
            if record:
                log = _logged(log, found, _TRACES + link, cycle)
                found += 1
            left[link] -= 1
            if left[link] < 0:
                leaf_frames[link] -= leaf[link]
                if link == 0:
                    state[_IN_FRAME] = 0

        # Copies to the host: of each link a register stage, the last link first.
        leaves = state[_WATCHES] > 0 and state[_WATCHED_READY]
        if leaves:
            log = _logged(log, found, _WATCHED, cycle)
            found += 1
        has_room = state[_WATCHES] != WATCHED_FIFO
        state[_WATCHES] -= leaves
        for link in range(links - 1, -1, -1):
            turn = copies[link, 0] and has_room
            if turn:
                has_room = False
                state[_WATCHES] += 1
            if not copies[link, 0] or turn:
                copies[link, 0] = 1 if copies[link, 1] else copied[link]
                copies[link, 1] = 0
            elif not copies[link, 1]:
                copies[link, 1] = copied[link]

        # Cores.
        for core in range(cores):
            doing, selected, pooled = _core(
                core, constants, registers, pointers, used, highest, starts, lists, gets[core], passes[core + 1]
            )
            if cycle < activity.shape[1]:
                activity[core, cycle] = doing
            if record and selected:
                log = _logged(log, found, _TRACES + links + 2 * core, cycle)
                found += 1
            if record and pooled:
                log = _logged(log, found, _TRACES + links + 2 * core + 1, cycle)
                found += 1

        # The host: a register stage at the door, and the source of `sim.recorder` behind it.
        first = shifted(state[_RANDOM])
        second = shifted(first)
        third = shifted(second)
        state[_RANDOM] = third
        state[_RESULT_READY] = (first & 0xFFFF) >= stall
        state[_WATCHED_READY] = (second & 0xFFFF) >= stall
        offered = state[_HOST_VALID]
        if host_takes:
            state[_HOST_VALID] = 0
            if (third & 0xFFFF) >= idle and state[_TOKENS_LEFT]:
                state[_HOST_VALID] = 1
                state[_TOKENS_LEFT] -= 1
        if not state[_DOOR] or passes[0]:
            state[_DOOR] = 1 if state[_DOOR_SECOND] else offered
            state[_DOOR_SECOND] = 0
        elif not state[_DOOR_SECOND]:
            state[_DOOR_SECOND] = offered

        state[_CYCLE] += 1
        state[_QUIET] = 0 if moved else state[_QUIET] + 1
        if state[_QUIET] > _HANG:
            return log[:, :found], inputs_read, True
    return log[:, :found], inputs_read, False
