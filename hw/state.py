"""State memory: banks that are read, updated and written every cycle, and reset lazily."""

from itertools import pairwise

from amaranth.hdl import Const, Module, Mux, Signal, ValueCastable, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from hw.memory import BLOCK, DISTRIBUTED, ram_kind, style
from model.plan import DISTRIBUTED_WORDS

__all__ = ["Access", "FrameReset", "StateBank", "words_kind"]


class Access(data.StructLayout):
    """One access to a bank.

    Members
    -------
    en : read, update and write the word at ``addr``
    clear : mark the word at ``addr`` as never written
    addr : word address
    """

    def __init__(self, depth: int) -> None:
        super().__init__({"en": 1, "clear": 1, "addr": unsigned(bits_for(depth - 1))})


class StateBank(wiring.Component):
    """A memory of words that are updated in place, one access a cycle, without stalls.

    Operation
    ---------
    Each word carries the generation (frame) in which it was last written. A word of another generation reads as
    ``initial``: a new frame resets the bank in no time. An access whose word is still in flight takes it from there
    (the accesses of the two cycles before, three for block RAM; anything older is in the memory). What the access just before
    makes of the word goes straight into `word`, so that the loop through the lanes is a register, the lane, and one selection.
    Block RAM, which may be far, is written from a register.

    Timing
    ------
    ====== ===================================================================
    cycle  what happens
    ====== ===================================================================
    0      `access` taken; its tag is read
    1      tag compared and written; word read
    2      `initial` taken; word, `initial` or a word in flight goes to `word`
    3      `word` valid; `update` taken; LUT RAM written
    4      block RAM written
    ====== ===================================================================

    An access every cycle, to any address. Nothing stalls.

    Parameters
    ----------
    word : layout of a word
    depth : number of words
    generation_bits : width of the tag
    memory : ``"block"``, ``"distributed"`` or ``"auto"``, as in `model.plan.CorePlan`

    Members
    -------
    access : In, `Access`
    generation : In, generation of the access (cycle 0); never 0, which marks words never written
    initial : In, value of a word of another generation
    word : Out, state before the update
    update : In, state after it
    """

    def __init__(self, *, word: data.Layout, depth: int, generation_bits: int, memory: str = "auto") -> None:
        if depth < 1:
            raise ValueError(f"depth must be at least 1, not {depth!r}")
        if generation_bits < 1:
            raise ValueError(f"generation_bits must be at least 1, not {generation_bits!r}")
        self._word = word
        self._depth = depth
        self._generation_bits = generation_bits
        self._memory = memory
        super().__init__(
            {
                "access": In(Access(depth)),
                "generation": In(generation_bits),
                "initial": In(word),
                "word": Out(word),
                "update": In(word),
            }
        )

    @property
    def depth(self) -> int:
        """Number of words."""
        return self._depth

    @property
    def generation_bits(self) -> int:
        """Width of the tag."""
        return self._generation_bits

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = self._word.size
        kind = words_kind(self._memory, self._depth)
        # What a read finds in the word that is written in the same cycle never matters: it is forwarded, or stale. Yosys
        # has to know, or it builds registers and selections around each memory that keep the old word.
        free = {"no_rw_check": 1}
        m.submodules.words = words = Memory(
            shape=unsigned(width),
            depth=self._depth,
            init=[],
            attrs=free | style(kind),
        )
        m.submodules.tags = tags = Memory(
            shape=unsigned(self._generation_bits),
            depth=self._depth,
            init=[],
            attrs=free | style(ram_kind(self._generation_bits, self._depth)),
        )
        word_read, word_write = words.read_port(), words.write_port()
        tag_read, tag_write = tags.read_port(), tags.write_port()

        # The access as it moves through cycles 1, 2, 3 and 4.
        layout = Access(self._depth)
        tagged, reading, updating, writing = (Signal(layout, name=name) for name in ("tagged", "reading", "updating", "writing"))
        generations = [Signal(self._generation_bits, name=f"generation_{cycle}") for cycle in (1, 2, 3)]
        m.d.sync += [after.eq(before) for before, after in pairwise([self.access, tagged, reading, updating, writing])]
        m.d.sync += [after.eq(before) for before, after in pairwise([self.generation, *generations])]

        # The tag that the access just before writes is not visible yet, but known.
        same_addr = [Signal(name=f"same_addr_{cycle}") for cycle in (1, 2, 3)]
        just_tagged, just_cleared, stale = Signal(), Signal(), Signal()
        m.d.comb += [
            *(
                same.eq(self.access.addr == before.addr)
                for same, before in zip(same_addr, (tagged, reading, updating), strict=True)
            ),
            tag_read.addr.eq(self.access.addr),
            tag_read.en.eq(1),
            tag_write.addr.eq(tagged.addr),
            tag_write.data.eq(Mux(tagged.clear, 0, generations[0])),
            tag_write.en.eq(tagged.en | tagged.clear),
        ]
        m.d.sync += [
            just_tagged.eq(tagged.en & same_addr[0]),
            just_cleared.eq(tagged.clear & same_addr[0]),
            stale.eq(just_cleared | ((tag_read.data != generations[0]) & ~just_tagged)),
        ]

        # Which of the accesses before has the same word in flight: three of them where the memory is written late, else two.
        # The one just before has its update only now being made when `word` is loaded; of the other two, the later one is
        # picked a cycle earlier. What was cleared since is gone, though its generation may be the same.
        follows = [Signal(name=f"follows_{cycle}") for cycle in (1, 2, 3)]
        cleared = [Const(0, 1), tagged.clear, tagged.clear | reading.clear]
        m.d.sync += [
            follow.eq(before.en & same & (self.generation == generation) & ~gone)
            for follow, before, same, generation, gone in zip(
                follows, (tagged, reading, updating), same_addr, generations, cleared, strict=True
            )
        ]
        word, result, earlier = (Signal(width, name=name, reset_less=True) for name in ("word_held", "result", "earlier"))
        take_update, take_earlier = Signal(), Signal()
        m.d.comb += [word_read.addr.eq(tagged.addr), word_read.en.eq(1), self.word.eq(word)]
        m.d.sync += [take_update.eq(follows[0]), result.eq(self.update)]
        if kind == BLOCK:
            m.d.comb += [word_write.addr.eq(writing.addr), word_write.data.eq(result), word_write.en.eq(writing.en)]
            m.d.sync += [take_earlier.eq(follows[1] | follows[2]), earlier.eq(Mux(follows[1], self.update, result))]
        else:
            m.d.comb += [
                word_write.addr.eq(updating.addr),
                word_write.data.eq(self.update),
                word_write.en.eq(updating.en),
                earlier.eq(result),
            ]
            m.d.sync += take_earlier.eq(follows[1])
        m.d.sync += [
            word.eq(
                Mux(
                    take_update,
                    self.update,
                    Mux(take_earlier, earlier, Mux(stale, _bits(self.initial), word_read.data)),
                )
            ),
        ]
        return m


def words_kind(memory: str, depth: int) -> str:
    """What a bank's words are made of, where a `CorePlan` says ``memory``."""
    return (BLOCK if depth > DISTRIBUTED_WORDS else DISTRIBUTED) if memory == "auto" else memory


def _bits(value: ValueCastable) -> Signal:
    return value.as_value() if isinstance(value, ValueCastable) else value


class FrameReset(wiring.Component):
    """Generations: which frame a state word belongs to, and the sweep that makes old tags harmless.

    Operation
    ---------
    Counts generations from 1; 0 marks words never written. After reset, and each time the count starts again at
    1, a sweep marks every word of every bank as never written, so that no tag of an earlier round is taken for new.

    Timing
    ------
    A sweep takes `depth` cycles, once in ``2 ** generation_bits - 1`` frames; otherwise a new frame costs nothing.

    Parameters
    ----------
    depth : words of the deepest bank
    generation_bits : width of the tag

    Members
    -------
    next_frame : In, 1 in the cycle in which a frame ends
    generation : Out, the current generation
    sweeping : Out, 1 while the sweep goes on: no access may be issued
    addr : Out, the word to clear while sweeping
    """

    def __init__(self, *, depth: int, generation_bits: int) -> None:
        self._depth = depth
        self._generation_bits = generation_bits
        super().__init__(
            {
                "next_frame": In(1),
                "generation": Out(generation_bits, init=1),
                "sweeping": Out(1, init=1),
                "addr": Out(range(depth)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        with m.If(self.sweeping):
            m.d.sync += self.addr.eq(self.addr + 1)
            with m.If(self.addr == self._depth - 1):
                m.d.sync += [self.addr.eq(0), self.sweeping.eq(0)]
        with m.If(self.next_frame):
            m.d.sync += self.generation.eq(self.generation + 1)
            with m.If(self.generation.all()):
                m.d.sync += [self.generation.eq(1), self.sweeping.eq(1)]
        return m
