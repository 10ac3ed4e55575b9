"""An estimate against the golden model's answers."""

import json

import pytest

from model.encode import encode
from model.golden import run
from model.machine.estimate import estimate
from model.machine.named_plans import named_plan
from model.reports.estimate_page import timeline
from model.support.results import plain, to_json
from tests.model.machine.test_planner import data, frames, small


def test_estimate_says_when_the_answer_is_right():
    network = small()
    plan = named_plan(network, "default")
    found, shown = estimate(network, plan, data(network, 9), clock_mhz=50)
    labels = data(network, 9).labels
    right = 0
    for image, label in zip(frames(network, 9), labels, strict=True):
        trace = run(network, encode(network, image))
        right += bool(len(trace.layers["out"].spikes)) and trace.answer == label
    assert found.right_answers == right
    assert 0 < found.first_spike_cycles_mean < found.latency_cycles_mean
    assert found.frames_per_second == pytest.approx(50e6 / found.cycles_per_frame, rel=1e-3)
    assert found.slowest_core_share <= 1
    for core in found.cores:
        shares = [core.starved_share, core.working_share, core.blocked_share, core.sweeping_share]
        assert sum(shares) == pytest.approx(1, abs=0.001)
    assert json.loads(to_json(found)) == plain(found)
    assert len(timeline(shown).axes[0].collections) >= len(found.cores)
