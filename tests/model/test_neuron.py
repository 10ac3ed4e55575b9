"""Algorithm 1 and the residual form are one neuron: proved of the very lines of `model.neuron`. A fault in any is seen."""

import io
import itertools
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import z3

import model.neuron
from model.network import Linear
from sim.formal.faults import edited

SOURCE = Path(model.neuron.__file__).read_text()

DRIVE = 1 << 7
"""A weight of 8 bits times a sign."""

ACTIVATIONS = ("relu", "identity", "clip")
THRESHOLDS = range(15)
"""All that a potential of 16 bits allows."""


def neurons(activation: str, **options: int) -> Linear:
    """A layer with the ``activation``; ``"clip"`` is a ReLU that ends at a count of 5."""
    if activation == "clip":
        activation, options = "relu", {"count_max": 5, **options}
    return Linear(
        name="fc", source="input", weights=np.zeros((1, 1), int), bias=np.zeros(1, int), activation=activation, **options
    )


def activation_of(layer: Linear, V: z3.ArithRef) -> z3.ArithRef:
    """Said once more: between 0 and the end, as far as the layer has them."""
    if not layer.relu:
        return V
    within = V if layer.count_max is None else z3.If(V >= layer.count_max * layer.theta, layer.count_max * layer.theta, V)
    return z3.If(V <= 0, 0, within)


def counterexample(forms: ModuleType, layer: Linear) -> z3.ModelRef | None:
    """A state and a weight for which the two forms of ``forms`` differ, or what they leave is not what it must be.

    Both run on integers without a limit, which nothing wraps; 64 bits, on which they run as the golden model, hold all of these.
    """
    R, Q, drive = z3.Ints("R Q drive")
    (lowest, highest), (least, most) = layer.residual_limits, layer.count_limits
    theta, summed = layer.theta, R + drive
    printed = forms.update(layer, R + Q * theta, Q, drive, where=z3.If)
    residual, count, fired, saturated = forms.update_residual(layer, R, Q, drive, where=z3.If)
    same = [printed[0] - printed[1] * theta == residual, printed[1] == count, printed[2] == fired, printed[3] == saturated]
    within = [lowest <= residual, residual <= highest, least <= count, count <= most, count == Q + fired]
    # Saturation, said without a selection: what has room is the sum, what has not is the end.
    held = residual + fired * theta
    stored = [
        z3.Implies(z3.And(lowest <= summed, summed <= highest), held == summed),
        z3.Implies(summed > highest, z3.And(held == highest, saturated)),
        z3.Implies(summed < lowest, z3.And(held == lowest, saturated)),
    ]
    solver = z3.Solver()
    solver.add(lowest <= R, R <= highest, least <= Q, Q <= most, -DRIVE <= drive, drive <= DRIVE)
    solver.add(z3.Not(z3.And(*same, *within, *stored)))
    found = solver.check()
    assert found != z3.unknown
    return solver.model() if found == z3.sat else None


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("threshold_log2", THRESHOLDS)
def test_both_forms_are_one_neuron(activation, threshold_log2):
    """In all states and for all weights of the default widths."""
    assert counterexample(model.neuron, neurons(activation, threshold_log2=threshold_log2)) is None


BURSTS = (1, 2, 5, 0)


@pytest.fixture(autouse=True)
def shifts_of_integers(monkeypatch):
    """Terms without a limit have no shift; by a constant it is a division, rounded down."""
    monkeypatch.setattr(z3.ArithRef, "__rshift__", lambda term, by: term / (1 << by), raising=False)


def state() -> tuple[z3.ArithRef, ...]:
    """A residual, a count and a drive."""
    return z3.Ints("R Q drive")


def refuted(claims: list[z3.BoolRef], *given: z3.BoolRef) -> z3.ModelRef | None:
    """A case that is ``given`` in which not all claims hold."""
    solver = z3.Solver()
    solver.set("timeout", 60_000)
    solver.add(*given, z3.Not(z3.And(*claims)))
    found = solver.check()
    assert found != z3.unknown
    return solver.model() if found == z3.sat else None


def same(printed: tuple, residual: tuple, theta: int) -> list[z3.BoolRef]:
    """That what a form leaves is what its residual form leaves."""
    return [printed[0] - printed[1] * theta == residual[0], *(a == b for a, b in zip(printed[1:], residual[1:], strict=True))]


def burst_counterexample(forms: ModuleType, layer: Linear) -> z3.ModelRef | None:
    """As `counterexample`, of the forms with bursts; with ``burst`` 1 they are Algorithm 1 as printed.

    What must hold of them is said of the printed form without a division: spikes are fired one by one while the difference is a
    threshold or more, and no more than may be.
    """
    R, Q, drive = state()
    (lowest, highest), (least, most), theta = layer.residual_limits, layer.count_limits, layer.theta
    printed = forms.update_burst(layer, R + Q * theta, Q, drive, where=z3.If)
    claims = same(printed, forms.update_burst_residual(layer, R, Q, drive, where=z3.If), theta)
    V, count, fired, saturated = printed
    if layer.burst == 1:
        claims += [a == b for a, b in zip(printed, forms.update(layer, R + Q * theta, Q, drive, where=z3.If), strict=True)]
    size = z3.If(fired < 0, -fired, fired)
    diff = activation_of(layer, V) - Q * theta
    after = diff - fired * theta
    # The last spike was fired on a difference of a threshold or more of its sign, and there is a reason why it was the last.
    full = size == layer.burst if layer.burst else z3.BoolVal(False)
    at_end = z3.Or(z3.And(after >= theta, count == most), z3.And(after <= -theta, count == least))
    claims += [
        z3.Implies(fired > 0, after >= 0),
        z3.Implies(fired < 0, after <= 0),
        z3.Or(z3.And(-theta < after, after < theta), full, at_end),
        z3.And(size >= 0, size <= (layer.burst or size), least <= count, count <= most),
        saturated == z3.Or(V != R + Q * theta + drive, z3.And(at_end, z3.Not(full))),
    ]
    within = [lowest <= R, R <= highest, least <= Q, Q <= most, -DRIVE <= drive, drive <= DRIVE]
    return refuted(claims, *within)


def deferred_counterexample(forms: ModuleType, layer: Linear) -> z3.ModelRef | None:
    """The same of adding and of the flush, on all residuals that there can be with the guard bit."""
    R, Q, drive = state()
    (lowest, highest), (least, most), theta = layer.residual_limits, layer.count_limits, layer.theta
    span = 2 * (highest - lowest + 1)
    summed = forms.accumulate_residual(layer, R, drive)
    claims = [forms.accumulate(layer, R + Q * theta, Q, drive) - Q * theta == summed]
    claims += [2 * lowest <= summed, summed <= 2 * highest + 1, z3.Or(*(summed == R + drive + n * span for n in (-1, 0, 1)))]
    V, count, fired, saturated = printed = forms.flush(layer, R + Q * theta, Q, where=z3.If)
    claims += same(printed, forms.flush_residual(layer, R, Q, where=z3.If), theta)
    activated = activation_of(layer, V)
    exact = z3.And(count * theta <= activated, activated < (count + 1) * theta)
    low, high = z3.And(count == least, activated < count * theta), z3.And(count == most, activated >= (count + 1) * theta)
    fits = z3.And(lowest <= R, R <= highest)
    claims += [z3.Or(exact, low, high), saturated == z3.Not(z3.And(exact, fits)), V == R + Q * theta, fired == count - Q]
    return refuted(claims, 2 * lowest <= R, R <= 2 * highest + 1, least <= Q, Q <= most, -DRIVE <= drive, drive <= DRIVE)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("threshold_log2", THRESHOLDS)
def test_both_forms_with_bursts_are_one_neuron(activation, threshold_log2):
    for burst in BURSTS:
        assert burst_counterexample(model.neuron, neurons(activation, threshold_log2=threshold_log2, burst=burst)) is None


def halves_counterexample(forms: ModuleType, layer: Linear) -> z3.ModelRef | None:
    """As `deferred_counterexample`, of a flush that rounds halves to even, with what it is said of the nearest even count."""
    R, Q, _ = state()
    (lowest, highest), (least, most), theta = layer.residual_limits, layer.count_limits, layer.theta
    V, count, fired, _ = printed = forms.flush(layer, R + Q * theta, Q, where=z3.If)
    claims = same(printed, forms.flush_residual(layer, R, Q, where=z3.If), theta)
    # Half a threshold is in the potential: it lies within half a threshold of its count, on either side if that is even.
    off = V - count * theta
    nearest = z3.Or(z3.And(0 < off, off < theta), z3.And(0 <= off, off <= theta, count % 2 == 0))
    low, high = z3.And(count == least, off <= 0), z3.And(count == layer.count_limits[1], off >= theta)
    claims += [z3.Or(nearest, low, high), fired == count - Q]
    return refuted(claims, 2 * lowest <= R, R <= 2 * highest + 1, least <= Q, Q <= most)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("threshold_log2", [n for n in THRESHOLDS if n])
def test_halves_go_to_the_even_count(activation, threshold_log2):
    layer = neurons(activation, threshold_log2=threshold_log2, halves_to_even=True)
    assert halves_counterexample(model.neuron, layer) is None


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("threshold_log2", THRESHOLDS)
def test_both_forms_of_deferred_firing_are_one_neuron(activation, threshold_log2):
    assert deferred_counterexample(model.neuron, neurons(activation, threshold_log2=threshold_log2)) is None


def is_refuted(text: str) -> bool:
    """Whether a proof fails on ``model/neuron.py`` with this text."""
    forms = edited(model.neuron, text)

    def layers(thresholds: Iterable[int], bursts: tuple[int, ...] = (1,)) -> Iterator[Linear]:
        for activation, f, burst in itertools.product(ACTIVATIONS, thresholds, bursts):
            yield neurons(activation, threshold_log2=f, burst=burst)

    some = (3, 13)
    return (
        any(deferred_counterexample(forms, layer) is not None for layer in layers(some))
        or any(halves_counterexample(forms, replace(layer, halves_to_even=True)) is not None for layer in layers(some))
        or any(burst_counterexample(forms, layer) is not None for layer in layers(some, (2, 0)))
        or any(counterexample(forms, layer) is not None for layer in layers(THRESHOLDS))
    )


OTHER = {">=": ">", "<=": "<", ">": ">=", "<": "<=", "==": "!=", "!=": "==", "+": "-", "-": "+", "&": "|", "|": "&"}
"""For each operator the one that is most easily put in its place."""


def faults() -> Iterator[tuple[str, str]]:
    """Each operator of the file replaced, one at a time: the line that is wrong then, and the whole text."""
    lines = SOURCE.splitlines(keepends=True)
    for token in tokenize.generate_tokens(io.StringIO(SOURCE).readline):
        if token.type == tokenize.OP and token.string in OTHER:
            row, line = token.start[0] - 1, token.line
            wrong = line[: token.start[1]] + OTHER[token.string] + line[token.end[1] :]
            yield wrong.strip(), "".join([*lines[:row], wrong, *lines[row + 1 :]])


HARMLESS = {
    "activated = where(V >= 0, V, 0) if layer.relu else V",
    "return where(activated >= end, end, activated)",
    "spikes = where(spikes <= -Q, -Q, spikes)",
    "spikes = where(spikes >= layer.count_max - Q, layer.count_max - Q, spikes)",
    "return where(value <= low, low, where(value > high, high, value))",
    "return where(value < low, low, where(value >= high, high, value))",
    "return where(diff <= 0, -(-diff >> f), diff >> f)",
    "return (R - half) % (2 * half) - half",
    "wanted = where(_is_odd_whole(layer, R, wanted - Q), wanted - 1, wanted)",
}
"""Where both sides of a comparison are equal, these select one or the other; the last but one moves a residual by a whole turn,
and the last leaves odd what is odd."""


def test_each_fault_in_the_source_is_seen():
    every = list(faults())
    assert len(every) > 40
    assert {wrong for wrong, text in every if not is_refuted(text)} == HARMLESS


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("up, down = R >= theta, R <= -theta", "up, down = R > theta, R < -theta"),
        ("down = down & (Q >= 1)", "down = down & (Q >= 0)"),
        ("activated = where(V > 0, V, 0) if layer.relu else V", "activated = V"),
        ("return R - fired * theta, Q + fired, fired, (R != summed) | held", "return R, Q + fired, fired, (R != summed) | held"),
    ],
)
def test_faults_that_are_more_than_an_operator_are_seen(right, wrong):
    assert SOURCE.count(right) == 1
    assert is_refuted(SOURCE.replace(right, wrong))


def test_the_counterexample_to_the_papers_text():
    """"Greater than", as the paper's text has it, in the residual form alone: they differ where R comes to be just theta."""
    forms = edited(model.neuron, SOURCE.replace("R >= theta", "R > theta"))
    found = counterexample(forms, neurons("identity", threshold_log2=5))
    assert found.eval(z3.Int("R") + z3.Int("drive")).as_long() == 32
