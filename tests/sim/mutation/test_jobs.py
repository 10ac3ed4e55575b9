"""Jobs of a campaign of mutants: a whole one, what it counts, and faults by hand."""

import pytest

from sim.campaigns.jobs import DONE, FAILED, Job, perform
from sim.mutation import jobs
from sim.mutation.argued import ARGUED
from sim.mutation.designs import DESIGNS
from sim.mutation.jobs import MUTATE, PLANT, batch_of, killed_within
from sim.mutation.netlists import Mutant
from sim.mutation.parts import PARTS
from sim.mutation.program import Found


def done(kind, folder, number, **parameters):
    return perform(kind, Job(kind=kind.name, version="1", parameters={"seed": 1, "number": number, **parameters}), folder)


def test_batches_take_turns():
    assert [batch_of(number, ["a", "b", "c"]) for number in range(5)] == [("a", 0), ("b", 0), ("c", 0), ("a", 1), ("b", 1)]


@pytest.mark.parametrize(("cycle", "within"), [(0, "10"), (10, "10"), (11, "100"), (1000, "1,000"), (1001, "10,000")])
def test_killed_within(cycle, within):
    assert killed_within(cycle) == within


def test_what_is_counted():
    def mutant(part):
        return Mutant(options=(("mode", "inv"), ("module", "m"), ("cell", "$1"), ("port", "A"), ("portbit", "3")), kind="$and",
                      part=part, source="hw/a.py:7")  # fmt: skip

    mutants = [mutant("lane"), mutant("lane"), mutant("pool"), mutant("lane")]
    became = [
        Found(check="token", record="events", tokens=3, cycle=20),
        Found(check="none", record="", tokens=0, cycle=0),
        Found(check="hang", record="", tokens=0, cycle=7),
        Found(check="none", record="", tokens=0, cycle=0),
    ]
    assert jobs._counted("folded", mutants, became, {1}, {3}) == {
        "mutants": 4,
        "of part": {"lane": 3, "pool": 1},
        "killed": {"lane, token": 1, "pool, hang": 1},
        "killed within cycles": {"lane, 100": 1, "pool, 10": 1},
        "proved equivalent": {"lane": 1},
        "argued": {},
        "survivors": ["lane: folded: hw/a.py:7 m $and $1 A[3] inv (some inputs show it)"],
    }


def test_an_argument_is_for_one_mutant(monkeypatch):
    """Of one design, and not where inputs show a difference."""
    options = (("mode", "inv"), ("module", "m"), ("cell", "$1"), ("port", "A"), ("portbit", "3"))
    mutants = [Mutant(options=options, kind="$and", part="lane", source=f"hw/a.py:{line}") for line in (7, 8)]
    none = [Found(check="none", record="", tokens=0, cycle=0)] * 2
    line = "lane: folded: hw/a.py:7 m $and $1 A[3] inv"
    monkeypatch.setattr(jobs, "ARGUED", {line: "It is so."})
    found = jobs._counted("folded", mutants, none, set(), set())
    assert (found["argued"], found["survivors"]) == ({"lane": 1}, ["lane: folded: hw/a.py:8 m $and $1 A[3] inv"])
    assert jobs._counted("merge", mutants, none, set(), set())["argued"] == {}
    seen = jobs._counted("folded", mutants, none, set(), {0})
    assert seen["argued"] == {} and seen["survivors"][0] == f"{line} (some inputs show it)"


def test_arguments_are_of_parts_and_designs():
    for line, argument in ARGUED.items():
        part, design, mutant = line.split(": ", 2)
        assert part in PARTS and design in DESIGNS and mutant.startswith("hw/") and argument.endswith(".")


def test_an_unknown_design_is_refused(tmp_path):
    outcome = done(MUTATE, tmp_path, 0, mutants=1, designs="nothing")
    assert (outcome.outcome, outcome.message) == (FAILED, f"designs must be of {'; '.join(DESIGNS)}, not 'nothing'")


def test_mutants_of_an_encoder(tmp_path):
    """Most are found by the events that come, and what is found of one is told by its place."""
    outcome = done(MUTATE, tmp_path, 0, mutants=24, designs="scan encoder")
    assert outcome.outcome == DONE, outcome.message
    found = outcome.found
    killed, proved = sum(found["killed"].values()), sum(found["proved equivalent"].values())
    assert found["mutants"] == found["of part"]["encoder"] == 24
    assert killed + proved + len(found["survivors"]) == 24 and killed >= 18
    assert sum(found["killed within cycles"].values()) == killed
    assert found["killed"]["encoder, token"] > 5


@pytest.mark.full
def test_a_fault_by_hand(tmp_path):
    number = next(number for number, fault in enumerate(jobs.FAULTS) if fault.design == "scan encoder")
    outcome = done(PLANT, tmp_path, number)
    assert outcome.outcome == DONE, outcome.message
    assert outcome.found["by hand, killed"] == {"encoder, token": 1}
    assert outcome.found["by hand, survivors"] == []
