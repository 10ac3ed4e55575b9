"""Each property's first case is proved and its planted fault found; the rest by `make formal`."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from amaranth.hdl import Signal

import hw.parts.buffer
from model.support.errors import ToolMissingError
from sim.formal.bench import Bench
from sim.formal.catalogue import PROPERTIES
from sim.formal.properties import Fault, Property, checks
from sim.formal.prover import Outcome, cover, find_solver, induct, search, translate
from sim.formal.queues import buffer

LONG = ("PacketReceiver", "ScanEncoder", "Encoder")
"""Parts whose proof takes longer than a few seconds."""


@pytest.mark.parametrize(
    "wanted",
    [pytest.param(one, id=one.part, marks=[pytest.mark.full] if one.part in LONG else []) for one in PROPERTIES],
)
def test_a_property_is_proved_and_its_fault_is_found(wanted, tmp_path):
    first, *others = checks(wanted, tmp_path)
    fault = next(check for check in others if check.fault is wanted.fault)
    proved, found = first.run(find_solver()), fault.run(find_solver())
    assert (proved.failed, found.failed) == ("", "")
    assert proved.asserts > 0 and not proved.of_fault and found.of_fault


@pytest.mark.full
@pytest.mark.parametrize("wanted", [pytest.param(one, id=one.part) for one in PROPERTIES if one.more_faults])
def test_further_faults_are_found(wanted, tmp_path):
    further = [check for check in checks(wanted, tmp_path) if check.fault in wanted.more_faults]
    assert [check.run(find_solver()).failed for check in further] == [""] * len(wanted.more_faults)


def test_every_part_has_one_property_and_every_case_is_checked(tmp_path):
    assert len({one.part for one in PROPERTIES}) == len(PROPERTIES) >= 11
    for one in PROPERTIES:
        assert [check.case for check in checks(one, tmp_path)] == [*range(len(one.cases)), *([None] * len(one.faults))]
        assert [check.fault for check in checks(one, tmp_path) if check.fault] == list(one.faults)


def test_a_counter_is_proved_only_where_it_holds(tmp_path):
    """Assertions that fail soon, later, and never; and what is reached late, where no assertion fails before."""

    def counted(limit, folder):
        bench = Bench()
        count = Signal(4)
        with bench.m.If(bench.any(1, "goes_on") & (count != 9)):
            bench.m.d.sync += count.eq(count + 1)
        bench.holds(count < limit)
        bench.reaches(count == 9)
        translate(bench, folder)
        return [
            search(folder, find_solver(), steps=3).outcome,
            induct(folder, find_solver(), steps=1).outcome,
            cover(folder, find_solver(), steps=11).outcome,
            cover(folder, find_solver(), steps=9).outcome,
        ]

    holds, fails = Outcome.HOLDS, Outcome.FAILS
    assert counted(2, tmp_path / "early") == [fails, fails, fails, fails]
    assert counted(9, tmp_path / "late") == [holds, fails, fails, fails]
    assert counted(10, tmp_path / "never") == [holds, holds, holds, fails]


def broken(bench, buffers, *, width):
    """As `buffer`, but with an assertion that does not hold."""
    buffer(bench, buffers, width=width)
    bench.holds(~bench.started)


def property_of(build, **options):
    fault = {"says": "", "right": "m.d.sync += has_second.eq(0)", "wrong": "pass", "steps": 4} | options
    return Property(
        name="a buffer", module=hw.parts.buffer, part="StreamBuffer", bound="", build=build, cases=[{"width": 1}], reach=6,
        fault=Fault(**fault),
    )  # fmt: skip


def test_what_fails_is_named(tmp_path):
    only, _ = checks(property_of(broken), tmp_path)
    assert only.run(find_solver()).failed.startswith("width 1: induct: Assert failed in top: ")


def test_properties_are_stated_one_at_a_time(tmp_path):
    """What stands for another name of the part's module while one is stated is not met by another."""
    within, second, met = [], Event(), []

    def build(bench, buffers, *, width):
        within.append(width)
        met.append(len(within))
        if len(met) > 1:
            second.set()
        second.wait(0.3)
        buffer(bench, buffers, width=width)
        within.remove(width)

    first, fault = checks(property_of(build), tmp_path)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda check: check.run(find_solver()), (first, fault)))
    assert [each.failed for each in found] == ["", ""]
    assert met == [1, 1]


def test_a_fault_that_is_none_is_not_found(tmp_path):
    _, fault = checks(property_of(buffer, wrong="m.d.sync += has_second.eq(False)"), tmp_path)
    assert fault.run(find_solver()).failed == f"the planted fault is not found; see {tmp_path / 'fault'}"


def test_a_fault_has_one_place_in_the_source():
    with pytest.raises(ValueError, match=r"hw\.parts\.buffer must have 'nowhere' once, not 0 times"):
        property_of(buffer, right="nowhere").fault.planted(hw.parts.buffer)


def test_a_solver_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr("sim.formal.prover._path", lambda: "")
    with pytest.raises(ToolMissingError, match="z3 is not installed; get it with: pip install z3-solver"):
        find_solver("z3")


def test_a_condition_is_a_bit():
    """The complement of a wider value holds unless all of its bits are 1."""
    bench = Bench()
    for state in (bench.assume, bench.holds, bench.lemma, bench.reaches):
        with pytest.raises(ValueError, match=r"a condition must be a bit, not 2 wide: \(~ \(sig wide\)\)"):
            state(~Signal(2, name="wide"))
