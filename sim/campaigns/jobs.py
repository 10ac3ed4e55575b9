"""Jobs of a campaign: what one is, who does it, and what comes of it.

A campaign is the same function over many inputs. A `Kind` is the function, a `Job` one of its inputs, known by its content:
wherever it is done, and however often, it is the same job.
"""

import hashlib
import json
import resource
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.support.errors import MismatchError, TallyError

__all__ = ["DIFFERS", "DONE", "FAILED", "OUTCOMES", "DifferenceError", "Job", "Kind", "Outcome", "Parameters", "perform"]

Parameters = Mapping[str, int | float | str]
"""What a job is given."""

DONE, DIFFERS, FAILED = OUTCOMES = ("done", "differs", "failed")
"""What comes of a job: it was done, it found that two models disagree, or it could not be done."""

_KEPT_BYTES = 4 << 20
"""Files of a failed job that are larger, such as waveforms, are not kept: the job makes them again."""


class DifferenceError(MismatchError):
    """A job found that two models disagree.

    Parameters
    ----------
    message : str
        What differs, where and how; may be of several lines.
    found : Mapping[str, Any], optional
        What the job counted all the same.
    """

    def __init__(self, message: str, found: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.found = found or {}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of job: a function, and what it needs of a machine.

    Parameters
    ----------
    name : str
        Its name, the same in all versions.
    version : Callable[[], str]
        Of all that decides what the function finds. A job of another version is another job.
    run : Callable[[Parameters, Path], dict[str, Any]]
        Takes a job's parameters and an empty folder, and gives what was found, in numbers, lists of strings, and dicts of those.
        Raises `DifferenceError` where two models disagree. Like ``version``, at the top of a module that workers can import.
    memory_bytes : int
        Memory that a job takes at the most, its tools included.
    threads : int
        Cores that it and its tools keep busy; 0 for hardly any.
    """

    name: str
    version: Callable[[], str]
    run: Callable[[Parameters, Path], dict[str, Any]]
    memory_bytes: int
    threads: int = 1


@dataclass(frozen=True, kw_only=True)
class Job:
    """One input of a kind's function.

    Parameters
    ----------
    kind, version : str
        The kind's name, and its version.
    parameters : Parameters
        What its function is given.
    """

    kind: str
    version: str
    parameters: Parameters

    @property
    def key(self) -> str:
        """SHA-256 of all three, in hexadecimal."""
        content = json.dumps([self.kind, self.version, self.parameters], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def __str__(self) -> str:
        return f"{self.kind} " + ", ".join(f"{name} {value}" for name, value in self.parameters.items())


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a job.

    Parameters
    ----------
    outcome : str
        One of `OUTCOMES`.
    found : dict[str, Any]
        What the function found.
    seconds : float
        Time of processors that it and its tools took.
    message : str
        Why it differs or failed.
    files : dict[str, bytes]
        What it left in its folder, where it differs or failed: of each file its path there and its content.
    """

    outcome: str
    found: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    message: str = ""
    files: dict[str, bytes] = field(default_factory=dict)


def perform(kind: Kind, job: Job, folder: Path) -> Outcome:
    """Do a job in an empty folder; whatever goes wrong is its outcome."""
    before = _processor_seconds()
    found: Mapping[str, Any] = {}
    outcome, message = DONE, ""
    try:
        found = kind.run(job.parameters, folder)
    except MismatchError as error:
        outcome, message = DIFFERS, str(error)
        found = getattr(error, "found", {})
    except TallyError as error:
        outcome, message = FAILED, str(error)
    except Exception as error:
        outcome, message = FAILED, f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
    # The folder goes; what is said of files in it stays true of those that are kept.
    message = message.replace(f"{folder}/", "")
    files = {} if outcome == DONE else _kept(folder)
    return Outcome(
        outcome=outcome, found=dict(found), seconds=_processor_seconds() - before, message=message, files=files
    )


def _processor_seconds() -> float:
    """Time of processors that this process and those it has waited for took."""
    tools = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + tools.ru_utime + tools.ru_stime


def _kept(folder: Path) -> dict[str, bytes]:
    """The smaller files anywhere below a folder; what is in a folder called ``cache`` can be made again."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if "cache" not in name.parts[:-1] and path.is_file() and path.stat().st_size <= _KEPT_BYTES:
            found[str(name)] = path.read_bytes()
    return found
