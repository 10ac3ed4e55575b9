"""The laws that the scaling study states, on its own points."""

import itertools
import json

import pytest

from model.network import Convolution, Linear, MaxPool
from model.studies.random_network import drawn
from sim.scaling_study import STUDIES, exponent, measured, plots

STUDY = {study.name: study for study in STUDIES}
TOLERANCE = 0.2
"""Of an exponent: windows are clipped at the border, and an end of frame takes a few cycles."""


@pytest.mark.parametrize("name", sorted(set(STUDY) - {"lanes"}))
def test_laws(name):
    study = STUDY[name]
    rows = measured(study)
    if study.exponent is not None:
        assert exponent(rows) == pytest.approx(study.exponent, abs=TOLERANCE)
    for row in rows:
        assert row["busiest_part_cycles"] <= row["cycles_per_frame"] <= 1.15 * row["busiest_part_cycles"] + 10
    if name == "depth":
        each = [
            (after["latency_cycles"] - before["latency_cycles"]) / (after["quantity"] - before["quantity"])
            for before, after in itertools.pairwise(rows)
        ]
        assert max(each) - min(each) < 1
    assert [row["quantity"] for row in rows] == sorted(row["quantity"] for row in rows)


def test_more_lanes_take_fewer_cycles():
    rows = measured(STUDY["lanes"])
    cycles = [row["cycles_per_frame"] for row in rows]
    assert cycles == sorted(cycles, reverse=True)
    assert cycles[0] > 100 * cycles[-1]


def test_a_picture_of_all():
    rows = [
        {"quantity": n, "lanes": n, "cycles_per_frame": 10 * n, "busiest_part_cycles": 9 * n, "latency_cycles": 11 * n}
        for n in (1, 2, 4)
    ]
    found = {
        "studies": {study.name: {"points": rows} for study in STUDIES},
        "areas": {name: [{"lanes": 1, "luts": 100}, {"lanes": 2, "luts": 200}] for name in ("placed", "estimated")},
        "speeds": [{"accumulations": n, "engine": 3.0, "cycles": 2.0, "readable": 1.0} for n in (10, 100)],
    }
    figure = plots(json.loads(json.dumps(found)))
    assert len(figure.axes) == 9
    assert all(axes.lines for axes in figure.axes)


def test_drawn_networks_are_what_they_say():
    network = drawn("12x10x2: 3C3p P2 4C3 7F", (5, 12, 6))
    kinds = [type(layer) for layer in network.layers]
    assert kinds == [Convolution, MaxPool, Convolution, Linear]
    assert [tuple(shape) for shape in network.shapes] == [(12, 10, 3), (6, 5, 3), (4, 3, 4), (1, 1, 7)]
    assert drawn("12x10x2: 3C3p P2 4C3 7F", (5, 12, 6)).content_hash == network.content_hash
    with pytest.raises(ValueError, match=r"^layer must be like 8C5, 8C5p, P2 or 10F, not 'R4'$"):
        drawn("8x8x1: R4 10F")
