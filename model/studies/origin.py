"""Whether a float network can be the one that a network was converted from."""

import numpy as np

from model.arrays import Floats, Ints
from model.importers.float_network import ConversionError, FloatLayer, FloatNetwork, expand_groups
from model.importers.folding import spread_averages
from model.network import Convolution, Layer, MaxPool, Network, Neurons, Shape

__all__ = ["another_origin", "check_structure"]

_ROUNDING = 0.501
"""How far a whole weight may be from what it was rounded from; the rest is float arithmetic's."""


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
    for layer, (own, shape, _) in zip(network.layers, floats.walk(), strict=True):
        if not _same_structure(layer, _as_built(layer, own, shape)):
            wanted = f"of the kind, sizes and activation of the network's {layer.name!r}"
            raise ConversionError(f"{floats.path}: layer {own.name!r} must be {wanted}: {why}")


def another_origin(network: Network, floats: FloatNetwork) -> str | None:
    """The first layer whose weights are not the float network's, scaled and rounded; None where all are.

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
            if not _rounded_from(layer.weights.astype(np.int64), weights):
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
    ends = (layer.count_max is None) == (own.end is None)
    return ends and (layer.weights.shape, layer.averaged, layer.relu) == (own.weights.shape, own.averaged, own.relu)


def _rounded_from(whole: Ints, weights: Floats) -> bool:
    """Whether one positive factor takes all ``weights`` to within rounding of ``whole``."""
    zero = weights == 0
    if whole[zero].any():
        return False
    sizes, signed = np.abs(weights[~zero]), whole[~zero] * np.sign(weights[~zero])
    least = ((signed - _ROUNDING) / sizes).max(initial=0)
    greatest = ((signed + _ROUNDING) / sizes).min(initial=np.inf)
    return bool(least <= greatest)
