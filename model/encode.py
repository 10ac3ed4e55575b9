"""Input coding: a frame becomes at most one positive spike per pixel, brightest first (design 1.6)."""

import numpy as np
import numpy.typing as npt

from model.events import Events, make_events
from model.network import Network

__all__ = ["encode", "spike_times"]


def encode(network: Network, frame: npt.ArrayLike) -> Events:
    """Intensity-to-delay coding.

    Parameters
    ----------
    network : Network
        Gives the input shape and the threshold above which a pixel fires.
    frame : npt.ArrayLike
        uint8, shape ``(height, width, channels)`` (``(height, width)`` for one channel).

    Returns
    -------
    Events, all positive: the brightest pixel first, equal pixels in raster order ``(y, x, c)``.
    """
    pixels = _pixels(network, frame)
    order = np.argsort(-pixels.astype(np.int16), kind="stable")
    return make_events(order[pixels[order] > network.input_threshold])


def spike_times(network: Network, frame: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Time of each event of `encode`: pixel value ``x`` (of full scale) fires at ``1 - x`` time units."""
    return 1.0 - _pixels(network, frame)[encode(network, frame)["address"]] / 255.0


def _pixels(network: Network, frame: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    array = np.asarray(frame)
    if array.dtype != np.uint8:
        raise TypeError(f"frame must be uint8, not {array.dtype}")
    if array.ndim == 2:
        array = array[:, :, np.newaxis]
    if array.shape != tuple(network.input_shape):
        raise ValueError(f"frame must have shape {tuple(network.input_shape)}, not {array.shape}")
    return array.reshape(-1)
