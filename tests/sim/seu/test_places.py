"""Registers and memories, as they stand in the Verilog."""

import re

import pytest

from hw.flow.verilog import to_verilog
from hw.folded.machine import FoldedMachine
from hw.machines import machine_of
from hw.pipeline.machine import Machine
from model.machine.named_plans import FOLDED, NAMED_PLANS, named_plan
from sim.generators.networks import random_network
from sim.seu.places import QUEUES, STATES, TABLES, TAGS, WEIGHTS, opened, opened_spram
from sim.simulators import SimulationError
from tests.sim.seu.small import network

COUNTER = """module machine(clk, rst, given);
  reg [3:0] \\$1 ;
  reg [3:0] count = 4'h0;
  reg flag = 1'h0;
  reg [7:0] WORDS [2:0];
  always @(posedge clk)
    count <= \\$1 ;
  always @(posedge clk) begin
    if (flag)
      WORDS[count] <= given;
  end
  always @* begin
    flag = 1;
  end
endmodule
"""


def test_registers_and_memories_are_opened():
    text, places = opened(COUNTER.replace("WORDS", "storage"))
    found = [(place.name, place.bits, place.words, place.memory, place.written, place.of) for place in places]
    assert found == [("count", 4, 1, False, True, ""), ("storage", 8, 3, True, True, QUEUES)]
    assert "reg [3:0] count /*verilator public_flat_rw*/ = 4'h0;" in text
    assert "reg [7:0] storage [2:0] /*verilator public_flat_rw*/;" in text
    assert text.replace(" /*verilator public_flat_rw*/", "") == COUNTER.replace("WORDS", "storage")


def test_a_memory_of_no_known_class_is_an_error():
    with pytest.raises(SimulationError, match=r"^memory novelty is of no known class$"):
        opened(COUNTER.replace("WORDS", "novelty"))


def test_two_of_the_same_name_are_an_error():
    twice = COUNTER.replace("WORDS", "storage")
    with pytest.raises(SimulationError, match=r"^two registers of the machine have the same path and name$"):
        opened(twice + twice)


def clocked(text):
    """Modules and names of all that a clock sets, counted line by line."""
    found, module = set(), ""
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["module"]:
            module = words[1]
        elif len(words) > 1 and "<=" in words[1:3] and line.endswith(";"):
            found.add((module, words[0].split("[")[0] if not words[0].startswith("\\") else words[0]))
    return found


@pytest.mark.parametrize("plan", [*NAMED_PLANS, FOLDED])
def test_all_memories_of_machines_have_a_class(plan):
    found = network() if plan == FOLDED else random_network(1)
    component = machine_of(found, named_plan(found, plan))
    text = to_verilog(component, "machine")
    _, places = opened(text)
    assert sum(place.written for place in places) == len(clocked(text)) > 20
    assert all(place.written or place.of in (WEIGHTS, TABLES) for place in places)
    classes = {place.of for place in places if place.memory}
    assert classes >= ({STATES, TAGS} if isinstance(component, FoldedMachine) else {WEIGHTS, STATES, TAGS, QUEUES})
    if isinstance(component, Machine):
        built = {memory.name for memory in component.memories if memory.name.rpartition(".")[2] in ("words", "tags")}
        assert built <= {re.sub(r"\$\d+", "", place.name) for place in places if place.memory}


def test_words_of_spram_are_states_then_weights():
    text, places = opened_spram("  reg [15:0] mem [0:16383];\n  output reg [15:0] DATAOUT\n", parts=2, states=3, weights=5)
    assert text.count("public_flat_rw") == 2
    found = [(place.name, place.of, place.first, place.count) for place in places if place.memory]
    parts = ((STATES, 0, 3), (WEIGHTS, 3, 5))
    assert found == [(f"memories.spram.spram_{number}.mem", *part) for number in (0, 1) for part in parts]
    with pytest.raises(SimulationError, match=r"^the model of SB_SPRAM256KA has other registers than it had$"):
        opened_spram("", parts=1, states=0, weights=1)
