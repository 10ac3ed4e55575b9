"""Algorithm 1 and the residual form are one neuron: proved over all states, weights and thresholds of the default widths."""

import pytest
import z3


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("threshold_log2", [0, 5, 8, 14])
def test_both_forms_are_equal(relu, threshold_log2):
    """Over bit vectors wide enough that nothing wraps: 16-bit potential, 8-bit weight, 8-bit count."""
    bits = 30
    theta = 1 << threshold_log2
    lowest, highest = -(1 << 15), (1 << 15) - 1
    least, most = (0, 255) if relu else (-128, 127)
    residual, count, drive = (z3.BitVec(name, bits) for name in ("residual", "count", "drive"))

    def clip(value, low, high):
        return z3.If(value < low, low, z3.If(value > high, high, value))

    def fires(up, down):
        one = z3.BitVecVal(1, bits)
        return z3.If(up, one, z3.If(down, -one, one - one))

    # Algorithm 1 on V, saturated as what is stored saturates.
    potential = clip(residual + count * theta + drive, lowest + count * theta, highest + count * theta)
    activated = z3.If(potential > 0, potential, 0) if relu else potential
    diff = activated - count * theta
    printed = fires(z3.And(diff >= theta, count < most), z3.And(diff <= -theta, count > least))

    # The residual form: comparisons with constants.
    rest = clip(residual + drive, lowest, highest)
    up, down = rest >= theta, rest <= -theta
    if relu:
        down = z3.And(down, count >= 1)
    built = fires(z3.And(up, count < most), z3.And(down, z3.Not(up), count > least))

    solver = z3.Solver()
    solver.add(residual >= lowest, residual <= highest, count >= least, count <= most, drive >= -128, drive <= 128)
    solver.add(z3.Or(printed != built, potential - (count + printed) * theta != rest - built * theta))
    assert solver.check() == z3.unsat


def test_the_proof_would_notice():
    """The same proof with one comparison wrong (greater than, as the paper's text has it) finds a counterexample."""
    rest, theta = z3.BitVec("rest", 30), 32
    solver = z3.Solver()
    solver.add(rest >= -(1 << 15), rest < 1 << 15, (rest >= theta) != (rest > theta))
    assert solver.check() == z3.sat
    assert solver.model()[rest].as_signed_long() == theta
