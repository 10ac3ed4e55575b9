"""The register stage: order, nothing lost, a token a cycle, and no path from one side to the other."""

import random

import pytest
from amaranth.hdl import unsigned

from hw.aer import AddressEvent
from hw.parts.buffer import StreamBuffer
from model.network import Shape
from sim.generators.frames import random_frames
from tests.hardware import event_tokens, frames_of_events, pairs, simulate, sink, source


@pytest.mark.parametrize("idle", [0, 0.5])
@pytest.mark.parametrize("stall", [0, 0.5])
def test_tokens_pass_in_order(idle, stall):
    shape = Shape(5, 4, 3)
    buffer, found = StreamBuffer(payload=AddressEvent(shape)), []
    frames = random_frames(shape, 1)
    tokens = event_tokens(shape, frames)
    simulate(buffer, source(buffer.taken, tokens, idle=idle), sink(buffer.given, found, len(tokens), stall=stall))
    assert frames_of_events(shape, found) == [pairs(frame) for frame in frames]


def test_a_token_a_cycle_and_two_while_stalled():
    buffer = StreamBuffer(payload=unsigned(8))
    assert buffer.payload == unsigned(8)

    async def testbench(ctx):
        ctx.set(buffer.taken.valid, 1)
        for cycle in range(20):
            ctx.set(buffer.taken.payload, cycle)
            assert ctx.get(buffer.taken.ready)
            if cycle:
                assert (ctx.get(buffer.given.valid), ctx.get(buffer.given.payload)) == (1, cycle - 1)
            ctx.set(buffer.given.ready, 1)
            await ctx.tick()
        ctx.set(buffer.given.ready, 0)
        # Nobody takes: one more token finds room beside the one at the output.
        ctx.set(buffer.taken.payload, 20)
        await ctx.tick()
        assert not ctx.get(buffer.taken.ready)
        ctx.set(buffer.given.ready, 1)
        for expected in (19, 20):
            assert (ctx.get(buffer.given.valid), ctx.get(buffer.given.payload)) == (1, expected)
            await ctx.tick()

    simulate(buffer, testbench)


def test_no_path_from_side_to_side():
    buffer, chance = StreamBuffer(payload=unsigned(4)), random.Random(0)

    async def testbench(ctx):
        seen = set()
        for _ in range(200):
            # Whatever the inputs do within a cycle, the outputs stay.
            shown = set()
            for _ in range(4):
                ctx.set(buffer.taken.valid, chance.random() < 0.7)
                ctx.set(buffer.taken.payload, chance.randrange(16))
                ctx.set(buffer.given.ready, chance.random() < 0.5)
                outputs = (buffer.taken.ready, buffer.given.valid, buffer.given.payload)
                shown.add(tuple(ctx.get(output) for output in outputs))
            assert len(shown) == 1
            seen |= {output[:2] for output in shown}
            await ctx.tick()
        assert seen == {(1, 0), (1, 1), (0, 1)}

    simulate(buffer, testbench)
