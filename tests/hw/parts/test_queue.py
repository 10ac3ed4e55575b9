"""The queue in block RAM: order, nothing lost, a token a cycle, and how many it holds."""

import pytest
from amaranth.hdl import unsigned

from hw.aer import AddressEvent
from hw.parts.memory import BuiltMemory
from hw.parts.queue import BlockQueue
from model.network import Shape
from sim.generators.frames import random_frames
from tests.hardware import event_tokens, frames_of_events, pairs, simulate, sink, source


@pytest.mark.parametrize("depth", [2, 5, 16])
@pytest.mark.parametrize(("idle", "stall"), [(0, 0), (0.5, 0), (0, 0.5), (0.3, 0.4)])
def test_tokens_pass_in_order(depth, idle, stall):
    shape = Shape(5, 4, 3)
    queue, found = BlockQueue(payload=AddressEvent(shape), depth=depth), []
    frames = random_frames(shape, 1)
    tokens = event_tokens(shape, frames)
    simulate(queue, source(queue.taken, tokens, idle=idle), sink(queue.given, found, len(tokens), stall=stall))
    assert frames_of_events(shape, found) == [pairs(frame) for frame in frames]


def test_a_token_a_cycle_and_one_more_than_its_depth():
    queue = BlockQueue(payload=unsigned(8), depth=4)
    assert queue.depth == 4
    assert queue.memories == (BuiltMemory(name="words", width=8, depth=4, kind="block"),)

    async def testbench(ctx):
        assert not ctx.get(queue.holds)
        ctx.set(queue.taken.valid, 1)
        ctx.set(queue.given.ready, 1)
        for cycle in range(20):
            ctx.set(queue.taken.payload, cycle)
            assert ctx.get(queue.taken.ready)
            assert ctx.get(queue.given.valid) == (cycle >= 2)
            if cycle >= 2:
                assert ctx.get(queue.given.payload) == cycle - 2
            await ctx.tick()
        # 18 and 19 are inside. Nobody takes: three more find room.
        ctx.set(queue.given.ready, 0)
        for cycle in range(20, 23):
            ctx.set(queue.taken.payload, cycle)
            assert ctx.get(queue.taken.ready)
            await ctx.tick()
        assert not ctx.get(queue.taken.ready) and ctx.get(queue.holds)
        ctx.set(queue.taken.valid, 0)
        ctx.set(queue.given.ready, 1)
        for cycle in range(18, 23):
            assert (ctx.get(queue.given.valid), ctx.get(queue.given.payload)) == (1, cycle)
            await ctx.tick()
        assert not ctx.get(queue.given.valid) and not ctx.get(queue.holds)

    simulate(queue, testbench)


def test_depth_is_at_least_two():
    with pytest.raises(ValueError, match=r"^depth must be at least 2, not 1$"):
        BlockQueue(payload=unsigned(8), depth=1)
