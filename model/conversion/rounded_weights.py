"""Weights rounded to integers so that their sums, not they, are nearest to what they were.

Counts that go together let one weight make up for another. So weights are rounded one after the other, and what each loses is
taken off those still to come, by how their counts go together on calibration frames (the method of Hassibi and Stork's optimal
brain surgeon, as Frantar et al., "GPTQ", 2022, use it).
"""

import numpy as np

from model.arrays import Floats
from model.projection import ConvolutionProjection, LinearProjection, Projection, TransposedProjection

__all__ = ["moments_of", "rounded_together"]

_MOST_INPUTS = 2048
"""Weights of an output that are rounded together."""

_DAMPING = 0.01
"""Part of the mean square of a count that is added to all, so that counts which are always 0 have no say."""


def moments_of(layer: Projection, counts: Floats) -> Floats | None:
    """Sums over frames and positions of the products of the counts that the weights of an output take, two and two.

    Parameters
    ----------
    layer : Projection
        An input of a layer, which gives the geometry.
    counts : Floats
        Of its source, ``(frames, height, width, channels)``.

    Returns
    -------
    Floats or None
        ``(weights, weights)``; None where it has groups, or too many weights, or is transposed.
    """
    if layer.weights[0].size > _MOST_INPUTS:
        return None
    height, width = layer.averaged
    frames, rows, columns, channels = counts.shape
    # A weight takes all counts of its window.
    whole = counts[:, : rows // height * height, : columns // width * width]
    counts = whole.reshape(frames, rows // height, height, columns // width, width, channels).sum(axis=(2, 4))
    if isinstance(layer, LinearProjection):
        taken = counts.reshape(len(counts), -1)
        return taken.T @ taken
    if not isinstance(layer, ConvolutionProjection) or isinstance(layer, TransposedProjection) or layer.groups > 1:
        return None
    top, left, bottom, right = layer.padding
    padded = np.pad(counts, ((0, 0), (top, bottom), (left, right), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, layer.kernel, axis=(1, 2))
    windows = windows[:, :: layer.stride[0], :: layer.stride[1]]
    taken = windows.reshape(-1, layer.weights[0].size)
    return taken.T @ taken


def rounded_together(weights: Floats, moments: Floats) -> Floats:
    """Weights ``(outputs, inputs)`` as integers, each next to what it was, whose sums differ little for counts of ``moments``."""
    damped = moments + np.eye(len(moments)) * max(_DAMPING * np.trace(moments) / len(moments), 1e-9)
    order = np.argsort(-np.diag(damped), kind="stable")
    factor = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
    left, given = weights[:, order].copy(), weights[:, order]
    whole = np.empty_like(left)
    for index in range(len(order)):
        lowest = np.floor(given[:, index])
        whole[:, index] = np.clip(np.rint(left[:, index]), lowest, lowest + (given[:, index] > lowest))
        lost = (left[:, index] - whole[:, index]) / factor[index, index]
        left[:, index:] -= lost[:, np.newaxis] * factor[index, index:]
    found = np.empty_like(whole)
    found[:, order] = whole
    return found
