"""The area model against designs that were placed, and memories against what synthesis makes of them."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import model
from boards.area_fit import DESIGNS, PLACED, _rows, design_of, fit, measure
from hw.flow.area import AREA, LUT_RAM_CELLS, estimate_area, features, memories
from hw.flow.families.ecp5 import ECP5
from hw.flow.verilog import to_rtlil
from hw.link.system import System
from hw.machines import machine_of
from hw.parts.memory import BLOCK, DISTRIBUTED, LOGIC, BuiltMemory, ram_kind, rom_kind
from model.machine.named_plans import named_plan
from model.machine.plan import Plan
from model.network import Network
from model.studies.random_network import drawn
from sim.generators.networks import random_network
from sim.netlist import machine_netlist

ZOO = Path(model.__file__).parent / "zoo"
STUDY = json.loads(AREA.read_text())


def test_blocks_of_every_shape():
    def blocks(width, depth):
        return BuiltMemory(name="m", width=width, depth=depth, kind=BLOCK).blocks

    assert [blocks(36, 512), blocks(37, 512), blocks(36, 513), blocks(18, 1024), blocks(1, 16384)] == [1, 2, 2, 1, 1]
    # What is left of the width takes a byte of a block, whose other bytes take more words.
    assert [blocks(60, 2700), blocks(60, 3073), blocks(45, 1024), blocks(20, 700)] == [11, 14, 3, 2]
    assert [blocks(1, 16385), blocks(8, 4096), blocks(9, 4096), blocks(9, 2048)] == [2, 2, 2, 1]
    lut = BuiltMemory(name="m", width=5, depth=17, kind=DISTRIBUTED)
    assert (lut.lut_rams, lut.blocks, lut.table_luts) == (4, 0, 0)
    assert BuiltMemory(name="m", width=8, depth=25, kind=LOGIC).table_luts == 16
    assert [ram_kind(4, 256), ram_kind(4, 257), rom_kind(32), rom_kind(33)] == [DISTRIBUTED, BLOCK, LOGIC, BLOCK]


def test_the_study_holds_twelve_designs_or_more_and_every_one_of_the_list():
    designs = [design_of(found) for found in STUDY["designs"]]
    assert designs == list(DESIGNS)
    assert len(designs) >= 12
    assert {(design.firing, design.burst > 1) for design in designs} == {
        ("immediate", False), ("deferred", False), ("immediate", True)
    }  # fmt: skip


_MODULE_OR_MEMORY = re.compile(
    r'^module \\system\.?(?:machine\.)?(?P<module>\S*)|^\s*attribute \\ram_style "(?P<style>\w+)"$'
    r"|^\s*memory width (?P<width>\d+) size (?P<depth>\d+) \\(?P<memory>\S+)$",
    re.MULTILINE,
)


def elaborated(network: Network, plan: Plan) -> dict[str, tuple[int, int, str | None]]:
    """Width, depth and style of every memory of a system's RTLIL, by its place; that of a FIFO has the FIFO's name."""
    system = System(network=network, plan=plan, divisor=50, clock_hz=5e7)
    built, place, style = {}, "", None
    for match in _MODULE_OR_MEMORY.finditer(to_rtlil(system, "system")):
        if match["memory"] is None:
            place, style = (place, match["style"]) if match["module"] is None else (re.sub(r"\$\d+", "", match["module"]), None)
            continue
        name = place if match["memory"] == "storage" else f"{place}.{match['memory']}"
        built[name.lstrip(".")] = int(match["width"]), int(match["depth"]), style
        style = None
    return built


LEVELS = {"input_threshold": 30, "input_step": 45, "input_levels": 4}
QUICK = (("minimal", 1, "deferred"), ("minimal", 3, "immediate"), ("default", 1, "immediate"), ("default", 3, "deferred"))
SYSTEMS = [
    pytest.param(name, seed, coding, firing, marks=[] if (name, seed, firing) in QUICK else [pytest.mark.full])
    for name in ("minimal", "default")
    for seed, coding in ((1, {}), (3, LEVELS))
    for firing in ("immediate", "deferred")
]


@pytest.mark.parametrize(("name", "seed", "coding", "firing"), SYSTEMS)
def test_a_system_has_the_memories_that_its_parts_tell(name, seed, coding, firing):
    """Before it is elaborated, and after: of FIFOs, told is what synthesis leaves of a word."""
    network = replace(random_network(seed), firing=firing, **coding)
    plan = replace(named_plan(network, name), watch=True)
    check_told(network, plan)


def test_a_system_has_the_memories_that_its_plan_moves():
    network, _ = DESIGNS[2].build()
    plan = named_plan(network, "minimal")
    for memory in ("mixed", "distributed"):
        cores = (replace(core, state_memory="distributed", tag_memory="distributed", weight_memory=memory) for core in plan.cores)
        moved = replace(plan, cores=tuple(cores))
        told = check_told(network, moved)
        assert {each.name.split(".")[2] for each in told if each.moved} >= {"state_0", "weights_0"}
        before, after = estimate_area(network, plan), estimate_area(network, moved)
        assert after.ram_blocks == before.ram_blocks - sum(each.freed_blocks for each in told) < before.ram_blocks
        assert after.luts > before.luts
        assert after.lut_rams == sum(each.lut_rams for each in told) > before.lut_rams


def check_told(network: Network, plan: Plan) -> list[BuiltMemory]:
    told = memories(network, plan)
    built = elaborated(network, plan)
    assert len({memory.name for memory in told}) == len(told) > 10
    assert {memory.name for memory in told} == set(built)
    for memory in told:
        width, depth, style = built[memory.name]
        if style is None:
            assert (memory.depth, memory.kind) == (depth, DISTRIBUTED) and 0 < memory.width <= width
        else:
            assert (memory.width, memory.depth, memory.kind) == (width, depth, style)
    return told


def test_blocks_are_exact_and_lut_rams_but_for_one_design():
    """Of machines that fire deferred or in bursts too. Yosys keeps constant bits of a FIFO in that one."""
    off = {}
    for number, found in enumerate(STUDY["designs"]):
        network, plan = design_of(found).build()
        built = memories(network, plan)
        blocks = sum(memory.blocks for memory in built) - found["ram_blocks"]
        lut_rams = sum(memory.lut_rams for memory in built) - found["lut_rams"]
        if blocks or lut_rams:
            off[number] = blocks, lut_rams
    assert list(off.values()) == [(0, -1)], off


def test_luts_and_flip_flops_are_predicted_within_fifteen_percent():
    """Of each design, from the others alone."""
    rows = list(_rows(STUDY["designs"]))
    for kind in ("luts", "flip_flops"):
        errors = []
        for number, found in enumerate(STUDY["designs"]):
            told = found["predicted"][kind]
            costs = fit([row for row in rows if row.design != number], kind)
            again = sum(costs.get(n, 0) * a for row in rows if row.design == number for n, a in row.features.items())
            assert told == pytest.approx(again + (6 * found["predicted"]["lut_rams"] if kind == "luts" else 0), abs=1)
            errors.append(abs(told / found[kind] - 1))
        assert float(np.median(errors)) <= 0.15
        assert STUDY["median_error"][kind] == pytest.approx(float(np.median(errors)), abs=1e-4)


def test_designs_that_are_not_placed_have_the_luts_that_placement_would_give_them():
    ratios = []
    for found in STUDY["designs"]:
        if design_of(found).placed:
            cells = sum(core["luts"] for core in found["cores"].values())
            ratios.append((found["luts"] - LUT_RAM_CELLS * found["lut_rams"]) / cells)
    assert PLACED == pytest.approx(float(np.median(ratios)), abs=5e-4)
    assert max(abs(ratio / PLACED - 1) for ratio in ratios) < 0.02


def test_more_lanes_take_more():
    network, _ = DESIGNS[2].build()
    areas = [estimate_area(network, named_plan(network, name)) for name in ("minimal", "default", "fast")]
    assert [a.luts for a in areas] == sorted(a.luts for a in areas)
    assert [a.flip_flops for a in areas] == sorted(a.flip_flops for a in areas)
    plan = named_plan(network, "fast")
    deeper = replace(plan, cores=tuple(replace(core, event_fifo=256) for core in plan.cores))
    assert estimate_area(network, deeper).lut_rams > areas[2].lut_rams
    assert set(features(network, plan)) == {"p1", "f2", "f3", "system"}


SMALL = drawn("6x6x1: 2C3 P2 4F")
CHECKED = (
    (SMALL, "minimal", 133, 218),
    (Network.load(ZOO / "mnist-small.npz"), "minimal", 168, 228),
    (drawn("6x6x1: 8C3 P2 12F"), "fast", 511, 329),
)
"""Networks and plans without watching, and what the check of weights takes besides: LUTs and flip-flops of the machine after
synthesis."""


def unwatched(network, name, *, weight_check):
    return replace(named_plan(network, name), watch=False, inject=False, weight_check=weight_check)


@pytest.mark.parametrize(("network", "name", "luts", "flip_flops"), CHECKED, ids=("small", "mnist-small", "banks"))
def test_the_check_of_weights_takes_what_it_took(network, name, luts, flip_flops):
    before, after = (estimate_area(network, unwatched(network, name, weight_check=checks)) for checks in (False, True))
    assert after.luts - before.luts == pytest.approx(luts, rel=0.1)
    assert after.flip_flops - before.flip_flops == pytest.approx(flip_flops, rel=0.1)
    assert (after.lut_rams, after.ram_blocks) == (before.lut_rams, before.ram_blocks)


@pytest.mark.full
def test_the_check_of_weights_takes_what_it_took_with_these_tools(tmp_path):
    _, name, luts, flip_flops = CHECKED[0]
    before, after = (
        ECP5.count(machine_netlist(machine_of(SMALL, plan), cache=tmp_path, log=tmp_path / "log.txt").cells)
        for plan in (unwatched(SMALL, name, weight_check=checks) for checks in (False, True))
    )
    assert after.lut - before.lut == pytest.approx(luts, rel=0.05)
    assert after.ff - before.ff == pytest.approx(flip_flops, rel=0.05)


@pytest.mark.full
def test_the_study_can_be_made_again():
    """One design, placed and routed again with these tools, takes what the study says."""
    found, told = measure(DESIGNS[0]), STUDY["designs"][0]
    assert {kind: found[kind] for kind in ("lut_rams", "ram_blocks")} == {k: told[k] for k in ("lut_rams", "ram_blocks")}
    assert found["luts"] == pytest.approx(told["luts"], rel=0.1)
    assert found["flip_flops"] == pytest.approx(told["flip_flops"], rel=0.1)
