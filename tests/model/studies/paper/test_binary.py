"""Hidden neurons that fire once or not: what a spike is worth, and the network that is made of it."""

import numpy as np
import pytest

from model.conversion.quantized import counts_of_layers
from model.golden import answers
from model.importers.onnx import import_onnx
from model.network import Neurons
from model.studies.one_threshold import INPUT_THRESHOLD
from model.studies.paper import binary as module
from model.studies.paper.binary import binary, binary_network, spike_worths
from model.studies.paper.measurements import CONVOLUTIONAL, Measurements, quantized_outputs, share
from model.support.datasets import load

THRESHOLDS = [0.4, 0.6, 0.5]


@pytest.fixture(scope="module")
def floats():
    return import_onnx(CONVOLUTIONAL)


@pytest.fixture(scope="module")
def data():
    return load("digits5k", "test").limited(60)


def test_a_spike_is_worth_the_mean_of_the_activations_that_fire(floats, data):
    found = spike_worths(floats, THRESHOLDS, data.images)
    pixels = (data.images > INPUT_THRESHOLD).astype(np.float32)
    names = [layer.name for layer in floats.layers]
    # The next layer is given the maximum of each window.
    for index, name in enumerate(("conv1", "conv2")):
        values = floats.run(pixels, [floats.layers[names.index(name)].tensor])[0]
        frames, channels, height, width = values.shape
        pooled = values.reshape(frames, channels, height // 2, 2, width // 2, 2).max(axis=(3, 5))
        assert found[index] == pytest.approx(pooled[pooled >= THRESHOLDS[index]].mean(), rel=1e-5)
    values = floats.run(pixels, [floats.layers[names.index("fc1")].tensor])[0]
    assert found[2] == pytest.approx(values[values >= 0.5].mean(), rel=1e-5)
    assert spike_worths(floats, [1e6] * 3, data.images) == [1e6] * 3


def test_hidden_neurons_fire_once_or_not(floats, data):
    network = binary_network(floats, THRESHOLDS, [2 * at for at in THRESHOLDS])
    for batch in counts_of_layers(network, data.images):
        for layer in network.layers:
            if isinstance(layer, Neurons) and layer is not network.output:
                assert set(np.unique(batch[layer.name])) == {0, 1}
    plain = binary_network(floats, THRESHOLDS, THRESHOLDS)
    by_name = {layer.name: layer for layer in plain.layers}
    for layer in network.layers:
        if isinstance(layer, Neurons):
            # A spike is worth twice as much to every layer but the first, whose input is of pixels.
            times = 1 if layer.name == "conv1" else 2
            weights = by_name[layer.name].weights / by_name[layer.name].theta * times
            step = 1.01 / min(layer.theta, by_name[layer.name].theta / times)
            assert np.abs(layer.weights / layer.theta - weights).max() <= step


def test_worths_are_what_makes_it_answer(floats, data, monkeypatch):
    monkeypatch.setattr(module, "_SHARES", (0.3, 0.4))
    training = load("digits5k", "train").limited(100)
    made = Measurements.__new__(Measurements)
    made.data, made.calibration, made.sgd = data, training, floats
    large = made.large_activations(floats, lambda frames: None)
    found = binary(made, large, lambda frames: None)
    assert found.share_of_large in (0.3, 0.4)
    assert found.accuracy > 0.75
    assert found.accuracy > found.accuracy_of_threshold
    assert all(worth > 1 for worth in found.worths)
    assert found.accuracy_of_one_answer == np.bincount(data.labels).max() / len(data)
    thresholds = [found.share_of_large * value for value in list(large.values())[:-1]]
    network = binary_network(floats, thresholds, spike_worths(floats, thresholds, training.images))
    assert found.accuracy == share(answers(quantized_outputs(network, data.images)), data.labels)
