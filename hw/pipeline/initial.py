"""What words of state start a frame with, where that differs by position: looked up by row and column."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from amaranth.hdl import Const, Module, Signal, Value, unsigned
from amaranth.lib.memory import Memory

from hw.parts.memory import BuiltMemory, rom_kind, style
from hw.parts.tables import lookup
from model.arrays import Ints
from model.machine.borders import borders

__all__ = ["InitialWords"]


@dataclass(frozen=True)
class InitialWords:
    """The words of a bank at the start of a frame: one of each class of rows, class of columns, and block.

    Rows that start alike are a class, and so are columns (`model.machine.borders`): a layer inside of what zeros pad has few.

    Parameters
    ----------
    words : Sequence[int]
        Classes of rows outermost, blocks innermost.
    rows, columns : Sequence[int]
        Of each row, and column, at which a step can begin, its share of the place among them.
    """

    words: Sequence[int]
    rows: Sequence[int]
    columns: Sequence[int]

    @classmethod
    def of(
        cls,
        values: Ints,
        words_at: Callable[[int, int], Sequence[int]],
        *,
        bank: tuple[int, int] = (0, 0),
        banks: tuple[int, int] = (1, 1),
    ) -> "InitialWords":
        """The words of one of the banks between which the positions of a layer are dealt out.

        Parameters
        ----------
        values : Ints
            What each position starts with, ``(height, width, ...)``.
        words_at : Callable[[int, int], Sequence[int]]
            The words of a position ``(y, x)``, a block each.
        bank, banks : tuple[int, int]
            Row and column of the bank, and how many there are of each: position ``(y, x)`` is in bank ``(y mod rows, x mod
            columns)``.
        """
        (row, column), (rows, columns) = bank, banks
        found = borders(values[row::rows, column::columns])
        words = [
            word
            for y in found.rows
            for x in found.columns
            for word in words_at(row + y * rows, column + x * columns)
        ]
        if len(set(words)) == 1:
            return cls(words=words[:1], rows=[0] * values.shape[0], columns=[0] * values.shape[1])
        blocks = len(words) // (len(found.rows) * len(found.columns))
        height, width = values.shape[:2]
        return cls(
            words=words,
            rows=[of * len(found.columns) * blocks for of in _from_steps(found.of_row, height, row, rows)],
            columns=[of * blocks for of in _from_steps(found.of_column, width, column, columns)],
        )

    def memories(self, name: str, width: int) -> tuple[BuiltMemory, ...]:
        """The memory that keeps them, where they are more than one."""
        depth = len(self.words)
        return (BuiltMemory(name=name, width=width, depth=depth, kind=rom_kind(depth)),) if depth > 1 else ()

    def read(self, m: Module, name: str, width: int, *, y: Value, x: Value, block: Value) -> Value:
        """The word of the position that the bank has in a step which begins at ``(y, x)``, three cycles later."""
        depth = len(self.words)
        if depth == 1:
            return Const(self.words[0], width)
        m.submodules[name] = memory = Memory(
            shape=unsigned(width), depth=depth, init=self.words, attrs=style(rom_kind(depth))
        )
        port = memory.read_port()
        addr = Signal(range(depth), name=f"{name}_addr", reset_less=True)
        word = Signal(width, name=f"{name}_word", reset_less=True)
        row, column = lookup(m, f"{name}_row", self.rows, y), lookup(m, f"{name}_column", self.columns, x)
        m.d.comb += port.addr.eq(addr)
        m.d.sync += [addr.eq(row + column + block), word.eq(port.data)]
        return word


def _from_steps(classes: Sequence[int], size: int, bank: int, banks: int) -> list[int]:
    """Of each coordinate at which a step can begin, the class of the one from there on that is in the bank."""
    found = []
    for first in range(size):
        at = first + (bank - first) % banks
        # The bank has nothing to do where its coordinate is beyond the end.
        found.append(classes[at // banks] if at < size else 0)
    return found
