"""Memories that are moved from blocks into LUTs: which ones, how many, and what synthesis makes of them."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from amaranth.hdl import Module, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In

from boards.limits import relief
from hw.flow.area import estimate_area, memories, memory_luts
from hw.flow.block_use import blocks_by_core
from hw.flow.families.ecp5 import ECP5
from hw.flow.families.gowin import GOWIN
from hw.flow.families.ice40 import ICE40
from hw.flow.families.registry import FAMILIES
from hw.flow.spare_luts import SpareLuts
from hw.flow.synthesis import synthesize
from hw.flow.verilog import to_rtlil
from hw.parts.memory import BLOCK, BuiltMemory, placed
from hw.pipeline.state import StateBank
from hw.pipeline.weights import WeightMemory
from model.machine.estimate import planned
from model.machine.named_plans import named_plan
from model.machine.plan import Plan, PlanError
from model.machine.planner import Demand, as_it_is, ladder
from model.studies.random_network import drawn
from model.support.errors import DoesNotFitError
from tests.model.machine.test_planner import frames, small

NETWORK = drawn("20x20x1: 4C5 P2 6C3 10F", (7, 15, 8))
"""Its cores have tags, states and weights in blocks, of which some hold little."""

PLAN = named_plan(NETWORK, "minimal")
AREA = estimate_area(NETWORK, PLAN)
MOVES = (
    {"tag_memory": "distributed"},
    {"weight_memory": "split"},
    {"weight_memory": "mixed"},
    {"weight_memory": "distributed"},
    {"state_memory": "distributed"},
)


def moved_to(ram_blocks: int, luts: int = 10**6) -> Plan:
    return SpareLuts(NETWORK, ram_blocks=ram_blocks, luts=luts)(PLAN)


def with_core(place: int, change: dict[str, str]) -> Plan:
    return replace(PLAN, cores=(*PLAN.cores[:place], replace(PLAN.cores[place], **change), *PLAN.cores[place + 1 :]))


def test_what_frees_a_block_for_the_fewest_luts_is_moved_and_no_more():
    assert moved_to(AREA.ram_blocks) == PLAN
    costs = []
    for place in range(len(PLAN.cores)):
        for change in MOVES:
            tried = with_core(place, change)
            if any(memory.freed_blocks for memory in memories(NETWORK, tried)):
                changed = [memory for memory in memories(NETWORK, tried) if memory.moved or memory.further]
                costs.append((sum(map(memory_luts, changed)), tried))
    assert len(costs) > 4
    luts, cheapest = min(costs, key=lambda pair: pair[0])
    assert moved_to(AREA.ram_blocks - 1) == cheapest
    area = estimate_area(NETWORK, cheapest)
    assert area.ram_blocks < AREA.ram_blocks
    assert area.luts == pytest.approx(AREA.luts + luts, rel=0.02)
    use = {of.core: of for of in blocks_by_core(NETWORK, cheapest)}
    assert sum(of.freed_by_luts for of in use.values()) == AREA.ram_blocks - area.ram_blocks
    assert sum(of.luts_instead for of in use.values()) == round(luts)
    # Nothing is moved where there are no LUTs for it.
    assert moved_to(AREA.ram_blocks - 1, luts=AREA.luts + int(luts)) == PLAN
    assert moved_to(AREA.ram_blocks - 1, luts=AREA.luts + int(luts) + 1) == cheapest


def test_several_are_moved_where_one_is_not_enough_and_none_where_all_are_not():
    plan = moved_to(AREA.ram_blocks - 4)
    assert estimate_area(NETWORK, plan).ram_blocks <= AREA.ram_blocks - 4
    said = [(core.state_memory, core.tag_memory, core.weight_memory) for core in plan.cores]
    assert sum(memory != "auto" for core in said for memory in core) > 1
    # Parallelism and FIFOs stay.
    default = {"state_memory": "auto", "tag_memory": "auto", "weight_memory": "auto"}
    assert tuple(replace(core, **default) for core in plan.cores) == PLAN.cores
    assert moved_to(0) == PLAN


def test_moves_are_worked_out_only_where_a_lut_is_spare(monkeypatch):
    asked = []

    def none(self, plan):
        asked.append(plan)
        return []

    monkeypatch.setattr(SpareLuts, "_moves", none)
    for luts in (0, AREA.luts - 1, AREA.luts):
        assert moved_to(AREA.ram_blocks - 1, luts=luts) == PLAN
    assert not asked
    assert moved_to(AREA.ram_blocks - 1, luts=AREA.luts + 1) == PLAN
    assert asked == [PLAN]


def test_the_planner_takes_a_plan_that_fits_once_memories_are_moved():
    network = small()
    images = frames(network, 4)

    def in_luts(plan):
        return replace(plan, cores=tuple(replace(core, tag_memory="distributed") for core in plan.cores))

    def short_of(plan):
        return [] if plan == in_luts(plan) and plan.lanes <= 20 else ["block RAMs"]

    with pytest.raises(DoesNotFitError, match=r"^the smallest plan, of 2 lanes, does not fit: short of block RAMs$"):
        planned(network, images, short_of=short_of)
    choice = planned(network, images, short_of=short_of, relieve=in_luts)
    assert choice.plan == in_luts(choice.plan) and 2 < choice.plan.lanes <= 20
    assert all(plan == in_luts(plan) for _, plan in choice.considered)
    least = min(cycles for cycles, plan in ladder(network, Demand.of(network, images)) if plan.lanes <= 20)
    again = planned(network, images, cycles=2 * least, short_of=short_of, relieve=in_luts)
    assert again.plan == in_luts(again.plan)


def test_relief_is_of_a_board_that_the_area_model_knows():
    """Where nothing is short nothing is moved."""
    assert relief(NETWORK, board="ulx3s-85f")(PLAN) == PLAN
    assert relief(NETWORK) is relief(NETWORK, board="tang-nano-9k") is as_it_is


def test_an_ice40_has_no_ram_of_luts():
    for change in ({"state_memory": "distributed"}, {"tag_memory": "distributed"}):
        plan = replace(PLAN, name="p", cores=(replace(PLAN.cores[0], **change), *PLAN.cores[1:]))
        (name,) = change
        message = (
            f"^plan 'p': core 'c0': {name} must not be 'distributed' on an iCE40, which has no RAM made of LUTs$"
        )
        with pytest.raises(PlanError, match=message):
            ICE40.check_memories(plan)
        for family in FAMILIES.values():
            if family is not ICE40:
                family.check_memories(plan)
    tables = replace(PLAN, cores=tuple(replace(core, weight_memory="distributed") for core in PLAN.cores))
    ICE40.check_memories(tables)


class Memories(wiring.Component):
    """A bank of states and one of weights, with nothing around them."""

    def __init__(self, memory: str) -> None:
        word = data.StructLayout({"value": unsigned(10)})
        words = np.random.default_rng(1).integers(-32, 32, (100, 3))
        tags = "auto" if memory == "block" else memory
        self.parts = {
            "bank": StateBank(word=word, depth=300, generation_bits=4, memory=memory, tags=tags),
            "weights": WeightMemory(words=words, weight_bits=6, memory=memory),
        }
        super().__init__(
            {f"{part}_{name}": member for part in self.parts for name, member in self.parts[part].signature.members.items()}
        )

    @property
    def memories(self) -> list[BuiltMemory]:
        return [memory for part in self.parts for memory in placed(part, self.parts[part].memories)]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for part, component in self.parts.items():
            m.submodules[part] = component
            for name, member in component.signature.members.items():
                inside, outside = getattr(component, name), getattr(self, f"{part}_{name}")
                m.d.comb += inside.eq(outside) if member.flow == In else outside.eq(inside)
        return m


def synthesized(memory, family=ECP5):
    component = Memories(memory)
    source, netlist = Path("top.il"), Path("top.json")
    source.write_text(to_rtlil(component, "top"))
    found = synthesize(source, top="top", netlist=netlist, log=Path("top.log"), family=family, part=family.SOME_PART)
    cells = json.loads(netlist.read_text())["modules"]["top"]["cells"].values()
    return component.memories, found, Counter(cell["type"] for cell in cells)


def test_a_netlist_has_them_in_luts(tmp_path, monkeypatch):
    """Not a block of memory, and as many LUT RAMs as told; LUTs nearly."""
    monkeypatch.chdir(tmp_path)
    told, in_blocks, cells = synthesized("block")
    assert cells["DP16KD"] == in_blocks.ram_blocks == sum(memory.blocks for memory in told) == 3
    assert "TRELLIS_DPR16X4" not in cells
    told, in_luts, cells = synthesized("distributed")
    assert cells["DP16KD"] == in_luts.ram_blocks == 0
    assert [memory.freed_blocks for memory in told] == [1, 1, 1]
    assert cells["TRELLIS_DPR16X4"] == in_luts.lut_ram == sum(memory.lut_rams for memory in told) == 19 * (3 + 1)
    # What the registers around take is not the memories'.
    assert in_luts.lut - in_blocks.lut == pytest.approx(sum(map(memory_luts, told)) - 6 * in_luts.lut_ram, rel=0.25)


@pytest.mark.parametrize(("depth", "channels", "blocks"), [(1152, 6, (4, 3)), (3456, 3, (5, 4)), (2050, 3, (5, 2))])
def test_a_netlist_has_a_divided_memory_in_the_blocks_that_are_told(depth, channels, blocks, tmp_path, monkeypatch):
    """With the registers inside of the blocks, a LUT for each bit that is selected, and no multiplier."""
    monkeypatch.chdir(tmp_path)
    words = np.random.default_rng(depth).integers(-32, 32, (depth, channels))
    memory = WeightMemory(words=words, weight_bits=6, memory="split")
    Path("top.il").write_text(to_rtlil(memory, "top"))
    found = synthesize(Path("top.il"), top="top", netlist=Path("top.json"), log=Path("top.log"))
    module = json.loads(Path("top.json").read_text())["modules"]["top"]
    cells = Counter(cell["type"] for cell in module["cells"].values())
    assert cells["DP16KD"] == found.ram_blocks == sum(built.blocks for built in memory.memories) == blocks[1]
    assert blocks[0] - blocks[1] == sum(built.freed_blocks for built in memory.memories)
    in_blocks = sum(built.width for built in memory.memories if built.kind == BLOCK)
    assert found.output_registers == in_blocks
    assert (found.lut_ram, found.dsp) == (0, 0)
    luts, selected = sum(map(memory_luts, memory.memories)), sum(built.width for built in memory.memories if built.further)
    assert selected <= found.lut <= selected + 4 and selected <= luts
    # A table of two words is part of what selects.
    assert (luts > selected) == (depth == 2050)


@pytest.mark.full
def test_a_netlist_for_gowin_has_them_in_luts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told, in_luts, cells = synthesized("distributed", GOWIN)
    assert in_luts.ram_blocks == 0
    assert sum(count for kind, count in cells.items() if kind.startswith("RAM16SDP")) == sum(memory.lut_rams for memory in told)
