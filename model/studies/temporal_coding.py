"""The networks of Mostafa 2018 and of Mostafa et al. 2017 as the spiking networks that they were trained as.

"Supervised learning based on temporal coding in spiking neural networks" (IEEE TNNLS) and "Fast classification using sparsely
active spiking networks" (ISCAS), our own implementation; `model.training.temporal_coding` trains them. Two layers of neurons
that fire at most once. A spike starts a current that decays exponentially, a neuron integrates its currents without a leak, and
fires where the potential reaches 1:

    V(t) = sum of w_i * (1 - exp(-(t - t_i))) over all inputs i that have fired by t,

in units of the synaptic time constant. Times are exact and continuous; there are no time steps. With ``z = exp(t)`` the potential
is ``sum of w_i - (sum of w_i * z_i) / z`` between two spikes, so that a crossing is a quotient of two sums. Bright pixels fire at
time 0, the others at a later time. The answer is the first output neuron that fires, and there the frame ends; where
none fires, it is the one whose potential is the highest after all currents have decayed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.arrays import Floats, Images, Ints
from model.support.dataset import DataError, Dataset
from model.support.errors import NetworkError
from model.support.npz import ArchiveError, read_npz

__all__ = ["TemporalFigures", "TemporalNetwork", "TemporalSpikes", "measure", "read_temporal", "run_temporal", "spike_times"]

_BATCH = 100
"""Frames that are run at once: what the memory in use grows with."""

_MOST_BYTES = 1 << 23


@dataclass(frozen=True, kw_only=True, eq=False)
class TemporalNetwork:
    """Two layers of neurons that fire once.

    Parameters
    ----------
    hidden : Floats
        Weights ``(hidden neurons, pixels)``.
    output : Floats
        Weights ``(classes, hidden neurons)``.
    bright : int
        A pixel is bright that is more than this, of 255.
    late : float
        Time at which pixels fire that are not bright.
    """

    hidden: Floats
    output: Floats
    bright: int
    late: float

    def __post_init__(self) -> None:
        for name, weights in (("hidden", self.hidden), ("output", self.output)):
            if weights.ndim != 2 or weights.size == 0 or not np.isfinite(weights).all():
                raise NetworkError(f"{name} must be a matrix of finite weights, not one of shape {weights.shape}")
        if self.output.shape[1] != len(self.hidden):
            raise NetworkError(f"output must have {len(self.hidden)} columns, one per hidden neuron, not {self.output.shape[1]}")
        if not 0 <= self.bright < 255:
            raise NetworkError(f"bright must be 0 to 254, not {self.bright!r}")
        if not 0 < self.late < math.inf:
            raise NetworkError(f"late must be more than 0 and finite, not {self.late!r}")

    @property
    def neurons(self) -> int:
        """Number of neurons, pixels included, as the paper's table counts them."""
        return self.hidden.shape[1] + len(self.hidden) + len(self.output)

    @property
    def synapses(self) -> int:
        """Number of weights."""
        return self.hidden.size + self.output.size


@dataclass(frozen=True, kw_only=True, eq=False)
class TemporalSpikes:
    """What frames did; "by the answer" leaves out what happens after the first output spike.

    Parameters
    ----------
    answers : Ints
        Class, ``(frames,)``.
    answer_times : Floats
        Time of the first output spike, ``(frames,)``; infinite where none fires.
    spikes, spikes_by_answer : Ints
        Of the pixels, the hidden and the output neurons, ``(frames, 3)``.
    """

    answers: Ints
    answer_times: Floats
    spikes: Ints
    spikes_by_answer: Ints


@dataclass(frozen=True, kw_only=True)
class TemporalFigures:
    """What is measured; the frame ends with the answer unless it says otherwise.

    Parameters
    ----------
    frames, neurons, synapses : int
        Number of frames; neurons and synapses as the paper counts them.
    accuracy : float
        Share of frames whose first output spike is that of their class.
    frames_without_output_spike : int
        Answered by potential.
    answer_time_median : float
        Of the first output spike, in synaptic time constants, over the frames that have one.
    spikes_per_neuron : float
        Spikes of pixels and neurons, by the number of pixels and neurons.
    spikes : list of float
        Of pixels, hidden and output neurons, per frame.
    accumulations_per_frame : int
        Synaptic currents that a spike starts, those of pixels included.
    spikes_per_neuron_without_end, accumulations_per_frame_without_end : float, int
        The same where the frame goes on until all neurons have fired that will.
    """

    frames: int
    neurons: int
    synapses: int
    accuracy: float
    frames_without_output_spike: int
    answer_time_median: float
    spikes_per_neuron: float
    spikes: list[float]
    accumulations_per_frame: int
    spikes_per_neuron_without_end: float
    accumulations_per_frame_without_end: int


def read_temporal(path: Path) -> TemporalNetwork:
    """Read a network that `model.paper_networks` wrote.

    Raises
    ------
    NetworkError
        The file is not such a network; one line that says what is wrong.
    """
    try:
        arrays = read_npz(path, most_bytes=_MOST_BYTES)
        shapes = {name: array.ndim for name, array in arrays.items()}
        if shapes != {"hidden": 2, "output": 2, "bright": 0, "late": 0}:
            raise NetworkError(f"must have matrices hidden and output, and numbers bright and late, not {', '.join(arrays)}")
        return TemporalNetwork(
            hidden=arrays["hidden"].astype(np.float64),
            output=arrays["output"].astype(np.float64),
            bright=int(arrays["bright"]),
            late=float(arrays["late"]),
        )
    except (ArchiveError, NetworkError) as error:
        raise NetworkError(f"{path}: {error}") from None


def measure(network: TemporalNetwork, data: Dataset, progress: Callable[[int], None] = lambda frames: None) -> TemporalFigures:
    """Measure a network on all frames of ``data``; ``progress`` is called with the number of frames finished."""
    found = run_temporal(network, data.images, done=progress)
    fan_out = np.array([len(network.hidden), len(network.output), 0])
    answered = np.isfinite(found.answer_times)

    def per_neuron(spikes: Ints) -> float:
        return round(float(spikes.sum(axis=1).mean()) / network.neurons, 4)

    return TemporalFigures(
        frames=len(data),
        neurons=network.neurons,
        synapses=network.synapses,
        accuracy=float((found.answers == data.labels).mean()),
        frames_without_output_spike=int((~answered).sum()),
        answer_time_median=round(float(np.median(found.answer_times[answered])), 3) if answered.any() else math.inf,
        spikes_per_neuron=per_neuron(found.spikes_by_answer),
        spikes=[round(float(mean), 2) for mean in found.spikes_by_answer.mean(axis=0)],
        accumulations_per_frame=round(float((found.spikes_by_answer @ fan_out).mean())),
        spikes_per_neuron_without_end=per_neuron(found.spikes),
        accumulations_per_frame_without_end=round(float((found.spikes @ fan_out).mean())),
    )


def run_temporal(
    network: TemporalNetwork, images: Images, *, done: Callable[[int], None] = lambda frames: None
) -> TemporalSpikes:
    """Run frames.

    Parameters
    ----------
    network : TemporalNetwork
        The network.
    images : Images
        uint8 frames ``(frames, height, width, channels)``.
    done : Callable[[int], None]
        Called with the number of frames finished.
    """
    pixels = network.hidden.shape[1]
    if math.prod(images.shape[1:]) != pixels:
        raise DataError(f"frames must be of {pixels} pixels, not of shape {images.shape[1:]}")
    if len(images) == 0:
        raise ValueError("images must be at least one frame, not 0")
    found = []
    for start in range(0, len(images), _BATCH):
        batch = images[start : start + _BATCH]
        found.append(_run(network, batch))
        done(len(batch))
    return TemporalSpikes(**{name: np.concatenate([vars(each)[name] for each in found]) for name in vars(found[0])})


def spike_times(network: TemporalNetwork, images: Images) -> tuple[Floats, Floats, Floats]:
    """When pixels, hidden and output neurons fire, ``(frames, neurons)`` each; infinite where they do not."""
    pixels = np.where(images.reshape(len(images), -1) > network.bright, 0.0, network.late)
    hidden = _hidden_times(network, pixels == 0)
    return pixels, hidden, _output_times(network.output, hidden)


def _hidden_times(network: TemporalNetwork, bright: np.ndarray) -> Floats:
    """From the sums over the two groups of pixels, each of which fires at once."""
    early = bright.astype(np.float64) @ network.hidden.T
    both = network.hidden.sum(axis=1)
    # The potential when the second group fires.
    soon = early * -math.expm1(-network.late) >= 1
    z = np.full(early.shape, np.inf)
    np.divide(early, early - 1, out=z, where=soon)
    np.divide(early + (both - early) * math.exp(network.late), both - 1, out=z, where=~soon & (both > 1))
    return np.log(z)


def _output_times(weights: Floats, hidden: Floats) -> Floats:
    """From running sums over the hidden neurons in the order in which they fire."""
    order = np.argsort(hidden, axis=1, kind="stable")
    times = np.take_along_axis(hidden, order, axis=1)
    fires = np.isfinite(times)
    z = np.exp(np.where(fires, times, 0.0))
    following = np.concatenate([np.where(fires, z, np.inf)[:, 1:], np.full((len(z), 1), np.inf)], axis=1)
    found = np.full((len(hidden), len(weights)), np.inf)
    rows = np.arange(len(hidden))
    for neuron, row in enumerate(weights):
        of_input = np.where(fires, row[order], 0.0)
        total, weighted = of_input.cumsum(axis=1), (of_input * z).cumsum(axis=1)
        # The potential when the next input fires; after the last one, what it tends to. Reached there, it would take for ever.
        reached = np.where(np.isfinite(following), total - weighted / following >= 1, total > 1)
        crosses = reached.any(axis=1)
        at = rows[crosses], reached.argmax(axis=1)[crosses]
        found[crosses, neuron] = np.log(weighted[at] / (total[at] - 1))
    return found


def _run(network: TemporalNetwork, images: Images) -> TemporalSpikes:
    times = spike_times(network, images)
    hidden, output = times[1:]
    first = output.min(axis=1)
    # All currents that were started, decayed.
    potentials = np.isfinite(hidden) @ network.output.T
    return TemporalSpikes(
        answers=np.where(np.isfinite(first), output.argmin(axis=1), potentials.argmax(axis=1)),
        answer_times=first,
        spikes=np.stack([np.isfinite(each).sum(axis=1) for each in times], axis=1),
        spikes_by_answer=np.stack([(np.isfinite(each) & (each <= first[:, np.newaxis])).sum(axis=1) for each in times], axis=1),
    )
