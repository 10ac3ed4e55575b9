"""The search for the fewest accumulations, on made-up measurements: what it reaches, what it lowers, and what it tells."""

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
        return Measured(accuracy(*levels), potential, accumulations(*levels), None)

    return Search(LARGE, [0.0] * 3, [None] * 3, measure, told.append), told


def saturating(*scales):
    """An accuracy that rises to 1 with the levels of each layer."""
    return lambda *levels: max(0, 1 - sum(scale / level**2 for scale, level in zip(scales, levels, strict=False)))


def test_levels_double_until_the_accuracy_is_there():
    found, told = search(saturating(4, 4), lambda a, b, out: 100 * a + 10 * b)
    enough = found.enough(0.99)
    # 1 - 8 / 32**2 is the first of at least 0.99: no end at 10 levels.
    assert enough.levels == (32, 32, 100) and enough.thresholds == (4 / 32, 8 / 32, 20 / 100)
    assert [tried.levels[0] for tried in found.tried] == [1, 2, 4, 8, 16, 32]
    assert [line.split(":")[0] for line in told] == [f"levels {n}, {n}, 100" for n in (1, 2, 4, 8, 16, 32)]


def test_out_of_reach_is_where_more_do_not_help():
    found, _ = search(lambda a, b, out: 0.9 if a >= 8 else 0.5, lambda a, b, out: a + b)
    assert found.enough(0.99).levels == (8, 8, 100)
    assert max(tried.levels[0] for tried in found.tried) == 64


def test_the_format_ends_the_doubling():
    found, _ = search(saturating(4, 4), lambda a, b, out: a + b, refuse=lambda levels: levels[0] > 8)
    assert found.enough(0.999).levels == (8, 8, 100)
    assert found.tried[-1].levels == (8, 8, 100)
    found, _ = search(lambda a, b, out: a**0.01, lambda a, b, out: a + b)
    assert found.enough(2).levels[0] == 65535


@pytest.mark.parametrize(("potential", "output"), [(0.89, 100), (0.95, 400)])
def test_counts_that_say_less_than_potentials_get_more_levels_of_the_output(potential, output):
    found, _ = search(lambda a, b, out: 0.94 - 4 / out if out < 400 else 0.95, lambda a, b, out: a + b, potential=potential)
    assert found.enough(0.95).levels[-1] == output
    found, _ = search(lambda a, b, out: 0.9, lambda a, b, out: a + b, potential=1.0)
    assert found.enough(0.95).levels[-1] == 100
    assert max(tried.levels[-1] for tried in found.tried) == 1600


def test_fewer_where_that_saves_most():
    found, _ = search(saturating(4, 0.0001), lambda a, b, out: 100 * a + 10 * b)
    lowered = found.lowered(found.enough(0.99), 0.99)
    # The second layer costs no accuracy, so that it goes as low as levels go; the first to where the accuracy ends.
    assert lowered.levels[1] < 0.6
    assert lowered.levels[0] == pytest.approx(20, rel=0.1)
    assert lowered.measured.accuracy >= 0.99
    assert lowered.measured.accumulations == min(tried.accumulations for tried in found.tried if tried.accuracy >= 0.99)
    # Of the output there are no more than it takes.
    assert lowered.levels[2] < 2


def test_a_network_of_one_layer():
    told = []
    found = Search([20.0], [0.0], [None], lambda thetas: Measured(1 - thetas[0], 1.0, 7.0, None), told.append)
    enough = found.enough(0.95)
    assert enough.levels == (400,) and enough.measured.accumulations == 7
    assert found.lowered(enough, 0.95).levels == (400,)
