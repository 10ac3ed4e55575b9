"""The model that ONNX Runtime runs in place of the file: what of it the output depends on, in float32.

Types that ONNX Runtime has no convolutions of become float32, constants are the numbers that were read and computed, targets of
Reshape are written out, and a final Softmax, Sigmoid or Tanh is left out, so that the model gives scores. Of nodes that share a
name only the first has it, as ONNX Runtime asks. All else is the file's.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from model.importers.constants import Array
from model.importers.graph import OnnxGraph
from model.importers.quantized_nodes import ROUNDING, expanded
from model.importers.structure import FLOATS
from model.importers.tensors import Data

__all__ = ["runnable"]

_MICROSOFT = "com.microsoft"

_MONOTONIC = ("Softmax", "LogSoftmax", "Sigmoid", "Tanh")


def runnable(
    graph: OnnxGraph, start: Data, steps: Sequence[tuple[onnx.NodeProto, tuple[int, ...]]], output: str
) -> onnx.ModelProto:
    """The model to run.

    Parameters
    ----------
    graph : OnnxGraph
        The file's graph, with the nodes beside it for layers' outputs.
    start : Data
        The input.
    steps : sequence of (onnx.NodeProto, tuple of int)
        The nodes on the data's way, in order, with the dimensions of what they give.
    output : str
        The tensor with the outputs as numbers.
    """
    reached = {graph.input.name, *(node.output[0] for node, _ in steps)}
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, Array] = {}
    further: list[onnx.TensorProto] = []
    names: set[str] = set()
    for node, dims in steps:
        if node.op_type in ROUNDING:
            plain, of_plain = expanded(graph, node)
            nodes += plain
            further += of_plain
            continue
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        del copy.output[1:]
        if copy.name in names:
            copy.name = ""
        names.add(copy.name)
        if node.op_type in _MONOTONIC:
            copy.op_type = "Identity"
            del copy.attribute[:]
        elif node.op_type == "Cast" and helper.get_attribute_value(node.attribute[0]) in FLOATS:
            del copy.attribute[:]
            copy.attribute.append(helper.make_attribute("to", TensorProto.FLOAT))
        elif node.op_type == "Reshape":
            target = f"{node.output[0]}_target"
            copy.input[1] = target
            constants[target] = np.array([-1, *dims[1:]], np.int64)
            del copy.attribute[:]
        elif node.op_type == "Resize" and graph.opset >= 11:
            del copy.input[1:]
            copy.input.extend([f"{node.output[0]}_roi", f"{node.output[0]}_scales"])
        for name in copy.input:
            if name and name not in reached and name not in constants:
                constants[name] = graph.constants[name]
        nodes.append(copy)
    made = helper.make_graph(
        [*nodes, *graph.extra.node],
        "run",
        [
            helper.make_tensor_value_info(
                graph.input.name, TensorProto.UINT8 if graph.pixels else TensorProto.FLOAT, ["frames", *start.dims[1:]]
            )
        ],
        [helper.make_empty_tensor_value_info(output)],
        [
            *(numpy_helper.from_array(_float32(array), name) for name, array in constants.items()),
            *further,
            *graph.extra.initializer,
        ],
    )
    opsets = [helper.make_opsetid("", graph.opset)]
    if any(node.domain == _MICROSOFT for node in nodes):
        opsets.append(helper.make_opsetid(_MICROSOFT, 1))
    return helper.make_model(made, opset_imports=opsets, ir_version=8)


def _float32(array: Array) -> Array:
    with np.errstate(over="ignore"):
        return array.astype(np.float32) if array.dtype.kind == "f" else array
