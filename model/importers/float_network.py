"""The float network that a conversion starts from: a graph of layers, and the ONNX model that it was read from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper

from model.arrays import Floats
from model.importers.errors import ConversionError
from model.importers.quantizer import Quantizer
from model.network import INPUT, MaxPool, Padding, Shape

__all__ = [
    "ConversionError",
    "FloatLayer",
    "FloatNetwork",
    "FloatProjection",
    "expand_groups",
    "is_float32",
    "pool_of",
    "projection_of",
    "refuse_branches",
    "run_model",
    "ungrouped_weights",
]


Frames = npt.NDArray[np.floating] | npt.NDArray[np.uint8]

_Number = TypeVar("_Number", bound=np.number)
_Float = TypeVar("_Float", np.float32, np.float64, np.floating)
_Projection = TypeVar("_Projection", bound="FloatProjection")

_MOST_AT_ONCE = 256
"""Frames that ONNX Runtime takes at once."""

_VALUES_AT_ONCE = 1 << 25
"""Values of the largest tensor that it may hold at once."""


@dataclass(frozen=True, kw_only=True)
class FloatProjection:
    """One input of a layer: where it comes from, and with which weights.

    Parameters
    ----------
    kind : str
        ``"convolution"``, ``"linear"`` or ``"transposed"``; of a layer ``"maxpool"`` too.
    source : str
        Name of the layer whose output it takes, or ``"input"``.
    weights : Floats | None
        As in `model.network`, linear weights by channel-minor address; None for pooling.
    window, stride, padding : tuple[int, int], Padding
        Of convolution and pooling.
    groups : int
        Of a convolution, as in `model.network`. With as many as channels and a window of one position it is one-to-one.
    averaged : tuple[int, int]
        Windows of the source that are taken as one position, as in `model.network`; the weights are divided by their size.
    more : tuple[int, int]
        Of a transposed convolution, as in `model.projection`.
    """

    kind: str
    source: str
    weights: Floats | None = None
    window: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: Padding = Padding()
    groups: int = 1
    averaged: tuple[int, int] = (1, 1)
    more: tuple[int, int] = (0, 0)

    def taken(self, shape: Shape) -> Shape:
        """What is left of a source of ``shape`` with each of its averaged windows taken as one position."""
        return Shape(shape.height // self.averaged[0], shape.width // self.averaged[1], shape.channels)

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of the output for a source of ``shape``."""
        shape = self.taken(shape)
        if self.kind == "linear":
            assert self.weights is not None
            return Shape(1, 1, len(self.weights))
        if self.kind == "transposed":
            assert self.weights is not None
            height, width = (
                (size - 1) * self.stride[axis] + self.window[axis] - self.padding[axis] - self.padding[axis + 2] + self.more[axis]
                for axis, size in enumerate(shape[:2])
            )
            return Shape(height, width, len(self.weights))
        height = (shape.height + self.padding.top + self.padding.bottom - self.window[0]) // self.stride[0] + 1
        width = (shape.width + self.padding.left + self.padding.right - self.window[1]) // self.stride[1] + 1
        return Shape(height, width, shape.channels if self.weights is None else len(self.weights))


@dataclass(frozen=True, kw_only=True)
class FloatLayer(FloatProjection):
    """A layer of the float network; it is its own first input.

    Parameters
    ----------
    name : str
        Identifier made of the node's name.
    tensor : str
        Name of a tensor of the model with the layer's output, channel-major, before or after its ReLU.
    bias : Floats | None
        As in `model.network`, the bias of a convolution by position where it differs; None for pooling.
    joined : tuple[FloatProjection, ...]
        Further inputs that drive the same neurons.
    relu : bool
        Whether a ReLU follows.
    end : float or None
        Where the activation after the ReLU ends, as that of a ReLU6 at 6; None where it has no end.
    quantizer : Quantizer or None
        What rounds the activation, in a quantized file.
    """

    name: str
    tensor: str
    bias: Floats | None = None
    joined: tuple[FloatProjection, ...] = ()
    relu: bool = False
    end: float | None = None
    quantizer: Quantizer | None = None

    @property
    def inputs(self) -> tuple[FloatProjection, ...]:
        """All inputs, the layer itself first."""
        return (self, *self.joined)

    def activated(self, values: npt.NDArray[_Float]) -> npt.NDArray[_Float]:
        """What its activation gives."""
        return np.clip(values, 0, self.end) if self.relu else values

    @property
    def level_limits(self) -> tuple[int, int]:
        """The lowest and the highest level of its quantizer, with those that the activation cuts off left out."""
        assert self.quantizer is not None
        low, high = self.quantizer.low, self.quantizer.high
        if self.relu:
            low = max(low, 0)
            if self.end is not None:
                high = min(high, int(self.quantizer.levels(np.array([self.end]))[0]))
        return low, max(low, high)

    def levels(self, values: npt.NDArray[np.floating], shape: Shape) -> Floats:
        """The levels ``(frames, *shape)`` of what its tensor holds, before or after it is rounded."""
        assert self.quantizer is not None
        found: Floats = np.clip(self.quantizer.levels(values), *self.level_limits)
        return found.reshape(len(values), shape.channels, shape.height, shape.width).transpose(0, 2, 3, 1)


@dataclass(frozen=True, kw_only=True)
class FloatNetwork:
    """The float network.

    Parameters
    ----------
    path : Path
        The file that it was read from, or another name for messages.
    input_name, input_shape : str, Shape
        The model's input, and the shape of a frame.
    layers : tuple[FloatLayer, ...]
        Each after its sources; the last one is the output.
    model : onnx.ModelProto
        The model to run: of the file what its output depends on, in float32, without a final Softmax, Sigmoid or Tanh, and with
        nodes beside the file's where a layer's output is no tensor of the file.
    channels_last : bool
        Whether the model takes frames ``(height, width, channels)`` rather than channels first.
    factors : tuple[Floats, Floats] | None
        Scale and offset of each channel, where the model takes ``scale * x + offset`` of pixels ``x`` of full scale 1.0. They are
        folded into the layers.
    pixels : bool
        Whether the model takes whole pixels of 0 to 255, of type uint8.
    """

    path: Path
    input_name: str
    input_shape: Shape
    layers: tuple[FloatLayer, ...]
    model: onnx.ModelProto
    channels_last: bool = False
    factors: tuple[Floats, Floats] | None = None
    pixels: bool = False

    @cached_property
    def _shapes(self) -> dict[str, Shape]:
        found = {INPUT: self.input_shape}
        for layer in self.layers:
            found[layer.name] = layer.output_shape(found[layer.source])
        return found

    def shape_of(self, name: str) -> Shape:
        """Shape of the output of the layer of that name, or of ``"input"``."""
        return self._shapes[name]

    def walk(self) -> Iterator[tuple[FloatLayer, Shape, Shape]]:
        """Each layer with the shapes of its first source and of its output."""
        for layer in self.layers:
            yield layer, self._shapes[layer.source], self._shapes[layer.name]

    @property
    def branched(self) -> bool:
        """Whether it is more than a chain: a layer has several inputs, or another source than the layer before it."""
        before = (INPUT, *(layer.name for layer in self.layers))
        return any(layer.joined or layer.source != name for layer, name in zip(self.layers, before, strict=False))

    def without_first(self) -> "FloatNetwork":
        """The network without its first layer, which takes each value of the input by itself: the input in its place."""

        def moved(taken: _Projection) -> _Projection:
            return replace(taken, source=INPUT) if taken.source == self.layers[0].name else taken

        layers = (replace(moved(layer), joined=tuple(map(moved, layer.joined))) for layer in self.layers[1:])
        return replace(self, layers=tuple(layers))

    @property
    def quantized(self) -> bool:
        """Whether the file rounds activations."""
        return any(layer.quantizer is not None for layer in self.layers)

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        (*_, (_, _, shape)) = self.walk()
        return shape.size

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return sum(output.size for layer, _, output in self.walk() if layer.kind != "maxpool")

    @property
    def weights(self) -> int:
        """Number of weights, biases apart."""
        return sum(taken.weights.size for layer in self.layers for taken in layer.inputs if taken.weights is not None)

    @property
    def macs(self) -> int:
        """Multiplications a frame of the float network, at the border as everywhere."""
        return sum(self._macs(taken, output) for layer, _, output in self.walk() for taken in layer.inputs)

    def _macs(self, taken: FloatProjection, output: Shape) -> int:
        """Those of one input of a layer of shape ``output``."""
        if taken.weights is None:
            return 0
        if taken.kind == "transposed":
            # A window for each position that it takes.
            source = taken.taken(self.shape_of(taken.source))
            return source.height * source.width * taken.weights.size
        return output.size * taken.weights[0].size

    def run(self, images: npt.NDArray[np.floating], tensors: Sequence[str] = ()) -> list[npt.NDArray[np.float32]]:
        """Run the ONNX model itself; a Softmax, Sigmoid or Tanh at its end is left out, so that it gives scores.

        Parameters
        ----------
        images : npt.NDArray[np.floating]
            Float frames ``(frames, height, width, channels)``, full scale 1.0.
        tensors : Sequence[str]
            Names of tensors to return; the output where empty.
        """
        model, wanted = self.model, list(tensors) or [self.model.graph.output[0].name]
        if further := [name for name in dict.fromkeys(wanted) if name != model.graph.output[0].name]:
            model = onnx.ModelProto()
            model.CopyFrom(self.model)
            model.graph.output.extend(map(helper.make_empty_tensor_value_info, further))
        dims = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
        if self.factors is not None:
            images = images * self.factors[0] + self.factors[1]
        if self.pixels:
            images = np.rint(images).astype(np.uint8)
        frames = images if self.channels_last else images.transpose(0, 3, 1, 2)
        largest = max([self.input_shape.size, *(output.size for _, _, output in self.walk())])
        at_once = min(_MOST_AT_ONCE, max(1, _VALUES_AT_ONCE // largest))
        frames = frames.reshape(len(frames), *dims[1:])
        return run_model(self.path, model, frames, wanted, at_once, optimized=not self.quantized)

    def scores(self, images: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """What answers (`model.golden.answers`), ``(frames, outputs)``.

        Parameters
        ----------
        images : numpy.ndarray
            Float frames as `run` takes them.
        """
        return self.run(images)[0].reshape(len(images), -1)


_SMALL = 1 << 16
"""Values of all frames, and bytes of a model, up to which it runs in one thread."""


def is_float32(values: npt.NDArray[np.floating]) -> bool:
    """Whether all values are finite numbers of float32."""
    return not values.size or bool(max(values.max(), -values.min()) <= np.finfo(np.float32).max)


def run_model(
    path: Path,
    model: onnx.ModelProto,
    frames: Frames | Mapping[str, Frames],
    tensors: Sequence[str],
    at_once: int = _MOST_AT_ONCE,
    *,
    optimized: bool = True,
) -> list[npt.NDArray[np.float32]]:
    """Run an ONNX model, any number of frames, in float32.

    Parameters
    ----------
    path : Path
        Named in errors.
    model : onnx.ModelProto
        The model.
    frames : numpy.ndarray or Mapping of (str, numpy.ndarray)
        As the model takes them: its one input, or each by its name.
    tensors : sequence of str
        The outputs to return.
    at_once : int
        Frames in one run.
    optimized : bool
        Whether the runtime may change the graph. Of a quantized one it makes what rounds as the processor's instructions do.

    Raises
    ------
    ConversionError
        One line: ONNX Runtime cannot run it, and why.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    parts: list[list[npt.NDArray[np.float32]]] = []
    try:
        content = model.SerializeToString()
        values_in_all = sum(values.size for values in (frames.values() if isinstance(frames, Mapping) else [frames]))
        if values_in_all + len(content) <= _SMALL:
            # Threads that are started and wait take more time than such a model.
            options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        given = frames if isinstance(frames, Mapping) else {session.get_inputs()[0].name: frames}
        for at in range(0, max(map(len, given.values())), at_once):
            fed = {
                name: np.ascontiguousarray(values[at : at + at_once], np.uint8 if values.dtype == np.uint8 else np.float32)
                for name, values in given.items()
            }
            parts.append(session.run(list(tensors), fed))
    except Exception as error:  # ONNX Runtime's exceptions have no public base
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConversionError(f"{path}: ONNX Runtime cannot run it: {first}") from error
    return [np.concatenate(found) for found in zip(*parts, strict=True)]


def projection_of(layer: FloatProjection) -> FloatProjection:
    """The first input of a layer, by itself."""
    return FloatProjection(**{field.name: getattr(layer, field.name) for field in fields(FloatProjection)})


def refuse_branches(network: FloatNetwork, done: str) -> None:
    """Refuse a network that is no chain, or has transposed convolutions, where only others are taken.

    Parameters
    ----------
    network : FloatNetwork
        The network.
    done : str
        What is done to chains.

    Raises
    ------
    ConversionError
        One line.
    """
    if network.branched:
        raise ConversionError(f"{network.path}: branches are imported but not {done} yet")
    if any(layer.kind == "transposed" for layer in network.layers):
        raise ConversionError(f"{network.path}: transposed convolutions are imported but not {done} yet")


def expand_groups(layer: FloatLayer) -> FloatLayer:
    """The layer with each input that is a grouped convolution as an ordinary one: zeros from the channels of other groups."""
    return replace(_expanded(layer), joined=tuple(map(_expanded, layer.joined)))


def _expanded(taken: _Projection) -> _Projection:
    if taken.groups == 1:
        return taken
    assert taken.weights is not None
    return replace(taken, weights=ungrouped_weights(taken.weights, taken.groups), groups=1)


def ungrouped_weights(weights: npt.NDArray[_Number], groups: int) -> npt.NDArray[_Number]:
    """Weights of a convolution with groups, with zeros from the channels of other groups."""
    outputs, taken = weights.shape[:2]
    found = np.zeros((outputs, taken * groups, *weights.shape[2:]), weights.dtype)
    each = outputs // groups
    for group in range(groups):
        of_group = np.s_[group * each : (group + 1) * each]
        found[of_group, group * taken : (group + 1) * taken] = weights[of_group]
    return found


def pool_of(layer: FloatLayer, source: str | None = None) -> MaxPool:
    """A max-pooling layer as the network has it; of another source where that is given."""
    source = layer.source if source is None else source
    return MaxPool(name=layer.name, source=source, window=layer.window, stride=layer.stride, padding=layer.padding)
