"""What parts of a machine take sums up to what the whole takes."""

from dataclasses import replace

import numpy as np
import pytest

from boards.limits import room
from hw.flow.area import estimate_area
from hw.flow.room import BoardRoom
from model.machine.named_plans import choices, named_plan
from model.machine.plan import Plan
from model.network import Neurons
from tests.model.machine.test_planner import small
from tests.model.machine.test_queues import residual


@pytest.mark.parametrize("network", [residual(), replace(small(), firing="deferred"), small()], ids=lambda network: network.name)
def test_cores_and_what_is_around_them_are_all(network):
    rng = np.random.default_rng(1)
    space = BoardRoom(network, ram_blocks=100, luts=10000)
    least = named_plan(network, "minimal")
    around = space.around(least)
    moved = set()
    for _ in range(6):
        picked = []
        for layer in network.layers:
            if isinstance(layer, Neurons):
                options = choices(network, layer.name)
                variants = space.variants(least, options[rng.integers(len(options))])
                blocks, luts = zip(*(taken for taken, _ in variants), strict=True)
                assert list(blocks) == sorted(set(blocks)) and list(luts) == sorted(set(luts), reverse=True)
                picked.append(variants[rng.integers(len(variants))])
        plan = Plan(name="p", cores=tuple(core for _, core in picked), inject=least.inject, states=least.states)
        area = estimate_area(network, plan)
        assert around.blocks + sum(taken.blocks for taken, _ in picked) == area.ram_blocks
        assert around.luts + sum(taken.luts for taken, _ in picked) == pytest.approx(area.luts, abs=1.01)
        moved |= {core.state_memory for core in plan.cores} | {core.weight_memory for core in plan.cores}
    assert "distributed" in moved


def test_queues_take_their_blocks():
    network = residual()
    space = BoardRoom(network, ram_blocks=100, luts=10000)
    plan = named_plan(network, "minimal")
    before = estimate_area(network, plan).ram_blocks
    for depth in (512, 1024, 1536, 3000, 20000):
        for name, layer, source in (("event_fifo", "first", "first"), ("join_fifo", "sum", "stem")):
            cores = tuple(replace(core, **{name: depth}) if core.layer == layer else core for core in plan.cores)
            queued = estimate_area(network, replace(plan, cores=cores)).ram_blocks
            assert space.queue_blocks(source, depth) == queued - before


def test_room_is_of_a_board_that_the_area_model_knows():
    network = residual()
    space = room(network, board="ulx3s-85f")
    assert (space.ram_blocks, space.luts, space.lanes) == (208, 50184, None)
    space = room(network, board="ulx3s-85f", max_luts=70000, max_lanes=5)
    assert (space.ram_blocks, space.luts, space.lanes) == (208, 70000, 5)
    assert room(network) is room(network, board="tang-nano-9k") is None
