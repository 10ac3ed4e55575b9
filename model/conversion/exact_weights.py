"""Weights of a quantized file bit for bit, where the ratio of its scales is a power of two.

That ratio is the threshold. Sums half way between two levels then occur, and go to the even level as the file has it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model.arrays import Ints, Words
from model.conversion.bounds import Bounds
from model.conversion.levels import FULL, Scaled, is_whole
from model.conversion.projections import integer_projection, sums_of, with_neurons
from model.importers.float_network import ConversionError
from model.network import MOST_COUNT_BITS, MOST_POTENTIAL_BITS, MOST_WEIGHT_BITS, Neurons

__all__ = [
    *("bit_for_bit", "exact_fraction", "fixed", "frame_of", "greatest_count", "needed_bits", "of_table"),
    *("bounds_of_sums", "with_weights"),
]

_NEARLY = 1e-6
"""Part of a unit of the potential that a bias in float64 may be off by."""


def frame_of(scaled: Scaled) -> Neurons:
    """The layer with its geometry and limits, and weights still to be put in."""
    layer = scaled.layer
    signed = bool(scaled.signed_bits)
    first, *joined = (
        integer_projection(taken, np.zeros(values.shape, np.int64))
        for taken, values in zip(layer.inputs, scaled.weights, strict=True)
    )
    return with_neurons(
        first,
        name=layer.name,
        bias=np.zeros(scaled.bias.shape, np.int64),
        threshold_log2=0,
        activation="identity" if signed else "relu",
        weight_bits=MOST_WEIGHT_BITS,
        potential_bits=MOST_POTENTIAL_BITS,
        count_bits=scaled.signed_bits or scaled.limits[1].bit_length(),
        count_max=None if signed else scaled.limits[1],
        joined=tuple(joined),
    )


def with_weights(frame: Neurons, weights: Sequence[Ints], **more: Any) -> Neurons:
    """The layer with these weights, of each input its own, in as many bits as they take; ``more`` are other fields of it."""
    bits = max(2, *(int(max(values.max(), -1 - values.min())).bit_length() + 1 for values in weights))
    first, *others = (values.astype(np.int32) for values in weights)
    joined = tuple(replace(taken, weights=values) for taken, values in zip(frame.joined, others, strict=True))
    return replace(frame, weights=first, joined=joined, weight_bits=bits, **more)


def bounds_of_sums(layer: Neurons, weights: Sequence[Ints | Words], counts: Mapping[str, Bounds]) -> Bounds:
    """Bounds of what the inputs of a layer bring it with these weights, from those of the counts of its sources."""
    return sums_of(layer.inputs, [values.astype(np.int64) for values in weights], counts)


def greatest_count(frame: Neurons) -> int:
    """The greatest count, sign aside."""
    low, high = frame.count_limits
    return max(-low, high) if frame.count_max is not None or frame.count_bits < MOST_COUNT_BITS else 0


def exact_fraction(scaled: Scaled) -> int | None:
    """The least ``f`` at which all weights times ``2**f`` are integers that fit; None where there is none."""
    rows = scaled.rows
    for f in range(MOST_POTENTIAL_BITS - 2):
        found = rows * float(1 << f)
        if np.abs(found).max() >= 1 << MOST_WEIGHT_BITS - 1:
            return None
        if is_whole(found):
            return f
    return None


def fixed(path: Path, scaled: Scaled, frame: Neurons, counts: Mapping[str, Bounds], f: int) -> Neurons:
    """The layer with ``f`` fractional bits, its widths at the most."""
    weights = [np.rint(values * float(1 << f)).astype(np.int64) for values in scaled.weights]
    bias = np.floor((scaled.bias + scaled.half) * float(1 << f) + _NEARLY)
    if frame.count_max is not None:
        # A bias from which no sum gets anywhere, or to where all sums get, need not be larger still.
        known = bounds_of_sums(frame, weights, counts)
        bias = np.clip(bias, -known.greatest, (frame.count_max << f) + 1 - known.least)
    limit = 1 << MOST_POTENTIAL_BITS - 1
    if np.abs(bias).max() >= limit:
        raise ConversionError(f"{path}: layer {scaled.layer.name!r}: biases must be less than {limit >> f} thresholds")
    return with_weights(frame, weights, bias=bias.astype(np.int32), threshold_log2=f)


def extremes_of_sums(layer: Neurons, counts: Mapping[str, Bounds]) -> tuple[int, int]:
    """The least and the greatest sum, biases included, that a frame can make in any neuron of a layer."""
    known = bounds_of_sums(layer, [taken.weights for taken in layer.inputs], counts)
    bias = layer.bias.reshape(-1, layer.bias.shape[-1]).astype(np.int64)
    return int((known.least + bias.min(axis=0)).min()), int((known.greatest + bias.max(axis=0)).max())


def needed_bits(layer: Neurons, counts: Mapping[str, Bounds]) -> int:
    """Bits that hold the potential less any count's thresholds, whatever the frame."""
    least, greatest = extremes_of_sums(layer, counts)
    low, high = (layer.count_limits[n] if greatest_count(layer) else 0 for n in (0, 1))
    return max(-(min(least, 0) - high * layer.theta), max(greatest, 0) - low * layer.theta).bit_length() + 1


def bit_for_bit(
    path: Path, scaled: Scaled, frame: Neurons, counts: Mapping[str, Bounds], f: int
) -> tuple[Neurons, bool]:
    """The layer with the file's weights, exact with ``f`` fractional bits, and whether every sum gives the file's level.

    What is half way between two levels goes to the even one, where the format has that: an even count is to be an even level. Of
    an output without levels, outputs have the file's order for every sum.
    """
    if scaled.layer.quantizer is None:
        return _in_order(path, scaled, frame, counts, f)
    made = fixed(path, scaled, frame, counts, f)
    halves = ~_is_fraction(scaled, f)
    if not halves.any() or not scaled.half:
        return made, True
    if scaled.base % 2:
        return made, False
    if f == 0 or not halves.all():
        # Neurons whose biases are no whole units have no sum half way: with a bit more, theirs are odd, never whole thresholds.
        f += 1
    if scaled.largest * (1 << f) >= 1 << MOST_WEIGHT_BITS - 1:
        return made, False
    found = fixed(path, scaled, made, counts, f)
    return replace(found, bias=found.bias | ~halves, halves_to_even=True), True


def _in_order(path: Path, scaled: Scaled, frame: Neurons, counts: Mapping[str, Bounds], f: int) -> tuple[Neurons, bool]:
    """An output without levels, with what biases are more than whole units said by ranks, and whether there is room for them.

    Sums are whole units, so that of two outputs which are equal but for less than a unit the ranks decide.
    """
    made = fixed(path, scaled, frame, counts, f)
    exact = scaled.bias * float(1 << f)
    whole = np.floor(exact + _NEARLY)
    fractions = np.where(exact - whole < _NEARLY, 0, exact - whole)
    known = np.unique(np.append(fractions, 0))
    bits = (len(known) - 1).bit_length()
    if not bits:
        return made, True
    finer = replace(scaled, bias=(whole + np.searchsorted(known, fractions) / (1 << bits)) / (1 << f))
    if scaled.largest * (1 << f + bits) >= 1 << MOST_WEIGHT_BITS - 1:
        return made, False
    found = fixed(path, finer, frame, counts, f + bits)
    return (found, True) if needed_bits(found, counts) <= MOST_POTENTIAL_BITS else (made, False)


def _is_fraction(scaled: Scaled, f: int) -> npt.NDArray[np.bool_]:
    """Of which neurons the bias is not whole with ``f`` fractional bits, rounding included."""
    bias = (scaled.bias + scaled.half) * float(1 << f)
    return np.abs(bias - np.rint(bias)) > _NEARLY


def of_table(scaled: Scaled, frame: Neurons) -> Neurons | None:
    """A layer that takes each pixel by itself and gives the counts of its table, all of them; None where there is none."""
    assert scaled.table is not None
    pixels, (low, high), limit = np.arange(FULL + 1), scaled.limits, 1 << MOST_POTENTIAL_BITS - 2
    # Each output takes one channel; of the others it has zeros where groups are written out.
    slopes, (own,) = scaled.rows.sum(axis=1), scaled.weights
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
        if len(weights) == len(own):
            made = np.array(weights, np.int64).reshape(-1, 1, 1, 1) * (own != 0)
            return with_weights(frame, [made], bias=np.array(biases, np.int32), threshold_log2=f)
    return None
