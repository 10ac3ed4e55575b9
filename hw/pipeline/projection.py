"""The projection core: events of one layer in, spike groups of the next one out."""

from itertools import pairwise

import numpy as np
from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from hw.aer import AddressEvent, Kind
from hw.neuron import Comparison, Lane, NeuronState
from hw.parts.memory import rom_kind, style
from hw.parts.tables import lookup, times
from hw.pipeline.fan_out import Axis, FanOut
from hw.pipeline.state import FrameReset, StateBank
from hw.pipeline.state_probe import StateProbe
from hw.pipeline.weights import WeightMemory
from model.machine.limits import STEP_CYCLES
from model.machine.plan import CorePlan
from model.network import Neurons, Shape

__all__ = ["ProjectionCore", "StepGroup", "turned"]


class StepGroup(data.StructLayout):
    """All spikes of one step: of each bank, one block of channels at one position, in chunks of as many as a group has.

    Members
    -------
    kind : `Kind`; the other members are 0 where it is ``END``
    y, x : first position of the step
    block : index of the block of channels
    y_phase, x_phase : bank of that position, ``y mod rows`` and ``x mod columns``
    fired : one bit a chunk, position after position in ascending ``(y, x)``: whether it has spikes
    plus, minus : of each chunk, bank after bank, one bit a channel
    """

    def __init__(self, shape: Shape, core: CorePlan) -> None:
        chunks = core.rows * core.columns * core.chunks
        super().__init__(
            {
                "kind": Kind,
                "y": unsigned(bits_for(shape.height - 1)),
                "x": unsigned(bits_for(shape.width - 1)),
                "block": unsigned(bits_for(-(-shape.channels // core.channels) - 1)),
                "y_phase": unsigned(bits_for(core.rows - 1)),
                "x_phase": unsigned(bits_for(core.columns - 1)),
                "fired": unsigned(chunks),
                "plus": data.ArrayLayout(unsigned(core.group_channels), chunks),
                "minus": data.ArrayLayout(unsigned(core.group_channels), chunks),
            }
        )


def turned(core: CorePlan, bits: Value, y_phase: Value, x_phase: Value, *, to: str) -> Value:
    """One bit a chunk of each bank, in the order of positions (``to="positions"``), or back in that of ``"banks"``."""
    sign = {"positions": 1, "banks": -1}[to]
    rows, columns, chunks = core.rows, core.columns, core.chunks
    places = [(row, column, chunk) for row in range(rows) for column in range(columns) for chunk in range(chunks)]

    def bit(row: int, column: int, chunk: int) -> Value:
        return bits[(row % rows * columns + column % columns) * chunks + chunk]

    by_column = {(r, c, k): Array(bit(r, c + sign * n, k) for n in range(columns))[x_phase] for r, c, k in places}
    return Cat(Array(by_column[(r + sign * n) % rows, c, k] for n in range(rows))[y_phase] for r, c, k in places)


class ProjectionCore(wiring.Component):
    """Convolution or linear layer: fan-out walker, banks of neuron state, lanes.

    Operation
    ---------
    The walker takes one event and visits its fan-out in steps, in ascending ``(y, x, c)``: rows outermost, then
    columns, then blocks of channels. A step updates ``rows * columns * channels`` neurons at once, each position from
    a bank of its own (`StateBank`). What fires in a step leaves as one `StepGroup`; a step without spikes leaves
    nothing. An ``END`` follows the last spike of its frame and starts the next generation of state.

    Timing
    ------
    ============================  =========================================================
    event                         cycles
    ============================  =========================================================
    with ``n`` steps              ``n``; windows are clipped, blank steps are not taken
    without fan-out               1
    ``END``                       1; and a sweep of the deepest bank once in many frames
    ============================  =========================================================

    From an event taken to its first group at `groups`: 15 cycles. A step is issued only while the FIFO behind the lanes
    has room for all that is in flight; the pipeline itself never stalls.

    Parameters
    ----------
    layer, source : the layer and the shape of its source
    core : parallelism and FIFO depth
    states : whether states can be read from outside

    Members
    -------
    events : In stream, `AddressEvent` of the source
    groups : Out stream, `StepGroup`
    saturated : Out, pulses once for each input event in which something saturated
    busy : Out, 1 where an event or its spikes are in the core, or a sweep goes on; where ``states``
    ask, place : In, 1 to read the state of the neuron at ``place``, `AddressEvent`, while the core is not busy; where ``states``
    state : Out, `NeuronState` of the layer, `hw.pipeline.state_probe.QUIET_CYCLES` after both; where ``states``
    """

    def __init__(self, *, layer: Neurons, source: Shape, core: CorePlan, states: bool = False) -> None:
        self._layer = layer
        self._source = source
        self._core = core
        self._output = layer.output_shape(source)
        self._fan_out = FanOut.of(layer, source, core)
        self._states = states
        members: dict[str, In | Out] = {
            "events": In(stream.Signature(AddressEvent(source))),
            "groups": Out(stream.Signature(StepGroup(self._output, core))),
            "saturated": Out(1),
        }
        if states:
            members |= {
                "busy": Out(1), "ask": In(1), "place": In(AddressEvent(self._output)), "state": Out(NeuronState(layer))
            }
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
    def fan_out(self) -> FanOut:
        """Its tables."""
        return self._fan_out

    def elaborate(self, platform: object) -> Module:
        m = Module()
        core, fan_out, layer = self._core, self._fan_out, self._layer
        banks = core.rows * core.columns
        step_layout = StepGroup(self._output, core)

        m.submodules.reset = reset = FrameReset(depth=fan_out.depth, generation_bits=core.generation_bits)
        m.submodules.fifo = fifo = SyncFIFO(width=step_layout.size, depth=core.group_fifo)

        # Walker: the event in hand, and the step it is at.
        event = Signal(AddressEvent(self._source))
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
        last_block, last_column, last_row = Signal(), Signal(), Signal()
        is_end, reaches, issue, done = Signal(), Signal(), Signal(), Signal()
        # One less than there are: below 0, there are none.
        credits = Signal(range(-1, core.group_fifo), init=core.group_fifo - 1)
        m.d.comb += [
            is_end.eq(event.kind == Kind.END),
            last_block.eq(block == fan_out.blocks - 1),
            last_column.eq(column_step == final_column),
            last_row.eq(row_step == final_row),
            issue.eq(held & ~reset.sweeping & (credits >= 0) & (is_end | reaches)),
            done.eq(
                (issue & (is_end | (last_block & last_column & last_row)))
                | (held & ~reset.sweeping & ~is_end & ~reaches)
            ),
            reset.next_frame.eq(issue & is_end),
            self.events.ready.eq(~held | done),
        ]
        with m.If(issue & ~is_end):
            m.d.sync += first.eq(0)
            m.d.sync += block.eq(Mux(last_block, 0, block + 1))
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
            ]

        # What a step carries with it down the pipeline, and the cycles it takes there.
        tag = data.StructLayout(
            {
                "step": 1,
                "end": 1,
                "first": 1,
                "y": step_layout["y"].shape,
                "x": step_layout["x"].shape,
                "block": step_layout["block"].shape,
            }
        )
        tags = {name: Signal(tag, name=name) for name in STEP_CYCLES}
        issued, looked, comparing, fired, masked = (
            tags[name] for name in ("issued", "looked", "comparing", "fired", "masked")
        )
        m.d.sync += [after.eq(before) for before, after in pairwise(tags.values())]
        walked, walked_row, walked_column = (
            Signal.like(of, name=f"walked_{name}", reset_less=True)
            for name, of in (("event", event), ("row", row_step), ("column", column_step))
        )
        m.d.sync += [
            walked.eq(event),
            walked_row.eq(row_step),
            walked_column.eq(column_step),
            issued.step.eq(issue & ~is_end),
            issued.end.eq(issue & is_end),
            issued.first.eq(first),
            issued.block.eq(block),
        ]
        rows = _AxisLookup(m, "row", fan_out.rows, walked.y, walked_row)
        columns = _AxisLookup(m, "column", fan_out.columns, walked.x, walked_column)
        channel_weight, block_weight = (
            Signal(range(fan_out.weight_depth), name=name, reset_less=True) for name in ("channel_weight", "block_weight")
        )
        m.d.sync += [
            looked.y.eq(rows.first),
            looked.x.eq(columns.first),
            channel_weight.eq(times(walked.c, fan_out.channel_weight)),
            block_weight.eq(channel_weight + looked.block),
        ]
        negative = _delays(m, "negative", walked.negative, 7)
        clear = _delays(m, "clear", reset.sweeping, 2, reset_less=False)[-1]
        # An address that is not the walker's: that of the sweep, or of a state that is read from outside.
        elsewhere, other_addr = clear, reset.addr
        if self._states:
            m.submodules.probe = probe = StateProbe(shape=self._output, core=core)
            m.d.comb += [getattr(probe, name).eq(self.place[name]) for name in ("y", "x", "c")]
            other_addr = Mux(reset.sweeping, reset.addr, probe.addr)
            elsewhere = _delays(m, "elsewhere", reset.sweeping | self.ask, 2, reset_less=False)[-1]
            with m.If(self.ask):
                m.d.sync += issued.block.eq(probe.block)
        clear_addr = _delays(m, "clear_addr", other_addr, 2)[-1]
        generation = _delays(m, "generation", reset.generation, 3)[-1]

        # Initial state of the block in hand, a cycle before its words are captured.
        word = data.ArrayLayout(NeuronState(layer), core.channels)
        bias = _bias_words(layer, core, fan_out.blocks, word)
        initial = Signal(word, reset_less=True)
        if fan_out.blocks == 1:
            m.d.comb += initial.eq(Const(bias[0], word.size))
        else:
            m.submodules.bias = bias_memory = Memory(
                shape=unsigned(word.size), depth=fan_out.blocks, init=bias, attrs=style(rom_kind(fan_out.blocks))
            )
            bias_read = bias_memory.read_port()
            m.d.comb += bias_read.addr.eq(comparing.block)
            m.d.sync += initial.eq(bias_read.data)

        # Banks, each with its weights and lanes.
        weight_words = _weight_words(layer, core, fan_out)
        plus: list[Value] = []
        minus: list[Value] = []
        saturated: list[Signal] = []
        held_words: list[data.View] = []
        for index in range(banks):
            row, column = divmod(index, core.columns)
            m.submodules[f"state_{index}"] = state = StateBank(
                word=word,
                depth=fan_out.depth,
                generation_bits=core.generation_bits,
                memory=core.state_memory,
                reuse=fan_out.blocks,
            )
            m.submodules[f"weights_{index}"] = weights = WeightMemory(
                words=weight_words, weight_bits=layer.weight_bits
            )
            position_weight, weight_sum = (
                Signal.like(weights.addr, name=f"{name}_{index}", reset_less=True)
                for name in ("position_weight", "weight_sum")
            )
            # The address goes where the memories are.
            weight_addr = _delays(m, f"weight_addr_{index}", weight_sum, 2)[-1]
            drives_layout = data.ArrayLayout(signed(layer.weight_bits), core.channels)
            drives = Signal(drives_layout, name=f"drives_{index}", reset_less=True)
            m.d.comb += [
                state.generation.eq(generation),
                state.initial.eq(initial),
                weights.addr.eq(weight_addr),
            ]
            m.d.sync += [
                state.access.en.eq(looked.step & rows.valid[row] & columns.valid[column]),
                state.access.clear.eq(clear),
                state.access.addr.eq(
                    Mux(elsewhere, clear_addr, rows.words[row] + columns.words[column] + looked.block)
                ),
                position_weight.eq(rows.weights[row] + columns.weights[column]),
                weight_sum.eq(position_weight + block_weight),
            ]
            *_, almost_en, _, en = _delays(m, f"en_{index}", state.access.en, 7, reset_less=False)
            # The sign has a register in each bank, close to its lanes; where the bank rests, it does not matter.
            sign = Signal(name=f"sign_{index}", reset_less=True)
            m.d.sync += sign.eq(negative[-1] & almost_en)
            # What an update leaves says a cycle later whether it fired.
            after = Signal(word, name=f"after_{index}", reset_less=True)
            overflow = Signal(core.channels, name=f"overflow_{index}", reset_less=True)
            m.d.sync += after.eq(state.update)
            fires = [
                Signal(core.channels, name=f"{name}_{index}", reset_less=True) for name in ("plus", "minus", "saturated")
            ]
            for channel in range(core.channels):
                m.submodules[f"lane_{index}_{channel}"] = lane = Lane(layer=layer)
                m.d.sync += drives[channel].eq(weights.word[channel] ^ negative[-1].replicate(layer.weight_bits))
                m.d.comb += [
                    lane.state.eq(state.word[channel]),
                    lane.drive.eq(drives[channel]),
                    lane.negative.eq(sign),
                    state.update[channel].eq(lane.update),
                ]
                m.submodules[f"comparison_{index}_{channel}"] = comparison = Comparison(layer=layer)
                m.d.comb += comparison.state.eq(after[channel])
                m.d.sync += overflow[channel].eq(lane.overflow)
                held_at_end = comparison.held | overflow[channel]
                for found, fire in zip((comparison.plus, comparison.minus, held_at_end), fires, strict=True):
                    m.d.sync += fire[channel].eq(found & en)
            for start in range(0, core.channels, core.group_channels):
                chunk = slice(start, start + core.group_channels)
                plus.append(fires[0][chunk])
                minus.append(fires[1][chunk])
            saturated.append(fires[2])
            held_words.append(state.word)

        # What fired, of each chunk and then of any.
        group, pushed = Signal(step_layout, reset_less=True), Signal(step_layout, reset_less=True)
        pushes, blank = Signal(), Signal()
        phases = {
            name: lookup(m, f"{name}_lookup", [n % banks for n in range(size)], coordinate)
            for name, banks, size, coordinate in (
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
            *(group.fired[index].eq((plus[index] | minus[index]).any()) for index in range(len(plus))),
            pushed.as_value().eq(Cat(ordered if name == "fired" else group[name] for name, _ in step_layout)),
            pushes.eq(masked.end | (masked.step & group.fired.any())),
            blank.eq(masked.step & ~group.fired.any()),
        ]
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
            credits.eq(credits + returned - issue),
        ]

        if self._states:
            m.d.comb += self.busy.eq(held | (credits != core.group_fifo - 1) | reset.sweeping | self.groups.valid)
            of_bank = Signal(word)
            m.d.sync += [
                of_bank.eq(Array(held.as_value() for held in held_words)[probe.bank]),
                self.state.eq(Array(of_bank[channel].as_value() for channel in range(core.channels))[probe.channel]),
            ]

        # One pulse for an event in which something saturated, whatever number of steps it takes.
        any_saturated, step, starts, seen = Signal(), Signal(), Signal(), Signal()
        m.d.sync += [
            any_saturated.eq(fired.step & Cat(saturated).any()),
            step.eq(fired.step),
            starts.eq(fired.first),
        ]
        m.d.comb += self.saturated.eq(any_saturated & (starts | ~seen))
        with m.If(step):
            m.d.sync += seen.eq(any_saturated | (seen & ~starts))
        return m


class _AxisLookup:
    """Table outputs of one axis: the step's first coordinate, and a cycle later, of each bank, whether it takes part
    and its shares of the addresses."""

    def __init__(self, m: Module, name: str, axis: Axis, coordinate: Value, step: Signal) -> None:
        slots = 1 << len(step)
        padded = [(*steps, *[(0, (None,) * axis.banks)] * (slots - len(steps))) for steps in axis.steps]
        entries = [entry for steps in padded for entry in steps]
        index = Cat(step, coordinate)

        def register(part: str, table: list[int]) -> Signal:
            found = lookup(m, f"{name}_{part}_lookup", table, index)
            kept = Signal.like(found, name=f"{name}_{part}", reset_less=True)
            m.d.sync += kept.eq(found)
            return kept

        reaches = [[banks[bank] for _, banks in entries] for bank in range(axis.banks)]
        self.first = lookup(m, f"{name}_first", [first for first, _ in entries], index)
        self.valid = [register(f"valid_{n}", [int(r is not None) for r in bank]) for n, bank in enumerate(reaches)]
        self.words = [register(f"word_{n}", [r.word if r else 0 for r in bank]) for n, bank in enumerate(reaches)]
        self.weights = [register(f"weight_{n}", [r.weight if r else 0 for r in bank]) for n, bank in enumerate(reaches)]


def _delays(m: Module, name: str, value: Value, cycles: int, *, reset_less: bool = True) -> list[Signal]:
    """``value`` one cycle later, two cycles later, and so on."""
    stages = [Signal(len(value), name=f"{name}_{cycle + 1}", reset_less=reset_less) for cycle in range(cycles)]
    m.d.sync += [after.eq(before) for before, after in pairwise([value, *stages])]
    return stages


def _bias_words(layer: Neurons, core: CorePlan, blocks: int, word: data.Layout) -> list[int]:
    """State after reset, of each block: ``R = bias``, ``Q = 0``, no update; what pads the last block has bias 0."""
    padded = np.zeros(blocks * core.channels, dtype=int)
    padded[: layer.channels] = layer.bias
    return [
        word.const([{"summed": int(bias), "count": 0, "updated": 0} for bias in block]).as_value().value
        for block in padded.reshape(blocks, core.channels)
    ]


def _weight_words(layer: Neurons, core: CorePlan, fan_out: FanOut) -> list[list[int]]:
    """Weights by address: input channel (or input), tap, block; each word one weight a channel of the block."""
    by_input = layer.weights.reshape(layer.channels, -1)
    padded = np.zeros((fan_out.blocks * core.channels, by_input.shape[1]), dtype=int)
    padded[: layer.channels] = by_input
    words = padded.reshape(fan_out.blocks, core.channels, -1).transpose(2, 0, 1).reshape(-1, core.channels)
    return words.tolist()
