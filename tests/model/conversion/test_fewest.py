"""The search for the fewest accumulations, on made-up measurements: what it reaches, what it lowers, and what it tells."""

import itertools
import math

import pytest

from model.conversion.fewest import Search
from model.conversion.search import Measured
from model.importers.float_network import ConversionError

LARGE = [4.0, 8.0, 20.0]


def search(accuracy, accumulations, *, potential=0.0, refuse=lambda levels: False):
    """Over two hidden layers and an output whose large activations are `LARGE`; measurements follow from levels."""
    told = []

    def measure(thresholds):
        levels = [large / theta for large, theta in zip(LARGE, thresholds, strict=True)]
        if refuse(levels):
            raise ConversionError("no such thresholds")
        reached = accuracy(*levels)
        figures = {"expected": reached, "error": 1 / max(reached, 0.01), "spikes": accumulations(*levels)}
        return Measured(reached, potential, accumulations(*levels), None, **figures)

    return Search(LARGE, [{-1: 0.0}] * 3, [None] * 3, measure, told.append), told


def saturating(*scales):
    """An accuracy that rises to 1 with the levels of each layer."""
    return lambda *levels: max(0, 1 - sum(scale / level**2 for scale, level in zip(scales, levels, strict=False)))


def test_levels_double_until_the_accuracy_is_there():
    found, told = search(saturating(4, 4), lambda a, b, out: 100 * a + 10 * b)
    enough = found.enough(0.99, 0.99)
    # 1 - 8 / 32**2 is the first of at least 0.99: no end at 10 levels.
    assert enough.levels == (32, 32, 100) and enough.thresholds == (4 / 32, 8 / 32, 20 / 100)
    assert [tried.levels[0] for tried in found.tried] == [1, 2, 4, 8, 16, 32]
    assert [line.split(":")[0] for line in told] == [f"levels {n}, {n}, 100" for n in (1, 2, 4, 8, 16, 32)]


def test_out_of_reach_is_where_more_do_not_help():
    found, _ = search(lambda a, b, out: 0.9 if a >= 8 else 0.5, lambda a, b, out: a + b)
    assert found.enough(0.99, 0.99).levels == (8, 8, 100)
    assert max(tried.levels[0] for tried in found.tried) == 64


def test_the_format_ends_the_doubling():
    found, _ = search(saturating(4, 4), lambda a, b, out: a + b, refuse=lambda levels: levels[0] > 8)
    assert found.enough(0.999, 0.999).levels == (8, 8, 100)
    assert found.tried[-1].levels == (8, 8, 100)
    found, _ = search(lambda a, b, out: a**0.01, lambda a, b, out: a + b)
    assert found.enough(2, 2).levels[0] == 65535


@pytest.mark.parametrize(("potential", "output"), [(0.89, 100), (0.95, 400)])
def test_counts_that_say_less_than_potentials_get_more_levels_of_the_output(potential, output):
    found, _ = search(lambda a, b, out: 0.94 - 4 / out if out < 400 else 0.95, lambda a, b, out: a + b, potential=potential)
    assert found.enough(0.95, 0.95).levels[-1] == output
    found, _ = search(lambda a, b, out: 0.9, lambda a, b, out: a + b, potential=1.0)
    assert found.enough(0.95, 0.95).levels[-1] == 100
    assert max(tried.levels[-1] for tried in found.tried) == 1600


def test_fewer_where_that_saves_most():
    found, _ = search(saturating(4, 0.0001), lambda a, b, out: 100 * a + 10 * b + out / 100)
    enough = found.enough(0.99, 0.99)
    path = found.lowered(found.doubled(enough), 0.99)
    assert path[0].levels == (64, 64, 100) and enough.levels == (32, 32, 100)
    assert all(one.measured.cost > other.measured.cost for one, other in itertools.pairwise(path))
    lowered = path[-1]
    # The second layer costs no accuracy, so that it goes as low as levels go; the first to where the accuracy ends.
    assert lowered.levels[1] < 0.6
    assert lowered.levels[0] == pytest.approx(20, rel=0.1)
    assert lowered.measured.accuracy >= 0.99
    assert lowered.measured.accumulations == min(tried.accumulations for tried in found.tried if tried.accuracy >= 0.99)
    # Of the output there are no more than it takes.
    assert lowered.levels[2] < 2


def test_what_some_frames_promise_all_have_to_hold():
    found, _ = search(saturating(4, 4), lambda a, b, out: a + b)
    seen = []

    def on_all(network):
        seen.append(network)
        return Measured(0.98 if len(seen) == 1 else 0.995, 1.0, 7.0, network)

    some = found._measure
    found = Search(LARGE, [{-1: 0.0}] * 3, [None] * 3, some, lambda text: None, on_all=on_all, frames=(5, 20))
    assert found.enough(0.99, 0.99).levels == (64, 64, 100)
    assert [tried.levels[0] for tried in found.tried if tried.frames == 20] == [32, 64]
    assert {tried.frames for tried in found.tried} == {5, 20}


def test_a_network_of_one_layer():
    told = []
    found = Search(
        [20.0], [{-1: 0.0}], [None], lambda thetas: Measured(1 - thetas[0], 1.0, 7.0, None, expected=1 - thetas[0]), told.append
    )
    enough = found.enough(0.95, 0.95)
    assert enough.levels == (400,) and enough.measured.accumulations == 7
    assert found.lowered(enough, 0.95)[-1].levels == (400,)


def test_price_is_accumulations_at_the_accuracy_that_is_wanted():
    assert Measured(1.0, 1.0, 1000.0, None, room=2.0, first=200.0).price == 600
    assert Measured(1.0, 1.0, 1000.0, None, room=0.0, first=200.0).price == math.inf
    assert Measured(1.0, 1.0, 1000.0, None, spikes=30.0).cost == 30000


def test_levels_that_the_format_has_no_thresholds_for_are_no_place_to_stay():
    """A threshold is at least so much of the one before: a first layer of 256 levels is one of 40, and is lowered from there."""
    def measure(thresholds):
        first, second, _ = (large / theta for large, theta in zip(LARGE, thresholds, strict=True))
        figures = {"expected": min(1.0, first / 10), "error": 1 / first, "spikes": first + second}
        return Measured(1.0, 1.0, 100 * first + second, None, **figures)

    found = Search(LARGE, [{-1: 0.1}, {}, {}], [None] * 3, measure, lambda text: None)
    start = found.at((256, 8, 100))
    assert start.thresholds[0] == pytest.approx(0.1)
    path = found.lowered(start, 0.99)
    assert path[0].levels == (40, 8, 100) and path[0].thresholds == start.thresholds
    assert 9.9 <= path[-1].levels[0] < 11
