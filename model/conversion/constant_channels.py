"""What says nothing of the frame: channels that nobody reads, and large constant parts of channels that are always on.

They decide nothing, but without more they decide the scale of their layer, as the largest of its activations and of its biases.
A channel that nobody reads is as good with weights of 0. A ReLU that is above 0 whatever the frame is linear, so that its least
value may be taken off its bias, and added to the biases of the layers that read it, also through max-pools and averages. What all
outputs have in common does not change which is the greatest.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from model.arrays import Floats
from model.conversion.projections import driven
from model.importers.float_network import FloatLayer, FloatNetwork, FloatProjection
from model.network import INPUT

__all__ = ["by_channel", "without_constant_parts", "without_unread"]

_LARGE_PART = 16
"""A constant part is moved where it is more than so many large activations of its layer."""

_SAME = 1e-12
"""Part of the largest of a bias that rounding may change."""

_Values = npt.NDArray[np.floating]


def by_channel(layer: FloatLayer, values: _Values) -> _Values:
    """Values ``(frames, channels, ...)`` of a layer of neurons as ``(channels, values)``."""
    assert layer.weights is not None
    channels = len(layer.weights)
    return values.reshape(len(values), channels, -1).swapaxes(0, 1).reshape(channels, -1)


def without_unread(floats: FloatNetwork) -> tuple[FloatNetwork, dict[str, npt.NDArray[np.bool_]]]:
    """The same function with nothing that drives channels that nobody reads; and of each layer which channels are read.

    Parameters
    ----------
    floats : FloatNetwork
        The network; what its ``model`` computes stays as it is.
    """
    read = {name: np.zeros(floats.shape_of(name).channels, bool) for name in (INPUT, *(la.name for la in floats.layers))}
    read[floats.layers[-1].name][:] = True
    layers: list[FloatLayer] = []
    for layer in reversed(floats.layers):
        own = read[layer.name]
        if layer.bias is None:
            read[layer.source] |= own
        else:
            if not own.all():
                joined = tuple(replace(taken, weights=_of_read(taken, own)) for taken in layer.joined)
                layer = replace(layer, weights=_of_read(layer, own), bias=np.where(own, layer.bias, 0.0), joined=joined)
            for taken in layer.inputs:
                read[taken.source] |= _weighted(taken, len(read[taken.source]))
        layers.append(layer)
    if all(mask.all() for name, mask in read.items() if name != INPUT):
        return floats, read
    return replace(floats, layers=tuple(reversed(layers))), read


def without_constant_parts(
    floats: FloatNetwork,
    values: Mapping[str, _Values],
    most: float,
    large: Callable[[FloatLayer, _Values], float],
) -> tuple[FloatNetwork, dict[str, Floats]]:
    """The same answers without large constant parts; and what was taken off, ``(channels,)``, of layers where there was one.

    Of outputs that is what they have in common.

    Parameters
    ----------
    floats : FloatNetwork
        The network; what its ``model`` computes stays as it is.
    values : Mapping
        Of each layer of neurons what goes into its ReLU or comes out of it on some frames, ``(frames, channels, ...)``.
    most : float
        The most that the input can be.
    large : callable
        What a large activation of a layer is, given values ``(values, channels)`` of some of its channels.
    """
    channels = floats.input_shape.channels
    reach = {INPUT: (np.zeros(channels), np.full(channels, most))}
    moved: dict[str, Floats] = {}
    taken_off: dict[str, Floats] = {}
    layers: list[FloatLayer] = []
    last = floats.layers[-1]
    for layer in floats.layers:
        if layer.bias is None:
            reach[layer.name] = reach[layer.source]
            if layer.source in moved:
                moved[layer.name] = moved[layer.source]
            layers.append(layer)
            continue
        bias = layer.bias + _brought(floats, layer, moved)
        extremes = [_extremes(taken, *reach[taken.source]) for taken in layer.inputs]
        rows = bias.reshape(-1, bias.shape[-1])
        least, greatest = rows.min(axis=0) + sum(low for low, _ in extremes), rows.max(axis=0) + sum(high for _, high in extremes)
        if layer.relu and layer.end is None and layer is not last:
            part = _large_part(layer, np.maximum(least, 0), by_channel(layer, values[layer.name]), large)
            if part.any():
                moved[layer.name] = taken_off[layer.name] = part
                bias, least, greatest = bias - part, least - part, greatest - part
        elif layer is last and not layer.relu and len(least) > 1:
            # The greatest output stays the greatest.
            common = np.full(len(least), rows.mean())
            if abs(common[0]) > _LARGE_PART * large(layer, by_channel(layer, values[layer.name]).T - common[0]):
                taken_off[layer.name] = common
                bias = bias - common
        if layer.relu:
            least = np.zeros_like(least)
        # What is outside a frame, and what pads it, is 0.
        reach[layer.name] = np.minimum(least, 0), np.maximum(greatest, 0)
        layers.append(replace(layer, bias=bias))
    return (replace(floats, layers=tuple(layers)) if taken_off else floats), taken_off


def _large_part(
    layer: FloatLayer, least: Floats, values: _Values, large: Callable[[FloatLayer, _Values], float]
) -> Floats:
    """Of each channel its constant part where that is large beside the activations of those that have none; else 0."""
    on = least > 0
    if not on.any():
        return np.zeros_like(least)
    # What varies in a channel that is far from 0 is not to be seen in float32.
    others = values[~on] if (values[~on] > 0).any() else values - least[:, np.newaxis]
    return np.where(least > _LARGE_PART * large(layer, others.T), least, 0.0)


def _brought(floats: FloatNetwork, layer: FloatLayer, moved: Mapping[str, Floats]) -> Floats:
    """What constant parts of its sources bring a layer, ``(channels,)``, or by position where that differs."""
    sources = {taken.source for taken in layer.inputs}
    if sources.isdisjoint(moved):
        return np.zeros(floats.shape_of(layer.name).channels)
    constant = {
        name: np.broadcast_to(moved.get(name, np.zeros(floats.shape_of(name).channels)), floats.shape_of(name))[np.newaxis]
        for name in sources
    }
    found: Floats = driven(floats, layer, constant)[0]
    uniform = np.abs(found - found[0, 0]).max() <= _SAME * np.abs(found).max()
    return found[0, 0] if uniform else found


def _extremes(taken: FloatProjection, low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """The least and the greatest that an input of a layer can bring each of its channels, from those of its source's."""
    weights = _by_input(taken, len(low))
    each = len(weights) // taken.groups
    index = np.arange(weights.shape[1]) + (np.arange(len(weights)) // each * weights.shape[1])[:, np.newaxis]
    size = taken.averaged[0] * taken.averaged[1]
    positive, negative = np.maximum(weights, 0).sum(axis=2) * size, np.minimum(weights, 0).sum(axis=2) * size
    return (
        (positive * low[index] + negative * high[index]).sum(axis=1),
        (positive * high[index] + negative * low[index]).sum(axis=1),
    )


def _weighted(taken: FloatProjection, channels: int) -> npt.NDArray[np.bool_]:
    """Which of the channels of its source an input has weights for that are not 0."""
    found = (_by_input(taken, channels) != 0).any(axis=2)
    return found.reshape(taken.groups, -1, found.shape[1]).any(axis=1).reshape(-1)


def _by_input(taken: FloatProjection, channels: int) -> Floats:
    """The weights of an input as ``(outputs, channels that each takes, positions)``."""
    assert taken.weights is not None
    if taken.kind == "linear":
        # Inputs are by position, then by channel.
        return taken.weights.reshape(len(taken.weights), -1, channels).swapaxes(1, 2)
    return taken.weights.reshape(*taken.weights.shape[:2], -1)


def _of_read(taken: FloatProjection, read: npt.NDArray[np.bool_]) -> Floats:
    """The weights of an input, 0 for channels that are not read."""
    assert taken.weights is not None
    return np.where(read.reshape(-1, *[1] * (taken.weights.ndim - 1)), taken.weights, 0.0)
