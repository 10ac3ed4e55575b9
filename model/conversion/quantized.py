"""The quantized network: every layer's activation rounded towards zero to whole thresholds, without any events.

This is the direct quantization that the spiking network is to reach (the paper's QANN): with the counts of
the input, ``V = W x + b`` in integers and ``Q = trunc(act(V) / theta)``. What the spiking network loses against it, it loses to
the order of events: to hysteresis, and to one spike an update at most.
"""

import functools
from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from model.arrays import Floats, Ints
from model.encode import input_counts
from model.network import INPUT, Convolution, Layer, Linear, MaxPool, Network, Neurons, Shape

__all__ = ["counts_of_layer", "counts_of_layers", "pooled", "quantized_counts", "rounded", "weighted_sums"]

T = TypeVar("T", np.int64, np.float64)

_LEAST = -(2**53)

_BATCH = 20
"""Frames at once: what the memory in use grows with."""


def quantized_counts(network: Network, images: npt.NDArray[np.uint8]) -> Ints:
    """Counts of the classes, ``(frames, classes)``, of uint8 frames ``(frames, height, width, channels)``."""
    return np.concatenate([layers[network.output.name] for layers in counts_of_layers(network, images)]).reshape(len(images), -1)


def counts_of_layers(network: Network, images: npt.NDArray[np.uint8]) -> Iterator[dict[str, Ints]]:
    """Of each batch of frames, the counts of every layer, ``(frames, height, width, channels)``."""
    for at in range(0, len(images), _BATCH):
        counts = {INPUT: input_counts(network, images[at : at + _BATCH])}
        for layer, shape, output in network.walk():
            counts[layer.name] = counts_of_layer(layer, shape, output, counts[layer.source])
        yield counts


def counts_of_layer(layer: Layer, shape: Shape, output: Shape, counts: Ints) -> Ints:
    """The layer's counts ``(frames, *output)`` for counts ``(frames, *shape)`` of its source."""
    if isinstance(layer, MaxPool):
        return pooled(layer, counts)
    assert isinstance(layer, Neurons)
    # Float64 holds these integers exactly, and multiplies matrices faster than integers are.
    sums = weighted_sums(layer, layer.weights, counts.astype(np.float64), shape, output)
    return rounded(layer, (sums + layer.bias) / layer.theta).astype(np.int64)


def pooled(layer: MaxPool, values: npt.NDArray[T]) -> npt.NDArray[T]:
    """Maxima of the windows of values ``(frames, height, width, channels)``."""
    output = layer.output_shape(Shape(*values.shape[1:]))
    # What stands in the padding takes no part: nothing is as small.
    return functools.reduce(np.maximum, (there for _, there in _taps(layer, values, _LEAST, layer.window, output)))


def rounded(layer: Neurons, potential: Floats) -> Floats:
    """Activations, given in thresholds, rounded towards zero to whole ones within the widths of the count."""
    activation = np.maximum(potential, 0) if layer.relu else potential
    return np.clip(np.trunc(activation), *layer.count_limits)


def weighted_sums(layer: Neurons, weights: npt.NDArray[np.number], values: Floats, shape: Shape, output: Shape) -> Floats:
    """``W x``, with ``weights`` in the place of the layer's own.

    Parameters
    ----------
    layer : Neurons
        Gives the geometry.
    weights : npt.NDArray[np.number]
        Of the shape of the layer's.
    values : Floats
        ``(frames, *shape)``.
    shape, output : Shape
        Of the layer's input and output.

    Returns
    -------
    ``(frames, *output)``
    """
    floats: Floats = weights.astype(np.float64)
    if layer.averaged != (1, 1):
        values = _summed(values, layer.averaged, layer.taken(shape))
    if isinstance(layer, Linear):
        return (values.reshape(len(values), -1) @ floats.T).reshape(len(values), *output)
    if not isinstance(layer, Convolution):
        raise TypeError(f"layer must be a Convolution, Linear or MaxPool, not {type(layer).__name__}")
    sums = np.zeros((len(values), *output))
    parts = zip(np.split(values, layer.groups, axis=3), np.split(floats, layer.groups), strict=True)
    each = layer.channels // layer.groups
    for group, (part, taken) in enumerate(parts):
        # A tap at a time: the product of a matrix with what all windows have there.
        for tap, there in _taps(layer, part, 0.0, layer.kernel, output):
            sums[..., group * each : (group + 1) * each] += np.tensordot(there, taken[:, :, *tap], axes=(3, 1))
    return sums


def _summed(values: Floats, window: tuple[int, int], taken: Shape) -> Floats:
    """Sums over windows side by side in values ``(frames, height, width, channels)``, positions after the last left out."""
    whole = values[:, : taken.height * window[0], : taken.width * window[1]]
    sums: Floats = whole.reshape(len(values), taken.height, window[0], taken.width, window[1], -1).sum(axis=(2, 4))
    return sums


def _taps(
    layer: Convolution | MaxPool, values: npt.NDArray[T], outside: float, window: tuple[int, int], output: Shape
) -> Iterator[tuple[tuple[int, int], npt.NDArray[T]]]:
    """Of each tap of the window, the padded values ``(frames, output height, output width, channels)`` that it sees."""
    top, left, bottom, right = layer.padding
    padded = np.pad(values, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=outside)
    rows, columns = (
        [slice(tap, tap + (count - 1) * stride + 1, stride) for tap in range(size)]
        for size, count, stride in zip(window, output, layer.stride, strict=False)
    )
    for y, down in enumerate(rows):
        for x, across in enumerate(columns):
            yield (y, x), padded[:, down, across]
