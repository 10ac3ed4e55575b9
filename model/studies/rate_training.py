"""The networks of two rate codes: trained, then run as spikes on held-out training frames, which say how long they run."""

from dataclasses import asdict, replace

import numpy as np
from rich.console import Console

from model.arrays import Bools
from model.network import Shape
from model.studies.balanced_rates import BalancedNetwork
from model.studies.event_classifier import EventClassifier, flat, gabor_filters, histograms, scores
from model.studies.poisson import PoissonNetwork, run_poisson, settled, spike_counts
from model.support.dataset import Dataset
from model.training.balanced_rates import BalancedSettings, train_balanced
from model.training.common import check_dataset, held_out
from model.training.histogram_classifier import ClassifierSettings, train_classifier
from model.training.paper_trained import Trained
from model.training.settings import as_asked

__all__ = ["train_balanced_rates", "train_event_classifier"]

PUBLISHED_LOSS = 0.0004
"""Of accuracy, that Diehl et al. 2015 say: 99.14 % of the float network, 99.1 % of the spiking one."""

PUBLISHED_SPIKES = 19.25
"""A neuron a frame, of the same network."""

_BALANCED_STEPS = 150
"""Within which the spiking network is as accurate as it gets."""

_COUNTED_FRAMES, _COUNTED_STEPS = 250, 1000
"""What tells when the published spikes are reached."""

_FILTER_GAIN = 0.5
_STEPS_TRAINED = 50
_OUTPUT_STEPS = 100
_OUTPUT_SHARES = (0.125, 0.25, 0.5, 1.0, 2.0)
"""Of the threshold, what a step adds on the average to the output neuron that gets most: tried on held-out frames."""

_GAIN_FRAMES = 500


def train_balanced_rates(data: Dataset, seed: int, epochs: int | None, console: Console) -> Trained:
    """Train the network of `model.studies.balanced_rates`, and find both of its times."""
    settings = as_asked(BalancedSettings(), seed, epochs)
    trained = train_balanced(settings, data, say=console.print)
    held = _of(data, held_out(data))
    network = BalancedNetwork(
        **trained.weights, largest=np.array(trained.largest), steps_accurate=1, steps_published=1, seed=seed
    )
    spiking = network.balanced("data", Shape(*data.images.shape[1:]))
    course = run_poisson(spiking, held.images, _BALANCED_STEPS).accuracies(held.labels)
    accurate = settled(course, trained.accuracy_held_out - PUBLISHED_LOSS)
    console.print(f"held out: {trained.accuracy_held_out:.2%} float, {course[accurate - 1]:.2%} after {accurate} steps")
    few = run_poisson(spiking, held.images[:_COUNTED_FRAMES], _COUNTED_STEPS)
    published = int((few.spikes_so_far() / spiking.neurons < PUBLISHED_SPIKES).sum()) + 1
    steps = {"steps_accurate": accurate, "steps_published": min(published, _COUNTED_STEPS)}
    return Trained(
        record={
            **asdict(settings),
            "losses": [round(loss, 5) for loss in trained.losses],
            "frames_held_out": len(held),
            "held_out_accuracy": trained.accuracy_held_out,
            "held_out_accuracy_spiking": float(course[accurate - 1]),
            **steps,
        },
        arrays={**trained.weights, "largest": network.largest, **{k: np.array(v) for k, v in {**steps, "seed": seed}.items()}},
    )


def train_event_classifier(data: Dataset, seed: int, epochs: int | None, console: Console) -> Trained:
    """Train the network of `model.studies.event_classifier`, and find its output gain and its time."""
    check_dataset(data)
    settings = as_asked(ClassifierSettings(), seed, epochs)
    held_mask = held_out(data)
    held, kept = _of(data, held_mask), _of(data, ~held_mask)
    filters = gabor_filters(_FILTER_GAIN)
    console.print(f"counting spikes of {len(kept):,} frames")
    # Another stream than the one that frames are classified with.
    counts = histograms(filters, kept.images, _STEPS_TRAINED, seed + 1)
    weights, losses = train_classifier(settings, counts, kept.labels, 10, say=console.print)
    maps, size = len(filters), data.images.shape[1] - filters.shape[2] + 1
    shaped = weights.reshape(10, size, size, maps).transpose(0, 3, 1, 2).astype(np.float16).astype(np.float32)
    counted = histograms(filters, held.images, _STEPS_TRAINED, seed)
    on_histograms = float((scores(shaped, counted).argmax(axis=1) == held.labels).mean())
    network = EventClassifier(
        filters=filters, weights=shaped, output_gain=1.0, steps_trained=_STEPS_TRAINED, steps=_OUTPUT_STEPS, seed=seed
    )
    network, tried = _with_gain(network, held.limited(_GAIN_FRAMES), console)
    course = run_poisson(network.spiking(Shape(*held.images.shape[1:])), held.images, _OUTPUT_STEPS).accuracies(held.labels)
    steps = settled(course, on_histograms)
    console.print(f"held out: {on_histograms:.2%} on histograms, {course[steps - 1]:.2%} after {steps} steps")
    numbers = {"output_gain": network.output_gain, "steps_trained": _STEPS_TRAINED, "steps": steps}
    return Trained(
        record={
            **asdict(settings),
            "losses": [round(loss, 5) for loss in losses],
            "filter_gain": _FILTER_GAIN,
            "frames_held_out": len(held),
            "held_out_accuracy_on_histograms": on_histograms,
            "held_out_accuracy_by_output_gain": tried,
            "held_out_accuracy_spiking": float(course[steps - 1]),
            **numbers,
        },
        arrays={
            "filters": filters,
            "weights": shaped.astype(np.float16),
            **{name: np.array(value) for name, value in {**numbers, "seed": seed}.items()},
        },
    )


def _with_gain(network: EventClassifier, held: Dataset, console: Console) -> tuple[EventClassifier, dict[str, float]]:
    """The network with the output gain at which it is most accurate in the end; and the accuracy by gain."""
    shape = Shape(*held.images.shape[1:])
    first = PoissonNetwork(input_shape=shape, stages=network.spiking(shape).stages[:1], seed=network.seed)
    counts = spike_counts(first, held.images, network.steps)
    tried: dict[str, float] = {}
    best = network
    strongest = float((counts.astype(np.float32) @ flat(network.weights)).max(axis=1).mean()) / network.steps
    for share in _OUTPUT_SHARES:
        candidate = replace(network, output_gain=share / strongest)
        course = run_poisson(candidate.spiking(shape), held.images, network.steps).accuracies(held.labels)
        if course[-1] > max(tried.values(), default=0.0):
            best = candidate
        tried[f"{candidate.output_gain:.4g}"] = float(course[-1])
        console.print(f"output gain {candidate.output_gain:.4g}: {course[-1]:.2%} of {len(held):,} held-out frames")
    return best, tried


def _of(data: Dataset, mask: Bools) -> Dataset:
    return replace(data, images=data.images[mask], labels=data.labels[mask])
