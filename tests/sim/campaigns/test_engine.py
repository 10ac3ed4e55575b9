"""Campaigns: each job is done and counted once, whoever is killed, and whatever fails."""

import contextlib
import io
import os
import signal
import socket
import time

import pytest

from model.support.cli import make_console
from model.support.errors import ToolError
from sim.campaigns.cluster import cluster
from sim.campaigns.engine import Campaign, run_campaign
from sim.campaigns.jobs import DIFFERS, DONE, FAILED, Outcome
from sim.campaigns.progress import Progress
from sim.campaigns.report import sections
from sim.campaigns.store import Store
from tests.sim.campaigns import tiny
from tests.sim.campaigns.watching import HANGS_SECONDS, alive, begun, dask, end, started, stored, until, workers_of

pytest.importorskip("distributed", reason="Dask distributed is not installed; get it with: pip install -e .[cluster]")

NUMBERS = 14
"""Jobs of a campaign; those from `tiny.WAITS` on wait until they may go."""

SQUARES = sum(number * number for number in range(NUMBERS))

@pytest.fixture(scope="module")
def client():
    """A cluster within this process: two workers, which are threads."""
    import distributed

    options = {"n_workers": 2, "threads_per_worker": 1, "processes": False, "dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(**options) as local, distributed.Client(local, set_as_default=False) as client:
        yield client


def run(campaign, store, client, **options):
    """A campaign that runs to its end; gives its tally and what it told."""
    stream = io.StringIO()
    with contextlib.redirect_stderr(stream):
        progress = Progress(make_console(stderr=True), name="tiny", goal=campaign.goal, unit="jobs", clock=lambda: 0.0)
        tally = run_campaign(campaign, store, client, progress, **options)
    return tally, stream.getvalue().splitlines()


def check_whole(path, folder):
    """All jobs are in the store, each once, and what they found is what it is."""
    with Store(path) as store:
        results = list(store.results())
    assert sorted(result.job.parameters["number"] for result in results) == list(range(NUMBERS))
    assert {result.outcome.outcome for result in results} == {DONE}
    (section,) = sections(results)
    assert section.found == {"squares": SQUARES, "parity": {"even": 7, "odd": 7}, "tools": ["none"]}
    assert set(begun(folder)) == set(range(NUMBERS))


def test_each_job_is_done_once(client, tmp_path):
    (tmp_path / "go").touch()
    with Store(tmp_path / "a.sqlite", new=True) as store:
        tally, told = run(tiny.campaign(tmp_path, NUMBERS), store, client)
        assert (tally.amount, tally.jobs, tally.failed) == (NUMBERS, NUMBERS, [])
        assert told == ["tiny: 14 of 14 jobs, 14 jobs, 0 failed"]
        again, told = run(tiny.campaign(tmp_path, NUMBERS), store, client)
    assert told == ["tiny: resumes after 14 jobs with 14 of 14 jobs", "tiny: 14 of 14 jobs, 14 jobs, 0 failed"]
    assert again == tally
    check_whole(tmp_path / "a.sqlite", tmp_path)
    assert begun(tmp_path) == dict.fromkeys(range(NUMBERS), 1)


def test_what_others_found_is_not_counted(client, tmp_path):
    """Of another seed, another version, another kind, or beyond the last number."""
    (tmp_path / "go").touch()
    asked = tiny.campaign(tmp_path, 4)
    others = [
        Campaign(kind=tiny.TINY, common={**asked.common, "seed": 2}, goal=4, numbers=4).job(0, "1"),
        asked.job(1, "2"),
        tiny.campaign(tmp_path, 9).job(7, "1"),
    ]
    with Store(tmp_path / "a.sqlite", new=True) as store:
        for job in others:
            store.add(job, Outcome(outcome=FAILED))
        tally, _ = run(asked, store, client)
        assert len(list(store.results())) == 4 + len(others)
    assert (tally.jobs, tally.failed) == (4, [])


def test_failures_are_kept_and_the_campaign_goes_on(client, tmp_path):
    for name in ("go", "fail"):
        (tmp_path / name).touch()
    asked = tiny.campaign(tmp_path, NUMBERS)
    with Store(tmp_path / "a.sqlite", new=True) as store:
        tally, told = run(asked, store, client)
        assert told[-1] == "tiny: 14 of 14 jobs, 14 jobs, 2 failed"
        assert tally.differs and {job.parameters["number"] for job, _ in tally.failed} == {tiny.DIFFERS, tiny.FAILS}
        outcomes = {result.job.parameters["number"]: result.outcome for result in store.results()}
        assert (outcomes[tiny.DIFFERS].outcome, outcomes[tiny.DIFFERS].message) == (DIFFERS, "24 is not 25")
        assert outcomes[tiny.DIFFERS].found["squares"] == 25
        assert outcomes[tiny.FAILS].outcome == FAILED
        assert outcomes[tiny.FAILS].message.startswith("RuntimeError: no input.txt today\nTraceback")
        for number in (tiny.DIFFERS, tiny.FAILS):
            folder = store.folder_of(asked.job(number, "1"))
            assert (folder / "input.txt").read_text() == f"{number}\n"
            assert f'"number": {number}' in (folder / "job.json").read_text()
            assert '"seed": 1' in (folder / "job.json").read_text()
        (tmp_path / "fail").unlink()
        # They stay what they are, until they are to be done again.
        assert run(asked, store, client)[0].jobs == NUMBERS
        assert len(run(asked, store, client)[0].failed) == 2
        tally, _ = run(asked, store, client, retry=True)
        assert (tally.jobs, tally.failed, tally.differs) == (NUMBERS, [], False)
    check_whole(tmp_path / "a.sqlite", tmp_path)
    assert begun(tmp_path) == {**dict.fromkeys(range(NUMBERS), 1), tiny.DIFFERS: 2, tiny.FAILS: 2}


def test_it_ends_when_enough_is_found(client, tmp_path):
    """Of jobs without end; those that are at work by then are kept too."""
    (tmp_path / "go").touch()
    asked = Campaign(kind=tiny.TINY, common={"folder": str(tmp_path)}, goal=1000, counted="squares")
    with Store(tmp_path / "a.sqlite", new=True) as store:
        tally, _ = run(asked, store, client)
        numbers = sorted(result.job.parameters["number"] for result in store.results())
    assert numbers == list(range(len(numbers))) and tally.amount == sum(number**2 for number in numbers) >= 1000
    assert len(numbers) <= 15 + 4


def test_it_ends_when_too_much_fails(client, tmp_path):
    def broken(parameters, folder):
        raise OSError("no disk")

    kind = tiny.Kind(name="broken", version=tiny.version, run=broken, memory_bytes=0, threads=0)
    asked = Campaign(kind=kind, common={}, goal=10, counted="spikes", most_failed=5)
    with Store(tmp_path / "a.sqlite", new=True) as store:
        tally, _ = run(asked, store, client)
    assert 5 <= len(tally.failed) == tally.jobs <= 5 + 4


def test_workers_of_another_version_end_it(client, tmp_path):
    versions = iter(["1"])
    kind = tiny.Kind(name="changed", version=lambda: next(versions, "2"), run=tiny.run, memory_bytes=0, threads=0)
    asked = Campaign(kind=kind, common={"folder": str(tmp_path)}, goal=3, numbers=3)
    message = r"^a worker has version 2 of 'changed', and the campaign 1: they must be the same$"
    with Store(tmp_path / "a.sqlite", new=True) as store, pytest.raises(ToolError, match=message):
        run(asked, store, client)


def test_a_killed_campaign_resumes(tmp_path):
    """Killed in the middle, its workers and their tools with it; then nothing is done twice but what was at work."""
    path, tools = tmp_path / "a.sqlite", tmp_path / "tools"
    (tmp_path / "tool").touch()
    first = started(path, tmp_path, NUMBERS)
    until(lambda: stored(path) == tiny.WAITS, first)
    until(lambda: tools.exists() and tools.read_text().endswith("\n"), first)
    before = workers_of(tmp_path) | set(map(int, tools.read_text().split()))
    assert all(map(alive, before))
    first.send_signal(signal.SIGKILL)
    first.communicate()
    deadline = time.monotonic() + HANGS_SECONDS
    while any(map(alive, before)):
        assert time.monotonic() < deadline, "workers or their tools go on without their campaign"
        time.sleep(0.02)
    (tmp_path / "tool").unlink()
    at_work = set(begun(tmp_path)) - set(range(tiny.WAITS))
    (tmp_path / "go").touch()
    out, err = end(started(path, tmp_path, NUMBERS))
    assert out == "14 0\n"
    assert "tiny: resumes after 8 jobs with 8 of 14 jobs" in err
    check_whole(path, tmp_path)
    assert begun(tmp_path) == {number: 1 + (number in at_work) for number in range(NUMBERS)}


def test_a_killed_worker_is_replaced(tmp_path):
    """One kills itself in the middle of a job, one is killed from without."""
    path = tmp_path / "a.sqlite"
    (tmp_path / "kill").touch()
    campaign = started(path, tmp_path, NUMBERS)
    until(lambda: stored(path) == tiny.WAITS, campaign)
    until(lambda: sum(begun(tmp_path).values()) > tiny.WAITS + 1, campaign)
    assert begun(tmp_path)[tiny.KILLS] == 2
    last = int((tmp_path / "begun").read_text().split()[-1])
    os.kill(last, signal.SIGKILL)
    (tmp_path / "go").touch()
    out, _ = end(campaign)
    assert out == "14 0\n"
    check_whole(path, tmp_path)
    assert last in workers_of(tmp_path) and not alive(last)


def test_a_job_that_kills_its_workers_fails(tmp_path, monkeypatch):
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "0")
    path = tmp_path / "a.sqlite"
    for name in ("go", "kill"):
        (tmp_path / name).touch()
    out, _ = end(started(path, tmp_path, NUMBERS))
    with Store(path) as store:
        outcomes = {result.job.parameters["number"]: result.outcome for result in store.results()}
    # What was handed to the same worker is not told from it.
    failed = {number for number, outcome in outcomes.items() if outcome.outcome != DONE}
    assert tiny.KILLS in failed and len(failed) <= 2 and out == f"14 {len(failed)}\n"
    wanted = "1 workers died while they did this job: it may take more memory than there is"
    assert (outcomes[tiny.KILLS].outcome, outcomes[tiny.KILLS].message) == (FAILED, wanted)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_a_killed_scheduler_may_come_again(tmp_path):
    """Its workers go with it; others come, and the campaign goes on by itself."""
    path, address = tmp_path / "a.sqlite", f"tcp://127.0.0.1:{free_port()}"
    served = ("scheduler", "--host", address, "--no-dashboard")
    offers = ("--nthreads", "1", "--resources", "memory=5e7 threads=1")
    working = ("worker", address, *offers, "--no-dashboard", "--local-directory", str(tmp_path))
    with contextlib.ExitStack() as stack:
        scheduler = dask(stack, *served)
        dask(stack, *working)
        campaign = started(path, tmp_path, NUMBERS, address)
        stack.callback(campaign.kill)
        until(lambda: stored(path) == tiny.WAITS, campaign)
        until(lambda: sum(begun(tmp_path).values()) > tiny.WAITS, campaign)
        scheduler.kill()
        scheduler.wait()
        (tmp_path / "go").touch()
        dask(stack, *served)
        dask(stack, *working)
        out, _ = end(campaign)
    assert out == "14 0\n"
    check_whole(path, tmp_path)
    assert all(begun(tmp_path)[number] == 1 for number in range(tiny.WAITS))


class Lost:
    """A client whose scheduler goes away: what it is at each look."""

    def __init__(self, *states):
        self._states = list(states)
        self.scheduler = self.cluster = None

    @property
    def status(self):
        return self._states.pop(0) if len(self._states) > 1 else self._states[0]


@pytest.mark.parametrize(
    ("states", "waits"),
    [
        (("connecting", "connecting", "closed"), [0]),
        # One at the same address takes calls and says nothing, so that the client never gives up.
        (("connecting",), [0, 59, 61]),
    ],
)
def test_a_scheduler_that_stays_away(states, waits, tmp_path, monkeypatch):
    """It is said, once, and what was found is kept."""
    clock = iter(waits)
    monkeypatch.setattr("sim.campaigns.engine.monotonic", lambda: next(clock))
    monkeypatch.setattr("sim.campaigns.engine._LOOK_EVERY", 10**9)
    told = io.StringIO()
    with Store(tmp_path / "a.sqlite", new=True) as store, contextlib.redirect_stderr(told):
        progress = Progress(make_console(stderr=True), name="tiny", goal=1, unit="jobs", clock=lambda: 0.0)
        with pytest.raises(ToolError) as error:
            run_campaign(tiny.campaign(tmp_path, 1), store, Lost(*states), progress, patience_seconds=30)
    kept = f"what was found is in {tmp_path / 'a.sqlite'}, and the same command resumes from there"
    assert str(error.value) == f"the scheduler is gone; {kept}"
    lines = ["the scheduler went away: waits up to 30 s for it", "tiny: 0 of 1 jobs, 0 jobs, 0 failed"]
    assert told.getvalue().splitlines() == lines
    assert list(clock) == []


def test_a_scheduler_that_does_not_say_which_workers_it_has(client, tmp_path, monkeypatch):
    """It is asked again."""
    (tmp_path / "go").touch()
    answers = iter([TimeoutError(), OSError(), None])
    real = client.sync

    def sync(asked, *words, **options):
        if asked != client.scheduler.identity and (error := next(answers, None)) is not None:
            raise error
        return real(asked, *words, **options)

    monkeypatch.setattr(client, "sync", sync)
    monkeypatch.setattr("sim.campaigns.engine._LOOK_EVERY", 1)
    with Store(tmp_path / "a.sqlite", new=True) as store:
        tally, _ = run(tiny.campaign(tmp_path, 2), store, client)
    assert tally.jobs == 2 and list(answers) == []


def test_one_that_waits_says_what_for(tmp_path, monkeypatch):
    """A scheduler without workers: how to start one, once."""
    heavy = tiny.Kind(name="heavy", version=tiny.version, run=tiny.run, memory_bytes=2_000_000_000, threads=2)
    asked = Campaign(kind=heavy, common={"folder": str(tmp_path)}, goal=1, numbers=1)
    import distributed

    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0", protocol="tcp") as local,
        cluster(heavy, workers=0, scheduler=local.scheduler_address, folder=tmp_path, patience_seconds=30) as client,
        Store(tmp_path / "a.sqlite", new=True) as store,
    ):
        looks = iter(range(3))

        def sleep(seconds):
            if next(looks, None) is None:
                raise KeyboardInterrupt

        monkeypatch.setattr("sim.campaigns.engine.time.sleep", sleep)
        monkeypatch.setattr("sim.campaigns.engine._LOOK_EVERY", 1)
        stream = io.StringIO()
        with contextlib.redirect_stderr(stream):
            progress = Progress(make_console(stderr=True), name="heavy", goal=1, unit="jobs", clock=lambda: 0.0)
            with pytest.raises(KeyboardInterrupt):
                run_campaign(asked, store, client, progress)
        wanted = f'python -m dask worker {local.scheduler_address} --nthreads 1 --resources "memory=2e+09 threads=2"'
    assert stream.getvalue().splitlines() == [
        f"waits for a worker with room for a job: {wanted}", "heavy: 0 of 1 jobs, 0 jobs, 0 failed"
    ]  # fmt: skip
