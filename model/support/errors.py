"""Exit codes of all commands, and the one line that goes with them."""

import enum
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn

__all__ = ["DoesNotFitError", "Exit", "ToolMissingError", "fail", "one_line_errors"]


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
    """Two models of the same network disagree in a spike."""
    TOOL_MISSING = 6
    """An external tool is not installed."""
    TOOL_FAILED = 7
    """An external tool ran and failed."""
    NO_DEVICE = 8
    """No board answers, or one with another network."""


class DoesNotFitError(RuntimeError):
    """The design needs more than the device has."""


class ToolMissingError(RuntimeError):
    """An external tool is not installed; the message says how to get it."""


def fail(code: Exit, message: str) -> NoReturn:
    """Print one line on standard error and exit with ``code``."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(int(code))


@contextmanager
def one_line_errors(codes: Mapping[type[Exception], Exit]) -> Iterator[None]:
    """Turn exceptions of these types into one line and the exit code of the first type that matches.

    `DoesNotFitError` has the same code everywhere.
    """
    codes = {DoesNotFitError: Exit.DOES_NOT_FIT, **codes}
    try:
        yield
    except tuple(codes) as error:
        fail(next(code for kind, code in codes.items() if isinstance(error, kind)), str(error))
