"""The paper's Table I and Figures 2 to 4: our figures beside the published ones that we know.

Three conversions of the same float networks are measured on the same frames: sigma-delta quantization, which this project
builds (the paper: Yousefzadeh et al. 2019); the rate code of Rueckauer et al. 2017 (`model.studies.rate_coded`); and the time
to first spike of Rueckauer and Liu 2018 (`model.studies.first_spike`). The paper's text is not at hand: of its numbers we know
those of `PUBLISHED`, everything else is "not known to us", and what the figures show is our reading of what they are about.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from rich.progress import Progress

import model
from model.arrays import Floats, Images, Ints
from model.conversion.explain import Step, explain, verdict
from model.conversion.quantize import Settings, quantize
from model.conversion.quantized import counts_of_layers, quantized_counts
from model.encode import encode
from model.engine.engine import run_fast, run_frames
from model.importers.float_network import FloatNetwork
from model.importers.onnx import import_onnx
from model.network import Network, Neurons
from model.studies.first_spike import convert_first_spikes, run_first_spikes, spike_times_of_layers
from model.studies.instruments import instruments
from model.studies.rate_coded import convert_rates, run_rates
from model.support.cache import kept, source_hash
from model.support.dataset import DataError, Dataset
from model.support.results import BESIDE, to_json

__all__ = [
    "PUBLISHED",
    "Calibration",
    "Factors",
    "FirstSpikes",
    "LabelledCourse",
    "MissedLayer",
    "MissedLayers",
    "PaperStudy",
    "Published",
    "Rates",
    "Row",
    "SigmaDelta",
    "SweepPoint",
    "Why",
    "WhyLayer",
    "fitting_factor",
    "rescaled",
    "study",
]

_ZOO = Path(model.__path__[0]) / "zoo"
_CONVOLUTIONAL = _ZOO / "mnist-paper.onnx"
_BUNDLED = _ZOO / "mnist-paper.npz"
_TWO_LAYER = _ZOO / "mnist-two-layer.onnx"

_CALIBRATED = 2000
"""Frames of the training split that scales and factors are taken from."""

_THRESHOLDS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0)
"""Of the sweep, in the units of the float network."""

_STEPS = (15, 25)
_MOST_STEPS = 40
_INPUT_THRESHOLD = 51
_MOST_FACTOR = 16
_BATCH = 64
"""Frames whose spike times are looked at together."""

_LARGE = 99.0
"""Percentile of the positive activations that counts as a large one."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published figure set, as far as it is known to us; accuracies as shares.

    Parameters
    ----------
    accuracy, spikes_per_neuron : float or None
        As published.
    most_accumulations_per_frame : int or None
        The published bound.
    remark : str or None
        What its authors' abstract says where there are no figures.
    source : str
        Where the figures come from.
    """

    accuracy: float | None
    spikes_per_neuron: float | None
    most_accumulations_per_frame: int | None
    remark: str | None
    source: str


PUBLISHED = {
    "sigma-delta": Published(
        accuracy=0.9919,
        spikes_per_neuron=0.25,
        most_accumulations_per_frame=600_000,
        remark=None,
        source="Yousefzadeh et al. 2019; for which of its thresholds is not known to us",
    ),
    "rate": Published(
        accuracy=None,
        spikes_per_neuron=None,
        most_accumulations_per_frame=None,
        remark="LeNet for MNIST: more than 2 times fewer operations than the float network where the error may grow by a few "
        "percentage points",
        source="abstract of Rueckauer et al. 2017, https://doi.org/10.3389/fnins.2017.00682",
    ),
    "first spike": Published(
        accuracy=None,
        spikes_per_neuron=None,
        most_accumulations_per_frame=None,
        remark="MNIST: 7 to 10 times fewer operations than the rate-based model, at an accuracy loss of less than 1 %",
        source="abstract of Rueckauer and Liu 2018, https://www.zora.uzh.ch/id/eprint/168616/",
    ),
}
"""What is known to us of published figures."""


T = TypeVar("T")


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
class SweepPoint:
    """This method's figures at one ``threshold`` of all layers."""

    threshold: float
    figures: SigmaDelta = field(metadata=BESIDE)


@dataclass(frozen=True, kw_only=True)
class Rates:
    """The rate code's figures after each of its time ``steps``."""

    scales: list[float]
    steps: list[int]
    accuracy: list[float]
    accuracy_potential: list[float]
    spikes_per_neuron: list[float]
    accumulations_per_frame: list[float]
    input_operations_per_frame: int
    current_additions_per_step: int


@dataclass(frozen=True, kw_only=True)
class FirstSpikes:
    """The figures of the time to first spike, where the frame ends with the answer and where it does not."""

    scales: list[float]
    accuracy: float
    answer_time_mean: float
    frames_without_output_spike: int
    spikes_per_neuron: float
    accumulations_per_frame: int
    accumulations_per_frame_without_end: int
    spikes_per_neuron_without_end: float
    input_operations_per_frame: int
    input_spikes_per_frame: float


@dataclass(frozen=True, kw_only=True)
class LabelledCourse:
    """Accuracy of the answer so far against time, of the network that ``label`` names."""

    label: str
    time: list[float]
    accuracy: list[float]


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


@dataclass(frozen=True, kw_only=True)
class MissedLayer:
    """Shares of active and of silent neurons that fire, and how times and activations correlate; None where there are none."""

    layer: str
    fired_of_active: float | None
    fired_of_silent: float | None
    correlation: float | None


@dataclass(frozen=True, kw_only=True)
class MissedLayers:
    """Of each layer of the time-to-first-spike network, what its neurons do against the float network's."""

    layers: tuple[MissedLayer, ...]

    @classmethod
    def read(cls, values: dict[str, Any]) -> "MissedLayers":
        """From its JSON object."""
        return cls(layers=tuple(MissedLayer(**layer) for layer in values["layers"]))


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of Table I.

    Parameters
    ----------
    method, network, setting : str
        What was measured.
    accuracy, accuracy_lost : float
        By spike count, and how much less than the float network's on the same input.
    accuracy_potential : float or None
        By membrane potential, where the method has one.
    spikes_per_neuron, accumulations_per_frame
        Means per frame.
    beside : str
        Operations that are not in the count, or of another kind.
    scaled_to : str or None
        Which of the published figures the network is scaled to: ``accumulations`` or ``spikes``.
    """

    method: str
    network: str
    setting: str
    accuracy: float
    accuracy_lost: float
    accuracy_potential: float | None
    spikes_per_neuron: float
    accumulations_per_frame: float
    beside: str
    scaled_to: str | None = None


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The frames that scales and factors are taken from."""

    dataset: str
    frames: int


@dataclass(frozen=True, kw_only=True)
class Factors:
    """Factors by which the network is scaled, so that threshold 1.0 meets the published accumulations, or spikes."""

    accumulations: float
    spikes: float


@dataclass(frozen=True, kw_only=True)
class PaperStudy:
    """What `study` measures; accuracies as shares, everything else per frame unless its name says otherwise.

    Parameters
    ----------
    dataset, frames, detail_frames, calibration, onnx_sha256
        On what, of which networks.
    published : dict
        Of each method what is known of published figures.
    accuracy_ann : dict
        Of each float network its accuracy on ``grey`` and on ``1bit`` frames.
    large_activations : dict
        Of each layer what counts as a large activation.
    factors : Factors
        What the network is scaled by.
    rows : tuple of Row
        Table I.
    thresholds : tuple of SweepPoint
        This method against the threshold of all layers.
    bundled : SigmaDelta
        This method with the bundled network's thresholds.
    rates : dict
        The rate code, of ``grey`` and of ``1bit`` frames.
    first_spikes : dict
        The time to first spike, of each network, with pixels as ``currents`` and as ``spikes``.
    courses : tuple of LabelledCourse
        The answer so far, of each setting.
    why : dict
        Of each setting where its accuracy goes.
    why_first_spike : tuple of MissedLayer
        The same of the time to first spike.
    """

    dataset: str
    frames: int
    detail_frames: int
    calibration: Calibration
    onnx_sha256: dict[str, str]
    published: dict[str, Published]
    accuracy_ann: dict[str, dict[str, float]]
    large_activations: dict[str, float]
    factors: Factors
    rows: tuple[Row, ...]
    thresholds: tuple[SweepPoint, ...]
    bundled: SigmaDelta
    rates: dict[str, Rates]
    first_spikes: dict[str, dict[str, FirstSpikes]]
    courses: tuple[LabelledCourse, ...]
    why: dict[str, Why]
    why_first_spike: tuple[MissedLayer, ...]


@dataclass(frozen=True, kw_only=True)
class _Setting:
    """A threshold of all layers that is measured in detail: its label, and the published figure that it is scaled to."""

    label: str
    threshold: float
    scaled_to: str | None = None

    @property
    def large(self) -> bool:
        """Whether it is so large for the network as it is that hardly a neuron fires."""
        return self.scaled_to is None and self.threshold > 1


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
        converted = _one_threshold(network, 1.0 / (multiple * step))
        found = run_frames(converted, images)
        fired = _fired(converted, found.spikes) / converted.neurons
        return bool(found.operations.sum(axis=1).mean() <= most_accumulations and fired <= most_spikes_per_neuron)

    fitting, above = 1, int(_MOST_FACTOR / step) + 1
    while above - fitting > 1:
        middle = (fitting + above) // 2
        if fits(middle):
            fitting = middle
        else:
            above = middle
    return round(fitting * step, 6)


def _fired(network: Network, spikes: Ints) -> float:
    """Mean spikes per frame of all neurons, pools left out, of spikes ``(frames, layers)``."""
    return float(spikes[:, [isinstance(layer, Neurons) for layer in network.layers]].sum(axis=1).mean())


def _one_threshold(network: FloatNetwork, threshold: float) -> Network:
    neurons = sum(layer.kind != "maxpool" for layer in network.layers)
    settings = Settings(threshold=threshold, input_threshold=_INPUT_THRESHOLD)
    return quantize(network, [threshold] * neurons, settings, name=f"threshold_{threshold:g}")


class _Study:
    """The measurements; each is kept by what it was made of."""

    def __init__(self, data: Dataset, calibration: Dataset, detail: int, cache: Path, bar: Progress | None) -> None:
        self.data, self.calibration, self.detail = data, calibration, min(detail, len(data))
        self.cache, self.bar = cache, bar
        self.convolutional, self.two_layer = import_onnx(_CONVOLUTIONAL), import_onnx(_TWO_LAYER)
        self.bundled = Network.load(_BUNDLED)
        for frames in (data, calibration):
            if frames.images.shape[1:] != tuple(self.convolutional.input_shape):
                raise DataError(
                    f"frames of {frames.name} must have the networks' input shape {tuple(self.convolutional.input_shape)}, "
                    f"not {tuple(frames.images.shape[1:])}"
                )
        digest = hashlib.sha256(source_hash(Path(model.__path__[0]), without=("reports",)).encode())
        for path in (_CONVOLUTIONAL, _BUNDLED, _TWO_LAYER):
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
        for key, threshold in (("grey", None), ("1bit", _INPUT_THRESHOLD)):
            images = self.data.images
            levels = images / np.float32(255) if threshold is None else (images > threshold).astype(np.float32)
            found[key] = _share(network.run(levels)[0].reshape(len(images), -1).argmax(axis=1), self.data.labels)
        return found

    def sigma_delta(self, network: Network, done: Callable[[int], None]) -> SigmaDelta:
        """Sigma-delta quantization, as this project builds it."""
        found = run_frames(network, self.data.images, done=done)
        labels = self.data.labels
        return SigmaDelta(
            accuracy=_share(found.counts.argmax(axis=1), labels),
            accuracy_potential=_share(found.potentials.argmax(axis=1), labels),
            accuracy_quantized=_share(quantized_counts(network, self.data.images).argmax(axis=1), labels),
            spikes_per_neuron=round(_fired(network, found.spikes) / network.neurons, 4),
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
        binary = (self.calibration.images > _INPUT_THRESHOLD).astype(np.float32)
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


def study(
    data: Dataset, calibration: Dataset, *, detail: int = 1000, cache: Path, bar: Progress | None = None
) -> PaperStudy:
    """Measure everything.

    Parameters
    ----------
    data : Dataset
        Frames to measure on.
    calibration : Dataset
        Frames of which the first ones are those that scales are taken from; none of ``data``'s should be among them.
    detail : int
        Frames, the first ones, of which every spike is looked at.
    cache : Path
        Folder in which results are kept by what they were made of.
    bar : Progress, optional
        Shows progress; plain lines where there is none.

    Returns
    -------
    PaperStudy
        What was measured.

    Raises
    ------
    DataError
        The frames do not have the networks' input shape.
    """
    calibration = replace(calibration, images=calibration.images[:_CALIBRATED], labels=calibration.labels[:_CALIBRATED])
    run = _Study(data, calibration, detail, cache, bar)
    ann = {
        "convolutional": run.measured("float network", _unchanged, lambda done: run.float_accuracy(run.convolutional)),
        "two-layer": run.measured("float network, two layers", _unchanged, lambda done: run.float_accuracy(run.two_layer)),
    }
    factors = _factors(run)
    settings = _settings(factors)
    large = run.measured(
        "large activations", _unchanged, lambda done: {"large": _large(run.convolutional, calibration.images)}
    )["large"]
    sweep = _sweep(run, settings)
    bundled = run.measured("sigma-delta, bundled conversion", _read(SigmaDelta), lambda done: run.sigma_delta(run.bundled, done))
    rates = {
        key: run.measured(f"rate code, {key} input", _read(Rates), partial(run.rates, threshold))
        for key, threshold in (("grey", None), ("1bit", _INPUT_THRESHOLD))
    }
    first_spikes = {
        name: {
            key: run.measured(
                f"first spike, {name} network, pixels are {key}", _read(FirstSpikes), partial(run.first_spikes, net, spikes)
            )
            for key, spikes in (("currents", False), ("spikes", True))
        }
        for name, net in (("convolutional", run.convolutional), ("two-layer", run.two_layer))
    }
    return PaperStudy(
        dataset=data.name,
        frames=len(data),
        detail_frames=run.detail,
        calibration=Calibration(dataset=calibration.name, frames=len(calibration)),
        onnx_sha256={path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (_CONVOLUTIONAL, _TWO_LAYER)},
        published=PUBLISHED,
        accuracy_ann=ann,
        large_activations=large,
        factors=factors,
        rows=_rows(ann, sweep, settings, bundled, rates, first_spikes),
        thresholds=sweep,
        bundled=bundled,
        rates=rates,
        first_spikes=first_spikes,
        courses=_courses(run, settings),
        why=_whys(run, settings),
        why_first_spike=run.measured(
            "why, first spike", MissedLayers.read, lambda done: run.missed(), frames=run.detail, detail=run.detail
        ).layers,
    )


def _unchanged(values: dict[str, Any]) -> dict[str, Any]:
    return values


def _read(kind: Callable[..., T]) -> Callable[[dict[str, Any]], T]:
    """What makes a dataclass of plain fields from its JSON object."""
    return lambda values: kind(**values)


def _factors(run: _Study) -> Factors:
    """What the network is scaled by to meet the published figures."""
    published, images = PUBLISHED["sigma-delta"], run.calibration.images
    accumulations = float(published.most_accumulations_per_frame or np.inf)
    spikes = float(published.spikes_per_neuron or np.inf)
    return Factors(
        accumulations=run.measured(
            "factor for the paper's accumulations",
            _unchanged,
            lambda done: {"factor": fitting_factor(run.convolutional, images, most_accumulations=accumulations)},
        )["factor"],
        spikes=run.measured(
            "factor for the paper's spikes",
            _unchanged,
            lambda done: {"factor": fitting_factor(run.convolutional, images, most_spikes_per_neuron=spikes, step=0.1)},
        )["factor"],
    )


def _settings(factors: Factors) -> tuple[_Setting, ...]:
    """The thresholds that are measured in detail."""
    return (
        *(_Setting(label=f"threshold {at:.1f}, weights as they are", threshold=at) for at in (1.0, 2.0)),
        *(
            _Setting(
                label=f"threshold {at:.1f}, network scaled by {factor:g} (to the paper's {bound})",
                threshold=at / factor,
                scaled_to=bound,
            )
            for bound, factor, at in (
                ("accumulations", factors.accumulations, 1.0),
                ("accumulations", factors.accumulations, 2.0),
                ("spikes", factors.spikes, 1.0),
            )
        ),
    )


def _sweep(run: _Study, settings: Sequence[_Setting]) -> tuple[SweepPoint, ...]:
    """This method at every threshold."""

    def measure(threshold: float) -> SigmaDelta:
        network = _one_threshold(run.convolutional, threshold)
        return run.measured(f"sigma-delta, threshold {threshold:g}", _read(SigmaDelta), partial(run.sigma_delta, network))

    thresholds = sorted({*_THRESHOLDS, *(setting.threshold for setting in settings)})
    return tuple(SweepPoint(threshold=threshold, figures=measure(threshold)) for threshold in thresholds)


def _courses(run: _Study, settings: Sequence[_Setting]) -> tuple[LabelledCourse, ...]:
    """The answer so far, of each setting."""
    return tuple(
        run.measured(
            f"course, {setting.label}",
            _read(LabelledCourse),
            partial(run.course, setting.label, _one_threshold(run.convolutional, setting.threshold)),
            frames=run.detail,
            detail=run.detail,
        )
        for setting in settings
    )


def _whys(run: _Study, settings: Sequence[_Setting]) -> dict[str, Why]:
    """Where accuracy goes, of each setting in which neurons fire, and of the bundled network."""
    networks = {
        setting.label: _one_threshold(run.convolutional, setting.threshold) for setting in settings if not setting.large
    }
    networks["bundled conversion, a threshold for each layer"] = run.bundled
    return {
        label: run.measured(f"why, {label}", Why.read, partial(run.why, network), detail=run.detail)
        for label, network in networks.items()
    }


def _large(network: FloatNetwork, images: Images) -> dict[str, float]:
    """A large activation of each neuron layer on frames of one bit."""
    binary = (images > _INPUT_THRESHOLD).astype(np.float32)
    found = {}
    for layer in network.layers:
        if layer.kind != "maxpool":
            values = network.run(binary, [layer.tensor])[0]
            positive = values[values > 0]
            found[layer.name] = round(float(np.percentile(positive, _LARGE)), 4) if len(positive) else 0.0
    return found


def _rows(
    ann: dict[str, dict[str, float]],
    sweep: Sequence[SweepPoint],
    settings: Sequence[_Setting],
    bundled: SigmaDelta,
    rates: dict[str, Rates],
    first_spikes: dict[str, dict[str, FirstSpikes]],
) -> tuple[Row, ...]:
    """Table I: each row's method, network, setting, and figures."""
    floats = ann["convolutional"]
    by_threshold = {point.threshold: point.figures for point in sweep}

    def sigma_delta(setting: str, figures: SigmaDelta, scaled_to: str | None = None) -> Row:
        return Row(
            method="sigma-delta",
            network="convolutional",
            setting=setting,
            accuracy=figures.accuracy,
            accuracy_lost=round(floats["1bit"] - figures.accuracy, 6),
            accuracy_potential=figures.accuracy_potential,
            spikes_per_neuron=figures.spikes_per_neuron,
            accumulations_per_frame=figures.accumulations_per_frame,
            beside="",
            scaled_to=scaled_to,
        )

    def rate(key: str, found: Rates, steps: int) -> Row:
        at = steps - 1
        what = "of them multiply-accumulates" if key == "grey" else "of them for the input"
        return Row(
            method="rate",
            network="convolutional",
            setting=f"{steps} time steps, {'grey' if key == 'grey' else '1-bit'} input",
            accuracy=found.accuracy[at],
            accuracy_lost=round(floats[key] - found.accuracy[at], 6),
            accuracy_potential=found.accuracy_potential[at],
            spikes_per_neuron=found.spikes_per_neuron[at],
            accumulations_per_frame=found.accumulations_per_frame[at],
            beside=f"{found.input_operations_per_frame:,} {what}; and {found.current_additions_per_step * steps:,} additions of "
            "constant currents",
        )

    def first_spike(network: str, key: str, found: FirstSpikes) -> Row:
        beside = f"{found.accumulations_per_frame_without_end:,} where the frame does not end with the answer"
        if found.input_operations_per_frame:
            beside = f"{found.input_operations_per_frame:,} of them multiply-accumulates; {beside}"
        return Row(
            method="first spike",
            network=network,
            setting=f"pixels are {key}, grey",
            accuracy=found.accuracy,
            accuracy_lost=round(ann[network]["grey"] - found.accuracy, 6),
            accuracy_potential=None,
            spikes_per_neuron=found.spikes_per_neuron,
            accumulations_per_frame=found.accumulations_per_frame,
            beside=beside,
        )

    return (
        sigma_delta("a threshold for each layer (the bundled conversion)", bundled),
        *(sigma_delta(of.label, by_threshold[of.threshold], of.scaled_to) for of in settings),
        *(rate(key, found, steps) for key, found in rates.items() for steps in _STEPS),
        *(first_spike(network, key, found) for network, by_input in first_spikes.items() for key, found in by_input.items()),
    )
