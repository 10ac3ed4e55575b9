"""What a network takes in place of pixels of 0 to 1, where its file does not say it: another full scale, a mean, a deviation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from model.importers.errors import ConversionError

if TYPE_CHECKING:
    from model.arrays import Floats

__all__ = ["AS_THEY_ARE", "Normalization"]


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """The network takes ``(scale * x - mean) / std`` of pixels ``x`` of 0 to 1.

    Parameters
    ----------
    mean, std : tuple of float
        One number, or one for each channel; in the unit of ``scale``.
    scale : float or None
        Full scale. None is 1, and 255 where the file takes pixels of type uint8.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: float | None = None

    def __post_init__(self) -> None:
        for name, least in (("mean", -math.inf), ("std", 0.0), ("scale", 0.0)):
            values = getattr(self, name)
            for value in () if values is None else values if isinstance(values, Sequence) else (values,):
                if not (math.isfinite(value) and value > least):
                    above = "finite" if least < 0 else f"finite and above {least:g}"
                    raise ConversionError(f"--{name} must be {above}, not {value:g}")

    def __str__(self) -> str:
        scale = () if self.scale is None else (self.scale,)
        given = (("scale", scale, ()), ("mean", self.mean, (0.0,)), ("std", self.std, (1.0,)))
        return ", ".join(f"{name} {' '.join(map(_text, found))}" for name, found, usual in given if found != usual)

    def misfit(self, channels: int) -> str:
        """What is wrong with it for so many channels; empty where it fits."""
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, channels):
                return f"--{name} must be one number, or one for each of the {channels} channels, not {len(values)}"
        return ""

    def factors(self, channels: int) -> tuple[Floats, Floats]:
        """Scale and offset of each channel."""
        # Commands make one before they load arrays.
        import numpy as np

        mean, std = (np.broadcast_to(np.array(values, np.float64), channels) for values in (self.mean, self.std))
        with np.errstate(over="ignore"):
            return (1.0 if self.scale is None else self.scale) / std, -mean / std


def _text(value: float) -> str:
    """The number, exactly."""
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))


AS_THEY_ARE = Normalization()
"""Pixels of 0 to 1."""
