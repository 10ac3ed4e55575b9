"""A folder of images, one folder inside it for each class, as frames of one size."""

from __future__ import annotations

import hashlib
import io
import logging
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from model.support.dataset import DataError

__all__ = ["SPLITS", "SUFFIXES", "ImageFile", "ImageFolder", "Split", "find_images", "frame_of"]

SPLITS = ("train", "test")

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Files that are taken for images; others are passed over."""

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""What such files may hold: for some others, which a file may hold whatever its name is, Pillow starts other programs."""

# Pillow also logs, which Python shows on standard error where nobody else takes it.
logging.getLogger("PIL").addHandler(logging.NullHandler())

_OPAQUE = ("L", "RGB")
"""Modes of images whose pixels are taken as they are; of others there are three more copies for a while."""

_MOST_BYTES = 400 << 20
"""Memory that an image may take, with four bytes a pixel in each copy of it."""

_TEXT = 200
"""Characters of what is wrong with a file that are shown."""


class ImageFile(NamedTuple):
    """A file, the split it belongs to (``""`` where the folder does not say), and its class."""

    path: Path
    split: str
    label: int


class Frame(NamedTuple):
    """What was read of a file; ``digest`` is a checksum of its bytes."""

    split: str
    digest: bytes
    label: int
    pixels: npt.NDArray[np.uint8]


class Split(NamedTuple):
    """Frames of one split, in an order that mixes the classes.

    Parameters
    ----------
    images : numpy.ndarray
        ``uint8``, ``(frames, height, width, channels)``.
    labels : numpy.ndarray
        ``int64``, ``(frames,)``: places in the names of the classes.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class ImageFolder:
    """The images of a folder.

    Parameters
    ----------
    folder : Path
        The folder.
    classes : tuple of str
        Names of the classes: those of the folders, in alphabetical order.
    files : tuple of ImageFile
        The files.
    passed_over : int
        Files that are no images by their names.
    """

    folder: Path
    classes: tuple[str, ...]
    files: tuple[ImageFile, ...]
    passed_over: int

    def splits(
        self, height: int, width: int, channels: int, *, test_share: float, files: Iterable[ImageFile] | None = None
    ) -> dict[str, Split]:
        """Frames to train on and to test on, cut to shape and scaled (`frame_of`).

        A folder without ``train`` and ``test`` is split class by class. What decides is a checksum of each file: the same
        images give the same split, and copies of an image lie on the same side.

        Parameters
        ----------
        height, width, channels : int
            Of a frame; one channel is grey, three are red, green and blue.
        test_share : float
            Share of each class's images that is for testing, where the folder does not say.
        files : iterable of ImageFile
            The files, where they come with a sign of progress.

        Raises
        ------
        DataError
            A file is no image, or a class has nothing left to train on or to test.
        """
        frames = [Frame(split, *_read(path, label, height, width, channels)) for path, split, label in files or self.files]
        if frames[0].split not in SPLITS:
            frames = [frame for label in range(len(self.classes)) for frame in self._divided(frames, label, test_share)]
        return {split: _mixed([frame for frame in frames if frame.split == split]) for split in SPLITS}

    def _divided(self, frames: list[Frame], label: int, test_share: float) -> list[Frame]:
        of_class = sorted((frame for frame in frames if frame.label == label), key=lambda frame: frame.digest)
        digests = sorted({frame.digest for frame in of_class})
        if len(digests) < 2:
            where = self.folder / self.classes[label]
            raise DataError(f"{where}: images must be two different ones or more, for training and for testing")
        tests = digests[: min(max(round(len(digests) * test_share), 1), len(digests) - 1)]
        return [frame._replace(split=SPLITS[frame.digest in tests]) for frame in of_class]


def find_images(folder: Path) -> ImageFolder:
    """The images of a folder: ``CLASS/*.png`` and so on, or ``train/CLASS/*`` and ``test/CLASS/*``.

    Raises
    ------
    DataError
        There are none, or the folders are not those of classes.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: must be a folder with a folder of images for each class")
    inside = _folders(folder)
    splits = {path.name: path for path in inside} if {path.name for path in inside} == set(SPLITS) else {"": folder}
    names = {split: tuple(path.name for path in _folders(where)) for split, where in splits.items()}
    classes = next(iter(names.values()))
    for split, found in names.items():
        if found != classes:
            odd = sorted(set(found) ^ set(classes))[0]
            raise DataError(f"{splits[split].parent}: train and test must have the same classes, but one has no {odd!r}")
    if len(classes) < 2:
        raise DataError(f"{folder}: folders in it must be two or more, one for each class, not {len(classes)}")
    files, passed_over = [], 0
    for split, where in splits.items():
        for label, name in enumerate(classes):
            paths = sorted(path for path in (where / name).rglob("*") if path.is_file())
            images = [path for path in paths if path.suffix.lower() in SUFFIXES]
            if not images:
                raise DataError(f"{where / name}: must have images ({', '.join(SUFFIXES)}), not none")
            files += [ImageFile(path, split, label) for path in images]
            passed_over += len(paths) - len(images)
    return ImageFolder(folder, classes, tuple(files), passed_over)


def frame_of(image: Image.Image, height: int, width: int, channels: int) -> npt.NDArray[np.uint8]:
    """The middle of an image, as much as has the frame's shape, scaled to it; ``(height, width, channels)``.

    A camera's note of which side is up is followed, by turning the image itself; what is transparent is black.
    """
    ImageOps.exif_transpose(image, in_place=True)
    opaque = image
    if image.mode not in _OPAQUE or "transparency" in image.info:
        shown = image.convert("RGBA")
        opaque = Image.alpha_composite(Image.new("RGBA", shown.size, "black"), shown)
    fitted = ImageOps.fit(opaque.convert("L" if channels == 1 else "RGB"), (width, height), Image.Resampling.LANCZOS)
    return np.asarray(fitted, dtype=np.uint8).reshape(height, width, channels)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _read(path: Path, label: int, height: int, width: int, channels: int) -> tuple[bytes, int, npt.NDArray[np.uint8]]:
    try:
        # Of a file Python makes room for as much as a part of it claims to be; of bytes, for what there is.
        content = path.read_bytes()
        digest = hashlib.sha256(content).digest()
        with warnings.catch_warnings():
            # What Pillow makes do with is told nobody; an image that claims to be huge is not decoded.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                _check_size(image)
                return digest, label, frame_of(image, height, width, channels)
    except Exception as error:
        # Pillow reports a damaged file by whatever its decoders happen to raise.
        raise DataError(f"{path}: must be an image that can be read: {str(error)[:_TEXT] or type(error).__name__}") from error


def _check_size(image: Image.Image) -> None:
    """Refuse an image that would take too much memory, before it is decoded."""
    copies = 1 if image.mode in _OPAQUE and "transparency" not in image.info else 4
    most = _MOST_BYTES // (4 * copies)
    if image.width * image.height > most:
        raise DataError(f"at most {most} pixels of mode {image.mode}, not {image.width} x {image.height}")


def _mixed(frames: list[Frame]) -> Split:
    ordered = sorted(frames, key=lambda frame: (frame.digest, frame.label))
    return Split(np.stack([frame.pixels for frame in ordered]), np.array([frame.label for frame in ordered], np.int64))
