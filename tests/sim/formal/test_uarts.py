"""The lines that a UART receiver is proved with: what they allow, and that no more would do."""

from fractions import Fraction
from math import ceil

import pytest

import hw.parts.uart
from boards.top import _WRONG_BAUD
from sim.formal import uarts
from sim.formal.bench import Bench
from sim.formal.prover import Outcome, find_solver, search, translate

DIVISORS = (*range(4, 13), 52, 104)


@pytest.mark.parametrize("divisor", DIVISORS)
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_clock_that_is_as_wrong_as_a_board_allows_is_among_them(divisor, sign):
    """Edges are seen in whole cycles, whenever a frame begins."""
    early, late = uarts.edges(divisor)
    bit = divisor * (1 + sign * Fraction(str(_WRONG_BAUD)))
    off = {
        ceil(begin + number * bit) - ceil(begin) - number * divisor
        for begin in (Fraction(n, 100) for n in range(100))
        for number in range(1, 11)
    }
    assert -early <= min(off) < max(off) <= late


@pytest.mark.parametrize(("earlier", "later"), [(1, 0), (0, 1)])
def test_one_cycle_more_would_be_too_much(monkeypatch, tmp_path, earlier, later):
    def wider(divisor, edges=uarts.edges):
        early, late = edges(divisor)
        return early + earlier, late + later

    monkeypatch.setattr(uarts, "edges", wider)
    bench = Bench(lemmas=False)
    uarts.received(bench, hw.parts.uart, divisor=4)
    translate(bench, tmp_path)
    assert search(tmp_path, find_solver(), steps=46).outcome is Outcome.FAILS
