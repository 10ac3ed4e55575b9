"""A seed that nextpnr finds no places or no wires for is given up, others are not."""

from pathlib import Path

import pytest

from hw.flow.families.base import Cells, Part
from hw.flow.families.ecp5 import ECP5
from hw.flow.routing import PATIENCE, RoutingError, RoutingWatch
from hw.flow.synthesis import place_and_route
from model.support.errors import DoesNotFitError, Exit, ToolError


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
        routed_in(tmp_path, line=seen.append)
    assert len(seen) == 2 + PATIENCE
    assert not list(tmp_path.glob("routed.config*"))


_ROOM = "Info: \t          TRELLIS_COMB:   {:,}/ 83640    60%\nERROR: {}\n".replace(",", "")


@pytest.mark.parametrize(
    ("log", "kind", "message"),
    [
        (
            _ROOM.format(50000, "Unable to find legal placement for cell 'a' of type 'TRELLIS_COMB' after 500 attempts"),
            RoutingError,
            "^the placer does not find a place for every cell; try fewer lanes, another --seed or more --seeds; see ",
        ),
        (
            _ROOM.format(80000, "failed to place chain starting at cell 'a' of type 'TRELLIS_COMB'"),
            RoutingError,
            "^the placer does not find a place for every cell; try fewer lanes, another --seed or more --seeds; see ",
        ),
        (
            _ROOM.format(90000, "Unable to find legal placement for cell 'a' of type 'TRELLIS_COMB' after 500 attempts"),
            DoesNotFitError,
            r"^the design does not fit device 85k: needs more TRELLIS_COMB \(90000 of 83640\); see ",
        ),
        (
            _ROOM.format(50000, "Unable to place cell 'a', no BELs remaining to implement cell type 'DP16KD'"),
            DoesNotFitError,
            "^the design does not fit device 85k: needs more cells than it has; see ",
        ),
    ],
)
def test_a_placer_without_a_place(log, kind, message, tmp_path, monkeypatch):
    def placer(name, args, **options):
        raise ToolError("nextpnr failed", log)

    monkeypatch.setattr("hw.flow.synthesis.run_tool", placer)
    with pytest.raises(DoesNotFitError, match=message) as error:
        routed_in(tmp_path)
    assert type(error.value) is kind


def routed_in(folder, line=None):
    return place_and_route(
        folder / "netlist.json",
        family=ECP5,
        part=Part(number="LFE5U-85F", device="85k", package="CABGA381", speed="6"),
        constraints="",
        frequency_mhz=50,
        seed=1,
        routed=folder / "routed.config",
        log=folder / "log",
        cells=Cells(lut=1, ff=1, lut_ram=0, ram_blocks=0, dsp=0),
        line=line,
    )
