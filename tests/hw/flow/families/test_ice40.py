"""iCE40: its PLL, its constraints, its cells, and memories that have no LUTs to be made of."""

import re
import subprocess

import pytest

from hw.flow.families.base import ConstraintError, Direct, Pin
from hw.flow.families.ice40 import ICE40, Pll, clock_for, filter_range
from hw.flow.tools import find_tool


@pytest.mark.parametrize("wanted", [16.5, 20, 24, 30, 48, 133.3])
def test_pll(wanted):
    pll = clock_for(12e6, wanted * 1e6)
    assert isinstance(pll, Pll)
    assert wanted * 0.97 <= pll.output_hz / 1e6 <= wanted
    assert 533e6 <= pll.output_hz * 2**pll.divq <= 1066e6
    assert pll.output_hz == 12e6 / (pll.divr + 1) * (pll.divf + 1) / 2**pll.divq


@pytest.mark.parametrize("wanted", [16.5, 24, 30, 48])
def test_icepll_finds_the_same(wanted):
    icepll = find_tool("icepack").replace("icepack", "icepll")
    text = subprocess.run([icepll, "-i", "12", "-o", str(wanted)], capture_output=True, text=True, check=True).stdout
    theirs = {name: int(value) for name, value in re.findall(r"^(DIVR|DIVF|DIVQ|FILTER_RANGE):\s+(\d+)", text, re.MULTILINE)}
    pll = clock_for(12e6, wanted * 1e6)
    assert theirs == {"DIVR": pll.divr, "DIVF": pll.divf, "DIVQ": pll.divq, "FILTER_RANGE": pll.filter_range}


@pytest.mark.parametrize("wanted", [12, 13, 15.9])
def test_the_boards_clock_is_taken_as_it_is_where_nothing_is_nearer(wanted):
    assert clock_for(12e6, wanted * 1e6) == Direct(12e6)


def test_a_clock_out_of_reach_is_refused():
    with pytest.raises(
        ValueError,
        match=r"^clock must be at least the board's 12 MHz, or what the PLL makes of it from 16 MHz on, not 8 MHz$",
    ):
        clock_for(12e6, 8e6)


def test_loop_filters():
    assert [filter_range(mhz * 1e6) for mhz in (12, 20, 40, 60, 100, 120)] == [1, 2, 3, 4, 5, 6]


def test_constraints():
    pins = [Pin(port="clk", site="35", standard="LVCMOS33"), Pin(port="rx", site="6", standard="LVCMOS33", pull_up=True)]
    assert ICE40.constraints(pins, clock="clk", clock_hz=12e6) == (
        "set_io clk 35\nset_io -pullup yes rx 6\nset_frequency clk 12\n"
    )
    with pytest.raises(ConstraintError, match=r"^pin rx must be LVCMOS33 on an iCE40, not 'LVDS'$"):
        ICE40.constraints([Pin(port="rx", site="6", standard="LVDS")], clock="clk", clock_hz=12e6)


def test_cells_and_what_they_need():
    cells = ICE40.count({"SB_LUT4": 10, "SB_DFF": 7, "SB_DFFESR": 8, "SB_RAM40_4KNW": 1, "SB_RAM40_4K": 2, "SB_MAC16": 1})
    assert (cells.lut, cells.ff, cells.lut_ram, cells.ram_blocks, cells.dsp) == (10, 15, 0, 3, 1)
    assert ICE40.luts_needed(cells) == 15
