"""The lanes of a flush, for one bank and for several that share them; and which cores share."""

from dataclasses import replace

import numpy as np
import pytest

from hw.pipeline.flush_lanes import FlushLanes
from hw.pipeline.machine import Machine
from model.machine.named_plans import named_plan
from model.machine.stages import more_bits
from model.network import Linear, Network
from model.neuron import flush_residual
from sim.generators.networks import random_network
from tests.hardware import simulate


def neuron(**options):
    return Linear(
        name="fc",
        source="input",
        weights=np.zeros((1, 1), int),
        bias=np.zeros(1, int),
        potential_bits=9,
        threshold_log2=4,
        count_bits=4,
        **options,
    )


@pytest.mark.parametrize("banks", [1, 2, 3])
@pytest.mark.parametrize("options", [{"activation": "relu", "count_max": 11}, {"activation": "identity"}])
def test_what_a_flush_fires_is_the_models(banks, options):
    layer, channels, steps = neuron(**options), 2, 300
    more = more_bits(Network(name="n", input_shape=(1, 1, 1), layers=(layer,), firing="deferred"), "fc")
    lanes = FlushLanes(layer=layer, channels=channels, banks=banks, more_bits=more)
    rng = np.random.default_rng(banks)
    least, most = layer.count_limits
    R = rng.integers(-(2**9), 2**9, (steps, banks, channels))
    Q = rng.integers(least, most + 1, (steps, banks, channels))
    # No bank is flushed in one step of so many.
    bank = rng.integers(-1, banks, steps)
    latency, found = 2 + (banks > 1), []

    async def run(ctx):
        for step in range(steps + latency):
            if step < steps:
                words = [
                    [{"summed": int(r), "count": int(q)} for r, q in zip(*of, strict=True)]
                    for of in zip(R[step], Q[step], strict=True)
                ]
                ctx.set(lanes.states, words)
                ctx.set(lanes.flushed, 1 << int(bank[step]) if bank[step] >= 0 else 0)
            if step >= latency:
                plus, minus, saturated = (ctx.get(each) for each in (lanes.plus, lanes.minus, lanes.saturated))
                found.append(
                    [(plus >> n & 1, minus >> n & 1, saturated >> n & 1, ctx.get(lanes.more[n])) for n in range(channels)]
                )
            await ctx.tick()

    simulate(lanes, run)
    for step, at in enumerate(bank):
        if at < 0:
            assert found[step] == [(0, 0, 0, 0)] * channels
            continue
        _, _, fired, held = flush_residual(layer, R[step, at], Q[step, at])
        told = zip(fired.tolist(), held.tolist(), strict=True)
        assert found[step] == [(n > 0, n < 0, late, max(abs(n) - 1, 0)) for n, late in told]
    assert {n for step in found for n, *_ in step} == {0, 1}


def test_banks_of_rows_share_and_counts_are_not_stored():
    network = replace(random_network(1), firing="deferred", rest=False)
    plan = named_plan(network, "fast")
    core = next(core for core in plan.cores if core.rows > 1)
    widths = {
        flushes: {
            memory.name: memory.width
            for memory in Machine(network=replace(network, flush_events=flushes), plan=plan).memories
            if memory.name.startswith("core_") and (".state_0.words" in memory.name or memory.name.endswith("projection.fifo"))
        }
        for flushes in (0, 5)
    }
    assert widths[0].keys() == widths[5].keys()
    layer = network.layer(core.layer)
    stage = next(name for name in widths[0] if "state_0.words" in name)
    assert widths[5][stage] - widths[0][stage] == core.channels * layer.count_bits
    fifo = stage.replace("state_0.words", "fifo")
    assert widths[0][fifo] * core.rows < widths[5][fifo] * 1.2
