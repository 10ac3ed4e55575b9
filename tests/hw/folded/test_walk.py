"""The walk of a folded machine against the projections of the layers, and its pool's windows against the pools."""

import random
from dataclasses import replace

import pytest

from hw.folded.pool_window import PoolWindow
from hw.folded.walk import Walk
from model.machine.folded_layout import Folded
from model.projection import ConvolutionProjection
from sim.generators.chains import ending_chain, random_chain
from sim.generators.graphs import random_graph
from sim.generators.plans import random_folded_plan
from tests.hardware import simulate


def expected_walk(folded, number, y, x, c):
    """Position and block of each step, with the weights of its lanes; straight from the projection's definition."""
    layer, source, steps = folded.inputs[number].taker, folded.inputs[number].source, []
    la = folded.layers[folded.inputs[number].layer]
    for out_y in range(la.output.height):
        for out_x in range(la.output.width):
            if isinstance(layer, ConvolutionProjection):
                row = y + layer.padding.top - out_y * layer.stride[0]
                column = x + layer.padding.left - out_x * layer.stride[1]
                if not (0 <= row < layer.kernel[0] and 0 <= column < layer.kernel[1]):
                    continue
                weights = layer.weights[:, c, row, column].tolist()
            else:
                taken, (height, width) = layer.taken(source), layer.averaged
                if y // height >= taken.height or x // width >= taken.width:
                    continue
                weights = layer.weights[:, taken.address(y // height, x // width, c)].tolist()
            weights += [0] * (la.blocks * la.lanes - len(weights))
            for block in range(la.blocks):
                of_lanes = weights[block * la.lanes : (block + 1) * la.lanes]
                steps.append((out_y, out_x, block, of_lanes + [0] * (folded.lanes - la.lanes)))
    return steps


def graph(seed):
    return replace(random_graph(seed, firing="deferred", plain=True), flush_events=0)


@pytest.mark.parametrize(
    ("seed", "made"),
    [(1, random_chain), (2, random_chain), (3, random_chain), (2, ending_chain), (4, ending_chain), (2, graph), (6, graph)],
)
def test_every_block_of_a_window_in_order(seed, made):
    """Also behind average pools, for events after the last whole window, which reach nothing, and of several inputs."""
    chance = random.Random(seed)
    network = made(seed)
    folded = Folded.of(network, random_folded_plan(network, seed))
    walk = Walk(folded=folded)
    lengths = set()

    async def testbench(ctx):
        for number, each in enumerate(folded.inputs):
            la = folded.layers[each.layer]
            words = la.words(folded.lanes).tolist()
            for y, x, c in {tuple(chance.randrange(size) for size in each.source) for _ in range(25)}:
                ctx.set(walk.taken_by, number)
                ctx.set(walk.event, {"negative": 0, "y": y, "x": x, "c": c})
                await ctx.tick()
                expected = expected_walk(folded, number, y, x, c)
                assert ctx.get(walk.reaches) == bool(expected)
                ctx.set(walk.start, 1)
                await ctx.tick()
                ctx.set(walk.start, 0)
                steps = []
                for at in range(len(expected)):
                    step = ctx.get(walk.step)
                    steps.append((step.y, step.x, step.block, words[step.weight - la.weight_base]))
                    assert ctx.get(walk.last) == (at == len(expected) - 1)
                    # A walk may rest anywhere, and may be set to where it is.
                    for _ in range(chance.choice([0, 0, 1])):
                        ctx.set(walk.jump, chance.choice([0, 1]))
                        ctx.set(walk.jump_to, step)
                        await ctx.tick()
                        ctx.set(walk.jump, 0)
                    ctx.set(walk.advance, 1)
                    await ctx.tick()
                    ctx.set(walk.advance, 0)
                assert steps == expected
                lengths.add(len(expected))

    simulate(walk, testbench)
    assert len(lengths) >= 3


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_position_of_a_pools_window(seed):
    network = random_chain(seed)
    folded = Folded.of(network, random_folded_plan(network, seed))
    window = PoolWindow(folded=folded)
    seen = set()

    def windows_of(la):
        """Of each window the pool's position and the positions in it."""
        pool = la.pool
        for pooled_y in range(la.leaving.height):
            for pooled_x in range(la.leaving.width):
                top, left = pooled_y * pool.stride[0] - pool.padding.top, pooled_x * pool.stride[1] - pool.padding.left
                yield (pooled_y, pooled_x), [
                    (y, x)
                    for y in range(max(0, top), min(la.output.height, top + pool.window[0]))
                    for x in range(max(0, left), min(la.output.width, left + pool.window[1]))
                ]

    async def testbench(ctx):
        for number, la in enumerate(folded.layers):
            windows = {member: found for found in windows_of(la) for member in found[1]} if la.pool else {}
            for y in range(la.output.height):
                for x in range(la.output.width):
                    ctx.set(window.layer, number)
                    ctx.set(window.y, y)
                    ctx.set(window.x, x)
                    ctx.set(window.start, 1)
                    await ctx.delay(1e-9)
                    assert ctx.get(window.pools) == bool(la.pool)
                    assert ctx.get(window.inside) == ((y, x) in windows)
                    await ctx.tick()
                    ctx.set(window.start, 0)
                    seen.add((bool(la.pool), (y, x) in windows))
                    if (y, x) not in windows:
                        assert not ctx.get(window.visits)
                        if not la.pool:
                            assert (ctx.get(window.leaving_y), ctx.get(window.leaving_x)) == (y, x)
                        continue
                    pooled, members = windows[y, x]
                    assert (ctx.get(window.leaving_y), ctx.get(window.leaving_x)) == pooled
                    for at, member in enumerate(members):
                        assert ctx.get(window.visits)
                        assert (ctx.get(window.member_y), ctx.get(window.member_x)) == member
                        assert ctx.get(window.last) == (at == len(members) - 1)
                        await ctx.tick()
                    assert not ctx.get(window.visits)

    simulate(window, testbench)
    assert {(True, True), (False, False)} <= seen
