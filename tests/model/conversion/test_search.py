"""Which thresholds a number of levels stands for."""

import pytest

from model.conversion.search import Measured, choose, thresholds_of


def chain(*slopes):
    """Of a chain of layers: each takes the one before it."""
    return [{number - 1: slope} for number, slope in enumerate(slopes)]


def test_a_large_activation_is_worth_so_many_thresholds():
    assert thresholds_of([2, 4, 100], [8.0, 6.0, 50.0], chain(0.0, 0.0, 0.0), [None] * 3) == [4.0, 1.5, 0.5]


def test_the_largest_weight_has_to_fit():
    """A threshold is not less than what the layer before makes of one: 0.5 of the 4.0."""
    first, second = thresholds_of([2, 100], [8.0, 6.0], chain(0.0, 0.5), [None, None])
    assert first == 4.0
    assert 2.0 < second < 2.000001


def test_all_weights_of_all_inputs_have_to_fit():
    """The third layer takes the first, at 4.0, and the input."""
    slopes = [{-1: 0.0}, {0: 0.0}, {0: 0.5, -1: 1.0}]
    assert thresholds_of([2, 4, 100], [8.0, 6.0, 50.0], slopes, [None] * 3) == pytest.approx([4.0, 1.5, 2.0])
    slopes[2][-1] = 3.0
    assert thresholds_of([2, 4, 100], [8.0, 6.0, 50.0], slopes, [None] * 3) == pytest.approx([4.0, 1.5, 3.0])


def test_an_end_is_whole_thresholds():
    """2.4 thresholds of 2.5 up to 6: two of 3."""
    assert thresholds_of([2, 2], [5.0, 8.0], chain(0.0, 0.0), [6.0, None]) == [3.0, 4.0]
    # Not even one: no threshold is beyond the end.
    assert thresholds_of([0.5, 2], [5.0, 8.0], chain(0.0, 0.0), [6.0, None]) == [6.0, 4.0]


@pytest.mark.parametrize(("bursts", "most"), [(False, 10), (True, 80)])
def test_only_where_bursts_keep_up_are_there_more_than_ten_levels(bursts, most):
    """The accuracy is there at 40 levels; 80 are more than are kept, as no more accuracy comes of them."""
    seen = []

    def measure(thresholds):
        levels = 8.0 / thresholds[0]
        seen.append(levels)
        accuracy = min(levels, 40) / 50
        return Measured(accuracy, accuracy, 100 * levels, None)

    thresholds, found = choose([8.0, 20.0], chain(0.0, 0.0), [None] * 2, 0.9, measure, lambda text: None, bursts=bursts)
    assert max(seen) == most
    assert 8.0 / thresholds[0] == (40 if bursts else 10) and found.accumulations == 100 * (40 if bursts else 10)
