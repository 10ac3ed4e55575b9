"""From a quantized network to the spiking one that computes the same integers.

A quantized layer gives ``clip(round(scale_in * scale_w / scale_out * (w x) + b))``, with integers ``w`` and ``x``. A layer that
fires deferred counts ``floor((W n + B) / 2**f)`` within its limits. So counts ``n`` are the levels, above their lowest where they
do not start at 0 (`model.conversion.levels`); ``B`` holds the bias, what the lowest levels bring along, and half a threshold for
rounding; and ``W`` is ``w`` bit for bit wherever the three scales together are a power of two (for each channel one,
`model.conversion.exact_weights`). Where they are not, ``W`` has the ratio folded in, in as many bits as there is room for, and a
count may be off where a sum is next to the middle between two levels (`model.conversion.ratio_weights`). A layer of several
inputs has a ``scale_in`` of each; a sum of levels has ones for ``w``. Every layer is compared with ONNX Runtime on the
calibration frames (`model.conversion.exactness`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from model.arrays import Images, Ints
from model.conversion.bounds import Bounds
from model.conversion.exact_weights import bit_for_bit, bounds_of_sums, exact_fraction, fixed, frame_of, needed_bits, of_table
from model.conversion.exactness import Exactness, compared, with_comparison
from model.conversion.levels import Scaled, input_and_rest, is_chosen, is_own, levels_of_pixels, scaled_layers, step_of
from model.conversion.multiples import of_multiples
from model.conversion.quantize import Settings
from model.conversion.quantized_frames import run_images
from model.conversion.ratio_weights import finest_fraction, made_up, usual_error, with_frames, worst_error
from model.golden import answers
from model.importers.float_network import ConversionError, FloatNetwork, pool_of
from model.importers.hardware_form import without_groups
from model.network import INPUT, MOST_COUNT_BITS, MOST_POTENTIAL_BITS, MOST_WEIGHT_BITS, Layer, Network, Neurons

__all__ = ["FromQuantized", "check_options", "from_quantized", "layers_as_built", "quantized_lines"]

_MOST_FOR_GUARD = 3
"""Bits of weights that are given up so that no sum, whatever the frame, can wrap unseen."""

_MOST_FOR_GUARD_OF_OUTPUT = 7
"""The same of an output without levels, which only has to tell the greatest."""

_MOST_USUAL_ERROR = 1.0
"""Standard deviation of a count from its level, from which on some counts are more than one off on any frames."""

_OUTPUT_MARGIN = 2
"""Bits that counts of an output without levels have beyond those at which all calibration frames are answered as in the file."""


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
        counts, differing = (sum(getattr(layer, name) for layer in self.layers) for name in ("counts", "differing"))
        largest = max(layer.largest for layer in self.layers)
        lines = [
            f"the file is quantized: deferred firing, its own levels, input of {network.input_levels} "
            f"level{'s' if network.input_levels > 1 else ''}"
        ]
        if names := [layer.name for layer in self.layers if layer.exact and layer.bit_for_bit]:
            lines.append(f"weights of {', '.join(names)} are the file's bit for bit")
        if names := [layer.name for layer in self.layers if layer.exact and not layer.bit_for_bit]:
            lines.append(f"weights of {', '.join(names)} are multiples of the file's, at which every sum gives the file's level")
        lines += [layer.reason for layer in self.layers if not layer.exact]
        lines += [
            f"sums of {layer.name} can be up to {1 << layer.overflow} times what potentials of {MOST_POTENTIAL_BITS} bits hold, "
            "and wrap unseen from twice that on: on frames unlike those of calibration"
            for layer in self.layers
            if layer.overflow > 1
        ]
        lines += [
            f"sums of {layer.name} can be up to 2 times what potentials of {MOST_POTENTIAL_BITS} bits hold: frames with such "
            "sums are counted as saturated, and are not exact"
            for layer in self.layers
            if layer.overflow == 1 and layer.exact
        ]
        output = network.output
        if not self.layers[-1].counts and isinstance(output, Neurons) and output.threshold_log2:
            lines.append(
                f"outputs are counted in steps of {output.theta:,} units of {output.name}: of those that are less apart, and of "
                "equal count, the first is the answer"
            )
        off = f", by {largest} at most" if differing else ""
        lines.append(
            f"on {self.frames:,} frames {differing:,} of {counts:,} counts differ from ONNX Runtime's levels{off}, and "
            f"{self.differing:,} answers"
        )
        return tuple(lines)

_OUTPUT_SHARE = 1 / 8
"""Part of the spikes of all layers before it, and of the input, that an output without levels may fire for finer counts."""

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


_BIT_FOR_BIT = "bit for bit"
_MULTIPLES = "every count the file's level, with weights that are multiples of the file's"
_RATIO = "within a last place, as scales are not a power of two"
_KINDS = (_BIT_FOR_BIT, _MULTIPLES, _RATIO)
"""How near layers are to the file, as `quantized_lines` says it."""


def quantized_lines(floats: FloatNetwork) -> list[str]:
    """What becomes of a quantized network, as far as it shows without data: a line each.

    Raises
    ------
    ConversionError
        It does not convert, whatever the data.
    """
    _check_kinds(floats)
    coding, source, rest = input_and_rest(floats, Settings())
    scaled = _with_table(floats, rest, scaled_layers(rest, source), Settings())
    kinds: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    bounds = {INPUT: Bounds.of_input(rest.input_shape.channels, coding.levels)}
    for layer in rest.layers:
        if layer.kind == "maxpool":
            bounds[layer.name] = bounds[layer.source]
            continue
        one = scaled[layer.name]
        frame = frame_of(one)
        low, high = frame.count_limits
        channels = len(frame.weights)
        bounds[layer.name] = Bounds(np.full(channels, low), np.full(channels, high))
        kind = _RATIO
        if (found := _exactly(floats.path, one, frame, bounds, MOST_POTENTIAL_BITS)) is not None:
            kind = _BIT_FOR_BIT if found[1] else _MULTIPLES
            bounds[layer.name] = _bounds(found[0], bounds)
        elif _own_fraction(floats.path, one, frame, bounds, MOST_POTENTIAL_BITS) is None:
            _check_ratio(rest, one, frame, bounds)
        kinds[kind].append(layer.name)
    lines = [
        "the file is quantized: it is converted with deferred firing and its own levels, and with an input of "
        f"{coding.levels} level{'s' if coding.levels > 1 else ''}"
    ]
    return lines + [f"{kind}: {', '.join(names)}" for kind, names in kinds.items() if names]


def from_quantized(floats: FloatNetwork, images: Images, settings: Settings, *, name: str, origin: str = "") -> FromQuantized:
    """The spiking network, and how near it is to the file on ``images``.

    Raises
    ------
    ConversionError
        A layer has no levels, or numbers that do not fit.
    """
    _check_kinds(floats)
    coding, source, rest = input_and_rest(floats, settings)
    built = without_groups(rest) if settings.ungroup else rest
    scaled = _with_table(floats, rest, scaled_layers(built, source), settings)
    rest = built
    scaled = with_frames(rest, scaled, coding, images)
    layers: list[Layer] = []
    exactness: list[Exactness] = []
    bounds = {INPUT: Bounds.of_input(rest.input_shape.channels, coding.levels)}
    for layer in rest.layers:
        if layer.kind == "maxpool":
            layers.append(pool_of(layer))
            bounds[layer.name] = bounds[layer.source]
        else:
            made, bounds[layer.name], near = _integers(rest, scaled[layer.name], bounds)
            layers.append(made)
            exactness.append(near)
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
    network = _with_output(floats, network, scaled.get(rest.layers[-1].name), images)
    output = network.output
    if rest.layers[-1].quantizer is None and isinstance(output, Neurons) and not exactness[-1].exact:
        # Its counts are not levels, and coarser than the units that its worst is in.
        exactness[-1] = replace(exactness[-1], worst=(exactness[-1].worst >> output.threshold_log2) + 1)
    worst = {one.name: one.worst for one in exactness}
    found, differing = compared(floats, rest, network, images, {} if is_chosen(settings) else worst)
    return FromQuantized(
        network=_with_events(network, images),
        layers=tuple(with_comparison(one, found.get(one.name)) for one in exactness),
        thresholds={key: step_of(one) for key, one in scaled.items()},
        frames=len(images),
        differing=differing,
    )


def layers_as_built(floats: FloatNetwork, network: Network) -> FloatNetwork:
    """The file with the layers that ``network`` has: without one that only rounds the input, where its coding does that."""
    if len(floats.layers) == len(network.layers) + 1 and is_own(floats.layers[0]):
        return floats.without_first()
    return floats


def _with_table(
    floats: FloatNetwork, rest: FloatNetwork, scaled: dict[str, Scaled], settings: Settings
) -> dict[str, Scaled]:
    """The layers, with the table of the first one where that only rounds the input."""
    first = rest.layers[0]
    if not is_own(first) or is_chosen(settings):
        return scaled
    one = scaled[first.name]
    return {**scaled, first.name: replace(one, table=levels_of_pixels(floats, first) - one.base)}


_HALVES_UP = (
    "weights of {0.name} are the file's bit for bit, and a sum half way between two levels goes up, not to the even one: a "
    "count can be off by 1 there"
)
_UNIT_CUT_OFF = (
    "weights of {0.name} are the file's bit for bit, and of its biases what is less than a unit of its sums is cut off: of "
    "outputs that are next to equal another can be the greatest"
)
_FOLDED_IN = (
    "scales of {0.name} are not a power of two: weights of {0.weight_bits} bits with their ratio folded in, a count can be "
    "off by {1} next to the middle between two levels"
)
_FOLDED_IN_OUTPUT = (
    "scales of {0.name} are not a power of two: weights of {0.weight_bits} bits with their ratio folded in, and of outputs "
    "that are next to equal another can be the greatest"
)
"""Why a layer is not exact: the layer, and how far a count can be off."""


def _integers(
    floats: FloatNetwork, scaled: Scaled, counts: Mapping[str, Bounds]
) -> tuple[Neurons, Bounds, Exactness]:
    """The layer in integers, and the bounds of its counts, from those of its sources."""
    path, frame = floats.path, frame_of(scaled)
    finest = finest_fraction(scaled, frame)
    if (found := _exactly(path, scaled, frame, counts, finest)) is not None:
        return _sized(found[0], counts, bit_for_bit=found[1])
    f = _own_fraction(path, scaled, frame, counts, finest)
    if f is not None:
        own, _ = bit_for_bit(path, scaled, frame, counts, f)
        reason = _UNIT_CUT_OFF if scaled.layer.quantizer is None else _HALVES_UP
        return _sized(own, counts, bit_for_bit=True, worst=1, reason=reason.format(own))
    _check_ratio(floats, scaled, frame, counts)
    f = min(finest, MOST_POTENTIAL_BITS - 4)
    if scaled.layer.quantizer is None:
        # What tells the greatest output needs no unit of its own.
        scaled, f = _scaled_with_guard(path, scaled, frame, counts, f), 0
    elif f >= 0:
        f = _fraction_with_guard(path, scaled, frame, counts, f)
    else:
        raise _too_large(floats, scaled, f)
    made = fixed(path, made_up(scaled, frame, f), frame, counts, f)
    worst = worst_error(scaled, made, counts)
    reason = _FOLDED_IN_OUTPUT if scaled.layer.quantizer is None else _FOLDED_IN
    return _sized(made, counts, worst=worst, reason=reason.format(made, worst))


def _check_kinds(floats: FloatNetwork) -> None:
    """Refuse layers that are not converted with levels."""
    for layer in floats.layers:
        if any(taken.kind == "transposed" for taken in layer.inputs):
            raise ConversionError(
                f"{floats.path}: layer {layer.name!r}: must not be a transposed convolution in a quantized file; use a "
                "convolution, or convert the float network"
            )


def _check_ratio(floats: FloatNetwork, scaled: Scaled, frame: Neurons, counts: Mapping[str, Bounds]) -> None:
    """Refuse a layer whose weights do not fit with the ratio of its scales folded in, whatever the data."""
    if scaled.layer.quantizer is None:
        return
    f = min(finest_fraction(replace(scaled, greatest=0.0), frame), MOST_POTENTIAL_BITS - 4)
    if f < 0:
        raise _too_large(floats, scaled, f)
    made = fixed(floats.path, scaled, frame, counts, f)
    if usual_error(scaled, made, counts) > _MOST_USUAL_ERROR:
        low, high = scaled.limits
        raise ConversionError(
            f"{floats.path}: layer {scaled.layer.name!r}: counts must be within one of ONNX Runtime's levels: with scales "
            f"that are not a power of two ({_scales(floats, scaled)}), {high - low + 1:,} levels do not fit potentials of "
            f"{MOST_POTENTIAL_BITS} bits; quantize activations to 8 bits"
        )


def _too_large(floats: FloatNetwork, scaled: Scaled, f: int) -> ConversionError:
    """The error of a layer whose weights and sums fit with no fewer than ``f`` fractional bits."""
    return ConversionError(
        f"{floats.path}: layer {scaled.layer.name!r}: weights and sums must fit {MOST_WEIGHT_BITS} and {MOST_POTENTIAL_BITS} "
        f"bits, not be {2.0**-f:.3g} times as large, as they are with its scales ({_scales(floats, scaled)}); quantize each "
        "activation with a scale that covers its values"
    )


def _scales(floats: FloatNetwork, scaled: Scaled) -> str:
    """The scales of the levels of a layer and of those that it takes, in words."""
    layers = {layer.name: layer for layer in floats.layers}
    found: dict[str, None] = {}
    for name in (*(taken.source for taken in scaled.layer.inputs), scaled.layer.name):
        while name in layers and layers[name].kind == "maxpool":
            name = layers[name].source
        if name in layers and (quantizer := layers[name].quantizer) is not None:
            found[f"{name} {quantizer.scale:g}"] = None
    return ", ".join(found)


def _exactly(
    path: Path, scaled: Scaled, frame: Neurons, counts: Mapping[str, Bounds], finest: int
) -> tuple[Neurons, bool] | None:
    """The layer where every sum can give the file's level, and whether with the file's weights bit for bit; None elsewhere."""
    if scaled.table is not None and (found := of_table(scaled, frame)) is not None:
        return found, True
    f = _own_fraction(path, scaled, frame, counts, finest)
    if f is not None:
        own, is_exact = bit_for_bit(path, scaled, frame, counts, f)
        if is_exact:
            return own, True
    found = of_multiples(scaled, frame, counts)
    return None if found is None else (found, False)


def _own_fraction(path: Path, scaled: Scaled, frame: Neurons, counts: Mapping[str, Bounds], finest: int) -> int | None:
    """The fractional bits with which weights are the file's; None where there are none, or more than ``finest`` and no room."""
    f = exact_fraction(scaled)
    if f is None or f <= finest or needed_bits(fixed(path, scaled, frame, counts, f), counts) <= MOST_POTENTIAL_BITS:
        return f
    return None


def _fraction_with_guard(path: Path, scaled: Scaled, frame: Neurons, counts: Mapping[str, Bounds], finest: int) -> int:
    """The most fractional bits, up to ``finest``, at which no sum passes the guard bit; ``finest`` where that costs too many."""
    for f in range(finest, max(finest - _MOST_FOR_GUARD, 0) - 1, -1):
        if needed_bits(fixed(path, scaled, frame, counts, f), counts) <= MOST_POTENTIAL_BITS + 1:
            return f
    return finest


def _scaled_with_guard(path: Path, scaled: Scaled, frame: Neurons, counts: Mapping[str, Bounds], finest: int) -> Scaled:
    """An output without levels in the finest unit, up to ``2**-finest``, in which no sum passes the guard bit."""
    tried = [
        replace(scaled, weights=tuple(values * 2.0**f for values in scaled.weights), bias=scaled.bias * 2.0**f)
        for f in range(finest, finest - _MOST_FOR_GUARD_OF_OUTPUT - 1, -1)
    ]
    fitting = (
        one for one in tried if needed_bits(fixed(path, one, frame, counts, 0), counts) <= MOST_POTENTIAL_BITS + 1
    )
    return next(fitting, tried[0])


def _sized(
    made: Neurons, counts: Mapping[str, Bounds], *, bit_for_bit: bool = False, worst: int = 0, reason: str = ""
) -> tuple[Neurons, Bounds, Exactness]:
    """The layer with a potential as wide as it needs, and the bounds of its counts."""
    needed = needed_bits(made, counts)
    made = replace(made, potential_bits=max(min(needed, MOST_POTENTIAL_BITS), made.threshold_log2 + 2))
    near = Exactness(
        name=made.name,
        exact=not worst,
        bit_for_bit=bit_for_bit,
        weight_bits=made.weight_bits,
        worst=worst,
        reason=reason,
        overflow=max(0, needed - MOST_POTENTIAL_BITS),
    )
    return made, _bounds(made, counts), near


def _bounds(made: Neurons, counts: Mapping[str, Bounds]) -> Bounds:
    """Of the counts of the layer, from those of its sources."""
    known = bounds_of_sums(made, [taken.weights for taken in made.inputs], counts)
    found, (low, high) = known.counts(made.bias, made.theta, relu=made.relu, deferred=True), made.count_limits
    return Bounds(np.clip(found.least, low, high), np.clip(found.greatest, low, high))


def _with_output(floats: FloatNetwork, network: Network, last: Scaled | None, images: Images) -> Network:
    """The network with a threshold of an output without levels: as coarse as tells classes apart, and some bits finer.

    It is finer still as long as its spikes are few beside those of the network: so outputs that are nearly equal are told apart.
    """
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
    before = float((found.input_events + found.spikes[:, :-1].sum(axis=1)).mean())
    sums = float(np.abs(found.potentials).sum(axis=1).mean())
    while f > least and sums / (1 << f - 1) <= _OUTPUT_SHARE * before:
        f -= 1
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
        layers.append(replace(layer, mean_events=round(sum(events[source] for source in layer.sources), 1)))
    return replace(network, layers=tuple(layers))
