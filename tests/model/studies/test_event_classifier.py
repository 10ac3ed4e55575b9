"""The event-driven classifier: its filters, its histograms, and the classifier as spikes."""

import dataclasses

import numpy as np
import pytest

from model.importers.float_network import ConversionError
from model.network import Shape
from model.studies.event_classifier import (
    ClassifierFigures,
    EventClassifier,
    flat,
    gabor_filters,
    histograms,
    measure_classifier,
    scores,
)
from model.studies.poisson import PoissonNetwork, convolution, run_poisson, spike_counts
from model.support.dataset import Dataset


def small():
    rng = np.random.default_rng(2)
    filters = rng.normal(0, 0.3, (3, 1, 3, 3)).astype(np.float32)
    weights = rng.normal(0, 0.3, (4, 3, 4, 5)).astype(np.float32)
    images = rng.integers(0, 256, (5, 6, 7, 1), dtype=np.uint8)
    network = EventClassifier(filters=filters, weights=weights, output_gain=0.5, steps_trained=20, steps=30, seed=3)
    return network, images


def test_filters_are_of_three_scales_and_six_orientations():
    filters = gabor_filters(0.75)
    assert filters.shape == (18, 1, 7, 7)
    assert np.abs(filters.sum(axis=(1, 2, 3))).max() < 1e-6
    assert np.maximum(filters, 0).sum(axis=(1, 2, 3)) == pytest.approx([0.75] * 18)
    by_scale = filters.reshape(3, 6, 7, 7)
    for scale in by_scale:
        # The fourth is turned by 90 degrees; the first looks for a vertical line.
        assert np.allclose(scale[3], scale[0].T, atol=1e-6)
        assert scale[0][:, 3].sum() > 5 * abs(scale[0][3, :].sum())
    # 30 degrees away: neither the same nor a mirror image of itself.
    assert not np.allclose(by_scale[0, 1], by_scale[0, 1].T, atol=0.01)
    assert len({filter_.tobytes() for filter_ in filters}) == 18


def test_histograms_are_counts_divided_by_the_largest_of_the_frame(monkeypatch):
    network, images = small()
    spiking = PoissonNetwork(input_shape=Shape(6, 7, 1), stages=(convolution(network.filters, Shape(6, 7, 1)),), seed=8)
    images[4] = 0
    counts = spike_counts(spiking, images, 20).astype(float)
    found = histograms(network.filters, images, 20, 8)
    assert found[:4].tolist() == (255 * counts[:4] / counts[:4].max(axis=1, keepdims=True)).round().tolist()
    assert found[4].tolist() == [0] * 60
    monkeypatch.setattr("model.studies.event_classifier._AT_ONCE", 2)
    assert histograms(network.filters, images, 20, 8).tolist() == found.tolist()


def test_spiking_classifier_adds_what_the_classifier_of_histograms_adds():
    network, images = small()
    counts = histograms(network.filters, images, 20, 3)
    by_hand = np.zeros((5, 4))
    for frame, c, m, y, x in np.ndindex(5, 4, 3, 4, 5):
        by_hand[frame, c] += network.weights[c, m, y, x] * counts[frame, (y * 5 + x) * 3 + m] / 255
    assert np.abs(scores(network.weights, counts) - by_hand).max() < 1e-4
    assert np.abs(counts / 255 @ flat(network.weights) - by_hand).max() < 1e-4
    # An output neuron with a small gain fires as often as its input, and that alone, says.
    few = dataclasses.replace(network, output_gain=1 / 64)
    shape = Shape(6, 7, 1)
    first = PoissonNetwork(input_shape=shape, stages=few.spiking(shape).stages[:1], seed=3)
    wanted = spike_counts(first, images, 4000) @ flat(network.weights) / 64
    spikes = spike_counts(few.spiking(shape), images, 4000)
    assert wanted.max() > 30
    assert np.abs(spikes - np.maximum(wanted, 0)).max() < 0.05 * wanted.max() + 2


def test_published_network_has_so_many_neurons_and_synapses():
    network = EventClassifier(
        filters=gabor_filters(1), weights=np.ones((10, 18, 22, 22), np.float32), output_gain=1, steps_trained=1, steps=1, seed=1
    )
    spiking = network.spiking(Shape(28, 28, 1))
    assert (spiking.neurons, spiking.synapses) == (9_506, 88_002)


def test_measurement_is_of_every_step():
    network, images = small()
    data = Dataset("drawn", images, np.array([0, 1, 2, 3, 0]))
    seen = []
    found = measure_classifier(network, data, seen.append)
    course = run_poisson(network.spiking(Shape(6, 7, 1)), images, 30)
    assert seen == [5]
    assert found.accuracy == course.accuracies(data.labels).round(6).tolist()
    answers = scores(network.weights, histograms(network.filters, images, 20, 3)).argmax(axis=1)
    assert found.accuracy_float == np.mean(answers == data.labels)
    shape = Shape(6, 7, 1)
    first = PoissonNetwork(input_shape=shape, stages=network.spiking(shape).stages[:1], seed=3)
    by_counts = (spike_counts(first, images, 30) @ flat(network.weights)).argmax(axis=1)
    assert found.accuracy_counted == np.mean(by_counts == data.labels)
    assert found.spikes_per_neuron[-1] == round(course.spikes.sum() / 5 / (42 + 60 + 4), 4)
    assert found.accumulations_per_frame[-1] == round(course.accumulations.sum() / 5, 1)
    assert ClassifierFigures(**dataclasses.asdict(found)) == found


def test_file_gives_the_network_back(tmp_path):
    network, _ = small()
    arrays = {field.name: np.asarray(getattr(network, field.name)) for field in dataclasses.fields(network)}
    np.savez(tmp_path / "network.npz", **arrays)
    read = EventClassifier.load(tmp_path / "network.npz")
    assert {name: np.asarray(getattr(read, name)).tolist() for name in arrays} == {k: v.tolist() for k, v in arrays.items()}


def test_other_files_are_refused(tmp_path):
    network, _ = small()
    arrays = {field.name: np.asarray(getattr(network, field.name)) for field in dataclasses.fields(network)}
    names = "filters, output_gain, seed, steps, steps_trained, weights"
    with pytest.raises(ConversionError, match=rf"^f: arrays must be {names}, not seed$"):
        EventClassifier.of({"seed": arrays["seed"]}, "f")
    with pytest.raises(ConversionError, match=r"^f: weights must have 4 axes, not 1$"):
        EventClassifier.of({**arrays, "weights": np.ones(10)}, "f")
    (tmp_path / "f.npz").write_bytes(b"none")
    with pytest.raises(ConversionError, match=r"f\.npz: must be a whole archive of arrays: its end is missing$"):
        EventClassifier.load(tmp_path / "f.npz")
