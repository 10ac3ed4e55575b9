"""Results that are made once and kept by content: in files whose names say what they were made of."""

import hashlib
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from pathlib import Path

from filelock import FileLock

from model.support.files import replacing

__all__ = ["alone", "kept", "source_hash"]

SOURCES = (".py", ".v", ".j2", ".cpp")
"""Endings of the files that decide what is made."""


def alone(path: Path) -> AbstractContextManager[object]:
    """A context in which no other process makes ``path``; whoever comes second waits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.with_name(path.name + ".lock"))


def kept(path: Path, make: Callable[[Path], object]) -> Path:
    """The file ``path``, made where it is not there.

    Parameters
    ----------
    path : Path
        The file.
    make : Callable[[Path], object]
        Writes the path that it is given, which becomes ``path`` when it is whole.
    """
    if not path.exists():
        with alone(path):
            if not path.exists():
                with replacing(path) as part:
                    make(part)
    return path


def source_hash(*folders: Path, without: Collection[str] = ()) -> str:
    """SHA-256 of all sources anywhere below ``folders``, names included: part of the name of what they make.

    A file that is added, moved, renamed or edited at any depth changes it.

    Parameters
    ----------
    folders : Path
        Folders of sources; files that end otherwise than `SOURCES` do not count.
    without : Collection[str]
        Names of folders directly below those that do not count.

    Raises
    ------
    ValueError : there is no source below one of them
    """
    digest = hashlib.sha256()
    for folder in folders:
        paths = sorted(
            path
            for path in folder.rglob("*")
            if path.suffix in SOURCES and path.relative_to(folder).parts[0] not in without
        )
        if not paths:
            raise ValueError(f"{folder}: must be a folder that holds sources")
        for path in paths:
            content = path.read_bytes()
            digest.update(f"{folder.name}/{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()
