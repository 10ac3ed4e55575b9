"""Tags: what was written in this frame, over as many frames as wrap the generations."""

import random

import pytest

from hw.folded.tags import Tags
from model.machine.folded_layout import Folded
from sim.generators.chains import random_chain
from sim.generators.plans import random_folded_plan
from tests.hardware import simulate


@pytest.mark.parametrize("seed", [1, 2, 5])
def test_what_is_stale(seed):
    chance = random.Random(seed)
    network = random_chain(seed)
    folded = Folded.of(network, random_folded_plan(network, seed))
    tags, sweeps = Tags(folded=folded), 0

    async def sweep(ctx):
        ctx.set(tags.sweep, 1)
        for at in range(folded.tag_depth):
            assert ctx.get(tags.swept) == (at == folded.tag_depth - 1)
            await ctx.tick()
        ctx.set(tags.sweep, 0)

    async def testbench(ctx):
        nonlocal sweeps
        await sweep(ctx)
        frames = 2 * 2**folded.generation_bits
        for frame in range(frames):
            marked = {chance.randrange(folded.tag_depth) for _ in range(folded.tag_depth // 2)}
            for addr in marked:
                ctx.set(tags.mark_addr, addr)
                ctx.set(tags.mark, 1)
                await ctx.tick()
            ctx.set(tags.mark, 0)
            for addr in range(folded.tag_depth):
                ctx.set(tags.addr, addr)
                await ctx.tick()
                assert ctx.get(tags.stale) == (addr not in marked)
            wraps = ctx.get(tags.wraps)
            assert wraps == ((frame + 1) % (2**folded.generation_bits - 1) == 0)
            ctx.set(tags.next_frame, 1)
            await ctx.tick()
            ctx.set(tags.next_frame, 0)
            if wraps:
                await sweep(ctx)
                sweeps += 1

    simulate(tags, testbench)
    assert sweeps >= 2
