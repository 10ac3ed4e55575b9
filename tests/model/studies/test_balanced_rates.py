"""Weights balanced by data and by model, and what is measured of the network."""

import dataclasses

import numpy as np
import pytest

from model.importers.float_network import ConversionError
from model.network import Shape
from model.studies.balanced_rates import BalancedFigures, BalancedNetwork, float_scores, measure_balanced
from model.studies.poisson import run_poisson
from model.support.dataset import Dataset


def slow_float(weights, image):
    """Scores of a frame; and the largest activation of each layer."""
    values, largest = image / 255, []
    for index, layer in enumerate(weights):
        if index:
            height, width, channels = values.shape
            values = values.reshape(height // 2, 2, width // 2, 2, channels).mean(axis=(1, 3))
        outputs, _, tall, wide = layer.shape
        sums = np.zeros((values.shape[0] - tall + 1, values.shape[1] - wide + 1, outputs))
        for y, x, o in np.ndindex(*sums.shape):
            sums[y, x, o] = (values[y : y + tall, x : x + wide].transpose(2, 0, 1) * layer[o]).sum()
        largest.append(sums.max())
        values = np.maximum(sums, 0) if index < len(weights) - 1 else sums
    return values.reshape(-1), largest


def small(**changes):
    """Frames of 10 x 10, ten classes; largest activations are those of the frames."""
    rng = np.random.default_rng(5)
    shapes = ((2, 1, 3, 3), (3, 2, 3, 3), (10, 3, 1, 1))
    weights = [rng.normal(mean, 0.4, shape).astype(np.float32) for mean, shape in zip((0.1, 0.2, 0.2), shapes, strict=True)]
    images = rng.integers(0, 256, (6, 10, 10, 1), dtype=np.uint8)
    slow = [slow_float(weights, image) for image in images]
    network = BalancedNetwork(
        conv1=weights[0],
        conv2=weights[1],
        fc=weights[2],
        largest=np.max([largest for _, largest in slow], axis=0),
        steps_accurate=60,
        steps_published=90,
        seed=1,
    )
    return dataclasses.replace(network, **changes), images, np.array([scores for scores, _ in slow])


def test_float_network_is_what_a_slow_reading_of_it_is():
    network, images, scores = small()
    assert np.abs(float_scores(network.weights, images) - scores).max() < 1e-5


def test_by_data_the_largest_activation_of_each_layer_becomes_the_threshold():
    network, images, _ = small()
    spiking = network.balanced("data", Shape(10, 10, 1))
    layers = [stage for stage in spiking.stages if not stage.pools]
    # What Stage keeps is mirrored.
    weights = [stage.weights[:, :, ::-1].transpose(3, 0, 1, 2) for stage in layers]
    largest = np.max([slow_float(weights, image)[1] for image in images], axis=0)
    assert (network.largest > [layer.max() for layer in network.weights]).all()
    assert largest == pytest.approx([1, 1, 1], abs=1e-5)
    # A weight that is larger than every activation must be no more than the threshold either.
    few = dataclasses.replace(network, largest=network.largest / 1e6).balanced("data", Shape(10, 10, 1))
    assert few.stages[0].weights.max() == pytest.approx(1)


def test_by_model_the_largest_sum_of_positive_weights_becomes_the_threshold():
    network, images, _ = small()
    spiking = network.balanced("model", Shape(10, 10, 1))
    for stage in spiking.stages:
        if not stage.pools:
            assert np.maximum(stage.weights, 0).sum(axis=(0, 1, 2)).max() == pytest.approx(1)
    assert [stage.pools for stage in spiking.stages] == [False, True, False, True, False]
    # Slower than by data, which is why the other rule is there.
    by_data = run_poisson(network.balanced("data", Shape(10, 10, 1)), images, 100).spikes[:, -1].sum()
    assert run_poisson(spiking, images, 100).spikes[:, -1].sum() < by_data


def test_spikes_come_to_the_answer_of_the_float_network():
    network, images, scores = small()
    found = run_poisson(network.balanced("data", Shape(10, 10, 1)), images, 3000)
    assert found.answers[:, -1].tolist() == scores.argmax(axis=1).tolist()


def test_published_network_has_so_many_neurons_and_synapses():
    network, _, _ = small(
        conv1=np.ones((12, 1, 5, 5), np.float32),
        conv2=np.ones((64, 12, 5, 5), np.float32),
        fc=np.ones((10, 64, 4, 4), np.float32),
    )
    spiking = network.balanced("model", Shape(28, 28, 1))
    assert (spiking.neurons, spiking.neurons_without_pools, spiking.synapses) == (14_554, 11_802, 29_740)


def test_measurement_is_of_every_step():
    network, images, scores = small()
    right = scores.argmax(axis=1)
    data = Dataset("drawn", images, np.where(np.arange(6) < 4, right, (right + 1) % 10).astype(np.int64))
    seen = []
    found = measure_balanced(network, data, seen.append)
    course = run_poisson(network.balanced("data", Shape(10, 10, 1)), images, 90)
    assert seen == [6]
    assert found.accuracy_float == 4 / 6
    assert found.accuracy == course.accuracies(data.labels).round(6).tolist()
    assert found.spikes_per_neuron[89] == round(course.spikes.sum() / 6 / found.neurons, 4)
    assert found.accumulations_per_frame[59] == round(course.accumulations[:60].sum() / 6, 1)
    assert (found.frames, found.steps_accurate, found.steps_published) == (6, 60, 90)
    assert BalancedFigures(**dataclasses.asdict(found)) == found
    assert measure_balanced(network, data) == found


def test_file_gives_the_network_back(tmp_path):
    network, _, _ = small()
    path = tmp_path / "network.npz"
    arrays = {field.name: np.asarray(getattr(network, field.name)) for field in dataclasses.fields(network)}
    np.savez(path, **arrays)
    read = BalancedNetwork.load(path)
    assert {name: np.asarray(getattr(read, name)).tolist() for name in arrays} == {k: v.tolist() for k, v in arrays.items()}


def test_other_files_are_refused(tmp_path):
    network, _, _ = small()
    arrays = {field.name: np.asarray(getattr(network, field.name)) for field in dataclasses.fields(network)}
    names = "conv1, conv2, fc, largest, seed, steps_accurate, steps_published"
    with pytest.raises(ConversionError, match=rf"^f: arrays must be {names}, not conv1$"):
        BalancedNetwork.of({"conv1": arrays["conv1"]}, "f")
    with pytest.raises(ConversionError, match=r"^f: fc must have 4 axes, not 2$"):
        BalancedNetwork.of({**arrays, "fc": np.ones((10, 3))}, "f")
    with pytest.raises(ConversionError, match=r"^f: largest must be 3 numbers greater than 0, not \[1\.0, 0\.0, 1\.0\]$"):
        BalancedNetwork.of({**arrays, "largest": np.array([1, 0, 1])}, "f")
    with pytest.raises(ValueError, match=r"^by must be data or model, not 'hand'$"):
        network.balanced("hand", Shape(10, 10, 1))
    (tmp_path / "f.npz").write_bytes(b"none")
    with pytest.raises(ConversionError, match=r"f\.npz: must be a whole archive of arrays: its end is missing$"):
        BalancedNetwork.load(tmp_path / "f.npz")
