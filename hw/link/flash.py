"""Packets from a serial flash, before the host's: a machine whose weights have to be loaded finds them there by itself."""

from math import ceil

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from hw.link.protocol import Command, load_payloads, packet
from model.machine.folded_layout import Folded
from model.machine.plan import Plan
from model.network import Network

__all__ = ["FLASH_PORTS", "READ", "WAKE", "WAKE_SECONDS", "FlashReader", "flash_image"]

WAKE, READ = 0xAB, 0x03
"""Release from deep power-down, and read, with an address of 24 bits (Winbond W25Q128JV, and serial flash of all makers)."""

WAKE_SECONDS = 35e-6
"""From `WAKE` until a flash can be read: 3 microseconds for the W25Q128JV, up to 35 for others."""

FLASH_PORTS = {"flash_select_n": Out(1), "flash_clock": Out(1), "flash_copi": Out(1), "flash_cipo": In(1)}
"""Ports of what has a `FlashReader` in it, to and from the flash: select (low), clock, and data out and in."""


def flash_image(network: Network, plan: Plan) -> bytes:
    """What a `FlashReader` is to find: the packets with which a host would load the weights, and have them checked.

    Parameters
    ----------
    network, plan : Network, Plan
        What is on the device; its weights have to be loaded.
    """
    folded = Folded.of(network, plan)
    payloads = load_payloads(network, folded.single_weights(), first=folded.single_state_words)
    return b"".join(packet(0, Command.LOAD, payload) for payload in payloads) + packet(0, Command.CHECK)


class FlashReader(wiring.Component):
    """Reads packets from a serial flash, once after each reset, until it is told to stop.

    Operation
    ---------
    Wakes the flash, which an iCE40 puts to sleep at the end of its configuration (Lattice FPGA-TN-02001), waits, and reads byte
    after byte from an address on.

    Timing
    ------
    SPI mode 0, two cycles per bit. The flash's answer to a falling clock must be there within a cycle. Stands still while a byte
    is not taken.

    Parameters
    ----------
    addr : int
        Where the packets are, in bytes.
    clock_hz : float
        Cycles per second.

    Members
    -------
    select_n, clock, copi : Out
        To the flash.
    cipo : In
        From the flash, not synchronised.
    data : Out, stream of bytes
    stop : In
        1 to leave the flash alone from the next cycle on.
    active : Out
        1 until then.
    """

    def __init__(self, *, addr: int, clock_hz: float) -> None:
        if not 0 <= addr < 1 << 24:
            raise ValueError(f"addr must be within 0..{(1 << 24) - 1}, not {addr}")
        self._addr = addr
        self._clock_hz = clock_hz
        super().__init__(
            {
                "select_n": Out(1, init=1),
                "clock": Out(1),
                "copi": Out(1),
                "cipo": In(1),
                "data": Out(stream.Signature(unsigned(8))),
                "stop": In(1),
                "active": Out(1),
            }
        )

    @property
    def addr(self) -> int:
        """Where the packets are."""
        return self._addr

    def elaborate(self, platform: object) -> Module:
        m = Module()
        wake, read = _bits(WAKE, 8), _bits(READ << 24 | self._addr, 32)
        wake_cycles, read_cycles = 2 * len(wake), 2 * len(read)
        # Cycles since reset. With its highest bit the pause is over and the command begins, whose bits the lower ones count.
        pause_bits = bits_for(max(wake_cycles + ceil(self._clock_hz * WAKE_SECONDS), read_cycles))
        at = Signal(pause_bits + 1)
        reading, stopped = Signal(), Signal()
        high, bit, paused = at[0], at[1:], at[-1]
        byte = self.data.payload
        taken = self.data.valid & self.data.ready
        m.d.comb += self.active.eq(~stopped)
        m.d.sync += [
            self.select_n.eq(stopped | ~(reading | paused | (at < wake_cycles))),
            self.clock.eq(high & ~stopped),
            self.copi.eq(Mux(paused, Array(read)[bit[:5]], Array(wake)[bit[:3]])),
        ]
        with m.If(taken):
            m.d.sync += self.data.valid.eq(0)
        with m.If(~self.data.valid | taken):
            m.d.sync += at.eq(at + 1)
            with m.If(at == (1 << pause_bits) + read_cycles - 1):
                m.d.sync += reading.eq(1)
            with m.If(high):
                m.d.sync += byte.eq(Cat(self.cipo, byte[:-1]))
            with m.If(reading & high & bit[:3].all()):
                m.d.sync += self.data.valid.eq(1)
        with m.If(self.stop | stopped):
            m.d.sync += [stopped.eq(1), self.data.valid.eq(0)]
        return m


def _bits(number: int, width: int) -> list[Const]:
    """Most significant first, as they are sent."""
    return [Const(number >> n & 1, 1) for n in reversed(range(width))]
