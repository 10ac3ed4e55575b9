"""Mutants of a tiny netlist: which there are, what is drawn of them, and which are proved to change nothing."""

import pytest
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from sim.mutation import netlists, parts
from sim.mutation.equivalence import contexts, proved_equivalent
from sim.mutation.netlists import Mutant, chosen, list_mutants, mutated_verilog, prepare


class Selected(wiring.Component):
    """Gives ``a`` by a way around ``b``, which does not matter, at once and a cycle later."""

    def __init__(self):
        super().__init__({"a": In(2), "b": In(2), "now": Out(2), "later": Out(2)})

    def elaborate(self, platform):
        m = Module()
        kept_a, kept_b = Signal(2), Signal(2)
        m.d.sync += [kept_a.eq(self.a), kept_b.eq(self.a ^ self.b)]
        m.d.comb += [
            self.now.eq((self.a & self.b) | (self.a & ~self.b)),
            self.later.eq((kept_a & kept_b) | (kept_a & ~kept_b)),
        ]
        return m


class Around(wiring.Component):
    """Gives ``a`` where it has a `Selected` whose ``b`` never has its upper bit."""

    def __init__(self):
        super().__init__({"a": In(2), "low": In(1), "given": Out(2)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.inner = inner = Masked()
        m.d.comb += [inner.a.eq(self.a), inner.b.eq(Cat(self.low, self.a[0] & ~self.a[0])), self.given.eq(inner.given)]
        return m


class Masked(wiring.Component):
    """``a`` where ``b`` is 0."""

    def __init__(self):
        super().__init__({"a": In(2), "b": In(2), "given": Out(2)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.given.eq(self.a & ~self.b)
        return m


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare(Selected(), "top", tmp_path_factory.mktemp("selected"))


def mutant(prepared, kind, port, mode, bit=0, number=0, module="top"):
    """A mutant of the one cell of this kind, or of one of them."""
    of_all = netlists._cells(prepared.read_text())
    cells = [name for (where, name), (what, _, _) in of_all.items() if (what, where) == (kind, module)]
    options = (("mode", mode), ("module", module), ("cell", cells[number]), ("port", port), ("portbit", str(bit)))
    return Mutant(options=options, kind=kind, part="machine", source="?")


def test_listed_mutants(prepared):
    mutants = list_mutants(prepared, count=500, seed=1)
    assert len(mutants) == len({each.options for each in mutants}) > 40
    assert list_mutants(prepared, count=500, seed=1) == mutants
    kinds = {each.kind for each in mutants}
    assert {"$and", "$or", "$not", "$xor", "$dff"} <= kinds
    assert {dict(each.options)["mode"] for each in mutants} == {"inv", "const0", "const1", "cnot0", "cnot1"}
    # Not at clock and reset; each with its place.
    assert not any(dict(each.options)["port"] == "CLK" for each in mutants)
    assert {each.source.partition(":")[0] for each in mutants} <= {"tests/sim/mutation/test_netlists.py", "amaranth/hdl/_ir.py"}


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


def test_what_changes_nothing_is_proved(prepared):
    """That ``~b`` is always 1 changes nothing, that it is always 0 does; and what a register keeps of ``b`` does not matter."""
    mutants = [
        mutant(prepared, "$not", "A", "const0"),
        mutant(prepared, "$not", "A", "const1"),
        mutant(prepared, "$not", "A", "const0", number=1),
        mutant(prepared, "$not", "A", "inv", number=1),
        mutant(prepared, "$xor", "B", "inv", bit=1),
    ]
    assert proved_equivalent(prepared, mutants, prepared.parent / "proofs") == {0: "top", 2: "top", 4: "top"}


def test_what_changes_nothing_where_it_is_used_is_proved_there(tmp_path):
    outer = prepare(Around(), "top", tmp_path)
    inner = "top.inner"
    mutants = [mutant(outer, "$not", "A", "const0", bit=bit, module=inner) for bit in (0, 1)]
    assert contexts(inner) == [inner, "top"]
    assert proved_equivalent(outer, mutants, tmp_path / "proofs") == {1: "top"}


def test_no_mutants_need_no_proof(prepared):
    assert proved_equivalent(prepared, [], prepared.parent / "none") == {}


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
