"""Widths of stored states, and what a state that waits for its spike says."""

import numpy as np
import pytest

from model.machine.stored_state import StoredWidths, settled
from model.network import Linear


def layer(activation: str, *, threshold_log2: int = 5, **options: int) -> Linear:
    return Linear(
        name="fc",
        source="input",
        weights=np.zeros((1, 1), int),
        bias=np.zeros(1, int),
        activation=activation,
        threshold_log2=threshold_log2,
        **options,
    )


def test_widths_have_room_for_each_layer():
    hidden, last = layer("relu", potential_bits=12, count_bits=8), layer("identity", potential_bits=14, count_bits=5)
    assert StoredWidths.of([hidden]) == (12, 8, False)
    assert StoredWidths.of([last]) == (14, 5, True)
    # Among counts with a sign, one without needs a bit more.
    assert StoredWidths.of([hidden, last]) == (14, 9, True)
    assert StoredWidths.of([hidden, last]).bits == 23


@pytest.mark.parametrize(
    ("activation", "summed", "count", "updated", "expected"),
    [
        ("relu", 31, 2, True, (31 + 2 * 32, 2)),
        ("relu", 32, 2, True, (32 + 2 * 32, 3)),
        ("relu", 32, 2, False, (32 + 2 * 32, 2)),
        ("relu", 32, 255, True, (32 + 255 * 32, 255)),
        ("relu", -32, 2, True, (-32 + 2 * 32, 1)),
        ("relu", -32, 0, True, (-32, 0)),
        ("identity", -32, 0, True, (-32, -1)),
        ("identity", -31, 0, True, (-31, 0)),
    ],
)
def test_a_stored_state_is_settled_as_the_next_update_would(activation, summed, count, updated, expected):
    """A spike changes the count and not the potential; without an update there is none."""
    assert settled(layer(activation), summed, count, updated=updated) == expected


@pytest.mark.parametrize(
    ("burst", "summed", "count", "expected"),
    [
        (0, 32 * 5 + 3, 2, (163 + 2 * 32, 7)),
        (3, 32 * 5 + 3, 2, (163 + 2 * 32, 5)),
        (0, -32 * 5, 2, (-160 + 2 * 32, 0)),
        (0, 32 * 5, 253, (160 + 253 * 32, 255)),
    ],
)
def test_a_burst_is_settled_whole(burst, summed, count, expected):
    assert settled(layer("relu", burst=burst), summed, count, updated=True) == expected
    assert settled(layer("relu", burst=burst), summed, count, updated=False) == (expected[0], count)
