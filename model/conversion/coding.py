"""How the input is coded, as conversion sees it: what a spike of it stands for, and limits chosen on calibration data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from model.arrays import Floats, Images, Ints
from model.encode import counts_of_pixels
from model.importers.float_network import ConversionError
from model.network import Network

__all__ = ["InputCoding", "choose_coding"]

_FULL = 255

_RANGES = (255, 224, 192, 160, 128)
"""Brightness that the levels together may cover, of which one is chosen."""


@dataclass(frozen=True)
class InputCoding:
    """How often a pixel fires.

    Parameters
    ----------
    first : int
        The pixel value above which it fires.
    step : int
        How much brighter it has to be for each further spike; 1 where there is one level.
    levels : int
        How often it fires at most.
    """

    first: int = 51
    step: int = 1
    levels: int = 1

    @classmethod
    def of(cls, network: Network) -> InputCoding:
        """That of a network."""
        return cls(network.input_threshold, network.input_step, network.input_levels)

    @property
    def value(self) -> float:
        """What a spike stands for, of full scale: all of it with one level (the paper's coding), the step with more."""
        return 1.0 if self.levels == 1 else self.step / _FULL

    def counts(self, images: Images) -> Ints:
        """How often each pixel fires."""
        return counts_of_pixels(images, self.first, self.step, self.levels)

    def frames(self, images: Images) -> Floats:
        """The frames that the spiking network sees, full scale 1.0."""
        return self.counts(images).astype(np.float64) * self.value


def choose_coding(
    levels: int,
    first: int | None,
    step: int | None,
    *,
    images: Images,
    accuracy: Callable[[Floats], float],
    budget: float,
) -> InputCoding:
    """The limits under which the float network is most accurate on coded frames; within ``budget`` of that, the fewest spikes.

    Parameters
    ----------
    levels : int
        How often a pixel fires at most. One level has the paper's limit, 0.2 of full scale, unless another is given.
    first, step : int or None
        The limits, where they are given.
    images : Images
        Calibration frames.
    accuracy : callable
        The float network's on frames of full scale 1.0.
    budget : float
        Accuracy that may go for fewer spikes.

    Raises
    ------
    ConversionError
        There are no such levels within pixels of 8 bits.
    """
    if levels == 1:
        return InputCoding(InputCoding.first if first is None else first)
    # Above a limit that is given there may be less room than the ranges have.
    room = _FULL if first is None else max(1, (_FULL - 1 - first) // (levels - 1))
    found = [
        InputCoding(threshold, size, levels)
        for size in dict.fromkeys([step] if step is not None else [max(1, min(room, round(most / levels))) for most in _RANGES])
        for threshold in dict.fromkeys([first] if first is not None else [size // 2, size * 3 // 4, size])
        if threshold + (levels - 1) * size < _FULL
    ]
    if not found:
        what = f"first at {first if first is not None else 'half a step'}, then every {step if step is not None else 1}"
        raise ConversionError(f"input levels must all be below 255, not {levels} of them, {what}")
    if len(found) == 1:
        return found[0]
    measured = [(accuracy(coding.frames(images)), float(coding.counts(images).sum()), coding) for coding in found]
    wanted = max(right for right, _, _ in measured) - budget
    return min((spikes, n, coding) for n, (right, spikes, coding) in enumerate(measured) if right >= wanted)[2]
