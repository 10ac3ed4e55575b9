"""The fast engine: the golden model's spikes in the same order, compiled.

The kernels keep the residual form of the neuron and walk the fan-out by its tables, a batch of frames in each layer
before the next layer. A row of an event's window is one run of consecutive neurons, and so are its weights: the run is
added at once, and only neurons that reach the threshold are looked at one by one. A test holds the engine equal to
`model.golden` on every layer kind; the golden model is the one that defines.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from model.encode import encode
from model.events import EVENT, Events
from model.golden import LayerTrace, Trace
from model.network import INPUT, Convolution, Layer, Linear, MaxPool, Network, Neurons, Shape, taps

__all__ = ["FrameSummaries", "run_fast", "run_frames"]

_BATCH = 64
"""Frames that a core runs at once: what the memory in use grows with."""

_BLOCK = 96
"""Neurons that are added at once and looked at one by one only where one of them reaches the threshold."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class FrameSummaries:
    """What frames did, without their spikes.

    Parameters
    ----------
    input_events : of each frame, events of the input
    counts, potentials : of each frame and class, ``Q`` and ``V``
    spikes, operations, saturated_events : of each frame and layer
    greatest_count : of each layer, the greatest magnitude of a count in all frames
    least_residual, greatest_residual : of each layer, the extremes of what was stored beyond the threshold; 0 where
        nothing was
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


def run_fast(network: Network, events: Events) -> Trace:
    """As `model.golden.run`, equal in every field."""
    streams = {INPUT: _Stream.of([events])}
    layers: dict[str, LayerTrace] = {}
    for layer, shape, output in network.walk():
        if len(streams[layer.source].address):
            _check_addresses(layer, shape, streams[layer.source])
        found = _run_layer(layer, shape, streams[layer.source], keep_states=True)
        streams[layer.name] = found.spikes
        layers[layer.name] = LayerTrace(
            layer=layer,
            events=events if layer.source == INPUT else layers[layer.source].spikes,
            spikes=found.events(),
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
    network : the network
    images : uint8 frames, or frames of events
    done : called with the number of frames finished
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
    frames: list[Events] = [f if f.dtype == EVENT else encode(network, f) for f in images]  # type: ignore[misc]
    streams = {INPUT: _Stream.of(frames)}
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
class _Stream:
    """Events of several frames, one after the other; frame ``n`` is ``starts[n]`` to ``starts[n + 1]``."""

    address: npt.NDArray[np.int32]
    sign: npt.NDArray[np.int32]
    origin: npt.NDArray[np.int32]
    starts: Ints

    @classmethod
    def of(cls, frames: Sequence[Events]) -> "_Stream":
        starts = np.concatenate([[0], np.cumsum([len(frame) for frame in frames])]).astype(np.int64)

        def joined(name: str) -> npt.NDArray[np.int32]:
            return np.concatenate([frame[name] for frame in frames]).astype(np.int32)

        return cls(joined("address"), joined("sign"), joined("origin"), starts)


@dataclass(frozen=True)
class _Result:
    """What a layer did in several frames; ``counts`` and ``potentials`` have no rows where states were not kept."""

    spikes: _Stream
    cause: npt.NDArray[np.int32]
    counts: Ints
    potentials: Ints
    operations: Ints
    saturated_updates: Ints
    saturated_events: Ints
    extremes: tuple[int, int, int]

    def events(self) -> Events:
        """All spikes as events."""
        spikes = np.zeros(len(self.cause), dtype=EVENT)
        for name in ("address", "sign", "origin"):
            spikes[name] = getattr(self.spikes, name)
        spikes["cause"] = self.cause
        return spikes


def _check_addresses(layer: Layer, shape: Shape, stream: _Stream) -> None:
    if not 0 <= stream.address.min() <= stream.address.max() < shape.size:
        raise ValueError(f"layer {layer.name!r}: event address must be within 0..{shape.size - 1}")


def _run_layer(layer: Layer, shape: Shape, events: _Stream, *, keep_states: bool) -> _Result:
    tables = _tables(layer, shape)
    if isinstance(layer, MaxPool):
        found, starts, maxima, most = _pool(
            events.address, events.sign, events.origin, events.starts, tables.source, tables.output, keep_states, *tables.axes
        )
        counts, potentials = maxima.astype(np.int64), np.zeros(maxima.shape, np.int64)
        numbers, extremes = np.zeros((3, len(events.starts) - 1), np.int64), (int(most), 0, 0)
    else:
        assert isinstance(layer, Neurons) and tables.weights is not None and tables.bias is not None
        found, starts, residuals, states, numbers, most, least, greatest = _integrate(
            events.address,
            events.sign,
            events.origin,
            events.starts,
            tables.source,
            tables.output,
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
        spikes=_Stream(address, sign, origin, starts),
        cause=cause,
        counts=counts,
        potentials=potentials,
        operations=numbers[0],
        saturated_updates=numbers[1],
        saturated_events=numbers[2],
        extremes=extremes,
    )


@dataclass(frozen=True)
class _Tables:
    """What the kernels need of a layer behind a source of some shape.

    Parameters
    ----------
    shape : of the source
    source, output : the shapes as the kernel sees them
    axes : of neurons: ranges of rows, their taps, ranges of columns, which run of weights each column has; of a pool the
        ranges of outputs and those of inputs
    weights : ``(run, tap y, input, neuron of the run)``; None of a pool
    bias : of each neuron
    """

    shape: Shape
    source: tuple[int, int, int]
    output: tuple[int, int, int]
    axes: tuple[npt.NDArray[np.int32], ...]
    weights: npt.NDArray[np.int32] | None = None
    bias: npt.NDArray[np.int32] | None = None


def _tables(layer: Layer, shape: Shape) -> _Tables:
    """The layer's tables, made once and kept with it: they cost more than a frame does."""
    kept = layer.__dict__.get("_engine_tables")
    if isinstance(kept, _Tables) and kept.shape == shape:
        return kept
    height, width, channels = layer.output_shape(shape)
    output = (height, width, channels)
    source = (shape.height, shape.width, shape.channels)
    if isinstance(layer, MaxPool):
        rows, columns = (_axis_table(layer, shape, axis)[0] for axis in (0, 1))
        inside = (_window_ranges(rows, output[0]), _window_ranges(columns, output[1]))
        tables = _Tables(shape, source, output, (rows, columns, *inside))
    elif isinstance(layer, Neurons):
        bias = np.ascontiguousarray(np.broadcast_to(layer.bias, output).reshape(-1), dtype=np.int32)
        if isinstance(layer, Linear):
            # One position whose channels are the inputs: a run of all neurons, of one tap.
            one, none = np.array([[0, 1]], np.int32), np.zeros((1, 1), np.int32)
            weights = layer.weights.T.reshape(1, 1, shape.size, layer.channels)
            axes, source = (one, none, one, none[0]), (1, 1, shape.size)
        elif isinstance(layer, Convolution):
            rows, row_taps = _axis_table(layer, shape, 0)
            columns, column_taps = _axis_table(layer, shape, 1)
            lengths = columns[:, 1] - columns[:, 0]
            distinct = sorted({tuple(taps[:n]) for taps, n in zip(column_taps.tolist(), lengths, strict=True)})
            runs = np.array([distinct.index(tuple(t[:n])) for t, n in zip(column_taps.tolist(), lengths, strict=True)], np.int32)
            by_tap = layer.weights.transpose(2, 1, 3, 0)
            weights = np.zeros((len(distinct), *by_tap.shape[:2], max(map(len, distinct)) * layer.channels), np.int32)
            for run, found in enumerate(distinct):
                weights[run, :, :, : len(found) * layer.channels] = by_tap[:, :, list(found)].reshape(*by_tap.shape[:2], -1)
            axes = (rows, row_taps, columns, runs)
        else:
            raise TypeError(f"layer must be a Convolution or Linear, not {type(layer).__name__}")
        tables = _Tables(shape, source, output, axes, np.ascontiguousarray(weights, dtype=np.int32), bias)
    else:
        raise TypeError(f"layer must be a Convolution, Linear or MaxPool, not {type(layer).__name__}")
    layer.__dict__["_engine_tables"] = tables
    return tables


def _axis_table(
    layer: Convolution | MaxPool, shape: Shape, axis: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Of each input coordinate the range of outputs, and the tap of each output of that range."""
    kernel = layer.kernel if isinstance(layer, Convolution) else layer.window
    reached = taps(
        size=shape[axis],
        outputs=layer.output_shape(shape)[axis],
        kernel=kernel[axis],
        stride=layer.stride[axis],
        padding=layer.padding[axis],
    )
    ranges = np.array([(pairs[0][0], pairs[-1][0] + 1) if pairs else (0, 0) for pairs in reached], dtype=np.int32)
    table = np.zeros((len(reached), max(1, *map(len, reached))), dtype=np.int32)
    for row, pairs in zip(table, reached, strict=True):
        row[: len(pairs)] = [k for _, k in pairs]
    return ranges, table


def _window_ranges(reached: npt.NDArray[np.int32], outputs: int) -> npt.NDArray[np.int32]:
    """Of each output coordinate the range of inputs in its window."""
    inside = [[i for i, (first, end) in enumerate(reached) if first <= o < end] for o in range(outputs)]
    return np.array([(found[0], found[-1] + 1) for found in inside], dtype=np.int32)


@njit(cache=True, nogil=True)
def _room(spikes, found, more):  # type: ignore[no-untyped-def]
    """``spikes`` with room for ``more`` behind the ``found`` first ones."""
    if found + more <= spikes.shape[1]:
        return spikes
    grown = np.empty((4, 2 * spikes.shape[1] + more), np.int32)
    grown[:, :found] = spikes[:, :found]
    return grown


@njit(cache=True, nogil=True)
def _add(residual, count, weights, sign, theta, silent, lowest):  # type: ignore[no-untyped-def]
    """Add weights to as many residuals. A loop that compilers make vectors of.

    Returns whether a neuron may fire or saturate, and the least residual of those that cannot fire -1.
    """
    greatest = least_able = least_silent = np.int32(0)
    for n in range(len(residual)):
        total = np.int32(residual[n] + np.int32(sign * weights[n]))
        residual[n] = total
        able = count[n] > silent
        greatest = max(greatest, total)
        least_able = min(least_able, total if able else np.int32(0))
        least_silent = min(least_silent, np.int32(0) if able else total)
    return greatest >= theta or least_able <= -theta or least_silent < lowest, least_silent


@njit(cache=True, nogil=True)
def _integrate(
    address,
    sign,
    origin,
    starts,
    source,
    output,
    bias,
    weights,
    theta,
    relu,
    lowest,
    highest,
    fewest,
    most,
    keep_states,
    row_ranges,
    row_taps,
    column_ranges,
    column_runs,
):  # type: ignore[no-untyped-def]
    frames, channels = len(starts) - 1, output[2]
    theta, lowest = np.int32(theta), np.int32(lowest)
    # A neuron whose count is not above this never fires -1, nor is it held from doing so.
    silent = np.int32(0 if relu else fewest - 1)
    residual, count = np.empty(len(bias), np.int32), np.empty(len(bias), np.int32)
    residuals = np.empty((frames if keep_states else 0, len(bias)), np.int32)
    counts = np.empty((frames if keep_states else 0, len(bias)), np.int32)
    spikes, found = np.empty((4, 1024), np.int32), 0
    ends = np.zeros(frames + 1, np.int64)
    # Of each frame: operations, saturated updates, saturated events.
    numbers = np.zeros((3, frames), np.int64)
    most_seen = least_seen = greatest_seen = np.int64(0)
    for frame in range(frames):
        residual[:] = bias
        count[:] = 0
        for index in range(starts[frame], starts[frame + 1]):
            position, c = address[index] // source[2], address[index] % source[2]
            y, x = position // source[1], position % source[1]
            first, end = column_ranges[x, 0], column_ranges[x, 1]
            size = (end - first) * channels
            saturated_before = numbers[1, frame]
            for oy in range(row_ranges[y, 0], row_ranges[y, 1]):
                start = (oy * output[1] + first) * channels
                added = weights[column_runs[x], row_taps[y, oy - row_ranges[y, 0]], c]
                numbers[0, frame] += size
                for at in range(0, size, _BLOCK):
                    end_of_block = min(at + _BLOCK, size)
                    run = slice(start + at, start + end_of_block)
                    may_fire, least = _add(
                        residual[run], count[run], added[at:end_of_block], sign[index], theta, silent, lowest
                    )
                    least_seen = min(least_seen, np.int64(max(least, lowest)))
                    if not may_fire:
                        continue
                    spikes = _room(spikes, found, _BLOCK)
                    for n in range(start + at, start + end_of_block):
                        total = np.int64(residual[n])
                        if total < theta and (total > -theta or count[n] <= silent) and total >= lowest:
                            continue
                        held = False
                        if total > highest:
                            total, held = highest, True
                        elif total < lowest:
                            total, held = lowest, True
                        fired = 0
                        if total >= theta:
                            if count[n] < most:
                                fired = 1
                            else:
                                held = True
                        elif total <= -theta and count[n] > silent:
                            if count[n] > fewest:
                                fired = -1
                            else:
                                held = True
                        if fired != 0:
                            total -= fired * theta
                            count[n] += fired
                            most_seen = max(most_seen, abs(count[n]))
                            spikes[0, found], spikes[1, found] = n, fired
                            spikes[2, found], spikes[3, found] = index - starts[frame], origin[index]
                            found += 1
                        residual[n] = total
                        least_seen, greatest_seen = min(least_seen, total), max(greatest_seen, total)
                        numbers[1, frame] += held
            numbers[2, frame] += numbers[1, frame] > saturated_before
        ends[frame + 1] = found
        if keep_states:
            residuals[frame], counts[frame] = residual, count
    return spikes[:, :found], ends, residuals, counts, numbers, most_seen, least_seen, greatest_seen


@njit(cache=True, nogil=True)
def _pool(
    address, sign, origin, starts, source, output, keep_states, row_ranges, column_ranges, row_inputs, column_inputs
):  # type: ignore[no-untyped-def]
    frames = len(starts) - 1
    counts, maxima = np.empty(source, np.int32), np.empty(output, np.int32)
    kept = np.empty((frames if keep_states else 0, maxima.size), np.int32)
    spikes, found = np.empty((4, 1024), np.int32), 0
    ends = np.zeros(frames + 1, np.int64)
    most_seen = np.int64(0)
    for frame in range(frames):
        counts[:] = 0
        maxima[:] = 0
        for index in range(starts[frame], starts[frame + 1]):
            position, c = address[index] // source[2], address[index] % source[2]
            y, x = position // source[1], position % source[1]
            counts[y, x, c] += sign[index]
            for oy in range(row_ranges[y, 0], row_ranges[y, 1]):
                for ox in range(column_ranges[x, 0], column_ranges[x, 1]):
                    # Only a count above the maximum raises it, and only one that was the maximum can lower it.
                    greatest = maxima[oy, ox, c]
                    if counts[y, x, c] > greatest:
                        greatest = counts[y, x, c]
                    elif sign[index] < 0 and counts[y, x, c] + 1 == greatest:
                        greatest = counts[y, x, c]
                        for iy in range(row_inputs[oy, 0], row_inputs[oy, 1]):
                            for ix in range(column_inputs[ox, 0], column_inputs[ox, 1]):
                                greatest = max(greatest, counts[iy, ix, c])
                    change = greatest - maxima[oy, ox, c]
                    if change != 0:
                        maxima[oy, ox, c] = greatest
                        most_seen = max(most_seen, abs(greatest))
                        spikes = _room(spikes, found, 1)
                        spikes[0, found], spikes[1, found] = (oy * output[1] + ox) * output[2] + c, change
                        spikes[2, found], spikes[3, found] = index - starts[frame], origin[index]
                        found += 1
        ends[frame + 1] = found
        if keep_states:
            kept[frame] = maxima.reshape(-1)
    return spikes[:, :found], ends, kept, most_seen
