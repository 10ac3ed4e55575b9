"""Weights of a quantized file times one whole number for each channel, where the ratio of its scales is no power of two.

A channel's sums are whole numbers ``S`` of its step, and its count is to be ``k`` from a least such sum on. There are as many of
these as levels, and no more sums than its source's counts can make. So a multiplier ``M`` and a bias ``B`` may exist with
``M S + B >= k 2**f`` for just the right sums, as they do where levels are few: then every count is the file's level, whatever the
frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from model.arrays import Bools, Floats, Ints
from model.conversion.bounds import Bounds
from model.conversion.exact_weights import bounds_of_sums, needed_bits, with_weights
from model.conversion.levels import Scaled, step_between
from model.network import MOST_POTENTIAL_BITS, MOST_WEIGHT_BITS, Neurons

__all__ = ["of_multiples"]

T = TypeVar("T", np.int64, np.float64)

_HALF_WAY = 1e-6
"""Part of a step between sums within which a sum is taken to be half way between two levels."""

_MOST_RISES = 1 << 22
"""Sums at which counts rise, of all channels and their biases, that are looked at."""


@dataclass(frozen=True)
class _Rises:
    """Where the counts of a channel rise, ``(biases, levels)``.

    Parameters
    ----------
    step : float
        What a sum counts in, in thresholds.
    largest : int
        Of its weights in that step, sign aside.
    counts : Ints
        The counts, ``(levels,)``.
    first, last : Ints
        The least sum that there can be with each count or more, and the greatest one with less.
    reached, missed : Bools
        Whether there are such sums.
    """

    step: float
    largest: int
    counts: Ints
    first: Ints
    last: Ints
    reached: Bools
    missed: Bools

    @classmethod
    def of(cls, scaled: Scaled, step: float, largest: int, biases: Floats, sums: tuple[int, int]) -> _Rises:
        """Those of a channel with these biases, whose sums are within ``sums``."""
        low, high = scaled.limits
        counts = np.arange(low + 1, high + 1)
        exact = (counts - scaled.half - biases[:, np.newaxis]) / step
        # What is half way between two levels is of the even one.
        odd = (counts + scaled.base) % 2 == 1 if scaled.half else np.zeros(counts.shape, np.bool_)
        first = np.where(np.abs(exact - np.rint(exact)) < _HALF_WAY, np.rint(exact) + odd, np.ceil(exact))
        least, greatest = sums
        first = np.clip(first, least - 1, greatest + 1).astype(np.int64)
        return cls(
            step,
            largest,
            counts,
            np.maximum(first, least),
            np.minimum(first - 1, greatest),
            first <= greatest,
            first > least,
        )

    def multiplied(self, f: int) -> tuple[int, Ints] | None:
        """A multiplier and biases with ``f`` fractional bits; None where there are none that fit."""
        slope = self.step * (1 << f)
        for multiplier in (int(slope), int(slope) + 1):
            biases = self._biases(multiplier, f)
            if multiplier > 0 and multiplier * self.largest < 1 << MOST_WEIGHT_BITS - 1 and biases is not None:
                return multiplier, biases
        return None

    def _biases(self, multiplier: int, f: int) -> Ints | None:
        """Of each bias the whole one in the middle between those at which a count is another; None where there is none."""
        limit = 1 << MOST_POTENTIAL_BITS - 1
        thresholds = self.counts << f
        least = np.where(self.reached, thresholds - multiplier * self.first, -limit).max(axis=1)
        most = np.where(self.missed, thresholds - 1 - multiplier * self.last, limit).min(axis=1)
        if (least > most).any():
            return None
        # Where no count is reached, or all are, the bias that is nearest to 0.
        near = np.clip(0, least, most)
        return np.where((least == -limit) | (most == limit), near, (least + most) >> 1)


def of_multiples(scaled: Scaled, frame: Neurons, counts: Mapping[str, Bounds]) -> Neurons | None:
    """The layer with multiples of the file's weights that give the file's levels for every sum; None where there are none.

    Parameters
    ----------
    scaled : Scaled
        The layer in thresholds.
    frame : Neurons
        Its geometry and limits.
    counts : Mapping of (str, Bounds)
        Of the counts of its sources.
    """
    steps = [step_between(row) for row in scaled.rows]
    known = np.array([step for step in steps if step is not None])
    if len(known) < len(steps) or scaled.layer.quantizer is None:
        return None
    integers = [np.rint(values / _along(known, values)).astype(np.int64) for values in scaled.weights]
    largest = np.abs(np.rint(scaled.rows / known[:, np.newaxis])).max(axis=1)
    reach = bounds_of_sums(frame, integers, counts)
    # Of each channel the biases that there are, and which of them is where.
    biases = [np.unique(row, return_inverse=True) for row in scaled.bias.reshape(-1, len(known)).T]
    if sum(len(found) for found, _ in biases) * (scaled.limits[1] - scaled.limits[0]) > _MOST_RISES:
        return None
    channels = [
        _Rises.of(scaled, known[n], int(largest[n]), found, (int(reach.least[n]), int(reach.greatest[n])))
        for n, (found, _) in enumerate(biases)
    ]
    for f in range(MOST_POTENTIAL_BITS - 1):
        if (known * largest).max() * (1 << f) >= 1 << MOST_WEIGHT_BITS - 1:
            return None
        made = _with_fraction(frame, scaled, integers, channels, [where for _, where in biases], f)
        if made is not None:
            return made if needed_bits(made, counts) <= MOST_POTENTIAL_BITS else None
    return None


def _along(channels: npt.NDArray[T], values: npt.NDArray[np.generic]) -> npt.NDArray[T]:
    """One number for each output channel, so that it meets weights."""
    return channels.reshape(-1, *[1] * (values.ndim - 1))


def _with_fraction(
    frame: Neurons, scaled: Scaled, integers: Sequence[Ints], channels: list[_Rises], where: list[npt.NDArray[np.intp]], f: int
) -> Neurons | None:
    """The layer with ``f`` fractional bits; None where a channel has no multiplier."""
    multipliers, columns = [], []
    for channel, places in zip(channels, where, strict=True):
        found = channel.multiplied(f)
        if found is None:
            return None
        multipliers.append(found[0])
        columns.append(found[1][places])
    weights = [values * _along(np.array(multipliers), values) for values in integers]
    bias = np.stack(columns, axis=1).reshape(scaled.bias.shape)
    return with_weights(frame, weights, bias=bias.astype(np.int32), threshold_log2=f)
