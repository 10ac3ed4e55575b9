"""Algorithm 1 and the residual form are one neuron: proved of the very lines of `model.neuron`. A fault in any is seen."""

import io
import tokenize
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import z3

import model.neuron
from model.network import Linear
from tests.source import edited

SOURCE = Path(model.neuron.__file__).read_text()

DRIVE = 1 << 7
"""A weight of 8 bits times a sign."""

ACTIVATIONS = ("relu", "identity")
THRESHOLDS = range(15)
"""All that a potential of 16 bits allows."""


def neurons(activation: str, **options: int) -> Linear:
    return Linear(
        name="fc", source="input", weights=np.zeros((1, 1), int), bias=np.zeros(1, int), activation=activation, **options
    )


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


def is_refuted(text: str) -> bool:
    """Whether the proof fails on ``model/neuron.py`` with this text."""
    forms = edited(model.neuron, text)
    return any(counterexample(forms, neurons(activation, threshold_log2=f)) for activation in ACTIVATIONS for f in THRESHOLDS)


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
    "return where(value <= low, low, where(value > high, high, value))",
    "return where(value < low, low, where(value >= high, high, value))",
}
"""Where both sides of a comparison are equal, these select one or the other."""


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
