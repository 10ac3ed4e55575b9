"""What goes wrong with a file of a trained network."""

from model.support.errors import BadInputError

__all__ = ["LONGEST_NAME", "ConversionError", "printable"]

LONGEST_NAME = 120
"""Characters of a name of a file that are shown."""


class ConversionError(BadInputError):
    """A file or a node of it cannot be converted; the message names it.

    Where it is about a node, ``node`` is the name of the node's first output, ``reason`` the message without file, node
    and remedy, and ``remedy`` what could be done.
    """

    node = ""
    reason = ""
    remedy = ""


def printable(name: str) -> str:
    """A name of the file as one may show it in a terminal: no control characters, and not too long."""
    shown = name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}..."
    return shown if shown.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in shown)
