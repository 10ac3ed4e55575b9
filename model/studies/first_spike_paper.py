"""The two networks of the time to first spike in the paper's Table I: as they were trained, as spiking networks, and measured.

The files `model.training.paper_first_spike` writes hold a network twice, trained with ReLUs and with clamped ones. Either is
converted with a threshold that stays or with one that rises with the input still to come (`model.studies.first_spike`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.arrays import Floats
from model.importers.float_network import FloatLayer
from model.network import INPUT, Padding, Shape
from model.studies.first_spike import FirstSpikeNetwork, run_first_spikes
from model.studies.synapses import NeuronStage, stages_of
from model.support.dataset import DataError, Dataset
from model.support.errors import BadInputError
from model.support.npz import ArchiveError, read_npz

__all__ = ["VARIANTS", "FirstSpikeMeasured", "TrainedFirstSpike", "Variant", "float_scores", "measure",
           "read_first_spike"]

_MOST_BYTES = 64_000_000
_AT_ONCE = 500
"""Frames that the float network runs at once."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A row that can be measured.

    Parameters
    ----------
    network, shape, remedy : str
        Name of the network's file without its ending, what it is made of, and what is done for inhibition that comes late.
    clamped, waits : bool
        As of `read_first_spike`.
    """

    network: str
    shape: str
    remedy: str
    clamped: bool
    waits: bool

    def read(self, folder: Path) -> "TrainedFirstSpike":
        """The network, from the folder of such files."""
        return read_first_spike(folder / f"{self.network}.npz", clamped=self.clamped, waits=self.waits)


VARIANTS = tuple(
    Variant(network=network, shape=shape, remedy=remedy, clamped=clamped, waits=waits)
    for network, shape in (("first-spike-convolutional", "3xConv-2xFC"), ("first-spike-two-layer", "2xFC"))
    for remedy, clamped, waits in (
        ("base model", False, False),
        ("dynamic threshold", False, True),
        ("clamped activations", True, False),
    )
)
"""Two networks, each with nothing done and with each of the two remedies."""


@dataclass(frozen=True, kw_only=True)
class TrainedFirstSpike:
    """A trained network and what spikes in its place.

    Parameters
    ----------
    layers : tuple[FloatLayer, ...]
        The float network.
    lows : tuple[float, ...]
        Of each layer that is no pool, up to which activation it gives 0; the output's is not used.
    spiking : FirstSpikeNetwork
        Converted.
    """

    layers: tuple[FloatLayer, ...]
    lows: tuple[float, ...]
    spiking: FirstSpikeNetwork


@dataclass(frozen=True, kw_only=True)
class FirstSpikeMeasured:
    """Figures of a network of neurons that fire once.

    Parameters
    ----------
    frames : int
        Measured.
    accuracy_ann, accuracy : float
        Of the float network, and by the first output spike, which ends the frame.
    neurons, synapses : int
        Neurons with the input and without pools; synapses, one for each neuron that an address reaches, pools and biases apart.
    weights : int
        Synapses with those of a kernel counted once.
    spikes_per_neuron : float
        Of all neurons that are no input, for each neuron with the input, in a frame; pixels that are currents do not fire.
    spikes_per_neuron_without_end : float
        The same where a frame does not end with the answer.
    accumulations_per_frame : int
        Of arriving spikes; with the multiply-accumulates of the first layer's currents.
    input_operations_per_frame, threshold_additions_per_frame : int
        Those multiply-accumulates, which are in it; and additions to thresholds, which are not.
    answer_time_mean : float
        Time of the first output spike; the duration where none fires.
    frames_without_output_spike : int
        In which the highest potential answered.
    """

    frames: int
    accuracy_ann: float
    accuracy: float
    neurons: int
    synapses: int
    weights: int
    spikes_per_neuron: float
    spikes_per_neuron_without_end: float
    accumulations_per_frame: int
    input_operations_per_frame: int
    threshold_additions_per_frame: int
    answer_time_mean: float
    frames_without_output_spike: int


def read_first_spike(
    path: Path, *, clamped: bool, waits: bool, input_spikes: bool = False, duration: float = 32.0
) -> TrainedFirstSpike:
    """Read a network of `model.training.paper_first_spike` and convert it.

    Parameters
    ----------
    path : Path
        The ``.npz`` file.
    clamped : bool
        Whether it is the network trained with clamped activations.
    waits, input_spikes, duration : bool, bool, float
        As of `FirstSpikeNetwork`.
    """
    try:
        arrays = read_npz(path, most_bytes=_MOST_BYTES)
        shape, layers = _layers(arrays, "clamped" if clamped else "plain")
        scales = tuple(float(scale) for scale in arrays["scales"])
        low = float(arrays["low"]) if clamped else 0.0
    except (ArchiveError, KeyError) as error:
        raise BadInputError(f"{path}: must be a network of neurons that fire once: {error}") from error
    scaled, before, remaining = [], 1.0, iter(scales)
    for layer in layers:
        if layer.weights is not None and layer.bias is not None:
            scale = next(remaining)
            layer = replace(layer, weights=layer.weights * (before / scale), bias=layer.bias / scale)
            before = scale
        scaled.append(layer)
    spiking = FirstSpikeNetwork(
        input_shape=shape,
        stages=stages_of(scaled, shape),
        scales=scales,
        input_spikes=input_spikes,
        duration=duration,
        waits=waits,
    )
    return TrainedFirstSpike(layers=layers, lows=tuple(low * scale for scale in scales), spiking=spiking)


def _layers(arrays: dict[str, npt.NDArray[np.number]], kind: str) -> tuple[Shape, tuple[FloatLayer, ...]]:
    """The input's shape and the layers of a network: those with weights in the file's order, each with its pool."""
    shape = start = Shape(*(int(size) for size in arrays["input_shape"]))
    names = [name.split(".")[1] for name in arrays if name.startswith(f"{kind}.") and name.endswith(".weight")]
    layers: list[FloatLayer] = []
    source = INPUT
    for name, padding, pool in zip(names, arrays["paddings"], arrays["pools"], strict=True):
        weights, bias = (arrays[f"{kind}.{name}.{what}"].astype(np.float64) for what in ("weight", "bias"))
        relu = name != names[-1]
        if weights.ndim == 4:
            layer = FloatLayer(
                kind="convolution", source=source, name=name, tensor=name, weights=weights, bias=bias, relu=relu,
                window=(weights.shape[2], weights.shape[3]), padding=Padding(*[int(padding)] * 4),
            )
        else:
            # PyTorch flattens channel by channel.
            weights = weights.reshape(-1, shape.channels, shape.height * shape.width).transpose(0, 2, 1)
            weights = weights.reshape(len(weights), -1)
            layer = FloatLayer(kind="linear", source=source, name=name, tensor=name, weights=weights, bias=bias, relu=relu)
        layers.append(layer)
        shape = layer.output_shape(shape)
        if pool > 1:
            window = (int(pool), int(pool))
            layers.append(
                FloatLayer(
                    kind="maxpool", source=name, name=f"{name}_pool", tensor=f"{name}_pool", window=window, stride=window
                )
            )
            shape = layers[-1].output_shape(shape)
        source = layers[-1].name
    return start, tuple(layers)


def float_scores(network: TrainedFirstSpike, images: npt.NDArray[np.uint8]) -> Floats:
    """The outputs of the float network, ``(frames, outputs)``."""
    parts = []
    for at in range(0, len(images), _AT_ONCE):
        values, lows = images[at : at + _AT_ONCE] / 255, iter(network.lows)
        for layer in network.layers:
            if layer.weights is None:
                values = _windows(values, layer.window)[:, :: layer.stride[0], :: layer.stride[1]].max(axis=(4, 5))
                continue
            assert layer.bias is not None
            if layer.kind == "linear":
                values = (values.reshape(len(values), -1) @ layer.weights.T)[:, np.newaxis, np.newaxis]
            else:
                edges = layer.padding
                padded = np.pad(values, ((0, 0), (edges.top, edges.bottom), (edges.left, edges.right), (0, 0)))
                values = np.tensordot(_windows(padded, layer.window), layer.weights, axes=((3, 4, 5), (1, 2, 3)))
            values, low = values + layer.bias, next(lows)
            if layer.relu:
                values = np.where(values > low, values, 0)
        parts.append(values.reshape(len(values), -1))
    return np.concatenate(parts)


def _windows(values: Floats, window: tuple[int, int]) -> Floats:
    """Every window of frames: ``(frames, y, x, channels, inside y, inside x)``."""
    return np.lib.stride_tricks.sliding_window_view(values, window, axis=(1, 2))


def measure(
    network: TrainedFirstSpike, data: Dataset, progress: Callable[[int], None] = lambda frames: None
) -> FirstSpikeMeasured:
    """Run all frames.

    Parameters
    ----------
    network : TrainedFirstSpike
        The network.
    data : Dataset
        Frames.
    progress : Callable[[int], None]
        Called with the number of frames finished.
    """
    spiking = network.spiking
    if data.images.shape[1:] != tuple(spiking.input_shape):
        raise DataError(
            f"frames of {data.name} must have the network's input shape {tuple(spiking.input_shape)}, "
            f"not {tuple(data.images.shape[1:])}"
        )
    found = run_first_spikes(spiking, data.images, done=progress)
    neurons = spiking.input_shape.size + spiking.neurons
    inputs = float(found.input_operations.mean())
    return FirstSpikeMeasured(
        frames=len(data),
        accuracy_ann=float((float_scores(network, data.images).argmax(axis=1) == data.labels).mean()),
        accuracy=float((found.answers == data.labels).mean()),
        neurons=neurons,
        synapses=sum(len(stage.synapses.weights) for stage in spiking.stages if isinstance(stage, NeuronStage)),
        weights=sum(layer.weights.size for layer in network.layers if layer.weights is not None),
        spikes_per_neuron=round(float((found.spikes_by_answer.sum(axis=1) + found.input_spikes_by_answer).mean()) / neurons, 4),
        spikes_per_neuron_without_end=round(float((found.spikes.sum(axis=1) + found.input_spikes).mean()) / neurons, 4),
        accumulations_per_frame=round(inputs + float(found.operations_by_answer.sum(axis=1).mean())),
        input_operations_per_frame=round(inputs),
        threshold_additions_per_frame=round(float(found.threshold_operations_by_answer.sum(axis=1).mean())),
        answer_time_mean=round(float(found.answer_times.mean()), 3),
        frames_without_output_spike=int((found.answer_times >= spiking.duration).sum()),
    )
