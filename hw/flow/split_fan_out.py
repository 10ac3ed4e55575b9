"""Fan-out trees: a pass over the netlist that copies what drives more than a few.

The select of a word that all lanes of a core share drives a thousand cells across half of the device, and what takes the time is
the one wire to all of them. Yosys merges equal cells wherever it finds them, so that copies made in the RTL do not last: they
are made after it. A copy has the inputs of its original, hence always its value.
"""

import re
from collections import defaultdict
from itertools import pairwise
from typing import Any

__all__ = ["MOST_SINKS", "split_fan_out"]

MOST_SINKS = 32
"""Sinks of a net that has copies of its driver."""

_OUTPUT = {"LUT4": "Z", "TRELLIS_FF": "Q"}
"""What is copied, and its output."""

_Sink = tuple[str, str, int]
"""Cell, port and bit that read a net; an empty cell for a port of the module."""


def split_fan_out(module: dict[str, Any], most: int = MOST_SINKS) -> tuple[int, int]:
    """Copy LUTs and flip-flops that drive more than ``most`` sinks; neighbours by name share a copy.

    LUTs come first, as their copies are sinks of what drives them. The stages of synchronizers stay single: two copies of one
    may not see the same.

    Parameters
    ----------
    module : dict[str, Any]
        A module of Yosys' JSON netlist, mapped to ECP5 cells and flattened; changed in place.
    most : int
        Sinks that a driver keeps.

    Returns
    -------
    Number of nets that were split, and of cells that were added.
    """
    cells, netnames = module["cells"], module["netnames"]
    sinks: dict[int, list[_Sink]] = defaultdict(list)
    drivers: dict[int, str] = {}
    fresh = 0
    for name, cell in cells.items():
        for port, bits in cell["connections"].items():
            fresh = max([fresh, *(bit for bit in bits if isinstance(bit, int))])
            if cell["port_directions"].get(port) != "output":
                for index, bit in enumerate(bits):
                    sinks[bit].append((name, port, index))
        if cell["type"] in _OUTPUT:
            drivers[cell["connections"][_OUTPUT[cell["type"]]][0]] = name
    for port in module["ports"].values():
        for bit in port["bits"]:
            sinks[bit].append(("", "", 0))
    names = {bit: name for name, net in netnames.items() for bit in net["bits"]}

    split: set[int] = set()
    added = 0
    for kind in _OUTPUT:
        # Copies of a LUT may be too many sinks for the LUT before it: again, until no net is over.
        while over := [
            bit
            for bit, driver in drivers.items()
            if len(sinks[bit]) > most and cells[driver]["type"] == kind and not _synchronizes(driver)
        ]:
            for bit in over:
                groups = _groups(sinks[bit], most)
                sinks[bit] = groups[0]
                split.add(bit)
                original = cells[drivers[bit]]
                for group in groups[1:]:
                    fresh, added = fresh + 1, added + 1
                    name = f"{drivers[bit]}$copy{added}"
                    copy = original | {"connections": original["connections"] | {_OUTPUT[kind]: [fresh]}}
                    cells[name], drivers[fresh], sinks[fresh] = copy, name, group
                    netnames[f"{names.get(bit, 'net')}$copy{added}"] = {"hide_name": 1, "bits": [fresh], "attributes": {}}
                    for port, bits in copy["connections"].items():
                        if port != _OUTPUT[kind]:
                            for index, read in enumerate(bits):
                                sinks[read].append((name, port, index))
                    for sink, port, index in group:
                        connections = cells[sink]["connections"]
                        connections[port] = [*connections[port][:index], fresh, *connections[port][index + 1 :]]
    return len(split), added


def _groups(sinks: list[_Sink], most: int) -> list[list[_Sink]]:
    """As few groups as may be, all about as large, in the order of names; ports of the module in the first."""
    ordered = sorted(sinks, key=lambda sink: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", sink[0])])
    count = -(-len(ordered) // most)
    bounds = [n * len(ordered) // count for n in range(count + 1)]
    return [ordered[begin:end] for begin, end in pairwise(bounds)]


def _synchronizes(cell: str) -> bool:
    return bool(re.search(r"\bstage\d", cell))
