"""Mutants of a tiny netlist: which there are, and what is drawn of them."""

import pytest
from amaranth.hdl import unsigned

from hw.parts.queue import BlockQueue
from sim.mutation import parts
from sim.mutation.netlists import chosen, list_mutants, mutated_verilog, prepare
from tests.sim.mutation.small import Selected, mutant


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare(Selected(), "top", tmp_path_factory.mktemp("selected"))


def test_listed_mutants(prepared):
    mutants = list_mutants(prepared, count=500, seed=1)
    assert len(mutants) == len({each.options for each in mutants}) > 40
    assert list_mutants(prepared, count=500, seed=1) == mutants
    kinds = {each.kind for each in mutants}
    assert {"$and", "$or", "$not", "$xor", "$dff"} <= kinds
    assert {dict(each.options)["mode"] for each in mutants} == {"inv", "const0", "const1", "cnot0", "cnot1"}
    # Not at clock and reset; each with its place.
    assert not any(dict(each.options)["port"] == "CLK" for each in mutants)
    assert {each.source.partition(":")[0] for each in mutants} <= {"tests/sim/mutation/small.py", "amaranth/hdl/_ir.py"}


def test_a_memory_that_is_read_has_no_reset_to_mutate(tmp_path):
    """Yosys refuses a read port of which a reset may be other than 0; all other mutants of it can be written."""
    mutants = list_mutants(prepare(BlockQueue(payload=unsigned(3), depth=4), "top", tmp_path), count=400, seed=1)
    reading = [each for each in mutants if each.kind.startswith("$memrd")]
    ports = {dict(each.options)["port"] for each in reading}
    assert {"ADDR", "DATA"} <= ports and not ports & {"ARST", "SRST"}
    assert "mutant" in mutated_verilog(tmp_path / "prepared.il", reading)


def test_batches_have_each_mutant_once(prepared):
    mutants = list_mutants(prepared, count=100, seed=1)
    batches = [chosen(mutants, parts=["machine"], count=30, batch=number, seed=2) for number in range(5)]
    drawn = [each for batch in batches for each in batch]
    assert len(drawn) == len({each.options for each in drawn}) == len(mutants)
    assert [len(batch) for batch in batches][:3] == [30, 30, 30]
    assert chosen(mutants, parts=["machine"], count=30, batch=1, seed=2) == batches[1]
    assert chosen(mutants, parts=["machine"], count=30, batch=1, seed=3) != batches[1]
    assert chosen(mutants, parts=["lane"], count=30, batch=0, seed=2) == []


def test_the_netlist_has_an_input_that_chooses(prepared):
    found = mutated_verilog(prepared, [mutant(prepared, "$xor", "A", "inv"), mutant(prepared, "$xor", "B", "const1")])
    assert "input [15:0] mutant;" in found and "16'h0001" in found and "16'h0002" in found


@pytest.mark.parametrize(
    ("sources", "part"),
    [
        (["hw/neuron.py:12"], "lane"),
        (["amaranth/lib/fifo.py:3", "hw/pipeline/state.py:4"], "state"),
        (["hw/pipeline/state_probe.py:4"], "state"),
        (["hw/pipeline/merge.py:1"], "router"),
        (["hw/pipeline/readout.py:1"], "readout"),
        (["hw/link/encoders.py:1"], "encoder"),
        (["hw/link/link.py:1"], "link"),
        (["hw/parts/uart.py:1"], "link"),
        (["hw/folded/lane.py:1"], "folded"),
        (["hw/parts/buffer.py:1"], None),
        ([], None),
    ],
)
def test_parts_by_source(sources, part):
    assert parts.part_of(sources) == part
