"""A block that fired several spikes of a neuron: which of them leave, and in which order."""

import random

import pytest

from hw.folded.burst_block import BurstBlock
from model.machine.folded_layout import Folded
from sim.generators.chains import bursting_chain
from sim.generators.plans import random_folded_plan
from tests.hardware import simulate


def survivors(change, before, others):
    """How far the greatest count of a window moves."""
    most = max(others, default=min(before, before + change))
    return max(before + change, most) - max(before, most)


@pytest.mark.parametrize("seed", [2, 3, 5])
def test_what_leaves(seed):
    chance = random.Random(seed)
    network = bursting_chain(seed)
    folded = Folded.of(network, random_folded_plan(network, seed))
    fired, lanes, top, seen = BurstBlock(folded=folded), folded.lanes, 1 << folded.more_bits, set()

    async def testbench(ctx):
        for _ in range(80):
            number = chance.randrange(len(folded.layers))
            la = folded.layers[number]
            block, y, x = chance.randrange(la.blocks), chance.randrange(3), chance.randrange(3)
            after = [chance.randrange(8) for _ in range(lanes)]
            before = [max(0, min(7, count + chance.choice([0, 1, -1, 3, -2]))) if lane < la.lanes else count
                      for lane, count in enumerate(after)]
            changes = [max(-top, min(top, new - old)) for new, old in zip(after, before, strict=True)]
            before = [new - change for new, change in zip(after, changes, strict=True)]
            for name, value in (("layer", number), ("block", block), ("y", y), ("x", x), ("load", 1)):
                ctx.set(getattr(fired, name), value)
            ctx.set(fired.plus, sum(1 << lane for lane, change in enumerate(changes) if change > 0))
            ctx.set(fired.minus, sum(1 << lane for lane, change in enumerate(changes) if change < 0))
            ctx.set(fired.more, [max(0, abs(change) - 1) for change in changes])
            await ctx.tick()
            ctx.set(fired.load, 0)
            ctx.set(fired.highest, [max(pair) for pair in zip(before, after, strict=True)])
            members = [[chance.randrange(8) for _ in range(lanes)] for _ in range(chance.choice([0, 0, 1, 3]))]
            for counts in members:
                ctx.set(fired.counts, counts)
                ctx.set(fired.compare, 1)
                await ctx.tick()
                ctx.set(fired.compare, 0)
            left = [survivors(change, old, [counts[lane] for counts in members]) if members else change
                    for lane, (change, old) in enumerate(zip(changes, before, strict=True))]
            seen.update(("cut" if 0 < abs(some) < abs(change) else "dropped" if not some else "whole")
                        for some, change in zip(left, changes, strict=True) if change)
            assert ctx.get(fired.left_plus) == sum(1 << lane for lane, some in enumerate(left) if some > 0)
            assert ctx.get(fired.left_minus) == sum(1 << lane for lane, some in enumerate(left) if some < 0)
            for lane, some in enumerate(left):
                for sent in range(abs(some)):
                    spike = ctx.get(fired.spike)
                    c = block * la.lanes + lane
                    assert ctx.get(fired.valid) and (spike.negative, spike.y, spike.x, spike.c) == (int(some < 0), y, x, c)
                    assert ctx.get(fired.following) == abs(some) - 1
                    assert ctx.get(fired.last_of_neuron) == (sent == abs(some) - 1)
                    assert ctx.get(fired.last) == (sent == abs(some) - 1 and not any(left[lane + 1 :]))
                    ctx.set(fired.take, 1)
                    await ctx.tick()
                    ctx.set(fired.take, 0)
            assert not ctx.get(fired.valid)

    simulate(fired, testbench)
    assert seen == {"cut", "dropped", "whole"}
