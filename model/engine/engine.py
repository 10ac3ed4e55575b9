"""The fast engine: the golden model's spikes in the same order, compiled.

The kernels (`model.engine.kernels`) keep the residual form of the neuron and walk the fan-out by its tables
(`model.engine.tables`), a batch of frames in each layer before the next layer. A row of an event's window is one run of
consecutive neurons, and so are its weights: the run is added at once, and only neurons that reach the threshold are looked at
one by one. A test holds the engine equal to `model.golden` on every layer kind; the golden model is the one that defines.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.arrays import Ints
from model.encode import encode
from model.engine.kernels import encode_frames, integrate, pool
from model.engine.tables import tables_of
from model.events import EVENT, Events
from model.golden import LayerTrace, Trace
from model.network import INPUT, Layer, MaxPool, Network, Neurons, Shape

__all__ = ["FrameSummaries", "Stream", "run_fast", "run_frames", "run_streams"]

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
        Of each layer, the extremes of what was stored beyond the threshold; 0 where nothing was.
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
class Stream:
    """Events of several frames, one after the other, with the fields of `model.events.EVENT`.

    Parameters
    ----------
    address, sign, origin, cause : npt.NDArray[np.int32]
        Of each event; ``cause`` and ``origin`` count within their frame.
    starts : Ints
        Frame ``n`` is ``starts[n]`` to ``starts[n + 1]``.
    """

    address: npt.NDArray[np.int32]
    sign: npt.NDArray[np.int32]
    origin: npt.NDArray[np.int32]
    cause: npt.NDArray[np.int32]
    starts: Ints

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
    streams = {INPUT: Stream.of([events])}
    layers: dict[str, LayerTrace] = {}
    for layer, shape, output in network.walk():
        if len(streams[layer.source].address):
            _check_addresses(layer, shape, streams[layer.source])
        found = _run_layer(layer, shape, streams[layer.source], keep_states=True)
        streams[layer.name] = found.spikes
        layers[layer.name] = LayerTrace(
            layer=layer,
            events=events if layer.source == INPUT else layers[layer.source].spikes,
            spikes=found.spikes.events(),
            potential=found.potentials[0].reshape(output),
            count=found.counts[0].reshape(output),
            operations=int(found.operations[0]),
            saturated_updates=int(found.saturated_updates[0]),
            saturated_events=int(found.saturated_events[0]),
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
    found = []
    for layer, shape, _ in network.walk():
        if layer.source == INPUT and len(streams[INPUT].address):
            _check_addresses(layer, shape, streams[INPUT])
        found.append(_run_layer(layer, shape, streams[layer.source], keep_states=layer is network.output))
        streams[layer.name] = found[-1].spikes
    last = found[[layer.name for layer in network.layers].index(network.output.name)]
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
    for layer, shape, _ in network.walk():
        if layer.source == INPUT and len(streams[INPUT].address):
            _check_addresses(layer, shape, streams[INPUT])
        streams[layer.name] = _run_layer(layer, shape, streams[layer.source], keep_states=False).spikes
    return streams


def _inputs(network: Network, images: Sequence[npt.NDArray[np.uint8] | Events] | npt.NDArray[np.uint8]) -> Stream:
    if isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.shape[1:] == tuple(network.input_shape):
        pixels = np.ascontiguousarray(images).reshape(len(images), -1)
        limits = (network.input_threshold, network.input_step, network.input_levels)
        addresses, starts = encode_frames(pixels, *limits)
        origins = np.arange(len(addresses), dtype=np.int32) - np.repeat(starts[:-1], np.diff(starts)).astype(np.int32)
        return Stream(addresses, np.ones_like(addresses), origins, origins, starts)
    frames: list[Events] = [f if f.dtype == EVENT else encode(network, f) for f in images]  # type: ignore[misc]
    return Stream.of(frames)


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


def _check_addresses(layer: Layer, shape: Shape, stream: Stream) -> None:
    if not 0 <= stream.address.min() <= stream.address.max() < shape.size:
        raise ValueError(f"layer {layer.name!r}: event address must be within 0..{shape.size - 1}")


def _run_layer(layer: Layer, shape: Shape, events: Stream, *, keep_states: bool) -> _Result:
    tables = tables_of(layer, shape)
    if isinstance(layer, MaxPool):
        found, starts, maxima, most = pool(
            events.address, events.sign, events.origin, events.starts, tables.source, tables.output, keep_states, *tables.axes
        )
        counts, potentials = maxima.astype(np.int64), np.zeros(maxima.shape, np.int64)
        numbers, extremes = np.zeros((3, len(events.starts) - 1), np.int64), (int(most), 0, 0)
    else:
        assert isinstance(layer, Neurons) and tables.weights is not None and tables.bias is not None
        found, starts, residuals, states, numbers, most, least, greatest = integrate(
            events.address,
            events.sign,
            events.origin,
            events.starts,
            tables.output[1] * tables.output[2],
            tables.bias,
            tables.weights,
            layer.theta,
            layer.relu,
            *layer.residual_limits,
            *layer.count_limits,
            keep_states,
            *tables.axes,
        )
        counts = states.astype(np.int64)
        potentials = residuals.astype(np.int64) + counts * layer.theta
        extremes = (int(most), int(least), int(greatest))
    address, sign, cause, origin = found
    return _Result(
        spikes=Stream(address, sign, origin, cause, starts),
        counts=counts,
        potentials=potentials,
        operations=numbers[0],
        saturated_updates=numbers[1],
        saturated_events=numbers[2],
        extremes=extremes,
    )
