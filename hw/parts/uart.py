"""UART: bytes over one wire each way, 8 data bits, no parity, one stop bit."""

from amaranth.hdl import Cat, Const, Module, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

__all__ = ["UartReceiver", "UartTransmitter"]


def _check(divisor: int) -> int:
    if divisor < 4:
        raise ValueError(f"divisor must be at least 4 cycles per bit, not {divisor!r}")
    return divisor


class UartReceiver(wiring.Component):
    """Receives bytes.

    Operation
    ---------
    Samples each bit in its middle. A byte whose stop bit is not 1 is dropped, and `errors` counts it; so is one that
    finds the one before it not taken yet. Bytes that are taken and dropped elsewhere can be counted as well.

    Timing
    ------
    A byte is valid half a bit before the end of its stop bit.

    Parameters
    ----------
    divisor : int
        Cycles per bit.

    Members
    -------
    line : In
        The wire, not synchronised.
    data : Out, stream of bytes
    unheard : In
        1 where a byte that is taken counts as dropped.
    errors : Out
        Bytes dropped since reset, stops at its end.
    """

    def __init__(self, *, divisor: int) -> None:
        self._divisor = _check(divisor)
        super().__init__(
            {"line": In(1, init=1), "data": Out(stream.Signature(unsigned(8))), "unheard": In(1), "errors": Out(8)}
        )

    @property
    def divisor(self) -> int:
        """Cycles per bit."""
        return self._divisor

    def elaborate(self, platform: object) -> Module:
        m = Module()
        line = Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.line, line, init=1)
        timer = Signal(range(self._divisor))
        bits = Signal(9)
        left = Signal(range(11))
        dropped = Signal()
        with m.If(self.data.valid & self.data.ready):
            m.d.sync += self.data.valid.eq(0)
            m.d.comb += dropped.eq(self.unheard)
        with m.If(left == 0), m.If(~line):
            m.d.sync += [left.eq(10), timer.eq(self._divisor // 2 - 1)]
        with m.Elif(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Else():
            m.d.sync += [timer.eq(self._divisor - 1), left.eq(left - 1), bits.eq(Cat(bits[1:], line))]
            with m.If((left == 10) & line):
                # Not a start bit after all.
                m.d.sync += left.eq(0)
            with m.If(left == 1):
                with m.If(line & (~self.data.valid | self.data.ready)):
                    m.d.sync += [self.data.payload.eq(bits[1:]), self.data.valid.eq(1)]
                with m.Else():
                    m.d.comb += dropped.eq(1)
        with m.If(dropped & ~self.errors.all()):
            m.d.sync += self.errors.eq(self.errors + 1)
        return m


class UartTransmitter(wiring.Component):
    """Sends bytes.

    Timing
    ------
    A byte takes ``10 * divisor`` cycles; the next one follows without a gap.

    Parameters
    ----------
    divisor : int
        Cycles per bit.

    Members
    -------
    data : In, stream of bytes
    line : Out
        The wire.
    """

    def __init__(self, *, divisor: int) -> None:
        self._divisor = _check(divisor)
        super().__init__({"data": In(stream.Signature(unsigned(8))), "line": Out(1, init=1)})

    @property
    def divisor(self) -> int:
        """Cycles per bit."""
        return self._divisor

    def elaborate(self, platform: object) -> Module:
        m = Module()
        timer = Signal(range(self._divisor))
        bits = Signal(10, init=0x3FF)
        left = Signal(range(11))
        free = (left == 0) | ((left == 1) & (timer == 0))
        m.d.comb += [self.line.eq(bits[0]), self.data.ready.eq(free)]
        with m.If(self.data.valid & free):
            m.d.sync += [
                bits.eq(Cat(Const(0, 1), self.data.payload, Const(1, 1))),
                left.eq(10),
                timer.eq(self._divisor - 1),
            ]
        with m.Elif(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Elif(left != 0):
            m.d.sync += [bits.eq(Cat(bits[1:], Const(1, 1))), left.eq(left - 1), timer.eq(self._divisor - 1)]
        return m
