"""Frames of a data set that suit a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from model.support.cli import tell
from model.support.datasets import DataError, Dataset, load

if TYPE_CHECKING:
    from model.network import Network

__all__ = ["real_data", "real_frames", "suited"]


def real_frames(
    network: Network, dataset: str | None, data_dir: Path | None, count: int | None
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], str]:
    """The first ``count`` test frames, or all of them, their labels, and the data set's name; without a name, MNIST where it
    is found on this machine and the bundled digits where not. How they were read is told on standard error.

    Raises
    ------
    DataError : no such data, too few frames, or frames that do not suit the network (`suited`)
    """
    data = real_data(network, dataset, data_dir, count)
    return data.images, data.labels, data.name


def real_data(network: Network, dataset: str | None, data_dir: Path | None, count: int | None) -> Dataset:
    """The same, with all that the data set says."""
    if dataset is None:
        try:
            data = load("mnist", "test", data_dir)
        except DataError:
            data = load("digits5k", "test")
    else:
        data = load(dataset, "test", data_dir)
    if count is not None and count > len(data):
        raise DataError(f"frames must be within 1..{len(data)} for {data.name}, not {count}")
    data = suited(network, data.first(count))
    tell(data.notes)
    return data


def suited(network: Network, data: Dataset) -> Dataset:
    """The frames as ``network`` takes them (`Dataset.fitted`)."""
    return data.fitted(network.input_shape, classes=network.classes, threshold=network.input_threshold)
