"""Whether a float network can be the one that a network was converted from."""

import numpy as np
import numpy.typing as npt

from model.arrays import Floats
from model.importers.float_network import ConversionError, FloatLayer, FloatNetwork, expand_groups, refuse_branches
from model.importers.folding import spread_averages
from model.network import Convolution, Layer, MaxPool, Network, Neurons, Shape

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
    refuse_branches(floats, "compared with networks")
    if floats.input_shape != network.input_shape:
        raise ConversionError(
            f"{floats.path}: input must have the network's shape {tuple(network.input_shape)}, not {tuple(floats.input_shape)}"
        )
    why = f"it is not what network {network.name!r} was converted from"
    if len(floats.layers) != len(network.layers):
        count = f"the network's {len(network.layers)}, not {len(floats.layers)}"
        raise ConversionError(f"{floats.path}: layers must be {count}: {why}")
    for layer, (own, shape, _) in zip(network.layers, floats.walk(), strict=True):
        if not _same_structure(layer, _as_built(layer, own, shape)):
            wanted = f"of the kind, sizes and activation of the network's {layer.name!r}"
            raise ConversionError(f"{floats.path}: layer {own.name!r} must be {wanted}: {why}")


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
    for layer, (own, shape, _) in zip(network.layers, floats.walk(), strict=True):
        if isinstance(layer, Neurons):
            weights = _as_built(layer, own, shape).weights
            assert weights is not None
            if not _rounded_from(_by_channels(layer, layer.weights, shape), _by_channels(layer, weights, shape)):
                return layer.name
    return None


def _as_built(layer: Layer, own: FloatLayer, shape: Shape) -> FloatLayer:
    """The float layer on an input of ``shape``, its groups expanded where the network's are, and its averages likewise."""
    if isinstance(layer, Convolution) and layer.groups == 1:
        own = expand_groups(own)
    if isinstance(layer, Neurons) and own.weights is not None and layer.averaged == (1, 1) != own.averaged:
        return spread_averages(own, shape) or own
    return own


def _same_structure(layer: Layer, own: FloatLayer) -> bool:
    if layer.KIND != own.kind:
        return False
    if isinstance(layer, MaxPool):
        return (layer.window, layer.stride, layer.padding) == (own.window, own.stride, own.padding)
    assert isinstance(layer, Neurons) and own.weights is not None
    if isinstance(layer, Convolution) and (layer.stride, layer.padding, layer.groups) != (own.stride, own.padding, own.groups):
        return False
    # Levels of a quantized file have ends of their own, and those from 0 up do what a ReLU does.
    ends = own.quantizer is not None or ((layer.count_max is None, layer.relu) == (own.end is None, own.relu))
    return ends and (layer.weights.shape, layer.averaged) == (own.weights.shape, own.averaged)


def _by_channels(layer: Neurons, weights: npt.NDArray[np.number], shape: Shape) -> Floats:
    """Weights as ``(output channels, input channels, taps)``; between channels of different groups they are 0."""
    if not isinstance(layer, Convolution):
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
