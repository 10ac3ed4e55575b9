"""Fuzzing of ONNX files."""

import random
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from model.conversion.from_quantized import quantized_lines
from model.importers.float_network import FloatNetwork
from model.importers.onnx import examine
from sim.fuzzing.messages import edited_message
from sim.fuzzing.targets import RefusedError, Target, WrongError
from sim.generators.onnx_graphs import TWO, Graph
from sim.generators.random_onnx_graphs import RandomGraph

__all__ = ["TARGET"]

_OPERATORS = (
    *("Conv", "ConvTranspose", "Gemm", "MatMul", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool", "Flatten"),
    *("Reshape", "Transpose", "BatchNormalization", "Add", "Sub", "Mul", "Div", "Sum", "Concat", "Pad", "Squeeze", "Unsqueeze"),
    *("ReduceMean", "Softmax", "Sigmoid", "Tanh", "Identity", "Cast", "Constant", "Resize", "Upsample", "Dropout", "Elu"),
    *("QuantizeLinear", "DequantizeLinear", "LeakyRelu", "HardSwish", "Loop", "If", "Scan", "LSTM", "ConstantOfShape", "Expand"),
    *("Tile", "Shape", "Slice", "Split", "Gather", "Min", "Max", "Floor", "Round", "Quant", "QLinearConv", "group"),
    *("com.microsoft", "kernel_shape", "strides", "pads", "dilations", "auto_pad", "SAME_UPPER"),
    *("axis", "axes", "perm", "alpha", "ceil_mode"),
)

_SCORES = ("Softmax", "LogSoftmax", "Sigmoid", "Tanh")
"""Operators at an end that are left out, as the greatest score stays the greatest."""

_TOLERANCE = 2e-3
"""Differences, as a part of the greatest output, that are rounding."""


def _quantized() -> onnx.ModelProto:
    """A convolution and a linear layer between quantizers, with scales that are powers of two."""
    rng = np.random.default_rng(0)
    constants = {
        "k1": rng.integers(-8, 9, (3, 2, 3, 3)).astype(np.int8),
        "k2": rng.integers(-8, 9, (4, 108)).astype(np.int8),
        "scale": np.float32(2.0**-4),
        "zero": np.uint8(0),
        "signed": np.int8(0),
        "b1": (rng.integers(-30, 30, 3) * 2.0**-8).astype(np.float32),
        "b2": (rng.integers(-30, 30, 4) * 2.0**-8).astype(np.float32),
    }

    def levels(name: str, of: str, zero: str = "zero") -> list[onnx.NodeProto]:
        return [
            helper.make_node("QuantizeLinear", [of, "scale", zero], [f"{name}_q"], name=f"{name}_q"),
            helper.make_node("DequantizeLinear", [f"{name}_q", "scale", zero], [name], name=name),
        ]

    nodes = [
        *levels("pixels", "image"),
        *(helper.make_node("DequantizeLinear", [f"k{n}", "scale", "signed"], [f"w{n}"], name=f"w{n}") for n in (1, 2)),
        helper.make_node("Conv", ["pixels", "w1", "b1"], ["c"], name="conv"),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        *levels("hidden", "r"),
        helper.make_node("Flatten", ["hidden"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "w2", "b2"], ["out"], name="fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "quantized",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["frames", 2, 8, 8])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@cache
def _seeds() -> tuple[bytes, ...]:
    plain = [
        Graph().conv(3, 2, 3).add("Relu").add("MaxPool", **TWO).add("Flatten").linear(27, 4),
        Graph(opset=7).conv(3, 2, 3, strides=[2, 2], pads=[1] * 4).norm(3).add("Relu").add("Flatten").linear(48, 3),
        Graph(opset=11).add("Pad", pads=[0, 0, 1, 1] * 2).conv(4, 2, 3).add("Clip", min=0.0, max=6.0).add("Flatten"),
        Graph(opset=21).add("Div", np.array(2.0)).conv(4, 1, 3, group=2).add("GlobalAveragePool").add("Flatten").linear(4, 2),
        Graph(shape=("frames", 6)).linear(6, 5).add("Relu").linear(5, 3).add("Softmax", axis=-1),
        Graph(shape=(1, 1, 8, 8)).add("AveragePool", **TWO).add("Reshape", np.array([-1, 16])).linear(16, 3),
    ]
    branched = [RandomGraph(np.random.default_rng(seed)).graph for seed in (2, 5, 12)]
    models = [graph.model() for graph in (*plain, *branched)] + [_quantized()]
    return tuple(model.SerializeToString() for model in models)


def _mutated(content: bytes, chance: random.Random) -> bytes:
    return edited_message(content, onnx.ModelProto, chance, _OPERATORS)


def _read(content: bytes, folder: Path) -> str:
    path = folder / "net.onnx"
    path.write_bytes(content)
    found = examine(path)
    if found.network is None:
        assert found.error is not None
        message = str(found.error)
        kind = "damaged" if "damaged or out of the ordinary" in message else "node" if found.error.node else "file"
        raise RefusedError(message, kind=f"ConversionError, {kind}") from found.error
    if found.network.quantized:
        quantized_lines(found.network)
    return _compared(content, found.network)


def _compared(content: bytes, network: FloatNetwork) -> str:
    """Compare with ONNX Runtime what the layers were compared with: the file as it was rewritten."""
    own, file = network.model, onnx.load_model_from_string(content)
    if len(file.graph.output) != 1 or any(node.op_type in _SCORES for node in file.graph.node) or network.pixels:
        return "layers = the file's nodes"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    # As the file says it, and sooner.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    frames = np.random.default_rng(2).random((1, *network.input_shape), np.float32)
    fed = frames if network.channels_last else frames.transpose(0, 3, 1, 2)
    dims = [dim.dim_value for dim in own.graph.input[0].type.tensor_type.shape.dim]
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        (theirs,) = session.run(None, {own.graph.input[0].name: fed.reshape(1, *dims[1:])})
    except Exception:
        # It has no operator of that type, or the file says of more or other frames what need not be so.
        return "layers = the file's nodes"
    ours = network.run(frames)[0]
    if ours.size != theirs.size:
        raise WrongError(f"the file's outputs must be as many as ONNX Runtime gives, {theirs.size}, not {ours.size}")
    if network.quantized:
        # A sum half way between two levels may be rounded to either.
        return "layers = ONNX Runtime, as many outputs"
    ours, theirs = ours.reshape(-1).astype(np.float64), np.asarray(theirs).reshape(-1).astype(np.float64)
    scale = max(np.abs(ours).max(), np.abs(theirs).max(), 1e-4)
    difference = np.abs(ours - theirs).max()
    if not difference <= _TOLERANCE * scale:
        raise WrongError(f"outputs must be those of ONNX Runtime, which differ by up to {difference:.4g} of {scale:.4g}")
    return "layers = ONNX Runtime"


TARGET = Target(name="onnx", ending=".onnx", seeds=_seeds, mutated=_mutated, read=_read, seconds=20.0)
