"""The projection core: events of one layer, or of several merged, in, spike groups of the next one out."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from hw.aer import AddressEvent, Kind
from hw.neuron import (
    BurstComparison,
    BurstLane,
    Comparison,
    DeferredLane,
    DeferredState,
    Flush,
    Lane,
    NeuronState,
    Spikes,
    SummedState,
    spikes_of,
)
from hw.parts.background_check import BackgroundCheck
from hw.parts.memory import DISTRIBUTED, BuiltMemory, placed, rom_kind, style
from hw.parts.tables import lookup, times
from hw.pipeline.fan_out import Axis, FanOut
from hw.pipeline.flush_lanes import FlushLanes
from hw.pipeline.initial import InitialWords
from hw.pipeline.merge import merged_shape
from hw.pipeline.state import FrameReset, StateBank
from hw.pipeline.state_probe import StateProbe
from hw.pipeline.step_group import StepGroup, turned
from hw.pipeline.weights import READ_CYCLES, WeightMemory, packed_words
from model.arrays import Ints
from model.machine.borders import borders
from model.machine.limits import SHARED_STEP_CYCLES, STEP_CYCLES
from model.machine.plan import CorePlan
from model.machine.stages import firing_core, flush_columns
from model.network import Neurons, Shape
from model.rest import State

__all__ = ["ProjectionCore"]

_WEIGHT_ADDR_CYCLES = 2
"""Registers of an address on its way to the weights, where these may be far away."""


class _Walk(NamedTuple):
    """The walker's registers and what they say: the event in hand, and the step that it is at."""

    event: data.View
    held: Signal
    """1 while there is an event in hand."""
    first: Signal
    """1 at the first step of an event."""
    row_step: Signal
    column_step: Signal
    block: Signal
    is_end: Signal
    """1 where the token in hand has no step but goes down the pipeline: the end of its frame, or a barrier alone."""
    issue: Signal
    """1 where a step, or an end, goes down the pipeline."""
    credits: Signal
    """Places that nothing in flight can claim, less one."""
    flush: "_Sweep | None" = None
    """Where layers fire deferred, the step of a flush."""
    closes: Value | None = None
    """How many levels of barriers close behind the step, where there are any."""


class _Blocks(NamedTuple):
    """The blocks of channels that an event visits at each position."""

    first: Value
    last: Value
    begins: list[Any]
    """Assignments where the next event is taken."""


class _Sweep(NamedTuple):
    """Where a flush is: all positions of the layer, row after row, as many columns at once as there are banks."""

    now: Value
    """1 where a step of it is issued."""
    done: Signal
    """1 where all of them are, and the end of the frame follows."""
    y: Signal
    x: Signal
    """The first position of the step."""
    row: Signal
    """The row of banks that it is in."""
    addr: Signal
    """Its word in each of these."""
    last_columns: Signal
    """1 where a row ends with it."""
    column: Signal | None = None
    """The column of banks that it is in, where it takes one of several."""


class _Tags(NamedTuple):
    """What a step carries with it down the pipeline, in the cycles in which it is looked at."""

    issued: data.View
    looked: data.View
    tagged: data.View
    comparing: data.View
    fired: data.View
    masked: data.View


class _Axis(NamedTuple):
    """What the tables of one axis say of a step: its first coordinate and, a cycle later, of each bank whether it takes part and
    its shares of the addresses."""

    first: Signal
    valid: list[Signal]
    words: list[Signal]
    weights: list[Signal]


class _Addresses(NamedTuple):
    """Where a step's words and weights are, a register before the banks; each bank adds what it alone knows."""

    rows: _Axis
    columns: _Axis
    block_weight: Signal
    """The weights' address, but for row and column."""
    negative: list[Signal]
    """Whether the event is negative, in each of the cycles that follow."""
    clear: Signal
    """1 where the sweep clears a word."""
    elsewhere: Value
    """1 where the address is not an event's: it is the sweep's, that of a flush, or that of a state that is read."""
    other_addr: Signal
    """That address."""
    generation: Signal
    flushed: list[Value]
    """Of each bank, whether it takes part in the step of a flush; none where there are no flushes."""
    reached: "_Reached | None"
    """Which lanes the event reaches; None where it is all of those that it visits."""


class _Reached(NamedTuple):
    """Which lanes of a block an event of a group of channels reaches, in the cycles in which that is looked at; a bit a lane."""

    loading: Signal
    updating: Signal
    updated: Signal


class _Initial(NamedTuple):
    """What the words of a step are at the start of a frame."""

    state: data.View
    """The states, a cycle before they are captured."""
    counts: list[Value]
    """Of each lane its count, in the cycle in which its word is at hand; where counts are not stored."""


class _Fired(NamedTuple):
    """What the lanes of a bank fired, or those of a flush."""

    plus: Value
    minus: Value
    saturated: Value
    more: list[Value]
    """Of each channel, the spikes beyond the first; where neurons fire more than one."""


class _Read(NamedTuple):
    """The states that a bank has read, in the cycle in which they are at hand."""

    states: data.View
    flushed: Value
    """Whether a flush reads them."""


class ProjectionCore(wiring.Component):
    """Convolution or linear layer: fan-out walker, banks of neuron state, lanes.

    Operation
    ---------
    The walker takes one event and visits its fan-out in steps, in ascending ``(y, x, c)``: rows outermost, then
    columns, then blocks of channels. A step updates ``rows * columns * channels`` neurons at once, each position from
    a bank of its own (`StateBank`). What fires in a step leaves as one `StepGroup`; a step without spikes leaves
    nothing. An ``END`` follows the last spike of its frame and starts the next generation of state.

    Barriers pass through in their place: what an event closes closes behind the last step of its walk, with what that fires, or
    alone where it fires nothing.

    An event of a group of channels visits the blocks that its group is in. Where a block has channels of other groups besides,
    their lanes rest: they leave their state as it was, or add 0 where the network fires deferred.

    An update of a layer with bursts fires several spikes at once (`BurstLane`, `BurstComparison`); the group says how many.

    In a network that fires deferred events only add (`DeferredLane`). An ``END`` is a flush first: a sweep over all positions in
    ascending ``(y, x)``, in which the words are read and fire (`Flush`); they need not be written, as the frame is over. A flush
    within the frame is an ``END`` that sweeps as well; words are written then, and the generation stays. Where there are none, a
    count stays what the frame started it with until the flush: it is looked up there, and not stored.

    Timing
    ------
    ============================  =========================================================
    event                         cycles
    ============================  =========================================================
    with ``n`` steps              ``n``; windows are clipped, blank steps are not taken
    without fan-out               1
    a barrier alone               1
    ``END``                       1; and a sweep of the deepest bank once in many frames
    ``END``, deferred             besides, one for each row, each ``columns`` of it, each block;
                                  where blocks are several, one column at a time
    ============================  =========================================================

    From an event taken to its first group at `groups`: 15 cycles. A step is issued only while the FIFO after the lanes
    has room for all that is in flight; the pipeline itself never stalls.

    Parameters
    ----------
    layer : Neurons
        The layer that is built.
    source : Shape
        Shape of its source.
    core : CorePlan
        Parallelism and FIFO depth.
    states : bool
        Whether states can be read from outside.
    deferred : bool
        Whether the network fires deferred.
    more_bits, flushes : int, bool
        As of `StepGroup`.
    levels : int
        As of `StepGroup`, and of `AddressEvent`.
    start : State, optional
        What the layer starts a frame with (`model.rest.first_states`); the bias and counts of 0 where it is not given.
    joined : sequence of Shape
        Shapes of the sources of further inputs, whose events come merged with those of the first (`Merge`).
    weight_check : bool
        Whether weights are read and checked in cycles in which no event needs them.

    Members
    -------
    events : In, stream of AddressEvent
        Of the source, or of the `merged_shape` of several.
    groups : Out, stream of StepGroup
    saturated : Out
        Pulses once for each input event in which something saturated.
    busy : Out
        1 where an event or its spikes are in the core, or a sweep goes on; where ``states``.
    ask, place : In
        1 to read the state of the neuron at ``place``, `AddressEvent`, while the core is not busy; where ``states``.
    state : Out, NeuronState or DeferredState
        Of the layer, `hw.pipeline.state_probe.QUIET_CYCLES` after both; where ``states``.
    weights_passed, weights_differ : Out
        As of `BackgroundCheck`, of the weights in all banks; where ``weight_check``.
    """

    def __init__(
        self,
        *,
        layer: Neurons,
        source: Shape,
        core: CorePlan,
        states: bool = False,
        deferred: bool = False,
        more_bits: int = 0,
        flushes: bool = False,
        start: State | None = None,
        joined: Sequence[Shape] = (),
        levels: int = 0,
        weight_check: bool = False,
    ) -> None:
        self._layer = layer
        self._weight_check = weight_check
        self._deferred = deferred
        self._more_bits = more_bits
        self._flushes = flushes
        self._levels = levels
        self._source = merged_shape([source, *joined])
        self._core = core
        self._output = layer.output_shape(source)
        self._fan_out = FanOut.of(layer, source, core, joined=joined)
        self._states = states
        self._firing = firing_core(core, self._fan_out.blocks) if self._counts_stay else core
        self._initial = _initial_states(layer, self._output, start)
        self._alike = borders(self._initial).alike
        members: dict[str, In | Out] = {
            "events": In(stream.Signature(AddressEvent(self._source, levels))),
            "groups": Out(stream.Signature(self._step_layout)),
            "saturated": Out(1),
        }
        if states:
            members |= {
                "busy": Out(1), "ask": In(1), "place": In(AddressEvent(self._output)), "state": Out(self._state.elem_shape)
            }
        if weight_check:
            members |= {"weights_passed": Out(1), "weights_differ": Out(1)}
        super().__init__(members)

    @property
    def layer(self) -> Neurons:
        """The layer that is built."""
        return self._layer

    @property
    def core(self) -> CorePlan:
        """Its parallelism."""
        return self._core

    @property
    def firing(self) -> CorePlan:
        """Parallelism of the steps that fire: those of events, or of a flush."""
        return self._firing

    @property
    def fan_out(self) -> FanOut:
        """Its tables."""
        return self._fan_out

    @property
    def memories(self) -> tuple[BuiltMemory, ...]:
        """Its banks' states and weights, initial states where there are several, and the FIFO of steps."""
        word, blocks, layout = self._state, self._fan_out.blocks, self._step_layout
        state, weights = self._state_bank().memories, self._weight_memory().memories
        built: list[BuiltMemory] = []
        for index in range(self._core.rows * self._core.columns):
            built += [*placed(f"state_{index}", state), *placed(f"weights_{index}", weights)]
            if not self._alike:
                built += self._initial_words(index).memories(f"initial_{index}", word.size)
        if self._alike and blocks > 1:
            built.append(BuiltMemory(name="bias", width=word.size, depth=blocks, kind=rom_kind(blocks)))
        depth, width = self._core.group_fifo, layout.stored_bits
        if self._only_rises and self._firing == self._core:
            # No spike is negative, and synthesis sees it where it has no register to look through.
            width -= self._core.lanes
        return (*built, BuiltMemory(name="fifo", width=width, depth=depth, kind=DISTRIBUTED))

    @property
    def _state(self) -> data.ArrayLayout:
        """The states of a block of channels at one position."""
        return data.ArrayLayout((DeferredState if self._deferred else NeuronState)(self._layer), self._core.channels)

    @property
    def _word(self) -> data.ArrayLayout:
        """What a bank stores of them."""
        return data.ArrayLayout(SummedState(self._layer), self._core.channels) if self._counts_stay else self._state

    @property
    def _counts_stay(self) -> bool:
        """Whether counts are not stored."""
        return self._deferred and not self._flushes

    @property
    def _only_rises(self) -> bool:
        """Whether all counts start a frame with 0, and none is below at its end."""
        return self._counts_stay and self._layer.relu and not self._initial[..., 1].any()

    @property
    def _step_layout(self) -> StepGroup:
        """What a step fires."""
        return StepGroup(self._output, self._firing, self._more_bits, flushes=self._flushes, levels=self._levels)

    def _state_bank(self) -> StateBank:
        return StateBank(
            word=self._word,
            depth=self._fan_out.depth,
            generation_bits=self._core.generation_bits,
            memory=self._core.state_memory,
            tags=self._core.tag_memory,
            reuse=self._fan_out.reuse,
        )

    def _weight_memory(self) -> WeightMemory:
        words = _weight_words(self._layer, self._core, self._fan_out)
        return WeightMemory(words=words, weight_bits=self._layer.weight_bits, memory=self._core.weight_memory)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        core, fan_out = self._core, self._fan_out
        step_layout = self._step_layout

        m.submodules.reset = reset = FrameReset(depth=fan_out.depth, generation_bits=core.generation_bits)
        m.submodules.fifo = fifo = SyncFIFO(width=step_layout.size, depth=core.group_fifo)

        probe = StateProbe(shape=self._output, core=core) if self._states else None
        walk = self._walk(m, reset)
        tags, addresses = self._address(m, walk, reset, probe)
        banks_built = range(core.rows * core.columns)
        check = self._background_check(m, tags.looked) if self._weight_check else None
        words_read: list[Value] = []
        initial: list[_Initial]
        if self._alike:
            initial = [self._initial_state(m, tags.comparing.block)] * len(banks_built)
        else:
            initial = [self._initial_by_position(m, index, tags.tagged) for index in banks_built]
        read: list[_Read] = []
        fired: list[_Fired] = []
        for index in banks_built:
            state, weights = self._bank(m, index, tags=tags, addresses=addresses, initial=initial[index], check=check)
            words_read.append(weights.word.as_value())
            if self._deferred:
                read.append(self._deferred_lanes(m, index, state, weights, addresses, initial[index].counts))
            else:
                read.append(_Read(state.word, Const(0)))
                fired.append(self._lanes(m, index, state, weights, addresses))
        if check:
            m.d.comb += check.word.eq(Cat(words_read))
        if self._deferred:
            fired = self._flush(m, read)
        pushed, pushes, blank = self._gather(m, tags, fired)
        m.d.comb += [
            fifo.w_en.eq(pushes),
            fifo.w_data.eq(pushed),
            self.groups.valid.eq(fifo.r_rdy),
            self.groups.payload.eq(fifo.r_data),
            fifo.r_en.eq(self.groups.ready),
        ]
        # What leaves gives its place back a cycle late.
        returned = Signal(2)
        m.d.sync += [
            returned.eq((self.groups.valid & self.groups.ready) + blank),
            walk.credits.eq(walk.credits + returned - walk.issue),
        ]
        if probe:
            in_flight = walk.held | (walk.credits != core.group_fifo - 1)
            m.d.comb += self.busy.eq(in_flight | reset.sweeping | self.groups.valid)
            self._show_state(m, probe, [bank.states for bank in read])
        self._count_saturated(m, tags.fired, fired)
        return m

    def _walk(self, m: Module, reset: FrameReset) -> _Walk:
        """The walker: takes events, and goes through the steps of each."""
        core, fan_out = self._core, self._fan_out
        event = Signal(self.events.payload.shape())
        held, first = Signal(), Signal()
        row_step = Signal(range(fan_out.rows.most_steps))
        column_step = Signal(range(fan_out.columns.most_steps))
        block = Signal(range(fan_out.blocks))
        # How far the event reaches is looked up as it comes in.
        row_steps, column_steps = (
            lookup(m, f"{name}_steps", [len(steps) for steps in axis.steps], coordinate)
            for name, axis, coordinate in (
                ("row", fan_out.rows, self.events.payload.y),
                ("column", fan_out.columns, self.events.payload.x),
            )
        )
        final_row, final_column = Signal.like(row_step), Signal.like(column_step)
        blocks = self._blocks(m, block)
        last_block, last_column, last_row = Signal(), Signal(), Signal()
        is_end, reaches, issue, done = Signal(), Signal(), Signal(), Signal()
        # One less than there are: below 0, there are none.
        credits = Signal(range(-1, core.group_fifo), init=core.group_fifo - 1)
        sweep = self._sweep(m, issue & is_end, block, last_block) if self._deferred else None
        # The end of a frame has no steps, unless it is a flush.
        ends, walked = (is_end & sweep.done, ~is_end & last_block) if sweep else (is_end, last_block)
        closes: Value | None = None
        ends_frame = ends
        if self._levels:
            closes = Mux(ends | (last_block & last_column & last_row), event.closes, 0)
            ends_frame = ends & ~event.closes.any()
        m.d.comb += [
            is_end.eq((event.kind == Kind.END) | (event.closes.any() & ~reaches) if self._levels else event.kind == Kind.END),
            last_block.eq(block == blocks.last),
            last_column.eq(column_step == final_column),
            last_row.eq(row_step == final_row),
            issue.eq(held & ~reset.sweeping & (credits >= 0) & (is_end | reaches)),
            done.eq(
                (issue & (ends | (walked & last_column & last_row)))
                | (held & ~reset.sweeping & ~is_end & ~reaches)
            ),
            reset.next_frame.eq(issue & ends_frame & ~event.negative if self._flushes else issue & ends_frame),
            self.events.ready.eq(~held | done),
        ]
        with m.If(issue & ~is_end):
            m.d.sync += first.eq(0)
            m.d.sync += block.eq(Mux(last_block, blocks.first, block + 1))
            with m.If(last_block):
                m.d.sync += column_step.eq(Mux(last_column, 0, column_step + 1))
                with m.If(last_column):
                    m.d.sync += row_step.eq(Mux(last_row, 0, row_step + 1))
        with m.If(done):
            m.d.sync += held.eq(0)
        with m.If(self.events.ready & self.events.valid):
            m.d.sync += [
                held.eq(1),
                first.eq(1),
                event.eq(self.events.payload),
                reaches.eq((row_steps != 0) & (column_steps != 0)),
                final_row.eq(row_steps - 1),
                final_column.eq(column_steps - 1),
                *blocks.begins,
            ]
        if sweep:
            with m.If(sweep.now):
                m.d.sync += first.eq(0)
        return _Walk(event, held, first, row_step, column_step, block, ends, issue, credits, sweep, closes)

    def _blocks(self, m: Module, block: Signal) -> _Blocks:
        """The blocks of the event in hand; at the end of a frame, which may be a flush, all of them."""
        all_blocks, visited, event = self._fan_out.blocks, self._fan_out.visited, self.events.payload
        if not visited:
            return _Blocks(Const(0), Const(all_blocks - 1), [])
        first, last = Signal.like(block, name="first_block"), Signal.like(block, name="final_block")
        low = lookup(m, "first_block_lookup", [found.start for found in visited], event.c)
        high = lookup(m, "final_block_lookup", [found.stop - 1 for found in visited], event.c)
        at_end = event.kind == Kind.END
        begins = Mux(at_end, 0, low)
        return _Blocks(first, last, [block.eq(begins), first.eq(begins), last.eq(Mux(at_end, all_blocks - 1, high))])

    def _sweep(self, m: Module, at_end: Value, block: Signal, last_block: Signal) -> _Sweep:
        """The steps of a flush, one where ``at_end`` and not all are done, blocks of channels innermost."""
        core, output, blocks = self._core, self._output, self._fan_out.blocks
        columns_of_step = flush_columns(core, blocks)
        columns, words_a_row = -(-output.width // columns_of_step), -(-output.width // core.columns) * blocks
        now, done, last_columns, last_row = (
            Signal(name=f"flush_{name}") for name in ("now", "done", "last_columns", "last_row")
        )
        y, x, row = (
            Signal(range(size), name=f"flush_{name}")
            for name, size in (("y", output.height), ("x", output.width), ("row", core.rows))
        )
        column, addr = Signal(range(columns), name="flush_column"), Signal(range(self._fan_out.depth), name="flush_addr")
        of_banks = Signal(range(core.columns), name="flush_of_banks") if columns_of_step < core.columns else None
        m.d.comb += [
            now.eq(at_end & ~done),
            last_columns.eq(column == columns - 1),
            last_row.eq(y == output.height - 1),
        ]
        with m.If(at_end & done):
            m.d.sync += done.eq(0)
        with m.If(now):
            m.d.sync += [block.eq(Mux(last_block, 0, block + 1)), addr.eq(addr + 1)]
            with m.If(last_block):
                m.d.sync += [column.eq(column + 1), x.eq(x + columns_of_step)]
                if of_banks is not None:
                    # The columns of banks take turns; the last of them goes on with the next words.
                    m.d.sync += of_banks.eq(of_banks + 1)
                    with m.If(last_columns | (of_banks == core.columns - 1)):
                        m.d.sync += of_banks.eq(0)
                    with m.Else():
                        m.d.sync += addr.eq(addr - (blocks - 1))
                with m.If(last_columns):
                    m.d.sync += [column.eq(0), x.eq(0), y.eq(y + 1), row.eq(row + 1)]
                    # The rows of banks take turns; the last of them goes on with the next words.
                    with m.If(row == core.rows - 1):
                        m.d.sync += row.eq(0)
                    with m.Else():
                        m.d.sync += addr.eq(addr - (words_a_row - 1))
                    with m.If(last_row):
                        m.d.sync += [done.eq(1), y.eq(0), row.eq(0), addr.eq(0)]
        return _Sweep(now, done, y, x, row, addr, last_columns, of_banks)

    def _tag(self, m: Module) -> _Tags:
        """What a step carries with it down the pipeline, and the cycles it takes there."""
        step_layout = self._step_layout
        tag = data.StructLayout(
            {
                "step": 1,
                "end": 1,
                "first": 1,
                "y": step_layout["y"].shape,
                "x": step_layout["x"].shape,
                "block": step_layout["block"].shape,
                **({"flush": 1} if self._deferred else {}),
                **({"goes_on": 1} if self._flushes else {}),
                **({"closes": step_layout["closes"].shape} if self._levels else {}),
            }
        )
        cycles = SHARED_STEP_CYCLES if self._firing != self._core else STEP_CYCLES
        tags = {name: Signal(tag, name=name) for name in cycles}
        m.d.sync += [after.eq(before) for before, after in pairwise(tags.values())]
        return _Tags(*(tags[name] for name in _Tags._fields))

    def _address(self, m: Module, walk: _Walk, reset: FrameReset, probe: StateProbe | None) -> tuple[_Tags, _Addresses]:
        """From the step that is issued, in two cycles, to what the banks' addresses are the sums of."""
        fan_out = self._fan_out
        tags = self._tag(m)
        issued, looked = tags.issued, tags.looked
        walked, walked_row, walked_column = (
            Signal.like(now, name=f"walked_{name}", reset_less=True)
            for name, now in (("event", walk.event), ("row", walk.row_step), ("column", walk.column_step))
        )
        m.d.sync += [
            walked.eq(walk.event),
            walked_row.eq(walk.row_step),
            walked_column.eq(walk.column_step),
            issued.step.eq(walk.issue & ~walk.is_end),
            issued.end.eq(walk.issue & walk.is_end),
            issued.first.eq(walk.first),
            issued.block.eq(walk.block),
            *([issued.goes_on.eq(walk.event.negative)] if self._flushes else []),
            *([issued.closes.eq(walk.closes)] if walk.closes is not None else []),
        ]
        rows = _look_up(m, "row", fan_out.rows, walked.y, walked_row)
        columns = _look_up(m, "column", fan_out.columns, walked.x, walked_column)
        channel_weight, block_weight = (
            Signal(range(fan_out.weight_depth), name=name, reset_less=True) for name in ("channel_weight", "block_weight")
        )
        if fan_out.channel_weights:
            of_channel: Value = lookup(m, "channel_lookup", fan_out.channel_weights, walked.c)
        else:
            of_channel = times(walked.c, fan_out.channel_weight)
        m.d.sync += [
            looked.y.eq(rows.first),
            looked.x.eq(columns.first),
            channel_weight.eq(of_channel),
            block_weight.eq(channel_weight + looked.block),
        ]
        negative = _delays(m, "negative", walked.negative, 7)
        clear = _delays(m, "clear", reset.sweeping, 2, reset_less=False)[-1]
        # An address that is not the walker's: that of the sweep, or of a state that is read from outside.
        elsewhere, other_addr = clear, reset.addr
        if probe:
            m.submodules.probe = probe
            m.d.comb += [getattr(probe, name).eq(self.place[name]) for name in ("y", "x", "c")]
            other_addr = Mux(reset.sweeping, reset.addr, probe.addr)
            elsewhere = _delays(m, "elsewhere", reset.sweeping | self.ask, 2, reset_less=False)[-1]
            with m.If(self.ask):
                m.d.sync += issued.block.eq(probe.block)
                if not self._alike:
                    m.d.sync += [looked.y.eq(self.place.y), looked.x.eq(self.place.x)]
        flushed: list[Value] = []
        if walk.flush:
            other_addr = Mux(walk.flush.now, walk.flush.addr, other_addr)
            elsewhere = elsewhere | _delays(m, "flush", walk.flush.now, 2, reset_less=False)[-1]
            flushed = self._flushed_banks(m, tags, walk.flush)
        clear_addr = _delays(m, "clear_addr", other_addr, 2)[-1]
        generation = _delays(m, "generation", reset.generation, 3)[-1]
        reached = self._reached(m, walked.c, looked.block) if fan_out.reached else None
        return tags, _Addresses(
            rows, columns, block_weight, negative, clear, elsewhere, clear_addr, generation, flushed, reached
        )

    def _reached(self, m: Module, c: Value, block: Value) -> _Reached:
        """Which lanes, from one up to another, an event of channel ``c`` reaches in the ``block`` that comes a cycle later."""
        reached, lanes = self._fan_out.reached, self._core.channels
        offset = signed(bits_for(self._fan_out.blocks * lanes) + 1)
        bounds = []
        for name, channels in (("first", [found.start for found in reached]), ("end", [found.stop for found in reached])):
            channel = lookup(m, f"reached_{name}_lookup", channels, c)
            kept = Signal.like(channel, name=f"reached_{name}", reset_less=True)
            lane = Signal(offset, name=f"lane_{name}", reset_less=True)
            m.d.sync += [kept.eq(channel), lane.eq(kept - times(block, lanes))]
            bounds.append(_delays(m, f"lane_{name}", lane, 4)[-1].as_signed())
        first, end = bounds
        now = _Reached(*(Signal(lanes, name=f"reached_{name}", reset_less=True) for name in _Reached._fields))
        m.d.sync += [
            now.loading.eq(Cat((first <= lane) & (end > lane) for lane in range(lanes))),
            now.updating.eq(now.loading),
            now.updated.eq(now.updating),
        ]
        return now

    def _flushed_banks(self, m: Module, tags: _Tags, flush: _Sweep) -> list[Value]:
        """Of each bank, whether the step of a flush that is looked up takes it; and where that step is."""
        core, output = self._core, self._output
        last_columns = -(-output.width // core.columns) * core.columns - core.columns
        y, x, row, last = (
            Signal.like(now, name=f"flushed_{name}", reset_less=True)
            for name, now in (("y", flush.y), ("x", flush.x), ("row", flush.row), ("last_columns", flush.last_columns))
        )
        m.d.sync += [
            y.eq(flush.y), x.eq(flush.x), row.eq(flush.row), last.eq(flush.last_columns), tags.issued.flush.eq(flush.now)
        ]  # fmt: skip
        with m.If(tags.issued.flush):
            m.d.sync += [tags.looked.y.eq(y), tags.looked.x.eq(x)]
        rows, columns = (
            Signal(banks, name=f"flushed_{name}", reset_less=True)
            for name, banks in (("rows", core.rows), ("columns", core.columns))
        )
        taken: list[Value] = [~last | (last_columns + n < output.width) for n in range(core.columns)]
        if flush.column is not None:
            column = Signal.like(flush.column, name="flushed_column", reset_less=True)
            m.d.sync += column.eq(flush.column)
            taken = [column == n for n in range(core.columns)]
        m.d.sync += [
            rows.eq(Cat(row == n for n in range(core.rows))),
            columns.eq(Cat(taken)),
        ]
        return [tags.looked.flush & rows[r] & columns[c] for r in range(core.rows) for c in range(core.columns)]

    def _initial_state(self, m: Module, block: Value) -> _Initial:
        """Initial state of the block in hand."""
        word, blocks = self._state, self._fan_out.blocks
        bias = self._words_at(0, 0)
        initial = Signal(word, reset_less=True)
        if blocks == 1:
            m.d.comb += initial.eq(Const(bias[0], word.size))
        else:
            m.submodules.bias = bias_memory = Memory(
                shape=unsigned(word.size), depth=blocks, init=bias, attrs=style(rom_kind(blocks))
            )
            bias_read = bias_memory.read_port()
            m.d.comb += bias_read.addr.eq(block)
            m.d.sync += initial.eq(bias_read.data)
        return self._with_counts(m, "count", initial, fixed=blocks == 1)

    def _initial_by_position(self, m: Module, index: int, tagged: data.View) -> _Initial:
        """Initial state of the position that bank ``index`` has in the step in hand."""
        words = self._initial_words(index)
        word = words.read(m, f"initial_{index}", self._state.size, y=tagged.y, x=tagged.x, block=tagged.block)
        return self._with_counts(m, f"count_{index}", self._state(word), fixed=len(words.words) == 1)

    def _with_counts(self, m: Module, name: str, initial: data.View, *, fixed: bool) -> _Initial:
        """Initial state, which may be ``fixed``, with its counts, which wait for its word."""
        counts: list[Value] = [initial[channel].count for channel in range(self._core.channels)]
        if not self._counts_stay:
            counts = []
        elif not self._initial[..., 1].any():
            counts = [Const(0, count.shape()) for count in counts]
        elif not fixed:
            late = [_delays(m, f"{name}_{lane}", count, 2)[-1] for lane, count in enumerate(counts)]
            counts = [after.as_signed() if before.shape().signed else after for before, after in zip(counts, late, strict=True)]
        return _Initial(initial, counts)

    def _initial_words(self, index: int) -> InitialWords:
        core = self._core
        return InitialWords.of(
            self._initial, self._words_at, bank=divmod(index, core.columns), banks=(core.rows, core.columns)
        )

    def _words_at(self, y: int, x: int) -> list[int]:
        """State of a position at the start of a frame, a word of each block; what pads the last block has 0."""
        core, blocks, word = self._core, self._fan_out.blocks, self._state
        padded = np.zeros((blocks * core.channels, 2), np.int64)
        padded[: self._layer.channels] = self._initial[y, x]
        updated = {} if self._deferred else {"updated": 0}
        return [
            word.const([{"summed": int(R), "count": int(Q), **updated} for R, Q in block]).as_value().value
            for block in padded.reshape(blocks, core.channels, 2)
        ]

    def _bank(
        self,
        m: Module,
        index: int,
        *,
        tags: _Tags,
        addresses: _Addresses,
        initial: _Initial,
        check: BackgroundCheck | None,
    ) -> tuple[StateBank, WeightMemory]:
        """A bank with its weights, and what they are asked for."""
        core, looked = self._core, tags.looked
        rows, columns = addresses.rows, addresses.columns
        row, column = divmod(index, core.columns)
        m.submodules[f"state_{index}"] = state = self._state_bank()
        m.submodules[f"weights_{index}"] = weights = self._weight_memory()
        position_weight, weight_sum = (
            Signal.like(weights.addr, name=f"{name}_{index}", reset_less=True) for name in ("position_weight", "weight_sum")
        )
        # The address goes where the memories are.
        asked = Mux(check.free, check.addr, weight_sum) if check else weight_sum
        weight_addr = _delays(m, f"weight_addr_{index}", asked, _WEIGHT_ADDR_CYCLES)[-1]
        captured = [state.initial.eq(initial.state)]
        if self._counts_stay:
            captured = [state.initial[channel].summed.eq(initial.state[channel].summed) for channel in range(core.channels)]
        m.d.comb += [
            state.generation.eq(addresses.generation),
            *captured,
            weights.addr.eq(weight_addr),
        ]
        takes_part = looked.step & rows.valid[row] & columns.valid[column]
        if self._deferred:
            takes_part = takes_part & ~looked.flush
        if self._flushes:
            takes_part = takes_part | addresses.flushed[index]
        m.d.sync += [
            state.access.en.eq(takes_part),
            state.access.clear.eq(addresses.clear),
            state.access.addr.eq(
                Mux(addresses.elsewhere, addresses.other_addr, rows.words[row] + columns.words[column] + looked.block)
            ),
            position_weight.eq(rows.weights[row] + columns.weights[column]),
            weight_sum.eq(position_weight + addresses.block_weight),
        ]
        return state, weights

    def _background_check(self, m: Module, looked: data.View) -> BackgroundCheck:
        """The check of all banks' weights at once, in cycles in which no bank needs a word: a flush needs none."""
        banks = self._core.rows * self._core.columns
        width = self._core.channels * self._layer.weight_bits
        words = packed_words(_weight_words(self._layer, self._core, self._fan_out), self._layer.weight_bits)
        m.submodules.weight_check = check = BackgroundCheck(
            words=[sum(word << width * bank for bank in range(banks)) for word in words],
            width=width * banks,
            latency=_WEIGHT_ADDR_CYCLES + READ_CYCLES,
        )
        unused = ~looked.step | looked.flush if self._deferred else ~looked.step
        m.d.comb += [
            # In which the sums that are the addresses are in their registers.
            check.free.eq(_delays(m, "weights_unused", unused, 2)[-1]),
            self.weights_passed.eq(check.passed),
            self.weights_differ.eq(check.differs),
        ]
        return check

    def _drives(self, index: int) -> data.View:
        """What drives the lanes of a bank: a register each."""
        layout = data.ArrayLayout(signed(self._layer.weight_bits), self._core.channels)
        return Signal(layout, name=f"drives_{index}", reset_less=True)

    def _lanes(self, m: Module, index: int, state: StateBank, weights: WeightMemory, addresses: _Addresses) -> _Fired:
        """The lanes of a bank whose neurons fire at once."""
        core, layer, negative, reached = self._core, self._layer, addresses.negative, addresses.reached
        drives = self._drives(index)
        *_, almost_en, _, en = _delays(m, f"en_{index}", state.access.en, 7, reset_less=False)
        # The sign has a register in each bank, close to its lanes; where the bank rests, it does not matter.
        sign = Signal(name=f"sign_{index}", reset_less=True)
        m.d.sync += sign.eq(negative[-1] & almost_en)
        # What an update leaves says a cycle later whether it fired.
        after = Signal(self._word, name=f"after_{index}", reset_less=True)
        overflow = Signal(core.channels, name=f"overflow_{index}", reset_less=True)
        m.d.sync += after.eq(state.update)
        plus, minus, saturated = (
            Signal(core.channels, name=f"{name}_{index}", reset_less=True) for name in ("plus", "minus", "saturated")
        )
        bursts = layer.burst != 1
        more = [
            Signal(self._more_bits, name=f"more_{index}_{channel}", reset_less=True) for channel in range(core.channels) if bursts
        ]
        for channel in range(core.channels):
            m.submodules[f"lane_{index}_{channel}"] = lane = (BurstLane if bursts else Lane)(layer=layer)
            m.d.sync += drives[channel].eq(weights.word[channel] ^ negative[-1].replicate(layer.weight_bits))
            update, visits = lane.update.as_value(), en
            if reached:
                update = Mux(reached.updating[channel], update, state.word[channel].as_value())
                visits = en & reached.updated[channel]
            m.d.comb += [
                lane.state.eq(state.word[channel]),
                lane.drive.eq(drives[channel]),
                lane.negative.eq(sign),
                state.update[channel].eq(update),
            ]
            comparison = (BurstComparison if bursts else Comparison)(layer=layer)
            m.submodules[f"comparison_{index}_{channel}"] = comparison
            m.d.comb += comparison.state.eq(after[channel])
            if isinstance(comparison, BurstComparison):
                fired = spikes_of(comparison.change, self._more_bits)
                m.d.sync += more[channel].eq(fired.more & visits.replicate(self._more_bits))
            else:
                fired = Spikes(comparison.plus, comparison.minus, Const(0))
            m.d.sync += [
                overflow[channel].eq(lane.overflow),
                plus[channel].eq(fired.plus & visits),
                minus[channel].eq(fired.minus & visits),
                saturated[channel].eq((comparison.held | overflow[channel]) & visits),
            ]
        return _Fired(plus, minus, saturated, [*more])

    def _deferred_lanes(
        self, m: Module, index: int, bank: StateBank, weights: WeightMemory, addresses: _Addresses, counts: list[Value]
    ) -> _Read:
        """The lanes of a bank whose neurons fire deferred: they add, and show a flush what they have."""
        layer, negative = self._layer, addresses.negative[-1]
        drives, driving = self._drives(index), _driving(weights, negative, addresses.reached)
        visited = Signal(name=f"visited_{index}")
        m.d.sync += visited.eq(addresses.flushed[index])
        at_hand = _delays(m, f"en_{index}", visited, 6, reset_less=False)[-1]
        sign = Signal(name=f"sign_{index}", reset_less=True)
        m.d.sync += sign.eq(negative)
        states = Signal(self._state, name=f"states_{index}")
        for channel in range(self._core.channels):
            state, stored, update = states[channel], bank.word[channel], bank.update[channel]
            m.submodules[f"lane_{index}_{channel}"] = lane = DeferredLane(layer=layer)
            m.d.sync += drives[channel].eq(driving[channel])
            m.d.comb += [lane.state.eq(state), lane.drive.eq(drives[channel]), lane.negative.eq(sign)]
            if self._counts_stay:
                m.d.comb += [
                    state.summed.eq(stored.summed), state.count.eq(counts[channel]), update.summed.eq(lane.update.summed)
                ]
            else:
                m.submodules[f"flush_{index}_{channel}"] = flush = Flush(layer=layer, goes_on=True)
                m.d.comb += [
                    state.eq(stored), flush.state.eq(state), update.eq(Mux(at_hand, flush.update, lane.update))
                ]
        return _Read(states, at_hand)

    def _flush(self, m: Module, banks: list[_Read]) -> list[_Fired]:
        """The lanes of a flush, for each bank of the steps that it fires in."""
        fired, built = [], self._firing.rows * self._firing.columns
        for index in range(built):
            # Those of one column follow each other by rows.
            shared = banks[index::built]
            m.submodules[f"flush_{index}"] = lanes = FlushLanes(
                layer=self._layer, channels=self._core.channels, banks=len(shared), more_bits=self._more_bits
            )
            m.d.comb += [
                *(lanes.states[n].eq(bank.states) for n, bank in enumerate(shared)),
                lanes.flushed.eq(Cat(bank.flushed for bank in shared)),
            ]
            fired.append(_Fired(lanes.plus, lanes.minus, lanes.saturated, [lanes.more[n] for n in range(self._core.channels)]))
        return fired

    def _gather(self, m: Module, tags: _Tags, banks: list[_Fired]) -> tuple[data.View, Signal, Signal]:
        """What fired, of each chunk and then of any: a step's group, whether it is one, and whether a step has none."""
        core, fired = self._firing, tags.fired
        step_layout = self._step_layout
        chunks = [slice(start, start + core.group_channels) for start in range(0, core.channels, core.group_channels)]
        plus = [bank.plus[chunk] for bank in banks for chunk in chunks]
        minus = [bank.minus[chunk] for bank in banks for chunk in chunks]
        more = [Cat(bank.more[chunk]) for bank in banks for chunk in chunks if self._more_bits]
        group, pushed = Signal(step_layout, reset_less=True), Signal(step_layout, reset_less=True)
        pushes, blank = Signal(), Signal()
        # A step that fires nothing leaves for what it closes alone.
        fires, pushed_kind = group.fired.any(), group.kind
        leaves = fires | tags.masked.closes.any() if self._levels else fires
        if self._levels:
            pushed_kind = Mux(fires, Kind.SPIKE, Kind.END)
        phases = {
            name: lookup(m, f"{name}_lookup", [n % banks_a_side for n in range(size)], coordinate)
            for name, banks_a_side, size, coordinate in (
                ("y_phase", core.rows, self._output.height, fired.y),
                ("x_phase", core.columns, self._output.width, fired.x),
            )
        }
        ordered = turned(core, group.fired, group.y_phase, group.x_phase, to="positions")
        m.d.sync += [
            group.kind.eq(Mux(fired.end, Kind.END, Kind.SPIKE)),
            *(group[name].eq(Mux(fired.step, fired[name], 0)) for name in ("y", "x", "block")),
            *(group[name].eq(phase) for name, phase in phases.items()),
            *(group.plus[index].eq(mask) for index, mask in enumerate(plus)),
            *(group.minus[index].eq(mask) for index, mask in enumerate(minus)),
            *(group.more[index].eq(spikes) for index, spikes in enumerate(more)),
            *([group.flush.eq(fired.end & fired.goes_on)] if self._flushes else []),
            *([group.closes.eq(fired.closes)] if self._levels else []),
            *(group.fired[index].eq((plus[index] | minus[index]).any()) for index in range(len(plus))),
            pushed.as_value().eq(Cat({"fired": ordered, "kind": pushed_kind}.get(name, group[name]) for name, _ in step_layout)),
            pushes.eq(tags.masked.end | (tags.masked.step & leaves)),
            blank.eq(tags.masked.step & ~leaves),
        ]
        return pushed, pushes, blank

    def _show_state(self, m: Module, probe: StateProbe, states: list[data.View]) -> None:
        """The state that is asked for, out of the words that the banks read."""
        of_bank = Signal(self._state)
        m.d.sync += [
            of_bank.eq(Array(each.as_value() for each in states)[probe.bank]),
            self.state.eq(Array(of_bank[channel].as_value() for channel in range(self._core.channels))[probe.channel]),
        ]

    def _count_saturated(self, m: Module, fired: data.View, banks: list[_Fired]) -> None:
        """One pulse for an event in which something saturated, whatever number of steps it takes."""
        any_saturated, step, starts, seen = Signal(), Signal(), Signal(), Signal()
        m.d.sync += [
            any_saturated.eq(fired.step & Cat(bank.saturated for bank in banks).any()),
            step.eq(fired.step),
            starts.eq(fired.first),
        ]
        m.d.comb += self.saturated.eq(any_saturated & (starts | ~seen))
        with m.If(step):
            m.d.sync += seen.eq(any_saturated | (seen & ~starts))


def _look_up(m: Module, name: str, axis: Axis, coordinate: Value, step: Signal) -> _Axis:
    """Look up what one axis says of step ``step`` of an event at ``coordinate``."""
    slots = 1 << len(step)
    padded = [(*steps, *[(0, (None,) * axis.banks)] * (slots - len(steps))) for steps in axis.steps]
    entries = [entry for steps in padded for entry in steps]
    index = Cat(step, coordinate)

    def register(part: str, table: list[int]) -> Signal:
        entry = lookup(m, f"{name}_{part}_lookup", table, index)
        kept = Signal.like(entry, name=f"{name}_{part}", reset_less=True)
        m.d.sync += kept.eq(entry)
        return kept

    reaches = [[banks[bank] for _, banks in entries] for bank in range(axis.banks)]
    return _Axis(
        first=lookup(m, f"{name}_first", [first for first, _ in entries], index),
        valid=[register(f"valid_{n}", [int(r is not None) for r in bank]) for n, bank in enumerate(reaches)],
        words=[register(f"word_{n}", [r.word if r else 0 for r in bank]) for n, bank in enumerate(reaches)],
        weights=[register(f"weight_{n}", [r.weight if r else 0 for r in bank]) for n, bank in enumerate(reaches)],
    )


def _delays(m: Module, name: str, value: Value, cycles: int, *, reset_less: bool = True) -> list[Signal]:
    """``value`` one cycle later, two cycles later, and so on."""
    stages = [Signal(len(value), name=f"{name}_{cycle + 1}", reset_less=reset_less) for cycle in range(cycles)]
    m.d.sync += [after.eq(before) for before, after in pairwise([value, *stages])]
    return stages


def _driving(weights: WeightMemory, negative: Value, reached: _Reached | None) -> list[Value]:
    """What drives each lane: its weight, or the complement of it; of 0 where the event does not reach it."""
    drives = []
    for channel, weight in enumerate(weights.word):
        visited = weight if reached is None else weight & reached.loading[channel].replicate(weights.weight_bits)
        drives.append(visited ^ negative.replicate(weights.weight_bits))
    return drives


def _initial_states(layer: Neurons, output: Shape, start: State | None) -> Ints:
    """Residual and count of each neuron at the start of a frame, ``(height, width, channels, 2)``."""
    if start is None:
        start = State(np.broadcast_to(layer.bias.astype(np.int64), output), np.zeros(output, np.int64))
    return np.stack([start.potential - start.count * layer.theta, start.count], axis=-1)


def _weight_words(layer: Neurons, core: CorePlan, fan_out: FanOut) -> npt.NDArray[np.int64]:
    """Weights by address: input, its channel (or neuron), tap, block; each word one weight per channel of the block."""
    by_input = np.concatenate([each.weights.reshape(layer.channels, -1) for each in layer.inputs], axis=1)
    padded = np.zeros((fan_out.blocks * core.channels, by_input.shape[1]), dtype=int)
    padded[: layer.channels] = by_input
    return padded.reshape(fan_out.blocks, core.channels, -1).transpose(2, 0, 1).reshape(-1, core.channels)
