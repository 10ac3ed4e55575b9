"""What a plan does, before any synthesis: cycles, energy, who waits for whom; and which plan to take.

All cycles are those of the cycle model, which `sim.verify` holds equal to the hardware's.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from model.arrays import Images, Ints
from model.engine.engine import Stream, run_streams
from model.golden import answers
from model.machine.capability import check_machine_can
from model.machine.cycles import ACTIVITIES, Cycles
from model.machine.cycles import CoreUse as Use
from model.machine.energy import NOT_INCLUDED, Energy, energy
from model.machine.folded_layout import Folded
from model.machine.plan import Plan, PlanError
from model.machine.planner import Bound, Demand, Relief, Shortage, as_it_is, bound, fastest, ladder, size_fifos, walker_cycles
from model.machine.queues import Queued, Room, fastest_queued, whole_frames
from model.machine.simulate import simulate
from model.machine.stages import Stage, stages
from model.network import Network, Neurons
from model.rest import first_states
from model.support.datasets import Dataset
from model.support.errors import DoesNotFitError
from model.support.results import BESIDE

__all__ = [
    "CALIBRATED",
    "Choice",
    "Considered",
    "CoreEstimate",
    "CorePlanned",
    "EnergyEstimate",
    "Estimate",
    "FoldedMemories",
    "PlannedArea",
    "PlannedBlocks",
    "considered",
    "estimate",
    "memories_of",
    "planned",
]

CALIBRATED = 100
"""Frames that FIFOs are sized on, if they do not hold too many events."""

_EVENTS = 800_000
"""Events of all layers in the frames that FIFOs are sized on, each of which is simulated for each FIFO that is tried."""

_FEWEST_CALIBRATED = 10
"""Frames that FIFOs are sized on, whatever they hold."""

_QUEUED = 20
"""Frames that queues in block RAM are sized on, and by which plans with and without them are compared."""

_FAR_FASTER = 0.8
"""Share of the cycles of a plan without queues below which one with queues is taken without a look at its smaller FIFOs."""

_WAITING = 1.25
"""Times the cycles of the busiest core from which on it is said what is missing."""

_SHOWN = 3
"""The frame whose timeline is drawn: by then all cores are at work."""


class PlannedArea(Protocol):
    """What a machine takes of an ECP5, as `hw.flow.area.Area` says it."""

    @property
    def luts(self) -> int:
        """LUTs, estimated."""

    @property
    def flip_flops(self) -> int:
        """Flip-flops, estimated."""

    @property
    def ram_blocks(self) -> int:
        """Memory blocks, exact."""

    @property
    def fmax_mhz(self) -> tuple[float, float]:
        """Clocks of the slowest and the fastest of the designs that were measured."""


class PlannedBlocks(Protocol):
    """What the memory blocks of a core hold, as `hw.flow.block_use.BlockUse` says it."""

    @property
    def core(self) -> str:
        """The core, or what is around the cores."""

    @property
    def weights(self) -> int:
        """Blocks that hold weights."""

    @property
    def states(self) -> int:
        """Blocks that hold potentials and counts."""

    @property
    def others(self) -> int:
        """Blocks that hold something else."""

    @property
    def freed_by_weight_bit(self) -> int | None:
        """Blocks that are free if each weight has a bit less."""

    @property
    def freed_by_potential_bit(self) -> int | None:
        """Blocks that are free if each potential has a bit less."""

    @property
    def freed_by_luts(self) -> int:
        """Blocks that are free because the plan moves what they would hold into LUTs, or divides memories of weights."""

    @property
    def luts_instead(self) -> int:
        """LUTs of that, estimated."""


@dataclass(frozen=True, kw_only=True)
class CorePlanned:
    """What a plan gives to a core with neurons, and how long its walker takes.

    Parameters
    ----------
    channels, columns, rows, lanes : int
        Neurons updated at once: lanes are the product.
    walker_cycles : float
        Cycles for a mean frame, were nothing to wait for.
    group_fifo_depth, pool_fifo_depth, event_fifo_depth : int
        Depths of its FIFOs; that of events is a queue in block RAM beyond `model.machine.plan.DISTRIBUTED_EVENTS`.
    join_fifo_depth : int
        Depth of the queue in front of each further input; 0 is none.
    """

    channels: int
    columns: int
    rows: int
    lanes: int
    walker_cycles: float
    group_fifo_depth: int
    pool_fifo_depth: int
    event_fifo_depth: int
    join_fifo_depth: int


@dataclass(frozen=True, kw_only=True)
class CoreEstimate:
    """What a core does.

    Parameters
    ----------
    core : str
        Name of the link that leaves it.
    layers : tuple of str
        Its layers.
    planned : CorePlanned or None
        Its part of the plan; None for a max-pool alone.
    starved_share, working_share, blocked_share, sweeping_share : float
        Shares of all cycles: see `model.machine.pipeline_cycles.ACTIVITIES`.
    group_fifo_most, pool_fifo_most, event_fifo_most : int
        The most that its FIFOs held.
    events_in_per_frame : float
        Events that enter it.
    """

    core: str
    layers: tuple[str, ...]
    planned: CorePlanned | None = field(default=None, metadata=BESIDE)
    starved_share: float
    working_share: float
    blocked_share: float
    sweeping_share: float
    group_fifo_most: int
    pool_fifo_most: int
    event_fifo_most: int
    events_in_per_frame: float


@dataclass(frozen=True, kw_only=True)
class EnergyEstimate:
    """Energy of a mean frame in nanojoules, modelled for 45 nm: see `model.machine.energy`.

    Parameters
    ----------
    total, additions, state, weights, hops : float
        Of all cores, and by what it is spent on.
    not_included : tuple of str
        What the model leaves out.
    cores : tuple of Energy
        Of each core.
    """

    total: float
    additions: float
    state: float
    weights: float
    hops: float
    not_included: tuple[str, ...]
    cores: tuple[Energy, ...]


@dataclass(frozen=True, kw_only=True)
class FoldedMemories:
    """What the memories of a folded machine take of an iCE40, exactly.

    Parameters
    ----------
    ram_blocks : int
        Block RAMs.
    single_port_state_words, single_port_weight_words : int
        Words of the large memory with one port.
    """

    ram_blocks: int
    single_port_state_words: int
    single_port_weight_words: int


@dataclass(frozen=True, kw_only=True)
class Considered:
    """A plan from which one was chosen.

    Parameters
    ----------
    slowest_core_cycles : float
        Cycles that its busiest part takes for a mean frame.
    lanes : int
        Lanes of all cores.
    lanes_by_core : tuple of int
        Lanes of each core.
    luts, flip_flops, ram_blocks : int
        Its area: see `PlannedArea`.
    chosen : bool
        Whether it is the one.
    """

    slowest_core_cycles: float
    lanes: int
    lanes_by_core: tuple[int, ...]
    luts: int
    flip_flops: int
    ram_blocks: int
    chosen: bool


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What `estimate` finds; with units in the names, means of frames that follow each other without a gap.

    Parameters
    ----------
    network, network_hash, plan : str
        What was estimated.
    lanes : int
        Lanes of all cores.
    dataset, frames, clock_mhz
        On what, and at which clock.
    cycles_per_frame, frames_per_second : float
        The pace, filling and emptying the pipeline included.
    steady_cycles_per_frame, steady_frames_per_second : float
        The pace of a full pipeline.
    latency_cycles_mean : float
        From a frame's first event to its answer.
    first_spike_cycles_mean, right_answer_cycles_mean : float or None
        To the first output spike, and to the spike from which on the answer so far stays right; None where that never is.
    right_answers : int
        Frames for which it ever does.
    slowest_core, slowest_part, slowest_core_cycles, slowest_core_share
        The core whose busiest part takes longest, that part (see `model.machine.planner.Bound`; a folded machine's is its
        walker), how long it takes if it never waits, and its share of all cycles.
    cores : tuple of CoreEstimate
        Of each core, what it does.
    energy_nj_per_frame : EnergyEstimate
        Energy, modelled.
    memories : FoldedMemories or None
        Of a folded machine, what its memories take.
    area : PlannedArea or None
        Of a pipeline, what it takes.
    blocks : tuple of PlannedBlocks or None
        Of a pipeline, what its memory blocks hold, core by core.
    board : str or None
        The board that was asked for.
    short_of : tuple of str or None
        What the plan needs more of than the board has; empty where it fits, None where that is not known before synthesis.
    plans_considered : tuple of Considered or None
        What the plan was chosen from, where it was.
    queue_blocks_missing : int or None
        Memory blocks more that queues for whole frames need; None where frames follow each other nearly as fast as the busiest
        core allows, or such queues are of no use.
    """

    network: str
    network_hash: str
    plan: str
    lanes: int
    dataset: str
    frames: int
    clock_mhz: float
    cycles_per_frame: float
    frames_per_second: float
    steady_cycles_per_frame: float
    steady_frames_per_second: float
    latency_cycles_mean: float
    first_spike_cycles_mean: float | None
    right_answer_cycles_mean: float | None
    right_answers: int
    slowest_core: str
    slowest_part: str
    slowest_core_cycles: float
    slowest_core_share: float
    cores: tuple[CoreEstimate, ...]
    energy_nj_per_frame: EnergyEstimate
    memories: FoldedMemories | None = None
    area: PlannedArea | None = None
    blocks: tuple[PlannedBlocks, ...] | None = None
    board: str | None = None
    short_of: tuple[str, ...] | None = None
    plans_considered: tuple[Considered, ...] | None = None
    queue_blocks_missing: int | None = None


@dataclass(frozen=True)
class Choice:
    """A plan that was chosen, and what it was chosen from.

    Parameters
    ----------
    plan : Plan
        The plan.
    considered : list of tuple
        The plans from the smallest to the fastest, each with the cycles that its busiest part takes for a mean frame.
    """

    plan: Plan
    considered: list[tuple[float, Plan]]


def planned(
    network: Network,
    images: Images,
    *,
    cycles: float | None = None,
    short_of: Shortage = lambda plan: [],
    relieve: Relief = as_it_is,
    room: Room | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Choice:
    """The smallest plan that takes at most ``cycles`` a mean frame; or the fastest that fits.

    A network that fires deferred has queues in block RAM where with these it takes fewer cycles, or can be had at all.

    Parameters
    ----------
    network : Network
        What to plan for.
    images : Images
        Calibration frames.
    cycles : float, optional
        Cycles per frame that must be met; as few as can be had where it is not given.
    short_of : callable
        Says what a plan needs more of than there is.
    relieve : callable
        Makes a plan need less of it.
    room : Room, optional
        What a plan with queues may take; none are planned where it is not given.
    tell : callable
        Told what goes on.

    Raises
    ------
    PlanError
        No plan is as fast; the message says what can be had.
    DoesNotFitError
        What is as fast does not fit, or nothing does.
    """
    check_machine_can(network)
    demand = Demand.of(network, images)
    plans = [(pace, relieve(plan)) for pace, plan in ladder(network, demand)]
    few = int(_EVENTS / max(1.0, sum(demand.sent.values())))
    some = images[: max(_FEWEST_CALIBRATED, min(CALIBRATED, few))]

    def queued() -> Queued | None:
        found = fastest_queued(network, demand, room, some[:_QUEUED], tell=tell) if room and network.deferred else None
        return None if found is None or short_of(found.plan) else found

    if cycles is None:
        return _chosen(network, demand, _fastest(network, demand, short_of, relieve, some, queued()), plans)
    least = min(pace for pace, _ in plans)
    short: str | None = None
    for pace, plan in plans:
        if pace > cycles:
            continue
        if lacking := short_of(plan):
            short = f"{cycles:.0f} cycles per frame take {plan.lanes} lanes, which do not fit: short of {' and '.join(lacking)}"
            break
        # Together, cores can be slower than the slowest of them alone: then the next larger plan.
        sized, found = size_fifos(network, plan, some, short_of)
        tell(f"{sized.lanes} lanes: {found.cycles_per_frame:,.0f} cycles per frame, wanted {cycles:,.0f}")
        if found.cycles_per_frame <= cycles:
            return Choice(sized, plans)
        # The bound itself cannot be had.
        least = found.cycles_per_frame
    if (with_queues := queued()) is not None:
        reached = simulate(network, with_queues.plan, some).steady_cycles_per_frame
        if reached <= cycles:
            return _chosen(network, demand, with_queues.plan, plans)
        least = min(least, reached)
    if short is not None:
        raise DoesNotFitError(short)
    raise PlanError(
        f"cycles per frame must be at least {math.ceil(least)}, not {cycles:.0f}: the fastest plan has {plans[-1][1].lanes} lanes"
    )


def _chosen(network: Network, demand: Demand, plan: Plan, plans: list[tuple[float, Plan]]) -> Choice:
    """A choice from ``plans``, and from itself where its lanes are not those of one of them."""
    if not any(_lanes(plan) == _lanes(other) for _, other in plans):
        pace = max(found.cycles for _, found in _bounds(network, plan, demand))
        plans = sorted([*plans, (pace, plan)], key=lambda pair: -pair[0])
    return Choice(plan, plans)


def _lanes(plan: Plan) -> tuple[int, ...]:
    return tuple(core.lanes for core in plan.cores)


def _fastest(
    network: Network, demand: Demand, short_of: Shortage, relieve: Relief, images: Images, queued: Queued | None
) -> Plan:
    """The fastest plan that fits: the one with queues, or one with FIFOs alone where that takes fewer cycles."""
    try:
        plan = fastest(network, demand, short_of, relieve=relieve, images=images if queued is None else None)
    except DoesNotFitError:
        if queued is None:
            raise
        return queued.plan
    if queued is not None:
        compared = images[:_QUEUED]
        if queued.cycles <= _FAR_FASTER * simulate(network, plan, compared).steady_cycles_per_frame:
            return queued.plan
        plan = fastest(network, demand, short_of, relieve=relieve, images=images)
    plan, _ = size_fifos(network, plan, images, short_of)
    if queued is not None and queued.cycles <= simulate(network, plan, compared).steady_cycles_per_frame:
        return queued.plan
    return plan


def estimate(
    network: Network,
    plan: Plan,
    data: Dataset,
    *,
    clock_mhz: float,
    blocks_of: Callable[[Plan], int] | None = None,
    done: Callable[[int], None] | None = None,
) -> tuple[Estimate, Cycles]:
    """Cycles and energy of ``plan`` on the frames of ``data``.

    ``blocks_of`` tells the memory blocks of a plan, if it is to be said what is missing where cores wait for each other.

    Returns
    -------
    tuple
        What was found, and the cycles of the first frames, with what the walkers did in each.
    """
    cycles = simulate(network, plan, data.images, record=True, done=done)
    first = data.images[: _SHOWN + 1]
    shown = simulate(network, plan, first, activity=int(cycles.answered[len(first) - 1]) + 1, record=True)
    streams = run_streams(network, data.images)
    demand = Demand.of(network, data.images)
    spikes = cycles.passed[f"events_{network.output.name}"]
    rest = first_states(network)[network.output.name].count.reshape(-1)
    first_spike, right = _answers(streams[network.output.name], spikes, cycles.started, data.labels, rest)
    cores = tuple(
        _core(network, plan, demand, use, stage, events_in_per_frame=round(_arriving(streams, stage) / len(data), 2))
        for use, stage in zip(cycles.cores, stages(network), strict=True)
    )
    slowest, busiest = max(_bounds(network, plan, demand), key=lambda pair: pair[1].cycles)
    missing = None
    if blocks_of is not None and network.deferred and cycles.steady_cycles_per_frame > _WAITING * busiest.cycles:
        more = blocks_of(whole_frames(network, plan, demand)) - blocks_of(plan)
        missing = more if more > 0 else None
    return Estimate(
        network=network.name,
        network_hash=network.content_hash,
        plan=plan.name,
        lanes=plan.lanes,
        dataset=data.name,
        frames=len(data),
        clock_mhz=clock_mhz,
        cycles_per_frame=round(cycles.cycles_per_frame, 1),
        frames_per_second=round(clock_mhz * 1e6 / cycles.cycles_per_frame, 1),
        steady_cycles_per_frame=round(cycles.steady_cycles_per_frame, 1),
        steady_frames_per_second=round(clock_mhz * 1e6 / cycles.steady_cycles_per_frame, 1),
        latency_cycles_mean=round(float(cycles.latency.mean()), 1),
        first_spike_cycles_mean=_mean(first_spike),
        right_answer_cycles_mean=_mean(right),
        right_answers=int((right >= 0).sum()),
        slowest_core=slowest,
        slowest_part=busiest.part,
        slowest_core_cycles=round(busiest.cycles, 1),
        slowest_core_share=round(busiest.cycles / cycles.cycles_per_frame, 4),
        cores=cores,
        energy_nj_per_frame=_energy(energy(network, plan, streams)),
        queue_blocks_missing=missing,
    ), shown


def _arriving(streams: Mapping[str, Stream], stage: Stage) -> int:
    """Events of all inputs of a core."""
    return sum(len(streams[name].address) for name in stage.layers[0].sources)


def _bounds(network: Network, plan: Plan, demand: Demand) -> list[tuple[str, Bound]]:
    """What bounds each core, by its name; of a folded machine, which has one of all other parts, the walker of each layer."""
    found = []
    for stage in stages(network):
        layer = stage.layers[0]
        core = plan.core(layer.name) if isinstance(layer, Neurons) else None
        if not plan.folded:
            found.append((stage.name, bound(network, demand, stage, core)))
        elif core is not None:
            found.append((stage.name, Bound(walker=walker_cycles(network, demand, core), groups=0.0, serializer=0.0)))
    return found


def _core(network: Network, plan: Plan, demand: Demand, use: Use, stage: Stage, *, events_in_per_frame: float) -> CoreEstimate:
    layer, total = stage.layers[0], sum(getattr(use, name) for name in ACTIVITIES)
    core_planned = None
    if isinstance(layer, Neurons):
        core = plan.core(layer.name)
        core_planned = CorePlanned(
            channels=core.channels,
            columns=core.columns,
            rows=core.rows,
            lanes=core.lanes,
            walker_cycles=round(walker_cycles(network, demand, core), 1),
            group_fifo_depth=core.group_fifo,
            pool_fifo_depth=core.pool_depth,
            event_fifo_depth=core.event_fifo,
            join_fifo_depth=core.join_fifo,
        )
    return CoreEstimate(
        core=use.name,
        layers=tuple(layer.name for layer in stage.layers),
        planned=core_planned,
        starved_share=round(use.starved / total, 4),
        working_share=round(use.working / total, 4),
        blocked_share=round(use.blocked / total, 4),
        sweeping_share=round(use.sweeping / total, 4),
        group_fifo_most=use.group_fifo,
        pool_fifo_most=use.pool_fifo,
        event_fifo_most=use.event_fifo,
        events_in_per_frame=events_in_per_frame,
    )


def _energy(spent: Sequence[Energy]) -> EnergyEstimate:
    def rounded(core: Energy) -> Energy:
        values = {item.name: getattr(core, item.name) for item in fields(core)}
        changes: dict[str, Any] = {name: round(value, 3) for name, value in values.items() if isinstance(value, float)}
        return replace(core, **changes)

    return EnergyEstimate(
        total=round(sum(core.total_nj for core in spent), 2),
        additions=round(sum(core.additions_nj for core in spent), 2),
        state=round(sum(core.state_nj for core in spent), 2),
        weights=round(sum(core.weights_nj for core in spent), 2),
        hops=round(sum(core.hops_nj for core in spent), 2),
        not_included=NOT_INCLUDED,
        cores=tuple(map(rounded, spent)),
    )


def memories_of(network: Network, plan: Plan) -> FoldedMemories:
    """What the memories of a folded machine take."""
    folded = Folded.of(network, plan)
    return FoldedMemories(
        ram_blocks=folded.blocks,
        single_port_state_words=folded.single_state_words,
        single_port_weight_words=folded.single_weight_words,
    )


def considered(choice: Choice, area_of: Callable[[Plan], PlannedArea]) -> tuple[Considered, ...]:
    """The plans from which one was chosen, each with its area."""
    chosen = _lanes(choice.plan)
    rows = []
    for cycles, plan in choice.considered:
        area, lanes = area_of(plan), _lanes(plan)
        rows.append(
            Considered(
                slowest_core_cycles=round(cycles, 1),
                lanes=plan.lanes,
                lanes_by_core=lanes,
                luts=area.luts,
                flip_flops=area.flip_flops,
                ram_blocks=area.ram_blocks,
                chosen=lanes == chosen,
            )
        )
    return tuple(rows)


def _mean(cycles: Ints) -> float | None:
    found = cycles[cycles >= 0]
    return round(float(found.mean()), 1) if len(found) else None


def _answers(spikes: Stream, cycles: Ints, started: Ints, labels: npt.NDArray[Any], rest: Ints) -> tuple[Ints, Ints]:
    """Of each frame, cycles from its first token to its first output spike, and to the spike from which on the answer so far
    stays right; -1 where there is none. ``cycles`` has one more per frame, for its end; ``rest`` is what counts begin at."""
    first, right = np.full(len(labels), -1), np.full(len(labels), -1)
    for frame, label in enumerate(labels):
        begin, end = spikes.starts[frame], spikes.starts[frame + 1]
        if begin == end:
            # Nothing fired: the class at rest, from the start.
            right[frame] = 0 if label == answers(rest) else -1
            continue
        passed = cycles[begin + frame : end + frame] - started[frame]
        first[frame] = passed[0]
        counts = np.zeros((end - begin, len(rest)), np.int64)
        counts[np.arange(end - begin), spikes.address[begin:end]] = spikes.sign[begin:end]
        wrong = np.flatnonzero(answers(rest + counts.cumsum(axis=0)) != label)
        if not len(wrong) or wrong[-1] < end - begin - 1:
            right[frame] = passed[wrong[-1] + 1 if len(wrong) else 0]
    return first, right
