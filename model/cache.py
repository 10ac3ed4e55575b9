"""Results that are made once and kept by content: in files whose names say what they were made of."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from filelock import FileLock

__all__ = ["alone", "kept"]


def alone(path: Path) -> AbstractContextManager[object]:
    """A context in which no other process makes ``path``; whoever comes second waits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.with_name(path.name + ".lock"))


def kept(path: Path, make: Callable[[Path], object]) -> Path:
    """The file ``path``, made where it is not there.

    Parameters
    ----------
    path : the file
    make : writes the path that it is given, which becomes ``path`` when it is whole
    """
    if not path.exists():
        with alone(path):
            if not path.exists():
                part = path.with_name(path.name + ".part")
                make(part)
                part.replace(path)
    return path
