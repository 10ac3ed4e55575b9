"""Trained networks from ONNX files, as a chain of float layers.

What is supported is a chain: Conv, Gemm, MatMul with Add, BatchNormalization behind one of them, Relu, MaxPool, and
what changes nothing in inference: Flatten, Reshape to a vector, Dropout, Identity, a final Softmax. Anything else is
named with its node.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from onnx import helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from model.network import Padding, Shape

__all__ = ["SUPPORTED", "ConversionError", "FloatLayer", "FloatNetwork", "NodeReport", "import_onnx", "report_nodes"]

Floats = npt.NDArray[np.float64]

SUPPORTED = {
    "Conv": "convolution",
    "Gemm": "linear layer",
    "MatMul": "linear layer, with the Add behind it",
    "Add": "bias of the MatMul before it",
    "BatchNormalization": "folded into the layer before it",
    "Relu": "activation of the layer before it",
    "MaxPool": "max-pooling on counts",
    "Flatten": "change of address",
    "Reshape": "change of address, to a vector",
    "Dropout": "nothing in inference",
    "Identity": "nothing",
    "Softmax": "nothing: does not change the arg-max",
    "LogSoftmax": "nothing: does not change the arg-max",
}
"""What becomes of each operator."""

_REMEDIES = {
    "AveragePool": "use MaxPool, or a convolution with that stride",
    "GlobalAveragePool": "flatten and use a linear layer",
    "Transpose": "export with input and weights in the order (frames, channels, height, width)",
    "Sigmoid": "train with ReLU",
    "Tanh": "train with ReLU",
    "LeakyRelu": "train with ReLU",
    "Gelu": "train with ReLU",
    "Clip": "train with ReLU",
    "Concat": "networks must be a chain: leave out branches",
    "LSTM": "recurrent layers have no event-driven form here",
    "GRU": "recurrent layers have no event-driven form here",
    "RNN": "recurrent layers have no event-driven form here",
}


_PASSING = ("Identity", "Dropout", "Flatten", "Reshape", "Softmax", "LogSoftmax")
"""What may stand behind a final Softmax."""


class ConversionError(ValueError):
    """A file or a node of it cannot be converted; the message names it.

    ``reason`` is the message without the file and the node, where it is about a node.
    """

    reason = ""


@dataclass(frozen=True, kw_only=True)
class FloatLayer:
    """A layer of the float network.

    Parameters
    ----------
    kind : ``"convolution"``, ``"linear"`` or ``"maxpool"``
    name : identifier made of the node's name
    weights, bias : as in `model.network`, linear weights by channel-minor address; None for pooling
    window, stride, padding : of convolution and pooling
    relu : whether a ReLU follows
    tensor : name of the tensor after the layer and its ReLU
    """

    kind: str
    name: str
    tensor: str
    weights: Floats | None = None
    bias: Floats | None = None
    window: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: Padding = Padding()
    relu: bool = False


@dataclass(frozen=True, kw_only=True)
class FloatNetwork:
    """The float network: a chain of layers, and the ONNX model that it was read from."""

    path: Path
    input_name: str
    input_shape: Shape
    layers: tuple[FloatLayer, ...]
    model: onnx.ModelProto

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
        for name in tensors:
            if name != output:
                model.graph.output.append(helper.make_empty_tensor_value_info(name))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions have no public base
            raise self._cannot_run(error) from error
        frames = np.ascontiguousarray(images.astype(np.float32).transpose(0, 3, 1, 2))
        wanted = list(tensors) or [output]
        batch = session.get_inputs()[0].shape[0]
        if len(session.get_inputs()[0].shape) == 2:
            frames = frames.reshape(len(frames), -1)
        size = batch if isinstance(batch, int) else 256
        parts: list[list[npt.NDArray[np.float32]]] = [[] for _ in wanted]
        for at in range(0, len(frames), size):
            chunk = frames[at : at + size]
            short = size - len(chunk) if isinstance(batch, int) else 0
            fed = np.concatenate([chunk, np.zeros((short, *chunk.shape[1:]), np.float32)]) if short else chunk
            try:
                results = session.run(wanted, {self.input_name: fed})
            except Exception as error:  # as above
                raise self._cannot_run(error) from error
            for part, found in zip(parts, results, strict=True):
                part.append(found[: len(chunk)])
        return [np.concatenate(part) for part in parts]

    def _cannot_run(self, error: Exception) -> ConversionError:
        return ConversionError(f"{self.path}: ONNX Runtime cannot run it: {_first_line(error)}")


@dataclass(frozen=True)
class NodeReport:
    """What becomes of one node of a file."""

    name: str
    operator: str
    supported: bool
    what: str


def report_nodes(path: Path | str) -> list[NodeReport]:
    """Every node of the file, with what becomes of it, or why not and what could be done.

    Raises
    ------
    ConversionError : the file itself is not what it must be
    """
    path = Path(path)
    with _damage_in_one_line(path):
        return _Importer(path, _load(path)).report()


def import_onnx(path: Path | str) -> FloatNetwork:
    """Read an ONNX file.

    Raises
    ------
    ConversionError : one line that names the file, the node and its operator, and what could be done
    """
    path = Path(path)
    with _damage_in_one_line(path):
        return _Importer(path, _load(path)).run()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def _damage_in_one_line(path: Path) -> Iterator[None]:
    """A damaged file can break the reading of any field in any way: that too is one line with its name."""
    try:
        yield
    except ConversionError:
        raise
    except Exception as error:
        found = f"{type(error).__name__}: {_first_line(error)}"
        raise ConversionError(f"{path}: must be a valid ONNX file, is damaged or out of the ordinary ({found})") from error


def _load(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(str(path))
    except OSError as error:
        raise ConversionError(f"{path}: cannot be read: {error.strerror or _first_line(error)}") from None
    except (DecodeError, ValueError, onnx.checker.ValidationError) as error:
        raise ConversionError(f"{path}: must be an ONNX file: {_first_line(error)}") from None
    if not model.graph.node:
        raise ConversionError(f"{path}: must be an ONNX file with a graph")
    return model


class _Importer:
    """Follows the data from the input through the chain of nodes to the output."""

    def __init__(self, path: Path, model: onnx.ModelProto) -> None:
        self.path = path
        self.model = model
        graph = model.graph
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        inputs = [value for value in graph.input if value.name not in self.constants]
        if len(inputs) != 1 or len(graph.output) != 1:
            raise ConversionError(
                f"{path}: must have one input and one output, not {len(inputs)} and {len(graph.output)}"
            )
        self.input = inputs[0]
        self.names: set[str] = set()
        self.softmax: onnx.NodeProto | None = None
        self.layers: list[FloatLayer] = []

    def run(self) -> FloatNetwork:
        shape = self._input_shape()
        input_shape = shape
        flat = self._input_rank() == 2
        self._fold_constants()
        for node in self._chain():
            shape, flat = self._step(node, shape, flat)
        if not any(layer.kind != "maxpool" for layer in self.layers):
            raise ConversionError(f"{self.path}: must have a Conv, Gemm or MatMul node")
        return FloatNetwork(
            path=self.path,
            input_name=self.input.name,
            input_shape=input_shape,
            layers=tuple(self.layers),
            model=self.model,
        )

    def report(self) -> list[NodeReport]:
        """As `run`, but goes on behind a node that cannot be converted, with the shape that ONNX infers."""
        shape = self._input_shape()
        flat = self._input_rank() == 2
        self._fold_constants()
        inferred = self._inferred_dims()
        data, reports = {self.input.name}, []
        for index, node in enumerate(self.model.graph.node):
            name = node.name or f"{node.op_type}_{index}"
            arriving = [value for value in node.input if value in data]
            if not arriving or node.op_type in ("Shape", "Size"):
                reports.append(NodeReport(name, node.op_type, True, "constant, or arithmetic on shapes: not in the data's path"))
                continue
            data.update(node.output)
            try:
                if node.op_type not in SUPPORTED or node.domain not in ("", "ai.onnx"):
                    raise self._unsupported(node)
                if len(arriving) != 1:
                    raise self._branches(node, len(arriving))
                shape, flat = self._step(node, shape, flat)
                reports.append(NodeReport(name, node.op_type, True, SUPPORTED[node.op_type]))
            except ConversionError as error:
                reports.append(NodeReport(name, node.op_type, False, error.reason))
                dims = inferred.get(node.output[0], [])
                if len(dims) == 4 and min(dims[1:]) > 0:
                    shape, flat = Shape(dims[2], dims[3], dims[1]), False
                elif len(dims) == 2 and dims[1] > 0:
                    shape, flat = Shape(1, 1, dims[1]), True
        return reports

    def _step(self, node: onnx.NodeProto, shape: Shape, flat: bool) -> tuple[Shape, bool]:
        if self.softmax is not None and node.op_type not in _PASSING:
            raise self._error(self.softmax, "is supported at the network's end only; train without it")
        shape, flat = self._node(node, shape, flat)
        if self.layers and node.op_type not in ("MaxPool", "Softmax", "LogSoftmax"):
            self._retarget(node.output[0], node.op_type)
        return shape, flat

    def _error(self, node: onnx.NodeProto, message: str) -> ConversionError:
        name = node.name or node.output[0]
        error = ConversionError(f"{self.path}: node {name!r} ({node.op_type}): {message}")
        error.reason = message
        return error

    def _unsupported(self, node: onnx.NodeProto) -> ConversionError:
        remedy = _REMEDIES.get(node.op_type, "leave it out or replace it")
        return self._error(node, f"operator {node.op_type} is not supported; {remedy}")

    def _branches(self, node: onnx.NodeProto, found: int) -> ConversionError:
        return self._error(node, f"must have one input that is not a constant, not {found}; branches are not supported")

    def _input_rank(self) -> int:
        return len(self.input.type.tensor_type.shape.dim)

    def _inferred_dims(self) -> dict[str, list[int]]:
        """Of each tensor the dimensions that shape inference finds, -1 where it does not know; none where it fails."""
        try:
            graph = shape_inference.infer_shapes(self.model, data_prop=True).graph
        except Exception:  # a graph that it cannot follow is reported node by node without it
            return {}
        return {
            value.name: [d.dim_value if d.HasField("dim_value") else -1 for d in value.type.tensor_type.shape.dim]
            for value in [*graph.value_info, *graph.output]
        }

    def _input_shape(self) -> Shape:
        dims = [d.dim_value if d.HasField("dim_value") else 0 for d in self.input.type.tensor_type.shape.dim]
        if len(dims) == 2 and dims[1] > 0:
            return Shape(1, 1, dims[1])
        if len(dims) == 4 and min(dims[1:]) > 0:
            return Shape(dims[2], dims[3], dims[1])
        raise ConversionError(
            f"{self.path}: input {self.input.name!r} must have shape (frames, channels, height, width) or "
            f"(frames, features), not {tuple(d or '?' for d in dims)}"
        )

    def _fold_constants(self) -> None:
        opset = [helper.make_opsetid(o.domain, o.version) for o in self.model.opset_import]
        for node in self.model.graph.node:
            if any(name and name not in self.constants for name in node.input) or node.op_type.startswith("Random"):
                continue
            graph = helper.make_graph(
                [node],
                "constant",
                [],
                [helper.make_empty_tensor_value_info(name) for name in node.output],
                [numpy_helper.from_array(self.constants[name], name) for name in node.input if name],
            )
            try:
                results = ReferenceEvaluator(helper.make_model(graph, opset_imports=opset)).run(None, {})
            except Exception:  # what cannot be folded matters only where its value is used: `_constant` names it there
                continue
            self.constants.update(zip(node.output, map(np.asarray, results), strict=True))

    def _chain(self) -> list[onnx.NodeProto]:
        """The nodes from the input to the output; each has one input that is not a constant."""
        producers = {name: node for node in self.model.graph.node for name in node.output}
        value, found = self.model.graph.output[0].name, []
        while value != self.input.name:
            if value not in producers:
                raise ConversionError(f"{self.path}: output must depend on input {self.input.name!r}")
            node = producers[value]
            found.append(node)
            if node.op_type not in SUPPORTED or node.domain not in ("", "ai.onnx"):
                raise self._unsupported(node)
            arguments = node.input[: 2 if node.op_type in ("Add", "MatMul") else 1]
            data = [name for name in arguments if name not in self.constants]
            if len(data) != 1:
                raise self._branches(node, len(data))
            value = data[0]
        return found[::-1]

    def _identifier(self, node: onnx.NodeProto) -> str:
        name = "".join(c if c.isalnum() and c.isascii() else "_" for c in node.name.strip("/")) or node.op_type.lower()
        base = name if not name[0].isdigit() and name != "input" else f"layer_{name}"
        name, number = base, 2
        while name in self.names:
            name, number = f"{base}_{number}", number + 1
        self.names.add(name)
        return name

    def _retarget(self, value: str, operator: str) -> None:
        """The layer's tensor is the one behind its ReLU; pools behind which a ReLU stands keep their own."""
        last = self.layers[-1]
        if last.kind != "maxpool" and operator in ("Conv", "Gemm", "MatMul", "Add", "BatchNormalization", "Relu"):
            self.layers[-1] = replace(last, tensor=value)

    def _attributes(self, node: onnx.NodeProto, allowed: Sequence[str]) -> dict[str, Any]:
        found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if unknown := set(found) - set(allowed):
            raise self._error(node, f"attribute {sorted(unknown)[0]!r} is not supported")
        return found

    def _node(self, node: onnx.NodeProto, shape: Shape, flat: bool) -> tuple[Shape, bool]:
        operator = node.op_type
        if operator in ("Conv", "MaxPool") and flat:
            raise self._error(node, f"input must be (frames, channels, height, width), not a vector of {shape.size}")
        if operator == "Conv":
            return self._convolution(node, shape), False
        if operator in ("Gemm", "MatMul"):
            return self._linear(node, shape, flat), True
        if operator == "Add":
            self._add(node, flat)
        elif operator == "BatchNormalization":
            self._normalize(node)
        elif operator == "Dropout":
            if len(node.input) > 2 and node.input[2] and self._constant(node, 2).any():
                raise self._error(node, "training_mode must be false; export the network in evaluation mode")
        elif operator == "Relu":
            self._relu()
        elif operator == "MaxPool":
            return self._pool(node, shape), False
        elif operator == "Flatten":
            axis = self._attributes(node, ("axis",)).get("axis", 1)
            if axis not in (1, -3 if not flat else -1):
                raise self._error(node, f"axis must be 1, not {axis}")
            return shape, True
        elif operator == "Reshape":
            return shape, self._reshape(node, shape, flat)
        elif operator in ("Softmax", "LogSoftmax"):
            axis = self._attributes(node, ("axis",)).get("axis", 1 if flat else -1)
            if shape.height * shape.width > 1 or axis not in ((1, -1) if flat else (1, -3)):
                raise self._error(node, f"must be over all outputs of a vector, not over axis {axis} of shape {shape}")
            self.softmax = node
        return shape, flat

    def _window(
        self, node: onnx.NodeProto, attributes: dict[str, Any], shape: Shape, kernel: tuple[int, int]
    ) -> tuple[tuple[int, int], Padding]:
        strides = attributes.get("strides", [1, 1])
        pads = [int(n) for n in attributes.get("pads", [0, 0, 0, 0])]
        if len(strides) != 2 or len(pads) != 4:
            raise self._error(node, f"strides must have 2 values and pads 4, not {len(strides)} and {len(pads)}")
        stride = (int(strides[0]), int(strides[1]))
        if min(stride) < 1:
            raise self._error(node, f"strides must be at least 1, not {list(stride)}")
        auto = attributes.get("auto_pad", b"NOTSET")
        auto = auto.decode() if isinstance(auto, bytes) else str(auto)
        if any(n != 1 for n in attributes.get("dilations", [1, 1])):
            raise self._error(
                node, f"dilations must be 1, not {list(attributes['dilations'])}; use a larger kernel with zeros in between"
            )
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            pads = [0, 0, 0, 0]
            for axis in (0, 1):
                size = shape[axis]
                total = max(0, (-(-size // stride[axis]) - 1) * stride[axis] + kernel[axis] - size)
                first = total // 2 if auto == "SAME_UPPER" else -(-total // 2)
                pads[axis], pads[axis + 2] = first, total - first
        elif auto == "VALID":
            pads = [0, 0, 0, 0]
        elif auto != "NOTSET":
            raise self._error(node, f"auto_pad must be NOTSET, SAME_UPPER, SAME_LOWER or VALID, not {auto!r}")
        for pad, size in zip(pads, (*kernel, *kernel), strict=True):
            if not 0 <= pad < size:
                raise self._error(node, f"pads must be at least 0 and less than the window {kernel[0]}x{kernel[1]}, not {pads}")
        return stride, Padding(*pads)

    def _convolution(self, node: onnx.NodeProto, shape: Shape) -> Shape:
        attributes = self._attributes(node, ("kernel_shape", "strides", "pads", "auto_pad", "dilations", "group"))
        weights = self._constant(node, 1).astype(np.float64)
        if weights.ndim != 4:
            raise self._error(
                node, f"weights must have 4 dimensions, not {weights.ndim}; use two-dimensional convolutions"
            )
        if attributes.get("group", 1) != 1:
            raise self._error(node, f"group must be 1, not {attributes['group']}; use an ordinary convolution")
        if weights.shape[1] != shape.channels:
            raise self._error(node, f"weights must take {shape.channels} channels, not {weights.shape[1]}")
        kernel = (weights.shape[2], weights.shape[3])
        if list(attributes.get("kernel_shape", kernel)) != list(kernel):
            raise self._error(node, f"kernel_shape must be that of the weights {list(kernel)}, not {attributes['kernel_shape']}")
        stride, padding = self._window(node, attributes, shape, kernel)
        bias = np.zeros(len(weights))
        if len(node.input) > 2 and node.input[2]:
            bias = bias + self._values(node, self._constant(node, 2), len(bias), "bias")
        self.layers.append(
            FloatLayer(
                kind="convolution",
                name=self._identifier(node),
                tensor=node.output[0],
                weights=weights,
                bias=bias,
                window=kernel,
                stride=stride,
                padding=padding,
            )
        )
        return self._outputs(node, shape, kernel, stride, padding, len(weights))

    def _outputs(
        self,
        node: onnx.NodeProto,
        shape: Shape,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        padding: Padding,
        channels: int,
    ) -> Shape:
        height = (shape.height + padding.top + padding.bottom - kernel[0]) // stride[0] + 1
        width = (shape.width + padding.left + padding.right - kernel[1]) // stride[1] + 1
        if height < 1 or width < 1:
            raise self._error(node, f"window {kernel[0]}x{kernel[1]} must not be larger than its padded input {shape}")
        return Shape(height, width, channels)

    def _pool(self, node: onnx.NodeProto, shape: Shape) -> Shape:
        attributes = self._attributes(
            node, ("kernel_shape", "strides", "pads", "auto_pad", "dilations", "ceil_mode", "storage_order")
        )
        kernel = tuple(int(n) for n in attributes.get("kernel_shape", ()))
        if len(kernel) != 2 or min(kernel) < 1:
            raise self._error(node, f"kernel_shape must be two numbers of at least 1, not {list(kernel)}")
        stride, padding = self._window(node, attributes, shape, (kernel[0], kernel[1]))
        if attributes.get("ceil_mode", 0) and attributes.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID"):
            padding = _ceiling(shape, (kernel[0], kernel[1]), stride, padding)
        self.layers.append(
            FloatLayer(
                kind="maxpool",
                name=self._identifier(node),
                tensor=node.output[0],
                window=(kernel[0], kernel[1]),
                stride=stride,
                padding=padding,
            )
        )
        return self._outputs(node, shape, (kernel[0], kernel[1]), stride, padding, shape.channels)

    def _linear(self, node: onnx.NodeProto, shape: Shape, flat: bool) -> Shape:
        if node.op_type == "Gemm":
            attributes = self._attributes(node, ("alpha", "beta", "transA", "transB"))
            if attributes.get("transA", 0):
                raise self._error(node, "transA must be 0, not 1")
            weights = self._constant(node, 1).astype(np.float64) * attributes.get("alpha", 1.0)
            weights = weights if attributes.get("transB", 0) else weights.T
            bias = np.zeros(len(weights))
            if len(node.input) > 2 and node.input[2]:
                bias = bias + self._values(node, self._constant(node, 2), len(bias), "bias") * attributes.get("beta", 1.0)
        else:
            if node.input[0] in self.constants:
                raise self._error(node, "the constant must be the second input")
            weights = self._constant(node, 1).astype(np.float64).T
            bias = np.zeros(len(weights))
        if weights.ndim != 2:
            raise self._error(node, f"weights must have 2 dimensions, not {weights.ndim}")
        if not flat and shape.height * shape.width > 1:
            raise self._error(node, f"input of shape {shape} must be flattened first")
        if weights.shape[1] != shape.size or not len(weights):
            raise self._error(node, f"weights must take {shape.size} inputs to at least 1 output, not {weights.shape[::-1]}")
        # ONNX flattens channel-major; addresses here are channel-minor.
        by_address = weights.reshape(-1, shape.channels, shape.height, shape.width).transpose(0, 2, 3, 1)
        self.layers.append(
            FloatLayer(
                kind="linear",
                name=self._identifier(node),
                tensor=node.output[0],
                weights=by_address.reshape(len(weights), -1),
                bias=bias,
            )
        )
        return Shape(1, 1, len(weights))

    def _constant(self, node: onnx.NodeProto, index: int) -> npt.NDArray[np.floating]:
        name = node.input[index]
        if name not in self.constants:
            raise self._error(node, f"input {name!r} must be a constant")
        found = self.constants[name]
        if found.dtype.kind == "f" and not np.isfinite(found).all():
            raise self._error(node, f"input {name!r} must be finite numbers, not NaN or infinity")
        return found

    def _values(self, node: onnx.NodeProto, constant: npt.NDArray[np.floating], size: int, what: str) -> Floats:
        """One value a channel: of shape ``(size,)``, with ones in front, or one value for all."""
        if constant.size != 1 and (constant.size != size or constant.shape[-1] != size):
            raise self._error(node, f"{what} must hold one value a channel ({size}), not shape {constant.shape}")
        return constant.astype(np.float64).reshape(-1)

    def _add(self, node: onnx.NodeProto, flat: bool) -> None:
        constant = next(self.constants[name] for name in node.input if name in self.constants)
        last = self.layers[-1] if self.layers else None
        if last is None or last.bias is None or last.relu:
            raise self._error(node, "must stand right behind a Conv, Gemm or MatMul")
        if not np.isfinite(constant).all():
            raise self._error(node, "constant must be finite numbers, not NaN or infinity")
        if not flat and constant.ndim >= 3 and constant.shape[-2:] == (1, 1):
            constant = constant.reshape(*constant.shape[:-2])
        elif not flat and constant.size > 1:
            raise self._error(
                node, f"constant must hold one value a channel ({len(last.bias)}), not shape {constant.shape}"
            )
        constant = self._values(node, constant, len(last.bias), "constant")
        self.layers[-1] = replace(last, bias=last.bias + constant)

    def _normalize(self, node: onnx.NodeProto) -> None:
        last = self.layers[-1] if self.layers else None
        if last is None or last.weights is None or last.bias is None or last.relu:
            raise self._error(node, "must stand right behind a Conv, Gemm or MatMul")
        attributes = self._attributes(node, ("epsilon", "momentum", "training_mode", "spatial"))
        if attributes.get("training_mode", 0) or not attributes.get("spatial", 1):
            raise self._error(node, "training_mode must be 0 and spatial 1; export the network in evaluation mode")
        size = len(last.bias)
        scale, offset, mean, variance = (
            np.broadcast_to(self._values(node, self._constant(node, n), size, f"input {n}"), size) for n in range(1, 5)
        )
        variance = variance + attributes.get("epsilon", 1e-5)
        if variance.min() <= 0:
            raise self._error(node, f"variance and epsilon must be more than 0 in sum, not {variance.min():.4g}")
        factor = scale / np.sqrt(variance)
        weights = last.weights * factor.reshape(-1, *[1] * (last.weights.ndim - 1))
        self.layers[-1] = replace(last, weights=weights, bias=(last.bias - mean) * factor + offset)

    def _relu(self) -> None:
        """A ReLU belongs to the neuron layer before it; it commutes with max-pooling, and the input is not negative."""
        for index in reversed(range(len(self.layers))):
            if self.layers[index].kind != "maxpool":
                self.layers[index] = replace(self.layers[index], relu=True)
                return

    def _reshape(self, node: onnx.NodeProto, shape: Shape, flat: bool) -> bool:
        """Whether the reshape gives a vector; its target may be computed from the batch size."""
        if len(node.input) < 2:
            raise self._error(node, "shape must be an input; export with opset 5 or newer")
        batch = self.input.type.tensor_type.shape.dim[0]
        frames = batch.dim_value if batch.HasField("dim_value") else None
        if node.input[1] in self.constants:
            target = [int(n) for n in self.constants[node.input[1]].reshape(-1)]
            if target and target[0] not in (0, -1, frames):
                raise self._error(node, f"frames must be 0 or -1 in the target, not {target[0]}; use Flatten")
        else:
            target = self._inferred_dims().get(node.output[0], [])
        if len(target) == 2 and target[1] in (-1, shape.size):
            return True
        if not flat and len(target) == 4 and target[1:] == [shape.channels, shape.height, shape.width]:
            return False
        raise self._error(node, f"must flatten to (frames, {shape.size}), not to {tuple(target)}")


def _ceiling(shape: Shape, kernel: tuple[int, int], stride: tuple[int, int], padding: Padding) -> Padding:
    """The padding with which rounding down gives what rounding up gives: the padding of a max-pool takes no part."""
    ends = [padding.bottom, padding.right]
    for axis in (0, 1):
        reach = shape[axis] + padding[axis] + ends[axis] - kernel[axis]
        if -(-reach // stride[axis]) * stride[axis] < shape[axis] + padding[axis]:
            ends[axis] += -reach % stride[axis]
    return Padding(padding.top, padding.left, *ends)
