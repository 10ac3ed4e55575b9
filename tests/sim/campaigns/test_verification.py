"""The kinds of jobs of random verification: what they find, and that they find a planted fault."""

from dataclasses import replace

import pytest

from sim.campaigns import verification
from sim.campaigns.jobs import DIFFERS, DONE, Job, perform
from sim.campaigns.verification import ENGINE, VERIFY, layer_kinds
from sim.generators import cases
from sim.generators.graphs import random_graph
from sim.generators.networks import grouped, overlapped, random_network

SPIKES = 150


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Cases of few frames, however quiet their networks are."""
    monkeypatch.setattr(cases, "MOST_FRAMES", 12)


def done(kind, folder, number, **parameters):
    job = Job(kind=kind.name, version="1", parameters={"seed": 1, "number": number, "spikes": SPIKES, **parameters})
    return perform(kind, job, folder)


def test_layers_by_kind():
    assert layer_kinds(random_network(1)) == {"convolution": 2, "max-pool": 2, "linear": 3}
    assert layer_kinds(grouped(1)) == {"convolution in groups": 2, "transposed convolution": 1, "linear": 1}
    assert layer_kinds(overlapped(1)) == {"convolution": 1, "max-pool, overlapping": 2, "linear": 1}
    graph = random_graph(2, firing="deferred", plain=True)
    found = layer_kinds(graph)
    assert found.pop("of several inputs") > 0 and sum(found.values()) == len(graph.layers)


def test_the_golden_model_and_the_engine(tmp_path):
    outcome = done(ENGINE, tmp_path, 3)
    assert outcome.outcome == DONE, outcome.message
    assert (outcome.found["networks"], outcome.found["differences"]) == (1, 0)
    assert outcome.found["spikes"] > 0 and sum(outcome.found["layers"].values()) > 0
    assert any(tool.startswith("numba ") for tool in outcome.found["tools"])


def test_a_wrong_engine_is_found(tmp_path, monkeypatch):
    right = verification.run_fast

    def wrong(network, events):
        trace = right(network, events)
        name, layer = next(iter(trace.layers.items()))
        return replace(trace, layers={**trace.layers, name: replace(layer, operations=layer.operations + 1)})

    monkeypatch.setattr(verification, "run_fast", wrong)
    outcome = done(ENGINE, tmp_path, 3)
    assert outcome.outcome == DIFFERS and outcome.found["differences"] > 0
    assert outcome.message.startswith("the engine differs from the golden model: frame 0, ")
    assert outcome.message.count(".operations") == outcome.found["differences"]
    assert set(outcome.files) == {"network.npz"}


def test_a_machine_and_both_models(tmp_path):
    outcome = done(VERIFY, tmp_path, 0, simulator="icarus")
    assert outcome.outcome == DONE, outcome.message
    found = outcome.found
    assert (found["networks"], found["differences"], found["differences of cycles"]) == (1, 0, 0)
    assert min(found[name] for name in ("frames", "spikes", "spikes of the golden model itself", "events", "tokens")) > 0
    assert sum(found["machines"].values()) == 1
    assert found["tools"][0].startswith("icarus ") and len(found["tools"]) == 5
    assert outcome.seconds > 0


def test_a_wrong_machine_is_found(tmp_path, monkeypatch):
    """Of a plan with smaller FIFOs: the same spikes, in other cycles. What it takes to see it again is kept."""
    from hw.flow.verilog import machine_verilog
    from sim.generators.cases import random_case

    number = next(
        number for number in range(20) if (case := random_case(1, number, spikes=SPIKES)).stall and not case.plan.folded
    )
    right = verification.verify

    def wrong(network, plan, frames, **options):
        smaller = replace(plan, cores=tuple(replace(core, group_fifo=8, event_fifo=5) for core in plan.cores))
        verilog = machine_verilog(network, smaller, tmp_path)
        return right(network, plan, frames, **options, verilog=verilog)

    monkeypatch.setattr(verification, "verify", wrong)
    folder = tmp_path / "job"
    folder.mkdir()
    outcome = done(VERIFY, folder, number, simulator="icarus")
    assert outcome.outcome == DIFFERS and outcome.found["differences of cycles"] > 0, outcome
    assert "cycle mismatches" in outcome.message and outcome.found["spikes"] > 0
    assert {"network.npz", "plan.json", "frames.npz", "simulation/divergence.txt"} <= set(outcome.files)
