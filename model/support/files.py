"""Writing files whole or not at all, and reading JSON that says one thing only."""

import errno
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NoReturn

from model.support.errors import NO_ROOM, BadInputError, OutputError

__all__ = [
    "check_apart",
    "check_room",
    "check_writable_file",
    "check_writable_folder",
    "checked_json",
    "naming",
    "not_written",
    "opened",
    "read_sealed",
    "replacing",
    "write_all",
    "write_file",
    "write_sealed",
]

_ROOM_BYTES = 1 << 16
"""More than a tool writes at once: where this has room, what the tool wrote had, too."""

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


def opened(path: Path | str) -> IO[bytes]:
    """A file to read, and only that: a device or a pipe may never end, and opening one may wait forever.

    Raises
    ------
    OSError
        It cannot be read, or is no file; ``strerror`` says which.
    """
    # A pipe without a writer opens at once so.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
        if kind == stat.S_IFDIR:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if kind != stat.S_IFREG:
            raise OSError(errno.EINVAL, f"must be a file, not {_KINDS.get(kind, 'anything else')}", str(path))
        os.set_blocking(descriptor, True)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def check_writable_folder(option: str, folder: Path) -> None:
    """Raise `BadInputError` where results cannot be written to a folder, before the work that finds them.

    Parameters
    ----------
    option : str
        The option that names the folder, for the message.
    folder : Path
        The folder. Where it is not there yet it is not made: only a folder on the way to it is tried.
    """
    try:
        there = next(each for each in (folder, *folder.absolute().parents) if os.path.lexists(each))
        if not there.is_dir():
            at = "" if there == folder else f": {str(there)!r} is none"
            raise BadInputError(f"{option} must be a folder, not {str(folder)!r}{at}")
        _try(there)
    except OSError as error:
        raise BadInputError(f"{option} must be a folder that can be written to, not {str(folder)!r}: {error.strerror}") from None


def check_writable_file(option: str, path: Path) -> None:
    """Raise `BadInputError` where a file cannot be written, before the work that finds what is in it.

    Parameters
    ----------
    option : str
        The option that names the file, for the message.
    path : Path
        The file; what is there already is left as it is.
    """
    try:
        if path.exists() and not path.is_file():
            what = _KINDS.get(stat.S_IFMT(path.stat().st_mode), "anything else")
            raise BadInputError(f"{option} must be a file, not {what}, {str(path)!r}")
        there = next(each for each in path.absolute().parents if os.path.lexists(each))
        if not there.is_dir():
            raise BadInputError(f"{option} must be in a folder, not {str(path)!r}: {str(there)!r} is none")
        _try(there)
    except OSError as error:
        raise BadInputError(f"{option} must be a file that can be written, not {str(path)!r}: {error.strerror}") from None


def _try(folder: Path) -> None:
    """Write a file and remove it."""
    part = folder / f".{secrets.token_hex(8)}.part"
    try:
        part.touch(exist_ok=False)
    finally:
        part.unlink(missing_ok=True)


def not_written(path: Path | str, error: OSError) -> NoReturn:
    """Raise what says in one line that a file or folder could not be written, and why."""
    raise (OutputError if error.errno in NO_ROOM else BadInputError)(f"{path}: cannot be written: {error.strerror}") from None


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """A context that writes ``path``: where the disk is full the system does not say which file it had no room for."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM and error.filename is None:
            error.filename = str(path)
        raise


def check_room(path: Path) -> None:
    """Raise `OSError`, as writing ``path`` would, where its disk is full.

    A tool whose output had no room may have written a part of it, and say nothing.
    """
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with naming(path):
            # Nothing that the file system could make smaller.
            part.write_bytes(os.urandom(_ROOM_BYTES))
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write that becomes ``path`` when the block ends, and is removed where the block fails.

    Whoever reads ``path`` finds what was there before or what is there after, never a part; two processes that write it at once
    do not mix. Folders on the way are made.

    Parameters
    ----------
    path : Path
        The file.

    Yields
    ------
    Path
        The file to write, in the same folder; it is not there yet.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A letter of the name may be four bytes of the 255 that a name may have.
    part = path.with_name(f".{path.name[:50]}.{secrets.token_hex(8)}.part")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        if error.filename is None or str(error.filename) == str(part):
            # The system does not say which file a disk had no room for, and nobody knows the part's name.
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        part.unlink(missing_ok=True)


def write_file(path: Path | str, content: bytes | str) -> None:
    """Write a file, whole or not at all.

    Parameters
    ----------
    path : Path or str
        The file; folders on the way are made.
    content : bytes or str
        What it holds; text is UTF-8, its lines as they are. Half a letter, as of a file's name that is not UTF-8, is replaced.
    """
    with replacing(Path(path)) as part:
        part.write_bytes(content.encode(errors="replace") if isinstance(content, str) else content)


def write_sealed(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all, with the SHA-256 of what it holds before it."""
    write_file(path, hashlib.sha256(content).digest() + content)


def read_sealed(path: Path) -> bytes:
    """What `write_sealed` wrote.

    Raises
    ------
    ValueError
        It is another file, or is damaged.
    """
    content = path.read_bytes()
    size = hashlib.sha256().digest_size
    if hashlib.sha256(content[size:]).digest() != content[:size]:
        raise ValueError(f"{path}: must be as it was written")
    return content[size:]


def write_all(folder: Path, files: Mapping[str, bytes | str]) -> None:
    """Write a command's results.

    Parameters
    ----------
    folder : Path
        The folder, which is made; with no files it is only tried whether it can be.
    files : mapping
        Of each file its name and what it holds; each is written whole or not at all.

    Raises
    ------
    BadInputError, OutputError
        It cannot be written, or the disk is full; the message names the folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not files:
            _try(folder)
        for name, content in files.items():
            write_file(folder / name, content)
    except OSError as error:
        not_written(folder, error)


def check_apart(option: str, out: Path, others: Mapping[str, Path | None]) -> None:
    """Refuse to write a file over another one that the same command reads or writes.

    Parameters
    ----------
    option : str
        The option that names the file to write.
    out : Path
        The file to write.
    others : mapping
        Of each other file what it is, for the message, and its path; None where there is none.

    Raises
    ------
    BadInputError
        It is one of them, whatever links or folders the two paths go through.
    """
    for what, path in others.items():
        if path is not None and os.path.realpath(out) == os.path.realpath(path):
            raise BadInputError(f"{option} must not be {what}, {str(out)!r}: it would be overwritten")


def checked_json(text: bytes) -> Any:
    """What JSON text says, with nothing in it that could be read in two ways.

    Parameters
    ----------
    text : bytes
        The text, in UTF-8.

    Returns
    -------
    Any
        What it says.

    Raises
    ------
    ValueError
        It is not JSON in UTF-8, is nested beyond reason, or an object has a field twice.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            seen: set[str] = set()
            twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            raise ValueError(f"field {twice!r} must not be there twice")
        return found

    try:
        return json.loads(text.decode(), object_pairs_hook=unique)
    except RecursionError:
        raise ValueError("must not be nested so deeply") from None
