"""What all trainings share: frames as the network sees them, accuracies, the frames that are held out."""

from __future__ import annotations

import ctypes
import importlib.metadata
import math
import platform
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import rich.console
import rich.progress

from model.support.datasets import DataError, Dataset
from model.support.errors import ToolMissingError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["INPUT_SHAPE", "INPUT_THRESHOLD", "accuracy", "augment", "binarise", "check_dataset", "held_out",
           "import_torch", "keep_memory", "to_tensor", "track", "versions"]

T = TypeVar("T")

INPUT_SHAPE = (28, 28, 1)
"""What the network takes, as (height, width, channels)."""

CLASSES = 10

# One training frame of 12 is held out: 5,000 of the 60,000 of MNIST.
_HOLD_OUT = 12

# A pixel of exactly 0.2 of full scale, 51 of 255, does not fire.
INPUT_THRESHOLD = 51


def import_torch() -> Any:
    # Only training needs PyTorch, which is large; all else works without it.
    try:
        import torch
    except ImportError as error:
        raise ToolMissingError("training must have PyTorch installed: pip install -e .[train]") from error
    return torch


def versions() -> dict[str, str]:
    """What the outcome of a training depends on, beside its settings and data."""
    packages = {package: importlib.metadata.version(package) for package in ("torch", "onnx", "numpy")}
    return {"python": platform.python_version(), **packages}


def keep_memory() -> None:
    """Have the C library keep freed memory: tensors of each step come from the kernel again otherwise, half of the time."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        # Not glibc: nothing but speed is lost.
        return
    trim_threshold, mmap_max = -1, -4
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(mmap_max, 0)


def augment(frames: Tensor) -> Tensor:
    """Rotate, scale, shear and shift each frame a little, by amounts from torch's global random generator.

    Parameters
    ----------
    frames : torch.Tensor
        ``float32``, ``(frames, 1, height, width)``.

    Returns
    -------
    torch.Tensor
        Of the same shape. Shifts are up to 2 pixels, rotations 12 degrees, scales 0.88 to 1.12.
    """
    torch = import_torch()
    count, _, height, width = frames.shape

    def uniform(limit: float) -> Tensor:
        return (2 * torch.rand(count) - 1) * limit

    angle = uniform(math.radians(12))
    scale_x, scale_y = 1 + uniform(0.12), 1 + uniform(0.12)
    shear = uniform(0.12)
    cos, sin = torch.cos(angle), torch.sin(angle)
    # affine_grid measures in half widths and half heights.
    shift_x, shift_y = uniform(2) * 2 / width, uniform(2) * 2 / height
    row_x = torch.stack([cos * scale_x, (shear * cos - sin) * scale_y, shift_x], dim=1)
    row_y = torch.stack([sin * scale_x, (shear * sin + cos) * scale_y, shift_y], dim=1)
    grid = torch.nn.functional.affine_grid(torch.stack([row_x, row_y], dim=1), list(frames.shape),
                                           align_corners=False)
    return torch.nn.functional.grid_sample(frames, grid, align_corners=False)


def binarise_some(frames: Tensor, share: float) -> Tensor:
    # The threshold varies, as augmentation blurs edges, and as other sources draw thicker or thinner lines.
    torch = import_torch()
    count = len(frames)
    threshold = 0.1 + 0.25 * torch.rand(count, 1, 1, 1)
    chosen = torch.rand(count, 1, 1, 1) < share
    return torch.where(chosen, (frames > threshold).to(frames.dtype), frames)


def binarise(images: np.ndarray) -> np.ndarray:
    """Give the 1-bit input of the spiking network: one spike for each pixel above 0.2 of full scale.

    Parameters
    ----------
    images : numpy.ndarray
        ``uint8``.

    Returns
    -------
    numpy.ndarray
        ``uint8`` of the same shape: 255 where a pixel spikes, else 0.
    """
    return np.where(images > INPUT_THRESHOLD, 255, 0).astype(np.uint8)


def to_tensor(images: np.ndarray) -> Tensor:
    torch = import_torch()
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float().div_(255)


def accuracy(network: nn.Module, images: np.ndarray, labels: np.ndarray) -> float:
    """Measure the share of frames that a network classifies rightly.

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode.
    images : numpy.ndarray
        ``uint8``, ``(frames, height, width, channels)``.
    labels : numpy.ndarray
        ``int64``, ``(frames,)``.

    Returns
    -------
    float
        0 to 1.
    """
    torch = import_torch()
    correct = 0
    with torch.inference_mode():
        for start in range(0, len(images), 1000):
            classes = network(to_tensor(images[start:start + 1000])).argmax(dim=1).numpy()
            correct += int((classes == labels[start:start + 1000]).sum())
    return correct / len(images)


def check_dataset(dataset: Dataset) -> None:
    if dataset.images.shape[1:] != INPUT_SHAPE:
        raise DataError(f"{dataset.name}: images must be of (height, width, channels) {INPUT_SHAPE}, "
                        f"not {dataset.images.shape[1:]}")
    if dataset.labels.max() >= CLASSES:
        raise DataError(f"{dataset.name}: labels must be less than {CLASSES}, "
                        f"not {int(dataset.labels.max())}")


def held_out(dataset: Dataset) -> np.ndarray:
    """Which frames are for validation only: every twelfth.

    Raises
    ------
    DataError
        There are fewer than twelve.
    """
    if len(dataset) < _HOLD_OUT:
        raise DataError(f"{dataset.name}: training must have at least {_HOLD_OUT} frames, not {len(dataset)}")
    return np.arange(len(dataset)) % _HOLD_OUT == _HOLD_OUT - 1


def track(items: Sequence[Any], what: str, progress: bool) -> Iterable[Any]:
    # A bar is of no use in a log file; there the line at the end of each epoch is enough.
    if not progress or not sys.stderr.isatty():
        return items
    return rich.progress.track(items, what, console=rich.console.Console(stderr=True), transient=True)
