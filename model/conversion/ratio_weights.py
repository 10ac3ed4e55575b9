"""Weights of a quantized file with the ratio of its scales folded in, where that is not a power of two.

They are as fine as there is room for, rounded together so that sums come out nearest, and biases make up for what rounding loses
on average. What there is room for, and what is lost, is found on calibration frames.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from model.arrays import Floats, Images, Ints
from model.conversion.bounds import Bounds
from model.conversion.coding import InputCoding
from model.conversion.exact_weights import frame_of, greatest_count
from model.conversion.levels import Scaled
from model.conversion.projections import driven, forget
from model.conversion.rounded_weights import moments_of, rounded_together
from model.importers.float_network import FloatNetwork, pool_of
from model.network import INPUT, MOST_POTENTIAL_BITS, MOST_WEIGHT_BITS, Neurons, Shape
from model.rest import pooled, weighted_sums

__all__ = ["finest_fraction", "made_up", "usual_error", "with_frames", "worst_error"]

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
    totals: dict[str, Floats] = {}
    moments: dict[str, list[Floats | None]] = {name: [None] * len(one.weights) for name, one in scaled.items()}
    for at in range(0, len(images), _BATCH):
        counts: dict[str, Ints] = {INPUT: coding.counts(images[at : at + _BATCH])}
        totals[INPUT] = counts[INPUT].sum(axis=0) + totals.get(INPUT, 0.0)
        for layer in floats.layers:
            if layer.kind == "maxpool":
                counts[layer.name] = pooled(pool_of(layer), counts[layer.source])
            else:
                one = scaled[layer.name]
                frame = frame_of(one)
                values = {name: counts[name].astype(np.float64) for name in frame.sources}
                potential = driven(floats, layer, values, one.weights) + one.bias
                greatest[layer.name] = max(greatest[layer.name], float(np.abs(potential).max()))
                for index, taker in enumerate(frame.inputs if at < _MOMENT_FRAMES else ()):
                    found, before = moments_of(taker, values[taker.source]), moments[layer.name][index]
                    moments[layer.name][index] = found if before is None or found is None else before + found
                counts[layer.name] = np.clip(np.floor(potential + one.half), *frame.count_limits).astype(np.int64)
            totals[layer.name] = counts[layer.name].sum(axis=0) + totals.get(layer.name, 0.0)
            forget(counts, floats.layers, layer.name)
    return {
        name: replace(
            one,
            greatest=greatest[name],
            means=tuple(totals[taken.source] / len(images) for taken in one.layer.inputs),
            moments=tuple(moments[name]),
        )
        for name, one in scaled.items()
    }


def finest_fraction(scaled: Scaled, frame: Neurons) -> int:
    """The most fractional bits that weights and potentials have room for."""
    room = (1 << MOST_POTENTIAL_BITS - 1) / (_HEADROOM * max(scaled.greatest, greatest_count(frame)) + 1)
    widest = ((1 << MOST_WEIGHT_BITS - 1) - 1) / max(scaled.largest, 1e-30)
    return int(np.floor(np.log2(min(room, widest))))


def made_up(scaled: Scaled, frame: Neurons, f: int) -> Scaled:
    """The layer with rounded weights, and biases that make up for what these lose on average."""
    weights, bias = [], scaled.bias
    for taker, own, means, moments in zip(frame.inputs, scaled.weights, scaled.means, scaled.moments, strict=True):
        shape = Shape(*means.shape)
        flat = (own * float(1 << f)).reshape(len(own), -1)
        whole = np.rint(flat) if moments is None else rounded_together(flat, moments)
        weights.append(whole.reshape(own.shape) / (1 << f))
        lost = weighted_sums(taker, own - weights[-1], means[np.newaxis], shape, scaled.layer.output_shape(shape))[0]
        bias = bias + (lost if scaled.bias.ndim == 3 else lost.mean(axis=(0, 1)))
    return replace(scaled, weights=tuple(weights), bias=bias)


def worst_error(scaled: Scaled, made: Neurons, counts: Mapping[str, Bounds]) -> int:
    """How far a count can be from its level where the counts before it are right."""
    off = np.zeros(len(made.weights))
    for taker, own in zip(made.inputs, scaled.weights, strict=True):
        windows = counts[taker.source].of_windows(taker.averaged)
        most = max(int(np.abs(windows.least).max()), int(np.abs(windows.greatest).max()))
        off += np.abs(own * made.theta - taker.weights).reshape(len(own), -1).sum(axis=1) * most
    return int((off.max() + 1) / made.theta) + 1


def usual_error(scaled: Scaled, made: Neurons, counts: Mapping[str, Bounds]) -> float:
    """The standard deviation of a count from its level, of counts before it that are spread evenly as far as they can go.

    The median of the channels, by what rounding took off the weights.
    """
    squares = np.zeros(len(made.weights))
    for taker, own in zip(made.inputs, scaled.weights, strict=True):
        windows = counts[taker.source].of_windows(taker.averaged)
        most = float(max(np.abs(windows.least).max(), np.abs(windows.greatest).max()))
        squares += ((own * made.theta - taker.weights) ** 2).reshape(len(own), -1).sum(axis=1) * most**2 / 12
    return float(np.median(np.sqrt(squares))) / made.theta
