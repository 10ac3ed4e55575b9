"""Memories that are moved from blocks into LUTs: which ones, how many, and what synthesis makes of them."""

import json
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from amaranth.hdl import Module, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In

from boards.limits import limits, relief
from hw.flow.area import estimate_area, memory_luts
from hw.flow.block_use import blocks_by_core
from hw.flow.families.ecp5 import ECP5
from hw.flow.families.gowin import GOWIN
from hw.flow.families.ice40 import ICE40
from hw.flow.families.registry import FAMILIES
from hw.flow.spare_luts import SpareLuts
from hw.flow.synthesis import synthesize
from hw.flow.verilog import to_rtlil
from hw.parts.memory import BuiltMemory, placed
from hw.pipeline.state import StateBank
from hw.pipeline.weights import WeightMemory
from model.machine.named_plans import named_plan
from model.machine.plan import PlanError
from model.machine.planner import Demand, fastest, ladder
from model.network import Network
from model.studies.random_network import drawn
from tests.model.machine.test_planner import frames


@cache
def network() -> Network:
    """A network whose cores have tags, states and weights in blocks, of which some hold little."""
    return drawn("20x20x1: 6C5 P2 12C3 P2 24F 10F", (7, 15, 8))


PLAN = named_plan(network(), "default")
AREA = estimate_area(network(), PLAN)


def moved_to(ram_blocks: int, luts: int = 10**6):
    return SpareLuts(network(), ram_blocks=ram_blocks, luts=luts)(PLAN)


def memories_said(plan):
    return [(core.state_memory, core.tag_memory, core.weight_memory) for core in plan.cores]


def test_no_more_is_moved_than_it_takes():
    """Fewer blocks, and more LUTs, down to where all is moved; parallelism and FIFOs stay."""
    assert moved_to(AREA.ram_blocks) == PLAN
    found, luts = [], []
    least = next(count for count in range(AREA.ram_blocks) if moved_to(count) != PLAN)
    for wanted in range(AREA.ram_blocks, least - 1, -1):
        plan = moved_to(wanted)
        area = estimate_area(network(), plan)
        assert area.ram_blocks <= wanted
        default = {"state_memory": "auto", "tag_memory": "auto", "weight_memory": "auto"}
        assert tuple(replace(core, **default) for core in plan.cores) == PLAN.cores
        found.append(area.ram_blocks)
        luts.append(area.luts)
    assert len(set(found)) > 3
    assert luts[0] == AREA.luts < luts[1] and max(luts) == luts[-1]
    in_luts = {memory for core in memories_said(plan) for memory in core}
    assert in_luts >= {"distributed"}
    # One block less than that cannot be had.
    assert moved_to(least - 1) == PLAN


def test_what_frees_most_for_its_luts_is_moved_first():
    """One block is freed by the cheapest of all memories that free one."""
    plan = moved_to(AREA.ram_blocks - 1)
    costs = []
    for place, core in enumerate(PLAN.cores):
        for change in ({"tag_memory": "distributed"}, {"weight_memory": "mixed"}, {"weight_memory": "distributed"},
                       {"state_memory": "distributed"}):  # fmt: skip
            cores = (*PLAN.cores[:place], replace(core, **change), *PLAN.cores[place + 1 :])
            use = blocks_by_core(network(), replace(PLAN, cores=cores))
            if freed := sum(each.freed_by_luts for each in use):
                costs.append((sum(each.luts_instead for each in use), cores))
                area = estimate_area(network(), replace(PLAN, cores=cores))
                assert area.ram_blocks == AREA.ram_blocks - freed
    assert len(costs) > 4
    assert plan.cores == min(costs, key=lambda pair: pair[0])[1]


def test_no_more_luts_are_taken_than_there_are():
    wanted = AREA.ram_blocks - 1
    luts = estimate_area(network(), moved_to(wanted)).luts
    assert moved_to(wanted, luts=luts + 1) != PLAN
    assert moved_to(wanted, luts=AREA.luts) == PLAN


def test_the_planner_moves_memories_where_blocks_are_short():
    """As many lanes on fewer blocks; where nothing is short, the plan that it was."""
    images = frames(network(), 6)
    demand = Demand.of(network(), images)
    blocks = [estimate_area(network(), plan).ram_blocks for _, plan in ladder(network(), demand)]
    few = sorted(blocks)[len(blocks) // 2]

    def short_of(plan):
        return ["block RAMs"] if estimate_area(network(), plan).ram_blocks > few else []

    without = fastest(network(), demand, short_of)
    relieved = fastest(network(), demand, short_of, relieve=SpareLuts(network(), ram_blocks=few, luts=10**6))
    paces = {plan.lanes: cycles for cycles, plan in ladder(network(), demand)}
    assert paces[relieved.lanes] < paces[without.lanes]
    assert not short_of(relieved) and "distributed" in {memory for core in memories_said(relieved) for memory in core}
    plenty = relief(network(), board="ulx3s-85f")
    assert fastest(network(), demand, limits(network(), board="ulx3s-85f"), relieve=plenty) == fastest(
        network(), demand, limits(network(), board="ulx3s-85f")
    )
    assert relief(network())(PLAN) == relief(network(), board="tang-nano-9k")(PLAN) == PLAN


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


@pytest.mark.full
def test_a_netlist_for_gowin_has_them_in_luts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told, in_luts, cells = synthesized("distributed", GOWIN)
    assert in_luts.ram_blocks == 0
    assert sum(count for kind, count in cells.items() if kind.startswith("RAM16SDP")) == sum(memory.lut_rams for memory in told)
