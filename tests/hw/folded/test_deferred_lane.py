"""The lane of a folded machine that fires deferred against the model's neuron, whichever layer is in use."""

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.folded.deferred_lane import Accumulate, DeferredFacts, TakeCount, WantedCount
from hw.folded.lane import LayerSelect
from model.network import Linear
from model.neuron import accumulate_residual, flush_residual
from tests.hardware import simulate


def layer(activation, **options):
    return Linear(
        name="fc", source="input", weights=np.zeros((1, 1), int), bias=np.zeros(1, int), activation=activation, **options
    )


class Neuron(wiring.Component):
    """All of the lane without its registers."""

    def __init__(self, layers):
        self.parts = LayerSelect(DeferredFacts(*layers)), Accumulate(*layers), WantedCount(*layers), TakeCount(*layers)
        select, add, _, take = (part.signature.members for part in self.parts)
        super().__init__(
            {"layer": In(select["layer"].shape)}
            | {name: In(add[name].shape) for name in ("state", "drive", "negative")}
            | {"summed": Out(add["summed"].shape), "count": Out(take["count"].shape), "held": Out(1)}
        )

    def elaborate(self, platform):
        m = Module()
        select, add, want, take = self.parts
        m.submodules.select, m.submodules.add, m.submodules.want, m.submodules.take = self.parts
        m.d.sync += Signal(name="clocked").eq(1)
        m.d.comb += [
            select.layer.eq(self.layer),
            want.facts.eq(select.facts),
            take.facts.eq(select.facts),
            *(getattr(add, name).eq(getattr(self, name)) for name in ("state", "drive", "negative")),
            want.state.eq(self.state),
            take.wanted.eq(want.wanted),
            take.outside.eq(want.outside),
            self.summed.eq(add.summed),
            self.count.eq(take.count),
            self.held.eq(take.held),
        ]
        return m


def check(layers, in_use, cases):
    """Compare both, of states ``(R, Q)`` and drives, with the model; gives what flushes fired, and whether anything was held."""
    neuron, found = Neuron(layers), []
    bits = layers[in_use].potential_bits + 1

    async def testbench(ctx):
        ctx.set(neuron.layer, in_use)
        await ctx.tick().repeat(2)
        for residual, count, weight, sign in cases:
            ctx.set(neuron.state, {"summed": residual, "count": count})
            ctx.set(neuron.drive, weight if sign > 0 else ~weight)
            ctx.set(neuron.negative, int(sign < 0))
            await ctx.delay(1e-9)
            summed = ctx.get(neuron.summed) % (1 << bits)
            summed -= summed >> bits - 1 << bits
            found.append((summed, ctx.get(neuron.count), bool(ctx.get(neuron.held))))

    simulate(neuron, testbench)
    residual, count, weight, sign = np.array(cases, dtype=np.int64).T
    added = accumulate_residual(layers[in_use], residual, sign * weight)
    _, after, fired, held = flush_residual(layers[in_use], residual, count)
    assert found == list(zip(added.tolist(), after.tolist(), held.tolist(), strict=True))
    return set(zip(np.sign(fired).tolist(), held.tolist(), strict=True))


ALL = {(sign, held) for sign in (-1, 0, 1) for held in (False, True)}


@pytest.mark.parametrize("activation", ["relu", "identity"])
def test_every_state_of_narrow_neurons(activation):
    options = {"weight_bits": 3, "count_bits": 3}
    ends = {"count_max": 5} if activation == "relu" else {}
    neurons = (
        layer(activation, threshold_log2=0, potential_bits=4, **options),
        layer(activation, threshold_log2=2, potential_bits=5, **ends, **options),
        layer("relu", threshold_log2=1, potential_bits=4, **options),
        layer(activation, threshold_log2=2, potential_bits=5, **ends, **options, halves_to_even=True),
    )
    for number, neuron in enumerate(neurons):
        (lowest, highest), (least, most) = neuron.residual_limits, neuron.count_limits
        residuals = range(2 * lowest, 2 * highest + 2)
        cases = [(r, q, w, s) for r in residuals for q in range(least, most + 1) for w in (-4, -1, 0, 3) for s in (1, -1)]
        assert {sign for sign, _ in check((neuron,), 0, cases)} == {-1, 0, 1}
        seen = check(neurons, number, cases)
        assert {sign for sign, _ in seen} == {-1, 0, 1} and {held for _, held in seen} == {False, True}


@pytest.mark.parametrize("last", ["relu", "identity"])
def test_layers_of_many_widths(last):
    layers = (
        layer("relu", threshold_log2=5, weight_bits=8, potential_bits=12, count_bits=3),
        layer("relu", threshold_log2=2, weight_bits=8, potential_bits=9, count_bits=5, count_max=19),
        layer(last, threshold_log2=8, weight_bits=6, potential_bits=11, count_bits=5),
        layer(last, threshold_log2=3, weight_bits=8, potential_bits=12, count_bits=4),
    )
    rng = np.random.default_rng(0)
    for number, neuron in enumerate(layers):
        (lowest, highest), (least, most) = neuron.residual_limits, neuron.count_limits
        span = 1 << neuron.weight_bits - 1
        drawn = zip(
            rng.integers(2 * lowest, 2 * highest + 2, 3000),
            rng.integers(least, most + 1, 3000),
            rng.integers(-span, span, 3000),
            rng.choice([1, -1], 3000),
            strict=True,
        )
        assert {(1, True), (-1, False)} <= check(layers, number, [tuple(map(int, case)) for case in drawn]) <= ALL
