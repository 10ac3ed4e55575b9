"""Counts compared with the levels that ONNX Runtime gives for a quantized file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from model.arrays import Images, Ints
from model.conversion.levels import FULL
from model.conversion.quantized import counts_of_layers
from model.golden import answers
from model.importers.float_network import ConversionError, FloatLayer, FloatNetwork
from model.network import INPUT, Network, Neurons
from model.rest import counts_of_layer

__all__ = ["Exactness", "compared", "with_comparison"]


@dataclass(frozen=True, kw_only=True)
class Exactness:
    """How near the counts of a layer are to the levels of the file.

    Parameters
    ----------
    name : str
        The layer.
    exact : bool
        Whether every count is the file's level, whatever the frame, given the same levels before it.
    bit_for_bit : bool
        Whether weights are the file's, and the threshold the ratio of its scales.
    weight_bits : int
        Width of a weight.
    worst : int
        How far a count can be from its level, whatever the frame, given the same levels before it.
    reason : str
        Why it is not exact; empty where it is.
    overflow : int
        Bits more than a potential has that the greatest sum, whatever the frame, would need. One more is the guard bit, which
        tells that a sum did not fit; beyond it sums wrap unseen.
    counts : int
        Counts compared with ONNX Runtime on calibration frames.
    differing, largest : int
        How many differ, and by how much at most.
    disagreeing : int
        How many differ where ONNX Runtime's own levels are taken for the counts before them.
    """

    name: str
    exact: bool
    bit_for_bit: bool
    weight_bits: int
    worst: int
    reason: str = ""
    overflow: int = 0
    counts: int = 0
    differing: int = 0
    largest: int = 0
    disagreeing: int = 0


def compared(
    floats: FloatNetwork, rest: FloatNetwork, network: Network, images: Images, worst: dict[str, int]
) -> tuple[dict[str, Ints], int]:
    """Of each layer with levels how its counts differ from what ONNX Runtime gives, and in how many frames the answer does.

    Of each the counts, how many differ, by how much at most, and how many do so given ONNX Runtime's levels before it: of these
    none may be further off than the layer's ``worst``, and one more where float32 rounds its sums.
    """
    found: dict[str, Ints] = {}
    different = 0
    bases = {layer.name: _base(network, layer) for layer in rest.layers if layer.quantizer is not None}
    for batch, counts in _batches(network, images):
        theirs = _their_levels(floats, rest, batch)
        given = {name: levels - bases[name] for name, levels in theirs.items()}
        disagreeing = _disagreeing(floats, network, counts[INPUT], given, worst) if worst else {}
        for name, levels in theirs.items():
            off = np.abs(counts[name] + bases[name] - levels)
            counted, differing, largest, before = found.get(name, np.zeros(4, np.int64))
            sums = counted + off.size, differing + np.count_nonzero(off), before + disagreeing.get(name, 0)
            found[name] = np.array([*sums[:2], max(largest, off.max()), sums[2]])
        scores = floats.scores(batch.astype(np.float32) / FULL)
        ours = counts[network.output.name].reshape(len(batch), -1)
        different += int((answers(ours) != answers(scores)).sum())
    return found, different


def with_comparison(layer: Exactness, found: Ints | None) -> Exactness:
    """The layer with what `compared` found of it; None where it has no levels."""
    if found is None:
        return layer
    counts, differing, largest, disagreeing = map(int, found)
    if layer.exact and disagreeing:
        reason = (
            f"{layer.name} is not exact: {disagreeing:,} of its counts on calibration frames are one off what ONNX Runtime gives "
            "for the same levels before them, as sums of float32 round"
        )
        layer = replace(layer, exact=False, reason=reason)
    return replace(
        layer,
        counts=counts,
        differing=differing,
        largest=largest,
        disagreeing=disagreeing,
    )


def _disagreeing(
    floats: FloatNetwork, network: Network, counts: Ints, theirs: dict[str, Ints], worst: dict[str, int]
) -> dict[str, int]:
    """Of each layer how many counts are not ONNX Runtime's for ONNX Runtime's counts of the layer before it.

    Raises
    ------
    ConversionError
        A layer is further off than it may be.
    """
    found: dict[str, int] = {}
    known = {INPUT: counts}
    for layer, _, output in network.walk():
        known[layer.name] = counts_of_layer(network, layer, output, known)
        if layer.name in theirs:
            differences = np.abs(known[layer.name] - theirs[layer.name])
            found[layer.name] = int(np.count_nonzero(differences))
            off = int(differences.max())
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
            known[layer.name] = theirs[layer.name]
    return found


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
    return layer.level_limits[0] if made.relu else 0


def _their_levels(floats: FloatNetwork, rest: FloatNetwork, images: Images) -> dict[str, Ints]:
    """The levels of each layer as ONNX Runtime gives them, ``(frames, height, width, channels)``."""
    named = [(layer, output) for layer, _, output in rest.walk() if layer.quantizer is not None]
    if not named:
        return {}
    tensors = floats.run(images.astype(np.float32) / FULL, [layer.tensor for layer, _ in named])
    return {
        layer.name: layer.levels(values, output).astype(np.int64)
        for (layer, output), values in zip(named, tensors, strict=True)
    }
