"""The golden model: the normative meaning of a network, in short integer code.

A layer is a function from an event sequence to an event sequence. Events are taken strictly in order; for
each, the neurons in its fan-out are updated once, in ascending ``(y, x, c)``, and the spikes leave in that
order. In a network that fires deferred events are only added up, in whatever order; at a flush all neurons are visited in
ascending order and fire, and the flush passes on after the spikes. Where a layer has several inputs, the events that one event
of their fork caused come by input. This is the reference that every other engine, model and
machine is held equal to.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.arrays import Ints
from model.events import EVENT, Events, Flush, input_flushes
from model.network import INPUT, Input, Layer, MaxPool, Network, Neurons, Shape
from model.neuron import accumulate, flush, update, update_burst
from model.projection import ConvolutionProjection, LinearProjection, Projection
from model.rest import State, first_states

__all__ = ["LayerTrace", "Merge", "Trace", "answers", "fan_out", "merged", "run", "run_layer"]


@dataclass(frozen=True, kw_only=True)
class LayerTrace:
    """What one layer did in one frame.

    Parameters
    ----------
    layer : Layer
        The layer.
    events : Events
        Its input events; of a further input's the address counts on from those of the inputs before it (`model.network.Input`).
    spikes : Events
        Its output events, in order, each with its cause: the index of the input event that caused it; of a spike that was fired
        at a flush, that of the last event before it, -1 where there was none.
    potential : npt.NDArray[np.int64]
        Final membrane potential ``V``, shape of the layer; zeros for pooling.
    count : npt.NDArray[np.int64]
        Final spike count ``Q``, shape of the layer.
    operations : int
        Accumulations: one for each neuron visited.
    saturated_updates : int
        Updates in which the residual or the count was held at its end; of those that fire deferred, neurons that at a flush did
        not fit.
    saturated_events : int
        Input events, or flushes, with at least one such update (what the hardware counts).
    flushes : tuple[Flush, ...]
        The flushes among its output events, where the network fires deferred.
    """

    layer: Layer
    events: Events
    spikes: Events
    potential: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]
    operations: int
    saturated_updates: int
    saturated_events: int
    flushes: tuple[Flush, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What a network did in one frame: its input events, and each layer by name."""

    network: Network
    events: Events
    layers: dict[str, LayerTrace]

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Signed spike count of each output, that at rest included."""
        return self.layers[self.network.output.name].count.reshape(-1)

    @property
    def potentials(self) -> npt.NDArray[np.int64]:
        """Final membrane potential of each output."""
        return self.layers[self.network.output.name].potential.reshape(-1)

    @property
    def answer(self) -> int:
        """The class by the spike counts (`answers`)."""
        return int(answers(self.counts))


def answers(scores: npt.NDArray[np.number]) -> npt.NDArray[np.int64]:
    """The class that scores speak for: arg-max, lowest index on ties; of a single score its sign, class 1 above 0, else class 0.

    Parameters
    ----------
    scores : numpy.ndarray
        Counts, potentials, or outputs of a float network, ``(..., outputs)``.

    Returns
    -------
    numpy.ndarray
        ``int64``, ``(...)``.
    """
    if scores.shape[-1] == 1:
        return np.asarray(scores[..., 0] > 0, dtype=np.int64)
    return np.asarray(scores.argmax(axis=-1), dtype=np.int64)


def run(network: Network, events: Events) -> Trace:
    """One frame through the whole network."""
    states = first_states(network)
    flushes = {INPUT: input_flushes(events, network.flush_events)} if network.deferred else {}
    streams = {INPUT: events}
    layers: dict[str, LayerTrace] = {}
    merges: dict[str, Merge] = {}
    for layer in network.layers:
        merges[layer.name] = merge = merged(network, layer, streams, flushes, merges)
        found = _run_layer(layer, network.inputs(layer), merge.events, states[layer.name], merge.flushes)
        layers[layer.name] = found
        streams[layer.name] = found.spikes
        if network.deferred:
            flushes[layer.name] = found.flushes
    return Trace(network=network, events=events, layers=layers)


def run_layer(
    layer: Layer,
    shape: Shape,
    events: Events,
    *,
    start: State | None = None,
    flushes: Sequence[Flush] | None = None,
    joined: Sequence[Shape] = (),
) -> LayerTrace:
    """One frame through one layer.

    Parameters
    ----------
    layer : Layer
        The layer.
    shape : Shape
        Of its source, or that of its first input.
    events : Events
        What it takes of its source, or of several merged (`Merge`).
    start : State | None
        What it starts with; the bias and counts of 0 where not given.
    flushes : Sequence[Flush] | None
        Deferred: the flushes among the events. Immediate where not given.
    joined : Sequence[Shape]
        Of the sources of further inputs.
    """
    if len(layer.sources) != 1 + len(joined):
        raise ValueError(f"layer {layer.name!r}: inputs must be {1 + len(joined)}, not {len(layer.sources)}")
    output = layer.output_shape(shape)
    if start is None and isinstance(layer, Neurons):
        start = State(np.broadcast_to(layer.bias.astype(np.int64), output), np.zeros(output, np.int64))
    elif start is None:
        start = State(np.zeros(shape, np.int64), np.zeros(output, np.int64))
    inputs, first = [], 0
    for taker, size in zip(layer.inputs, (shape, *joined), strict=True):
        inputs.append(Input(taker, size, first))
        first += size.size
    return _run_layer(layer, inputs, events, start, flushes)


def _run_layer(
    layer: Layer, inputs: Sequence[Input], events: Events, start: State, flushes: Sequence[Flush] | None
) -> LayerTrace:
    end = inputs[-1].first + inputs[-1].shape.size
    if len(events) and not 0 <= events["address"].min() <= events["address"].max() < end:
        raise ValueError(f"layer {layer.name!r}: event address must be within 0..{end - 1}")
    if isinstance(layer, MaxPool):
        shape = inputs[0].shape
        return _pool(layer, shape, events, start) if flushes is None else _pool_deferred(layer, shape, events, start, flushes)
    if isinstance(layer, Neurons):
        return _integrate(layer, inputs, events, start) if flushes is None else _defer(layer, inputs, events, start, flushes)
    raise TypeError(f"layer must be a Convolution, Linear or MaxPool, not {type(layer).__name__}")


@dataclass(frozen=True)
class Merge:
    """What a layer takes of its sources, as one sequence.

    Parameters
    ----------
    events : Events
        The events, with addresses that count on from input to input.
    flushes : Sequence[Flush] | None
        The flushes among them, where the network fires deferred.
    number, index : Ints
        Of each event the input that it is of, and which of its source's events it is.
    """

    events: Events
    flushes: Sequence[Flush] | None
    number: Ints
    index: Ints


def merged(
    network: Network,
    layer: Layer,
    streams: Mapping[str, Events],
    flushes: Mapping[str, Sequence[Flush]],
    merges: Mapping[str, Merge],
) -> Merge:
    """The order at a merge: for each event of the inputs' fork, all that it caused of the first input, then of the second.

    Deferred, for each flush: there the order means nothing.

    Parameters
    ----------
    network : Network
        The network.
    layer : Layer
        The layer that takes them.
    streams, flushes : Mapping
        The events of each layer before it, and deferred the flushes among them.
    merges : Mapping
        What each of those layers took.
    """
    inputs = network.inputs(layer)
    causes = {} if network.deferred else _causes(network, network.fork(layer.name), layer, streams, merges)
    parts, turns = [], []
    for taker, _, first in inputs:
        part = streams[taker.source].copy()
        part["address"] += first
        parts.append(part)
        if network.deferred:
            ends = [after for after, _ in flushes[taker.source]]
            turns.append(np.searchsorted(ends, np.arange(len(part)), side="right"))
        else:
            turns.append(causes[taker.source])
    number = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    index = np.concatenate([np.arange(len(part)) for part in parts])
    order = np.lexsort((index, number, np.concatenate(turns)))
    among = None
    if network.deferred:
        # Each input brings as many flushes; what stands before one is what stands before it in all of them.
        together = zip(*(flushes[taker.source] for taker, _, _ in inputs), strict=True)
        among = tuple(Flush(sum(after for after, _ in each), each[0].origin) for each in together)
    return Merge(np.concatenate(parts)[order], among, number[order], index[order])


def _causes(
    network: Network, fork: str, end: Layer, streams: Mapping[str, Events], merges: Mapping[str, Merge]
) -> dict[str, Ints]:
    """Of the fork, and of each layer after it and before ``end``: of each of its events the fork's event that caused it."""
    found = {fork: np.arange(len(streams[fork]))}
    for layer in network.layers[: network.layers.index(end)]:
        if all(source in found for source in layer.sources):
            merge = merges[layer.name]
            taken = np.zeros(len(merge.events), np.int64)
            for number, source in enumerate(layer.sources):
                mine = merge.number == number
                taken[mine] = found[source][merge.index[mine]]
            found[layer.name] = taken[streams[layer.name]["cause"]]
    return found


def _reached(
    layer: Neurons, weights: Sequence[Ints], inputs: Sequence[Input], output: Shape, event: np.void
) -> Iterator[tuple[tuple[slice, slice, slice], npt.NDArray[np.int64]]]:
    """The window of neurons that an event of any of the inputs reaches, with what it brings them; at most one."""
    number = max(n for n, each in enumerate(inputs) if each.first <= event["address"])
    projection, shape, first = layer.inputs[number], inputs[number].shape, inputs[number].first
    y, x, c = shape.coordinates(event["address"] - first)
    for rows, columns, channels, W in fan_out(projection, weights[number], shape, output, y, x, c):
        yield (rows, columns, channels), event["sign"] * W


def _integrate(layer: Neurons, inputs: Sequence[Input], events: Events, start: State) -> LayerTrace:
    output = Shape(*start.count.shape)
    V, Q = start.potential.copy(), start.count.copy()
    weights = [each.weights.astype(np.int64) for each in layer.inputs]
    algorithm = update if layer.burst == 1 else update_burst
    spikes, operations, saturated_updates, saturated_events = [], 0, 0, 0
    for index, event in enumerate(events):
        for window, drive in _reached(layer, weights, inputs, output, event):
            V[window], Q[window], fired, saturated = algorithm(layer, V[window], Q[window], drive)
            operations += fired.size
            saturated_updates += int(saturated.sum())
            saturated_events += bool(saturated.any())
            rows, columns, channels = window
            for dy, dx, oc in np.argwhere(fired):
                address = output.address(rows.start + dy, columns.start + dx, channels.start + oc)
                spikes += _several(address, int(fired[dy, dx, oc]), index, event["origin"])
    return LayerTrace(
        layer=layer,
        events=events,
        spikes=np.array(spikes, dtype=EVENT),
        potential=V,
        count=Q,
        operations=operations,
        saturated_updates=saturated_updates,
        saturated_events=saturated_events,
    )


def _several(address: int, change: int, cause: int, origin: int) -> list[tuple[int, int, int, int]]:
    """The spikes, all of one sign, that tell of a change of a count."""
    return [(address, 1 if change > 0 else -1, cause, origin)] * abs(change)


def _defer(
    layer: Neurons, inputs: Sequence[Input], events: Events, start: State, flushes: Sequence[Flush]
) -> LayerTrace:
    output = Shape(*start.count.shape)
    V, Q = start.potential.copy(), start.count.copy()
    weights = [each.weights.astype(np.int64) for each in layer.inputs]
    spikes: list[tuple[int, int, int, int]] = []
    passed, operations, saturated_updates, saturated_events, first = [], 0, 0, 0, 0
    for after, origin in flushes:
        for event in events[first:after]:
            for window, drive in _reached(layer, weights, inputs, output, event):
                V[window] = accumulate(layer, V[window], Q[window], drive)
                operations += drive.size
        V, Q, fired, saturated = flush(layer, V, Q)
        saturated_updates += int(saturated.sum())
        saturated_events += bool(saturated.any())
        spikes += _changes(fired, after - 1, origin)
        passed.append(Flush(len(spikes), origin))
        first = after
    return LayerTrace(
        layer=layer,
        events=events,
        spikes=np.array(spikes, dtype=EVENT),
        potential=V,
        count=Q,
        operations=operations,
        saturated_updates=saturated_updates,
        saturated_events=saturated_events,
        flushes=tuple(passed),
    )


def _changes(changes: Ints, cause: int, origin: int) -> list[tuple[int, int, int, int]]:
    """The spikes of a flush, neurons in ascending order."""
    flat = changes.reshape(-1)
    return [spike for address in np.flatnonzero(flat) for spike in _several(int(address), int(flat[address]), cause, origin)]


def fan_out(
    projection: Projection, weights: npt.NDArray[np.int64], shape: Shape, output: Shape, y: int, x: int, c: int
) -> Iterator[tuple[slice, slice, slice, npt.NDArray[np.int64]]]:
    """The window of neurons that an event at ``(y, x, c)`` reaches, with their weights ``(y, x, c)``; at most one.

    The positions of a window are consecutive, and so are the channels of a group: three slices.
    """
    rows, columns = projection.taps(shape, 0)[y], projection.taps(shape, 1)[x]
    if rows and columns:
        if isinstance(projection, LinearProjection):
            inputs = weights[:, projection.taken(shape).address(rows[0][1], columns[0][1], c)]
            yield slice(0, 1), slice(0, 1), slice(0, output.channels), inputs.reshape(1, 1, -1)
        elif isinstance(projection, ConvolutionProjection):
            reached = projection.channels_of(c)
            channels = slice(reached.start, reached.stop)
            W = weights[channels, c % weights.shape[1]][:, [k for _, k in rows]][:, :, [k for _, k in columns]]
            window = slice(rows[0][0], rows[-1][0] + 1), slice(columns[0][0], columns[-1][0] + 1)
            yield *window, channels, W.transpose(1, 2, 0)


def _pool(layer: MaxPool, shape: Shape, events: Events, start: State) -> LayerTrace:
    """Each output tracks the greatest count in its window; one spike moves one count, hence it, by one at most."""
    output = layer.output_shape(shape)
    rows_of, columns_of = (layer.taps(shape, axis) for axis in (0, 1))
    counts, maxima = start.potential.copy(), start.count.copy()
    inside = _inside(layer, shape)
    spikes = []
    for index, event in enumerate(events):
        y, x, c = shape.coordinates(event["address"])
        counts[y, x, c] += event["sign"]
        for oy, _ in rows_of[y]:
            for ox, _ in columns_of[x]:
                change = counts[np.ix_(inside[0][oy], inside[1][ox], [c])].max() - maxima[oy, ox, c]
                if change:
                    maxima[oy, ox, c] += change
                    spikes.append((output.address(oy, ox, c), change, index, event["origin"]))
    return LayerTrace(
        layer=layer,
        events=events,
        spikes=np.array(spikes, dtype=EVENT),
        potential=np.zeros(output, dtype=np.int64),
        count=maxima,
        operations=0,
        saturated_updates=0,
        saturated_events=0,
    )


def _inside(layer: MaxPool, shape: Shape) -> list[list[list[int]]]:
    """Of each window of the pool the rows, and the columns, of the source that are in it."""
    output = layer.output_shape(shape)
    return [
        [[i for i, out in enumerate(layer.taps(shape, axis)) if any(o == w for o, _ in out)] for w in range(output[axis])]
        for axis in (0, 1)
    ]


def _pool_deferred(layer: MaxPool, shape: Shape, events: Events, start: State, flushes: Sequence[Flush]) -> LayerTrace:
    """Counts are taken as they come; at a flush each output tells how the greatest in its window has changed."""
    output, (rows, columns) = layer.output_shape(shape), _inside(layer, shape)
    counts, maxima = start.potential.copy(), start.count.copy()
    spikes: list[tuple[int, int, int, int]] = []
    passed, first = [], 0
    for after, origin in flushes:
        for event in events[first:after]:
            counts[shape.coordinates(event["address"])] += event["sign"]
        found = np.array([[counts[np.ix_(ys, xs)].max(axis=(0, 1)) for xs in columns] for ys in rows])
        spikes += _changes(found - maxima, after - 1, origin)
        passed.append(Flush(len(spikes), origin))
        maxima, first = found, after
    return LayerTrace(
        layer=layer,
        events=events,
        spikes=np.array(spikes, dtype=EVENT),
        potential=np.zeros(output, dtype=np.int64),
        count=maxima,
        operations=0,
        saturated_updates=0,
        saturated_events=0,
        flushes=tuple(passed),
    )
