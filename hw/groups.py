"""From steps to positions: the spikes of one position at a time, in canonical order."""

from functools import reduce
from operator import or_

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.aer import AddressEvent, Kind, SpikeGroup
from hw.geometry import lookup
from hw.projection import StepGroup
from model.network import Shape
from model.plan import CorePlan

__all__ = ["EventGrouper", "PositionSelector", "encoded"]


class PositionSelector(wiring.Component):
    """Takes the positions of a step apart.

    Operation
    ---------
    A step covers consecutive rows and columns, each position in the bank ``(y mod rows, x mod columns)``. The positions
    that fired leave one a cycle, in ascending ``(y, x)``.

    Timing
    ------
    A step with ``n`` firing positions takes ``n`` cycles, ``END`` takes one; 3 cycles from `steps` to `groups`: a step waits,
    is in hand, and leaves. The next position is found while the one before it leaves.

    Parameters
    ----------
    shape : shape of the layer that fires
    core : parallelism

    Members
    -------
    steps : In stream, `StepGroup`
    groups : Out stream, `SpikeGroup`
    """

    def __init__(self, *, shape: Shape, core: CorePlan) -> None:
        self._shape = shape
        self._core = core
        super().__init__(
            {
                "steps": In(stream.Signature(StepGroup(shape, core))),
                "groups": Out(stream.Signature(SpikeGroup(shape, core.channels))),
            }
        )

    @property
    def core(self) -> CorePlan:
        """Parallelism."""
        return self._core

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rows, columns = self._core.rows, self._core.columns
        offsets = [(dy, dx) for dy in range(rows) for dx in range(columns)]

        # The step that waits, and the one in hand: where its first position's bank is, and which positions fired.
        layout = StepGroup(self._shape, self._core)
        waiting, step = Signal(layout), Signal(layout)
        waits, held, take = Signal(), Signal(), Signal()
        waiting_y_phase, y_phase = Signal(range(rows)), Signal(range(rows))
        waiting_x_phase, x_phase = Signal(range(columns)), Signal(range(columns))
        next_y_phase = lookup(m, "next_y_phase", [y % rows for y in range(self._shape.height)], self.steps.payload.y)
        next_x_phase = lookup(m, "next_x_phase", [x % columns for x in range(self._shape.width)], self.steps.payload.x)

        def turned(bits: Value, y: Value, x: Value, sign: int) -> Value:
            """Bits of banks in the order of positions (sign 1), or of positions in the order of banks (sign -1)."""
            by_column = [
                [Array(bits[r * columns + (c + sign * n) % columns] for n in range(columns))[x] for c in range(columns)]
                for r in range(rows)
            ]
            return Cat(
                Array(by_column[(r + sign * n) % rows][c] for n in range(rows))[y]
                for r in range(rows)
                for c in range(columns)
            )

        m.d.comb += self.steps.ready.eq(~waits | take)
        with m.If(self.steps.ready):
            m.d.sync += [
                waits.eq(self.steps.valid),
                waiting.eq(self.steps.payload),
                waiting.fired.eq(turned(self.steps.payload.fired, next_y_phase, next_x_phase, 1)),
                waiting_y_phase.eq(next_y_phase),
                waiting_x_phase.eq(next_x_phase),
            ]

        # The position that leaves, and those still to go.
        selected, rest, moves = Signal(rows * columns), Signal(rows * columns), Signal()
        m.d.comb += [
            moves.eq(~self.groups.valid | self.groups.ready),
            take.eq(~held | (moves & (rest == 0))),
        ]
        with m.If(take):
            m.d.sync += [
                held.eq(waits),
                step.eq(waiting),
                y_phase.eq(waiting_y_phase),
                x_phase.eq(waiting_x_phase),
                selected.eq(waiting.fired & -waiting.fired),
                rest.eq(waiting.fired & (waiting.fired - 1)),
            ]
        with m.Elif(moves):
            m.d.sync += [selected.eq(rest & -rest), rest.eq(rest & (rest - 1))]

        # The group in hand.
        group = self.groups.payload
        bank = turned(selected, y_phase, x_phase, -1)
        with m.If(moves):
            m.d.sync += [
                self.groups.valid.eq(held),
                group.kind.eq(step.kind),
                group.y.eq(step.y + encoded(selected, [dy for dy, _ in offsets])),
                group.x.eq(step.x + encoded(selected, [dx for _, dx in offsets])),
                group.block.eq(step.block),
                group.plus.eq(_chosen(bank, step.plus)),
                group.minus.eq(_chosen(bank, step.minus)),
            ]
        return m


class EventGrouper(wiring.Component):
    """Each event as a spike group of its own, for a layer that takes groups but has no core before it.

    Timing
    ------
    Combinational.

    Parameters
    ----------
    shape : shape of the layer that fires

    Members
    -------
    events : In stream, `AddressEvent`
    groups : Out stream, `SpikeGroup` of all channels
    """

    def __init__(self, *, shape: Shape) -> None:
        self._shape = shape
        super().__init__(
            {
                "events": In(stream.Signature(AddressEvent(shape))),
                "groups": Out(stream.Signature(SpikeGroup(shape, shape.channels))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        event, group = self.events.payload, self.groups.payload
        channel = Signal(self._shape.channels)
        m.d.comb += [
            self.groups.valid.eq(self.events.valid),
            self.events.ready.eq(self.groups.ready),
            group.kind.eq(event.kind),
            group.y.eq(event.y),
            group.x.eq(event.x),
        ]
        with m.If(event.kind == Kind.SPIKE):
            m.d.comb += [
                channel.eq(1 << event.c),
                group.plus.eq(channel & ~event.negative.replicate(len(channel))),
                group.minus.eq(channel & event.negative.replicate(len(channel))),
            ]
        return m


def _chosen(one_hot: Value, words: data.View) -> Value:
    """The word at the place of the one bit that is set; 0 where none is."""
    return reduce(or_, (words[n] & one_hot[n].replicate(len(words[n])) for n in range(len(one_hot))))


def encoded(one_hot: Value, numbers: list[int]) -> Value:
    """The number at the place of the one bit that is set; 0 where none is."""
    return reduce(or_, (Mux(bit, number, 0) for bit, number in zip(one_hot, numbers, strict=True)))
