"""State banks against an ideal memory that forgets at each new frame."""

import random

import pytest
from amaranth.hdl import unsigned
from amaranth.lib import data

from hw.state import FrameReset, StateBank
from tests.hardware import simulate

WORD = data.StructLayout({"value": unsigned(16)})


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


@pytest.mark.parametrize("depth", [1, 2, 5, 40])
@pytest.mark.parametrize("generation_bits", [1, 2, 4])
def test_bank_is_an_ideal_memory(depth, generation_bits):
    bank = StateBank(word=WORD, depth=depth, generation_bits=generation_bits)
    accesses = random_accesses(depth, depth, (1 << generation_bits) - 1, 3000)
    content, expected, hazards = {}, [], {1: 0, 2: 0, 3: 0}
    for index, (what, addr, generation) in enumerate(accesses):
        if what == "end":
            content = {}
        elif what == "access":
            value = content.get(addr, 1000 + addr)
            expected.append((index, value))
            content[addr] = (value * 3 + index) & 0xFFFF
            for distance in hazards:
                hazards[distance] += accesses[index - distance : index - distance + 1] == [("access", addr, generation)]
    assert min(hazards.values()) > 10, "words in flight must be hit"
    found = []

    async def testbench(ctx):
        for cycle in range(len(accesses) + 3):
            what, addr, generation = accesses[cycle] if cycle < len(accesses) else ("idle", 0, 1)
            ctx.set(bank.access, {"en": what == "access", "clear": what == "clear", "addr": addr})
            ctx.set(bank.generation, generation)
            if 2 <= cycle < len(accesses) + 2:
                ctx.set(bank.initial, {"value": 1000 + accesses[cycle - 2][1]})
            if cycle >= 3:
                value = ctx.get(bank.word.value)
                ctx.set(bank.update, {"value": (value * 3 + cycle - 3) & 0xFFFF})
                if accesses[cycle - 3][0] == "access":
                    found.append((cycle - 3, value))
            await ctx.tick()

    simulate(bank, testbench)
    assert found == expected


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
