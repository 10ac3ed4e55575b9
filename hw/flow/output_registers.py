"""Output registers of ECP5 block RAM: a pass over the netlist that Yosys, which never uses them, leaves out.

A DP16KD takes 5.6 ns from its clock to its data, but under 1 ns where the register after its output is used (``REGMODE``
in Lattice's ECP5 and ECP5-5G Memory User Guide; delays from Project Trellis' cell timings, speed grade 6). Flip-flops
that do nothing but delay a whole port are that register.
"""

import re
from collections import defaultdict
from typing import Any

__all__ = ["pack_output_registers"]

_Readers = dict[int, list[tuple[str, str]]]
"""Cell and port that read each net; two empty strings for a port of the module."""


def pack_output_registers(module: dict[str, Any]) -> tuple[int, int]:
    """Move flip-flops into the block RAM before them, where nothing else reads the bare data.

    A port is packed whole or not at all: each bit that is used drives the data input of one flip-flop and nothing else,
    on the port's clock, without enable and reset, starting at 0.

    Parameters
    ----------
    module : dict[str, Any]
        A module of Yosys' JSON netlist, mapped to ECP5 cells and flattened; changed in place.

    Returns
    -------
    Number of ports that were packed, and of flip-flops that went into them.
    """
    cells = module["cells"]
    readers: _Readers = defaultdict(list)
    for name, cell in cells.items():
        for port, bits in cell["connections"].items():
            if cell["port_directions"].get(port) != "output":
                for bit in bits:
                    readers[bit].append((name, port))
    for port in module["ports"].values():
        for bit in port["bits"]:
            readers[bit].append(("", ""))

    ports = registers = 0
    for cell in list(cells.values()):
        if cell["type"] != "DP16KD":
            continue
        # A block of 36 bits is written at port A and read at B, and its data comes at both: one register, on B's clock.
        wide = int(str(cell["parameters"]["DATA_WIDTH_B"]), 2) == 36
        for clock, sides in [("B", "AB")] if wide else [("A", "A"), ("B", "B")]:
            found = _registers(cells, readers, cell, clock, sides)
            if not found:
                continue
            for port, flip_flop in found.items():
                cell["connections"][port] = cells.pop(flip_flop)["connections"]["Q"]
            for side in sides:
                cell["parameters"][f"REGMODE_{side}"] = "OUTREG"
                cell["connections"][f"OCE{side}"] = ["1"]
            ports, registers = ports + 1, registers + len(found)
    return ports, registers


def _registers(cells: dict[str, Any], readers: _Readers, cell: dict[str, Any], clock: str, sides: str) -> dict[str, str]:
    """The flip-flop after each data output that is used; empty where the port cannot be packed."""
    connections = cell["connections"]
    if connections.get(f"OCE{clock}") != ["1"] or any(connections.get(f"RST{side}") != ["0"] for side in sides):
        return {}
    found = {}
    for port, bits in connections.items():
        if not re.fullmatch(rf"DO[{sides}]\d+", port) or not bits or not readers[bits[0]]:
            continue
        if len(readers[bits[0]]) != 1:
            return {}
        name, input_port = readers[bits[0]][0]
        if not name or input_port != "DI" or not _is_plain(cells[name], connections[f"CLK{clock}"]):
            return {}
        found[port] = name
    return found


def _is_plain(cell: dict[str, Any], clock: list[int]) -> bool:
    """Whether a cell is a flip-flop that starts at 0 and takes its input at every edge of ``clock``."""
    parameters, connections = cell["parameters"], cell["connections"]
    return bool(
        cell["type"] == "TRELLIS_FF"
        and connections["CLK"] == clock
        and parameters.get("CLKMUX", "CLK") == "CLK"
        and parameters.get("CEMUX", "1").strip() == "1"
        and connections.get("LSR", ["0"]) == ["0"]
        and parameters.get("LSRMUX", "LSR") == "LSR"
        and parameters.get("REGSET", "RESET") == "RESET"
    )
