"""A machine that is at work does not hang, whoever has to wait for it; one that will answer no more does."""

import numpy as np
import pytest

import sim.cosimulation
from hw.flow.verilog import to_verilog
from hw.pipeline.machine import Machine
from model.events import make_events
from model.machine.named_plans import named_plan
from model.machine.simulate import simulate
from model.network import Linear, Network
from model.support.errors import Exit, MismatchError
from sim.cosimulation import verify
from sim.watchdog import Watchdog

PATIENCE = 20


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """A bench that waits for `PATIENCE` cycles, and looks often enough."""
    monkeypatch.setattr(sim.cosimulation, "PATIENCE_CYCLES", PATIENCE)
    monkeypatch.setattr(sim.cosimulation, "SLICE_CYCLES", {"rtl": PATIENCE // 4})


def loud(firing="immediate"):
    """Each event makes twenty outputs fire a hundred spikes each, one after the other."""
    out = Linear(
        name="out", source="input", weights=np.tile([100, -100], (20, 1)), bias=np.zeros(20, int), threshold_log2=0,
        burst=0 if firing == "immediate" else 1, activation="identity",
    )  # fmt: skip
    return Network(name=f"loud_{firing}", input_shape=(1, 1, 2), layers=(out,), firing=firing)


def busy(firing="immediate"):
    """Each event reaches a thousand neurons, none of which fires."""
    hidden = Linear(name="hidden", source="input", weights=np.ones((1000, 1), int), bias=np.zeros(1000, int), threshold_log2=10)
    out = Linear(
        name="out", source="hidden", weights=np.ones((2, 1000), int), bias=np.zeros(2, int), threshold_log2=6,
        activation="identity",
    )  # fmt: skip
    return Network(name=f"busy_{firing}", input_shape=(1, 1, 1), layers=(hidden, out), firing=firing)


@pytest.mark.parametrize("firing", ["immediate", pytest.param("deferred", marks=pytest.mark.full)])
@pytest.mark.parametrize("plan", ["minimal", "folded"])
@pytest.mark.parametrize("made", [loud, busy])
def test_a_machine_at_work_does_not_hang(made, plan, firing, tmp_path):
    network = made(firing)
    plan = named_plan(network, plan)
    frames = [make_events([0]), make_events([]), make_events([0], [-1])]
    expected = simulate(network, plan, frames, record=True)
    at_the_ends = np.sort(np.concatenate([expected.passed["events_input"], expected.answered]))
    assert np.diff(at_the_ends).max() > 5 * PATIENCE
    everywhere = np.sort(np.concatenate([*expected.passed.values(), expected.answered]))
    assert (np.diff(everywhere).max() > 5 * PATIENCE) == (made is busy)
    result = verify(network, plan, frames, simulator="icarus", out_dir=tmp_path)
    assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)


class Silent(Machine):
    """A machine whose answers never leave."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        m.d.comb += self.result.valid.eq(0)
        return m


def test_a_machine_that_never_answers_hangs(tmp_path):
    network = loud()
    plan = named_plan(network, "minimal")
    wrong = to_verilog(Silent(network=network, plan=plan), "machine")
    frames = [make_events([0]), make_events([1])]
    hangs = r"hangs: 0 of 2 frames answered, no token has passed anywhere for \d+ cycles$"
    with pytest.raises(MismatchError, match=hangs) as found:
        verify(network, plan, frames, simulator="icarus", out_dir=tmp_path, verilog=wrong)
    assert found.value.exit_code == Exit.MISMATCH


def test_limits():
    """Both are exact: of a pause, and of all cycles."""
    watchdog = Watchdog(pause=7, cycles=30, patience=100)
    watchdog.check(answered=1, frames=2, quiet=106, cycle=159)
    for wrong, told in (
        ({"quiet": 107, "cycle": 159}, ", no token has passed anywhere for 107 cycles"),
        ({"quiet": 106, "cycle": 160}, " after 160 cycles, where the cycle model says 30 for all"),
    ):
        with pytest.raises(AssertionError) as found:
            watchdog.check(answered=1, frames=2, **wrong)
        assert str(found.value) == f"hangs: 1 of 2 frames answered{told}"
