"""The user's own frames and labels, from an ``.npz`` file, as users' tools write them.

What a file means is read where it can only mean one thing (floats from 0 to 1, labels that are one-hot), and said; what could
mean several is refused in one line.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from model.support.dataset import DataError, Dataset
from model.support.files import opened
from model.support.names import printable, shortened
from model.support.npz import ArchiveError, Npz

__all__ = ["load_npz"]

_OF_ONE_SPLIT = (("x_{0}", "y_{0}"), ("{0}_images", "{0}_labels"), ("{0}_x", "{0}_y"), ("{0}_data", "{0}_labels"))
_PLAIN = (("images", "labels"), ("x", "y"), ("data", "labels"))
_CLASSES = "classes"
_FULL = 255

_OVERSHOOT = 0.1
"""Part of full scale by which resampling may leave it."""

_MOST_BYTES = 1 << 32
"""What the arrays of a data set may hold: a small file may claim to be any number of frames."""

_KINDS = "biufcU"
"""Kinds of arrays that are read, to say what they must be instead, and names."""


def load_npz(path: Path, split: str) -> Dataset:
    """Frames and labels of a file.

    Parameters
    ----------
    path : Path
        The file. Its arrays are ``images`` and ``labels``, ``x`` and ``y``, ``x_train`` and ``y_train``, or the like;
        ``classes`` are names of the classes.
    split : str
        Which arrays to take of a file with several splits; a file that has only one is taken whole for either.

    Raises
    ------
    DataError
        The file cannot be read, or what it means cannot be known.
    """
    if not path.is_file():
        raise DataError(f"{path}: dataset must be an existing .npz file")
    try:
        with opened(path) as file:
            start = file.read(6)
        if start == b"\x93NUMPY":
            raise DataError(f"{path}: dataset must be an archive of arrays, not one array")
        if not start.startswith(b"PK"):
            raise DataError(f"{path}: dataset must be an .npz file, as numpy.savez writes it, not one that begins with {start!r}")
        with Npz(path, most_bytes=_MOST_BYTES, kinds=_KINDS) as archive:
            names, name_notes = _names(path, archive.names, split)
            images, labels = (archive.array(name) for name in names)
            classes = archive.array(_CLASSES) if _CLASSES in archive.names else None
    except OSError as error:
        raise DataError(f"{path}: dataset must be readable: {error.strerror}") from None
    except ArchiveError as error:
        raise DataError(f"{path}: dataset: {shortened(str(error))}") from None
    images, image_notes = _pixels(path, _frames(path, images))
    labels, label_notes = _classes(path, labels, len(images))
    notes = (*name_notes, *image_notes, *label_notes)
    return Dataset(str(path), images, labels, tuple(f"{path}: {note}" for note in notes), _class_names(path, classes))


def _of_split(split: str) -> list[tuple[str, str]]:
    """The names that arrays of a split have."""
    return [(images.format(split), labels.format(split)) for images, labels in _OF_ONE_SPLIT]


def _names(path: Path, files: Sequence[str], split: str) -> tuple[tuple[str, str], list[str]]:
    """Names of the arrays with the frames and their labels, and what is to be said of the choice."""
    # The name itself, in small letters, comes last here and counts.
    known = {name.lower(): name for name in sorted(files)}
    # Names that say the split come before those that say none, and those before the other split's.
    own, plain, other = (
        [(known[images], known[labels]) for images, labels in pairs if images in known and labels in known]
        for pairs in (_of_split(split), _PLAIN, _of_split("test" if split == "train" else "train"))
    )
    if found := [*own, *plain] or other:
        names, *rest = found
        for name in names:
            _check_one_is_meant(path, name, files)
        # A pair for each split is as it should be; any other pair leaves open what was meant.
        rest += other if names in plain else []
        note = f"arrays are {names[0]} and {names[1]}"
        if rest:
            return names, [f"{note}, not {' or '.join(f'{images} and {labels}' for images, labels in rest)}"]
        return names, [note] if names != ("images", "labels") else []
    given = shortened(", ".join(map(repr, sorted(known.values()))) or "none")
    raise DataError(f"{path}: arrays must be 'images' and 'labels', 'x' and 'y', or 'x_train' and 'y_train', not {given}")


def _check_one_is_meant(path: Path, name: str, files: Iterable[str]) -> None:
    """Refuse a name that another differs from in capital letters only; the one in small letters is the name itself."""
    alike = sorted(other for other in files if other.lower() == name.lower())
    if len(alike) > 1 and name != name.lower():
        raise DataError(f"{path}: array {name.lower()!r} must be there once, not as {' and '.join(map(repr, alike))}")


def _frames(path: Path, images: np.ndarray) -> np.ndarray:
    """Frames ``(frames, height, width, channels)``."""
    if images.ndim == 2:
        images = images[:, np.newaxis, np.newaxis, :]
    elif images.ndim == 3:
        images = images[..., np.newaxis]
    if images.ndim != 4:
        raise DataError(f"{path}: images must be of shape (frames, height, width), (frames, height, width, channels) or "
                        f"(frames, features), not {images.shape}")
    if 0 in images.shape[1:]:
        raise DataError(f"{path}: images must be of a height, width and channels of at least 1, "
                        f"not {images.shape[1:]}")
    return images


def _pixels(path: Path, images: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Pixels of full scale 255, and what was taken as full scale where it was another."""
    kind, dtype = images.dtype.kind, images.dtype
    if kind == "b":
        return images.astype(np.uint8) * np.uint8(_FULL), ["pixels are of type bool: True is taken as full scale"]
    if kind not in "iuf":
        raise DataError(f"{path}: images must be numbers, not of type {dtype}")
    least, most = (images.min(), images.max()) if images.size else (0, 0)
    if not (np.isfinite(least) and np.isfinite(most)):
        raise DataError(f"{path}: images must be finite numbers")
    found = f"{least:g}..{most:g}"
    if kind == "f" and (least < 0 or most > 1) and -_OVERSHOOT <= least and most <= 1 + _OVERSHOOT:
        raise DataError(f"{path}: images of type {dtype} must be within 0..1, not {found}: resampling overshoots; clip them "
                        "to 0..1")
    if least < 0:
        raise DataError(f"{path}: images must be 0 or more, not {found}; give pixels as they are before they are normalized")
    if kind == "f" and 0 < most <= 1:
        # Full precision first: float16 has not enough for 255 steps near 1.
        scaled = np.rint(images.astype(np.float64) * _FULL).astype(np.uint8)
        return scaled, [f"pixels are of type {dtype} within {found}: 1.0 is taken as full scale"]
    if kind == "f" and _FULL * _OVERSHOOT < most <= _FULL and (fractions := images[images != np.rint(images)]).size:
        raise DataError(f"{path}: images of type {dtype} must be within 0..1, or whole numbers within 0..{_FULL}, not {found} "
                        f"with {fractions[0]:g} among them; round them")
    if most > _FULL or (kind == "f" and (images != np.rint(images)).any()):
        raise DataError(f"{path}: images of type {dtype} must be within 0..1, or whole numbers within 0..{_FULL}, not {found}"
                        if kind == "f" else f"{path}: images must be within 0..{_FULL}, not {found}")
    if most == 1:
        return images.astype(np.uint8) * np.uint8(_FULL), ["pixels are 0 or 1: 1 is taken as full scale"]
    notes = [] if dtype == np.uint8 else [f"pixels are of type {dtype} within {found}: {_FULL} is taken as full scale"]
    return images.astype(np.uint8), notes


def _classes(path: Path, labels: np.ndarray, frames: int) -> tuple[np.ndarray, list[str]]:
    """A class a frame, and how it was read."""
    if labels.dtype.kind not in "biuf":
        raise DataError(f"{path}: labels must be numbers, not of type {labels.dtype}")
    if labels.dtype.kind == "f" and not (np.isfinite(labels).all() and (labels == np.rint(labels)).all()):
        odd = labels[~(labels == np.rint(labels))]
        raise DataError(f"{path}: labels must be whole numbers, not {odd.flat[0] if odd.size else labels.max():g}")
    # As Python's numbers: float16 does not hold the limits.
    least, most = (labels.min().item(), labels.max().item()) if labels.size else (0, 0)
    if not -(2**31) <= least <= most < 2**31:
        raise DataError(f"{path}: labels must be within 0..{2**31 - 1}, not {least:g}..{most:g}")
    classes, shape = labels.astype(np.int64), labels.shape
    if labels.ndim == 2 and (shape[1] == 1 or (shape[0] == 1 and frames > 1)):
        return classes.reshape(-1), [f"labels of shape {shape} are taken as one per frame"]
    if labels.ndim == 2 and ((classes == 0) | (classes == 1)).all() and (classes.sum(axis=1) == 1).all():
        return classes.argmax(axis=1), [f"labels of shape {shape} are taken as one-hot"]
    if labels.ndim != 1:
        raise DataError(f"{path}: labels must be of shape (frames,) or one-hot, (frames, classes), not {shape}")
    return classes, []


def _class_names(path: Path, classes: np.ndarray | None) -> tuple[str, ...]:
    """Names of the classes; none where the array is something else, as a number of classes."""
    if classes is None or classes.dtype.kind != "U" or classes.ndim != 1:
        return ()
    try:
        # A page and a terminal show them.
        names = tuple(" ".join(printable(name).split()) for name in classes.tolist())
    except (ValueError, SystemError):
        raise DataError(f"{path}: classes must be names, not numbers that no letter has") from None
    if "" in names or len(set(names)) < len(names):
        raise DataError(f"{path}: classes must be names that differ, not {shortened(', '.join(map(repr, names)))}")
    return names
