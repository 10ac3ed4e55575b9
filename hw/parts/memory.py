"""Memories: what each is built of, said here and not left to the tools, so that what it takes is known before they run."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from amaranth.lib import data

from model.machine.blocks import DP16KD

__all__ = ["BLOCK", "DISTRIBUTED", "LOGIC", "BuiltMemory", "placed", "ram_kind", "rom_kind", "stored_bits", "style"]

BLOCK, DISTRIBUTED, LOGIC = "block", "distributed", "logic"
"""Block RAM, RAM made of LUTs, and tables made of LUTs."""

_BYTE = 9
"""Bits that have an enable of their own."""

_LUT_RAM = (16, 4)
"""Words and width of a LUT RAM: TRELLIS_DPR16X4 of the ECP5."""

_MOST_LUT_RAMS = 16
"""Of as many LUT RAMs as this, each six LUTs, a memory may be made."""

_TABLE_WORDS = 32
"""Words up to which a table is made of LUTs: two of them a bit."""


@dataclass(frozen=True, kw_only=True)
class BuiltMemory:
    """A memory of a component, which the component's ``memories`` tell before it is elaborated.

    Parameters
    ----------
    name : str
        Its place in the hierarchy, below the component that tells of it.
    width, depth : int
        Bits of a word, and words.
    kind : str
        `BLOCK`, `DISTRIBUTED` or `LOGIC`.
    moved : bool
        Whether it is made of LUTs because the plan says so, and were block RAM otherwise.
    further : bool
        Whether it holds further words of a memory that is divided by address: what is read of it and of others is selected.
    freed : int or None
        Blocks that are free because of it; None for those that it would take itself, had the plan not moved it.
    """

    name: str
    width: int
    depth: int
    kind: str
    moved: bool = False
    further: bool = False
    freed: int | None = None

    @classmethod
    def written(cls, *, name: str, width: int, depth: int) -> "BuiltMemory":
        """A small memory that is written, of the kind that suits its size."""
        return cls(name=name, width=width, depth=depth, kind=ram_kind(width, depth))

    @property
    def blocks(self) -> int:
        """Memory blocks that it takes: the fewest that any shape of a block allows, as Yosys lays them out.

        Where a block has enables for its bytes, what is left of the width beside whole blocks needs only some of these: the
        others take further words.
        """
        return self._blocks if self.kind == BLOCK else 0

    @property
    def freed_blocks(self) -> int:
        """Memory blocks that are free because the plan moves or divides it."""
        if self.freed is not None:
            return self.freed
        return self._blocks if self.moved else 0

    @property
    def _blocks(self) -> int:
        return min(self._blocks_of(words, width) for words, width in DP16KD.shapes)

    def _blocks_of(self, words: int, width: int) -> int:
        whole, rest = divmod(self.width, width)
        blocks = whole * -(-self.depth // words)
        if rest:
            share = 1
            while width % (2 * share) == 0 and width // (2 * share) >= max(rest, _BYTE):
                share *= 2
            blocks += -(-self.depth // (words * share))
        return blocks

    @property
    def lut_rams(self) -> int:
        """LUT RAMs that it takes."""
        words, width = _LUT_RAM
        return -(-self.depth // words) * -(-self.width // width) if self.kind == DISTRIBUTED else 0

    @property
    def table_luts(self) -> int:
        """LUTs of a table, before any of them is found to be another's."""
        return self.width * -(-self.depth // 16) if self.kind == LOGIC else 0


def placed(place: str, memories: Iterable[BuiltMemory]) -> tuple[BuiltMemory, ...]:
    """The memories of a submodule called ``place``, as the component that it is part of names them."""
    return tuple(replace(memory, name=f"{place}.{memory.name}") for memory in memories)


def stored_bits(layout: data.StructLayout, values: Mapping[str, int]) -> int:
    """Bits of ``layout`` that a memory keeps: synthesis removes a member that has one value only.

    Parameters
    ----------
    layout : data.StructLayout
        A word.
    values : Mapping[str, int]
        How many values a member can have, of those that may have one only.
    """
    return layout.size - sum(field.width for name, field in layout if values.get(name) == 1)


def ram_kind(width: int, depth: int) -> str:
    """What a small memory that is written is made of."""
    lut_rams = BuiltMemory(name="", width=width, depth=depth, kind=DISTRIBUTED).lut_rams
    return BLOCK if lut_rams > _MOST_LUT_RAMS else DISTRIBUTED


def rom_kind(depth: int) -> str:
    """What a memory that is only read is made of."""
    return BLOCK if depth > _TABLE_WORDS else LOGIC


def style(kind: str) -> dict[str, str]:
    """The attribute of a memory, written or not, by which Yosys builds it of ``kind``."""
    return {"ram_style": kind}
