"""Weights rounded together lose less of their sums than rounded one by one."""

import numpy as np

from model.conversion.rounded_weights import moments_of, rounded_together
from model.network import Convolution, Linear, Padding, Shape
from model.rest import weighted_sums


def test_sums_lose_less_and_each_weight_stays_next_to_what_it_was():
    rng = np.random.default_rng(0)
    # Counts that go together, as those of neighbouring pixels do.
    counts = np.rint(np.abs(rng.normal(0, 20, (300, 4)) @ rng.normal(0, 1, (4, 40)) + rng.normal(0, 3, (300, 40))))
    weights = rng.normal(0, 30, (5, 40))
    whole = rounded_together(weights, counts.T @ counts)
    assert (whole == np.rint(whole)).all() and (np.abs(whole - weights) < 1).all()
    lost, plain = (np.square(counts @ (rounded - weights).T).mean() for rounded in (whole, np.rint(weights)))
    assert lost < plain / 4


def test_whole_weights_and_counts_that_never_fire_change_nothing():
    weights = np.array([[1.0, -2.0, 3.0], [0.4, 0.6, -0.6]])
    assert (rounded_together(weights, np.zeros((3, 3))) == np.rint(weights)).all()
    counts = np.random.default_rng(1).integers(0, 9, (50, 3)).astype(float)
    assert (rounded_together(weights, counts.T @ counts)[0] == weights[0]).all()


def test_moments_are_those_of_what_weights_take():
    rng = np.random.default_rng(2)
    counts, shape = rng.integers(0, 5, (6, 5, 4, 2)).astype(float), Shape(5, 4, 2)
    geometry = {"name": "layer", "source": "input", "bias": np.zeros(3, int), "threshold_log2": 0}
    conv = Convolution(weights=rng.integers(-9, 9, (3, 2, 3, 2)), stride=(2, 1), padding=Padding(1, 0, 1, 1), **geometry)
    linear = Linear(weights=rng.integers(-9, 9, (3, 40)), **geometry)
    averaged = Linear(weights=rng.integers(-9, 9, (3, 8)), averaged=(2, 2), **geometry)
    for layer in (conv, linear, averaged):
        sums = weighted_sums(layer, layer.weights, counts, shape, layer.output_shape(shape)).reshape(-1, 3)
        flat = layer.weights.reshape(3, -1)
        assert (flat @ moments_of(layer, counts) @ flat.T == sums.T @ sums).all()
    grouped = Convolution(weights=rng.integers(-9, 9, (2, 1, 3, 2)), groups=2, **(geometry | {"bias": np.zeros(2, int)}))
    assert moments_of(grouped, counts) is None
