"""The lane against both forms of the neuron in the model: proved of every state and weight, and simulated.

The proof's other side is `model.neuron.update` itself, Algorithm 1 as printed, which makes gates where it is given their values.
"""

import itertools
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from amaranth.hdl import Assert, Assume, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

import hw.neuron
import model.neuron
from hw.neuron import Comparison, Lane
from model.machine.stages import more_bits
from model.network import Linear, Network
from model.neuron import update, update_residual
from sim.formal.faults import edited
from tests.formal import prove
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


def shared(m: Module) -> Callable[..., Signal]:
    """``Mux``, each in a signal of its own: an expression that stands in others twice would be built twice."""

    def where(condition, a, b):
        selected = Mux(condition, a, b)
        signal = Signal(selected.shape())
        m.d.comb += signal.eq(selected)
        return signal

    return where


class Proof(wiring.Component):
    """Asserts that a lane and Algorithm 1 take the same neuron to the same neuron, and fire the same.

    A stored state stands for the neuron that Algorithm 1 leaves when it fires what the state still has to fire, where there was
    an update: by an update without a weight. That the lane leaves a state which stands for what Algorithm 1 leaves, whatever
    the state before, the weight and its sign, holds for all sequences of events by induction.

    Parameters
    ----------
    layer : Linear
        The neuron.
    lanes, golden : ModuleType
        `hw.neuron` and `model.neuron`, or what an edit makes of them.
    """

    ASSERTS = 5

    def __init__(self, layer: Linear, *, lanes: ModuleType = hw.neuron, golden: ModuleType = model.neuron) -> None:
        self._layer = layer
        self._lanes = lanes
        self._golden = golden
        super().__init__({"state": In(lanes.NeuronState(layer)), "weight": In(signed(layer.weight_bits)), "negative": In(1)})

    def elaborate(self, platform):
        m = Module()
        layer, state, weight, negative = self._layer, self.state, self.weight, self.negative
        m.submodules.lane = lane = self._lanes.Lane(layer=layer)
        m.submodules.comparison = comparison = self._lanes.Comparison(layer=layer)
        m.d.comb += [
            lane.state.eq(state),
            lane.drive.eq(Mux(negative, ~weight, weight)),
            lane.negative.eq(negative),
            comparison.state.eq(lane.update),
        ]
        V, Q = state.summed + state.count * layer.theta, state.count
        least, most = layer.count_limits
        where = shared(m)
        m.d.comb += Assume((Q >= least) & (Q <= most))
        fires_V, fires_Q, _, _ = self._golden.update(layer, V, Q, Const(0), where=where)
        V, Q = where(state.updated, fires_V, V), where(state.updated, fires_Q, Q)
        V_after, _, fired, saturated = self._golden.update(layer, V, Q, where(negative, -weight, weight), where=where)
        m.d.comb += [
            # The count is stored as it was before the spike that the state has to fire.
            Assert(lane.update.count == Q),
            Assert(lane.update.summed == V_after - Q * layer.theta),
            Assert(lane.update.updated),
            Assert(comparison.plus - comparison.minus == fired),
            Assert((lane.overflow | comparison.held) == saturated),
        ]
        return m


def counterexample(folder: Path, layer: Linear, **modules: ModuleType) -> str | None:
    return prove(Proof(layer, **modules), folder, asserts=Proof.ASSERTS)


USUAL_THRESHOLDS = (5, 8)
"""Those that conversion chooses; all others are proved with the long tests."""


@pytest.mark.parametrize("activation", ["relu", "identity"])
@pytest.mark.parametrize(
    "threshold_log2", [f if f in USUAL_THRESHOLDS else pytest.param(f, marks=pytest.mark.full) for f in range(15)]
)
def test_the_lane_is_algorithm_1(activation, threshold_log2, tmp_path):
    """For all states and weights of the default widths."""
    assert counterexample(tmp_path, layer(activation, threshold_log2=threshold_log2)) is None


@pytest.mark.parametrize("count_max", [1, 6, 255])
def test_a_lane_whose_activation_ends_is_algorithm_1(count_max, tmp_path):
    assert counterexample(tmp_path, layer("relu", threshold_log2=5, count_max=count_max)) is None


@pytest.mark.parametrize("activation", ["relu", "identity"])
def test_a_lane_with_weights_wider_than_its_potential_is_algorithm_1(activation, tmp_path):
    neuron = layer(activation, threshold_log2=4, weight_bits=10, potential_bits=7, count_bits=3)
    assert counterexample(tmp_path, neuron) is None


@pytest.mark.parametrize(
    ("where", "right", "wrong"),
    [
        (hw.neuron, "negative & ~(upper_all & lower_any)", "negative & ~upper_all"),
        (hw.neuron, "plus=up & ~at_most", "plus=up"),
        (hw.neuron, "held = top.any() & ~top.all()", "held = top.any()"),
        # Edits of the golden model, the last one of both forms alike: that they are one neuron holds all the same.
        (model.neuron, "up, down = diff >= theta, diff <= -theta", "up, down = diff > theta, diff <= -theta"),
        (model.neuron, "theta, diff <= -theta\n    fired", "theta, diff < -theta\n    fired"),
        (model.neuron, "fired = where(up & (Q < most), 1,", "fired = where(up, 1,"),
    ],
)
def test_a_fault_has_a_counterexample(where, right, wrong, tmp_path):
    """In a narrow neuron, which takes the least time."""
    text = Path(where.__file__).read_text()
    assert right in text
    neuron = layer("identity", threshold_log2=2, weight_bits=4, potential_bits=6, count_bits=3)
    other = {hw.neuron: "lanes", model.neuron: "golden"}[where]
    assert counterexample(tmp_path, neuron, **{other: edited(where, text.replace(right, wrong))})


class BurstProof(wiring.Component):
    """Asserts that a lane with bursts and Algorithm 1 with bursts take the same neuron to the same neuron, and fire the same.

    As `Proof`.
    """

    ASSERTS = 9

    def __init__(self, layer: Linear, *, lanes: ModuleType = hw.neuron, golden: ModuleType = model.neuron) -> None:
        self._layer = layer
        self._lanes = lanes
        self._golden = golden
        super().__init__({"state": In(lanes.NeuronState(layer)), "weight": In(signed(layer.weight_bits)), "negative": In(1)})

    def elaborate(self, platform):
        m = Module()
        layer, state, weight, negative = self._layer, self.state, self.weight, self.negative
        m.submodules.lane = lane = self._lanes.BurstLane(layer=layer)
        m.submodules.comparison = comparison = self._lanes.BurstComparison(layer=layer)
        m.d.comb += [
            lane.state.eq(state),
            lane.drive.eq(Mux(negative, ~weight, weight)),
            lane.negative.eq(negative),
            comparison.state.eq(lane.update),
        ]
        V, Q = state.summed + state.count * layer.theta, state.count
        least, most = layer.count_limits
        where = shared(m)
        m.d.comb += Assume((Q >= least) & (Q <= most))
        fires_V, fires_Q, _, _ = self._golden.update_burst(layer, V, Q, Const(0), where=where)
        V, Q = where(state.updated, fires_V, V), where(state.updated, fires_Q, Q)
        drive = where(negative, -weight, weight)
        V_after, Q_after, fired, saturated = self._golden.update_burst(layer, V, Q, drive, where=where)
        plus, minus, more = self._lanes.spikes_of(comparison.change, len(comparison.change))
        m.d.comb += [
            # The count is stored as it was before the spikes that the state has to fire.
            Assert(lane.update.count == Q),
            Assert(lane.update.summed == V_after - Q * layer.theta),
            Assert(lane.update.updated),
            Assert(comparison.change == fired),
            Assert(comparison.count == Q_after),
            Assert((lane.overflow | comparison.held) == saturated),
            Assert(plus == (fired > 0)),
            Assert(minus == (fired < 0)),
            Assert(more == Mux(fired > 0, fired - 1, Mux(fired < 0, -fired - 1, 0))),
        ]
        return m


def burst_counterexample(folder: Path, layer: Linear, **modules: ModuleType) -> str | None:
    return prove(BurstProof(layer, **modules), folder, asserts=BurstProof.ASSERTS)


@pytest.mark.parametrize(
    "options",
    [
        {"activation": "relu", "threshold_log2": 4, "weight_bits": 6, "potential_bits": 8, "count_bits": 5, "burst": 4},
        {"activation": "identity", "threshold_log2": 3, "weight_bits": 6, "potential_bits": 7, "count_bits": 4, "burst": 0},
        {"activation": "relu", "threshold_log2": 5, "burst": 0, "count_max": 6},
        {"activation": "relu", "threshold_log2": 6, "weight_bits": 10, "potential_bits": 8, "count_bits": 4, "burst": 2},
        {"activation": "identity", "threshold_log2": 0, "weight_bits": 4, "potential_bits": 7, "count_bits": 3, "burst": 3},
        *(
            pytest.param({"activation": activation, "threshold_log2": f, "burst": burst}, marks=pytest.mark.full)
            for activation in ("relu", "identity")
            for f in (0, 5, 8, 14)
            for burst in (1, 2, 4, 7, 0)
        ),
    ],
)
def test_a_lane_with_bursts_is_algorithm_1_with_bursts(options, tmp_path):
    """For all states and weights; with a burst of 1 it is Algorithm 1 as printed."""
    assert burst_counterexample(tmp_path, layer(options.pop("activation"), **options)) is None


@pytest.mark.parametrize(
    ("where", "right", "wrong"),
    [
        (hw.neuron, "thresholds.eq(upper + (sign & lower.any()))", "thresholds.eq(upper + lower.any())"),
        (hw.neuron, "limited.eq(-burst)", "limited.eq(1 - burst)"),
        (hw.neuron, "Mux(updated, limited, 0)", "limited"),
        (hw.neuron, "added[f:].as_signed() - before.change", "added[f:].as_signed() - before.change[:2].as_signed()"),
        (hw.neuron, "Mux(below, 0,", "Mux(below, 1,"),
        (model.neuron, "_clipped(spikes, -layer.burst, layer.burst, where)", "_clipped(spikes, -layer.burst, 7, where)"),
        (model.neuron, "-(-diff >> f)", "diff >> f"),
    ],
)
def test_a_fault_of_a_burst_has_a_counterexample(where, right, wrong, tmp_path):
    text = Path(where.__file__).read_text()
    assert right in text
    neuron = layer("relu", threshold_log2=2, weight_bits=4, potential_bits=7, count_bits=3, count_max=6, burst=3)
    other = {hw.neuron: "lanes", model.neuron: "golden"}[where]
    assert burst_counterexample(tmp_path, neuron, **{other: edited(where, text.replace(right, wrong))})


class DeferredProof(wiring.Component):
    """Asserts that the lane of neurons that fire deferred adds as the model does, and that a flush is the model's, in both forms.

    Parameters
    ----------
    layer : Linear
        The neuron.
    lanes, golden : ModuleType
        `hw.neuron` and `model.neuron`, or what an edit makes of them.
    """

    ASSERTS = 11

    def __init__(self, layer: Linear, *, lanes: ModuleType = hw.neuron, golden: ModuleType = model.neuron) -> None:
        self._layer = layer
        self._lanes = lanes
        self._golden = golden
        super().__init__(
            {"state": In(lanes.DeferredState(layer)), "weight": In(signed(layer.weight_bits)), "negative": In(1)}
        )

    def elaborate(self, platform):
        m = Module()
        layer, R, Q = self._layer, self.state.summed, self.state.count
        m.submodules.lane = lane = self._lanes.DeferredLane(layer=layer)
        m.submodules.flush = flush = self._lanes.Flush(layer=layer, goes_on=True)
        m.d.comb += [
            lane.state.eq(self.state),
            lane.drive.eq(Mux(self.negative, ~self.weight, self.weight)),
            lane.negative.eq(self.negative),
            flush.state.eq(self.state),
        ]
        drive = Mux(self.negative, -self.weight, self.weight)
        change = Signal(signed(layer.count_bits + 1))
        m.d.comb += change.eq(flush.count - Q)
        network = Network(name="n", input_shape=(1, 1, 1), layers=(layer,), firing="deferred")
        plus, minus, more = self._lanes.spikes_of(change, more_bits(network, layer.name))
        where = shared(m)
        residual, count, fired, saturated = self._golden.flush_residual(layer, R, Q, where=where)
        _, other_count, other_fired, other_saturated = self._golden.flush(layer, R + Q * layer.theta, Q, where=where)
        least, most = layer.count_limits
        # A count is within its limits: that it stays so is what a flush sees to.
        m.d.comb += [
            Assume((Q >= least) & (Q <= most)),
            Assert(lane.update.summed == self._golden.accumulate_residual(layer, R, drive)),
            Assert(lane.update.count == Q),
            Assert(flush.count == count),
            Assert(flush.update.summed == residual),
            Assert(flush.update.count == count),
            Assert(flush.held == saturated),
            Assert(flush.count == other_count),
            Assert((fired == other_fired) & (saturated == other_saturated)),
            Assert(plus == (fired > 0)),
            Assert(minus == (fired < 0)),
            Assert(more == Mux(fired > 0, fired - 1, Mux(fired < 0, -fired - 1, 0))),
        ]
        return m


def deferred_counterexample(folder: Path, layer: Linear, **modules: ModuleType) -> str | None:
    return prove(DeferredProof(layer, **modules), folder, asserts=DeferredProof.ASSERTS)


@pytest.mark.parametrize(
    "options",
    [
        {"activation": "relu", "threshold_log2": 8},
        {"activation": "identity", "threshold_log2": 5},
        {"activation": "relu", "threshold_log2": 5, "count_max": 6},
        {"activation": "relu", "threshold_log2": 6, "weight_bits": 10, "potential_bits": 8, "count_bits": 4},
        {"activation": "identity", "threshold_log2": 0, "weight_bits": 4, "potential_bits": 7, "count_bits": 3},
        {"activation": "identity", "threshold_log2": 5, "halves_to_even": True},
        {"activation": "relu", "threshold_log2": 5, "count_max": 7, "halves_to_even": True},
    ],
)
def test_a_deferred_lane_and_its_flush_are_the_models(options, tmp_path):
    """For all states and weights."""
    assert deferred_counterexample(tmp_path, layer(options.pop("activation"), **options)) is None


@pytest.mark.parametrize(
    ("where", "right", "wrong"),
    [
        (hw.neuron, "outside = summed[-1] ^ summed[-2]", "outside = summed[-1] & ~summed[-2]"),
        (hw.neuron, "Mux(below, 0,", "Mux(below, 1,"),
        (hw.neuron, "above if layer.count_max is None else Const(0)", "above"),
        (hw.neuron, "replicate(len(change))) - plus", "replicate(len(change)))"),
        (hw.neuron, "left = (reached - self.count)", "left = (reached - reached)"),
        (model.neuron, "half = 1 << layer.potential_bits\n", "half = 1 << layer.potential_bits - 1\n"),
        (model.neuron, "wanted = R >> f", "wanted = (R - 1) >> f"),
    ],
)
def test_a_fault_of_a_deferred_neuron_has_a_counterexample(where, right, wrong, tmp_path):
    text = Path(where.__file__).read_text()
    assert right in text
    neuron = layer("relu", threshold_log2=2, weight_bits=4, potential_bits=6, count_bits=3, count_max=5)
    other = {hw.neuron: "lanes", model.neuron: "golden"}[where]
    assert deferred_counterexample(tmp_path, neuron, **{other: edited(where, text.replace(right, wrong))})
