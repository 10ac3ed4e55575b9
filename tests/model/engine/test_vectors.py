"""Operations on blocks of neurons, against the same in NumPy."""

import numpy as np
import pytest

from model.engine.vectors import LANES, accumulate, add, first_of, outside
from model.support.compiled import njit


@njit()
def accumulated(residual, neuron, weights, weight, times):
    accumulate(residual, neuron, weights, weight, times)


@njit()
def added(residual, neuron, weights, weight, times, below, least, above):
    return add(residual, neuron, weights, weight, times, below, least, above)


@njit()
def seen(residual, neuron, below, least, above):
    return outside(residual, neuron, below, least, above)


@njit()
def lowest_bit(bits):
    return first_of(bits)


@pytest.mark.parametrize("kind", [np.int16, np.int32])
def test_blocks(kind):
    """Of random places in random arrays, with values at the ends of their type."""
    rng = np.random.default_rng(kind().itemsize)
    ends, found = np.iinfo(kind), set()
    for case in range(200):
        narrow = int(rng.choice([20, 1 << 13]))
        residual, below, weights = rng.integers(-narrow, narrow, (3, 5 * LANES), dtype=np.int64).astype(kind)
        neuron, weight = (int(n) for n in rng.integers(0, 4 * LANES, 2))
        times = kind(rng.choice([-3, -1, 1, 2]))
        least, above = kind(rng.integers(-narrow, 1)), kind(rng.integers(0, narrow))
        if case % 2:
            # Limits that few values are beyond.
            below, least, above = below - kind(2 * narrow), kind(-3 * narrow), kind(3 * narrow)
        some = slice(neuron, neuron + LANES)
        expected = residual.copy()
        expected[some] += weights[weight : weight + LANES] * times
        low = np.maximum(below[some], least)
        bits = sum(1 << lane for lane, total in enumerate(expected[some]) if total < low[lane] or total > above)
        given = residual.copy()
        assert added(given, neuron, weights, weight, times, below, least, above) == bits
        assert given.tolist() == expected.tolist()
        assert seen(expected, neuron, below, least, above) == bits
        accumulated(residual, neuron, weights, weight, times)
        assert residual.tolist() == expected.tolist()
        found.add(bits > 0)
    assert found == {False, True}
    wide = np.full(LANES, ends.max, kind)
    accumulated(wide, 0, np.full(LANES, 2, kind), 0, kind(1))
    assert wide.tolist() == [ends.min + 1] * LANES


def test_first_bit():
    for bit in range(64):
        assert lowest_bit(np.uint64(1 << bit | 1 << 63)) == bit
