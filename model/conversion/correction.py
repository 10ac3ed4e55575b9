"""Biases that make up for what rounding takes off on average.

Counts are whole, and a neuron that rises stays up to a threshold below its activation. One neuron's error is small; but where a
layer adds many of one sign, as after an average pool, their mean does not cancel. It is known from calibration data, though, and
a bias can hold it: empirical bias correction (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
Correction", ICCV 2019, section 4.2), here with the spiking network's own counts.
"""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from model.conversion.bounds import Bounds
from model.conversion.coding import InputCoding
from model.encode import encode, input_counts
from model.engine.engine import run_fast
from model.importers.float_network import FloatNetwork
from model.network import INPUT, Convolution, MaxPool, Network, Neurons
from model.rest import pooled, weighted_sums

__all__ = ["corrected"]


def corrected(
    floats: FloatNetwork,
    network: Network,
    thresholds: dict[str, float],
    images: npt.NDArray[np.uint8],
    *,
    rounding: Collection[str] = (),
) -> Network:
    """``network`` with biases under which the mean weighted sum of each channel is the float network's, layer after layer.

    Parameters
    ----------
    floats : FloatNetwork
        The float network, layer for layer that of ``network``.
    network : Network
        What it was converted to.
    thresholds : dict[str, float]
        ``theta_l`` of each neuron layer, in the float network's units.
    images : npt.NDArray[np.uint8]
        Calibration frames.
    rounding : collection of str
        The layers whose biases are half a threshold higher, and are to stay so.
    """
    by_name = {layer.name: layer for layer in floats.layers}
    coding = InputCoding.of(network)
    activations, layers = {INPUT: coding.frames(images)}, list(network.layers)
    bounds = {INPUT: Bounds.of_input(network.input_shape.channels, coding.levels)}
    for index, (layer, shape, output) in enumerate(network.walk()):
        taken = activations[layer.source]
        if isinstance(layer, MaxPool):
            activations[layer.name], bounds[layer.name] = pooled(layer, taken), bounds[layer.source]
            continue
        assert isinstance(layer, Neurons)
        float_layer = by_name[layer.name]
        assert float_layer.weights is not None and float_layer.bias is not None
        wanted = weighted_sums(layer, float_layer.weights, taken, shape, output) + float_layer.bias
        activations[layer.name] = float_layer.activated(wanted)
        # The layers before have their new biases by now.
        counts = _counts(replace(network, layers=tuple(layers)), layer.source, images)
        found = weighted_sums(layer, layer.weights, counts, shape, output) + layer.bias
        if layer.name in rounding:
            found -= layer.theta / 2
        missing = wanted * (layer.theta / thresholds[layer.name]) - found
        mean = missing.reshape(-1, output.channels).mean(axis=0)
        bias = layer.bias + np.rint(mean)
        taken_bounds = bounds[layer.source].of_windows(layer.averaged)
        sums = taken_bounds.sums(layer.weights, layer.groups if isinstance(layer, Convolution) else 1)
        if layer.relu:
            # As in quantization: dead is dead.
            bias = np.maximum(bias, -sums.greatest)
        whole = bias.astype(layer.bias.dtype)
        layers[index] = replace(layer, bias=whole)
        bounds[layer.name] = sums.counts(whole, layer.theta, relu=layer.relu, deferred=network.deferred)
    return replace(network, layers=tuple(layers))


def _counts(network: Network, name: str, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    if name == INPUT:
        return input_counts(network, images).astype(np.float64)
    traces = [run_fast(network, encode(network, image)) for image in images]
    return np.stack([trace.layers[name].count for trace in traces]).astype(np.float64)
