"""A campaign whose scheduler, workers and client are on hosts of their own, which die, lose their links, and come again.

What is waited for happens, however long it takes: jobs wait until they may go on (`tests.sim.campaigns.tiny`).
"""

import contextlib
import os
import shlex
import signal
import sqlite3

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
    """

    def __init__(self, hosts, folder, dead_after):
        self.hosts, self.folder = hosts, folder
        self.store = folder / "a.sqlite"
        self._heard, self._log = folder / "campaign.log", folder / "scheduler.log"
        names = {"COMM__TIMEOUTS__TCP": dead_after, "COMM__TIMEOUTS__CONNECT": f"{HANGS_SECONDS}s"}
        self._environment = {**os.environ, **{f"DASK_DISTRIBUTED__{name}": value for name, value in names.items()}}
        self._environment["DASK_TEMPORARY_DIRECTORY"] = str(folder)
        self._workers = 0
        self.start_scheduler()
        with self._heard.open("w") as file:
            self.campaign = started(
                self.store, folder, NUMBERS, f"tcp://{hosts.address('scheduler')}:{PORT}", HANGS_SECONDS,
                before=hosts.before("campaign"), stderr=file, env=self._environment,
            )  # fmt: skip
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
        words = ("-m", "dask", "scheduler", "--host", self.hosts.address("scheduler"), "--port", PORT, "--no-dashboard")
        self.scheduler = self.hosts.start("scheduler", *words, log=self._log, environment=self._environment)

    def start_worker(self, name):
        """Start a worker at a host, by the command that the campaign printed."""
        line = next(line for line in self.told().splitlines() if line.startswith("waits for a worker"))
        python, *words = shlex.split(line.rpartition(": ")[2])
        assert python == "python" and words[:3] == ["-m", "dask", "worker"]
        self._workers += 1
        log = self.folder / f"worker{self._workers}.log"
        return self.hosts.start(name, *words, "--no-dashboard", log=log, environment=self._environment)

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

    def both_at_work(self):
        return self.at_work("worker1") is not None and self.at_work("worker2") is not None

    def let_go(self, *numbers):
        for number in numbers:
            (self.folder / f"go-{number}").touch()


@contextlib.contextmanager
def running(folder, dead_after):
    """A context with a cluster whose campaign has begun; two workers are at work on jobs that wait."""
    if (reason := missing()) is not None:
        pytest.skip(reason)
    with hosts("scheduler", "campaign", "worker1", "worker2") as made:
        cluster = Cluster(made, folder, dead_after)
        try:
            cluster.first = {name: cluster.start_worker(name) for name in ("worker1", "worker2")}
            cluster.until(lambda: stored(cluster.store) == tiny.WAITS)
            cluster.until(cluster.both_at_work)
            yield cluster
        finally:
            cluster.campaign.kill()
            cluster.campaign.communicate()


def rows(path):
    """All that a store has, but for the time that it took."""
    with contextlib.closing(sqlite3.connect(path)) as base:
        columns = "key, kind, version, parameters, outcome, found, message"
        return base.execute(f"SELECT {columns} FROM result ORDER BY key").fetchall()


def check_as_on_one_machine(cluster):
    """The store has each job once, and all that it has is what this machine finds by itself."""
    (cluster.folder / "go").touch()
    other = cluster.folder / "b.sqlite"
    assert end(started(other, cluster.folder, NUMBERS))[0] == f"{NUMBERS} 0\n"
    assert len(rows(other)) == NUMBERS
    assert rows(cluster.store) == rows(other)


def test_a_link_that_comes_back_costs_nothing(tmp_path):
    """Jobs end while their worker, or the campaign, is cut off; what was found comes later, and is not done again."""
    with running(tmp_path, dead_after="1h") as cluster:
        number, process = cluster.at_work("worker1")
        cluster.hosts.cut("worker1")
        cluster.let_go(number)
        cluster.until(lambda: process in cluster.attempts(number, "ended"))
        cluster.hosts.mend("worker1")
        cluster.until(lambda: stored(cluster.store) == tiny.WAITS + 1)
        cluster.until(cluster.both_at_work)
        cluster.hosts.cut("campaign")
        number, process = cluster.at_work("worker2")
        cluster.let_go(number)
        cluster.until(lambda: process in cluster.attempts(number, "ended"))
        cluster.hosts.mend("campaign")
        (tmp_path / "go").touch()
        assert end(cluster.campaign)[0] == f"{NUMBERS} 0\n"
        assert begun(tmp_path) == dict.fromkeys(range(NUMBERS), 1)
        assert "the scheduler went away" not in cluster.told()
    check_as_on_one_machine(cluster)


def test_hosts_that_die_and_links_that_stay_cut(tmp_path):
    """A worker is killed, another is cut off, then the campaign, and the scheduler is killed; each job is in the store once."""
    with running(tmp_path, dead_after="11s") as cluster:
        # A worker is killed in the middle of a job: Dask starts another in its place.
        number, process = cluster.at_work("worker1")
        os.kill(process, signal.SIGKILL)
        cluster.until(lambda: len(cluster.attempts(number)) == 2)
        cluster.until(cluster.both_at_work)

        # One is cut off, without a word, in the middle of a job: the other does it.
        number, process = cluster.at_work("worker2")
        cluster.hosts.cut("worker2")
        cluster.let_go(*({8, 9, 10, 11, 12, 13} - {number}))
        cluster.until(lambda: "worker1" in map(cluster.hosts.host_of, cluster.attempts(number)))
        # Its own attempt ends too, unheard.
        cluster.let_go(number)
        cluster.until(lambda: len(cluster.attempts(number, "ended")) == 2)
        cluster.until(lambda: stored(cluster.store) >= 14)
        # It comes back as another; what it was is not taken up again.
        cluster.hosts.mend("worker2")
        cluster.hosts.kill("worker2")
        cluster.start_worker("worker2")
        cluster.until(cluster.both_at_work)

        # The campaign is cut off until the scheduler has forgotten it.
        cluster.hosts.cut("campaign")
        cluster.until(lambda: "Close client connection" in cluster.logged() and "the scheduler went away" in cluster.told())
        cluster.hosts.mend("campaign")
        cluster.until(lambda: "the scheduler is back" in cluster.told())
        before = stored(cluster.store)
        cluster.let_go(*(cluster.at_work(name)[0] for name in ("worker1", "worker2")))
        cluster.until(lambda: stored(cluster.store) >= before + 2)
        cluster.until(cluster.both_at_work)

        # The scheduler is killed, and its workers go; others come.
        cluster.hosts.kill("scheduler")
        cluster.until(lambda: cluster.told().count("the scheduler went away") == 2)
        cluster.start_scheduler()
        for name in ("worker1", "worker2"):
            cluster.hosts.kill(name)
            cluster.start_worker(name)
        (tmp_path / "go").touch()
        out, _ = end(cluster.campaign)
        assert out == f"{NUMBERS} 0\n"
        assert set(begun(tmp_path)) == set(range(NUMBERS))
        assert all(begun(tmp_path)[number] == 1 for number in range(tiny.WAITS))
    check_as_on_one_machine(cluster)
