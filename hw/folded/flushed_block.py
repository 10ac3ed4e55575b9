"""A block that fired in a flush: its spikes leave one after another, all those of a neuron before those of the next."""

from amaranth.hdl import Array, Cat, Module, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.folded.flush_sweep import FlushPlace
from hw.folded.layouts import Spike
from model.machine.folded_layout import Folded

__all__ = ["FlushedBlock"]


class FlushedBlock(wiring.Component):
    """The spikes of a block that have not left yet.

    Timing
    ------
    The spikes are there in the cycle after ``load``, and the next one in the cycle after ``take``.

    Parameters
    ----------
    folded : Folded
        the machine's layers

    Members
    -------
    layer : In, range(layers)
        number of the layer that fired
    place : In, FlushPlace
        where its spikes leave; like all that fired, it stays until the last of them has left
    load : In, 1 bit
        the block fires
    plus, minus : In, a bit per lane
        what fires
    more : In, array of unsigned
        of each lane how many spikes follow its first
    valid : Out, 1 bit
        whether a spike is left
    spike : Out, Spike
        the first of them
    take : In, 1 bit
        it leaves
    """

    def __init__(self, *, folded: Folded) -> None:
        self._folded = folded
        lanes = folded.lanes
        super().__init__(
            {
                "layer": In(range(max(2, len(folded.layers)))),
                "place": In(FlushPlace(folded)),
                "load": In(1),
                "plus": In(lanes),
                "minus": In(lanes),
                "more": In(data.ArrayLayout(unsigned(max(1, folded.more_bits)), lanes)),
                "valid": Out(1),
                "spike": Out(Spike(folded)),
                "take": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes = self._folded.lanes
        pending, first, sent = Signal(lanes), Signal(lanes), Signal(max(1, self._folded.more_bits))
        lane_number = Signal(range(max(2, lanes)))
        for lane in reversed(range(lanes)):
            with m.If(pending[lane]):
                m.d.comb += lane_number.eq(lane)
        with m.If(self.load):
            m.d.sync += pending.eq(self.plus | self.minus)
        with m.If(self.take):
            m.d.sync += sent.eq(sent + 1)
            with m.If(sent == Array(self.more)[lane_number]):
                m.d.sync += [pending.eq(pending & ~first), sent.eq(0)]
        m.d.comb += [
            first.eq(pending & -pending),
            self.valid.eq(pending.any()),
            self.spike.negative.eq((self.minus & first).any()),
            self.spike.y.eq(self.place.y),
            self.spike.x.eq(self.place.x),
        ]
        for number, la in enumerate(self._folded.layers):
            with m.If(self.layer == number):
                m.d.comb += self.spike.c.eq(Cat(lane_number[: la.lanes.bit_length() - 1], self.place.block))
        return m
