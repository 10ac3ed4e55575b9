"""The planner: which parallelism and which FIFOs, from what calibration frames do.

Cores work at the same time, so a machine is as fast as its slowest core, and a core as its slowest part: its walker, the selector
of groups after its lanes, or the serializer, from which one event leaves per cycle whatever the lanes are. How many cycles each
takes for a mean frame follows exactly from where its input events are and from what fires; so the fewest lanes that keep up with
a number of cycles are found core by core, and no search over all plans is needed. FIFOs are then grown where the cycle model says
that it helps.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from model.arrays import Ints
from model.engine.engine import Stream, run_streams
from model.machine.barrier_tokens import BARE, Tokens, of_streams, take
from model.machine.barriers import barred
from model.machine.cycles import Cycles
from model.machine.named_plans import choices
from model.machine.plan import CorePlan, Plan
from model.machine.schedule import flush_steps, mean_visits, reached
from model.machine.simulate import simulate
from model.machine.stages import Stage, blocks_visited, pooled_at_flushes, stages
from model.network import INPUT, MaxPool, Network, Neurons
from model.projection import Shape
from model.support.errors import DoesNotFitError

__all__ = ["Bound", "Demand", "Relief", "Shortage", "as_it_is", "bound", "fastest", "ladder", "size_fifos", "walker_cycles"]

_GAIN = 0.005
"""Share of the cycles that a larger FIFO, or more lanes than the bound asks for, have to save."""

_MOST = {"event_fifo": 128, "pool_fifo": 128, "group_fifo": 32}
"""Depths beyond which FIFOs are not grown: those of groups after the lanes are wide."""

Shortage = Callable[[Plan], list[str]]
"""Says what a plan needs more of than there is, and by how much; nothing where it fits."""

Relief = Callable[[Plan], Plan]
"""Makes a plan that is short of memory blocks need fewer, at the price of what is spare; it takes as many cycles."""


def as_it_is(plan: Plan) -> Plan:
    """No relief."""
    return plan


@dataclass(frozen=True)
class Fired:
    """What fires in one layer, as far as it matters for how spikes are grouped.

    Parameters
    ----------
    spikes : float
        Mean spikes per frame.
    first, second : Ints
        Pairs of channels of which a spike of the second follows one of the first, at the same position and from the same event.
    pairs : array of float64
        How often each does, per frame.
    """

    spikes: float
    first: Ints
    second: Ints
    pairs: npt.NDArray[np.float64]

    @classmethod
    def of(cls, spikes: Stream, channels: int) -> "Fired":
        """Count in the spikes of a layer of that many channels."""
        frames = len(spikes.starts) - 1
        frame = np.repeat(np.arange(frames), np.diff(spikes.starts))
        place, channel = np.divmod(spikes.address.astype(np.int64), channels)
        same = (np.diff(frame) == 0) & (np.diff(spikes.cause) == 0) & (np.diff(place) == 0)
        codes, counts = np.unique((channel[:-1] * channels + channel[1:])[same], return_counts=True)
        return cls(len(place) / frames, *np.divmod(codes, channels), counts / frames)

    def groups(self, core: CorePlan) -> float:
        """Mean groups of spikes per frame in which they leave the lanes of ``core``."""
        ends = []
        for channels in (self.first, self.second):
            block, channel = np.divmod(channels, core.channels)
            ends.append(block * core.chunks + channel // core.group_channels)
        return self.spikes - float(self.pairs[ends[0] == ends[1]].sum())


@dataclass(frozen=True)
class Demand:
    """What calibration frames ask of each core.

    Parameters
    ----------
    frames : int
        Frames looked at.
    events : dict of str to array of float64
        Of each input of each layer, mean events per frame of each unit of its source, ``(height, width, channels)``.
    fired : dict of str to Fired
        Of each neuron layer, what fires in it.
    sent : dict of str to float
        Of the input and each layer, mean events per frame.
    most_sent : dict of str to int
        Of these the most in any frame.
    ends : float
        Mean ends per frame: its own, and flushes within it.
    barriers : dict of str to tuple of float
        Of each layer, mean barriers per frame that come to it alone and that leave it alone, whatever the plan; there may be more
        where the last step of a walk fires nothing.
    """

    frames: int
    events: dict[str, tuple[npt.NDArray[np.float64], ...]]
    fired: dict[str, Fired]
    sent: dict[str, float]
    most_sent: dict[str, int]
    ends: float
    barriers: dict[str, tuple[float, float]]

    @classmethod
    def of(cls, network: Network, images: npt.NDArray[np.uint8]) -> "Demand":
        """Run the frames (uint8) and count."""
        if not len(images):
            raise ValueError("images must be at least one frame")
        streams = run_streams(network, images)
        events, fired = {}, {}
        for layer in network.layers:
            events[layer.name] = tuple(
                _by_unit(streams[name], network.shape_of(name), len(images)) for name in layer.sources
            )
            if isinstance(layer, Neurons):
                fired[layer.name] = Fired.of(streams[layer.name], network.shape_of(layer.name).channels)
        sent = {name: len(stream.address) / len(images) for name, stream in streams.items()}
        most_sent = {name: int(np.diff(stream.starts).max()) for name, stream in streams.items()}
        flushes = streams[INPUT].flushes
        ends = len(flushes.after) / len(images) if flushes else 1.0
        return cls(len(images), events, fired, sent, most_sent, ends, _barriers(network, streams))


def _barriers(network: Network, streams: dict[str, Stream]) -> dict[str, tuple[float, float]]:
    if not barred(network):
        return dict.fromkeys((layer.name for layer in network.layers), (0.0, 0.0))
    tokens, frames = of_streams(network, streams), len(streams[INPUT].starts) - 1

    def alone(found: Tokens) -> float:
        return float(np.count_nonzero(found.spike == BARE)) / frames

    return {layer.name: (alone(take(network, layer, tokens).merged), alone(tokens[layer.name])) for layer in network.layers}


def _by_unit(stream: Stream, shape: Shape, frames: int) -> npt.NDArray[np.float64]:
    """Events of each unit of a stream's source in a mean frame."""
    return np.bincount(stream.address, minlength=shape.size).reshape(shape) / frames


@dataclass(frozen=True)
class Bound:
    """Cycles that the parts of a core take for a mean frame if nothing holds them up; ``END`` and flushes included, and the least
    that barriers take.

    Parameters
    ----------
    walker : float
        Of the walker, a step per cycle; 0 for a max-pool alone, which has none.
    groups : float
        Of the selector of groups and of what follows it, a group per cycle; of a max-pool alone, an event per cycle. A max-pool
        that fires deferred visits its windows besides; where they overlap, a group takes a cycle for each that it is in, which
        are counted for the mean event.
    serializer : float
        Of the serializer, an event per cycle.
    """

    walker: float
    groups: float
    serializer: float

    @property
    def cycles(self) -> float:
        """Of the part that takes longest."""
        return max(self.walker, self.groups, self.serializer)

    @property
    def part(self) -> str:
        """The part that takes longest."""
        return max(("walker", "groups", "serializer"), key=lambda name: float(getattr(self, name)))


def bound(network: Network, demand: Demand, stage: Stage, core: CorePlan | None) -> Bound:
    """What bounds the core of ``stage``, planned as ``core``; None for a max-pool alone."""
    first, last = stage.layers[0], stage.layers[-1]
    serializer = demand.sent[stage.name] + demand.barriers[stage.name][1] + demand.ends
    ends = demand.ends
    visits = 1.0
    if isinstance(last, MaxPool):
        visits = mean_visits(last, network.shape_of(last.source), demand.events[last.name][0])
        alone = CorePlan(layer=last.name, channels=network.shape_of(last.source).channels)
        ends *= 1 + flush_steps(network, last, core or alone)
    if core is None:
        groups = demand.sent[stage.source] * visits + demand.barriers[first.name][0] + ends
        return Bound(walker=0.0, groups=groups, serializer=serializer)
    groups = demand.fired[core.layer].groups(core) * visits + demand.barriers[first.name][1] + ends
    return Bound(walker=walker_cycles(network, demand, core), groups=groups, serializer=serializer)


def walker_cycles(network: Network, demand: Demand, core: CorePlan) -> float:
    """Cycles that a core's walker takes for a mean frame, its ``END`` (and flushes) included, if nothing holds it up.

    A memory with one port is read and written by turns.
    """
    layer = network.layer(core.layer)
    cycles = 2 if core.state_memory == "single_port" else 1
    found = demand.ends * (flush_steps(network, layer, core) + 1) + demand.barriers[core.layer][0]
    visited = blocks_visited(network, core)
    for (taker, shape, _), of_channels, events in zip(network.inputs(layer), visited, demand.events[core.layer], strict=True):
        rows, columns = (reached(taker, shape, axis)[1] for axis in (0, 1))
        positions = np.outer(-(-rows // core.rows), -(-columns // core.columns))
        steps = np.multiply.outer(positions, [len(blocks) for blocks in of_channels])
        found += float((events * np.maximum(1, steps * cycles)).sum())
    return found


def ladder(network: Network, demand: Demand, *, name: str = "planned") -> list[tuple[float, Plan]]:
    """Plans from the smallest to the fastest, each with the cycles that the slowest part of its cores takes for a mean frame.

    For every pace that some core's walker can have: of each core the fewest lanes that keep up, or its fastest where none does.
    """
    found_stages = stages(network)
    by_core = []
    for stage in found_stages:
        if isinstance(stage.layers[0], Neurons):
            cores = sorted(choices(network, stage.layers[0].name), key=lambda core: core.lanes)
            by_core.append([(bound(network, demand, stage, core), core) for core in cores])
    alone = [bound(network, demand, stage, None).cycles for stage in found_stages if isinstance(stage.layers[0], MaxPool)]
    found: dict[Plan, float] = {}
    for pace in sorted({of.walker for options in by_core for of, _ in options}, reverse=True):
        picked = []
        for options in by_core:
            enough = max(pace, min(of.walker for of, _ in options))
            picked.append(next(option for option in options if option[0].walker <= enough))
        plan = Plan(name=name, cores=tuple(core for _, core in picked), inject=not network.branched)
        found.setdefault(plan, max([*alone, *(of.cycles for of, _ in picked)]))
    return [(cycles, plan) for plan, cycles in found.items()]


def fastest(
    network: Network,
    demand: Demand,
    short_of: Shortage,
    *,
    relieve: Relief = as_it_is,
    images: npt.NDArray[np.uint8] | None = None,
    name: str = "planned",
) -> Plan:
    """The plan with the fewest cycles that is short of nothing, once relieved.

    Cycles are those of `ladder`; of plans with equally few the one with the fewest lanes. As cores that are nearly as slow as the
    slowest wait for each other, with ``images`` it is the one with the fewest lanes that on them takes as few cycles as any of
    these does, but for half a percent.

    Raises
    ------
    DoesNotFitError
        Even the smallest plan is short of something; names it.
    """
    plans = [(cycles, relieve(plan)) for cycles, plan in ladder(network, demand, name=name)]
    affordable = [(cycles, plan) for cycles, plan in plans if not short_of(plan)]
    if not affordable:
        smallest = plans[0][1]
        raise DoesNotFitError(
            f"the smallest plan, of {smallest.lanes} lanes, does not fit: short of {' and '.join(short_of(smallest))}"
        )
    least = min(cycles for cycles, _ in affordable)
    equal = [plan for cycles, plan in affordable if cycles == least]
    if images is None or len(equal) == 1:
        return equal[0]
    found = [simulate(network, plan, images).cycles_per_frame for plan in equal]
    return next(plan for plan, cycles in zip(equal, found, strict=True) if cycles <= (1 + _GAIN) * min(found))


def size_fifos(
    network: Network, plan: Plan, images: npt.NDArray[np.uint8], short_of: Shortage = lambda plan: []
) -> tuple[Plan, Cycles]:
    """Double FIFOs, one after the other, while that saves cycles on ``images`` and is short of nothing; gives the plan and
    its cycles."""
    found = simulate(network, plan, images)
    pooled = pooled_at_flushes(network)
    grown = True
    while grown:
        grown = False
        for number, core in enumerate(plan.cores):
            for field, most in _MOST.items():
                depth = 2 * getattr(core, "pool_depth" if field == "pool_fifo" else field)
                if depth > most or (field == "pool_fifo" and core.layer not in pooled):
                    continue
                wider = replace(core, **{field: depth})
                tried = replace(plan, cores=(*plan.cores[:number], wider, *plan.cores[number + 1 :]))
                if short_of(tried):
                    continue
                cycles = simulate(network, tried, images)
                if cycles.cycles_per_frame < (1 - _GAIN) * found.cycles_per_frame:
                    plan, core, found, grown = tried, wider, cycles, True
    return plan, found
