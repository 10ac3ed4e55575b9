"""An ONNX file as it is read: constants, attributes, inferred shapes, and one line for each thing that is wrong."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from model.importers.float_network import ConversionError
from model.network import INPUT
from model.support.names import layer_name

__all__ = ["FLOATS", "NodeReport", "OnnxGraph", "damage_in_one_line", "label", "load", "node_name", "permutation", "text"]

Floats = npt.NDArray[np.float64]

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)
"""Element types that count as the numbers of a float network."""


@dataclass(frozen=True)
class NodeReport:
    """What becomes of one node of a file.

    Parameters
    ----------
    name, operator : of the node
    status : ``"supported"`` (a layer), ``"folded"`` (into a layer, or nothing) or ``"unsupported"``
    what : what becomes of it, or why not
    remedy : what could be done where it is unsupported
    """

    name: str
    operator: str
    status: str
    what: str
    remedy: str = ""

    @property
    def supported(self) -> bool:
        """Whether it converts."""
        return self.status != "unsupported"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def damage_in_one_line(path: Path) -> Iterator[None]:
    """A damaged file can break the reading of any field in any way: that too is one line with its name."""
    try:
        yield
    except ConversionError:
        raise
    except Exception as error:
        found = f"{type(error).__name__}: {_first_line(error)}"
        raise ConversionError(f"{path}: must be a valid ONNX file, is damaged or out of the ordinary ({found})") from error


def load(path: Path) -> onnx.ModelProto:
    """Read a file; `ConversionError` says why it cannot be."""
    try:
        model = onnx.load(str(path))
    except OSError as error:
        raise ConversionError(f"{path}: cannot be read: {error.strerror or _first_line(error)}") from None
    except (DecodeError, ValueError, onnx.checker.ValidationError) as error:
        raise ConversionError(f"{path}: must be an ONNX file: {_first_line(error)}") from None
    if not model.graph.node:
        raise ConversionError(f"{path}: must be an ONNX file with a graph")
    return model


class OnnxGraph:
    """A file's graph: its constants folded, its nodes with what becomes of each, and errors that name them.

    Parameters
    ----------
    path : named in errors
    model : the model
    for_hardware : whether to refuse what hardware does not build
    """

    def __init__(self, path: Path, model: onnx.ModelProto, *, for_hardware: bool = False) -> None:
        self.path = path
        self.model = model
        self.for_hardware = for_hardware
        graph = model.graph
        self.nodes = list(graph.node)
        self.opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        inputs = [value for value in graph.input if value.name not in self.constants]
        if len(inputs) != 1 or len(graph.output) != 1:
            raise ConversionError(f"{path}: must have one input and one output, not {len(inputs)} and {len(graph.output)}")
        self.input = inputs[0]
        self.identifiers: dict[str, str] = {}
        self.reports: dict[str, NodeReport] = {}
        # Nodes beside those of the file, for tensors that it has not.
        self.extra = onnx.GraphProto()
        self.inferred: dict[str, list[int]] | None = None
        self._fold_constants()

    def report(self, node: onnx.NodeProto, status: str, what: str) -> None:
        """Say what becomes of a node; what is said last holds."""
        self.reports[node.output[0]] = NodeReport(node_name(node), node.op_type, status, what)

    def error(self, node: onnx.NodeProto, reason: str, remedy: str = "") -> ConversionError:
        """The error that names the node."""
        message = f"{reason}; {remedy}" if remedy else reason
        error = ConversionError(f"{self.path}: {label(node)}: {message}")
        error.node, error.reason, error.remedy = node.output[0], reason, remedy
        return error

    def first_use(self, value: str) -> onnx.NodeProto | None:
        """The first node behind ``value`` that is not element by element."""
        while True:
            users = [node for node in self.nodes if value in node.input and node.op_type not in ("Shape", "Size")]
            if len(users) != 1:
                return None
            if users[0].op_type not in ("Identity", "Cast", "Dropout", "Add", "Sub", "Mul", "Div"):
                return users[0]
            value = users[0].output[0]

    def inferred_dims(self) -> dict[str, list[int]]:
        """Of each tensor the dimensions that shape inference finds, -1 where it does not know; none where it fails."""
        if self.inferred is None:
            try:
                graph = shape_inference.infer_shapes(self.model, data_prop=True).graph
            except Exception:  # a graph that it cannot follow is reported node by node without it
                graph = onnx.GraphProto()
            self.inferred = {
                value.name: [d.dim_value if d.HasField("dim_value") else -1 for d in value.type.tensor_type.shape.dim]
                for value in [*graph.value_info, *graph.output]
            }
        return self.inferred

    def _fold_constants(self) -> None:
        opset = [helper.make_opsetid(o.domain, o.version) for o in self.model.opset_import]
        for node in self.nodes:
            if any(name and name not in self.constants for name in node.input) or node.op_type.startswith("Random"):
                continue
            graph = helper.make_graph(
                [node],
                "constant",
                [],
                [helper.make_empty_tensor_value_info(name) for name in node.output],
                [numpy_helper.from_array(self.constants[name], name) for name in dict.fromkeys(node.input) if name],
            )
            try:
                results = ReferenceEvaluator(helper.make_model(graph, opset_imports=opset)).run(None, {})
            except Exception:  # what cannot be folded matters only where its value is used: `_constant` names it there
                continue
            self.constants.update(zip(node.output, map(np.asarray, results), strict=True))

    def identifier(self, node: onnx.NodeProto) -> str:
        """Name of the layer that a node becomes, unlike all others."""
        if node.output[0] not in self.identifiers:
            taken = {INPUT, *self.identifiers.values()}
            self.identifiers[node.output[0]] = layer_name(node.name.strip("/") or node.op_type.lower(), taken)
        return self.identifiers[node.output[0]]

    def attributes(self, node: onnx.NodeProto, allowed: Sequence[str]) -> dict[str, Any]:
        """The node's attributes, none but those ``allowed``."""
        found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if unknown := set(found) - set(allowed):
            raise self.error(node, f"attribute {sorted(unknown)[0]!r} is not supported")
        return found

    def constant(self, node: onnx.NodeProto, index: int) -> npt.NDArray[np.floating]:
        """Input ``index`` of the node, which must be a constant of finite numbers."""
        name = node.input[index]
        if name not in self.constants:
            raise self.error(node, f"input {name!r} must be a constant")
        found = self.constants[name]
        if found.dtype.kind == "f" and not np.isfinite(found).all():
            raise self.error(node, f"input {name!r} must be finite numbers, not NaN or infinity")
        return found

    def values(self, node: onnx.NodeProto, constant: npt.NDArray[np.floating], size: int, what: str) -> Floats:
        """One value a channel: of shape ``(size,)``, with ones in front, or one value for all."""
        if constant.size != 1 and (constant.size != size or constant.shape[-1] != size):
            raise self.error(node, f"{what} must hold one value a channel ({size}), not shape {constant.shape}")
        return constant.astype(np.float64).reshape(-1)

    def integers(self, node: onnx.NodeProto, attribute: str, index: int) -> list[int] | None:
        """Integers that are an attribute in older opsets and an input in newer ones; None where there are none."""
        for found in node.attribute:
            if found.name == attribute:
                return [int(n) for n in helper.get_attribute_value(found)]
        if len(node.input) > index and node.input[index]:
            return [int(n) for n in self.constant(node, index).reshape(-1)]
        return None

    def target(self, node: onnx.NodeProto) -> list[int]:
        """The shape that a Reshape is to give, as far as it is known."""
        if node.input[1] in self.constants:
            return [int(n) for n in self.constants[node.input[1]].reshape(-1)]
        return self.inferred_dims().get(node.output[0], [])

    def add_node(self, operator: str, value: str, constant: npt.NDArray[Any]) -> str:
        """A tensor beside those of the file: that of an operator on ``value`` and a constant."""
        found = f"tally_{len(self.extra.node)}_{operator.lower()}"
        self.extra.initializer.append(numpy_helper.from_array(constant, f"{found}_by"))
        self.extra.node.append(helper.make_node(operator, [value, f"{found}_by"], [found]))
        return found


def node_name(node: onnx.NodeProto) -> str:
    """The node's name; that of its output where it has none."""
    return node.name or node.output[0]


def label(node: onnx.NodeProto) -> str:
    """Name and operator, for messages."""
    return f"node {node_name(node)!r} ({node.op_type})"


def text(value: bytes | str) -> str:
    """An attribute that is text."""
    return value.decode() if isinstance(value, bytes) else str(value)


def permutation(node: onnx.NodeProto) -> list[int] | None:
    """The permutation of a Transpose; None where it is left out."""
    return next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
