"""A placement that nextpnr's router finds no wires for is given up, others are not."""

from pathlib import Path

import pytest

from hw.flow.families.base import Cells, Part
from hw.flow.families.ecp5 import ECP5
from hw.flow.routing import PATIENCE, RoutingError, RoutingWatch
from hw.flow.synthesis import place_and_route
from model.support.errors import Exit


def lines(overused):
    return [
        f"Info:     iter={number} wires=1043012 overused={wires} overuse={wires} archfail=NA"
        for number, wires in enumerate(overused, 1)
    ]


@pytest.mark.parametrize(
    "overused",
    [
        # It ends, however many there were.
        [64019, 37545, 8049, 872, 24, 3, 0],
        # A tenth less every hundred iterations is enough.
        [1000 - number for number in range(900)],
        # More of them for a while, or none at all for a while.
        [50, *[80] * (PATIENCE - 1), 40, 0],
        [3] * PATIENCE + [2] * PATIENCE + [1] * PATIENCE + [0],
    ],
)
def test_a_router_that_goes_on_is_left_alone(overused):
    watch = RoutingWatch()
    for line in lines(overused):
        watch.look(line)


@pytest.mark.parametrize(
    ("overused", "iterations", "left", "before"),
    [
        ([900, 100, *[23] * 400], 3 + PATIENCE, 23, 23),
        ([900, 100, *[24] * 90, *[22] * 400], 3 + PATIENCE, 22, 24),
        # What it loses again does not count.
        ([900, *[30, 60] * 400], 2 + PATIENCE, 30, 30),
    ],
)
def test_a_router_that_gets_nowhere_is_stopped(overused, iterations, left, before):
    watch = RoutingWatch()
    message = (
        f"the router gets nowhere: {left} wires are overused after {iterations} iterations, as {before} were {PATIENCE} "
        "iterations before; try fewer lanes, another --seed or more --seeds"
    )
    *right, wrong = lines(overused)[:iterations]
    for line in right:
        watch.look(line)
    with pytest.raises(RoutingError) as error:
        watch.look(wrong)
    assert (str(error.value), error.value.exit_code) == (message, Exit.DOES_NOT_FIT)


def test_place_and_route_stops_it_and_leaves_no_file(tmp_path, monkeypatch):
    seen = []

    def placer(name, args, *, log, line):
        Path(args[args.index("--textcfg") + 1]).write_text("half")
        for text in ["Info: Routing..", *lines([40] * 500)]:
            line(text)
        raise AssertionError("it must have been stopped")

    monkeypatch.setattr("hw.flow.synthesis.run_tool", placer)
    with pytest.raises(RoutingError):
        place_and_route(
            tmp_path / "netlist.json",
            family=ECP5,
            part=Part(number="LFE5U-85F", device="85k", package="CABGA381", speed="6"),
            constraints="",
            frequency_mhz=50,
            seed=1,
            routed=tmp_path / "routed.config",
            log=tmp_path / "log",
            cells=Cells(lut=1, ff=1, lut_ram=0, ram_blocks=0, dsp=0),
            line=seen.append,
        )
    assert len(seen) == 2 + PATIENCE
    assert not list(tmp_path.glob("routed.config*"))
