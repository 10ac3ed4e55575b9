"""What ONNX itself asks of a node: how many inputs and outputs, which attributes, and of which types.

Held against the schema of the operator in the version that the file declares, before the node is read: so what is read later
may rely on it. `onnx.checker` asks the same and more, but stops at the first node, knows no limit of what it takes, and refuses
files that mean something (nodes in another order, operators that nothing depends on).
"""

import math
from collections.abc import Sequence

import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper
from onnx.defs import OpSchema

from model.importers.structure import printable, type_name

__all__ = ["misuse", "output_name", "wrong_tensor"]

_ENDS = ("min", "max")
"""Attributes that may be without end."""

_MOST = 1 << 20
"""Inputs that an operator says it takes when it takes any number."""


def misuse(node: onnx.NodeProto, opset: int) -> str | None:
    """What a node of one of ONNX's own operators must be and is not; None where nothing is wrong.

    Parameters
    ----------
    node : onnx.NodeProto
        The node.
    opset : int
        The version of ONNX's operators that the file declares.
    """
    schema = _schema(node, opset)
    if schema is None:
        return None
    return (
        _wrong_number("inputs", node.input, schema.min_input, schema.max_input)
        or _wrong_number("outputs", node.output, schema.min_output, schema.max_output)
        or _missing_input(node, schema)
        or _wrong_attribute(node, schema, opset)
    )


def output_name(node: onnx.NodeProto, name: str, opset: int) -> str:
    """What ONNX calls an output of a node, as the ``Indices`` of a MaxPool."""
    schema, index = _schema(node, opset), list(node.output).index(name)
    return schema.outputs[index].name if schema is not None and index < len(schema.outputs) else str(index)


def wrong_tensor(tensor: onnx.TensorProto) -> str | None:
    """What a tensor that the file holds must be and is not; None where its numbers can be read."""
    dims = list(tensor.dims)
    if any(size < 0 for size in dims):
        return f"dims must be at least 0, not {min(dims)}"
    known = TensorProto.DataType.values()
    if tensor.data_type not in known or tensor.data_type == TensorProto.UNDEFINED:
        return f"data_type must be one of ONNX's, not {tensor.data_type}"
    try:
        numpy_helper.to_array(tensor)
    except Exception:  # whatever numpy says of what does not fit
        return f"must hold the {math.prod(dims):,} values of its dims {dims}, of type {type_name(tensor.data_type)}"
    return None


def _schema(node: onnx.NodeProto, opset: int) -> OpSchema | None:
    if node.domain not in ("", "ai.onnx"):
        return None
    try:
        return onnx.defs.get_schema(node.op_type, opset, "")
    except onnx.defs.SchemaError:
        return None


def _wrong_number(what: str, found: Sequence[str], least: int, most: int) -> str | None:
    if least <= len(found) <= most:
        return None
    wanted = f"at least {least}" if most > _MOST else f"{least}" if least == most else f"{least} to {most}"
    return f"{what} must be {wanted}, not {len(found)}"


def _missing_input(node: onnx.NodeProto, schema: OpSchema) -> str | None:
    for index, name in enumerate(node.input):
        formal = schema.inputs[min(index, len(schema.inputs) - 1)]
        if not name and formal.option == OpSchema.FormalParameterOption.Single:
            return f"input {formal.name!r} must be given"
    return None


def _wrong_attribute(node: onnx.NodeProto, schema: OpSchema, opset: int) -> str | None:
    given: set[str] = set()
    for attribute in node.attribute:
        name = printable(attribute.name)
        known = schema.attributes.get(attribute.name)
        if known is None:
            some = ", ".join(sorted(schema.attributes)) or "none"
            return f"attribute {name!r} must be one of opset {opset}'s ({some})"
        if attribute.name in given:
            return f"attribute {name!r} must be given once"
        given.add(attribute.name)
        wanted = int(known.type.value)  # type: ignore[attr-defined]
        if attribute.type != wanted or attribute.ref_attr_name:
            wants = AttributeProto.AttributeType.Name(wanted).lower()
            return f"attribute {name!r} must be of type {wants}, not {_attribute_type(attribute)}"
        if wrong := _wrong_value(attribute):
            return f"attribute {name!r} {wrong}"
    missing = sorted(name for name, known in schema.attributes.items() if known.required and name not in given)
    if missing:
        return f"attribute {missing[0]!r} must be given"
    if node.op_type == "Constant" and len(given) != 1:
        return f"must have one attribute with its value, not {len(given)}"
    return None


def _attribute_type(attribute: onnx.AttributeProto) -> str:
    if attribute.ref_attr_name:
        return "a reference"
    try:
        return AttributeProto.AttributeType.Name(attribute.type).lower()
    except ValueError:
        return f"type {attribute.type}"


def _wrong_value(attribute: onnx.AttributeProto) -> str | None:
    if attribute.type == AttributeProto.TENSOR:
        wrong = wrong_tensor(attribute.t)
        return None if wrong is None else f"is a tensor whose {wrong}" if wrong.startswith("d") else f"is a tensor that {wrong}"
    if attribute.type in (AttributeProto.FLOAT, AttributeProto.FLOATS):
        numbers = helper.get_attribute_value(attribute)
        for number in numbers if attribute.type == AttributeProto.FLOATS else [numbers]:
            if math.isnan(number) or (math.isinf(number) and attribute.name not in _ENDS):
                return f"must be a finite number, not {number}"
    if attribute.type == AttributeProto.STRING:
        try:
            attribute.s.decode()
        except UnicodeDecodeError:
            return "must be text in UTF-8"
    return None
