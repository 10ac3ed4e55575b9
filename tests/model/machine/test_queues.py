"""Queues in block RAM, and the lanes that they leave room for."""

from dataclasses import replace

import numpy as np
import pytest

from boards.limits import limits, relief, room
from hw.flow.area import estimate_area
from hw.flow.room import BoardRoom
from model.engine.engine import run_streams
from model.machine import queues
from model.machine.estimate import considered, estimate, planned
from model.machine.named_plans import named_plan
from model.machine.plan import Plan
from model.machine.planner import Demand
from model.machine.queues import fastest_queued, whole_frames
from model.machine.simulate import simulate
from model.network import INPUT, Convolution, Linear, Network
from model.projection import ConvolutionProjection, Padding
from model.reports.estimate_page import cores_table, nearest, summary
from model.support.datasets import Dataset, load
from model.support.frames import suited
from sim.generators.graphs import random_graph
from tests.model.machine.test_planner import small


def residual(seed=1):
    """A convolution, a block with its input added, and a linear layer, which fire deferred: hundreds of events each."""
    rng = np.random.default_rng(seed)

    def convolution(name, source, inputs, threshold_log2, joined=()):
        weights = rng.integers(-20, 24, (6, inputs, 3, 3))
        return Convolution(
            name=name, source=source, weights=weights, bias=np.zeros(6, np.int64), padding=Padding(1, 1, 1, 1),
            threshold_log2=threshold_log2, weight_bits=6, potential_bits=12, count_bits=5, joined=joined,
        )  # fmt: skip

    around = ConvolutionProjection(source="stem", weights=np.full((6, 1, 1, 1), 31), groups=6)
    layers = (
        convolution("stem", INPUT, 1, 4),
        convolution("first", "stem", 6, 6),
        convolution("sum", "first", 6, 8, (around,)),
        Linear(
            name="out", source="sum", weights=rng.integers(-20, 21, (3, 6)), bias=np.zeros(3, np.int64), activation="identity",
            threshold_log2=5, weight_bits=6, potential_bits=16, count_bits=11, averaged=(10, 10),
        ),
    )  # fmt: skip
    return Network(
        name="residual", input_shape=(10, 10, 1), layers=layers, firing="deferred", rest=False, input_threshold=24, input_step=32,
        input_levels=8,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def short(request, monkeypatch):
    """Few plans are simulated."""
    if "full" not in request.keywords:
        monkeypatch.setattr(queues, "_TRIALS", 30)


def frames(network, count, seed=3):
    """Frames of which some are much brighter than others."""
    rng = np.random.default_rng(seed)
    bright = rng.random((count, 1, 1, 1)) * 255
    return (rng.random((count, *network.input_shape)) * bright).astype(np.uint8)


def fits(network, plan, space):
    area = estimate_area(network, plan)
    return area.ram_blocks <= space.ram_blocks and area.luts <= space.luts + 1


@pytest.mark.parametrize(("blocks", "seed"), [(60, 1), (26, 1), (26, 2), (22, 3)])
def test_the_plan_found_has_room_and_takes_the_cycles_said(blocks, seed):
    network = residual(seed)
    images = frames(network, 8)
    demand = Demand.of(network, images)
    assert all(demand.most_sent[name] > 100 for name in ("stem", "first", "sum"))
    space = BoardRoom(network, ram_blocks=blocks, luts=15000)
    found = fastest_queued(network, demand, space, images)
    assert fits(network, found.plan, space)
    assert simulate(network, found.plan, images).steady_cycles_per_frame == found.cycles
    bare = replace(found.plan, cores=tuple(replace(core, event_fifo=16, join_fifo=0) for core in found.plan.cores))
    assert simulate(network, bare, images).steady_cycles_per_frame > found.cycles
    assert any(core.event_fifo > 256 or core.join_fifo for core in found.plan.cores)
    assert found.plan.core("out").event_fifo == 16
    assert all(not core.join_fifo for core in found.plan.cores if core.layer != "sum")


def test_more_room_takes_no_more_cycles():
    network = residual()
    images = frames(network, 8)
    demand = Demand.of(network, images)
    found = [
        fastest_queued(network, demand, BoardRoom(network, ram_blocks=blocks, luts=luts), images)
        for blocks, luts in ((20, 9000), (24, 9000), (40, 20000))
    ]
    assert found[0].cycles >= found[1].cycles > found[2].cycles
    # In block RAM, and of blocks side by side: as deep as a power of two.
    depths = {depth for plan, _ in found for core in plan.cores for depth in (core.event_fifo, core.join_fifo) if depth >= 512}
    assert depths and all(depth.bit_count() == 1 for depth in depths)


def test_no_plan_has_room():
    network = residual()
    images = frames(network, 4)
    demand = Demand.of(network, images)
    assert fastest_queued(network, demand, BoardRoom(network, ram_blocks=60, luts=4000), images) is None
    assert fastest_queued(network, demand, BoardRoom(network, ram_blocks=60, luts=15000, lanes=3), images) is None
    few = fastest_queued(network, demand, BoardRoom(network, ram_blocks=60, luts=15000, lanes=9), images)
    assert few.plan.lanes <= 9
    with pytest.raises(ValueError, match=r"^network 'small' must fire deferred: others send events as they go, which need no qu"):
        fastest_queued(small(), Demand.of(small(), images[:, :8, :8]), BoardRoom(small(), ram_blocks=60, luts=15000), images)


def test_plans_are_simulated_no_more_often_than_said(monkeypatch):
    network, asked = residual(), []
    images = frames(network, 8)

    def counted(network, plan, images):
        asked.append(plan)
        return simulate(network, plan, images)

    monkeypatch.setattr(queues, "simulate", counted)
    monkeypatch.setattr(queues, "_TRIALS", 12)
    demand = Demand.of(network, images)
    found = fastest_queued(network, demand, BoardRoom(network, ram_blocks=24, luts=15000), images)
    # The lanes that are spared in the end are few more.
    assert len(set(asked)) == len(asked) <= 12 + 7
    assert found.cycles <= min(simulate(network, plan, images).steady_cycles_per_frame for plan in asked) * 1.005


@pytest.mark.parametrize("seed", range(1, 4))
def test_graphs_are_planned_with_queues_or_without(seed):
    """Never more cycles than without; a network that fires immediate has the plan that it had."""
    network = replace(random_graph(seed, firing="deferred", plain=True), flush_events=0)
    images = frames(network, 8)
    space = room(network, board="ulx3s-25f")
    options = {"short_of": limits(network, board="ulx3s-25f"), "relieve": relief(network, board="ulx3s-25f")}
    found, before = (planned(network, images, room=of, **options).plan for of in (space, None))
    cycles = [simulate(network, plan, images).steady_cycles_per_frame for plan in (found, before)]
    assert cycles[0] <= cycles[1]
    assert not options["short_of"](found)
    immediate = replace(network, firing="immediate", layers=network.layers)
    if not immediate.branched:
        assert planned(immediate, images, room=space, **options).plan == planned(immediate, images, **options).plan


def test_a_chain_is_planned_with_queues():
    network = replace(small(), firing="deferred")
    images = frames(network, 8)
    short_of = limits(network, board="ulx3s-25f")
    found, before = (
        planned(network, images, room=of, short_of=short_of).plan for of in (room(network, board="ulx3s-25f"), None)
    )
    cycles = [simulate(network, plan, images).steady_cycles_per_frame for plan in (found, before)]
    assert cycles[0] <= cycles[1]
    immediate = small()
    plans = [
        planned(immediate, images, room=of, short_of=short_of).plan for of in (room(immediate, board="ulx3s-25f"), None)
    ]
    assert plans[0] == plans[1]


def test_the_chosen_plan_is_among_those_considered():
    network = replace(small(), firing="deferred")
    images = np.random.default_rng(8).integers(0, 256, (10, *network.input_shape), dtype=np.uint8)
    choice = planned(network, images, room=room(network, board="ulx3s-25f"), short_of=limits(network, board="ulx3s-25f"))
    every = considered(choice, lambda plan: estimate_area(network, plan))
    paces = [plan.slowest_core_cycles for plan in every]
    assert paces == sorted(paces, reverse=True)
    chosen = [number for number, plan in enumerate(every) if plan.chosen]
    assert len(chosen) == 1 and every[chosen[0]].lanes_by_core == tuple(core.lanes for core in choice.plan.cores)
    assert nearest(every) == every[max(0, chosen[0] - 5) : chosen[0] + 6]


def test_queues_for_whole_frames_are_never_full():
    network = residual()
    images = frames(network, 8)
    demand, streams = Demand.of(network, images), run_streams(network, images)
    assert demand.most_sent == {name: np.diff(stream.starts).max() for name, stream in streams.items()}
    plan = whole_frames(network, named_plan(network, "default"), demand)
    for core in plan.cores[:-1]:
        assert core.event_fifo >= demand.most_sent[core.layer] and core.event_fifo % 512 == 0
    assert plan.core("sum").join_fifo >= demand.most_sent["stem"]
    assert plan.core("out").event_fifo == 16 and whole_frames(network, plan, demand) == plan


def test_the_report_says_which_queues_there_are_and_what_is_missing():
    network = residual()
    data = Dataset("noise", frames(network, 8), np.zeros(8, np.int64))
    without = named_plan(network, "minimal")
    with_queues = whole_frames(network, without, Demand.of(network, data.images))

    def blocks_of(plan: Plan) -> int:
        return estimate_area(network, plan).ram_blocks

    found, _ = estimate(network, without, data, clock_mhz=50, blocks_of=blocks_of)
    missing = blocks_of(with_queues) - blocks_of(without)
    assert found.queue_blocks_missing == missing > 0
    assert dict(summary(found))["what is missing"] == (
        f"the busiest core works {found.slowest_core_cycles:,.0f} of {found.cycles_per_frame:,.0f} cycles: queues for whole "
        f"frames need {missing} blocks more"
    )
    assert [row[2] for row in cores_table(found).rows] == ["-"] * 4
    found, _ = estimate(network, with_queues, data, clock_mhz=50, blocks_of=blocks_of)
    assert found.queue_blocks_missing is None and "what is missing" not in dict(summary(found))
    queued = [core.event_fifo for core in with_queues.cores]
    joined = with_queues.core("sum").join_fifo
    assert [row[2] for row in cores_table(found).rows] == [
        f"{queued[0]:,}", f"{queued[1]:,}", f"{queued[2]:,}, {joined:,}", "-",
    ]  # fmt: skip


def test_steady_cycles_leave_the_filling_out():
    network = residual()
    found = simulate(network, named_plan(network, "default"), frames(network, 8))
    assert found.steady_cycles_per_frame == (found.answered[7] - found.answered[2]) / 5
    alone = simulate(network, named_plan(network, "default"), frames(network, 1))
    assert alone.steady_cycles_per_frame == alone.cycles_per_frame


@pytest.mark.full
def test_a_residual_network_on_a_board():
    """It is faster, at 60 % of the LUTs, than the most lanes without queues."""
    network = Network.load("model/zoo/cifar-resnet.npz")
    images = suited(network, load("cifar10", "train", None).first(60)).images
    space = room(network, board="ulx3s-85f")
    demand = Demand.of(network, images[:40])
    found = fastest_queued(network, demand, space, images[:20])
    assert fits(network, found.plan, space) and space.luts == 50184
    assert found.cycles <= 65000
    # On frames that it was not planned on.
    cycles = simulate(network, found.plan, images[40:]).steady_cycles_per_frame
    without, bundled = (
        simulate(network, Plan.load(f"model/zoo/cifar-resnet-{name}.json"), images[40:]).steady_cycles_per_frame
        for name in ("plan", "176")
    )
    assert cycles < 0.6 * without
    # As it is placed and routed.
    assert bundled < 0.4 * without
