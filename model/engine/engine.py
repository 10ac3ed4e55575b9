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
from model.network import INPUT, Convolution, Layer, Linear, MaxPool, Network, Neurons, Shape

__all__ = ["FrameSummaries", "Stream", "run_fast", "run_frames", "run_streams"]

_BATCH = 100
"""Frames that a core runs at once: what the memory in use grows with."""

_LANES = 16
"""Neurons are added in whole blocks of this many, those behind a run's end with weights of 0."""

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


@dataclass(frozen=True)
class Stream:
    """Events of several frames, one after the other, with the fields of `model.events.EVENT`.

    Parameters
    ----------
    address, sign, origin, cause : of each event; ``cause`` and ``origin`` count within their frame
    starts : frame ``n`` is ``starts[n]`` to ``starts[n + 1]``
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
        addresses, starts = _encode(np.ascontiguousarray(images).reshape(len(images), -1), network.input_threshold)
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


@dataclass(frozen=True)
class _Tables:
    """What the kernels need of a layer behind a source of some shape.

    Parameters
    ----------
    shape : of the source
    source, output : the shapes as the kernel sees them
    axes : of neurons: of each address row, column and first channel reached; of each row the outputs, and their taps; of
        each column its runs, as first neuron, neurons and where in ``weights``; of a pool the ranges of outputs and those
        of inputs, and the coordinates of each address
    weights : ``(run, tap y, input, neuron of the run)``, filled with zeros to whole blocks of `_LANES`
    bias : of each neuron, and a block of zeros
    """

    shape: Shape
    source: tuple[int, int, int]
    output: tuple[int, int, int]
    axes: tuple[npt.NDArray[np.int32], ...]
    weights: npt.NDArray[np.signedinteger] | None = None
    bias: npt.NDArray[np.signedinteger] | None = None


def _tables(layer: Layer, shape: Shape) -> _Tables:
    """The layer's tables, made once and kept with it: they cost more than a frame does."""
    kept = layer.__dict__.get("_engine_tables")
    if isinstance(kept, _Tables) and kept.shape == shape:
        return kept
    height, width, channels = layer.output_shape(shape)
    output = (height, width, channels)
    source = (shape.height, shape.width, shape.channels)
    y, x, c = np.unravel_index(np.arange(shape.size), source)
    if isinstance(layer, MaxPool):
        rows, columns = (_axis_table(layer, shape, axis)[0] for axis in (0, 1))
        inside = (_window_ranges(rows, output[0]), _window_ranges(columns, output[1]))
        tables = _Tables(shape, source, output, (rows, columns, *inside, np.stack([y, x, c], axis=1).astype(np.int32)))
    elif isinstance(layer, Neurons):
        bits = max(layer.potential_bits, layer.weight_bits)
        # Sums of three such numbers have to fit.
        dtype: type[np.signedinteger] = np.int16 if bits <= 14 else np.int32
        bias = np.zeros(height * width * channels + _LANES, dtype)
        bias[:-_LANES] = np.broadcast_to(layer.bias, output).reshape(-1)
        if isinstance(layer, Linear):
            # One position whose channels are the inputs: a run of all neurons, of one tap.
            y, x, c = np.zeros_like(c), np.zeros_like(c), np.arange(shape.size)
            rows, row_taps = np.array([[0, 1]], np.int32), np.zeros((1, 1), np.int32)
            by_run: npt.NDArray[np.signedinteger] = layer.weights.T.reshape(1, 1, shape.size, channels)
            runs, reached = np.array([[[0, channels, 0]]]), np.zeros_like(c)
        elif isinstance(layer, Convolution):
            rows, row_taps = _axis_table(layer, shape, 0)
            by_run, runs = _runs(layer, *_axis_table(layer, shape, 1))
            reached = c // (shape.channels // layer.groups) * (channels // layer.groups)
        else:
            raise TypeError(f"layer must be a Convolution or Linear, not {type(layer).__name__}")
        weights = np.zeros((*by_run.shape[:3], -(-by_run.shape[3] // _LANES) * _LANES), dtype)
        weights[..., : by_run.shape[3]] = by_run
        axes = (np.stack([y, x, c, reached], axis=1).astype(np.int32), rows, row_taps, runs.astype(np.int32))
        tables = _Tables(shape, source, output, axes, weights, bias)
    else:
        raise TypeError(f"layer must be a Convolution, Linear or MaxPool, not {type(layer).__name__}")
    layer.__dict__["_engine_tables"] = tables
    return tables


def _runs(
    layer: Convolution, columns: npt.NDArray[np.int32], column_taps: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.signedinteger], Ints]:
    """Runs of consecutive neurons that an event in each column reaches in a row.

    Returns
    -------
    Weights ``(run, tap y, input channel, neuron of the run)``; of each column its runs, ``(column, runs, 3)``: first neuron
    within the row, neurons (0 behind the last), which run of weights.
    """
    channels, groups = layer.channels, layer.groups
    inputs = layer.weights.shape[1] * groups
    # Of each input channel the weights (tap y, tap x, channel of its group).
    by_input = layer.weights.reshape(groups, channels // groups, inputs // groups, *layer.kernel)
    by_tap = by_input.transpose(3, 4, 0, 2, 1).reshape(*layer.kernel, inputs, channels // groups)
    taps_of = [tuple(found[: end - first]) for found, (first, end) in zip(column_taps.tolist(), columns.tolist(), strict=True)]
    if groups > 1:
        # Neighbours in a group are apart in the next position: a run is one position.
        runs = np.zeros((len(columns), max(1, *map(len, taps_of)), 3), np.int64)
        for column, (found, (first, _)) in enumerate(zip(taps_of, columns.tolist(), strict=True)):
            for n, tap in enumerate(found):
                runs[column, n] = (first + n) * channels, channels // groups, tap
        return by_tap.transpose(1, 0, 2, 3), runs
    distinct = sorted({found for found in taps_of if found}) or [(0,)]
    weights = np.zeros((len(distinct), layer.kernel[0], inputs, max(map(len, distinct)) * channels), np.int64)
    for run, found in enumerate(distinct):
        weights[run, :, :, : len(found) * channels] = by_tap[:, list(found)].transpose(0, 2, 1, 3).reshape(
            layer.kernel[0], inputs, -1
        )
    runs = np.zeros((len(columns), 1, 3), np.int64)
    for column, (found, (first, _)) in enumerate(zip(taps_of, columns.tolist(), strict=True)):
        runs[column, 0] = first * channels, len(found) * channels, distinct.index(found) if found else 0
    return weights, runs


def _axis_table(
    layer: Convolution | MaxPool, shape: Shape, axis: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Of each input coordinate the range of outputs, and the tap of each output of that range."""
    reached = layer.taps(shape, axis)
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
def _encode(frames, threshold):  # type: ignore[no-untyped-def]
    """As `model.encode.encode`, of frames ``(frames, pixels)``: addresses, and where each frame starts."""
    addresses, starts = np.empty(frames.size, np.int32), np.zeros(len(frames) + 1, np.int64)
    ends, found = np.empty(256, np.int64), 0
    for frame in range(len(frames)):
        # Counting sort: of each brightness, where its pixels go.
        ends[:] = 0
        for pixel in frames[frame]:
            ends[pixel] += 1
        total = 0
        for value in range(255, threshold, -1):
            total, ends[value] = total + ends[value], total
        for address in range(frames.shape[1]):
            value = frames[frame, address]
            if value > threshold:
                addresses[found + ends[value]] = address
                ends[value] += 1
        found += total
        starts[frame + 1] = found
    return addresses[:found].copy(), starts


@njit(cache=True, nogil=True)
def _grown(spikes, more):  # type: ignore[no-untyped-def]
    """``spikes`` with room for as many again, and ``more``."""
    grown = np.empty((4, 2 * spikes.shape[1] + more), np.int32)
    grown[:, : spikes.shape[1]] = spikes
    return grown


@njit(cache=True, nogil=True)
def _add(residual, below, weights, flags, neuron, weight, blocks, flip, above):  # type: ignore[no-untyped-def]
    """Add ``blocks`` of weights to as many residuals, in the arrays' own type. A loop that compilers make vectors of.

    Makes ``flags`` negative where a neuron may fire or saturate. Returns a negative number where one may, and the least
    residual of the others, 0 at most.
    """
    kind = residual.dtype.type
    # Unsigned, or the compiler allows for indices from the end.
    neuron, weight = np.uint64(neuron), np.uint64(weight)
    outside, least = kind(0), kind(0)
    for n in range(np.uint64(blocks * _LANES)):
        # x ^ flip - flip is the negative of x where flip is -1.
        total = kind(residual[neuron + n] + kind(kind(weights[weight + n] ^ flip) - flip))
        residual[neuron + n] = total
        flag = kind(kind(total - below[neuron + n]) | kind(above - total))
        flags[n] = flag
        outside = kind(outside | flag)
        least = min(least, total if flag >= 0 else kind(0))
    return outside, least


@njit(cache=True, nogil=True)
def _settle(total, count, theta, silent, lowest, highest, fewest, most):  # type: ignore[no-untyped-def]
    """Saturate, compare and fire: the residual to store, the spike, and whether something was held back."""
    held = total > highest or total < lowest
    total = min(max(total, lowest), highest)
    fired = 0
    if total >= theta:
        fired = 1 if count < most else 0
        held |= fired == 0
    elif total <= -theta and count > silent:
        fired = -1 if count > fewest else 0
        held |= fired == 0
    return total - fired * theta, fired, held


@njit(cache=True, nogil=True)
def _integrate(
    address,
    sign,
    origin,
    starts,
    row_size,
    bias,
    weights,
    theta,
    relu,
    lowest,
    highest,
    fewest,
    most,
    keep_states,
    places,
    row_ranges,
    row_taps,
    runs,
):  # type: ignore[no-untyped-def]
    frames, neurons = len(starts) - 1, len(bias) - _LANES
    # A neuron whose count is not above this never fires -1, nor is it held from doing so.
    silent = 0 if relu else fewest - 1
    residual, count = np.empty_like(bias), np.empty(neurons, np.int32)
    # A neuron below its own limit fires -1 or saturates; one above the common limit fires +1 or is held from it.
    kind = residual.dtype.type
    below, above = np.empty_like(bias), kind(theta - 1)
    residuals = np.empty((frames if keep_states else 0, neurons), np.int32)
    counts = np.empty((frames if keep_states else 0, neurons), np.int32)
    spikes, found = np.empty((4, 1024), np.int32), 0
    ends = np.zeros(frames + 1, np.int64)
    # Of each frame: operations, saturated updates, saturated events.
    numbers = np.zeros((3, frames), np.int64)
    most_seen = least_seen = greatest_seen = np.int64(0)
    taps, inputs, longest = weights.shape[1:]
    # Of a run, who may fire or saturate: a sign bit a neuron, several in a word.
    words_per_block = _LANES * residual.itemsize // 8
    flags = np.zeros(longest, residual.dtype)
    words = flags.view(np.uint64)
    signs = np.uint64(0x8000800080008000 if residual.itemsize == 2 else 0x8000000080000000)
    flat = weights.reshape(-1)
    for frame in range(frames):
        residual[:] = bias
        count[:] = 0
        below[:] = lowest if silent >= 0 else 1 - theta
        for index in range(starts[frame], starts[frame + 1]):
            y, x = places[address[index], 0], places[address[index], 1]
            c, reached = places[address[index], 2], places[address[index], 3]
            flip = kind(0 if sign[index] > 0 else -1)
            saturated_before = numbers[1, frame]
            for oy in range(row_ranges[y, 0], row_ranges[y, 1]):
                tap = row_taps[y, oy - row_ranges[y, 0]]
                for run in range(runs.shape[1]):
                    start = oy * row_size + runs[x, run, 0] + reached
                    size = runs[x, run, 1]
                    numbers[0, frame] += size
                    first = ((runs[x, run, 2] * taps + tap) * inputs + c) * longest
                    blocks = (size + _LANES - 1) // _LANES
                    outside, least = _add(residual, below, flat, flags, start, first, blocks, flip, above)
                    least_seen = min(least_seen, np.int64(least))
                    if outside >= 0:
                        continue
                    if found + size > spikes.shape[1]:
                        spikes = _grown(spikes, size)
                    # Several flags at a time: words of them without a sign bit set are of no interest.
                    for block in range(blocks):
                        word = np.uint64(block * words_per_block)
                        seen = words[word]
                        for more in range(np.uint64(1), np.uint64(words_per_block)):
                            seen |= words[word + more]
                        if not seen & signs:
                            continue
                        for at in range(block * _LANES, min((block + 1) * _LANES, size)):
                            if flags[np.uint64(at)] >= 0:
                                continue
                            n = np.uint64(start + at)
                            total = np.int64(residual[n])
                            total, fired, held = _settle(total, count[n], theta, silent, lowest, highest, fewest, most)
                            if fired != 0:
                                count[n] += fired
                                below[n] = 1 - theta if count[n] > silent else lowest
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
            residuals[frame], counts[frame] = residual[:neurons], count
    return spikes[:, :found], ends, residuals, counts, numbers, most_seen, least_seen, greatest_seen


@njit(cache=True, nogil=True)
def _pool(
    address, sign, origin, starts, source, output, keep_states, row_ranges, column_ranges, row_inputs, column_inputs, places
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
            y, x, c = places[address[index], 0], places[address[index], 1], places[address[index], 2]
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
                        if found == spikes.shape[1]:
                            spikes = _grown(spikes, 1)
                        spikes[0, found], spikes[1, found] = (oy * output[1] + ox) * output[2] + c, change
                        spikes[2, found], spikes[3, found] = index - starts[frame], origin[index]
                        found += 1
        ends[frame + 1] = found
        if keep_states:
            kept[frame] = maxima.reshape(-1)
    return spikes[:, :found], ends, kept, most_seen
