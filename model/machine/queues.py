"""Queues in block RAM, and lanes, chosen together for a network that fires deferred.

A layer that fires deferred sends all of a frame's events at its flush. Without room for these it waits for the next layers, and
around a block the frame of the block's source waits too: then lanes are idle, however many there are. Room is memory blocks,
which lanes take as well: memories of many lanes are wide and not deep. So each size of the queues leaves so many blocks to the
cores, and from these follows which are the fastest cores: a pace that each of them keeps up with, at the fewest LUTs. What is
searched is the sizes of the queues alone. How long frames take that follow each other says the cycle model, which is exact.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import inf
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from model.arrays import Images, Ints
from model.machine.named_plans import DEFERRED_POOL_FIFO, choices
from model.machine.plan import DISTRIBUTED_EVENTS, MOST_JOINED, CorePlan, Plan
from model.machine.planner import Demand, bound
from model.machine.simulate import simulate
from model.machine.stages import pooled_at_flushes, stages
from model.network import Network, Neurons

__all__ = ["Queued", "Room", "Taken", "fastest_queued", "whole_frames"]

_UNIT = 512
"""Events of the smallest queue: words of a memory block at its widest.

Larger ones are twice, four times ... as deep: then blocks are side by side, some bits of all words in each, up to 16,384 words
of any width but those whose ninth bit of a byte saves blocks (9, 17 and 18 bits). Otherwise they are one behind the other, and
a selection among them follows the slow output of the memory.
"""

_FRAMES = 2
"""Frames that a queue holds at the most, of the largest, before its depth is rounded up."""

_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
"""Mean frames that all queues hold in the plans that the search begins with."""

_STEPS = (0.3, 0.1)
"""Mean frames by which a queue is changed: first coarsely."""

_TRIALS = 80
"""Plans that are simulated at the most."""

_PAIRS = (4, 3)
"""Queues that would gain most, and that would lose least, of which one is enlarged at the other's cost."""

_LEAST_GAIN = 0.002
"""Share of the cycles that a change has to save."""

_SPARED = 0.005
"""Share of the cycles that is given for fewer lanes."""

_WIDER = 4
"""Times the fewest lanes that keep up with a pace that a core may have: more lanes take fewer blocks where words fill these."""


class Taken(NamedTuple):
    """What a part of a machine takes."""

    blocks: int
    luts: float


class Room(Protocol):
    """What a machine may take of a board, and what its parts take, as `hw.flow.room.BoardRoom` says it."""

    @property
    def ram_blocks(self) -> int:
        """Memory blocks that there are."""

    @property
    def luts(self) -> int:
        """LUTs that a machine may take."""

    @property
    def lanes(self) -> int | None:
        """Lanes that it may have; None for any number."""

    def around(self, plan: Plan) -> Taken:
        """What is taken by all but the cores of neurons."""

    def variants(self, plan: Plan, core: CorePlan) -> list[tuple[Taken, CorePlan]]:
        """A core with its memories in blocks or in LUTs, each with what it takes; the first takes the fewest blocks."""

    def queue_blocks(self, source: str, depth: int) -> int:
        """Memory blocks of a queue of that many events of ``source``."""


class Queued(NamedTuple):
    """A plan with queues, and the cycles from one frame to the next."""

    plan: Plan
    cycles: float


@dataclass(frozen=True)
class _Queue:
    """A queue that a plan may have, or the queues in front of one core's further inputs.

    Parameters
    ----------
    layer, field : str
        The core, and the field of its plan.
    frame : float
        Events of a mean frame.
    blocks, depths : tuple of int
        The sizes that it may have: memory blocks, and the most events that these hold; the first is no queue.
    """

    layer: str
    field: str
    frame: float
    blocks: tuple[int, ...]
    depths: tuple[int, ...]

    @classmethod
    def of(cls, demand: Demand, room: Room, core: CorePlan, name: str, sources: Sequence[str]) -> "_Queue":
        """All sizes of the queue that ``name`` of ``core`` is, of the events of ``sources``."""
        largest = max(demand.most_sent[source] for source in sources)
        found, depth = {0: int(getattr(core, name))}, _UNIT
        while depth <= min(MOST_JOINED, _rounded(_FRAMES * largest)):
            found[sum(room.queue_blocks(source, depth) for source in sources)] = depth
            depth *= 2
        mean = max(demand.sent[source] for source in sources)
        return cls(core.layer, name, mean, tuple(found), tuple(found.values()))

    def at_least(self, events: float) -> int:
        """Number of the smallest size that holds as many; of the largest one where none does."""
        return min(bisect_left(self.depths, events), len(self.depths) - 1)

    def moved(self, number: int, share: float) -> int:
        """Number of the size that differs from that with ``number`` by a share of a mean frame: another one, where there is."""
        depth = self.depths[number] + share * self.frame
        if share > 0:
            return min(max(number + 1, self.at_least(depth)), len(self.depths) - 1)
        return max(0, min(number - 1, bisect_left(self.depths, depth)))


def _rounded(events: int) -> int:
    """Depth of the smallest queue that holds as many."""
    return _UNIT << ((max(1, events) - 1) // _UNIT).bit_length()


def _queues(network: Network, demand: Demand, room: Room) -> list[_Queue]:
    found = []
    for stage in stages(network):
        layer = stage.layers[0]
        # What nothing but the answer reads never waits.
        if isinstance(layer, Neurons):
            core = CorePlan(layer=layer.name)
            if network.readers(stage.name) and demand.most_sent[stage.name] > core.event_fifo:
                found.append(_Queue.of(demand, room, core, "event_fifo", [stage.name]))
            if further := layer.sources[1:]:
                found.append(_Queue.of(demand, room, core, "join_fifo", further))
    return found


def whole_frames(network: Network, plan: Plan, demand: Demand) -> Plan:
    """``plan`` with queues that hold the largest frame of ``demand``, at the output of each core that sends more than a FIFO
    holds, and in front of each further input; where it has them, they stay."""
    sent = {stage.layers[0].name: stage.name for stage in stages(network)}
    cores = []
    for core in plan.cores:
        most = demand.most_sent[sent[core.layer]]
        if network.readers(sent[core.layer]) and most > DISTRIBUTED_EVENTS:
            core = replace(core, event_fifo=max(core.event_fifo, min(MOST_JOINED, _rounded(most))))
        if further := network.layer(core.layer).sources[1:]:
            most = max(demand.most_sent[source] for source in further)
            core = replace(core, join_fifo=max(core.join_fifo, min(MOST_JOINED, _rounded(most))))
        cores.append(core)
    return replace(plan, cores=tuple(cores))


class _Cores:
    """Which cores keep up with a pace, for which blocks and LUTs.

    Parameters
    ----------
    network, demand : Network, Demand
        What is planned for.
    room : Room
        What the cores may take, with what is around them.
    """

    def __init__(self, network: Network, demand: Demand, room: Room) -> None:
        self._room = room
        self._options: list[list[tuple[float, CorePlan]]] = []
        pooled = pooled_at_flushes(network)
        for stage in stages(network):
            layer = stage.layers[0]
            if isinstance(layer, Neurons):
                cores = sorted(choices(network, layer.name), key=lambda core: core.lanes)
                if layer.name in pooled:
                    cores = [replace(core, pool_fifo=DEFERRED_POOL_FIFO) for core in cores]
                self._options.append([(bound(network, demand, stage, core).walker, core) for core in cores])
        self._plan = Plan(name="planned", cores=tuple(of[0][1] for of in self._options), inject=not network.branched)
        # No core need be faster than the one that is slowest with all its lanes.
        least = max(min(cycles for cycles, _ in of) for of in self._options)
        self.paces = sorted({max(least, cycles) for of in self._options for cycles, _ in of})
        around = room.around(self._plan)
        self.blocks, self._luts = room.ram_blocks - around.blocks, room.luts - around.luts
        self._tables: dict[float, _Table] = {}
        self._plans: dict[tuple[float, int], Plan | None] = {}

    def within(self, blocks: int) -> tuple[float, Plan] | None:
        """The fastest pace that cores of as many blocks keep up with, and these; None where there are no such cores."""
        at = bisect_left(self.paces, True, key=lambda pace: self.at(pace, blocks) is not None)
        plan = self.at(self.paces[at], blocks) if at < len(self.paces) else None
        return None if plan is None else (self.paces[at], plan)

    def at(self, pace: float, blocks: int) -> Plan | None:
        """The cores of the fewest LUTs that keep up with ``pace`` and take as many blocks at the most; None where there are no
        such cores."""
        if blocks < 0:
            return None
        if (pace, blocks) not in self._plans:
            self._plans[pace, blocks] = self._found(pace, blocks)
        return self._plans[pace, blocks]

    def _found(self, pace: float, blocks: int) -> Plan | None:
        if pace not in self._tables:
            self._tables[pace] = self._table(pace)
        table = self._tables[pace]
        if not table.luts[blocks] <= self._luts:
            return None
        cores: list[CorePlan] = []
        for variants, picked in zip(reversed(table.variants), reversed(table.picked), strict=True):
            taken, core = variants[picked[blocks]]
            cores.append(core)
            blocks -= taken.blocks
        plan = replace(self._plan, cores=tuple(reversed(cores)))
        return plan if self._room.lanes is None or plan.lanes <= self._room.lanes else None

    def _table(self, pace: float) -> "_Table":
        """Core after core: with the best of those before, each of its variants."""
        luts = np.zeros(self.blocks + 1)
        every, picked = [], []
        for options in self._options:
            variants = [each for core in _keeping_up(options, pace) for each in self._room.variants(self._plan, core)]
            costs = np.full((len(variants), len(luts)), np.inf)
            for cost, (taken, _) in zip(costs, variants, strict=True):
                cost[taken.blocks :] = luts[: max(0, len(luts) - taken.blocks)] + taken.luts
            every.append(variants)
            picked.append(costs.argmin(axis=0))
            luts = costs.min(axis=0)
        return _Table(luts, every, picked)


class _Table(NamedTuple):
    """For each number of blocks the fewest LUTs of all cores; of each core its variants, and which of them it is, with the cores
    before it, for that number of blocks."""

    luts: npt.NDArray[np.float64]
    variants: list[list[tuple[Taken, CorePlan]]]
    picked: list[Ints]


def _keeping_up(options: list[tuple[float, CorePlan]], pace: float) -> list[CorePlan]:
    """The core of the fewest lanes that keeps up with a pace, and those of some more."""
    found = [core for cycles, core in options if cycles <= pace]
    return [core for core in found if core.lanes <= _WIDER * found[0].lanes]


class _Search:
    """The search of the sizes of queues; each is known by its number among those that its queue may have.

    Parameters
    ----------
    network : Network
        What is planned for.
    images : Images
        Frames that are simulated.
    cores : _Cores
        The cores for the blocks that queues leave.
    queues : list of _Queue
        The queues.
    """

    def __init__(self, network: Network, images: Images, cores: _Cores, queues: list[_Queue]) -> None:
        self._network = network
        self._images = images
        self._cores = cores
        self._queues = queues
        self._cores_of = {stage.name: stage.layers[0].name for stage in stages(network)}
        self._cycles: dict[Plan, float] = {}
        self._held: dict[Plan, dict[str, int]] = {}

    @property
    def trials(self) -> int:
        """Plans that were simulated."""
        return len(self._cycles)

    def cycles(self, plan: Plan | None) -> float:
        """Cycles from one frame to the next; infinitely many where there is no plan."""
        if plan is None:
            return inf
        if plan not in self._cycles:
            found = simulate(self._network, plan, self._images)
            self._cycles[plan] = found.steady_cycles_per_frame
            self._held[plan] = {self._cores_of[use.name]: use.event_fifo for use in found.cores}
        return self._cycles[plan]

    def best(self) -> Plan | None:
        """The plan with which the fewest cycles pass, and hardly more lanes than that takes; None where none fits."""
        starts = [tuple(queue.at_least(share * queue.frame) for queue in self._queues) for share in _SHARES]
        sizes = min(starts, key=self._of)
        if self._plan(sizes) is None:
            return None
        sizes = min(sizes, self._emptied(sizes), key=self._of)
        for share in _STEPS:
            moved = self._moved(sizes, share)
            while moved != sizes:
                sizes, moved = moved, self._moved(moved, share)
        return self._spared(sizes)

    def _left(self, sizes: tuple[int, ...]) -> int:
        """Blocks for the cores."""
        return self._cores.blocks - sum(queue.blocks[size] for queue, size in zip(self._queues, sizes, strict=True))

    def _plan(self, sizes: tuple[int, ...]) -> Plan | None:
        """The fastest plan with queues of these sizes."""
        found = self._cores.within(self._left(sizes))
        return None if found is None else self._with_queues(found[1], sizes)

    def _with_queues(self, plan: Plan, sizes: tuple[int, ...]) -> Plan:
        depths: dict[str, dict[str, Any]] = defaultdict(dict)
        for queue, size in zip(self._queues, sizes, strict=True):
            depths[queue.layer][queue.field] = queue.depths[size]
        return replace(plan, cores=tuple(replace(core, **depths[core.layer]) for core in plan.cores))

    def _of(self, sizes: tuple[int, ...]) -> float:
        """Cycles with queues of these sizes."""
        return self.cycles(self._plan(sizes))

    def _most_held(self, sizes: tuple[int, ...]) -> dict[str, int]:
        """The most events that the queues at the outputs of cores held."""
        plan = self._plan(sizes)
        self.cycles(plan)
        return self._held[plan] if plan is not None else {}

    def _emptied(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Without the part of queues at outputs that was never filled."""
        held = self._most_held(sizes)
        return tuple(
            min(size, queue.at_least(held[queue.layer])) if queue.field == "event_fifo" else size
            for queue, size in zip(self._queues, sizes, strict=True)
        )

    def _moved(self, sizes: tuple[int, ...], share: float) -> tuple[int, ...]:
        """Sizes with which fewer cycles pass, changed by shares of a frame one after the other; or one at the cost of another,
        with which the cores stay nearly what they are. The same where nothing helps."""
        before, least = sizes, self._of(sizes)
        larger: list[tuple[float, int, int]] = []
        smaller: list[tuple[float, int, int]] = []
        for at, queue in enumerate(self._queues):
            for change, tried in ((-share, smaller), (share, larger)):
                while self.trials < _TRIALS:
                    number = queue.moved(sizes[at], change)
                    filled = queue.field != "event_fifo" or self._most_held(sizes)[queue.layer] >= queue.depths[sizes[at]]
                    if number == sizes[at] or (change > 0 and not filled):
                        break
                    moved = (*sizes[:at], number, *sizes[at + 1 :])
                    cycles = self._of(moved)
                    # A smaller queue need not save anything: blocks are of use elsewhere.
                    if not cycles <= (least if change < 0 else (1 - _LEAST_GAIN) * least):
                        tried.append((cycles / least, at, number))
                        break
                    sizes, least = moved, cycles
        if sizes != before:
            return sizes
        for (_, one, more), (_, other, less) in product(sorted(larger)[: _PAIRS[0]], sorted(smaller)[: _PAIRS[1]]):
            moved = tuple(more if at == one else less if at == other else size for at, size in enumerate(sizes))
            if one != other and self.trials < _TRIALS and self._of(moved) <= (1 - _LEAST_GAIN) * least:
                return moved
        return sizes

    def _spared(self, sizes: tuple[int, ...]) -> Plan | None:
        """A plan with queues of these sizes whose cores are slower, and fewer lanes, as far as that hardly matters."""
        blocks, plan = self._left(sizes), self._plan(sizes)
        most = (1 + _SPARED) * self.cycles(plan)
        found = self._cores.within(blocks)
        low = self._cores.paces.index(found[0]) if found is not None else 0
        high = bisect_left(self._cores.paces, most)
        while plan is not None and high - low > 1:
            middle = (low + high) // 2
            cores = self._cores.at(self._cores.paces[middle], blocks)
            if cores is not None and cores.lanes <= plan.lanes and self.cycles(self._with_queues(cores, sizes)) <= most:
                plan, low = self._with_queues(cores, sizes), middle
            else:
                high = middle
        return plan


def fastest_queued(
    network: Network,
    demand: Demand,
    room: Room,
    images: Images,
    *,
    tell: Callable[[str], None] = lambda text: None,
) -> Queued | None:
    """The plan with queues with which frames of a network that fires deferred follow each other fastest, as far as is searched.

    Parameters
    ----------
    network : Network
        What to plan for.
    demand : Demand
        What calibration frames ask of it.
    room : Room
        What the plan may take.
    images : Images
        Frames that are simulated.
    tell : callable
        Told what goes on.

    Returns
    -------
    Queued or None
        None where no plan fits.
    """
    if not network.deferred:
        raise ValueError(f"network {network.name!r} must fire deferred: others send events as they go, which need no queues")
    search = _Search(network, images, _Cores(network, demand, room), _queues(network, demand, room))
    plan = search.best()
    if plan is None:
        return None
    tell(f"{plan.lanes} lanes and queues: {search.cycles(plan):,.0f} cycles per frame, of {search.trials} plans simulated")
    return Queued(plan, search.cycles(plan))
