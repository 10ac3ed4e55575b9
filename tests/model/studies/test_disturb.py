"""Each disturbance on a few events."""

from pathlib import Path

import numpy as np
import pytest

from model.encode import encode
from model.events import make_events
from model.network import Network, Shape
from model.studies.disturb import ORDERS, drop, duplicate, flip_bits, flip_signs, insert_spurious, jitter, reorder

ZOO = Path(__file__).parents[3] / "model" / "zoo" / "mnist-paper.npz"

SHAPE = Shape(2, 3, 2)
FRAME = np.array([[[90, 0], [70, 90], [200, 70]], [[0, 255], [90, 0], [70, 200]]], np.uint8)
"""Of its addresses 0, 2, 3, 4, 5, 7, 8, 10 and 11 fire, with three pairs and triples of equal pixels."""

MANY = make_events(np.arange(1000) % 784, np.where(np.arange(1000) % 7 == 0, -1, 1))


def rng(seed=1):
    return np.random.default_rng(seed)


def fired():
    return make_events([7, 4, 11, 0, 3, 8, 2, 5, 10])


@pytest.mark.parametrize(
    ("order", "addresses"),
    [
        ("brightest", [7, 4, 11, 0, 3, 8, 2, 5, 10]),
        # Equal pixels stand in raster order here too: not simply the other backwards.
        ("darkest", [2, 5, 10, 0, 3, 8, 4, 11, 7]),
        ("raster", [0, 2, 3, 4, 5, 7, 8, 10, 11]),
        ("reverse raster", [11, 10, 8, 7, 5, 4, 3, 2, 0]),
        # Columns 0 (0 above 7), 1 (2, 3 above 8), 2 (4, 5 above 10, 11).
        ("columns", [0, 7, 2, 3, 8, 4, 5, 10, 11]),
    ],
)
def test_orders(order, addresses):
    found = reorder(fired(), FRAME, SHAPE, order, rng())
    assert found["address"].tolist() == addresses
    assert found.tolist() == make_events(addresses).tolist()


def test_brightest_first_is_the_encoder():
    network = Network.load(ZOO)
    for frame in rng().integers(0, 256, (20, 28, 28, 1), dtype=np.uint8):
        events = encode(network, frame)
        assert np.array_equal(reorder(events, frame, network.input_shape, "brightest", rng()), events)


def test_every_order_has_the_same_events():
    for order in ORDERS:
        for seed in range(5):
            assert sorted(reorder(fired(), FRAME, SHAPE, order, rng(seed))["address"]) == [0, 2, 3, 4, 5, 7, 8, 10, 11]
    orders = {tuple(reorder(fired(), FRAME, SHAPE, "random", rng(seed))["address"].tolist()) for seed in (1, 1, 2, 3)}
    assert len(orders) == 3


def test_unknown_order():
    with pytest.raises(ValueError, match=r"^order must be one of brightest, darkest, raster, reverse raster, columns, random, "
                                         r"not 'spiral'$"):
        reorder(fired(), FRAME, SHAPE, "spiral", rng())


def test_dropped():
    found = drop(MANY, 0.2, rng())
    kept = rng().random(1000) >= 0.2
    assert len(found) == kept.sum() == 812
    assert found["address"].tolist() == MANY["address"][kept].tolist()
    assert found["sign"].tolist() == MANY["sign"][kept].tolist()
    # What is left is a frame of its own: events name themselves as their origin.
    assert found["origin"].tolist() == found["cause"].tolist() == list(range(812))
    assert len(drop(MANY, 1, rng())) == 0


def test_duplicated():
    found = duplicate(MANY, 0.2, rng())
    twice = rng().random(1000) < 0.2
    pairs = MANY[["address", "sign"]].tolist()
    expected = [event for pair, two in zip(pairs, twice, strict=True) for event in [pair] * (1 + two)]
    assert found[["address", "sign"]].tolist() == expected
    assert len(found) == 1188
    assert len(duplicate(MANY, 1, rng())) == 2000


def test_spurious():
    found = insert_spurious(MANY, 0.2, 784, rng())
    assert len(found) == 1000 + rng().binomial(1000, 0.2)
    assert found["address"].min() >= 0 and found["address"].max() < 784
    # The events themselves are still there, in their order, and what came with them is positive.
    left = iter(found[["address", "sign"]].tolist())
    assert all(event in left for event in MANY[["address", "sign"]].tolist())
    assert (found["sign"] < 0).sum() == (MANY["sign"] < 0).sum()


def test_signs_flipped():
    found = flip_signs(MANY, 0.2, rng())
    assert found["address"].tolist() == MANY["address"].tolist()
    flipped = found["sign"] != MANY["sign"]
    assert flipped.tolist() == (rng().random(1000) < 0.2).tolist()
    assert flipped.sum() == 188
    # Both ways.
    assert set(found["sign"][flipped].tolist()) == {-1, 1}
    assert np.array_equal(flip_signs(found, 0.2, rng()), MANY)


@pytest.mark.parametrize("window", [0, 1, 2, 8, 100])
def test_jitter_moves_less_than_its_window(window):
    places = make_events(np.arange(500))
    moved = jitter(places, window, rng())["address"] - np.arange(500)
    assert sorted(jitter(places, window, rng())["address"]) == list(range(500))
    assert np.abs(moved).max() <= max(0, window - 1)
    if window > 1:
        assert np.abs(moved).max() >= window / 2


@pytest.mark.parametrize("change", [drop, duplicate, flip_signs, lambda e, s, g: insert_spurious(e, s, 784, g)])
def test_no_disturbance_and_no_events(change):
    assert np.array_equal(change(MANY, 0.0, rng()), MANY)
    assert len(change(make_events([]), 0.5, rng())) == 0


@pytest.mark.parametrize("width", [1, 3, 8, 16])
@pytest.mark.parametrize("chosen", ["all", "top", "lowest"])
def test_bits_flipped(width, chosen):
    bits = {"all": range(width), "top": [width - 1], "lowest": [0]}[chosen]
    low, high = -(1 << width - 1), (1 << width - 1) - 1
    weights = rng(2).integers(low, high + 1, (40, 50)).astype(np.int32)
    allowed = sum(1 << bit for bit in bits)
    assert np.array_equal(flip_bits(weights, width, bits, 0, rng()), weights)
    for probability in (0.1, 1):
        found = flip_bits(weights, width, bits, probability, rng())
        assert low <= found.min() and found.max() <= high
        differing = (found ^ weights) & ((1 << width) - 1)
        assert not (differing & ~allowed).any()
        # One draw a bit, lowest first: exactly these.
        draws = rng()
        expected = sum((draws.random(weights.shape) < probability).astype(np.int32) << bit for bit in bits)
        assert np.array_equal(differing, expected)
        assert differing.any()


def test_twos_complement():
    weights = np.array([[-128, -1, 0, 127]], np.int32)
    assert flip_bits(weights, 8, [7], 1, rng()).tolist() == [[0, 127, -128, -1]]
    assert flip_bits(weights, 8, [0, 1], 1, rng()).tolist() == [[-125, -4, 3, 124]]


def test_unknown_bit():
    with pytest.raises(ValueError, match=r"^bit must be within 0..7, not 8$"):
        flip_bits(np.zeros((1, 1), np.int32), 8, [8], 0.5, rng())
