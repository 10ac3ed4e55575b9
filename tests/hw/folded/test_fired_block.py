"""A block that fired: which of its spikes leave, and in which order."""

import random

import pytest

from hw.folded.fired_block import FiredBlock
from model.machine.folded_layout import Folded
from sim.generators.chains import random_chain
from sim.generators.plans import random_folded_plan
from tests.hardware import simulate


@pytest.mark.parametrize("seed", [1, 3, 4])
def test_what_leaves(seed):
    chance = random.Random(seed)
    network = random_chain(seed)
    folded = Folded.of(network, random_folded_plan(network, seed))
    fired, lanes = FiredBlock(folded=folded), folded.lanes
    seen = set()

    async def testbench(ctx):
        for _ in range(150):
            number = chance.randrange(len(folded.layers))
            la = folded.layers[number]
            block, y, x = chance.randrange(la.blocks), chance.randrange(3), chance.randrange(3)
            signs = [chance.choice([-1, 0, 1]) if lane < la.lanes else 0 for lane in range(lanes)]
            for name, value in (("layer", number), ("block", block), ("y", y), ("x", x), ("load", 1)):
                ctx.set(getattr(fired, name), value)
            ctx.set(fired.plus, sum(1 << lane for lane, sign in enumerate(signs) if sign > 0))
            ctx.set(fired.minus, sum(1 << lane for lane, sign in enumerate(signs) if sign < 0))
            await ctx.tick()
            ctx.set(fired.load, 0)
            left = {lane: sign for lane, sign in enumerate(signs) if sign}
            for _ in range(chance.choice([0, 0, 1, 3])):
                counts, highest = ([chance.randrange(4) for _ in range(lanes)] for _ in range(2))
                ctx.set(fired.counts, counts)
                ctx.set(fired.highest, highest)
                ctx.set(fired.compare, 1)
                await ctx.tick()
                ctx.set(fired.compare, 0)
                dropped = {lane for lane in left if counts[lane] >= highest[lane]}
                left = {lane: sign for lane, sign in left.items() if lane not in dropped}
                seen.add(("dropped", bool(dropped)))
            assert ctx.get(fired.left_plus) == sum(1 << lane for lane, sign in left.items() if sign > 0)
            assert ctx.get(fired.left_minus) == sum(1 << lane for lane, sign in left.items() if sign < 0)
            seen.add(("left", min(len(left), 2)))
            for at, (lane, sign) in enumerate(left.items()):
                assert ctx.get(fired.valid) and ctx.get(fired.last) == (at == len(left) - 1)
                spike = ctx.get(fired.spike)
                assert (spike.negative, spike.y, spike.x, spike.c) == (int(sign < 0), y, x, block * la.lanes + lane)
                # A spike waits for as long as it is not taken.
                for _ in range(chance.randrange(2)):
                    await ctx.tick()
                ctx.set(fired.take, 1)
                await ctx.tick()
                ctx.set(fired.take, 0)
            assert not ctx.get(fired.valid)

    simulate(fired, testbench)
    assert {("dropped", False), ("dropped", True), ("left", 0), ("left", 1)} <= seen
