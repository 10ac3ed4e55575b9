"""Frames for a device: of a data set, or drawn where there is none of the network's shape."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.network import Network
from model.support.datasets import DataError, Dataset
from model.support.frames import real_data

__all__ = ["SEED", "Frames", "frames_for", "labelled_frames"]

SEED = 0
"""Of frames that are drawn."""

_DRAWN = 100
"""Frames that are drawn where no number is asked for."""

_DIGITS = (28, 28, 1)
"""Shape of the digits that are there without a data set of one's own."""

_DIGIT_CLASSES = 10
"""Their classes."""


@dataclass(frozen=True)
class Frames:
    """Frames, and where they are from.

    Parameters
    ----------
    images : numpy.ndarray
        ``uint8``, ``(frames, height, width, channels)``.
    labels : numpy.ndarray or None
        Their classes; None where they are drawn.
    name : str
        What they are, for people.
    classes : tuple of str
        Names of the classes, where the data set has them.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64] | None
    name: str
    classes: tuple[str, ...] = ()


def frames_for(network: Network, dataset: str | None, data_dir: Path | None, count: int | None) -> Frames:
    """The first ``count`` test frames, or all of them.

    Without a data set they are digits, or frames drawn at random where digits have another shape or more classes.

    Raises
    ------
    DataError
        If there is no such data, there are too few frames, or they do not suit the network.
    """
    if dataset is None and (tuple(network.input_shape) != _DIGITS or network.classes < _DIGIT_CLASSES):
        images = np.random.default_rng(SEED).integers(0, 256, (count or _DRAWN, *network.input_shape), dtype=np.uint8)
        return Frames(images, None, f"random frames, seed {SEED}")
    return _frames(real_data(network, dataset, data_dir, count))


def labelled_frames(network: Network, dataset: str | None, data_dir: Path | None) -> Frames:
    """All test frames, with their classes; MNIST without a data set.

    Raises
    ------
    DataError
        As `frames_for`, and where there is no data set, and digits have another shape.
    """
    if dataset is None and tuple(network.input_shape) != _DIGITS:
        raise DataError(
            f"--dataset must be given: no bundled data has frames of {tuple(network.input_shape)}, as {network.name} takes them"
        )
    return _frames(real_data(network, dataset or "mnist", data_dir, None))


def _frames(data: Dataset) -> Frames:
    return Frames(data.images, data.labels, data.name, data.classes)
