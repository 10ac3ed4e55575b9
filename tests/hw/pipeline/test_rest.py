"""Frames that start from the state at rest: in the pipeline's banks, its max-pools and its readout."""

from dataclasses import replace

import numpy as np
import pytest

from hw.flow.verilog import to_rtlil
from hw.pipeline.machine import Machine
from hw.pipeline.projection import ProjectionCore
from model.golden import run
from model.machine.borders import borders
from model.machine.named_plans import named_plan
from model.machine.plan import CorePlan
from model.machine.stored_state import settled
from model.network import MaxPool, Neurons
from model.rest import states_at_rest
from sim.cosimulation import verify
from sim.generators.frames import random_frames
from sim.generators.networks import random_network, restless
from tests.hardware import simulate


@pytest.mark.parametrize(
    ("plan", "firing"),
    [
        ("fast", "immediate"),
        ("default", "deferred"),
        pytest.param("fast", "deferred", marks=pytest.mark.full),
        pytest.param("minimal", "immediate", marks=pytest.mark.full),
    ],
)
def test_every_spike_and_cycle(plan, firing, tmp_path):
    network = replace(restless(21), firing=firing)
    states = states_at_rest(network)
    for layer in network.layers:
        assert states[layer.name].count.any()
        if isinstance(layer, MaxPool):
            assert np.ptp(states[layer.source].count, axis=(0, 1)).any()
    # So few generations wrap.
    plan = named_plan(network, plan)
    plan = replace(plan, cores=tuple(replace(core, generation_bits=1 + n % 2) for n, core in enumerate(plan.cores)))
    frames = random_frames(network.input_shape, 2, frames=5)
    for idle, stall in ((0, 0), (0.2, 0.5)):
        result = verify(network, plan, frames, out_dir=tmp_path, idle=idle, stall=stall, watch=plan.watch and stall > 0)
        assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
        assert result.answers == [run(network, events).answer for events in frames]
        assert result.cycles_compared > 500


@pytest.mark.parametrize("core", [CorePlan(layer="conv1"), CorePlan(layer="conv1", channels=2, columns=3, rows=2)])
def test_states_are_read_by_position(core):
    network = restless(18)
    layer, shape = network.layers[0], network.shapes[0]
    core = replace(core, channels=min(core.channels, layer.channels))
    start = states_at_rest(network)["conv1"]
    built = ProjectionCore(layer=layer, source=network.input_shape, core=core, states=True, start=start)
    found = np.zeros((*shape, 2), np.int64)

    async def read(ctx):
        await ctx.tick().repeat(200)
        ctx.set(built.ask, 1)
        for y, x, c in np.ndindex(*shape):
            ctx.set(built.place, {"y": y, "x": x, "c": c})
            await ctx.tick().repeat(12)
            state = ctx.get(built.state)
            found[y, x, c] = settled(layer, state.summed, state.count, updated=bool(state.updated))

    simulate(built, read)
    assert (found[..., 0] == start.potential).all() and (found[..., 1] == start.count).all()


def test_a_rest_that_changes_nothing_builds_nothing():
    network = random_network(2)
    quiet = replace(
        network,
        layers=tuple(replace(la, bias=np.minimum(la.bias, 5)) if isinstance(la, Neurons) else la for la in network.layers),
    )
    assert not any(state.count.any() for state in states_at_rest(quiet).values())
    both = (quiet, replace(quiet, rest=True))
    texts = {to_rtlil(Machine(network=network, plan=named_plan(network, "minimal")), "machine") for network in both}
    assert len(texts) == 1


def test_rows_and_columns_that_are_alike():
    values = np.zeros((5, 6), np.int64)
    assert borders(values).alike
    values[0], values[:, 5], values[0, 5] = 1, 2, 3
    found = borders(values)
    assert (found.of_row, found.of_column) == ([0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 1])
    assert (found.rows, found.columns, found.alike) == ([0, 1], [0, 5], False)
