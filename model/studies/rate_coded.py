"""The rate-coded conversion of Rueckauer et al. 2017, to measure ours against.

"Conversion of Continuous-Valued Deep Networks to Efficient Event-Driven Networks for Image Classification" (Frontiers in
Neuroscience 11, 2017), our own implementation. An activation becomes the rate at which an integrate-and-fire neuron fires in
time steps: each step the neuron adds the weights of the spikes that arrive and its constant bias current, and where its
potential reaches the threshold, which is 1 after normalization (`model.studies.synapses.normalized`), it fires once and the
threshold is subtracted ("reset by subtraction"; what is left over counts in the next step). A pixel is a constant current into
the first layer, of its grey value or of one bit. A max-pool is a gate: of the neurons in its window it lets pass the spikes of
the one that has fired most so far. A spike reaches all later layers within its time step.

The output neurons fire as all others; the answer is the class with most spikes, or the one with the most input in all
(spikes and what is left over), which is the paper's readout without output spikes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.arrays import Ints
from model.importers.float_network import FloatNetwork
from model.studies.chain import Chain, run_in_batches
from model.studies.synapses import NeuronStage, PoolStage, normalized, stages_of
from model.support.compiled import njit

__all__ = ["RateNetwork", "RateSummaries", "convert_rates", "run_rates"]

_SPIKES_AT_ONCE = 24_000_000
"""Bytes of spikes of a layer that a core holds: what the memory in use grows with. At least one frame, at most `_BATCH`."""

_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class RateNetwork(Chain):
    """A network of integrate-and-fire neurons; a scale is the float activation that a rate of one spike per step stands for.

    Parameters
    ----------
    input_threshold : int | None
        Pixels are 1 where greater than this, else 0; None takes their grey values.
    """

    input_threshold: int | None


@dataclass(frozen=True, kw_only=True)
class RateSummaries:
    """What frames did.

    Parameters
    ----------
    answers, answers_potential : Ints
        Class by spike count, lowest index on ties, and by all input of the output neurons, after each time step; ``(frames,
        steps)``.
    counts : Ints
        Spikes of the output neurons, ``(frames, classes)``.
    spikes : Ints
        Of each neuron layer in each step, ``(frames, steps, layers)``.
    operations : Ints
        Accumulations that arriving spikes cost each neuron layer, ``(frames, steps, layers)``; none in the first.
    input_operations : Ints
        Multiply-accumulates (accumulations where pixels are 1 bit) that make the first layer's currents, once a frame;
        ``(frames,)``.
    current_operations : Ints
        Additions of constant currents other than 0 in each step, ``(frames,)``.
    """

    answers: Ints
    answers_potential: Ints
    counts: Ints
    spikes: Ints
    operations: Ints
    input_operations: Ints
    current_operations: Ints


def convert_rates(
    network: FloatNetwork,
    images: npt.NDArray[np.uint8],
    *,
    percentile: float = 99.9,
    input_threshold: int | None = None,
) -> RateNetwork:
    """Normalize with calibration frames and make neurons of activations.

    Parameters
    ----------
    network : FloatNetwork
        Float network.
    images : npt.NDArray[np.uint8]
        uint8 calibration frames ``(frames, height, width, channels)``.
    percentile : float
        Of the positive activations of a layer, what becomes one spike per step; 100 is the maximum.
    input_threshold : int | None
        As in `RateNetwork`.
    """
    layers, scales = normalized(network, _levels(images, input_threshold), percentile=percentile)
    return RateNetwork(
        input_shape=network.input_shape,
        stages=stages_of(layers, network.input_shape),
        scales=scales,
        input_threshold=input_threshold,
    )


def run_rates(
    network: RateNetwork,
    images: npt.NDArray[np.uint8],
    steps: int,
    *,
    done: Callable[[int], None] = lambda frames: None,
) -> RateSummaries:
    """Run frames for a number of time steps, on all cores.

    Parameters
    ----------
    network : RateNetwork
        The network.
    images : npt.NDArray[np.uint8]
        uint8 frames ``(frames, height, width, channels)``.
    steps : int
        Time steps per frame; what happens in one does not depend on how many follow.
    done : Callable[[int], None]
        Called with the number of frames finished.
    """
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)):
        raise TypeError(f"steps must be an integer, not {steps!r}")
    if steps < 1:
        raise ValueError(f"steps must be 1 or more, not {steps!r}")
    largest = max(_size(stage) for stage in network.stages)
    size = int(np.clip(_SPIKES_AT_ONCE // (steps * largest), 1, _BATCH))
    return run_in_batches(network, images, size, lambda batch: _run(network, batch, steps), done)


def _levels(images: npt.NDArray[np.uint8], threshold: int | None) -> npt.NDArray[np.float32]:
    """Pixels as the first layer sees them, full scale 1.0."""
    if threshold is None:
        return images.astype(np.float32) / np.float32(255)
    return (images > threshold).astype(np.float32)


def _size(stage: NeuronStage | PoolStage) -> int:
    return len(stage.starts) - 1 if isinstance(stage, PoolStage) else len(stage.bias)


def _run(network: RateNetwork, images: npt.NDArray[np.uint8], steps: int) -> RateSummaries:
    levels = _levels(images, network.input_threshold).reshape(len(images), -1).astype(np.float64)
    spikes = np.zeros((len(images), steps, 0), np.uint8)
    fired, operations, added = [], [], np.zeros(len(images), np.int64)
    input_operations = np.zeros(len(images), np.int64)
    potentials = np.zeros((len(images), 0, 0))
    for index, stage in enumerate(network.stages):
        if isinstance(stage, PoolStage):
            spikes = _gate(spikes, stage.starts, stage.addresses)
            continue
        synapses, bias = stage.synapses, stage.bias
        last = index == len(network.stages) - 1
        if index == 0:
            currents = synapses.sums(levels) + bias
            input_operations = (levels > 0) @ synapses.fan_out
            starts = np.zeros(1, np.int64)
        else:
            currents, starts = np.broadcast_to(bias, (len(images), len(bias))), synapses.starts
        added += np.count_nonzero(currents, axis=1)
        spikes, cost, potentials = _integrate(
            spikes, np.ascontiguousarray(currents), starts, synapses.targets, synapses.weights, last
        )
        fired.append(spikes.sum(axis=2, dtype=np.int64))
        operations.append(cost)
    counts = spikes.cumsum(axis=1, dtype=np.int64)
    return RateSummaries(
        answers=counts.argmax(axis=2),
        answers_potential=(counts + potentials).argmax(axis=2),
        counts=counts[:, -1],
        spikes=np.stack(fired, axis=2),
        operations=np.stack(operations, axis=2),
        input_operations=input_operations,
        current_operations=added,
    )


@njit(cache=True, nogil=True)
def _integrate(spikes, currents, starts, targets, weights, keep):  # type: ignore[no-untyped-def]
    """Spikes ``(frames, steps, neurons)``, accumulations ``(frames, steps)``, and where wanted potentials after each step."""
    frames, steps, inputs = spikes.shape
    neurons = currents.shape[1]
    fired = np.zeros((frames, steps, neurons), np.uint8)
    operations = np.zeros((frames, steps), np.int64)
    kept = np.zeros((frames if keep else 0, steps, neurons))
    potential = np.empty(neurons)
    for frame in range(frames):
        potential[:] = 0.0
        for step in range(steps):
            for neuron in range(neurons):
                potential[neuron] += currents[frame, neuron]
            for address in range(inputs):
                if spikes[frame, step, address]:
                    operations[frame, step] += starts[address + 1] - starts[address]
                    for at in range(starts[address], starts[address + 1]):
                        potential[targets[at]] += weights[at]
            for neuron in range(neurons):
                # Reset by subtraction: what is above the threshold stays.
                fires = potential[neuron] >= 1.0
                fired[frame, step, neuron] = fires
                potential[neuron] -= 1.0 if fires else 0.0
            if keep:
                kept[frame, step] = potential
    return fired, operations, kept


@njit(cache=True, nogil=True)
def _gate(spikes, starts, addresses):  # type: ignore[no-untyped-def]
    """Of each window the spikes of the neuron that has fired most so far, this step included; the first one on ties."""
    frames, steps, inputs = spikes.shape
    outputs = len(starts) - 1
    passed = np.zeros((frames, steps, outputs), np.uint8)
    counts = np.empty(inputs, np.int32)
    for frame in range(frames):
        counts[:] = 0
        for step in range(steps):
            for address in range(inputs):
                counts[address] += spikes[frame, step, address]
            for output in range(outputs):
                most = addresses[starts[output]]
                for at in range(starts[output] + 1, starts[output + 1]):
                    if counts[addresses[at]] > counts[most]:
                        most = addresses[at]
                passed[frame, step, output] = spikes[frame, step, most]
    return passed
