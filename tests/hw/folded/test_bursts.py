"""Folded machines of networks whose updates fire several spikes: every spike and every cycle."""

from dataclasses import replace

import numpy as np
import pytest

from model.engine.engine import run_fast
from model.machine.folded_layout import Folded
from model.network import Neurons
from sim.cosimulation import verify
from sim.generators.chains import bursting_chain
from sim.generators.frames import random_frames
from sim.generators.plans import random_folded_plan

CASES = [(1, 0.1, 0.7)]
MORE = [(seed, *behaviour) for seed in range(1, 10) for behaviour in ((0.0, 0.0), (0.5, 0.0), (0.1, 0.7))]


@pytest.mark.parametrize(
    ("seed", "idle", "stall"), [*CASES, *(pytest.param(*case, marks=pytest.mark.full) for case in MORE if case not in CASES)]
)
def test_every_spike_and_cycle(seed, idle, stall, tmp_path):
    network = bursting_chain(seed)
    plan = random_folded_plan(network, seed)
    frames = random_frames(network.input_shape, seed, frames=6, near=seed % 2 == 0)
    result = verify(
        network, plan, frames, out_dir=tmp_path, seed=seed, idle=idle, stall=stall, watch=plan.watch and stall > 0
    )
    assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
    assert result.frames == len(frames) and result.spikes_compared > 100 and result.cycles_compared > 200


def test_the_cases_have_what_is_rare():
    """Several spikes at once of neurons and windows, of both signs, in layers of every burst; a window that holds some back."""
    seen = dict.fromkeys(("neurons", "windows", "negative", "held", "no end", "two", "four", "one", "cut"), 0)
    for seed in range(1, 10):
        network = bursting_chain(seed)
        bursts = {layer.burst for layer in network.layers if isinstance(layer, Neurons)}
        for burst, name in ((0, "no end"), (1, "one"), (2, "two"), (4, "four")):
            seen[name] += burst in bursts
        for frame in random_frames(network.input_shape, seed, frames=6, near=seed % 2 == 0):
            trace = run_fast(network, frame)
            for name, layer in trace.layers.items():
                twice = (np.diff(layer.spikes["address"]) == 0) & (np.diff(layer.spikes["cause"]) == 0)
                seen["held"] += bool(layer.saturated_events)
                seen["neurons"] += bool(twice.any()) and name != "pool1"
                seen["negative"] += bool((layer.spikes["sign"][1:][twice] < 0).any())
            conv, pool = trace.layers["conv1"].spikes, trace.layers["pool1"].spikes
            # Spikes of a pool are caused by those of its source, one by one.
            follows = np.isin(np.arange(len(conv)), pool["cause"])
            twice = (np.diff(conv["address"]) == 0) & (np.diff(conv["cause"]) == 0)
            seen["windows"] += bool((twice & follows[1:] & follows[:-1]).any())
            seen["cut"] += bool((twice & (follows[1:] != follows[:-1])).any())
    assert min(seen.values()) >= 2, seen


def test_queues_are_as_deep_as_without_bursts():
    """All that a neuron fires at once waits in one word."""
    network = bursting_chain(3)
    single = replace(
        network, layers=tuple(replace(la, burst=1) if isinstance(la, Neurons) else la for la in network.layers)
    )
    plan = random_folded_plan(network, 3)
    several, one = Folded.of(network, plan), Folded.of(single, plan)
    assert several.more_bits > 0 == one.more_bits
    assert several.queue_depth == one.queue_depth and several.queue_width == one.queue_width + several.more_bits
