"""Standard streams that a command can rely on, however it was started."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

from model.support.errors import OutputClosedError, OutputError

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["standard_streams"]


class _Output(io.FileIO):
    """A standard stream. What it cannot take is lost: standard output says so, once."""

    def __init__(self, descriptor: int, *, loud: bool) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._loud, self._lost = loud, False

    def write(self, content: Buffer, /) -> int:
        if not self._lost:
            try:
                return super().write(content)
            except OSError as error:
                # Whatever else is in the buffer has to go somewhere.
                self._lost = True
                if self._loud:
                    lost = OutputClosedError if error.errno == errno.EPIPE else OutputError
                    raise lost(f"standard output: {error.strerror}") from None
        return memoryview(content).nbytes


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """A context in which all three standard streams are there, and take any text.

    One that was closed when the process started is `os.devnull`: otherwise Python writes what is for standard error to standard
    output, and the next file that is opened takes the stream's place. Standard output that cannot be written is an
    `OutputError`; standard error loses what it cannot take, and changes nothing else. What the encoding of a stream has no
    letter for is replaced.
    """
    before = sys.stdin, sys.stdout, sys.stderr
    _occupied()
    if sys.stdin is None:
        sys.stdin = open(os.devnull)  # noqa: SIM115 - for as long as the process runs
    sys.stdout = _robust(sys.stdout, sys.__stdout__, 1)
    sys.stderr = _robust(sys.stderr, sys.__stderr__, 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stdin, sys.stdout, sys.stderr = before


def _occupied() -> None:
    """Nothing that is opened from now on can be one of the standard streams by accident."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDONLY if descriptor == 0 else os.O_WRONLY)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
            os.set_inheritable(descriptor, True)


def _robust(stream: TextIO | None, original: TextIO | None, descriptor: int) -> TextIO:
    """A standard stream in the place of one that is closed or may fail; another that stands for it, as it is."""
    if stream is None:
        return open(os.devnull, "w", errors="replace")
    if stream is original and isinstance(stream, io.TextIOWrapper) and _is(stream, descriptor):
        stream.flush()
        return io.TextIOWrapper(
            io.BufferedWriter(_Output(descriptor, loud=descriptor == 1)),
            encoding=stream.encoding,
            errors="replace",
            newline=None,
            line_buffering=descriptor == 2 or stream.line_buffering,
            write_through=stream.write_through,
        )
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")
    return stream


def _is(stream: io.TextIOWrapper, descriptor: int) -> bool:
    try:
        return stream.fileno() == descriptor
    except (OSError, ValueError):
        return False
