"""The fast engine: the golden model's spikes in the same order, compiled.

The kernels (`model.engine.kernels`) keep the residual form of the neuron and walk the fan-out by its tables
(`model.engine.tables`), a batch of frames in each layer before the next layer. A row of an event's window is one run of
consecutive neurons, and so are its weights: the run is added in blocks (`model.engine.vectors`), and only neurons that reach the
threshold are looked at one by one. A test holds the engine equal to `model.golden` on every layer kind; the golden model is the
one that defines.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from model.arrays import Ints
from model.encode import encode
from model.engine.kernels import defer, encode_frames, in_turn, integrate, pool, pool_deferred
from model.engine.tables import Start, Tables, starts_of, tables_of
from model.events import EVENT, Events, Flush
from model.golden import LayerTrace, Trace
from model.network import INPUT, Layer, MaxPool, Network, Neurons

__all__ = ["Flushes", "FrameSummaries", "Stream", "run_fast", "run_frames", "run_streams"]

_BATCH = 100
"""Frames that a core runs at once: what the memory in use grows with."""


@dataclass(frozen=True, kw_only=True)
class FrameSummaries:
    """What frames did, without their spikes.

    Parameters
    ----------
    input_events : Ints
        Of each frame, events of the input.
    counts, potentials : Ints
        Of each frame and class, ``Q`` and ``V``.
    spikes, operations, saturated_events : Ints
        Of each frame and layer.
    greatest_count : Ints
        Of each layer, the greatest magnitude of a count in all frames.
    least_residual, greatest_residual : Ints
        Of each layer, the extremes of what was stored beyond the threshold, and of what frames start with; 0 where nothing was.
        Of a layer that fires deferred, the extremes that a flush found.
    """

    input_events: Ints
    counts: Ints
    potentials: Ints
    spikes: Ints
    operations: Ints
    saturated_events: Ints
    greatest_count: Ints
    least_residual: Ints
    greatest_residual: Ints


@dataclass(frozen=True)
class Flushes:
    """The flushes of a stream.

    Parameters
    ----------
    after : Ints
        Of each the events of the stream before it, those of earlier frames included.
    origin : npt.NDArray[np.int32]
        Of each the index within its frame of the network's last input event before it, -1 where there is none.
    starts : Ints
        Frame ``n`` has ``starts[n]`` to ``starts[n + 1]``.
    """

    after: Ints
    origin: npt.NDArray[np.int32]
    starts: Ints

    @classmethod
    def of(cls, stream: "Stream", every: int) -> "Flushes":
        """Those of a stream of input events, as `model.events.input_flushes`."""
        sizes = np.diff(stream.starts)
        each = 1 + (sizes // every if every else np.zeros_like(sizes))
        starts = np.concatenate([[0], np.cumsum(each)])
        # Which flush of its frame each one is, from 1.
        number = np.arange(starts[-1]) - np.repeat(starts[:-1], each) + 1
        size = np.repeat(sizes, each)
        inside = np.where(number == np.repeat(each, each), size, number * every)
        after = np.repeat(stream.starts[:-1], each) + inside
        origin = np.full(len(after), -1, np.int32)
        origin[inside > 0] = stream.origin[after[inside > 0] - 1]
        return cls(after, origin, starts)


@dataclass(frozen=True)
class Stream:
    """Events of several frames, one after the other, with the fields of `model.events.EVENT`.

    Parameters
    ----------
    address, sign, origin, cause : npt.NDArray[np.int32]
        Of each event; ``cause`` and ``origin`` count within their frame.
    starts : Ints
        Frame ``n`` is ``starts[n]`` to ``starts[n + 1]``.
    flushes : Flushes | None
        Where the network fires deferred.
    number, index : npt.NDArray[np.int32] or None
        Of each event the input that it is of, and which of all its source's events it is, where several inputs were merged.
    """

    address: npt.NDArray[np.int32]
    sign: npt.NDArray[np.int32]
    origin: npt.NDArray[np.int32]
    cause: npt.NDArray[np.int32]
    starts: Ints
    flushes: Flushes | None = None
    number: npt.NDArray[np.int32] | None = None
    index: npt.NDArray[np.int64] | None = None

    @property
    def frame(self) -> Ints:
        """Of each event its frame."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    @classmethod
    def of(cls, frames: Sequence[Events]) -> "Stream":
        starts = np.concatenate([[0], np.cumsum([len(frame) for frame in frames])]).astype(np.int64)

        def joined(name: str) -> npt.NDArray[np.int32]:
            return np.concatenate([frame[name] for frame in frames]).astype(np.int32)

        return cls(joined("address"), joined("sign"), joined("origin"), joined("cause"), starts)

    def events(self) -> Events:
        """All of them as `model.events.Events`."""
        found = np.zeros(len(self.address), dtype=EVENT)
        for name in ("address", "sign", "origin", "cause"):
            found[name] = getattr(self, name)
        return found


def run_fast(network: Network, events: Events) -> Trace:
    """As `model.golden.run`, equal in every field."""
    streams = {INPUT: _flushed(network, Stream.of([events]))}
    starts = starts_of(network)
    layers: dict[str, LayerTrace] = {}
    taken: dict[str, Stream] = {}
    for layer, _, output in network.walk():
        taken[layer.name] = stream = merged(network, layer, streams, taken)
        _check_addresses(network, layer, stream)
        found = _run_layer(network, layer, stream, starts[layer.name], keep_states=True)
        streams[layer.name] = found.spikes
        flushes = found.spikes.flushes
        passed = zip(flushes.after.tolist(), flushes.origin.tolist(), strict=True) if flushes else ()
        layers[layer.name] = LayerTrace(
            layer=layer,
            events=events if layer.sources == (INPUT,) else stream.events(),
            spikes=found.spikes.events(),
            potential=found.potentials[0].reshape(output),
            count=found.counts[0].reshape(output),
            operations=int(found.operations[0]),
            saturated_updates=int(found.saturated_updates[0]),
            saturated_events=int(found.saturated_events[0]),
            flushes=tuple(Flush(*flush) for flush in passed),
        )
    return Trace(network=network, events=events, layers=layers)


def run_frames(
    network: Network,
    images: Sequence[npt.NDArray[np.uint8] | Events] | npt.NDArray[np.uint8],
    *,
    done: Callable[[int], None] | None = None,
) -> FrameSummaries:
    """Encode and run frames on all cores.

    Parameters
    ----------
    network : Network
        The network.
    images : Sequence[npt.NDArray[np.uint8] | Events] | npt.NDArray[np.uint8]
        uint8 frames, or frames of events.
    done : Callable[[int], None] | None
        Called with the number of frames finished.
    """
    return _joined(list(_batches(network, images, done)))


def _batches(
    network: Network,
    images: Sequence[npt.NDArray[np.uint8] | Events] | npt.NDArray[np.uint8],
    done: Callable[[int], None] | None,
) -> Iterator[FrameSummaries]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        batches = (images[at : at + _BATCH] for at in range(0, len(images), _BATCH))
        for summaries in pool.map(lambda batch: _summarize(network, batch), batches):
            yield summaries
            if done:
                done(len(summaries.input_events))


def _summarize(network: Network, images: Sequence[npt.NDArray[np.uint8] | Events]) -> FrameSummaries:
    streams = {INPUT: _inputs(network, images)}
    found = list(_run_layers(network, streams))
    last = found[-1]
    extremes = np.array([result.extremes for result in found], dtype=np.int64)
    return FrameSummaries(
        input_events=np.diff(streams[INPUT].starts),
        counts=last.counts,
        potentials=last.potentials,
        spikes=np.stack([np.diff(result.spikes.starts) for result in found], axis=1),
        operations=np.stack([result.operations for result in found], axis=1),
        saturated_events=np.stack([result.saturated_events for result in found], axis=1),
        greatest_count=extremes[:, 0],
        least_residual=extremes[:, 1],
        greatest_residual=extremes[:, 2],
    )


def run_streams(network: Network, images: Sequence[npt.NDArray[np.uint8] | Events] | npt.NDArray[np.uint8]) -> dict[str, Stream]:
    """All spikes of all layers, by name, and the events of the input; in memory at once."""
    streams = {INPUT: _inputs(network, images)}
    for _ in _run_layers(network, streams):
        pass
    return streams


def _run_layers(network: Network, streams: dict[str, Stream]) -> Iterator["_Result"]:
    """What each layer does, in order; its spikes come to the streams, of which the input's is there."""
    starts = starts_of(network)
    taken: dict[str, Stream] = {}
    for layer in network.layers:
        taken[layer.name] = stream = merged(network, layer, streams, taken)
        if INPUT in layer.sources:
            _check_addresses(network, layer, stream)
        result = _run_layer(network, layer, stream, starts[layer.name], keep_states=layer is network.output)
        streams[layer.name] = result.spikes
        yield result


def merged(network: Network, layer: Layer, streams: Mapping[str, Stream], taken: Mapping[str, Stream]) -> Stream:
    """What a layer takes of its sources, as one sequence in the order at a merge (`model.golden.merged`).

    Parameters
    ----------
    network : Network
        The network.
    layer : Layer
        The layer that takes it.
    streams : Mapping
        The events of the input and of each layer before it.
    taken : Mapping
        What each of those layers took.
    """
    inputs = [streams[source] for source in layer.sources]
    if len(inputs) == 1:
        return inputs[0]
    sizes = [len(each.address) for each in inputs]
    number = np.repeat(np.arange(len(inputs), dtype=np.int32), sizes)
    index = np.concatenate([np.arange(size) for size in sizes])
    if network.deferred:
        order = in_turn(np.stack([_flushes(each).after for each in inputs]))
    else:
        causes = _causes(network, layer, streams, taken)
        # Causes are counted over all frames, and stable is: by input, and by index.
        order = np.argsort(np.concatenate([causes[source] for source in layer.sources]), kind="stable")
    firsts = [each.first for each in network.inputs(layer)]
    flushes = None
    if network.deferred:
        passed = [_flushes(each) for each in inputs]
        flushes = replace(passed[0], after=np.sum([each.after for each in passed], axis=0))

    def joined(name: str, more: Sequence[int] = ()) -> npt.NDArray[np.int32]:
        parts = [getattr(each, name) for each in inputs]
        return np.concatenate([part + first for part, first in zip(parts, more, strict=True)] if more else parts)[order]

    return Stream(
        joined("address", firsts).astype(np.int32),
        joined("sign"),
        joined("origin"),
        joined("cause"),
        np.sum([each.starts for each in inputs], axis=0),
        flushes,
        number[order],
        index[order],
    )


def _flushes(stream: Stream) -> Flushes:
    assert stream.flushes is not None
    return stream.flushes


def _causes(network: Network, end: Layer, streams: Mapping[str, Stream], taken: Mapping[str, Stream]) -> dict[str, Ints]:
    """Of the fork before ``end``, and of each layer between: of each of its events the fork's event that caused it."""
    fork = network.fork(end.name)
    found = {fork: np.arange(len(streams[fork].address))}
    for layer in network.layers[: network.layers.index(end)]:
        if all(source in found for source in layer.sources):
            stream, mine = taken[layer.name], streams[layer.name]
            causes = found[layer.source]
            if stream.number is not None and stream.index is not None:
                causes = np.zeros(len(stream.number), np.int64)
                for number, source in enumerate(layer.sources):
                    of_it = stream.number == number
                    causes[of_it] = found[source][stream.index[of_it]]
            found[layer.name] = causes[mine.cause + stream.starts[mine.frame]]
    return found


def _inputs(network: Network, images: Sequence[npt.NDArray[np.uint8] | Events] | npt.NDArray[np.uint8]) -> Stream:
    if isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.shape[1:] == tuple(network.input_shape):
        pixels = np.ascontiguousarray(images).reshape(len(images), -1)
        limits = (network.input_threshold, network.input_step, network.input_levels)
        addresses, starts = encode_frames(pixels, *limits)
        origins = np.arange(len(addresses), dtype=np.int32) - np.repeat(starts[:-1], np.diff(starts)).astype(np.int32)
        return _flushed(network, Stream(addresses, np.ones_like(addresses), origins, origins, starts))
    frames: list[Events] = [f if f.dtype == EVENT else encode(network, f) for f in images]  # type: ignore[misc]
    return _flushed(network, Stream.of(frames))


def _flushed(network: Network, stream: Stream) -> Stream:
    """The stream of input events with its flushes, where the network fires deferred."""
    return replace(stream, flushes=Flushes.of(stream, network.flush_events)) if network.deferred else stream


def _joined(parts: list[FrameSummaries]) -> FrameSummaries:
    if not parts:
        raise ValueError("images must be at least one frame")
    by_frame = ("input_events", "counts", "potentials", "spikes", "operations", "saturated_events")
    return FrameSummaries(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in by_frame},
        greatest_count=np.max([part.greatest_count for part in parts], axis=0),
        least_residual=np.min([part.least_residual for part in parts], axis=0),
        greatest_residual=np.max([part.greatest_residual for part in parts], axis=0),
    )


@dataclass(frozen=True)
class _Result:
    """What a layer did in several frames; ``counts`` and ``potentials`` have no rows where states were not kept."""

    spikes: Stream
    counts: Ints
    potentials: Ints
    operations: Ints
    saturated_updates: Ints
    saturated_events: Ints
    extremes: tuple[int, int, int]


def _check_addresses(network: Network, layer: Layer, stream: Stream) -> None:
    size = sum(shape.size for _, shape, _ in network.inputs(layer))
    if len(stream.address) and not 0 <= stream.address.min() <= stream.address.max() < size:
        raise ValueError(f"layer {layer.name!r}: event address must be within 0..{size - 1}")


def _run_layer(network: Network, layer: Layer, events: Stream, start: Start, *, keep_states: bool) -> _Result:
    flushes = events.flushes
    tables = tables_of(layer, *map(network.shape_of, layer.sources))
    if isinstance(layer, MaxPool):
        found, starts, passed, maxima, most = _run_pool(tables, events, start, keep_states)
        counts, potentials = maxima.astype(np.int64), np.zeros(maxima.shape, np.int64)
        numbers, extremes = np.zeros((3, len(events.starts) - 1), np.int64), (int(most), 0, 0)
    else:
        assert isinstance(layer, Neurons)
        found, starts, passed, residuals, states, numbers, *seen = _run_neurons(layer, tables, events, start, keep_states)
        counts = states.astype(np.int64)
        potentials = residuals.astype(np.int64) + counts * layer.theta
        extremes = (int(seen[0]), int(seen[1]), int(seen[2]))
    address, sign, cause, origin = found
    most, least, greatest = extremes
    return _Result(
        spikes=Stream(
            address, sign, origin, cause, starts, Flushes(passed, flushes.origin, flushes.starts) if flushes else None
        ),
        counts=counts,
        potentials=potentials,
        operations=numbers[0],
        saturated_updates=numbers[1],
        saturated_events=numbers[2],
        extremes=(
            max(most, start.extremes[0]), min(least, start.extremes[1]), max(greatest, start.extremes[2])
        ),
    )


def _run_pool(tables: Tables, events: Stream, start: Start, keep_states: bool) -> tuple[Any, ...]:
    flushes = events.flushes
    taken, first = (events.address, events.sign, events.origin, events.starts), (start.residual, start.count, start.below)
    if flushes is None:
        found, starts, *more = pool(taken, first, tables.output, keep_states, tables.axes)
        return found, starts, None, *more
    among = (flushes.after, flushes.origin, flushes.starts)
    return pool_deferred(taken, among, first, tables.output, keep_states, tables.axes)  # type: ignore[no-any-return]


def _run_neurons(layer: Neurons, tables: Tables, events: Stream, start: Start, keep_states: bool) -> tuple[Any, ...]:
    flushes = events.flushes
    taken, first = (events.address, events.sign, events.origin, events.starts), (start.residual, start.count, start.below)
    weights = (tables.weights, tables.output[1] * tables.output[2])
    # To be at the end of the activation is nothing to be held from.
    stops = layer.count_max is not None
    limits = (layer.threshold_log2, layer.relu, *layer.residual_limits, *layer.count_limits, stops)
    if flushes is None:
        burst = None if layer.burst == 1 else layer.burst
        found, starts, *more = integrate(taken, first, *weights, burst, limits, keep_states, tables.axes)
        return found, starts, None, *more
    among = (flushes.after, flushes.origin, flushes.starts)
    limited = (*limits, layer.halves_to_even)
    return defer(taken, among, first, *weights, limited, keep_states, tables.axes)  # type: ignore[no-any-return]
