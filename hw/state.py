"""State memory: banks that are read, updated and written every cycle, and reset lazily."""

from amaranth.hdl import Module, Mux, Signal, ValueCastable, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from model.plan import DISTRIBUTED_WORDS

__all__ = ["Access", "FrameReset", "StateBank"]


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
    (the accesses of the two cycles before; anything older is in the memory). What the access just before makes of the
    word goes straight into `word`, so that the loop through the lanes is a register, the lane, and one selection.

    Timing
    ------
    ====== ===================================================================
    cycle  what happens
    ====== ===================================================================
    0      `access` taken; its tag is read
    1      tag compared and written; word read
    2      `initial` taken; word, `initial` or a word in flight goes to `word`
    3      `word` valid; `update` taken and written
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

    @property
    def in_blocks(self) -> bool:
        """Whether the words are in block RAM."""
        return self._memory == "block" or (self._memory == "auto" and self._depth > DISTRIBUTED_WORDS)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = self._word.size
        # What a read finds in the word that is written in the same cycle never matters: it is forwarded, or stale. Yosys
        # has to know, or it builds registers and selections around each memory that keep the old word.
        free = {"no_rw_check": 1}
        style = {"ram_style": "block" if self.in_blocks else "distributed"}
        m.submodules.words = words = Memory(shape=unsigned(width), depth=self._depth, init=[], attrs=free | style)
        m.submodules.tags = tags = Memory(
            shape=unsigned(self._generation_bits), depth=self._depth, init=[], attrs=free
        )
        word_read, word_write = words.read_port(), words.write_port()
        tag_read, tag_write = tags.read_port(), tags.write_port()

        # The access as it moves through cycles 1, 2 and 3.
        layout = Access(self._depth)
        tagged, reading, updating = (Signal(layout, name=name) for name in ("tagged", "reading", "updating"))
        generations = [Signal(self._generation_bits, name=f"generation_{cycle}") for cycle in (1, 2, 3)]
        m.d.sync += [tagged.eq(self.access), reading.eq(tagged), updating.eq(reading)]
        for before, after in zip([self.generation, *generations], generations, strict=False):
            m.d.sync += after.eq(before)

        # The tag that the access just before writes is not visible yet, but known.
        just_tagged, just_cleared, stale = Signal(), Signal(), Signal()
        m.d.comb += [
            tag_read.addr.eq(self.access.addr),
            tag_read.en.eq(1),
            tag_write.addr.eq(tagged.addr),
            tag_write.data.eq(Mux(tagged.clear, 0, generations[0])),
            tag_write.en.eq(tagged.en | tagged.clear),
        ]
        m.d.sync += [
            just_tagged.eq(tagged.en & (self.access.addr == tagged.addr)),
            just_cleared.eq(tagged.clear & (self.access.addr == tagged.addr)),
            stale.eq(just_cleared | ((tag_read.data != generations[0]) & ~just_tagged)),
        ]

        # Of what can be in flight, the access just before comes last: its update is only now being made.
        word, result = Signal(width, reset_less=True), Signal(width, reset_less=True)
        follows_one_before, follows_two_before = Signal(), Signal()
        m.d.comb += [
            word_read.addr.eq(tagged.addr),
            word_read.en.eq(1),
            word_write.addr.eq(updating.addr),
            word_write.data.eq(self.update),
            word_write.en.eq(updating.en),
            self.word.eq(word),
        ]
        m.d.sync += [
            follows_one_before.eq(reading.en & (tagged.addr == reading.addr) & (generations[0] == generations[1])),
            follows_two_before.eq(updating.en & (tagged.addr == updating.addr) & (generations[0] == generations[2])),
            result.eq(self.update),
            word.eq(
                Mux(
                    follows_one_before,
                    self.update,
                    Mux(follows_two_before, result, Mux(stale, _bits(self.initial), word_read.data)),
                )
            ),
        ]
        return m


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
