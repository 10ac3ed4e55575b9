"""Where the accuracy of a sigma-delta network goes, and its spikes, layer by layer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.arrays import Images
from model.conversion.explain import Step, explain, verdict
from model.conversion.quantized import counts_of_layers
from model.encode import encode
from model.engine.engine import run_fast
from model.importers.float_network import FloatNetwork
from model.network import Network, Neurons
from model.studies.one_threshold import INPUT_THRESHOLD
from model.studies.paper.measurements import large
from model.support.dataset import Dataset

__all__ = ["Why", "WhyLayer", "why"]

@dataclass(frozen=True, kw_only=True)
class WhyLayer:
    """Activations of a layer in thresholds, and its spikes and counts, means per frame."""

    layer: str
    neurons: int
    threshold: float
    large_activation_thresholds: float
    median_positive_activation_thresholds: float
    positive_activations: float
    spikes_per_neuron: float
    spikes_per_frame: float
    counts_per_frame: float
    quantized_counts_per_frame: float
    negative_spikes: float


@dataclass(frozen=True, kw_only=True)
class Why:
    """Where a network's accuracy goes: the steps of `model.conversion.explain`, what they come to, and its layers."""

    steps: tuple[Step, ...]
    verdict: str
    layers: tuple[WhyLayer, ...]

    @classmethod
    def read(cls, values: dict[str, Any]) -> "Why":
        """From its JSON object."""
        return cls(
            steps=tuple(Step(**step) for step in values["steps"]),
            verdict=values["verdict"],
            layers=tuple(WhyLayer(**layer) for layer in values["layers"]),
        )


def why(
    floats: FloatNetwork, network: Network, data: Dataset, calibration: Images, detail: int, done: Callable[[int], None]
) -> Why:
    """The ladder of `model.conversion.explain`, activations and spikes, on the first ``detail`` frames.

    Parameters
    ----------
    floats, network : FloatNetwork, Network
        What was converted, and to what.
    data, calibration : Dataset, Images
        Frames to measure on, and those that activations are taken from.
    detail : int
        How many frames.
    done : callable
        Called with the number of frames finished.
    """
    thresholds = _thresholds(floats, network)
    steps = explain(floats, network, thresholds, data.images[:detail], data.labels[:detail], done=done)
    binary = (calibration > INPUT_THRESHOLD).astype(np.float32)
    by_name = {layer.name: layer for layer in floats.layers}
    fired, negative, counted = (dict.fromkeys(thresholds, 0) for _ in range(3))
    for image in data.images[: detail]:
        trace = run_fast(network, encode(network, image))
        for name in thresholds:
            signs = trace.layers[name].spikes["sign"]
            fired[name] += len(signs)
            negative[name] += int((signs < 0).sum())
            counted[name] += int(np.abs(trace.layers[name].count).sum())
    rounded = dict.fromkeys(thresholds, 0)
    for batch in counts_of_layers(network, data.images[: detail]):
        for name in thresholds:
            rounded[name] += int(np.abs(batch[name]).sum())
    layers = []
    for layer, _, shape in network.walk():
        if not isinstance(layer, Neurons):
            continue
        values = floats.run(binary, [by_name[layer.name].tensor])[0]
        positive = values[values > 0] / thresholds[layer.name]
        spikes = fired[layer.name] / detail
        layers.append(
            WhyLayer(
                layer=layer.name,
                neurons=shape.size,
                threshold=round(thresholds[layer.name], 4),
                large_activation_thresholds=round(large(positive), 2),
                median_positive_activation_thresholds=round(float(np.median(positive)), 3) if len(positive) else 0.0,
                positive_activations=round(len(positive) / values.size, 4),
                spikes_per_neuron=round(spikes / shape.size, 4),
                spikes_per_frame=round(spikes, 1),
                counts_per_frame=round(counted[layer.name] / detail, 1),
                quantized_counts_per_frame=round(rounded[layer.name] / detail, 1),
                negative_spikes=round(negative[layer.name] / max(1, fired[layer.name]), 4),
            )
        )
    return Why(steps=tuple(steps), verdict=verdict(steps), layers=tuple(layers))


def _thresholds(floats: FloatNetwork, network: Network) -> dict[str, float]:
    """``theta_l`` of each neuron layer in the float network's units, by least squares from the integer weights."""
    found, before = {}, 1.0
    by_name = {layer.name: layer for layer in floats.layers}
    for layer in network.layers:
        if isinstance(layer, Neurons):
            weights = by_name[layer.name].weights
            assert weights is not None
            before *= float((weights**2).sum() / (weights * layer.weights / layer.theta).sum())
            found[layer.name] = before
    return found
