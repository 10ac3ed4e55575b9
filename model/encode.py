"""Input coding: a frame becomes positive spikes of its pixels, that of the pixel furthest past its limit first (design 1.6).

A pixel ``x`` that fired ``q`` times is to fire once more while ``q < levels`` and ``x > first + q * step``, with the network's
``input_levels``, ``input_threshold`` and ``input_step``. With one level a pixel fires once or not, the brightest first.
"""

import numpy as np
import numpy.typing as npt

from model.arrays import Images, Ints
from model.events import Events, make_events
from model.network import Network

__all__ = ["counts_of_pixels", "encode", "input_counts", "spike_times"]


def encode(network: Network, frame: npt.ArrayLike) -> Events:
    """Intensity-to-delay coding.

    Parameters
    ----------
    network : Network
        Gives the input shape, and the limits above which a pixel fires.
    frame : npt.ArrayLike
        uint8, shape ``(height, width, channels)`` (``(height, width)`` for one channel).

    Returns
    -------
    Events, all positive: of all pixels that are to fire, the one furthest past its limit comes first, then it is compared
    with its next limit; equally far ones in raster order ``(y, x, c)``.
    """
    _, addresses = _ordered(network, frame)
    return make_events(addresses)


def spike_times(network: Network, frame: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Time of each event of `encode`, in time units.

    With one level, pixel value ``x`` (of full scale) fires at ``1 - x``; with more, at 1 less how far it is past its limit.
    """
    past, _ = _ordered(network, frame)
    return 1.0 - (past + (network.input_threshold if network.input_levels == 1 else 0)) / 255.0


def input_counts(network: Network, frames: Images) -> Ints:
    """How often each pixel fires in a frame that starts from rest."""
    return counts_of_pixels(frames, network.input_threshold, network.input_step, network.input_levels)


def counts_of_pixels(pixels: Images, first: int, step: int, levels: int) -> Ints:
    """How often pixels fire: once above ``first``, and again for each ``step`` above that, ``levels`` times at most."""
    past = pixels.astype(np.int64) - first
    return np.clip(-(-past // step), 0, levels)


def _ordered(network: Network, frame: npt.ArrayLike) -> tuple[Ints, Ints]:
    """How far past its limit each spike's pixel is, and its address, in the order in which they fire.

    A pixel's later spikes are less far past their limits, so that who is furthest at each moment is a matter of sorting.
    """
    limits = network.input_threshold + network.input_step * np.arange(network.input_levels)
    past = _pixels(network, frame).astype(np.int64)[:, np.newaxis] - limits
    addresses, levels = np.nonzero(past > 0)
    firing = past[addresses, levels]
    order = np.argsort(-firing, kind="stable")
    return firing[order], addresses[order]


def _pixels(network: Network, frame: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    array = np.asarray(frame)
    if array.dtype != np.uint8:
        raise TypeError(f"frame must be uint8, not {array.dtype}")
    if array.ndim == 2:
        array = array[:, :, np.newaxis]
    if array.shape != tuple(network.input_shape):
        raise ValueError(f"frame must have shape {tuple(network.input_shape)}, not {array.shape}")
    return array.reshape(-1)
