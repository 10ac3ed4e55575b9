"""A campaign whose scheduler, workers and client are on hosts of their own, which die, lose their links, and come again.

What is waited for happens, however long it takes: jobs wait until they may go on (`tests.sim.campaigns.tiny`).
"""

import contextlib
import os
import shlex
import signal
import sqlite3
import sys

import pytest

from tests.sim.campaigns import tiny
from tests.sim.campaigns.hosts import hosts, missing
from tests.sim.campaigns.watching import HANGS_SECONDS, begun, end, started, stored, until

pytest.importorskip("distributed", reason="Dask distributed is not installed; get it with: pip install -e .[cluster]")

NUMBERS = 20

PORT = 8786

pytestmark = pytest.mark.full


class Cluster:
    """A scheduler, a campaign, and workers, each on a host of its own.

    Parameters
    ----------
    hosts : Hosts
        The hosts: ``scheduler``, ``campaign``, and those of workers.
    folder : Path
        For all files.
    dead_after : str
        How long a silent link is taken to be alive: Dask's ``distributed.comm.timeouts.tcp``.
    scheduler_dead_after : str, optional
        The same for the scheduler alone.
    """

    def __init__(self, hosts, folder, dead_after, scheduler_dead_after=None):
        self.hosts, self.folder = hosts, folder
        self.store = folder / "a.sqlite"
        self._heard, self._log = folder / "campaign.log", folder / "scheduler.log"
        own = {"COMM__TIMEOUTS__TCP": dead_after, "COMM__TIMEOUTS__CONNECT": f"{HANGS_SECONDS}s"}
        self._environment = {**os.environ, **{f"DASK_DISTRIBUTED__{name}": value for name, value in own.items()}}
        self._environment["DASK_TEMPORARY_DIRECTORY"] = str(folder)
        self._scheduler_dead_after = scheduler_dead_after or dead_after
        self.start_scheduler()
        self.start_campaign()
        self.until(lambda: "waits for a worker with room for a job: " in self.told())

    def until(self, condition):
        """Wait for something, while the campaign runs."""
        until(condition, self.campaign)

    def told(self):
        """What the campaign said so far."""
        return self._heard.read_text()

    def logged(self):
        """What the scheduler said so far."""
        return self._log.read_text()

    def start_scheduler(self):
        words = ("-m", "dask", "scheduler", "--host", self.hosts.address("scheduler"), "--port", str(PORT), "--no-dashboard")
        environment = self._environment | {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": self._scheduler_dead_after}
        self.hosts.start("scheduler", sys.executable, *words, log=self._log, environment=environment)

    def start_campaign(self):
        with self._heard.open("a") as file:
            self.campaign = started(
                self.store, self.folder, NUMBERS, f"tcp://{self.hosts.address('scheduler')}:{PORT}", HANGS_SECONDS,
                before=self.hosts.before("campaign"), stderr=file, env=self._environment,
            )  # fmt: skip

    def start_worker(self, name):
        """Start a worker at a host by the command that the campaign printed, and again whenever it ends."""
        line = next(line for line in self.told().splitlines() if line.startswith("waits for a worker"))
        python, space, words = line.rpartition(": ")[2].partition(" ")
        assert (python, space) == ("python", " ") and words.startswith("-m dask worker tcp://")
        loop = f"while true; do {shlex.quote(sys.executable)} {words} --no-dashboard; sleep 1; done"
        self.hosts.start(name, "sh", "-c", loop, log=self.folder / f"{name}.log", environment=self._environment)

    def attempts(self, number, kind="begun"):
        """The processes in which a job was begun, or ended."""
        path = self.folder / kind
        lines = path.read_text().splitlines() if path.exists() else []
        return [int(process) for each, process in map(str.split, lines) if int(each) == number]

    def at_work(self, name):
        """The job that waits at a host, and its process; None where none does."""
        for number in range(tiny.WAITS, NUMBERS):
            for process in set(self.attempts(number)) - set(self.attempts(number, "ended")):
                if self.hosts.host_of(process) == name:
                    return number, process
        return None

    def all_at_work(self, *names):
        return all(self.at_work(name) is not None for name in names)

    def brought_to(self, name, number):
        """Whether a host is at work on a job; the one that it does before may end."""
        found = self.at_work(name)
        if found is not None and found[0] != number:
            self.let_go(found[0])
        return found is not None and found[0] == number

    def end_job_without(self, host, *, of):
        """The job of the worker at a host ends while the link of ``host`` is cut."""
        number, process = self.at_work(of)
        self.hosts.cut(host)
        self.let_go(number)
        self.until(lambda: process in self.attempts(number, "ended"))
        self.hosts.mend(host)

    def let_go(self, *numbers):
        for number in numbers:
            (self.folder / f"go-{number}").touch()


@contextlib.contextmanager
def running(folder, **options):
    """A context with a cluster whose campaign has begun; two workers are at work on jobs that wait."""
    if (reason := missing()) is not None:
        pytest.skip(reason)
    with hosts("scheduler", "campaign", "worker1", "worker2", "worker3") as made:
        cluster = Cluster(made, folder, **options)
        try:
            for name in ("worker1", "worker2"):
                cluster.start_worker(name)
            cluster.until(lambda: stored(cluster.store) == tiny.WAITS)
            cluster.until(lambda: cluster.all_at_work("worker1", "worker2"))
            yield cluster
        finally:
            cluster.campaign.kill()
            cluster.campaign.communicate()


def rows(path):
    """All that a store has, but for the time that it took."""
    with contextlib.closing(sqlite3.connect(path)) as base:
        columns = "key, kind, version, parameters, outcome, found, message"
        return base.execute(f"SELECT {columns} FROM result ORDER BY key").fetchall()


def check_end(cluster):
    """The campaign ends; the store has each job once, and all that it has is what this machine finds by itself."""
    (cluster.folder / "go").touch()
    assert end(cluster.campaign)[0] == f"{NUMBERS} 0\n"
    assert set(begun(cluster.folder)) == set(range(NUMBERS))
    other = cluster.folder / "b.sqlite"
    assert end(started(other, cluster.folder, NUMBERS))[0] == f"{NUMBERS} 0\n"
    assert len(rows(other)) == NUMBERS
    assert rows(cluster.store) == rows(other)


def test_a_link_that_comes_back_costs_nothing(tmp_path):
    """Jobs end while their worker, or the campaign, is cut off; what was found comes later, and is not done again."""
    with running(tmp_path, dead_after="1h") as cluster:
        cluster.end_job_without("worker1", of="worker1")
        cluster.until(lambda: stored(cluster.store) == tiny.WAITS + 1)
        cluster.until(lambda: cluster.all_at_work("worker1", "worker2"))
        cluster.end_job_without("campaign", of="worker2")
        cluster.until(lambda: stored(cluster.store) == tiny.WAITS + 2)
        before = begun(tmp_path)
        check_end(cluster)
        assert set(before.values()) == {1}
        assert "the scheduler went away" not in cluster.told()


def test_a_campaign_that_is_back_before_it_is_missed(tmp_path):
    """It took the link for dead, and calls again; the scheduler, which has not noticed, knows it still."""
    with running(tmp_path, dead_after="11s", scheduler_dead_after="1h") as cluster:
        cluster.hosts.cut("campaign")
        cluster.until(lambda: "the scheduler went away" in cluster.told())
        assert "Close client connection" not in cluster.logged()
        cluster.hosts.mend("campaign")
        check_end(cluster)
        assert "the scheduler is back" in cluster.told()


def test_hosts_that_die_and_links_that_stay_cut(tmp_path):
    """A worker is killed, another is cut off, then the campaign; the scheduler is killed, a worker's host, and the campaign."""
    with running(tmp_path, dead_after="11s") as cluster:
        # A worker is killed in the middle of a job: Dask starts another in its place.
        killed, process = cluster.at_work("worker1")
        os.kill(process, signal.SIGKILL)
        cluster.until(lambda: cluster.all_at_work("worker1", "worker2"))

        # One is cut off, without a word, in the middle of a job: the other does it.
        number, process = cluster.at_work("worker2")
        cluster.hosts.cut("worker2")
        cluster.until(lambda: f"Remove worker addr: tcp://{cluster.hosts.address('worker2')}" in cluster.logged())
        cluster.until(lambda: cluster.brought_to("worker1", number))
        cluster.let_go(number)
        # Its link is back, and it starts again.
        cluster.hosts.mend("worker2")
        cluster.until(lambda: cluster.all_at_work("worker1", "worker2"))

        # The campaign is cut off until the scheduler has forgotten it.
        before = stored(cluster.store)
        cluster.hosts.cut("campaign")
        cluster.until(lambda: "Close client connection" in cluster.logged() and "the scheduler went away" in cluster.told())
        cluster.hosts.mend("campaign")
        cluster.until(lambda: "the scheduler is back" in cluster.told())
        # What the scheduler had forgotten is begun again.
        cluster.until(lambda: cluster.all_at_work("worker1", "worker2"))
        cluster.let_go(*(cluster.at_work(name)[0] for name in ("worker1", "worker2")))
        cluster.until(lambda: stored(cluster.store) >= before + 2)
        cluster.until(lambda: cluster.all_at_work("worker1", "worker2"))

        # The scheduler is killed, and comes again. A worker follows it; the host of the other is gone, and there is a new one.
        before = stored(cluster.store)
        cluster.hosts.kill("scheduler")
        cluster.hosts.kill("worker1")
        cluster.until(lambda: cluster.told().count("the scheduler went away") == 2)
        cluster.start_scheduler()
        cluster.start_worker("worker3")
        cluster.until(lambda: cluster.all_at_work("worker2", "worker3"))
        cluster.let_go(cluster.at_work("worker3")[0])
        cluster.until(lambda: stored(cluster.store) > before)

        # The campaign is killed too; the same command resumes.
        cluster.campaign.kill()
        cluster.campaign.communicate()
        cluster.start_campaign()
        tries = begun(tmp_path)
        check_end(cluster)
        assert "tiny: resumes after " in cluster.told()
        assert tries[killed] >= 2 and tries[number] >= 2
        assert all(tries[number] == 1 for number in range(tiny.WAITS))
