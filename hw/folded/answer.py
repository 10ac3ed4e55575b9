"""The answer to a frame: the output layer's counts, the class that has the most, and the cycles that it took."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.folded.lane import SettledState
from hw.interface import CYCLES_WIDTH, Result
from model.machine.folded_layout import Folded
from model.network import Network

__all__ = ["Answer"]


class Answer(wiring.Component):
    """Collects the counts of the output layer and picks the class.

    Operation
    ---------
    The blocks of the output layer come in order. Then the counts go round once, so that always the first one is at hand to be
    compared with the best so far.

    Timing
    ------
    A block per cycle. While ``compare`` is 1 a count per cycle, those of silent lanes too; the answer is valid in the cycle after
    the ``last`` one, and until it is taken.

    Parameters
    ----------
    network : Network
        gives the outputs
    folded : Folded
        the machine's layers

    Members
    -------
    start : In, 1 bit
        1 in the cycle in which the first token of a frame is taken
    collect : In, 1 bit
        ``counts`` are those of the output layer's next block
    counts : In, array of counts
        of each lane
    compare : In, 1 bit
        a count is compared
    last : Out, 1 bit
        1 where it is the last one
    result : Out, stream of Result
    """

    def __init__(self, *, network: Network, folded: Folded) -> None:
        self._network = network
        self._output = folded.layers[-1]
        count = SettledState(*(la.layer for la in folded.layers))["count"].shape
        super().__init__(
            {
                "start": In(1),
                "collect": In(1),
                "counts": In(data.ArrayLayout(count, folded.lanes)),
                "compare": In(1),
                "last": Out(1),
                "result": Out(stream.Signature(Result(network))),
            }
        )

    @property
    def network(self) -> Network:
        """The network that is read out."""
        return self._network

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes, blocks, outputs = self._output.lanes, self._output.blocks, self._network.outputs
        result = self.result.payload
        count = result.counts.shape().elem_shape

        cycles = Signal(CYCLES_WIDTH)
        m.d.sync += cycles.eq(Mux(self.start, 0, cycles + 1))

        counts = Signal(data.ArrayLayout(count, lanes * blocks))
        best, index = Signal(count), Signal(range(len(counts)))
        m.d.comb += [into.eq(value) for into, value in zip(result.counts, counts, strict=False)]
        with m.If(self.collect):
            kept = [*list(counts)[lanes:], *list(self.counts)[:lanes]]
            m.d.sync += [into.eq(value) for into, value in zip(counts, kept, strict=True)]

        m.d.comb += self.last.eq(index == len(counts) - 1)
        with m.If(self.result.ready):
            m.d.sync += self.result.valid.eq(0)
        with m.If(self.compare):
            m.d.sync += [
                index.eq(Mux(self.last, 0, index + 1)),
                *(into.eq(value) for into, value in zip(counts, [*list(counts)[1:], counts[0]], strict=True)),
            ]
            with m.If((index == 0) | ((index < outputs) & (counts[0] > best))):
                # A single output answers by its sign.
                m.d.sync += [best.eq(counts[0]), result.answer.eq(index if outputs > 1 else counts[0] > 0)]
            with m.If(self.last):
                m.d.sync += [result.cycles.eq(cycles + 1), self.result.valid.eq(1)]
        return m
