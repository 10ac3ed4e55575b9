"""Kinds of nets, by the cells that drive them, and of accesses to memories."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from sim.simulators import SimulationError

__all__ = ["ACCESSES", "FLIP_FLOP", "INPUT", "KINDS", "accesses", "driver"]

INPUT, LUT, CARRY, FLIP_FLOP, LUT_RAM, BLOCK_RAM, LARGE_RAM = KINDS = (
    "input", "LUT", "carry", "flip-flop", "LUT RAM", "block RAM", "large RAM",
)  # fmt: skip
"""Of nets: an input of the machine, or the kind of cell whose output they are."""

ACCESSES = (
    "LUT RAM, writes", "block RAM, reads", "block RAM, writes", "large RAM, reads", "large RAM, writes",
)  # fmt: skip
"""Of accesses. A port that is enabled and does not write reads, whether what it reads is used or not."""

_DRIVERS = {
    r"SB_LUT4\.O|LUT4\.Z|PFUMX\.Z|L6MUX21\.Z|CCU2C\.S[01]": LUT,
    r"SB_CARRY\.CO|CCU2C\.COUT": CARRY,
    r"SB_DFF\w*\.Q|TRELLIS_FF\.Q": FLIP_FLOP,
    r"TRELLIS_DPR16X4\.DO": LUT_RAM,
    r"SB_RAM40_4K\.RDATA|DP16KD\.DO[AB]\d+": BLOCK_RAM,
    r"SB_SPRAM256KA\.DATAOUT": LARGE_RAM,
}

_Pin = Callable[[str], str]


def driver(cell: str, port: str) -> str:
    """Which of `KINDS` the nets are that drives output ``port`` of a cell.

    Raises
    ------
    SimulationError : the cell is not known
    """
    for pattern, kind in _DRIVERS.items():
        if re.fullmatch(pattern, f"{cell}.{port}"):
            return kind
    raise SimulationError(f"it is not known what kind of net output {port} of cell {cell} drives")


def accesses(cell: Mapping[str, Any], pin: _Pin) -> dict[str, list[str]]:
    """Of a cell of Yosys' JSON netlist, by kind, what is true in Verilog where a clock edge makes it an access.

    Parameters
    ----------
    cell : Mapping[str, Any]
        The cell.
    pin : Callable[[str], str]
        Verilog of the net at an input of it.
    """
    known = {
        "SB_RAM40_4K": _sb_ram40,
        "SB_SPRAM256KA": _sb_spram,
        "DP16KD": _dp16kd,
        "TRELLIS_DPR16X4": _trellis_dpr16x4,
    }
    return known[cell["type"]](cell, pin) if cell["type"] in known else {}


def _sb_ram40(cell: Mapping[str, Any], pin: _Pin) -> dict[str, list[str]]:
    return {
        "block RAM, reads": [f"{pin('RE')} && {pin('RCLKE')}"],
        "block RAM, writes": [f"{pin('WE')} && {pin('WCLKE')}"],
    }


def _sb_spram(cell: Mapping[str, Any], pin: _Pin) -> dict[str, list[str]]:
    chosen = f"{pin('CHIPSELECT')} && !{pin('STANDBY')} && !{pin('SLEEP')} && {pin('POWEROFF')}"
    return {"large RAM, reads": [f"{chosen} && !{pin('WREN')}"], "large RAM, writes": [f"{chosen} && {pin('WREN')}"]}


def _dp16kd(cell: Mapping[str, Any], pin: _Pin) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"block RAM, reads": [], "block RAM, writes": []}
    for side in "AB":
        # A text, of which the last three characters are the levels that select the block.
        code = cell["parameters"].get(f"CSDECODE_{side}", "0b000").strip()[-3:]
        chosen = f"{pin(f'CE{side}')} && {{{', '.join(pin(f'CS{side}{n}') for n in (2, 1, 0))}}} == 3'b{code}"
        found["block RAM, reads"].append(f"{chosen} && !{pin(f'WE{side}')}")
        found["block RAM, writes"].append(f"{chosen} && {pin(f'WE{side}')}")
    return found


def _trellis_dpr16x4(cell: Mapping[str, Any], pin: _Pin) -> dict[str, list[str]]:
    # What the write enable is made of.
    enable = {"INV": f"!{pin('WRE')}", "1": "1'b1", "0": "1'b0"}
    return {"LUT RAM, writes": [enable.get(cell["parameters"].get("WREMUX", "WRE").strip(), pin("WRE"))]}
