"""Weights of a quantized file with the ratio of its scales folded in, where that is not a power of two.

They are as fine as there is room for, rounded together so that sums come out nearest, and biases make up for what rounding loses
on average. What there is room for, and what is lost, is found on calibration frames.
"""

from dataclasses import replace

import numpy as np

from model.arrays import Floats, Images
from model.conversion.bounds import Bounds
from model.conversion.coding import InputCoding
from model.conversion.exact_weights import frame_of, greatest_count
from model.conversion.levels import Scaled
from model.conversion.rounded_weights import moments_of, rounded_together
from model.importers.float_network import FloatNetwork, pool_of
from model.network import INPUT, MOST_POTENTIAL_BITS, MOST_WEIGHT_BITS, Neurons, Shape
from model.rest import pooled, weighted_sums

__all__ = ["finest_fraction", "made_up", "with_frames", "worst_error"]

_HEADROOM = 1.5
"""Where a proven bound does not fit, potentials hold this many times the extremes of the calibration frames."""

_BATCH = 20

_MOMENT_FRAMES = 200
"""Calibration frames on which it is found which weights are best rounded together."""


def with_frames(
    floats: FloatNetwork, scaled: dict[str, Scaled], coding: InputCoding, images: Images
) -> dict[str, Scaled]:
    """The layers with what calibration frames say of them."""
    greatest: dict[str, float] = dict.fromkeys(scaled, 0.0)
    sums: dict[str, Floats | float] = dict.fromkeys(scaled, 0.0)
    moments: dict[str, Floats | None] = dict.fromkeys(scaled)
    for at in range(0, len(images), _BATCH):
        counts = coding.counts(images[at : at + _BATCH])
        for layer, shape, output in floats.walk():
            if layer.kind == "maxpool":
                counts = pooled(pool_of(layer), counts)
                continue
            one = scaled[layer.name]
            frame = frame_of(one, INPUT)
            potential = weighted_sums(frame, one.weights, counts.astype(np.float64), shape, output) + one.bias
            greatest[layer.name] = max(greatest[layer.name], float(np.abs(potential).max()))
            sums[layer.name] = sums[layer.name] + counts.sum(axis=0)
            if at < _MOMENT_FRAMES and (found := moments_of(frame, counts.astype(np.float64), shape)) is not None:
                before = moments[layer.name]
                moments[layer.name] = found if before is None else before + found
            counts = np.clip(np.floor(potential + one.half), *frame.count_limits).astype(np.int64)
    return {
        name: replace(
            one, greatest=greatest[name], means=np.asarray(sums[name], np.float64) / len(images), moments=moments[name]
        )
        for name, one in scaled.items()
    }


def finest_fraction(scaled: Scaled, frame: Neurons) -> int:
    """The most fractional bits that weights and potentials have room for."""
    room = (1 << MOST_POTENTIAL_BITS - 1) / (_HEADROOM * max(scaled.greatest, greatest_count(frame)) + 1)
    widest = ((1 << MOST_WEIGHT_BITS - 1) - 1) / max(np.abs(scaled.weights).max(), 1e-30)
    return int(np.floor(np.log2(min(room, widest))))


def made_up(scaled: Scaled, frame: Neurons, f: int) -> Scaled:
    """The layer with rounded weights, and biases that make up for what these lose on average."""
    assert scaled.means is not None
    shape = Shape(*scaled.means.shape)
    flat = (scaled.weights * float(1 << f)).reshape(len(scaled.weights), -1)
    whole = np.rint(flat) if scaled.moments is None else rounded_together(flat, scaled.moments)
    weights = whole.reshape(scaled.weights.shape) / (1 << f)
    lost = weighted_sums(frame, scaled.weights - weights, scaled.means[np.newaxis], shape, scaled.layer.output_shape(shape))[0]
    bias = scaled.bias + (lost if scaled.bias.ndim == 3 else lost.mean(axis=(0, 1)))
    return replace(scaled, weights=weights, bias=bias)


def worst_error(scaled: Scaled, made: Neurons, windows: Bounds) -> int:
    """How far a count can be from its level where the counts before it are right."""
    off = np.abs(scaled.weights * made.theta - made.weights)
    most = max(int(np.abs(windows.least).max()), int(np.abs(windows.greatest).max()))
    return int((off.reshape(len(off), -1).sum(axis=1).max() * most + 1) / made.theta) + 1
