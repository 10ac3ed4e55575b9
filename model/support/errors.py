"""What a command tells its user in one line, and the exit code that goes with it.

Whatever Tally raises on purpose is a `TallyError`: bad input, a design that does not fit, and so on, each with its exit code.
Any other exception is a fault of Tally's own; it is not caught, and the shell sees 1.
"""

import enum
import errno
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, NoReturn

__all__ = [
    "NO_ROOM",
    "BadInputError",
    "DeviceError",
    "DoesNotFitError",
    "Exit",
    "MismatchError",
    "NetworkError",
    "OutputClosedError",
    "OutputError",
    "StoppedError",
    "TallyError",
    "TimingError",
    "ToolError",
    "ToolMissingError",
    "WeightsDifferError",
    "fail",
    "one_line",
    "one_line_errors",
]

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says where there is no room for a file."""


class Exit(enum.IntEnum):
    """Exit codes; the shell's 1 is left to crashes."""

    OK = 0
    BAD_INPUT = 2
    """A file, name, option or value is not what it must be."""
    DOES_NOT_FIT = 3
    """The design needs more than the device has."""
    TIMING = 4
    """The design fits but is too slow for its clock."""
    MISMATCH = 5
    """Two models of the same network, or two forms of a design, disagree."""
    TOOL_MISSING = 6
    """A tool or an optional package is not installed."""
    TOOL_FAILED = 7
    """A tool ran and failed."""
    NO_DEVICE = 8
    """No board answers, or one with another network, or what answers makes no sense."""
    NOT_WRITTEN = 9
    """What was found could not be written: standard output, or the disk, is full."""
    WEIGHTS_DIFFER = 10
    """A device holds other weights than its network's."""
    INTERRUPTED = 128 + signal.SIGINT
    """Ctrl-C."""
    OUTPUT_CLOSED = 128 + signal.SIGPIPE
    """Whoever read standard output has closed it, as ``head`` does."""
    TERMINATED = 128 + signal.SIGTERM
    """Another process ended it."""


class TallyError(Exception):
    """The base of all errors that are told in one line."""

    exit_code: ClassVar[Exit]
    """The exit code of a command that ends with this error."""


class BadInputError(TallyError, ValueError):
    """A file, name, option or value is not what it must be."""

    exit_code = Exit.BAD_INPUT


class NetworkError(BadInputError):
    """A network, or the file it was read from, is not what it must be."""


class DoesNotFitError(TallyError):
    """The design needs more than the device has."""

    exit_code = Exit.DOES_NOT_FIT


class TimingError(TallyError):
    """The design is too slow for its clock."""

    exit_code = Exit.TIMING


class MismatchError(TallyError):
    """Two models of the same network, or two forms of a design, disagree."""

    exit_code = Exit.MISMATCH


class ToolMissingError(TallyError):
    """A tool or an optional package is not installed; the message says how to get it."""

    exit_code = Exit.TOOL_MISSING


class ToolError(TallyError):
    """A tool ran and failed; the message has its last error line and its log.

    Parameters
    ----------
    message : str
        The one line.
    log : str
        All that the tool printed.
    """

    exit_code = Exit.TOOL_FAILED

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log


class DeviceError(TallyError):
    """No board answers, or one with another network, or what answers makes no sense."""

    exit_code = Exit.NO_DEVICE


class WeightsDifferError(DeviceError):
    """A device has found other weights in it than its network's: its answers may be wrong."""

    exit_code = Exit.WEIGHTS_DIFFER


class OutputError(TallyError):
    """What was found could not be written: standard output, or the disk, is full."""

    exit_code = Exit.NOT_WRITTEN


class OutputClosedError(OutputError):
    """Whoever read standard output has closed it."""

    exit_code = Exit.OUTPUT_CLOSED


class StoppedError(KeyboardInterrupt):
    """Another process asks this one to end, which cleans up as after Ctrl-C."""


def one_line(text: str) -> str:
    """A text as one line that a terminal shows as it is: what is not printable, escape codes too, is a space."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def fail(code: Exit, message: str) -> NoReturn:
    """Print one line on standard error and exit with ``code``."""
    print(f"error: {one_line(message)}", file=sys.stderr)
    raise SystemExit(int(code))


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a `TallyError`, what the system refuses of a file, and Ctrl-C into one line on standard error and an exit code."""
    try:
        yield
    except OutputClosedError as error:
        # Whoever closed it knows.
        raise SystemExit(int(error.exit_code)) from None
    except TallyError as error:
        fail(error.exit_code, str(error))
    except OSError as error:
        if error.errno in NO_ROOM:
            fail(Exit.NOT_WRITTEN, f"{error.filename or 'a file'}: cannot be written: {error.strerror}")
        fail(Exit.BAD_INPUT, f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))
    except KeyboardInterrupt as stop:
        _stopped(stop)
    except SystemError as error:
        # What a signal raises within compiled code, Python reports as the cause of such an error.
        if isinstance(error.__cause__, KeyboardInterrupt):
            _stopped(error.__cause__)
        raise


def _stopped(stop: KeyboardInterrupt) -> NoReturn:
    if isinstance(stop, StoppedError):
        fail(Exit.TERMINATED, "terminated")
    fail(Exit.INTERRUPTED, "interrupted")
