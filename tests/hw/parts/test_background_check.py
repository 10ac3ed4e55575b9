"""The check of a memory in use: its signature is the model's, every wrong bit is found, and passes are counted."""

import random

import pytest
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from hw.parts.background_check import BackgroundCheck, PassCounter
from model.machine.signature import SIGNATURE_BITS, condensed, returning_signature, signature
from sim.mutation.faults import SourceFault, planted


class Checked(wiring.Component):
    """A memory that somebody else reads as well, and its check; ``held`` is what it really holds."""

    def __init__(self, words, held, *, width, latency):
        self.check = BackgroundCheck(words=words, width=width, latency=latency)
        self.held = held
        super().__init__({"free": In(1), "passed": Out(1), "differs": Out(1), "addr": Out(self.check.addr.shape())})

    def elaborate(self, platform):
        m = Module()
        check = self.check
        m.submodules.check = check
        m.submodules.memory = memory = Memory(shape=check.width, depth=check.depth, init=self.held)
        read = memory.read_port()
        m.d.comb += [check.free.eq(self.free), read.addr.eq(Mux(self.free, check.addr, check.depth - 1))]
        word = read.data
        for cycle in range(1, check.latency):
            later = Signal(check.width, name=f"later_{cycle}")
            m.d.sync += later.eq(word)
            word = later
        m.d.comb += [
            check.word.eq(word), self.passed.eq(check.passed), self.differs.eq(check.differs), self.addr.eq(check.addr)
        ]
        return m


def words_of(depth, width, seed=1):
    chance = random.Random(seed)
    return [chance.getrandbits(width) for _ in range(depth)]


def passes(dut, *, wanted, free=1.0, seed=1):
    """Cycles, until so many passes are complete; and of each pass whether the check says afterwards that the words differ."""
    told, chance, cycles = [], random.Random(seed), 0

    async def watch(ctx):
        nonlocal cycles
        while len(told) < wanted:
            ctx.set(dut.free, chance.random() < free)
            passed = ctx.get(dut.passed)
            await ctx.tick()
            cycles += 1
            if passed:
                told.append(ctx.get(dut.differs))

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(watch)
    simulator.run()
    return cycles, told


@pytest.mark.parametrize(("depth", "width", "latency"), [(1, 5, 1), (2, 64, 2), (7, 65, 4), (12, 200, 3), (33, 8, 4)])
@pytest.mark.parametrize("free", [1.0, 0.3])
def test_the_right_words_never_differ(depth, width, latency, free):
    words = words_of(depth, width)
    cycles, told = passes(Checked(words, words, width=width, latency=latency), wanted=5, free=free)
    assert told == [0] * 5
    if free == 1.0:
        # A word a cycle, pass after pass: the last one is two cycles in the check.
        assert cycles == 5 * depth + latency + 2
    else:
        assert cycles > 5 * depth + latency + 2


@pytest.mark.parametrize(("depth", "width"), [(3, 5), (4, 65), (2, 130)])
def test_every_wrong_bit_is_found_in_the_first_pass_and_stays_so(depth, width):
    words = words_of(depth, width)
    for word in range(depth):
        for bit in range(width):
            held = [value ^ (1 << bit if number == word else 0) for number, value in enumerate(words)]
            assert passes(Checked(words, held, width=width, latency=2), wanted=2, free=0.8)[1] == [1, 1], (word, bit)


def test_words_in_another_order_differ():
    words = words_of(4, 16)
    assert passes(Checked(words, [words[1], words[0], *words[2:]], width=16, latency=1), wanted=1)[1] == [1]


def test_the_signature_is_the_models():
    """After as many words as they are it is back where it was, and nowhere else."""
    words = words_of(9, 150)
    expected = BackgroundCheck(words=words, width=150, latency=1).expected
    assert expected == returning_signature([condensed(word) for word in words])
    assert signature(map(condensed, words), expected) == expected
    assert all(signature(map(condensed, words), expected ^ 1 << bit) != expected ^ 1 << bit for bit in range(SIGNATURE_BITS))


@pytest.mark.parametrize("depth", [1, 2, 3, 18, 64, 1000])
def test_a_signature_that_returns(depth):
    words = words_of(depth, SIGNATURE_BITS)
    start = returning_signature(words)
    assert signature(words, start) == start and signature(words, signature(words, start)) == start
    assert returning_signature([0] * depth) == 0


def test_condensed_words():
    """What fits stays as it is; equal pieces do not cancel each other, and each bit is in one bit of what comes."""
    piece = 0x8123_4567_89AB_CDEF
    assert condensed(piece) == piece
    assert condensed(piece << 64) == 0x0246_8ACF_1357_9BDF
    assert condensed(piece << 64 | piece) == piece ^ 0x0246_8ACF_1357_9BDF != 0
    assert all(condensed(1 << bit).bit_count() == 1 for bit in range(70 * SIGNATURE_BITS))


def test_passes_are_counted_once_all_have_completed_one():
    dut, counted = PassCounter(checks=3, width=2), []
    given = [0b001, 0b001, 0b010, 0b100, 0b111, 0b111, 0b000, 0b011, 0b100, 0b000, 0b111, 0b000, 0b000]

    async def drive(ctx):
        for passed in given:
            ctx.set(dut.passed, passed)
            await ctx.tick()
            counted.append(ctx.get(dut.passes))

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(drive)
    simulator.run()
    # A count comes a cycle after the last check of it; what passes in that cycle is of the next one.
    assert counted == [0, 0, 0, 0, 1, 2, 3, 3, 3, 0, 0, 1, 1]


def test_each_check_begins_and_ends_a_pass_within_three_counts_from_any_cycle():
    """What `Device.confirm_weights` relies on; two are too few, as a check may have done its part of the first before."""
    dut, counts, cycles = PassCounter(checks=2, width=16), [], 240
    ends = [range(4, cycles, 10), range(11, cycles, 12)]

    async def drive(ctx):
        for cycle in range(cycles):
            counts.append(ctx.get(dut.passes))
            ctx.set(dut.passed, sum((cycle in own) << check for check, own in enumerate(ends)))
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(drive)
    simulator.run()

    def without_a_pass(more):
        """Cycles from which a check has not ended a pass that it began since, when there are so many more counts."""
        until = {cycle: counts.index(counts[cycle] + more) for cycle in range(cycles // 2)}
        return [cycle for cycle, end in until.items() for own in ends if sum(cycle < one <= end for one in own) < 2]

    assert without_a_pass(2) and not without_a_pass(3)


FAULTS = {
    "the last word is left out": ("self.addr == self.depth - 1", "self.addr == max(self.depth - 2, 0)"),
    "the signature begins at 0": ("found = Signal(SIGNATURE_BITS, init=self.expected)", "found = Signal(SIGNATURE_BITS)"),
    "the signature is that of the last word": ("absorbed(found, taken)", "absorbed(0 & found, taken)"),
    "a word is taken a cycle early": ("with m.If(takes[-1]):", "with m.If(takes[-2]):"),
    "it is compared before a pass is complete": ("with m.If(self.passed & (found", "with m.If(takes[-2] & (found"),
    "another signature is none": ("found != self.expected", "found == self.expected"),
}
"""What is right in the source of the check, and what may stand there by mistake."""


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_found(name):
    right, wrong = FAULTS[name]
    words = words_of(4, 70)
    fault = SourceFault(says=name, part="", design="", component=BackgroundCheck, right=right, wrong=wrong)

    def sound():
        """Whether the right words do not differ, and some bit of each word that is wrong does."""
        found = [passes(Checked(words, words, width=70, latency=3), wanted=3, free=0.6)[1] == [0, 0, 0]]
        for at in range(4):
            held = [word ^ (1 << 17 * at if number == at else 0) for number, word in enumerate(words)]
            found.append(passes(Checked(words, held, width=70, latency=3), wanted=2, free=0.6)[1] == [1, 1])
        return all(found)

    assert sound()
    with planted(fault):
        assert not sound()


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"words": []}, "words must be at least one"), ({"latency": 0}, "latency must be at least 1, not 0")],
)
def test_what_cannot_be_checked_is_refused(changes, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        BackgroundCheck(**{"words": [1], "width": 4, "latency": 1, **changes})
    with pytest.raises(ValueError, match=r"^checks must be at least 1, not 0$"):
        PassCounter(checks=0, width=4)
