"""Writing files whole or not at all, and reading JSON that says one thing only."""

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from model.support.errors import BadInputError

__all__ = ["check_apart", "checked_json", "replacing", "write_all", "write_file"]


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
    part = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_file(path: Path | str, content: bytes | str) -> None:
    """Write a file, whole or not at all.

    Parameters
    ----------
    path : Path or str
        The file; folders on the way are made.
    content : bytes or str
        What it holds; text is UTF-8, its lines as they are.
    """
    with replacing(Path(path)) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


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
    BadInputError
        It cannot be written; the message names the folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_file(folder / name, content)
    except OSError as error:
        raise BadInputError(f"{folder}: cannot be written: {error.strerror}") from None


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
