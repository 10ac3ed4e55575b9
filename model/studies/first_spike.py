"""The time-to-first-spike conversion of Rueckauer and Liu 2018, to measure ours against.

"Conversion of Analog to Spiking Neural Networks Using Sparse Temporal Coding" (ISCAS 2018), our own implementation of its base
model: a neuron fires at most once, and its activation is the inverse of the time at which it does. A spike turns on a constant
current of the synapse's weight, so that the potential of neuron ``i`` is

    u_i(t) = b_i * (t - t_0) + sum of W_ij * (t - t_j) over all inputs j that have fired by t,

and the neuron fires where it reaches the threshold, which is 1 after normalization (`model.studies.synapses.normalized`).
``t_0`` is the layer's first input spike: before, a layer knows of no frame, and its biases do not count. A neuron may fire before
an inhibiting late spike arrives, for which the paper has two remedies. One is a threshold that rises with the input still to come
(`model.studies.first_spike_waiting`): ``1 + sum of |W_ij|`` over all inputs ``j`` that have not fired and whose own potential
rises. The other is a network trained with clamped activations, in which late spikes do not occur
(`model.training.paper_first_spike`); it is converted as any other.

Time is continuous and exact, from event to event; there are no time steps. A pixel ``x`` is a constant current from time 0 on, or
a spike at time ``1 / x``. A max-pool passes the first spike of its window. The answer is the first output neuron that fires, and
there the frame ends; where none fires in time, it is the one with the highest potential.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from model.arrays import Floats, Ints
from model.importers.float_network import FloatNetwork
from model.studies.chain import Chain, run_in_batches
from model.studies.first_spike_neurons import fire
from model.studies.first_spike_waiting import ThresholdCosts, run_waiting
from model.studies.synapses import NeuronStage, PoolStage, normalized, stages_of

__all__ = ["FirstSpikeNetwork", "FirstSpikeSummaries", "convert_first_spikes", "run_first_spikes", "spike_times_of_layers"]

_BATCH = 64
"""Frames that a core runs at once: what the memory in use grows with."""


@dataclass(frozen=True, kw_only=True)
class FirstSpikeNetwork(Chain):
    """A network of neurons that fire once; a scale is the float activation that fires at time 1.

    Parameters
    ----------
    input_spikes : bool
        Whether pixels are spikes rather than currents.
    duration : float
        Time at which a frame ends at the latest.
    waits : bool
        Whether thresholds rise with the input still to come.
    """

    input_spikes: bool
    duration: float
    waits: bool = False


@dataclass(frozen=True, kw_only=True)
class FirstSpikeSummaries:
    """What frames did; "by the answer" leaves out what happens after the first output spike.

    Parameters
    ----------
    answers : Ints
        Class, ``(frames,)``.
    answer_times : Floats
        Time of the first output spike, ``(frames,)``; the duration where none fires.
    spikes, spikes_by_answer : Ints
        Of each neuron layer, ``(frames, layers)``.
    operations, operations_by_answer : Ints
        Accumulations that arriving spikes cost each neuron layer, ``(frames, layers)``.
    input_spikes, input_spikes_by_answer : Ints
        Of the pixels, ``(frames,)``; 0 where they are currents.
    input_operations : Ints
        Multiply-accumulates that make the first layer's currents, ``(frames,)``; 0 where pixels are spikes.
    threshold_operations, threshold_operations_by_answer : Ints
        Additions to thresholds, of each neuron layer, ``(frames, layers)``; 0 where they stay.
    """

    answers: Ints
    answer_times: Floats
    spikes: Ints
    spikes_by_answer: Ints
    operations: Ints
    operations_by_answer: Ints
    input_spikes: Ints
    input_spikes_by_answer: Ints
    input_operations: Ints
    threshold_operations: Ints
    threshold_operations_by_answer: Ints


def convert_first_spikes(
    network: FloatNetwork,
    images: npt.NDArray[np.uint8],
    *,
    percentile: float = 99.9,
    input_spikes: bool = False,
    duration: float = 32.0,
    waits: bool = False,
) -> FirstSpikeNetwork:
    """Normalize with calibration frames and make neurons of activations.

    Parameters
    ----------
    network : FloatNetwork
        Float network.
    images : npt.NDArray[np.uint8]
        uint8 calibration frames ``(frames, height, width, channels)``.
    percentile : float
        Of the positive activations of a layer, what fires at time 1; 100 is the maximum.
    input_spikes, duration, waits : bool, float, bool
        As in `FirstSpikeNetwork`.
    """
    if not 0 < duration < np.inf:
        raise ValueError(f"duration must be more than 0 and finite, not {duration!r}")
    layers, scales = normalized(network, images.astype(np.float32) / 255, percentile=percentile)
    return FirstSpikeNetwork(
        input_shape=network.input_shape,
        stages=stages_of(layers, network.input_shape),
        scales=scales,
        input_spikes=input_spikes,
        duration=float(duration),
        waits=waits,
    )


def run_first_spikes(
    network: FirstSpikeNetwork, images: npt.NDArray[np.uint8], *, done: Callable[[int], None] = lambda frames: None
) -> FirstSpikeSummaries:
    """Run frames on all cores.

    Parameters
    ----------
    network : FirstSpikeNetwork
        The network.
    images : npt.NDArray[np.uint8]
        uint8 frames ``(frames, height, width, channels)``.
    done : Callable[[int], None]
        Called with the number of frames finished.
    """
    return run_in_batches(network, images, _BATCH, partial(_run, network), done)


def spike_times_of_layers(network: FirstSpikeNetwork, images: npt.NDArray[np.uint8]) -> dict[str, Floats]:
    """When each neuron of each stage fires, ``(frames, neurons)``; infinite where it does not."""
    return _course(network, images).times


@dataclass(frozen=True, kw_only=True)
class _Course:
    """Times of all stages; potentials at the end of the last; times of the pixels; input operations.

    Of each neuron layer and frame, when thresholds change, and how many have changed by then.
    """

    times: dict[str, Floats]
    potentials: Floats
    pixels: Floats
    input_operations: Ints
    threshold_costs: list[list[ThresholdCosts]]


def _course(network: FirstSpikeNetwork, images: npt.NDArray[np.uint8]) -> _Course:
    levels = images.reshape(len(images), -1) / 255
    with np.errstate(divide="ignore"):
        pixels = 1 / levels if network.input_spikes else np.zeros((len(images), 0))
    input_operations = np.zeros(len(images), np.int64)
    currents = None
    first = network.stages[0]
    if not network.input_spikes:
        assert isinstance(first, NeuronStage)
        currents = first.synapses.sums(levels) + first.bias
        input_operations = (levels > 0) @ first.synapses.fan_out
    if network.waits:
        times, potentials, costs = run_waiting(network.stages, pixels, currents, network.duration)
    else:
        (times, potentials), costs = _plain(network, pixels, currents), []
    return _Course(
        times=times, potentials=potentials, pixels=pixels, input_operations=input_operations, threshold_costs=costs
    )


def _plain(network: FirstSpikeNetwork, pixels: Floats, currents: Floats | None) -> tuple[dict[str, Floats], Floats]:
    """Times and last potentials where thresholds stay; ``currents`` into the first layer, where pixels are that."""
    found: dict[str, Floats] = {}
    potentials, times = np.zeros((0, 0)), pixels
    for stage in network.stages:
        if isinstance(stage, PoolStage):
            times = np.minimum.reduceat(times[:, stage.addresses], stage.starts[:-1], axis=1)
        else:
            synapses = stage.synapses
            starts, begin = synapses.starts, times.min(axis=1, initial=np.inf)
            slopes = np.broadcast_to(stage.bias, (len(times), len(stage.bias)))
            if currents is not None and not found:
                starts, begin, slopes = np.zeros(1, np.int64), np.zeros(len(times)), currents
            times, potentials = fire(
                times, np.ascontiguousarray(slopes), begin, starts, synapses.targets, synapses.weights, network.duration
            )
        found[stage.name] = times
    return found, potentials


def _run(network: FirstSpikeNetwork, images: npt.NDArray[np.uint8]) -> FirstSpikeSummaries:
    course = _course(network, images)
    last = course.times[network.stages[-1].name]
    first = last.min(axis=1)
    answered = np.isfinite(first)
    end = np.where(answered, first, network.duration)
    whole = _counted(network, course, np.full(len(images), network.duration))
    by_answer = _counted(network, course, end)
    return FirstSpikeSummaries(
        answers=np.where(answered, last.argmin(axis=1), course.potentials.argmax(axis=1)),
        answer_times=end,
        spikes=whole[0],
        spikes_by_answer=by_answer[0],
        operations=whole[1],
        operations_by_answer=by_answer[1],
        input_spikes=whole[2],
        input_spikes_by_answer=by_answer[2],
        input_operations=course.input_operations,
        threshold_operations=whole[3],
        threshold_operations_by_answer=by_answer[3],
    )


def _counted(network: FirstSpikeNetwork, course: _Course, until: Floats) -> tuple[Ints, Ints, Ints, Ints]:
    """Until a time of each frame: spikes and operations ``(frames, neuron layers)``, input spikes ``(frames,)``, and operations
    on thresholds ``(frames, neuron layers)``."""
    arriving = course.pixels <= until[:, np.newaxis]
    input_spikes, spikes, operations = arriving.sum(axis=1), [], []
    for stage in network.stages:
        fired = course.times[stage.name] <= until[:, np.newaxis]
        if isinstance(stage, NeuronStage):
            spikes.append(fired.sum(axis=1))
            currents = arriving.shape[1] == 0
            operations.append(np.zeros(len(until), np.int64) if currents else arriving @ stage.synapses.fan_out)
        arriving = fired
    changes = np.zeros((len(until), len(spikes)), np.int64)
    for layer, costs in enumerate(course.threshold_costs):
        for frame, (times, changed) in enumerate(costs):
            happened = int(np.searchsorted(times, until[frame], side="right"))
            changes[frame, layer] = changed[happened - 1] if happened else 0
    return np.stack(spikes, axis=1), np.stack(operations, axis=1), input_spikes, changes
