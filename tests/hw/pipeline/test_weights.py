"""Weight memory: every word, two cycles later, at every depth that cuts it differently."""

import random

import pytest

from hw.parts.memory import BLOCK, LOGIC
from hw.pipeline.weights import BLOCK_BITS, WeightMemory
from hw.pipeline.weights import slice_bits as slice_bits_of
from tests.hardware import simulate


@pytest.mark.parametrize(
    ("depth", "channels", "weight_bits", "slice_bits"),
    [(1, 1, 8, 36), (25, 3, 8, 36), (600, 5, 7, 18), (2000, 2, 8, 9), (3136, 3, 5, 4), (5000, 1, 8, 2), (20000, 1, 3, 1)],
)
def test_every_word_comes_two_cycles_later(depth, channels, weight_bits, slice_bits):
    chance = random.Random(depth)
    low, high = -(1 << weight_bits - 1), (1 << weight_bits - 1) - 1
    words = [[chance.randint(low, high) for _ in range(channels)] for _ in range(depth)]
    words[0][0], words[-1][-1] = low, high
    memory = WeightMemory(words=words, weight_bits=weight_bits)
    assert (memory.depth, memory.weight_bits, slice_bits_of(depth)) == (depth, weight_bits, slice_bits)
    # A slice fits a block, but for the deepest memories.
    assert slice_bits == 1 or slice_bits // 9 * 8 * depth <= BLOCK_BITS
    addresses = [0, depth - 1, *(chance.randrange(depth) for _ in range(300))]

    async def testbench(ctx):
        for cycle, addr in enumerate([*addresses, 0, 0]):
            ctx.set(memory.addr, addr)
            if cycle >= 2:
                assert list(ctx.get(memory.word)) == words[addresses[cycle - 2]]
            await ctx.tick()

    simulate(memory, testbench)


@pytest.mark.parametrize(
    ("memory", "kinds", "luts"),
    [
        ("auto", [BLOCK, BLOCK, BLOCK], 0),
        ("block", [BLOCK, BLOCK, BLOCK], 0),
        ("mixed", [BLOCK, BLOCK, LOGIC], 4),
        ("distributed", [LOGIC, LOGIC, LOGIC], 40),
    ],
)
def test_slices_are_in_luts_where_the_plan_says_so(memory, kinds, luts):
    """All of them, or what does not fill the width of its blocks."""
    words = [[0] * 5] * 600
    built = WeightMemory(words=words, weight_bits=8, memory=memory).memories
    assert [(each.width, each.kind, each.moved) for each in built] == [
        (width, kind, kind == LOGIC) for width, kind in zip((18, 18, 4), kinds, strict=True)
    ]
    assert sum(each.table_luts for each in built) == luts * 38
    assert sum(each.blocks + each.freed_blocks for each in built) == 3
    # What is in LUTs anyway is not moved there, and what fills its blocks is not mixed.
    assert [(each.kind, each.moved) for each in WeightMemory(words=words[:32], weight_bits=8, memory=memory).memories] == [
        (LOGIC, False)
    ] * 2
    whole = WeightMemory(words=[[0] * 9] * 600, weight_bits=4, memory="mixed").memories
    assert [each.kind for each in whole] == [BLOCK, BLOCK]


@pytest.mark.parametrize("words", [[], [[]]])
def test_needs_weights(words):
    with pytest.raises(ValueError, match=r"^words must be at least one word of at least one weight$"):
        WeightMemory(words=words, weight_bits=8)
