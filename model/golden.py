"""The golden model: the normative meaning of a network, in short integer code.

A layer is a function from an event sequence to an event sequence. Events are taken strictly in order; for
each, the neurons in its fan-out are updated once, in ascending ``(y, x, c)``, and the spikes leave in that
order. This is the reference that every other engine, model and machine is held equal to.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.events import EVENT, Events
from model.network import INPUT, Convolution, Layer, Linear, MaxPool, Network, Neurons, Shape
from model.neuron import update

__all__ = ["LayerTrace", "Trace", "answers", "run", "run_layer"]


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
        Its output events, in order, each with its cause.
    potential : npt.NDArray[np.int64]
        Final membrane potential ``V``, shape of the layer; zeros for pooling.
    count : npt.NDArray[np.int64]
        Final spike count ``Q``, shape of the layer.
    operations : int
        Accumulations: one for each neuron visited.
    saturated_updates : int
        Updates in which the residual or the count was held at its end.
    saturated_events : int
        Input events with at least one such update (what the hardware counts).
    """

    layer: Layer
    events: Events
    spikes: Events
    potential: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]
    operations: int
    saturated_updates: int
    saturated_events: int


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What a network did in one frame: its input events, and each layer by name."""

    network: Network
    events: Events
    layers: dict[str, LayerTrace]

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Signed spike count of each output."""
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
    streams = {INPUT: events}
    layers = {}
    for layer, shape, _ in network.walk():
        layers[layer.name] = run_layer(layer, shape, streams[layer.source])
        streams[layer.name] = layers[layer.name].spikes
    return Trace(network=network, events=events, layers=layers)


def run_layer(layer: Layer, shape: Shape, events: Events) -> LayerTrace:
    """One frame through one layer, which takes ``events`` of a source of ``shape``."""
    if len(events) and not 0 <= events["address"].min() <= events["address"].max() < shape.size:
        raise ValueError(f"layer {layer.name!r}: event address must be within 0..{shape.size - 1}")
    if isinstance(layer, MaxPool):
        return _pool(layer, shape, events)
    if isinstance(layer, Neurons):
        return _integrate(layer, shape, events)
    raise TypeError(f"layer must be a Convolution, Linear or MaxPool, not {type(layer).__name__}")


def _integrate(layer: Neurons, shape: Shape, events: Events) -> LayerTrace:
    output = layer.output_shape(shape)
    V = np.broadcast_to(layer.bias.astype(np.int64), output).copy()
    Q = np.zeros(output, dtype=np.int64)
    weights = layer.weights.astype(np.int64)
    spikes, operations, saturated_updates, saturated_events = [], 0, 0, 0
    for index, event in enumerate(events):
        y, x, c = shape.coordinates(event["address"])
        for rows, columns, channels, W in _fan_out(layer, weights, shape, output, y, x, c):
            window = np.s_[rows, columns, channels]
            V[window], Q[window], fired, saturated = update(layer, V[window], Q[window], event["sign"] * W)
            operations += fired.size
            saturated_updates += int(saturated.sum())
            saturated_events += bool(saturated.any())
            for dy, dx, oc in np.argwhere(fired):
                address = output.address(rows.start + dy, columns.start + dx, channels.start + oc)
                spikes.append((address, fired[dy, dx, oc], index, event["origin"]))
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


def _fan_out(
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


def _pool(layer: MaxPool, shape: Shape, events: Events) -> LayerTrace:
    """Each output tracks the greatest count in its window; one spike moves one count, hence it, by one at most."""
    output = layer.output_shape(shape)
    rows_of, columns_of = (layer.taps(shape, axis) for axis in (0, 1))
    counts = np.zeros(shape, dtype=np.int64)
    maxima = np.zeros(output, dtype=np.int64)
    inside = [[[i for i, out in enumerate(axis) if any(o == w for o, _ in out)] for w in range(output[n])]
              for n, axis in enumerate((rows_of, columns_of))]
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
