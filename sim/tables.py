"""Tables of memories as files: what a simulator reads at its start in place of compiling a statement for each word."""

import re
from pathlib import Path

from model.support.files import write_file

__all__ = ["tables_in_files"]

_TABLE = re.compile(
    r"^  initial begin\n((?P<word>    (?P<memory>\\\S+ |[A-Za-z_][\w$]*)\[)\d+\] = \d+'h[0-9a-f]+;\n"
    r"(?:(?P=word)\d+\] = \d+'h[0-9a-f]+;\n)*)  end\n",
    re.MULTILINE,
)
_WORD = re.compile(r"\[(\d+)\] = \d+'h([0-9a-f]+);")

_FEWEST_WORDS = 64
"""Words of a table, below which a file is not worth it."""


def tables_in_files(text: str, folder: Path, stem: str) -> str:
    """Verilog ``text`` with the initial words of its memories in files ``<stem>-<number>.hex`` of ``folder``.

    The weights of a large layer are hundreds of thousands of statements, on which a simulator's compiler spends minutes.

    Parameters
    ----------
    text : str
        Verilog as Yosys writes it: a block of one assignment a word, in ascending order.
    folder : Path
        Where the files are written. The Verilog names them by this path.
    stem : str
        Start of the files' names.
    """
    number = 0

    def filed(table: re.Match[str]) -> str:
        nonlocal number
        words = _WORD.findall(table[1])
        if len(words) < _FEWEST_WORDS or [int(place) for place, _ in words] != list(range(len(words))):
            return table[0]
        path = folder / f"{stem}-{number}.hex"
        number += 1
        write_file(path, "".join(f"{value}\n" for _, value in words))
        # Both ends are given: standards differ in where an array that counts down is begun.
        return f'  initial $readmemh("{path}", {table["memory"]}, 0, {len(words) - 1});\n'

    return _TABLE.sub(filed, text)
