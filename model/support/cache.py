"""Results that are made once and kept by content: in files whose names say what they were made of.

Beside each of them stands its SHA-256: what is damaged since then is made again.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from filelock import FileLock

from model.support.files import check_room, replacing, write_file

__all__ = ["alone", "are_whole", "kept", "source_hash", "sums"]

SOURCES = (".py", ".v", ".j2", ".cpp")
"""Endings of the files that decide what is made."""


def alone(path: Path) -> FileLock:
    """A context in which no other process makes ``path``; whoever comes second waits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.with_name(path.name + ".lock"))


def sums(files: Mapping[str, Path]) -> str:
    """The SHA-256 of files, a line each, as ``sha256sum`` writes it.

    Parameters
    ----------
    files : mapping
        Of each file the name that it has, or will have, and where it is.
    """
    lines = []
    for name, path in files.items():
        with path.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n")
    return "".join(lines)


def are_whole(folder: Path, told: str) -> bool:
    """Whether the files of a folder are as `sums` told of them: none is missing, and of none a part or a bit."""
    names = [line.partition("  ")[2] for line in told.splitlines()]
    try:
        return bool(names) and told == sums({name: folder / name for name in names})
    except (OSError, ValueError):
        return False


def kept(path: Path, make: Callable[[Path], object], *, beside: Sequence[Path] = ()) -> Path:
    """The file ``path``, made where it is not there, or is not as it was made.

    Parameters
    ----------
    path : Path
        The file.
    make : Callable[[Path], object]
        Writes the path that it is given, which becomes ``path`` when it is whole.
    beside : Sequence[Path]
        Other files of the same folder that ``make`` writes; without them, too, ``path`` is made again.
    """
    names = [path.name, *(other.name for other in beside)]
    told = path.with_name(f"{path.name}.sha256")
    if not _is_kept(path, names, told):
        with alone(path):
            if not _is_kept(path, names, told):
                with replacing(path) as part:
                    make(part)
                    check_room(path)
                    # Before the file itself: where that is, so is this.
                    write_file(told, sums({path.name: part, **{other.name: other for other in beside}}))
    return path


def _is_kept(path: Path, names: Sequence[str], told: Path) -> bool:
    if not path.exists():
        return False
    try:
        text = told.read_text(errors="replace")
    except FileNotFoundError:
        # Of a version that wrote none.
        return all(path.with_name(name).exists() for name in names)
    return [line.partition("  ")[2] for line in text.splitlines()] == names and are_whole(path.parent, text)


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
