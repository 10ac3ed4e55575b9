"""Weight memory: words of weights, one per cycle, through the memory's own output register."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.parts.memory import BLOCK, LOGIC, BuiltMemory, rom_kind, style
from model.machine.blocks import DP16KD

__all__ = ["BLOCK_BITS", "READ_CYCLES", "WeightMemory", "packed_words", "segment_depths", "slice_bits"]

BLOCK_BITS = DP16KD.data_bits
"""Bits of data in a memory block, without parity, at its deepest: DP16KD of the ECP5, BSRAM of Gowin."""


READ_CYCLES = 2
"""From an address to its word."""


def slice_bits(depth: int) -> int:
    """Width of a slice of a memory of ``depth`` words: 18 bits where a block is 1,024 words deep, 9, 4, 2, and 1 where it is
    16,384."""
    width = max(1, BLOCK_BITS >> ceil_log2(depth))
    # Blocks of bytes have a parity bit each, which holds data just as well.
    return width + width // 8 if width <= 16 else 36


_MOST_SEGMENTS = 4
"""Among which one word is selected."""


_Division = tuple[int, tuple[int, ...]]
"""Blocks that a divided memory takes, and the depth of each part."""


@lru_cache(maxsize=4096)
def segment_depths(depth: int, width: int) -> tuple[int, ...]:
    """How ``depth`` words of ``width`` bits are divided by address so that they take the fewest blocks.

    All parts but the last are as deep as a shape of a block, none is deeper than the one before it, and a last one of few words
    is a table and takes no block. So a word's place in its part is the lowest bits of its address. It is one part where no
    division takes fewer blocks than that.
    """
    whole = sum(built.blocks for built in _slices(depth, width))
    found: list[_Division] = [(whole, (depth,)), *_divisions(depth, width)]
    return min(found, key=lambda division: (division[0], len(division[1]), division[1]))[1]


def _divisions(depth: int, width: int, largest: int = BLOCK_BITS, parts: int = _MOST_SEGMENTS) -> list[_Division]:
    """The divisions into at most ``parts``, none deeper than ``largest``."""
    if rom_kind(depth) != BLOCK:
        return [(0, (depth,))]
    found: list[_Division] = []
    for words, bits in DP16KD.shapes:
        blocks = -(-width // bits)
        if depth <= words <= largest:
            found.append((blocks, (depth,)))
        elif words < depth and words <= largest and parts > 1:
            rest = _divisions(depth - words, width, words, parts - 1)
            found += [(blocks + others, (words, *depths)) for others, depths in rest]
    return found


def _slices(depth: int, width: int) -> list[BuiltMemory]:
    """The slices of a memory, or of a part of it, from the lowest bits on."""
    wide = slice_bits(depth)
    return [
        BuiltMemory(name=f"slice_{number}", width=min(wide, width - start), depth=depth, kind=rom_kind(depth))
        for number, start in enumerate(range(0, width, wide))
    ]


def packed_words(words: Sequence[Sequence[int]] | npt.NDArray[np.integer], weight_bits: int) -> list[int]:
    """Words of weights as they are stored, the first channel in the lowest bits."""
    mask = (1 << weight_bits) - 1
    return [sum((weight & mask) << n * weight_bits for n, weight in enumerate(word)) for word in np.asarray(words).tolist()]


class WeightMemory(wiring.Component):
    """A read-only memory of words, each of one weight per channel.

    Operation
    ---------
    The word is cut into slices as wide as a memory block of the needed depth is, and each slice is a memory of its own.
    So nothing selects between blocks after them, and the register at the output can be the one inside the block,
    which is several times faster than the bare memory. Only a memory deeper than `BLOCK_BITS` needs that selection, and slices
    that are made of LUTs do.

    Where the plan says ``"split"``, the words are divided by address into up to four segments if that takes fewer blocks, and
    each segment is cut into slices of its own. Among segments is selected after the registers inside the blocks.

    Timing
    ------
    2 cycles from `addr` to `word`, a word per cycle.

    Parameters
    ----------
    words : Sequence[Sequence[int]] or array
        The weights of each word, one per channel.
    weight_bits : int
        Width of a weight.
    memory : str
        ``"auto"``, ``"block"``, ``"split"``, ``"mixed"`` or ``"distributed"``, as in `model.machine.plan.CorePlan`.

    Members
    -------
    addr : In
        Word address.
    word : Out
        Array of signed weights.
    """

    def __init__(
        self, *, words: Sequence[Sequence[int]] | npt.NDArray[np.integer], weight_bits: int, memory: str = "auto"
    ) -> None:
        if not len(words) or not len(words[0]):
            raise ValueError("words must be at least one word of at least one weight")
        self._words = words
        self._channels = len(words[0])
        self._weight_bits = weight_bits
        self._memory = memory
        super().__init__(
            {
                "addr": In(range(len(words))),
                "word": Out(data.ArrayLayout(signed(weight_bits), self._channels)),
            }
        )

    @property
    def depth(self) -> int:
        """Number of words."""
        return len(self._words)

    @property
    def weight_bits(self) -> int:
        """Width of a weight."""
        return self._weight_bits

    @property
    def segments(self) -> tuple[int, ...]:
        """Words of each part that it is divided into by address, from address 0 on."""
        return segment_depths(self.depth, self._width) if self._memory == "split" else (self.depth,)

    @property
    def memories(self) -> tuple[BuiltMemory, ...]:
        """The slices of each segment, that of the lowest bits first."""
        return tuple(built for segment in self._parts() for built in segment)

    @property
    def _width(self) -> int:
        return self._channels * self._weight_bits

    def _parts(self) -> list[list[BuiltMemory]]:
        whole = _slices(self.depth, self._width)
        if len(self.segments) == 1:
            return [[self._moved(built) for built in whole]]
        found = [
            [
                replace(built, name=f"segment_{number}_{built.name}", moved=built.kind == LOGIC, further=number > 0, freed=0)
                for built in _slices(depth, self._width)
            ]
            for number, depth in enumerate(self.segments)
        ]
        freed = sum(built.blocks for built in whole) - sum(built.blocks for segment in found for built in segment)
        found[0][0] = replace(found[0][0], freed=freed)
        return found

    def _moved(self, built: BuiltMemory) -> BuiltMemory:
        """A slice of a memory that is not divided, made of LUTs where the plan says so."""
        fills = built.width == slice_bits(self.depth)
        moved = built.kind == BLOCK and (self._memory == "distributed" or (self._memory == "mixed" and not fills))
        return replace(built, kind=LOGIC, moved=True) if moved else built

    def elaborate(self, platform: object) -> Module:
        m = Module()
        words, parts, bases, base = packed_words(self._words, self._weight_bits), [], [], 0
        for segment in self._parts():
            slices, start = [], 0
            depth = segment[0].depth
            for built in segment:
                m.submodules[built.name] = memory = Memory(
                    shape=unsigned(built.width),
                    depth=depth,
                    init=[word >> start & (1 << built.width) - 1 for word in words[base : base + depth]],
                    attrs=style(built.kind),
                )
                read = memory.read_port()
                # Without a reset and with nothing before it, so that it can be the block's register.
                register = Signal(built.width, name=f"{built.name}_register", reset_less=True)
                # The lowest bits of the address, as `segment_depths` says.
                m.d.comb += read.addr.eq(self.addr)
                m.d.sync += register.eq(read.data)
                slices.append(register)
                start += built.width
            parts.append(Cat(slices))
            bases.append(base)
            base += depth
        reached = [self._reached(m, number, base) for number, base in enumerate(bases[1:], 1)]
        m.d.comb += self.word.as_value().eq(_selected(parts, reached))
        return m

    def _reached(self, m: Module, number: int, base: int) -> Signal:
        """Whether the word that is read is one of the segment of that number or of a later one."""
        asked, reached = (Signal(name=f"{name}_{number}", reset_less=True) for name in ("asked", "reached"))
        # Comparing with few values, and not by a carry chain.
        shift = (base & -base).bit_length() - 1
        upper = self.addr[shift:]
        m.d.sync += [asked.eq(upper.matches(*range(base >> shift, 1 << len(upper)))), reached.eq(asked)]
        return reached


def _selected(read: Sequence[Value], reached: Sequence[Value]) -> Value:
    """That of the last one that is reached, or the first: ``reached`` is of all but the first, and so are those before."""
    if len(read) == 1:
        return read[0]
    half = (len(read) + 1) // 2
    return Mux(reached[half - 1], _selected(read[half:], reached[half:]), _selected(read[:half], reached[: half - 1]))
