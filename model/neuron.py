"""The sigma-delta neuron: Algorithm 1 of the paper, and the residual form that hardware builds.

Both work element by element on integer arrays of any shape, one update of each neuron. They are the same
function: ``R = V - Q * theta``. A test and a proof hold them equal; `update` is the one that defines.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from model.network import Neurons

__all__ = ["StoredWidths", "settled", "update", "update_residual"]

Ints = npt.NDArray[np.int64]


class StoredWidths(NamedTuple):
    """Widths of a stored state that has room for a neuron of any of several layers.

    Parameters
    ----------
    potential_bits : of the residual, signed
    count_bits : of the count, its sign included
    signed : whether the count has a sign
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


def update(layer: Neurons, V: Ints, Q: Ints, drive: Ints) -> tuple[Ints, Ints, Ints, npt.NDArray[np.bool_]]:
    """Algorithm 1: integrate, compare with the count, fire at most once.

    Parameters
    ----------
    layer : gives ``theta``, the activation and the widths
    V, Q : membrane potential and spike count
    drive : ``s * W``, the signed weight of the event

    Returns
    -------
    V, Q : after the update
    fired : +1, -1 or 0
    saturated : whether the stored residual or the count was held at its end
    """
    theta = layer.theta
    lowest, highest = layer.residual_limits
    least, most = layer.count_limits
    summed = V + drive
    V = np.clip(summed, lowest + Q * theta, highest + Q * theta)
    activated = np.maximum(V, 0) if layer.relu else V
    diff = activated - Q * theta
    wanted = np.where(diff >= theta, 1, np.where(diff <= -theta, -1, 0))
    allowed = np.where(wanted > 0, most > Q, least < Q)
    fired = np.where(allowed, wanted, 0)
    return V, Q + fired, fired, (summed != V) | (fired != wanted)


def update_residual(
    layer: Neurons, R: Ints, Q: Ints, drive: Ints
) -> tuple[Ints, Ints, Ints, npt.NDArray[np.bool_]]:
    """The residual form: both comparisons are with constants, a spike takes ``theta`` off the residual.

    As `update`, with ``R = V - Q * theta`` in place of ``V``. For ReLU, ``Q >= 1`` stands in for the
    activation: where ``V < 0``, ``diff = -Q * theta``, which is ``<= -theta`` exactly when ``Q >= 1``.
    """
    theta = layer.theta
    lowest, highest = layer.residual_limits
    least, most = layer.count_limits
    summed = R + drive
    R = np.clip(summed, lowest, highest)
    up, down = theta <= R, -theta >= R
    if layer.relu:
        down &= Q >= 1
    fired = np.where(up & (most > Q), 1, np.where(down & (least < Q), -1, 0))
    wanted = np.where(up, 1, np.where(down, -1, 0))
    return R - fired * theta, Q + fired, fired, (summed != R) | (fired != wanted)


def settled(layer: Neurons, summed: int, count: int, *, updated: bool) -> tuple[int, int]:
    """Membrane potential and count of a neuron as hardware stores it, where the spike of the last update is still open.

    Parameters
    ----------
    layer : gives ``theta`` and the activation
    summed : ``R`` after the last weight was added
    count : ``Q`` before that update's spike
    updated : whether there was an update in this frame: a bias alone fires nothing
    """
    R, Q = np.array(summed), np.array(count)
    if updated:
        R, Q, _, _ = update_residual(layer, R, Q, np.array(0))
    return int(R + Q * layer.theta), int(Q)
