"""The two halves of a folded machine's lane with bursts against the model's neuron, whichever layer is in use."""

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.folded.burst_lane import Burst, BurstFacts, SaturatingAdd
from hw.folded.lane import LayerSelect
from model.network import Linear
from model.neuron import update_burst_residual
from tests.hardware import simulate

MORE_BITS = 3


def layer(activation, **options):
    return Linear(
        name="fc", source="input", weights=np.zeros((1, 1), int), bias=np.zeros(1, int), activation=activation, **options
    )


class Neuron(wiring.Component):
    """Both halves without the register between them."""

    def __init__(self, layers):
        self.parts = LayerSelect(BurstFacts(*layers)), SaturatingAdd(*layers), Burst(*layers, more_bits=MORE_BITS)
        select, add, burst = (part.signature.members for part in self.parts)
        super().__init__(
            {"layer": In(select["layer"].shape)}
            | {name: In(add[name].shape) for name in ("state", "drive", "negative")}
            | {name: Out(burst[name].shape) for name in ("update", "plus", "minus", "more", "held")}
            | {"overflow": Out(1)}
        )

    def elaborate(self, platform):
        m = Module()
        select, add, burst = self.parts
        m.submodules.select, m.submodules.add, m.submodules.burst = self.parts
        m.d.sync += Signal(name="clocked").eq(1)
        m.d.comb += [
            select.layer.eq(self.layer),
            add.facts.eq(select.facts),
            burst.facts.eq(select.facts),
            *(getattr(add, name).eq(getattr(self, name)) for name in ("state", "drive", "negative")),
            burst.state.summed.eq(add.summed),
            burst.state.count.eq(self.state.count),
            self.overflow.eq(add.overflow),
            *(getattr(self, name).eq(getattr(burst, name)) for name in ("update", "plus", "minus", "more", "held")),
        ]
        return m


def check(layers, in_use, cases):
    """Compare updates with the model's; gives the spikes that were seen, and whether something saturated."""
    neuron, found = Neuron(layers), []

    async def testbench(ctx):
        ctx.set(neuron.layer, in_use)
        await ctx.tick().repeat(2)
        for residual, count, weight, sign in cases:
            ctx.set(neuron.state, {"summed": residual, "count": count})
            ctx.set(neuron.drive, weight if sign > 0 else ~weight)
            ctx.set(neuron.negative, int(sign < 0))
            await ctx.delay(1e-9)
            after, plus, minus = ctx.get(neuron.update), ctx.get(neuron.plus), ctx.get(neuron.minus)
            fired = (plus - minus) * (1 + ctx.get(neuron.more))
            assert plus or minus or not ctx.get(neuron.more)
            found.append((after.summed, after.count, fired, bool(ctx.get(neuron.overflow) | ctx.get(neuron.held))))

    simulate(neuron, testbench)
    residual, count, weight, sign = np.array(cases, dtype=np.int64).T
    expected = update_burst_residual(layers[in_use], residual, count, sign * weight)
    assert found == list(zip(*(part.tolist() for part in expected), strict=True))
    return {(fired, saturated) for _, _, fired, saturated in found}


def every(neuron):
    """All states, with some of the weights that there are."""
    (lowest, highest), (least, most) = neuron.residual_limits, neuron.count_limits
    weights = (-(1 << neuron.weight_bits - 1), -2, 0, 1, (1 << neuron.weight_bits - 1) - 1)
    states = ((r, q) for r in range(lowest, highest + 1) for q in range(least, most + 1))
    return [(r, q, w, s) for r, q in states for w in weights for s in (1, -1)]


@pytest.mark.parametrize("activation", ["relu", "identity"])
def test_every_state_of_narrow_neurons(activation):
    ends = {"count_max": 5} if activation == "relu" else {}
    neurons = (
        layer(activation, threshold_log2=0, potential_bits=4, burst=0, weight_bits=4, count_bits=3),
        layer(activation, threshold_log2=1, potential_bits=5, burst=2, weight_bits=5, count_bits=3, **ends),
        layer("relu", threshold_log2=2, potential_bits=5, burst=1, weight_bits=5, count_bits=2),
        layer(activation, threshold_log2=1, potential_bits=5, burst=3, weight_bits=5, count_bits=2),
    )
    for number, neuron in enumerate(neurons):
        alone, among = check((neuron,), 0, every(neuron)), check(neurons, number, every(neuron))
        assert alone == among and {saturated for _, saturated in alone} == {False, True}
        fired = {fired for fired, _ in alone}
        assert fired == set(range(min(fired), max(fired) + 1)) and (max(fired) == neuron.burst or not neuron.burst)
        assert max(fired) > 1 or neuron.burst == 1
