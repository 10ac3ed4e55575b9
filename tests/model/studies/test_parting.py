"""The quantized network from a layer on."""

import numpy as np
import pytest

from model.conversion.quantized import counts_of_layers, quantized_counts
from model.network import Neurons
from model.studies.parting import quantized_after
from model.studies.random_network import drawn


@pytest.fixture(scope="module")
def network():
    return drawn("8x8x1: 4C3p P2 6C3 12F 5F", bits=(6, 14, 8), threshold_log2=5)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(4).integers(0, 256, (9, 8, 8, 1), dtype=np.uint8)


def test_after_a_layer_that_counted_as_the_quantized_network_comes_its_answer(network, images):
    (quantized,) = counts_of_layers(network, images)
    expected = quantized_counts(network, images).reshape(len(images), -1)
    assert len({tuple(counts) for counts in expected.tolist()}) > 1
    for layer in network.layers:
        if isinstance(layer, Neurons):
            assert np.array_equal(quantized_after(network, {layer.name: quantized[layer.name]}), expected)


def test_after_a_layer_that_counted_otherwise_comes_another(network, images):
    (quantized,) = counts_of_layers(network, images)
    name = network.layers[-2].name
    silent = quantized_after(network, {name: np.zeros_like(quantized[name])})
    # Without input all frames are alike, and the last layer's biases are all that is left.
    assert (silent == silent[0]).all()
    assert not np.array_equal(silent, quantized_counts(network, images).reshape(len(images), -1))
    # What a layer before it did does not count.
    first = network.layers[0].name
    both = quantized_after(network, {first: quantized[first], name: np.zeros_like(quantized[name])})
    assert np.array_equal(both, silent)
