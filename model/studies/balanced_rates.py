"""The rate code of Diehl et al. 2015, "weight and threshold balancing", to measure ours against.

"Fast-Classifying, High-Accuracy Spiking Deep Networks Through Weight and Threshold Balancing" (IJCNN 2015), our own
implementation. A network without biases, 12C5-2S-64C5-2S-10FC with average pools, runs as integrate-and-fire neurons that are
set to 0 when they fire (`model.studies.poisson`), pools too; a pixel is a Poisson train, a white one fires in each step. All
thresholds are 1, and weights are balanced to them, by one of two rules:

- by data: a layer's largest activation on training frames, or its largest weight if that is larger, becomes 1;
- by model: the largest sum of positive weights of a neuron becomes 1, so that no input can make it fire more than once a step.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from model.arrays import Floats, Images
from model.importers.float_network import ConversionError
from model.network import Shape
from model.studies.poisson import PoissonNetwork, Stage, average_pool, convolution, run_poisson
from model.support.dataset import Dataset
from model.support.npz import ArchiveError, read_npz

__all__ = ["BalancedFigures", "BalancedNetwork", "float_scores", "measure_balanced"]

_LAYERS = ("conv1", "conv2", "fc")
_POOL = 2
_MOST_BYTES = 1 << 22
_FLOAT_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True, eq=False)
class BalancedNetwork:
    """A float network with what its conversion needs.

    Parameters
    ----------
    conv1, conv2, fc : npt.NDArray[np.float32]
        Weights, ``(output channels, input channels, height, width)``; the window of ``fc`` is all of its source.
    largest : Floats
        The largest activation of each of the three on training frames.
    steps_accurate, steps_published : int
        How long frames run, in steps: until training frames that were held out lose no more than the published network does,
        and until neurons have fired as often as the published ones.
    seed : int
        Of the pixels' spikes.
    """

    conv1: npt.NDArray[np.float32]
    conv2: npt.NDArray[np.float32]
    fc: npt.NDArray[np.float32]
    largest: Floats
    steps_accurate: int
    steps_published: int
    seed: int

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[np.number]], where: object) -> "BalancedNetwork":
        """The network of the arrays in a file; ``where`` names it in errors."""
        wanted = {*_LAYERS, "largest", "steps_accurate", "steps_published", "seed"}
        if set(arrays) != wanted:
            raise ConversionError(f"{where}: arrays must be {', '.join(sorted(wanted))}, not {', '.join(sorted(arrays))}")
        for name in _LAYERS:
            if arrays[name].ndim != 4:
                raise ConversionError(f"{where}: {name} must have 4 axes, not {arrays[name].ndim}")
        largest = np.asarray(arrays["largest"], np.float64)
        if largest.shape != (len(_LAYERS),) or not (largest > 0).all():
            raise ConversionError(f"{where}: largest must be {len(_LAYERS)} numbers greater than 0, not {largest.tolist()}")
        return cls(
            conv1=np.asarray(arrays["conv1"], np.float32),
            conv2=np.asarray(arrays["conv2"], np.float32),
            fc=np.asarray(arrays["fc"], np.float32),
            largest=largest,
            steps_accurate=int(arrays["steps_accurate"]),
            steps_published=int(arrays["steps_published"]),
            seed=int(arrays["seed"]),
        )

    @classmethod
    def load(cls, path: Path) -> "BalancedNetwork":
        """Read a file that `model.paper_networks` wrote."""
        try:
            return cls.of(read_npz(path, most_bytes=_MOST_BYTES), path)
        except ArchiveError as error:
            raise ConversionError(f"{path}: {error}") from None

    @property
    def weights(self) -> tuple[npt.NDArray[np.float32], ...]:
        """Of the layers, in order."""
        return self.conv1, self.conv2, self.fc

    def balanced(self, by: Literal["data", "model"], shape: Shape) -> PoissonNetwork:
        """The spiking network for frames of ``shape``, its weights balanced by one of the rules above."""
        if by == "data":
            scales = np.maximum(self.largest, [weights.max() for weights in self.weights])
            factors = np.concatenate([[1], scales[:-1]]) / scales
        elif by == "model":
            factors = np.array([1 / np.maximum(weights, 0).sum(axis=(1, 2, 3)).max() for weights in self.weights])
        else:
            raise ValueError(f"by must be data or model, not {by!r}")
        stages: list[Stage] = []
        source = shape
        for weights, factor in zip(self.weights, factors, strict=True):
            if stages:
                stages.append(average_pool(_POOL, source))
                source = stages[-1].shape
            stages.append(convolution(weights * np.float32(factor), source))
            source = stages[-1].shape
        return PoissonNetwork(input_shape=shape, stages=tuple(stages), seed=self.seed)


@dataclass(frozen=True, kw_only=True)
class BalancedFigures:
    """What `measure_balanced` found.

    Parameters
    ----------
    frames : int
        Frames.
    accuracy_float : float
        Of the float network.
    neurons, neurons_without_pools, synapses : int
        Pixels and neurons, with pools and without; weights, shared ones once.
    steps_accurate, steps_published : int
        As of the network.
    accuracy, spikes_per_neuron, accumulations_per_frame : list of float
        After each step, up to the later of the two: accuracy by spike count; spikes so far of pixels, pools and neurons,
        divided by ``neurons``; additions of a weight to a potential so far.
    """

    frames: int
    accuracy_float: float
    neurons: int
    neurons_without_pools: int
    synapses: int
    steps_accurate: int
    steps_published: int
    accuracy: list[float]
    spikes_per_neuron: list[float]
    accumulations_per_frame: list[float]


def measure_balanced(
    network: BalancedNetwork,
    data: Dataset,
    progress: Callable[[int], None] = lambda frames: None,
    *,
    by: Literal["data", "model"] = "data",
) -> BalancedFigures:
    """Run all frames as spikes for as long as the later of the network's two times.

    Parameters
    ----------
    network, data : BalancedNetwork, Dataset
        What to measure, on what.
    progress : Callable[[int], None]
        Called with the number of frames finished.
    by : str
        How weights are balanced.
    """
    spiking = network.balanced(by, Shape(*data.images.shape[1:]))
    found = run_poisson(spiking, data.images, max(network.steps_accurate, network.steps_published), done=progress)
    return BalancedFigures(
        frames=len(data),
        accuracy_float=float((float_scores(network.weights, data.images).argmax(axis=1) == data.labels).mean()),
        neurons=spiking.neurons,
        neurons_without_pools=spiking.neurons_without_pools,
        synapses=spiking.synapses,
        steps_accurate=network.steps_accurate,
        steps_published=network.steps_published,
        accuracy=found.accuracies(data.labels).round(6).tolist(),
        spikes_per_neuron=(found.spikes_so_far() / spiking.neurons).round(4).tolist(),
        accumulations_per_frame=found.accumulations_so_far().round(1).tolist(),
    )


def float_scores(weights: tuple[npt.NDArray[np.float32], ...], images: Images) -> npt.NDArray[np.float32]:
    """What the float network says of frames, ``(frames, classes)``."""
    found = []
    for at in range(0, len(images), _FLOAT_AT_ONCE):
        values = images[at : at + _FLOAT_AT_ONCE] / np.float32(255)
        for index, layer in enumerate(weights):
            if index:
                frames, height, width, channels = values.shape
                windows = values.reshape(frames, height // _POOL, _POOL, width // _POOL, _POOL, channels)
                values = np.maximum(windows, 0).mean(axis=(2, 4), dtype=np.float32)
            taps = np.lib.stride_tricks.sliding_window_view(values, layer.shape[2:], axis=(1, 2))
            values = np.tensordot(taps, layer, axes=([3, 4, 5], [1, 2, 3]))
        found.append(values.reshape(len(values), -1))
    return np.concatenate(found)
