"""Biases that make up for what rounding takes off on average.

Counts are whole, and a neuron that rises stays up to a threshold below its activation. One neuron's error is small; but where a
layer adds many of one sign, as after an average pool, their mean does not cancel. It is known from calibration data, though, and
a bias can hold it: empirical bias correction (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
Correction", ICCV 2019, section 4.2), here with the spiking network's own counts.
"""

from collections.abc import Collection, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from model.arrays import Floats, Ints
from model.conversion.bounds import Bounds
from model.conversion.projections import driven, forget, sums_of
from model.conversion.quantized_frames import weighted_counts
from model.encode import encode, input_counts
from model.engine.engine import run_fast
from model.importers.float_network import FloatNetwork, pool_of
from model.network import INPUT, MOST_COUNT_BITS, MaxPool, Network, Neurons
from model.rest import pooled, rounded

__all__ = ["corrected", "greatest_sums", "mean_sums"]

_AT_ONCE = 100
"""Frames of which sums are looked at together: what the memory in use grows with."""


def mean_sums(floats: FloatNetwork, frames: Floats) -> dict[str, Floats]:
    """What goes into the activations of the float network on average, by layer of neurons, ``(channels,)``.

    Parameters
    ----------
    floats : FloatNetwork
        The float network.
    frames : Floats
        Calibration frames, full scale 1.0, as they are or coded.
    """
    return {name: sums.reshape(-1, sums.shape[-1]).mean(axis=0) for name, sums in _sums(floats, frames)}


def greatest_sums(floats: FloatNetwork, frames: Floats) -> dict[str, float]:
    """The greatest of what goes into the activations of the float network, sign aside, by layer of neurons.

    Parameters
    ----------
    floats : FloatNetwork
        The float network.
    frames : Floats
        Calibration frames as they are coded, full scale 1.0.
    """
    found: dict[str, float] = {}
    for at in range(0, len(frames), _AT_ONCE):
        for name, sums in _sums(floats, frames[at : at + _AT_ONCE]):
            found[name] = max(found.get(name, 0.0), float(np.abs(sums).max()))
    return found


def _sums(floats: FloatNetwork, frames: Floats) -> Iterator[tuple[str, Floats]]:
    """Of each layer of neurons its name, and what goes into its activations, ``(frames, height, width, channels)``."""
    values = {INPUT: frames}
    for layer in floats.layers:
        if layer.kind == "maxpool":
            values[layer.name] = pooled(pool_of(layer), values[layer.source])
        else:
            assert layer.bias is not None
            sums = driven(floats, layer, values) + layer.bias
            yield layer.name, sums
            values[layer.name] = layer.activated(sums)
        forget(values, floats.layers, layer.name)


def corrected(
    wanted: dict[str, Floats],
    network: Network,
    thresholds: dict[str, float],
    images: npt.NDArray[np.uint8],
    *,
    rounding: Collection[str] = (),
) -> Network:
    """``network`` with biases under which the mean weighted sum of each channel is the float network's, layer after layer.

    Parameters
    ----------
    wanted : dict[str, Floats]
        The float network's (`mean_sums`), layer for layer that of ``network``, on the same frames.
    network : Network
        What it was converted to.
    thresholds : dict[str, float]
        ``theta_l`` of each neuron layer, in the float network's units.
    images : npt.NDArray[np.uint8]
        Calibration frames.
    rounding : collection of str
        The layers whose biases are half a threshold higher, and are to stay so.
    """
    layers = list(network.layers)
    bounds = {INPUT: Bounds.of_input(network.input_shape.channels, network.input_levels)}
    counts = {INPUT: input_counts(network, images)}
    for index, (layer, _, output) in enumerate(network.walk()):
        if isinstance(layer, Neurons):
            found = np.sum(
                [
                    weighted_counts(taken, counts[taken.source], network.shape_of(taken.source), output).astype(np.float64)
                    for taken in layer.inputs
                ],
                axis=0,
            )
            mean = (found + layer.bias).reshape(-1, output.channels).mean(axis=0)
            mean -= layer.theta / 2 if layer.name in rounding else 0
            bias = layer.bias + np.rint(wanted[layer.name] * (layer.theta / thresholds[layer.name]) - mean)
            sums = sums_of(layer.inputs, [taken.weights for taken in layer.inputs], bounds)
            if layer.relu:
                # As in quantization: dead is dead.
                most = (1 << MOST_COUNT_BITS) - 1 if layer.count_max is None else layer.count_max
                bias = sums.held(bias, most << layer.threshold_log2)
            whole = bias.astype(layer.bias.dtype)
            layers[index] = replace(layer, bias=whole)
            bounds[layer.name] = sums.counts(whole, layer.theta, relu=layer.relu, deferred=network.deferred)
            if network.deferred:
                counts[layer.name] = rounded(layer, (found + whole) / layer.theta, deferred=True).astype(np.int64)
            elif layer is not network.output:
                # The layers up to this one have their new biases by now.
                counts[layer.name] = _simulated(replace(network, layers=tuple(layers)), layer.name, images)
        else:
            assert isinstance(layer, MaxPool)
            bounds[layer.name], counts[layer.name] = bounds[layer.source], pooled(layer, counts[layer.source])
        forget(counts, network.layers, layer.name)
    return replace(network, layers=tuple(layers))


def _simulated(network: Network, name: str, images: npt.NDArray[np.uint8]) -> Ints:
    traces = [run_fast(network, encode(network, image)) for image in images]
    return np.stack([trace.layers[name].count for trace in traces])
