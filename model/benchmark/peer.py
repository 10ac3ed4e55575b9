"""The rate code of SpikingJelly on the same float network: the fewest time steps, and spikes, for a given accuracy.

The float network is built in PyTorch from what the importer reads, layer by layer, graphs too, and converted by SpikingJelly with
its best settings: a threshold for each channel, from a percentile of its activations or balanced over calibration frames, neurons
that start charged to half a threshold, max-pools before neurons where nothing else takes what the pool does. Where an activation
ends, as that of a ReLU6, thresholds are at most its end, and a neuron fires no more than that. Layers without an activation are
currents and fire nothing. Pixels are spikes of neurons of their own, as SpikingJelly makes them
of a rectified linear unit in front of the network; or a constant current, as in its examples: then the first layer multiplies in
each step. The outputs are the mean of the last layer's currents, read from the first step on or after the delay that SpikingJelly
estimates; they fire no spikes.
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
import operator
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from model.importers.float_network import ConversionError, FloatLayer, FloatNetwork, FloatProjection
from model.network import INPUT, Shape
from model.support.dataset import Dataset
from model.support.errors import ToolMissingError

if TYPE_CHECKING:
    from torch import Tensor, fx, nn

__all__ = ["PIXELS", "SETTINGS", "PeerPoint", "PeerResult", "RateCode", "as_torch", "outputs"]

SETTINGS = ("99.9%", "Max", "99%", "balanced")
"""How thresholds are found: balanced locally (Bu et al., 2024), or a percentile of each channel's activations."""

PIXELS = ("spikes", "current")
"""How frames come in."""

_CALIBRATED = 1000
_BATCH = 250


@dataclass(frozen=True)
class PeerPoint:
    """What the rate code does in so many time steps.

    Parameters
    ----------
    setting : str
        One of `SETTINGS`.
    steps : int
        Time steps.
    accuracy : float
        On the frames, 0 to 1.
    input_spikes, hidden_spikes : float
        Spikes per frame of the pixels, 0 where they are a current, and of all neurons.
    """

    setting: str
    steps: int
    accuracy: float
    input_spikes: float
    hidden_spikes: float

    @property
    def spikes(self) -> float:
        """All spikes per frame."""
        return self.input_spikes + self.hidden_spikes


@dataclass(frozen=True)
class PeerResult:
    """What it takes the peer to be as accurate as wanted.

    Parameters
    ----------
    pixels : str
        One of `PIXELS`.
    frames : int
        Test frames, the first ones.
    wanted : float
        The accuracy to reach on them.
    accuracy_float : float
        Of the float network on them.
    reached : PeerPoint or None
        Of all settings the one with the fewest spikes at the first step that is as accurate; None where none is.
    best : PeerPoint
        The most accurate, with the fewest spikes.
    """

    pixels: str
    frames: int
    wanted: float
    accuracy_float: float
    reached: PeerPoint | None
    best: PeerPoint


def as_torch(floats: FloatNetwork, *, first: nn.Module | None = None) -> fx.GraphModule:
    """The float network as PyTorch modules, batch normalization folded; from ``(frames, channels, height, width)``.

    Quantizers of a quantized file are left out: what is left is a network of rectified linear units with its weights.

    Parameters
    ----------
    floats : FloatNetwork
        The network.
    first : nn.Module, optional
        What the frames go through before.
    """
    from torch import fx

    modules: dict[str, Any] = {}
    graph = fx.Graph()

    def through(module: nn.Module, value: fx.Node) -> fx.Node:
        name = f"module{len(modules)}"
        modules[name] = module
        return graph.call_module(name, (value,))

    values = {INPUT: graph.placeholder("frames")}
    if first is not None:
        values[INPUT] = through(first, values[INPUT])
    for layer in floats.layers:
        parts = []
        for taken in layer.inputs:
            value = values[taken.source]
            for module in _modules(layer, taken, floats.shape_of(taken.source)):
                value = through(module, value)
            parts.append(value)
        value = parts[0]
        for part in parts[1:]:
            value = graph.call_function(operator.add, (value, part))
        values[layer.name] = through(_activation(layer.end), value) if layer.relu else value
    graph.output(values[floats.layers[-1].name])
    return fx.GraphModule(modules, graph).eval()


def _modules(layer: FloatLayer, taken: FloatProjection, shape: Shape) -> list[Any]:
    """What one input of a layer does, with the layer's bias where it is the first."""
    import torch
    from torch import nn

    if taken.padding.top != taken.padding.bottom or taken.padding.left != taken.padding.right:
        raise ConversionError(f"layer {layer.name!r}: padding must be the same on both sides for PyTorch, not {taken.padding}")
    padding = (taken.padding.top, taken.padding.left)
    if taken.kind == "maxpool":
        return [nn.MaxPool2d(taken.window, taken.stride, padding)]
    assert taken.weights is not None and layer.bias is not None
    if layer.bias.ndim != 1:
        raise ConversionError(f"layer {layer.name!r}: bias must be one for each channel, not of shape {layer.bias.shape}")
    found: list[Any] = []
    weights, outputs, biased = taken.weights, len(taken.weights), taken is layer
    if taken.averaged != (1, 1):
        found.append(nn.AvgPool2d(taken.averaged))
        weights = weights * (taken.averaged[0] * taken.averaged[1])
    module: nn.Conv2d | nn.ConvTranspose2d | nn.Linear
    if taken.kind == "linear":
        seen = taken.taken(shape)
        found.append(nn.Flatten())
        module = nn.Linear(seen.size, outputs, biased)
        weights = weights.reshape(-1, *seen).transpose(0, 3, 1, 2).reshape(-1, seen.size)
    elif taken.kind == "transposed":
        module = nn.ConvTranspose2d(
            shape.channels, outputs, taken.window, taken.stride, padding, taken.more, groups=taken.groups, bias=biased
        )
        weights = np.concatenate([part.swapaxes(0, 1) for part in np.split(weights, taken.groups)])
    else:
        module = nn.Conv2d(shape.channels, outputs, taken.window, taken.stride, padding, groups=taken.groups, bias=biased)
    with torch.no_grad():
        for parameter, values in ((module.weight, weights), (module.bias, layer.bias)):
            if parameter is not None:
                parameter.copy_(torch.from_numpy(np.ascontiguousarray(values)))
    return [*found, module]


def _activation(end: float | None) -> nn.ReLU:
    """A rectified linear unit, which ends where that is given.

    SpikingJelly makes neurons of `torch.nn.ReLU` alone, and leaves a ReLU6 as it is. A neuron fires once in a time step at most,
    so that its threshold, found where activations end, ends them as well.
    """
    from torch import nn

    found = nn.ReLU()
    if end is not None:
        found.forward = functools.partial(_ending, end=end)  # type: ignore[method-assign]
    return found


def _ending(values: Tensor, *, end: float) -> Tensor:
    return values.clamp(0.0, end)


class RateCode:
    """A network as rate codes, each setting converted once, and simulated as far as anything asked for.

    Parameters
    ----------
    floats : FloatNetwork
        The network.
    calibration, test : Dataset
        Frames to find thresholds on, and frames to measure on.
    pixels : str
        One of `PIXELS`.
    steps : int
        Time steps at most.
    settings : Sequence[str]
        Which of `SETTINGS` to try.
    """

    def __init__(
        self,
        floats: FloatNetwork,
        calibration: Dataset,
        test: Dataset,
        *,
        pixels: str = "spikes",
        steps: int = 32,
        settings: Sequence[str] = SETTINGS,
    ) -> None:
        from torch import nn

        # A pixel is its own activation, and SpikingJelly makes a neuron of each activation.
        self._network = as_torch(floats, first=nn.ReLU() if pixels == "spikes" else None)
        self._images, self._labels = _tensor(test, floats), test.labels
        self._calibrated = _tensor(calibration.first(_CALIBRATED), floats)
        self._accuracy_float = _accuracy(outputs(self._network, self._images), test.labels)
        self._pixels, self._steps = pixels, steps
        self._known: dict[str, list[PeerPoint]] = {setting: [] for setting in settings}
        self._further: dict[str, Iterator[PeerPoint]] = {setting: self._simulated(setting) for setting in settings}

    def reach(self, wanted: float) -> PeerResult:
        """Run until it is as accurate as ``wanted``, 0 to 1 of the test frames."""
        points: list[PeerPoint] = []
        fewest = math.inf
        for setting in self._known:
            for point in self._points(setting):
                points.append(point)
                if point.spikes >= fewest:
                    # Another setting is as accurate with fewer.
                    break
                if point.accuracy >= wanted:
                    fewest = point.spikes
                    break
        reached = [point for point in points if point.accuracy >= wanted]
        return PeerResult(
            pixels=self._pixels,
            frames=len(self._labels),
            wanted=wanted,
            accuracy_float=self._accuracy_float,
            reached=min(reached, key=lambda point: point.spikes, default=None),
            best=max(points, key=lambda point: (point.accuracy, -point.spikes)),
        )

    def _points(self, setting: str) -> Iterator[PeerPoint]:
        yield from self._known[setting]
        for point in self._further[setting]:
            self._known[setting].append(point)
            yield point

    def _simulated(self, setting: str) -> Iterator[PeerPoint]:
        network = _converted(self._network, setting, self._calibrated)
        for step, accuracy, fired in _simulated(network, self._images, self._labels, self._steps):
            inputs = fired[0] if self._pixels == "spikes" else 0.0
            yield PeerPoint(setting, step, accuracy, inputs, sum(fired) - inputs)


def _tensor(data: Dataset, floats: FloatNetwork) -> Tensor:
    import torch

    images = data.images.reshape(len(data), *floats.input_shape).transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(images)).float() / 255


def outputs(network: nn.Module, images: Tensor) -> np.ndarray:
    """What it answers, ``(frames, classes)``."""
    import torch

    with torch.inference_mode():
        return np.concatenate([network(batch).flatten(1).numpy() for batch in images.split(_BATCH)])


def _accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    return float((outputs.argmax(axis=1) == labels).mean())


def _converted(network: nn.Module, setting: str, images: Tensor) -> fx.GraphModule:
    """What SpikingJelly makes of it."""
    try:
        from spikingjelly.activation_based.ann2snn import Converter, LocalThresholdBalancingRecipe, RateCodingRecipe
    except ImportError as error:
        raise ToolMissingError("the peer must be installed: make suite-tools") from error
    batches = images.split(100)
    recipe = (
        LocalThresholdBalancingRecipe(batches)
        if setting == "balanced"
        else RateCodingRecipe(batches, setting, channel_wise=True, half_threshold=True, pre_spike_maxpool=True)
    )
    with contextlib.redirect_stderr(io.StringIO()):
        return Converter(recipe).convert(network)  # type: ignore[no-any-return]


def _simulated(
    network: fx.GraphModule, images: Tensor, labels: np.ndarray, steps: int
) -> Iterator[tuple[int, float, list[float]]]:
    """Of each step its number, the accuracy, and the spikes per frame of each layer so far."""
    import torch
    from spikingjelly.activation_based.ann2snn import estimate_delay_start
    from spikingjelly.activation_based.functional import reset_net
    from spikingjelly.activation_based.neuron import BaseNode

    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        delay = estimate_delay_start(network, [images[:_BATCH]], "cpu", steps)
    modules = dict(network.named_modules())
    layers = [modules[node.target] for node in network.graph.nodes if isinstance(modules.get(node.target), BaseNode)]
    fired = [0.0] * len(layers)
    for index, layer in enumerate(layers):

        def count(_module: nn.Module, _inputs: Any, output: Tensor, index: int = index) -> None:
            fired[index] += float(output.sum()) / len(images)

        layer.register_forward_hook(count)
    reset_net(network)
    sums, late = np.zeros(0), np.zeros(0)
    for step in range(1, steps + 1):
        with torch.inference_mode():
            # All frames at once: a neuron's state is a tensor over frames.
            now = network(images).flatten(1).numpy()
        sums = now if step == 1 else sums + now
        late = now if step <= delay + 1 else late + now
        accuracy = max(_accuracy(sums, labels), _accuracy(late, labels))
        yield step, accuracy, list(fired)
