"""State memory: banks that are read, updated and written every cycle, and reset lazily."""

from itertools import pairwise

from amaranth.hdl import Cat, Module, Mux, Signal, Value, ValueCastable, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory, ReadPort, WritePort
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from hw.parts.memory import BLOCK, DISTRIBUTED, BuiltMemory, ram_kind, style
from model.machine.plan import DISTRIBUTED_WORDS

__all__ = ["Access", "FrameReset", "StateBank", "words_kind"]


class Access(data.StructLayout):
    """One access to a bank.

    Members
    -------
    en
        Read, update and write the word at ``addr``.
    clear
        Mark the word at ``addr`` as never written.
    addr
        Word address.
    """

    def __init__(self, depth: int) -> None:
        super().__init__({"en": 1, "clear": 1, "addr": unsigned(bits_for(depth - 1))})


class StateBank(wiring.Component):
    """A memory of words that are updated in place, one access per cycle, without stalls.

    Operation
    ---------
    Each word carries the generation (frame) in which it was last written. A word of another generation reads as
    ``initial``: a new frame resets the bank in no time. An access whose word is still in flight takes it from there
    (the accesses of the two cycles before, five for block RAM; anything older is in the memory). What the access just before
    makes of the word goes straight into `word`, so that the loop through the lanes is a register, the lane, and one selection.
    Block RAM, which is slow and may be far, is read through its own output register and written from a register.

    Timing
    ------
    ====== ===================================================================
    cycle  what happens
    ====== ===================================================================
    0      `access` taken; its tag is read
    1      tag written
    2      tag compared; block RAM read
    4      LUT RAM read; `initial` taken
    5      the word that was read, `initial`, or a word in flight is at hand
    6      `word` valid; `update` taken; LUT RAM written
    7      block RAM written
    ====== ===================================================================

    An access every cycle; to any address, or to one that the last ``reuse - 1`` accesses did not name. Nothing stalls.

    Parameters
    ----------
    word : data.Layout
        Layout of a word.
    depth : int
        Number of words.
    generation_bits : int
        Width of the tag.
    memory : str
        ``"block"``, ``"distributed"`` or ``"auto"``, as in `model.machine.plan.CorePlan`.
    tags : str
        The same of the tags: ``"distributed"`` or ``"auto"``.
    reuse : int
        Fewest cycles between two accesses to the same word: forwarding that can never happen is not built.

    Members
    -------
    access : In, Access
    generation : In
        Generation of the access (cycle 0); never 0, which marks words never written. At least one cycle without an access lies
        between accesses of different generations.
    initial : In
        Value of a word of another generation (cycle 4).
    word : Out
        State before the update.
    update : In
        State after it.
    """

    def __init__(
        self,
        *,
        word: data.Layout,
        depth: int,
        generation_bits: int,
        memory: str = "auto",
        tags: str = "auto",
        reuse: int = 1,
    ) -> None:
        if depth < 1:
            raise ValueError(f"depth must be at least 1, not {depth!r}")
        if generation_bits < 1:
            raise ValueError(f"generation_bits must be at least 1, not {generation_bits!r}")
        self._word = word
        self._depth = depth
        self._generation_bits = generation_bits
        self._memory = memory
        self._tags = tags
        self._reuse = reuse
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

    @property
    def memories(self) -> tuple[BuiltMemory, BuiltMemory]:
        """Its words and their tags."""
        width, tag_width, depth = self._word.size, self._generation_bits, self._depth
        kind, tags_kind = words_kind(self._memory, depth), ram_kind(tag_width, depth)
        moved = kind == DISTRIBUTED and words_kind("auto", depth) == BLOCK
        tags_moved = self._tags == "distributed" and tags_kind == BLOCK
        tags_kind = DISTRIBUTED if tags_moved else tags_kind
        return (
            BuiltMemory(name="words", width=width, depth=depth, kind=kind, moved=moved),
            BuiltMemory(name="tags", width=tag_width, depth=depth, kind=tags_kind, moved=tags_moved),
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        words_built, tags_built = self.memories
        m.submodules.words = words = _memory(words_built)
        m.submodules.tags = tags = _memory(tags_built)
        from_block = words_built.kind == BLOCK
        word_read = words.read_port(domain="sync" if from_block else "comb")
        word_write = words.write_port()

        # The access as it moves through cycles 1 to 7.
        layout = Access(self._depth)
        names = ("tagged", "comparing", "reading", "fetching", "loading", "updating", "writing")
        moving = [Signal(layout, name=name) for name in names]
        generations = [
            Signal(self._generation_bits, name=f"generation_{cycle}", reset_less=True) for cycle in range(1, 3)
        ]
        same_addr = [Signal(name=f"same_addr_{cycle}") for cycle in range(1, 6)]
        m.d.sync += [after.eq(before) for before, after in pairwise([self.access, *moving])]
        m.d.sync += [after.eq(before) for before, after in pairwise([self.generation, *generations])]
        m.d.comb += [same.eq(self.access.addr == before.addr) for same, before in zip(same_addr, moving, strict=False)]

        stale = self._compare_tags(m, tags, moving[0], same_addr[0], generations)
        follows = self._find_in_flight(m, moving, same_addr)

        # The update of the access just before is only now being made when `word` is loaded. All else that the word may be meets
        # a cycle earlier in `fetched`, so that the loop has one selection of two. What selects has a whole cycle for its way.
        one, two, *_ = follows
        word, fetched = (Signal(self._word.size, name=name, reset_less=True) for name in ("word_held", "fetched"))
        m.d.comb += self.word.eq(word)
        if from_block:
            memory = self._block_word(m, word_read, word_write, moving, follows)
        else:
            _, _, _, fetching, _, updating, _ = moving
            m.d.comb += [
                word_read.addr.eq(fetching.addr),
                word_write.addr.eq(updating.addr),
                word_write.data.eq(self.update),
                word_write.en.eq(updating.en),
            ]
            memory = word_read.data
        m.d.sync += [
            fetched.eq(Mux(stale[1], _bits(self.initial), Mux(two[3], self.update, memory))),
            word.eq(Mux(one[4], self.update, fetched)),
        ]
        return m

    def _compare_tags(
        self, m: Module, tags: Memory, tagged: data.View, same_addr: Signal, generations: list[Signal]
    ) -> Signal:
        """Whether the word is of another generation, in cycle 3 and in cycle 4; its tag is written meanwhile.

        The tag that the access just before writes is not visible yet. Where it writes its generation, what it makes of the word
        is taken, whatever this says.
        """
        tag_read, tag_write = tags.read_port(), tags.write_port()
        just_cleared, stale = (Signal(2, name=name, reset_less=True) for name in ("just_cleared", "stale"))
        tag = Signal(self._generation_bits, reset_less=True)
        m.d.comb += [
            tag_read.addr.eq(self.access.addr),
            tag_read.en.eq(1),
            tag_write.addr.eq(tagged.addr),
            tag_write.data.eq(Mux(tagged.clear, 0, generations[0])),
            tag_write.en.eq(tagged.en | tagged.clear),
        ]
        m.d.sync += [
            tag.eq(tag_read.data),
            just_cleared.eq(Cat(tagged.clear & same_addr, just_cleared)),
            stale.eq(Cat(just_cleared[1] | (tag != generations[1]), stale)),
        ]
        return stale

    def _find_in_flight(self, m: Module, moving: list[data.View], same_addr: list[Signal]) -> list[Signal]:
        """Of each of the five accesses before, whether it has the same word in flight: in cycle 1 and the four after it.

        Whether that word is of this generation does not matter here: the access just before always is, and of all others the
        tag is visible, so that a word of another generation, or one that was cleared since, is stale.
        """
        follows = []
        for number, (before, same) in enumerate(zip(moving, same_addr, strict=False)):
            follow = Signal(5, name=f"follows_{number + 1}", reset_less=True)
            if number + 1 >= self._reuse:
                m.d.sync += follow.eq(Cat(before.en & same, follow))
            follows.append(follow)
        return follows

    def _block_word(
        self, m: Module, word_read: ReadPort, word_write: WritePort, moving: list[data.View], follows: list[Signal]
    ) -> Value:
        """The word as block RAM has it in cycle 4, or as an access three to five before leaves it; updates are written."""
        _, comparing, *_, writing = moving
        _, _, three, four, five = follows
        width = self._word.size
        result, read, near, far = (
            Signal(width, name=name, reset_less=True) for name in ("result", "read", "near", "far")
        )
        distant = Signal(2, reset_less=True)
        m.d.comb += [
            word_read.addr.eq(comparing.addr),
            word_read.en.eq(1),
            word_write.addr.eq(writing.addr),
            word_write.data.eq(result),
            word_write.en.eq(writing.en),
        ]
        m.d.sync += [
            result.eq(self.update),
            far.eq(Mux(four[1], self.update, result)),
            near.eq(Mux(three[2], self.update, far)),
            distant.eq(Cat(three[1] | four[1] | five[1], distant)),
            read.eq(word_read.data),
        ]
        return Mux(distant[1], near, read)


def _memory(built: BuiltMemory) -> Memory:
    """A memory that is written, empty at the start.

    What a read finds in the word that is written in the same cycle never matters: it is forwarded, or stale. Yosys has to know,
    or it builds registers and selections around each memory that keep the old word.
    """
    return Memory(
        shape=unsigned(built.width), depth=built.depth, init=[], attrs={"no_rw_check": 1} | style(built.kind)
    )


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
    depth : int
        Words of the deepest bank.
    generation_bits : int
        Width of the tag.

    Members
    -------
    next_frame : In
        1 in the cycle in which a frame ends.
    generation : Out
        The current generation.
    sweeping : Out
        1 while the sweep goes on: no access may be issued.
    addr : Out
        The word to clear while sweeping.
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
