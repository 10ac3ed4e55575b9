"""Deep queues at cores: whole machines, spike for spike and cycle for cycle, and the cycles that they save."""

from dataclasses import replace

import pytest

from hw.pipeline.machine import Machine
from model.benchmark.ungrouped import ungrouped
from model.golden import run
from model.machine.checks import check_plan
from model.machine.named_plans import named_plan
from model.machine.plan import DISTRIBUTED_EVENTS, PlanError
from model.machine.simulate import simulate
from sim.cosimulation import verify
from sim.generators.frames import random_frames
from tests.graphs import residual_block


def planned(network, *, event_fifo, join_fifo):
    plan = named_plan(network, "minimal")
    cores = tuple(
        replace(core, event_fifo=event_fifo, join_fifo=join_fifo if len(network.layer(core.layer).sources) > 1 else 0)
        for core in plan.cores
    )
    return replace(plan, cores=cores, watch=False)


@pytest.mark.parametrize(
    ("event_fifo", "join_fifo", "stall"),
    [(DISTRIBUTED_EVENTS + 1, 64, 0.0), pytest.param(2, 3, 0.4, marks=pytest.mark.full)],
)
def test_a_residual_block(event_fifo, join_fifo, stall, tmp_path):
    network = ungrouped(residual_block("deferred"))
    plan, given = planned(network, event_fifo=event_fifo, join_fifo=join_fifo), random_frames(network.input_shape, 3, frames=4)
    result = verify(network, plan, given, simulator="verilator", out_dir=tmp_path, seed=3, idle=0.1, stall=stall)
    assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
    assert result.answers == [run(network, events).answer for events in given]
    assert result.spikes_compared > 500 and result.cycles_compared > 500


def test_layers_of_a_block_take_the_next_frame_meanwhile():
    network = ungrouped(residual_block("deferred"))
    given = random_frames(network.input_shape, 3, frames=20)
    cycles = [
        simulate(network, planned(network, event_fifo=event_fifo, join_fifo=join_fifo), given).cycles_per_frame
        for event_fifo, join_fifo in ((16, 0), (1024, 0), (1024, 1024))
    ]
    assert cycles[0] > cycles[1] > cycles[2]


def test_memories_of_queues():
    network = ungrouped(residual_block("deferred"))
    deep = Machine(network=network, plan=planned(network, event_fifo=512, join_fifo=64)).memories
    found = {memory.name: (memory.depth, memory.kind) for memory in deep if "fifo" in memory.name or "queue" in memory.name}
    for name in (layer.name for layer in network.layers):
        if f"core_{name}.fifo.words" in found:
            assert found[f"core_{name}.fifo.words"] == (512, "block")
    assert found["core_block1.queue_1.words"] == (64, "block")
    assert not [name for name in found if name.startswith("core_stem.queue")]


def test_where_there_is_no_queue():
    network = ungrouped(residual_block("deferred"))
    plan = named_plan(network, "minimal")
    with pytest.raises(
        PlanError,
        match=r"^plan 'minimal': core 'stem': join_fifo must be 0 in a core without several inputs of a pipeline, not 8$",
    ):
        check_plan(network, replace(plan, cores=(replace(plan.cores[0], join_fifo=8), *plan.cores[1:])))
    with pytest.raises(PlanError, match=r"^core 'stem': join_fifo must be 0 or within 2..65536, not 1$"):
        replace(plan.cores[0], join_fifo=1)
