"""The answer of a folded machine: counts in order, the class with the most, and cycles."""

import random

import pytest

from hw.folded.answer import Answer
from model.machine.folded_layout import Folded
from model.machine.folded_plan import folded_plan
from model.network import Network
from sim.generators.networks import random_linear
from tests.hardware import simulate


@pytest.mark.parametrize(("outputs", "lanes"), [(1, 1), (3, 4), (5, 2), (8, 4)])
def test_answers(outputs, lanes):
    chance = random.Random(outputs)
    layer = random_linear(1, inputs=6, outputs=outputs, name="only", activation="identity")
    network = Network(name="n", input_shape=(2, 1, 3), layers=(layer,))
    folded = Folded.of(network, folded_plan(network, lanes=lanes))
    answer, la = Answer(network=network, folded=folded), folded.layers[0]
    ties = set()

    async def testbench(ctx):
        for _ in range(12):
            counts = [chance.choice([-2, -1, 0, 1, 2]) for _ in range(outputs)]
            # A silent lane has a count as well, which is not looked at.
            lanes_of_blocks = counts + [3] * (la.blocks * la.lanes - outputs)
            cycles = 0

            async def tick():
                nonlocal cycles
                await ctx.tick()
                cycles += 1

            ctx.set(answer.start, 1)
            await ctx.tick()
            ctx.set(answer.start, 0)
            for _ in range(chance.randrange(5)):
                await tick()
            ctx.set(answer.collect, 1)
            for block in range(la.blocks):
                ctx.set(answer.counts, lanes_of_blocks[block * la.lanes : (block + 1) * la.lanes])
                await tick()
            ctx.set(answer.collect, 0)
            ctx.set(answer.compare, 1)
            for at in range(len(lanes_of_blocks)):
                assert ctx.get(answer.last) == (at == len(lanes_of_blocks) - 1)
                assert not ctx.get(answer.result.valid)
                await tick()
            ctx.set(answer.compare, 0)
            for _ in range(chance.randrange(3)):
                assert ctx.get(answer.result.valid)
                await ctx.tick()
            result = ctx.get(answer.result.payload)
            assert [int(count) for count in result.counts] == counts
            assert result.answer == (counts.index(max(counts)) if outputs > 1 else int(counts[0] > 0))
            assert result.cycles == cycles
            ties.add(counts.count(max(counts)) > 1)
            ctx.set(answer.result.ready, 1)
            await ctx.tick()
            ctx.set(answer.result.ready, 0)
            assert not ctx.get(answer.result.valid)

    simulate(answer, testbench)
    assert ties == ({False, True} if outputs > 1 else {False})
