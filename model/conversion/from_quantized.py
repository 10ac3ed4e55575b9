"""From a quantized network to the spiking one that computes the same integers.

A quantized layer gives ``clip(round(scale_in * scale_w / scale_out * (w x) + b))``, with integers ``w`` and ``x``. A layer that
fires deferred counts ``floor((W n + B) / 2**f)`` within its limits. So counts ``n`` are the levels, above their lowest where they
do not start at 0 (`model.conversion.levels`); ``B`` holds the bias, what the lowest levels bring along, and half a threshold for
rounding; and ``W`` is ``w`` bit for bit wherever the three scales together are a power of two (for each channel one,
`model.conversion.exact_weights`). Where they are not, ``W`` has the ratio folded in, in as many bits as there is room for, and a
count may be off where a sum is next to the middle between two levels (`model.conversion.ratio_weights`). Every layer is compared
with ONNX Runtime on the calibration frames (`model.conversion.exactness`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from model.arrays import Images, Ints
from model.conversion.bounds import Bounds
from model.conversion.exact_weights import exact_fraction, fixed, frame_of, needed_bits, of_table, with_halves
from model.conversion.exactness import Exactness, compared, with_comparison
from model.conversion.levels import Scaled, input_and_rest, is_chosen, is_own, levels_of_pixels, scaled_layers, step_of
from model.conversion.quantize import Settings
from model.conversion.quantized_frames import run_images
from model.conversion.ratio_weights import finest_fraction, made_up, with_frames, worst_error
from model.golden import answers
from model.importers.float_network import ConversionError, FloatNetwork, pool_of
from model.importers.hardware_form import hardware_form
from model.network import INPUT, MOST_COUNT_BITS, MOST_POTENTIAL_BITS, Convolution, Layer, Network, Neurons

__all__ = ["FromQuantized", "check_options", "from_quantized", "layers_as_built", "quantized_lines"]

_MOST_FOR_GUARD = 3
"""Bits of weights that are given up so that no sum, whatever the frame, can wrap unseen."""

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
        lines += [
            f"sums of {layer.name} can be up to {1 << layer.overflow} times what potentials of {MOST_POTENTIAL_BITS} bits hold, "
            "and wrap unseen from twice that on: on frames unlike those of calibration"
            for layer in self.layers
            if layer.overflow > 1
        ]
        off = f", by {largest} at most" if differing else ""
        lines.append(
            f"on {self.frames:,} frames {differing:,} of {counts:,} counts differ from ONNX Runtime's levels{off}, and "
            f"{self.differing:,} answers"
        )
        return tuple(lines)

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
    coding, source, rest = input_and_rest(floats, Settings())
    exact = {name: exact_fraction(one.weights) is not None for name, one in scaled_layers(rest, source).items()}
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
    coding, source, rest = input_and_rest(floats, settings)
    is_first = is_own(rest.layers[0]) and not is_chosen(settings)
    if settings.for_hardware:
        rest = hardware_form(rest)
    scaled = scaled_layers(rest, source)
    if is_first:
        first = scaled[rest.layers[0].name]
        scaled[first.layer.name] = replace(first, table=levels_of_pixels(floats, rest.layers[0]) - first.base)
    scaled = with_frames(rest, scaled, coding, images)
    layers: list[Layer] = []
    exactness: list[Exactness] = []
    bounds = Bounds.of_input(rest.input_shape.channels, coding.levels)
    before = INPUT
    for layer in rest.layers:
        if layer.kind == "maxpool":
            layers.append(pool_of(layer, before))
        else:
            made, bounds, near = _integers(rest, scaled[layer.name], before, bounds)
            layers.append(made)
            exactness.append(near)
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
        return replace(floats, layers=floats.layers[1:])
    return floats


def _integers(
    floats: FloatNetwork, scaled: Scaled, source: str, counts: Bounds
) -> tuple[Neurons, Bounds, Exactness]:
    """The layer in integers, and the bounds of its counts, from those of its source."""
    frame = frame_of(scaled, source)
    windows = counts.of_windows(scaled.layer.averaged)
    if scaled.table is not None and (found := of_table(scaled, frame)) is not None:
        return _sized(found, windows, exact=True, worst=0)
    f = exact_fraction(scaled.weights)
    exact = f is not None
    if f is None or needed_bits(fixed(floats.path, scaled, frame, windows, f), windows) > MOST_POTENTIAL_BITS:
        most = finest_fraction(scaled, frame)
        if f is None or f > most:
            exact = False
            f = _with_guard(floats.path, scaled, frame, windows, min(most, MOST_POTENTIAL_BITS - 4))
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
        scaled = made_up(scaled, frame, f)
    made = fixed(floats.path, scaled, frame, windows, f)
    # Where nothing is exact, what is half way is not either.
    if exact and scaled.half and scaled.base % 2 == 0:
        made = with_halves(floats.path, scaled, made, windows, f)
    return _sized(made, windows, exact=exact, worst=0 if exact else worst_error(given, made, windows))


def _with_guard(path: Path, scaled: Scaled, frame: Neurons, windows: Bounds, finest: int) -> int:
    """The most fractional bits, up to ``finest``, at which no sum passes the guard bit; ``finest`` where that costs too many."""
    for f in range(finest, max(finest - _MOST_FOR_GUARD, 0) - 1, -1):
        if needed_bits(fixed(path, scaled, frame, windows, f), windows) <= MOST_POTENTIAL_BITS + 1:
            return f
    return finest


def _sized(made: Neurons, windows: Bounds, *, exact: bool, worst: int) -> tuple[Neurons, Bounds, Exactness]:
    """The layer with a potential as wide as it needs, and the bounds of its counts."""
    needed = needed_bits(made, windows)
    made = replace(made, potential_bits=max(min(needed, MOST_POTENTIAL_BITS), made.threshold_log2 + 2))
    weights = made.weights.astype(np.int64)
    bounds = windows.sums(weights, made.groups if isinstance(made, Convolution) else 1).counts(
        made.bias, made.theta, relu=made.relu, deferred=True
    )
    low, high = made.count_limits
    bounds = Bounds(np.clip(bounds.least, low, high), np.clip(bounds.greatest, low, high))
    near = Exactness(
        name=made.name,
        exact=exact,
        weight_bits=made.weight_bits,
        worst=worst,
        overflow=max(0, needed - MOST_POTENTIAL_BITS),
    )
    return made, bounds, near


def _with_output(floats: FloatNetwork, network: Network, last: Scaled | None, images: Images) -> Network:
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
