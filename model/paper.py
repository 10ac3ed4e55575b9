"""The paper's Table I and Figures 2 to 4 by one command, our figures beside the published ones that we know.

Three conversions of the same float networks are measured on the same frames: sigma-delta quantization, which this project
builds (the paper: Yousefzadeh et al. 2019); the rate code of Rueckauer et al. 2017 (`model.studies.rate_coded`); and the time
to first spike of Rueckauer and Liu 2018 (`model.studies.first_spike`). The paper's text is not at hand: of its numbers we know
those of `PUBLISHED`, everything else is "not known to us", and what the figures show is our reading of what they are about.
"""

import hashlib
import io
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import model
from model.conversion.explain import explain, verdict
from model.conversion.quantize import Settings, quantize
from model.conversion.quantized import counts_of_layers, quantized_counts
from model.encode import encode
from model.engine.engine import run_fast, run_frames
from model.importers.float_network import FloatNetwork
from model.importers.onnx import import_onnx
from model.network import Network, Neurons
from model.reports.html import PLOTS
from model.reports.paper_page import COLUMNS, FIGURES, paper_page, table_rows
from model.studies.first_spike import convert_first_spikes, run_first_spikes, spike_times_of_layers
from model.studies.instruments import instruments
from model.studies.rate_coded import convert_rates, run_rates
from model.support.cache import kept, source_hash
from model.support.cli import command
from model.support.datasets import DataError, Dataset, load
from model.support.errors import Exit, fail

__all__ = ["PUBLISHED", "Published", "fitting_factor", "rescaled", "study"]

_ZOO = Path(__file__).parent / "zoo"
_CONVOLUTIONAL = _ZOO / "mnist-paper.onnx"
_BUNDLED = _ZOO / "mnist-paper.npz"
_TWO_LAYER = _ZOO / "mnist-two-layer.onnx"

_CALIBRATION = 2000
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
    accuracy, spikes_per_neuron : as published
    most_accumulations_per_frame : the published bound
    remark : what its authors' abstract says where there are no figures
    source : where the figures come from
    """

    accuracy: float | None = None
    spikes_per_neuron: float | None = None
    most_accumulations_per_frame: int | None = None
    remark: str | None = None
    source: str


PUBLISHED = {
    "sigma-delta": Published(
        accuracy=0.9919,
        spikes_per_neuron=0.25,
        most_accumulations_per_frame=600_000,
        source="Yousefzadeh et al. 2019; for which of its thresholds is not known to us",
    ),
    "rate": Published(
        remark="LeNet for MNIST: more than 2 times fewer operations than the float network where the error may grow by a few "
        "percentage points",
        source="abstract of Rueckauer et al. 2017, https://doi.org/10.3389/fnins.2017.00682",
    ),
    "first spike": Published(
        remark="MNIST: 7 to 10 times fewer operations than the rate-based model, at an accuracy loss of less than 1 %",
        source="abstract of Rueckauer and Liu 2018, https://www.zora.uzh.ch/id/eprint/168616/",
    ),
}
"""What is known to us of published figures."""


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
    images: npt.NDArray[np.uint8],
    *,
    most_accumulations: float = np.inf,
    most_spikes_per_neuron: float = np.inf,
    step: float = 1.0,
) -> float:
    """The largest multiple of ``step`` by which the network can be rescaled so that threshold 1.0 stays within the bounds.

    Spikes and accumulations grow with the factor. ``step`` itself where nothing fits; at most `_MOST_FACTOR`.

    Parameters
    ----------
    network, images : float network, and uint8 frames that means are taken of
    most_accumulations, most_spikes_per_neuron : bounds, a frame
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


def _fired(network: Network, spikes: npt.NDArray[np.int64]) -> float:
    """Mean spikes a frame of all neurons, pools left out, of spikes ``(frames, layers)``."""
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
        digest = hashlib.sha256(source_hash(Path(model.__path__[0])).encode())
        for path in (_CONVOLUTIONAL, _BUNDLED, _TWO_LAYER):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
        for frames in (data, calibration):
            digest.update(np.ascontiguousarray(frames.images).tobytes() + frames.labels.tobytes())
        self._made_of = digest.hexdigest()

    def measured(
        self, title: str, make: Callable[[Callable[[int], None]], dict[str, Any]], *, frames: int = 0, detail: int = 0
    ) -> dict[str, Any]:
        """What ``make`` finds, or found before; it is given what to call with the number of frames finished.

        ``frames`` are those it goes through, all by default, and ``detail`` is what else the result depends on.
        """
        key = hashlib.sha256(f"{self._made_of} {title} {detail}".encode()).hexdigest()[:24]
        task = self.bar.add_task(title, total=frames or len(self.data)) if self.bar else None
        if self.bar is None:
            print(title, file=sys.stderr, flush=True)

        def done(count: int) -> None:
            if self.bar and task is not None:
                self.bar.advance(task, count)

        path = kept(self.cache / f"{key}.json", lambda part: part.write_text(json.dumps(make(done), allow_nan=False)))
        if self.bar and task is not None:
            self.bar.update(task, completed=frames or len(self.data))
        return json.loads(path.read_text())  # type: ignore[no-any-return]

    def float_accuracy(self, network: FloatNetwork) -> dict[str, Any]:
        """Of the float network itself, on grey frames and on frames of one bit."""
        found = {}
        for key, threshold in (("grey", None), ("1bit", _INPUT_THRESHOLD)):
            images = self.data.images
            levels = images / np.float32(255) if threshold is None else (images > threshold).astype(np.float32)
            found[key] = _share(network.run(levels)[0].reshape(len(images), -1).argmax(axis=1), self.data.labels)
        return found

    def sigma_delta(self, network: Network, done: Callable[[int], None]) -> dict[str, Any]:
        """Sigma-delta quantization, as this project builds it."""
        found = run_frames(network, self.data.images, done=done)
        labels = self.data.labels
        return {
            "accuracy": _share(found.counts.argmax(axis=1), labels),
            "accuracy_potential": _share(found.potentials.argmax(axis=1), labels),
            "accuracy_quantized": _share(quantized_counts(network, self.data.images).argmax(axis=1), labels),
            "spikes_per_neuron": round(_fired(network, found.spikes) / network.neurons, 4),
            "accumulations_per_frame": round(float(found.operations.sum(axis=1).mean())),
            "input_spikes_per_frame": round(float(found.input_events.mean()), 2),
        }

    def rates(self, threshold: int | None, done: Callable[[int], None]) -> dict[str, Any]:
        """The rate code, after each time step up to `_MOST_STEPS`."""
        network = convert_rates(self.convolutional, self.calibration.images, input_threshold=threshold)
        found = run_rates(network, self.data.images, _MOST_STEPS, done=done)
        labels = self.data.labels[:, np.newaxis]
        inputs = float(found.input_operations.mean())
        return {
            "scales": [round(scale, 4) for scale in network.scales],
            "steps": list(range(1, _MOST_STEPS + 1)),
            "accuracy": _rounded((found.answers == labels).mean(axis=0), 6),
            "accuracy_potential": _rounded((found.answers_potential == labels).mean(axis=0), 6),
            "spikes_per_neuron": _rounded(found.spikes.sum(axis=2).mean(axis=0).cumsum() / network.neurons, 4),
            "accumulations_per_frame": _rounded(inputs + found.operations.sum(axis=2).mean(axis=0).cumsum(), 0),
            "input_operations_per_frame": round(inputs),
            "current_additions_per_step": round(float(found.current_operations.mean())),
        }

    def first_spikes(self, network: FloatNetwork, input_spikes: bool, done: Callable[[int], None]) -> dict[str, Any]:
        """The time to first spike; the frame ends with the answer."""
        converted = convert_first_spikes(network, self.calibration.images, input_spikes=input_spikes)
        found = run_first_spikes(converted, self.data.images, done=done)
        inputs = float(found.input_operations.mean())
        layers = found.operations_by_answer.mean(axis=0)
        return {
            "scales": [round(scale, 4) for scale in converted.scales],
            "accuracy": _share(found.answers, self.data.labels),
            "answer_time_mean": round(float(found.answer_times.mean()), 3),
            "frames_without_output_spike": int((found.answer_times >= converted.duration).sum()),
            "spikes_per_neuron": round(float(found.spikes_by_answer.sum(axis=1).mean()) / converted.neurons, 4),
            "accumulations_per_frame": round(inputs + float(layers.sum())),
            "accumulations_per_frame_without_end": round(inputs + float(found.operations.sum(axis=1).mean())),
            "spikes_per_neuron_without_end": round(float(found.spikes.sum(axis=1).mean()) / converted.neurons, 4),
            "input_operations_per_frame": round(inputs),
            "input_spikes_per_frame": round(float(found.input_spikes_by_answer.mean()), 2),
        }

    def course(self, network: Network, done: Callable[[int], None]) -> dict[str, Any]:
        """Accuracy of the answer so far against time."""
        frames = slice(self.detail)
        _, course = instruments(network, self.data.images[frames], self.data.labels[frames], done=done)
        return {"time": course["time"], "accuracy": course["accuracy"]}

    def why(self, network: Network, done: Callable[[int], None]) -> dict[str, Any]:
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
                {
                    "layer": layer.name,
                    "neurons": shape.size,
                    "threshold": round(thresholds[layer.name], 4),
                    "large_activation_thresholds": round(float(np.percentile(positive, _LARGE)), 2) if len(positive) else 0.0,
                    "median_positive_activation_thresholds": round(float(np.median(positive)), 3) if len(positive) else 0.0,
                    "positive_activations": round(len(positive) / values.size, 4),
                    "spikes_per_neuron": round(spikes / shape.size, 4),
                    "spikes_per_frame": round(spikes, 1),
                    "counts_per_frame": round(counted[layer.name] / self.detail, 1),
                    "quantized_counts_per_frame": round(rounded[layer.name] / self.detail, 1),
                    "negative_spikes": round(negative[layer.name] / max(1, fired[layer.name]), 4),
                }
            )
        return {"steps": [asdict(step) for step in steps], "verdict": verdict(steps), "layers": layers}


    def missed(self) -> list[dict[str, Any]]:
        """Of each layer of the time-to-first-spike network, what its neurons do against the float network's activations."""
        images = self.data.images[: self.detail]
        converted = convert_first_spikes(self.convolutional, self.calibration.images)
        times: dict[str, list[npt.NDArray[np.float64]]] = {}
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
            # Activations so small that their neurons would fire behind the end are no error.
            large = values > 1 / converted.duration
            found.append(
                {
                    "layer": layer.name,
                    "fired_of_active": _mean(fires[large]),
                    "fired_of_silent": _mean(fires[~active]),
                    "correlation": _correlation(1 / fired[fires & active], values[fires & active]),
                }
            )
        return found


def _share(answers: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]) -> float:
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
) -> dict[str, Any]:
    """Measure everything.

    Parameters
    ----------
    data : frames to measure on
    calibration : frames that scales are taken from; none of ``data``'s should be among them
    detail : frames, the first ones, of which every spike is looked at
    cache : folder in which results are kept by what they were made of
    bar : shows progress; plain lines where there is none

    Returns
    -------
    What `main` writes as ``paper.json``; accuracies as shares, everything else a frame unless its name says otherwise.

    Raises
    ------
    DataError : the frames do not have the networks' input shape
    """
    run = _Study(data, calibration, detail, cache, bar)
    convolutional = run.convolutional
    ann = {
        "convolutional": run.measured("float network", lambda done: run.float_accuracy(convolutional)),
        "two-layer": run.measured("float network, two layers", lambda done: run.float_accuracy(run.two_layer)),
    }
    published, images = PUBLISHED["sigma-delta"], calibration.images
    accumulations = float(published.most_accumulations_per_frame or np.inf)
    spikes = float(published.spikes_per_neuron or np.inf)
    factors = {
        "accumulations": run.measured(
            "factor for the paper's accumulations",
            lambda done: {"factor": fitting_factor(convolutional, images, most_accumulations=accumulations)},
        )["factor"],
        "spikes": run.measured(
            "factor for the paper's spikes",
            lambda done: {"factor": fitting_factor(convolutional, images, most_spikes_per_neuron=spikes, step=0.1)},
        )["factor"],
    }
    settings = {
        f"threshold {threshold:.1f}, network scaled by {factors[bound]:g} (to the paper's {bound})": threshold / factors[bound]
        for bound, threshold in (("accumulations", 1.0), ("accumulations", 2.0), ("spikes", 1.0))
    }
    as_they_are = {f"threshold {threshold:.1f}, weights as they are": threshold for threshold in (1.0, 2.0)}
    settings = as_they_are | settings
    large = run.measured("large activations", lambda done: {"large": _large(convolutional, calibration.images)})["large"]
    sweep = []
    for threshold in sorted({*_THRESHOLDS, *settings.values()}):
        found = run.measured(
            f"sigma-delta, threshold {threshold:g}",
            lambda done, threshold=threshold: run.sigma_delta(_one_threshold(convolutional, threshold), done),  # type: ignore[misc]
        )
        sweep.append({"threshold": threshold, **found})
    bundled = run.measured("sigma-delta, bundled conversion", lambda done: run.sigma_delta(run.bundled, done))
    rates = {
        key: run.measured(f"rate code, {key} input", lambda done, threshold=threshold: run.rates(threshold, done))  # type: ignore[misc]
        for key, threshold in (("grey", None), ("1bit", _INPUT_THRESHOLD))
    }
    first_spikes = {
        name: {
            key: run.measured(
                f"first spike, {name} network, pixels are {key}",
                lambda done, net=net, spikes=spikes: run.first_spikes(net, spikes, done),  # type: ignore[misc]
            )
            for key, spikes in (("currents", False), ("spikes", True))
        }
        for name, net in (("convolutional", convolutional), ("two-layer", run.two_layer))
    }
    courses = []
    for label, threshold in settings.items():
        network = _one_threshold(convolutional, threshold)
        found = run.measured(
            f"course, {label}",
            lambda done, net=network: run.course(net, done),  # type: ignore[misc]
            frames=run.detail,
            detail=run.detail,
        )
        courses.append({"label": label, **found})
    networks = {label: _one_threshold(convolutional, threshold) for label, threshold in settings.items()}
    del networks["threshold 2.0, weights as they are"]
    networks["bundled conversion, a threshold for each layer"] = run.bundled
    whys = {}
    for label, net in networks.items():
        whys[label] = run.measured(
            f"why, {label}",
            lambda done, net=net: run.why(net, done),  # type: ignore[misc]
            detail=run.detail,
        )
    missed = run.measured("why, first spike", lambda done: {"layers": run.missed()}, frames=run.detail, detail=run.detail)
    return {
        "dataset": data.name,
        "frames": len(data),
        "detail_frames": run.detail,
        "calibration": {"dataset": calibration.name, "frames": len(calibration)},
        "onnx_sha256": {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (_CONVOLUTIONAL, _TWO_LAYER)
        },
        "published": {name: asdict(figures) for name, figures in PUBLISHED.items()},
        "accuracy_ann": ann,
        "large_activations": large,
        "factors": factors,
        "rows": _rows(ann, sweep, settings, bundled, rates, first_spikes),
        "thresholds": sweep,
        "bundled": bundled,
        "rates": rates,
        "first_spikes": first_spikes,
        "courses": courses,
        "why": whys,
        "why_first_spike": missed["layers"],
    }


def _large(network: FloatNetwork, images: npt.NDArray[np.uint8]) -> dict[str, float]:
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
    ann: dict[str, Any],
    sweep: Sequence[dict[str, Any]],
    settings: dict[str, float],
    bundled: dict[str, Any],
    rates: dict[str, Any],
    first_spikes: dict[str, Any],
) -> list[dict[str, Any]]:
    """Table I: each row's method, network, setting, and figures."""

    def row(method: str, setting: str, figures: dict[str, Any], reference: float, network: str = "convolutional") -> None:
        rows.append(
            {
                "method": method,
                "network": network,
                "setting": setting,
                "accuracy": figures["accuracy"],
                "accuracy_lost": round(reference - figures["accuracy"], 6),
                "accuracy_potential": figures.get("accuracy_potential"),
                "spikes_per_neuron": figures["spikes_per_neuron"],
                "accumulations_per_frame": figures["accumulations_per_frame"],
                "beside": figures.get("beside", ""),
            }
        )

    rows: list[dict[str, Any]] = []
    floats = ann["convolutional"]
    by_threshold = {entry["threshold"]: entry for entry in sweep}
    row("sigma-delta", "a threshold for each layer (the bundled conversion)", bundled, floats["1bit"])
    for setting, threshold in settings.items():
        row("sigma-delta", setting, by_threshold[threshold], floats["1bit"])
    for key, name in (("grey", "grey"), ("1bit", "1-bit")):
        found = rates[key]
        for steps in _STEPS:
            names = ("accuracy", "accuracy_potential", "spikes_per_neuron", "accumulations_per_frame")
            figures = {field: found[field][steps - 1] for field in names}
            multiplied = " of them multiply-accumulates" if key == "grey" else " of them for the input"
            figures["beside"] = (
                f"{found['input_operations_per_frame']:,}{multiplied}; "
                f"and {found['current_additions_per_step'] * steps:,} additions of constant currents"
            )
            row("rate", f"{steps} time steps, {name} input", figures, floats[key])
    for network, by_input in first_spikes.items():
        for key, found in by_input.items():
            figures = dict(found)
            figures["beside"] = f"{found['accumulations_per_frame_without_end']:,} where the frame does not end with the answer"
            if found["input_operations_per_frame"]:
                figures["beside"] = f"{found['input_operations_per_frame']:,} of them multiply-accumulates; " + figures["beside"]
            row("first spike", f"pixels are {key}, grey", figures, ann[network]["grey"], network)
    return rows


def _write(folder: Path, files: dict[str, bytes]) -> None:
    """Write files into a folder, each whole or not at all."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            part = folder / f"{name}.part"
            part.write_bytes(content)
            part.replace(folder / name)
    except OSError as error:
        fail(Exit.BAD_INPUT, f"{folder}: cannot be written: {error.strerror}")


def _figure_files(found: dict[str, Any]) -> dict[str, bytes]:
    """The figures as SVG files, the same bytes for the same study."""
    files = {}
    with mpl.rc_context(PLOTS):
        for name, (draw, _, _) in FIGURES.items():
            file = io.BytesIO()
            draw(found).savefig(file, format="svg", bbox_inches="tight", facecolor="white", metadata={"Date": None})
            files[f"paper-{name}.svg"] = file.getvalue()
    return files


@command(help="The paper's Table I and Figures 2 to 4: sigma-delta, rate code and time to first spike, measured.")
@click.option("--dataset", default="mnist", show_default=True, metavar="DATA", help="mnist, digits5k or an .npz file.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="First folder to look for the MNIST files in.")
@click.option("--limit", type=click.IntRange(1), help="Only this many frames of the test split, the first ones; all by default.")
@click.option("--detail", default=1000, show_default=True, type=click.IntRange(1), help="Frames whose every spike is looked at.")
@click.option(
    "--out", default=Path("build/paper"), show_default=True, type=click.Path(path_type=Path), help="Folder for paper.json, .html."
)
@click.option("--docs", type=click.Path(path_type=Path), help="Folder for the figures as paper-*.svg; none by default.")
@click.option(
    "--cache",
    default=Path("build/cache/paper"),
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder in which results are kept, so that a second run is quick.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
def main(
    dataset: str,
    data_dir: Path | None,
    limit: int | None,
    detail: int,
    out: Path,
    docs: Path | None,
    cache: Path,
    as_json: bool,
) -> None:
    """See the help text above."""
    console = Console(stderr=True)
    data, calibration = (load(dataset, split, data_dir) for split in ("test", "train"))
    if limit is not None and limit < len(data):
        name = f"{data.name} (first {limit:,} frames)"
        data = replace(data, name=name, images=data.images[:limit], labels=data.labels[:limit])
    calibration = replace(
        calibration, images=calibration.images[:_CALIBRATION], labels=calibration.labels[:_CALIBRATION]
    )
    # The study takes minutes: what cannot be written is better known before.
    for folder in (out, cache, *((docs,) if docs else ())):
        _write(folder, {})
    if console.is_terminal:
        with Progress(console=console) as bar:
            found = study(data, calibration, detail=detail, cache=cache, bar=bar)
    else:
        found = study(data, calibration, detail=detail, cache=cache)
    text = json.dumps(found, indent=2, allow_nan=False) + "\n"
    _write(out, {"paper.json": text.encode(), "paper.html": paper_page(found).encode()})
    if docs:
        _write(docs, _figure_files(found))
    if as_json:
        print(text, end="")
        return
    shown = Table(title=f"Table I, {found['frames']:,} frames of {found['dataset']}", title_justify="left")
    for column in COLUMNS:
        shown.add_column(column)
    for cells in table_rows(found):
        shown.add_row(*cells)
    target = Console()
    (target if target.is_terminal else Console(width=220)).print(shown)
    print(f"plots: {out / 'paper.html'}")


if __name__ == "__main__":
    main()
