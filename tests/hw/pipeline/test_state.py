"""State banks against an ideal memory that forgets at each new frame."""

import random

import pytest
from amaranth.hdl import unsigned
from amaranth.lib import data

from hw.parts.memory import BLOCK, DISTRIBUTED
from hw.pipeline.state import FrameReset, StateBank
from tests.hardware import simulate

WORD = data.StructLayout({"value": unsigned(16)})

LATENCY = 6
"""Cycles from an access to its word."""


def random_accesses(seed: int, depth: int, generations: int, count: int) -> list[tuple[str, int, int]]:
    """Accesses, idle cycles, ends of frames, and the sweep that comes with the last generation."""
    chance = random.Random(seed)
    generation, found = 1, []
    for _ in range(count):
        draw = chance.random()
        if draw < 0.05:
            found.append(("end", 0, generation))
            generation += 1
            if generation > generations:
                generation = 1
                found += [("clear", addr, generation) for addr in range(depth)]
        elif draw < 0.2:
            found.append(("idle", chance.randrange(depth), generation))
        else:
            found.append(("access", chance.choice([0, min(1, depth - 1), chance.randrange(depth)]), generation))
    return found


def check(bank, accesses):
    """Equal to an ideal memory; gives how often a word was used again, by how many accesses later."""
    content, expected, hazards = {}, [], dict.fromkeys(range(1, 6), 0)
    for index, (what, addr, generation) in enumerate(accesses):
        if what == "end":
            content = {}
        elif what == "access":
            value = content.get(addr, 1000 + addr)
            expected.append((index, value))
            content[addr] = (value * 3 + index) & 0xFFFF
            for distance in hazards:
                hazards[distance] += index >= distance and accesses[index - distance] == ("access", addr, generation)
    found = []

    async def testbench(ctx):
        for cycle in range(len(accesses) + LATENCY):
            what, addr, generation = accesses[cycle] if cycle < len(accesses) else ("idle", 0, 1)
            ctx.set(bank.access, {"en": what == "access", "clear": what == "clear", "addr": addr})
            ctx.set(bank.generation, generation)
            if LATENCY - 2 <= cycle < len(accesses) + LATENCY - 2:
                ctx.set(bank.initial, {"value": 1000 + accesses[cycle - LATENCY + 2][1]})
            if (number := cycle - LATENCY) >= 0:
                value = ctx.get(bank.word.value)
                ctx.set(bank.update, {"value": (value * 3 + number) & 0xFFFF})
                if accesses[number][0] == "access":
                    found.append((number, value))
            await ctx.tick()

    simulate(bank, testbench)
    assert found == expected
    return hazards


@pytest.mark.parametrize("memory", ["block", "distributed"])
@pytest.mark.parametrize("depth", [1, 2, 5, 40])
@pytest.mark.parametrize("generation_bits", [1, 2, 4])
def test_bank_is_an_ideal_memory(depth, generation_bits, memory):
    bank = StateBank(word=WORD, depth=depth, generation_bits=generation_bits, memory=memory)
    hazards = check(bank, random_accesses(depth, depth, (1 << generation_bits) - 1, 3000))
    assert min(hazards.values()) > 10, "words in flight must be hit"


@pytest.mark.parametrize("memory", ["block", "distributed"])
@pytest.mark.parametrize("reuse", [2, 3, 5, 6])
def test_words_that_are_not_used_again_at_once(reuse, memory):
    bank = StateBank(word=WORD, depth=7, generation_bits=3, memory=memory, reuse=reuse)
    chance, accesses = random.Random(reuse), []
    while len(accesses) < 1000:
        addr = chance.randrange(7)
        near = {before for what, before, _ in accesses[1 - reuse :] if what == "access"}
        accesses.append(("idle" if addr in near else "access", addr, 1))
    hazards = check(bank, accesses)
    assert [distance for distance, count in hazards.items() if not count] == list(range(1, reuse))


@pytest.mark.parametrize(
    ("depth", "memory", "tags", "kinds", "freed"),
    [
        (300, "auto", "auto", [BLOCK, BLOCK], [0, 0]),
        (300, "auto", "distributed", [BLOCK, DISTRIBUTED], [0, 1]),
        (300, "distributed", "auto", [DISTRIBUTED, BLOCK], [1, 0]),
        (1100, "distributed", "distributed", [DISTRIBUTED, DISTRIBUTED], [2, 1]),
        (40, "distributed", "distributed", [DISTRIBUTED, DISTRIBUTED], [1, 0]),
        (16, "distributed", "distributed", [DISTRIBUTED, DISTRIBUTED], [0, 0]),
    ],
)
def test_words_and_tags_are_in_luts_where_the_plan_says_so(depth, memory, tags, kinds, freed):
    """What is there anyway is not moved."""
    built = StateBank(word=WORD, depth=depth, generation_bits=4, memory=memory, tags=tags).memories
    assert [each.kind for each in built] == kinds
    assert [each.freed_blocks for each in built] == freed
    assert [each.lut_rams > 0 for each in built] == [kind == DISTRIBUTED for kind in kinds]


def test_frame_reset_sweeps_after_reset_and_when_generations_start_again():
    reset = FrameReset(depth=3, generation_bits=2)
    seen = []

    async def testbench(ctx):
        for cycle in range(20):
            ctx.set(reset.next_frame, cycle in (5, 7, 9))
            seen.append((ctx.get(reset.generation), ctx.get(reset.sweeping), ctx.get(reset.addr)))
            await ctx.tick()

    simulate(reset, testbench)
    assert [addr for _, sweeping, addr in seen[:3] if sweeping] == [0, 1, 2]
    assert [sweeping for _, sweeping, _ in seen] == [1] * 3 + [0] * 7 + [1] * 3 + [0] * 7
    assert [generation for generation, _, _ in seen[5:11]] == [1, 2, 2, 3, 3, 1]


def test_construction():
    bank = StateBank(word=WORD, depth=6, generation_bits=3)
    assert (bank.depth, bank.generation_bits) == (6, 3)
    with pytest.raises(ValueError, match=r"^depth must be at least 1, not 0$"):
        StateBank(word=WORD, depth=0, generation_bits=3)
    with pytest.raises(ValueError, match=r"^generation_bits must be at least 1, not 0$"):
        StateBank(word=WORD, depth=4, generation_bits=0)
