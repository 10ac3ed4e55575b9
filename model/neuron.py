"""The sigma-delta neuron: Algorithm 1 of the paper as printed, and beside it the residual form that hardware builds.

`hw.neuron` builds the residual form; its docstring says which of its signals is which line here.

Each updates neurons once, element by element. They are the same neuron, with ``R = V - Q * theta``; `update` is the one that
defines. `update_burst` is Algorithm 1 for layers whose updates may fire several spikes. In a network that fires deferred an event
does `accumulate`, and comparing is left to a `flush`. Each has its residual form.

All they do is add, compare, shift, wrap and select, so that the same lines run on integer arrays, on the terms of a theorem
prover and as gates: ``where`` is the selection that goes with the values (`numpy.where`, ``z3.If``, Amaranth's ``Mux``). That is
how the tests prove these lines, and the lanes of the machine against them.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from model.arrays import Bools, Ints
from model.network import Neurons

__all__ = [
    "accumulate",
    "accumulate_residual",
    "flush",
    "flush_residual",
    "update",
    "update_burst",
    "update_burst_residual",
    "update_residual",
]


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
    activated = _activation(layer, V, where)
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
    ``V < 0``, ``diff`` is ``-Q * theta``, which is ``<= -theta`` exactly when ``Q >= 1``. Likewise ``Q < count_max``, where the
    activation has such an end.
    """
    theta, (least, most) = layer.theta, layer.count_limits
    lowest, highest = layer.residual_limits
    summed = R + drive
    R = _clipped(summed, lowest, highest, where)
    up, down = R >= theta, R <= -theta
    if layer.relu:
        down = down & (Q >= 1)
    if layer.count_max is not None:
        up = up & (Q < layer.count_max)
    fired = where(up & (Q < most), 1, where(down & (Q > least), -1, 0))
    held = (up & (Q == most)) | (down & (Q == least))
    return R - fired * theta, Q + fired, fired, (R != summed) | held


def update_burst(
    layer: Neurons, V: Ints, Q: Ints, drive: Ints, *, where: Callable[..., Any] = np.where
) -> tuple[Ints, Ints, Ints, Bools]:
    """Algorithm 1 with bursts: while the difference is a threshold or more, fire, at most ``layer.burst`` times.

    As `update`, which it is where ``burst`` is 1, with ``fired`` the number of spikes times their sign.
    """
    theta, f, (least, most) = layer.theta, layer.threshold_log2, layer.count_limits
    lowest, highest = layer.residual_limits
    summed = V + drive
    V = _clipped(summed, lowest + Q * theta, highest + Q * theta, where)
    activated = _activation(layer, V, where)
    wanted = _limited(layer, _thresholds_in(activated - Q * theta, f, where), where)
    fired = _clipped(wanted, least - Q, most - Q, where)
    return V, Q + fired, fired, (V != summed) | (fired != wanted)


def update_burst_residual(
    layer: Neurons, R: Ints, Q: Ints, drive: Ints, *, where: Callable[..., Any] = np.where
) -> tuple[Ints, Ints, Ints, Bools]:
    """The residual form of `update_burst`: how many spikes is in the upper bits of the residual."""
    theta, f, (least, most) = layer.theta, layer.threshold_log2, layer.count_limits
    lowest, highest = layer.residual_limits
    summed = R + drive
    R = _clipped(summed, lowest, highest, where)
    wanted = _thresholds_in(R, f, where)
    wanted = _within_activation(layer, wanted, Q, where)
    wanted = _limited(layer, wanted, where)
    fired = _clipped(wanted, least - Q, most - Q, where)
    return R - fired * theta, Q + fired, fired, (R != summed) | (fired != wanted)


def accumulate(layer: Neurons, V: Ints, Q: Ints, drive: Ints) -> Ints:
    """What an event does in a network that fires deferred: it adds. ``V - Q * theta`` wraps, with a bit more than is stored.

    So the order of events does not matter, and only the sum at the flush has to fit.
    """
    return Q * layer.theta + _wrapped(layer, V + drive - Q * layer.theta)


def accumulate_residual(layer: Neurons, R: Ints, drive: Ints) -> Ints:
    """The residual form of `accumulate`."""
    return _wrapped(layer, R + drive)


def flush(
    layer: Neurons, V: Ints, Q: Ints, *, where: Callable[..., Any] = np.where
) -> tuple[Ints, Ints, Ints, Bools]:
    """A flush: the count becomes the whole thresholds in the activation, rounded down, within its limits.

    Where the layer rounds halves to even, a whole number of thresholds that is odd is taken for one less.

    Returns
    -------
    V, Q : Ints
        After the flush.
    fired : Ints
        The number of spikes times their sign.
    saturated : Bools
        Whether the sum did not fit into what is stored of it, or the count was held at its end.
    """
    theta, f = layer.theta, layer.threshold_log2
    lowest, highest = layer.residual_limits
    residual = V - Q * theta
    activated = _activation(layer, V, where)
    wanted = activated >> f
    if layer.halves_to_even:
        wanted = where((activated == V) & _is_odd_whole(layer, V, wanted), wanted - 1, wanted)
    count = _clipped(wanted, *layer.count_limits, where)
    outside = (residual < lowest) | (residual > highest)
    return V, count, count - Q, outside | (count != wanted)


def flush_residual(
    layer: Neurons, R: Ints, Q: Ints, *, where: Callable[..., Any] = np.where
) -> tuple[Ints, Ints, Ints, Bools]:
    """The residual form of `flush`: the upper bits of the residual are the spikes to fire."""
    theta, f, (least, most) = layer.theta, layer.threshold_log2, layer.count_limits
    lowest, highest = layer.residual_limits
    wanted = R >> f
    if layer.halves_to_even:
        wanted = where(_is_odd_whole(layer, R, wanted + Q), wanted - 1, wanted)
    wanted = _within_activation(layer, wanted, Q, where)
    fired = _clipped(wanted, least - Q, most - Q, where)
    outside = (R < lowest) | (R > highest)
    return R - fired * theta, Q + fired, fired, outside | (fired != wanted)


def _activation(layer: Neurons, V: Ints, where: Callable[..., Any]) -> Any:
    """``max(V, 0)`` with ReLU, no more than ``count_max`` thresholds where there is one; ``V`` itself without."""
    activated = where(V > 0, V, 0) if layer.relu else V
    if layer.count_max is None:
        return activated
    end = layer.count_max * layer.theta
    return where(activated > end, end, activated)


def _within_activation(layer: Neurons, spikes: Any, Q: Ints, where: Callable[..., Any]) -> Any:
    """Spikes for a residual that is not the activation's: no more than take the count to the activation's ends."""
    if layer.relu:
        spikes = where(spikes < -Q, -Q, spikes)
    if layer.count_max is not None:
        spikes = where(spikes > layer.count_max - Q, layer.count_max - Q, spikes)
    return spikes


def _thresholds_in(diff: Ints, f: int, where: Callable[..., Any]) -> Any:
    """Whole thresholds in a difference, rounded towards zero."""
    return where(diff < 0, -(-diff >> f), diff >> f)


def _is_odd_whole(layer: Neurons, potential: Ints, count: Any) -> Any:
    """Whether a potential, or a residual, is whole thresholds, with an odd ``count`` of them in the potential."""
    return (potential % layer.theta == 0) & (count % 2 == 1)


def _limited(layer: Neurons, spikes: Any, where: Callable[..., Any]) -> Any:
    """As many of them as an update may fire."""
    return _clipped(spikes, -layer.burst, layer.burst, where) if layer.burst else spikes


def _wrapped(layer: Neurons, R: Ints) -> Any:
    """A residual in ``potential_bits`` and a bit more, two's complement."""
    half = 1 << layer.potential_bits
    return (R + half) % (2 * half) - half


def _clipped(value: Ints, low: Any, high: Any, where: Callable[..., Any]) -> Any:
    """``value``, or the end that it is beyond."""
    return where(value < low, low, where(value > high, high, value))
