"""From spike groups to address events: one event a cycle."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.aer import AddressEvent, Kind, SpikeGroup
from hw.geometry import times
from hw.groups import encoded
from model.network import Shape

__all__ = ["Serializer"]


class Serializer(wiring.Component):
    """Sends the spikes of a group one after the other, in ascending channel.

    Timing
    ------
    A group with ``n`` spikes takes ``n`` cycles, ``END`` takes one; the next group follows without a gap. 1 cycle from
    `groups` to `events`.

    Parameters
    ----------
    shape : shape of the layer that fires
    channels : channels of a block

    Members
    -------
    groups : In stream, `SpikeGroup`
    events : Out stream, `AddressEvent`
    """

    def __init__(self, *, shape: Shape, channels: int) -> None:
        self._shape = shape
        self._channels = channels
        super().__init__(
            {
                "groups": In(stream.Signature(SpikeGroup(shape, channels))),
                "events": Out(stream.Signature(AddressEvent(shape))),
            }
        )

    @property
    def channels(self) -> int:
        """Channels of a block."""
        return self._channels

    def elaborate(self, platform: object) -> Module:
        m = Module()
        group = Signal(SpikeGroup(self._shape, self._channels))
        # The channel that leaves, and those still to go: the next one is found while the one before it leaves.
        selected, rest, fires = Signal(self._channels), Signal(self._channels), Signal(self._channels)
        held, take = Signal(), Signal()
        event, is_end = self.events.payload, Signal()
        m.d.comb += [
            is_end.eq(group.kind == Kind.END),
            fires.eq(self.groups.payload.plus | self.groups.payload.minus),
            take.eq(~held | ((rest == 0) & self.events.ready)),
            self.groups.ready.eq(take),
            self.events.valid.eq(held),
            event.kind.eq(group.kind),
        ]
        with m.If(~is_end):
            m.d.comb += [
                event.y.eq(group.y),
                event.x.eq(group.x),
                event.c.eq(times(group.block, self._channels) + encoded(selected, list(range(self._channels)))),
                event.negative.eq((selected & group.minus).any()),
            ]
        with m.If(take):
            m.d.sync += [
                held.eq(self.groups.valid),
                group.eq(self.groups.payload),
                selected.eq(fires & -fires),
                rest.eq(fires & (fires - 1)),
            ]
        with m.Elif(self.events.ready):
            m.d.sync += [selected.eq(rest & -rest), rest.eq(rest & (rest - 1))]
        return m
