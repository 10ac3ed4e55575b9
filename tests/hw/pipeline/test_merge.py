"""Layers with several inputs: the merge by itself, and whole machines, spike for spike and cycle for cycle."""

from dataclasses import replace

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.parts.buffer import StreamBuffer
from hw.pipeline.fan_out import FanOut
from hw.pipeline.merge import Merge, OrderedMerge, merged_shape
from model.golden import run
from model.machine.barriers import barred, carried, entangled
from model.machine.checks import check_plan
from model.machine.named_plans import choices, named_plan
from model.machine.plan import CorePlan, PlanError
from model.machine.stages import stages
from model.network import Convolution, Linear, MaxPool, Network, Neurons, Shape
from model.projection import ConvolutionProjection, LinearProjection, TransposedProjection
from sim.cosimulation import verify
from sim.generators.frames import random_frames
from sim.generators.graphs import nested_graph, random_graph
from tests.graphs import residual_block
from tests.hardware import simulate, sink, source

LEAST_GROUP_FIFO, LEAST_EVENT_FIFO = 8, 2
SHAPES = (Shape(2, 3, 2), Shape(4, 1, 3), Shape(1, 1, 5))


class Buffered(wiring.Component):
    """A merge after a register stage for each input, as in a core."""

    def __init__(self, merge=None):
        self.merge = merge or Merge(shapes=SHAPES)
        self.buffers = [StreamBuffer(payload=getattr(self.merge, f"events_{n}").payload.shape()) for n in range(len(SHAPES))]
        members = {f"events_{n}": In(buffer.taken.signature.flip()) for n, buffer in enumerate(self.buffers)}
        super().__init__({**members, "merged": Out(self.merge.merged.signature)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.merge = self.merge
        for number, buffer in enumerate(self.buffers):
            m.submodules[f"buffer_{number}"] = buffer
            wiring.connect(m, wiring.flipped(getattr(self, f"events_{number}")), buffer.taken)
            wiring.connect(m, buffer.given, getattr(self.merge, f"events_{number}"))
        wiring.connect(m, self.merge.merged, wiring.flipped(self.merged))
        return m


def random_streams(seed, frames=9):
    """Of each input random frames, some empty, each with its flush within it (negative) or its end; the same of all inputs."""
    rng = np.random.default_rng(seed)
    streams, ends = [[] for _ in SHAPES], rng.integers(0, 2, frames)
    for end in ends:
        for shape, stream in zip(SHAPES, streams, strict=True):
            for address in rng.integers(0, shape.size, rng.choice([0, 3, 12])):
                y, x, c = shape.coordinates(address)
                stream.append({"kind": 0, "negative": int(rng.integers(2)), "y": y, "x": x, "c": c})
            stream.append({"kind": 1, "negative": int(end), "y": 0, "x": 0, "c": 0})
    return streams


@pytest.mark.parametrize("idle", [(0, 0, 0), (0.7, 0, 0.3), (0, 0.9, 0.5)])
@pytest.mark.parametrize("stall", [0, 0.6])
def test_nothing_is_lost_and_an_end_goes_once_all_have_brought_it(idle, stall):
    for seed in range(3):
        component, streams, found = Buffered(), random_streams(seed), []
        spikes = sum(not token["kind"] for stream in streams for token in stream)
        ends = sum(token["kind"] for token in streams[0])
        sources = [source(getattr(component, f"events_{n}"), stream, idle=idle[n], seed=n) for n, stream in enumerate(streams)]
        simulate(component, *sources, sink(component.merged, found, spikes + ends, stall=stall))
        by_input, y, x, c = [[] for _ in SHAPES], 0, 0, 0
        tokens = [{name: int(getattr(token, name)) for name in ("negative", "y", "x", "c")} for token in found]
        for shape, mine in zip(SHAPES, by_input, strict=True):
            for token, raw in zip(tokens, found, strict=True):
                if raw.kind.value:
                    assert (token["y"], token["x"], token["c"]) == (0, 0, 0)
                    mine.append({"kind": 1, **token})
                elif y <= token["y"] < y + shape.height:
                    moved = {"y": token["y"] - y, "x": token["x"] - x, "c": token["c"] - c}
                    mine.append({"kind": 0, "negative": token["negative"], **moved})
            y, x, c = y + shape.height, x + shape.width, c + shape.channels
        assert by_input == streams
        assert {token["negative"] for token, raw in zip(tokens, found, strict=True) if raw.kind.value} == {0, 1}


def test_the_first_input_goes_first_and_an_end_waits():
    merge = Merge(shapes=SHAPES[:2])
    first, second = merge.events_0, merge.events_1

    async def check(ctx):
        async def offers(of_first, of_second):
            for stream, token in ((first, of_first), (second, of_second)):
                ctx.set(stream.valid, token is not None)
                ctx.set(stream.payload, token or {"kind": 0})
            await ctx.delay(1e-7)
            return tuple(ctx.get(signal) for signal in (merge.merged.valid, first.ready, second.ready))

        spike, end, flush = {"kind": 0, "y": 1, "x": 0, "c": 1}, {"kind": 1, "negative": 0}, {"kind": 1, "negative": 1}
        ctx.set(merge.merged.ready, 1)
        assert await offers(spike, spike) == (1, 1, 0)
        assert (ctx.get(merge.merged.payload.y), ctx.get(merge.merged.payload.c)) == (1, 1)
        assert await offers(end, spike) == (1, 0, 1)
        moved = ctx.get(merge.merged.payload)
        assert (moved.y, moved.x, moved.c) == (3, 3, 3)
        assert await offers(None, spike) == (1, 0, 1)
        assert await offers(end, None) == (0, 0, 0)
        assert await offers(None, flush) == (0, 0, 0)
        assert await offers(flush, flush) == (1, 1, 1)
        payload = ctx.get(merge.merged.payload)
        assert (payload.kind.value, payload.negative, payload.y, payload.x, payload.c) == (1, 1, 0, 0, 0)
        ctx.set(merge.merged.ready, 0)
        assert await offers(end, end) == (1, 0, 0)

    simulate(merge, check)


def in_turns(seed, levels, *, ends_here, frames=6):
    """Of each input random frames of some turns, which may be empty, and what an ordered merge of them sends."""
    rng = np.random.default_rng(seed)
    streams, merged = [[] for _ in SHAPES], []
    for _ in range(frames):
        for _ in range(rng.integers(0, 4)):
            # All inputs close as many levels with a turn; each within its turn brings what it likes.
            closes = int(rng.integers(1, levels + 1))
            for number, (shape, stream) in enumerate(zip(SHAPES, streams, strict=True)):
                before = merged_shape([Shape(0, 0, 0), *SHAPES[:number]])
                out = closes - ends_here if number == len(SHAPES) - 1 else 0
                turn = []
                for address in rng.integers(0, shape.size, rng.choice([0, 1, 5])):
                    y, x, c = shape.coordinates(address)
                    turn.append({"kind": 0, "negative": int(rng.integers(2)), "y": y, "x": x, "c": c, "closes": 0})
                if not turn or rng.random() < 0.5:
                    turn.append({"kind": 1, "negative": 0, "y": 0, "x": 0, "c": 0, "closes": 0})
                turn[-1]["closes"] = closes
                stream += turn
                for token in turn:
                    spike, now = not token["kind"], out if token is turn[-1] else 0
                    moved = zip(("y", "x", "c"), before, strict=True)
                    if spike or now:
                        at = {name: (token[name] + first) * spike for name, first in moved}
                        merged.append({**token, **at, "closes": now})
        end = {"kind": 1, "negative": 0, "y": 0, "x": 0, "c": 0, "closes": 0}
        for stream in (*streams, merged):
            stream.append(dict(end))
    return streams, merged


@pytest.mark.parametrize(("levels", "ends_here"), [(1, True), (2, True), (2, False)])
def test_inputs_take_turns(levels, ends_here):
    for seed, idle in enumerate([(0, 0, 0), (0.7, 0, 0.3), (0, 0.8, 0.5)]):
        component = Buffered(OrderedMerge(shapes=SHAPES, levels=levels, ends_here=ends_here))
        streams, wanted = in_turns(seed, levels, ends_here=ends_here)
        sources = [source(getattr(component, f"events_{n}"), stream, idle=idle[n], seed=n) for n, stream in enumerate(streams)]
        found = []
        simulate(component, *sources, sink(component.merged, found, len(wanted), stall=(0, 0.6)[seed % 2]))
        names = [name for name in wanted[0] if name != "closes" or levels > ends_here]
        assert [{name: int(getattr(token, name).value if name == "kind" else getattr(token, name)) for name in names}
                for token in found] == [{name: token[name] for name in names} for token in wanted]  # fmt: skip


def test_turns_need_a_level():
    with pytest.raises(ValueError, match=r"^levels must be at least 1, not 0$"):
        OrderedMerge(shapes=SHAPES, levels=0, ends_here=False)
    with pytest.raises(ValueError, match=r"^shapes must be at least two, not 1$"):
        OrderedMerge(shapes=SHAPES[:1], levels=1, ends_here=True)


def test_shapes_are_at_least_two():
    assert merged_shape(SHAPES) == Shape(7, 5, 10)
    with pytest.raises(ValueError, match=r"^shapes must be at least two, not 1$"):
        Merge(shapes=SHAPES[:1])


def test_weights_of_several_inputs_follow_each_other():
    """Of a linear input and a convolution to the same neurons, at each coordinate the word of the weight that it stands for."""
    linear = Linear(
        name="both", source="input", weights=np.arange(3 * 12).reshape(3, 12), bias=np.zeros(3, int), threshold_log2=2,
        joined=(ConvolutionProjection(source="input", weights=np.arange(3 * 24).reshape(3, 4, 3, 2)),),
    )  # fmt: skip
    shapes = (Shape(2, 3, 2), Shape(3, 2, 4))
    found = FanOut.of(linear, shapes[0], CorePlan(layer="both", channels=2), joined=shapes[1:])
    assert (found.blocks, found.depth, found.weight_depth) == (2, 2, 2 * (12 + 24))

    def address(y, x, c):
        ((_, (row,)),), ((_, (column,)),) = found.rows.steps[y], found.columns.steps[x]
        assert (row.word, column.word) == (0, 0)
        return row.weight + column.weight + found.channel_weights[c]

    assert [address(y, x, c) for y in range(2) for x in range(3) for c in range(2)] == list(range(0, 24, 2))
    moved = [address(2 + y, 3 + x, 2 + c) for c in range(4) for y in range(3) for x in range(2)]
    assert moved == list(range(24, 72, 2))


def wider(network):
    """A plan with several lanes in every core, by which banks of rows and columns too."""
    cores = []
    for layer in network.layers:
        if isinstance(layer, Neurons):
            found = choices(network, layer.name)
            cores.append(found[-1 - len(found) // 4])
    return replace(named_plan(network, "minimal"), name="wider", cores=tuple(cores), states=False, watch=False)


def same(network, plan, out_dir, seed, *, simulator="icarus", level="rtl", frames=5, events=40):
    """Every spike, event and cycle, answer and saturation counter, back to back and with stalled sinks, FIFOs at their least."""
    plan = named_plan(network, "minimal") if plan == "minimal" else wider(network)
    cores = tuple(replace(core, group_fifo=LEAST_GROUP_FIFO, event_fifo=LEAST_EVENT_FIFO) for core in plan.cores)
    plan = replace(plan, cores=cores)
    given = random_frames(network.input_shape, seed, frames=frames, events=events)
    result = verify(
        network, plan, given, level=level, simulator=simulator, out_dir=out_dir, seed=seed, idle=0.1, stall=0.4, watch=plan.watch
    )
    assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
    assert result.answers == [run(network, events).answer for events in given]
    links, flushes = len(stages(network)) + 1, result.coverage.layers[0].flushes if network.deferred else len(given)
    assert flushes >= len(given) and result.cycles_compared > flushes * links
    return result


@pytest.mark.parametrize(
    ("seed", "plan"),
    [
        pytest.param(seed, plan, marks=[] if (seed, plan) in ((2, "minimal"), (7, "wider")) else [pytest.mark.full])
        for seed in range(15)
        for plan in ("minimal", "wider")
    ],
)
def test_random_graphs(seed, plan, tmp_path):
    network = random_graph(seed, firing="deferred", plain=True)
    assert network.branched
    result = same(network, plan, tmp_path, seed)
    assert result.spikes_compared > 20


IN_ORDER = [(seed, plan) for seed in (0, 1, 3, 4, 6, 8, 9, 10, 11, 13, 14, 15) for plan in ("minimal", "wider")]


@pytest.mark.parametrize(
    ("seed", "plan"),
    [pytest.param(*each, marks=[] if each in ((1, "minimal"), (4, "wider")) else [pytest.mark.full]) for each in IN_ORDER],
)
def test_merges_of_networks_that_fire_immediate(seed, plan, tmp_path):
    """Forks within forks, shortcuts, one source twice, max-pools between: barriers keep the order."""
    network = nested_graph(seed)
    assert barred(network)
    same(network, plan, tmp_path, seed, frames=2, events=10)


@pytest.mark.parametrize(
    ("seed", "plan"),
    [
        pytest.param(seed, plan, marks=[] if (seed, plan) == (2, "minimal") else [pytest.mark.full])
        for seed in (0, 2, 3, 4, 6, 7, 10, 14, 16, 20, 27, 30, 33, 37, 44, 57)
        for plan in ("minimal", "wider")
    ],
)
def test_random_graphs_that_fire_immediate(seed, plan, tmp_path):
    """Merges of what comes on several ways at once too, which have queues that hold it."""
    network = random_graph(seed, plain=True)
    assert barred(network) and (entangled(network) is not None) == (seed in (2, 3, 6, 7, 14, 20))
    same(network, plan, tmp_path, seed, frames=2, events=10)


def test_what_the_graphs_that_fire_immediate_have():
    """Three levels of barriers, max-pools alone and fused between fork and merge, one source twice, ways of three layers."""
    networks = [nested_graph(seed) for seed, _ in IN_ORDER]
    assert {len(forks) for network in networks for forks in carried(network).values()} == {0, 1, 2, 3}
    cores = [(stage, len(carried(network)[stage.name])) for network in networks for stage in stages(network)]
    assert any(len(stage.layers) == 2 and levels for stage, levels in cores)
    assert any(isinstance(stage.layers[0], MaxPool) and levels for stage, levels in cores)
    assert any(len(set(stage.sources)) < len(stage.sources) for stage, _ in cores)
    traces = [run(network, random_frames(network.input_shape, 1, frames=1)[0]) for network in networks]
    spikes = [len(trace.layers[layer.name].spikes) for trace in traces for layer in trace.network.layers]
    assert 0 in spikes and max(spikes) > 100


EVERY_KIND = range(15, 27)
"""Seeds of graphs with groups, transposed convolutions and windows that overlap too."""

EVERY_KIND_IN_ORDER = (9, 14, 16, 43, 44, 63, 66)
"""Those of graphs that fire immediate."""


@pytest.mark.full
@pytest.mark.parametrize("seed", EVERY_KIND)
def test_random_graphs_of_every_kind_of_layer(seed, tmp_path):
    network = random_graph(seed, firing="deferred")
    assert same(network, ("minimal", "wider")[seed % 2], tmp_path, seed, frames=3).spikes_compared > 20


@pytest.mark.full
@pytest.mark.parametrize("seed", EVERY_KIND_IN_ORDER)
def test_random_graphs_of_every_kind_that_fire_immediate(seed, tmp_path):
    """Barriers close behind the last block of a group, the last window that a spike moves, and where nothing is reached."""
    network = random_graph(seed)
    assert barred(network) and not entangled(network)
    same(network, ("minimal", "wider")[seed % 2], tmp_path, seed, frames=2, events=20)


@pytest.mark.parametrize(("firing", "seeds"), [("deferred", EVERY_KIND), ("immediate", EVERY_KIND_IN_ORDER)])
def test_what_the_graphs_of_every_kind_have(firing, seeds):
    networks = [random_graph(seed, firing=firing) for seed in seeds]
    inputs = [each for network in networks for layer in network.layers for each in layer.inputs]
    assert len([each for each in inputs if isinstance(each, TransposedProjection)]) > 3
    assert len([each for each in inputs if isinstance(each, ConvolutionProjection) and each.groups > 1]) > 5
    assert any(isinstance(each, MaxPool) and each.overlapping for each in inputs)
    assert all(network.branched for network in networks)


def test_what_the_random_graphs_have():
    """Flushes within frames, one source twice, linear inputs beside windows, pools alone and fused, and what saturates."""
    networks = [random_graph(seed, firing="deferred", plain=True) for seed in range(15)]
    merges = [layer for network in networks for layer in network.layers if len(layer.sources) > 1]
    kinds = [{isinstance(each, LinearProjection) for each in layer.inputs} for layer in merges]
    assert len(merges) > 30 and {True, False} in kinds
    assert any(len(set(layer.sources)) < len(layer.sources) for layer in merges)
    assert len([network for network in networks if network.flush_events]) > 4
    cores = [stage for network in networks for stage in stages(network)]
    assert any(len(stage.layers) == 2 for stage in cores) and any(isinstance(stage.layers[0], MaxPool) for stage in cores)
    traces = [run(network, events) for network in networks for events in random_frames(network.input_shape, 1, frames=1)]
    assert any(trace.layers[layer.name].saturated_events for trace in traces for layer in trace.network.layers)


@pytest.mark.parametrize("plan", ["minimal", pytest.param("wider", marks=pytest.mark.full)])
def test_a_residual_block(plan, tmp_path):
    result = same(residual_block("deferred"), plan, tmp_path, 3, simulator="verilator", frames=3)
    assert result.spikes_compared > 500


@pytest.mark.full
@pytest.mark.parametrize("plan", ["minimal", "wider"])
def test_a_residual_block_that_fires_immediate(plan, tmp_path):
    result = same(residual_block(), plan, tmp_path, 3, simulator="verilator", frames=3)
    assert result.spikes_compared > 500


def test_a_layer_that_a_pool_and_another_read_is_not_fused(tmp_path):
    rng = np.random.default_rng(1)
    numbers = {"threshold_log2": 3, "weight_bits": 6}
    network = Network(
        name="shared",
        input_shape=Shape(4, 4, 1),
        layers=(
            Convolution(
                name="conv", source="input", weights=rng.integers(-9, 20, (2, 1, 1, 1)), bias=np.zeros(2, int), **numbers
            ),
            MaxPool(name="conv_1", source="conv", window=(2, 2), stride=(2, 2)),
            # A name that ends like a member of another core.
            Linear(
                name="out", source="conv_1", weights=rng.integers(-9, 20, (3, 8)), bias=np.zeros(3, int), activation="identity",
                joined=(LinearProjection(source="conv", weights=rng.integers(-9, 20, (3, 32))),), **numbers,
            ),
        ),
        firing="deferred",
        flush_events=4,
    )  # fmt: skip
    assert [stage.name for stage in stages(network)] == ["conv", "conv_1", "out"]
    assert [stage.sources for stage in stages(network)] == [("input",), ("conv",), ("conv_1", "conv")]
    same(network, "minimal", tmp_path, 4)


def test_where_there_are_no_merges():
    network = residual_block("deferred")
    plan = named_plan(network, "minimal")
    assert not plan.inject
    with pytest.raises(
        PlanError,
        match=r"^plan 'minimal': inject must be false where a layer has several inputs, as 'block1' has: a frame that enters "
        r"beyond the network's input does not reach them all$",
    ):
        check_plan(network, replace(plan, inject=True))
