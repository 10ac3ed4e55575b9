"""A threshold for each channel, without any for the machine: the scale of a channel is folded into weights.

Where activations of a layer's channels differ in size, one threshold is too coarse for the small ones or fires too often for the
large ones. ReLU, identity and the maximum pass on a positive factor; so a channel's weights and bias may be divided by its scale
and the weights that read it multiplied, also through max-pools, and nothing changes but what a spike of each channel stands for.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from model.arrays import Floats
from model.conversion.constant_channels import by_channel
from model.importers.float_network import FloatLayer, FloatNetwork, FloatProjection
from model.network import INPUT

__all__ = ["channel_scales", "with_scales"]

_Projection = TypeVar("_Projection", bound=FloatProjection)

_LEAST_SCALE = 1 / 8
"""Of a channel, of the layer's: what is divided by less takes bits from the weights of all other channels."""

_LARGE = 99.0
"""Percentile of a channel's activations that counts as a large one."""


def channel_scales(layer: FloatLayer, values: npt.NDArray[np.floating], large: float) -> Floats:
    """How large the activations of each channel are, as a part of the layer's.

    Parameters
    ----------
    layer : FloatLayer
        A layer of neurons.
    values : numpy.ndarray
        What goes into its ReLU or comes out of it, ``(frames, channels, ...)``.
    large : float
        A large activation of the layer.

    Returns
    -------
    Floats
        ``(channels,)``; 1 for a channel that is never active, and for all where the activation ends at the same for all.
    """
    assert layer.weights is not None
    channels = len(layer.weights)
    if layer.end is not None:
        return np.ones(channels)
    of_channels = by_channel(layer, values)
    sizes = np.maximum(of_channels, 0) if layer.relu else np.abs(of_channels)
    scales = np.ones(channels)
    for channel, found in enumerate(sizes):
        active = found[found > 0]
        if len(active):
            scales[channel] = np.percentile(active, _LARGE) / large
    return np.maximum(scales, _LEAST_SCALE)


def with_scales(floats: FloatNetwork, scales: Sequence[Floats]) -> FloatNetwork:
    """The same function with each channel of the hidden layers divided by its scale.

    Parameters
    ----------
    floats : FloatNetwork
        The network; what its ``model`` computes stays as it is.
    scales : Sequence[Floats]
        Of each layer of neurons but the last, ``(channels,)``.
    """
    left = list(scales)
    layers: list[FloatLayer] = []
    known = {INPUT: np.ones(floats.input_shape.channels)}
    for layer in floats.layers:
        known[layer.name] = known[layer.source]
        if layer.bias is not None:
            known[layer.name] = own = left.pop(0) if left else np.ones(floats.shape_of(layer.name).channels)
            joined = tuple(_scaled(taken, known[taken.source], own) for taken in layer.joined)
            layer = replace(_scaled(layer, known[layer.source], own), bias=layer.bias / own, joined=joined)
        layers.append(layer)
    return replace(floats, layers=tuple(layers))


def _scaled(taken: _Projection, before: Floats, own: Floats) -> _Projection:
    """An input with its source's channels divided by ``before``, and what it gives by ``own``."""
    assert taken.weights is not None
    by_output = own.reshape(-1, *[1] * (taken.weights.ndim - 1))
    return replace(taken, weights=taken.weights * _of_inputs(taken, before) / by_output)


def _of_inputs(layer: FloatProjection, scales: Floats) -> Floats:
    """The scales of the channels that each weight reads, in a shape that goes with the weights."""
    assert layer.weights is not None
    if layer.kind == "linear":
        return np.tile(scales, layer.weights.shape[1] // len(scales))
    by_group = scales.reshape(layer.groups, -1).repeat(len(layer.weights) // layer.groups, axis=0)
    return by_group[:, :, np.newaxis, np.newaxis]
