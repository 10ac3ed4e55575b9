"""A block that fired, where neurons fire several spikes at once: those that a max-pool holds back are left out."""

from amaranth.hdl import Array, Cat, Module, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.folded.lane import SettledState
from hw.folded.layouts import Spike, Step
from model.machine.folded_layout import Folded

__all__ = ["BurstBlock"]


class BurstBlock(wiring.Component):
    """The spikes of a block that have not left yet; all of a neuron leave before those of the next.

    Operation
    ---------
    Spikes move the maximum of a pool's window as far as the greater of their neuron's counts before and after is above each other
    count there: the others are dropped.

    Timing
    ------
    As of `hw.folded.fired_block.FiredBlock`.

    Parameters
    ----------
    folded : Folded
        the machine's layers

    Members
    -------
    layer, block, y, x, load, plus, minus, compare, counts, highest, valid, spike, last, take, left_plus, left_minus
        as of `hw.folded.fired_block.FiredBlock`
    more : In, array of unsigned
        of each lane how many spikes follow its first
    last_of_neuron : Out, 1 bit
        whether no spike of the same neuron follows
    left_more : Out, array of unsigned
        of each lane how many spikes that leave follow the first of them
    following : Out, unsigned
        that of the neuron whose spike is the first
    """

    def __init__(self, *, folded: Folded) -> None:
        self._folded = folded
        step, lanes = Step(folded), folded.lanes
        counts = data.ArrayLayout(SettledState(*(la.layer for la in folded.layers))["count"].shape, lanes)
        more = data.ArrayLayout(unsigned(folded.more_bits), lanes)
        super().__init__(
            {
                "layer": In(range(max(2, len(folded.layers)))),
                "block": In(step["block"].shape),
                "y": In(step["y"].shape),
                "x": In(step["x"].shape),
                "load": In(1),
                "plus": In(lanes),
                "minus": In(lanes),
                "more": In(more),
                "compare": In(1),
                "counts": In(counts),
                "highest": In(counts),
                "valid": Out(1),
                "spike": Out(Spike(folded)),
                "last": Out(1),
                "last_of_neuron": Out(1),
                "take": In(1),
                "left_plus": Out(lanes),
                "left_minus": Out(lanes),
                "left_more": Out(more),
                "following": Out(folded.more_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes = self._folded.lanes
        pending, negative, first = Signal(lanes), Signal(lanes), Signal(lanes)
        sent, lane_number = Signal(self._folded.more_bits), Signal(range(max(2, lanes)))
        with m.If(self.load):
            m.d.sync += [negative.eq(self.minus), pending.eq(self.plus | self.minus), self.left_more.eq(self.more)]
        with m.If(self.compare):
            for lane in range(lanes):
                # How many of them are beyond the other count.
                above = Signal(signed(len(self.counts[lane]) + 1), name=f"above_{lane}")
                m.d.comb += above.eq(self.highest[lane] - self.counts[lane])
                with m.If((above[-1]) | ~above.any()):
                    m.d.sync += pending[lane].eq(0)
                with m.Elif(above[:-1] <= self.left_more[lane]):
                    m.d.sync += self.left_more[lane].eq(above - 1)
        for lane in reversed(range(lanes)):
            with m.If(pending[lane]):
                m.d.comb += lane_number.eq(lane)
        with m.If(self.take):
            m.d.sync += sent.eq(sent + 1)
            with m.If(self.last_of_neuron):
                m.d.sync += [pending.eq(pending & ~first), sent.eq(0)]
        m.d.comb += [
            first.eq(pending & -pending),
            self.following.eq(Array(self.left_more)[lane_number]),
            self.last_of_neuron.eq(sent == self.following),
            self.valid.eq(pending.any()),
            self.last.eq((pending == first) & self.last_of_neuron),
            self.left_plus.eq(pending & ~negative),
            self.left_minus.eq(pending & negative),
            self.spike.negative.eq((negative & first).any()),
            self.spike.y.eq(self.y),
            self.spike.x.eq(self.x),
        ]
        for number, la in enumerate(self._folded.layers):
            with m.If(self.layer == number):
                m.d.comb += self.spike.c.eq(Cat(lane_number[: la.lanes.bit_length() - 1], self.block))
        return m
