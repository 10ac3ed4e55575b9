"""The sigma-delta neuron: Algorithm 1 of the paper as printed, and beside it the residual form that hardware builds.

Each updates neurons once, element by element. They are the same neuron, with ``R = V - Q * theta``; `update` is the one that
defines. All they do is add, compare and select, so that the same lines run on integer arrays, on the terms of a theorem prover
and as gates: ``where`` is the selection that goes with the values (`numpy.where`, ``z3.If``, Amaranth's ``Mux``). That is how
the tests prove these lines, and the lanes of the machine against them.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from model.arrays import Bools, Ints
from model.network import Neurons

__all__ = ["update", "update_residual"]


def update(
    layer: Neurons, V: Ints, Q: Ints, drive: Ints, *, where: Callable[..., Any] = np.where
) -> tuple[Ints, Ints, Ints, Bools]:
    """Algorithm 1: integrate, compare with the count, fire at most once.

    Parameters
    ----------
    layer : Neurons
        Gives ``theta``, the activation and the widths.
    V, Q : Ints
        Membrane potential and spike count.
    drive : Ints
        ``s * W``, the signed weight of the event.
    where : Callable
        ``where(condition, a, b)`` is ``a`` where the condition holds, else ``b``.

    Returns
    -------
    V, Q : Ints
        After the update.
    fired : Ints
        +1, -1 or 0.
    saturated : Bools
        Whether the stored residual ``V - Q * theta`` was held at its end, or the count at its own and did not fire.
    """
    theta, (least, most) = layer.theta, layer.count_limits
    lowest, highest = layer.residual_limits
    summed = V + drive
    V = _clipped(summed, lowest + Q * theta, highest + Q * theta, where)
    activated = where(V > 0, V, 0) if layer.relu else V
    diff = activated - Q * theta
    up, down = diff >= theta, diff <= -theta
    fired = where(up & (Q < most), 1, where(down & (Q > least), -1, 0))
    held = (up & (Q == most)) | (down & (Q == least))
    return V, Q + fired, fired, (V != summed) | held


def update_residual(
    layer: Neurons, R: Ints, Q: Ints, drive: Ints, *, where: Callable[..., Any] = np.where
) -> tuple[Ints, Ints, Ints, Bools]:
    """The residual form: both comparisons are with constants, and a spike takes ``theta`` off the residual.

    As `update`, with ``R = V - Q * theta`` in place of ``V``. With ReLU, ``Q >= 1`` stands in for the activation: where
    ``V < 0``, ``diff`` is ``-Q * theta``, which is ``<= -theta`` exactly when ``Q >= 1``.
    """
    theta, (least, most) = layer.theta, layer.count_limits
    lowest, highest = layer.residual_limits
    summed = R + drive
    R = _clipped(summed, lowest, highest, where)
    up, down = R >= theta, R <= -theta
    if layer.relu:
        down = down & (Q >= 1)
    fired = where(up & (Q < most), 1, where(down & (Q > least), -1, 0))
    held = (up & (Q == most)) | (down & (Q == least))
    return R - fired * theta, Q + fired, fired, (R != summed) | held


def _clipped(value: Ints, low: Any, high: Any, where: Callable[..., Any]) -> Any:
    """``value``, or the end that it is beyond."""
    return where(value < low, low, where(value > high, high, value))
