"""What the study of the paper measures with, against what defines it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.conversion.quantized import quantized_counts
from model.importers.onnx import import_onnx
from model.network import Network
from model.studies.one_threshold import one_threshold
from model.studies.paper.measurements import BUNDLED, CONVOLUTIONAL, counting, large, quantized_outputs, share
from model.studies.random_network import drawn
from model.support.datasets import load
from model.support.errors import BadInputError


def test_quantized_outputs_are_those_in_double_precision():
    images = load("digits5k", "test").images[:70]
    for network in (Network.load(BUNDLED), one_threshold(import_onnx(CONVOLUTIONAL), 0.15)):
        assert (quantized_outputs(network, images) == quantized_counts(network, images)).all()


def test_rounding_to_the_nearest_threshold_is_as_of_half_the_error():
    """Of one layer: no count is further than half a threshold from its activation, and ties go away from zero."""
    network = drawn("1x3x1: 4F", (8, 16, 10), threshold_log2=4)
    weights = np.array([[0, 0, 0], [8, 0, 0], [-8, -16, 0], [7, 16, 16]])
    network = replace(network, layers=(replace(network.layers[0], weights=weights, bias=np.zeros(4, int)),), input_threshold=51)
    images = np.full((1, 1, 3, 1), 255, np.uint8)
    assert quantized_outputs(network, images).tolist() == [[0, 0, -1, 2]]
    assert quantized_outputs(network, images, nearest=True).tolist() == [[0, 1, -2, 2]]


def test_sums_that_single_precision_does_not_hold_are_refused():
    network = drawn("8x8x1: 200F 3F", (16, 24, 16), threshold_log2=0)
    images = np.full((2, 8, 8, 1), 255, np.uint8)
    with pytest.raises(BadInputError) as caught:
        quantized_outputs(network, images)
    assert str(caught.value) == "layer 'f1': sums must be less than 16777216 to be exact in single precision"


def test_sizes_as_the_paper_counts_them():
    found = counting(import_onnx(Path(CONVOLUTIONAL)))
    assert (found.neurons, found.neurons_with_input, found.neurons_with_input_and_pools) == (14378, 15162, 18690)
    assert (found.weights, found.weights_and_biases, found.weights_of_linear_layers) == (106512, 106802, 102912)
    assert found.connections == 1_043_712


def test_shares_and_large_values():
    assert share(np.array([1, 2, 3, 4]), np.array([1, 2, 0, 0])) == 0.5
    assert large(np.zeros(0)) == 0
    assert large(np.arange(101.0)) == 99
