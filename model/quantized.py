"""The quantized network: every layer's activation rounded towards zero to whole thresholds, without any events.

This is the direct quantization that the spiking network is to reach (the paper's QANN): with the input a bit a pixel,
``V = W x + b`` in integers and ``Q = trunc(act(V) / theta)``. What the spiking network loses against it, it loses to
the order of events: to hysteresis, and to one spike an update at most.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from model.network import INPUT, Convolution, Layer, Linear, MaxPool, Network, Neurons, Shape

__all__ = ["counts_of_layers", "quantized_counts"]

Ints = npt.NDArray[np.int64]

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
            counts[layer.name] = _counts(layer, shape, output, counts[layer.source])
        yield counts


def _counts(layer: Layer, shape: Shape, output: Shape, counts: Ints) -> Ints:
    if isinstance(layer, MaxPool):
        return _windows(layer, counts, least=True).max(axis=(4, 5))
    assert isinstance(layer, Neurons)
    # Float64 holds these integers exactly, and multiplies matrices faster than integers are.
    if isinstance(layer, Linear):
        sums = counts.reshape(len(counts), -1).astype(np.float64) @ layer.weights.T.astype(np.float64)
    elif isinstance(layer, Convolution):
        windows = _windows(layer, counts).astype(np.float64)
        sums = np.tensordot(windows, layer.weights.astype(np.float64), axes=((3, 4, 5), (1, 2, 3)))
    else:
        raise TypeError(f"layer must be a Convolution, Linear or MaxPool, not {type(layer).__name__}")
    potential = np.rint(sums).astype(np.int64).reshape(len(counts), *output) + layer.bias
    activation = np.maximum(potential, 0) if layer.relu else potential
    rounded = np.sign(activation) * (np.abs(activation) // layer.theta)
    return np.clip(rounded, *layer.count_limits)


def _windows(layer: Convolution | MaxPool, counts: Ints, *, least: bool = False) -> Ints:
    """Views ``(frames, height, width, channels, window height, window width)`` of the padded counts."""
    kernel = layer.kernel if isinstance(layer, Convolution) else layer.window
    padding = layer.padding
    around = ((0, 0), (padding.top, padding.bottom), (padding.left, padding.right), (0, 0))
    padded = np.pad(counts, around, constant_values=np.iinfo(np.int64).min if least else 0)
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(1, 2))
    return windows[:, :: layer.stride[0], :: layer.stride[1]]
