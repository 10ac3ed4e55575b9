"""The ONNX file of a fine-tuned network: its layers as plain nodes, weights in units of thresholds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from model.importers.float_network import FloatNetwork, FloatProjection
from model.network import INPUT, Shape
from model.training.quantized_layers import Folded

__all__ = ["tuned_model"]

_OPSET = 17


@dataclass(frozen=True)
class _Value:
    """A tensor, and whether it is a vector."""

    name: str
    is_flat: bool


class _Graph:
    """Nodes and constants in order."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, values: npt.NDArray[Any]) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add(self, operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [f"{name}/out"], name=name, **attributes))
        return f"{name}/out"

    def flat(self, value: _Value, name: str) -> str:
        """The tensor as a vector, for the node of that name."""
        return value.name if value.is_flat else self.add("Flatten", [value.name], f"{name}/flat", axis=1)

    def image(self, value: _Value, shape: Shape, name: str) -> str:
        """The tensor as an image, for the node of that name."""
        if not value.is_flat:
            return value.name
        sizes = np.array([-1, shape.channels, shape.height, shape.width], np.int64)
        return self.add("Reshape", [value.name, self.constant(f"{name}.shape", sizes)], f"{name}/positions")


def tuned_model(floats: FloatNetwork, layers: Iterable[Folded], name: str) -> onnx.ModelProto:
    """The model, its outputs in the order of the start's classes. The same weights give the same bytes.

    Parameters
    ----------
    floats : FloatNetwork
        Gives the structure.
    layers : iterable of Folded
        The layers of neurons, in order.
    name : str
        Of the graph.
    """
    graph, left = _Graph(), iter(layers)
    values = {INPUT: _Value("image", False)}
    for layer in floats.layers:
        if layer.kind == "maxpool":
            source = graph.image(values[layer.source], floats.shape_of(layer.source), layer.name)
            values[layer.name] = _Value(graph.add("MaxPool", [source], layer.name, **_window(layer)), False)
            continue
        folded = next(left)
        found = _driven(graph, floats, folded, values)
        limits = folded.limits
        if layer.relu and np.isfinite(limits.most):
            ends = (np.array(end, np.float32) for end in (0.0, limits.most))
            named = [graph.constant(f"{layer.name}.{which}", end) for which, end in zip(("least", "most"), ends, strict=True)]
            found = _Value(graph.add("Clip", [found.name, *named], f"{layer.name}/clip"), found.is_flat)
        elif layer.relu:
            found = _Value(graph.add("Relu", [found.name], f"{layer.name}/relu"), found.is_flat)
        values[layer.name] = found
    last = floats.layers[-1].name
    output, sizes = floats.shape_of(last), [floats.outputs]
    if output.height * output.width > 1 and output.channels > 1:
        # Classes go by address, channels last; a file that ends in an image has them channels first.
        turned = graph.add("Transpose", [values[last].name], f"{last}/by_address", perm=[0, 2, 3, 1])
        graph.add("Flatten", [turned], f"{last}/by_address/flat", axis=1)
    elif not values[last].is_flat:
        sizes = [output.channels, output.height, output.width]
    dims: list[str | int | None] = ["frames", *sizes]
    graph.nodes[-1].output[0] = "scores"
    height, width, channels = floats.input_shape
    made = helper.make_graph(
        graph.nodes,
        name,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["frames", channels, height, width])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, dims)],
        graph.constants,
    )
    model = helper.make_model(made, producer_name="tally", ir_version=8, opset_imports=[helper.make_opsetid("", _OPSET)])
    onnx.checker.check_model(model, full_check=True)
    return model


def _driven(graph: _Graph, floats: FloatNetwork, folded: Folded, values: Mapping[str, _Value]) -> _Value:
    """What a layer's inputs bring it together, its bias included."""
    layer, bias = folded.layer, folded.bias.detach().numpy()
    found: _Value | None = None
    # Its own name has the node that gives the whole.
    last = len(layer.inputs) - 1
    for number, (taken, own) in enumerate(zip(layer.inputs, folded.weights, strict=True)):
        name = layer.name if last == 0 else f"{layer.name}/input{number}"
        by_channel = bias if number == 0 and bias.ndim == 1 else None
        value = _taken(graph, taken, floats.shape_of(taken.source), own.detach().numpy(), by_channel, values[taken.source], name)
        if found is None:
            found = value
            if bias.ndim == 3:
                by_position = graph.constant(f"{layer.name}.bias", bias.transpose(2, 0, 1)[np.newaxis])
                found = _Value(graph.add("Add", [value.name, by_position], f"{name}/bias"), False)
        else:
            shape = floats.shape_of(layer.name)
            if found.is_flat and not value.is_flat:
                value = _Value(graph.flat(value, name), True)
            elif value.is_flat and not found.is_flat:
                value = _Value(graph.image(value, shape, f"{name}/sum"), False)
            whole = layer.name if number == last else f"{layer.name}/sum{number}"
            found = _Value(graph.add("Add", [found.name, value.name], whole), found.is_flat)
    assert found is not None
    return found


def _taken(
    graph: _Graph,
    taken: FloatProjection,
    shape: Shape,
    weights: npt.NDArray[Any],
    bias: npt.NDArray[Any] | None,
    value: _Value,
    name: str,
) -> _Value:
    """What an input of a layer brings it."""
    parameters = f"{name}.weight", f"{name}.bias"
    if taken.averaged != (1, 1):
        windows = list(taken.averaged)
        image = graph.image(value, shape, name)
        value = _Value(graph.add("AveragePool", [image], f"{name}/average", kernel_shape=windows, strides=windows), False)
    if taken.kind == "linear":
        # From channel-minor addresses to the file's order.
        weights = weights.reshape(-1, *taken.taken(shape)).transpose(0, 3, 1, 2).reshape(len(weights), -1)
        inputs = [graph.flat(value, name), graph.constant(parameters[0], weights)]
        inputs += [] if bias is None else [graph.constant(parameters[1], bias)]
        return _Value(graph.add("Gemm", inputs, name, transB=1), True)
    more: dict[str, Any] = {"group": taken.groups, **_window(taken)}
    if taken.kind == "transposed":
        # Inputs come first in the file.
        weights = weights.reshape(taken.groups, -1, *weights.shape[1:]).swapaxes(1, 2)
        weights = weights.reshape(-1, *weights.shape[2:])
        more["output_padding"] = list(taken.more)
    inputs = [graph.image(value, shape, name), graph.constant(parameters[0], weights)]
    inputs += [] if bias is None else [graph.constant(parameters[1], bias)]
    return _Value(graph.add("ConvTranspose" if taken.kind == "transposed" else "Conv", inputs, name, **more), False)


def _window(layer: Any) -> dict[str, list[int]]:
    return {"kernel_shape": list(layer.window), "strides": list(layer.stride), "pads": list(layer.padding)}
