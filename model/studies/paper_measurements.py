"""The measurements of the study of the paper, each kept by what it was made of."""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from rich.progress import Progress

import model
from model.arrays import Floats, Ints
from model.conversion.explain import explain, verdict
from model.conversion.quantized import counts_of_layers, quantized_counts
from model.encode import encode
from model.engine.engine import run_fast, run_frames
from model.importers.float_network import FloatNetwork
from model.importers.onnx import import_onnx
from model.network import Network, Neurons
from model.studies.first_spike import convert_first_spikes, run_first_spikes, spike_times_of_layers
from model.studies.instruments import instruments
from model.studies.one_threshold import INPUT_THRESHOLD, fired_per_frame
from model.studies.paper_results import (
    FirstSpikes,
    LabelledCourse,
    MissedLayer,
    MissedLayers,
    Rates,
    SigmaDelta,
    Why,
    WhyLayer,
)
from model.studies.rate_coded import convert_rates, run_rates
from model.support.cache import kept, source_hash
from model.support.dataset import DataError, Dataset
from model.support.results import to_json

__all__ = ["CONVOLUTIONAL", "TWO_LAYER", "Measurements"]

_ZOO = Path(model.__path__[0]) / "zoo"
CONVOLUTIONAL = _ZOO / "mnist-paper.onnx"
_BUNDLED = _ZOO / "mnist-paper.npz"
TWO_LAYER = _ZOO / "mnist-two-layer.onnx"

_MOST_STEPS = 40

_BATCH = 64
"""Frames whose spike times are looked at together."""

_LARGE = 99.0
"""Percentile of the positive activations that counts as a large one."""

T = TypeVar("T")


class Measurements:
    """The measurements; each is kept by what it was made of."""

    def __init__(self, data: Dataset, calibration: Dataset, detail: int, cache: Path, bar: Progress | None) -> None:
        self.data, self.calibration, self.detail = data, calibration, min(detail, len(data))
        self.cache, self.bar = cache, bar
        self.convolutional, self.two_layer = import_onnx(CONVOLUTIONAL), import_onnx(TWO_LAYER)
        self.bundled = Network.load(_BUNDLED)
        for frames in (data, calibration):
            if frames.images.shape[1:] != tuple(self.convolutional.input_shape):
                raise DataError(
                    f"frames of {frames.name} must have the networks' input shape {tuple(self.convolutional.input_shape)}, "
                    f"not {tuple(frames.images.shape[1:])}"
                )
        digest = hashlib.sha256(source_hash(Path(model.__path__[0]), without=("reports",)).encode())
        for path in (CONVOLUTIONAL, _BUNDLED, TWO_LAYER):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
        for frames in (data, calibration):
            digest.update(np.ascontiguousarray(frames.images).tobytes() + frames.labels.tobytes())
        self._made_of = digest.hexdigest()

    def measured(
        self,
        title: str,
        read: Callable[[Any], T],
        make: Callable[[Callable[[int], None]], T],
        *,
        frames: int = 0,
        detail: int = 0,
    ) -> T:
        """What ``make`` finds, or found before and ``read`` reads.

        Parameters
        ----------
        title : str
            What is measured; no two have the same.
        read : callable
            Makes a result from its JSON object.
        make : callable
            Measures; given what to call with the number of frames finished.
        frames : int
            Frames it goes through; all of them by default.
        detail : int
            What else the result depends on.
        """
        key = hashlib.sha256(f"{self._made_of} {title} {detail}".encode()).hexdigest()[:24]
        task = self.bar.add_task(title, total=frames or len(self.data)) if self.bar else None
        if self.bar is None:
            print(title, file=sys.stderr, flush=True)

        def done(count: int) -> None:
            if self.bar and task is not None:
                self.bar.advance(task, count)

        path = kept(self.cache / f"{key}.json", lambda part: part.write_text(to_json(make(done))))
        if self.bar and task is not None:
            self.bar.update(task, completed=frames or len(self.data))
        return read(json.loads(path.read_text()))

    def float_accuracy(self, network: FloatNetwork) -> dict[str, float]:
        """Of the float network itself, on grey frames and on frames of one bit."""
        found = {}
        for key, threshold in (("grey", None), ("1bit", INPUT_THRESHOLD)):
            images = self.data.images
            levels = images / np.float32(255) if threshold is None else (images > threshold).astype(np.float32)
            found[key] = _share(network.run(levels)[0].reshape(len(images), -1).argmax(axis=1), self.data.labels)
        return found

    def large_activations(self) -> dict[str, float]:
        """A large activation of each neuron layer on the calibration's frames of one bit."""
        binary = (self.calibration.images > INPUT_THRESHOLD).astype(np.float32)
        found = {}
        for layer in self.convolutional.layers:
            if layer.kind != "maxpool":
                values = self.convolutional.run(binary, [layer.tensor])[0]
                positive = values[values > 0]
                found[layer.name] = round(float(np.percentile(positive, _LARGE)), 4) if len(positive) else 0.0
        return found

    def sigma_delta(self, network: Network, done: Callable[[int], None]) -> SigmaDelta:
        """Sigma-delta quantization, as this project builds it."""
        found = run_frames(network, self.data.images, done=done)
        labels = self.data.labels
        return SigmaDelta(
            accuracy=_share(found.counts.argmax(axis=1), labels),
            accuracy_potential=_share(found.potentials.argmax(axis=1), labels),
            accuracy_quantized=_share(quantized_counts(network, self.data.images).argmax(axis=1), labels),
            spikes_per_neuron=round(fired_per_frame(network, found.spikes) / network.neurons, 4),
            accumulations_per_frame=round(float(found.operations.sum(axis=1).mean())),
            input_spikes_per_frame=round(float(found.input_events.mean()), 2),
        )

    def rates(self, threshold: int | None, done: Callable[[int], None]) -> Rates:
        """The rate code, after each time step up to `_MOST_STEPS`."""
        network = convert_rates(self.convolutional, self.calibration.images, input_threshold=threshold)
        found = run_rates(network, self.data.images, _MOST_STEPS, done=done)
        labels = self.data.labels[:, np.newaxis]
        inputs = float(found.input_operations.mean())
        return Rates(
            scales=[round(scale, 4) for scale in network.scales],
            steps=list(range(1, _MOST_STEPS + 1)),
            accuracy=_rounded((found.answers == labels).mean(axis=0), 6),
            accuracy_potential=_rounded((found.answers_potential == labels).mean(axis=0), 6),
            spikes_per_neuron=_rounded(found.spikes.sum(axis=2).mean(axis=0).cumsum() / network.neurons, 4),
            accumulations_per_frame=_rounded(inputs + found.operations.sum(axis=2).mean(axis=0).cumsum(), 0),
            input_operations_per_frame=round(inputs),
            current_additions_per_step=round(float(found.current_operations.mean())),
        )

    def first_spikes(self, network: FloatNetwork, input_spikes: bool, done: Callable[[int], None]) -> FirstSpikes:
        """The time to first spike; the frame ends with the answer."""
        converted = convert_first_spikes(network, self.calibration.images, input_spikes=input_spikes)
        found = run_first_spikes(converted, self.data.images, done=done)
        inputs = float(found.input_operations.mean())
        layers = found.operations_by_answer.mean(axis=0)
        return FirstSpikes(
            scales=[round(scale, 4) for scale in converted.scales],
            accuracy=_share(found.answers, self.data.labels),
            answer_time_mean=round(float(found.answer_times.mean()), 3),
            frames_without_output_spike=int((found.answer_times >= converted.duration).sum()),
            spikes_per_neuron=round(float(found.spikes_by_answer.sum(axis=1).mean()) / converted.neurons, 4),
            accumulations_per_frame=round(inputs + float(layers.sum())),
            accumulations_per_frame_without_end=round(inputs + float(found.operations.sum(axis=1).mean())),
            spikes_per_neuron_without_end=round(float(found.spikes.sum(axis=1).mean()) / converted.neurons, 4),
            input_operations_per_frame=round(inputs),
            input_spikes_per_frame=round(float(found.input_spikes_by_answer.mean()), 2),
        )

    def course(self, label: str, network: Network, done: Callable[[int], None]) -> LabelledCourse:
        """Accuracy of the answer so far against time."""
        frames = slice(self.detail)
        _, course = instruments(network, self.data.images[frames], self.data.labels[frames], done=done)
        return LabelledCourse(label=label, time=course.time, accuracy=course.accuracy)

    def why(self, network: Network, done: Callable[[int], None]) -> Why:
        """Where the accuracy goes, and the spikes: the ladder of `model.conversion.explain`, and activations and spikes."""
        floats = self.convolutional
        thresholds = _thresholds(floats, network)
        steps = explain(floats, network, thresholds, self.data.images, self.data.labels, done=done)
        binary = (self.calibration.images > INPUT_THRESHOLD).astype(np.float32)
        by_name = {layer.name: layer for layer in floats.layers}
        fired, negative, counted = (dict.fromkeys(thresholds, 0) for _ in range(3))
        for image in self.data.images[: self.detail]:
            trace = run_fast(network, encode(network, image))
            for name in thresholds:
                signs = trace.layers[name].spikes["sign"]
                fired[name] += len(signs)
                negative[name] += int((signs < 0).sum())
                counted[name] += int(np.abs(trace.layers[name].count).sum())
        rounded = dict.fromkeys(thresholds, 0)
        for batch in counts_of_layers(network, self.data.images[: self.detail]):
            for name in thresholds:
                rounded[name] += int(np.abs(batch[name]).sum())
        layers = []
        for layer, _, shape in network.walk():
            if not isinstance(layer, Neurons):
                continue
            values = floats.run(binary, [by_name[layer.name].tensor])[0]
            positive = values[values > 0] / thresholds[layer.name]
            spikes = fired[layer.name] / self.detail
            layers.append(
                WhyLayer(
                    layer=layer.name,
                    neurons=shape.size,
                    threshold=round(thresholds[layer.name], 4),
                    large_activation_thresholds=round(float(np.percentile(positive, _LARGE)), 2) if len(positive) else 0.0,
                    median_positive_activation_thresholds=round(float(np.median(positive)), 3) if len(positive) else 0.0,
                    positive_activations=round(len(positive) / values.size, 4),
                    spikes_per_neuron=round(spikes / shape.size, 4),
                    spikes_per_frame=round(spikes, 1),
                    counts_per_frame=round(counted[layer.name] / self.detail, 1),
                    quantized_counts_per_frame=round(rounded[layer.name] / self.detail, 1),
                    negative_spikes=round(negative[layer.name] / max(1, fired[layer.name]), 4),
                )
            )
        return Why(steps=tuple(steps), verdict=verdict(steps), layers=tuple(layers))


    def missed(self) -> MissedLayers:
        """Of each layer of the time-to-first-spike network, what its neurons do against the float network's activations."""
        images = self.data.images[: self.detail]
        converted = convert_first_spikes(self.convolutional, self.calibration.images)
        times: dict[str, list[Floats]] = {}
        for at in range(0, len(images), _BATCH):
            for name, of_batch in spike_times_of_layers(converted, images[at : at + _BATCH]).items():
                times.setdefault(name, []).append(of_batch)
        found = []
        names = [layer.name for layer in self.convolutional.layers if layer.kind != "maxpool"]
        scales = dict(zip(names, converted.scales, strict=True))
        for layer, _, shape in self.convolutional.walk():
            if layer.kind == "maxpool":
                continue
            values = self.convolutional.run(images / np.float32(255), [layer.tensor])[0] / scales[layer.name]
            # ONNX is channel-major.
            values = values.reshape(len(images), shape.channels, -1).transpose(0, 2, 1).reshape(len(images), -1)
            fired = np.concatenate(times[layer.name])
            fires, active = np.isfinite(fired), values > 0
            # Activations so small that their neurons would fire after the end are no error.
            large = values > 1 / converted.duration
            found.append(
                MissedLayer(
                    layer=layer.name,
                    fired_of_active=_mean(fires[large]),
                    fired_of_silent=_mean(fires[~active]),
                    correlation=_correlation(1 / fired[fires & active], values[fires & active]),
                )
            )
        return MissedLayers(layers=tuple(found))


def _share(answers: Ints, labels: Ints) -> float:
    return float((answers == labels).mean())


def _mean(values: npt.NDArray[np.bool_]) -> float | None:
    return round(float(values.mean()), 4) if len(values) else None


def _correlation(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> float | None:
    """Pearson's; None where one of them does not vary."""
    if len(a) < 2 or a.std() == 0 or b.std() == 0:
        return None
    return round(float(np.corrcoef(a, b)[0, 1]), 4)


def _rounded(values: npt.NDArray[np.floating], digits: int) -> list[float]:
    return [round(float(value), digits) if digits else round(float(value)) for value in values]


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
