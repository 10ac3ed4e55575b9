"""Steps are told while they go, run side by side, and end together where one fails."""

import io
import threading
from contextlib import contextmanager

import pytest
from rich.console import Console

import model.support.steps
from model.support.steps import Steps, side_by_side


def told(*, pause_seconds: float = 60.0):
    out = io.StringIO()
    return out, Steps(Console(file=out, width=200), pause_seconds=pause_seconds)


def test_steps_are_numbered_and_timed_without_a_terminal():
    out, steps = told()
    with steps:
        for title in ("first", "second"):
            with steps.step(title) as tell:
                tell("at work")
    lines = out.getvalue().splitlines()
    assert [line.split(" in ")[0] for line in lines] == ["1. first ...", "1. first: done", "2. second ...", "2. second: done"]


def test_a_long_step_says_what_it_is_doing():
    out, steps = told(pause_seconds=0.01)
    with steps, steps.step("long") as tell:
        tell("[half] of it")
        while "[half] of it" not in out.getvalue():
            threading.Event().wait(0.005)
    assert "1. long: 0 s, [half] of it" in out.getvalue()


def test_a_step_that_fails_is_not_told_as_done():
    out, steps = told()
    with pytest.raises(RuntimeError, match=r"^no$"), steps, steps.step("failing"):
        raise RuntimeError("no")
    assert "done" not in out.getvalue()


def test_both_run_at_the_same_time():
    meeting = threading.Barrier(2, timeout=60)
    assert side_by_side(lambda: (meeting.wait(), "a")[1], lambda: (meeting.wait(), "b")[1], stop=unused) == ["a", "b"]


def test_the_first_failure_stops_the_others_and_is_raised():
    stopped, started = threading.Event(), threading.Event()

    @contextmanager
    def stop():
        stopped.set()
        yield

    def waits():
        started.set()
        assert stopped.wait(60)
        raise RuntimeError("was stopped")

    def fails():
        assert started.wait(60)
        raise ValueError("the cause")

    with pytest.raises(ValueError, match=r"^the cause$"):
        side_by_side(waits, fails, stop=stop)
    assert stopped.is_set()


def test_no_more_at_once_than_asked():
    running, most, lock = [0], [0], threading.Lock()

    def work():
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        threading.Event().wait(0.01)
        with lock:
            running[0] -= 1

    side_by_side(*[work] * 6, stop=unused, at_once=2)
    assert most[0] <= 2


def unused():
    raise AssertionError("nothing failed")


def test_ctrl_c_stops_all(monkeypatch):
    stopped = threading.Event()

    @contextmanager
    def stop():
        stopped.set()
        yield

    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(model.support.steps, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        side_by_side(lambda: stopped.wait(60), lambda: stopped.wait(60), stop=stop)
    assert stopped.is_set()
