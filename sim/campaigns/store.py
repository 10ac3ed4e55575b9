"""The results store of a campaign: one SQLite file with a row for each job that was done, by its key.

A row is written whole or not at all, and a key is there once: a job is neither lost nor counted twice, whoever is killed.
"""

import json
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from model.support.errors import BadInputError, OutputError
from model.support.files import check_writable_file, opened, write_file
from sim.campaigns.jobs import DIFFERS, DONE, OUTCOMES, Job, Outcome

__all__ = ["Result", "Store", "StoreError", "merged"]

_APPLICATION = 0x54616C6C
"""Which files are stores: SQLite keeps this number in the file's head."""

_FORMAT = 1

_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS result (
    key TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    version TEXT NOT NULL,
    parameters TEXT NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN {OUTCOMES}),
    found TEXT NOT NULL,
    seconds REAL NOT NULL,
    message TEXT NOT NULL
) WITHOUT ROWID;
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_FORMAT};
COMMIT;
"""

_COLUMNS = "kind, version, parameters, outcome, found, seconds, message"

_PATIENCE_SECONDS = 60.0
"""How long to wait for another process that writes the same file."""


class StoreError(BadInputError):
    """A file is no results store, or cannot be read or written."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """A job that was done, and what came of it; files are not part of it."""

    job: Job
    outcome: Outcome


class Store:
    """A results store.

    Parameters
    ----------
    path : Path
        The file.
    new : bool
        Whether to make it where it is not there, and to write to it; otherwise it is only read.

    Raises
    ------
    StoreError
        It is not there, is none, or another process writes to it.
    """

    def __init__(self, path: Path, *, new: bool = False) -> None:
        self.path = path
        self._base: Any = None
        self._lock = FileLock(path.with_name(path.name + ".lock"), timeout=0)
        if new:
            check_writable_file("--store", path)
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire()
            except Timeout:
                raise StoreError(f"{path}: another campaign writes to it") from None
        else:
            try:
                opened(path).close()
            except OSError as error:
                raise StoreError(f"{path}: cannot be read: {error.strerror}") from None
        try:
            with self._told():
                # As a URI: to read it makes nothing.
                uri = f"{path.absolute().as_uri()}?mode={'rwc' if new else 'ro'}"
                self._base = sqlite3.connect(uri, uri=True, timeout=_PATIENCE_SECONDS, isolation_level=None)
                self._check(new)
        except BaseException:
            self._close()
            raise

    def _check(self, new: bool) -> None:
        tables = self._number("SELECT count(*) FROM sqlite_master")
        if new and not tables:
            self._base.executescript(_SCHEMA)
        if self._number("PRAGMA application_id") != _APPLICATION:
            raise StoreError(f"{self.path}: must be a campaign's results store")
        if (version := self._number("PRAGMA user_version")) != _FORMAT:
            raise StoreError(f"{self.path}: version must be {_FORMAT}, not {version}")

    def _number(self, query: str) -> int:
        return int(self._base.execute(query).fetchone()[0])

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Whatever SQLite does not like, in one line."""
        try:
            yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorname", "").startswith("SQLITE_FULL"):
                raise OutputError(f"{self.path}: cannot be written: {error}") from None
            raise StoreError(f"{self.path}: must be a campaign's results store that can be used: {error}") from None
        except UnicodeDecodeError as error:
            raise StoreError(f"{self.path}: must be a campaign's results store that can be used: {error.reason}") from None

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._base is not None:
            self._base.close()
        self._lock.release()

    @property
    def failures(self) -> Path:
        """The folder with what jobs that differ or failed left, in a folder each."""
        return self.path.with_suffix(".failures")

    def folder_of(self, job: Job) -> Path:
        """Where the files of a job that differs or failed are."""
        return self.failures / job.key[:16]

    def add(self, job: Job, outcome: Outcome) -> bool:
        """Keep what came of a job; False where that is there already.

        The files of a job that differs or failed are written first: where there is a row, they are whole.
        """
        if outcome.outcome != DONE:
            told = {"kind": job.kind, "version": job.version, "parameters": dict(job.parameters), "key": job.key}
            told |= {"outcome": outcome.outcome}
            files: dict[str, bytes | str] = {"job.json": json.dumps(told, indent=2) + "\n", "message.txt": outcome.message + "\n"}
            files |= outcome.files
            for name, content in files.items():
                write_file(self.folder_of(job) / name, content)
        parameters, found = json.dumps(dict(job.parameters)), json.dumps(outcome.found)
        row = (job.key, job.kind, job.version, parameters, outcome.outcome, found, outcome.seconds, outcome.message)
        with self._told():
            marks = ", ".join("?" * len(row))
            done = self._base.execute(f"INSERT INTO result (key, {_COLUMNS}) VALUES ({marks}) ON CONFLICT DO NOTHING", row)
            return done.rowcount == 1

    def forget(self, job: Job) -> None:
        """Take out what came of a job, so that it is done again."""
        with self._told():
            self._base.execute("DELETE FROM result WHERE key = ?", (job.key,))

    def results(self, kind: str | None = None, version: str | None = None) -> Iterator[Result]:
        """What is in it, ordered by key: all, or what is of one kind, and of one version."""
        wanted = {name: value for name, value in (("kind", kind), ("version", version)) if value is not None}
        where = " AND ".join(["TRUE", *(f"{name} = :{name}" for name in wanted)])
        with self._told():
            for row in self._base.execute(f"SELECT key, {_COLUMNS} FROM result WHERE {where} ORDER BY key", wanted):
                yield self._result(*row)

    def starting_with(self, key: str) -> list[Result]:
        """What is in it of jobs whose keys begin so."""
        with self._told():
            rows = self._base.execute(f"SELECT key, {_COLUMNS} FROM result WHERE substr(key, 1, ?) = ?", (len(key), key))
            return [self._result(*row) for row in rows]

    def _result(
        self, key: str, kind: str, version: str, parameters: str, outcome: str, found: str, seconds: float, message: str
    ) -> Result:
        """A row, which must be as it was written."""
        try:
            job = Job(kind=kind, version=version, parameters=json.loads(parameters))
            result = Result(job=job, outcome=Outcome(outcome=outcome, found=json.loads(found), seconds=seconds, message=message))
            if job.key == key:
                return result
        except (TypeError, ValueError):
            pass
        raise StoreError(f"{self.path}: job {key[:16]!r} must be as it was written: the file is damaged")


def merged(stores: Collection[Store]) -> list[Result]:
    """What is in all of several stores, each job once; one that differs in any of them differs."""
    found: dict[str, Result] = {}
    for result in (result for store in stores for result in store.results()):
        before = found.setdefault(result.job.key, result)
        if result.outcome.outcome == DIFFERS or before.outcome.outcome == DONE:
            found[result.job.key] = result
    return list(found.values())

