"""From spike groups to address events: one event per cycle."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.aer import AddressEvent, Kind, SpikeGroup
from hw.parts.tables import lookup
from hw.pipeline.groups import chosen, encoded, next_of
from model.machine.plan import CorePlan
from model.network import Shape

__all__ = ["Serializer"]


class Serializer(wiring.Component):
    """Sends the spikes of a group one after the other, in ascending channel, those of a channel together.

    What a group closes closes behind the last of them.

    Timing
    ------
    A group with ``n`` spikes takes ``n`` cycles, ``END`` takes one; the next group follows without a gap. 1 cycle from
    `groups` to `events`.

    Parameters
    ----------
    shape : Shape
        Shape of the layer that fires.
    core : CorePlan
        Channels of a group.
    more_bits, flushes, levels : int, bool, int
        As of `SpikeGroup`.

    Members
    -------
    groups : In, stream of SpikeGroup
    events : Out, stream of AddressEvent
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
                "groups": In(stream.Signature(SpikeGroup(shape, core, more_bits, flushes=flushes, levels=levels))),
                "events": Out(stream.Signature(AddressEvent(shape, levels))),
            }
        )

    @property
    def core(self) -> CorePlan:
        """Gives the channels of a group."""
        return self._core

    def elaborate(self, platform: object) -> Module:
        m = Module()
        layout = self.groups.payload.shape()
        group, channels = Signal(layout, reset_less=True), layout.channels
        # The channel that leaves, those still to go, and whether there are any: found while the one before leaves.
        selected, rest = (Signal(channels, name=name, reset_less=True) for name in ("selected", "rest"))
        more = Signal(reset_less=True)
        # Spikes of that channel that are still to go after the one in hand.
        left = Signal(self._more_bits, reset_less=True)
        last, turns = ~more, self.events.ready
        if self._more_bits:
            last, turns = last & ~left.any(), turns & ~left.any()
        held, take = Signal(), Signal()
        fires = Signal(channels)
        event = self.events.payload
        first = lookup(m, "first", layout.firsts, self.groups.payload.part)
        base = Signal.like(first, reset_less=True)
        m.d.comb += [
            fires.eq(self.groups.payload.plus | self.groups.payload.minus),
            take.eq(~held | (last & self.events.ready)),
            self.groups.ready.eq(take),
            self.events.valid.eq(held),
            event.kind.eq(group.kind),
        ]
        with m.If(group.kind == Kind.SPIKE):
            m.d.comb += [
                event.y.eq(group.y),
                event.x.eq(group.x),
                event.c.eq(base + encoded(selected, list(range(channels)))),
                event.negative.eq((selected & group.minus).any()),
            ]
        if self._flushes:
            with m.Else():
                m.d.comb += event.negative.eq(group.flush)
        if self._levels:
            m.d.comb += event.closes.eq(Mux(last, group.closes, 0))
        with m.If(take):
            m.d.sync += [held.eq(self.groups.valid), group.eq(self.groups.payload), base.eq(first)]
            m.d.sync += next_of(fires, selected, rest, more)
        with m.Elif(turns):
            m.d.sync += next_of(rest, selected, rest, more)
        if self._more_bits:
            with m.If(take):
                m.d.sync += left.eq(chosen((fires & -fires)[:channels], self.groups.payload.more))
            with m.Elif(self.events.ready):
                m.d.sync += left.eq(Mux(left.any(), left - 1, chosen((rest & -rest)[:channels], group.more)))
        return m
