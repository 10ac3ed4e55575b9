"""Constants of a graph: those that the file holds, as numbers of a float network, and those that it computes from them.

What is computed is bounded before it is computed: only operators whose output's size is known from their inputs alone.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from model.importers.float_network import ConversionError
from model.importers.limits import MOST_CONSTANTS
from model.importers.operators import is_supported
from model.importers.quantizer import computed
from model.importers.schema import wrong_tensor
from model.importers.structure import printable

__all__ = ["COMPUTED", "QUANTIZERS", "Array", "constants_of", "drops"]

Array = npt.NDArray[np.generic]

QUANTIZERS = ("QuantizeLinear", "DequantizeLinear", "Quant", "IntQuant", "BipolarQuant", "Trunc")
"""Operators that quantize and dequantize."""

_NARROW = ("float16", "bfloat16")


def constants_of(path: Path, model: onnx.ModelProto) -> dict[str, Array]:
    """All constants of the model, by name; numbers of 16 bits as float32.

    Parameters
    ----------
    path : Path
        Named in errors.
    model : onnx.ModelProto
        Its nodes in an order in which each comes after those that it takes its inputs from.

    Raises
    ------
    ConversionError
        One line that names an initializer that does not hold what it says.
    """
    for tensor in model.graph.initializer:
        if wrong := wrong_tensor(tensor):
            raise ConversionError(f"{path}: initializer {printable(tensor.name)!r}: {wrong}")
    found = {tensor.name: _plain(numpy_helper.to_array(tensor)) for tensor in model.graph.initializer}
    opsets = [helper.make_opsetid(o.domain, o.version) for o in model.opset_import]
    left = MOST_CONSTANTS + sum(array.size for array in found.values())
    for node in model.graph.node:
        if any(name and name not in found for name in node.input):
            continue
        inputs = [found[name] if name else None for name in node.input]
        size = None if drops(node, found) else _size(node, inputs)
        if size is None or size > left:
            continue
        for name, array in _computed(node, opsets, found).items():
            found[name] = array
            left -= array.size
    return found


def _plain(array: Array) -> Array:
    return array.astype(np.float32) if array.dtype.name in _NARROW else array


def _computed(node: onnx.NodeProto, opsets: Sequence[onnx.OperatorSetIdProto], known: dict[str, Array]) -> dict[str, Array]:
    """The outputs of a node; none where it cannot be run: that matters only where they are used, and is told there."""
    if node.op_type in QUANTIZERS:
        return _quantized(node, known)
    fed = {name: known[name] for name in node.input if name}
    graph = helper.make_graph(
        [node],
        "constant",
        [helper.make_empty_tensor_value_info(name) for name in fed],
        [helper.make_empty_tensor_value_info(name) for name in node.output],
    )
    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(helper.make_model(graph, opset_imports=opsets)).run(None, fed)
        arrays = [_plain(np.asarray(result)) for result in results]
        return dict(zip(node.output, arrays, strict=True))
    except Exception:  # the reference raises whatever its numpy code raises
        return {}


def _quantized(node: onnx.NodeProto, known: dict[str, Array]) -> dict[str, Array]:
    try:
        with np.errstate(all="ignore"):
            found = computed(node, [known[name] if name else None for name in node.input])
    except (ValueError, IndexError, TypeError):  # shapes that do not meet
        found = None
    return {} if found is None else {node.output[0]: found}


_Sizes = Callable[[onnx.NodeProto, Sequence[Array]], int]


def _of_inputs(node: onnx.NodeProto, inputs: Sequence[Array]) -> int:
    """No more elements than the inputs have."""
    return sum(array.size for array in inputs) + 64


def _broadcast(node: onnx.NodeProto, inputs: Sequence[Array]) -> int:
    return math.prod(np.broadcast_shapes(*(array.shape for array in inputs)))


def _of_shape(node: onnx.NodeProto, inputs: Sequence[Array]) -> int:
    return math.prod(int(n) for n in inputs[0].reshape(-1))


def _expanded(node: onnx.NodeProto, inputs: Sequence[Array]) -> int:
    return math.prod(max(1, int(n)) for n in inputs[1].reshape(-1)) * inputs[0].size


def _ranged(node: onnx.NodeProto, inputs: Sequence[Array]) -> int:
    start, limit, step = (float(array.reshape(-1)[0]) for array in inputs)
    return max(0, math.ceil((limit - start) / step))


def _padded(node: onnx.NodeProto, inputs: Sequence[Array]) -> int:
    shape, pads = inputs[0].shape, [int(n) for n in inputs[1].reshape(-1)]
    return math.prod(n + pads[i] + pads[i + len(shape)] for i, n in enumerate(shape))


def _gathered(node: onnx.NodeProto, inputs: Sequence[Array]) -> int:
    return inputs[0].size * max(1, inputs[1].size)


def _multiplied(node: onnx.NodeProto, inputs: Sequence[Array]) -> int:
    """The multiplications of a product of matrices, which are more than its elements."""
    return max(array.size for array in inputs[:2]) * max(array.shape[-1] for array in inputs[:2])


_SIZES: dict[str, _Sizes] = {
    "Constant": lambda node, inputs: 1,
    "ConstantOfShape": _of_shape,
    **dict.fromkeys(
        (
            *("Identity", "Cast", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Split", "Concat"),
            *("Shape", "Size", "Neg", "Abs", "Sqrt", "Reciprocal", "Exp", "Log", "Floor", "Ceil", "Not", "Dropout"),
            *("ReduceMean", "ReduceSum", "ReduceProd", "ReduceMax", "ReduceMin", "Clip", "Sign", "Round", "CastLike"),
        ),
        _of_inputs,
    ),
    **dict.fromkeys(
        ("Add", "Sub", "Mul", "Div", "Pow", "Mod", "Equal", "Less", "Greater", "And", "Or", "Where", "Min", "Max"), _broadcast
    ),
    **dict.fromkeys(("Expand", "Tile"), _expanded),
    "Range": _ranged,
    "Pad": _padded,
    "Gather": _gathered,
    **dict.fromkeys(("MatMul", "Gemm"), _multiplied),
}
"""The operators that are computed ahead, and of each a bound of the elements that it gives, or works on."""

COMPUTED = tuple(_SIZES)
"""The operators that are computed ahead where all their inputs are constants."""


def drops(node: onnx.NodeProto, constants: Mapping[str, Array]) -> bool:
    """Whether a node is a Dropout that really drops: what it gives is random."""
    if node.op_type != "Dropout" or len(node.input) < 3 or node.input[2] not in constants:
        return False
    return bool(constants[node.input[2]].any())


def _size(node: onnx.NodeProto, inputs: Sequence[Array | None]) -> int | None:
    """At most so many elements; None where the node is not computed ahead."""
    if node.op_type in QUANTIZERS and is_supported(node.op_type, node.domain) and inputs and inputs[0] is not None:
        return inputs[0].size
    if node.op_type not in _SIZES or node.domain not in ("", "ai.onnx"):
        return None
    if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute):
        return None
    try:
        return _SIZES[node.op_type](node, [array for array in inputs if array is not None])
    except (ValueError, IndexError, ZeroDivisionError, OverflowError, TypeError):
        return None
