"""Measurements of the study of the paper: each is kept by what it was made of, so that a second run is quick."""

import ast
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich.progress import Progress

import model
from model.support.cache import kept, source_hash
from model.support.dataset import Dataset
from model.support.results import to_json

__all__ = ["Kept", "sources_of"]

_MODEL = Path(model.__path__[0])
_STUDIES = "model.studies."

_APART = ("benchmark", "reports", "studies", "training", "zoo", *(f"{name}.py" for name in (
    "check", "convert", "estimate", "evaluate", "finetune", "from_torch", "paper", "paper_networks", "robustness", "small",
    "suite", "tradeoff", "train", "two_layer",
)))  # fmt: skip
"""What of `model` has no part in a measurement, and commands; of the studies only those count that one is made of."""

T = TypeVar("T")


class Kept:
    """Measures what was not measured before, with the same sources, networks and frames.

    Parameters
    ----------
    frames : Sequence[Dataset]
        The frames that all measurements are made on.
    cache : Path
        Folder in which results are kept.
    bar : Progress or None
        Shows progress; plain lines where there is none.
    """

    def __init__(self, frames: Sequence[Dataset], cache: Path, bar: Progress | None) -> None:
        self.cache, self.bar, self._frames = cache, bar, len(frames[0])
        digest = hashlib.sha256(source_hash(_MODEL, without=_APART).encode())
        for data in frames:
            digest.update(np.ascontiguousarray(data.images).tobytes() + data.labels.tobytes())
        self._made_of = digest.hexdigest()

    def measured(
        self,
        title: str,
        read: Callable[[Any], T],
        make: Callable[[Callable[[int], None]], T],
        *,
        source: str,
        files: Sequence[Path] = (),
        frames: int | None = None,
        settings: object = None,
    ) -> T:
        """What ``make`` finds, or found before and ``read`` reads.

        Parameters
        ----------
        title : str
            What is measured; no two have the same.
        read : callable
            Makes a result from its JSON object.
        make : callable
            Measures; given what to call with the number of frames finished.
        source : str
            The study that measures, a module: with all of the studies that it imports, part of what the result is made of.
        files : Sequence[Path]
            The networks.
        frames : int, optional
            Frames that it goes through; all of them by default.
        settings : object
            What else it depends on.
        """
        digest = hashlib.sha256(f"{self._made_of} {title} {settings!r}".encode())
        for path in (*sources_of(source), *files):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
        task = self.bar.add_task(title, total=frames or self._frames) if self.bar else None
        if self.bar is None:
            print(title, file=sys.stderr, flush=True)

        def done(count: int) -> None:
            if self.bar and task is not None:
                self.bar.advance(task, count)

        path = self.cache / f"{digest.hexdigest()[:24]}.json"

        def found() -> T:
            kept(path, lambda part: part.write_text(to_json(make(done))))
            return read(json.loads(path.read_text()))

        try:
            result = found()
        except (ValueError, TypeError, KeyError):
            if not path.exists():
                raise
            # Not what was written: something else has damaged the file.
            path.unlink()
            result = found()
        if self.bar and task is not None:
            self.bar.update(task, completed=frames or self._frames)
        return result


def sources_of(module: str) -> tuple[Path, ...]:
    """The files of a study and of all studies that it imports, in order of their names."""
    pending, found = [module], set()
    while pending:
        name = pending.pop()
        path = _MODEL.joinpath(*name.split(".")[1:])
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if path in found or not path.is_file():
            continue
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(_STUDIES):
                # What is imported may be modules of that folder; of a module's own names there are no files.
                pending += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(sorted(found))
