"""What frames do in a network that fires deferred, from matrix products in place of events.

There the counts are the quantized network's, whatever the order of events, so that all that the engine finds by simulating
(`model.engine.engine.run_frames`) follows from them: spikes are what a count changes by, and accumulations the spikes times the
neurons that each reaches. A test holds the two equal in every field. This is what makes a search over thresholds fast.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model.arrays import Bools, Ints
from model.encode import input_counts
from model.engine.engine import FrameSummaries, run_frames
from model.network import INPUT, Layer, MaxPool, Network, Neurons, Shape
from model.projection import ConvolutionProjection, Projection
from model.rest import first_states, pooled, weighted_sums

__all__ = ["QuantizedFrames", "run_images", "weighted_counts"]

Counts = npt.NDArray[Any]

_KEPT_BYTES = 1 << 29
"""Counts that are kept for networks with the same first layers."""

_UNITS_AT_ONCE = 1 << 28
"""Counts of all layers, of so many frames at once, that are in memory."""

_VALUES_AT_ONCE = 1 << 20
"""Inputs or outputs of a layer that are computed with at once: what fits into a cache of the processor is faster."""

_EXACT_IN_FLOAT32 = 1 << 24


@dataclass(frozen=True)
class _Layer:
    """What a layer does in some frames.

    Parameters
    ----------
    counts : numpy.ndarray
        ``(frames, *shape)``.
    sent : numpy.ndarray
        Spikes of each position, ``(frames, height, width)``.
    operations, saturated : Ints
        Of each frame.
    extremes : tuple of int
        The greatest magnitude of a count, the least and the greatest residual, as in `FrameSummaries`.
    potentials : Ints
        ``(frames, neurons)`` of the layer that is read out; no rows elsewhere.
    """

    counts: Counts
    sent: npt.NDArray[np.float64]
    operations: Ints
    saturated: Ints
    extremes: tuple[int, int, int]
    potentials: Ints

    @property
    def nbytes(self) -> int:
        return self.counts.nbytes + self.sent.nbytes + self.potentials.nbytes


def run_images(network: Network, images: npt.NDArray[np.uint8]) -> FrameSummaries:
    """As `model.engine.engine.run_frames`, equal in every field, and without events where the network fires deferred."""
    return QuantizedFrames(images).run(network) if network.deferred and not network.flush_events else run_frames(network, images)


class QuantizedFrames:
    """Frames that many networks are to run, each of them deferred with a flush at the end of a frame only.

    Layers that two networks have in common, with all before them, are run once.

    Parameters
    ----------
    images : numpy.ndarray
        uint8 frames ``(frames, height, width, channels)``.
    """

    def __init__(self, images: npt.NDArray[np.uint8]) -> None:
        if not len(images):
            raise ValueError("images must be at least one frame")
        self.images = images
        self._kept: OrderedDict[bytes, _Layer] = OrderedDict()
        self._bytes = 0

    def run(self, network: Network) -> FrameSummaries:
        """What the frames do in a network."""
        if not network.deferred or network.flush_events:
            raise ValueError("network must fire deferred, with a flush at the end of a frame only")
        units = network.input_shape.size + sum(shape.size for shape in network.shapes)
        at_once = max(1, _UNITS_AT_ONCE // units)
        parts = [self._part(network, at, at + at_once) for at in range(0, len(self.images), at_once)]
        names = [layer.name for layer in network.layers]
        last = network.output.name

        def by_frame(name: str) -> Ints:
            return np.concatenate([np.stack([getattr(part[layer], name) for layer in names], axis=1) for part in parts])

        extremes = np.array([[part[name].extremes for name in names] for part in parts])
        return FrameSummaries(
            input_events=np.concatenate([part[INPUT].operations for part in parts]),
            counts=np.concatenate([part[last].counts for part in parts]).reshape(len(self.images), -1).astype(np.int64),
            potentials=np.concatenate([part[last].potentials for part in parts]),
            spikes=np.concatenate([np.stack([_total(part[name].sent) for name in names], axis=1) for part in parts]),
            operations=by_frame("operations"),
            saturated_events=by_frame("saturated"),
            greatest_count=extremes[..., 0].max(axis=0),
            least_residual=extremes[..., 1].min(axis=0),
            greatest_residual=extremes[..., 2].max(axis=0),
        )

    def _part(self, network: Network, first: int, end: int) -> dict[str, _Layer]:
        """Every layer of some frames; of the input the events of each frame stand for operations."""
        limits = (network.input_threshold, network.input_step, network.input_levels, network.rest, first, end)
        keys = {INPUT: hashlib.sha256(repr(limits).encode()).digest()}
        found = {INPUT: self._known(keys[INPUT]) or self._keep(keys[INPUT], _input(network, self.images[first:end]))}
        for layer in network.layers:
            read_out = layer is network.output
            keys[layer.name] = key = _key(layer, [keys[source] for source in layer.sources], read_out)
            sources = [found[source] for source in layer.sources]
            found[layer.name] = self._known(key) or self._keep(key, _run_layer(network, layer, sources, read_out))
        return found

    def _known(self, key: bytes) -> _Layer | None:
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def _keep(self, key: bytes, layer: _Layer) -> _Layer:
        self._kept[key] = layer
        self._bytes += layer.nbytes
        while self._bytes > _KEPT_BYTES and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return layer


def _key(layer: Layer, before: Sequence[bytes], read_out: bool) -> bytes:
    """What a layer's counts depend on, in short: itself, and what is before it."""
    found = hashlib.sha256(b"".join(before))
    for part in (layer, *layer.inputs[1:]):
        if isinstance(part, Projection):
            found.update(part.weights.tobytes())
        if isinstance(part, Neurons):
            found.update(part.bias.tobytes())
        fields = {name: value for name, value in vars(part).items() if isinstance(value, (int, str, tuple)) and name[0] != "_"}
        kept = sorted((name, value) for name, value in fields.items() if name not in ("name", "joined"))
        found.update(repr((part.KIND, read_out, kept)).encode())
    return found.digest()


def _total(sent: npt.NDArray[np.float64]) -> Ints:
    return sent.sum(axis=(1, 2)).astype(np.int64)


def _input(network: Network, images: npt.NDArray[np.uint8]) -> _Layer:
    counts = input_counts(network, images)
    sent = counts.sum(axis=3, dtype=np.float64)
    none = np.zeros(len(images), np.int64)
    return _Layer(_compact(counts), sent, _total(sent), none, (0, 0, 0), np.zeros((0, 0), np.int64))


def _compact(counts: npt.NDArray[np.number]) -> Counts:
    return counts.astype(np.int16 if np.abs(counts).max(initial=0) < 1 << 15 else np.int32)


def _run_layer(network: Network, layer: Layer, sources: Sequence[_Layer], read_out: bool) -> _Layer:
    source, output = sources[0], network.shape_of(layer.name)
    frames, start = len(source.counts), first_states(network)[layer.name]
    none = np.zeros(frames, np.int64)
    if isinstance(layer, MaxPool):
        maxima = pooled(layer, source.counts)
        sent = np.abs(maxima - start.count).sum(axis=3, dtype=np.float64)
        most = max(int(np.abs(maxima).max()), int(np.abs(start.count).max()))
        potentials = np.zeros((frames, output.size if read_out else 0), np.int64)
        return _Layer(_compact(maxima), sent, none, none, (most, 0, 0), potentials)
    assert isinstance(layer, Neurons)
    shapes = [network.shape_of(name) for name in layer.sources]
    operations = np.sum(list(map(_operations, layer.inputs, shapes, sources)), axis=0)
    step = max(1, _VALUES_AT_ONCE // max(output.size, *(shape.size for shape in shapes)))
    parts = []
    for at in range(0, frames, step):
        sums, *others = (
            weighted_counts(taker, taken.counts[at : at + step], shape, output)
            for taker, taken, shape in zip(layer.inputs, sources, shapes, strict=True)
        )
        if others:
            sums = sums.astype(np.float64) + sum(others)
        parts.append(_flushed(layer, start.count, sums, read_out))
    counts, sent, saturated, potentials = (np.concatenate([part[n] for part in parts]) for n in range(4))
    residual = start.potential - start.count * layer.theta
    low = min(0, int(residual.min()), *(part[4] for part in parts))
    high = max(0, int(residual.max()), *(part[5] for part in parts))
    most = max(int(np.abs(counts).max()), int(np.abs(start.count).max()))
    return _Layer(counts, sent, operations, saturated, (most, low, high), potentials)


def _operations(taker: Projection, shape: Shape, source: _Layer) -> Ints:
    """Accumulations of each frame: the spikes of each position times the neurons that one reaches."""
    reached = [np.array([len(taps) for taps in taker.taps(shape, axis)], np.float64) for axis in (0, 1)]
    each = taker.channels // (taker.groups if isinstance(taker, ConvolutionProjection) else 1)
    return (np.einsum("fyx,y,x->f", source.sent, *reached) * each).astype(np.int64)


def _flushed(
    layer: Neurons, first: Ints, sums: npt.NDArray[np.floating], read_out: bool
) -> tuple[Counts, npt.NDArray[np.float64], Ints, Ints, int, int]:
    """Counts, spikes by position, saturated flushes, potentials, least and greatest sum, of weights times counts."""
    f, (lowest, highest), (fewest, most) = layer.threshold_log2, layer.residual_limits, layer.count_limits
    offset = layer.bias - first * layer.theta
    total = sums if np.abs(offset).max() < _EXACT_IN_FLOAT32 >> 1 else sums.astype(np.float64)
    total += offset.astype(total.dtype)
    low, high = int(total.min()), int(total.max())
    outside = low < lowest or high > highest
    if outside:
        # With a bit more than is stored, two's complement.
        half = 1 << layer.potential_bits
        total = ((total.astype(np.int64) + half) % (2 * half) - half).astype(np.float64)
        low, high = int(total.min()), int(total.max())
    potentials = np.zeros((len(total), 0), np.int64)
    if read_out:
        potentials = (total.astype(np.int64) + first * layer.theta).reshape(len(total), -1)
    held: Bools = (total < lowest) | (total > highest) if outside else np.zeros((len(total), 1, 1, 1), np.bool_)
    counted = first.astype(total.dtype)
    thresholds = np.multiply(total, 1 / layer.theta, out=total)
    odd = (thresholds + counted) % 2 == 1 if layer.halves_to_even else np.zeros((), np.bool_)
    fired = np.floor(thresholds, out=total)
    fired -= odd
    if layer.relu:
        np.maximum(fired, -counted, out=fired)
    if layer.count_max is not None:
        np.minimum(fired, most - counted, out=fired)
    elif high >> f > most - int(first.max()) or (not layer.relu and (low >> f) - 1 < fewest - int(first.min())):
        within = np.clip(fired, fewest - counted, most - counted)
        held, fired = held | (fired != within), within
    sent = np.abs(fired).sum(axis=3, dtype=np.float64)
    fired += counted
    saturated = np.asarray(held.any(axis=(1, 2, 3)), np.int64)
    return _compact(fired), sent, saturated, potentials, low, high


def weighted_counts(
    layer: Projection, counts: Counts, shape: Shape, output: Shape
) -> npt.NDArray[np.floating]:
    """``W x`` of a projection, exactly: in float32 where sums fit into it, else in float64.

    Parameters
    ----------
    layer : Projection
        The projection.
    counts : numpy.ndarray
        Of its source, ``(frames, *shape)``.
    shape, output : Shape
        Of its source and of its layer.

    Returns
    -------
    numpy.ndarray
        ``(frames, *output)``, of whole numbers.
    """
    largest = int(np.abs(counts).max(initial=0)) * layer.averaged[0] * layer.averaged[1]
    sizes = np.abs(layer.weights.astype(np.int64)).reshape(len(layer.weights), -1).sum(axis=1)
    # What is added to them is to fit too.
    values: npt.NDArray[Any] = counts.astype(np.float32 if largest * int(sizes.max()) < _EXACT_IN_FLOAT32 >> 1 else np.float64)
    return weighted_sums(layer, layer.weights, values, shape, output)
