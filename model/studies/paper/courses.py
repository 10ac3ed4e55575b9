"""The answer so far, of many frames at a time: accuracy, spikes and accumulations against time (the paper's Figure 3)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from model.arrays import Images, Ints
from model.engine.engine import Stream, run_streams
from model.golden import answers
from model.network import INPUT, Network, Neurons
from model.studies.instruments import fan_out_sizes
from model.support.errors import BadInputError

__all__ = ["Course", "course"]

_TIMES = np.arange(81) / 100
"""Times at which the answer so far is looked at. A pixel that does not fire is one of 0.2 of full scale or less: nothing happens
after 0.8."""

_SLOW = 95.0
"""Percentile of frames."""

_BATCH = 100
"""Frames at once: what the memory in use grows with."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """The answer so far against time, means over frames.

    Parameters
    ----------
    label : str
        Of what.
    time, accuracy, spikes_per_neuron, accumulations_per_frame : list of float
        At each time what there is so far.
    last_input : float
        When the last pixel of a frame fires.
    settled, inputs_settled, spikes_settled : float
        When an answer is the frame's last one for good; the share of pixels, and of the neurons' spikes, that have fired then.
    settled_slow : float
        By when 95 % of the frames have their last answer.
    """

    label: str
    time: list[float]
    accuracy: list[float]
    spikes_per_neuron: list[float]
    accumulations_per_frame: list[float]
    last_input: float
    settled: float
    settled_slow: float
    inputs_settled: float
    spikes_settled: float


def course(
    label: str, network: Network, images: Images, labels: Ints, *, done: Callable[[int], None] = lambda frames: None
) -> Course:
    """Follow frames through a network that fires immediately and whose pixels fire once at the most.

    Raises
    ------
    BadInputError
        It is another one.
    """
    if network.deferred or network.rest or network.input_levels != 1:
        raise BadInputError(f"network {network.name!r} must fire immediately, start from its biases and have one input level")
    found: list[tuple[Ints, ...]] = []
    for at in range(0, len(images), _BATCH):
        found.append(_of_batch(network, images[at : at + _BATCH]))
        done(len(found[-1][0]))
    answer, fired, operations, inputs = (np.concatenate(parts) for parts in zip(*found, strict=True))
    # From which time on an answer is the last one: after the last time at which it is another.
    other = answer != answer[:, -1:]
    settled = np.where(other.any(axis=1), len(_TIMES) - other[:, ::-1].argmax(axis=1), 0)
    last_input = (inputs < inputs[:, -1:]).sum(axis=1)

    def share(so_far: Ints) -> float:
        reached = np.take_along_axis(so_far, settled[:, np.newaxis], axis=1)[:, 0]
        return round(float((reached / np.maximum(1, so_far[:, -1])).mean()), 4)

    return Course(
        label=label,
        time=_TIMES.tolist(),
        accuracy=(answer == labels[:, np.newaxis]).mean(axis=0).round(6).tolist(),
        spikes_per_neuron=(fired.mean(axis=0) / network.neurons).round(5).tolist(),
        accumulations_per_frame=operations.mean(axis=0).round(1).tolist(),
        last_input=round(float(_TIMES[last_input].mean()), 4),
        settled=round(float(_TIMES[settled].mean()), 4),
        settled_slow=round(float(np.percentile(_TIMES[settled], _SLOW)), 4),
        inputs_settled=share(inputs),
        spikes_settled=share(fired),
    )


def _of_batch(network: Network, images: Images) -> tuple[Ints, Ints, Ints, Ints]:
    """Of each frame and time the answer so far, and spikes, accumulations and input events so far."""
    streams = run_streams(network, images)
    inputs = streams[INPUT]
    frame = np.repeat(np.arange(len(images)), np.diff(inputs.starts))
    pixel = images.reshape(len(images), -1)[frame, inputs.address]
    # A pixel fires the later the darker it is; a rounding error must not move it behind its time.
    due = np.searchsorted(_TIMES, 1 - pixel / 255 - 1e-9)

    def so_far(stream: Stream, each: Ints | None = None) -> Ints:
        """Events of each frame up to each time, or what each of them adds."""
        of_frame, at = _places(stream, inputs.starts, due)
        sums = np.bincount(of_frame * len(_TIMES) + at, each, len(images) * len(_TIMES))
        return sums.reshape(len(images), -1).cumsum(axis=1).astype(np.int64)

    fired, operations = np.zeros((2, len(images), len(_TIMES)), np.int64)
    for layer, shape, _ in network.walk():
        if isinstance(layer, Neurons):
            fired += so_far(streams[layer.name])
            taken = streams[layer.source]
            operations += so_far(taken, fan_out_sizes(layer, shape)[taken.address])
    output = streams[network.output.name]
    counts = np.zeros((len(images), len(_TIMES), network.outputs), np.int64)
    np.add.at(counts, (*_places(output, inputs.starts, due), output.address), output.sign)
    return answers(counts.cumsum(axis=1)), fired, operations, so_far(inputs)


def _places(stream: Stream, input_starts: Ints, due: Ints) -> tuple[Ints, Ints]:
    """The frame of each event, and the time of the pixel that caused it."""
    frame = np.repeat(np.arange(len(stream.starts) - 1), np.diff(stream.starts))
    return frame, due[input_starts[frame] + stream.origin]
