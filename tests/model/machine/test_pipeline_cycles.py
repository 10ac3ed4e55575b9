"""The cycle model: equal to the hardware in every cycle, whatever the network, the plan, the source and the sinks do."""

import random
from dataclasses import replace

import numpy as np
import pytest

from hw.pipeline.machine import Machine
from model.events import make_events
from model.golden import run
from model.machine.checks import check_plan
from model.machine.cycles import ACTIVITIES
from model.machine.named_plans import choices, named_plan
from model.machine.plan import CorePlan, Plan
from model.machine.simulate import simulate
from model.machine.stages import stages
from model.network import MaxPool, Network, Neurons, Padding, Shape
from model.studies.random_network import drawn
from sim.cosimulation import verify
from sim.generators.frames import random_frames
from sim.generators.graphs import nested_graph, random_graph
from sim.generators.networks import (
    bursting,
    grouped,
    overlapped,
    pooled_input,
    random_convolution,
    random_linear,
    random_network,
    restless,
)
from sim.generators.plans import random_pipeline_plan
from sim.simulators import SIMULATORS

QUICK = ((1, ("immediate", 1, 0)),)
"""Of the machines with groups, and of those with windows that overlap, those that are tested each time."""


def coloured(seed):
    """A small network of three colours, with strides and a padded max-pool."""
    shape, padding = Shape(8, 7, 3), Padding(1, 1, 1, 1)
    first = random_convolution(seed, inputs=3, kernel=(3, 3), stride=(2, 1), padding=padding, channels=4, count_bits=5)
    pool = MaxPool(name="pool", source="conv", window=(2, 2), stride=(2, 2), padding=Padding(1, 0, 0, 1))
    size = pool.output_shape(first.output_shape(shape)).size
    out = random_linear(seed, inputs=size, outputs=3, name="out", source="pool", activation="identity")
    return Network(name=f"coloured{seed}", input_shape=shape, layers=(first, pool, out))


CASES = [pytest.param(seed, id=f"{seed}", marks=[pytest.mark.full] if seed > 2 else []) for seed in range(1, 17)]


@pytest.mark.parametrize("seed", CASES)
def test_every_cycle_is_the_hardwares(seed, tmp_path):
    network = pooled_input(seed) if seed % 4 == 0 else random_network(seed)
    plan = random_pipeline_plan(network, seed)
    frames = random_frames(network.input_shape, seed, frames=8, near=seed % 2 == 0)
    for idle, stall in ((0, 0), (0.5, 0), (0.1, 0.7)):
        result = verify(
            network, plan, frames, out_dir=tmp_path, seed=seed, idle=idle, stall=stall, watch=plan.watch and stall > 0
        )
        assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
        assert result.cycles_compared > len(frames) * 20


@pytest.mark.parametrize("firing", ["immediate", pytest.param("deferred", marks=pytest.mark.full)])
def test_every_cycle_with_divided_memories_is_the_hardwares(firing, tmp_path):
    """Weights in block RAM, and in a table beside it, where the plan divides them by address."""
    network = replace(drawn("9x12x1: 60F 54F 4F", (6, 12, 6)), firing=firing)
    cores = tuple(
        CorePlan(layer=f"f{number}", channels=channels, weight_memory="split") for number, channels in enumerate((6, 6, 1))
    )
    plan = Plan(name="divided", cores=cores, inject=False)
    frames = random_frames(network.input_shape, 3, frames=6, events=12)
    result = verify(network, plan, frames, out_dir=tmp_path, seed=1, idle=0.1, stall=0.5)
    assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
    assert min(result.cycles_compared, result.spikes_compared) > 100
    divided = [each.name for each in Machine(network=network, plan=plan).memories if each.further]
    assert divided == ["core_f0.projection.weights_0.segment_1_slice_0", "core_f1.projection.weights_0.segment_1_slice_0"]


DEFERRED = [pytest.param(seed, id=f"{seed}", marks=[pytest.mark.full] if seed not in (2, 4) else []) for seed in range(1, 9)]


@pytest.mark.parametrize("seed", DEFERRED)
def test_every_cycle_of_a_flush_is_the_hardwares(seed, tmp_path):
    network = pooled_input(seed) if seed % 4 == 0 else random_network(seed)
    network = replace(network, firing="deferred", layers=(*network.layers[:-1], replace(network.layers[-1], threshold_log2=2)))
    plan = random_pipeline_plan(network, seed)
    frames = random_frames(network.input_shape, seed, frames=8, near=seed % 2 == 0)
    assert any(
        (np.diff(layer.spikes["address"]) == 0).any() for events in frames for layer in run(network, events).layers.values()
    )
    for idle, stall in ((0, 0), (0.1, 0.7)):
        result = verify(
            network, plan, frames, out_dir=tmp_path, seed=seed, idle=idle, stall=stall, watch=plan.watch and stall > 0
        )
        assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
        assert result.cycles_compared > len(frames) * 20


FLUSHES = [
    pytest.param(seed, every, id=f"{seed}-{every}", marks=[pytest.mark.full] if (seed, every) not in ((4, 3), (5, 7)) else [])
    for seed in range(1, 9)
    for every in (1, 3, 7, 1000)
]


@pytest.mark.parametrize(("seed", "every"), FLUSHES)
def test_every_cycle_of_flushes_within_a_frame_is_the_hardwares(seed, every, tmp_path):
    """Frames at rest and not, of border classes, with counts that go down again; generations wrap; a flush that never comes."""
    network = (pooled_input, restless, random_network, restless)[seed % 4](seed)
    network = replace(network, firing="deferred", flush_events=every)
    plan = random_pipeline_plan(network, seed)
    frames = random_frames(network.input_shape, seed, frames=5, near=seed % 2 == 0)
    traces = [run(network, events) for events in frames]
    flushes = [len(trace.layers[network.output.name].flushes) for trace in traces]
    assert flushes == [len(events) // every + 1 for events in frames]
    if every < 40:
        # What was sent at one flush is taken back at another.
        pools = [layer.name for layer in network.layers if isinstance(layer, MaxPool)]
        assert any((trace.layers[pool].spikes["sign"] < 0).any() for trace in traces for pool in pools)
    for idle, stall in ((0, 0), (0.2, 0.6)):
        result = verify(
            network, plan, frames, out_dir=tmp_path, simulator="icarus", seed=seed, idle=idle, stall=stall,
            watch=plan.watch and stall > 0,
        )  # fmt: skip
        assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
        assert result.answers == [trace.answer for trace in traces]
        # Each flush passes every link, and every core's groups.
        assert result.cycles_compared > sum(flushes) * (len(network.layers) + 1)


GRAPHS = [pytest.param(seed, id=f"{seed}", marks=[pytest.mark.full] if seed not in (2, 5) else []) for seed in range(2, 14)]


@pytest.mark.parametrize("seed", GRAPHS)
def test_every_cycle_of_a_graph_is_the_hardwares(seed, tmp_path):
    """Layers with several inputs: merges take events as they come, until each has brought the flush; FIFOs at their least too."""
    network = random_graph(seed, firing="deferred", plain=True)
    assert network.branched
    plan = random_pipeline_plan(network, seed)
    if seed % 3 == 2:
        plan = replace(plan, cores=tuple(replace(core, event_fifo=2, group_fifo=8) for core in plan.cores))
    frames = random_frames(network.input_shape, seed, frames=6, near=seed % 2 == 0)
    for idle, stall in ((0, 0), (0.2, 0.6)):
        result = verify(
            network, plan, frames, out_dir=tmp_path, simulator="icarus", seed=seed, idle=idle, stall=stall,
            watch=plan.watch and stall > 0,
        )  # fmt: skip
        assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
        assert result.cycles_compared > len(frames) * len(network.layers)


def in_every_way(seeds):
    """Seeds, each with all ways to fire: the firing, the burst, and the events between flushes."""
    ways = (("immediate", 1, 0), ("immediate", 0, 0), ("deferred", 1, 0), ("deferred", 1, 5))
    return [
        pytest.param(seed, *how, marks=[pytest.mark.full] if (seed, how) not in QUICK else []) for seed in seeds for how in ways
    ]


@pytest.mark.parametrize(("seed", "firing", "burst", "every"), in_every_way(range(1, 7)))
def test_every_cycle_of_groups_and_transposed_convolutions_is_the_hardwares(seed, firing, burst, every, tmp_path):
    """Events visit some blocks of channels, some lanes of a block, windows that leave positions out; of any parallelism."""
    network, chance = grouped(seed, firing=firing, burst=burst, flush_events=every), random.Random(seed)
    options = [choices(network, layer.name) for layer in network.layers]
    if firing == "immediate":
        # A lane for each position of a window and channel of a group is an event a cycle.
        assert options[1][-1].channels == network.layers[1].channels // 6
    cores = [
        replace(
            chance.choice(of), group_fifo=8, event_fifo=chance.choice([2, 16]), generation_bits=chance.choice([1, 2, 4])
        )
        for of in options
    ]
    if seed % 2:
        # All of a block is of several groups, or parts of them.
        cores[0] = replace(cores[0], channels=4, columns=1, rows=1)
        cores[1] = replace(cores[1], channels=4, columns=2, rows=1)
    plan = Plan(name=f"grouped{seed}", cores=tuple(cores))
    check_plan(network, plan)
    frames = random_frames(network.input_shape, seed, frames=3, events=14, near=seed % 2 == 0)
    result = verify(network, plan, frames, out_dir=tmp_path, simulator="icarus", seed=seed, idle=0.1, stall=0.3)
    assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
    assert result.answers == [run(network, events).answer for events in frames]
    assert result.spikes_compared > 50 and result.cycles_compared > len(frames) * 20


@pytest.mark.parametrize(("seed", "firing", "burst", "every"), in_every_way(range(1, 5)))
def test_every_cycle_of_windows_that_overlap_is_the_hardwares(seed, firing, burst, every, tmp_path):
    """Fused to their layer where neurons fire deferred; alone, a spike at a time, where they fire at once, bursts too."""
    network = overlapped(seed, firing=firing, burst=burst, flush_events=every)
    assert [len(stage.layers) for stage in stages(network)] == ([2, 1, 1] if firing == "deferred" else [1, 1, 1, 1])
    cores = [CorePlan(layer="conv", channels=1 + seed % 3, group_fifo=8, event_fifo=2, generation_bits=1), CorePlan(layer="out")]
    plan = Plan(name="overlapped", cores=tuple(cores))
    frames = random_frames(network.input_shape, seed, frames=3, events=20, near=seed % 2 == 0)
    traces = [run(network, events) for events in frames]
    assert any((trace.layers[name].spikes["sign"] < 0).any() for trace in traces for name in ("after", "alone")) or not every
    result = verify(network, plan, frames, out_dir=tmp_path, simulator="icarus", seed=seed, idle=0.1, stall=0.3)
    assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
    assert result.answers == [trace.answer for trace in traces]
    assert result.spikes_compared > 50 and result.cycles_compared > len(frames) * 20


ORDERED = [pytest.param(seed, id=f"{seed}", marks=[pytest.mark.full] if seed != 10 else []) for seed in (1, 4, 6, 8, 10, 11, 13)]


@pytest.mark.parametrize("seed", ORDERED)
def test_every_cycle_of_a_graph_with_barriers_is_the_hardwares(seed, tmp_path):
    """Any parallelism and any FIFOs: where barriers go alone depends on it, and so does the cycle of every token."""
    network = nested_graph(seed)
    plan = random_pipeline_plan(network, seed)
    frames = random_frames(network.input_shape, seed, frames=3, events=10, near=seed % 2 == 0)
    for idle, stall in ((0, 0), (0.2, 0.6)):
        result = verify(
            network, plan, frames, out_dir=tmp_path, simulator="icarus", seed=seed, idle=idle, stall=stall,
            watch=plan.watch and stall > 0,
        )  # fmt: skip
        assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
        assert result.cycles_compared > len(frames) * len(network.layers)


def test_halves_go_to_the_even_count_at_each_flush_within_a_frame(tmp_path):
    """A neuron that counts one less, as it is half way, has that half and a threshold left at the next flush."""
    network = random_network(2)
    layers = [
        replace(layer, threshold_log2=2, halves_to_even=True) if isinstance(layer, Neurons) else layer for layer in network.layers
    ]
    network = replace(network, firing="deferred", flush_events=4, layers=tuple(layers))
    frames = random_frames(network.input_shape, 2, frames=2, near=True)
    traces = [run(network, events) for events in frames]
    down = replace(network, layers=tuple(replace(la, halves_to_even=False) if isinstance(la, Neurons) else la for la in layers))
    others = [run(down, events) for events in frames]
    assert any(
        not np.array_equal(layer.spikes, other.layers[name].spikes)
        for trace, other in zip(traces, others, strict=True)
        for name, layer in trace.layers.items()
    )
    result = verify(network, random_pipeline_plan(network, 2), frames, out_dir=tmp_path, simulator="icarus", seed=2, stall=0.3)
    assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
    assert result.answers == [trace.answer for trace in traces]


BURSTS = ((4, 1, 0, 2), (0, 0, 0, 0), (2, 4, 1, 0))
"""Of the layers of neurons, one after the other; 0 is as many as it takes."""

LOUD = (9, 10)
"""Whose outputs would fire up to a million spikes a frame, which takes minutes: fewer events here, and higher thresholds."""

BURST_CASES = [pytest.param(seed, id=f"{seed}", marks=[pytest.mark.full] if seed not in (3, 5) else []) for seed in range(1, 13)]


@pytest.mark.parametrize("seed", BURST_CASES)
def test_every_cycle_of_a_burst_is_the_hardwares(seed, tmp_path):
    """Frames start at rest, or, with bursts to fire from the start, not; generations wrap."""
    network = (pooled_input, random_network, restless)[seed % 4 % 3](seed)
    network = bursting(network, BURSTS[seed % 3], 5 if seed in LOUD else 3 + seed % 2)
    plan = random_pipeline_plan(network, seed)
    events = 8 if seed in LOUD else 25
    frames = random_frames(network.input_shape, seed, frames=3, events=events, near=seed % 2 == 0)
    traces = [run(network, events) for events in frames]
    for layer in network.layers:
        if isinstance(layer, Neurons) and layer.burst != 1:
            assert any((np.diff(trace.layers[layer.name].spikes["address"]) == 0).any() for trace in traces)
    for idle, stall in ((0, 0), (0.1, 0.7)):
        result = verify(
            network,
            plan,
            frames,
            simulator=SIMULATORS[seed % 2],
            out_dir=tmp_path,
            seed=seed,
            idle=idle,
            stall=stall,
            watch=plan.watch and stall > 0,
        )
        assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
        assert result.answers == [trace.answer for trace in traces]
        assert result.cycles_compared > len(frames) * 20


@pytest.mark.full
@pytest.mark.parametrize("firing_at_rest", [False, True])
def test_bursts_on_pixels_of_several_colours_and_levels(firing_at_rest, tmp_path):
    network = bursting(coloured(3), (4, 0), 4)
    network = replace(network, rest=firing_at_rest, input_levels=3, input_step=60)
    images = np.random.default_rng(3).integers(0, 256, (4, *network.input_shape), dtype=np.uint8)
    for plan in ("minimal", "fast"):
        result = verify(network, named_plan(network, plan), images, out_dir=tmp_path, idle=0.1, stall=0.3)
        assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)


@pytest.mark.parametrize("stall", [0, 0.9])
def test_empty_frames_queue_at_the_door(stall, tmp_path):
    """More of them than are let in at a time."""
    network = pooled_input(4)
    frames = [make_events([])] * 50 + random_frames(network.input_shape, 1, frames=3) + [make_events([])] * 50
    result = verify(network, named_plan(network, "minimal"), frames, out_dir=tmp_path, stall=stall)
    assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
    assert len(result.answers) == 104


@pytest.mark.parametrize("busy", [{}, {"idle": 9000}, {"stall": 9000, "watch": 255}, {"idle": 9000, "stall": 20000, "watch": 5}])
@pytest.mark.parametrize(
    ("name", "firing", "every"),
    [("default", "immediate", 0), ("default", "deferred", 0), ("default", "deferred", 4), ("folded", "immediate", 0)],
)
def test_batches_make_no_difference(name, firing, every, busy):
    network = random_network(2) if name == "default" else drawn("6x6x1: 3C3 P2 4F 3F", threshold_log2=6)
    network = replace(network, firing=firing, flush_events=every)
    plan = named_plan(network, name)
    frames = random_frames(network.input_shape, 3, frames=9)
    options = {"record": True, "activity": 50, **busy}
    one, all_ = (simulate(network, plan, frames, batch=batch, **options) for batch in (1, 100))
    assert one.passed.keys() == all_.passed.keys()
    for name in one.passed:
        assert np.array_equal(one.passed[name], all_.passed[name])
    for name in ("watched", "started", "compared", "answered", "activity"):
        assert np.array_equal(getattr(one, name), getattr(all_, name))
    assert one.cores == all_.cores


def test_what_is_reported():
    network = random_network(3)
    plan = named_plan(network, "minimal")
    frames = random_frames(network.input_shape, 4, frames=5)
    told = []
    found = simulate(network, plan, frames, record=True, activity=400, done=told.append)
    assert sum(told) == found.frames == len(frames)
    traces = [run(network, frame) for frame in frames]
    for layer in network.layers:
        if (name := f"events_{layer.name}") in found.passed:
            spikes = sum(len(trace.layers[layer.name].spikes) for trace in traces)
            assert len(found.passed[name]) == spikes + len(frames)
            assert (np.diff(found.passed[name]) > 0).all()
    assert (found.answered > found.compared).all() and (found.latency > 0).all()
    total = {sum(getattr(core, name) for name in ACTIVITIES) for core in found.cores}
    assert len(total) == 1
    conv = next(core for core in found.cores if core.name == "pool1")
    # With one lane a step is a neuron; and an END is a step too.
    steps = sum(trace.layers["conv1"].operations for trace in traces) + len(frames)
    assert conv.working == steps
    assert 0 < conv.utilization <= 1
    assert found.activity.shape == (len(found.cores), 400)
    counted = [int((found.activity[0] == code).sum()) for code in range(len(ACTIVITIES))]
    assert sum(counted) == 400 and counted[1] > 0


def test_parallelism_changes_cycles_not_events():
    network = random_network(4)
    frames = random_frames(network.input_shape, 4, frames=5)
    slow, fast = (simulate(network, named_plan(network, name), frames, record=True) for name in ("minimal", "fast"))
    assert fast.cycles_per_frame < slow.cycles_per_frame
    assert {name: len(cycles) for name, cycles in fast.passed.items() if name.startswith("events")} == {
        name: len(cycles) for name, cycles in slow.passed.items() if name.startswith("events")
    }
    assert sum(core.working for core in fast.cores) < sum(core.working for core in slow.cores)


def test_construction():
    network = random_network(1)
    plan = named_plan(network, "minimal")
    with pytest.raises(ValueError, match=r"^images must be at least one frame$"):
        simulate(network, plan, [])
    with pytest.raises(ValueError, match=r"^plan 'minimal': cores must be"):
        simulate(network, replace(plan, cores=plan.cores[:-1]), random_frames(network.input_shape, 1))
