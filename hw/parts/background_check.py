"""The check of a memory while it is in use: its signature, read where nobody else reads."""

from collections.abc import Sequence

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.parts.signature import absorbed, condensed
from model.machine.signature import SIGNATURE_BITS, returning_signature
from model.machine.signature import condensed as condensed_word

__all__ = ["BackgroundCheck", "PassCounter"]


class BackgroundCheck(wiring.Component):
    """Reads all words of a memory in cycles in which its port is free, and compares their signature; over and over.

    Operation
    ---------
    A pass takes the words in ascending order, each in the form of `model.machine.signature.condensed`. The signature goes on
    from pass to pass: it begins as `model.machine.signature.returning_signature` of the words that the memory has to hold,
    and must be that at the end of each. Otherwise ``differs`` is 1 from then on, until a reset. A word is read only in a cycle
    that is ``free``.

    A pass detects every single wrong bit that was there when it began. A bit that flips in the check itself looks the same: the
    first pass after a reset tells which of the two it was.

    Timing
    ------
    A pass takes as many free cycles as there are words. ``passed`` two cycles after the last word has come,
    ``differs`` one later.

    Parameters
    ----------
    words : Sequence[int]
        What the memory has to hold.
    width : int
        Bits of a word.
    latency : int
        Cycles from ``addr`` to ``word``.

    Members
    -------
    free : In, 1 bit
        The memory reads ``addr``.
    addr : Out, range(words)
        The next word.
    word : In, ``width`` bits
        What was read ``latency`` cycles ago.
    passed : Out, 1 bit
        1 in one cycle for each pass that is complete.
    differs : Out, 1 bit
        1 since a pass found another signature.
    """

    def __init__(self, *, words: Sequence[int], width: int, latency: int) -> None:
        if not words:
            raise ValueError("words must be at least one")
        if latency < 1:
            raise ValueError(f"latency must be at least 1, not {latency!r}")
        self._words = tuple(words)
        self._width = width
        self._latency = latency
        super().__init__(
            {
                "free": In(1),
                "addr": Out(range(len(self._words))),
                "word": In(width),
                "passed": Out(1),
                "differs": Out(1),
            }
        )

    @property
    def depth(self) -> int:
        """Number of words."""
        return len(self._words)

    @property
    def width(self) -> int:
        """Bits of a word."""
        return self._width

    @property
    def latency(self) -> int:
        """Cycles from ``addr`` to ``word``."""
        return self._latency

    @property
    def expected(self) -> int:
        """The signature after each pass, of what the memory has to hold, and before the first."""
        return returning_signature([condensed_word(word) for word in self._words])

    def elaborate(self, platform: object) -> Module:
        m = Module()
        at_last = Signal()
        m.d.comb += at_last.eq(self.addr == self.depth - 1)
        with m.If(self.free):
            m.d.sync += self.addr.eq(Mux(at_last, 0, self.addr + 1))
        # Of what is on its way from the memory, and of what has been made narrower: whether it is a word, and a pass's last.
        takes, ends = (Signal(self._latency + 1, name=name) for name in ("takes", "ends"))
        m.d.sync += [takes.eq(takes << 1 | self.free), ends.eq(ends << 1 | (self.free & at_last))]
        narrow = condensed(self.word)
        taken = Signal(len(narrow), reset_less=True)
        m.d.sync += taken.eq(narrow)
        # The right words lead back to where it starts, so that nothing begins it anew.
        found = Signal(SIGNATURE_BITS, init=self.expected)
        with m.If(takes[-1]):
            m.d.sync += found.eq(absorbed(found, taken))
        m.d.sync += self.passed.eq(ends[-1])
        with m.If(self.passed & (found != self.expected)):
            m.d.sync += self.differs.eq(1)
        return m


class PassCounter(wiring.Component):
    """Counts how often all of several checks have completed a pass.

    Operation
    ---------
    Checks go on as they can; one is counted once all others have completed a pass as well. So between two counts that differ by
    two, each of them has begun a pass and completed it.

    Parameters
    ----------
    checks : int
        Number of `BackgroundCheck`.
    width : int
        Bits of the count, which wraps around.

    Members
    -------
    passed : In, a bit a check
        As of `BackgroundCheck`.
    passes : Out, ``width`` bits
        The count.
    """

    def __init__(self, *, checks: int, width: int) -> None:
        if checks < 1:
            raise ValueError(f"checks must be at least 1, not {checks!r}")
        self._checks = checks
        self._width = width
        super().__init__({"passed": In(checks), "passes": Out(width)})

    @property
    def checks(self) -> int:
        """Number of checks."""
        return self._checks

    @property
    def width(self) -> int:
        """Bits of the count."""
        return self._width

    def elaborate(self, platform: object) -> Module:
        m = Module()
        seen = Signal(self._checks)
        with m.If(seen.all()):
            m.d.sync += [self.passes.eq(self.passes + 1), seen.eq(self.passed)]
        with m.Else():
            m.d.sync += seen.eq(seen | self.passed)
        return m
