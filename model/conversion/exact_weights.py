"""Weights of a quantized file bit for bit, where the ratio of its scales is a power of two.

That ratio is the threshold. Sums half way between two levels then occur, and go to the even level as the file has it.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.arrays import Floats
from model.conversion.bounds import Bounds
from model.conversion.levels import FULL, Scaled, is_whole
from model.importers.float_network import ConversionError
from model.network import MOST_COUNT_BITS, MOST_POTENTIAL_BITS, MOST_WEIGHT_BITS, Convolution, Linear, Neurons

__all__ = ["bit_for_bit", "exact_fraction", "fixed", "frame_of", "greatest_count", "needed_bits", "of_table"]

_NEARLY = 1e-6
"""Part of a unit of the potential that a bias in float64 may be off by."""


def frame_of(scaled: Scaled, source: str) -> Neurons:
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


def greatest_count(frame: Neurons) -> int:
    """The greatest count, sign aside."""
    low, high = frame.count_limits
    return max(-low, high) if frame.count_max is not None or frame.count_bits < MOST_COUNT_BITS else 0


def exact_fraction(weights: Floats) -> int | None:
    """The least ``f`` at which all weights times ``2**f`` are integers that fit; None where there is none."""
    for f in range(MOST_POTENTIAL_BITS - 2):
        found = weights * float(1 << f)
        if np.abs(found).max() >= 1 << MOST_WEIGHT_BITS - 1:
            return None
        if is_whole(found):
            return f
    return None


def fixed(path: Path, scaled: Scaled, frame: Neurons, windows: Bounds, f: int) -> Neurons:
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


def needed_bits(layer: Neurons, windows: Bounds) -> int:
    """Bits that hold the potential less any count's thresholds, whatever the frame."""
    sums = windows.sums(layer.weights.astype(np.int64), layer.groups if isinstance(layer, Convolution) else 1)
    bias = layer.bias.reshape(-1, layer.bias.shape[-1]).astype(np.int64)
    least, greatest = int((sums.least + bias.min(axis=0)).min()), int((sums.greatest + bias.max(axis=0)).max())
    low, high = (layer.count_limits[n] if greatest_count(layer) else 0 for n in (0, 1))
    return max(-(min(least, 0) - high * layer.theta), max(greatest, 0) - low * layer.theta).bit_length() + 1


def bit_for_bit(path: Path, scaled: Scaled, frame: Neurons, windows: Bounds, f: int) -> tuple[Neurons, bool]:
    """The layer with the file's weights, exact with ``f`` fractional bits, and whether every sum gives the file's level.

    What is half way between two levels goes to the even one, where the format has that: an even count is to be an even level. Of
    an output without levels, outputs have the file's order for every sum.
    """
    if scaled.layer.quantizer is None:
        return _in_order(path, scaled, frame, windows, f)
    made = fixed(path, scaled, frame, windows, f)
    halves = ~_is_fraction(scaled, f)
    if not halves.any() or not scaled.half:
        return made, True
    if scaled.base % 2:
        return made, False
    if f == 0 or not halves.all():
        # Neurons whose biases are no whole units have no sum half way: with a bit more, theirs are odd, never whole thresholds.
        f += 1
    if np.abs(scaled.weights).max() * (1 << f) >= 1 << MOST_WEIGHT_BITS - 1:
        return made, False
    found = fixed(path, scaled, made, windows, f)
    return replace(found, bias=found.bias | ~halves, halves_to_even=True), True


def _in_order(path: Path, scaled: Scaled, frame: Neurons, windows: Bounds, f: int) -> tuple[Neurons, bool]:
    """An output without levels, with what biases are more than whole units said by ranks, and whether there is room for them.

    Sums are whole units, so that of two outputs which are equal but for less than a unit the ranks decide.
    """
    made = fixed(path, scaled, frame, windows, f)
    exact = scaled.bias * float(1 << f)
    whole = np.floor(exact + _NEARLY)
    fractions = np.where(exact - whole < _NEARLY, 0, exact - whole)
    known = np.unique(np.append(fractions, 0))
    bits = (len(known) - 1).bit_length()
    if not bits:
        return made, True
    finer = replace(scaled, bias=(whole + np.searchsorted(known, fractions) / (1 << bits)) / (1 << f))
    if np.abs(scaled.weights).max() * (1 << f + bits) >= 1 << MOST_WEIGHT_BITS - 1:
        return made, False
    found = fixed(path, finer, frame, windows, f + bits)
    return (found, True) if needed_bits(found, windows) <= MOST_POTENTIAL_BITS else (made, False)


def _is_fraction(scaled: Scaled, f: int) -> npt.NDArray[np.bool_]:
    """Of which neurons the bias is not whole with ``f`` fractional bits, rounding included."""
    bias = (scaled.bias + scaled.half) * float(1 << f)
    return np.abs(bias - np.rint(bias)) > _NEARLY


def of_table(scaled: Scaled, frame: Neurons) -> Neurons | None:
    """A layer that takes each pixel by itself and gives the counts of its table, all of them; None where there is none."""
    assert scaled.table is not None
    pixels, (low, high), limit = np.arange(FULL + 1), scaled.limits, 1 << MOST_POTENTIAL_BITS - 2
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
