"""Whether a float network can be the one that a network was converted from."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from model.arrays import Floats
from model.importers.float_network import (
    ConversionError,
    FloatLayer,
    FloatNetwork,
    FloatProjection,
    projection_of,
    ungrouped_weights,
)
from model.importers.folding import spread_averages
from model.network import INPUT, Layer, MaxPool, Network, Neurons
from model.projection import ConvolutionProjection, Projection, Shape, TransposedProjection

__all__ = ["another_origin", "check_structure"]

_ROUNDING = 0.501
"""How far a whole weight may be from what it was rounded from; the rest is float arithmetic's."""


_SLACK = 1e-9
"""What float arithmetic may be off by, on a logarithmic scale."""


def check_structure(network: Network, floats: FloatNetwork) -> None:
    """Refuse a float network with other layers.

    Parameters
    ----------
    network : Network
        The network.
    floats : FloatNetwork
        What it may have been converted from.

    Raises
    ------
    ConversionError
        One line: the first thing that differs.
    """
    if floats.input_shape != network.input_shape:
        raise ConversionError(
            f"{floats.path}: input must have the network's shape {tuple(network.input_shape)}, not {tuple(floats.input_shape)}"
        )
    why = f"it is not what network {network.name!r} was converted from"
    if len(floats.layers) != len(network.layers):
        count = f"the network's {len(network.layers)}, not {len(floats.layers)}"
        raise ConversionError(f"{floats.path}: layers must be {count}: {why}")
    # By their places: a file that was exported once more may give its nodes other names.
    places = {INPUT: INPUT}
    for layer, own in zip(network.layers, floats.layers, strict=True):
        built = _as_built(network, layer, own)
        same_sources = [places.get(taken.source) for taken in own.inputs] == list(layer.sources)
        if not same_sources or not _same_structure(layer, own, built):
            wanted = f"of the kind, sizes, inputs and activation of the network's {layer.name!r}"
            raise ConversionError(f"{floats.path}: layer {own.name!r} must be {wanted}: {why}")
        places[own.name] = layer.name


def another_origin(network: Network, floats: FloatNetwork) -> str | None:
    """The first layer whose weights are not the float network's, scaled and rounded; None where all are.

    Each output channel may have a scale of its own, and each input channel too: thresholds of channels are folded into weights.

    Parameters
    ----------
    network : Network
        The network.
    floats : FloatNetwork
        A float network of its structure (`check_structure`).

    Returns
    -------
    str or None
        The layer's name.
    """
    for layer, own in zip(network.layers, floats.layers, strict=True):
        if isinstance(layer, Neurons):
            pairs = list(zip(network.inputs(layer), _as_built(network, layer, own), strict=True))
            whole = [_by_channels(taker, taker.weights, shape) for (taker, shape, _), _ in pairs if isinstance(taker, Projection)]
            weights = [
                _by_channels(taker, taken.weights, shape)
                for (taker, shape, _), taken in pairs
                if isinstance(taker, Projection) and taken.weights is not None
            ]
            if not _rounded_from(_side_by_side(whole), _side_by_side(weights)):
                return layer.name
    return None


def _side_by_side(inputs: Sequence[Floats]) -> Floats:
    """Weights ``(output channels, input channels, taps)`` of several inputs as those of one."""
    taps = max(weights.shape[2] for weights in inputs)
    return np.concatenate([np.pad(each, ((0, 0), (0, 0), (0, taps - each.shape[2]))) for each in inputs], axis=1)


def _as_built(network: Network, layer: Layer, own: FloatLayer) -> list[FloatProjection]:
    """The inputs of the float layer, groups expanded where the network's are, and averages likewise."""
    found: list[FloatProjection] = []
    for (taker, shape, _), taken in zip(network.inputs(layer), own.inputs, strict=False):
        one = projection_of(taken)
        if isinstance(taker, ConvolutionProjection) and taker.groups == 1 and one.weights is not None:
            one = replace(one, weights=ungrouped_weights(one.weights, one.groups), groups=1)
        if isinstance(taker, Projection) and one.weights is not None and taker.averaged == (1, 1) != one.averaged:
            one = spread_averages(one, shape) or one
        found.append(one)
    return found


def _same_structure(layer: Layer, own: FloatLayer, built: Sequence[FloatProjection]) -> bool:
    if layer.KIND != own.kind:
        return False
    if isinstance(layer, MaxPool):
        return (layer.window, layer.stride, layer.padding) == (own.window, own.stride, own.padding)
    assert isinstance(layer, Neurons)
    # Levels of a quantized file have ends of their own, and those from 0 up do what a ReLU does.
    ends = own.quantizer is not None or ((layer.count_max is None, layer.relu) == (own.end is None, own.relu))
    return ends and all(map(_same_input, layer.inputs, built))


def _same_input(taker: Projection, taken: FloatProjection) -> bool:
    if taker.KIND != taken.kind or taken.weights is None:
        return False
    window = (taken.stride, taken.padding, taken.groups)
    if isinstance(taker, ConvolutionProjection) and (taker.stride, taker.padding, taker.groups) != window:
        return False
    if isinstance(taker, TransposedProjection) and taker.more != taken.more:
        return False
    return (taker.weights.shape, taker.averaged) == (taken.weights.shape, taken.averaged)


def _by_channels(layer: Projection, weights: npt.NDArray[np.number], shape: Shape) -> Floats:
    """Weights as ``(output channels, input channels, taps)``; between channels of different groups they are 0."""
    if not isinstance(layer, ConvolutionProjection):
        return weights.reshape(len(weights), -1, shape.channels).swapaxes(1, 2).astype(np.float64)
    taken, each = weights.shape[1], len(weights) // layer.groups
    found = np.zeros((len(weights), taken * layer.groups, weights[0, 0].size))
    for group in range(layer.groups):
        outputs = slice(group * each, (group + 1) * each)
        found[outputs, group * taken : (group + 1) * taken] = weights[outputs].reshape(each, taken, -1)
    return found


def _rounded_from(whole: Floats, weights: Floats) -> bool:
    """Whether positive factors, one an output channel and one an input channel, take ``weights`` to within rounding of ``whole``.

    Of each pair of channels the weights bound the product of its factors, on a logarithmic scale their sum. Such bounds are a
    system of differences, which has a solution if and only if lowering what is too high comes to an end (Bellman and Ford).
    """
    zero = weights == 0
    if whole[zero].any():
        return False
    sizes, signed = np.where(zero, 1, np.abs(weights)), whole * np.sign(weights)
    least = np.where(zero, 0, (signed - _ROUNDING) / sizes).max(axis=2, initial=0)
    greatest = np.where(zero, np.inf, (signed + _ROUNDING) / sizes).min(axis=2, initial=np.inf)
    if (greatest <= 0).any():
        return False
    with np.errstate(divide="ignore"):
        low, high = np.log(least) - _SLACK, np.log(greatest) + _SLACK
    outputs, inputs = np.zeros(len(whole)), np.zeros(whole.shape[1])
    for _ in range(len(outputs) + len(inputs) + 1):
        lower = np.minimum(outputs, (inputs + high).min(axis=1))
        # ``inputs`` are the negative logarithms of their factors.
        further = np.minimum(inputs, (lower[:, np.newaxis] - low).min(axis=0))
        if (lower == outputs).all() and (further == inputs).all():
            return True
        outputs, inputs = lower, further
    return False
