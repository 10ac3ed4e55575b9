"""How a campaign is told: rate, time left, and no more lines than are worth it."""

import io

import pytest

from model.support.cli import make_console
from sim.campaigns.progress import Progress, duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (61, "1 min 1 s"), (3600, "1 h 0 min"), (86400 * 3 + 7300, "3 d 2 h")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_lines_where_there_is_no_terminal(monkeypatch):
    stream, now = io.StringIO(), [100.0]
    monkeypatch.setattr("sys.stderr", stream)
    console = make_console(stderr=True)
    progress = Progress(console, name="verify", goal=10_000, unit="spikes", clock=lambda: now[0])
    progress.start(4_000, 2)
    for seconds, amount, jobs, failed in ((5, 4_500, 3, 0), (25, 5_500, 5, 1), (30, 6_000, 6, 1), (80, 6_400, 7, 1)):
        now[0] = 100.0 + seconds
        progress.tick(amount, jobs, failed)
    now[0] = 200.0
    progress.end(10_000, 9, 1)
    assert stream.getvalue().splitlines() == [
        "verify: resumes after 2 jobs with 4,000 of 10,000 spikes",
        "verify: 5,500 of 10,000 spikes, 5 jobs, 1 failed, 60 spikes per second, 1 min 15 s left",
        "verify: 6,400 of 10,000 spikes, 7 jobs, 1 failed, 30 spikes per second, 2 min 0 s left",
        "verify: 10,000 of 10,000 spikes, 9 jobs, 1 failed, 60 spikes per second",
    ]


def test_slow_ones_by_the_minute_and_none_without_time(monkeypatch):
    stream, now = io.StringIO(), [0.0]
    monkeypatch.setattr("sys.stderr", stream)
    progress = Progress(make_console(stderr=True), name="tiny", goal=4, unit="jobs", clock=lambda: now[0])
    progress.start(0, 0)
    progress.say("waits")
    now[0] = 30.0
    progress.tick(1, 1, 0)
    progress.end(1, 1, 0)
    line = "tiny: 1 of 4 jobs, 1 jobs, 0 failed, 2.0 jobs per minute, 1 min 30 s left"
    assert stream.getvalue().splitlines() == ["waits", line, line]
