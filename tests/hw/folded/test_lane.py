"""The two halves of a folded machine's lane against the model's neuron, whichever layer is in use."""

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.folded.lane import LayerFacts, LayerSelect, Settle, Update
from model.network import Linear
from model.neuron import update_residual
from tests.hardware import simulate


def layer(activation: str, **options: int) -> Linear:
    return Linear(
        name="fc", source="input", weights=np.zeros((1, 1), int), bias=np.zeros(1, int), activation=activation, **options
    )


class Neuron(wiring.Component):
    """Both halves without the register between them."""

    def __init__(self, layers: tuple[Linear, ...]) -> None:
        self.select, self.first, self.second = LayerSelect(LayerFacts(*layers)), Update(*layers), Settle(*layers)
        members = self.first.signature.members
        super().__init__(
            {"layer": In(self.select.signature.members["layer"].shape)}
            | {name: In(members[name].shape) for name in ("state", "drive", "negative")}
            | {name: Out(members[name].shape) for name in ("update", "plus", "minus", "saturated")}
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.select, m.submodules.first, m.submodules.second = select, first, second = (
            self.select, self.first, self.second
        )
        # Of one layer alone there is nothing to wait for; the simulator wants a clock all the same.
        m.d.sync += Signal(name="clocked").eq(1)
        m.d.comb += [
            select.layer.eq(self.layer),
            first.facts.eq(select.facts),
            second.facts.eq(select.facts),
            *(getattr(first, name).eq(getattr(self, name)) for name in ("state", "drive", "negative")),
            second.state.eq(first.update),
            *(getattr(second, name).eq(getattr(first, name)) for name in ("plus", "minus")),
            *(getattr(self, name).eq(getattr(first, name)) for name in ("plus", "minus", "saturated")),
            self.update.eq(second.update),
        ]
        return m


def check(layers: tuple[Linear, ...], in_use: int, cases: list[tuple[int, int, int, int]]) -> set[tuple[int, bool]]:
    """Compare updates with the model's; gives the spikes that were seen, and whether something saturated."""
    both, found = Neuron(layers), []

    async def testbench(ctx):
        ctx.set(both.layer, in_use)
        await ctx.tick().repeat(2)
        for residual, count, weight, sign in cases:
            ctx.set(both.state, {"summed": residual, "count": count})
            ctx.set(both.drive, weight if sign > 0 else ~weight)
            ctx.set(both.negative, int(sign < 0))
            await ctx.delay(1e-9)
            after = ctx.get(both.update)
            fired = ctx.get(both.plus) - ctx.get(both.minus)
            found.append((after.summed, after.count, fired, bool(ctx.get(both.saturated))))

    simulate(both, testbench)
    residual, count, weight, sign = np.array(cases, dtype=np.int64).T
    expected = zip(*(part.tolist() for part in update_residual(layers[in_use], residual, count, sign * weight)), strict=True)
    assert found == list(expected)
    return {(fired, saturated) for _, _, fired, saturated in found}


def every(neuron: Linear) -> list[tuple[int, int, int, int]]:
    """All states and weights that there are."""
    (lowest, highest), (least, most) = neuron.residual_limits, neuron.count_limits
    span = 1 << neuron.weight_bits - 1
    return [
        (r, q, w, s)
        for r in range(lowest, highest + 1)
        for q in range(least, most + 1)
        for w in range(-span, span)
        for s in (1, -1)
    ]


@pytest.mark.parametrize("activation", ["relu", "identity"])
def test_every_state_and_weight_of_narrow_neurons(activation):
    neurons = tuple(
        layer(activation, threshold_log2=f, weight_bits=3, potential_bits=bits, count_bits=2)
        for f, bits in ((0, 4), (2, 5), (2, 4))
    )
    for alone in neurons:
        seen = check((alone,), 0, every(alone))
        assert {fired for fired, _ in seen} == {-1, 0, 1} and {saturated for _, saturated in seen} == {False, True}
    for number, neuron in enumerate(neurons):
        check(neurons, number, every(neuron))


def test_activations_that_end():
    options = {"threshold_log2": 2, "weight_bits": 3, "potential_bits": 5, "count_bits": 2}
    neurons = (layer("relu", count_max=2, **options), layer("relu", count_max=3, **options), layer("relu", **options))
    for alone in neurons[:2]:
        assert {fired for fired, _ in check((alone,), 0, every(alone))} == {-1, 0, 1}
    for number, neuron in enumerate(neurons):
        check(neurons, number, every(neuron))


@pytest.mark.parametrize("last", ["relu", "identity"])
def test_layers_of_many_widths(last):
    layers = (
        layer("relu", threshold_log2=5, weight_bits=8, potential_bits=12, count_bits=3),
        layer("relu", threshold_log2=2, weight_bits=8, potential_bits=7, count_bits=5),
        layer(last, threshold_log2=8, weight_bits=6, potential_bits=11, count_bits=5),
        layer(last, threshold_log2=3, weight_bits=8, potential_bits=12, count_bits=4),
    )
    rng = np.random.default_rng(0)
    for number, neuron in enumerate(layers):
        (lowest, highest), (least, most) = neuron.residual_limits, neuron.count_limits
        span = 1 << neuron.weight_bits - 1
        drawn = zip(
            rng.choice([lowest, lowest + 1, -neuron.theta, neuron.theta - 1, highest], 3000)
            + rng.integers(-neuron.theta, neuron.theta, 3000),
            rng.choice([least, least + 1, 1, most - 1, most], 3000),
            rng.integers(-span, span, 3000),
            rng.choice([1, -1], 3000),
            strict=True,
        )
        cases = [(int(r), int(q), int(w), int(s)) for r, q, w, s in drawn if lowest <= r <= highest]
        seen = check(layers, number, cases)
        assert {fired for fired, _ in seen} == {-1, 0, 1} and {saturated for _, saturated in seen} == {False, True}
