"""The sweep of a flush: every place and every member in order, wherever it stops and starts again."""

import random

import pytest

from hw.folded.flush_sweep import FlushSweep
from model.machine.folded_layout import Folded
from sim.generators.chains import deferred_chain
from sim.generators.plans import random_folded_plan
from tests.hardware import simulate


def places(la, pooled):
    """Each place with its members."""
    rows, columns = (la.windows(axis) if pooled else [(at, 1) for at in range(la.output[axis])] for axis in (0, 1))
    return [
        ((y, x, block), [(first_y + dy, first_x + dx) for dy in range(height) for dx in range(width)])
        for y, (first_y, height) in enumerate(rows)
        for x, (first_x, width) in enumerate(columns)
        for block in range(la.blocks)
    ]


@pytest.mark.parametrize("seed", [1, 3, 4])
def test_places_and_members(seed):
    chance = random.Random(seed)
    network = deferred_chain(seed)
    folded = Folded.of(network, random_folded_plan(network, seed))
    sweep, stops = FlushSweep(folded=folded), set()

    async def testbench(ctx):
        for number, la in enumerate(folded.layers):
            for pooled in (False, True)[: 1 + (la.pool is not None)]:
                ctx.set(sweep.layer, number)
                ctx.set(sweep.pooled, pooled)
                ctx.set(sweep.start, 1)
                await ctx.tick()
                ctx.set(sweep.start, 0)
                wanted, at = places(la, pooled), 0
                while at < len(wanted):
                    stop = min(at + chance.choice([0, 0, 2, 7]), len(wanted) - chance.choice([0, 1]))
                    await visit(ctx, wanted[at:stop + 1])
                    if stop >= len(wanted):
                        break
                    stops.add((pooled, stop == len(wanted) - 1))
                    await stop_at(ctx, wanted[stop][0])
                    at = stop + 1
                ctx.set(sweep.run, 1)
                await ctx.tick()
                ctx.set(sweep.run, 0)
                assert ctx.get(sweep.done) and not ctx.get(sweep.visits)

    async def visit(ctx, wanted):
        """What is visited while it runs, with pauses."""
        found = []
        expected = [
            (place, member, n == 0, n == len(members) - 1) for place, members in wanted for n, member in enumerate(members)
        ]
        while len(found) < len(expected):
            run = chance.random() < 0.8
            ctx.set(sweep.run, run)
            if run and ctx.get(sweep.visits):
                place = ctx.get(sweep.place)
                members = ctx.get(sweep.member_y), ctx.get(sweep.member_x)
                found.append(((place.y, place.x, place.block), members, bool(ctx.get(sweep.first)), bool(ctx.get(sweep.last))))
            await ctx.tick()
        ctx.set(sweep.run, 0)
        assert found == expected

    async def stop_at(ctx, place):
        """It stops at that place, and goes on with the one after it."""
        ctx.set(sweep.jump_to, dict(zip(("y", "x", "block"), place, strict=True)))
        ctx.set(sweep.jump, 1)
        await ctx.tick()
        ctx.set(sweep.jump, 0)
        await ctx.tick()
        assert not ctx.get(sweep.visits)
        ctx.set(sweep.skip, 1)
        await ctx.tick()
        ctx.set(sweep.skip, 0)

    simulate(sweep, testbench)
    assert {(False, False), (False, True), (True, False)} <= stops
