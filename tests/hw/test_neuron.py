"""The lane against both forms of the neuron in the model."""

import itertools

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from hw.neuron import Comparison, Lane
from model.network import Linear
from model.neuron import update, update_residual
from tests.hardware import simulate


def layer(activation: str, **options: int) -> Linear:
    return Linear(
        name="fc",
        source="input",
        weights=np.zeros((1, 1), int),
        bias=np.zeros(1, int),
        activation=activation,
        **options,
    )


class Neuron(wiring.Component):
    """A lane, and whether the update fires."""

    def __init__(self, layer: Linear) -> None:
        self.lane, self.comparison = Lane(layer=layer), Comparison(layer=layer)
        super().__init__(
            {**{name: self.lane.signature.members[name] for name in ("state", "drive", "negative", "update", "overflow")}}
            | {name: Out(1) for name in ("plus", "minus", "held")}
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.lane, m.submodules.comparison = self.lane, self.comparison
        m.d.comb += [
            *(getattr(self.lane, name).eq(getattr(self, name)) for name in ("state", "drive", "negative")),
            *(getattr(self, name).eq(getattr(self.lane, name)) for name in ("update", "overflow")),
            self.comparison.state.eq(self.lane.update),
            *(getattr(self, name).eq(getattr(self.comparison, name)) for name in ("plus", "minus", "held")),
        ]
        return m


def run_lane(
    neuron: Linear, cases: list[tuple[int, int, int, int]], before: int, updated: bool = True
) -> list[tuple[int, int, int, bool]]:
    """Updates of neurons whose last spike, of sign ``before``, is still to be settled; what they leave is settled here."""
    both, found = Neuron(neuron), []

    async def testbench(ctx):
        for residual, count, weight, sign in cases:
            stored = {"summed": residual + before * neuron.theta, "count": count - before, "updated": updated}
            ctx.set(both.state, stored)
            ctx.set(both.drive, weight if sign > 0 else ~weight)
            ctx.set(both.negative, int(sign < 0))
            assert not (ctx.get(both.plus) and ctx.get(both.minus))
            fired = ctx.get(both.plus) - ctx.get(both.minus)
            state = ctx.get(both.update)
            assert state.updated
            saturated = bool(ctx.get(both.held) or ctx.get(both.overflow))
            found.append((state.summed - fired * neuron.theta, state.count + fired, fired, saturated))
            await ctx.delay(1e-9)

    simulate(both, testbench)
    return found


def spike(neuron: Linear, residual: int, count: int) -> int:
    """The spike of an update that leaves this, by the model."""
    return int(update_residual(neuron, np.array(residual), np.array(count), np.array(0))[2])


def possible(neuron: Linear, cases: list[tuple[int, int, int, int]], before: int) -> list[tuple[int, int, int, int]]:
    """Those of the cases that an update with a spike of sign ``before`` can have left."""
    lowest, highest = neuron.residual_limits
    least, most = neuron.count_limits
    return [
        case
        for case in cases
        if lowest <= case[0] + before * neuron.theta <= highest
        and least <= case[1] - before <= most
        and spike(neuron, case[0] + before * neuron.theta, case[1] - before) == before
    ]


def expected(neuron: Linear, cases: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, bool]]:
    residual, count, weight, sign = np.array(cases, dtype=np.int64).T
    new_residual, new_count, fired, saturated = update_residual(neuron, residual, count, sign * weight)
    potential, same_count, same_fired, same_saturated = update(neuron, residual + count * neuron.theta, count, sign * weight)
    assert (potential - same_count * neuron.theta == new_residual).all()
    assert (same_count == new_count).all() and (same_fired == fired).all() and (same_saturated == saturated).all()
    return [
        tuple(case) for case in zip(new_residual.tolist(), new_count.tolist(), fired.tolist(), saturated.tolist(), strict=True)
    ]


@pytest.mark.parametrize("activation", ["relu", "identity"])
@pytest.mark.parametrize("threshold_log2", [0, 2, 3])
def test_every_state_and_weight_of_narrow_neurons(activation, threshold_log2):
    neuron = layer(activation, threshold_log2=threshold_log2, weight_bits=4, potential_bits=5, count_bits=2)
    lowest, highest = neuron.residual_limits
    least, most = neuron.count_limits
    every = list(itertools.product(range(lowest, highest + 1), range(least, most + 1), range(-8, 8), (1, -1)))
    for before in (-1, 0, 1):
        cases = possible(neuron, every, before)
        assert len(cases) > 500
        found = run_lane(neuron, cases, before)
        assert found == expected(neuron, cases)
        assert {(-1, False), (0, False), (1, False)} <= {(fired, saturated) for _, _, fired, saturated in found}
    # Before the first update there is no spike to settle, whatever the bias.
    found = run_lane(neuron, every, 0, updated=False)
    assert found == expected(neuron, every)
    assert {found[2:] for found in found} == set(itertools.product((-1, 0, 1), (False, True)))


@pytest.mark.parametrize("activation", ["relu", "identity"])
@pytest.mark.parametrize("weight_bits", [5, 8, 12])
def test_random_cases_of_wide_neurons(activation, weight_bits):
    neuron = layer(activation, threshold_log2=7, weight_bits=weight_bits, potential_bits=10)
    rng = np.random.default_rng(weight_bits)
    lowest, highest = neuron.residual_limits
    least, most = neuron.count_limits
    span = 1 << weight_bits - 1
    cases = [
        (int(r), int(q), int(w), int(s))
        for r, q, w, s in zip(
            rng.integers(lowest, highest + 1, 4000),
            rng.choice([least, least + 1, 3, most - 1, most], 4000),
            rng.integers(-span, span, 4000),
            rng.choice([1, -1], 4000),
            strict=True,
        )
    ]
    for before in (-1, 0, 1):
        left = possible(neuron, cases, before)
        assert len(left) > 500
        assert run_lane(neuron, left, before) == expected(neuron, left)
    assert run_lane(neuron, cases, 0, updated=False) == expected(neuron, cases)
