"""Functional coverage: what happened where, and what is a hole."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from model.engine.engine import run_fast
from model.events import make_events
from model.machine.named_plans import named_plan
from model.machine.simulate import simulate
from model.network import Linear, MaxPool, Network, Shape
from sim.campaign import main
from sim.campaigns.crosses import (
    BY_LAYER,
    BY_MACHINE,
    BY_PLAN,
    KINDS,
    PATTERNS,
    PLANS,
    by_layer,
    by_machine,
    by_plan,
    cross_tables,
    kind_of,
    pattern,
)  # fmt: skip
from sim.campaigns.jobs import DONE, Job, Outcome
from sim.campaigns.report import added
from sim.campaigns.store import Store
from sim.coverage import coverage
from sim.generators.cases import random_case

FC = Linear(name="fc", source="input", weights=np.array([[20, 3], [17, 2]]), threshold_log2=4, bias=np.zeros(2, int))
"""Two neurons of threshold 16: an event of input 0 fires both, and with a minus both back."""

NETWORK = Network(name="crossed", input_shape=Shape(1, 1, 2), layers=(FC,))


def found(network, plan, frames, behaviour="always ready", *, watched=False):
    traces = [run_fast(network, frame) for frame in frames]
    covered = coverage(network, plan, traces, simulate(network, plan, frames))
    layers = by_layer(network, traces, covered)
    machine = by_machine(plan, network.firing, behaviour, traces, covered, watched=watched)
    return {BY_LAYER: layers, BY_MACHINE: machine, BY_PLAN: by_plan(plan, layers, machine)}


def test_numbers_worked_out_by_hand():
    frames = [make_events([0, 0], [1, -1]), make_events([1]), make_events([])]
    once = found(NETWORK, named_plan(NETWORK, "minimal"), frames, "stalled sinks", watched=True)
    linear = once[BY_LAYER]["immediate"]["linear"]
    assert {name: number for name, number in linear.items() if number} == {
        "spikes": 4,
        "negative spikes": 2,
        "visits in which several neurons fired": 2,
        "frames that bring a layer no event": 1,
        "frames that bring a layer events, and no spike of it": 1,
    }
    of_machine = once[BY_MACHINE]["pipeline, immediate"]["stalled sinks"]
    assert (of_machine["frames"], of_machine["frames without an event"], of_machine["frames with links watched"]) == (3, 1, 3)
    assert once[BY_PLAN] == {"minimal": linear | of_machine}

    tables = cross_tables(added(once, once))
    assert [table.title for table in tables] == [
        "layers, immediate", "layers, deferred", "pipeline, immediate", "pipeline, deferred", "folded, immediate",
        "folded, deferred", "plans",
    ]  # fmt: skip
    layers = tables[0]
    assert layers.columns == KINDS
    assert layers.rows["negative spikes"][KINDS.index("linear")] == 4
    assert "negative spikes: linear" not in layers.holes
    assert "negative spikes: convolution" in layers.holes
    # What cannot happen is no hole.
    assert "flushes with nothing to send" not in layers.rows
    assert layers.rows["saturated residuals"][KINDS.index("max-pool")] is None
    assert layers.rows["saturated residuals"][KINDS.index("linear")] == 0
    line = next(line for line in layers.lines() if line[0] == "saturated residuals")
    assert (line[1 + KINDS.index("max-pool")], line[1 + KINDS.index("linear")]) == ("", "**never**")
    assert "stalled cycles" not in tables[4].rows
    assert layers.cells == 10 * len(KINDS) - 4 * 2


def test_places():
    assert kind_of(MaxPool(name="pool", source="a", window=(2, 2), stride=(2, 2))) == "max-pool"
    assert [pattern(*each) for each in ((0, 0), (0.5, 0), (0, 0.5), (0.1, 0.7))] == list(PATTERNS)


@pytest.mark.parametrize("number", range(6))
def test_what_cannot_happen_never_does(number):
    """Of drawn machines: nothing is counted in a place that a table leaves out, and all places are known."""
    case = random_case(3, number, spikes=400)
    once = found(case.network, case.plan, case.frames, pattern(case.idle, case.stall), watched=case.watch)
    tables = {table.title: table for table in cross_tables(once)}
    for firing, kinds in once[BY_LAYER].items():
        assert set(kinds) <= set(KINDS)
        for kind, numbers in kinds.items():
            row = {name: row[KINDS.index(kind)] for name, row in tables[f"layers, {firing}"].rows.items()}
            assert numbers == {name: row.get(name) or 0 for name in numbers}
    (name, behaviours), = once[BY_MACHINE].items()
    for behaviour, numbers in behaviours.items():
        row = {each: row[PATTERNS.index(behaviour)] for each, row in tables[name].rows.items()}
        assert numbers == {each: row.get(each) or 0 for each in numbers}
    assert set(once[BY_PLAN]) <= set(PLANS)


def test_command(tmp_path):
    path, page = tmp_path / "v.sqlite", tmp_path / "page.md"
    with Store(path, new=True) as store:
        for number in range(2):
            once = found(NETWORK, named_plan(NETWORK, "fast"), [make_events([0])] * (number + 1))
            job = Job(kind="verify", version="1", parameters={"number": number})
            assert store.add(job, Outcome(outcome=DONE, found={"spikes": 1, **once}))
    outcome = CliRunner().invoke(main, ["coverage", "--store", str(path), "--json"])
    assert outcome.exit_code == 0, outcome.output
    report = json.loads(outcome.stdout)
    assert report["tables"][0]["rows"]["spikes"][KINDS.index("linear")] == 6
    assert "layers, immediate: negative spikes: linear" in report["holes"]
    page.write_text("Before.\n\n<!-- table coverage -->\n\n<!-- end -->\n")
    outcome = CliRunner().invoke(main, ["coverage", "--store", str(path), "--docs", str(page)])
    assert outcome.exit_code == 0, outcome.output
    assert outcome.stdout.splitlines()[-1] == f"{len(report['holes'])} of {report['cells']} never happened"
    text = page.read_text()
    assert text.startswith("Before.")
    assert f"{len(report['holes'])} of {report['cells']} never happened." in text
    assert "| spikes | **never** | **never** | **never** | **never** | 6 |" in text
    # The report of what was found leaves it out.
    outcome = CliRunner().invoke(main, ["report", "--store", str(path)])
    assert "negative spikes" not in outcome.stdout
