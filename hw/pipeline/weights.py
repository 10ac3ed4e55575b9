"""Weight memory: words of weights, one per cycle, through the memory's own output register."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Cat, Module, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.parts.memory import BLOCK, LOGIC, BuiltMemory, rom_kind, style
from model.machine.blocks import DP16KD

__all__ = ["BLOCK_BITS", "WeightMemory", "slice_bits"]

BLOCK_BITS = DP16KD.data_bits
"""Bits of data in a memory block, without parity, at its deepest: DP16KD of the ECP5, BSRAM of Gowin."""


def slice_bits(depth: int) -> int:
    """Width of a slice of a memory of ``depth`` words: 18 bits where a block is 1,024 words deep, 9, 4, 2, and 1 where it is
    16,384."""
    width = max(1, BLOCK_BITS >> ceil_log2(depth))
    # Blocks of bytes have a parity bit each, which holds data just as well.
    return width + width // 8 if width <= 16 else 36


class WeightMemory(wiring.Component):
    """A read-only memory of words, each of one weight per channel.

    Operation
    ---------
    The word is cut into slices as wide as a memory block of the needed depth is, and each slice is a memory of its own.
    So nothing selects between blocks after them, and the register at the output can be the one inside the block,
    which is several times faster than the bare memory. Only a memory deeper than `BLOCK_BITS` needs that selection, and slices
    that are made of LUTs do.

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
        ``"auto"``, ``"block"``, ``"mixed"`` or ``"distributed"``, as in `model.machine.plan.CorePlan`.

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
    def memories(self) -> tuple[BuiltMemory, ...]:
        """Its slices, that of the lowest bits first."""
        width, wide = self._channels * self._weight_bits, slice_bits(self.depth)
        built = []
        for number, start in enumerate(range(0, width, wide)):
            rest = min(wide, width - start)
            kind = rom_kind(self.depth)
            moved = kind == BLOCK and (self._memory == "distributed" or (self._memory == "mixed" and rest < wide))
            kind = LOGIC if moved else kind
            built.append(BuiltMemory(name=f"slice_{number}", width=rest, depth=self.depth, kind=kind, moved=moved))
        return tuple(built)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        mask = (1 << self._weight_bits) - 1
        words = [
            sum((weight & mask) << n * self._weight_bits for n, weight in enumerate(word))
            for word in np.asarray(self._words).tolist()
        ]
        slices, start = [], 0
        for built in self.memories:
            m.submodules[built.name] = memory = Memory(
                shape=unsigned(built.width),
                depth=built.depth,
                init=[word >> start & (1 << built.width) - 1 for word in words],
                attrs=style(built.kind),
            )
            read = memory.read_port()
            # Without a reset and with nothing before it, so that it can be the block's register.
            register = Signal(built.width, name=f"{built.name}_register", reset_less=True)
            m.d.comb += read.addr.eq(self.addr)
            m.d.sync += register.eq(read.data)
            slices.append(register)
            start += built.width
        m.d.comb += self.word.as_value().eq(Cat(slices))
        return m
