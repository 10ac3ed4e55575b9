"""The ONNX file of a fine-tuned network: its layers as plain nodes, weights in units of thresholds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from model.importers.float_network import FloatNetwork
from model.network import Shape
from model.training.quantized_layers import Folded

__all__ = ["tuned_model"]

_OPSET = 17


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


def tuned_model(floats: FloatNetwork, layers: Iterable[Folded], name: str) -> onnx.ModelProto:
    """The model. The same weights give the same bytes.

    Parameters
    ----------
    floats : FloatNetwork
        Gives the structure.
    layers : iterable of Folded
        The layers of neurons, in order.
    name : str
        Of the graph.
    """
    graph, left, value, is_flat = _Graph(), iter(layers), "image", False
    for layer, shape, output in floats.walk():  # noqa: B007 - the last one's is the network's
        if is_flat and layer.kind != "linear":
            value = graph.add("Reshape", [value, _target(graph, layer.name, shape)], f"{layer.name}/positions")
            is_flat = False
        if layer.kind == "maxpool":
            value = graph.add("MaxPool", [value], layer.name, **_window(layer))
            continue
        folded = next(left)
        weights, bias = (tensor.detach().numpy() for tensor in (folded.weights, folded.bias))
        if layer.averaged != (1, 1):
            windows = list(layer.averaged)
            value = graph.add("AveragePool", [value], f"{layer.name}/average", kernel_shape=windows, strides=windows)
        if layer.kind == "linear":
            taken = layer.taken(shape)
            if not is_flat:
                value = graph.add("Flatten", [value], f"{layer.name}/flat", axis=1)
            # From channel-minor addresses to the file's order.
            weights = weights.reshape(-1, *taken).transpose(0, 3, 1, 2).reshape(len(weights), -1)
            parameters = [graph.constant(f"{layer.name}.weight", weights), graph.constant(f"{layer.name}.bias", bias)]
            value, is_flat = graph.add("Gemm", [value, *parameters], layer.name, transB=1), True
        elif bias.ndim == 1:
            parameters = [graph.constant(f"{layer.name}.weight", weights), graph.constant(f"{layer.name}.bias", bias)]
            value = graph.add("Conv", [value, *parameters], layer.name, group=layer.groups, **_window(layer))
        else:
            value = graph.add(
                "Conv", [value, graph.constant(f"{layer.name}.weight", weights)], layer.name, group=layer.groups, **_window(layer)
            )
            by_position = graph.constant(f"{layer.name}.bias", bias.transpose(2, 0, 1)[np.newaxis])
            value = graph.add("Add", [value, by_position], f"{layer.name}/bias")
        if layer.relu and np.isfinite(folded.limits.most):
            ends = (np.array(end, np.float32) for end in (0.0, folded.limits.most))
            limits = [graph.constant(f"{layer.name}.{which}", end) for which, end in zip(("least", "most"), ends, strict=True)]
            value = graph.add("Clip", [value, *limits], f"{layer.name}/clip")
        elif layer.relu:
            value = graph.add("Relu", [value], f"{layer.name}/relu")
    sizes = [floats.outputs] if is_flat else [output.channels, output.height, output.width]
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


def _window(layer: Any) -> dict[str, list[int]]:
    return {"kernel_shape": list(layer.window), "strides": list(layer.stride), "pads": list(layer.padding)}


def _target(graph: _Graph, name: str, shape: Shape) -> str:
    return graph.constant(f"{name}.shape", np.array([-1, shape.channels, shape.height, shape.width], np.int64))
