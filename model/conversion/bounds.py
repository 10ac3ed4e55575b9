"""How far counts can go, whatever the frame: which channels can never fire.

A potential is at every moment the bias plus the weights times the counts of the sources, and a count rises only while the
potential holds one threshold more. So from the counts of the input, which are 0 to its levels, bounds of all counts follow
layer by layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.arrays import Floats, Ints

__all__ = ["Bounds"]


@dataclass(frozen=True)
class Bounds:
    """Least and greatest values, one for each channel.

    Parameters
    ----------
    least, greatest : numpy.ndarray
        ``int64``, ``(channels,)``.
    """

    least: Ints
    greatest: Ints

    @classmethod
    def of_input(cls, channels: int, levels: int = 1) -> Bounds:
        """Counts of the input: a pixel fires so many times at most."""
        return cls(np.zeros(channels, np.int64), np.full(channels, levels, np.int64))

    def of_windows(self, window: tuple[int, int]) -> Bounds:
        """Of sums over windows."""
        size = window[0] * window[1]
        return Bounds(self.least * size, self.greatest * size)

    def __add__(self, other: Bounds) -> Bounds:
        """Of sums of values with these bounds and others."""
        return Bounds(self.least + other.least, self.greatest + other.greatest)

    def sums(self, weights: npt.NDArray[np.integer], groups: int = 1) -> Bounds:
        """Of sums of weights times these counts, one for each output channel.

        Parameters
        ----------
        weights : numpy.ndarray
            Of a convolution or a linear layer, as in `model.network`; at a border fewer taps take part, which bounds hold for.
        groups : int
            Of a convolution.
        """
        if weights.ndim == 2:
            # Inputs of a linear layer are by position, then by channel.
            weights = weights.reshape(len(weights), -1, len(self.greatest)).swapaxes(1, 2)
        positive, negative = (
            part.astype(np.int64).reshape(*weights.shape[:2], -1).sum(axis=2)
            for part in (np.maximum(weights, 0), np.minimum(weights, 0))
        )
        each = len(weights) // groups
        # Which input channels each output channel takes.
        taken = np.arange(weights.shape[1]) + (np.arange(len(weights)) // each * weights.shape[1])[:, np.newaxis]
        least, greatest = self.least[taken], self.greatest[taken]
        return Bounds(
            (positive * least + negative * greatest).sum(axis=1), (positive * greatest + negative * least).sum(axis=1)
        )

    def held(self, bias: Floats, most: int) -> Floats:
        """Biases of ReLUs whose weighted sums have these bounds, without what changes no count.

        A channel that all its weights together cannot lift is as dead with a bias from which they just cannot. One that they
        cannot keep from its greatest count, that of a potential of ``most``, is at it with a bias from which they just cannot.
        """
        return np.clip(bias, -self.greatest, most - self.least)

    def counts(self, bias: npt.NDArray[np.integer], theta: int, *, relu: bool, deferred: bool = False) -> Bounds:
        """Of the counts of neurons whose weighted sums have these bounds, those of all positions where biases differ by position.

        ``deferred`` rounds down.
        """
        by_position = bias.reshape(-1, bias.shape[-1])
        least = np.minimum(self.least + by_position.min(axis=0), 0)
        greatest = np.maximum(self.greatest + by_position.max(axis=0), 0)
        lowest = least // theta if deferred else -(-least // theta)
        return Bounds(np.zeros_like(least) if relu else lowest, greatest // theta)
