"""The network of Wu, Deng, Li, Zhu and Shi 2018 as the spiking network that it was trained as, to measure ours against.

"Spatio-temporal backpropagation for training high-performance spiking neural networks" (Frontiers in Neuroscience 12), our own
implementation; `model.training.stbp` trains it. A frame takes a number of time steps. In each, a pixel spikes with the
probability that its grey value is of full scale, and a spike passes all layers. A neuron adds the weights of the spikes that
arrive and its bias to what is left of its potential, fires where it is at the threshold or above, and is then set to 0; the
potential of one that did not fire is multiplied by ``decay``. After a convolution comes an average over windows of 2 x 2, which
has no neurons: a spike arrives there with a quarter of its weight. The answer is the class with most spikes.

The weights are half-precision numbers, that is, whole multiples of 2**-24, so that the sums of double precision are exact, in
whatever order a matrix product takes them: the same network gives the same spikes on every machine.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from model.arrays import Bools, Floats, Images, Ints
from model.network import Shape
from model.support.dataset import Dataset
from model.support.errors import NetworkError
from model.support.npz import ArchiveError, read_npz

__all__ = ["LeakyLayer", "StbpFigures", "StbpNetwork", "StbpSpikes", "measure", "read_stbp", "run_stbp"]

_POOL = 2
_MOST_BYTES = 1 << 24
_WINDOWS_AT_ONCE = 1 << 24
"""Bytes of a convolution's windows in memory: what grows with the number of frames that are run at once."""

_SEED = 20180523
"""Of the spikes of the pixels."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LeakyLayer:
    """Neurons with the same kernel everywhere, or linear ones.

    Parameters
    ----------
    name : str
        Of the layer.
    weights : Floats
        Of a convolution ``(channels, input channels, kernel, kernel)``, whose output is of the size of its input and then
        averaged; of a linear layer ``(neurons, inputs)``, inputs in the canonical order.
    bias : Floats
        Of each channel, or neuron.
    """

    name: str
    weights: Floats
    bias: Floats

    @property
    def convolution(self) -> bool:
        """Whether it is one."""
        return self.weights.ndim == 4

    def shape_after(self, shape: Shape) -> Shape:
        """Of its neurons, after an input of ``shape``."""
        return Shape(shape.height, shape.width, len(self.weights)) if self.convolution else Shape(1, 1, len(self.weights))

    def pooled(self, shape: Shape) -> Shape:
        """What the next layer is given of its neurons' ``shape``."""
        return Shape(shape.height // _POOL, shape.width // _POOL, shape.channels) if self.convolution else shape

    def fan_out(self, shape: Shape) -> Ints:
        """Neurons that a spike of each address of an input of ``shape`` reaches, windows clipped at the border."""
        if not self.convolution:
            return np.full(shape.size, len(self.weights), np.int64)
        rows, columns = (
            sliding_window_view(np.pad(np.ones(side, np.int64), kernel // 2), kernel).sum(axis=1)
            for side, kernel in zip(shape[:2], self.weights.shape[2:], strict=True)
        )
        return np.repeat((len(self.weights) * np.outer(rows, columns)).reshape(-1), shape.channels)


@dataclass(frozen=True, kw_only=True)
class StbpNetwork:
    """A chain of layers of leaky neurons.

    Parameters
    ----------
    input_shape : Shape
        Of a frame.
    layers : tuple[LeakyLayer, ...]
        Convolutions, then linear layers.
    threshold, decay : float
        Of all neurons.
    steps : int
        Time steps of a frame.
    """

    input_shape: Shape
    layers: tuple[LeakyLayer, ...]
    threshold: float
    decay: float
    steps: int

    @property
    def neurons(self) -> int:
        """Number of neurons, pixels included, as the paper's table counts them."""
        return self.input_shape.size + sum(shape.size for shape in self.shapes)

    @property
    def synapses(self) -> int:
        """Number of weights, as the paper's table counts synapses: those of a kernel once."""
        return sum(layer.weights.size for layer in self.layers)

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Of each layer's neurons."""
        shape, found = self.input_shape, []
        for layer in self.layers:
            found.append(layer.shape_after(shape))
            shape = layer.pooled(found[-1])
        return tuple(found)


@dataclass(frozen=True, kw_only=True)
class StbpSpikes:
    """What frames did.

    Parameters
    ----------
    answers : Ints
        Class by spike count after each time step, lowest index on ties; ``(frames, steps)``.
    spikes : Ints
        In each step of the pixels and of each layer, ``(frames, steps, 1 + layers)``.
    accumulations : Ints
        In each step, neurons of each layer that a spike reached; ``(frames, steps, layers)``.
    """

    answers: Ints
    spikes: Ints
    accumulations: Ints


@dataclass(frozen=True, kw_only=True)
class StbpFigures:
    """What is measured; accuracies as shares, everything else per frame.

    Parameters
    ----------
    frames, neurons, synapses : int
        Number of frames; neurons and synapses as the paper counts them.
    steps : int
        Time steps of a frame.
    accuracy : float
        After the last of them.
    spikes_per_neuron : float
        Spikes of pixels and neurons, by the number of pixels and neurons.
    spikes_per_neuron_without_input : float
        Spikes of the neurons alone, by their number.
    spikes : list of float
        Of the pixels and of each layer.
    accumulations_per_frame : int
        Neurons reached by a spike, windows clipped at the border, spikes of pixels included.
    updates_per_frame : int
        Potentials that decay and have a bias added: every neuron's, in every step.
    accuracy_by_step, spikes_per_neuron_by_step, accumulations_by_step : list of float
        The same had the frame ended after each step, from the first on.
    """

    frames: int
    neurons: int
    synapses: int
    steps: int
    accuracy: float
    spikes_per_neuron: float
    spikes_per_neuron_without_input: float
    spikes: list[float]
    accumulations_per_frame: int
    updates_per_frame: int
    accuracy_by_step: list[float]
    spikes_per_neuron_by_step: list[float]
    accumulations_by_step: list[float]


def read_stbp(path: Path) -> StbpNetwork:
    """Read a network that `model.paper_networks` wrote.

    Raises
    ------
    NetworkError : the file is not such a network; one line that says what is wrong
    """
    try:
        arrays = dict(read_npz(path, most_bytes=_MOST_BYTES))
    except ArchiveError as error:
        raise NetworkError(f"{path}: {error}") from None
    numbers: dict[str, Any] = {}
    for name in ("threshold", "decay", "steps"):
        if name not in arrays or arrays[name].shape != ():
            raise NetworkError(f"{path}: {name} must be a number")
        numbers[name] = arrays.pop(name).item()

    def half(name: str) -> Floats:
        array = arrays.get(name)
        if array is None or array.dtype != np.float16 or not np.isfinite(array).all():
            raise NetworkError(f"{path}: {name} must be an array of finite half-precision numbers")
        return array.astype(np.float64)

    names = dict.fromkeys(name.partition(".")[0] for name in arrays)
    layers = tuple(LeakyLayer(name=name, weights=half(f"{name}.weight"), bias=half(f"{name}.bias")) for name in names)
    network = StbpNetwork(input_shape=Shape(28, 28, 1), layers=layers, **numbers)
    _check(network, str(path))
    return network


def run_stbp(
    network: StbpNetwork, images: Images, steps: int, *, done: Callable[[int], None] = lambda frames: None
) -> StbpSpikes:
    """Run frames.

    Parameters
    ----------
    network : StbpNetwork
        The network.
    images : Images
        uint8 frames ``(frames, height, width, channels)``. The pixels' spikes depend on a frame's place among them.
    steps : int
        Time steps per frame; what happens in one does not depend on how many follow.
    done : Callable[[int], None]
        Called with the number of frames finished.
    """
    _check(network, "network")
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)):
        raise TypeError(f"steps must be an integer, not {steps!r}")
    if steps < 1:
        raise ValueError(f"steps must be 1 or more, not {steps!r}")
    if images.shape[1:] != tuple(network.input_shape):
        raise NetworkError(f"frames must have the network's shape {tuple(network.input_shape)}, not {images.shape[1:]}")
    if len(images) == 0:
        raise ValueError("images must be at least one frame, not 0")
    size = max(1, _WINDOWS_AT_ONCE // (steps * _window_bytes(network)))
    found = []
    for at in range(0, len(images), size):
        found.append(_run(network, images[at : at + size], at, steps))
        done(len(found[-1].answers))
    return StbpSpikes(**{name: np.concatenate([vars(each)[name] for each in found]) for name in vars(found[0])})


def measure(network: StbpNetwork, data: Dataset, progress: Callable[[int], None] = lambda frames: None) -> StbpFigures:
    """Run all frames for the network's number of steps. The same each time, on every machine.

    Parameters
    ----------
    network : StbpNetwork
        From `read_stbp`.
    data : Dataset
        Frames with labels.
    progress : Callable[[int], None]
        Called with the number of frames finished.
    """
    found = run_stbp(network, data.images, network.steps, done=progress)
    right = (found.answers == data.labels[:, np.newaxis]).mean(axis=0)
    of_layers = found.spikes.sum(axis=1).mean(axis=0)
    so_far = found.spikes.sum(axis=2).mean(axis=0).cumsum() / network.neurons
    accumulations = found.accumulations.sum(axis=2).mean(axis=0).cumsum()
    computing = network.neurons - network.input_shape.size
    return StbpFigures(
        frames=len(data),
        neurons=network.neurons,
        synapses=network.synapses,
        steps=network.steps,
        accuracy=round(float(right[-1]), 6),
        spikes_per_neuron=round(float(so_far[-1]), 4),
        spikes_per_neuron_without_input=round(float(of_layers[1:].sum()) / computing, 4),
        spikes=[round(float(count), 2) for count in of_layers],
        accumulations_per_frame=round(float(accumulations[-1])),
        updates_per_frame=computing * network.steps,
        accuracy_by_step=[round(float(share), 6) for share in right],
        spikes_per_neuron_by_step=[round(float(share), 4) for share in so_far],
        accumulations_by_step=[float(round(count)) for count in accumulations],
    )


def _check(network: StbpNetwork, where: str) -> None:
    """Refuse layers that do not follow from one another, and constants that are none."""
    if not 0 < network.threshold < np.inf:
        raise NetworkError(f"{where}: threshold must be more than 0, not {network.threshold!r}")
    if not 0 <= network.decay < 1:
        raise NetworkError(f"{where}: decay must be at least 0 and less than 1, not {network.decay!r}")
    if isinstance(network.steps, bool) or not isinstance(network.steps, int) or network.steps < 1:
        raise NetworkError(f"{where}: steps must be an integer of 1 or more, not {network.steps!r}")
    if not network.layers:
        raise NetworkError(f"{where}: layers must be at least one, not 0")
    shape, linear = network.input_shape, False
    for layer in network.layers:
        kernel = layer.weights.shape[2:]
        if layer.weights.ndim not in (2, 4) or (linear and layer.convolution):
            raise NetworkError(f"{where}: layer {layer.name!r}: weights must be those of a convolution, or of a linear layer "
                               f"after all convolutions, not of shape {layer.weights.shape}")
        if any(side % 2 == 0 for side in kernel):
            raise NetworkError(f"{where}: layer {layer.name!r}: kernel must have odd sides, not {kernel}")
        if layer.convolution and any(side % _POOL for side in shape[:2]):
            raise NetworkError(f"{where}: layer {layer.name!r}: input must have even sides, not {shape[:2]}")
        expected = shape.channels if layer.convolution else shape.size
        if layer.weights.shape[1] != expected:
            raise NetworkError(f"{where}: layer {layer.name!r}: weights must be for {expected} inputs, "
                               f"not {layer.weights.shape[1]}")
        if layer.bias.shape != (len(layer.weights),):
            raise NetworkError(f"{where}: layer {layer.name!r}: bias must be of shape {(len(layer.weights),)}, "
                               f"not {layer.bias.shape}")
        shape, linear = layer.pooled(layer.shape_after(shape)), not layer.convolution


def _window_bytes(network: StbpNetwork) -> int:
    """Of the windows of a frame's time step, in the layer that has most of them."""
    windows = [shape.height * shape.width * layer.weights[0].size for layer, shape in
               zip(network.layers, network.shapes, strict=True)]
    return 8 * max(windows)


def _run(network: StbpNetwork, images: Images, first: int, steps: int) -> StbpSpikes:
    """Frames of which the first has the place ``first`` among all."""
    spikes = _pixel_spikes(images, first, steps)
    shape, arriving = network.input_shape, spikes.astype(np.float64)
    counts, accumulations = [spikes.sum(axis=(2, 3, 4))], []
    for layer in network.layers:
        accumulations.append(spikes.reshape(len(images), steps, -1) @ _spread(layer.fan_out(shape), spikes.shape[2:4], shape))
        spikes = _fire(_sums(layer, arriving) + layer.bias, network)
        arriving = _pooled(spikes) if layer.convolution else spikes.astype(np.float64)
        shape = Shape(*arriving.shape[2:])
        counts.append(spikes.sum(axis=(2, 3, 4)))
    return StbpSpikes(
        answers=spikes.reshape(len(images), steps, -1).cumsum(axis=1).argmax(axis=2),
        spikes=np.stack(counts, axis=2),
        accumulations=np.stack(accumulations, axis=2),
    )


def _spread(fan_out: Ints, sides: tuple[int, ...], shape: Shape) -> Ints:
    """Of each neuron before an average what its window's position has, ``(neurons,)``."""
    each = sides[0] // shape.height
    return fan_out.reshape(shape).repeat(each, axis=0).repeat(each, axis=1).reshape(-1)


def _pixel_spikes(images: Images, first: int, steps: int) -> Bools:
    """Which pixels spike in each step, ``(frames, steps, height, width, channels)``: full scale always, 0 never."""
    found = np.empty((len(images), steps, *images.shape[1:]), bool)
    for place, image in enumerate(images, first):
        # A frame's first steps are the same however many follow, and wherever a batch begins.
        random = np.random.default_rng((_SEED, place))
        for step in range(steps):
            found[place - first, step] = random.integers(255, size=image.shape, dtype=np.uint8) < image
    return found


def _sums(layer: LeakyLayer, arriving: Floats) -> Floats:
    """``W x`` of each frame and step, as ``(frames, steps, height, width, channels)``."""
    frames, steps, height, width, _ = arriving.shape
    if not layer.convolution:
        return (arriving.reshape(frames * steps, -1) @ layer.weights.T).reshape(frames, steps, 1, 1, -1)
    up, left = (side // 2 for side in layer.weights.shape[2:])
    padded = np.pad(arriving, ((0, 0), (0, 0), (up, up), (left, left), (0, 0)))
    windows = sliding_window_view(padded, layer.weights.shape[2:], axis=(2, 3))
    # Of a window all channels, then rows and columns, as the weights have it.
    sums = windows.reshape(frames * steps * height * width, -1) @ layer.weights.reshape(len(layer.weights), -1).T
    return sums.reshape(frames, steps, height, width, -1)  # type: ignore[no-any-return]


def _pooled(spikes: Bools) -> Floats:
    frames, steps, height, width, channels = spikes.shape
    windows = spikes.reshape(frames, steps, height // _POOL, _POOL, width // _POOL, _POOL, channels)
    return windows.sum(axis=(3, 5)) / _POOL**2  # type: ignore[no-any-return]


def _fire(sums: Floats, network: StbpNetwork) -> Bools:
    """Spikes of neurons that are given ``sums``, ``(frames, steps, ...)``."""
    spikes = np.empty(sums.shape, bool)
    kept: npt.NDArray[np.float64] = np.zeros_like(sums[:, 0])
    for step in range(sums.shape[1]):
        potential = sums[:, step] + kept
        spikes[:, step] = potential >= network.threshold
        kept = np.where(spikes[:, step], 0.0, potential * network.decay)
    return spikes
