"""The golden model: the normative meaning of a network, in short integer code.

A layer is a function from an event sequence to an event sequence. Events are taken strictly in order; for
each, the neurons in its fan-out are updated once, in ascending ``(y, x, c)``, and the spikes leave in that
order. In a network that fires deferred events are only added up, in whatever order; at a flush all neurons are visited in
ascending order and fire, and the flush passes on after the spikes. This is the reference that every other engine, model and
machine is held equal to.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.arrays import Ints
from model.events import EVENT, Events, Flush, input_flushes
from model.network import INPUT, Convolution, Layer, Linear, MaxPool, Network, Neurons, Shape
from model.neuron import accumulate, flush, update, update_burst
from model.rest import State, first_states

__all__ = ["LayerTrace", "Trace", "answers", "fan_out", "run", "run_layer"]


@dataclass(frozen=True, kw_only=True)
class LayerTrace:
    """What one layer did in one frame.

    Parameters
    ----------
    layer : Layer
        The layer.
    events : Events
        Its input events.
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
    layers = {}
    for layer, shape, _ in network.walk():
        found = run_layer(
            layer, shape, streams[layer.source], start=states[layer.name], flushes=flushes.get(layer.source)
        )
        layers[layer.name] = found
        streams[layer.name] = found.spikes
        if network.deferred:
            flushes[layer.name] = found.flushes
    return Trace(network=network, events=events, layers=layers)


def run_layer(
    layer: Layer, shape: Shape, events: Events, *, start: State | None = None, flushes: Sequence[Flush] | None = None
) -> LayerTrace:
    """One frame through one layer.

    Parameters
    ----------
    layer : Layer
        The layer.
    shape : Shape
        Of its source.
    events : Events
        What it takes of its source.
    start : State | None
        What it starts with; the bias and counts of 0 where not given.
    flushes : Sequence[Flush] | None
        Deferred: the flushes among the events. Immediate where not given.
    """
    if len(events) and not 0 <= events["address"].min() <= events["address"].max() < shape.size:
        raise ValueError(f"layer {layer.name!r}: event address must be within 0..{shape.size - 1}")
    if isinstance(layer, MaxPool):
        start = start or State(np.zeros(shape, np.int64), np.zeros(layer.output_shape(shape), np.int64))
        return _pool(layer, shape, events, start) if flushes is None else _pool_deferred(layer, shape, events, start, flushes)
    if isinstance(layer, Neurons):
        if start is None:
            output = layer.output_shape(shape)
            start = State(np.broadcast_to(layer.bias.astype(np.int64), output), np.zeros(output, np.int64))
        return _integrate(layer, shape, events, start) if flushes is None else _defer(layer, shape, events, start, flushes)
    raise TypeError(f"layer must be a Convolution, Linear or MaxPool, not {type(layer).__name__}")


def _integrate(layer: Neurons, shape: Shape, events: Events, start: State) -> LayerTrace:
    output = layer.output_shape(shape)
    V, Q = start.potential.copy(), start.count.copy()
    weights = layer.weights.astype(np.int64)
    algorithm = update if layer.burst == 1 else update_burst
    spikes, operations, saturated_updates, saturated_events = [], 0, 0, 0
    for index, event in enumerate(events):
        y, x, c = shape.coordinates(event["address"])
        for rows, columns, channels, W in fan_out(layer, weights, shape, output, y, x, c):
            window = np.s_[rows, columns, channels]
            V[window], Q[window], fired, saturated = algorithm(layer, V[window], Q[window], event["sign"] * W)
            operations += fired.size
            saturated_updates += int(saturated.sum())
            saturated_events += bool(saturated.any())
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


def _defer(layer: Neurons, shape: Shape, events: Events, start: State, flushes: Sequence[Flush]) -> LayerTrace:
    output = layer.output_shape(shape)
    V, Q = start.potential.copy(), start.count.copy()
    weights = layer.weights.astype(np.int64)
    spikes: list[tuple[int, int, int, int]] = []
    passed, operations, saturated_updates, saturated_events, first = [], 0, 0, 0, 0
    for after, origin in flushes:
        for event in events[first:after]:
            y, x, c = shape.coordinates(event["address"])
            for rows, columns, channels, W in fan_out(layer, weights, shape, output, y, x, c):
                window = np.s_[rows, columns, channels]
                V[window] = accumulate(layer, V[window], Q[window], event["sign"] * W)
                operations += W.size
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
    layer: Neurons, weights: npt.NDArray[np.int64], shape: Shape, output: Shape, y: int, x: int, c: int
) -> Iterator[tuple[slice, slice, slice, npt.NDArray[np.int64]]]:
    """The window of neurons that an event at ``(y, x, c)`` reaches, with their weights ``(y, x, c)``; at most one.

    The positions of a window are consecutive, and so are the channels of a group: three slices.
    """
    rows, columns = layer.taps(shape, 0)[y], layer.taps(shape, 1)[x]
    if rows and columns:
        if isinstance(layer, Linear):
            inputs = weights[:, layer.taken(shape).address(rows[0][1], columns[0][1], c)]
            yield slice(0, 1), slice(0, 1), slice(0, output.channels), inputs.reshape(1, 1, -1)
        elif isinstance(layer, Convolution):
            group, c_of_group = divmod(c, weights.shape[1])
            each = output.channels // layer.groups
            channels = slice(group * each, (group + 1) * each)
            W = weights[channels, c_of_group][:, [k for _, k in rows]][:, :, [k for _, k in columns]]
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
