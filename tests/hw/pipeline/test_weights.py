"""Weight memory: every word, two cycles later, at every depth that cuts it differently."""

import random
from itertools import combinations_with_replacement

import pytest
from amaranth.utils import ceil_log2

from hw.parts.memory import BLOCK, LOGIC
from hw.pipeline.weights import BLOCK_BITS, WeightMemory, _slices, segment_depths
from hw.pipeline.weights import slice_bits as slice_bits_of
from model.machine.blocks import DP16KD
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
    ("depth", "channels", "weight_bits", "segments", "whole", "blocks"),
    [
        (1, 1, 8, (1,), 0, 0),
        (32, 24, 6, (32,), 0, 0),
        (512, 24, 6, (512,), 4, 4),
        (1024, 24, 6, (1024,), 8, 8),
        (2048, 24, 6, (2048,), 16, 16),
        # Two parts, of which each has the width for as many words.
        (1152, 24, 6, (1024, 128), 16, 12),
        (4800, 1, 8, (4096, 704), 4, 3),
        # What is left is a table, up to 32 words, of one word even.
        (513, 4, 8, (512, 1), 2, 1),
        (544, 4, 8, (512, 32), 2, 1),
        (545, 4, 8, (545,), 2, 2),
        (3456, 24, 6, (2048, 1024, 384), 36, 28),
        (3600, 4, 9, (2048, 1024, 512, 16), 9, 7),
        # The same shape twice.
        (5000, 1, 9, (2048, 2048, 904), 5, 3),
        # Deeper than a block.
        (20000, 1, 3, (16384, 3616), 6, 4),
    ],
)
def test_every_word_of_a_divided_memory_comes_two_cycles_later(depth, channels, weight_bits, segments, whole, blocks):
    """In order, and then from any segment after any other."""
    chance = random.Random(depth)
    low, high = -(1 << weight_bits - 1), (1 << weight_bits - 1) - 1
    words = [[chance.randint(low, high) for _ in range(channels)] for _ in range(depth)]
    memory = WeightMemory(words=words, weight_bits=weight_bits, memory="split")
    assert (memory.segments, segment_depths(depth, channels * weight_bits)) == (segments, segments)
    built = memory.memories
    assert sum(each.blocks for each in built) == blocks
    assert sum(each.blocks for each in WeightMemory(words=words, weight_bits=weight_bits).memories) == whole
    assert sum(each.freed_blocks for each in built) == whole - blocks
    assert [each.further for each in built] == sorted(each.further for each in built)
    assert sum(each.width for each in built if each.further) == (len(segments) - 1) * channels * weight_bits
    bases = [sum(segments[:number]) for number in range(len(segments) + 1)]
    borders = [addr for base in bases for addr in (base - 1, base) if 0 <= addr < depth]
    crossings = [(n, m) for n in range(len(segments)) for m in range(len(segments))]
    addresses = [*range(depth), *borders, *reversed(borders)]
    for pair in crossings:
        addresses += [chance.randrange(bases[number], bases[number + 1]) for number in pair]
    addresses += [chance.randrange(depth) for _ in range(300)]
    expected = [sum((weight & (1 << weight_bits) - 1) << n * weight_bits for n, weight in enumerate(word)) for word in words]
    checked = 0

    async def testbench(ctx):
        nonlocal checked
        for cycle, addr in enumerate([*addresses, 0, 0]):
            ctx.set(memory.addr, addr)
            if cycle >= 2:
                assert ctx.get(memory.word.as_value()) == expected[addresses[cycle - 2]]
                checked += 1
            await ctx.tick()

    simulate(memory, testbench)
    assert checked == len(addresses) > depth


@pytest.mark.parametrize("width", [1, 7, 9, 18, 19, 36, 37, 54, 144])
def test_no_division_takes_fewer_blocks(width):
    """Of all that have up to four parts, each in blocks of any shape, or in a table of few words."""
    for depth in (33, 500, 513, 545, 1025, 1300, 1537, 2049, 3456, 3600, 6200, 9000, 17000, 30000, 70000):
        least = sum(each.blocks for each in _slices(depth, width))
        for parts in range(1, 5):
            for shapes in combinations_with_replacement(DP16KD.shapes, parts):
                held = sum(words for words, _ in shapes)
                blocks = sum(-(-width // bits) for _, bits in shapes)
                if held >= depth or (held + 32 >= depth and parts < 4):
                    least = min(least, blocks)
        depths = segment_depths(depth, width)
        assert sum(depths) == depth and len(depths) <= 4
        assert sum(each.blocks for part in depths for each in _slices(part, width)) == least
        # A word's place in its part is the lowest bits of its address.
        for number, part in enumerate(depths):
            assert sum(depths[:number]) % (1 << ceil_log2(part)) == 0


@pytest.mark.parametrize(
    ("memory", "kinds", "luts"),
    [
        ("auto", [BLOCK, BLOCK, BLOCK], 0),
        ("block", [BLOCK, BLOCK, BLOCK], 0),
        ("split", [BLOCK, BLOCK, BLOCK], 0),
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
