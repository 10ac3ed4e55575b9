"""Where the jobs of a campaign are done: workers of Dask distributed, on this machine or on a cluster.

A worker is a process that does one job at a time. It offers memory and threads as Dask's resources, and is given a job where they
suffice: on this machine as many workers are started as there is room for, on a cluster each says what it offers.
"""

import asyncio
import functools
import logging
import multiprocessing
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from model.support.errors import BadInputError, ToolError, ToolMissingError
from model.support.processes import end_with_this_process
from sim.campaigns.jobs import Job, Kind, Outcome, perform

__all__ = [
    "MEMORY",
    "THREADS",
    "at_once",
    "check_address",
    "cluster",
    "dask_distributed",
    "do_job",
    "local_workers",
    "needs",
    "room",
    "worker_command",
]

MEMORY, THREADS = "memory", "threads"
"""What Dask's resources are called here: bytes, and cores."""

_PROTOCOLS = ("tcp", "tls", "ws", "wss")
_ENCRYPTED = ("tls", "wss")

_LOCAL = {
    "logging.distributed": "critical",
    "distributed.comm.timeouts.connect": "120s",
    "distributed.deploy.lost-worker-timeout": "365 days",
    "distributed.scheduler.worker-ttl": None,
}
"""Of a cluster of this machine. A worker that is killed is replaced, however long that takes: on a busy machine it is
not given up, as it is by default after 15 seconds."""

_INTRODUCTION_SECONDS = 10.0
"""How long a scheduler that took a call may take to say that it is one, beyond the time in which it has to take it."""

_ALONE = threading.Lock()
"""Of a worker with several threads: tools are told what to do by the process' environment, which is one."""


def dask_distributed() -> Any:
    """Dask distributed, which takes a second to load.

    Raises
    ------
    ToolMissingError
        It is not installed.
    """
    try:
        import distributed
    except ImportError:
        raise ToolMissingError("campaigns must have Dask distributed installed: pip install -e .[cluster]") from None
    return distributed


def check_address(scheduler: str) -> None:
    """Raise `BadInputError` where this is no scheduler's address."""
    found = re.fullmatch(r"(\w+)://([^/:@\s]+|\[[0-9a-fA-F:.]+\]):(\d{1,5})", scheduler)
    if not found or found[1] not in _PROTOCOLS or not 0 < int(found[3]) < 65536:
        known = ", ".join(_PROTOCOLS)
        raise BadInputError(f"--scheduler must be an address such as tcp://host:8786 ({known}), not {scheduler!r}")


def do_job(kind: Kind, job: Job) -> Outcome | str:
    """Do a job on a worker, in a folder of its own that goes with what is in it; a line where the worker must not do it."""
    if (version := kind.version()) != job.version:
        return f"a worker has version {version[:16]} of {kind.name!r}, and the campaign {job.version[:16]}: they must be the same"
    _end_tools_with_worker()
    base = dask_distributed().get_worker().local_directory
    with _ALONE, tempfile.TemporaryDirectory(dir=base, prefix=f"{job.key[:8]}-", ignore_cleanup_errors=True) as folder:
        return perform(kind, job, Path(folder))


@functools.cache
def _end_tools_with_worker() -> None:
    """Leave no simulator behind where this worker is killed, if it is a process that Dask started and ends."""
    if multiprocessing.parent_process() is not None:
        end_with_this_process()


def needs(kind: Kind) -> dict[str, float]:
    """The resources that a job of a kind takes."""
    return {name: float(value) for name, value in ((MEMORY, kind.memory_bytes), (THREADS, kind.threads)) if value}


def room(kind: Kind, workers: Mapping[str, Any]) -> int:
    """How many jobs of a kind such workers do at once, as Dask's scheduler describes them."""
    found = 0
    for worker in workers.values():
        offered = worker["resources"]
        found += min([worker["nthreads"], *(int(offered.get(name, 0) // value) for name, value in needs(kind).items())])
    return found


def worker_command(kind: Kind, address: str) -> str:
    """How to start a worker for jobs of a kind, from the folder of the project."""
    offers = " ".join(f"{name}={value:g}" for name, value in needs(kind).items())
    return f'python -m dask worker {address} --nthreads 1' + (f' --resources "{offers}"' if offers else "")


def at_once(kind: Kind, memory_bytes: int, cores: int) -> int:
    """How many jobs of a kind a machine has room for.

    Raises
    ------
    BadInputError
        Not for one.
    """
    if kind.memory_bytes > memory_bytes:
        raise BadInputError(
            f"a job of {kind.name!r} takes up to {kind.memory_bytes / 1e9:.1f} GB of memory, and this machine has "
            f"{memory_bytes / 1e9:.1f} GB"
        )
    by_memory = memory_bytes // kind.memory_bytes if kind.memory_bytes else cores
    # A tool that keeps more cores busy than there are is slow, and no more.
    by_threads = max(1, cores // kind.threads) if kind.threads else by_memory
    return min(by_memory, by_threads)


def local_workers(kind: Kind, wanted: int | None) -> tuple[int, str | None]:
    """How many workers to start on this machine, and a note where they are fewer than wanted."""
    dask_distributed()
    from dask.system import CPU_COUNT
    from distributed.system import MEMORY_LIMIT

    most = at_once(kind, MEMORY_LIMIT, CPU_COUNT)
    if wanted is None or wanted <= most:
        return (min(most, CPU_COUNT) if wanted is None else wanted), None
    takes = " and ".join(
        text
        for text in (
            f"{kind.memory_bytes / 1e9:.1f} GB of {MEMORY_LIMIT / 1e9:.1f} GB" if kind.memory_bytes else "",
            f"{kind.threads} of {CPU_COUNT} cores" if kind.threads else "",
        )
        if text
    )
    return most, f"{most} of {wanted} workers: a job of {kind.name!r} takes up to {takes}"


def _tls(scheduler: str) -> dict[str, Any]:
    """What Dask's configuration says of TLS: arguments for a connection. Refuses an address that does not go with it."""
    from distributed.security import Security

    security = Security()
    try:
        found: dict[str, Any] = security.get_connection_args("client")
    except OSError as error:
        raise BadInputError(f"Dask's files for TLS (distributed.comm.tls) cannot be read: {error.strerror or error}") from None
    encrypted = scheduler.partition(":")[0] in _ENCRYPTED
    if encrypted and found["ssl_context"] is None:
        names = ", ".join(f"DASK_DISTRIBUTED__COMM__TLS__{name}" for name in ("CA_FILE", "CLIENT__CERT", "CLIENT__KEY"))
        raise BadInputError(f"--scheduler {scheduler} must have files for TLS, in {names} or in Dask's configuration")
    if security.require_encryption and not encrypted:
        known = " or ".join(f"{protocol}://" for protocol in _ENCRYPTED)
        raise BadInputError(f"--scheduler must be {known}, which Dask's configuration requires, not {scheduler!r}")
    return found


def _call(scheduler: str, patience_seconds: float) -> None:
    """Raise where no scheduler answers, and say why: Dask's client does not, and waits forever for one that says nothing."""
    from distributed.comm import connect

    arguments = _tls(scheduler)

    async def call() -> None:
        comm = await connect(scheduler, timeout=patience_seconds, **arguments)
        await comm.close()

    async def wait() -> None:
        await asyncio.wait_for(call(), patience_seconds + _INTRODUCTION_SECONDS)

    try:
        asyncio.run(wait())
    except (OSError, ValueError) as error:
        raise _no_answer(scheduler, patience_seconds, error) from None


def _no_answer(scheduler: str, patience_seconds: float, error: BaseException) -> ToolError:
    """That no scheduler answers, and the first cause of it."""
    while error.__cause__ is not None:
        error = error.__cause__
    reason = getattr(error, "strerror", None) or str(error)
    told = f"--scheduler {scheduler}: no scheduler answers there within {patience_seconds:g} s"
    return ToolError(f"{told}: {reason}" if reason else told)


@contextmanager
def _closing(each: Any) -> Iterator[Any]:
    """A context at whose end a client or a cluster is closed. That it does not close in time hides no other error."""
    try:
        yield each
    finally:
        with suppress(Exception):
            each.close()


@contextmanager
def cluster(kind: Kind, *, workers: int, scheduler: str | None, folder: Path, patience_seconds: float) -> Iterator[Any]:
    """A context with a client of a cluster: one of this machine, or that of a scheduler.

    Parameters
    ----------
    kind : Kind
        What is to be done.
    workers : int
        How many to start, where there is no scheduler.
    scheduler : str or None
        Its address.
    folder : Path
        For what workers of this machine need while they work. What those that were killed left there goes.
    patience_seconds : float
        How long to wait for a scheduler that does not answer, at the beginning and whenever it goes away.

    Yields
    ------
    distributed.Client
        The client; where the scheduler goes away and comes again, it connects again.
    """
    distributed = dask_distributed()
    import dask

    # What goes wrong is told by the campaign; what workers say when they are killed helps nobody.
    for name in ("distributed", "tornado", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if scheduler is None:
        with dask.config.set(_LOCAL):
            local = distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                memory_limit=1.0 / workers,
                resources=needs(kind),
                dashboard_address=None,
                # Health and metrics, which Dask serves in any case: not at a port of someone else's.
                scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
                silence_logs=logging.CRITICAL,
                local_directory=str(folder.absolute()),
            )
            with _closing(local), _closing(distributed.Client(local, set_as_default=False)) as client:
                yield client
        shutil.rmtree(folder, ignore_errors=True)
        return
    _call(scheduler, patience_seconds)
    try:
        client = distributed.Client(scheduler, timeout=patience_seconds, set_as_default=False)
    except OSError as error:
        raise _no_answer(scheduler, patience_seconds, error) from None
    with _closing(client):
        yield client
