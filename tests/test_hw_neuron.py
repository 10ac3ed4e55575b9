"""The lane against both forms of the neuron in the model."""

import itertools

import numpy as np
import pytest

from hw.neuron import Lane
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


def run_lane(neuron: Linear, cases: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, bool]]:
    lane, found = Lane(layer=neuron), []

    async def testbench(ctx):
        for residual, count, weight, sign in cases:
            ctx.set(lane.state, {"residual": residual, "count": count})
            ctx.set(lane.drive, weight if sign > 0 else ~weight)
            ctx.set(lane.negative, int(sign < 0))
            fired = ctx.get(lane.plus) - ctx.get(lane.minus)
            assert not (ctx.get(lane.plus) and ctx.get(lane.minus))
            state = ctx.get(lane.update)
            found.append((state.residual, state.count, fired, bool(ctx.get(lane.saturated))))
            await ctx.delay(1e-9)

    simulate(lane, testbench)
    return found


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
    cases = list(itertools.product(range(lowest, highest + 1), range(least, most + 1), range(-8, 8), (1, -1)))
    found = run_lane(neuron, cases)
    assert found == expected(neuron, cases)
    seen = {(fired, saturated) for _, _, fired, saturated in found}
    assert seen == set(itertools.product((-1, 0, 1), (False, True)))


@pytest.mark.parametrize("activation", ["relu", "identity"])
@pytest.mark.parametrize("weight_bits", [8, 12])
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
    assert run_lane(neuron, cases) == expected(neuron, cases)
