"""What the answer is worth when events come in another order, get lost or multiply, and when weight bits flip.

The machine promises every event, in order, and weights as they were written. This study breaks each promise on purpose and by a
known amount. Nothing is retrained, nothing corrected: what is found is what the conversion itself tolerates.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from rich.progress import Progress

from model.arrays import Ints
from model.conversion.quantized import quantized_counts
from model.encode import encode
from model.engine.engine import FrameSummaries, run_frames
from model.events import Events
from model.golden import answers
from model.network import INPUT, Network, Neurons
from model.studies.disturb import ORDERS
from model.studies.parting import FINER, FINER_ORDERS, parting, quantized_after, with_finer_thresholds
from model.studies.robustness_cases import Case, cases_of
from model.studies.robustness_results import Figures, Parting, Robustness, Row
from model.support.dataset import Dataset
from model.support.frames import suited

__all__ = ["study"]

_ALSO_QUANTIZED = ("events", "weights", "weights by layer", "weights by bit")
"""The tables whose disturbances mean something to the quantized network too."""

_BATCH = 250
"""Frames at once in the quantized network: what the memory in use grows with."""


def study(
    network: Network, data: Dataset, *, seed: int = 1, trials: int = 3, detail: int = 1000, bar: Progress | None = None
) -> Robustness:
    """Run ``network`` on all frames of ``data`` under every disturbance.

    Parameters
    ----------
    network : Network
        The network to disturb.
    data : Dataset
        The frames to run.
    seed : int
        Seed of everything random.
    trials : int
        Runs of each random disturbance, each with numbers of its own.
    detail : int
        Frames, the first ones, that the quantized network runs too: in each order of events, and in the first trial of each
        disturbance of events or weights.
    bar : Progress, optional
        Shows progress.

    Returns
    -------
    Robustness
        What was measured.

    Raises
    ------
    DataError
        The frames do not suit the network.
    """
    network.refuse_branches("a study of robustness")
    data = suited(network, data)
    detail = min(detail, len(data))
    encoded = [encode(network, frame) for frame in data.images]
    cases = list(cases_of(network, data.images, encoded))
    finer = {str(level): with_finer_thresholds(network, level) for level in FINER}
    runs = 1 + sum(len(case.seeds(seed, trials)) or 1 for case in cases)
    in_detail = len(ORDERS) + len(FINER_ORDERS) * sum(each is not None for each in finer.values())
    total = runs * len(data) + in_detail * detail
    task = bar.add_task(f"{network.name}, {runs} runs of {len(data):,} frames", total=total) if bar else None

    def advance(frames: int) -> None:
        if bar and task is not None:
            bar.advance(task, frames)

    plain = run_frames(network, data.images, done=advance)
    tables: dict[str, list[Row]] = {}
    for case in cases:
        row = _row(case, network, data, plain, seeds=case.seeds(seed, trials), otherwise=[seed], detail=detail, done=advance)
        tables.setdefault(case.table, []).append(row)
    detailed = replace(data, images=data.images[:detail], labels=data.labels[:detail])
    return Robustness(
        network=network.name,
        network_hash=network.content_hash,
        dataset=data.name,
        frames=len(data),
        seed=seed,
        trials=trials,
        detail=detail,
        accuracy_quantized=float((answers(quantized_counts(network, data.images)) == data.labels).mean()),
        plain=_figures(network, plain, [(network, plain)], data.labels),
        tables={name: tuple(rows) for name, rows in tables.items()},
        parting=Parting(
            frames=detail,
            orders=parting(network, detailed, encoded[:detail], ORDERS, seed, advance),
            finer={
                level: parting(each, detailed, encoded[:detail], FINER_ORDERS, seed, advance)
                for level, each in finer.items()
                if each is not None
            },
        ),
    )


def _row(
    case: Case,
    network: Network,
    data: Dataset,
    plain: FrameSummaries,
    *,
    seeds: list[list[int]],
    otherwise: list[int],
    detail: int,
    done: Callable[[int], None],
) -> Row:
    """Run one line's trials; where nothing is random, the one that there is, with a generator made from ``otherwise``."""
    tried = []
    accuracy = accuracy_quantized = None
    for each in seeds or [otherwise]:
        disturbed, frames = case.make(np.random.default_rng(each))
        tried.append((disturbed, run_frames(disturbed, frames, done=done)))
        if accuracy is None and case.table in _ALSO_QUANTIZED:
            labels = data.labels[:detail]
            accuracy = float((answers(tried[0][1].counts[:detail]) == labels).mean())
            accuracy_quantized = _quantized_accuracy(disturbed, frames[:detail], labels)
    return Row(
        name=case.name,
        level=case.level,
        figures=_figures(network, plain, tried, data.labels),
        detail_accuracy=accuracy,
        detail_accuracy_quantized=accuracy_quantized,
        seeds=seeds,
        change=case.change,
        link=case.link,
        bit=case.bit,
    )


def _figures(
    network: Network, plain: FrameSummaries, tried: Sequence[tuple[Network, FrameSummaries]], labels: Ints
) -> Figures:
    """What is told of the trials of one disturbance; layers that were not run again did what they do undisturbed."""
    neurons = np.array([isinstance(layer, Neurons) for layer in network.layers])
    usual = answers(plain.counts)
    right, right_potential, changed, flips = [], [], [], []
    events, fired, operations, saturated = [], [], [], []
    for disturbed, found in tried:
        by_count = answers(found.counts)
        right.append(float((by_count == labels).mean()))
        right_potential.append(float((answers(found.potentials) == labels).mean()))
        changed.append(float((by_count != usual).mean()))
        flips.append(_bits_flipped(network, disturbed))
        whole = [a.copy() for a in (plain.spikes, plain.operations, plain.saturated_events)]
        index_of = {layer.name: index for index, layer in enumerate(network.layers)}
        for column, layer in enumerate(disturbed.layers):
            for total, own in zip(whole, (found.spikes, found.operations, found.saturated_events), strict=True):
                total[:, index_of[layer.name]] = own[:, column]
        events.append(float(found.input_events.mean()))
        fired.append(float(whole[0][:, neurons].sum(axis=1).mean() / network.neurons))
        operations.append(float(whole[1].sum(axis=1).mean()))
        saturated.append(float(whole[2].sum(axis=1).mean()))
    return Figures(
        accuracy=float(np.mean(right)),
        accuracy_least=min(right),
        accuracy_greatest=max(right),
        accuracy_potential=float(np.mean(right_potential)),
        answers_changed=float(np.mean(changed)),
        events_per_frame=round(float(np.mean(events)), 2),
        spikes_per_neuron=round(float(np.mean(fired)), 4),
        accumulations_per_frame=round(float(np.mean(operations))),
        saturated_events_per_frame=round(float(np.mean(saturated)), 4),
        bits_flipped=round(float(np.mean(flips)), 1),
    )


def _bits_flipped(network: Network, disturbed: Network) -> int:
    """Weight bits in which the disturbed network, or the part of it that was run, differs."""
    found = 0
    for layer in disturbed.layers:
        usual = network.layer(layer.name)
        if isinstance(layer, Neurons) and isinstance(usual, Neurons):
            found += int(np.bitwise_count((layer.weights ^ usual.weights) & ((1 << layer.weight_bits) - 1)).sum())
    return found


def _quantized_accuracy(network: Network, frames: Sequence[Events], labels: Ints) -> float:
    """Accuracy of the quantized network on the sums of events at each address, whatever their order."""
    right = 0
    for at in range(0, len(labels), _BATCH):
        size = network.input_shape.size
        sums = [np.bincount(events["address"], events["sign"], minlength=size) for events in frames[at : at + _BATCH]]
        counts = np.array(sums).astype(np.int64).reshape(-1, *network.input_shape)
        right += int((answers(quantized_after(network, {INPUT: counts})) == labels[at : at + _BATCH]).sum())
    return right / len(labels)
