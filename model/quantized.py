"""The quantized network: every layer's activation rounded towards zero to whole thresholds, without any events.

This is the direct quantization that the spiking network is to reach (the paper's QANN): with the input a bit a pixel,
``V = W x + b`` in integers and ``Q = trunc(act(V) / theta)``. What the spiking network loses against it, it loses to
the order of events: to hysteresis, and to one spike an update at most.
"""

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from model.network import INPUT, Convolution, Layer, Linear, MaxPool, Network, Neurons, Shape

__all__ = ["counts_of_layer", "counts_of_layers", "pooled", "quantized_counts", "rounded", "weighted_sums"]

T = TypeVar("T", np.int64, np.float64)
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_LEAST = -(2**53)

_BATCH = 250
"""Frames at once: what the memory in use grows with."""


def quantized_counts(network: Network, images: npt.NDArray[np.uint8]) -> Ints:
    """Counts of the classes, ``(frames, classes)``, of uint8 frames ``(frames, height, width, channels)``."""
    return np.concatenate([layers[network.output.name] for layers in counts_of_layers(network, images)]).reshape(len(images), -1)


def counts_of_layers(network: Network, images: npt.NDArray[np.uint8]) -> Iterator[dict[str, Ints]]:
    """Of each batch of frames, the counts of every layer, ``(frames, height, width, channels)``."""
    for at in range(0, len(images), _BATCH):
        counts = {INPUT: (images[at : at + _BATCH] > network.input_threshold).astype(np.int64)}
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
    return _windows(layer, values, least=True).max(axis=(4, 5))


def rounded(layer: Neurons, potential: Floats) -> Floats:
    """Activations, given in thresholds, rounded towards zero to whole ones within the widths of the count."""
    activation = np.maximum(potential, 0) if layer.relu else potential
    return np.clip(np.trunc(activation), *layer.count_limits)


def weighted_sums(layer: Neurons, weights: npt.NDArray[np.number], values: Floats, shape: Shape, output: Shape) -> Floats:
    """``W x``, with ``weights`` in the place of the layer's own.

    Parameters
    ----------
    layer : gives the geometry
    weights : of the shape of the layer's
    values : ``(frames, *shape)``
    shape, output : of the layer's input and output

    Returns
    -------
    ``(frames, *output)``
    """
    floats: Floats = weights.astype(np.float64)
    if isinstance(layer, Linear):
        return (values.reshape(len(values), -1) @ floats.T).reshape(len(values), *output)
    if not isinstance(layer, Convolution):
        raise TypeError(f"layer must be a Convolution, Linear or MaxPool, not {type(layer).__name__}")
    windows = np.split(_windows(layer, values), layer.groups, axis=3)
    parts = [
        np.tensordot(part, taken, axes=((3, 4, 5), (1, 2, 3)))
        for part, taken in zip(windows, np.split(floats, layer.groups), strict=True)
    ]
    return np.concatenate(parts, axis=-1).astype(np.float64, copy=False)


def _windows(layer: Convolution | MaxPool, values: npt.NDArray[T], *, least: bool = False) -> npt.NDArray[T]:
    """Views ``(frames, height, width, channels, window height, window width)`` of the padded values."""
    kernel = layer.kernel if isinstance(layer, Convolution) else layer.window
    padding = layer.padding
    around = ((0, 0), (padding.top, padding.bottom), (padding.left, padding.right), (0, 0))
    # A maximum takes no part in the padding: nothing is as small as what stands there.
    padded = np.pad(values, around, constant_values=_LEAST if least else 0)
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(1, 2))
    return windows[:, :: layer.stride[0], :: layer.stride[1]]
