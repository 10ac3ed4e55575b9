"""Answers: each leaves as a packet, with its length, its payload and its checksum, and none is lost."""

from types import ModuleType, SimpleNamespace
from typing import Any

from amaranth.hdl import Array, Cat, Const, Mux, Signal, Value

import hw.link.sender
from hw.link.protocol import HEADER_BYTES, SYNC, Command, Status
from sim.formal.bench import Bench
from sim.formal.packets import crc_after
from sim.formal.properties import Fault, Property

__all__ = ["PROPERTIES", "Leaving"]

_SIZES: dict[str, dict[Command | Status, int]] = {
    "several": {Command.IDENTIFY: 3, Command.SATURATIONS: 4, Command.FRAME: 2, Status.WATCHED: 1},
    "long": {Command.IDENTIFY: 21, Command.SATURATIONS: 2, Command.STATUS: 9},
    "one": {Command.SATURATIONS: 6},
}


def sends(bench: Bench, senders: ModuleType, *, sizes: str) -> None:
    """A `PacketSender`, any packets at any time, whose payloads may change in any cycle, and a wire that takes what it likes.

    Beside it bytes are counted from where a packet was chosen.
    """
    payloads = _SIZES[sizes]
    dut = senders.PacketSender(payloads=payloads)
    inside = bench.add("dut", dut)
    bench.source(dut.choice, "choice")
    bench.sink(dut.sent, "sent")
    contents = dut.contents.as_value()
    bench.m.d.comb += contents.eq(bench.any(len(contents), "contents"))
    leaving = Leaving(bench, dut, inside)
    took = bench.before(dut.done, "done") & dut.choice.valid & dut.choice.ready
    bench.reaches(took & leaving.counters)
    counting = dut.contents.saturations[8:16] != leaving.high
    bench.reaches(leaving.left & leaving.counters & (leaving.at == HEADER_BYTES + 1) & counting)
    bench.reaches(dut.done & ~Cat(leaving.head == command.value for command in payloads).any())


class Leaving:
    """The packet that leaves, byte by byte: states of a sender that it is what was chosen.

    Parameters
    ----------
    bench : Bench
        Where to state it.
    dut : PacketSender
        The sender.
    inside : SimpleNamespace
        What is inside of it.

    Attributes
    ----------
    within, at : Signal
        Whether a packet has been chosen and its last byte has not left, and how many of its bytes have.
    head, sequence, crc : Signal
        Its command and sequence number, and the checksum of what has left of it.
    length : Value
        Bytes of its payload.
    left : Value
        Whether a byte leaves.
    counters : Value
        Whether its payload is that of saturation counters.
    low, high : Signal
        Of these the bytes of the last counter, as they were in one cycle.
    """

    def __init__(self, bench: Bench, dut: Any, inside: SimpleNamespace) -> None:
        m, sent = bench.m, dut.sent
        self.within, self.at = Signal(name="leaves_within"), Signal(17, name="bytes_left")
        self.head, self.sequence, self.crc = (Signal(8, name=f"{name}_leaving") for name in ("head", "sequence", "crc"))
        self.low, self.high = Signal(8, name="counter_low"), Signal(8, name="counter_high")
        self.length = Signal(16, name="length_leaving")
        self.counters = self.head == Command.SATURATIONS.value
        self.left = sent.valid & sent.ready
        with m.Switch(self.head):
            for command, size in dut.payloads.items():
                with m.Case(command.value):
                    m.d.comb += self.length.eq(size)
        due, number = Signal(8, name="byte_due"), self.at - HEADER_BYTES
        last = self.at == self.length + HEADER_BYTES
        chosen = dut.choice.valid & dut.choice.ready
        with m.If(chosen):
            m.d.sync += [self.within.eq(1), self.at.eq(0), self.crc.eq(0)]
            m.d.sync += [self.head.eq(dut.choice.payload.head), self.sequence.eq(dut.choice.payload.sequence)]
        with m.Elif(self.left):
            m.d.sync += [self.at.eq(self.at + 1), self.within.eq(~last)]
            with m.If(self.at != 0):
                m.d.sync += self.crc.eq(crc_after(self.crc, sent.payload))
        # Of the payload each byte is what it was in the first of the cycles in which it was not offered.
        offered = bench.before(sent.valid, "byte_offered")
        with m.If(~sent.valid & offered):
            m.d.sync += due.eq(_byte(m, dut, self.head, number))
            with m.If(self.counters):
                self._counter(bench, dut, number, due)

        header = [Const(SYNC, 8), self.sequence, self.head, self.length[:8], self.length[8:]]
        right = Mux(self.at < len(header), Array(header)[self.at], Mux(last, self.crc, due))
        bench.holds(~sent.valid | (self.within & (sent.payload == right)))
        bench.holds(dut.done == (self.left & last))
        bench.holds(~self.within | ((dut.head == self.head) & (self.at <= self.length + HEADER_BYTES)))
        # What is offered stays, none stands still, and the next packet follows.
        bench.holds(~bench.before(sent.valid & ~sent.ready, "byte_waits") | sent.valid)
        still = self.within & ~sent.valid
        stood = bench.before(still, "no_byte")
        stood_long = stood & bench.before(stood, "no_byte_before")
        bench.holds(~(still & stood_long))
        bench.holds(dut.choice.ready == ~self.within)
        state = self._lemmas(bench, inside, due)
        bench.lemma(~state["FETCH"] | (offered & ~stood))
        bench.lemma(~state["CHOOSE"] | ~(offered | stood_long))

    def _counter(self, bench: Bench, dut: Any, number: Value, due: Signal) -> None:
        """Of a counter both bytes are of the cycle in which the low one was read."""
        m, counters = bench.m, dut.contents.saturations
        halves = [counters[at : at + 8] for at in range(0, len(counters), 8)]
        lows, highs = halves[::2], halves[1::2]
        with m.If(number[0]):
            m.d.sync += due.eq(self.high)
        with m.Else():
            m.d.sync += [self.low.eq(_of(lows, number[1:])), self.high.eq(_of(highs, number[1:]))]

    def _lemmas(self, bench: Bench, inside: SimpleNamespace, due: Signal) -> dict[str, Value]:
        """Which state the sender is in, by what has left; gives whether it is in each of them."""
        state = {name: inside.m._generated["fsm"].ongoing(name) for name in _STATES}
        index = inside.index
        bench.lemma(Cat(state.values()).any())
        bench.lemma(state["WAIT"] == ~self.within)
        for number, name in enumerate(_STATES[1 : 1 + HEADER_BYTES]):
            bench.lemma(~state[name] | ((self.at == number) & (index == 0)))
        bench.lemma(state["WAIT"] | (inside.size == self.length) | (state["SYNC"] & (inside.size == 0)))
        bench.lemma(~(state["FETCH"] | state["CHOOSE"] | state["BODY"]) | (self.at == index + HEADER_BYTES))
        bench.lemma(~state["FETCH"] | (index <= self.length))
        bench.lemma(~(state["CHOOSE"] | state["BODY"]) | (index < self.length))
        bench.lemma(~state["CRC"] | (self.at == self.length + HEADER_BYTES))
        bench.lemma(state["WAIT"] | (inside.sequence == self.sequence))
        bench.lemma(state["WAIT"] | (inside.checksum.crc == self.crc))
        bench.lemma(~state["BODY"] | (inside.kept == due))
        bench.lemma(~state["CHOOSE"] | (inside.at_hand == due))
        holds_high = state["CHOOSE"] | state["BODY"] | (state["FETCH"] & index[0])
        bench.lemma(~(self.counters & holds_high) | (inside.high == self.high))
        return state


_STATES = ("WAIT", "SYNC", "SEQUENCE", "HEAD", "SIZE_LOW", "SIZE_HIGH", "FETCH", "CHOOSE", "BODY", "CRC")


def _of(values: list[Value], index: Value) -> Value:
    """The value at an index; 0 beyond the last one."""
    found: Value = Const(0, 8)
    for number, value in enumerate(values):
        found = Mux(index == number, value, found)
    return found


def _byte(m: Any, dut: Any, head: Value, number: Value) -> Signal:
    """Byte of a payload, as it is now."""
    found = Signal(8, name="byte_at_hand")
    with m.Switch(head):
        for command in dut.payloads:
            content = dut.contents[command.name.lower()]
            with m.Case(command.value):
                m.d.comb += found.eq(_of([content[at : at + 8] for at in range(0, len(content), 8)], number))
    return found


PROPERTIES = (
    Property(
        name="Answers: each leaves once, with its start byte, sequence number, length, payload and checksum; none stands still",
        module=hw.link.sender,
        part="PacketSender",
        bound="payloads of 0 to 6 bytes, and of 0 to 21; 1 to 3 saturation counters, that count meanwhile",
        build=sends,
        cases=[{"sizes": sizes} for sizes in _SIZES],
        reach=32,
        fault=Fault(
            says="the checksum is of the start byte, too",
            right="m.d.comb += [self.sent.valid.eq(1), byte.eq(SYNC)]",
            wrong="m.d.comb += [self.sent.valid.eq(1), byte.eq(SYNC), checksum.valid.eq(self.sent.ready)]",
            steps=14,
        ),
        more_faults=[
            Fault(
                says="a packet without a payload has the length of one",
                right="size.eq(0),",
                wrong="size.eq(1),",
                steps=8,
            ),
            Fault(
                says="the last byte of a payload does not leave",
                right="with m.If(index == size):",
                wrong="with m.If((index == size) | (index + 1 == size)):",
                steps=16,
            ),
            Fault(
                says="a byte that waits changes with its payload",
                right='send(kept, "FETCH")',
                wrong='send(at_hand, "FETCH")',
                steps=12,
            ),
            Fault(
                says="the high byte of a counter is read when it leaves",
                right="m.d.sync += its_byte.eq(high)",
                wrong="pass",
                steps=14,
                case=2,
            ),
            Fault(
                says="what a packet is can change while its first byte waits",
                right='with m.State("SYNC"):\n',
                wrong='with m.State("SYNC"):\n                m.d.sync += sequence.eq(self.choice.payload.sequence)\n',
                steps=6,
            ),
            Fault(
                says="a packet without a payload stands still",
                right='m.next = "CHOOSE"\n                with m.If(index == size):',
                wrong='m.next = "CHOOSE"\n                with m.If((index == size) & (size != 0)):',
                steps=14,
            ),
            Fault(
                says="a packet is done when its last byte is offered",
                right="byte.eq(checksum.crc), self.done.eq(self.sent.ready)]",
                wrong="byte.eq(checksum.crc), self.done.eq(1)]",
                steps=14,
            ),
        ],
    ),
)
