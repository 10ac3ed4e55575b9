"""The planner against all plans there are."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from boards.limits import limits
from model.engine.engine import run_streams
from model.machine import estimate as estimating
from model.machine.barrier_schedule import schedules
from model.machine.estimate import planned
from model.machine.named_plans import choices, named_plan, steps_per_event
from model.machine.plan import Plan, PlanError
from model.machine.planner import Demand, bound, fastest, ladder, size_fifos, walker_cycles
from model.machine.schedule import flush_steps, schedule
from model.machine.simulate import simulate
from model.machine.stages import core_plan, stages
from model.network import MaxPool, Network, Neurons, Padding
from model.studies.random_network import drawn
from model.support.datasets import Dataset
from model.support.errors import DoesNotFitError
from sim.generators.graphs import nested_graph
from sim.generators.networks import bursting, grouped, overlapped, random_convolution, random_linear, random_network

RNG = np.random.default_rng(7)


def small(seed=1):
    """A convolution with a max-pool, and a linear layer: few enough plans to try them all."""
    conv = random_convolution(seed, inputs=1, name="conv", kernel=(3, 3), stride=(1, 1), channels=4, padding=Padding(1, 1, 1, 1))
    pool = MaxPool(name="pool", source="conv", window=(2, 2), stride=(2, 2))
    out = random_linear(seed, inputs=4 * 4 * 4, outputs=10, name="out", source="pool", activation="identity")
    return Network(name="small", input_shape=(8, 8, 1), layers=(conv, pool, out))


def frames(network, count, seed=3):
    rng = np.random.default_rng(seed)
    dark = rng.random((count, *network.input_shape)) < 0.6
    return np.where(dark, 0, rng.integers(0, 256, (count, *network.input_shape))).astype(np.uint8)


def data(network, count):
    return Dataset("noise", frames(network, count), np.random.default_rng(1).integers(0, network.classes, count))


@pytest.mark.parametrize(("firing", "every"), [("immediate", 0), ("deferred", 0), ("deferred", 5)])
@pytest.mark.parametrize("seed", range(1, 5))
def test_walkers_take_the_cycles_foreseen(seed, firing, every):
    network = replace(random_network(seed), firing=firing, flush_events=every)
    images = frames(network, 12)
    demand = Demand.of(network, images)
    assert demand.frames == 12
    for name in ("minimal", "default", "fast"):
        plan = named_plan(network, name)
        found = simulate(network, plan, images)
        neurons = [core for core in found.cores if core.name != "pool2"]
        for core, use in zip(plan.cores, neurons, strict=True):
            assert round(walker_cycles(network, demand, core) * len(images), 6) == use.working


@pytest.mark.parametrize(("firing", "every"), [("immediate", 0), ("deferred", 5)])
@pytest.mark.parametrize("seed", range(1, 4))
def test_walkers_visit_the_channels_of_a_group(seed, firing, every):
    """Of any parallelism that is worth its lanes: one that has more takes fewer steps for an event, or for a flush."""
    network = grouped(seed, firing=firing, flush_events=every)
    images = frames(network, 5)
    demand = Demand.of(network, images)
    options = [choices(network, layer.name) for layer in network.layers]
    for number in range(max(map(len, options))):
        plan = Plan(name="p", cores=tuple(of[min(number, len(of) - 1)] for of in options))
        found = simulate(network, plan, images)
        for core, use in zip(plan.cores, found.cores, strict=True):
            assert round(walker_cycles(network, demand, core) * len(images), 6) == use.working
    for of in options:
        costs = [(steps_per_event(network, core), flush_steps(network, network.layer(core.layer), core)) for core in of]
        for before, after in itertools.pairwise(costs):
            assert after[0] < before[0] or after[1] < before[1]


@pytest.mark.parametrize(("firing", "every"), [("immediate", 0), ("deferred", 5)])
def test_a_pool_alone_takes_a_cycle_for_each_window(firing, every):
    network = overlapped(2, firing=firing, flush_events=every)
    images = frames(network, 6)
    demand, streams, plan = Demand.of(network, images), run_streams(network, images), named_plan(network, "minimal")
    stage = next(stage for stage in stages(network) if stage.name == "alone")
    wanted = schedule(network, plan, stage, streams).groups
    assert round(bound(network, demand, stage, None).groups * len(images), 6) == len(wanted)
    assert len(wanted) > demand.sent["after"] * len(images)


@pytest.mark.parametrize("firing", ["immediate", "deferred", "bursts", "flushes"])
@pytest.mark.parametrize("seed", range(1, 7))
def test_parts_take_the_cycles_of_their_schedule(seed, firing):
    """The planner counts in a demand what the schedule, which is of one plan, has one by one; of a burst each spike."""
    network = random_network(seed)
    if firing == "bursts":
        network = bursting(network, (0, 3), 4)
    elif firing == "flushes":
        network = replace(network, firing="deferred", flush_events=5)
    else:
        network = replace(network, firing=firing)
    images = frames(network, 6)
    demand, streams = Demand.of(network, images), run_streams(network, images)
    alone = 0
    for name in ("minimal", "default", "fast"):
        plan = named_plan(network, name)
        cycles = simulate(network, plan, images).cycles_per_frame
        for stage in stages(network):
            core = core_plan(network, plan, stage) if isinstance(stage.layers[0], Neurons) else None
            found = bound(network, demand, stage, core)
            wanted = schedule(network, plan, stage, streams)
            assert round(found.serializer * len(images), 6) == wanted.tokens.sum()
            if core is None:
                alone += 1
                assert (found.walker, round(found.groups * len(images), 6)) == (0.0, len(wanted.groups))
            else:
                # A pool takes each of them, and the steps of its flush.
                assert round(found.groups * len(images), 6) == len(wanted.groups)
                assert network.deferred or len(wanted.groups) == wanted.fired_groups.sum()
            assert getattr(found, found.part) == found.cycles <= cycles
    assert alone == 3 * sum(isinstance(stage.layers[0], MaxPool) for stage in stages(network))


@pytest.mark.parametrize("seed", [1, 8])
def test_barriers_are_foreseen(seed):
    """No more than there are: whether the last step of a walk fires, and with it a barrier goes, depends on the plan."""
    network = nested_graph(seed)
    images = frames(network, 4)
    demand, streams = Demand.of(network, images), run_streams(network, images)
    assert any(taken > 0 for taken, _ in demand.barriers.values()) and any(left > 0 for _, left in demand.barriers.values())
    for name in ("minimal", "fast"):
        plan = named_plan(network, name)
        found_cycles = simulate(network, plan, images)
        wanted = schedules(network, plan, stages(network), streams)
        for stage, of_stage, use in zip(stages(network), wanted, found_cycles.cores, strict=True):
            core = core_plan(network, plan, stage) if isinstance(stage.layers[0], Neurons) else None
            found = bound(network, demand, stage, core)
            # A max-pool takes together what fires in a step, and so may send a barrier less.
            pooled = len(stage.layers) > 1
            assert round(found.groups * len(images), 6) <= len(of_stage.groups)
            assert pooled or round(found.serializer * len(images), 6) <= of_stage.tokens.sum()
            assert round(found.walker * len(images), 6) <= use.working or not core


def talkative():
    """A layer of which nearly every event fires nearly every neuron: its spikes leave one after the other."""
    layer = random_linear(1, inputs=16, outputs=8, name="hidden", source="input", threshold_log2=4, count_bits=8)
    layer = replace(layer, weights=np.full_like(layer.weights, 16), bias=np.zeros(8, np.int64))
    out = random_linear(2, inputs=8, outputs=3, name="out", source="hidden", activation="identity")
    return Network(name="talkative", input_shape=(4, 4, 1), layers=(layer, out))


def test_no_lanes_are_added_that_bring_nothing():
    """Every input event fires all eight neurons, so eight cycles go by for it however many lanes there are."""
    network = talkative()
    images = np.full((10, 4, 4, 1), 255, np.uint8)
    demand = Demand.of(network, images)
    assert demand.sent == {"input": 16.0, "hidden": 128.0, "out": demand.sent["out"]}
    plans = ladder(network, demand)
    assert min(cycles for cycles, _ in plans) >= 129.0
    chosen = planned(network, images).plan
    measured = {plan.lanes: simulate(network, plan, images).cycles_per_frame for _, plan in plans}
    best = named_plan(network, "fast")
    assert chosen.lanes < best.lanes
    assert simulate(network, chosen, images).cycles_per_frame <= 1.01 * simulate(network, best, images).cycles_per_frame
    assert measured[plans[0][1].lanes] > 1.01 * measured[chosen.lanes]


@pytest.mark.parametrize("seed", [1, 2])
def test_never_ten_percent_worse_than_the_best_of_all_plans(seed):
    network = small(seed)
    images = frames(network, 8)
    options = [choices(network, layer.name) for layer in network.layers if isinstance(layer, Neurons)]
    every = [Plan(name="x", cores=cores) for cores in itertools.product(*options)]
    assert len(every) >= 30
    measured = {plan.cores: simulate(network, plan, images).cycles_per_frame for plan in every}
    demand = Demand.of(network, images)
    for limit in sorted({plan.lanes for plan in every}):
        best = min(measured[plan.cores] for plan in every if plan.lanes <= limit)
        chosen = fastest(network, demand, limits(network, max_lanes=limit), name="x")
        assert chosen.lanes <= limit
        assert measured[chosen.cores] <= 1.1 * best
    for wanted in np.quantile(list(measured.values()), [0.1, 0.5, 0.9]):
        # Of the plans that are a tenth faster than what is wanted, none has fewer lanes.
        best = min(plan.lanes for plan in every if measured[plan.cores] <= max(wanted / 1.1, min(measured.values())))
        assert planned(network, images, cycles=wanted).plan.lanes <= best


def test_fifos_grow_where_it_helps():
    network = random_network(2)
    images = frames(network, 12)
    plan = named_plan(network, "fast")
    tight = replace(plan, cores=tuple(replace(core, event_fifo=2, group_fifo=8) for core in plan.cores))
    before = simulate(network, tight, images).cycles_per_frame
    sized, found = size_fifos(network, tight, images)
    assert found.cycles_per_frame < before
    assert simulate(network, sized, images).cycles_per_frame == found.cycles_per_frame
    assert any(core.event_fifo > 2 or core.group_fifo > 8 for core in sized.cores)


def test_fifos_after_max_pools_grow_where_they_fire_at_flushes():
    network = drawn("16x16x1: 8C3 P2 8C3 P2 10F", (8, 14, 8))
    first, *others = network.layers
    # About as many events leave the first core as enter it.
    network = replace(network, firing="deferred", layers=(replace(first, threshold_log2=6), *others))
    images = frames(network, 6)
    shallow = named_plan(network, "fast")
    shallow = replace(shallow, cores=tuple(replace(core, pool_fifo=0) for core in shallow.cores))
    before = simulate(network, shallow, images).cycles_per_frame
    sized, found = size_fifos(network, shallow, images)
    assert found.cycles_per_frame < before
    assert sized.cores[0].pool_fifo > 16 and sized.cores[-1].pool_fifo == 0
    immediate, _ = size_fifos(replace(network, firing="immediate"), shallow, images)
    assert not any(core.pool_fifo for core in immediate.cores)


def test_what_cannot_be_had():
    network = small()
    images = frames(network, 4)
    demand = Demand.of(network, images)
    with pytest.raises(PlanError, match=r"^cycles per frame must be at least \d+, not 3: the fastest plan has 46 lanes$"):
        planned(network, images, cycles=3)
    one = limits(network, max_lanes=1)
    with pytest.raises(DoesNotFitError, match=r"^the smallest plan, of 2 lanes, does not fit: short of 1 lanes \(needs 2, may"):
        fastest(network, demand, one)
    with pytest.raises(DoesNotFitError, match=r"^300 cycles per frame take \d+ lanes, which do not fit: short of \d+ lanes"):
        planned(network, images, cycles=300, short_of=one)
    with pytest.raises(ValueError, match=r"^images must be at least one frame$"):
        Demand.of(network, images[:0])


def test_fifos_are_sized_on_fewer_frames_where_these_hold_many_events(monkeypatch):
    network, looked_at = small(), []
    images = frames(network, 120)
    sent = sum(Demand.of(network, images).sent.values())

    def sized(network, plan, images, short_of):
        looked_at.append(len(images))
        return size_fifos(network, plan, images, short_of)

    monkeypatch.setattr(estimating, "size_fifos", sized)
    for events in (1, 40.5 * sent, 1e9):
        monkeypatch.setattr(estimating, "_EVENTS", events)
        planned(network, images)
    assert looked_at == [10, 40, 100]
