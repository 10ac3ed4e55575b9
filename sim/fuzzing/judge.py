"""What comes of an input: refused in one line, accepted and right, or failed; within bounds of time and memory."""

import resource
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from model.support.errors import TallyError
from sim.fuzzing.targets import Target, WrongError

__all__ = ["ACCEPTED", "FAILED", "MOST_BYTES", "REFUSED", "Verdict", "bounded", "judged"]

REFUSED, ACCEPTED, FAILED = "refused", "accepted", "failed"

MOST_BYTES = 512 << 20
"""Memory that an input may take, besides what is loaded already: inputs are small, whatever they claim."""

_MOST_LINE = 1500
"""Characters of a line that refuses, which may show a part of the input."""


_UNSEEN = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)
"""Warnings that no user sees; others come on standard error, beside the one line."""


class _HangError(BaseException):
    """The time of an input is over. It passes by whoever catches all errors."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came of an input.

    Parameters
    ----------
    outcome : str
        `REFUSED`, `ACCEPTED` or `FAILED`.
    kind : str
        The class of the error that refused it, how far what was accepted is checked, or how it failed.
    message : str
        The line that refused it, or what is wrong.
    """

    outcome: str
    kind: str
    message: str = ""


def judged(target: Target, content: bytes, folder: Path, *, right: bool = False, isolated: bool = False) -> Verdict:
    """Read an input, and say what came of it.

    Parameters
    ----------
    target : Target
        The way in.
    content : bytes
        The input.
    folder : Path
        For its file.
    right : bool
        Whether it must be accepted.
    isolated : bool
        Whether this process is only there for inputs: where compiled code does not come to an end, it is killed.
    """
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for category in _UNSEEN:
            warnings.simplefilter("ignore", category)
        verdict = _judged(target, content, folder, right, isolated)
    if told and verdict.outcome != FAILED:
        where = f"{Path(told[0].filename).name}:{told[0].lineno}"
        return Verdict(outcome=FAILED, kind="warning", message=f"{told[0].category.__name__}: {told[0].message} ({where})")
    return verdict


def _judged(target: Target, content: bytes, folder: Path, right: bool, isolated: bool) -> Verdict:
    try:
        with _timed(target.seconds, isolated):
            kind = target.read(content, folder)
        return Verdict(outcome=ACCEPTED, kind=kind)
    except _HangError:
        return Verdict(outcome=FAILED, kind="hang", message=f"takes more than {target.seconds:g} s of the processor")
    except TallyError as error:
        verdict = _refused(error)
        if right and verdict.outcome == REFUSED:
            return Verdict(outcome=FAILED, kind="refused though right", message=verdict.message)
        return verdict
    except WrongError as error:
        return Verdict(outcome=FAILED, kind="wrong", message=str(error))
    except MemoryError:
        return _out_of_memory()
    except Exception as error:
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = f" ({Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno})" if place is not None else ""
        return Verdict(outcome=FAILED, kind=type(error).__name__, message=f"{type(error).__name__}: {error}{where}")


def _refused(error: TallyError) -> Verdict:
    """An input that is refused, if that is done in a line, and for its own sake."""
    line, each = str(error), error.__cause__ or error.__context__
    while each is not None:
        if isinstance(each, MemoryError) or "bad_alloc" in str(each):
            return _out_of_memory()
        each = each.__cause__ or each.__context__
    if not line or not line.isprintable() or len(line) > _MOST_LINE:
        message = f"{type(error).__name__} must be a line to show, not {line[:3000]!r}"
        return Verdict(outcome=FAILED, kind="no line", message=message)
    return Verdict(outcome=REFUSED, kind=getattr(error, "kind", type(error).__name__), message=line)


def _out_of_memory() -> Verdict:
    return Verdict(outcome=FAILED, kind="memory", message=f"takes more than {MOST_BYTES >> 20} MiB of memory")


@contextmanager
def _timed(seconds: float, isolated: bool) -> Iterator[None]:
    """A context that is left with `_HangError` after so many seconds of the processor."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise _HangError

    before = signal.signal(signal.SIGPROF, stop)
    if isolated:
        # Python takes no signal while compiled code runs.
        limit = int(time.process_time() + 3 * seconds + 2)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextmanager
def bounded(most_bytes: int = MOST_BYTES) -> Iterator[None]:
    """A context in which this process gets no more than so much memory besides its own, where the system says it."""
    status = Path("/proc/self/status")
    if not status.exists():
        yield
        return
    taken = next(int(line.split()[1]) << 10 for line in status.read_text().splitlines() if line.startswith("VmData:"))
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (taken + most_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
