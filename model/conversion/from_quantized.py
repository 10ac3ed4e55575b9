"""From a quantized network to the spiking one that computes the same integers.

A quantized layer gives ``clip(round(scale_in * scale_w / scale_out * (w x) + b))``, with integers ``w`` and ``x``. A layer that
fires deferred counts ``floor((W n + B) / 2**f)`` within its limits. So counts ``n`` are the levels, above their lowest where they
do not start at 0; ``B`` holds the bias, what the lowest levels bring along, and half a threshold for rounding; and ``W`` is ``w``
bit for bit wherever the three scales together are a power of two (for each channel one). Where they are not, ``W`` has the ratio
folded in, in as many bits as there is room for, and a count may be off where a sum is next to the middle between two levels.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.arrays import Floats, Images, Ints
from model.conversion.bounds import Bounds
from model.conversion.coding import InputCoding
from model.conversion.quantize import Settings
from model.conversion.quantized import counts_of_layers
from model.conversion.quantized_frames import run_images
from model.conversion.rounded_weights import moments_of, rounded_together
from model.encode import counts_of_pixels
from model.golden import answers
from model.importers.float_network import ConversionError, FloatLayer, FloatNetwork
from model.importers.folding import scale_inputs
from model.importers.hardware_form import hardware_form
from model.network import (
    INPUT,
    MOST_COUNT_BITS,
    MOST_POTENTIAL_BITS,
    MOST_WEIGHT_BITS,
    Convolution,
    Layer,
    Linear,
    MaxPool,
    Network,
    Neurons,
    Shape,
)
from model.rest import counts_of_layer, pooled, weighted_sums

__all__ = ["Exactness", "FromQuantized", "check_options", "from_quantized", "layers_as_built", "quantized_lines"]

_HEADROOM = 1.5
"""Where a proven bound does not fit, potentials hold this many times the extremes of the calibration frames."""

_WHOLE = 1e-9
"""Part of a weight that float64 may be off by."""

_NEARLY = 1e-6
"""Part of a unit of the potential that a bias in float64 may be off by."""

_BATCH = 20

_MOMENT_FRAMES = 200
"""Calibration frames on which it is found which weights are best rounded together."""

_FULL = 255

_OUTPUT_MARGIN = 2
"""Bits that counts of an output without levels have beyond those at which all calibration frames are answered as in the file."""

_GRID = 1 << 8
"""Least part of a layer's largest weight that the step between its weights is looked for at."""


@dataclass(frozen=True, kw_only=True)
class Exactness:
    """How near the counts of a layer are to the levels of the file.

    Parameters
    ----------
    name : str
        The layer.
    exact : bool
        Whether weights are the file's bit for bit, and the threshold the ratio of its scales.
    weight_bits : int
        Width of a weight.
    worst : int
        How far a count can be from its level, whatever the frame, given the same levels before it.
    counts : int
        Counts compared with ONNX Runtime on calibration frames.
    differing, largest : int
        How many differ, and by how much at most.
    """

    name: str
    exact: bool
    weight_bits: int
    worst: int
    counts: int = 0
    differing: int = 0
    largest: int = 0


@dataclass(frozen=True, kw_only=True)
class FromQuantized:
    """A network made of a quantized one.

    Parameters
    ----------
    network : Network
        The network.
    layers : tuple[Exactness, ...]
        Its layers of neurons.
    thresholds : dict[str, float]
        What a spike of each stands for.
    frames, differing : int
        Calibration frames, and how many of them are answered otherwise than by the file.
    """

    network: Network
    layers: tuple[Exactness, ...]
    thresholds: dict[str, float]
    frames: int
    differing: int

    @property
    def notes(self) -> tuple[str, ...]:
        """What there is to say about it, in lines."""
        network = self.network
        exact = [layer.name for layer in self.layers if layer.exact]
        scaled = [layer for layer in self.layers if not layer.exact]
        counts, differing = (sum(getattr(layer, name) for layer in self.layers) for name in ("counts", "differing"))
        largest = max(layer.largest for layer in self.layers)
        lines = [
            f"the file is quantized: deferred firing, its own levels, input of {network.input_levels} "
            f"level{'s' if network.input_levels > 1 else ''}"
        ]
        if exact:
            lines.append(f"weights of {', '.join(exact)} are the file's bit for bit")
        lines += [
            f"scales of {layer.name} are not a power of two: weights of {layer.weight_bits} bits with their ratio folded in, a "
            f"count can be off by {layer.worst} next to the middle between two levels"
            for layer in scaled
        ]
        off = f", by {largest} at most" if differing else ""
        lines.append(
            f"on {self.frames:,} frames {differing:,} of {counts:,} counts differ from ONNX Runtime's levels{off}, and "
            f"{self.differing:,} answers"
        )
        return tuple(lines)


@dataclass(frozen=True)
class _Source:
    """What counts stand for: ``step * (count + offset)``."""

    step: float
    offset: int = 0


@dataclass(frozen=True)
class _Scaled:
    """A layer in thresholds: counts are the whole ones of ``weights`` times counts, plus ``bias``."""

    layer: FloatLayer
    weights: Floats
    bias: Floats
    half: float
    limits: tuple[int, int]
    signed_bits: int
    base: int = 0
    """The level that a count of 0 is."""
    greatest: float = 0.0
    """Of the potential on calibration frames, sign aside."""
    means: Floats | None = None
    """Of the counts of its source on them, ``(height, width, channels)``."""
    moments: Floats | None = None
    """Mean products of the counts that its weights take, two and two, on some of them."""
    table: Ints | None = None
    """Of each pixel value and channel the count, of a layer that only rounds the input."""


_REFUSED = {
    **dict.fromkeys(("--levels", "--thresholds", "--accuracy-budget"), "its activations have levels of their own"),
    **dict.fromkeys(("--paper", "--threshold"), "its scales say what its thresholds are"),
    **dict.fromkeys(("--rounding", "--no-rounding", "--rounding-layers"), "it says itself how it rounds"),
    "--weight-bits": "its weights are integers already",
    "--burst": "its layers fire deferred, as many spikes as it takes",
    "--firing immediate": "its layers round whole sums, which is what deferred firing does",
}
"""Options that do not go with a quantized file, and why."""


def check_options(path: Path, given: Collection[str]) -> None:
    """Refuse options that do not go with a quantized file.

    Parameters
    ----------
    path : Path
        The file.
    given : collection of str
        The options that were given, as ``--levels`` or ``--firing immediate``.

    Raises
    ------
    ConversionError
        One line that names the option, and says why.
    """
    for option in given:
        found = next((name for name in _REFUSED if option == name or option.startswith(f"{name} ")), None)
        if found is not None:
            raise ConversionError(f"{path}: {found} must not be given with a quantized file: {_REFUSED[found]}")


def quantized_lines(floats: FloatNetwork) -> list[str]:
    """What becomes of a quantized network, as far as it shows without data: a line each."""
    coding, source, rest = _input(floats, Settings())
    exact = {name: _exact_fraction(one.weights) is not None for name, one in _scaled_layers(rest, source).items()}
    lines = [
        "the file is quantized: it is converted with deferred firing and its own levels, and with an input of "
        f"{coding.levels} level{'s' if coding.levels > 1 else ''}"
    ]
    if any(exact.values()):
        lines.append(f"bit for bit: {', '.join(name for name in exact if exact[name])}")
    if not all(exact.values()):
        names = ", ".join(name for name in exact if not exact[name])
        lines.append(f"within a last place, as scales are not a power of two: {names}")
    return lines


def from_quantized(floats: FloatNetwork, images: Images, settings: Settings, *, name: str, origin: str = "") -> FromQuantized:
    """The spiking network, and how near it is to the file on ``images``.

    Raises
    ------
    ConversionError
        A layer has no levels, or numbers that do not fit.
    """
    coding, source, rest = _input(floats, settings)
    is_first = _is_own(rest.layers[0]) and not _is_chosen(settings)
    if settings.for_hardware:
        rest = hardware_form(rest)
    scaled = _scaled_layers(rest, source)
    if is_first:
        first = scaled[rest.layers[0].name]
        scaled[first.layer.name] = replace(first, table=_levels_of_pixels(floats, rest.layers[0]) - first.base)
    scaled = _with_frames(rest, scaled, coding, images)
    layers: list[Layer] = []
    exactness: list[Exactness] = []
    bounds = Bounds.of_input(rest.input_shape.channels, coding.levels)
    before = INPUT
    for layer in rest.layers:
        if layer.kind == "maxpool":
            layers.append(
                MaxPool(name=layer.name, source=before, window=layer.window, stride=layer.stride, padding=layer.padding)
            )
        else:
            made, bounds, found = _integers(rest, scaled[layer.name], before, bounds)
            layers.append(made)
            exactness.append(found)
        before = layer.name
    network = Network(
        name=name,
        input_shape=rest.input_shape,
        layers=tuple(layers),
        input_threshold=coding.first,
        origin=origin,
        input_levels=coding.levels,
        input_step=coding.step,
        firing="deferred",
        rest=settings.rests,
    )
    network = _with_output(floats, network, scaled.get(before), images)
    output = network.output
    if rest.layers[-1].quantizer is None and isinstance(output, Neurons) and not exactness[-1].exact:
        # Its counts are not levels, and coarser than the units that its worst is in.
        exactness[-1] = replace(exactness[-1], worst=(exactness[-1].worst >> output.threshold_log2) + 1)
    worst = {one.name: one.worst for one in exactness}
    compared, differing = _compared(floats, rest, network, images, {} if _is_chosen(settings) else worst)
    return FromQuantized(
        network=_with_events(network, images),
        layers=tuple(_with_comparison(one, compared.get(one.name)) for one in exactness),
        thresholds={key: _step(one) for key, one in scaled.items()},
        frames=len(images),
        differing=differing,
    )


def layers_as_built(floats: FloatNetwork, network: Network) -> FloatNetwork:
    """The file with the layers that ``network`` has: without one that only rounds the input, where its coding does that."""
    if len(floats.layers) == len(network.layers) + 1 and _is_own(floats.layers[0]):
        return replace(floats, layers=floats.layers[1:])
    return floats


def _with_comparison(layer: Exactness, found: Ints | None) -> Exactness:
    if found is None:
        return layer
    counts, differing, largest = map(int, found)
    return replace(layer, counts=counts, differing=differing, largest=largest)


def _step(scaled: _Scaled) -> float:
    return scaled.layer.quantizer.scale if scaled.layer.quantizer is not None else 1.0


def _is_chosen(settings: Settings) -> bool:
    """Whether the coding of the input is chosen, not the file's."""
    return settings.input_levels is not None or settings.input_threshold is not None


def _is_own(layer: FloatLayer) -> bool:
    """Whether a layer takes each value by itself and only rounds it."""
    return (
        layer.quantizer is not None
        and layer.kind == "convolution"
        and layer.window == layer.stride == layer.averaged == (1, 1)
        and layer.weights is not None
        and layer.weights.shape[1] == 1
        and layer.groups == len(layer.weights)
    )


def _input(floats: FloatNetwork, settings: Settings) -> tuple[InputCoding, _Source, FloatNetwork]:
    """The coding of the input, what its counts stand for, and the layers after it."""
    every = InputCoding(0, 1, _FULL)
    first = floats.layers[0]
    if _is_chosen(settings):
        coding = settings.coding
        rest = floats.layers[1:] if _is_own(first) and len(floats.layers) > 1 else floats.layers
        return coding, _Source(coding.value), replace(floats, layers=rest)
    if not _is_own(first) or len(floats.layers) == 1:
        return every, _Source(every.value), floats
    assert first.quantizer is not None
    levels = _levels_of_pixels(floats, first)
    own = _as_coding(levels)
    if own is None:
        return every, _Source(every.value), floats
    return own, _Source(first.quantizer.scale, int(levels[0, 0])), replace(floats, layers=floats.layers[1:])


def _levels_of_pixels(floats: FloatNetwork, first: FloatLayer) -> Ints:
    """Of each pixel value and channel the level that the file gives it, as ONNX Runtime runs it."""
    assert first.quantizer is not None
    pixels = np.arange(_FULL + 1, dtype=np.float32) / np.float32(_FULL)
    frames = np.broadcast_to(pixels[:, np.newaxis, np.newaxis, np.newaxis], (len(pixels), *floats.input_shape))
    shape = first.output_shape(floats.input_shape)
    (values,) = floats.run(frames, [first.tensor])
    values = values.reshape(len(pixels), shape.channels, -1)[:, :, 0]
    return _levels(first, values).astype(np.int64)


def _as_coding(levels: Ints) -> InputCoding | None:
    """The coding under which counts are the levels above the lowest; None where there is none."""
    counts = levels[:, 0] - levels[0, 0]
    most = int(counts[-1])
    if (levels != levels[:, :1]).any() or not 1 <= most <= _FULL or (np.diff(counts) < 0).any():
        return None
    first = int(np.argmax(counts > 0)) - 1
    pixels = np.arange(_FULL + 1)
    for step in range(1, _FULL if most > 1 else 2):
        if first + (most - 1) * step < _FULL and (counts_of_pixels(pixels.astype(np.uint8), first, step, most) == counts).all():
            return InputCoding(first, step, most)
    return None


def _levels(layer: FloatLayer, values: npt.NDArray[np.floating]) -> Floats:
    """The levels of what a tensor of the file holds, before or after it is rounded."""
    assert layer.quantizer is not None
    return np.clip(layer.quantizer.levels(values), *_limits(layer))


def _limits(layer: FloatLayer) -> tuple[int, int]:
    """The lowest and the highest level, with those that the activation cuts off left out."""
    quantizer = layer.quantizer
    assert quantizer is not None
    low, high = quantizer.low, quantizer.high
    if layer.relu:
        low = max(low, 0)
        if layer.end is not None:
            high = min(high, int(quantizer.levels(np.array([layer.end]))[0]))
    return low, max(low, high)


def _scaled_layers(floats: FloatNetwork, source: _Source) -> dict[str, _Scaled]:
    """Each layer of neurons in thresholds."""
    found: dict[str, _Scaled] = {}
    for layer, shape, _ in floats.walk():
        if layer.kind == "maxpool":
            continue
        taken, area = layer.taken(shape), layer.averaged[0] * layer.averaged[1]
        step, offset = np.full(taken, source.step), np.full(taken, source.step * source.offset * area)
        moved = scale_inputs(replace(layer, averaged=(1, 1)), step, offset)
        assert moved is not None and moved.weights is not None and moved.bias is not None
        if layer.quantizer is None:
            found[layer.name] = _without_levels(layer, moved.weights, moved.bias, floats.outputs)
            continue
        low, high = _limits(layer)
        bits = (high - low).bit_length()
        signed_bits = bits if high > low and (low, high) == (-(1 << bits - 1), (1 << bits - 1) - 1) else 0
        if layer is floats.layers[-1] and floats.outputs == 1:
            signed_bits = MOST_COUNT_BITS
        base = 0 if signed_bits else low
        if high == low:
            raise ConversionError(f"{floats.path}: layer {layer.name!r}: must have more than one level, not only {low}")
        scale = layer.quantizer.scale
        half = 0.0 if layer.quantizer.rounding == "floor" else 0.5
        found[layer.name] = _Scaled(
            layer, moved.weights / scale, moved.bias / scale - base, half, (low - base, high - base), signed_bits, base
        )
        source = _Source(scale, base)
    return found


def _without_levels(layer: FloatLayer, weights: Floats, bias: Floats, outputs: int) -> _Scaled:
    """The output without levels, in the step between its weights, so that they are integers where the file's are."""
    largest = np.abs(weights).max()
    unit = largest / ((1 << MOST_WEIGHT_BITS - 1) - 1) if largest else 1.0
    for parts in range(1, _GRID):
        if _whole(weights * (parts / largest) if largest else weights):
            unit = largest / parts if largest else 1.0
            break
    return _Scaled(layer, weights / unit, bias / unit, 0.0, (0, 0), MOST_COUNT_BITS)


def _whole(values: Floats) -> bool:
    return bool((np.abs(values - np.rint(values)) <= _WHOLE * np.abs(values)).all())


def _frame(scaled: _Scaled, source: str) -> Neurons:
    """The layer with its geometry and limits, and weights still to be put in."""
    layer = scaled.layer
    signed = bool(scaled.signed_bits)
    common = {
        "name": layer.name,
        "source": source,
        "bias": np.zeros(scaled.bias.shape, np.int64),
        "threshold_log2": 0,
        "activation": "identity" if signed else "relu",
        "weight_bits": MOST_WEIGHT_BITS,
        "potential_bits": MOST_POTENTIAL_BITS,
        "count_bits": scaled.signed_bits or scaled.limits[1].bit_length(),
        "count_max": None if signed else scaled.limits[1],
        "averaged": layer.averaged,
    }
    weights = np.zeros(scaled.weights.shape, np.int64)
    if layer.kind == "linear":
        return Linear(weights=weights, **common)  # type: ignore[arg-type]
    window = {"stride": layer.stride, "padding": layer.padding, "groups": layer.groups}
    return Convolution(weights=weights, **window, **common)  # type: ignore[arg-type]


def _with_frames(
    floats: FloatNetwork, scaled: dict[str, _Scaled], coding: InputCoding, images: Images
) -> dict[str, _Scaled]:
    """The layers with what calibration frames say of them."""
    greatest: dict[str, float] = dict.fromkeys(scaled, 0.0)
    sums: dict[str, Floats | float] = dict.fromkeys(scaled, 0.0)
    moments: dict[str, Floats | None] = dict.fromkeys(scaled)
    for at in range(0, len(images), _BATCH):
        counts = coding.counts(images[at : at + _BATCH])
        for layer, shape, output in floats.walk():
            if layer.kind == "maxpool":
                counts = pooled(_pool(layer), counts)
                continue
            one = scaled[layer.name]
            frame = _frame(one, INPUT)
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


def _pool(layer: FloatLayer) -> MaxPool:
    return MaxPool(name=layer.name, source=INPUT, window=layer.window, stride=layer.stride, padding=layer.padding)


def _integers(
    floats: FloatNetwork, scaled: _Scaled, source: str, counts: Bounds
) -> tuple[Neurons, Bounds, Exactness]:
    """The layer in integers, and the bounds of its counts, from those of its source."""
    frame = _frame(scaled, source)
    windows = counts.of_windows(scaled.layer.averaged)
    if scaled.table is not None and (found := _of_table(scaled, frame)) is not None:
        return _sized(found, windows, exact=True, worst=0)
    f = _exact_fraction(scaled.weights)
    exact = f is not None
    if f is None or _needed(_fixed(floats.path, scaled, frame, windows, f), windows) > MOST_POTENTIAL_BITS:
        room = (1 << MOST_POTENTIAL_BITS - 1) / (_HEADROOM * max(scaled.greatest, _span(frame)) + 1)
        widest = ((1 << MOST_WEIGHT_BITS - 1) - 1) / max(np.abs(scaled.weights).max(), 1e-30)
        most = int(np.floor(np.log2(min(room, widest))))
        if f is None or f > most:
            exact = False
            f = min(most, MOST_POTENTIAL_BITS - 4)
        if f < 0 and scaled.layer.quantizer is None:
            # What tells the greatest output needs no unit of its own.
            scaled, f = replace(scaled, weights=scaled.weights * 2.0**f, bias=scaled.bias * 2.0**f), 0
        if f < 0:
            raise ConversionError(
                f"{floats.path}: layer {scaled.layer.name!r}: weights and sums must fit 16 and 24 bits, not be {2.0**-f:.3g} "
                "times as large"
            )
    given = scaled
    if not exact:
        scaled = _made_up(scaled, frame, f)
    made = _fixed(floats.path, scaled, frame, windows, f)
    # Where nothing is exact, what is half way is not either.
    if exact and scaled.half and scaled.base % 2 == 0:
        made = _with_halves(floats.path, scaled, made, windows, f)
    return _sized(made, windows, exact=exact, worst=0 if exact else _worst(given, made, windows))


def _made_up(scaled: _Scaled, frame: Neurons, f: int) -> _Scaled:
    """The layer with rounded weights, and biases that make up for what these lose on average."""
    assert scaled.means is not None
    shape = Shape(*scaled.means.shape)
    flat = (scaled.weights * float(1 << f)).reshape(len(scaled.weights), -1)
    whole = np.rint(flat) if scaled.moments is None else rounded_together(flat, scaled.moments)
    weights = whole.reshape(scaled.weights.shape) / (1 << f)
    lost = weighted_sums(frame, scaled.weights - weights, scaled.means[np.newaxis], shape, scaled.layer.output_shape(shape))[0]
    bias = scaled.bias + (lost if scaled.bias.ndim == 3 else lost.mean(axis=(0, 1)))
    return replace(scaled, weights=weights, bias=bias)


def _with_halves(path: Path, scaled: _Scaled, made: Neurons, windows: Bounds, f: int) -> Neurons:
    """The layer, exact with ``f`` fractional bits, so that what is half way between two levels goes to the even one."""
    halves = ~_is_fraction(scaled, f)
    if not halves.any():
        return made
    if f == 0 or not halves.all():
        # Neurons whose biases are no whole units have no sum half way: with a bit more, theirs are odd, never whole thresholds.
        f += 1
    if np.abs(scaled.weights).max() * (1 << f) >= 1 << MOST_WEIGHT_BITS - 1:
        return made
    found = _fixed(path, scaled, made, windows, f)
    return replace(found, bias=found.bias | ~halves, halves_to_even=True)


def _is_fraction(scaled: _Scaled, f: int) -> npt.NDArray[np.bool_]:
    """Of which neurons the bias is not whole with ``f`` fractional bits, rounding included."""
    bias = (scaled.bias + scaled.half) * float(1 << f)
    return np.abs(bias - np.rint(bias)) > _NEARLY


def _sized(made: Neurons, windows: Bounds, *, exact: bool, worst: int) -> tuple[Neurons, Bounds, Exactness]:
    """The layer with a potential as wide as it needs, and the bounds of its counts."""
    made = replace(made, potential_bits=max(min(_needed(made, windows), MOST_POTENTIAL_BITS), made.threshold_log2 + 2))
    weights = made.weights.astype(np.int64)
    bounds = windows.sums(weights, made.groups if isinstance(made, Convolution) else 1).counts(
        made.bias, made.theta, relu=made.relu, deferred=True
    )
    low, high = made.count_limits
    bounds = Bounds(np.clip(bounds.least, low, high), np.clip(bounds.greatest, low, high))
    return made, bounds, Exactness(name=made.name, exact=exact, weight_bits=made.weight_bits, worst=worst)


def _of_table(scaled: _Scaled, frame: Neurons) -> Neurons | None:
    """A layer that takes each pixel by itself and gives the counts of its table, all of them; None where there is none."""
    assert scaled.table is not None
    pixels, (low, high), limit = np.arange(_FULL + 1), scaled.limits, 1 << MOST_POTENTIAL_BITS - 2
    # Each output takes one channel; of the others it has zeros where groups are written out.
    slopes = scaled.weights.reshape(len(scaled.weights), -1).sum(axis=1)
    for f in range(MOST_WEIGHT_BITS):
        weights, biases = [], []
        for slope, counts in zip(slopes, scaled.table.T, strict=True):
            for weight in np.rint(slope * (1 << f)) + np.array([0, 1, -1, 2, -2]):
                # Between which biases the sums of all pixels give their counts, of which the last ones reach on without end.
                least = ((counts << f) - weight * pixels)[counts > low].max(initial=-np.inf)
                most = (((counts + 1) << f) - 1 - weight * pixels)[counts < high].min(initial=np.inf)
                if -limit < least <= most < limit and abs(weight) < 1 << MOST_WEIGHT_BITS - 1:
                    weights.append(int(weight))
                    biases.append(int(np.floor((least + most) / 2)))
                    break
        if len(weights) == len(scaled.weights):
            made = np.array(weights, np.int32).reshape(-1, 1, 1, 1) * (scaled.weights != 0)
            bits = max(2, int(np.abs(made).max()).bit_length() + 1)
            whole = made.astype(np.int32)
            return replace(frame, weights=whole, bias=np.array(biases, np.int32), threshold_log2=f, weight_bits=bits)
    return None


def _span(frame: Neurons) -> int:
    """The greatest count, sign aside."""
    low, high = frame.count_limits
    return max(-low, high) if frame.count_max is not None or frame.count_bits < MOST_COUNT_BITS else 0


def _exact_fraction(weights: Floats) -> int | None:
    """The least ``f`` at which all weights times ``2**f`` are integers that fit; None where there is none."""
    for f in range(MOST_POTENTIAL_BITS - 2):
        found = weights * float(1 << f)
        if np.abs(found).max() >= 1 << MOST_WEIGHT_BITS - 1:
            return None
        if _whole(found):
            return f
    return None


def _fixed(path: Path, scaled: _Scaled, frame: Neurons, windows: Bounds, f: int) -> Neurons:
    """The layer with ``f`` fractional bits, its widths at the most."""
    weights = np.rint(scaled.weights * float(1 << f)).astype(np.int64)
    bias = np.floor((scaled.bias + scaled.half) * float(1 << f) + _NEARLY)
    if frame.count_max is not None:
        # A bias from which no sum gets anywhere, or to where all sums get, need not be larger still.
        sums = windows.sums(weights, scaled.layer.groups)
        bias = np.clip(bias, -sums.greatest, (frame.count_max << f) + 1 - sums.least)
    bits = max(2, int(max(weights.max(), -1 - weights.min())).bit_length() + 1)
    limit = 1 << MOST_POTENTIAL_BITS - 1
    if np.abs(bias).max() >= limit:
        raise ConversionError(f"{path}: layer {scaled.layer.name!r}: biases must be less than {limit >> f} thresholds")
    whole = weights.astype(np.int32)
    return replace(frame, weights=whole, bias=bias.astype(np.int32), threshold_log2=f, weight_bits=bits)


def _needed(layer: Neurons, windows: Bounds) -> int:
    """Bits that hold the potential less any count's thresholds, whatever the frame."""
    sums = windows.sums(layer.weights.astype(np.int64), layer.groups if isinstance(layer, Convolution) else 1)
    bias = layer.bias.reshape(-1, layer.bias.shape[-1]).astype(np.int64)
    least, greatest = int((sums.least + bias.min(axis=0)).min()), int((sums.greatest + bias.max(axis=0)).max())
    low, high = (layer.count_limits[n] if _span(layer) else 0 for n in (0, 1))
    return max(-(min(least, 0) - high * layer.theta), max(greatest, 0) - low * layer.theta).bit_length() + 1


def _worst(scaled: _Scaled, made: Neurons, windows: Bounds) -> int:
    """How far a count can be from its level where the counts before it are right."""
    off = np.abs(scaled.weights * made.theta - made.weights)
    most = max(int(np.abs(windows.least).max()), int(np.abs(windows.greatest).max()))
    return int((off.reshape(len(off), -1).sum(axis=1).max() * most + 1) / made.theta) + 1


def _with_output(floats: FloatNetwork, network: Network, last: _Scaled | None, images: Images) -> Network:
    """The network with a threshold of an output without levels: as coarse as tells classes apart, and some bits finer."""
    output = network.output
    if last is None or last.layer.quantizer is not None or not isinstance(output, Neurons):
        return network
    found = run_images(network, images)
    right = answers(found.potentials)
    greatest = int(np.abs(found.potentials).max())
    least = max(0, (2 * greatest).bit_length() - (MOST_COUNT_BITS - 1))
    coarse = least
    while (
        coarse < output.potential_bits - 2
        and greatest >> coarse + 1
        and (answers(_counted(found.potentials, coarse + 1)) == right).all()
    ):
        coarse += 1
    f = max(least, coarse - _OUTPUT_MARGIN)
    bias = output.bias + ((1 << f) - 1 if network.outputs == 1 else 0)
    counted = (2 * (greatest >> f) + 1).bit_length() + 1
    made = replace(output, bias=bias, threshold_log2=f, count_bits=min(max(counted, 2), MOST_COUNT_BITS))
    return replace(network, layers=(*network.layers[:-1], made))


def _counted(potentials: Ints, f: int) -> Ints:
    """Counts at a threshold of ``2**f``; of a single output those that are above 0 where it is."""
    return -(-potentials >> f) if potentials.shape[1] == 1 else potentials >> f


def _with_events(network: Network, images: Images) -> Network:
    """The network with the events that its layers take."""
    found = run_images(network, images)
    events = {INPUT: float(found.input_events.mean())}
    layers = []
    for index, layer in enumerate(network.layers):
        events[layer.name] = float(found.spikes[:, index].mean())
        layers.append(replace(layer, mean_events=round(events[layer.source], 1)))
    return replace(network, layers=tuple(layers))


def _compared(
    floats: FloatNetwork, rest: FloatNetwork, network: Network, images: Images, worst: dict[str, int]
) -> tuple[dict[str, Ints], int]:
    """Of each layer with levels how its counts differ from what ONNX Runtime gives, and in how many frames the answer does.

    Given ONNX Runtime's levels before it, no layer may be further off than its ``worst``, and one more where a sum is half way.
    """
    found: dict[str, Ints] = {}
    different = 0
    bases = {layer.name: _base(network, layer) for layer in rest.layers if layer.quantizer is not None}
    for batch, counts in _batches(network, images):
        theirs = _their_levels(floats, rest, batch)
        if worst:
            _check_layers(floats, network, counts[INPUT], {name: levels - bases[name] for name, levels in theirs.items()}, worst)
        for name, levels in theirs.items():
            off = np.abs(counts[name] + bases[name] - levels)
            counted, differing, largest = found.get(name, np.zeros(3, np.int64))
            found[name] = np.array([counted + off.size, differing + np.count_nonzero(off), max(largest, off.max())])
        scores = floats.scores(batch.astype(np.float32) / _FULL)
        ours = counts[network.output.name].reshape(len(batch), -1)
        different += int((answers(ours) != answers(scores)).sum())
    return found, different


def _check_layers(
    floats: FloatNetwork, network: Network, counts: Ints, theirs: dict[str, Ints], worst: dict[str, int]
) -> None:
    """Refuse a layer that does not give ONNX Runtime's counts for ONNX Runtime's counts of the layer before it."""
    for layer, shape, output in network.walk():
        counts = counts_of_layer(layer, shape, output, counts, deferred=True)
        if layer.name in theirs:
            off = int(np.abs(counts - theirs[layer.name]).max())
            if worst[layer.name] and off > 1:
                raise ConversionError(
                    f"{floats.path}: layer {layer.name!r}: counts must be within one of ONNX Runtime's levels, not {off} off: "
                    "with scales that are not a power of two, so many levels do not fit potentials of 24 bits; quantize "
                    "activations to 8 bits"
                )
            if off > worst[layer.name] + 1:
                raise ConversionError(
                    f"{floats.path}: layer {layer.name!r}: counts must be ONNX Runtime's levels, not {off} off; report this file"
                )
            counts = theirs[layer.name]


def _batches(network: Network, images: Images) -> Iterator[tuple[Images, dict[str, Ints]]]:
    """Batches of frames with the counts of all layers."""
    at = 0
    for counts in counts_of_layers(network, images):
        size = len(counts[INPUT])
        yield images[at : at + size], counts
        at += size


def _base(network: Network, layer: FloatLayer) -> int:
    """The level that a count of 0 is."""
    made = network.layer(layer.name)
    assert isinstance(made, Neurons)
    return _limits(layer)[0] if made.relu else 0


def _their_levels(floats: FloatNetwork, rest: FloatNetwork, images: Images) -> dict[str, Ints]:
    """The levels of each layer as ONNX Runtime gives them, ``(frames, height, width, channels)``."""
    named = [(layer, output) for layer, _, output in rest.walk() if layer.quantizer is not None]
    if not named:
        return {}
    tensors = floats.run(images.astype(np.float32) / _FULL, [layer.tensor for layer, _ in named])
    return {
        layer.name: _by_address(_levels(layer, values), output).astype(np.int64)
        for (layer, output), values in zip(named, tensors, strict=True)
    }


def _by_address(values: Floats, shape: Shape) -> Floats:
    """Values that go along channels, height, width."""
    found: Floats = values.reshape(len(values), shape.channels, shape.height, shape.width).transpose(0, 2, 3, 1)
    return found
