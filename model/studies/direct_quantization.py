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
    bias = np.broadcast_to(layer.bias.astype(np.int64), tables.output).reshape(-1)
    taken = (source.address, source.sign, source.origin, source.starts)
    found = _follow(taken, bias, tables.weights, width * channels, layer.threshold_log2, layer.relu, tables.axes)
    (address, sign, cause, origin), starts, counts, operations = found
    least, most = layer.count_limits
    if counts.size and not (least <= counts.min() and counts.max() <= most):
        raise BadInputError(f"layer {layer.name!r}: counts must stay within {least}..{most}")
    return Stream(address, sign, origin, cause, starts), counts, operations


@njit(cache=True, nogil=True)
def _follow(events, bias, weights, row_size, f, relu, axes):  # type: ignore[no-untyped-def]
    """The golden loop: add, quantize, and send the difference."""
    address, sign, origin, starts = events
    places, row_ranges, row_taps, runs = axes
    _, taps, inputs, longest = weights.shape
    flat = weights.reshape(-1)
    frames = len(starts) - 1
    spikes, found = np.empty((4, 1024), np.int32), 0
    ends, operations = np.zeros(frames + 1, np.int64), np.zeros(frames, np.int64)
    counts = np.zeros((frames, len(bias)), np.int64)
    for frame in range(frames):
        potential, count = bias.copy(), counts[frame]
        for index in range(starts[frame], starts[frame + 1]):
            y, x, c, reached = places[address[index]]
            for oy in range(row_ranges[y, 0], row_ranges[y, 1]):
                tap = row_taps[y, oy - row_ranges[y, 0]]
                for run in range(runs.shape[1]):
                    start, size = oy * row_size + runs[x, run, 0] + reached, runs[x, run, 1]
                    place = ((runs[x, run, 2] * taps + tap) * inputs + c) * longest
                    operations[frame] += size
                    for n in range(size):
                        neuron = start + n
                        V = potential[neuron] + sign[index] * flat[place + n]
                        potential[neuron] = V
                        # Towards zero, as the quantized network.
                        whole = V >> f if V >= 0 else (0 if relu else -(-V >> f))
                        change = whole - count[neuron]
                        if change == 0:
                            continue
                        count[neuron] = whole
                        while found + abs(change) > spikes.shape[1]:
                            grown = np.empty((4, 2 * spikes.shape[1]), np.int32)
                            grown[:, :found] = spikes[:, :found]
                            spikes = grown
                        for _ in range(abs(change)):
                            spikes[0, found], spikes[1, found] = neuron, 1 if change > 0 else -1
                            spikes[2, found], spikes[3, found] = index - starts[frame], origin[index]
                            found += 1
        ends[frame + 1] = found
    return spikes[:, :found], ends, counts, operations
