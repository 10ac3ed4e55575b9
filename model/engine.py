"""The fast engine: the golden model's spikes in the same order, compiled.

The kernels keep the residual form of the neuron and walk the fan-out by its tables. A test holds them equal to
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

__all__ = ["FrameSummary", "run_fast", "run_frames"]


@dataclass(frozen=True)
class FrameSummary:
    """What one frame did, without its spikes.

    Parameters
    ----------
    input_events : events of the input
    counts, potentials : of each class, ``Q`` and ``V``
    spikes, operations, saturated_events : of each layer
    greatest_count, least_residual, greatest_residual : extremes of each layer's final state
    """

    input_events: int
    counts: npt.NDArray[np.int64]
    potentials: npt.NDArray[np.int64]
    spikes: npt.NDArray[np.int64]
    operations: npt.NDArray[np.int64]
    saturated_events: npt.NDArray[np.int64]
    greatest_count: npt.NDArray[np.int64]
    least_residual: npt.NDArray[np.int64]
    greatest_residual: npt.NDArray[np.int64]


def run_fast(network: Network, events: Events) -> Trace:
    """As `model.golden.run`, equal in every field."""
    streams = {INPUT: events}
    layers = {}
    for layer, shape, _ in network.walk():
        layers[layer.name] = _run_layer(layer, shape, streams[layer.source])[0]
        streams[layer.name] = layers[layer.name].spikes
    return Trace(network=network, events=events, layers=layers)


def run_frames(
    network: Network,
    images: Sequence[npt.NDArray[np.uint8] | Events] | npt.NDArray[np.uint8],
    *,
    done: Callable[[int], None] | None = None,
) -> Iterator[FrameSummary]:
    """Encode and run frames on all cores, in order.

    Parameters
    ----------
    network : the network
    images : uint8 frames, or frames of events
    done : called with the number of frames finished
    """
    chunk = 64
    starts = range(0, len(images), chunk)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for summaries in pool.map(lambda at: [_summary(network, f) for f in images[at : at + chunk]], starts):
            yield from summaries
            if done:
                done(len(summaries))


def _summary(network: Network, image: npt.NDArray[np.uint8] | Events) -> FrameSummary:
    events: Events = image if image.dtype == EVENT else encode(network, image)  # type: ignore[assignment]
    streams = {INPUT: events}
    rows = []
    for layer, shape, _ in network.walk():
        trace, extremes = _run_layer(layer, shape, streams[layer.source])
        streams[layer.name] = trace.spikes
        rows.append((len(trace.spikes), trace.operations, trace.saturated_events, *extremes))
    spikes, operations, saturated, count, least, greatest = np.array(rows, dtype=np.int64).T
    return FrameSummary(
        len(events),
        trace.count.reshape(-1),
        trace.potential.reshape(-1),
        spikes,
        operations,
        saturated,
        count,
        least,
        greatest,
    )


def _run_layer(layer: Layer, shape: Shape, events: Events) -> tuple[LayerTrace, tuple[int, int, int]]:
    """The layer's trace, and the extremes: greatest magnitude of a count, least and greatest residual ever stored."""
    if len(events) and not 0 <= events["address"].min() <= events["address"].max() < shape.size:
        raise ValueError(f"layer {layer.name!r}: event address must be within 0..{shape.size - 1}")
    output = layer.output_shape(shape)
    address, sign = np.ascontiguousarray(events["address"]), np.ascontiguousarray(events["sign"])
    tables = _tables(layer, shape, output)
    if isinstance(layer, MaxPool):
        found, maxima = _pool(address, sign, tuple(shape), tuple(output), *tables.axes)
        return _trace(layer, events, found, np.zeros(output, np.int64), maxima, 0, 0, 0), (int(maxima.max()), 0, 0)
    assert isinstance(layer, Neurons) and tables.weights is not None
    residual = np.broadcast_to(layer.bias.astype(np.int32), output).copy()
    count = np.zeros(output, np.int32)
    limits = (*layer.residual_limits, *layer.count_limits)
    found, operations, saturated_updates, saturated_events, most, least, greatest = _integrate(
        address, sign, tables.source, residual, count, tables.weights, layer.theta, layer.relu, *limits, *tables.axes
    )
    potential = residual.astype(np.int64) + count.astype(np.int64) * layer.theta
    trace = _trace(
        layer, events, found, potential, count.astype(np.int64), operations, saturated_updates, saturated_events
    )
    return trace, (most, least, greatest)


@dataclass(frozen=True)
class _Tables:
    """What the kernels need of a layer behind a source of some shape.

    Parameters
    ----------
    shape : of the source
    source : the source as the kernel sees it
    axes : ranges and taps of rows and columns; of a pool the ranges of outputs and those of inputs
    weights : contiguous, ``(tap y, tap x, input, channel)``; None of a pool
    """

    shape: Shape
    source: tuple[int, int, int]
    axes: tuple[npt.NDArray[np.int32], ...]
    weights: npt.NDArray[np.int32] | None


def _tables(layer: Layer, shape: Shape, output: Shape) -> _Tables:
    """The layer's tables, made once and kept with it: they cost more than a frame does."""
    kept = layer.__dict__.get("_engine_tables")
    if isinstance(kept, _Tables) and kept.shape == shape:
        return kept
    if isinstance(layer, MaxPool):
        rows, columns = (_axis_table(layer, shape, output, axis)[0] for axis in (0, 1))
        inside = (_window_ranges(rows, output.height), _window_ranges(columns, output.width))
        tables = _Tables(shape, (shape.height, shape.width, shape.channels), (rows, columns, *inside), None)
    elif isinstance(layer, Linear):
        # One position whose "channels" are the inputs: a kernel of one tap.
        one = np.array([[0, 1]], np.int32), np.zeros((1, 1), np.int32)
        weights = layer.weights.T.reshape(1, 1, shape.size, layer.channels)
        tables = _Tables(shape, (1, 1, shape.size), (*one, *one), np.ascontiguousarray(weights, dtype=np.int32))
    elif isinstance(layer, Convolution):
        axes = (*_axis_table(layer, shape, output, 0), *_axis_table(layer, shape, output, 1))
        weights = np.ascontiguousarray(layer.weights.transpose(2, 3, 1, 0), dtype=np.int32)
        tables = _Tables(shape, (shape.height, shape.width, shape.channels), axes, weights)
    else:
        raise TypeError(f"layer must be a Convolution, Linear or MaxPool, not {type(layer).__name__}")
    layer.__dict__["_engine_tables"] = tables
    return tables


def _axis_table(
    layer: Convolution | MaxPool, shape: Shape, output: Shape, axis: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Of each input coordinate the range of outputs, and the tap of each output of that range."""
    kernel = layer.kernel if isinstance(layer, Convolution) else layer.window
    reached = taps(
        size=shape[axis],
        outputs=output[axis],
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


def _trace(
    layer: Layer,
    events: Events,
    found: npt.NDArray[np.int32],
    potential: npt.NDArray[np.int64],
    count: npt.NDArray[np.int64],
    operations: int,
    saturated_updates: int,
    saturated_events: int,
) -> LayerTrace:
    spikes = np.zeros(len(found), dtype=EVENT)
    spikes["address"], spikes["sign"], spikes["cause"] = found.T
    spikes["origin"] = events["origin"][spikes["cause"]]
    return LayerTrace(
        layer=layer,
        events=events,
        spikes=spikes,
        potential=potential,
        count=count,
        operations=operations,
        saturated_updates=saturated_updates,
        saturated_events=saturated_events,
    )


@njit(cache=True, nogil=True)
def _integrate(
    address,
    sign,
    source,
    residual,
    count,
    weights,
    theta,
    relu,
    lowest,
    highest,
    least,
    most,
    row_ranges,
    row_taps,
    column_ranges,
    column_taps,
):  # type: ignore[no-untyped-def]
    channels = residual.shape[2]
    spikes = np.empty((1024, 3), np.int32)
    found = 0
    operations = saturated_updates = saturated_events = 0
    most_seen = 0
    least_seen, greatest_seen = np.int64(residual.min()), np.int64(residual.max())
    for index in range(len(address)):
        position = address[index] // source[2]
        c = address[index] % source[2]
        y, x = position // source[1], position % source[1]
        s = np.int32(sign[index])
        saturated_before = saturated_updates
        for oy in range(row_ranges[y, 0], row_ranges[y, 1]):
            ky = row_taps[y, oy - row_ranges[y, 0]]
            for ox in range(column_ranges[x, 0], column_ranges[x, 1]):
                kx = column_taps[x, ox - column_ranges[x, 0]]
                if found + channels > len(spikes):
                    grown = np.empty((2 * len(spikes) + channels, 3), np.int32)
                    grown[:found] = spikes[:found]
                    spikes = grown
                operations += channels
                for oc in range(channels):
                    total = residual[oy, ox, oc] + s * weights[ky, kx, c, oc]
                    held = False
                    if total > highest:
                        total, held = highest, True
                    elif total < lowest:
                        total, held = lowest, True
                    if total >= theta:
                        if count[oy, ox, oc] < most:
                            total -= theta
                            count[oy, ox, oc] += 1
                            most_seen = max(most_seen, abs(count[oy, ox, oc]))
                            spikes[found, 0] = (oy * residual.shape[1] + ox) * channels + oc
                            spikes[found, 1] = 1
                            spikes[found, 2] = index
                            found += 1
                        else:
                            held = True
                    elif total <= -theta and not (relu and count[oy, ox, oc] < 1):
                        if count[oy, ox, oc] > least:
                            total += theta
                            count[oy, ox, oc] -= 1
                            most_seen = max(most_seen, abs(count[oy, ox, oc]))
                            spikes[found, 0] = (oy * residual.shape[1] + ox) * channels + oc
                            spikes[found, 1] = -1
                            spikes[found, 2] = index
                            found += 1
                        else:
                            held = True
                    residual[oy, ox, oc] = total
                    least_seen = min(least_seen, total)
                    greatest_seen = max(greatest_seen, total)
                    saturated_updates += held
        saturated_events += saturated_updates > saturated_before
    return spikes[:found], operations, saturated_updates, saturated_events, most_seen, least_seen, greatest_seen


@njit(cache=True, nogil=True)
def _pool(address, sign, source, output, row_ranges, column_ranges, row_inputs, column_inputs):  # type: ignore[no-untyped-def]
    counts = np.zeros(source, np.int64)
    maxima = np.zeros(output, np.int64)
    spikes = np.empty((1024, 3), np.int32)
    found = 0
    for index in range(len(address)):
        position = address[index] // source[2]
        c = address[index] % source[2]
        y, x = position // source[1], position % source[1]
        counts[y, x, c] += sign[index]
        for oy in range(row_ranges[y, 0], row_ranges[y, 1]):
            for ox in range(column_ranges[x, 0], column_ranges[x, 1]):
                greatest = counts[y, x, c]
                for iy in range(row_inputs[oy, 0], row_inputs[oy, 1]):
                    for ix in range(column_inputs[ox, 0], column_inputs[ox, 1]):
                        greatest = max(greatest, counts[iy, ix, c])
                change = greatest - maxima[oy, ox, c]
                if change != 0:
                    maxima[oy, ox, c] = greatest
                    if found == len(spikes):
                        grown = np.empty((2 * len(spikes), 3), np.int32)
                        grown[:found] = spikes
                        spikes = grown
                    spikes[found, 0] = (oy * output[1] + ox) * output[2] + c
                    spikes[found, 1] = change
                    spikes[found, 2] = index
                    found += 1
    return spikes[:found], maxima
