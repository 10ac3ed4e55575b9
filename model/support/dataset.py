"""Frames with their classes, and how they suit a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from model.support.errors import BadInputError
from model.support.names import printable

__all__ = ["DataError", "Dataset"]


class DataError(BadInputError):
    """Data that cannot be found, or is not what it must be. The message is one line for the user."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Frames and their classes.

    Parameters
    ----------
    name : str
        What the data is, for reports.
    images : numpy.ndarray
        ``uint8``, shape ``(frames, height, width, channels)``; 255 is full scale.
    labels : numpy.ndarray
        ``int64``, shape ``(frames,)``; classes count from 0.
    notes : tuple of str
        How the frames were read, where that was not as they come: a line each, for the user.
    classes : tuple of str
        Names of the classes, where the data has them.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # It is often that of a file, and a terminal shows it.
        object.__setattr__(self, "name", printable(self.name))
        _check_array(self.name, "images", self.images, "uint8", 4, "(frames, height, width, channels)")
        _check_array(self.name, "labels", self.labels, "int64", 1, "(frames,)")
        if len(self.images) == 0:
            raise DataError(f"{self.name}: images must be at least one frame, not 0")
        if len(self.images) != len(self.labels):
            raise DataError(f"{self.name}: labels must be one for each of the {len(self.images)} images, "
                            f"not {len(self.labels)}")
        if self.labels.min() < 0:
            raise DataError(f"{self.name}: labels must be 0 or more, not {int(self.labels.min())}")
        if self.classes and self.labels.max() >= len(self.classes):
            last = len(self.classes) - 1
            most = int(self.labels.max())
            raise DataError(f"{self.name}: labels must be within 0..{last}, as its names of classes, not {most}")

    def __len__(self) -> int:
        """Frames in the dataset."""
        return len(self.images)

    def first(self, count: int | None) -> Dataset:
        """The first ``count`` frames; all where None."""
        return replace(self, images=self.images[:count], labels=self.labels[:count])

    def limited(self, count: int | None) -> Dataset:
        """The first ``count`` frames under a name that says so; unchanged where there are no more, or where None."""
        if count is None or count >= len(self):
            return self
        return replace(self.first(count), name=f"{self.name} (first {count:,} frames)")

    def fitted(self, shape: Sequence[int], *, classes: int, threshold: int) -> Dataset:
        """These frames as a network takes them.

        Parameters
        ----------
        shape : sequence of int
            The network's input, ``(height, width, channels)``. Frames of that shape with the channels first are transposed;
            between a vector and a frame of one channel, pixels go row by row.
        classes : int
            Classes of the network.
        threshold : int
            Pixels fire when greater than this.

        Raises
        ------
        DataError
            Frames of another shape, labels beyond the classes, or frames of which no pixel fires.
        """
        shape = tuple(shape)
        found = self._in_shape(shape)
        least, most = int(self.labels.min()), int(self.labels.max())
        if most >= classes:
            hint = "; they count from 1: subtract 1" if (least, most) == (1, classes) else ""
            raise DataError(f"{self.name}: labels must be within 0..{classes - 1}, not {least}..{most}{hint}")
        dark = int((found.images.reshape(len(self), -1).max(axis=1) <= threshold).sum())
        if dark == len(self):
            raise DataError(
                f"{self.name}: some pixels must be greater than {threshold} (of full scale 255), so that something fires, "
                f"but the largest of {len(self):,} frames is {int(self.images.max())}; scale the frames to 0..255"
            )
        if dark:
            found = found._noted(f"in {dark:,} of {len(self):,} frames no pixel is greater than {threshold}: nothing fires there")
        return found

    def _in_shape(self, shape: tuple[int, ...]) -> Dataset:
        own = self.images.shape[1:]
        height, width, channels = shape
        if own == shape:
            if own == (channels, height, width) and channels > 1:
                return self._noted(f"frames of shape {own} fit with the channels first and last: taken with the channels last")
            return self
        if own == (channels, height, width):
            images = np.ascontiguousarray(self.images.transpose(0, 2, 3, 1))
            return replace(self, images=images)._noted(f"frames of shape {own} are taken with the channels first, as {shape}")
        # In a vector, where several channels go is the trained network's secret; rows of one channel follow each other.
        plain = (_is_vector(own) and channels == 1) or (_is_vector(shape) and 1 in (own[0], own[2]))
        if plain and np.prod(own) == np.prod(shape):
            images = self.images.reshape(len(self), *shape)
            return replace(self, images=images)._noted(f"frames of shape {own} are taken row by row, as {shape}")
        # A file of signals, (frames, channels, length), is read as one of frames with a single channel.
        signals = own[2] == 1 and shape == (1, own[1], own[0])
        hint = "; give signals as (frames, 1, length, channels), not as (frames, channels, length)" if signals else ""
        raise DataError(f"frames of {self.name} must have the network's input shape {shape}, not {own}{hint}")

    def _noted(self, note: str) -> Dataset:
        return replace(self, notes=(*self.notes, f"{self.name}: {note}"))


def _is_vector(shape: tuple[int, ...]) -> bool:
    return max(shape) == np.prod(shape)


def _check_array(where: str, what: str, array: object, dtype: str, ndim: int, shape: str) -> None:
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{where}: {what} must be a numpy array, not {type(array).__name__}")
    if array.dtype != dtype:
        raise DataError(f"{where}: {what} must be of type {dtype}, not {array.dtype}")
    if array.ndim != ndim:
        raise DataError(f"{where}: {what} must be of shape {shape}, not {array.shape}")
