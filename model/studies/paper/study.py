"""The paper's Table I and Figures 2 to 4, our figures beside the published ones (Yousefzadeh et al. 2019).

The paper's own network, trained as the paper says, is measured with thresholds of 1.0 and 2.0 and its weights as they are; the
rate code of Rueckauer et al. 2017 (`model.studies.rate_coded`) on the same network; and every other method of the table on a
network of its own (`model.studies.paper.peers`). What this project adds, firing when the frame ends and fine-tuning for few
events, stands beside.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from model.studies.one_threshold import one_threshold
from model.studies.paper.first_spikes import MissedLayers, missed
from model.studies.paper.look import Look, look
from model.studies.paper.measurements import (
    BUNDLED,
    CONVOLUTIONAL,
    DEFERRED,
    SPARSE,
    TWO_LAYER,
    Counting,
    SigmaDelta,
    counting,
    sha256,
)
from model.studies.paper.parts import PAPER_THRESHOLDS, Parts, read, unchanged
from model.studies.paper.published import TABLE_ONE
from model.studies.paper.rates import Rates
from model.studies.paper.results import (
    Calibration,
    Ours,
    PaperStudy,
    SweepPoint,
    TableRow,
)
from model.studies.paper.rows import further_rows
from model.support.dataset import Dataset
from model.training.common import held_out

__all__ = ["study"]

_CALIBRATED = 2000
"""Frames of the training split that scales and factors are taken from."""

_HELD_OUT = 2000
"""Frames of the training split, of those that no training saw, that variants and numbers of steps are chosen on."""

_THRESHOLDS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
"""Of the network trained as the paper's."""

_BUNDLED_THRESHOLDS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0)
"""Of the bundled network."""

_CONVOLUTIONAL = "3xConv-2xFC"
"""The network of [12] that the rate code is run on too."""

_REMEDY_ROWS = {_CONVOLUTIONAL: "[12] conv", "2xFC": "[12] fc"}
"""Of the networks of [12] their rows."""

_STEPS = (25, 15)
"""Of the rate code, in the order of the table."""


def study(
    network: Path, data: Dataset, calibration: Dataset, *, detail: int = 1000, cache: Path, bar: Progress | None = None
) -> PaperStudy:
    """Measure everything.

    Parameters
    ----------
    network : Path
        The float network of the paper's own rows, an ONNX file.
    data : Dataset
        Frames to measure on.
    calibration : Dataset
        Frames of which the first ones are those that scales are taken from; none of ``data``'s should be among them.
    detail : int
        Frames, the first ones, whose every spike is looked at one by one.
    cache : Path
        Folder in which results are kept by what they were made of.
    bar : Progress, optional
        Shows progress; plain lines where there is none.

    Raises
    ------
    DataError
        The frames do not have the networks' input shape.
    """
    held = np.flatnonzero(held_out(calibration))[:_HELD_OUT]
    chosen_on = replace(calibration, images=calibration.images[held], labels=calibration.labels[held])
    calibration = replace(calibration, images=calibration.images[:_CALIBRATED], labels=calibration.labels[:_CALIBRATED])
    run = Parts(network, data, calibration, chosen_on, min(detail, len(data)), cache, bar)
    ann = {
        name: run.kept(f"float network {name}", unchanged, partial(run.made.float_accuracy, net), of=path)
        for name, net, path in run.networks
    }
    large = {
        name: run.kept(f"large activations of {name}", unchanged, partial(run.made.large_activations, net), of=path)
        for name, net, path in run.networks[:2]
    }
    thresholds = run.sweep(network.stem, run.made.sgd, network, _THRESHOLDS)
    rates, courses = run.rates(), run.courses()
    direct, binary, unreset_found = run.claims(large[network.stem])
    factors = run.factors()
    scaled = {*_BUNDLED_THRESHOLDS, 1 / factors.accumulations, 2 / factors.accumulations, 1 / factors.spikes}
    bundled_thresholds = run.sweep("mnist-paper", run.made.convolutional, CONVOLUTIONAL, sorted(scaled))
    bundled = run.kept("bundled conversion", read(SigmaDelta), partial(run.made.sigma_delta, run.made.bundled), of=BUNDLED)
    sparse = run.kept("fine-tuned network", read(SigmaDelta), partial(run.made.sigma_delta, run.made.sparse), of=SPARSE)
    deferred, first_spikes = run.deferred(), run.first_spikes()
    remedies = run.remedies()
    by_shape = run.remedy_rows(remedies)
    found = {**run.peers(), "[9]": run.rate_row(by_shape[_CONVOLUTIONAL])}
    found |= {row: by_shape[shape] for shape, row in _REMEDY_ROWS.items()}
    return PaperStudy(
        network=network.stem,
        dataset=data.name,
        frames=len(data),
        detail_frames=run.detail,
        calibration=Calibration(dataset=calibration.name, frames=len(calibration), held_out_frames=len(chosen_on)),
        sha256={path.name: sha256(path) for path in (network, CONVOLUTIONAL, BUNDLED, SPARSE, DEFERRED, TWO_LAYER)},
        table_one=_table_one(run, found, ann[network.stem]["grey"], thresholds, rates["grey"]),
        remedies=remedies,
        counting=counting(run.made.sgd),
        accuracy_ann=ann,
        large_activations=large,
        factors=factors,
        rows=further_rows(network.stem, ann, bundled_thresholds, factors, bundled, sparse, deferred, rates, first_spikes, _STEPS),
        thresholds=thresholds,
        bundled_thresholds=bundled_thresholds,
        direct=direct,
        binary=binary,
        unreset=unreset_found,
        deferred=deferred,
        sparse=sparse,
        bundled=bundled,
        rates=rates,
        first_spikes=first_spikes,
        courses=courses,
        look=run.kept(
            "the first frame",
            Look.read,
            lambda done: look(one_threshold(run.made.sgd, 1.0), data.images[0], int(data.labels[0])),
            source="paper.look",
            frames=1,
        ),
        why=run.whys(),
        why_first_spike=run.kept(
            "why, first spike",
            MissedLayers.read,
            lambda done: missed(run.made.convolutional, data.images[: run.detail], calibration.images),
            of=CONVOLUTIONAL,
            source="paper.first_spikes",
            frames=run.detail,
        ).layers,
    )


def _table_one(
    run: Parts, others: Mapping[str, Ours], grey: float, thresholds: Sequence[SweepPoint], rates: Rates
) -> tuple[TableRow, ...]:
    """The paper's rows, each with ours; those of other methods are there."""
    sizes = counting(run.made.sgd)
    common: dict[str, Any] = {
        "network": run.network.name, "accuracy_ann": grey, "neurons": sizes.neurons_with_input, "synapses": sizes.weights,
    }  # fmt: skip
    found = dict(others)
    by_threshold = {point.threshold: point.figures for point in thresholds}
    for at in PAPER_THRESHOLDS:
        figures = by_threshold[at]
        found[f"thr {at:.1f}"] = Ours(
            accuracy_qann=figures.accuracy_quantized,
            accuracy_snn=figures.accuracy,
            spikes_per_neuron=_with_pixels(figures.spikes_per_neuron, sizes, figures.input_spikes_per_frame),
            accumulations_per_frame=figures.accumulations_per_frame,
            **common,
        )
    for steps in _STEPS:
        found[f"[9] {steps}"] = Ours(
            accuracy_snn=rates.accuracy[steps - 1],
            # Grey pixels are currents.
            spikes_per_neuron=_with_pixels(rates.spikes_per_neuron[steps - 1], sizes, 0),
            accumulations_per_frame=rates.accumulations_per_frame[steps - 1],
            **common,
        )
    return tuple(TableRow(published=row, ours=found.get(row.key)) for row in TABLE_ONE)


def _with_pixels(spikes_per_neuron: float, sizes: Counting, pixel_spikes: float) -> float:
    """Spikes of pixels and neurons by their number, of those of the neurons alone."""
    return round((spikes_per_neuron * sizes.neurons + pixel_spikes) / sizes.neurons_with_input, 5)
