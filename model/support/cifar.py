"""CIFAR-10: the published binary version, or JPEG copies of its images, which are smaller and not the same pixels."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import itertools
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, features

from model.support.cache import kept
from model.support.cli import make_console, progress_bar
from model.support.dataset import DataError, Dataset
from model.support.download import download
from model.support.files import opened, write_file
from model.support.names import shortened
from model.support.npz import ArchiveError, Npz

__all__ = ["CLASSES", "load_cifar10"]

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_NAME = "cifar10"
_COPIES_NAME = "cifar10 (lossy JPEG copies)"
"""What reports call the copies: figures of them are not figures of the published images."""

_SHAPE = (32, 32, 3)
_PIXELS = 32 * 32 * 3
_TIMEOUT_S = 30
_CHUNK = 1 << 20
_ARRAYS = ("jpeg", "offsets", "labels", "classes")
_MOST_FRAMES = 60_000
_MOST_BYTES = 1 << 29
"""What the arrays of a file of copies may hold, several times what they do."""
_TAR_ERRORS = (tarfile.TarError, OSError, EOFError, zlib.error)


@dataclass(frozen=True)
class _Published:
    """The published archive of records: a byte of label and an image, its channels one after the other.

    Parameters
    ----------
    url : str
        Where it is published.
    size : int
        Bytes.
    sha256 : str
        Of the archive as it is; its published MD5 is c32a1d4ab5d03f1284b67883e8d87530.
    records : int
        In each of its files.
    """

    url: str
    size: int
    sha256: str
    records: int

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


_PUBLISHED = _Published(
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    size=170_052_171,
    sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    records=10_000,
)
_MEMBERS = {
    "train": tuple(f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6)),
    "test": ("cifar-10-batches-bin/test_batch.bin",),
}


def load_cifar10(split: str, folders: Sequence[Path], cache: Path) -> Dataset:
    """Frames of ``(32, 32, 3)`` in ten classes.

    Parameters
    ----------
    split : str
        ``"train"`` or ``"test"``.
    folders : sequence of Path
        Where to look, in this order: in each, the published archive lies directly or in ``cifar10/``, and goes before the
        copies ``cifar10/train.npz`` and ``cifar10/test.npz``.
    cache : Path
        The user's cache, in which what is downloaded and what is decoded are kept.

    Raises
    ------
    DataError
        Nothing is found, or what is found is damaged.
    """
    for folder in folders:
        for path in (folder / _PUBLISHED.name, folder / "cifar10" / _PUBLISHED.name):
            if path.is_file():
                return _published(_checked(path), split, str(path))
        copies = folder / "cifar10" / f"{split}.npz"
        if copies.is_file():
            return _copies(copies, cache / "cifar10")
    return _published(_download(cache / "cifar10" / _PUBLISHED.name), split, _PUBLISHED.name)


def _checked(path: Path) -> bytes:
    try:
        with opened(path) as file:
            # A byte more than there should be shows that this is another file, whatever its length.
            content = file.read(_PUBLISHED.size + 1)
    except OSError as error:
        raise DataError(f"{path}: archive of CIFAR-10 must be readable: {error.strerror}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != _PUBLISHED.sha256:
        raise DataError(f"{path}: SHA-256 must be {_PUBLISHED.sha256}, not {found}")
    return content


def _published(content: bytes, split: str, where: str) -> Dataset:
    """The frames of a split of the archive."""
    size = _PUBLISHED.records * (1 + _PIXELS)
    parts: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            for member in archive:
                if member.name not in _MEMBERS[split]:
                    continue
                if not member.isfile() or member.size != size:
                    raise DataError(f"{where}: {member.name} must be a file of {size} bytes, not {member.size}")
                stream = archive.extractfile(member)
                parts[member.name] = b"" if stream is None else stream.read()
                if len(parts) == len(_MEMBERS[split]):
                    break
    except _TAR_ERRORS as error:
        raise DataError(f"{where}: archive of CIFAR-10 must be readable: {error}") from error
    if lacking := [name for name in _MEMBERS[split] if name not in parts]:
        raise DataError(f"{where}: archive of CIFAR-10 must hold {lacking[0]}")
    records = np.frombuffer(b"".join(parts[name] for name in _MEMBERS[split]), np.uint8).reshape(-1, 1 + _PIXELS)
    labels = records[:, 0].astype(np.int64)
    _check_labels(where, labels)
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Dataset(_NAME, np.ascontiguousarray(images), labels, classes=CLASSES)


def _download(path: Path) -> bytes:
    """The archive from where it is published, kept as ``path``."""
    url, size = _PUBLISHED.url, _PUBLISHED.size
    content = bytearray()
    try:
        with download(url, timeout=_TIMEOUT_S) as response, progress_bar(make_console(stderr=True)) as bar:
            task = bar.add_task(_PUBLISHED.name, total=size)
            # A byte more than there should be shows that this is another file, whatever its length.
            while len(content) <= size and (part := response.read(min(_CHUNK, size + 1 - len(content)))):
                content += part
                bar.advance(task, len(part))
        found = hashlib.sha256(content).hexdigest()
        reason = None if found == _PUBLISHED.sha256 else f"SHA-256 must be {_PUBLISHED.sha256}, not {found}"
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = str(getattr(error, "reason", None) or error)
    if reason is not None:
        raise DataError(
            f"{_PUBLISHED.name} must be in --data-dir, TALLY_DATA, ../shared or {path.parent}, or come from where it is "
            f"published ({url}: {reason}): put it into a folder and name that with --data-dir"
        )
    # The content is in hand and checked; a cache that cannot be written costs only the next download.
    with contextlib.suppress(OSError):
        write_file(path, bytes(content))
    return bytes(content)


def _copies(path: Path, cache: Path) -> Dataset:
    """The frames of a file of JPEG copies."""
    jpeg, offsets, labels = _read_copies(path)
    _check_labels(str(path), labels)
    # Decoders differ in how they round.
    made_of = f"{PIL.__version__} {features.version_codec('jpg')} ".encode() + offsets.tobytes() + jpeg.tobytes()
    made: list[np.ndarray] = []

    def decode(part: Path) -> None:
        made.append(_decoded(path, jpeg.tobytes(), offsets))
        with part.open("wb") as file:
            np.save(file, made[0])

    try:
        images = np.load(kept(cache / f"{hashlib.sha256(made_of).hexdigest()}.npy", decode), allow_pickle=False)
    except (OSError, ValueError, EOFError):
        # A cache that cannot be written, or was damaged, costs only time.
        images = made[0] if made else _decoded(path, jpeg.tobytes(), offsets)
    note = f"{path}: images are lossy JPEG copies of CIFAR-10, not the published pixels"
    return Dataset(_COPIES_NAME, images, labels, (note,), CLASSES)


def _read_copies(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bytes of all images, where each begins, and labels."""
    try:
        with Npz(path, most_bytes=_MOST_BYTES, kinds="biufU") as archive:
            arrays = {name: archive.array(name) for name in archive.names if name in _ARRAYS}
    except (OSError, ArchiveError) as error:
        raise DataError(f"{path}: copies of CIFAR-10 must be a readable .npz file: {shortened(str(error))}") from error
    if lacking := [name for name in _ARRAYS if name not in arrays]:
        raise DataError(f"{path}: copies of CIFAR-10 must have the arrays {', '.join(_ARRAYS)}: {lacking[0]} is missing")
    jpeg, offsets, labels, classes = (arrays[name] for name in _ARRAYS)
    if jpeg.dtype != np.uint8 or jpeg.ndim != 1:
        raise DataError(f"{path}: jpeg must be bytes in one row, not {jpeg.dtype} of shape {jpeg.shape}")
    for name, array in (("offsets", offsets), ("labels", labels)):
        if array.dtype.kind not in "iu" or array.ndim != 1:
            raise DataError(f"{path}: {name} must be integers in one row, not {array.dtype} of shape {array.shape}")
    if not np.array_equal(classes, CLASSES):
        raise DataError(f"{path}: classes must be {', '.join(CLASSES)}, in this order")
    if len(labels) > _MOST_FRAMES:
        raise DataError(f"{path}: labels must be at most {_MOST_FRAMES:,}, not {len(labels):,}")
    if len(labels) == 0 or len(offsets) != len(labels) + 1:
        raise DataError(f"{path}: offsets must be one more than the {len(labels)} labels, not {len(offsets)}")
    offsets = offsets.astype(np.int64)
    if offsets[0] != 0 or offsets[-1] != len(jpeg) or (np.diff(offsets) <= 0).any():
        raise DataError(f"{path}: offsets must rise from 0 to the {len(jpeg)} bytes of jpeg, an image between each two")
    return jpeg, offsets, labels.astype(np.int64)


def _decoded(path: Path, jpeg: bytes, offsets: np.ndarray) -> np.ndarray:
    images = np.empty((len(offsets) - 1, *_SHAPE), np.uint8)
    for number, (start, end) in enumerate(itertools.pairwise(offsets.tolist())):
        try:
            with Image.open(io.BytesIO(jpeg[start:end]), formats=("JPEG",)) as image:
                # The size stands in the header: nothing is decoded that is not of it.
                found = (image.height, image.width, len(image.getbands()))
                pixels = np.asarray(image) if found == _SHAPE else None
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(f"{path}: image {number} must be a whole JPEG file: {error}") from error
        if pixels is None:
            raise DataError(f"{path}: image {number} must be of (height, width, channels) {_SHAPE}, not {found}")
        images[number] = pixels
    return images


def _check_labels(where: str, labels: np.ndarray) -> None:
    if labels.min() < 0 or labels.max() >= len(CLASSES):
        wrong = int(np.flatnonzero((labels < 0) | (labels >= len(CLASSES)))[0])
        raise DataError(f"{where}: label {wrong} must be within 0..{len(CLASSES) - 1}, not {int(labels[wrong])}")
