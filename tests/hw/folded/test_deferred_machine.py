"""The folded machine of networks that fire deferred: every spike and every cycle, and what the host sees of states."""

from dataclasses import replace

import numpy as np
import pytest

from hw.folded.deferred_machine import DeferredMachine
from hw.machines import machine_of
from model.engine.engine import run_fast
from model.machine.folded_layout import Folded
from model.machine.folded_plan import folded_plan
from model.machine.named_plans import named_plan
from model.machine.simulate import simulate
from model.network import Network, Neurons
from sim.cosimulation import verify
from sim.generators.chains import deferred_chain
from sim.generators.frames import random_frames
from sim.generators.networks import random_linear
from sim.generators.plans import random_folded_plan

CASES = [(2, 0.0, 0.0), (7, 0.3, 0.5)]
MORE = [(seed, *behaviour) for seed in range(1, 13) for behaviour in ((0.0, 0.0), (0.5, 0.0), (0.1, 0.7))]


@pytest.mark.parametrize(
    ("seed", "idle", "stall"), [*CASES, *(pytest.param(*case, marks=pytest.mark.full) for case in MORE if case not in CASES)]
)
def test_every_spike_and_cycle(seed, idle, stall, tmp_path):
    network, plan = deferred_chain(seed), random_folded_plan(deferred_chain(seed), seed)
    frames = random_frames(network.input_shape, seed, frames=8, near=seed % 2 == 0)
    result = verify(
        network, plan, frames, out_dir=tmp_path, seed=seed, idle=idle, stall=stall, watch=plan.watch and stall > 0
    )
    assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
    assert result.frames == len(result.answers) == len(frames)
    assert result.spikes_compared > 100 and result.cycles_compared > 200


def test_the_cases_have_what_is_rare():
    """Several spikes of a neuron and of a window, sums and counts that do not fit, neurons that fire without an event."""
    rare = ("several spikes", "several of a window", "negative", "held", "at rest", "not at rest", "fires without events",
            "negative counts in a pool", "wraps", "single states", "single weights", "by position", "averaged", "no window",
            "watched", "not watched", "frames without events")
    seen = dict.fromkeys(rare, 0)
    for seed in range(1, 13):
        network = deferred_chain(seed)
        plan = random_folded_plan(network, seed)
        folded = Folded.of(network, plan)
        frames = random_frames(network.input_shape, seed, frames=8, near=seed % 2 == 0)
        traces = [run_fast(network, frame) for frame in frames]
        spikes = [(name, layer.spikes) for trace in traces for name, layer in trace.layers.items()]
        twice = [(name, fired) for name, fired in spikes if (np.diff(fired["address"]) == 0).any()]
        seen["several spikes"] += any(name != "pool1" for name, _ in twice)
        seen["several of a window"] += any(name == "pool1" for name, _ in twice)
        seen["negative"] += any((fired["sign"] < 0).any() for _, fired in spikes)
        seen["held"] += any(layer.saturated_events for trace in traces for layer in trace.layers.values())
        seen["at rest"] += network.rest
        seen["not at rest"] += not network.rest
        seen["fires without events"] += any((fired["cause"] < 0).any() for _, fired in spikes)
        seen["negative counts in a pool"] += any((trace.layers["conv1"].count < 0).any() for trace in traces)
        seen["wraps"] += len(traces) > 2**folded.generation_bits
        seen["single states"] += bool(folded.single_state_words)
        seen["single weights"] += bool(folded.single_weight_words)
        seen["by position"] += any(la.initial.several for la in folded.layers)
        seen["averaged"] += any(la.averaged != (1, 1) for la in network.layers if isinstance(la, Neurons))
        seen["no window"] += any(None in la.window(axis) for la in folded.layers if la.pool for axis in (0, 1))
        seen["watched"] += plan.watch
        seen["not watched"] += not plan.watch
        seen["frames without events"] += any(len(trace.events) == 0 for trace in traces)
    assert min(seen.values()) >= 1, seen


def single_layer():
    layer = random_linear(1, inputs=6, outputs=5, name="only", activation="identity")
    return Network(name="single", input_shape=(2, 1, 3), layers=(layer,), firing="deferred", input_levels=3)


def test_a_single_layer(tmp_path):
    network = single_layer()
    frames = random_frames(network.input_shape, 1, frames=5)
    result = verify(network, folded_plan(network, watch=False), frames, out_dir=tmp_path, stall=0.3)
    assert (result.mismatches, result.cycle_mismatches, result.frames) == (0, 0, len(frames))


@pytest.mark.full
def test_same_answers_as_a_pipeline(tmp_path):
    network = deferred_chain(3)
    frames = random_frames(network.input_shape, 3)
    results = [verify(network, named_plan(network, name), frames, out_dir=tmp_path / name) for name in ("folded", "fast")]
    assert results[0].answers == results[1].answers
    assert [result.mismatches for result in results] == [0, 0]


def test_nothing_waits():
    """There are no queues, and a state is stored without its count, which only a flush changes."""
    network = deferred_chain(1)
    at_once = replace(network, firing="immediate")
    plan = folded_plan(network)
    deferred, immediate = Folded.of(network, plan), Folded.of(at_once, plan)
    assert (deferred.queue_depth, deferred.blocks <= immediate.blocks) == (0, True)
    widest = max(layer.potential_bits for layer in network.layers if isinstance(layer, Neurons))
    assert not deferred.single_state_words and deferred.state_width == deferred.lanes * (widest + 1)
    assert isinstance(machine_of(network, plan), DeferredMachine)


def test_cycles_do_not_depend_on_how_frames_are_batched():
    network = deferred_chain(2)
    plan = random_folded_plan(network, 2)
    frames = random_frames(network.input_shape, 2, frames=7)
    one, other = (simulate(network, plan, frames, idle=9000, stall=9000, record=True, batch=batch) for batch in (2, 64))
    assert all(np.array_equal(one.passed[name], cycles) for name, cycles in other.passed.items())
    assert np.array_equal(one.answered, other.answered) and one.cores == other.cores
