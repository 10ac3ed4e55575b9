"""From steps to groups: the spikes of some channels of one position at a time, in canonical order."""

from bisect import bisect_right
from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.aer import AddressEvent, Kind, SpikeGroup
from hw.parts.tables import lookup, times
from hw.pipeline.step_group import StepGroup, turned
from model.machine.plan import CorePlan
from model.network import Shape

__all__ = ["EventGrouper", "GroupSelector", "chosen", "encoded", "next_of"]


class GroupSelector(wiring.Component):
    """Takes a step apart into groups.

    Operation
    ---------
    A step covers consecutive rows and columns, each position in the bank ``(y mod rows, x mod columns)``, and its channels are
    chunks of one group each. The groups that fired leave one per cycle, in ascending ``(y, x, c)``. What the step closes closes
    behind the last of them.

    Timing
    ------
    A step with ``n`` groups takes ``n`` cycles, ``END`` takes one; 4 cycles from `steps` to `groups`: a step waits with its
    groups in order, the next one of them is found, its bank is, and it leaves.

    Parameters
    ----------
    shape : Shape
        Shape of the layer that fires.
    core : CorePlan
        Its parallelism.
    more_bits, flushes, levels : int, bool, int
        As of `SpikeGroup`.

    Members
    -------
    steps : In, stream of StepGroup
    groups : Out, stream of SpikeGroup
    """

    def __init__(
        self, *, shape: Shape, core: CorePlan, more_bits: int = 0, flushes: bool = False, levels: int = 0
    ) -> None:
        self._shape = shape
        self._core = core
        self._more_bits = more_bits
        self._flushes = flushes
        self._levels = levels
        super().__init__(
            {
                "steps": In(stream.Signature(StepGroup(shape, core, more_bits, flushes=flushes, levels=levels))),
                "groups": Out(stream.Signature(SpikeGroup(shape, core, more_bits, flushes=flushes, levels=levels))),
            }
        )

    @property
    def core(self) -> CorePlan:
        """Parallelism."""
        return self._core

    def elaborate(self, platform: object) -> Module:
        m = Module()
        core = self._core
        rows, columns, chunks = core.rows, core.columns, core.chunks
        layout = self.steps.payload.shape()
        steps, group = self.steps.payload, self.groups.payload
        # Of each group of a step, in order, where it is.
        places = [(dy, dx, chunk) for dy in range(rows) for dx in range(columns) for chunk in range(chunks)]

        # A step that waits.
        waiting, waits, take = Signal(layout, reset_less=True), Signal(), Signal()
        m.d.comb += self.steps.ready.eq(~waits | take)
        with m.If(self.steps.ready):
            m.d.sync += [waits.eq(self.steps.valid), waiting.eq(steps)]

        # The step in hand: the group that is next, those still to go, and whether there are any.
        step, held = Signal(layout, reset_less=True), Signal()
        selected, rest = (Signal(len(places), name=name, reset_less=True) for name in ("selected", "rest"))
        more = Signal(reset_less=True)
        turns, turns_on, moves = Signal(), Signal(), Signal()
        m.d.comb += [
            moves.eq(~self.groups.valid | self.groups.ready),
            turns_on.eq(~turns | moves),
            take.eq(~held | (turns_on & ~more)),
        ]
        with m.If(take):
            m.d.sync += [held.eq(waits), step.eq(waiting)]
            m.d.sync += next_of(waiting.fired, selected, rest, more)
        with m.Elif(turns_on):
            m.d.sync += next_of(rest, selected, rest, more)

        # The group that was selected, by its bank.
        turning, bank = Signal(layout, reset_less=True), Signal(len(places), reset_less=True)
        placed = ("kind", "y", "x", "part", *(("flush",) if self._flushes else ()), *(("closes",) if self._levels else ()))
        place_layout = data.StructLayout({name: group.shape()[name].shape for name in placed})
        place = Signal(place_layout, reset_less=True)
        with m.If(turns_on):
            m.d.sync += [
                turns.eq(held),
                turning.eq(step),
                bank.eq(turned(core, selected, step.y_phase, step.x_phase, to="banks")),
                place.kind.eq(step.kind),
                place.y.eq(step.y + encoded(selected, [dy for dy, _, _ in places])),
                place.x.eq(step.x + encoded(selected, [dx for _, dx, _ in places])),
                place.part.eq(times(step.block, chunks) + encoded(selected, [chunk for _, _, chunk in places])),
                *([place.flush.eq(step.flush)] if self._flushes else []),
                *([place.closes.eq(Mux(more, 0, step.closes))] if self._levels else []),
            ]

        # The group that leaves.
        with m.If(moves):
            m.d.sync += [
                self.groups.valid.eq(turns),
                *(group[name].eq(place[name]) for name in placed),
                group.plus.eq(chosen(bank, turning.plus)),
                group.minus.eq(chosen(bank, turning.minus)),
                *([group.more.as_value().eq(chosen(bank, turning.more))] if self._more_bits else []),
            ]
        return m


class EventGrouper(wiring.Component):
    """Each event as a spike group of its own, for a layer that takes groups but has no core before it.

    Timing
    ------
    Combinational.

    Parameters
    ----------
    shape : Shape
        Shape of the layer that fires.
    core : CorePlan
        Channels of a group.
    more_bits, flushes, levels : int, bool, int
        As of `SpikeGroup`; an event is one spike.

    Members
    -------
    events : In, stream of AddressEvent
    groups : Out, stream of SpikeGroup
    """

    def __init__(
        self, *, shape: Shape, core: CorePlan, more_bits: int = 0, flushes: bool = False, levels: int = 0
    ) -> None:
        self._shape = shape
        self._core = core
        self._flushes = flushes
        self._levels = levels
        super().__init__(
            {
                "events": In(stream.Signature(AddressEvent(shape, levels))),
                "groups": Out(stream.Signature(SpikeGroup(shape, core, more_bits, flushes=flushes, levels=levels))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        event, group = self.events.payload, self.groups.payload
        layout = group.shape()
        part_of = [bisect_right(layout.firsts, c) - 1 for c in range(self._shape.channels)]
        part = lookup(m, "part", part_of, event.c)
        channel = lookup(m, "channel", [1 << c - layout.firsts[part] for c, part in enumerate(part_of)], event.c)
        m.d.comb += [
            self.groups.valid.eq(self.events.valid),
            self.events.ready.eq(self.groups.ready),
            group.kind.eq(event.kind),
            group.y.eq(event.y),
            group.x.eq(event.x),
        ]
        if self._flushes:
            m.d.comb += group.flush.eq((event.kind == Kind.END) & event.negative)
        if self._levels:
            m.d.comb += group.closes.eq(event.closes)
        with m.If(event.kind == Kind.SPIKE):
            m.d.comb += [
                group.part.eq(part),
                group.plus.eq(channel & ~event.negative.replicate(len(channel))),
                group.minus.eq(channel & event.negative.replicate(len(channel))),
            ]
        return m


def chosen(one_hot: Value, words: data.View) -> Value:
    """The word at the place of the one bit that is set; 0 where none is."""
    return reduce(or_, (words[n] & one_hot[n].replicate(len(words[n])) for n in range(len(one_hot))))


def encoded(one_hot: Value, numbers: list[int]) -> Value:
    """The number at the place of the one bit that is set; 0 where none is."""
    return reduce(or_, (Mux(bit, number, 0) for bit, number in zip(one_hot, numbers, strict=True)))


def next_of(pending: Value, selected: Signal, rest: Signal, more: Signal) -> list[Any]:
    """Assignments: the lowest bit of ``pending``, the bits above it, and whether there are any."""
    left = pending & (pending - 1)
    return [selected.eq(pending & -pending), rest.eq(left), more.eq(left.any())]
