"""The event-driven classifier of Stromatias et al. 2017, to measure ours against.

"An Event-Driven Classifier for Spiking Neural Networks Fed with Synthetic or Dynamic Vision Sensor Data" (Frontiers in
Neuroscience 11, 2017), our own implementation. One layer of fixed Gabor filters, 18 of 7 x 7 pixels in three scales and six
orientations, makes spikes of the Poisson trains of the pixels (`model.studies.poisson`). The spikes of each of its neurons in a
frame are counted; divided by the largest of them these counts, a "normalized histogram", are what a fully connected classifier
without biases is trained on, by gradient descent, as if they were a frame. Its weights are then those of spiking neurons that
the same spikes reach one by one; the answer is the class with most output spikes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.arrays import Images, Ints
from model.importers.float_network import ConversionError
from model.network import Shape
from model.studies.poisson import PoissonNetwork, convolution, run_poisson, spike_counts
from model.support.dataset import Dataset
from model.support.npz import ArchiveError, read_npz

__all__ = ["ClassifierFigures", "EventClassifier", "flat", "gabor_filters", "histograms", "measure_classifier", "scores"]

SIZE = 7
"""Of a filter, in pixels."""

WAVELENGTHS = (3.0, 5.0, 7.0)
"""Of the three scales, in pixels."""

ORIENTATIONS = 6

_AT_ONCE = 2000
_MOST_BYTES = 1 << 22


def gabor_filters(gain: float) -> npt.NDArray[np.float32]:
    """The 18 filters, ``(18, 1, 7, 7)``.

    Each is a cosine of one of `WAVELENGTHS` across one of the orientations, every 30 degrees, under a round Gaussian of half a
    wavelength; it sums to 0, so that an even area excites no neuron, and its positive weights sum to ``gain``.
    """
    at = np.arange(SIZE) - SIZE // 2
    y, x = np.meshgrid(at, at, indexing="ij")
    filters = []
    for wavelength in WAVELENGTHS:
        for orientation in range(ORIENTATIONS):
            angle = np.pi * orientation / ORIENTATIONS
            envelope = np.exp(-(x**2 + y**2) / (2 * (wavelength / 2) ** 2))
            wave = np.cos(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / wavelength)
            filter_ = envelope * (wave - (envelope * wave).sum() / envelope.sum())
            filters.append(gain * filter_ / filter_[filter_ > 0].sum())
    return np.array(filters, np.float32)[:, np.newaxis]


@dataclass(frozen=True, kw_only=True, eq=False)
class EventClassifier:
    """The filters, and the classifier after them.

    Parameters
    ----------
    filters : npt.NDArray[np.float32]
        ``(maps, 1, height, width)``.
    weights : npt.NDArray[np.float32]
        Of the classifier, ``(classes, maps, height, width)``.
    output_gain : float
        What the weights are multiplied by where the threshold of the output neurons is 1.
    steps_trained, steps : int
        How long the frames ran of which the classifier learnt the counts, and how long those run that are to be classified,
        chosen by training frames that were held out; in steps of 1 ms.
    seed : int
        Of the pixels' spikes.
    """

    filters: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]
    output_gain: float
    steps_trained: int
    steps: int
    seed: int

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[np.number]], where: object) -> "EventClassifier":
        """The network of the arrays in a file; ``where`` names it in errors."""
        wanted = {"filters", "weights", "output_gain", "steps_trained", "steps", "seed"}
        if set(arrays) != wanted:
            raise ConversionError(f"{where}: arrays must be {', '.join(sorted(wanted))}, not {', '.join(sorted(arrays))}")
        for name in ("filters", "weights"):
            if arrays[name].ndim != 4:
                raise ConversionError(f"{where}: {name} must have 4 axes, not {arrays[name].ndim}")
        return cls(
            filters=np.asarray(arrays["filters"], np.float32),
            weights=np.asarray(arrays["weights"], np.float32),
            output_gain=float(arrays["output_gain"]),
            steps_trained=int(arrays["steps_trained"]),
            steps=int(arrays["steps"]),
            seed=int(arrays["seed"]),
        )

    @classmethod
    def load(cls, path: Path) -> "EventClassifier":
        """Read a file that `model.paper_networks` wrote."""
        try:
            return cls.of(read_npz(path, most_bytes=_MOST_BYTES), path)
        except ArchiveError as error:
            raise ConversionError(f"{path}: {error}") from None

    def spiking(self, shape: Shape) -> PoissonNetwork:
        """The spiking network for frames of ``shape``."""
        first = convolution(self.filters, shape)
        output = convolution(self.weights * np.float32(self.output_gain), first.shape)
        return PoissonNetwork(input_shape=shape, stages=(first, output), seed=self.seed)


@dataclass(frozen=True, kw_only=True)
class ClassifierFigures:
    """What `measure_classifier` found.

    Parameters
    ----------
    frames : int
        Frames.
    accuracy_float : float
        Of the classifier on histograms, of the steps that it was trained on.
    accuracy_counted : float
        Of its weights on the counts of the spikes that the output neurons get, which differs from ``accuracy`` by their firing.
    neurons, synapses : int
        Pixels and neurons; weights, those of a filter once.
    steps : int
        As of the network.
    accuracy, spikes_per_neuron, accumulations_per_frame : list of float
        After each of them: accuracy by spike count; spikes so far of pixels and neurons, divided by ``neurons``; additions of a
        weight to a potential so far.
    """

    frames: int
    accuracy_float: float
    accuracy_counted: float
    neurons: int
    synapses: int
    steps: int
    accuracy: list[float]
    spikes_per_neuron: list[float]
    accumulations_per_frame: list[float]


def histograms(
    filters: npt.NDArray[np.float32], images: Images, steps: int, seed: int, done: Callable[[int], None] = lambda frames: None
) -> npt.NDArray[np.uint8]:
    """Spikes of each neuron of the filters in each frame, divided by the frame's most, 255 of which are 1: ``(frames, neurons)``.

    Parameters
    ----------
    filters, images : npt.NDArray[np.float32], Images
        As of `EventClassifier`; uint8 frames.
    steps, seed : int
        How long frames run; of the pixels' spikes.
    done : Callable[[int], None]
        Called with the number of frames finished.
    """
    shape = Shape(*images.shape[1:])
    network = PoissonNetwork(input_shape=shape, stages=(convolution(filters, shape),), seed=seed)
    found = []
    for at in range(0, len(images), _AT_ONCE):
        counts = spike_counts(network, images[at : at + _AT_ONCE], steps, first=at, done=done)
        most = np.maximum(counts.max(axis=1, keepdims=True), 1)
        found.append((counts * np.float32(255) / most).round().astype(np.uint8))
    return np.concatenate(found)


def flat(weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The classifier's weights as ``(neurons, classes)``, neurons in the order of any stage's, ``(y, x, map)``."""
    return weights.transpose(2, 3, 1, 0).reshape(-1, len(weights))


def scores(weights: npt.NDArray[np.float32], counts: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """What the classifier says of `histograms`, ``(frames, classes)``."""
    parts = [counts[at : at + _AT_ONCE] / np.float32(255) @ flat(weights) for at in range(0, len(counts), _AT_ONCE)]
    return np.concatenate(parts)


def measure_classifier(
    network: EventClassifier, data: Dataset, progress: Callable[[int], None] = lambda frames: None
) -> ClassifierFigures:
    """Run all frames as spikes.

    Parameters
    ----------
    network, data : EventClassifier, Dataset
        What to measure, on what.
    progress : Callable[[int], None]
        Called with the number of frames finished.
    """
    spiking = network.spiking(Shape(*data.images.shape[1:]))
    found = run_poisson(spiking, data.images, network.steps, done=progress)
    counted = histograms(network.filters, data.images, network.steps_trained, network.seed)
    return ClassifierFigures(
        frames=len(data),
        accuracy_float=float((scores(network.weights, counted).argmax(axis=1) == data.labels).mean()),
        accuracy_counted=float((_answers_by_counts(network, spiking, data.images) == data.labels).mean()),
        neurons=spiking.neurons,
        synapses=spiking.synapses,
        steps=network.steps,
        accuracy=found.accuracies(data.labels).round(6).tolist(),
        spikes_per_neuron=(found.spikes_so_far() / spiking.neurons).round(4).tolist(),
        accumulations_per_frame=found.accumulations_so_far().round(1).tolist(),
    )


def _answers_by_counts(network: EventClassifier, spiking: PoissonNetwork, images: Images) -> Ints:
    """The class with the largest sum of weights over all spikes that reach it in a frame's time."""
    first = replace(spiking, stages=spiking.stages[:1])
    found = []
    for at in range(0, len(images), _AT_ONCE):
        counts = spike_counts(first, images[at : at + _AT_ONCE], network.steps, first=at)
        found.append((counts.astype(np.float32) @ flat(network.weights)).argmax(axis=1))
    return np.concatenate(found)
