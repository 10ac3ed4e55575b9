"""Fan-out trees: what is copied, that every sink still sees the same value, and what stays as it is."""

import random
from collections import Counter

import pytest

from hw.flow.split_fan_out import split_fan_out


def lut(a, z):
    return {
        "type": "LUT4",
        "parameters": {"INIT": "10"},
        "port_directions": {"A": "input", "Z": "output"},
        "connections": {"A": [a], "Z": [z]},
    }


def flip_flop(d, q):
    return {
        "type": "TRELLIS_FF",
        "parameters": {},
        "port_directions": {"CLK": "input", "DI": "input", "Q": "output"},
        "connections": {"CLK": [2], "DI": [d], "Q": [q]},
    }


def wide(d):
    """Reads several bits at one port."""
    return {"type": "DP16KD", "parameters": {}, "port_directions": {"D": "input"}, "connections": {"D": d}}


def sources(module):
    """What each input of each cell is a function of, through LUTs and flip-flops, back to the ports: a text."""
    drivers = {}
    for cell in module["cells"].values():
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "output":
                drivers[bits[0]] = cell

    def origin(bit):
        cell = drivers.get(bit)
        if not cell:
            return str(bit)
        inputs = [origin(bits[0]) for port, bits in cell["connections"].items() if cell["port_directions"][port] == "input"]
        return f"{cell['type']}({', '.join(inputs)})"

    return {
        (name, port): [origin(bit) for bit in bits]
        for name, cell in module["cells"].items()
        for port, bits in cell["connections"].items()
        if cell["port_directions"][port] == "input"
    }


def most_sinks(module):
    found = Counter()
    for cell in module["cells"].values():
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "input":
                found.update(bits)
    found.update(bit for port in module["ports"].values() for bit in port["bits"])
    del found[2]
    return found


def example(sinks, *, register="enable"):
    """A flip-flop, a LUT after it, and what that drives: an output of the module among it."""
    cells = {register: flip_flop(3, 4), "select": lut(4, 5)}
    for n in range(sinks):
        cells[f"word_{n}"] = wide([100 + n, 5]) if n % 3 == 0 else lut(5, 1000 + n)
    names = list(cells)
    random.Random(1).shuffle(names)
    return {
        "cells": {name: cells[name] for name in names},
        "ports": {"clk": {"bits": [2]}, "seen": {"bits": [5]}},
        "netnames": {"select": {"hide_name": 0, "bits": [5], "attributes": {}}},
    }


@pytest.mark.parametrize("sinks", [4, 10, 33, 200])
def test_no_net_has_too_many_sinks_and_all_see_the_same(sinks):
    module = example(sinks)
    before = sources(module)
    split, added = split_fan_out(module, 10)
    after = sources(module)
    assert {key: after[key] for key in before} == before
    counts = most_sinks(module)
    assert max(counts.values()) <= 10
    assert (split > 0, added > 0) == (sinks >= 10, sinks >= 10)
    assert len(after) - len(before) == added + sum("enable$" in name for name, port in after if port == "CLK")
    # The port keeps its driver, and every net has a name.
    assert module["cells"]["select"]["connections"]["Z"] == [5]
    named = {bit for net in module["netnames"].values() for bit in net["bits"]}
    assert all(cell["connections"]["Z"][0] in named for name, cell in module["cells"].items() if name.startswith("select"))


def test_neighbours_by_name_share_a_copy():
    module = example(20)
    split_fan_out(module, 10)
    nets = [module["cells"][f"word_{n}"]["connections"]["D" if n % 3 == 0 else "A"][-1] for n in range(20)]
    assert nets == sorted(nets, key=nets.index), "each copy drives neighbours"
    assert len(set(nets)) == 3


def test_synchronizers_stay_single():
    module = example(0, register="reset.stage1_TRELLIS_FF_Q")
    module["cells"] |= {f"sink_{n}": lut(4, 1000 + n) for n in range(30)}
    assert split_fan_out(module, 10) == (0, 0)
