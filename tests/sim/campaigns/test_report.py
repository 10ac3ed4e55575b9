"""Reports: what jobs found is added up, whatever it is."""

import io

from rich.console import Console

from sim.campaigns.jobs import DIFFERS, DONE, FAILED, Job, Outcome
from sim.campaigns.report import added, ranges, report_table, sections
from sim.campaigns.store import Result


def result(kind, version, number, outcome=DONE, seed=1, **found):
    job = Job(kind=kind, version=version, parameters={"seed": seed, "number": number})
    return Result(job=job, outcome=Outcome(outcome=outcome, found=found, seconds=30.25))


RESULTS = [
    result("verify", "a" * 64, 0, spikes=1_000, layers={"linear": 1, "max-pool": 2}, tools=["x 1", "y 1"]),
    result("verify", "a" * 64, 1, DIFFERS, spikes=2_000, layers={"linear": 3, "convolution": 1}, tools=["x 2", "y 1"]),
    result("verify", "a" * 64, 3, FAILED),
    result("verify", "a" * 64, 7, seed=2, spikes=5, layers={}, tools=["x 1"]),
    result("verify", "b" * 64, 0, spikes=7),
    result("tiny", "1", 5, squares=25),
]


def test_findings_are_added():
    one, other = {"a": 1, "b": {"c": 2.5}, "t": ["x", "y"]}, {"b": {"c": 1, "d": 2}, "t": ["w", "x"], "e": 3}
    assert added(one, other) == {"a": 1, "b": {"c": 3.5, "d": 2}, "t": ["w", "x", "y"], "e": 3}
    assert added({}, one) == added(one, {}) == one


def test_ranges():
    assert ranges([]) == ""
    assert ranges([3, 1, 2, 7, 9, 8, 0, 12]) == "0..3, 7..9, 12"


def test_sections():
    tiny, first, second = sections(RESULTS)
    assert (tiny.kind, tiny.found, tiny.seeds) == ("tiny", {"squares": 25}, {"seed 1": "5"})
    assert (first.version, first.jobs, first.differ, first.failed) == ("a" * 64, 4, 1, 1)
    assert first.found == {
        "spikes": 3_005, "layers": {"linear": 4, "max-pool": 2, "convolution": 1}, "tools": ["x 1", "x 2", "y 1"]
    }  # fmt: skip
    assert first.seeds == {"seed 1": "0..1, 3", "seed 2": "7"}
    assert first.processor_seconds == 121.0
    assert (second.jobs, second.found) == (1, {"spikes": 7})
    assert sections([]) == []


def test_table():
    stream = io.StringIO()
    Console(file=stream, width=120).print(report_table(sections(RESULTS)))
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in stream.getvalue().splitlines() if "│" in line]
    assert ["jobs", "1", "4", "1"] in rows
    assert ["jobs that differ", "0", "1", "0"] in rows
    assert ["layers: linear", "", "4", ""] in rows
    assert ["spikes", "", "3,005", "7"] in rows
    assert ["processor time", "30 s", "2 min 1 s", "30 s"] in rows
    assert rows[-1][0] == "processor time"
