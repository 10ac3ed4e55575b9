"""The folded machine of networks that are graphs: every spike and every cycle, and what fits."""

from dataclasses import replace

import numpy as np
import pytest

from boards.definitions import BOARDS
from model.benchmark.ungrouped import ungrouped
from model.conversion.convert import convert
from model.conversion.quantize import Settings
from model.encode import encode
from model.golden import run
from model.importers.onnx import import_model
from model.machine.estimate import estimate
from model.machine.folded_layout import Folded
from model.machine.named_plans import FOLDED, named_plan
from model.machine.plan import PlanError
from model.machine.simulate import simulate
from model.network import INPUT, Convolution, Linear, Network
from model.projection import ConvolutionProjection, LinearProjection, Padding, Shape
from model.support.dataset import Dataset
from sim.cosimulation import verify
from sim.generators.frames import random_frames
from sim.generators.graphs import random_graph
from sim.generators.plans import random_folded_plan
from tests.graphs import residual_block
from tests.onnx_graphs import Graph

ALONE = {8, 18, 19, 23, 32, 47, 51, 54, 58, 59}
"""Seeds whose graphs have a max-pool alone, which no folded machine has."""

SEEDS = [seed for seed in range(1, 25) if seed not in ALONE]


def graph(seed, firing):
    return replace(random_graph(seed, firing=firing, plain=True), flush_events=0)


def same(network, plan, out_dir, seed, *, simulator="icarus", frames=5):
    """Every spike, event and cycle, answer and saturation counter, with idle sources and stalled sinks."""
    given = random_frames(network.input_shape, seed, frames=frames)
    idle, stall = (0.1, 0.4) if seed % 2 else (0.0, 0.0)
    result = verify(
        network, plan, given, simulator=simulator, out_dir=out_dir, seed=seed, idle=idle, stall=stall,
        watch=plan.watch and stall > 0,
    )  # fmt: skip
    assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
    assert result.answers == [run(network, events).answer for events in given]
    assert result.spikes_compared > 20 and result.cycles_compared > 60
    return result


@pytest.mark.parametrize("seed", [seed if seed == 5 else pytest.param(seed, marks=pytest.mark.full) for seed in SEEDS])
def test_random_graphs_that_fire_deferred(seed, tmp_path):
    network = graph(seed, "deferred")
    same(network, random_folded_plan(network, seed), tmp_path, seed)


@pytest.mark.parametrize("seed", [seed if seed == 5 else pytest.param(seed, marks=pytest.mark.full) for seed in SEEDS])
def test_random_graphs_that_fire_immediate(seed, tmp_path):
    """Also bursts, and what merges keep; queues hold no more than they must."""
    network = graph(seed, "immediate")
    same(network, random_folded_plan(network, seed), tmp_path, seed, frames=3)


def test_what_the_random_graphs_that_fire_immediate_have():
    """Inputs that keep and release, with bursts and without; inputs that are served in another order than they are listed."""
    networks = {seed: graph(seed, "immediate") for seed in SEEDS}
    folded = [Folded.of(network, random_folded_plan(network, seed)) for seed, network in networks.items()]
    assert {bool(each.more_bits) for each in folded if each.kept} == {True, False}
    assert any(not each.kept for each in folded)
    numbers = [[service.number for service in link.services] for each in folded for link in each.links]
    assert any(found != sorted(found) for found in numbers)


def test_what_would_wait_without_end_is_refused():
    """Of an event of the stem the second convolution may cause more than any queue holds, and the merge takes it second."""
    stem, inner = (
        Convolution(
            name=name, source=source, weights=np.ones((64, channels, 3, 3), int), bias=np.zeros(64, int), threshold_log2=3,
            padding=Padding(1, 1, 1, 1),
        )
        for name, source, channels in (("stem", INPUT, 1), ("inner", "stem", 64))
    )  # fmt: skip
    outer = replace(inner, name="outer", source="inner")
    merge = Convolution(
        name="merge", source="stem", weights=np.ones((2, 64, 1, 1), int), bias=np.zeros(2, int), threshold_log2=3,
        joined=tuple(ConvolutionProjection(source=name, weights=np.ones((2, 64, 1, 1), int)) for name in ("outer", "inner")),
    )  # fmt: skip
    out = Linear(
        name="out", source="merge", weights=np.ones((3, 50), int), bias=np.zeros(3, int), threshold_log2=3, activation="identity"
    )
    network = Network(name="wide", input_shape=Shape(5, 5, 1), layers=(stem, inner, outer, merge, out))
    with pytest.raises(
        PlanError,
        match=r"^layer 'merge': its input from 'outer' keeps up to 331776 events until the inputs before it have come, and all "
        r"queues of a folded machine must have at most 65536$",
    ):
        named_plan(network, FOLDED)


def test_what_the_random_graphs_have():
    """A source that several layers read, one source twice, linear inputs beside windows, pools, layers that nobody reads, all
    memories."""
    networks = [graph(seed, "deferred") for seed in SEEDS]
    merges = [layer for network in networks for layer in network.layers if len(layer.sources) > 1]
    kinds = [{isinstance(each, LinearProjection) for each in layer.inputs} for layer in merges]
    assert len(merges) > 30 and {True, False} in kinds
    assert any(len(set(layer.sources)) < len(layer.sources) for layer in merges)
    folded = [Folded.of(network, random_folded_plan(network, seed)) for seed, network in zip(SEEDS, networks, strict=True)]
    assert any(len(each.takers(INPUT)) > 1 for each in folded) and not any(each.chain for each in folded)
    assert any(la.pool for each in folded for la in each.layers)
    assert any(not each.takers(la.link) for each in folded for la in each.layers[:-1])
    assert any(each.single_state_words for each in folded) and any(each.single_weight_words for each in folded)
    traces = [run(network, events) for network in networks for events in random_frames(network.input_shape, 1, frames=1)]
    assert any(trace.layers[layer.name].saturated_events for trace in traces for layer in trace.network.layers)


def residual_file():
    """A stem, a block with its input added, and one with strides and a convolution on its shortcut."""
    graph = Graph(shape=("frames", 1, 6, 6), seed=3)
    stem = graph.conv(4, 1, 3, pads=[1] * 4).add("Relu").last
    block = graph.conv(4, 4, 3, pads=[1] * 4).add("Relu").conv(4, 4, 3, pads=[1] * 4).last
    first = graph.add("Add", stem, data=block).add("Relu").last
    inner = graph.conv(5, 4, 3, strides=[2, 2], pads=[1] * 4).last
    shortcut = graph.conv(5, 4, 1, strides=[2, 2], data=first).last
    graph.add("Add", shortcut, data=inner).add("Relu").add("GlobalAveragePool").add("Flatten")
    return graph.linear(5, 3)


def test_a_residual_network_from_its_file_to_the_machine(tmp_path):
    """Converted by the defaults, planned for the smallest board, and every spike and cycle of two frames."""
    floats = import_model(residual_file().model(), "net")
    images = np.random.default_rng(1).integers(0, 256, (12, 6, 6, 1)).astype(np.uint8)
    labels = floats.scores(images.astype(np.float32) / 255).argmax(axis=1).astype(np.int64)
    data = Dataset("own", images, labels)
    network = convert(floats, data, Settings(for_hardware=True, ungroup=True, accuracy_budget=0.5), name="net").network
    assert network.deferred and [len(layer.sources) for layer in network.layers] == [1, 1, 2, 2, 1]
    plan = named_plan(network, FOLDED)
    folded = Folded.of(network, plan)
    assert folded.blocks + folded.link_blocks <= BOARDS["icebreaker"].ram_blocks
    found, _ = estimate(network, plan, Dataset("own", images[:3], labels[:3]), clock_mhz=24.0)
    # What the first convolution fires is taken by the block's inner one, and by its shortcut.
    inner, merged = found.cores[1], found.cores[2]
    assert merged.events_in_per_frame > inner.events_in_per_frame and merged.working_share > 0
    assert found.energy_nj_per_frame.cores[2].hops > found.energy_nj_per_frame.cores[1].hops
    events = [encode(network, image) for image in images[:2]]
    result = verify(network, plan, events, out_dir=tmp_path)
    assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
    assert result.answers == [run(network, each).answer for each in events]
    assert result.spikes_compared > 100


@pytest.mark.full
@pytest.mark.parametrize("firing", ["deferred", "immediate"])
def test_a_residual_block(firing, tmp_path):
    network = ungrouped(residual_block(firing))
    plan = named_plan(network, FOLDED)
    assert not Folded.of(network, plan).kept
    result = same(network, plan, tmp_path, 3, simulator="verilator", frames=3)
    assert result.spikes_compared > 500


@pytest.mark.parametrize("firing", ["deferred", "immediate"])
def test_cycles_do_not_depend_on_how_frames_are_batched(firing):
    network = graph(5, firing)
    plan, frames = random_folded_plan(network, 5), random_frames(network.input_shape, 5, frames=7)
    one, other = (simulate(network, plan, frames, idle=9000, stall=9000, record=True, batch=batch) for batch in (2, 64))
    assert all(np.array_equal(one.passed[name], cycles) for name, cycles in other.passed.items())
    assert np.array_equal(one.answered, other.answered) and one.cores == other.cores
