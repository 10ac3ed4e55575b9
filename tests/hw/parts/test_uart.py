"""UART: bytes through both ends, at the edges of what the other side's clock may do, and what is not a byte."""

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

from hw.parts.uart import UartReceiver, UartTransmitter
from tests.hardware import simulate, sink, source


class Loop(wiring.Component):
    """A transmitter on the wire of a receiver."""

    def __init__(self, divisor: int) -> None:
        self.transmitter, self.receiver = UartTransmitter(divisor=divisor), UartReceiver(divisor=divisor)
        members = {"sent": self.transmitter.signature, "received": self.receiver.signature}
        super().__init__({name: signature.members["data"] for name, signature in members.items()})

    def elaborate(self, platform):
        m = Module()
        m.submodules.transmitter, m.submodules.receiver = self.transmitter, self.receiver
        m.d.comb += self.receiver.line.eq(self.transmitter.line)
        wiring.connect(m, wiring.flipped(self.sent), self.transmitter.data)
        wiring.connect(m, self.receiver.data, wiring.flipped(self.received))
        return m


@pytest.mark.parametrize("divisor", [4, 5, 60])
@pytest.mark.parametrize("idle", [0, 0.9])
def test_every_byte_comes_through(divisor, idle):
    loop, found = Loop(divisor), []
    data = list(range(256)) if divisor < 60 else [0, 0x55, 0xAA, 0xFF]
    simulate(loop, source(loop.sent, data, idle=idle), sink(loop.received, found, len(data)))
    assert found == data


def test_bytes_follow_each_other_without_a_gap():
    transmitter = UartTransmitter(divisor=5)
    taken = []

    async def testbench(ctx):
        ctx.set(transmitter.data.valid, 1)
        for cycle in range(300):
            if ctx.get(transmitter.data.ready):
                taken.append(cycle)
            await ctx.tick()

    simulate(transmitter, testbench)
    assert taken == list(range(0, 300, 50))


def send(bits, line, divisor_of_sender):
    async def testbench(ctx):
        time = 0.0
        await ctx.tick().repeat(10)
        for bit in bits:
            ctx.set(line, bit)
            before, time = round(time), time + divisor_of_sender
            await ctx.tick().repeat(round(time) - before)
        ctx.set(line, 1)
        await ctx.tick().repeat(200)

    return testbench


def frame(byte, stop=1):
    return [0, *(byte >> n & 1 for n in range(8)), stop]


@pytest.mark.parametrize("clock_error", [-0.03, 0, 0.03])
def test_the_senders_clock_may_be_off(clock_error):
    receiver, found = UartReceiver(divisor=52), []
    data = [0, 0xFF, 0x55, 0xA5, 0x80]
    bits = [bit for byte in data for bit in frame(byte)]
    simulate(receiver, send(bits, receiver.line, 52 * (1 + clock_error)), sink(receiver.data, found, len(data)))
    assert found == data


def test_what_is_not_a_byte_is_dropped_and_counted():
    receiver, found = UartReceiver(divisor=8), []

    async def errors(ctx):
        while len(found) < 2:
            await ctx.tick()
        assert ctx.get(receiver.errors) == 1

    # A wrong stop bit; a pulse too short for a start bit, which is no byte at all; and good ones around them.
    bits = [*frame(0x12), *frame(0x34, stop=0), *[1] * 12, *frame(0x56)]
    simulate(receiver, send(bits, receiver.line, 8), sink(receiver.data, found, 2), errors)
    assert found == [0x12, 0x56]


def test_a_byte_that_nobody_takes_is_kept_and_the_next_one_counted():
    receiver = UartReceiver(divisor=8)

    async def check(ctx):
        await ctx.tick().repeat(400)
        assert (ctx.get(receiver.data.valid), ctx.get(receiver.data.payload), ctx.get(receiver.errors)) == (1, 0x12, 2)

    simulate(receiver, send([*frame(0x12), *frame(0x34), *frame(0x56)], receiver.line, 8), check)


def test_a_short_pulse_is_not_a_start_bit():
    receiver = UartReceiver(divisor=16)

    async def check(ctx):
        await ctx.tick().repeat(100)
        ctx.set(receiver.line, 0)
        await ctx.tick().repeat(4)
        ctx.set(receiver.line, 1)
        await ctx.tick().repeat(400)
        assert (ctx.get(receiver.data.valid), ctx.get(receiver.errors)) == (0, 0)

    simulate(receiver, check)


def test_divisor():
    assert (UartReceiver(divisor=9).divisor, UartTransmitter(divisor=4).divisor) == (9, 4)
    for component in (UartReceiver, UartTransmitter):
        with pytest.raises(ValueError, match=r"^divisor must be at least 4 cycles per bit, not 3$"):
            component(divisor=3)
