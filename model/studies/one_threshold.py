"""A network with one threshold for all its layers, and the factor that scales it to a number of spikes or accumulations."""

from dataclasses import replace

import numpy as np

from model.arrays import Images, Ints
from model.conversion.quantize import Settings, quantize
from model.engine.engine import run_frames
from model.importers.float_network import FloatNetwork
from model.network import Network, Neurons

__all__ = ["INPUT_THRESHOLD", "fired_per_frame", "fitting_factor", "one_threshold", "rescaled"]

INPUT_THRESHOLD = 51
"""Pixels of 8 bits that are greater fire."""

_MOST_FACTOR = 16
"""Up to which a fitting factor is sought."""


def rescaled(network: FloatNetwork, factor: float) -> FloatNetwork:
    """The layers with activations ``factor`` times as large and the same answers.

    ReLU is positively homogeneous: the first layer's weights and all biases are multiplied. The ONNX model stays as it is.
    """
    if not factor > 0:
        raise ValueError(f"factor must be more than 0, not {factor!r}")
    layers, first = [], True
    for layer in network.layers:
        if layer.weights is not None and layer.bias is not None:
            layer = replace(layer, weights=layer.weights * (factor if first else 1), bias=layer.bias * factor)
            first = False
        layers.append(layer)
    return replace(network, layers=tuple(layers))


def fitting_factor(
    network: FloatNetwork,
    images: Images,
    *,
    most_accumulations: float = np.inf,
    most_spikes_per_neuron: float = np.inf,
    step: float = 1.0,
) -> float:
    """The largest multiple of ``step`` by which the network can be rescaled so that threshold 1.0 stays within the bounds.

    Spikes and accumulations grow with the factor. ``step`` itself where nothing fits; at most `_MOST_FACTOR`.

    Parameters
    ----------
    network : FloatNetwork
        The network to rescale.
    images : Images
        Frames that means are taken of.
    most_accumulations, most_spikes_per_neuron : float
        Bounds, per frame.
    step : float
        What the factor is a multiple of.
    """

    def fits(multiple: int) -> bool:
        converted = one_threshold(network, 1.0 / (multiple * step))
        found = run_frames(converted, images)
        fired = fired_per_frame(converted, found.spikes) / converted.neurons
        return bool(found.operations.sum(axis=1).mean() <= most_accumulations and fired <= most_spikes_per_neuron)

    fitting, above = 1, int(_MOST_FACTOR / step) + 1
    while above - fitting > 1:
        middle = (fitting + above) // 2
        if fits(middle):
            fitting = middle
        else:
            above = middle
    return round(fitting * step, 6)


def fired_per_frame(network: Network, spikes: Ints) -> float:
    """Mean spikes per frame of all neurons, pools left out, of spikes ``(frames, layers)``."""
    return float(spikes[:, [isinstance(layer, Neurons) for layer in network.layers]].sum(axis=1).mean())


def one_threshold(network: FloatNetwork, threshold: float) -> Network:
    neurons = sum(layer.kind != "maxpool" for layer in network.layers)
    settings = Settings(threshold=threshold, input_threshold=INPUT_THRESHOLD)
    return quantize(network, [threshold] * neurons, settings, name=f"threshold_{threshold:g}")
