"""The queues of a folded machine against lists."""

import random
from collections import deque

from hw.folded.queues import Queues
from model.machine.folded_layout import Folded
from sim.generators.chains import random_chain
from sim.generators.plans import random_folded_plan
from tests.hardware import simulate


def test_pushes_and_pops_in_any_order():
    chance = random.Random(1)
    network = random_chain(1)
    folded = Folded.of(network, random_folded_plan(network, 1))
    queues = Queues(folded=folded)
    waiting = {number: deque() for number in range(1, len(folded.layers))}
    full, popped = set(), dict.fromkeys(waiting, 0)

    async def push(ctx, number):
        shape = folded.inputs[number].source
        y, x, c = (chance.randrange(size) for size in (shape.height, shape.width, shape.channels))
        spike = {"negative": chance.randrange(2), "y": y, "x": x, "c": c}
        ctx.set(queues.layer, number - 1)
        ctx.set(queues.spike, spike)
        ctx.set(queues.push, 1)
        await ctx.tick()
        ctx.set(queues.push, 0)
        waiting[number].append(spike)
        if len(waiting[number]) == folded.links[number].queue.depth:
            full.add(number)

    async def pop(ctx):
        deepest = max(number for number, events in waiting.items() if events)
        assert ctx.get(queues.deepest) == deepest
        ctx.set(queues.pop, 1)
        await ctx.tick()
        ctx.set(queues.pop, 0)
        ctx.set(queues.layer, deepest)
        await ctx.delay(1e-9)
        event = ctx.get(queues.event)
        assert {name: event[name] for name in ("negative", "y", "x", "c")} == waiting[deepest].popleft()
        popped[deepest] += 1

    async def testbench(ctx):
        # A spike of the last layer goes nowhere.
        ctx.set(queues.layer, len(folded.layers) - 1)
        ctx.set(queues.push, 1)
        await ctx.tick()
        ctx.set(queues.push, 0)
        for _ in range(60):
            # An event of a layer fires; all that it fires is taken, and all that this fires, before the next one is.
            for number in waiting:
                if not waiting[number]:
                    for _ in range(chance.choice([0, 1, folded.links[number].queue.depth])):
                        await push(ctx, number)
            for _ in range(chance.randrange(8)):
                if any(waiting.values()):
                    await pop(ctx)
            assert ctx.get(queues.waiting) == any(waiting.values())
        while any(waiting.values()):
            await pop(ctx)
        assert not ctx.get(queues.waiting)

    simulate(queues, testbench)
    assert full == set(waiting) and min(popped.values()) > 10
