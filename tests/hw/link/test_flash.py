"""Packets from a serial flash: what is sent to it, when, and what of its answer is taken."""

import pytest
from amaranth.hdl import ResetInserter, Signal

from hw.link.flash import READ, WAKE, WAKE_SECONDS, FlashReader
from hw.link.protocol import SYNC
from tests.hardware import simulate

ADDR = 0x34A5C3
HELD = bytes([SYNC, 0x00, 0xFF, 0x5A, SYNC, 0x81, 0xFF, 0x12])


def flash(reader, held, heard):
    """A flash: notes each selection's bits, and the cycle of its first; answers on falling clocks."""

    async def testbench(ctx):
        clock, selected, bits, cycle = 0, False, [], 0
        while True:
            now, chosen = ctx.get(reader.clock), not ctx.get(reader.select_n)
            if chosen and not selected:
                bits = []
                heard.append((cycle, bits))
            elif chosen and now and not clock:
                bits.append(ctx.get(reader.copi))
            elif chosen and clock and not now and len(bits) >= 32:
                byte, bit = divmod(len(bits) - 32, 8)
                ctx.set(reader.cipo, held[byte] >> (7 - bit) & 1 if byte < len(held) else 1)
            clock, selected, cycle = now, chosen, cycle + 1
            await ctx.tick()

    return testbench


def number(bits):
    return int("".join(map(str, bits)), 2)


@pytest.mark.parametrize("clock_hz", [20e3, 2e6, 12e6, 28.875e6])
@pytest.mark.parametrize("wait", [None, 0, 1, 5, 40])
def test_bytes_until_it_is_told_to_stop(wait, clock_hz):
    """Bytes are taken at once, or so many cycles later; and all of it again after a reset in the middle, and one at the end."""
    reader, heard, found = FlashReader(addr=ADDR, clock_hz=clock_hz), [], []
    reset = Signal()

    async def read(ctx, count):
        for _ in range(count):
            if wait is None:
                ctx.set(reader.data.ready, 1)
            await ctx.tick().until(reader.data.valid)
            for _ in range(wait or 0):
                assert ctx.get(reader.active) and ctx.get(reader.data.valid)
                await ctx.tick()
            found.append(ctx.get(reader.data.payload))
            if wait is not None:
                ctx.set(reader.data.ready, 1)
                await ctx.tick()
                ctx.set(reader.data.ready, 0)

    async def link(ctx):
        for count in (3, 0, len(HELD) + 1):
            await read(ctx, count)
            ctx.set(reset, count != len(HELD) + 1)
            await ctx.tick()
            ctx.set(reset, 0)
        ctx.set(reader.stop, 1)
        await ctx.tick()
        ctx.set(reader.stop, 0)
        for _ in range(200):
            assert not ctx.get(reader.active) and not ctx.get(reader.data.valid)
            await ctx.tick()
            assert ctx.get(reader.select_n) and not ctx.get(reader.clock)

    simulate(ResetInserter(reset)(reader), link, background=[flash(reader, HELD, heard)])
    assert bytes(found) == HELD[:3] + HELD + b"\xff"
    for (awake, wake), (asked, read_bits) in (heard[:2], heard[-2:]):
        assert number(wake) == WAKE
        assert number(read_bits[:32]) == READ << 24 | ADDR
        assert asked - awake >= WAKE_SECONDS * clock_hz + 16


def test_an_address_of_more_than_24_bits():
    with pytest.raises(ValueError, match=r"addr must be within 0\.\.16777215, not 16777216"):
        FlashReader(addr=1 << 24, clock_hz=2e6)
