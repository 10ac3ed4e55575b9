"""A file's graph before its nodes are read: which output, which nodes it needs, in which order, and that names are unique."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto

from model.importers.errors import LONGEST_NAME, ConversionError, printable
from model.importers.limits import MOST_NODES
from model.importers.operators import refusal

__all__ = ["FLOATS", "Structure", "label", "node_name", "operator_name", "opset_of", "printable", "read_structure", "type_name"]

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)
"""Element types that count as the numbers of a float network."""

_LEVELS = tuple(map(TensorProto.DataType.Value, ("UINT8", "INT8", "UINT16", "INT16", "UINT4", "INT4")))
"""Element types of levels."""

_CHOOSING = ("ArgMax", "TopK")
"""Operators whose integers are no answers of neurons."""

_OLDEST_OPSET = 7
"""Before it, broadcasting was another; ONNX Runtime promises nothing for older files."""

_OLDEST_IR = 3
"""Before it, files did not declare which version of the operators they mean."""


@dataclass(frozen=True)
class Structure:
    """What the output depends on.

    Parameters
    ----------
    model : onnx.ModelProto
        The file's model, of which no more than the output depends on is kept: nodes in an order in which each comes after
        those that it takes its inputs from, and the initializers that they take.
    output : str
        The output.
    input : onnx.ValueInfoProto
        The one input that it depends on.
    nodes : list of onnx.NodeProto
        All nodes of the file that give something, in its own order.
    """

    model: onnx.ModelProto
    output: str
    input: onnx.ValueInfoProto
    nodes: list[onnx.NodeProto]


def node_name(node: onnx.NodeProto) -> str:
    """The node's name; that of its output where it has none."""
    return printable(node.name or next(iter(node.output), ""))


def type_name(kind: int) -> str:
    """Name of an element type."""
    try:
        return TensorProto.DataType.Name(kind).lower()
    except ValueError:
        return f"type {kind}"


def operator_name(node: onnx.NodeProto) -> str:
    """The node's operator."""
    return printable(node.op_type) or "no operator"


def label(node: onnx.NodeProto) -> str:
    """Name and operator, for messages."""
    return f"node {node_name(node)!r} ({operator_name(node)})"


def opset_of(model: onnx.ModelProto) -> int | None:
    """Version of ONNX's own operators; None where the file does not declare it."""
    return next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), None)


def read_structure(path: Path, model: onnx.ModelProto, output: str | None = None) -> Structure:
    """Find what the output depends on.

    Parameters
    ----------
    path : Path
        Named in errors.
    model : onnx.ModelProto
        The file's model.
    output : str or None
        The output; may be None where there is only one.

    Raises
    ------
    ConversionError
        One line that says what is wrong: an output that there is not, a tensor that is given twice or by nobody, nodes in a
        circle, an operator set that is too old or too new, too many nodes.
    """
    _check_names(path, model)
    _check_versions(path, model)
    wanted = _choose_output(path, model, output)
    producers = _producers(path, model)
    initializers = {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name: value for value in model.graph.input if value.name not in initializers}
    nodes = _sorted(path, wanted, producers, initializers | set(inputs))
    if len(nodes) > MOST_NODES:
        raise ConversionError(f"{path}: nodes must be at most {MOST_NODES:,}, not {len(nodes):,}")
    taken = dict.fromkeys(name for node in nodes for name in node.input if name)
    found = [value for name, value in inputs.items() if name in taken or name == wanted]
    if len(found) != 1:
        given = f", not on {len(found)}: {_listed(v.name for v in found)}" if found else f" of {_listed(inputs) or 'the graph'}"
        raise ConversionError(f"{path}: output {printable(wanted)!r} must depend on one input{given}")
    giving = [node for node in model.graph.node if node.output and node.output[0]]
    return Structure(_kept(model, nodes, set(taken), found[0], wanted), wanted, found[0], giving)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(printable(name)) for name in names)


def _check_names(path: Path, model: onnx.ModelProto) -> None:
    """Refuse names that are no text, which protobuf gives as bytes."""
    graph = model.graph
    names = [part.name for part in (*graph.node, *graph.initializer, *graph.input, *graph.output)]
    for node in graph.node:
        names += [node.op_type, node.domain, *node.input, *node.output, *(attribute.name for attribute in node.attribute)]
    names += [opset.domain for opset in model.opset_import]
    names += [tensor.values.name for tensor in graph.sparse_initializer]
    for name in names:
        if isinstance(name, bytes):
            raise ConversionError(f"{path}: names must be text in UTF-8, not {name[:LONGEST_NAME]!r}")


def _check_versions(path: Path, model: onnx.ModelProto) -> None:
    if not _OLDEST_IR <= model.ir_version <= onnx.IR_VERSION:
        raise ConversionError(f"{path}: ir_version must be within {_OLDEST_IR}..{onnx.IR_VERSION}, not {model.ir_version}")
    found, newest = opset_of(model), onnx.defs.onnx_opset_version()
    if any(o.version != found for o in model.opset_import if o.domain in ("", "ai.onnx")):
        raise ConversionError(f"{path}: opset of ONNX's operators must be declared once")
    if found is None or not _OLDEST_OPSET <= found <= newest:
        raise ConversionError(
            f"{path}: opset of ONNX's operators must be within {_OLDEST_OPSET}..{newest}, not {found}; "
            "export with opset_version=17"
        )


def _choose_output(path: Path, model: onnx.ModelProto, output: str | None) -> str:
    names = [value.name for value in model.graph.output]
    if output is None:
        if len(names) != 1:
            what = f"there are {len(names)}: {_listed(names)}" if names else "there is none"
            raise ConversionError(f"{path}: output must be chosen with --output: {what}")
        output = names[0]
    if output not in names:
        raise ConversionError(f"{path}: output must be one of {_listed(names)}, not {output!r}")
    kind = model.graph.output[names.index(output)].type.WhichOneof("value")
    if kind not in (None, "tensor_type"):
        raise ConversionError(f"{path}: output {printable(output)!r} must be a tensor, not of {kind}")
    element = model.graph.output[names.index(output)].type.tensor_type.elem_type
    if element not in (TensorProto.UNDEFINED, *FLOATS, *_LEVELS):
        choosing = next((node for node in model.graph.node if output in node.output and node.op_type in _CHOOSING), None)
        remedy = "" if choosing is None else f"; {label(choosing)}: {refusal(choosing.op_type, choosing.domain, 0)[1]}"
        raise ConversionError(
            f"{path}: output {printable(output)!r} must be of a float type, or of integers of at most 16 bits, not "
            f"{type_name(element)}{remedy}"
        )
    return output


def _producers(path: Path, model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """The node that gives each tensor; no tensor is given twice."""
    given = {value.name: "an input" for value in model.graph.input}
    initializers: set[str] = set()
    for name in [t.name for t in model.graph.initializer] + [t.values.name for t in model.graph.sparse_initializer]:
        if name in initializers:
            raise ConversionError(f"{path}: tensor {printable(name)!r} must be given once, not by two initializers")
        initializers.add(name)
        given[name] = "an initializer"
    producers: dict[str, onnx.NodeProto] = {}
    for node in model.graph.node:
        for name in node.output:
            if not name:
                continue
            if name in given:
                raise ConversionError(
                    f"{path}: tensor {printable(name)!r} must be given once, not by {given[name]} and by {label(node)}"
                )
            given[name] = label(node)
            producers[name] = node
    return producers


def _sorted(path: Path, wanted: str, producers: dict[str, onnx.NodeProto], given: set[str]) -> list[onnx.NodeProto]:
    """The nodes that ``wanted`` depends on, each after those that it takes its inputs from."""
    if wanted not in producers:
        if wanted in given:
            return []
        raise ConversionError(f"{path}: output {printable(wanted)!r} must be the output of a node")
    found: list[onnx.NodeProto] = []
    done: set[int] = set()
    open_nodes: set[int] = set()
    stack = [(producers[wanted], False)]
    while stack:
        node, complete = stack.pop()
        if complete:
            open_nodes.discard(id(node))
            done.add(id(node))
            found.append(node)
            continue
        if id(node) in done:
            continue
        if not node.output[0]:
            raise ConversionError(f"{path}: {label(node)}: first output must have a name")
        open_nodes.add(id(node))
        stack.append((node, True))
        for name in reversed(node.input):
            before = producers.get(name)
            if before is not None and id(before) in open_nodes:
                raise ConversionError(f"{path}: {label(node)}: input {printable(name)!r} must not depend on its own output")
            if before is not None and id(before) not in done:
                stack.append((before, False))
            elif before is None and name and name not in given:
                raise ConversionError(
                    f"{path}: {label(node)}: input {printable(name)!r} must be an input, an initializer or another node's output"
                )
    return found


def _kept(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], taken: set[str], input_: onnx.ValueInfoProto, output: str
) -> onnx.ModelProto:
    """The model with no more than these nodes, and no functions of its own."""
    kept = onnx.ModelProto(ir_version=model.ir_version)
    kept.opset_import.extend(model.opset_import)
    kept.graph.name = "kept"
    kept.graph.node.extend(nodes)
    kept.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in taken)
    kept.graph.input.append(input_)
    kept.graph.output.extend(value for value in model.graph.output if value.name == output)
    return kept
