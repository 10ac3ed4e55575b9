"""The price of events in a loss, which follows the accumulations asked for."""

from __future__ import annotations

__all__ = ["followed"]

_STEEP = 2.0
"""Power by which the price follows what the accumulations are to those allowed."""

_LARGEST_CHANGE = 4 / 3
"""Of the price, from an epoch to the next."""


def followed(price: float, accumulations: float, allowed: float) -> float:
    """The price of the next epoch.

    Parameters
    ----------
    price : float
        Of the epoch that was.
    accumulations, allowed : float
        Those that a frame took, and those that it may take.
    """
    change = (accumulations / allowed) ** _STEEP
    return price * min(max(change, 1 / _LARGEST_CHANGE), _LARGEST_CHANGE)
