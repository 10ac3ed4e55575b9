"""The quantized network: every layer's activation rounded to whole thresholds, without any events.

This is the direct quantization that the spiking network is to reach (the paper's QANN): with the counts of
the input, ``V = W x + b`` in integers and ``Q = trunc(act(V) / theta)``. What the spiking network loses against it, it loses to
the order of events: to hysteresis, and to one spike an update at most. In a network that fires deferred nothing is lost: there
``Q = floor(act(V) / theta)``, and that is what each neuron counts.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from model.arrays import Ints
from model.encode import input_counts
from model.network import INPUT, Network
from model.rest import counts_of_layer

__all__ = ["counts_of_layers", "quantized_counts"]

_BATCH = 20
"""Frames at once: what the memory in use grows with."""


def quantized_counts(network: Network, images: npt.NDArray[np.uint8]) -> Ints:
    """Counts of the classes, ``(frames, classes)``, of uint8 frames ``(frames, height, width, channels)``."""
    return np.concatenate([layers[network.output.name] for layers in counts_of_layers(network, images)]).reshape(len(images), -1)


def counts_of_layers(network: Network, images: npt.NDArray[np.uint8]) -> Iterator[dict[str, Ints]]:
    """Of each batch of frames, the counts of every layer, ``(frames, height, width, channels)``."""
    for at in range(0, len(images), _BATCH):
        counts = {INPUT: input_counts(network, images[at : at + _BATCH])}
        for layer, _, output in network.walk():
            counts[layer.name] = counts_of_layer(network, layer, output, counts)
        yield counts
