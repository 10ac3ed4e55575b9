"""The graph from the input, read in one way, to the output."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import onnx

from model.importers.constants import COMPUTED, QUANTIZERS, drops
from model.importers.deferred import arithmetic, average_pool, normalize, pad, reduce_mean
from model.importers.endings import in_file_order, own_layer
from model.importers.enlarging import resize, transposed_convolution
from model.importers.float_network import ConversionError, FloatNetwork
from model.importers.graph import NodeReport, OnnxGraph, first_line
from model.importers.inputs import as_layer, fold_back
from model.importers.joins import JOINING, JOINS, join, settle_reports
from model.importers.layers import convolution, leaky_relu, linear, max_pool, maximum, minimum, relu, waiting_end
from model.importers.layouts import Start
from model.importers.limits import MOST_MACS, MOST_VALUES
from model.importers.operators import PASSING, SUPPORTED, is_supported, refusal
from model.importers.parts import or_by_itself
from model.importers.quantized_joins import OF_BRANCHES, join_levels
from model.importers.quantized_nodes import OF_LEVELS, OF_PIXELS, QUANTIZED, as_numbers
from model.importers.runnable import runnable
from model.importers.schema import misuse, output_name
from model.importers.structure import label, node_name, operator_name, printable
from model.importers.tensors import (
    Data,
    axes_like,
    channels_first,
    flatten,
    monotonic,
    no_padding,
    nothing,
    reshape,
    softmax,
    squeeze,
    transpose,
    unsqueeze,
)
from model.network import Shape

__all__ = ["Walk"]


class Walk:
    """Follows the data from the input to the output, and continues after a node that does not convert.

    Parameters
    ----------
    graph : OnnxGraph
        The graph.
    start : Start
        What its input is taken for.

    Attributes
    ----------
    reports : list of NodeReport
        Every node of the file with what becomes of it.
    network : FloatNetwork or None
        The network, where all of it converts.
    error : ConversionError or None
        The first thing that does not convert, otherwise.
    """

    def __init__(self, graph: OnnxGraph, start: Start) -> None:
        self.graph = graph
        self.start = start
        self.network: FloatNetwork | None = None
        self.error: ConversionError | None = None
        self._steps: list[tuple[onnx.NodeProto, tuple[int, ...]]] = []
        self._nodes = {node.output[0]: node for node in graph.nodes}
        self._known: dict[str, Data | None] = {graph.input.name: start.data}
        # Tensors that are arithmetic on shapes, and those that should be constants and are not known.
        self._of_shapes: set[str] = set()
        self._unknown: set[str] = set()
        # Outputs of nodes on the data's path that are not their first.
        self._others: dict[str, onnx.NodeProto] = {}
        # In a graph with branches what a chain has no layer for gets one.
        self._branches = any(len(graph.users(name)) > 1 for name in _of_data(graph))
        graph.restart()
        # What waits can be as large as a frame, and is forgotten once no node is left that takes it.
        uses = Counter(name for node in graph.nodes for name in set(node.input))
        for node in graph.nodes:
            self._visit(node)
            for name in set(node.input):
                uses[name] -= 1
                if not uses[name] and name != graph.output:
                    self._known.pop(name, None)
        try:
            self._end()
        except ConversionError as error:
            self._record(error)
        self.reports = [self._report(node) for node in graph.file_nodes]

    def _report(self, node: onnx.NodeProto) -> NodeReport:
        found = self.graph.reports.get(node.output[0])
        if found is not None and node.output[0] in self._nodes:
            return found
        return NodeReport(node_name(node), operator_name(node), "folded", "nothing: the output does not depend on it")

    def _record(self, error: ConversionError) -> None:
        self.error = self.error or error
        node = self._nodes.get(error.node)
        if node is not None:
            self.graph.reports[error.node] = NodeReport(
                node_name(node), operator_name(node), "unsupported", error.reason, error.remedy
            )

    def _visit(self, node: onnx.NodeProto) -> None:
        """One node, with what waits in front of it, or, where that does not fold, without."""
        key = node.output[0]
        arriving = [name for name in node.input if name in self._known]
        if not arriving or node.op_type in ("Shape", "Size"):
            self._beside(node, bool(arriving))
            return
        data = self._known[arriving[0]]
        unknown = any(self._known[name] is None for name in arriving) or self._unknown.intersection(node.input)
        self._others.update((name, node) for name in node.output[1:] if name)
        while True:
            try:
                self._check_operator(node, arriving)
                if data is None or unknown:
                    self._not_checked(node)
                    self._known[key] = self._inferred(key)
                else:
                    self._known[key] = found = self._step(node, arriving, data)
                    self._steps.append((node, found.dims))
            except ConversionError as error:
                self._record(error)
                if error.node != key and data is not None and data.waits and len(arriving) == 1:
                    axes = data.axes if data.padded_by is None else axes_like(data, data.inside)
                    data = Data(value=data.value, shape=data.inside, axes=axes)
                    continue
                if error.node != key:
                    self._not_checked(node)
                self._known[key] = self._inferred(key)
            except Exception as error:  # after a node that does not convert, what is known need not make sense
                if self.error is None:
                    what = f"{type(error).__name__}: {first_line(error)}"
                    raise self.graph.error(node, f"must be a valid node, is damaged or out of the ordinary ({what})") from error
                self._not_checked(node)
                self._known[key] = None
            return

    def _beside(self, node: onnx.NodeProto, of_data: bool) -> None:
        """A node that is not in the data's path: constant, or arithmetic on shapes; anything else is refused here."""
        if of_data or any(name in self._of_shapes for name in node.input):
            self._of_shapes.update(node.output)
        elif self._unknown.intersection(node.input):
            self._unknown.update(node.output)
            self._not_checked(node)
            return
        elif node.output[0] not in self.graph.constants:
            why = refusal(node.op_type, node.domain, self.graph.opset)
            if is_supported(node.op_type, node.domain) or (node.op_type in COMPUTED and node.domain in ("", "ai.onnx")):
                why = "constant inputs must fit, and give no more than can be computed ahead", "compute it before the export"
            if drops(node, self.graph.constants):
                why = "training_mode must be false", "export the network in evaluation mode"
            if wrong := misuse(node, self.graph.opset):
                why = wrong, ""
            if other := next((name for name in node.input if name in self._others), None):
                why = self._other(other), "leave it out"
            self._record(self.graph.error(node, *why))
            self._unknown.update(node.output)
            return
        elif wrong := misuse(node, self.graph.opset):
            self._record(self.graph.error(node, wrong))
            self._unknown.update(node.output)
            return
        self.graph.report(node, "folded", "constant, or arithmetic on shapes: not in the data's path")

    def _other(self, name: str) -> str:
        """Why an output of a node on the data's path that is not its first cannot be taken."""
        node = self._others[name]
        what = output_name(node, name, self.graph.opset)
        return f"input {printable(name)!r} must be the first output of {label(node)}, not its {what}"

    def _not_checked(self, node: onnx.NodeProto) -> None:
        what = SUPPORTED.get(node.op_type, "constant")
        self.graph.report(node, "supported", f"{what}; not checked, its input is not known")

    def _check_operator(self, node: onnx.NodeProto, arriving: Sequence[str]) -> None:
        if not is_supported(node.op_type, node.domain):
            raise self.graph.error(node, *refusal(node.op_type, node.domain, self.graph.opset))
        if wrong := misuse(node, self.graph.opset):
            raise self.graph.error(node, wrong)
        if len(arriving) != 1 and node.op_type in ("Max", "Min"):
            raise self.graph.error(node, *refusal(node.op_type, node.domain, self.graph.opset))
        if len(arriving) != 1 and node.op_type not in JOINING:
            raise self.graph.error(node, f"must have one input that is not a constant, not {len(arriving)}", JOINS)

    def _step(self, node: onnx.NodeProto, arriving: Sequence[str], data: Data) -> Data:
        known = {name: self._checked(node, found) for name in arriving if (found := self._known[name]) is not None}
        if node.op_type in OF_BRANCHES:
            found = join_levels(self.graph, node, known)
        elif len(arriving) > 1 or node.op_type in ("Sum", "Concat"):
            found = join(self.graph, node, known)
        else:
            handler = _HANDLERS[node.op_type]
            if node.op_type in _ACTIVATIONS and self._branches and data.levels is None:
                handler = partial(or_by_itself, handler)
            found = handler(self.graph, node, self._checked(node, data))
        self.graph.check_size(node, found.shape)
        return found if any(found.padding) else replace(found, value=node.output[0])

    def _checked(self, node: onnx.NodeProto, data: Data) -> Data:
        """What a node takes, where it may."""
        if data.final is not None and node.op_type not in PASSING:
            if node.op_type in QUANTIZERS:
                raise self.graph.error(
                    data.final,
                    "must not be rounded to levels: classes of one level could be answered otherwise than its input says",
                    "quantize the network without it",
                )
            remedy = "train with ReLU" if data.final.op_type in ("Sigmoid", "Tanh") else "train without it"
            raise self.graph.error(data.final, "is supported at the network's end only", remedy)
        if data.integers and node.op_type not in (OF_LEVELS if data.levels is not None else _OF_INTEGERS):
            raise self.graph.error(node, "must be after a Cast to a float type, as the input is of integers")
        if data.end is not None and node.op_type not in (*QUANTIZERS, *_MOVING):
            raise waiting_end(self.graph, data)
        return data

    def _inferred(self, name: str) -> Data | None:
        """What ONNX infers of a tensor after a node that does not convert."""
        dims = self.graph.inferred_dims().get(name, [])
        if len(dims) not in (2, 4) or min(dims[1:]) < 1 or math.prod(dims[1:]) > MOST_VALUES:
            return None
        shape = Shape(dims[2], dims[3], dims[1]) if len(dims) == 4 else Shape(1, 1, dims[1])
        return Data(value=name, shape=shape, axes=channels_first(shape)[: len(dims)])

    def _end(self) -> None:
        """The network, from what is known of the output."""
        data = self._known.get(self.graph.output)
        if self.graph.output in self._others and self.error is None:
            node = self._others[self.graph.output]
            what = output_name(node, self.graph.output, self.graph.opset)
            raise self.graph.error(node, f"output of the network must be its first output, not its {what}")
        if data is None:
            if self.error is None:
                names = printable(self.graph.output), printable(self.graph.input.name)
                raise ConversionError(f"{self.graph.path}: output {names[0]!r} must depend on input {names[1]!r}")
            return
        if all(part.last is None for part in (data, *data.parts)):
            raise ConversionError(f"{self.graph.path}: must have a Conv, Gemm or MatMul node")
        no_padding(self.graph, data)
        if data.end is not None:
            raise waiting_end(self.graph, data)
        if data.parts:
            data = replace(as_layer(self.graph, data), levels=data.levels)
        if data.scaled_by or data.averaged_by:
            data = fold_back(self.graph, data) or own_layer(self.graph, data)
        data = in_file_order(self.graph, data)
        settle_reports(self.graph, data.layers)
        if self.error is not None:
            return
        output = self.graph.output if data.levels is None else as_numbers(self.graph, data.levels)
        network = FloatNetwork(
            path=self.graph.path,
            input_name=self.graph.input.name,
            input_shape=self.start.shape,
            layers=data.layers,
            model=runnable(self.graph, self.start.data, self._steps, output),
            channels_last=self.start.layout == "nhwc",
            factors=self.start.factors,
            pixels=self.graph.pixels,
        )
        if network.macs > MOST_MACS:
            raise ConversionError(
                f"{self.graph.path}: network must take at most {MOST_MACS:,} MACs per frame, not {network.macs:,}"
            )
        self.network = network


def _of_data(graph: OnnxGraph) -> set[str]:
    """The input, and all tensors that depend on more of it than its shape."""
    found = {graph.input.name}
    for node in graph.nodes:
        if node.op_type not in ("Shape", "Size") and not found.isdisjoint(node.input):
            found.update(node.output)
    return found


_MOVING = ("Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose")
"""Operators that only move values."""

_ACTIVATIONS = ("Relu", "Clip", "Max", "Min", "LeakyRelu", "PRelu", "MaxPool", "GlobalMaxPool")
"""Operators that are the work of neurons, or of what counts their spikes."""

_OF_INTEGERS = ("Cast", *_MOVING, *OF_PIXELS)
"""Operators that do the same to integers, and those that an input of integers may go into."""

_HANDLERS: dict[str, Callable[[OnnxGraph, onnx.NodeProto, Data], Data]] = {
    "Conv": convolution,
    "ConvTranspose": transposed_convolution,
    **dict.fromkeys(("Upsample", "Resize"), resize),
    **dict.fromkeys(("Gemm", "MatMul"), linear),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), arithmetic),
    "BatchNormalization": normalize,
    "Relu": relu,
    "Max": maximum,
    "Min": minimum,
    **dict.fromkeys(("LeakyRelu", "PRelu"), leaky_relu),
    **dict.fromkeys(("MaxPool", "GlobalMaxPool"), max_pool),
    **dict.fromkeys(("AveragePool", "GlobalAveragePool"), average_pool),
    "ReduceMean": reduce_mean,
    "Pad": pad,
    "Flatten": flatten,
    "Reshape": reshape,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Transpose": transpose,
    **dict.fromkeys(("Dropout", "Identity"), nothing),
    **dict.fromkeys(("Softmax", "LogSoftmax"), softmax),
    **dict.fromkeys(("Sigmoid", "Tanh"), monotonic),
    **QUANTIZED,
}
"""What reads each operator of `SUPPORTED`."""
