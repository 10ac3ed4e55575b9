"""What conversion costs, and where: counts against the quantized and the float network's, and the answer as it grows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from model.arrays import Floats, Images, Ints
from model.conversion.coding import InputCoding
from model.conversion.quantized import counts_of_layers
from model.encode import encode, spike_times
from model.engine.engine import run_fast
from model.events import Events, Flush, input_flushes
from model.golden import answers
from model.importers.onnx import FloatNetwork
from model.network import INPUT, Layer, Network, Neurons, Shape
from model.projection import ConvolutionProjection, Projection
from model.rest import first_states
from model.support.results import BESIDE

__all__ = ["Agreement", "Course", "FloatAgreement", "ShareCourse", "WorstNeuron", "confusion", "fan_out_sizes", "instruments"]

_WORST = 5
"""Neurons that a report names in each layer."""

_TIMES = np.linspace(0, 1, 41)
"""Times at which the answer so far is looked at, in units of the slowest pixel's delay."""

_SHARES = np.linspace(0, 1, 41)
"""The same for shares of the frame's input events."""


@dataclass(frozen=True, kw_only=True)
class WorstNeuron:
    """A neuron whose counts differ much.

    Parameters
    ----------
    neuron : tuple of int
        Its ``(y, x, c)``.
    difference_mean_absolute : float
        Mean magnitude of the difference, in thresholds.
    """

    neuron: tuple[int, ...]
    difference_mean_absolute: float


@dataclass(frozen=True, kw_only=True)
class FloatAgreement:
    """How a layer's spike counts agree with float activations, the threshold being what fits the layer best.

    Parameters
    ----------
    float_correlation : float or None
        Pearson's; None where one of them never varies.
    float_difference_mean, float_difference_mean_absolute : float
        Mean difference and mean magnitude, in thresholds.
    float_worst_neurons : tuple of WorstNeuron
        The neurons that differ most.
    """

    float_correlation: float | None
    float_difference_mean: float
    float_difference_mean_absolute: float
    float_worst_neurons: tuple[WorstNeuron, ...]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How a layer's spike counts agree with the quantized network's.

    Parameters
    ----------
    layer : str
        Name of the layer.
    correlation : float or None
        Pearson's; None where one of them never varies.
    counts_equal : float
        Share of the counts that are equal.
    count_difference_mean, count_difference_mean_absolute : float
        Mean difference and mean magnitude, in spikes.
    worst_neurons : tuple of WorstNeuron
        The neurons that differ most.
    floats : FloatAgreement or None
        The same against the float network, where there is one.
    """

    layer: str
    correlation: float | None
    counts_equal: float
    count_difference_mean: float
    count_difference_mean_absolute: float
    worst_neurons: tuple[WorstNeuron, ...]
    floats: FloatAgreement | None = field(default=None, metadata=BESIDE)


@dataclass(frozen=True, kw_only=True)
class ShareCourse:
    """The answer so far against the share of a frame's input events: lists of means over frames, one value a share."""

    share: list[float]
    accuracy: list[float]
    spikes_per_frame: list[float]
    accumulations_per_frame: list[float]


@dataclass(frozen=True, kw_only=True)
class Course:
    """The answer so far against time: lists of means over ``frames``, one value a time; and against input events.

    In a network that fires deferred there is an answer after a flush only; the last one comes at the end of time.
    """

    frames: int
    time: list[float]
    accuracy: list[float]
    spikes_per_frame: list[float]
    accumulations_per_frame: list[float]
    by_events: ShareCourse


def confusion(answers: Ints, labels: Ints, classes: int) -> list[list[int]]:
    """Frames by class (row) and answer (column)."""
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (labels, answers), 1)
    return table.tolist()  # type: ignore[no-any-return]


def instruments(
    network: Network,
    images: Images,
    labels: Ints,
    *,
    floats: FloatNetwork | None = None,
    done: Callable[[int], None] = lambda frames: None,
) -> tuple[tuple[Agreement, ...], Course]:
    """Look into every spike of some frames.

    Parameters
    ----------
    network, images, labels : Network, Images, Ints
        The network, uint8 frames and their classes.
    floats : FloatNetwork | None
        The float network, where there is one.
    done : Callable[[int], None]
        Called with the number of frames finished.

    Returns
    -------
    Of each neuron layer, how its spike counts agree with the quantized network's and with the float network's
    activations; and the course of the answer: accuracy, spikes and accumulations so far at each time.
    """
    spiking: dict[str, list[Ints]] = {layer.name: [] for layer in network.layers if isinstance(layer, Neurons)}
    fan_out = {layer.name: [fan_out_sizes(*each[:2]) for each in network.inputs(layer)] for layer in network.layers}
    at_first = first_states(network)[network.output.name].count.reshape(-1)
    by_time, by_events = _CourseSums(_TIMES, network.outputs), _CourseSums(_SHARES, network.outputs)
    for image, label in zip(images, labels, strict=True):
        trace = run_fast(network, encode(network, image))
        streams = {INPUT: trace.events, **{name: layer.spikes for name, layer in trace.layers.items()}}
        times = spike_times(network, image)
        flushes = input_flushes(trace.events, network.flush_events) if network.deferred else ()
        for course, position in ((by_time, times), (by_events, np.arange(1, len(times) + 1) / max(1, len(times)))):
            course.begin(position, flushes)
            for name, layer in trace.layers.items():
                if name in spiking:
                    course.add_spikes(layer.spikes)
                    for source, sizes in zip(layer.layer.sources, fan_out[name], strict=True):
                        course.add_operations(streams[source], sizes[streams[source]["address"]], of_input=source == INPUT)
            course.answer(streams[network.output.name], int(label), at_first)
        for name, found in spiking.items():
            found.append(trace.layers[name].count)
        done(1)
    quantized: dict[str, list[Ints]] = {name: [] for name in spiking}
    for batch in counts_of_layers(network, images):
        for name, batches in quantized.items():
            batches.append(batch[name])
    counts_of = {name: np.stack(found) for name, found in spiking.items()}
    agreement = tuple(
        _agreement(
            name,
            counts,
            np.concatenate(quantized[name]),
            _float_agreement(counts, _activation(floats, name, images, network)) if floats is not None else None,
        )
        for name, counts in counts_of.items()
    )
    course_of_shares = ShareCourse(share=_SHARES.round(4).tolist(), **by_events.means(len(images)))
    return agreement, Course(
        frames=len(images), time=_TIMES.round(4).tolist(), **by_time.means(len(images)), by_events=course_of_shares
    )


class _CourseSums:
    """Sums over frames of what has happened up to each point of a grid."""

    def __init__(self, grid: Floats, outputs: int) -> None:
        self._grid, self._outputs = grid, outputs
        self._right, self._fired, self._operations = np.zeros((3, len(grid)))
        self._steps = self._caused = np.zeros(0, np.int64)
        self._first = 0

    def begin(self, position: Floats, flushes: Sequence[Flush]) -> None:
        """Start a frame whose input events happen at these positions, with these flushes where the network fires deferred."""
        # The first point by which each input event has happened, and all that it causes.
        self._steps = self._caused = np.append(np.searchsorted(self._grid, position - 1e-9), 0)
        self._first = 0
        if flushes:
            # The last one comes when the frame is complete, however early its last event. What it fires has the origin of
            # that event, or -1 in a frame without any; a flush at that event itself leaves nothing for it.
            end = len(self._grid) - 1
            self._caused = self._steps.copy()
            self._caused[-1] = end
            if flushes[-1].after not in [flush.after for flush in flushes[:-1]]:
                self._caused[flushes[-1].origin] = end
            # There is no answer before the first.
            self._first = int(self._caused[flushes[0].origin])

    def add_spikes(self, spikes: Events) -> None:
        """Count a layer's spikes."""
        self._fired += np.bincount(self._caused[spikes["origin"]], minlength=len(self._grid))

    def add_operations(self, source: Events, operations: Ints, *, of_input: bool) -> None:
        """Count the accumulations that each event of a layer's source costs."""
        steps = self._steps if of_input else self._caused
        self._operations += np.bincount(steps[source["origin"]], operations, minlength=len(self._grid))

    def answer(self, spikes: Events, label: int, first: Ints) -> None:
        """End the frame with the output's spikes, whose counts start with ``first``."""
        counts = np.zeros((len(self._grid), self._outputs))
        np.add.at(counts, (self._caused[spikes["origin"]], spikes["address"]), spikes["sign"])
        right = answers(first + counts.cumsum(axis=0)) == label
        self._right[self._first :] += right[self._first :]

    def means(self, frames: int) -> dict[str, list[float]]:
        """Accuracy, spikes and accumulations so far, means of the frames."""
        return {
            "accuracy": (self._right / frames).round(4).tolist(),
            "spikes_per_frame": (self._fired.cumsum() / frames).round(1).tolist(),
            "accumulations_per_frame": (self._operations.cumsum() / frames).round().tolist(),
        }


def fan_out_sizes(taker: Layer | Projection, shape: Shape) -> Ints:
    """Accumulations that an event at each address of the source costs; 0 where it goes into a max-pool."""
    if not isinstance(taker, Projection):
        return np.zeros(shape.size, np.int64)
    rows, columns = ([len(reached) for reached in taker.taps(shape, axis)] for axis in (0, 1))
    groups = taker.groups if isinstance(taker, ConvolutionProjection) else 1
    return np.repeat(np.outer(rows, columns).reshape(-1) * (taker.channels // groups), shape.channels)


def _activation(floats: FloatNetwork, name: str, images: Images, network: Network) -> Floats:
    """Activations ``(frames, height, width, channels)`` of a float layer on the frames as they are coded."""
    # By their places: a file that was exported once more may give its nodes other names.
    layer = next(own for layer, own in zip(network.layers, floats.layers, strict=True) if layer.name == name)
    values = floats.run(InputCoding.of(network).frames(images).astype(np.float32), [layer.tensor])[0].astype(np.float64)
    values = layer.activated(values)
    # ONNX is channel-major.
    shape = network.shape_of(name)
    return values.reshape(len(images), shape.channels, shape.height, shape.width).transpose(0, 2, 3, 1)


def _float_agreement(spiking: Ints, activation: Floats) -> FloatAgreement:
    """How spike counts agree with float activations, the threshold of the layer being what fits them best."""
    theta = float((activation * spiking).sum() / max(1, (spiking**2).sum()))
    difference = spiking - activation / theta if theta > 0 else spiking.astype(np.float64)
    by_neuron = np.abs(difference).mean(axis=0)
    return FloatAgreement(
        float_correlation=_correlation(spiking, activation),
        float_difference_mean=round(float(difference.mean()), 4),
        float_difference_mean_absolute=round(float(by_neuron.mean()), 4),
        float_worst_neurons=_worst(by_neuron),
    )


def _correlation(a: npt.NDArray[np.number], b: npt.NDArray[np.number]) -> float | None:
    """Pearson's; None where one of them never varies."""
    if a.std() == 0 or b.std() == 0:
        return None
    return round(float(np.corrcoef(a.reshape(-1), b.reshape(-1))[0, 1]), 4)


def _worst(by_neuron: Floats) -> tuple[WorstNeuron, ...]:
    """The neurons ``(y, x, c)`` with the greatest mean magnitude of a difference, in thresholds."""
    worst = np.argsort(-by_neuron, axis=None, kind="stable")[:_WORST]
    return tuple(
        WorstNeuron(
            neuron=tuple(int(n) for n in np.unravel_index(flat, by_neuron.shape)),
            difference_mean_absolute=round(float(by_neuron.flat[flat]), 3),
        )
        for flat in worst
    )


def _agreement(name: str, spiking: Ints, quantized: Ints, floats: FloatAgreement | None) -> Agreement:
    """How spike counts ``(frames, height, width, channels)`` agree with those of the quantized network."""
    difference = spiking - quantized
    by_neuron = np.abs(difference).mean(axis=0)
    return Agreement(
        layer=name,
        correlation=_correlation(spiking, quantized),
        counts_equal=round(float((difference == 0).mean()), 4),
        count_difference_mean=round(float(difference.mean()), 4),
        count_difference_mean_absolute=round(float(by_neuron.mean()), 4),
        worst_neurons=_worst(by_neuron),
        floats=floats,
    )
