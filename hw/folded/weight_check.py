"""The check of weights that were loaded: a signature of all of them."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.parts.signature import absorbed
from model.machine.folded_layout import SINGLE_BITS, SINGLE_WORDS, Folded
from model.machine.signature import signature

__all__ = ["WeightCheck"]


class WeightCheck(wiring.Component):
    """Reads all weights in the memory with one port, and takes their signature (`model.machine.signature.signature`).

    Timing
    ------
    A word per cycle, from the cycle after ``start``; ``done`` in the second cycle after the last one.

    Parameters
    ----------
    folded : Folded
        the machine's memories

    Members
    -------
    start : In, 1 bit
        the check begins
    reads : Out, 1 bit
        1 while it reads
    addr : Out, range(SINGLE_WORDS)
        the word that it reads
    data : In, SINGLE_BITS bits
        that word, a cycle later
    found : Out, SINGLE_BITS bits
        the signature
    done : Out, 1 bit
        1 in the cycle in which ``found`` is complete
    right : Out, 1 bit
        whether it is that of the network's weights
    """

    def __init__(self, *, folded: Folded) -> None:
        self._folded = folded
        super().__init__(
            {
                "start": In(1),
                "reads": Out(1),
                "addr": Out(range(SINGLE_WORDS)),
                "data": In(SINGLE_BITS),
                "found": Out(SINGLE_BITS),
                "done": Out(1),
                "right": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        folded = self._folded
        word, takes, ends = Signal(range(SINGLE_WORDS + 1)), Signal(), Signal()
        # A cycle more than there are words: the last one is on its way.
        m.d.comb += [
            self.addr.eq(word),
            ends.eq(word == folded.single_words),
            self.right.eq(self.found == signature(folded.single_weights())),
        ]
        m.d.sync += [takes.eq(self.reads & ~ends), self.done.eq(self.reads & ends)]
        with m.If(self.reads):
            m.d.sync += word.eq(word + 1)
            with m.If(ends):
                m.d.sync += self.reads.eq(0)
        with m.If(takes):
            m.d.sync += self.found.eq(absorbed(self.found, self.data))
        with m.If(self.start):
            m.d.sync += [word.eq(folded.single_state_words), self.found.eq(0), self.reads.eq(1)]
        return m
