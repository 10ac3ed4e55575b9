"""Gowin: its PLL, its constraints, its cells, and what a bitstream unpacks to."""

import json
import subprocess

import pytest

from boards.definitions import board_named
from hw.flow.families.base import Direct, Pin
from hw.flow.families.gowin import GOWIN, Pll, clock_for
from hw.flow.tools import find_tool

BOARDS = ("tang-nano-9k", "tang-primer-20k")


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("wanted", [5, 20, 40.5, 54, 60, 100])
def test_pll(board, wanted):
    pll = clock_for(board_named(board).target, 27e6, wanted * 1e6)
    assert isinstance(pll, Pll)
    assert wanted * 0.9 <= pll.output_hz / 1e6 <= wanted
    assert 400e6 < pll.output_hz * pll.odiv < 1250e6
    assert pll.output_hz == 27e6 / (pll.idiv + 1) * (pll.fbdiv + 1)


def test_gowin_pll_finds_the_same(tmp_path):
    command = [find_tool("gowin_pack").replace("gowin_pack", "gowin_pll"), "-d", "GW1NR-9 C6/I5"]
    args = ["-i", "27", "-o", "54", "-f", str(tmp_path / "pll.v")]
    subprocess.run([*command, *args], capture_output=True, check=True)
    pll = clock_for(board_named("tang-nano-9k").target, 27e6, 54e6)
    assert (pll.idiv, pll.fbdiv) == (0, 1)
    text = (tmp_path / "pll.v").read_text()
    assert ".IDIV_SEL(0)" in text and ".FBDIV_SEL(1)" in text


def test_the_boards_clock_is_taken_as_it_is_where_nothing_is_nearer():
    assert clock_for(board_named("tang-nano-9k").target, 27e6, 27e6) == Direct(27e6)


def test_a_clock_out_of_reach_is_refused():
    with pytest.raises(
        ValueError, match=r"^clock must be at least 3\.125 MHz and within the PLL's reach, not 2 MHz$"
    ):
        clock_for(board_named("tang-nano-9k").target, 27e6, 2e6)


def test_constraints():
    pins = [Pin(port="clk", site="52", standard="LVCMOS33"), Pin(port="rx", site="18", standard="LVCMOS33", pull_up=True)]
    assert GOWIN.constraints(pins, clock="clk", clock_hz=27e6) == (
        'IO_LOC "clk" 52;\nIO_PORT "clk" IO_TYPE=LVCMOS33;\n'
        'IO_LOC "rx" 18;\nIO_PORT "rx" IO_TYPE=LVCMOS33 PULL_MODE=UP;\n'
    )


def test_cells_and_what_they_need():
    cells = GOWIN.count(
        {"LUT1": 1, "LUT4": 10, "ALU": 3, "DFF": 1, "DFFRE": 6, "RAM16SDP4": 2, "SPX9": 1, "SDPB": 1, "MULT18X18": 1, "OBUF": 3}
    )
    assert (cells.lut, cells.ff, cells.lut_ram, cells.ram_blocks, cells.dsp) == (14, 7, 2, 2, 1)
    assert GOWIN.luts_needed(cells) == 22


def test_series_differ_in_their_cells():
    assert "-family gw1n " in GOWIN.to_gates("top", board_named("tang-nano-9k").target)[0]
    assert "-family gw2a " in GOWIN.to_gates("top", board_named("tang-primer-20k").target)[0]
    with pytest.raises(ValueError, match=r"^part must be given for Gowin: GW1N and GW2A differ in their cells$"):
        GOWIN.to_gates("top", None)


def test_unpacked_luts_are_compared(tmp_path, monkeypatch):
    def lut(kind, init, place):
        return {"type": kind, "parameters": {"INIT": init}, "attributes": {"NEXTPNR_BEL": place}}

    cells = {
        "a": lut("LUT2", "0110", "X1Y2/LUT3"),
        "b": lut("LUT4", "0110100110010110", "X1Y2/LUT4"),
        "constant": lut("LUT4", "0" * 32, "X7Y7/LUT0"),
        "pin": {"type": "OBUF"},
    }
    (tmp_path / "routed").write_text(json.dumps({"modules": {"top": {"cells": cells}}}))
    files = {"routed": tmp_path / "routed", "bitstream": tmp_path / "bits", "log": tmp_path / "log"}
    right = "defparam R3C2_LUT4_3.INIT = 16'h6666;\ndefparam R3C2_LUT4_4.INIT = 16'h6996;\nOBUF R1C1_OBUF_A (\n"
    for text, different in (
        (right, []),
        (right.replace("6666", "6667"), ["X1Y2/LUT3"]),
        (right.replace("C2_LUT4_4", "C9_LUT4_4"), ["X1Y2/LUT4", "X8Y2/LUT4"]),
        (right.replace("OBUF", "IBUF"), ["OBUF: 1 in the routed design, 0 in the bitstream"]),
    ):
        monkeypatch.setattr("hw.flow.families.gowin.run_tool", lambda name, args, log, text=text: args[3].write_text(text))
        assert GOWIN.unpack(board_named("tang-nano-9k").target, **files) == different
