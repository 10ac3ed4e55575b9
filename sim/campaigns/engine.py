"""Running a campaign: jobs go to workers until enough is done, and what comes of each is in the store before it counts."""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from model.support.errors import ToolError
from sim.campaigns.cluster import do_job, needs, room, worker_command
from sim.campaigns.jobs import DIFFERS, DONE, FAILED, Job, Kind, Outcome, Parameters
from sim.campaigns.progress import Progress
from sim.campaigns.store import Store

__all__ = ["Campaign", "Tally", "run_campaign"]

_POLL_SECONDS = 0.05

_LOOK_EVERY = 20
"""Polls after which it is asked again which workers there are."""

_AHEAD = 2
"""Jobs that are handed out for each that can be done at once: no worker waits for the campaign."""

_GATHER_SECONDS = 60.0
"""How long to wait for a result that is there, before other ones are looked at."""

_ANSWER_SECONDS = 60.0
"""How long to wait for a scheduler that is there to say which workers it has: a link may be cut without a word."""


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """The same function over many inputs, which are alike but for a number.

    Parameters
    ----------
    kind : Kind
        The function.
    common : Parameters
        What all jobs are given; each is given its ``number`` besides, from 0 on.
    goal : int
        When it is enough.
    counted : str or None
        Which of the numbers that are found count towards the goal; None for the jobs themselves.
    numbers : int or None
        How many jobs there are; None for as many as it takes.
    most_failed : int
        Jobs that differ or fail after which no more are begun.
    """

    kind: Kind
    common: Parameters
    goal: int
    counted: str | None = None
    numbers: int | None = None
    most_failed: int = 100

    def job(self, number: int, version: str) -> Job:
        """One of its jobs."""
        return Job(kind=self.kind.name, version=version, parameters={**self.common, "number": number})

    def number(self, job: Job) -> int | None:
        """Which of its jobs this is; None for one of another campaign."""
        found = dict(job.parameters)
        number = found.pop("number", None)
        mine = isinstance(number, int) and found == dict(self.common) and (self.numbers is None or number < self.numbers)
        return int(number) if mine and number is not None else None

    def worth(self, outcome: Outcome) -> int:
        """How far a job brought it."""
        return 1 if self.counted is None else int(outcome.found.get(self.counted, 0))


@dataclass(kw_only=True)
class Tally:
    """How far a campaign is.

    Parameters
    ----------
    amount : int
        Towards the goal.
    jobs : int
        Jobs done, those that differ or failed too.
    failed : list[tuple[Job, str]]
        Those, and why.
    differs : bool
        Whether one of them differs.
    """

    amount: int = 0
    jobs: int = 0
    failed: list[tuple[Job, str]] = field(default_factory=list)
    differs: bool = False


def run_campaign(
    campaign: Campaign, store: Store, client: Any, progress: Progress, *, retry: bool = False, patience_seconds: float = 30.0
) -> Tally:
    """Run a campaign to its end.

    What is in the store already counts and is not done again. Jobs that are at work when the goal is reached come to their end.

    Parameters
    ----------
    campaign : Campaign
        What to do.
    store : Store
        Where what is found goes.
    client : distributed.Client
        Of the workers (`sim.campaigns.cluster.cluster`).
    progress : Progress
        Who is told of it.
    retry : bool
        Whether jobs of the store that differ or failed are done again.
    patience_seconds : float
        How long the client waits for a scheduler that went away.

    Raises
    ------
    ToolError
        The scheduler is gone, or workers cannot do such jobs at all.
    """
    return _Run(campaign, store, client, progress, patience_seconds).run(retry)


class _Run:
    """One run of a campaign."""

    def __init__(self, campaign: Campaign, store: Store, client: Any, progress: Progress, patience_seconds: float) -> None:
        self._campaign, self._store, self._client, self._progress = campaign, store, client, progress
        self._patience = patience_seconds
        self._gone_since: float | None = None
        self._version = campaign.kind.version()
        self._tally = Tally()
        self._waiting: dict[Any, Job] = {}
        self._again: deque[Job] = deque()
        self._jobs: Iterator[Job] = iter(())
        self._next: Job | None = None
        self._room = 0
        self._polls = 0
        self._attempts = itertools.count()
        self._told_no_room = False

    def run(self, retry: bool) -> Tally:
        self._resume(retry)
        self._progress.start(self._tally.amount, self._tally.jobs)
        try:
            while self._waiting or self._more():
                self._hand_out()
                self._take_in()
                self._progress.tick(self._tally.amount, self._tally.jobs, len(self._tally.failed))
        finally:
            self._progress.end(self._tally.amount, self._tally.jobs, len(self._tally.failed))
        return self._tally

    def _resume(self, retry: bool) -> None:
        """Count what was done before; what is left are the other jobs."""
        done = set()
        for result in list(self._store.results(self._campaign.kind.name, self._version)):
            number = self._campaign.number(result.job)
            if number is None:
                continue
            if retry and result.outcome.outcome != DONE:
                self._store.forget(result.job)
                continue
            done.add(number)
            self._count(result.job, result.outcome)
        numbers = itertools.count() if self._campaign.numbers is None else range(self._campaign.numbers)
        self._jobs = (self._campaign.job(number, self._version) for number in numbers if number not in done)
        self._next = next(self._jobs, None)

    def _count(self, job: Job, outcome: Outcome) -> None:
        self._tally.amount += self._campaign.worth(outcome)
        self._tally.jobs += 1
        if outcome.outcome != DONE:
            self._tally.failed.append((job, outcome.message))
            self._tally.differs |= outcome.outcome == DIFFERS

    def _more(self) -> bool:
        """Whether another job is to be begun: not where those at work will do, if they bring as much as those before."""
        if self._again:
            return True
        tally = self._tally
        expected = len(self._waiting) * tally.amount / tally.jobs if tally.jobs else 0.0
        enough = tally.amount + expected >= self._campaign.goal
        return self._next is not None and not enough and len(tally.failed) < self._campaign.most_failed

    def _hand_out(self) -> None:
        while self._client.status == "running" and len(self._waiting) < _AHEAD * self._room and self._more():
            if self._again:
                job = self._again.popleft()
            else:
                assert self._next is not None
                job, self._next = self._next, next(self._jobs, None)
            # A key of its own: what Dask still knows of an attempt before is not taken for this one.
            key = f"{job.kind}-{job.key[:16]}-{next(self._attempts)}"
            future = self._client.submit(
                do_job, self._campaign.kind, job, key=key, pure=False, resources=needs(self._campaign.kind)
            )
            self._waiting[future] = job

    def _take_in(self) -> None:
        done = [future for future in self._waiting if future.done()]
        for future in done:
            self._came(future, self._waiting.pop(future))
        self._watch_scheduler()
        if done or self._polls % _LOOK_EVERY == 0:
            self._look()
        self._polls += 1
        if not done:
            time.sleep(_POLL_SECONDS)

    def _watch_scheduler(self) -> None:
        """Say when the scheduler goes away and when it is back; end where it stays away."""
        if self._client.status == "running":
            if self._gone_since is not None:
                self._gone_since = None
                self._progress.say("the scheduler is back")
            return
        if self._gone_since is None:
            self._gone_since = monotonic()
            self._progress.say(f"the scheduler went away: waits up to {self._patience:g} s for it")
        # Dask's client gives up by itself, unless what is at the scheduler's address takes its call and says nothing.
        if self._client.status == "closed" or monotonic() - self._gone_since > 2 * self._patience:
            raise ToolError(
                f"the scheduler is gone; what was found is in {self._store.path}, and the same command resumes from there"
            )

    def _came(self, future: Any, job: Job) -> None:
        """Keep what came of a job, or have it done again where that was lost on its way."""
        outcome: Outcome | str | None = None
        if future.status == "finished":
            try:
                outcome = future.result(timeout=_GATHER_SECONDS)
            except (TimeoutError, OSError):
                self._waiting[future] = job
                return
            except (Exception, asyncio.CancelledError) as error:
                # Where it went together with the scheduler it is done again.
                if future.status == "finished" and self._client.status == "running":
                    raise ToolError(f"what came of a job could not be read: {type(error).__name__}: {error}") from None
        elif future.status == "error":
            wrong = future.exception()
            if type(wrong).__name__ != "KilledWorker":
                raise ToolError(f"workers cannot do jobs of {job.kind!r}: {type(wrong).__name__}: {wrong}")
            killed = f"{wrong.allowed_failures + 1} workers died while they did this job: it may take more memory than there is"
            outcome = Outcome(outcome=FAILED, message=killed)
        if isinstance(outcome, str):
            raise ToolError(outcome)
        if outcome is None:
            self._again.append(job)
            return
        self._store.add(job, outcome)
        self._count(job, outcome)

    def _look(self) -> None:
        """See which workers there are; they come and go."""
        if self._client.status != "running":
            self._room = 0
            return
        try:
            found = self._client.sync(self._client.scheduler.identity, n_workers=-1, callback_timeout=_ANSWER_SECONDS)
        except (AttributeError, OSError):
            # It went away since, or does not answer: then it is asked again.
            return
        workers = found["workers"]
        local = self._client.cluster
        if local is not None and not local.workers:
            raise ToolError(f"no worker of this machine is left; what was found is in {self._store.path}")
        self._room = room(self._campaign.kind, workers)
        if not self._room and not self._told_no_room and local is None:
            self._told_no_room = True
            address = self._client.scheduler.address
            self._progress.say(f"waits for a worker with room for a job: {worker_command(self._campaign.kind, address)}")
