"""The time-to-first-spike conversion of Rueckauer and Liu 2018, to measure ours against.

"Conversion of Analog to Spiking Neural Networks Using Sparse Temporal Coding" (ISCAS 2018), our own implementation of its base
model: a neuron fires at most once, and its activation is the inverse of the time at which it does. A spike turns on a constant
current of the synapse's weight, so that the potential of neuron ``i`` is

    u_i(t) = b_i * (t - t_0) + sum of W_ij * (t - t_j) over all inputs j that have fired by t,

and the neuron fires where it reaches the threshold, which is 1 after normalization (`model.studies.synapses.normalized`).
``t_0`` is the layer's first input spike: before, a layer knows of no frame, and its biases do not count. What is *not* built
are the paper's two remedies for neurons that fire before an inhibiting late spike arrives: thresholds that rise with the input
that is still to come, and networks trained with activations clamped, in which late spikes do not occur.

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
from model.studies.synapses import NeuronStage, PoolStage, normalized, stages_of
from model.support.compiled import njit

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
    """

    input_spikes: bool
    duration: float


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


def convert_first_spikes(
    network: FloatNetwork,
    images: npt.NDArray[np.uint8],
    *,
    percentile: float = 99.9,
    input_spikes: bool = False,
    duration: float = 32.0,
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
    input_spikes, duration : bool, float
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
    return _times(network, images)[0]


def _times(network: FirstSpikeNetwork, images: npt.NDArray[np.uint8]) -> tuple[dict[str, Floats], Floats, Ints, Floats]:
    """Times of all stages; potentials at the end of the last; input operations; times of the pixels."""
    levels = images.reshape(len(images), -1) / 255
    with np.errstate(divide="ignore"):
        pixels = 1 / levels if network.input_spikes else np.zeros((len(images), 0))
    input_operations = np.zeros(len(images), np.int64)
    potentials, times, found = np.zeros((0, 0)), pixels, {}
    for index, stage in enumerate(network.stages):
        if isinstance(stage, PoolStage):
            times = np.minimum.reduceat(times[:, stage.addresses], stage.starts[:-1], axis=1)
        else:
            synapses = stage.synapses
            starts, begin = synapses.starts, times.min(axis=1, initial=np.inf)
            slopes = np.broadcast_to(stage.bias, (len(images), len(stage.bias)))
            if index == 0 and not network.input_spikes:
                slopes = slopes + synapses.sums(levels)
                starts, begin = np.zeros(1, np.int64), np.zeros(len(images))
                input_operations = (levels > 0) @ synapses.fan_out
            times, potentials = _fire(
                times, np.ascontiguousarray(slopes), begin, starts, synapses.targets, synapses.weights, network.duration
            )
        found[stage.name] = times
    return found, potentials, input_operations, pixels


def _run(network: FirstSpikeNetwork, images: npt.NDArray[np.uint8]) -> FirstSpikeSummaries:
    times, potentials, input_operations, pixels = _times(network, images)
    last = times[network.stages[-1].name]
    first = last.min(axis=1)
    answered = np.isfinite(first)
    end = np.where(answered, first, network.duration)
    whole = _counted(network, times, pixels, np.full(len(images), network.duration))
    by_answer = _counted(network, times, pixels, end)
    return FirstSpikeSummaries(
        answers=np.where(answered, last.argmin(axis=1), potentials.argmax(axis=1)),
        answer_times=end,
        spikes=whole[0],
        spikes_by_answer=by_answer[0],
        operations=whole[1],
        operations_by_answer=by_answer[1],
        input_spikes=whole[2],
        input_spikes_by_answer=by_answer[2],
        input_operations=input_operations,
    )


def _counted(
    network: FirstSpikeNetwork, times: dict[str, Floats], pixels: Floats, until: Floats
) -> tuple[Ints, Ints, Ints]:
    """Spikes and operations ``(frames, neuron layers)``, and input spikes ``(frames,)``, until a time of each frame."""
    arriving = pixels <= until[:, np.newaxis]
    input_spikes, spikes, operations = arriving.sum(axis=1), [], []
    for stage in network.stages:
        fired = times[stage.name] <= until[:, np.newaxis]
        if isinstance(stage, NeuronStage):
            spikes.append(fired.sum(axis=1))
            currents = arriving.shape[1] == 0
            operations.append(np.zeros(len(until), np.int64) if currents else arriving @ stage.synapses.fan_out)
        arriving = fired
    return np.stack(spikes, axis=1), np.stack(operations, axis=1), input_spikes


@njit(cache=True, nogil=True)
def _fire(times, slopes, begin, starts, targets, weights, duration):  # type: ignore[no-untyped-def]
    """When each neuron reaches the threshold, ``(frames, neurons)``; and the potentials of the others at the end.

    Parameters
    ----------
    times
        Of the input spikes, ``(frames, inputs)``.
    slopes
        Of the potentials before any input spike, ``(frames, neurons)``, from ``begin`` on, ``(frames,)``.
    """
    frames = len(times)
    neurons = slopes.shape[1]
    fired = np.full((frames, neurons), np.inf)
    potentials = np.zeros((frames, neurons))
    last, slope = np.empty(neurons), np.empty(neurons)
    for frame in range(frames):
        if begin[frame] > duration:
            continue
        potential, when = potentials[frame], fired[frame]
        last[:] = begin[frame]
        slope[:] = slopes[frame]
        for address in np.argsort(times[frame]):
            time = times[frame, address]
            if time > duration:
                break
            for at in range(starts[address], starts[address + 1]):
                neuron = targets[at]
                if when[neuron] < np.inf:
                    continue
                reached = potential[neuron] + slope[neuron] * (time - last[neuron])
                if reached >= 1.0:
                    when[neuron] = last[neuron] + (1.0 - potential[neuron]) / slope[neuron]
                    continue
                potential[neuron], last[neuron] = reached, time
                slope[neuron] += weights[at]
        for neuron in range(neurons):
            if when[neuron] < np.inf:
                continue
            reached = potential[neuron] + slope[neuron] * (duration - last[neuron])
            if reached >= 1.0:
                when[neuron] = last[neuron] + (1.0 - potential[neuron]) / slope[neuron]
            else:
                potential[neuron] = reached
    return fired, potentials
