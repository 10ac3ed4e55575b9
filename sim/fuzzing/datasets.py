"""Fuzzing of files of frames: archives of arrays, IDX files, and images in folders."""

import io
import random
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from model.support.datasets import load, read_idx
from model.support.image_folder import find_images
from sim.fuzzing.archives import archive_of, edited_archive
from sim.fuzzing.mutations import noisy
from sim.fuzzing.targets import Target, WrongError

__all__ = ["TARGET"]

_WORDS = ("images", "labels", "x", "y", "x_train", "y_test", "classes", "data")
_IDX = b"\0\0"

_SPLITS = ("train", "test")


@cache
def _seeds() -> tuple[bytes, ...]:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (4, 5, 4, 1), dtype=np.uint8), np.array([0, 2, 1, 0])
    names = np.array(["zero", "one", "two"])
    one_hot = np.eye(3, dtype=np.uint8)[labels]
    archives: list[dict[str, npt.NDArray[Any]]] = [
        {"images": images, "labels": labels},
        {"images": images[..., 0], "labels": labels.astype(np.uint8)},
        {"x": images.astype(np.float32) / 255, "y": labels.astype(np.float32)},
        {"x_train": images, "y_train": labels[:, np.newaxis], "x_test": images[:2], "y_test": labels[:2, np.newaxis]},
        {"data": images.reshape(4, -1).astype(np.float64), "labels": one_hot},
        {"images": images > 99, "labels": labels, "classes": names},
        {"images": rng.integers(0, 256, (2, 3, 3, 3)).astype(np.int16), "labels": labels[:2]},
    ]
    pictures = []
    picture = Image.fromarray(rng.integers(0, 256, (6, 7, 3), dtype=np.uint8))
    for form in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"):
        buffer = io.BytesIO()
        picture.save(buffer, form)
        pictures.append(buffer.getvalue())
    return (*(archive_of(arrays) for arrays in archives), *map(_idx, (images[..., 0], one_hot)), *pictures)


def _idx(array: npt.NDArray[np.uint8]) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def _mutated(content: bytes, chance: random.Random) -> bytes:
    return edited_archive(content, chance, words=_WORDS) if content.startswith(b"PK") else noisy(content, chance)


def _read(content: bytes, folder: Path) -> str:
    if content.startswith(_IDX):
        array = read_idx(content, "data.idx")
        if array.dtype != np.uint8 or array.tobytes() != content[len(content) - array.size :]:
            raise WrongError("an IDX file's array must be its last bytes")
        return "IDX file, as its bytes are"
    if content[:2] == b"PK" or len(content) < 4:
        return _read_archive(content, folder)
    for number, label in ((0, "a"), (1, "a"), (0, "b"), (1, "b")):
        path = folder / "classes" / label / f"{number}.png"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (2, 2), 50 * number + (label == "b")).save(path)
    (folder / "classes" / "a" / "0.png").write_bytes(content)
    found = find_images(folder / "classes").splits(4, 4, 1, test_share=0.5)
    shapes = {split: (found[split].images.shape[1:], found[split].images.dtype) for split in _SPLITS}
    if set(shapes.values()) != {((4, 4, 1), np.dtype(np.uint8))}:
        raise WrongError(f"frames of images must be uint8 of 4x4x1, not {shapes}")
    return "image, of the shape that is asked for"


def _read_archive(content: bytes, folder: Path) -> str:
    path = folder / "data.npz"
    path.write_bytes(content)
    data = load(str(path), "test")
    arrays = _arrays(content)
    same = [array for array in arrays if array.dtype == np.uint8 and array.size == data.images.size]
    if data.images.dtype != np.uint8 or data.images.ndim != 4 or len(data.images) != len(data.labels):
        raise WrongError(f"frames must be uint8 of four axes, not {data.images.dtype} of {data.images.shape}")
    if not any(array.size == data.images.size for array in arrays):
        raise WrongError(f"frames must have as many pixels as an array of the file, not {data.images.size}")
    if len(arrays) == 2 and same and same[0].max() > 1 and not np.array_equal(same[0].reshape(-1), data.images.reshape(-1)):
        raise WrongError("pixels must be as numpy reads them")
    return "archive, as numpy reads it"


def _arrays(content: bytes) -> list[npt.NDArray[Any]]:
    """What numpy reads of an archive; a file may hold more, which nobody reads."""
    found = []
    # What a file's first bytes are decides for `numpy.load`, not whether it is an archive.
    with np.lib.npyio.NpzFile(io.BytesIO(content)) as archive:
        for name in archive.files:
            with suppress(Exception):
                found.append(archive[name])
    return [array for array in found if isinstance(array, np.ndarray)]


TARGET = Target(name="data", ending=".bin", seeds=_seeds, mutated=_mutated, read=_read)
