"""Frames of a data set that suit a network."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.network import Network
from model.support.datasets import DataError, load

__all__ = ["real_frames"]


def real_frames(
    network: Network, dataset: str | None, data_dir: Path | None, count: int | None
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], str]:
    """The first ``count`` test frames, or all of them, their labels, and the data set's name; without a name, MNIST where it
    is found on this machine and the bundled digits where not.

    Raises
    ------
    DataError : no such data, too few frames, or of the wrong shape
    """
    if dataset is None:
        try:
            data = load("mnist", "test", data_dir)
        except DataError:
            data = load("digits5k", "test")
    else:
        data = load(dataset, "test", data_dir)
    if data.images.shape[1:] != tuple(network.input_shape):
        raise DataError(
            f"frames of {data.name} must have the network's input shape {tuple(network.input_shape)}, "
            f"not {tuple(data.images.shape[1:])}"
        )
    if count is not None and count > len(data.images):
        raise DataError(f"frames must be within 1..{len(data.images)} for {data.name}, not {count}")
    return data.images[:count], data.labels[:count], data.name
