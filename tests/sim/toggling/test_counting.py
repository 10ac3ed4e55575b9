"""Counts of small netlists, by hand; and what is not counted."""

from dataclasses import replace

import pytest

from hw.flow.families.ecp5 import ECP5
from hw.flow.families.ice40 import ICE40
from sim.simulators import SimulationError
from sim.toggling.counting import ANSWER, QUIET, QUIET_CYCLES, Group, counted
from sim.toggling.kinds import driver
from tests.sim.toggling.harness import by_kind, simulated

OUTPUTS = {"O", "CO", "Q", "Z", "S0", "S1", "COUT", "DO", "RDATA", "DATAOUT", "DOA0", "DOB0"}

WIDTHS = {"RADDR": 11, "WADDR": 11, "MASK": 16, "WDATA": 16, "ADDRESS": 14, "DATAIN": 16, "MASKWREN": 4}
WIDTHS |= dict.fromkeys(("RAD", "WAD", "DI"), 4)

CLK, RUN, MARK, EN, T, NOT_T, CARRY, READ, READ_B, LARGE, BESIDE, SUM = range(2, 14)


def cell(kind, parameters=None, **connections):
    """A cell of a netlist; each pin is one net, or several of which the last ones are 0."""
    return {
        "type": kind,
        "parameters": parameters or {},
        "connections": {pin: [net, *["0"] * (WIDTHS.get(pin, 1) - 1)] for pin, net in connections.items()},
        "port_directions": {pin: "output" if pin in OUTPUTS else "input" for pin in connections},
    }


def module(outputs, cells):
    """A netlist with an input ``en``, and outputs by name."""
    inputs = {"clk": CLK, "run": RUN, "mark": MARK, "en": EN}
    ports = {name: {"direction": "input", "bits": [net]} for name, net in inputs.items()}
    ports |= {name: {"direction": "output", "bits": [net]} for name, net in outputs.items()}
    nets = {bit for of in cells.values() for bits in of["connections"].values() for bit in bits if isinstance(bit, int)}
    names = {f"n{net}": {"bits": [net]} for net in sorted(nets - {CLK, RUN, MARK, EN})}
    return {"ports": ports, "netnames": names, "cells": {f"cell_{name}": of for name, of in cells.items()}}


CYCLES = [
    {"en": 1},
    *[{}] * 2,
    *[{"run": 1}] * 4,
    *[{"run": 1, "en": 1}] * 4,
    {"run": 1},
    {"run": 1, "mark": 1},
]
"""Ten cycles count, from the fourth on; `T` is 1 in every second, from the second on."""


def test_toggles_of_an_ice40_are_those_counted_by_hand(tmp_path):
    low, high = "0" * 16, "1" * 16
    found, (total,) = simulated(
        module(
            {"carry": CARRY, "read": READ, "large": LARGE, "trace_only": BESIDE},
            {
                "not": cell("SB_LUT4", {"LUT_INIT": "0101010101010101"}, I0=T, I1="0", I2="0", I3="0", O=NOT_T),
                "t": cell("SB_DFF", C=CLK, D=NOT_T, Q=T),
                "and": cell("SB_CARRY", I0=T, I1=EN, CI="0", CO=CARRY),
                "ram": cell(
                    "SB_RAM40_4K", {"INIT_0": (high + low).rjust(256, "0")},
                    RCLK=CLK, RCLKE="1", RE=EN, RADDR=T, RDATA=READ, WCLK=CLK, WCLKE="1", WE=T, WADDR="0", WDATA="0", MASK="1",
                ),
                "spram": cell(
                    "SB_SPRAM256KA", CLOCK=CLK, CHIPSELECT=EN, WREN=T, STANDBY="0", SLEEP="0", POWEROFF="1", ADDRESS="0",
                    DATAIN="0", MASKWREN="0", DATAOUT=LARGE,
                ),
                "beside": cell("SB_LUT4", {"LUT_INIT": "0101010101010101"}, I0=T, I1=EN, I2="0", I3="0", O=BESIDE),
            },
        ),
        ICE40,
        CYCLES,
        tmp_path,
    )
    assert (total.what, total.cycles) == (ANSWER, 10)
    counts = by_kind(found, total)
    # What it shows behind a write is nothing that is promised.
    del counts["large RAM"]
    assert counts == {
        "input": (2, 2 * 3),
        "LUT": (10, 10),
        "carry": (4, 4),
        "flip-flop": (10, 10 * 5),
        "block RAM": (4, 4),
        "block RAM, reads": (4, 0),
        "block RAM, writes": (5, 0),
        "large RAM, reads": (2, 0),
        "large RAM, writes": (2, 0),
    }
    assert found.flip_flops == 1
    assert found.cells == {"SB_LUT4": 1, "SB_DFF": 1, "SB_CARRY": 1, "SB_RAM40_4K": 1, "SB_SPRAM256KA": 1}


def ecp5():
    """A flip-flop that toggles, an adder, a LUT RAM with 1 in every word but that of address 0, a block RAM."""
    unused = {f"{pin}{side}{n}": "0" for side in "AB" for pin, count in (("AD", 14), ("DI", 18)) for n in range(count)}
    unused |= {f"{pin}{side}": "0" for side in "AB" for pin in ("OCE", "RST")}
    unused |= {f"CS{side}{n}": "0" for side in "AB" for n in range(3)}
    ports = {"CLKA": CLK, "CEA": EN, "WEA": T, "DOA0": READ, "CLKB": CLK, "CEB": "1", "WEB": "0", "CSB0": EN, "DOB0": READ_B}
    return {
        "not": cell("LUT4", {"INIT": "0101010101010101"}, A=T, B="0", C="0", D="0", Z=NOT_T),
        "t": cell("TRELLIS_FF", {"GSR": "DISABLED", "CEMUX": "1 "}, CLK=CLK, LSR="0", CE="1", DI=NOT_T, Q=T),
        "sum": cell(
            "CCU2C", {"INIT0": "1010" * 4, "INIT1": "1010" * 4, "INJECT1_0": "NO", "INJECT1_1": "NO"},
            CIN=EN, A0=T, B0="0", C0="0", D0="0", A1="1", B1="0", C1="0", D1="0", S0=SUM, COUT=CARRY,
        ),
        "lut_ram": cell(
            "TRELLIS_DPR16X4", {"INITVAL": "0001" * 15 + "0000", "WREMUX": "INV"},
            WCK=CLK, WRE=EN, WAD="1", DI="1", RAD=T, DO=LARGE,
        ),
        "ram": cell("DP16KD", {"CSDECODE_A": "0b000", "CSDECODE_B": "0b001"}, **(unused | ports)),
    }  # fmt: skip


def test_toggles_of_an_ecp5_are_those_counted_by_hand(tmp_path):
    outputs = {"sum": SUM, "carry": CARRY, "read": READ, "read_b": READ_B, "lut_read": LARGE}
    found, (total,) = simulated(module(outputs, ecp5()), ECP5, CYCLES, tmp_path)
    assert total.cycles == 10
    assert by_kind(found, total) == {
        # `EN`: the carry, the LUT RAM, the block RAM twice.
        "input": (2, 2 * 4),
        # The sum stands where both of its operands change, twice.
        "LUT": (10 + 8, 10 + 8),
        "carry": (4, 4),
        "flip-flop": (10, 10 * 4),
        "LUT RAM": (10, 10),
        "block RAM": (0, 0),
        # Written where `EN` is 0.
        "LUT RAM, writes": (6, 0),
        # Both ports read where `EN` is 1; the first one writes in every second of these cycles.
        "block RAM, reads": (2 + 4, 0),
        "block RAM, writes": (2, 0),
    }
    assert [group for group in found.groups if group.kind == "flip-flop"] == [Group(kind="flip-flop", sinks=4, count=1)]


def test_counts_are_written_at_marks_and_in_quiet(tmp_path):
    cells = {"not": ecp5()["not"], "t": ecp5()["t"]}
    first, second = QUIET_CYCLES
    cycles = [{}, {"run": 1}, {"mark": 1}, *[{}] * 5, {"run": 1}, {"mark": 1}, *[{}] * (second + 5)]
    _, totals = simulated(module({"q": T}, cells), ECP5, cycles, tmp_path)
    assert [(total.what, total.cycles) for total in totals] == [(ANSWER, 2), (ANSWER, 9), (QUIET, 9 + first), (QUIET, 9 + second)]
    # Both nets toggle in each cycle.
    assert [total.counts for total in totals] == [(cycles, cycles) for cycles in (2, 9, 9 + first, 9 + second)]


def test_many_nets_of_a_kind_are_all_counted(tmp_path):
    """More than a word of them, with the same number of sinks."""
    count = 130
    cells = {f"t{n}": cell("SB_DFF", C=CLK, D=EN, Q=100 + n) for n in range(count)}
    found, (total,) = simulated(module({f"q{n}": 100 + n for n in range(count)}, cells), ICE40, CYCLES, tmp_path)
    assert by_kind(found, total) == {"input": (2, 2 * count), "flip-flop": (2 * count, 2 * count)}
    assert found.flip_flops == count


def test_a_cell_that_is_not_known_gets_one_line():
    with pytest.raises(SimulationError, match=r"^it is not known what kind of net output F of cell LUT4 drives$"):
        driver("LUT4", "F")
    found = cell("WARP9", I=T, O=NOT_T)
    with pytest.raises(SimulationError, match=r"^it is not known what kind of net output O of cell WARP9 drives$"):
        counted(module({"q": NOT_T}, {"warp": found}), begins="run", marked="mark")


def test_groups_stand_in_the_order_of_kinds():
    found = counted(module({"sum": SUM, "carry": CARRY, "q": T}, ecp5()), begins="run", marked="mark")
    assert [group.kind for group in found.groups] == ["input", "LUT", "carry", "flip-flop"]
    assert replace(found.groups[0], sinks=1) == Group(kind="input", sinks=1, count=1)
