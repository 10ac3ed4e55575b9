"""A register stage in a stream: no combinational path passes it, in either direction."""

from amaranth.hdl import Module, Signal, ValueCastable
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["StreamBuffer"]


class StreamBuffer(wiring.Component):
    """Two tokens deep, in order, nothing lost.

    Operation
    ---------
    A token waits at the output; one more finds room while the output is stalled. That is what lets `taken.ready` be a
    register without costing a cycle a token.

    Timing
    ------
    1 cycle from `taken` to `given`; a token per cycle. `taken.ready`, `given.valid` and `given.payload` are registers.

    Parameters
    ----------
    payload : ShapeLike
        Shape of a token.

    Members
    -------
    taken : In, stream of tokens
    given : Out, stream of tokens
    """

    def __init__(self, *, payload: object) -> None:
        self._payload = payload
        super().__init__({"taken": In(stream.Signature(payload)), "given": Out(stream.Signature(payload))})

    @property
    def payload(self) -> object:
        """Shape of a token."""
        return self._payload

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # The token at the output is data without a meaning until valid, and needs no reset.
        first = Signal.like(_bits(self.given.payload), reset_less=True)
        second = Signal.like(first, name="second", reset_less=True)
        has_second, moves = Signal(), Signal()
        m.d.comb += [
            self.taken.ready.eq(~has_second),
            moves.eq(~self.given.valid | self.given.ready),
            _bits(self.given.payload).eq(first),
        ]
        with m.If(moves):
            m.d.sync += has_second.eq(0)
            with m.If(has_second):
                m.d.sync += [self.given.valid.eq(1), first.eq(second)]
            with m.Else():
                m.d.sync += [self.given.valid.eq(self.taken.valid), first.eq(_bits(self.taken.payload))]
        with m.Elif(self.taken.ready):
            m.d.sync += [has_second.eq(self.taken.valid), second.eq(_bits(self.taken.payload))]
        return m


def _bits(payload: Signal | ValueCastable) -> Signal:
    return payload.as_value() if isinstance(payload, ValueCastable) else payload
