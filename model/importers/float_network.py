"""The float network that a conversion starts from: a chain of layers, and the ONNX model that it was read from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper

from model.machine.stages import refused_by_hardware
from model.network import MaxPool, Padding, Shape
from model.support.errors import BadInputError

__all__ = ["ConversionError", "FloatLayer", "FloatNetwork", "expand_groups", "hardware_form", "pool_of"]

Floats = npt.NDArray[np.float64]

_BATCH = 256
"""Frames at once where the model does not fix their number."""

_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


class ConversionError(BadInputError):
    """A file or a node of it cannot be converted; the message names it.

    Where it is about a node, ``node`` is the name of the node's first output, ``reason`` the message without file, node
    and remedy, and ``remedy`` what could be done.
    """

    node = ""
    reason = ""
    remedy = ""


@dataclass(frozen=True, kw_only=True)
class FloatLayer:
    """A layer of the float network.

    Parameters
    ----------
    kind : ``"convolution"``, ``"linear"`` or ``"maxpool"``
    name : identifier made of the node's name
    weights, bias : as in `model.network`, linear weights by channel-minor address; None for pooling
    window, stride, padding : of convolution and pooling
    groups : of a convolution, as in `model.network`
    relu : whether a ReLU follows
    tensor : name of a tensor of the model with the layer's output, channel-major, before or after its ReLU
    """

    kind: str
    name: str
    tensor: str
    weights: Floats | None = None
    bias: Floats | None = None
    window: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: Padding = Padding()
    groups: int = 1
    relu: bool = False

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of the output for an input of ``shape``."""
        if self.kind == "linear":
            assert self.weights is not None
            return Shape(1, 1, len(self.weights))
        height = (shape.height + self.padding.top + self.padding.bottom - self.window[0]) // self.stride[0] + 1
        width = (shape.width + self.padding.left + self.padding.right - self.window[1]) // self.stride[1] + 1
        return Shape(height, width, shape.channels if self.weights is None else len(self.weights))


@dataclass(frozen=True, kw_only=True)
class FloatNetwork:
    """The float network.

    Parameters
    ----------
    path : the file that it was read from, or another name for messages
    input_name, input_shape : the model's input, and the shape of a frame
    layers : a chain
    model : the model, with nodes beside those of the file where a layer's output is no tensor of the file
    channels_last : whether the model takes frames ``(height, width, channels)`` rather than channels first
    """

    path: Path
    input_name: str
    input_shape: Shape
    layers: tuple[FloatLayer, ...]
    model: onnx.ModelProto
    channels_last: bool = False

    def walk(self) -> Iterator[tuple[FloatLayer, Shape, Shape]]:
        """Each layer with the shapes of its input and output."""
        shape = self.input_shape
        for layer in self.layers:
            output = layer.output_shape(shape)
            yield layer, shape, output
            shape = output

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
        return sum(layer.weights.size for layer in self.layers if layer.weights is not None)

    @property
    def macs(self) -> int:
        """Multiplications a frame of the float network, at the border as everywhere."""
        return sum(output.size * layer.weights[0].size for layer, _, output in self.walk() if layer.weights is not None)

    def run(self, images: npt.NDArray[np.floating], tensors: Sequence[str] = ()) -> list[npt.NDArray[np.float32]]:
        """Run the ONNX model itself.

        Parameters
        ----------
        images : float frames ``(frames, height, width, channels)``, full scale 1.0
        tensors : names of tensors to return; the output where empty
        """
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        output = model.graph.output[0].name
        for name in dict.fromkeys(tensors):
            if name != output:
                model.graph.output.append(helper.make_empty_tensor_value_info(name))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions have no public base
            raise self._cannot_run(error) from error
        taken = session.get_inputs()[0]
        frames = images if self.channels_last else images.transpose(0, 3, 1, 2)
        frames = np.ascontiguousarray(frames.astype(_DTYPES.get(taken.type, np.float32)))
        frames = frames.reshape(len(frames), *self._dims(taken.shape))
        wanted = list(tensors) or [output]
        batch = taken.shape[0]
        size = batch if isinstance(batch, int) else _BATCH
        parts: list[list[npt.NDArray[np.float32]]] = [[] for _ in wanted]
        for at in range(0, len(frames), size):
            chunk = frames[at : at + size]
            short = size - len(chunk) if isinstance(batch, int) else 0
            fed = np.concatenate([chunk, np.zeros((short, *chunk.shape[1:]), chunk.dtype)]) if short else chunk
            try:
                results = session.run(wanted, {self.input_name: fed})
            except Exception as error:  # as above
                raise self._cannot_run(error) from error
            for part, found in zip(parts, results, strict=True):
                part.append(found[: len(chunk)])
        return [np.concatenate(part) for part in parts]

    def scores(self, images: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """What answers (`model.golden.answers`), ``(frames, outputs)``: the outputs, a single one before its Sigmoid.

        Parameters
        ----------
        images : numpy.ndarray
            Float frames as `run` takes them.
        """
        last = self.layers[-1]
        if self.outputs > 1:
            return self.run(images)[0].reshape(len(images), -1)
        values = self.run(images, [last.tensor])[0].reshape(len(images), -1)
        return np.maximum(values, 0) if last.relu else values

    def _dims(self, declared: Sequence[object]) -> tuple[int, ...]:
        """Dimensions of a frame as the model declares them; a vector's length may be left open there."""
        dims = [n for n in declared[1:] if isinstance(n, int)]
        return tuple(dims) if len(dims) == len(declared) - 1 else (self.input_shape.size,)

    def _cannot_run(self, error: Exception) -> ConversionError:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return ConversionError(f"{self.path}: ONNX Runtime cannot run it: {first}")


def expand_groups(layer: FloatLayer) -> FloatLayer:
    """The layer itself, or a grouped convolution as an ordinary one: zeros from the channels of other groups."""
    if layer.groups == 1:
        return layer
    assert layer.weights is not None
    outputs, taken = layer.weights.shape[:2]
    weights = np.zeros((outputs, taken * layer.groups, *layer.weights.shape[2:]))
    each = outputs // layer.groups
    for group in range(layer.groups):
        of_group = np.s_[group * each : (group + 1) * each]
        weights[of_group, group * taken : (group + 1) * taken] = layer.weights[of_group]
    return replace(layer, weights=weights, groups=1)


def hardware_form(network: FloatNetwork) -> FloatNetwork:
    """The network with all groups expanded.

    Raises
    ------
    ConversionError : one line that names the layer that hardware does not build, why, and what could be done
    """
    for layer in network.layers:
        if layer.kind == "maxpool" and (refusal := refused_by_hardware(pool_of(layer))):
            raise ConversionError(f"{network.path}: layer {layer.name!r}: {'; '.join(refusal)}")
    return replace(network, layers=tuple(expand_groups(layer) for layer in network.layers))


def pool_of(layer: FloatLayer, source: str = "input") -> MaxPool:
    """A max-pooling layer as the network has it."""
    return MaxPool(name=layer.name, source=source, window=layer.window, stride=layer.stride, padding=layer.padding)
