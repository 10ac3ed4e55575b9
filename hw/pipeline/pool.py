"""Max-pooling on spike counts, on groups: exact for every order of spikes, by additions of one where they come singly."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from hw.aer import Kind, SpikeGroup, is_barrier
from hw.neuron import spikes_of
from hw.parts.buffer import StreamBuffer
from hw.parts.memory import DISTRIBUTED, BuiltMemory, placed
from hw.parts.tables import lookup
from hw.pipeline.initial import InitialWords
from hw.pipeline.state import FrameReset, StateBank
from model.arrays import Ints
from model.machine.limits import COUNTED_POOL_CYCLES, POOL_CYCLES
from model.machine.plan import CorePlan
from model.network import MaxPool, Shape
from model.rest import State

__all__ = ["BurstPoolLane", "DeferredPoolLane", "DeferredPoolState", "MaxPoolGroups", "PoolLane", "PoolState"]


class PoolState(data.StructLayout):
    """Stored state of one window of one channel.

    Parameters
    ----------
    members : int
        Positions in a window.
    distance_bits : int
        Width of a distance.

    Members
    -------
    distance
        Of each of ``members``, how far its count is from the maximum.
    apart
        Of each, 1 where that is not 0, so that it need not be found in the loop.
    """

    def __init__(self, members: int, distance_bits: int) -> None:
        super().__init__({"distance": data.ArrayLayout(unsigned(distance_bits), members), "apart": members})


class PoolLane(wiring.Component):
    """The maximum of the counts in one window, for one channel.

    Operation
    ---------
    Kept are not the counts but each member's distance from the maximum: ``D[i] = max - count[i]``, at least one of
    them 0. A spike of member ``s`` moves the maximum in two cases only: +1 where ``D[s] = 0``, which then raises all other
    distances; -1 where ``D[s]`` alone is 0, which lowers them. Otherwise it moves ``D[s]``. Additions of one and
    comparisons with 0, and the maximum itself is not stored at all.

    Timing
    ------
    Combinational.

    Parameters
    ----------
    members : int
        Positions in a window.
    distance_bits : int
        Width of a distance: that of a count.

    Members
    -------
    state : In, PoolState
        Before.
    rises, falls : In
        One-hot, the member that fires +1, -1; at most one of both.
    present : In
        Which members the window has (fewer at a padded border).
    update : Out, PoolState
        After.
    up, down : Out
        1 where the maximum moves.
    """

    def __init__(self, *, members: int, distance_bits: int) -> None:
        self._members = members
        self._distance_bits = distance_bits
        state = PoolState(members, distance_bits)
        super().__init__(
            {
                "state": In(state),
                "rises": In(members),
                "falls": In(members),
                "present": In(members),
                "update": Out(state),
                "up": Out(1),
                "down": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        zero, alone = Signal(self._members), Signal(self._members)
        m.d.comb += [
            zero.eq(~self.state.apart & self.present),
            alone.eq(Cat(zero == 1 << n for n in range(self._members))),
            self.up.eq((zero & self.rises).any()),
            self.down.eq((alone & self.falls).any()),
        ]
        for n in range(self._members):
            # Where the maximum moves, all distances follow but that of the member that fired; else only that one.
            changes = ((self.rises[n] | self.falls[n]) ^ (self.up | self.down)) & self.present[n]
            shrinks = self.rises[n] | self.down
            m.d.comb += [
                self.update.distance[n].eq(self.state.distance[n] + Cat(changes, changes & shrinks).as_signed()),
                self.update.apart[n].eq(Mux(changes, ~shrinks | (self.state.distance[n] != 1), self.state.apart[n])),
            ]
        return m


class DeferredPoolState(data.StructLayout):
    """Stored state of one window of one channel where several spikes of a member come at once.

    Parameters
    ----------
    members : int
        Positions in a window.
    count_bits : int
        Width of a count.

    Members
    -------
    change
        Of each of ``members``, how far its count is from where the maximum was at the start of the frame.
    """

    def __init__(self, members: int, count_bits: int) -> None:
        super().__init__({"change": data.ArrayLayout(signed(count_bits + 1), members)})


class DeferredPoolLane(wiring.Component):
    """The counts in one window, for one channel, and how far the maximum moves at a flush.

    Timing
    ------
    Combinational, but for `greatest`, which is a cycle late.

    Parameters
    ----------
    members : int
        Positions in a window.
    count_bits : int
        Width of a count.
    goes_on : bool
        Whether a frame may go on after a flush, for which counts have to be written.

    Members
    -------
    state : In, DeferredPoolState
        Before.
    member : In
        One-hot, the member that fires.
    spikes : In
        Its spikes times their sign.
    present : In
        Which members the window has (fewer at a padded border).
    flush : In
        1 at a flush, after which counts are told from where the maximum then is; where ``goes_on``.
    update : Out, DeferredPoolState
        After.
    greatest : Out
        How far the maximum was, a cycle ago, from where it was at the start of the frame, or at the flush before, before the
        update.
    """

    def __init__(self, *, members: int, count_bits: int, goes_on: bool = False) -> None:
        self._members = members
        self._count_bits = count_bits
        self._goes_on = goes_on
        super().__init__(_counting(members, count_bits) | ({"flush": In(1)} if goes_on else {}))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for n, fires in enumerate(self.member):
            m.d.comb += self.update.change[n].eq(self.state.change[n] + (self.spikes & fires.replicate(len(self.spikes))))
        m.d.comb += self.greatest.eq(_greatest(m, self.state, self.present, self._count_bits))
        if self._goes_on:
            greatest = Signal.like(self.greatest, name="greatest_now")
            m.d.comb += greatest.eq(_rounds(_members(self.state, self.present, self._count_bits))[-1][0])
            with m.If(self.flush):
                m.d.comb += [
                    after.eq(before - greatest)
                    for before, after in zip(self.state.change, self.update.change, strict=True)
                ]
        return m


class BurstPoolLane(wiring.Component):
    """The counts in one window, for one channel, and how far the maximum moves with each update.

    The spikes of a burst are of one sign: what the maximum does with them one after the other it does with all of them at once,
    as so many spikes of that sign.

    Timing
    ------
    Combinational, but for `greatest` and `follows`, which are a cycle late; the loop from a state to the next one is an addition.

    Parameters
    ----------
    members, count_bits : int
        As of `DeferredPoolLane`.

    Members
    -------
    state, member, spikes, present, update, greatest
        As of `DeferredPoolLane`.
    follows : Out
        How far the maximum was, a cycle ago, from where it was at the start of the frame, after the update.
    """

    def __init__(self, *, members: int, count_bits: int) -> None:
        self._members = members
        self._count_bits = count_bits
        super().__init__({**_counting(members, count_bits), "follows": Out(signed(count_bits + 1))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for n, fires in enumerate(self.member):
            m.d.comb += self.update.change[n].eq(self.state.change[n] + (self.spikes & fires.replicate(len(self.spikes))))
        m.d.comb += [
            self.greatest.eq(_greatest(m, self.state, self.present, self._count_bits)),
            self.follows.eq(_greatest(m, self.update, self.present, self._count_bits)),
        ]
        return m


def _counting(members: int, count_bits: int) -> "dict[str, In | Out]":
    """What lanes that keep counts share."""
    state = DeferredPoolState(members, count_bits)
    return {
        "state": In(state),
        "member": In(members),
        "spikes": In(signed(count_bits + 1)),
        "present": In(members),
        "update": Out(state),
        "greatest": Out(signed(count_bits + 1)),
    }


def _greatest(m: Module, state: data.View, present: Value, count_bits: int) -> Value:
    """The greatest of the members that are present, a cycle late: half of the rounds before registers, half behind them."""
    rounds = _rounds(_members(state, present, count_bits))
    standing = rounds[len(rounds) // 2]
    kept = [Signal.like(value, name="standing", reset_less=True) for value in standing]
    m.d.sync += [after.eq(before) for before, after in zip(standing, kept, strict=True)]
    return _rounds(kept)[-1][0]


def _members(state: data.View, present: Value, count_bits: int) -> list[Value]:
    """Of each member its count; of one that is not present the least that a count can be."""
    least = Const(-(1 << count_bits), signed(count_bits + 1))
    return [Mux(present[n], state.change[n], least) for n in range(len(present))]


def _rounds(standing: Sequence[Value]) -> list[list[Value]]:
    """The greater of two, round by round until one is left."""
    rounds = [list(standing)]
    while len(rounds[-1]) > 1:
        last = rounds[-1]
        greater = [Mux(one > other, one, other) for one, other in zip(last[::2], last[1::2], strict=False)]
        rounds.append(greater + last[2 * len(greater) :])
    return rounds


class _Window(NamedTuple):
    """What the tables of one axis say of an input coordinate."""

    index: Signal
    """Which window it is in."""
    inside: Signal
    """Whether it is in one."""
    member: list[Signal]
    """Which of the window's members it is, one-hot."""
    present: list[Signal]
    """Which members the window has."""


class _Visits(NamedTuple):
    """Which of the windows that its position is in a group visits, one after the other."""

    now: Value
    """1 where one of them goes down the pipeline."""
    row: Value
    column: Value
    """Which one along each axis."""


class _Sweep(NamedTuple):
    """Where a flush is: all windows, and the parts of the channels of each."""

    now: Value
    """1 where a step of it goes down the pipeline."""
    done: Signal
    """1 where all of them have, and the end of the frame follows."""
    y: Signal
    x: Signal
    part: Signal


class _Tags(NamedTuple):
    """What a group carries with it down the pipeline, in the cycles in which it is looked at."""

    looked: data.View
    tagged: data.View
    loading: data.View
    updating: data.View
    compared: data.View
    """In the cycle before `fired`."""
    fired: data.View


class _Told(NamedTuple):
    """What a max-pool tells of a window."""

    pooled: data.View
    enters: Value
    """1 where that enters the FIFO."""
    blank: Value
    """1 where there is nothing to tell."""


class MaxPoolGroups(wiring.Component):
    """Max-pooling of spike groups.

    Operation
    ---------
    A group fires at one position, which belongs to one window (or to none, beyond the last whole window). The
    window's distances of all channels of the group are one word of a `StateBank`; what moves leaves as a group at the
    window's position.

    Where windows overlap, a position belongs to several, and a group visits them in ascending ``(y, x)``. So that spikes leave in
    order, each group is of one spike then, unless the network fires deferred.

    After a layer with bursts a word holds the members' counts, and what leaves is how far its maximum has moved
    (`BurstPoolLane`).

    In a network that fires deferred a word holds the members' counts as well, and nothing leaves before ``END``. That is a flush
    first: a sweep over all windows in ascending ``(y, x, c)``, each of which tells how far its maximum has moved
    (`DeferredPoolLane`). An ``END`` that is a flush within the frame sweeps as well; words are written then, and the generation
    stays.

    What a group closes closes behind what moves for it, or alone where nothing does.

    Timing
    ------
    A group a cycle, `END` included, or a cycle for each window that it visits; and a sweep once in many frames. Deferred, an
    ``END`` takes a cycle more for each group that the layer has. 10 cycles from `groups` to `pooled`, 13 where
    counts are kept. Takes a group only while the FIFO has room for all that is in flight.

    Parameters
    ----------
    layer : MaxPool
        The layer.
    shape : Shape
        Shape of its source.
    core : CorePlan
        Channels of a group, depth of the FIFO of groups, generations.
    count_bits : int
        Width of the source's counts.
    deferred : bool
        Whether the network fires deferred.
    source_more_bits, more_bits : int
        As of `SpikeGroup`, of what comes and of what leaves.
    flushes, levels : bool, int
        As of `SpikeGroup`.
    start : State | None
        The counts of a frame's start; all alike where not given.

    Members
    -------
    groups : In, stream of SpikeGroup
        Of the source.
    pooled : Out, stream of SpikeGroup
        Of the layer.
    """

    def __init__(
        self,
        *,
        layer: MaxPool,
        shape: Shape,
        core: CorePlan,
        count_bits: int,
        deferred: bool = False,
        source_more_bits: int = 0,
        more_bits: int = 0,
        flushes: bool = False,
        levels: int = 0,
        start: State | None = None,
    ) -> None:
        self._layer = layer
        self._shape = shape
        self._output = layer.output_shape(shape)
        self._core = core
        self._channels = core.group_channels
        self._count_bits = count_bits
        self._deferred = deferred
        self._source_more_bits = source_more_bits
        self._more_bits = more_bits
        self._flushes = flushes
        self._levels = levels
        self._initial = _distances(layer, shape, start)
        super().__init__(
            {
                "groups": In(stream.Signature(SpikeGroup(shape, core, source_more_bits, flushes=flushes, levels=levels))),
                "pooled": Out(stream.Signature(self._pooled_layout)),
            }
        )

    @property
    def layer(self) -> MaxPool:
        """The layer that is built."""
        return self._layer

    @property
    def memories(self) -> tuple[BuiltMemory, ...]:
        """Its words of distances with their tags, those that differ at the start of a frame, and the FIFO of groups."""
        width, depth = self._pooled_layout.stored_bits, self._core.pool_depth
        fifo = BuiltMemory(name="fifo", width=width, depth=depth, kind=DISTRIBUTED)
        initial = self._initial_words().memories("initial", self._word.size)
        return (*placed("state", self._state_bank().memories), *initial, fifo)

    @property
    def _parts(self) -> int:
        """Parts of the channels, each a group and a word of its own."""
        return len(self._core.firsts(self._output.channels))

    @property
    def _members(self) -> int:
        """Positions in a window."""
        return self._layer.window[0] * self._layer.window[1]

    @property
    def _pooled_layout(self) -> SpikeGroup:
        """What leaves."""
        return SpikeGroup(self._output, self._core, self._more_bits, flushes=self._flushes, levels=self._levels)

    @property
    def _counted(self) -> bool:
        """Whether several spikes of a member may come at once, so that counts are kept in place of distances."""
        return self._deferred or self._source_more_bits > 0

    @property
    def _word(self) -> data.ArrayLayout:
        """A word of state: a window's distances (or counts), of each channel of a group."""
        state = DeferredPoolState if self._counted else PoolState
        return data.ArrayLayout(state(self._members, self._count_bits), self._channels)

    def _state_bank(self) -> StateBank:
        depth = self._output.height * self._output.width * self._parts
        return StateBank(word=self._word, depth=depth, generation_bits=self._core.generation_bits)

    def _initial_words(self) -> InitialWords:
        return InitialWords.of(self._initial, self._words_at)

    def _words_at(self, y: int, x: int) -> list[int]:
        """State of a window at the start of a frame, a word of each part of the channels."""
        firsts, channels = self._core.firsts(self._output.channels), self._channels
        padded = np.zeros((firsts[-1] + channels, self._members), np.int64)
        padded[: self._output.channels] = self._initial[y, x]
        return [
            self._word.const([self._state_of(of.tolist()) for of in padded[first : first + channels]]).as_value().value
            for first in firsts
        ]

    def _state_of(self, distances: list[int]) -> dict[str, object]:
        """A window's state, of how far its members are from the maximum."""
        if self._counted:
            return {"change": [-distance for distance in distances]}
        return {"distance": distances, "apart": sum((distance != 0) << n for n, distance in enumerate(distances))}

    def elaborate(self, platform: object) -> Module:
        m = Module()
        pooled_layout = self._pooled_layout
        state = self._state_bank()

        m.submodules.reset = reset = FrameReset(depth=state.depth, generation_bits=self._core.generation_bits)
        m.submodules.state = state
        m.submodules.fifo = fifo = SyncFIFO(width=pooled_layout.size, depth=self._core.pool_depth)

        # Take a group while there is room for all that is in flight.
        group = self.groups.payload
        credits = Signal(range(self._core.pool_depth + 1), init=self._core.pool_depth)
        take, is_end = Signal(), Signal()
        ends_frame = is_end & ~is_barrier(group) if self._levels else is_end
        m.d.comb += [
            self.groups.ready.eq((credits != 0) & ~reset.sweeping),
            take.eq(self.groups.valid & self.groups.ready),
            is_end.eq(group.kind == Kind.END),
            reset.next_frame.eq(take & is_end & ~group.flush if self._flushes else take & ends_frame),
        ]

        claim, sweep = take, None
        visits = _Visits(take & ~is_end, Const(0), Const(0))
        if self._deferred:
            sweep = self._sweep(m, self.groups.valid & is_end & (credits != 0) & ~reset.sweeping)
            m.d.comb += self.groups.ready.eq((credits != 0) & ~reset.sweeping & (~is_end | sweep.done))
            claim = take | sweep.now
        if max(self._most_visits) > 1:
            visits = self._visits(m, is_end, (credits != 0) & ~reset.sweeping)
            claim = claim | visits.now

        tags, outside = self._look_up(m, take, is_end, sweep, visits)
        self._access(m, tags, reset, state)
        up, down, more = self._count(m, tags, state) if self._counted else (*self._move(m, tags, state), [])
        looked_at = tags.fired.group | tags.fired.flush if sweep else tags.fired.group

        pooled = Signal(pooled_layout)
        moves, blank = Signal(), Signal()
        leaves, bare = moves, tags.fired.end
        if self._levels:
            leaves, bare = moves | tags.fired.closes.any(), ~moves
            m.d.comb += pooled.closes.eq(tags.fired.closes)
        told = self._told(m, pooled, tags.fired.end | (looked_at & leaves), blank)
        given = self._given(m)
        m.d.comb += [
            moves.eq((up | down).any()),
            blank.eq(looked_at & ~leaves),
            pooled.kind.eq(Mux(bare, Kind.END, Kind.SPIKE)),
            pooled.plus.eq(up),
            pooled.minus.eq(down),
            *(pooled.more[channel].eq(spikes) for channel, spikes in enumerate(more) if self._more_bits),
            *([pooled.flush.eq(tags.fired.end & tags.fired.goes_on)] if self._flushes else []),
            fifo.w_en.eq(told.enters),
            fifo.w_data.eq(told.pooled),
            given.valid.eq(fifo.r_rdy),
            given.payload.eq(fifo.r_data),
            fifo.r_en.eq(given.ready),
        ]
        with m.If(looked_at):
            m.d.comb += [getattr(pooled, name).eq(getattr(tags.fired, name)) for name in ("y", "x", "part")]
        # What leaves gives its place back a cycle late.
        returned = Signal(2)
        m.d.sync += [
            returned.eq((given.valid & given.ready) + told.blank + outside),
            credits.eq(credits + returned - claim),
        ]
        return m

    def _told(self, m: Module, pooled: data.View, enters: Value, blank: Value) -> _Told:
        """What enters the FIFO; where counts are kept a cycle later, which telling how far they moved takes."""
        if not self._counted:
            return _Told(pooled, enters, blank)
        told = _Told(Signal(self._pooled_layout, name="told", reset_less=True), Signal(name="enters"), Signal(name="told_blank"))
        m.d.sync += [told.pooled.eq(pooled), told.enters.eq(enters), told.blank.eq(blank)]
        return told

    def _given(self, m: Module) -> stream.Interface:
        """What the FIFO gives to: `pooled`, but where each spike says how many follow it a register stage first."""
        if not self._counted:
            return wiring.flipped(self.pooled)
        m.submodules.output = output = StreamBuffer(payload=self._pooled_layout)
        wiring.connect(m, output.given, wiring.flipped(self.pooled))
        return output.taken

    @property
    def _most_visits(self) -> tuple[int, int]:
        """The most windows that a row, and a column, of the source is in."""
        rows, columns = (max(1, *map(len, self._layer.taps(self._shape, axis)), 0) for axis in (0, 1))
        return rows, columns

    def _visits(self, m: Module, is_end: Value, able: Value) -> _Visits:
        """The windows of the group at hand, one where ``able``; it is taken with the last of them."""
        group = self.groups.payload
        now, last_row, last_column, last = (Signal(name=name) for name in ("visits", "last_row", "last_column", "last_visit"))
        at, finals, reaches = [], [], []
        for axis, (name, coordinate) in enumerate((("row", group.y), ("column", group.x))):
            windows = [len(reached) for reached in self._layer.taps(self._shape, axis)]
            at.append(Signal(range(self._most_visits[axis]), name=f"{name}_visit"))
            finals.append(lookup(m, f"{name}_final", [max(0, count - 1) for count in windows], coordinate))
            reaches.append(lookup(m, f"{name}_reaches", [int(count > 0) for count in windows], coordinate))
        m.d.comb += [
            now.eq(self.groups.valid & ~is_end & able),
            last_row.eq(at[0] == finals[0]),
            last_column.eq(at[1] == finals[1]),
            last.eq((last_row & last_column) | ~(reaches[0] & reaches[1])),
        ]
        with m.If(~is_end & ~last):
            m.d.comb += self.groups.ready.eq(0)
        with m.If(now):
            m.d.sync += at[1].eq(Mux(last | last_column, 0, at[1] + 1))
            with m.If(last | last_column):
                m.d.sync += at[0].eq(Mux(last, 0, at[0] + 1))
        return _Visits(now, *at)

    def _sweep(self, m: Module, at_end: Value) -> _Sweep:
        """The steps of a flush, one where ``at_end`` and not all are done, parts of the channels innermost."""
        now, done = Signal(name="flush_now"), Signal(name="flush_done")
        sizes = {"y": self._output.height, "x": self._output.width, "part": self._parts}
        at = {name: Signal(range(size), name=f"flush_{name}") for name, size in sizes.items()}
        m.d.comb += now.eq(at_end & ~done)
        with m.If(at_end & done):
            m.d.sync += done.eq(0)
        carry: Value = now
        for name in ("part", "x", "y"):
            last = at[name] == sizes[name] - 1
            with m.If(carry):
                m.d.sync += at[name].eq(Mux(last, 0, at[name] + 1))
            carry = carry & last
        with m.If(carry):
            m.d.sync += done.eq(1)
        return _Sweep(now, done, at["y"], at["x"], at["part"])

    def _look_up(
        self, m: Module, take: Value, is_end: Value, sweep: _Sweep | None, visits: _Visits
    ) -> tuple[_Tags, Signal]:
        """Which window the group is in, and which of its members; and whether it is in none."""
        group, members = self.groups.payload, self._members
        pooled_layout, more_bits = self._pooled_layout, self._source_more_bits
        row = self._look_up_axis(m, "row", 0, group.y, visits.row)
        column = self._look_up_axis(m, "column", 1, group.x, visits.column)
        tag = data.StructLayout(
            {
                "group": 1,
                "end": 1,
                "y": pooled_layout["y"].shape,
                "x": pooled_layout["x"].shape,
                "part": pooled_layout["part"].shape,
                "member": members,
                "present": members,
                "plus": self._channels,
                "minus": self._channels,
                **({"flush": 1} if sweep else {}),
                **({"goes_on": 1} if self._flushes else {}),
                **({"closes": pooled_layout["closes"].shape} if self._levels else {}),
                **({"more": data.ArrayLayout(unsigned(more_bits), self._channels)} if more_bits else {}),
            }
        )
        cycles = COUNTED_POOL_CYCLES if self._counted else POOL_CYCLES
        tags = {name: Signal(tag, name=name) for name in cycles}
        looked = tags["looked"]
        m.d.sync += [after.eq(before) for before, after in pairwise(tags.values())]
        # Beyond all windows nothing is left of a group but what it closes.
        alone = is_end | (group.closes.any() & ~(row.inside & column.inside)) if self._levels else is_end
        m.d.sync += [
            looked.group.eq(visits.now & row.inside & column.inside),
            looked.end.eq(take & alone),
            looked.y.eq(row.index),
            looked.x.eq(column.index),
            looked.part.eq(group.part),
            looked.member.eq(Cat(r & c for r in row.member for c in column.member)),
            looked.present.eq(Cat(r & c for r in row.present for c in column.present)),
            looked.plus.eq(group.plus),
            looked.minus.eq(group.minus),
        ]
        if more_bits:
            m.d.sync += looked.more.eq(group.more)
        if self._flushes:
            m.d.sync += looked.goes_on.eq(group.flush)
        if self._levels:
            m.d.sync += looked.closes.eq(Mux(take, group.closes, 0))
        if sweep:
            m.d.sync += looked.flush.eq(sweep.now)
            with m.If(sweep.now):
                rows, columns = (
                    [
                        lookup(m, f"flush_{name}_present_{k}", [int((o, k) in has) for o in range(count)], coordinate)
                        for k in range(self._layer.window[axis])
                    ]
                    for name, axis, count, coordinate in (
                        ("row", 0, self._output.height, sweep.y),
                        ("column", 1, self._output.width, sweep.x),
                    )
                    for has in [self._present(axis)]
                )
                m.d.sync += [
                    looked.y.eq(sweep.y),
                    looked.x.eq(sweep.x),
                    looked.part.eq(sweep.part),
                    looked.present.eq(Cat(r & c for r in rows for c in columns)),
                ]
        outside = Signal()
        beyond = visits.now & ~(row.inside & column.inside)
        m.d.sync += outside.eq(beyond & ~alone if self._levels else beyond)
        named = {**tags, "compared": tags[cycles[cycles.index("fired") - 1]]}
        return _Tags(*(named[name] for name in _Tags._fields)), outside

    def _present(self, axis: int) -> set[tuple[int, int]]:
        """The windows along an axis, each with a member that it has."""
        return {pair for reached in self._layer.taps(self._shape, axis) for pair in reached}

    def _look_up_axis(self, m: Module, name: str, axis: int, coordinate: Value, visit: Value) -> _Window:
        window, slots = self._layer.window[axis], 1
        if self._most_visits[axis] > 1:
            slots, coordinate = 1 << len(visit), Cat(visit, coordinate)
        windows = [
            reached[slot] if slot < len(reached) else None
            for reached in self._layer.taps(self._shape, axis)
            for slot in range(slots)
        ]
        present = self._present(axis)
        return _Window(
            index=lookup(m, f"{name}_window", [w[0] if w else 0 for w in windows], coordinate),
            inside=lookup(m, f"{name}_inside", [int(w is not None) for w in windows], coordinate),
            member=[
                lookup(m, f"{name}_member_{k}", [int(w is not None and w[1] == k) for w in windows], coordinate)
                for k in range(window)
            ],
            present=[
                lookup(m, f"{name}_present_{k}", [int(w is not None and (w[0], k) in present) for w in windows], coordinate)
                for k in range(window)
            ],
        )

    def _access(self, m: Module, tags: _Tags, reset: FrameReset, state: StateBank) -> None:
        """The word of the window is updated; or the sweep clears one."""
        output, parts, looked, tagged = self._output, self._parts, tags.looked, tags.tagged
        row_base = lookup(m, "row_base", [y * output.width * parts for y in range(output.height)], looked.y)
        column_base = lookup(m, "column_base", [x * parts for x in range(output.width)], looked.x)
        clear, clear_addr = Signal(), Signal.like(reset.addr)
        generations = [Signal.like(reset.generation, name=f"generation_{n}") for n in range(2)]
        m.d.sync += [
            clear.eq(reset.sweeping),
            clear_addr.eq(reset.addr),
            generations[0].eq(reset.generation),
            generations[1].eq(generations[0]),
            state.access.en.eq(looked.group | looked.flush if self._flushes else looked.group),
            state.access.clear.eq(clear),
            state.access.addr.eq(Mux(clear, clear_addr, row_base + column_base + looked.part)),
        ]
        words, width = self._initial_words(), self._word.size
        initial = words.read(m, "initial", width, y=tagged.y, x=tagged.x, block=tagged.part)
        m.d.comb += [state.generation.eq(generations[1]), state.initial.eq(initial)]

    def _move(self, m: Module, tags: _Tags, state: StateBank) -> tuple[Signal, Signal]:
        """The maxima that move up and down: a lane per channel.

        Which member fires is told each lane by registers of its own: the loop is too tight for one that all of them share.
        """
        members, partial = self._members, any(self._layer.padding)
        loading, updating = tags.loading, tags.updating
        up, down = (Signal(self._channels, name=name, reset_less=True) for name in ("up", "down"))
        for channel in range(self._channels):
            m.submodules[f"lane_{channel}"] = lane = PoolLane(members=members, distance_bits=self._count_bits)
            m.d.sync += [
                lane.rises.eq(loading.member & loading.plus[channel].replicate(members)),
                lane.falls.eq(loading.member & loading.minus[channel].replicate(members)),
            ]
            m.d.comb += [
                lane.state.eq(state.word[channel]),
                lane.present.eq(updating.present if partial else Const(1, 1).replicate(members)),
                state.update[channel].eq(lane.update),
            ]
            m.d.sync += [up[channel].eq(lane.up & updating.group), down[channel].eq(lane.down & updating.group)]
        return up, down

    def _count(self, m: Module, tags: _Tags, state: StateBank) -> tuple[Signal, Signal, list[Value]]:
        """Spikes are counted, and maxima move up and down, by how many beyond one: a lane per channel.

        Deferred, they do at a flush, by how far they are from where they were at the start of the frame, or the flush before.
        """
        members, bits = self._members, self._count_bits
        loading, updating, compared = tags.loading, tags.updating, tags.compared
        up, down = (Signal(self._channels, name=name) for name in ("up", "down"))
        more: list[Value] = []
        for channel in range(self._channels):
            lane: DeferredPoolLane | BurstPoolLane
            if self._deferred:
                lane = DeferredPoolLane(members=members, count_bits=bits, goes_on=self._flushes)
            else:
                lane = BurstPoolLane(members=members, count_bits=bits)
            m.submodules[f"lane_{channel}"] = lane
            follow = loading.more[channel] if self._source_more_bits else Const(0)
            change = Signal(signed(bits + 1), name=f"change_{channel}", reset_less=True)
            spikes = spikes_of(change, self._more_bits)
            if isinstance(lane, BurstPoolLane):
                # A window's maximum moves within its counts.
                moved, moves = (lane.follows - lane.greatest)[: bits + 1].as_signed(), compared.group
            else:
                moved, moves = lane.greatest, compared.flush
                if self._flushes:
                    m.d.comb += lane.flush.eq(updating.flush)
            m.d.sync += [
                lane.member.eq(loading.member),
                # A number below 0 is the complement of one less.
                lane.spikes.eq(
                    Mux(loading.plus[channel], follow + 1, 0)
                    | Mux(loading.minus[channel], (~Cat(follow, Const(0, 1))).as_signed(), 0)
                ),
                change.eq(moved & moves.replicate(bits + 1)),
            ]
            m.d.comb += [
                lane.state.eq(state.word[channel]),
                lane.present.eq(updating.present),
                state.update[channel].eq(lane.update),
                up[channel].eq(spikes.plus),
                down[channel].eq(spikes.minus),
            ]
            more.append(spikes.more)
        return up, down, more


def _distances(layer: MaxPool, shape: Shape, start: State | None) -> Ints:
    """How far from its maximum the members of each window are at the start of a frame, ``(height, width, channels, members)``."""
    output = layer.output_shape(shape)
    distances = np.zeros((*output, layer.window[0] * layer.window[1]), np.int64)
    if start is not None:
        for y, rows in enumerate(layer.taps(shape, 0)):
            for x, columns in enumerate(layer.taps(shape, 1)):
                for oy, row in rows:
                    for ox, column in columns:
                        member = row * layer.window[1] + column
                        distances[oy, ox, :, member] = start.count[oy, ox] - start.potential[y, x]
    return distances
