"""Max-pools: what leaves is how the maximum of the counts in each window moves."""

from collections.abc import Iterator, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
from amaranth.hdl import Array, Cat, Const, Mux, Signal, Value, signed

import hw.pipeline.pool
from hw.aer import Kind
from model.machine.plan import CorePlan
from model.network import MaxPool, Padding, Shape
from model.rest import State
from sim.formal.bench import Bench
from sim.formal.properties import Fault, Property
from sim.formal.states import IdealBank, history

__all__ = ["PROPERTIES"]

_COUNTED = 8
"""Cycles from a group until its window's word is updated."""

_TOLD, _TOLD_OF_COUNTS = 1, 3
"""Cycles from there until what it moves enters the FIFO; and where counts are kept."""


class _Geometry:
    """A pool's windows, told from the sizes alone.

    Parameters
    ----------
    shape : Shape
        Of the source.
    window, stride, padding : Sequence[int]
        As of `MaxPool`.
    """

    def __init__(self, shape: Shape, window: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> None:
        self.shape, self.window, self._stride, self._padding = shape, window, stride, padding
        self.height, self.width = (
            (size + padding[axis] + padding[axis + 2] - window[axis]) // stride[axis] + 1
            for axis, size in enumerate(shape[:2])
        )
        self.places = [(oy, ox) for oy in range(self.height) for ox in range(self.width)]

    def members(self, place: tuple[int, int]) -> Iterator[tuple[int, int, int]]:
        """Of each member of a window that is no padding, its number and position."""
        for number in range(self.window[0] * self.window[1]):
            y, x = (
                place[axis] * self._stride[axis] - self._padding[axis] + offset
                for axis, offset in enumerate(divmod(number, self.window[1]))
            )
            if 0 <= y < self.shape.height and 0 <= x < self.shape.width:
                yield number, y, x

    def reached(self, y: int, x: int) -> list[tuple[int, int]]:
        """Of each window that a position is in, in ascending order, its number and which member the position is."""
        return [
            (index, number)
            for index, place in enumerate(self.places)
            for number, *position in self.members(place)
            if position == [y, x]
        ]


def pool(
    bench: Bench,
    pools: ModuleType,
    *,
    shape: tuple[int, int, int],
    window: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    channels: int = 1,
    count_bits: int = 2,
    lowest: int = 0,
    levels: int = 0,
    deferred: bool = False,
    flushes: bool = False,
    bursts: bool = False,
    rest: bool = False,
    fifo: int = 8,
    generation_bits: int = 1,
) -> None:
    """A `MaxPoolGroups`, beside the counts in one of its windows, any one, and their maximum.

    Groups come as `hw.pipeline.groups` makes them, and stay until they are taken (`StreamBuffer`). Counts keep to their limits,
    as those of neurons do. State is kept as `state_bank` proves it; that the pool keeps to what is assumed there is asserted.
    What leaves the pool is what enters its FIFO, which is proved by itself, and never full when a group comes.
    """
    size = Shape(*shape)
    geometry = _Geometry(size, window, stride, padding)
    layer = MaxPool(name="p", source="input", window=window, stride=stride, padding=Padding(*padding))
    core = CorePlan(layer="p", channels=channels, group_fifo=fifo, generation_bits=generation_bits)
    more_bits = count_bits if bursts or deferred else 0
    parts = len(core.firsts(size.channels))
    counts = np.random.default_rng(1).integers(lowest, lowest + (1 << count_bits), size) if rest else np.zeros(size, int)
    dut = pools.MaxPoolGroups(
        layer=layer,
        shape=size,
        core=core,
        count_bits=count_bits,
        deferred=deferred,
        source_more_bits=more_bits,
        more_bits=more_bits,
        flushes=flushes,
        levels=levels,
        start=_state(geometry, counts) if rest else None,
    )
    places = len(geometry.places)
    watched = _watched(bench, places, parts, core.group_channels)
    word = watched.place * parts + watched.part
    with patch.object(pools, "StateBank", lambda **options: IdealBank(bench, word, **options)):
        inside = bench.add("dut", dut)
    bank = inside.state
    bank.promises(inside.reset, cycles=2)
    bench.holds(~(inside.reset.sweeping & inside.reset.next_frame))

    bench.source(dut.groups, "groups")
    bench.sink(dut.pooled, "pooled")
    given = dut.groups.payload
    _groups(bench, dut, size, parts, one_spike=layer.overlapping and not deferred)
    is_end = given.kind == Kind.END
    takes = dut.groups.valid & dut.groups.ready
    goes_on = is_end & given.flush if flushes else Const(0)
    barrier = is_end & (given.closes != 0) if levels else Const(0)

    # Each window that a group is in, one after the other, ascending; and at a flush all of them.
    within, place, member = _visits(bench, dut, inside, geometry, size, is_end=is_end, takes=takes)
    hits = within & (place == watched.place) & (given.part == watched.part)
    flushed = _sweep(bench, dut, inside, geometry, parts, watched, ends=takes & is_end) if deferred else Const(0)
    change = _change(given, watched, core.group_channels if more_bits else 0)[: count_bits + 2].as_signed()
    hit, flush, of_member, added, ended = (
        history(bench, value, name, _COUNTED)[-1]
        for value, name in (
            (hits, "hits"),
            (flushed, "flushes"),
            (member, "member"),
            (change, "change"),
            (takes & is_end & ~goes_on & ~barrier, "ends"),
        )
    )
    window_counts = _Counts(bench, geometry, counts, core, watched, count_bits, lowest)
    counted = bursts or deferred
    told = _TOLD_OF_COUNTS if counted else _TOLD
    move = window_counts.step(
        hit=hit, member=of_member, added=added.as_signed(), flush=flush, ended=ended, deferred=deferred, goes_on=flushes
    )
    window_counts.lemmas(bank, core, counted=counted)
    _leaves(
        bench,
        inside,
        watched,
        geometry,
        more_bits=more_bits,
        at=history(bench, flush if deferred else hit, "at", told)[-1],
        move=history(bench, move, "move", told)[-1].as_signed(),
        end=history(bench, takes & is_end, "takes_end", _COUNTED + told)[-1],
        goes_on=history(bench, takes & goes_on, "goes_on", _COUNTED + told)[-1] if flushes else None,
        closes=history(bench, Mux(takes, given.closes, 0), "closes", _COUNTED + told)[-1] if levels else None,
    )
    _room(bench, dut, inside, core.pool_depth, cycles=_COUNTED + told)


def _visits(
    bench: Bench, dut: Any, inside: Any, geometry: _Geometry, size: Shape, *, is_end: Value, takes: Value
) -> tuple[Value, Signal, Signal]:
    """Whether a window is visited in this cycle, for the group at hand; which, and as which of its members."""
    m, given, visits = bench.m, dut.groups.payload, inside.visits.now
    reached = [geometry.reached(y, x) for y in range(size.height) for x in range(size.width)]
    most = max(1, *map(len, reached))
    visit, last = Signal(range(most), name="visit"), Signal(name="visits_last")
    position = given.y * size.width + given.x
    place, member, within = (Signal(8, name=f"visit_{name}") for name in ("place", "member", "within"))
    for signal, of in ((place, 0), (member, 1)):
        table = [each[n][of] if n < len(each) else 0 for each in reached for n in range(most)]
        m.d.comb += signal.eq(Array(Const(entry, 8) for entry in table)[position * most + visit])
    m.d.comb += [
        within.eq(Array(Const(len(each), 8) for each in reached)[position] > visit),
        last.eq(Array(Const(max(1, len(each)) - 1, 8) for each in reached)[position] == visit),
    ]
    with m.If(visits):
        m.d.sync += visit.eq(Mux(last, 0, visit + 1))
    bench.holds(~visits | (dut.groups.valid & ~is_end))
    bench.holds(is_end | ((visits & last) == takes))
    if most > 1:
        columns = [len({geometry.places[index][1] for index, _ in each}) for each in reached]
        at_hand = inside.visits.row * Array(Const(count, 8) for count in columns)[position] + inside.visits.column
        across = inside.visits.column < Array(Const(max(1, count), 8) for count in columns)[position]
        not_all = visit < Array(Const(max(1, len(each)), 8) for each in reached)[position]
        unmoved = (inside.visits.row == 0) & (inside.visits.column == 0)
        bench.lemma(Mux(visit == 0, unmoved, dut.groups.valid & ~is_end & (visit == at_hand) & across & not_all))
    return visits & within[0], place, member


def _sweep(
    bench: Bench, dut: Any, inside: Any, geometry: _Geometry, parts: int, watched: "_Watched", *, ends: Value
) -> Value:
    """Whether a sweep is at the watched window and part; it has been at all of them where the end is taken."""
    m, sweeps, places = bench.m, inside.sweep.now, len(geometry.places)
    step = Signal(range(places * parts + 1), name="sweep_step")
    with m.If(ends):
        m.d.sync += step.eq(0)
    with m.Elif(sweeps):
        m.d.sync += step.eq(step + 1)
    bench.holds(~sweeps | (dut.groups.valid & (dut.groups.payload.kind == Kind.END) & (step < places * parts)))
    bench.holds(~ends | (step == places * parts))
    at = inside.sweep
    walked = (at.y * geometry.width + at.x) * parts + at.part
    within_all = (at.y < geometry.height) & (at.x < geometry.width) & (at.part < parts)
    bench.lemma((step == Mux(at.done, places * parts, walked)) & within_all & (~at.done | (walked == 0)))
    bench.lemma((step == 0) | (dut.groups.valid & (dut.groups.payload.kind == Kind.END)))
    return sweeps & (step == watched.place * parts + watched.part)


def _change(given: Any, watched: "_Watched", channels: int) -> Value:
    """How much more the watched channel of a group counts, of so many that have several spikes at once."""
    plus, minus = (given[name].bit_select(watched.channel, 1) for name in ("plus", "minus"))
    more = Array(given.more[n] for n in range(channels))[watched.channel] if channels else Const(0)
    return Mux(plus, more + 1, Mux(minus, -(more + 1), 0)).as_signed()


class _Watched(NamedTuple):
    """The window, part and channel that are watched."""

    place: Any
    part: Any
    channel: Any


def _watched(bench: Bench, places: int, parts: int, channels: int) -> _Watched:
    """Any window, part and channel."""
    limits = {"place": places, "part": parts, "channel": channels}
    found = {name: bench.constant(range(max(2, limit)), f"watched_{name}") for name, limit in limits.items()}
    bench.assume(Cat(found[name] < limit for name, limit in limits.items()).all())
    return _Watched(**found)


class _Counts:
    """The counts in the watched window, as updates come to them."""

    def __init__(
        self, bench: Bench, geometry: _Geometry, counts: Any, core: CorePlan, watched: _Watched, count_bits: int, lowest: int
    ) -> None:
        m, members = bench.m, geometry.window[0] * geometry.window[1]
        self._bench, self._watched, self._members = bench, watched, range(members)
        self._lowest, self._highest = lowest, lowest + (1 << count_bits) - 1
        self._shape = signed(count_bits + 2)
        self._present = [Signal(name=f"present_{n}") for n in self._members]
        self._starts = [Signal(self._shape, name=f"start_{n}") for n in self._members]
        firsts, lanes = core.firsts(geometry.shape.channels), core.group_channels
        for n in self._members:
            has, start = [], []
            for place in geometry.places:
                found = [position for number, *position in geometry.members(place) if number == n]
                has.append(len(found))
                for first in firsts:
                    start += [int(counts[*found[0], first + lane]) if found else 0 for lane in range(lanes)]
            which = (watched.place * len(firsts) + watched.part) * lanes + watched.channel
            m.d.comb += [
                self._present[n].eq(Array(Const(each, 1) for each in has)[watched.place]),
                self._starts[n].eq(Array(Const(each, self._shape) for each in start)[which]),
            ]
        self._counts = [Signal(self._shape, name=f"count_{n}") for n in self._members]
        self._told = Signal(self._shape, name="maximum_told")
        # They start with a frame, which the first cycle does as well.
        self._now = [Mux(bench.started, count, start) for count, start in zip(self._counts, self._starts, strict=True)]
        self._start = self._greatest("start", self._starts)
        self._before = self._greatest("before", self._now)
        self._told_now = Mux(bench.started, self._told, self._start)

    def _greatest(self, name: str, counts: Sequence[Value]) -> Signal:
        greatest: Value = Const(self._lowest, self._shape)
        for present, count in zip(self._present, counts, strict=True):
            greatest = Mux(present & (count > greatest), count, greatest)
        signal = Signal(self._shape, name=f"greatest_{name}")
        self._bench.m.d.comb += signal.eq(greatest)
        return signal

    def step(
        self, *, hit: Value, member: Value, added: Value, flush: Value, ended: Value, deferred: bool, goes_on: bool
    ) -> Value:
        """Count what comes; gives how far the maximum moves that the pool has to tell of."""
        m, after = self._bench.m, [Signal(self._shape, name=f"count_{n}_next") for n in self._members]
        for n, (count, following) in enumerate(zip(self._now, after, strict=True)):
            m.d.comb += following.eq(Mux(hit & (member == n), count + added, count))
            within = (following >= self._lowest) & (following <= self._highest)
            self._bench.assume(within)
            m.d.sync += self._counts[n].eq(Mux(ended, self._starts[n], following))
            if n == 0:
                self._bench.reaches(hit & (member == n) & (following == self._highest))
        follows = self._greatest("after", after)
        m.d.sync += self._told.eq(Mux(ended, self._start, Mux(flush & goes_on, self._before, self._told_now)))
        move = Signal(self._shape, name="move")
        m.d.comb += move.eq(Mux(flush, self._before - self._told_now, 0) if deferred else Mux(hit, follows - self._before, 0))
        at = flush if deferred else hit
        self._bench.reaches(at & (move > 0))
        self._bench.reaches(at & (move < 0))
        self._bench.reaches((at | hit) & (move == 0) & (self._before > self._lowest))
        self._bench.reaches(ended & (self._before != self._start))
        return move

    def lemmas(self, bank: IdealBank, core: CorePlan, *, counted: bool) -> None:
        """What a word says of them."""
        bench = self._bench
        limits = [(count >= self._lowest) & (count <= self._highest) for count in (*self._now, self._told_now)]
        bench.lemma(Cat(limits).all())
        unchanged = Cat(count == start for count, start in zip(self._now, self._starts, strict=True)).all()
        bench.lemma(bank.fresh | (unchanged & (self._told_now == self._start)))
        for lane in range(core.group_channels):
            state, said = bank.content[lane], []
            for n, count in enumerate(self._now):
                if counted:
                    right = state.change[n] == count - self._told_now
                else:
                    right = (state.distance[n] == self._before - count) & (state.apart[n] == (state.distance[n] != 0))
                said.append(~self._present[n] | right)
            bench.lemma(~bank.fresh | (self._watched.channel != lane) | Cat(said).all())


def _state(geometry: _Geometry, counts: Any) -> State:
    """The counts of a frame's start, and their maxima."""
    greatest = [
        [max(counts[y, x, c] for _, y, x in geometry.members(place)) for c in range(counts.shape[2])]
        for place in geometry.places
    ]
    return State(potential=counts, count=np.array(greatest).reshape(geometry.height, geometry.width, -1))


def _groups(bench: Bench, dut: Any, shape: Shape, parts: int, *, one_spike: bool) -> None:
    """What is known of the groups that come."""
    given = dut.groups.payload
    bench.assume((given.y < shape.height) & (given.x < shape.width) & (given.part < parts))
    bench.assume((given.plus & given.minus) == 0)
    fires = given.plus | given.minus
    if one_spike:
        bench.assume((fires & (fires - 1)) == 0)
    if "more" in dict(given.shape()):
        bench.assume(Cat(fires[n] | (given.more[n] == 0) for n in range(len(fires))).all())
    if "closes" in dict(given.shape()):
        bench.assume(given.closes <= 1)
    waits = bench.before(dut.groups.valid & ~dut.groups.ready, "group_waits")
    same = Value.cast(given) == bench.before(Value.cast(given), "group")
    bench.assume(~waits | (dut.groups.valid & same))


def _leaves(
    bench: Bench,
    inside: SimpleNamespace,
    watched: _Watched,
    geometry: _Geometry,
    *,
    more_bits: int,
    at: Value,
    move: Value,
    end: Value,
    goes_on: Value | None,
    closes: Value | None,
) -> None:
    """State what enters the FIFO: of the watched window what moves, and the ends of frames."""
    pushes, group = inside.fifo.w_en, inside.told.pooled
    spikes = group.kind == Kind.SPIKE
    fires = group.plus | group.minus
    here = spikes & (group.y * geometry.width + group.x == watched.place) & (group.part == watched.part)
    plus, minus = (group[name].bit_select(watched.channel, 1) for name in ("plus", "minus"))
    bench.holds(~(at & (move != 0)) | (pushes & here))
    bench.holds(~(pushes & here) | (at & (plus == (move > 0)) & (minus == (move < 0))))
    if more_bits:
        more = Array(group.more[n] for n in range(len(group.plus)))[watched.channel]
        bench.holds(~(pushes & here & (move != 0)) | (more == Mux(move > 0, move, -move) - 1))
    bench.holds(~pushes | (spikes == fires.any()))
    bench.holds((group.plus & group.minus) == 0)
    if closes is None:
        bench.holds((pushes & ~spikes) == end)
    else:
        bench.holds(~(pushes & ~spikes) | end | (closes != 0))
        bench.holds(pushes | ~(end | (closes != 0)))
        bench.holds(~end | ~spikes)
        bench.holds(~pushes | (group.closes == closes))
        bench.reaches(pushes & spikes & (closes != 0))
    if goes_on is not None:
        bench.holds(~pushes | (group.flush == goes_on))


def _room(bench: Bench, dut: Any, inside: SimpleNamespace, depth: int, *, cycles: int) -> None:
    """State that the FIFO has room for what comes, and that the pool takes groups again once it has given what it has."""
    fifo, credits = inside.fifo, inside.credits
    claims = bench.before(inside.claim, "claims_1") & ~inside.outside
    within = [claims]
    for cycle in range(2, cycles + 1):
        within.append(bench.before(within[-1], f"claims_{cycle}"))
    # Where counts are kept, a `StreamBuffer` follows, which is proved by itself.
    taker = inside.given
    given = (taker.valid == fifo.r_rdy) & (Value.cast(taker.payload) == fifo.r_data) & (fifo.r_en == taker.ready)
    bench.holds((~fifo.w_en | fifo.w_rdy) & given & (Value.cast(inside.told.pooled) == fifo.w_data))
    bench.lemma(within[-1] == (fifo.w_en | inside.told.blank))
    bench.lemma(credits + sum(within, Const(0)) + inside.outside + inside.returned + fifo.level == depth)
    idle = ~Cat(within).any() & ~inside.outside & (inside.returned == 0) & (fifo.level == 0)
    bench.holds(~idle | (credits != 0))
    bench.reaches(credits == 0)


_WHOLE = {"shape": (2, 4, 1), "window": (2, 2), "stride": (2, 2)}
_OVERLAPPING = {"shape": (3, 3, 1), "window": (2, 2), "stride": (1, 1)}
_PADDED = {"shape": (3, 4, 1), "window": (3, 3), "stride": (2, 2), "padding": (1, 1, 1, 1)}
_ROW = {"shape": (1, 5, 2), "window": (1, 2), "stride": (1, 2)}

PROPERTIES = (
    Property(
        name="Max-pool: of each window how its maximum moves, in order, at each spike or at flushes; and the ends of frames",
        module=hw.pipeline.pool,
        part="MaxPoolGroups",
        bound="windows of 2 to 9 members, apart and overlapping, padding, 1 and 2 channels of groups, counts of 2 and 3 bits; "
        "immediate, bursts, deferred, flushes within frames; barriers; states at rest",
        build=pool,
        cases=[
            _WHOLE,
            {**_OVERLAPPING, "generation_bits": 2},
            {**_ROW, "channels": 2, "count_bits": 3, "lowest": -4, "rest": True},
            {**_ROW, "channels": 1, "levels": 1},
            {**_OVERLAPPING, "levels": 1},
            _PADDED,
            {**_ROW, "bursts": True, "channels": 2},
            {**_OVERLAPPING, "bursts": True, "lowest": -2},
            {**_ROW, "deferred": True, "channels": 1, "count_bits": 3, "rest": True},
            {**_OVERLAPPING, "deferred": True, "flushes": True},
            {**_ROW, "deferred": True, "flushes": True, "channels": 2, "lowest": -2, "generation_bits": 2, "rest": True},
            {"shape": (1, 3, 1), "window": (1, 2), "stride": (1, 2), "padding": (0, 1, 0, 0), "lowest": -2},
            {"shape": (1, 3, 1), "window": (1, 2), "stride": (1, 1)},
            {"shape": (1, 3, 1), "window": (1, 2), "stride": (1, 1), "deferred": True, "flushes": True},
        ],
        reach=30,
        steps=14,
        fault=Fault(
            says="the maximum falls with a member that shares it",
            right="self.down.eq((alone & self.falls).any())",
            wrong="self.down.eq((zero & self.falls).any())",
            steps=24,
        ),
        more_faults=[
            Fault(
                says="windows of all rows but the first are left out",
                right="last.eq((last_row & last_column) |",
                wrong="last.eq(last_column |",
                steps=10,
                case=1,
            ),
            Fault(
                says="padding counts as a member",
                right="any(self._layer.padding)",
                wrong="False",
                steps=24,
                case=11,
            ),
            Fault(
                says="a group that visits several windows claims room for one",
                right="claim = claim | visits.now",
                wrong="claim = claim | take",
                steps=26,
                case=12,
            ),
            Fault(
                says="what a flush has told is told again",
                right="with m.If(self.flush):",
                wrong="with m.If(self.flush & ~self.flush):",
                steps=30,
                case=13,
            ),
            Fault(
                says="a flush within a frame ends it",
                right="take & is_end & ~group.flush if",
                wrong="take & is_end if",
                steps=30,
                case=13,
            ),
            Fault(
                says="two spikes of a member count as one",
                right="Mux(loading.plus[channel], follow + 1, 0)",
                wrong="Mux(loading.plus[channel], 1, 0)",
                steps=24,
                case=6,
            ),
        ],
    ),
)
