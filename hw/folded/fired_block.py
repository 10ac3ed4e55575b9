"""A block that fired: its spikes leave one after another, those that a max-pool holds back left out."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.folded.lane import SettledState
from hw.folded.layouts import Spike, Step
from model.machine.folded_layout import Folded

__all__ = ["FiredBlock"]


class FiredBlock(wiring.Component):
    """The spikes of a block that have not left yet.

    Operation
    ---------
    A spike moves the maximum of a pool's window only if each other count there is less than the greater of its neuron's counts
    before and after: otherwise it is dropped.

    Timing
    ------
    The spikes are there in the cycle after ``load``, and the next one in the cycle after ``take``. What is compared drops a spike
    in the next cycle.

    Parameters
    ----------
    folded : Folded
        the machine's layers

    Members
    -------
    layer : In, range(layers)
        number of the layer that fired
    block : In, unsigned
        block of channels
    y, x : In, unsigned
        where its spikes leave
    load : In, 1 bit
        ``plus`` and ``minus`` are the spikes
    plus, minus : In, a bit per lane
    compare : In, 1 bit
        ``counts`` are those of another position of the window
    counts, highest : In, array of counts
        as of `hw.folded.block_pipeline.BlockPipeline`
    valid : Out, 1 bit
        whether a spike is left
    spike : Out, Spike
        the first of them
    last : Out, 1 bit
        whether it is the only one
    take : In, 1 bit
        it leaves
    left_plus, left_minus : Out, a bit per lane
        what is left
    """

    def __init__(self, *, folded: Folded) -> None:
        self._folded = folded
        step, lanes = Step(folded), folded.lanes
        counts = data.ArrayLayout(SettledState(*(la.layer for la in folded.layers))["count"].shape, lanes)
        super().__init__(
            {
                "layer": In(range(max(2, len(folded.layers)))),
                "block": In(step["block"].shape),
                "y": In(step["y"].shape),
                "x": In(step["x"].shape),
                "load": In(1),
                "plus": In(lanes),
                "minus": In(lanes),
                "compare": In(1),
                "counts": In(counts),
                "highest": In(counts),
                "valid": Out(1),
                "spike": Out(Spike(folded)),
                "last": Out(1),
                "take": In(1),
                "left_plus": Out(lanes),
                "left_minus": Out(lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes = self._folded.lanes
        pending, negative, first = (Signal(lanes, name=name) for name in ("pending", "negative", "first"))
        with m.If(self.load):
            m.d.sync += [negative.eq(self.minus), pending.eq(self.plus | self.minus)]
        with m.If(self.compare):
            m.d.sync += [
                pending[lane].eq(pending[lane] & (self.counts[lane] < self.highest[lane])) for lane in range(lanes)
            ]
        with m.If(self.take):
            m.d.sync += pending.eq(pending & ~first)

        lane_number = Signal(range(max(2, lanes)))
        for lane in reversed(range(lanes)):
            with m.If(pending[lane]):
                m.d.comb += lane_number.eq(lane)
        m.d.comb += [
            first.eq(pending & -pending),
            self.valid.eq(pending.any()),
            self.last.eq(pending == first),
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
