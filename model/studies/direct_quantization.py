"""The sigma-delta neuron without its hysteresis, which the paper advises against: after every event its count is what direct
quantization of its potential gives, ``trunc(act(V) / theta)``.

Whenever a potential crosses a whole threshold, up or down, the neuron fires; where one swings about it, at every swing. What it
counts in the end is what the quantized network has, so that only the number of spikes tells the two apart. As in Algorithm 1
neurons start from a count of 0 and compare when an event reaches them. Nothing saturates.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from model.arrays import Images, Ints
from model.engine.engine import Stream, run_streams
from model.engine.kernels import pool
from model.engine.tables import starts_of, tables_of
from model.network import INPUT, MaxPool, Network, Neurons, Shape
from model.support.compiled import njit
from model.support.errors import BadInputError

__all__ = ["DirectFrames", "run_direct"]

_BATCH = 100
"""Frames at once: what the memory in use grows with."""

_FAR = 1 << 30
"""Beyond every potential."""


@dataclass(frozen=True)
class DirectFrames:
    """What frames did.

    Parameters
    ----------
    counts : Ints
        ``(frames, classes)``.
    spikes, negative, operations : Ints
        ``(frames, layers)``: spikes of each layer, those of them that are negative, and accumulations.
    """

    counts: Ints
    spikes: Ints
    negative: Ints
    operations: Ints


def run_direct(network: Network, images: Images, *, done: Callable[[int], None] = lambda frames: None) -> DirectFrames:
    """Run frames through a network that fires at once and starts from its biases.

    Raises
    ------
    BadInputError
        It fires deferred, or starts from rest; a count ends beyond its width.
    """
    if network.deferred or network.rest:
        raise BadInputError(f"network {network.name!r} must fire immediately and start from its biases")
    parts = []
    for at in range(0, len(images), _BATCH):
        parts.append(_run(network, images[at : at + _BATCH]))
        done(len(parts[-1].counts))
    return DirectFrames(*(np.concatenate([getattr(part, name) for part in parts]) for name in DirectFrames.__annotations__))


def _run(network: Network, images: Images) -> DirectFrames:
    network.refuse_branches("direct quantization")
    streams = {INPUT: run_streams(network, images)[INPUT]}
    numbers, counts = [], {}
    for layer, shape, _ in network.walk():
        source = streams[layer.source]
        if isinstance(layer, MaxPool):
            stream, count, operations = _pooled(network, layer, shape, source)
        else:
            assert isinstance(layer, Neurons)
            stream, count, operations = _followed(layer, shape, source)
        streams[layer.name], counts[layer.name] = stream, count
        frame = np.repeat(np.arange(len(images)), np.diff(stream.starts))
        numbers.append((np.diff(stream.starts), np.bincount(frame, stream.sign < 0, len(images)).astype(np.int64), operations))
    spikes, negative, operations = (np.stack(column, axis=1) for column in zip(*numbers, strict=True))
    return DirectFrames(counts[network.output.name], spikes, negative, operations)


def _pooled(network: Network, layer: MaxPool, shape: Shape, source: Stream) -> tuple[Stream, Ints, Ints]:
    tables, start = tables_of(layer, shape), starts_of(network)[layer.name]
    taken = (source.address, source.sign, source.origin, source.starts)
    first = (start.residual, start.count, start.below)
    (address, sign, cause, origin), starts, maxima, _ = pool(taken, first, tables.output, True, tables.axes)
    return Stream(address, sign, origin, cause, starts), maxima, np.zeros(len(starts) - 1, np.int64)


def _followed(layer: Neurons, shape: Shape, source: Stream) -> tuple[Stream, Ints, Ints]:
    tables = tables_of(layer, shape)
    assert tables.weights is not None
    _, width, channels = tables.output
    bias = np.broadcast_to(layer.bias.astype(np.int32), tables.output).reshape(-1)
    taken = (source.address, source.sign, source.origin, source.starts)
    found = _follow(taken, bias, tables.weights, width * channels, layer.threshold_log2, layer.relu, tables.axes)
    (address, sign, cause, origin), starts, counts, operations = found
    least, most = layer.count_limits
    if counts.size and not (least <= counts.min() and counts.max() <= most):
        raise BadInputError(f"layer {layer.name!r}: counts must stay within {least}..{most}")
    return Stream(address, sign, origin, cause, starts), counts, operations


@njit(cache=True, nogil=True)
def _between(count, f, relu):  # type: ignore[no-untyped-def]
    """The potentials of which a count is the quantized value: from the first on, and below the second."""
    theta = 1 << f
    if count > 0:
        return count * theta, (count + 1) * theta
    if count < 0:
        return (count - 1) * theta + 1, count * theta + 1
    return -_FAR if relu else 1 - theta, theta


@njit(cache=True, nogil=True)
def _follow(events, bias, weights, row_size, f, relu, axes):  # type: ignore[no-untyped-def]
    """The golden loop: add, quantize, and send the difference."""
    address, sign, origin, starts = events
    places, taps, runs = axes
    flat = weights.reshape(-1)
    frames = len(starts) - 1
    spikes, found = np.empty((4, 1024), np.int32), 0
    ends, operations = np.zeros(frames + 1, np.int64), np.zeros(frames, np.int64)
    counts = np.zeros((frames, len(bias)), np.int64)
    at_zero = _between(0, f, relu)
    for frame in range(frames):
        potential, count = bias.copy(), counts[frame]
        low, high = np.full(len(bias), at_zero[0], np.int32), np.full(len(bias), at_zero[1], np.int32)
        for index in range(starts[frame], starts[frame + 1]):
            neuron, weight, y, x, rows, _ = places[address[index]]
            for row in range(rows):
                for run in range(runs.shape[1]):
                    first, size = np.uint64(neuron + row * row_size + runs[x, run, 0]), np.uint64(runs[x, run, 1])
                    place = np.uint64(weight + taps[y, row] + runs[x, run, 2])
                    operations[frame] += size
                    # Few neurons cross a threshold: all are added at once, in a loop that compilers make vectors of.
                    crossed = np.int32(0)
                    for n in range(size):
                        V = np.int32(potential[first + n] + np.int32(sign[index]) * np.int32(flat[place + n]))
                        potential[first + n] = V
                        crossed |= np.int32(V < low[first + n]) | np.int32(V >= high[first + n])
                    if crossed == 0:
                        continue
                    for n in range(first, first + size):
                        V = potential[n]
                        if low[n] <= V < high[n]:
                            continue
                        # Towards zero, as the quantized network.
                        whole = np.int64(V >> f if V >= 0 else (0 if relu else -(-V >> f)))
                        change = whole - count[n]
                        count[n] = whole
                        low[n], high[n] = _between(whole, f, relu)
                        while found + abs(change) > spikes.shape[1]:
                            grown = np.empty((4, 2 * spikes.shape[1]), np.int32)
                            grown[:, :found] = spikes[:, :found]
                            spikes = grown
                        for _ in range(abs(change)):
                            spikes[0, found], spikes[1, found] = n, 1 if change > 0 else -1
                            spikes[2, found], spikes[3, found] = index - starts[frame], origin[index]
                            found += 1
        ends[frame + 1] = found
    return spikes[:, :found], ends, counts, operations
