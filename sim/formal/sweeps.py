"""Sweeps of flushes: each place of a layer once, in ascending order, wherever they stop and go on."""

from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

import numpy as np
from amaranth.hdl import Array, Cat, Const, Mux, Signal, Value

import hw.folded.flush_sweep
from model.machine.folded_layout import Folded
from model.machine.plan import CorePlan, Plan
from model.network import Convolution, Layer, Linear, MaxPool, Network, Padding, Shape
from sim.formal.bench import Bench
from sim.formal.properties import Fault, Property

__all__ = ["PROPERTIES"]


def flush_sweep(
    bench: Bench,
    sweeps: ModuleType,
    *,
    shape: tuple[int, int, int],
    lanes: int,
    window: tuple[int, int] | None = None,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> None:
    """A `FlushSweep` over a layer of ``shape``, its max-pool, and a last layer of three neurons.

    Beside it are the number of the place that is visited, or comes next, and of the member. It runs, is told to stop behind any
    place and to go on as `hw.folded.deferred_machine` does: it does not run from ``jump`` to ``skip``, and stays with a layer
    until nothing is left of it.
    """
    m = bench.m
    folded = _folded(Shape(*shape), lanes, window, stride, padding)
    dut = sweeps.FlushSweep(folded=folded)
    inside = bench.add("dut", dut)
    start, run, jump, skip, layer, pooled = (
        bench.any(1, name) for name in ("start", "run", "jump", "skip", "layer", "pooled")
    )
    target = bench.any(8, "target")
    blocks = -(-shape[2] // lanes)
    neurons = _order([(at, 1) for at in range(shape[0])], [(at, 1) for at in range(shape[1])], blocks)
    windows = neurons
    if window is not None:
        rows, columns = (_windows(shape[axis], window[axis], stride[axis], padding[axis::2]) for axis in (0, 1))
        windows = _order(rows, columns, blocks)
    outputs = _order([(0, 1)], [(0, 1)], -(-_OUTPUTS // min(lanes, _OUTPUTS)))
    tables = _Tables(bench, [neurons, windows, outputs], layer * 2 + pooled)
    m.d.comb += [dut.layer.eq(layer), dut.pooled.eq(pooled), dut.start.eq(start), dut.run.eq(run), dut.jump.eq(jump)]
    m.d.comb += [dut.skip.eq(skip), *(dut.jump_to[name].eq(tables.at(name, target)) for name in ("y", "x", "block"))]

    place, member = Signal(8, name="place_number"), Signal(8, name="member_number")
    left, stopped, loaded = Signal(name="left"), Signal(name="stopped"), Signal(name="loaded")
    moved = (layer != bench.before(layer, "layer")) | (pooled != bench.before(pooled, "pooled"))
    bench.assume(~pooled | (~layer & (window is not None)))
    bench.assume(start + jump + skip <= 1)
    bench.assume(~moved | bench.before(start, "start") | ~(left | stopped))
    bench.assume(~jump | (~stopped & (target < tables.places)))
    bench.assume(~stopped | ~run)
    bench.assume(~skip | stopped)

    wide, members = tables.at("columns", place), tables.at("members", place)
    ends_place, is_last = member + 1 == members, place + 1 == tables.places
    with m.If(run & left):
        m.d.sync += loaded.eq(1)
        with m.If(loaded):
            m.d.sync += member.eq(member + 1)
            with m.If(ends_place):
                m.d.sync += [member.eq(0), place.eq(place + 1), left.eq(~is_last)]
    with m.If(jump):
        m.d.sync += [stopped.eq(1), left.eq(0), loaded.eq(0), place.eq(target), member.eq(0)]
    with m.If(skip):
        m.d.sync += [stopped.eq(0), left.eq(~is_last), place.eq(place + 1)]
    with m.If(start):
        m.d.sync += [stopped.eq(0), left.eq(1), loaded.eq(0), place.eq(0), member.eq(0)]

    visits = left & loaded
    across, down = Signal(8, name="across"), Signal(8, name="down")
    m.d.comb += [across.eq(tables.of_member("across", place, member)), down.eq(tables.of_member("down", place, member))]
    first_y, first_x = tables.at("first_y", place), tables.at("first_x", place)
    bench.holds(dut.visits == visits)
    bench.holds(dut.done == ~left)
    right = [dut.place[name] == tables.at(name, place) for name in ("y", "x", "block")]
    bench.holds(~visits | Cat(right).all())
    bench.holds(~visits | ((dut.member_y == first_y + down) & (dut.member_x == first_x + across)))
    bench.holds(~visits | ((dut.first == (member == 0)) & (dut.last == ends_place)))

    bench.lemma(~(left | stopped) | (place < tables.places))
    bench.lemma(~(left & stopped) & ~(stopped & loaded) & (visits | (member == 0)))
    bench.lemma(~visits | (member < members))
    bench.lemma(~left | (inside.comes == (~loaded | ~is_last)))
    bench.lemma(left | ~inside.comes)
    coming = Mux(loaded, place + 1, place)
    comes_right = Cat(inside.coming[name] == tables.at(name, coming) for name in ("y", "x", "block")).all()
    bench.lemma(~(inside.comes | stopped) | comes_right)
    bench.lemma(~visits | ((inside.first_x == first_x) & (inside.columns == wide - 1)))
    bench.lemma(~visits | (inside.columns_left == wide - 1 - across))
    bench.lemma(~visits | (inside.rows_left == tables.at("rows", place) - 1 - down))

    bench.reaches(visits & run & ends_place & is_last & ~layer & (place != 0))
    if window is not None:
        bench.reaches(visits & pooled & is_last & (member != 0))
    bench.reaches(jump & visits & (target < place) & ((member != 0) if window is not None else Const(1)))
    bench.reaches(jump & left & (target == place) & visits)
    orders = [neurons, windows if window is not None else [], outputs]
    at = _At(layer * 2 + pooled, place, Mux(left, visits & (member == 0), ~stopped), visits & run)
    _stops(bench, orders, at, start=start, jump=jump, skip=skip, target=target)


class _At(NamedTuple):
    """Where a sweep is."""

    which: Value
    """Which one it is."""
    place: Value
    """The place that is visited, or comes next; behind the last one it is done."""
    begins: Value
    """Whether the first member of a place is visited; or it is done."""
    visits: Value
    """Whether a member is visited and taken."""


def _stops(
    bench: Bench, orders: "Sequence[Sequence[_Place]]", at: _At, *, start: Value, jump: Value, skip: Value, target: Value
) -> None:
    """State that it stops at each place that it has visited, of each sweep, and goes on with the next, or is done."""
    m, visited = bench.m, Signal(8, name="visited")
    was_visited, resumed = Signal(name="was_visited"), Signal(name="resumed")
    with m.If(at.visits & (at.place >= visited)):
        m.d.sync += visited.eq(at.place + 1)
    with m.If(jump):
        m.d.sync += [was_visited.eq(target < visited), resumed.eq(0)]
    with m.Elif(skip | start):
        m.d.sync += resumed.eq(skip & was_visited)
    with m.If(start):
        m.d.sync += visited.eq(0)
    for number, places in enumerate(orders):
        for following in range(1, 1 + len(places)):
            bench.reaches(resumed & (at.which == number) & (at.place == following) & at.begins)
        if places:
            # From its end as well.
            bench.reaches(jump & (at.which == number) & (at.place == len(places)) & at.begins & (target < visited))


_OUTPUTS = 3
"""Neurons of the last layer."""


class _Place(NamedTuple):
    """A place of a sweep."""

    y: int
    x: int
    block: int
    first_y: int
    first_x: int
    rows: int
    columns: int

    @property
    def members(self) -> int:
        """How many members it has."""
        return self.rows * self.columns


def _windows(size: int, window: int, stride: int, padding: Sequence[int]) -> list[tuple[int, int]]:
    """Of each window along an axis the first position that is no padding, and how many are."""
    found = []
    for start in range(-padding[0], size + padding[1] - window + 1, stride):
        first, end = max(0, start), min(size, start + window)
        found.append((first, end - first))
    return found


def _order(rows: list[tuple[int, int]], columns: list[tuple[int, int]], blocks: int) -> list[_Place]:
    """All places, in ascending order."""
    return [
        _Place(y, x, block, first_y, first_x, height, width)
        for y, (first_y, height) in enumerate(rows)
        for x, (first_x, width) in enumerate(columns)
        for block in range(blocks)
    ]


class _Tables:
    """What the places of several sweeps are, of which one is under way.

    Attributes
    ----------
    places : Value
        How many it has.
    """

    def __init__(self, bench: Bench, orders: list[list[_Place]], which: Value) -> None:
        self._most = 1 + max(map(len, orders))
        self._most_members = max(place.members for order in orders for place in order)
        nowhere = _Place(0, 0, 0, 0, 0, 1, 1)
        self._all = [place for order in orders for place in order + [nowhere] * (self._most - len(order))]
        self._which = which
        self.places = Signal(8, name="places")
        bench.m.d.comb += self.places.eq(Array(Const(len(order), 8) for order in orders)[which])

    def at(self, name: str, number: Value) -> Value:
        """A value of a place."""
        return Array(Const(getattr(place, name), 8) for place in self._all)[self._which * self._most + number]

    def of_member(self, name: str, number: Value, member: Value) -> Value:
        """How far a member is ``across`` or ``down`` in a place."""
        values = [
            member % place.columns if name == "across" else member // place.columns
            for place in self._all
            for member in range(self._most_members)
        ]
        index = (self._which * self._most + number) * self._most_members + member
        return Array(Const(value, 8) for value in values)[index]


def _folded(
    shape: Shape, lanes: int, window: tuple[int, int] | None, stride: tuple[int, int], padding: tuple[int, int, int, int]
) -> Folded:
    """A machine of a layer of ``shape``, with a max-pool where there is a window, and a last layer."""
    layers: list[Layer] = [
        Convolution(
            name="conv",
            source="input",
            weights=np.ones((shape.channels, 1, 1, 1), int),
            bias=np.zeros(shape.channels, int),
            activation="relu",
            threshold_log2=4,
        )
    ]
    leaves = shape
    if window is not None:
        pool = MaxPool(name="pool", source="conv", window=window, stride=stride, padding=Padding(*padding))
        layers.append(pool)
        leaves = pool.output_shape(shape)
    layers.append(
        Linear(
            name="fc",
            source=layers[-1].name,
            weights=np.ones((_OUTPUTS, leaves.size), int),
            bias=np.zeros(_OUTPUTS, int),
            activation="identity",
            threshold_log2=4,
        )
    )
    network = Network(
        name="small", input_shape=Shape(shape.height, shape.width, 1), layers=tuple(layers), firing="deferred"
    )
    cores = [CorePlan(layer="conv", channels=lanes), CorePlan(layer="fc", channels=min(lanes, _OUTPUTS))]
    return Folded.of(network, Plan(name="small", cores=tuple(cores), architecture="folded", inject=False))


PROPERTIES = (
    Property(
        name="Sweep of a flush: each place once, in ascending order, with each of its members, wherever it stops and goes on",
        module=hw.folded.flush_sweep,
        part="FlushSweep",
        bound="layers of 2 to 12 places, max-pools with windows apart, overlapping and padded; two layers, flushed in any order",
        build=flush_sweep,
        cases=[
            {"shape": (2, 2, 2), "lanes": 1},
            {"shape": (2, 3, 3), "lanes": 2},
            {"shape": (1, 2, 4), "lanes": 4},
            {"shape": (3, 3, 2), "lanes": 2, "window": (2, 2)},
            {"shape": (4, 2, 2), "lanes": 1, "window": (2, 2), "stride": (2, 2)},
            {"shape": (3, 4, 1), "lanes": 1, "window": (3, 3), "stride": (2, 2), "padding": (1, 1, 1, 1)},
            {"shape": (1, 5, 2), "lanes": 1, "window": (1, 2), "stride": (1, 2), "padding": (0, 1, 0, 0)},
        ],
        reach=34,
        fault=Fault(
            says="a place is left out at the end of each column",
            right="coming.x + block_ends)",
            wrong="coming.x + 1)",
            steps=8,
        ),
        more_faults=[
            Fault(
                says="it goes on behind the last place",
                right="m.d.sync += [coming.eq(following), comes.eq(~is_last)]",
                wrong="m.d.sync += [coming.eq(following), comes.eq(1)]",
                steps=6,
            ),
            Fault(
                says="where it stopped is visited again",
                right="m.d.sync += [coming.eq(following), comes.eq(~is_last)]",
                wrong="m.d.sync += [coming.eq(coming), comes.eq(1)]",
                steps=8,
            ),
            Fault(
                says="all rows of a window begin with its layer's first column",
                right="self.member_x.eq(Mux(row_done, first_x,",
                wrong="self.member_x.eq(Mux(row_done, 0,",
                steps=10,
                case=3,
            ),
        ],
    ),
)
