"""What goes wrong with a file of a trained network."""

from model.support.errors import BadInputError

__all__ = ["ConversionError"]


class ConversionError(BadInputError):
    """A file or a node of it cannot be converted; the message names it.

    Where it is about a node, ``node`` is the name of the node's first output, ``reason`` the message without file, node
    and remedy, and ``remedy`` what could be done.
    """

    node = ""
    reason = ""
    remedy = ""
