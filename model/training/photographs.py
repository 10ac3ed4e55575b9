"""How photographs are changed in training, so that a network sees each in many places."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["cut_out", "shifted_and_mirrored"]

_BORDER = 4
"""Pixels by which a frame is shifted at most."""


def shifted_and_mirrored(images: Tensor) -> Tensor:
    """Shift each frame by a few pixels, zeros coming in from outside, and mirror half of them from left to right.

    Parameters
    ----------
    images : torch.Tensor
        ``uint8``, ``(frames, height, width, channels)``.

    Returns
    -------
    torch.Tensor
        ``float32``, ``(frames, channels, height, width)``, channels last in memory; whole pixels of full scale 255.
    """
    count, height, width, _ = images.shape
    padded = functional.pad(images, (0, 0, _BORDER, _BORDER, _BORDER, _BORDER))
    down, right = torch.randint(2 * _BORDER + 1, (2, count, 1))
    rows, columns = torch.arange(height), torch.arange(width)
    mirrored = torch.where(torch.rand(count, 1) < 0.5, columns.flip(0), columns)
    taken = padded[torch.arange(count)[:, None, None], (rows + down)[:, :, None], (mirrored + right)[:, None, :]]
    return taken.permute(0, 3, 1, 2).float()


def cut_out(frames: Tensor, size: int) -> Tensor:
    """Set a square of each frame to zero, so that a network does not rest on one part of what it sees (DeVries and Taylor 2017).

    Parameters
    ----------
    frames : torch.Tensor
        ``(frames, channels, height, width)``.
    size : int
        Height and width of the squares. Their middles may be anywhere in a frame, so that they can reach beyond its border.

    Returns
    -------
    torch.Tensor
        Of the same shape.
    """
    count, _, height, width = frames.shape
    if size == 0:
        return frames
    top, left = (torch.randint(length, (count, 1)) - size // 2 for length in (height, width))
    rows, columns = torch.arange(height), torch.arange(width)
    in_rows, in_columns = ((first <= at) & (at < first + size) for first, at in ((top, rows), (left, columns)))
    return frames.masked_fill((in_rows[:, :, None] & in_columns[:, None, :])[:, None], 0)
