"""The paper's Table I and Figures 2 to 4: our figures beside the published ones that we know.

Three conversions of the same float networks are measured on the same frames: sigma-delta quantization, which this project
builds (the paper: Yousefzadeh et al. 2019); the rate code of Rueckauer et al. 2017 (`model.studies.rate_coded`); and the time
to first spike of Rueckauer and Liu 2018 (`model.studies.first_spike`). The paper's text is not at hand: of its numbers we know
those of `PUBLISHED`, everything else is "not known to us", and what the figures show is our reading of what they are about.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich.progress import Progress

from model.studies.one_threshold import INPUT_THRESHOLD, fitting_factor, one_threshold
from model.studies.paper_measurements import CONVOLUTIONAL, TWO_LAYER, Measurements
from model.studies.paper_results import (
    PUBLISHED,
    Calibration,
    Factors,
    FirstSpikes,
    LabelledCourse,
    MissedLayers,
    PaperStudy,
    Rates,
    Row,
    SigmaDelta,
    SweepPoint,
    Why,
)
from model.support.dataset import Dataset

__all__ = ["study"]

_CALIBRATED = 2000
"""Frames of the training split that scales and factors are taken from."""

_THRESHOLDS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0)
"""Of the sweep, in the units of the float network."""

_STEPS = (15, 25)

T = TypeVar("T")


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
    run = Measurements(data, calibration, detail, cache, bar)
    ann = {
        "convolutional": run.measured("float network", _unchanged, lambda done: run.float_accuracy(run.convolutional)),
        "two-layer": run.measured("float network, two layers", _unchanged, lambda done: run.float_accuracy(run.two_layer)),
    }
    factors = _factors(run)
    settings = _settings(factors)
    large = run.measured("large activations", _unchanged, lambda done: {"large": run.large_activations()})["large"]
    sweep = _sweep(run, settings)
    bundled = run.measured("sigma-delta, bundled conversion", _read(SigmaDelta), lambda done: run.sigma_delta(run.bundled, done))
    rates = {
        key: run.measured(f"rate code, {key} input", _read(Rates), partial(run.rates, threshold))
        for key, threshold in (("grey", None), ("1bit", INPUT_THRESHOLD))
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
        onnx_sha256={path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (CONVOLUTIONAL, TWO_LAYER)},
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


def _factors(run: Measurements) -> Factors:
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


def _sweep(run: Measurements, settings: Sequence[_Setting]) -> tuple[SweepPoint, ...]:
    """This method at every threshold."""

    def measure(threshold: float) -> SigmaDelta:
        network = one_threshold(run.convolutional, threshold)
        return run.measured(f"sigma-delta, threshold {threshold:g}", _read(SigmaDelta), partial(run.sigma_delta, network))

    thresholds = sorted({*_THRESHOLDS, *(setting.threshold for setting in settings)})
    return tuple(SweepPoint(threshold=threshold, figures=measure(threshold)) for threshold in thresholds)


def _courses(run: Measurements, settings: Sequence[_Setting]) -> tuple[LabelledCourse, ...]:
    """The answer so far, of each setting."""
    return tuple(
        run.measured(
            f"course, {setting.label}",
            _read(LabelledCourse),
            partial(run.course, setting.label, one_threshold(run.convolutional, setting.threshold)),
            frames=run.detail,
            detail=run.detail,
        )
        for setting in settings
    )


def _whys(run: Measurements, settings: Sequence[_Setting]) -> dict[str, Why]:
    """Where accuracy goes, of each setting in which neurons fire, and of the bundled network."""
    networks = {
        setting.label: one_threshold(run.convolutional, setting.threshold) for setting in settings if not setting.large
    }
    networks["bundled conversion, a threshold for each layer"] = run.bundled
    return {
        label: run.measured(f"why, {label}", Why.read, partial(run.why, network), detail=run.detail)
        for label, network in networks.items()
    }


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
