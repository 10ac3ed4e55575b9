"""Which thresholds a number of levels stands for."""

from model.conversion.search import thresholds_of


def test_a_large_activation_is_worth_so_many_thresholds():
    assert thresholds_of([2, 4, 100], [8.0, 6.0, 50.0], [0.0] * 3, [None] * 3) == [4.0, 1.5, 0.5]


def test_the_largest_weight_has_to_fit():
    """A threshold is not less than what the layer before makes of one: 0.5 of the 4.0."""
    first, second = thresholds_of([2, 100], [8.0, 6.0], [0.0, 0.5], [None, None])
    assert first == 4.0
    assert 2.0 < second < 2.000001


def test_an_end_is_whole_thresholds():
    """2.4 thresholds of 2.5 up to 6: two of 3."""
    assert thresholds_of([2, 2], [5.0, 8.0], [0.0, 0.0], [6.0, None]) == [3.0, 4.0]
    # Not even one: no threshold is beyond the end.
    assert thresholds_of([0.5, 2], [5.0, 8.0], [0.0, 0.0], [6.0, None]) == [6.0, 4.0]
