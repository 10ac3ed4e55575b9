"""How hardware stores a neuron's state: its widths, and what a stored state says of the neuron."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from model.network import Neurons
from model.neuron import update_burst_residual

__all__ = ["StoredWidths", "folded_state_bits", "settled"]


class StoredWidths(NamedTuple):
    """Widths of a stored state that has room for a neuron of any of several layers.

    Parameters
    ----------
    potential_bits : int
        Width of the residual, signed.
    count_bits : int
        Width of the spike count, its sign included.
    signed : bool
        Whether the count has a sign.
    """

    potential_bits: int
    count_bits: int
    signed: bool

    @classmethod
    def of(cls, layers: Sequence[Neurons]) -> "StoredWidths":
        """The least widths for these layers."""
        signed = any(not layer.relu for layer in layers)
        return cls(
            max(layer.potential_bits for layer in layers),
            max(layer.count_bits + (signed and layer.relu) for layer in layers),
            signed,
        )

    @property
    def bits(self) -> int:
        """Of residual and count."""
        return self.potential_bits + self.count_bits


def folded_state_bits(layers: Sequence[Neurons], *, deferred: bool) -> int:
    """Bits of a stored state of a folded machine, with room for a neuron of any of ``layers``.

    Where neurons fire deferred, a frame leaves their counts as it found them until the flush, and that has its own word of the
    initial state: only the residual is stored, with a bit more for what it wraps around.
    """
    widths = StoredWidths.of(layers)
    return widths.potential_bits + 1 if deferred else widths.bits


def settled(layer: Neurons, summed: int, count: int, *, updated: bool) -> tuple[int, int]:
    """Membrane potential and spike count of a neuron that is stored as its last update left it, before that update's spikes.

    The pipeline's lane stores ``R`` before it subtracts ``theta``, and the next update does both (`hw.neuron.Lane`).

    Parameters
    ----------
    layer : Neurons
        Gives the threshold and the activation.
    summed : int
        ``R`` after the last weight was added.
    count : int
        ``Q`` before the spikes of that update.
    updated : bool
        Whether there was an update in this frame: a bias alone fires nothing.

    Returns
    -------
    tuple[int, int]
        ``V`` and ``Q``.
    """
    R, Q = np.array(summed), np.array(count)
    if updated:
        R, Q, _, _ = update_burst_residual(layer, R, Q, np.array(0))
    return int(R + Q * layer.theta), int(Q)
