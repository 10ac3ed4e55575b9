"""Multiples of a file's weights: every sum that there can be, with the count that the file gives it."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest

from model.conversion.bounds import Bounds
from model.conversion.exact_weights import frame_of, needed_bits
from model.conversion.levels import Scaled
from model.conversion.multiples import of_multiples
from model.importers.float_network import FloatLayer
from model.importers.quantizer import Quantizer
from model.network import INPUT

HALF = Fraction(1, 2)


def layer(step, bias, *, low=0, high=15, rounding="even", weights=((3, -2, 1), (0, 1, 2), (0, 0, 0))):
    """A linear layer of three channels in thresholds, the lowest level a count of 0."""
    weights = np.array(weights) * np.reshape(step, (-1, 1))
    quantizer = Quantizer(scale=1.0, low=low, high=high, rounding=rounding)
    floats = FloatLayer(
        kind="linear", source="input", name="fc", tensor="", weights=weights, bias=np.array(bias), quantizer=quantizer
    )
    half = 0.5 if rounding == "even" else 0.0
    return Scaled(floats, (weights,), np.array(bias) - low, half, (0, high - low), 0, low)


def up_to(most):
    """Bounds of the counts of the input."""
    return {INPUT: Bounds.of_input(3, most)}


def level(value, low, high, rounding):
    """Of an exact value, as ONNX rounds it."""
    found = floor(value + HALF) if rounding == "even" else floor(value)
    if rounding == "even" and (value + HALF).denominator == 1 and found % 2:
        found -= 1
    return min(max(found, low), high)


CASES = {
    "scales of any kind": ((0.137, 0.051, 0.2), (0.33, -1.2, 4.7), {}),
    "halves at two levels, an even and an odd one": ((0.137, Fraction(9, 7), 1), (0.33, HALF, 4), {}),
    "an odd lowest level": ((0.137, Fraction(9, 7), 1), (0.33, HALF, 4), {"low": -7, "high": 8}),
    "rounded down": ((0.137, Fraction(1, 6), 1), (0.33, 0, 4), {"rounding": "floor"}),
    "nothing but the ends": ((1e-9, 0.2, 1), (100.0, -100.0, 7.3), {}),
}


@pytest.mark.parametrize("what", CASES)
def test_every_sum_has_the_files_level(what):
    steps, biases, how = CASES[what]
    low, high, rounding = (how.get(name, usual) for name, usual in (("low", 0), ("high", 15), ("rounding", "even")))
    scaled = layer([float(n) for n in steps], [float(n) for n in biases], **how)
    made = of_multiples(scaled, frame_of(scaled), up_to(15))
    assert made is not None and needed_bits(made, up_to(15)) <= 24
    inputs = np.stack(np.meshgrid(*[np.arange(16)] * 3), axis=-1).reshape(-1, 3)
    potentials = inputs @ made.weights.T.astype(int) + made.bias
    counts = np.clip(potentials >> made.threshold_log2, 0, high - low)
    integers = inputs @ np.array([(3, -2, 1), (0, 1, 2), (0, 0, 0)]).T
    for channel in range(3):
        expected = {
            total: level(Fraction(steps[channel]) * total + Fraction(biases[channel]), low, high, rounding)
            for total in set(integers[:, channel].tolist())
        }
        assert counts[:, channel].tolist() == [expected[total] - low for total in integers[:, channel].tolist()]


def test_more_levels_than_a_multiplier_tells_apart_are_given_up():
    """Sums of 16 bits at 255 levels: where each level begins takes finer weights than there are."""
    scaled = layer([0.00391, 0.0041, 0.1], [0.3, 0.1, 0.0], high=255, weights=[(127, -100, 1), (90, 11, 2), (0, 0, 0)])
    assert of_multiples(scaled, frame_of(scaled), up_to(255)) is None


def test_halves_at_all_levels_have_no_multiples():
    """Every other one would have to go up, which takes a neuron that rounds them to even."""
    scaled = layer([1 / 6, 0.1, 1], [0.0, 2.0, 4.0])
    assert of_multiples(scaled, frame_of(scaled), up_to(15)) is None


def test_weights_of_no_common_step_have_no_multiples():
    scaled = layer([1, 1, 1], [0.0] * 3, weights=[(1, np.pi, np.e), (1, 1, 1), (1, 1, 1)])
    assert of_multiples(scaled, frame_of(scaled), up_to(15)) is None
