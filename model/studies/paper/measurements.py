"""The measurements of the study of the paper."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model.arrays import Images, Ints
from model.conversion.convert import convert
from model.conversion.quantize import Settings
from model.encode import input_counts
from model.engine.engine import run_frames
from model.golden import answers
from model.importers.float_network import FloatNetwork
from model.importers.onnx import import_onnx
from model.network import INPUT, MaxPool, Network, Neurons
from model.rest import pooled, rounded, weighted_sums
from model.studies.one_threshold import INPUT_THRESHOLD, fired_per_frame
from model.support.choices import PAPER_SGD, ZOO
from model.support.dataset import DataError, Dataset
from model.support.errors import BadInputError

__all__ = ["BUNDLED", "CONVOLUTIONAL", "DEFERRED", "SGD", "SPARSE", "TWO_LAYER"]
__all__ += ["Counting", "Measurements", "SigmaDelta", "counting", "large", "quantized_outputs", "sha256", "share"]

SGD = PAPER_SGD
CONVOLUTIONAL = ZOO / "mnist-paper.onnx"
BUNDLED = ZOO / "mnist-paper.npz"
SPARSE = ZOO / "mnist-sparse.npz"
DEFERRED = ZOO / "mnist-deferred.npz"
TWO_LAYER = ZOO / "mnist-two-layer.onnx"

_BATCH = 50
"""Frames at once: what the memory in use grows with."""

_EXACT = 1 << 24
"""Whole numbers up to this are exact in single precision."""

_LARGE = 99.0
"""Percentile of the positive activations that counts as a large one."""

Done = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class SigmaDelta:
    """This method's figures; accuracies as shares, everything else per frame."""

    accuracy: float
    accuracy_potential: float
    accuracy_quantized: float
    spikes_per_neuron: float
    accumulations_per_frame: int
    input_spikes_per_frame: float


@dataclass(frozen=True, kw_only=True)
class Counting:
    """The sizes of the paper's network, counted in several ways."""

    neurons: int
    neurons_with_input: int
    neurons_with_input_and_pools: int
    weights: int
    weights_of_linear_layers: int
    weights_and_biases: int
    connections: int


class Measurements:
    """What is measured on some frames.

    Parameters
    ----------
    data, calibration : Dataset
        Frames to measure on, and those that scales and factors are taken from.
    network : Path
        The float network of the paper's own rows.

    Raises
    ------
    DataError
        The frames do not have the networks' input shape.
    """

    def __init__(self, data: Dataset, calibration: Dataset, network: Path) -> None:
        self.data, self.calibration = data, calibration
        self.sgd, self.convolutional, self.two_layer = (import_onnx(path) for path in (network, CONVOLUTIONAL, TWO_LAYER))
        self.bundled, self.sparse, self.tuned = (Network.load(path) for path in (BUNDLED, SPARSE, DEFERRED))
        for frames in (data, calibration):
            if frames.images.shape[1:] != tuple(self.sgd.input_shape):
                raise DataError(
                    f"frames of {frames.name} must have the networks' input shape {tuple(self.sgd.input_shape)}, "
                    f"not {tuple(frames.images.shape[1:])}"
                )

    def float_accuracy(self, network: FloatNetwork, done: Done) -> dict[str, float]:
        """Of a float network, on grey frames and on frames of one bit."""
        found = {}
        for key, threshold in (("grey", None), ("1bit", INPUT_THRESHOLD)):
            images = self.data.images
            levels = images / np.float32(255) if threshold is None else (images > threshold).astype(np.float32)
            found[key] = share(answers(network.scores(levels)), self.data.labels)
        return found

    def large_activations(self, network: FloatNetwork, done: Done) -> dict[str, float]:
        """A large activation of each neuron layer on the calibration's frames of one bit."""
        binary = (self.calibration.images > INPUT_THRESHOLD).astype(np.float32)
        found = {}
        for layer in network.layers:
            if layer.kind != "maxpool":
                values = network.run(binary, [layer.tensor])[0]
                found[layer.name] = round(large(values[values > 0]), 4)
        return found

    def sigma_delta(self, network: Network, done: Done) -> SigmaDelta:
        """Sigma-delta quantization, as this project builds it."""
        found = run_frames(network, self.data.images, done=done)
        labels = self.data.labels
        # Neurons that fire when the frame ends count what the quantized network has.
        quantized = found.counts if network.deferred else quantized_outputs(network, self.data.images)
        return SigmaDelta(
            accuracy=share(answers(found.counts), labels),
            accuracy_potential=share(answers(found.potentials), labels),
            accuracy_quantized=share(answers(quantized), labels),
            spikes_per_neuron=round(fired_per_frame(network, found.spikes) / network.neurons, 5),
            accumulations_per_frame=round(float(found.operations.sum(axis=1).mean())),
            input_spikes_per_frame=round(float(found.input_events.mean()), 2),
        )

    def deferred(self, network: FloatNetwork, budget: float, done: Done) -> SigmaDelta:
        """The same where neurons fire when the frame ends, as `model.convert` makes it with an accuracy budget."""
        settings = Settings(accuracy_budget=budget)
        return self.sigma_delta(convert(network, self.calibration, settings, name="deferred").network, done)


def quantized_outputs(network: Network, images: Images, *, nearest: bool = False) -> Ints:
    """As `model.conversion.quantized.quantized_counts`, in single precision, which holds these sums exactly.

    With ``nearest`` activations are rounded to the nearest whole threshold, and not towards zero.
    """
    outputs = []
    for at in range(0, len(images), _BATCH):
        values: dict[str, Any] = {INPUT: input_counts(network, images[at : at + _BATCH]).astype(np.float32)}
        for layer, shape, output in network.walk():
            source = values[layer.source]
            if isinstance(layer, MaxPool):
                values[layer.name] = pooled(layer, source)
                continue
            assert isinstance(layer, Neurons)
            sums = weighted_sums(layer, layer.weights, source, shape, output) + layer.bias.astype(np.float32)
            if np.abs(sums).max() >= _EXACT:
                raise BadInputError(f"layer {layer.name!r}: sums must be less than {_EXACT} to be exact in single precision")
            potential = sums / layer.theta
            if nearest:
                potential += np.copysign(0.5, potential)
            values[layer.name] = rounded(layer, potential, deferred=network.deferred).astype(np.float32)
        outputs.append(values[network.output.name].reshape(-1, network.outputs).astype(np.int64))
    return np.concatenate(outputs)


def counting(network: FloatNetwork) -> Counting:
    """Neurons and synapses of a network, counted in several ways."""
    layers = list(network.walk())
    neurons = sum(shape.size for layer, _, shape in layers if layer.kind != "maxpool")
    weights = {layer.name: layer.weights.size for layer, _, _ in layers if layer.weights is not None}
    return Counting(
        neurons=neurons,
        neurons_with_input=neurons + network.input_shape.size,
        neurons_with_input_and_pools=network.input_shape.size + sum(shape.size for _, _, shape in layers),
        weights=sum(weights.values()),
        weights_of_linear_layers=sum(weights[layer.name] for layer, _, _ in layers if layer.kind == "linear"),
        weights_and_biases=sum(weights.values()) + sum(layer.bias.size for layer, _, _ in layers if layer.bias is not None),
        connections=network.macs,
    )


def large(positive: npt.NDArray[np.floating]) -> float:
    """What counts as a large one of positive activations; 0 where there are none."""
    return float(np.percentile(positive, _LARGE)) if len(positive) else 0.0


def sha256(path: Path) -> str:
    """Of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def share(found: Ints, labels: Ints) -> float:
    """Of answers that are right."""
    return float((found == labels).mean())
