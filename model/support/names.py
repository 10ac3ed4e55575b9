"""Names that are safe wherever they come to stand: a file, a page, a shell's line, a terminal, Verilog."""

import re
from collections.abc import Collection

__all__ = [
    "LAYER_NAME",
    "MOST_TEXT",
    "SAFE_NAME",
    "is_layer_name",
    "is_printable",
    "is_safe_name",
    "layer_name",
    "printable",
    "safe_name",
    "shortened",
]

_LENGTH = 100

MOST_TEXT = 1000
"""Characters of a line that says where something came from."""

SAFE_NAME = f"1 to {_LENGTH} letters, digits, '_', '-' and '.', the first neither '-' nor '.'"
"""What the name of a network or a plan must be."""

LAYER_NAME = f"an identifier of at most {_LENGTH} letters, digits and '_'"
"""What a layer's name must be."""

_SAFE = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.-]{{0,{_LENGTH - 1}}}")
_LAYER = re.compile(rf"[A-Za-z_][A-Za-z0-9_]{{0,{_LENGTH - 1}}}")


def is_safe_name(name: object) -> bool:
    """Whether ``name`` may be that of a network or a plan, which become folders, files and headings."""
    return isinstance(name, str) and _SAFE.fullmatch(name) is not None


def is_layer_name(name: object) -> bool:
    """Whether ``name`` may be a layer's.

    In hardware it is never a name by itself, always the end of one: words that Verilog or Python reserve are no harm, and names
    that differ, if only in case, stay different.
    """
    return isinstance(name, str) and _LAYER.fullmatch(name) is not None


def is_printable(text: object) -> bool:
    """Whether ``text`` is a line that a terminal shows as it is."""
    return isinstance(text, str) and text.isprintable() and len(text) <= MOST_TEXT


def safe_name(text: str) -> str:
    """A network's name made from any text, such as a file's name; the text itself where it is one."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text).lstrip(".-")[:_LENGTH] or "network"


def layer_name(text: str, taken: Collection[str]) -> str:
    """A layer's name made from any text, such as a node's name, and unlike all that are ``taken``."""
    base = re.sub(r"[^A-Za-z0-9_]", "_", text)
    if not base or base[0].isdigit():
        base = f"layer_{base}"
    name, number = base[:_LENGTH], 2
    while name in taken:
        ending = f"_{number}"
        name, number = base[: _LENGTH - len(ending)] + ending, number + 1
    return name


def printable(text: str) -> str:
    """Any text as a line that `is_printable`: what cannot be shown is a space, what is too long is cut."""
    return "".join(c if c.isprintable() else " " for c in text)[:MOST_TEXT]


def shortened(message: str, *, most: int = MOST_TEXT) -> str:
    """A message that shows what a file holds, however long that is."""
    return message if len(message) <= most else f"{message[:most]} ..."
