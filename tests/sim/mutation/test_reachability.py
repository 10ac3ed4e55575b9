"""Mutants that change nothing in any state that is reached: proved, and not where inputs show a difference."""

import pytest

from sim.mutation.netlists import prepare
from sim.mutation.reachability import proved_unreachable
from sim.mutation.surroundings import Field, Source, Surroundings
from tests.sim.mutation.small import Counted, Halved, Queued, Selected, Twice, mutant


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare(Selected(), "top", tmp_path_factory.mktemp("selected"))


def proved(component, mutants, around, folder):
    """Of a component, by what makes each of its mutants: which are proved, and after which cycle others are seen."""
    netlist = prepare(component, "top", folder)
    found = proved_unreachable(netlist, "top", [mutant(netlist, *each) for each in mutants], around, folder / "proofs")
    return found.equivalent, found.seen


def test_registers_of_its_own(tmp_path):
    """That ``~b`` is always 1 changes nothing, that it is always 0 does; and what a register keeps of ``b`` does not matter."""
    mutants = [
        ("$not", "A", "const0"),
        ("$not", "A", "const1"),
        ("$not", "A", "const0", 0, 1),
        ("$not", "A", "inv", 0, 1),
        ("$xor", "B", "inv", 1),
    ]
    seen = Surroundings(seen=[([], "now"), ([], "later")])
    assert proved(Selected(), mutants, seen, tmp_path) == ({0, 2, 4}, {1: 1, 3: 2})


def test_states_that_are_never_reached(tmp_path):
    mutants = [("$and", "Y", "const0"), ("$and", "Y", "const1"), ("$eq", "A", "inv", 3)]
    seen = Surroundings(seen=[([], "never"), ([], "count")])
    assert proved(Counted(), mutants, seen, tmp_path) == ({0}, {1: 1, 2: 3})


def test_what_is_not_seen_does_not_matter(tmp_path):
    """A count that wraps early, where counts are seen only while there is none that never is."""
    assert proved(Counted(), [("$eq", "A", "inv", 3)], Surroundings(seen=[(["never"], "count")]), tmp_path) == ({0}, {})


@pytest.mark.parametrize(
    ("source", "equivalent"),
    [
        (Source(name="given", width=3, fields=[Field(first=0, width=3, size=5)]), {0, 1}),
        (Source(name="given", width=3), {0}),
        (Source(name="given", width=3, end=2), {0, 1}),
        (None, set()),
    ],
)
def test_tokens_that_never_come(tmp_path, source, equivalent):
    """None above 4 where the source says so, none that changes while it waits where there is a source."""
    around = Surroundings(seen=[([], "above"), ([], "changed")], source=source)
    mutants = [("$and", "Y", "const0"), ("$and", "Y", "const0", 0, 1)]
    found, seen = proved(Twice(), mutants, around, tmp_path)
    assert found == equivalent and set(seen) == {0, 1} - equivalent


def test_a_module_by_itself_and_within_the_whole(tmp_path):
    """A count that never is is proved in its module; what differs only while nobody looks, with what is around it."""
    mutants = [
        ("$and", "Y", "const0", 0, 0, "top.one"),
        ("$eq", "A", "inv", 3, 0, "top.other"),
        ("$eq", "A", "inv", 3, 0, "top.one"),
    ]
    equivalent, seen = proved(Halved(), mutants, Surroundings(seen=[([], "seen")]), tmp_path)
    assert equivalent == {0, 1} and set(seen) == {2}


@pytest.mark.parametrize("name", ["pool", "spool"])
def test_a_fifo_for_which_places_are_kept_free(name, tmp_path):
    """That it has room is not asked for where it always has; that it is empty is, and room for another FIFO."""
    changes = (("$ne", "const1"), ("$reduce_bool", "const1"), ("$ne", "const0"))
    mutants = [(kind, "Y", mode, 0, 0, f"top.{name}.fifo") for kind, mode in changes]
    equivalent, seen = proved(Queued(name), mutants, Surroundings(seen=[([], "taken")]), tmp_path)
    assert equivalent == ({0} if name == "pool" else set()) and set(seen) == {0, 1, 2} - equivalent


def test_no_mutants_need_no_proof(prepared):
    found = proved_unreachable(prepared, "top", [], Surroundings(seen=[]), prepared.parent / "none")
    assert (found.equivalent, found.seen) == (set(), {})
