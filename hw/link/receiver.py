"""Packets out of bytes: what comes over the wire is kept until its checksum is right."""

from collections.abc import Iterable, Mapping

from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import crc, data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.link.protocol import LOADED, SYNC, Command, Status
from hw.parts.memory import BuiltMemory, style

__all__ = ["Header", "PacketReceiver"]


class Header(data.StructLayout):
    """What is known of a packet besides its payload.

    Members
    -------
    sequence, command : unsigned(8)
        as they came
    length : unsigned(16)
        bytes of the payload
    error : unsigned(8)
        0, or the `hw.link.protocol.Status` that says what is wrong with it
    """

    def __init__(self) -> None:
        super().__init__({"sequence": 8, "command": 8, "length": 16, "error": 8})


class PacketReceiver(wiring.Component):
    """Takes bytes, and offers one packet at a time.

    Operation
    ---------
    A packet is read to the end that its length says, and is offered where its checksum has been compared: with its payload,
    or with what is wrong with it. One whose next byte does not come ends with an error as well. Until the packet has been taken
    no byte is. If one came meanwhile, it is of a packet whose begin is lost: all that comes is dropped then, until the wire has
    been silent for as long as a packet may stand still. So whatever came before, a packet after that silence is understood.

    From a flash, which waits, nothing is lost. There a header that is not that of a load or a check ends the packet at once.

    Timing
    ------
    A byte a cycle in, but one more cycle after the header, and after the payload. A byte of the payload every three cycles.

    Parameters
    ----------
    lengths : mapping of Command to range
        the commands that there are, and the lengths of payload that suit each; steps are powers of two
    timeout : int
        cycles for which a packet that has begun may stand still
    longest_silence : int
        cycles that ``silence`` can count to, if that is more

    Members
    -------
    received : In, stream of unsigned(8)
        bytes from the wire
    packet : Out, stream of Header
        taken where all that the packet asks for has been done
    payload : Out, stream of unsigned(8)
        its bytes, while it is offered, where it has no error
    complete : Out, 1 bit
        whether all of them have been taken
    loads_only : In, 1 bit
        1 where packets come from a flash
    noise : Out, 1 bit
        1 at a byte that is not `SYNC` where a packet ought to begin
    deaf : Out, 1 bit
        1 where what comes is dropped
    silence : Out, cycles
        since the last byte, or since ``hold``; not in the cycle after either
    hold : In, 1 bit
        begins ``silence`` anew
    """

    def __init__(self, *, lengths: Mapping[Command, range], timeout: int, longest_silence: int = 0) -> None:
        self._lengths = dict(lengths)
        self._timeout = timeout
        super().__init__(
            {
                "received": In(stream.Signature(unsigned(8))),
                "packet": Out(stream.Signature(Header())),
                "payload": Out(stream.Signature(unsigned(8))),
                "complete": Out(1),
                "loads_only": In(1),
                "noise": Out(1),
                "deaf": Out(1),
                "silence": Out(range(max(timeout, longest_silence) + 1)),
                "hold": In(1),
            }
        )

    @property
    def lengths(self) -> dict[Command, range]:
        """The commands that there are, and the lengths of payload that suit each."""
        return self._lengths

    @property
    def timeout(self) -> int:
        """Cycles for which a packet that has begun may stand still."""
        return self._timeout

    @property
    def memories(self) -> tuple[BuiltMemory]:
        """The payload of a packet."""
        longest = max(lengths[-1] for lengths in self._lengths.values())
        return (BuiltMemory.written(name="kept", width=8, depth=longest),)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        (built,) = self.memories
        m.submodules.kept = kept = Memory(
            shape=unsigned(built.width), depth=built.depth, init=[], attrs=style(built.kind)
        )
        m.submodules.crc = checksum = crc.catalog.CRC8_SMBUS(data_width=8).create()
        read, write = kept.read_port(), kept.write_port()

        header, byte = self.packet.payload, self.received.payload
        at, took, missed, late, stirred = Signal(16), Signal(), Signal(), Signal(), Signal()
        kept_byte = Signal(8, reset_less=True)
        after = (at + 1)[:16]
        self._count_silence(m, took, late, stirred)
        # Whether all of the payload has come, or has been taken, is told by a register.
        m.d.sync += [kept_byte.eq(read.data), self.complete.eq(at == header.length)]
        m.d.comb += [
            took.eq(self.received.valid & self.received.ready),
            write.addr.eq(at),
            write.data.eq(byte),
            read.addr.eq(at),
            self.payload.payload.eq(kept_byte),
            checksum.data.eq(byte),
        ]

        with m.FSM() as fsm:
            with m.State("SYNC"):
                m.d.comb += [self.received.ready.eq(1), checksum.start.eq(1), self.noise.eq(took & (byte != SYNC))]
                m.d.sync += [at.eq(0), header.error.eq(0)]
                with m.If(took & (byte == SYNC)):
                    m.next = "SEQUENCE"
            for state, into, following in (
                ("SEQUENCE", header.sequence, "COMMAND"),
                ("COMMAND", header.command, "LENGTH_LOW"),
                ("LENGTH_LOW", header.length[:8], "LENGTH_HIGH"),
                ("LENGTH_HIGH", header.length[8:], "CHECK"),
            ):
                with m.State(state):
                    self._take_or_give_up(m, took, late, checksum)
                    with m.If(took):
                        m.d.sync += into.eq(byte)
                        m.next = following
            with m.State("CHECK"):
                known, suits = self._suits(header)
                m.next = "PAYLOAD"
                with m.If(~known | ~suits):
                    m.d.sync += header.error.eq(Mux(known, Status.BAD_LENGTH.value, Status.BAD_COMMAND.value))
                    with m.If(self.loads_only):
                        m.next = "HELD"
            with m.State("PAYLOAD"):
                with m.If(self.complete):
                    m.d.sync += at.eq(0)
                    m.next = "CRC"
                with m.Else():
                    self._take_or_give_up(m, took, late, checksum)
                # What will not be carried out may be longer than the memory.
                m.d.comb += write.en.eq(took & (header.error == 0))
                with m.If(took):
                    m.d.sync += [at.eq(after), self.complete.eq(after == header.length)]
            with m.State("CRC"):
                self._take_or_give_up(m, took, late, checksum)
                with m.If(took):
                    m.next = "READ"
                    with m.If(header.error != 0):
                        m.next = "HELD"
                    with m.If(byte != checksum.crc):
                        m.d.sync += header.error.eq(Status.BAD_CRC.value)
                        m.next = "HELD"
            with m.State("READ"):
                m.next = "READY"
                with m.If(self.complete):
                    m.next = "HELD"
                self._let_go(m, missed)
            with m.State("READY"):
                m.next = "PASS"
                self._let_go(m, missed)
            with m.State("PASS"):
                m.d.comb += self.payload.valid.eq(1)
                with m.If(self.payload.ready):
                    m.d.sync += [at.eq(after), self.complete.eq(after == header.length)]
                    m.next = "READ"
                self._let_go(m, missed)
            with m.State("HELD"):
                self._let_go(m, missed)
            with m.State("DEAF"):
                m.d.comb += [self.received.ready.eq(1), self.deaf.eq(1)]
                with m.If(late & ~took):
                    m.next = "SYNC"

        m.d.comb += [
            self.packet.valid.eq(Cat(fsm.ongoing(state) for state in ("READ", "READY", "PASS", "HELD")).any()),
            missed.eq(self.received.valid & ~self.loads_only),
        ]
        return m

    def _count_silence(self, m: Module, took: Value, late: Signal, stirred: Signal) -> None:
        """Count the cycles of silence; ``late`` where they are the timeout. What ends a silence is ``stirred`` a cycle later."""
        lasts = ~(took | late | self.hold | stirred)
        m.d.sync += [
            # A cycle late: nothing that takes a byte, or holds, waits for so many bits.
            stirred.eq(took | self.hold),
            self.silence.eq(Mux(late, 0, Mux(stirred, 1, self.silence + 1))),
            # A cycle ahead: nothing that depends on it waits for the comparison.
            late.eq(lasts & (self.silence == self._timeout - 1)),
        ]

    def _take_or_give_up(self, m: Module, took: Value, late: Value, checksum: crc.Processor) -> None:
        """In a state within a packet: take a byte, or end the packet that stands still."""
        m.d.comb += [self.received.ready.eq(1), checksum.valid.eq(took)]
        with m.If(late & ~took):
            m.d.sync += self.packet.payload.error.eq(Status.TIMEOUT.value)
            m.next = "HELD"

    def _let_go(self, m: Module, missed: Value) -> None:
        """In a state in which a packet is offered: go on where it is taken. A byte that came meanwhile still waits then."""
        with m.If(self.packet.ready):
            m.next = "SYNC"
            with m.If(missed):
                m.next = "DEAF"

    def _suits(self, header: data.View) -> tuple[Value, Value]:
        """Whether there is the command, and whether the length suits it."""

        def one_of(commands: Iterable[Command]) -> Value:
            return Cat(header.command == command.value for command in commands).any()

        known = one_of(self._lengths)
        if loads := [command for command in LOADED if command in self._lengths]:
            known = Mux(self.loads_only, one_of(loads), known)
        lengths = self._lengths.items()
        return known, Cat((header.command == command.value) & _within(header.length, suit) for command, suit in lengths).any()


def _within(value: Value, numbers: range) -> Value:
    if len(numbers) == 1:
        return value == numbers[0]
    step_bits = numbers.step.bit_length() - 1
    return (value >= numbers[0]) & (value < numbers.stop) & (value[:step_bits] == numbers[0] % numbers.step)
