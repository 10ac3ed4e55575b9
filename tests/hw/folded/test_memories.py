"""The memories of a folded machine: what was written to a block is read there, and nowhere else; and its weights.

Block RAM alone: Amaranth does not simulate the memory with one port, which co-simulation covers.
"""

import random
from dataclasses import replace

import pytest

from hw.folded.lane import SettledState
from hw.folded.memories import Memories
from model.machine.folded_layout import Folded
from model.machine.folded_plan import folded_plan
from sim.generators.chains import random_chain
from tests.hardware import simulate


@pytest.mark.parametrize(("seed", "lanes"), [(1, 2), (2, 8)])
def test_states_and_weights_in_block_ram(seed, lanes):
    chance = random.Random(seed)
    network = random_chain(seed)
    plan = folded_plan(network, lanes=lanes, blocks=10**6)
    cores = [
        replace(
            core,
            channels=min(plan.lanes, network.shape_of(core.layer).channels),
            state_memory="block",
            weight_memory="block",
        )
        for core in plan.cores
    ]
    plan = replace(plan, cores=tuple(cores))
    folded = Folded.of(network, plan)
    memories, state = Memories(folded=folded), SettledState(*(la.layer for la in folded.layers))
    port, bits = memories.port, state["summed"].width
    blocks = [
        (number, y, x, block)
        for number, la in enumerate(folded.layers)
        for y in range(la.output.height)
        for x in range(la.output.width)
        for block in range(la.blocks)
    ]
    written = {
        at: [
            {"summed": chance.randrange(-(1 << bits - 1), 1 << bits - 1), "count": chance.randrange(4)}
            for _ in range(folded.lanes)
        ]
        for at in blocks
    }
    complete = {at for at in blocks if chance.random() < 0.5}
    completed = {at[:3] for at in complete}

    def ask(ctx, number, y, x, block):
        ctx.set(memories.layer, number)
        ctx.set(port.y, y)
        ctx.set(port.x, x)
        ctx.set(port.block, block)

    async def testbench(ctx):
        places = set()
        ctx.set(memories.sweep, 1)
        await ctx.tick().until(memories.swept)
        ctx.set(memories.sweep, 0)
        for at in chance.sample(blocks, len(blocks)):
            ask(ctx, *at)
            place = ctx.get(port.place)
            places.add(place.state)
            ctx.set(port.write_place, place)
            ctx.set(port.write_states, written[at])
            ctx.set(port.completes, at in complete)
            ctx.set(port.write, 1)
            await ctx.tick()
            ctx.set(port.write, 0)
        assert len(places) == len(blocks)
        for at in chance.sample(blocks, len(blocks)):
            la = folded.layers[at[0]]
            weight = chance.randrange(la.weight_words)
            ask(ctx, *at)
            ctx.set(port.weight, la.weight_base + weight)
            await ctx.tick()
            # What has been read stays, whatever is asked for next.
            ctx.set(port.block, 0)
            states = [{"summed": found.summed, "count": found.count} for found in ctx.get(port.states)]
            assert states == written[at]
            assert ctx.get(port.stale) == (at[:3] not in completed)
            found = [int(word) for word in ctx.get(port.weights)]
            assert found == [int(word) % 256 for word in la.words(folded.lanes)[weight]]
            assert not ctx.get(memories.one_port)

    simulate(memories, testbench)
    assert completed and len(completed) < len({at[:3] for at in blocks})
