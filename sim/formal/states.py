"""State memories: a word is what was last written to it in this frame, or its initial value."""

from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data

import hw.pipeline.state
from hw.pipeline.state import StateBank
from sim.formal.bench import Bench
from sim.formal.memories import CollidingMemory
from sim.formal.properties import Fault, Property

__all__ = ["PROPERTIES", "AnyBank", "IdealBank", "history"]

_LATENCY = 6
"""Cycles from an access to its word."""

_FORWARDED = 5
"""Accesses before, at most, of which a word may still be in flight."""


def state_bank(
    bench: Bench, states: ModuleType, *, depth: int, generation_bits: int, memory: str, reuse: int = 1, width: int = 2
) -> None:
    """A `StateBank` with the `FrameReset` that gives its generations, as cores use them.

    Any word is watched. Beside the bank is its content as a memory would keep it that is swept at the end of each frame: what was
    written last, and whether that was in this frame. Any accesses come, one a cycle or none, to any words, but not to the same
    one within ``reuse`` cycles of a frame (`hw.pipeline.fan_out.FanOut`). A frame ends in any cycle without an access: walkers
    take an ``END`` in a cycle of its own (`hw.pipeline.projection`, `hw.pipeline.pool`), and wait while `FrameReset` sweeps. An
    access that does not write, the host's, reads the same.

    Tags start as those of the first frame: nothing is expected of what memories hold at a reset.
    """
    m, layout = bench.m, data.StructLayout({"value": unsigned(width)})
    reset = states.FrameReset(depth=depth, generation_bits=generation_bits)
    dut = states.StateBank(word=layout, depth=depth, generation_bits=generation_bits, memory=memory, reuse=reuse)
    m.submodules.reset = reset
    memories: list[CollidingMemory] = []

    def colliding(built: Any) -> CollidingMemory:
        init = [1] * depth if built.name == "tags" else []
        memories.append(CollidingMemory(bench, built.name, width=built.width, depth=built.depth, init=init))
        return memories[-1]

    with patch.object(states, "_memory", colliding):
        inside = bench.add("dut", dut)
    for each in memories:
        each.collide()

    watched = bench.constant(range(depth), "watched")
    addr, en, ends = bench.any(range(depth), "addr"), bench.any(1, "en"), bench.any(1, "frame_ends")
    update, initial = bench.any(width, "update"), bench.any(width, "initial")
    bench.assume((watched < depth) & (addr < depth))
    bench.assume(~(en & ends) & (~reset.sweeping | (~en & ~ends)))
    m.d.comb += [
        reset.next_frame.eq(ends),
        dut.access.en.eq(en),
        dut.access.clear.eq(reset.sweeping),
        dut.access.addr.eq(Mux(reset.sweeping, reset.addr, addr)),
        dut.generation.eq(reset.generation),
        dut.initial.value.eq(initial),
        dut.update.value.eq(update),
    ]
    looks = Signal(name="looks")
    m.d.comb += looks.eq(~reset.sweeping & (addr == watched))
    # No access to a word soon after another one of the same frame.
    recent = Signal(max(1, reuse - 1), name="recent")
    m.d.sync += recent.eq(Mux(ends, 0, (recent << 1) | (looks & en)))
    if reuse > 1:
        bench.assume(~looks | (recent == 0))

    # In the order of accesses: whether it was written in this frame. As updates come: what was written.
    fresh, content = Signal(name="fresh"), Signal(width, name="content")
    m.d.sync += fresh.eq(~ends & (fresh | (looks & en)))
    most = _LATENCY + _FORWARDED + 1
    looked, wrote, was_fresh = (
        history(bench, value, name, most) for name, value in (("looks", looks), ("writes", looks & en), ("fresh", fresh))
    )
    started_with = history(bench, initial, "initial", 2)[-1]
    with m.If(wrote[_LATENCY]):
        m.d.sync += content.eq(update)
    expected = Mux(was_fresh[_LATENCY], content, started_with)
    bench.holds(~looked[_LATENCY] | (dut.word.value == expected))

    _lemmas(bench, reset, inside, watched, fresh, content)
    # Each way of a word that is still in flight, and one just behind them; a tag that has come round.
    found = looked[_LATENCY] & was_fresh[_LATENCY]
    for distance in range(reuse, _FORWARDED + 2):
        between = Cat(wrote[_LATENCY + nearer] for nearer in range(1, distance))
        bench.reaches(found & wrote[_LATENCY + distance] & (between == 0))
    written_in, written = Signal(generation_bits, name="written_in"), Signal(name="written")
    with m.If(looks & en):
        m.d.sync += [written_in.eq(reset.generation), written.eq(1)]
    bench.reaches(looks & ~fresh & written & (written_in == reset.generation))


class AnyBank(StateBank):
    """A `StateBank` whose words may be any.

    Parameters
    ----------
    bench : Bench
        Where it is.
    **options
        As of `StateBank`.
    """

    def __init__(self, bench: Bench, **options: Any) -> None:
        super().__init__(**options)
        self._bench = bench
        self._found: Value = bench.any(self._word.size, "other_word")

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += Value.cast(self.word).eq(self._found)
        return m

    def promises(self, reset: Any, *, cycles: int) -> None:
        """Assert what it is proved with: what `FrameReset` says comes so many cycles late, and frames end between accesses.

        That none ends while tags are swept is left to the caller, who may have several banks.
        """
        bench, access = self._bench, self.access
        swept, generation, addr, ended = (
            history(bench, value, name, cycles)[-1]
            for name, value in (
                ("sweeping", reset.sweeping),
                ("frame_generation", reset.generation),
                ("sweep_addr", reset.addr),
                ("next_frame", reset.next_frame),
            )
        )
        comes = history(bench, Const(1), "comes", cycles)[-1]
        bench.holds(~comes | ((access.clear == swept) & (self.generation == generation) & ~(access.en & (swept | ended))))
        bench.holds(~comes | ~swept | (access.addr == addr))
        bench.holds(comes | ~(access.en | access.clear))
        bench.holds(~access.en | (access.addr < self.depth))


class IdealBank(AnyBank):
    """What `state_bank` proves of a `StateBank`, in its place: the word at one address, and any value at others.

    That what it is proved with is kept to is asserted by `promises`.

    Parameters
    ----------
    bench : Bench
        Where it is.
    watched : Value
        The address; the same in all cycles.
    **options
        As of `StateBank`.

    Attributes
    ----------
    content : Signal
        The word at ``watched``, where it was written in the frame of the access whose word is at hand.
    fresh : Value
        Whether it was.
    """

    def __init__(self, bench: Bench, watched: Value, **options: Any) -> None:
        super().__init__(bench, **options)
        access, width = self.access, self._word.size
        fresh, content = Signal(name="fresh"), Signal(width, name="content")
        looks = ~access.clear & (access.addr == watched)
        fresh_now = fresh & (self.generation == bench.before(self.generation, "generation")) & ~access.clear
        bench.m.d.sync += fresh.eq(fresh_now | (looks & access.en))
        looked, wrote, was_fresh = (
            history(bench, value, name, _LATENCY)[-1]
            for value, name in ((looks, "looks"), (looks & access.en, "writes"), (fresh_now, "fresh"))
        )
        started_with = history(bench, Value.cast(self.initial), "initial", 2)[-1]
        with bench.m.If(wrote):
            bench.m.d.sync += content.eq(Value.cast(self.update))
        self.content, self.fresh = self._word(content), was_fresh
        self._found = Mux(looked, Mux(was_fresh, content, started_with), self._found)


def history(bench: Bench, value: Value, name: str, cycles: int) -> list[Value]:
    """A value, and what it was in each of so many cycles before."""
    history = [value]
    for cycle in range(1, cycles + 1):
        history.append(bench.before(history[-1], f"{name}_{cycle}"))
    return history


def _lemmas(bench: Bench, reset: Any, inside: SimpleNamespace, watched: Value, fresh: Value, content: Value) -> None:
    """What memories hold of the watched word, with what is on its way to them."""
    m, (tagged, *_, writing) = bench.m, inside.moving
    tag, word = (memory.read_port(domain="comb") for memory in (inside.tags, inside.words))
    m.d.comb += [tag.addr.eq(watched), word.addr.eq(watched)]
    touches = (tagged.addr == watched) & (tagged.en | tagged.clear)
    newest = Mux(touches, Mux(tagged.clear, 0, inside.generations[0]), tag.data)
    generation, sweeping = reset.generation, reset.sweeping
    bench.lemma(generation != 0)
    bench.lemma(Mux(sweeping, (generation == 1) & (reset.addr < inside.tags.depth), reset.addr == 0))
    bench.lemma(~sweeping | ~fresh)
    bench.lemma(~sweeping | (reset.addr <= watched) | (newest == 0))
    bench.lemma(sweeping | Mux(fresh, newest == generation, newest < generation))
    is_late = writing.en & (writing.addr == watched) if inside.from_block else Const(0)
    bench.lemma(is_late | (word.data == content))


_NARROW = {"depth": 2, "generation_bits": 2}

PROPERTIES = (
    Property(
        name="State memory: a word is what was last written to it in its frame, or its initial value, after 6 cycles",
        module=hw.pipeline.state,
        part="StateBank",
        bound="1 to 5 words of 2 bits, 2 words of 1 and 8 bits, tags of 1 to 3 bits, LUT RAM and block RAM, `reuse` of 1 to 6",
        build=state_bank,
        cases=[
            {"memory": "block", **_NARROW},
            {"memory": "distributed", **_NARROW},
            {"memory": "block", **_NARROW, "reuse": 3},
            *({"memory": memory, **_NARROW, "width": width} for memory in ("block", "distributed") for width in (1, 8)),
            *(
                {"memory": memory, "depth": depth, "generation_bits": generation_bits}
                for memory in ("block", "distributed")
                for depth, generation_bits in ((1, 1), (1, 2), (2, 1), (3, 2), (3, 3), (4, 1), (5, 2))
            ),
            *({"memory": memory, **_NARROW, "reuse": reuse} for memory in ("block", "distributed") for reuse in (2, 4, 5, 6)),
            {"memory": "distributed", **_NARROW, "reuse": 3},
        ],
        reach=32,
        steps=12,
        fault=Fault(
            says="tags are not swept when generations start again",
            right="m.d.sync += [self.generation.eq(1), self.sweeping.eq(1)]",
            wrong="m.d.sync += self.generation.eq(1)",
            steps=24,
        ),
        more_faults=[
            Fault(
                says="nor after a reset", right='"sweeping": Out(1, init=1)', wrong='"sweeping": Out(1, init=0)', steps=16
            ),
            Fault(
                says="a word that was just cleared is not new",
                right="stale.eq(Cat(just_cleared[1] | (",
                wrong="stale.eq(Cat((",
                steps=16,
            ),
            Fault(
                says="tags are compared with the generation of the next access",
                right="(tag != generations[1])",
                wrong="(tag != generations[0])",
                steps=16,
            ),
            Fault(
                says="the update of two accesses before is lost",
                right="Mux(two[3], self.update, memory)",
                wrong="memory",
                steps=16,
            ),
            Fault(
                says="that of five before is",
                right="three[1] | four[1] | five[1]",
                wrong="three[1] | four[1]",
                steps=20,
            ),
            Fault(
                says="that of the nearest access allowed is",
                right="if number + 1 >= self._reuse:",
                wrong="if number + 1 > self._reuse:",
                steps=20,
                case=2,
            ),
        ],
    ),
)
