"""Cores that only go on as before are not looked at part by part: what is found is what each step of each part gives."""

import random
from dataclasses import replace

import numpy as np
import pytest

from model.events import make_events
from model.machine import pipeline_cycles
from model.machine.barriers import barred
from model.machine.pipeline_cycles import simulate_pipeline
from model.machine.plan import DISTRIBUTED_EVENTS
from model.network import Neurons
from sim.generators.frames import random_frames
from sim.generators.graphs import nested_graph, random_graph
from sim.generators.networks import bursting, overlapped, pooled_input, random_network, restless
from sim.generators.plans import random_pipeline_plan

BEHAVIOURS = (
    {},
    {"watch": 255},
    {"idle": 9000, "stall": 20000, "watch": 5},
    {"stall": 40000, "batch": 2},
    {"idle": 60000},
)


def drawn_network(seed):
    """A network of any kind."""
    kind = seed % 8
    if kind == 0:
        return pooled_input(seed)
    if kind == 1:
        return random_network(seed)
    if kind == 2:
        return replace(restless(seed), firing="deferred", flush_events=(0, 1, 3, 7)[seed // 8 % 4])
    if kind == 3:
        return random_graph(seed, firing="deferred", plain=True)
    if kind == 4:
        return nested_graph(seed)
    if kind == 5:
        return overlapped(seed, firing=("immediate", "deferred")[seed // 8 % 2], burst=seed // 16 % 2, flush_events=0)
    if kind == 6:
        return replace(pooled_input(seed), firing="deferred", flush_events=(0, 4)[seed // 8 % 2])
    return bursting(random_network(seed), (4, 1, 0, 2), 4)


def drawn_plan(network, seed):
    """A plan for it: FIFOs at their least, too, and in block RAM; few generations, and hence sweeps."""
    plan, chance = random_pipeline_plan(network, seed), random.Random(seed)
    if seed % 3 == 0:
        return plan
    cores = []
    for core in plan.cores:
        core = replace(core, event_fifo=chance.choice([2, 16, 512]), generation_bits=chance.choice([1, 2, 4]))
        if isinstance(network.layer(core.layer), Neurons):
            # One lane: long walks, most steps of which fire nothing.
            core = replace(core, group_fifo=chance.choice([8, 16]), rows=1, columns=1)
        cores.append(core)
    return replace(plan, cores=tuple(cores))


QUICK = (1, 2, 3, 156)
"""Drawn networks that are tested each time."""

# Among them a merge of barriers that takes some which are not for its walker while that is in a walk.
CASES = [pytest.param(seed, id=f"{seed}", marks=[pytest.mark.full] if seed not in QUICK else []) for seed in range(1, 161)]


@pytest.mark.parametrize("plain", [False, True])
def test_cores_are_skipped_or_not(monkeypatch, plain):
    """At the end of a batch some core is at what it only goes on with; of those that are looked at in every cycle none is."""
    network, skips, run = drawn_network(1), [], pipeline_cycles.run

    def told(hardware, *arguments):
        found = run(hardware, *arguments)
        skips.append(int(hardware.cores["stays"].max()))
        return found

    monkeypatch.setattr(pipeline_cycles, "run", told)
    frames = random_frames(network.input_shape, 1, frames=4)
    options = {"idle": 0, "stall": 0, "seed": 1, "watch": 0, "record": False, "activity": 0, "batch": 1, "done": None}
    simulate_pipeline(network, drawn_plan(network, 1), frames, **options, plain=plain)
    assert len(skips) == len(frames) and all((skip == 0) == plain for skip in skips)


@pytest.mark.parametrize("seed", CASES)
def test_what_is_skipped_is_what_each_step_gives(seed):
    network = drawn_network(seed)
    plan = drawn_plan(network, seed) if seed != 156 else random_pipeline_plan(network, seed)
    if seed == 156:
        assert barred(network)
        plan = replace(plan, cores=tuple(replace(core, generation_bits=2) for core in plan.cores))
    frames = random_frames(network.input_shape, seed, frames=4, events=8 if seed % 8 in (4, 7) else 20, near=seed % 2 == 0)
    frames += [make_events([])] * (20 if seed % 4 == 1 else 1)
    for behaviour in BEHAVIOURS:
        options = {"idle": 0, "stall": 0, "seed": seed, "watch": 0, "record": True, "activity": 1000, "batch": 64, "done": None}
        options |= {**behaviour, "watch": behaviour.get("watch", 0) if plan.watch else 0}
        found, plain = (simulate_pipeline(network, plan, frames, **options, plain=each) for each in (False, True))
        assert found.passed.keys() == plain.passed.keys()
        for name in plain.passed:
            assert np.array_equal(found.passed[name], plain.passed[name]), (behaviour, name)
        for name in ("watched", "started", "compared", "answered", "activity"):
            assert np.array_equal(getattr(found, name), getattr(plain, name)), (behaviour, name)
        assert found.cores == plain.cores, behaviour
        assert len(plain.answered) == len(frames) and plain.answered[-1] > 100


def test_queues_are_among_what_is_drawn():
    plans = [drawn_plan(drawn_network(seed), seed) for seed in range(1, 9)]
    assert any(core.event_fifo > DISTRIBUTED_EVENTS for plan in plans for core in plan.cores)
    assert any(core.generation_bits == 1 for plan in plans for core in plan.cores)
