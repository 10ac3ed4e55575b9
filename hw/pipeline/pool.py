"""Max-pooling on spike counts, on groups: exact for every order of spikes, with additions of one only."""

from itertools import pairwise
from typing import NamedTuple

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from hw.aer import Kind, SpikeGroup
from hw.parts.memory import DISTRIBUTED, BuiltMemory, placed
from hw.parts.tables import lookup
from hw.pipeline.state import FrameReset, StateBank
from model.machine.limits import POOL_CYCLES
from model.machine.plan import CorePlan
from model.network import MaxPool, Shape

__all__ = ["MaxPoolGroups", "PoolLane", "PoolState"]


class PoolState(data.StructLayout):
    """Stored state of one window of one channel, all 0 at the start of a frame.

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


class _Tags(NamedTuple):
    """What a group carries with it down the pipeline, in the cycles in which it is looked at."""

    looked: data.View
    loading: data.View
    updating: data.View
    fired: data.View


class MaxPoolGroups(wiring.Component):
    """Max-pooling of spike groups.

    Operation
    ---------
    A group fires at one position, which belongs to one window (or to none, beyond the last whole window). The
    window's distances of all channels of the group are one word of a `StateBank`; what moves leaves as a group at the
    window's position.

    Timing
    ------
    A group a cycle, `END` included; and a sweep once in many frames. 10 cycles from `groups` to `pooled`. Takes a group
    only while the FIFO has room for all that is in flight.

    Parameters
    ----------
    layer : MaxPool
        The layer; its windows must not overlap.
    shape : Shape
        Shape of its source.
    core : CorePlan
        Channels of a group, depth of the FIFO of groups, generations.
    count_bits : int
        Width of the source's counts.

    Members
    -------
    groups : In, stream of SpikeGroup
        Of the source.
    pooled : Out, stream of SpikeGroup
        Of the layer.
    """

    def __init__(self, *, layer: MaxPool, shape: Shape, core: CorePlan, count_bits: int) -> None:
        if layer.overlapping:
            raise ValueError(f"layer {layer.name!r}: windows must not overlap: window {layer.window}, stride {layer.stride}")
        self._layer = layer
        self._shape = shape
        self._output = layer.output_shape(shape)
        self._core = core
        self._channels = core.group_channels
        self._count_bits = count_bits
        super().__init__(
            {
                "groups": In(stream.Signature(SpikeGroup(shape, core))),
                "pooled": Out(stream.Signature(SpikeGroup(self._output, core))),
            }
        )

    @property
    def layer(self) -> MaxPool:
        """The layer that is built."""
        return self._layer

    @property
    def memories(self) -> tuple[BuiltMemory, ...]:
        """Its words of distances with their tags, and the FIFO of groups."""
        width, depth = SpikeGroup(self._output, self._core).stored_bits, self._core.group_fifo
        fifo = BuiltMemory(name="fifo", width=width, depth=depth, kind=DISTRIBUTED)
        return (*placed("state", self._state_bank().memories), fifo)

    @property
    def _parts(self) -> int:
        """Parts of the channels, each a group and a word of its own."""
        return len(self._core.firsts(self._output.channels))

    @property
    def _members(self) -> int:
        """Positions in a window."""
        return self._layer.window[0] * self._layer.window[1]

    @property
    def _word(self) -> data.ArrayLayout:
        """A word of state: a window's distances, of each channel of a group."""
        return data.ArrayLayout(PoolState(self._members, self._count_bits), self._channels)

    def _state_bank(self) -> StateBank:
        depth = self._output.height * self._output.width * self._parts
        return StateBank(word=self._word, depth=depth, generation_bits=self._core.generation_bits)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        pooled_layout = SpikeGroup(self._output, self._core)
        state = self._state_bank()

        m.submodules.reset = reset = FrameReset(depth=state.depth, generation_bits=self._core.generation_bits)
        m.submodules.state = state
        m.submodules.fifo = fifo = SyncFIFO(width=pooled_layout.size, depth=self._core.group_fifo)

        # Take a group while there is room for all that is in flight.
        group = self.groups.payload
        credits = Signal(range(self._core.group_fifo + 1), init=self._core.group_fifo)
        take, is_end = Signal(), Signal()
        m.d.comb += [
            self.groups.ready.eq((credits != 0) & ~reset.sweeping),
            take.eq(self.groups.valid & self.groups.ready),
            is_end.eq(group.kind == Kind.END),
            reset.next_frame.eq(take & is_end),
        ]

        tags, outside = self._look_up(m, take, is_end)
        self._access(m, tags.looked, reset, state)
        up, down = self._move(m, tags, state)

        pooled = Signal(pooled_layout)
        moves, blank = Signal(), Signal()
        m.d.comb += [
            moves.eq((up | down).any()),
            blank.eq(tags.fired.group & ~moves),
            pooled.kind.eq(Mux(tags.fired.end, Kind.END, Kind.SPIKE)),
            pooled.plus.eq(up),
            pooled.minus.eq(down),
            fifo.w_en.eq(tags.fired.end | (tags.fired.group & moves)),
            fifo.w_data.eq(pooled),
            self.pooled.valid.eq(fifo.r_rdy),
            self.pooled.payload.eq(fifo.r_data),
            fifo.r_en.eq(self.pooled.ready),
        ]
        with m.If(tags.fired.group):
            m.d.comb += [getattr(pooled, name).eq(getattr(tags.fired, name)) for name in ("y", "x", "part")]
        # What leaves gives its place back a cycle late.
        returned = Signal(2)
        m.d.sync += [
            returned.eq((self.pooled.valid & self.pooled.ready) + blank + outside),
            credits.eq(credits + returned - take),
        ]
        return m

    def _look_up(self, m: Module, take: Value, is_end: Value) -> tuple[_Tags, Signal]:
        """Which window the group that is taken is in, and which of its members; and whether it is in none."""
        group, members = self.groups.payload, self._members
        pooled_layout = SpikeGroup(self._output, self._core)
        row, column = self._look_up_axis(m, "row", 0, group.y), self._look_up_axis(m, "column", 1, group.x)
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
            }
        )
        tags = {name: Signal(tag, name=name) for name in POOL_CYCLES}
        looked = tags["looked"]
        m.d.sync += [after.eq(before) for before, after in pairwise(tags.values())]
        m.d.sync += [
            looked.group.eq(take & ~is_end & row.inside & column.inside),
            looked.end.eq(take & is_end),
            looked.y.eq(row.index),
            looked.x.eq(column.index),
            looked.part.eq(group.part),
            looked.member.eq(Cat(r & c for r in row.member for c in column.member)),
            looked.present.eq(Cat(r & c for r in row.present for c in column.present)),
            looked.plus.eq(group.plus),
            looked.minus.eq(group.minus),
        ]
        outside = Signal()
        m.d.sync += outside.eq(take & ~is_end & ~(row.inside & column.inside))
        return _Tags(*(tags[name] for name in _Tags._fields)), outside

    def _look_up_axis(self, m: Module, name: str, axis: int, coordinate: Signal) -> _Window:
        window = self._layer.window[axis]
        windows = [reached[0] if reached else None for reached in self._layer.taps(self._shape, axis)]
        present = {(w[0], w[1]) for w in windows if w}
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

    def _access(self, m: Module, looked: data.View, reset: FrameReset, state: StateBank) -> None:
        """The word of the window is updated; or the sweep clears one."""
        output, parts = self._output, self._parts
        row_base = lookup(m, "row_base", [y * output.width * parts for y in range(output.height)], looked.y)
        column_base = lookup(m, "column_base", [x * parts for x in range(output.width)], looked.x)
        clear, clear_addr = Signal(), Signal.like(reset.addr)
        generations = [Signal.like(reset.generation, name=f"generation_{n}") for n in range(2)]
        m.d.sync += [
            clear.eq(reset.sweeping),
            clear_addr.eq(reset.addr),
            generations[0].eq(reset.generation),
            generations[1].eq(generations[0]),
            state.access.en.eq(looked.group),
            state.access.clear.eq(clear),
            state.access.addr.eq(Mux(clear, clear_addr, row_base + column_base + looked.part)),
        ]
        m.d.comb += [state.generation.eq(generations[1]), state.initial.eq(Const(0, self._word.size))]

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
