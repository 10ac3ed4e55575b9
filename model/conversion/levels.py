"""The layers of a quantized file in thresholds: what its quantizers become.

A quantized layer gives ``clip(round(scale_in * scale_w / scale_out * (w x) + b))``, with integers ``w`` and ``x``. Its levels are
counts, above the lowest where they do not start at 0, and its activation is in units of what one level stands for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from model.arrays import Floats, Ints
from model.conversion.coding import InputCoding
from model.conversion.quantize import Settings
from model.encode import counts_of_pixels
from model.importers.float_network import ConversionError, FloatLayer, FloatNetwork, FloatProjection, projection_of
from model.importers.folding import scale_inputs
from model.network import INPUT, MOST_COUNT_BITS, MOST_WEIGHT_BITS, Shape

__all__ = [
    *("FULL", "Scaled", "Source", "input_and_rest", "is_chosen", "is_own", "is_whole"),
    *("levels_of_pixels", "scaled_layers", "step_between", "step_of"),
]

FULL = 255
"""The greatest pixel."""

_GRID = 1 << 8
"""Least part of a layer's largest weight that the step between its weights is looked for at."""

_WHOLE = 1e-9
"""Part of a weight that float64 may be off by."""


@dataclass(frozen=True)
class Source:
    """What counts stand for: ``step * (count + offset)``."""

    step: float
    offset: int = 0


@dataclass(frozen=True)
class Scaled:
    """A layer in thresholds: counts are the whole ones of ``weights`` times counts, plus ``bias``; weights are by input."""

    layer: FloatLayer
    weights: tuple[Floats, ...]
    bias: Floats
    half: float
    limits: tuple[int, int]
    signed_bits: int
    base: int = 0
    """The level that a count of 0 is."""
    greatest: float = 0.0
    """Of the potential on calibration frames, sign aside."""
    means: tuple[Floats, ...] = ()
    """Of the counts of each of its sources on them, ``(height, width, channels)``."""
    moments: tuple[Floats | None, ...] = ()
    """Of each input mean products of the counts that its weights take, two and two, on some of them."""
    table: Ints | None = None
    """Of each pixel value and channel the count, of a layer that only rounds the input."""

    @property
    def rows(self) -> Floats:
        """All weights of each output channel, ``(channels, weights)``."""
        return np.concatenate([values.reshape(len(values), -1) for values in self.weights], axis=1)

    @property
    def largest(self) -> float:
        """The largest weight, sign aside."""
        return max(float(np.abs(values).max()) for values in self.weights)


def input_and_rest(floats: FloatNetwork, settings: Settings) -> tuple[InputCoding, Source, FloatNetwork]:
    """The coding of the input, what its counts stand for, and the layers after it."""
    every = InputCoding(0, 1, FULL)
    first = floats.layers[0]
    if is_chosen(settings):
        coding = settings.coding
        rest = floats.without_first() if is_own(first) and len(floats.layers) > 1 else floats
        return coding, Source(coding.value), rest
    others = any(taken.source == INPUT for layer in floats.layers[1:] for taken in layer.inputs)
    if not is_own(first) or len(floats.layers) == 1 or others:
        return every, Source(every.value), floats
    assert first.quantizer is not None
    levels = levels_of_pixels(floats, first)
    own = _as_coding(levels)
    if own is None:
        return every, Source(every.value), floats
    return own, Source(first.quantizer.scale, int(levels[0, 0])), floats.without_first()


def scaled_layers(floats: FloatNetwork, source: Source) -> dict[str, Scaled]:
    """Each layer of neurons in thresholds."""
    found: dict[str, Scaled] = {}
    sources = {INPUT: source}
    for layer in floats.layers:
        if layer.kind == "maxpool":
            sources[layer.name] = sources[layer.source]
            continue
        assert layer.bias is not None
        weights, bias = [], layer.bias
        for taken in layer.inputs:
            own, offset = _of_counts(layer, taken, floats.shape_of(taken.source), sources[taken.source])
            weights.append(own)
            bias = bias + offset
        if layer.quantizer is None:
            found[layer.name] = _without_levels(layer, weights, bias)
            continue
        low, high = layer.level_limits
        bits = (high - low).bit_length()
        signed_bits = bits if high > low and (low, high) == (-(1 << bits - 1), (1 << bits - 1) - 1) else 0
        if layer is floats.layers[-1] and floats.outputs == 1:
            signed_bits = MOST_COUNT_BITS
        base = 0 if signed_bits else low
        if high == low:
            raise ConversionError(f"{floats.path}: layer {layer.name!r}: must have more than one level, not only {low}")
        scale = layer.quantizer.scale
        half = 0.0 if layer.quantizer.rounding == "floor" else 0.5
        found[layer.name] = Scaled(
            layer,
            tuple(values / scale for values in weights),
            bias / scale - base,
            half,
            (low - base, high - base),
            signed_bits,
            base,
        )
        sources[layer.name] = Source(scale, base)
    return found


def _of_counts(layer: FloatLayer, taken: FloatProjection, shape: Shape, source: Source) -> tuple[Floats, Floats]:
    """Of an input of a layer its weights on counts, and what it adds to the bias."""
    assert taken.weights is not None
    size, area = taken.taken(shape), taken.averaged[0] * taken.averaged[1]
    step, offset = np.full(size, source.step), np.full(size, source.step * source.offset * area)
    alone = replace(layer, **{**vars(projection_of(taken)), "averaged": (1, 1)}, bias=np.zeros(len(taken.weights)), joined=())
    moved = scale_inputs(alone, step, offset)
    assert moved is not None and moved.weights is not None and moved.bias is not None
    return moved.weights, moved.bias


def _without_levels(layer: FloatLayer, weights: Sequence[Floats], bias: Floats) -> Scaled:
    """The output without levels, in the step between its weights, so that they are integers where the file's are."""
    every = np.concatenate([values.reshape(-1) for values in weights])
    unit = step_between(every)
    if unit is None:
        unit = float(np.abs(every).max()) / ((1 << MOST_WEIGHT_BITS - 1) - 1)
    return Scaled(layer, tuple(values / unit for values in weights), bias / unit, 0.0, (0, 0), MOST_COUNT_BITS)


def step_of(scaled: Scaled) -> float:
    return scaled.layer.quantizer.scale if scaled.layer.quantizer is not None else 1.0


def is_own(layer: FloatLayer) -> bool:
    """Whether a layer takes each value by itself and only rounds it."""
    return (
        layer.quantizer is not None
        and not layer.joined
        and layer.kind == "convolution"
        and layer.window == layer.stride == layer.averaged == (1, 1)
        and layer.weights is not None
        and layer.weights.shape[1] == 1
        and layer.groups == len(layer.weights)
    )


def is_chosen(settings: Settings) -> bool:
    """Whether the coding of the input is chosen, not the file's."""
    return settings.input_levels is not None or settings.input_threshold is not None


def levels_of_pixels(floats: FloatNetwork, first: FloatLayer) -> Ints:
    """Of each pixel value and channel the level that the file gives it, as ONNX Runtime runs it."""
    assert first.quantizer is not None
    pixels = np.arange(FULL + 1, dtype=np.float32) / np.float32(FULL)
    frames = np.broadcast_to(pixels[:, np.newaxis, np.newaxis, np.newaxis], (len(pixels), *floats.input_shape))
    (values,) = floats.run(frames, [first.tensor])
    return first.levels(values, first.output_shape(floats.input_shape))[:, 0, 0].astype(np.int64)


def _as_coding(levels: Ints) -> InputCoding | None:
    """The coding under which counts are the levels above the lowest; None where there is none."""
    counts = levels[:, 0] - levels[0, 0]
    most = int(counts[-1])
    if (levels != levels[:, :1]).any() or not 1 <= most <= FULL or (np.diff(counts) < 0).any():
        return None
    first = int(np.argmax(counts > 0)) - 1
    pixels = np.arange(FULL + 1)
    for step in range(1, FULL if most > 1 else 2):
        if first + (most - 1) * step < FULL and (counts_of_pixels(pixels.astype(np.uint8), first, step, most) == counts).all():
            return InputCoding(first, step, most)
    return None


def step_between(weights: Floats) -> float | None:
    """The largest step of which all weights are whole multiples; None where there is none that quantizing may have given."""
    values = np.unique(np.abs(weights))
    largest = float(values[-1])
    if not largest:
        return 1.0
    if len(values) > 4 * _GRID:
        return None
    return next((largest / parts for parts in range(1, _GRID) if is_whole(values * (parts / largest))), None)


def is_whole(values: Floats) -> bool:
    """Whether all values are whole numbers, but for rounding of float64."""
    return bool((np.abs(values - np.rint(values)) <= _WHOLE * np.abs(values)).all())
