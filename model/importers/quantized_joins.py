"""Nodes of quantized files that join branches of levels: read as the float operator between dequantizers and a quantizer."""

from collections.abc import Mapping
from dataclasses import replace

import onnx

from model.importers.deferred import arithmetic
from model.importers.float_network import ConversionError
from model.importers.graph import OnnxGraph
from model.importers.joins import join
from model.importers.quantized_nodes import dequantized, requantized, taken
from model.importers.tensors import Data

__all__ = ["OF_BRANCHES", "join_levels"]

OF_BRANCHES = ("QLinearAdd", "QLinearConcat")
"""Operators that join levels, each with a scale and a zero point of its own."""


def join_levels(graph: OnnxGraph, node: onnx.NodeProto, known: Mapping[str, Data]) -> Data:
    """A sum or a concatenation of levels, rounded to levels.

    Parameters
    ----------
    graph : OnnxGraph
        The graph.
    node : onnx.NodeProto
        One of `OF_BRANCHES`.
    known : mapping of str to Data
        What is known of those of its inputs that are not constants.
    """
    if node.op_type == "QLinearAdd":
        if len(node.input) not in (7, 8):
            raise graph.error(node, f"inputs must be 7 or 8, not {len(node.input)}")
        return requantized(graph, node, _joined(graph, node, known, "Add", (0, 3)), 6)
    if len(node.input) < 5 or len(node.input) % 3 != 2:
        raise graph.error(node, f"inputs must be 2 and 3 for each tensor that is joined, not {len(node.input)}")
    return requantized(graph, node, _joined(graph, node, known, "Concat", range(2, len(node.input), 3)), 0)


def _joined(
    graph: OnnxGraph, node: onnx.NodeProto, known: Mapping[str, Data], operator: str, inputs: "range | tuple[int, ...]"
) -> Data:
    """What the float operator makes of the numbers that the levels at these ``inputs`` stand for."""
    plain = onnx.NodeProto()
    plain.CopyFrom(node)
    plain.op_type, plain.domain = operator, ""
    del plain.input[:]
    numbers: dict[str, Data] = {}
    for index in inputs:
        name = node.input[index]
        if name in known:
            numbers[name] = replace(taken(graph, node, known[name], index + 1, index + 2), levels=None, integers=False)
        else:
            name = f"{node.output[0]}_{index}_dequantized"
            graph.constants[name] = dequantized(graph, node, index)
        plain.input.append(name)
    try:
        if operator == "Add" and len(plain.input) > len(numbers) == 1 and plain.input[0] != plain.input[1]:
            found = arithmetic(graph, plain, next(iter(numbers.values())))
        else:
            found = join(graph, plain, numbers)
    except ConversionError as error:
        if error.node != node.output[0]:
            raise
        raise graph.error(node, error.reason, error.remedy) from None
    report = graph.reports[node.output[0]]
    graph.report(node, report.status, report.what)
    # In messages it is the file's node.
    joined_by = tuple(node if by is plain else by for by in found.joined_by)
    return replace(found, joined_by=joined_by, scaled_by=tuple(node if by is plain else by for by in found.scaled_by))
