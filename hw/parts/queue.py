"""A deep queue of tokens in block RAM."""

from amaranth.hdl import Module, Mux, Signal, Value, ValueCastable, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.parts.memory import BLOCK, BuiltMemory, style

__all__ = ["BlockQueue"]


class BlockQueue(wiring.Component):
    """As many tokens as the memory has words, and one more at the output, in order, nothing lost.

    Timing
    ------
    2 cycles from `taken` to `given`; a token per cycle. `taken.ready` and `given.valid` come from registers, `given.payload` from
    the memory.

    Parameters
    ----------
    payload : ShapeLike
        Shape of a token.
    depth : int
        Words of the memory.

    Members
    -------
    taken : In, stream of tokens
    given : Out, stream of tokens
    holds : Out
        1 where it holds a token.
    """

    def __init__(self, *, payload: object, depth: int) -> None:
        if depth < 2:
            raise ValueError(f"depth must be at least 2, not {depth!r}")
        self._depth = depth
        super().__init__(
            {"taken": In(stream.Signature(payload)), "given": Out(stream.Signature(payload)), "holds": Out(1)}
        )

    @property
    def depth(self) -> int:
        """Words of the memory."""
        return self._depth

    @property
    def memories(self) -> tuple[BuiltMemory, ...]:
        """The one that holds the tokens."""
        return (BuiltMemory(name="words", width=_bits(self.given.payload).shape().width, depth=self._depth, kind=BLOCK),)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        (built,) = self.memories
        # No word is read in the cycle in which it is written: it counts from the next one on.
        m.submodules.words = words = Memory(
            shape=unsigned(built.width), depth=built.depth, init=[], attrs={"no_rw_check": 1} | style(built.kind)
        )
        read, write = words.read_port(), words.write_port()
        count, first, last = Signal(range(self._depth + 1)), Signal(range(self._depth)), Signal(range(self._depth))
        enters, moves = Signal(), Signal()
        m.d.comb += [
            self.taken.ready.eq(count != self._depth),
            enters.eq(self.taken.valid & self.taken.ready),
            moves.eq((count != 0) & (~self.given.valid | self.given.ready)),
            write.addr.eq(last),
            write.data.eq(_bits(self.taken.payload)),
            write.en.eq(enters),
            read.addr.eq(first),
            read.en.eq(moves),
            _bits(self.given.payload).eq(read.data),
            self.holds.eq((count != 0) | self.given.valid),
        ]
        m.d.sync += count.eq(count + enters - moves)
        with m.If(enters):
            m.d.sync += last.eq(_after(last, self._depth))
        with m.If(moves):
            m.d.sync += [first.eq(_after(first, self._depth)), self.given.valid.eq(1)]
        with m.Elif(self.given.ready):
            m.d.sync += self.given.valid.eq(0)
        return m


def _after(place: Signal, depth: int) -> Value:
    """The next place of a ring."""
    return Mux(place == depth - 1, 0, place + 1)


def _bits(payload: Signal | ValueCastable) -> Signal:
    return payload.as_value() if isinstance(payload, ValueCastable) else payload
