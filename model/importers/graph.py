"""An ONNX file as it is read: constants, attributes, inferred shapes, and one line for each thing that is wrong."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError
from onnx import external_data_helper, helper, numpy_helper, shape_inference

from model.arrays import Floats
from model.importers.constants import QUANTIZERS, Array, constants_of
from model.importers.float_network import ConversionError, is_float32
from model.importers.limits import MOST_COPIES, MOST_TOTAL, MOST_VALUES
from model.importers.schema import misuse
from model.importers.structure import label, node_name, operator_name, opset_of, printable, read_structure
from model.network import INPUT, Shape
from model.support.files import opened
from model.support.names import layer_name

__all__ = ["NodeReport", "OnnxGraph", "damage_in_one_line", "first_line", "load", "permutation", "text"]

_MOST_BYTES = 1 << 31
"""Of a file, as protocol buffers have it; and of all tensors that lie in others."""


@dataclass(frozen=True)
class NodeReport:
    """What becomes of one node of a file.

    Parameters
    ----------
    name, operator : str
        Of the node.
    status : str
        ``"supported"`` (a layer), ``"folded"`` (into a layer, or nothing) or ``"unsupported"``.
    what : str
        What becomes of it, or why not.
    remedy : str
        What could be done where it is unsupported.
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


def first_line(error: Exception) -> str:
    """What an error says, without what follows."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def damage_in_one_line(path: Path) -> Iterator[None]:
    """A damaged file can break the reading of any field in any way: that too is one line with its name."""
    try:
        yield
    except ConversionError:
        raise
    except Exception as error:
        found = f"{type(error).__name__}: {first_line(error)}"
        raise ConversionError(f"{path}: must be a valid ONNX file, is damaged or out of the ordinary ({found})") from error


def load(path: Path) -> onnx.ModelProto:
    """Read a file; `ConversionError` says why it cannot be."""
    try:
        with opened(path) as file:
            if os.fstat(file.fileno()).st_size > _MOST_BYTES:
                raise ConversionError(f"{path}: must be an ONNX file of at most {_MOST_BYTES:,} bytes")
            text = file.read()
        model = onnx.load_model_from_string(text)
        _load_external(path, model)
    except ConversionError:
        raise
    except OSError as error:
        raise ConversionError(f"{path}: cannot be read: {error.strerror or first_line(error)}") from None
    except (DecodeError, ValueError, onnx.checker.ValidationError) as error:
        raise ConversionError(f"{path}: must be an ONNX file: {first_line(error)}") from None
    if not model.graph.node:
        raise ConversionError(f"{path}: must be an ONNX file with a graph")
    return model


def _load_external(path: Path, model: onnx.ModelProto) -> None:
    """Read the tensors that lie in other files of the same folder; many may name one file, or all of a large one."""
    tensors = [*model.graph.initializer, *(attribute.t for node in model.graph.node for attribute in node.attribute)]
    left = _MOST_BYTES
    for tensor in filter(external_data_helper.uses_external_data, tensors):
        found = external_data_helper.ExternalDataInfo(tensor)
        if not os.path.lexists(path.parent / found.location):
            raise ConversionError(
                f"{path}: tensor {printable(tensor.name)!r} must be in file {printable(found.location)!r} of the same folder, "
                "which is not there; keep the two together, or save the model with its tensors inside"
            )
        size = (path.parent / found.location).stat().st_size - (found.offset or 0) if found.length is None else found.length
        left -= max(0, size)
        if left < 0:
            raise ValueError(f"tensors in other files must have at most {_MOST_BYTES:,} bytes together")
        # It refuses files that are elsewhere, and links.
        external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


class OnnxGraph:
    """A file's graph: its constants, its nodes with what becomes of each, and errors that name them.

    Parameters
    ----------
    path : Path
        Named in errors.
    model : onnx.ModelProto
        The model.
    output : str or None
        The output; may be None where there is only one.
    """

    def __init__(self, path: Path, model: onnx.ModelProto, *, output: str | None = None) -> None:
        structure = read_structure(path, model, output)
        self.path = path
        self.model = structure.model
        self.output = structure.output
        self.input = structure.input
        self.file_nodes = structure.nodes
        self.nodes = list(structure.model.graph.node)
        self.opset = opset_of(model) or 0
        self.constants: dict[str, Array] = constants_of(path, structure.model)
        self.inferred: dict[str, list[int]] | None = None
        self._users: dict[str, list[onnx.NodeProto]] | None = None
        self.restart()

    def restart(self) -> None:
        """Forget what was said of nodes, to read them once more from another start."""
        self.identifiers: dict[str, str] = {}
        self.reports: dict[str, NodeReport] = {}
        # Nodes beside those of the file, for tensors that it has not.
        self.extra = onnx.GraphProto()
        # Whether its nodes take the input as the whole pixels that the file says it has.
        self.pixels = False
        # Of each layer that is kept in several forms the name of the first; and in which sums layers went.
        self.forms: dict[str, str] = {}
        self.absorbed: dict[str, list[str]] = {}
        # Of nodes that are done to parts of their input the node that the file has.
        self._copied: dict[str, str] = {}
        self._values = 0

    def check_size(self, node: onnx.NodeProto, shape: Shape) -> None:
        """Refuse a tensor that is too large, or that makes all of them too large."""
        if shape.size > MOST_VALUES:
            raise self.error(node, f"output must have at most {MOST_VALUES:,} values per frame, not {shape.size:,} ({shape})")
        self._values += shape.size
        if self._values > MOST_TOTAL:
            self._values = 0
            raise self.error(node, f"outputs up to here must have at most {MOST_TOTAL:,} values per frame together")

    def report(self, node: onnx.NodeProto, status: str, what: str) -> None:
        """Say what becomes of a node; what is said last holds."""
        self.reports[node.output[0]] = NodeReport(node_name(node), operator_name(node), status, what)

    def error(self, node: onnx.NodeProto, reason: str, remedy: str = "") -> ConversionError:
        """The error that names the node."""
        message = f"{reason}; {remedy}" if remedy else reason
        error = ConversionError(f"{self.path}: {label(node)}: {message}")
        error.node, error.reason, error.remedy = self._copied.get(node.output[0], node.output[0]), reason, remedy
        return error

    def copy(self, node: onnx.NodeProto, ending: str) -> onnx.NodeProto:
        """A node like another, with an output of its own; in messages it is the other."""
        if len(self._copied) >= MOST_COPIES:
            what = f"is done to each branch that is joined, and nodes like it up to here are more than {MOST_COPIES:,} times"
            raise self.error(node, what, "join fewer branches")
        found = onnx.NodeProto()
        found.CopyFrom(node)
        found.name = node_name(node)
        del found.output[:]
        # An operator on levels is done to parts twice, as the float operator and as the quantizer after it.
        name = f"{node.output[0]}/{ending}"
        while name in self._copied:
            name += "_"
        found.output.append(name)
        self._copied[found.output[0]] = self._copied.get(node.output[0], node.output[0])
        return found

    def first_use(self, value: str) -> onnx.NodeProto | None:
        """The first node after ``value`` that is not element by element, of those that are as ONNX asks."""
        while True:
            users = self.users(value)
            if len(users) != 1:
                return None
            if users[0].op_type not in ("Identity", "Cast", "Dropout", "Add", "Sub", "Mul", "Div", "Clip", *QUANTIZERS):
                return users[0]
            value = users[0].output[0]

    def users(self, value: str) -> list[onnx.NodeProto]:
        """The nodes that take ``value``, and not only its shape, of those that are as ONNX asks."""
        if self._users is None:
            self._users = {}
            for node in self.nodes:
                if node.op_type not in ("Shape", "Size") and misuse(node, self.opset) is None:
                    for name in set(node.input):
                        self._users.setdefault(name, []).append(node)
        return self._users.get(value, [])

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

    def identifier(self, node: onnx.NodeProto) -> str:
        """Name of the layer that a node becomes, unlike all others."""
        if node.output[0] not in self.identifiers:
            taken = {INPUT, *self.identifiers.values(), *self.forms}
            self.identifiers[node.output[0]] = layer_name(node.name.strip("/") or node.op_type.lower(), taken)
        return self.identifiers[node.output[0]]

    def another_form(self, name: str) -> str:
        """Name of a layer that is kept in another form too, unlike all others."""
        first = self.forms.get(name, name)
        found = layer_name(first, {INPUT, *self.identifiers.values(), *self.forms})
        self.forms[found] = first
        return found

    def attributes(self, node: onnx.NodeProto, allowed: Sequence[str]) -> dict[str, Any]:
        """The node's attributes, none but those ``allowed``."""
        found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if unknown := set(found) - set(allowed):
            raise self.error(node, f"attribute {sorted(unknown)[0]!r} is not supported")
        return found

    def constant(self, node: onnx.NodeProto, index: int) -> npt.NDArray[Any]:
        """Input ``index`` of the node, which must be a constant of a float type, and of finite numbers."""
        found = self._constant(node, index)
        if found.dtype.kind != "f":
            raise self.error(node, f"input {printable(node.input[index])!r} must be of a float type, not {found.dtype}")
        if not is_float32(found):
            name = printable(node.input[index])
            raise self.error(node, f"input {name!r} must be finite numbers of float32, not NaN, infinity or more")
        return found

    def number(self, node: onnx.NodeProto, index: int) -> float | None:
        """Input ``index`` of the node, which must be one constant number, and may be without end; None where it is left out."""
        if len(node.input) <= index or not node.input[index]:
            return None
        found, name = self._constant(node, index), printable(node.input[index])
        if found.dtype.kind != "f" or found.size != 1:
            raise self.error(node, f"input {name!r} must be one number of a float type, not {found.dtype} of {found.shape}")
        if np.isnan(found).any():
            raise self.error(node, f"input {name!r} must be a number, not nan")
        return float(found.reshape(-1)[0])

    def _constant(self, node: onnx.NodeProto, index: int) -> npt.NDArray[Any]:
        name = node.input[index] if index < len(node.input) else ""
        if name not in self.constants:
            raise self.error(node, f"input {printable(name)!r} must be a constant")
        return self.constants[name]

    def per_channel(self, node: onnx.NodeProto, constant: npt.NDArray[np.floating], size: int, what: str) -> Floats:
        """One value per channel: of shape ``(size,)``."""
        if constant.shape != (size,):
            raise self.error(node, f"{what} must hold one value per channel ({size}), not shape {constant.shape}")
        return constant.astype(np.float64)

    def integers(self, node: onnx.NodeProto, attribute: str, index: int) -> list[int] | None:
        """Integers that are an attribute in older opsets and an input in newer ones; None where there are none."""
        for found in node.attribute:
            if found.name == attribute:
                return [int(n) for n in helper.get_attribute_value(found)]
        if len(node.input) <= index or not node.input[index]:
            return None
        array = self._constant(node, index)
        if array.dtype not in ((np.int64, np.int32) if node.op_type == "Pad" and index == 3 else (np.int64,)) or array.ndim > 1:
            name = printable(node.input[index])
            raise self.error(node, f"input {name!r} must be a vector of int64, not {array.dtype} of {array.shape}")
        return [int(n) for n in array.reshape(-1)]

    def target(self, node: onnx.NodeProto) -> list[int]:
        """The shape that a Reshape is to give, as far as it is known."""
        if node.input[1] in self.constants:
            return self.integers(node, "", 1) or []
        return self.inferred_dims().get(node.output[0], [])

    def add_node(
        self, operator: str, value: str, constant: npt.NDArray[Any], *, output: str | None = None, **attributes: Any
    ) -> str:
        """A tensor beside those of the file: that of an operator on ``value`` and a constant; ``output`` by name."""
        found = output or f"tally_{len(self.extra.node)}_{operator.lower()}"
        self.extra.initializer.append(numpy_helper.from_array(constant, f"{found}_by"))
        self.extra.node.append(helper.make_node(operator, [value, f"{found}_by"], [found], **attributes))
        return found


def text(value: bytes | str) -> str:
    """An attribute that is text."""
    return value.decode() if isinstance(value, bytes) else str(value)


def permutation(node: onnx.NodeProto) -> list[int] | None:
    """The permutation of a Transpose; None where it is left out."""
    return next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
