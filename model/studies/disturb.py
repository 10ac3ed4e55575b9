"""Disturbances of event sequences and weights: another order, losses, duplicates, noise, flipped signs and bits."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from model.arrays import Images, Words
from model.events import Events, make_events
from model.network import Shape

__all__ = ["ORDERS", "drop", "duplicate", "flip_bits", "flip_signs", "insert_spurious", "jitter", "reorder"]

ORDERS = ("brightest", "darkest", "raster", "reverse raster", "columns", "random")
"""The orders that `reorder` knows; the first one is the encoder's."""


def reorder(events: Events, frame: Images, shape: Shape, order: str, rng: np.random.Generator) -> Events:
    """The events of a frame in another order.

    Parameters
    ----------
    events : Events
        Input events.
    frame : Images
        The pixels that they come from, uint8, shape ``(height, width, channels)``.
    shape : Shape
        Input shape of the network.
    order : str
        One of `ORDERS`. ``"brightest"`` and ``"darkest"`` first, equal pixels in raster order in both, so that one is not simply
        the other backwards; ``"raster"``, ``(y, x, c)`` ascending; ``"reverse raster"``, exactly that backwards; ``"columns"``,
        ``(x, y, c)`` ascending; ``"random"``, all orders alike.
    rng : np.random.Generator
        Draws the random order, and is not touched by the others.
    """
    if order not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}, not {order!r}")
    address = np.sort(events["address"])
    if order in ("brightest", "darkest"):
        value = frame.reshape(-1)[address].astype(np.int16)
        address = address[np.argsort(value if order == "darkest" else -value, kind="stable")]
    elif order == "reverse raster":
        address = address[::-1]
    elif order == "columns":
        y, x, c = np.unravel_index(address, tuple(shape))
        address = address[np.lexsort((c, y, x))]
    elif order == "random":
        address = rng.permutation(address)
    return make_events(address)


def drop(events: Events, share: float, rng: np.random.Generator) -> Events:
    """Without a ``share`` of the events, each lost independently of the others."""
    return _taken(events, np.flatnonzero(rng.random(len(events)) >= share))


def duplicate(events: Events, share: float, rng: np.random.Generator) -> Events:
    """A ``share`` of the events, each chosen independently, arrives twice in a row: its pixel then counts 2."""
    return _taken(events, np.repeat(np.arange(len(events)), 1 + (rng.random(len(events)) < share)))


def insert_spurious(events: Events, share: float, addresses: int, rng: np.random.Generator) -> Events:
    """With events that no pixel sent: positive, at any place in the sequence and any of ``addresses`` addresses alike.

    Their number is that of the chosen ones if each event were chosen with probability ``share``.
    """
    added = rng.binomial(len(events), share)
    places = rng.integers(0, len(events) + 1, added)
    return make_events(
        np.insert(events["address"], places, rng.integers(0, addresses, added)), np.insert(events["sign"], places, 1)
    )


def flip_signs(events: Events, share: float, rng: np.random.Generator) -> Events:
    """A ``share`` of the events, each chosen independently, has the other sign."""
    return make_events(events["address"], np.where(rng.random(len(events)) < share, -events["sign"], events["sign"]))


def jitter(events: Events, window: int, rng: np.random.Generator) -> Events:
    """Each event is late by up to ``window`` places: it may change places with events less than ``window`` places away."""
    return _taken(events, np.argsort(np.arange(len(events)) + window * rng.random(len(events)), kind="stable"))


def flip_bits(
    weights: Words, width: int, bits: Sequence[int], probability: float, rng: np.random.Generator
) -> Words:
    """Weights of ``width`` bits, two's complement, each of whose ``bits`` (0 the lowest) is flipped with ``probability``."""
    mask = np.zeros(weights.shape, np.int32)
    for bit in bits:
        if not 0 <= bit < width:
            raise ValueError(f"bit must be within 0..{width - 1}, not {bit}")
        mask |= (rng.random(weights.shape) < probability).astype(np.int32) << bit
    flipped = (weights ^ mask) & ((1 << width) - 1)
    # The top bit of two's complement counts negative.
    return (flipped - ((flipped >> (width - 1)) << width)).astype(np.int32)


def _taken(events: Events, indices: npt.NDArray[np.intp]) -> Events:
    """The events of these indices, as a sequence of its own."""
    return make_events(events["address"][indices], events["sign"][indices])
