"""A block that fired in a flush: its spikes leave in order, all of a neuron's before the next one's."""

import random

import pytest

from hw.folded.flushed_block import FlushedBlock
from model.machine.folded_layout import Folded
from sim.generators.chains import deferred_chain
from sim.generators.plans import random_folded_plan
from tests.hardware import simulate


@pytest.mark.parametrize("seed", [1, 3, 4])
def test_what_leaves(seed):
    chance = random.Random(seed)
    network = deferred_chain(seed)
    folded = Folded.of(network, random_folded_plan(network, seed))
    fired, most, seen = FlushedBlock(folded=folded), 0, set()

    async def testbench(ctx):
        nonlocal most
        for _ in range(60):
            number = chance.randrange(len(folded.layers))
            la = folded.layers[number]
            place = {"y": chance.randrange(3), "x": chance.randrange(3), "block": chance.randrange(la.blocks)}
            changes = [chance.choice([0, 0, 1, -1, 4, -3]) if lane < la.lanes else 0 for lane in range(folded.lanes)]
            top = 1 << folded.more_bits
            changes = [max(-top, min(top, change)) for change in changes]
            ctx.set(fired.layer, number)
            ctx.set(fired.place, place)
            ctx.set(fired.plus, sum(1 << lane for lane, change in enumerate(changes) if change > 0))
            ctx.set(fired.minus, sum(1 << lane for lane, change in enumerate(changes) if change < 0))
            ctx.set(fired.more, [max(0, abs(change) - 1) for change in changes])
            ctx.set(fired.load, 1)
            await ctx.tick()
            ctx.set(fired.load, 0)
            for lane, change in enumerate(changes):
                most = max(most, abs(change))
                for _ in range(abs(change)):
                    assert ctx.get(fired.valid)
                    spike = ctx.get(fired.spike)
                    c = place["block"] * la.lanes + lane
                    assert (spike.negative, spike.y, spike.x, spike.c) == (int(change < 0), place["y"], place["x"], c)
                    seen.add(change < 0)
                    # A spike waits for as long as it is not taken.
                    for _ in range(chance.randrange(2)):
                        await ctx.tick()
                    ctx.set(fired.take, 1)
                    await ctx.tick()
                    ctx.set(fired.take, 0)
            assert not ctx.get(fired.valid)

    simulate(fired, testbench)
    assert most > 1 and seen == {False, True}
