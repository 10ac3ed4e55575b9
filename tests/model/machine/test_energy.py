"""The energy model: published points, and counts that are the golden model's."""

from dataclasses import replace

import numpy as np
import pytest

from model.encode import encode
from model.engine.engine import run_streams
from model.golden import run
from model.machine.energy import HOP_PJ, add_pj, energy, memory_pj
from model.machine.named_plans import named_plan
from model.machine.stages import stages
from model.network import MaxPool, Neurons
from sim.generators.networks import bursting, random_network
from tests.model.machine.test_planner import frames


def test_published_points():
    assert add_pj(8) == pytest.approx(0.03)
    assert add_pj(32) == pytest.approx(0.1)
    for size, pj in ((8, 10), (32, 20), (1024, 100)):
        assert memory_pj(64, size * 1024 * 8) == pytest.approx(pj)
    assert memory_pj(32, 8 * 1024 * 8) == pytest.approx(5)
    sizes = [memory_pj(16, 8 << n) for n in range(30)]
    assert sizes == sorted(sizes) and sizes[0] > 0
    assert memory_pj(64, 16 * 1024 * 8) == pytest.approx(np.sqrt(200))


def fired(trace):
    """How often neurons of a layer fired, however many spikes each time."""
    return len({(int(spike["cause"]), int(spike["address"])) for spike in trace.spikes})


@pytest.mark.parametrize("plan_name", ["minimal", "fast"])
@pytest.mark.parametrize(("seed", "burst"), [(1, 1), (2, 1), (5, 1), (2, 0)])
def test_counts_are_those_of_the_golden_model(seed, burst, plan_name):
    """With every lane in use: a block of channels that is not full updates some that nobody reads. A burst is one change."""
    network = bursting(random_network(seed), [burst] * 4, 4) if burst != 1 else random_network(seed)
    images = frames(network, 4)
    found = {core.core: core for core in energy(network, named_plan(network, plan_name), run_streams(network, images))}
    traces = [run(network, encode(network, image)) for image in images]
    for stage in stages(network):
        core = found[stage.name]
        events = np.mean([len(trace.layers[stage.layers[0].name].events) for trace in traces])
        assert core.hops == pytest.approx(events)
        assert core.hops_nj == pytest.approx(events * HOP_PJ / 1e3)
        additions = words = 0.0
        for layer in stage.layers:
            of = [trace.layers[layer.name] for trace in traces]
            if isinstance(layer, Neurons):
                updates = np.mean([one.operations for one in of])
                additions += 2 * updates + 2 * np.mean([fired(one) for one in of])
                words += 2 * updates
                assert core.weight_words == pytest.approx(updates)
            else:
                assert isinstance(layer, MaxPool)
                fused = len(stage.layers) > 1
                took = np.mean([fired(trace.layers[layer.source]) for trace in traces]) if fused else core.hops
                additions += took
                words += 2 * took
        assert core.additions == pytest.approx(additions)
        assert core.state_words == pytest.approx(words)
        assert core.total_nj == pytest.approx(core.additions_nj + core.state_nj + core.weights_nj + core.hops_nj)


@pytest.mark.parametrize("every", [0, 4])
def test_deferred_counts_are_those_of_the_golden_model(every):
    """A flush visits every neuron and every window once; a pool behind neurons takes all that one fires at once.

    Where there are flushes within a frame they write what they read, windows told from their new maximum.
    """
    network = replace(random_network(2), firing="deferred", flush_events=every)
    images = frames(network, 4)
    plan = named_plan(network, "minimal")
    found = {core.core: core for core in energy(network, plan, run_streams(network, images))}
    traces = [run(network, encode(network, image)) for image in images]
    flushes = np.mean([len(trace.events) // every + 1 if every else 1 for trace in traces])
    accesses = 2 if every else 1
    assert flushes > 3 * bool(every)
    for stage in stages(network):
        additions = words = 0.0
        for layer in stage.layers:
            of = [trace.layers[layer.name] for trace in traces]
            size = network.shape_of(layer.name).size * flushes
            if isinstance(layer, Neurons):
                updates = np.mean([one.operations for one in of])
                additions += updates + 2 * size
                words += 2 * updates + accesses * size
            else:
                members = layer.window[0] * layer.window[1]
                fused = len(stage.layers) > 1
                sources = [trace.layers[layer.source] for trace in traces]
                took = np.mean([fired(source) if fused else len(source.spikes) for source in sources])
                additions += took + size * (members - 1 + bool(every) * members)
                words += 2 * took + accesses * size
        assert found[stage.name].additions == pytest.approx(additions)
        assert found[stage.name].state_words == pytest.approx(words)


def test_lanes_that_idle_in_the_last_block_count():
    """A block of channels that is not full updates neurons that nobody reads."""
    network = random_network(1)
    images = frames(network, 4)
    streams = run_streams(network, images)
    minimal, fast = (sum(c.weight_words for c in energy(network, named_plan(network, p), streams)) for p in ("minimal", "fast"))
    assert minimal <= fast
