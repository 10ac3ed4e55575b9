"""Projection cores against the golden model: every geometry, every parallelism, idle sources, stalled sinks."""

import random

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

from hw.pipeline.groups import GroupSelector
from hw.pipeline.projection import ProjectionCore
from model.golden import run
from model.machine.checks import check_plan
from model.machine.named_plans import choices
from model.machine.plan import CorePlan, Plan
from model.machine.stages import more_bits
from model.network import Network, Padding, Shape, Transposed
from sim.generators.frames import random_frames
from sim.generators.networks import random_convolution, random_linear
from tests.hardware import event_tokens, frames_of_groups, pairs, simulate, source


class Pair(wiring.Component):
    """A projection core and its group selector."""

    def __init__(self, network: Network, core: CorePlan) -> None:
        (layer,), shape = network.layers, network.input_shape
        more = more_bits(network, layer.name)
        self.core = ProjectionCore(layer=layer, source=shape, core=core, deferred=network.deferred, more_bits=more)
        self.selector = GroupSelector(shape=layer.output_shape(shape), core=self.core.firing, more_bits=more)
        super().__init__({"events": self.core.signature.members["events"], "groups": self.selector.signature.members["groups"]})

    def elaborate(self, platform):
        m = Module()
        m.submodules.core, m.submodules.selector = self.core, self.selector
        wiring.connect(m, wiring.flipped(self.events), self.core.events)
        wiring.connect(m, self.core.groups, self.selector.steps)
        wiring.connect(m, self.selector.groups, wiring.flipped(self.groups))
        return m


def check(layer, shape, core, *, idle=0.0, stall=0.0, seed=0, near=False, frames=6, firing="immediate"):
    """Equal to the golden model in every spike and in the saturation count; returns what was covered."""
    plan = Plan(name="test", cores=(core,))
    network = Network(name="test", input_shape=shape, layers=(layer,), firing=firing)
    check_plan(network, plan)
    pair = Pair(network, core)
    inputs = random_frames(shape, seed, frames=frames, near=near)
    traces = [run(network, events).layers[layer.name] for events in inputs]
    tokens = event_tokens(shape, inputs)
    found, saturated, fires_together = [], 0, 0

    async def watch(ctx):
        nonlocal saturated, fires_together
        step = pair.core.groups
        async for _, _, pulse, valid, fired in ctx.tick().sample(pair.core.saturated, step.valid, step.payload.fired):
            saturated += pulse
            fires_together += valid and fired.bit_count() > 1

    count = len(inputs)

    async def until_last_frame(ctx):
        ends = 0
        chance = random.Random(seed)
        while ends < count:
            ctx.set(pair.groups.ready, chance.random() >= stall)
            _, _, valid, ready, payload = await ctx.tick().sample(pair.groups.valid, pair.groups.ready, pair.groups.payload)
            if valid and ready:
                found.append(payload)
                ends += payload.kind.value

    simulate(pair, source(pair.events, tokens, idle=idle, seed=seed), until_last_frame, background=[watch])
    frames_found = frames_of_groups(layer.output_shape(shape), core, found)
    for index, (trace, spikes) in enumerate(zip(traces, frames_found, strict=True)):
        assert spikes == pairs(trace.spikes), f"frame {index}"
    assert saturated == sum(trace.saturated_events for trace in traces)
    return {
        "spikes": sum(len(trace.spikes) for trace in traces),
        "negative": sum(int((trace.spikes["sign"] < 0).sum()) for trace in traces),
        "saturated": saturated,
        "fires_together": fires_together,
        "several": sum(int((np.diff(trace.spikes["address"]) == 0).sum()) for trace in traces),
    }


def some_core(layer, shape, seed):
    """A plan of a lane, of some channels, of a row of the window, or of all of it, in turn."""
    channels = layer.channels
    spans = [min(-(-layer.kernel[n] // layer.stride[n]), layer.output_shape(shape)[n]) for n in (0, 1)]
    cores = [
        CorePlan(layer="conv", generation_bits=1),
        CorePlan(layer="conv", channels=max(1, channels - 1), generation_bits=2),
        CorePlan(layer="conv", channels=channels, columns=spans[1]),
        CorePlan(layer="conv", channels=channels, columns=spans[1], rows=spans[0], group_fifo=8),
    ]
    return cores[seed % len(cores)]


@pytest.mark.parametrize("seed", range(12))
def test_random_convolutions(seed):
    rng = np.random.default_rng(seed)
    shape = Shape(int(rng.integers(4, 9)), int(rng.integers(4, 9)), int(rng.integers(1, 4)))
    layer = random_convolution(seed, inputs=shape.channels, potential_bits=int(rng.choice([8, 9, 16])))
    core = some_core(layer, shape, seed)
    covered = check(layer, shape, core, idle=0.3 * (seed % 2), stall=0.4 * (seed % 3 == 1), seed=seed, near=seed % 2 == 0)
    assert covered["spikes"] > 0


def test_whole_window_with_hazards_every_cycle():
    shape = Shape(8, 8, 2)
    layer = random_convolution(3, inputs=2, kernel=(3, 3), channels=4, stride=(1, 1), padding=(1, 1, 1, 1), potential_bits=9)
    covered = check(layer, shape, CorePlan(layer="conv", channels=4, columns=3, rows=3), near=True, frames=20)
    assert min(covered[name] for name in ("spikes", "negative", "saturated", "fires_together")) > 0, covered


@pytest.mark.parametrize("seed", range(12))
def test_deferred_convolutions(seed):
    """Whatever a flush visits at once; with generations that wrap around every frame, every third, every fifteenth."""
    rng = np.random.default_rng(seed)
    shape = Shape(int(rng.integers(4, 9)), int(rng.integers(4, 9)), int(rng.integers(1, 4)))
    layer = random_convolution(
        seed, inputs=shape.channels, potential_bits=int(rng.choice([8, 9, 16])), threshold_log2=int(rng.choice([3, 6])),
        activation="identity" if seed % 3 == 2 else "relu", count_bits=int(rng.choice([3, 8])),
    )  # fmt: skip
    core = some_core(layer, shape, seed)
    covered = check(
        layer, shape, core, idle=0.3 * (seed % 2), stall=0.4 * (seed % 3 == 1), seed=seed, near=seed % 2 == 0, frames=7,
        firing="deferred",
    )  # fmt: skip
    assert covered["spikes"] > 0 and covered["several"] > 0


@pytest.mark.parametrize("channels", [1, 3, 11])
def test_deferred_linear(channels):
    shape = Shape(3, 2, 4)
    layer = random_linear(
        channels, inputs=24, outputs=11, activation="identity", potential_bits=8, count_bits=3, threshold_log2=4
    )
    core = CorePlan(layer="fc", channels=channels)
    covered = check(layer, shape, core, idle=0.2, stall=0.3, frames=20, seed=channels, firing="deferred")
    assert covered["spikes"] and covered["negative"] and covered["saturated"] and covered["several"]


@pytest.mark.parametrize("channels", [1, 3, 5, 11])
def test_linear(channels):
    shape = Shape(3, 2, 4)
    layer = random_linear(channels, inputs=24, outputs=11, potential_bits=8, count_bits=3)
    covered = check(layer, shape, CorePlan(layer="fc", channels=channels), idle=0.2, stall=0.3, frames=20, seed=channels)
    assert covered["spikes"] and covered["negative"] and covered["saturated"]


def test_signed_counts():
    shape = Shape(1, 1, 6)
    layer = random_linear(7, inputs=6, outputs=4, activation="identity", count_bits=3)
    covered = check(layer, shape, CorePlan(layer="fc", channels=2), frames=20, seed=5)
    assert covered["negative"] and covered["saturated"]


def test_an_event_takes_as_many_cycles_as_it_has_steps():
    shape = Shape(8, 8, 1)
    layer = random_convolution(1, inputs=1, kernel=(3, 3), channels=2, stride=(1, 1), padding=(1, 1, 1, 1), threshold_log2=14)
    core = ProjectionCore(layer=layer, source=shape, core=CorePlan(layer="conv", channels=2, columns=3))
    addresses = [(0, 0), (4, 4), (7, 3), (4, 0)]
    taken = []

    async def testbench(ctx):
        ctx.set(core.groups.ready, 1)
        await ctx.tick().repeat(100)
        for y, x in addresses * 3:
            ctx.set(core.events.payload, {"kind": 0, "negative": 0, "y": y, "x": x, "c": 0})
            ctx.set(core.events.valid, 1)
            cycles = 1
            while not ctx.get(core.events.ready):
                await ctx.tick()
                cycles += 1
            await ctx.tick()
            taken.append(cycles)

    simulate(core, testbench)
    # The first event finds the core idle; each later one waits for the steps of the one before it.
    assert taken == [1, *([2, 3, 2, 3] * 3)[: len(taken) - 1]]


@pytest.mark.parametrize(("averaged", "channels"), [((2, 2), 3), ((3, 1), 11)])
def test_averaged_windows_of_a_linear_layer(averaged, channels):
    """The source's last row or column is after the last whole window."""
    shape = Shape(5, 5, 2)
    inputs = 5 // averaged[0] * (5 // averaged[1]) * 2
    layer = random_linear(3, inputs=inputs, outputs=11, averaged=averaged, count_max=3)
    covered = check(layer, shape, CorePlan(layer="fc", channels=channels), idle=0.2, stall=0.3, frames=12, seed=channels)
    assert covered["spikes"] and covered["negative"]


@pytest.mark.parametrize("columns", [1, 2])
def test_averaged_windows_of_a_convolution(columns):
    shape = Shape(7, 9, 2)
    layer = random_convolution(3, inputs=2, kernel=(2, 3), channels=4, stride=(1, 1), averaged=(2, 3), count_max=2)
    covered = check(layer, shape, CorePlan(layer="conv", channels=4, columns=columns), frames=12, near=True)
    assert covered["spikes"] and covered["negative"]


GROUPED = [
    # Channels of a group in and out, groups, and channels, columns and rows of the core.
    pytest.param(*case, marks=[] if number < 2 else [pytest.mark.full], id="-".join(map(str, case)))
    for number, case in enumerate(
        [
            (1, 1, 5, 1, 3, 2),
            (2, 3, 2, 4, 1, 1),
            (1, 2, 3, 6, 2, 1),
            (1, 1, 6, 4, 1, 1),
            (3, 2, 2, 2, 3, 2),
            (2, 2, 3, 1, 1, 1),
            (1, 1, 4, 2, 3, 3),
            (1, 4, 3, 4, 2, 1),
            (2, 5, 2, 3, 1, 1),
        ]
    )
]


@pytest.mark.parametrize(("firing", "burst"), [("immediate", 1), ("immediate", 0), ("deferred", 1)])
@pytest.mark.parametrize(("of_source", "of_layer", "groups", "channels", "columns", "rows"), GROUPED)
def test_groups_visit_their_own_channels(of_source, of_layer, groups, channels, columns, rows, firing, burst):
    """Also where a block of channels is of several groups, or of parts of some; none of it depends on rounds of generations."""
    shape = Shape(4, 5, of_source * groups)
    layer = random_convolution(
        groups, inputs=of_source, channels=of_layer * groups, groups=groups, kernel=(3, 3), stride=(1, 1), padding=(1, 1, 1, 1),
        potential_bits=8, burst=burst, threshold_log2=5,
    )  # fmt: skip
    core = CorePlan(layer="conv", channels=channels, columns=columns, rows=rows, generation_bits=1)
    covered = check(layer, shape, core, near=True, stall=0.2, seed=3, firing=firing, frames=3)
    assert min(covered["spikes"], covered["saturated"]) > 0
    assert covered["several"] or (firing, burst) == ("immediate", 1)
    memory = ProjectionCore(layer=layer, source=shape, core=core).memories
    weights = sum(each.width * each.depth for each in memory if each.name.startswith("weights_0"))
    # Every weight once, and what fills the last block.
    blocks = -(-layer.channels // channels)
    assert weights == layer.weights.size // layer.channels * blocks * channels * layer.weight_bits


@pytest.mark.parametrize("seed", [0, 1, pytest.param(2, marks=pytest.mark.full), pytest.param(3, marks=pytest.mark.full)])
@pytest.mark.parametrize("firing", ["immediate", "deferred"])
def test_transposed_convolutions(seed, firing):
    """Windows that overlap and that leave positions out, cut off, of all strides, and of groups too."""
    rng, shape = np.random.default_rng(seed), Shape(3, 4, 2)
    stride, groups = [((2, 1), 1), ((3, 2), 2), ((2, 3), 1), ((1, 2), 2)][seed]
    layer = Transposed(
        name="conv", source="input", weights=rng.integers(-60, 80, (4, 2 // groups, 3, 2)), bias=rng.integers(-30, 60, 4),
        stride=stride, padding=Padding(1, 0, 0, 1), more=(stride[0] - 1, 0), groups=groups, threshold_log2=5, potential_bits=9,
    )  # fmt: skip
    plans = [CorePlan(layer="conv"), *choices(Network(name="test", input_shape=shape, layers=(layer,)), "conv")[1::2]]
    for core in plans[seed % 2 :: 2]:
        covered = check(layer, shape, core, near=seed % 2 == 0, stall=0.2, seed=seed, firing=firing, frames=2)
        assert covered["spikes"] > 0
