"""Packets: one whose checksum is wrong has no effect, and whatever comes, the receiver goes on."""

from types import ModuleType, SimpleNamespace
from typing import Any

from amaranth.hdl import Cat, Const, Mux, Signal, Value

import hw.link.receiver
from hw.link.protocol import COUNTED, CRC_POLYNOMIAL, LOADED, SYNC, Command, Status
from sim.formal.bench import Bench
from sim.formal.properties import Fault, Property

__all__ = ["PROPERTIES", "crc_after"]

_LENGTHS = {
    "few": {Command.IDENTIFY: range(0, 1), Command.FRAME: range(3, 4), Command.EVENTS: range(2, 7, 2)},
    "loads": {Command.IDENTIFY: range(1), Command.EVENTS: range(8), Command.LOAD: range(10, 19, 8), Command.CHECK: range(1)},
}


def received(bench: Bench, receivers: ModuleType, *, timeout: int, lengths: str = "few") -> None:
    """A `PacketReceiver`, any bytes at any time, and a reader that takes what it likes when it likes.

    Beside it bytes are counted from where a packet begins. A packet is right where its checksum, made bit by bit, is the one that
    came, and its length suits its command. All that is offered without an error is a right packet, and each of its bytes.
    """
    m = bench.m
    dut = receivers.PacketReceiver(lengths=_LENGTHS[lengths], timeout=timeout)
    inside = bench.add("dut", dut)
    bench.source(dut.received, "received")
    bench.sink(dut.packet, "packet")
    bench.sink(dut.payload, "payload")
    loads_only = bench.constant(1, "loads_only") if lengths == "loads" else Const(0)
    m.d.comb += [dut.hold.eq(bench.any(1, "hold")), dut.loads_only.eq(loads_only)]
    coming = _Coming(bench, dut)
    header, length = dut.packet.payload, coming.length

    # What is offered as right is right, and what came.
    offered = dut.packet.valid & (header.error == 0)
    bench.holds(~dut.packet.valid | (offered == coming.right))
    bench.holds(~offered | (header.sequence == coming.sequence) & (header.command == coming.command) & (header.length == length))
    # Bytes of the payload, each once, in order; none of a packet that is wrong.
    given = Signal(17, name="given")
    let_go = dut.packet.valid & dut.packet.ready
    m.d.sync += given.eq(Mux(dut.packet.valid & ~let_go, given + (dut.payload.valid & dut.payload.ready), 0))
    bench.holds(~dut.payload.valid | (offered & (given < length)))
    bench.holds(~(dut.payload.valid & (given == coming.watched)) | (dut.payload.payload == coming.byte))
    bench.holds(~offered | (dut.complete == (given == length)))
    gap, still = _keeps_to(bench, dut, given)
    # In silence it does not stay deaf, nor within a packet.
    listens = ~coming.begun & ~dut.deaf
    stuck = Signal(range(timeout + 3), name="stuck")
    m.d.sync += stuck.eq(Mux(dut.packet.valid | listens | dut.hold | coming.took, 0, stuck + 1))
    bench.holds(stuck <= timeout + 1)
    bench.holds(~(listens & ~dut.packet.valid) | dut.received.ready)
    bench.reaches(offered & (coming.command == Command.IDENTIFY) & dut.complete)
    bench.reaches(dut.payload.valid & (given == 1))
    bench.reaches(dut.packet.valid & (header.error != 0) & (coming.at == 3))
    bench.reaches(dut.deaf)
    if lengths == "loads":
        bench.reaches(dut.packet.valid & (header.error == Status.BAD_COMMAND.value) & (coming.command == Command.IDENTIFY.value))
    _lemmas(bench, dut, inside, coming, given, stuck, still)
    for state, most in (("READ", 0), ("READY", 1), ("PASS", 2)):
        bench.lemma(~inside.fsm.ongoing(state) | (gap <= most))


def _keeps_to(bench: Bench, dut: Any, given: Signal) -> tuple[Signal, Signal]:
    """State what the link relies on besides (`sim.formal.commands`): what is offered stays, and its bytes come soon.

    Gives for how many cycles there has been a byte to come and none was offered, and for how many there was silence.
    """
    m, packet, payload = bench.m, dut.packet, dut.payload
    header = packet.payload.as_value()
    waited, taken = bench.before(packet.valid & ~packet.ready, "packet_waits"), bench.before(packet.valid & packet.ready, "taken")
    bench.holds(~waited | (packet.valid & (header == bench.before(header, "header"))))
    bench.holds(~(taken & packet.valid))
    bench.holds(~(packet.valid & dut.received.ready))
    errors = Cat(packet.payload.error == one.value for one in COUNTED)
    bench.holds((packet.payload.error == 0) | errors.any())
    byte_waited = bench.before(payload.valid & ~payload.ready, "byte_waits")
    bench.holds(~(byte_waited & waited) | payload.valid)
    gap, misses = Signal(range(4), name="gap"), Signal(name="misses")
    m.d.comb += misses.eq(packet.valid & (packet.payload.error == 0) & (given < packet.payload.length) & ~payload.valid)
    m.d.sync += gap.eq(Mux(misses & ~(packet.valid & packet.ready), gap + 1, 0))
    bench.holds(~(misses & (gap == 2)))
    still, stirs = Signal(range(dut.timeout + 1), name="still"), (dut.received.valid & dut.received.ready) | dut.hold
    m.d.sync += still.eq(Mux(stirs | (still == dut.timeout), 0, still + 1))
    stirred, stirred_before = bench.before(stirs, "stirred"), bench.before(bench.before(stirs, "stirs"), "stirred_before")
    bench.holds(stirred | (dut.silence == still))
    bench.holds(~(stirred & stirred_before) | (dut.silence == 1))
    return gap, still


class _Coming:
    """The packet that comes: what its bytes say, in the order in which they come.

    Attributes
    ----------
    begun, at : Signal
        Whether it has begun and not ended, and how many bytes have come after `SYNC`.
    sequence, command, length, crc : Signal
        Of its header, and the checksum of what came.
    right : Signal
        Whether it has ended, with the right checksum and a length that suits its command.
    watched, byte : Signal
        Number of a byte of its payload, any one, and that byte.
    """

    def __init__(self, bench: Bench, dut: Any) -> None:
        m = bench.m
        byte = dut.received.payload
        self.took = took = dut.received.valid & dut.received.ready
        self.begun, self.at = Signal(name="begun"), Signal(17, name="at")
        self.sequence, self.command = Signal(8, name="sequence"), Signal(8, name="command")
        self.length, self.crc = Signal(16, name="length"), Signal(8, name="crc")
        self.right = Signal(name="right")
        longest = max(fit[-1] for fit in dut.lengths.values())
        self.watched, self.byte = bench.constant(range(longest + 1), "watched"), Signal(8, name="byte")
        suits = ((self.command == each.value) & _one_of(self.length, fit) for each, fit in dut.lengths.items())
        from_flash = Cat(self.command == each.value for each in LOADED).any()
        self.suits = Cat(suits).any() & (~dut.loads_only | from_flash)
        with m.If(dut.packet.valid):
            # Also one that stood still, or was given up.
            m.d.sync += self.begun.eq(0)
            with m.If(dut.packet.ready):
                m.d.sync += self.right.eq(0)
        with m.Elif(self.begun & took):
            m.d.sync += [self.at.eq(self.at + 1), self.crc.eq(crc_after(self.crc, byte))]
            with m.Switch(self.at):
                for number, part in enumerate((self.sequence, self.command, self.length[:8], self.length[8:])):
                    with m.Case(number):
                        m.d.sync += part.eq(byte)
            with m.If((self.at >= 4) & (self.at == self.length + 4)):
                m.d.sync += [self.begun.eq(0), self.right.eq(self.suits & (byte == self.crc))]
            with m.Elif(self.at == self.watched + 4):
                m.d.sync += self.byte.eq(byte)
        with m.Elif(took & (byte == SYNC) & ~dut.deaf):
            m.d.sync += [self.begun.eq(1), self.at.eq(0), self.crc.eq(0)]


def _lemmas(
    bench: Bench, dut: Any, inside: SimpleNamespace, coming: _Coming, given: Signal, stuck: Signal, still: Signal
) -> None:
    """Which state the receiver is in, by what has come, and what it keeps."""
    header, length, at = dut.packet.payload, coming.length, coming.at
    state = {name: inside.fsm.ongoing(name) for name in _STATES}

    def one_of(*names: str) -> Value:
        return Cat(state[name] for name in names).any()

    within, offers = one_of(*_STATES[1:8]), one_of("READ", "READY", "PASS", "HELD")
    bench.lemma(one_of(*_STATES))
    for number, name in enumerate(("SEQUENCE", "COMMAND", "LENGTH_LOW", "LENGTH_HIGH", "CHECK")):
        bench.lemma(~state[name] | (coming.begun & (at == number) & (header.error == 0)))
    bench.lemma(~state["PAYLOAD"] | (coming.begun & (at == inside.at + 4) & (inside.at <= length)))
    bench.lemma(~state["CRC"] | (coming.begun & (at == length + 4) & (inside.at == 0)))
    bench.lemma(~one_of("PAYLOAD", "CRC") | ((header.error == 0) == coming.suits))
    bench.lemma(~(one_of("PAYLOAD", "READ", "READY", "PASS") | coming.right) | (dut.complete == (inside.at == length)))
    bench.lemma(~one_of("SYNC", "DEAF") | ~coming.begun)
    bench.lemma(~one_of("SEQUENCE", "COMMAND", "LENGTH_LOW", "LENGTH_HIGH") | (inside.at == 0))
    bench.lemma(~state["CHECK"] | (inside.at == 0))
    bench.lemma(~within | (inside.checksum.crc == coming.crc))
    bench.lemma((header.sequence == coming.sequence) & (header.command == coming.command) & (header.length == length))
    bench.lemma(offers | ~coming.right)
    bench.lemma(~one_of("READ", "READY", "PASS") | coming.right)
    bench.lemma(~coming.right | (coming.suits & ~coming.begun))
    bench.lemma(~(offers & coming.right) | ((inside.at == given) & (given <= length)))
    bench.lemma(~one_of("READY", "PASS") | (given < length))
    bench.lemma(~(state["HELD"] & coming.right) | (given == length))
    # The byte that is watched is kept, and read when its turn comes.
    memory = inside.kept.read_port(domain="comb")
    bench.m.d.comb += memory.addr.eq(coming.watched)
    has_come = (coming.watched < length) & Mux(offers, coming.right, coming.suits & (coming.watched + 4 < at))
    bench.lemma(~(one_of("PAYLOAD", "CRC") | offers) | ~has_come | (memory.data == coming.byte))
    its_turn = given == coming.watched
    bench.lemma(~(one_of("READY", "PASS") & its_turn) | (inside.read.data == coming.byte))
    bench.lemma(~(state["PASS"] & its_turn) | (inside.kept_byte == coming.byte))
    # Time.
    bench.lemma(still <= dut.timeout)
    bench.lemma(inside.late == (still == dut.timeout))
    bench.lemma(~inside.stirred | (still == 0))
    bench.lemma(offers | state["SYNC"] | (stuck <= still))
    bench.lemma(~state["CHECK"] | (still == 0))
    bench.lemma(~(state["PAYLOAD"] & dut.complete) | (still <= 1))


_STATES = (
    *("SYNC", "SEQUENCE", "COMMAND", "LENGTH_LOW", "LENGTH_HIGH", "CHECK", "PAYLOAD", "CRC"),
    *("READ", "READY", "PASS", "HELD", "DEAF"),
)


def _one_of(value: Value, numbers: range) -> Value:
    return Cat(value == number for number in numbers).any()


def crc_after(crc: Value, byte: Value) -> Value:
    """CRC-8 after one more byte, bit by bit, the most significant one first."""
    bits = list(crc)
    for bit in reversed(range(8)):
        feedback = bits[7] ^ byte[bit]
        bits = [
            (bits[place - 1] if place else Const(0)) ^ (feedback if CRC_POLYNOMIAL >> place & 1 else Const(0))
            for place in range(8)
        ]
    return Cat(bits)


PROPERTIES = (
    Property(
        name="Packets: what is offered as right has the right checksum, is what came, byte by byte; none locks the receiver up",
        module=hw.link.receiver,
        part="PacketReceiver",
        bound="commands of 0, 3, and 2, 4 or 6 bytes; and of 0 to 7, 10 and 18, from a flash and not; 4 and 9 cycles of silence",
        build=received,
        cases=[{"timeout": 4}, {"timeout": 9}, {"timeout": 4, "lengths": "loads"}],
        reach=24,
        fault=Fault(
            says="the lowest bit of the checksum is not compared",
            right="with m.If(byte != checksum.crc):",
            wrong="with m.If((byte ^ checksum.crc)[1:] != 0):",
            steps=10,
        ),
        more_faults=[
            Fault(
                says="a packet that stands still is waited for",
                right="with m.If(late & ~took):\n            m.d.sync",
                wrong="with m.If(0):\n            m.d.sync",
                steps=12,
            ),
            Fault(
                says="bytes are taken while a packet is offered",
                right='with m.State("HELD"):\n',
                wrong='with m.State("HELD"):\n                m.d.comb += self.received.ready.eq(1)\n',
                steps=10,
            ),
            Fault(
                says="a byte of the payload is what is on the wire, not what was kept",
                right="kept_byte.eq(read.data)",
                wrong="kept_byte.eq(byte)",
                steps=13,
                case=2,
            ),
            Fault(
                says="a flash gives commands that are not its own",
                right="known = Mux(self.loads_only, one_of(loads), known)",
                wrong="pass",
                steps=12,
                case=2,
            ),
            Fault(
                says="silence goes on while a reset waits for its answer",
                right="stirred.eq(took | self.hold)",
                wrong="stirred.eq(took)",
                steps=6,
            ),
        ],
    ),
)
