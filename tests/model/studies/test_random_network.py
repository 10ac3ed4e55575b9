"""Networks drawn at random: what the line says is what is there, and the same line draws the same network."""

import numpy as np
import pytest

from model.network import INPUT, Convolution, Linear, MaxPool, Neurons, Padding
from model.studies.random_network import drawn
from model.support.errors import BadInputError


def test_layers_are_those_of_the_line():
    network = drawn("16x12x2: 8C5p P2 4C3 10F", bits=(6, 12, 7))
    assert tuple(network.input_shape) == (16, 12, 2)
    assert [(type(layer), layer.name, layer.source) for layer in network.layers] == [
        (Convolution, "c0", INPUT),
        (MaxPool, "p1", "c0"),
        (Convolution, "c2", "p1"),
        (Linear, "f3", "c2"),
    ]
    assert [tuple(output) for _, _, output in network.walk()] == [(16, 12, 8), (8, 6, 8), (6, 4, 4), (1, 1, 10)]
    first, _, second, last = network.layers
    assert (first.padding, second.padding) == (Padding(2, 2, 2, 2), Padding(0, 0, 0, 0))
    assert (first.weights.shape, second.weights.shape, last.weights.shape) == ((8, 2, 5, 5), (4, 8, 3, 3), (10, 96))
    for layer in network.layers:
        if isinstance(layer, Neurons):
            assert (layer.weight_bits, layer.potential_bits, layer.count_bits) == (6, 12, 7)
            # Twice the greatest weight of 6 bits, and all weights within them.
            assert layer.theta == 64
            assert np.abs(layer.weights).max() <= 31
    assert (first.relu, second.relu, last.relu) == (True, True, False)


def test_a_line_draws_the_same_network_and_another_another():
    assert drawn("4x4x1: 6F 3F").to_bytes() == drawn("4x4x1: 6F 3F").to_bytes()
    assert drawn("4x4x1: 6F 3F").to_bytes() != drawn("4x4x1: 6F 4F").to_bytes()


def test_threshold_is_at_most_a_quarter_of_the_potentials():
    network = drawn("4x4x1: 6F 3F", bits=(8, 14, 8), threshold_log2=20)
    assert [layer.threshold_log2 for layer in network.layers] == [12, 12]
    network = drawn("4x4x1: 6F 3F", bits=(8, 14, 8), threshold_log2=5)
    assert [layer.threshold_log2 for layer in network.layers] == [5, 5]


@pytest.mark.parametrize("word", ["8X5", "C5q", "10f", ""])
def test_a_layer_that_is_written_otherwise(word):
    with pytest.raises(BadInputError) as caught:
        drawn(f"4x4x1: {word or '8-C5'}")
    assert str(caught.value) == f"layer must be like 8C5, 8C5p, P2 or 10F, not {word or '8-C5'!r}"
