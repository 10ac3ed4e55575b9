"""ECP5: its PLL, its constraints, what a netlist takes."""

import pytest

from hw.flow.families.base import Pin
from hw.flow.families.ecp5 import ECP5, pll_for


@pytest.mark.parametrize("board_mhz", [25, 48, 100])
@pytest.mark.parametrize("wanted", [25, 50, 60, 66, 80, 100, 110, 115, 125])
def test_pll(board_mhz, wanted):
    pll = pll_for(board_mhz * 1e6, wanted * 1e6)
    assert board_mhz / pll.reference >= 3.125
    assert wanted * 0.96 <= pll.output_hz / 1e6 <= wanted
    assert 400e6 <= pll.output_hz * pll.divider <= 800e6
    assert board_mhz * 1e6 / pll.reference * pll.feedback == pytest.approx(pll.output_hz)


def test_a_clock_out_of_reach_is_refused():
    with pytest.raises(
        ValueError, match=r"^clock must be at least 3\.125 MHz and within the PLL's reach, not 1 MHz$"
    ):
        pll_for(25e6, 1e6)


def test_constraints():
    pins = [Pin(port="clk", site="G2", standard="LVCMOS33"), Pin(port="rx", site="M1", standard="LVCMOS33", pull_up=True)]
    assert ECP5.constraints(pins, clock="clk", clock_hz=25e6) == (
        'LOCATE COMP "clk" SITE "G2";\nIOBUF PORT "clk" IO_TYPE=LVCMOS33;\n'
        'LOCATE COMP "rx" SITE "M1";\nIOBUF PORT "rx" IO_TYPE=LVCMOS33 PULLMODE=UP;\n'
        'FREQUENCY PORT "clk" 25 MHZ;\n'
    )


def test_cells_and_what_they_need():
    cells = ECP5.count({"LUT4": 10, "CCU2C": 3, "TRELLIS_FF": 7, "TRELLIS_DPR16X4": 2, "DP16KD": 1, "MULT18X18D": 1})
    assert (cells.lut, cells.ff, cells.lut_ram, cells.ram_blocks, cells.dsp) == (16, 7, 2, 1, 1)
    assert ECP5.luts_needed(cells) == 24
