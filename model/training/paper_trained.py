"""What a training of `model.paper_networks` hands over, and how its files are written."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from model.support.dataset import Dataset

__all__ = ["Train", "Trained", "archive"]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained network.

    Parameters
    ----------
    record : dict of str to Any
        What decided the outcome (settings), and what came of it on training frames that were held out; plain JSON.
    arrays : Mapping of str to array, optional
        The network, saved as ``NAME.npz``.
    onnx : bytes, optional
        The network as an ONNX file, ``NAME.onnx``, where it is one that `model.importers.onnx` takes.
    """

    record: dict[str, Any]
    arrays: Mapping[str, npt.NDArray[np.number]] = field(default_factory=dict)
    onnx: bytes | None = None


Train = Callable[[Dataset, int, int | None, Console], Trained]
"""Trains on a data set's training frames with a seed, for so many epochs (None: as many as were used for the bundled network);
the console is for progress. The same each time, given the same versions and processor."""


def archive(arrays: Mapping[str, npt.NDArray[np.number]]) -> bytes:
    """The arrays as a compressed ``.npz`` file: the same bytes for the same arrays."""
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **dict(arrays))
    return file.getvalue()
