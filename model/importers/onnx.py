"""Trained networks from ONNX files, as a chain of float layers.

The nodes are walked from the input to the output. Convolutions, linear layers and max-pools become layers; what scales,
shifts or averages waits until it can be folded into a layer before or behind it (`model.importers.folding`); transposes and
reshapes only change which address an input of a linear layer has. What does not convert is named with its node.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from model.importers.deferred import arithmetic, average_pool, normalize, pad, reduce_mean
from model.importers.float_network import ConversionError, FloatLayer, FloatNetwork
from model.importers.graph import FLOATS, NodeReport, OnnxGraph, damage_in_one_line, load, node_name, permutation
from model.importers.layers import append, clip, convolution, fold_back, linear, max_pool, relu
from model.importers.operators import PASSING, SUPPORTED, refusal
from model.importers.tensors import (
    Data,
    channels_first,
    filled,
    flatten,
    no_padding,
    nothing,
    ordered,
    reshape,
    softmax,
    squeeze,
    transpose,
    unsqueeze,
)
from model.network import Shape

__all__ = [
    "SUPPORTED",
    "ConversionError",
    "FloatLayer",
    "FloatNetwork",
    "NodeReport",
    "import_model",
    "import_onnx",
    "report_nodes",
]

_TO_CHANNELS_FIRST = [0, 3, 1, 2]


def report_nodes(path: Path | str, *, for_hardware: bool = False) -> list[NodeReport]:
    """Every node of the file, with what becomes of it, or why not and what could be done.

    Parameters
    ----------
    path : the file
    for_hardware : whether what hardware does not build is unsupported too

    Raises
    ------
    ConversionError : the file itself is not what it must be
    """
    path = Path(path)
    with damage_in_one_line(path):
        return _Importer(OnnxGraph(path, load(path), for_hardware=for_hardware)).report()


def import_onnx(path: Path | str) -> FloatNetwork:
    """Read an ONNX file.

    Raises
    ------
    ConversionError : one line that names the file, the node and its operator, and what could be done
    """
    path = Path(path)
    with damage_in_one_line(path):
        return _Importer(OnnxGraph(path, load(path))).run()


def import_model(model: onnx.ModelProto, name: str) -> FloatNetwork:
    """As `import_onnx`, of a model that is read already; ``name`` stands for the file in messages."""
    with damage_in_one_line(Path(name)):
        return _Importer(OnnxGraph(Path(name), model)).run()


class _Importer:
    """Follows the data from the input to the output."""

    def __init__(self, graph: OnnxGraph) -> None:
        self.graph = graph

    def run(self) -> FloatNetwork:
        """The network; the first node that does not convert is an error."""
        start, channels_last = self._start()
        layers = self._finish(self._walk(start, None)).layers
        model = self.graph.model
        if self.graph.extra.node:
            model = onnx.ModelProto()
            model.CopyFrom(self.graph.model)
            model.graph.node.extend(self.graph.extra.node)
            model.graph.initializer.extend(self.graph.extra.initializer)
        return FloatNetwork(
            path=self.graph.path,
            input_name=self.graph.input.name,
            input_shape=start.shape,
            layers=layers,
            model=model,
            channels_last=channels_last,
        )

    def report(self) -> list[NodeReport]:
        """As `run`, but goes on behind a node that cannot be converted, with the shape that ONNX infers."""
        start, _ = self._start()

        def record(error: ConversionError) -> None:
            node = next(node for node in self.graph.nodes if node.output[0] == error.node)
            self.graph.reports[error.node] = NodeReport(node_name(node), node.op_type, "unsupported", error.reason, error.remedy)

        found = self._walk(start, record)
        try:
            if found is not None:
                self._finish(found)
        except ConversionError as error:
            if error.node:
                record(error)
        return [self.graph.reports[node.output[0]] for node in self.graph.nodes]

    def _walk(self, start: Data, record: Callable[[ConversionError], None] | None) -> Data | None:
        """What is known of the output; errors are recorded where there is ``record``, and raised where not."""
        known: dict[str, Data | None] = {self.graph.input.name: start}
        needed = self._needed()
        for node in self.graph.nodes:
            key = node.output[0]
            arriving = [name for name in node.input if name in known]
            if key not in needed:
                self.graph.report(node, "folded", "nothing: the output does not depend on it")
                continue
            if not arriving or node.op_type in ("Shape", "Size"):
                self.graph.report(node, "folded", "constant, or arithmetic on shapes: not in the data's path")
                continue
            data = known[arriving[0]]
            while True:
                try:
                    self._check_operator(node, arriving)
                    if data is None:
                        self._not_checked(node)
                        known[key] = self._inferred_data(key)
                    else:
                        known[key] = self._step(node, data)
                except ConversionError as error:
                    if record is None:
                        raise
                    record(error)
                    if error.node != key and data is not None and (data.averaged_by or data.scaled_by or data.padded_by):
                        # Once more without what did not fold.
                        axes = data.axes if data.padded_by is None else channels_first(data.inside)
                        data = Data(value=data.value, shape=data.inside, axes=axes)
                        continue
                    if error.node != key:
                        self._not_checked(node)
                    known[key] = self._inferred_data(key)
                break
        output = self.graph.model.graph.output[0].name
        if output not in known:
            raise ConversionError(f"{self.graph.path}: output must depend on input {self.graph.input.name!r}")
        return known[output]

    def _not_checked(self, node: onnx.NodeProto) -> None:
        self.graph.report(node, "supported", f"{SUPPORTED[node.op_type]}; not checked, its input is not known")

    def _needed(self) -> set[str]:
        """First outputs of the nodes that the output depends on."""
        producers = {name: node for node in self.graph.nodes for name in node.output if name}
        wanted, needed = [self.graph.model.graph.output[0].name], set()
        while wanted:
            node = producers.get(wanted.pop())
            if node is not None and node.output[0] not in needed:
                needed.add(node.output[0])
                wanted.extend(node.input)
        return needed

    def _check_operator(self, node: onnx.NodeProto, arriving: Sequence[str]) -> None:
        if node.op_type not in SUPPORTED or node.domain not in ("", "ai.onnx"):
            raise self.graph.error(node, *refusal(node.op_type, node.domain))
        if len(arriving) != 1:
            raise self.graph.error(
                node,
                f"must have one input that is not a constant, not {len(arriving)}",
                "branches are not supported: make the network a chain",
            )

    def _step(self, node: onnx.NodeProto, data: Data) -> Data:
        if data.softmax is not None and node.op_type not in PASSING:
            raise self.graph.error(data.softmax, "is supported at the network's end only", "train without it")
        found = _HANDLERS[node.op_type](self.graph, node, data)
        if found.softmax is None and not any(found.padding):
            found = replace(found, value=node.output[0])
        return found

    def _start(self) -> tuple[Data, bool]:
        """The input, and whether its channels are last: its shape alone does not say, but what it is first used for does."""
        kind = self.graph.input.type.tensor_type
        dims = [d.dim_value if d.HasField("dim_value") else 0 for d in kind.shape.dim]
        where = f"{self.graph.path}: input {self.graph.input.name!r}"
        if kind.elem_type not in FLOATS:
            raise ConversionError(f"{where} must be of a float type, not {TensorProto.DataType.Name(kind.elem_type).lower()}")
        first = self.graph.first_use(self.graph.input.name)
        if len(dims) == 4 and min(dims[1:]) > 0:
            if first is not None and first.op_type == "Transpose" and permutation(first) == _TO_CHANNELS_FIRST:
                shape = Shape(*dims[1:])
                c, h, w = channels_first(shape)[1:]
                return Data(value=self.graph.input.name, shape=shape, axes=("n", h, w, c)), True
            shape = Shape(dims[2], dims[3], dims[1])
            return Data(value=self.graph.input.name, shape=shape, axes=channels_first(shape)), False
        if len(dims) == 3 and min(dims[1:]) > 0:
            shape = Shape(dims[1], dims[2], 1)
            return Data(value=self.graph.input.name, shape=shape, axes=("n", *channels_first(shape)[2:])), False
        if len(dims) == 2 and dims[1] > 0:
            target = self.graph.target(first) if first is not None and first.op_type == "Reshape" else []
            target = [-1, *filled(target[1:], dims[1])]
            if first is None or len(target) != 4 or int(np.prod(target[1:])) != dims[1]:
                shape = Shape(1, 1, dims[1])
                return Data(value=self.graph.input.name, shape=shape, axes=("n", "c" if dims[1] > 1 else "")), False
            after = self.graph.first_use(first.output[0])
            last = after is not None and after.op_type == "Transpose" and permutation(after) == _TO_CHANNELS_FIRST
            shape = Shape(*target[1:]) if last else Shape(target[2], target[3], target[1])
            c, h, w = channels_first(shape)[1:]
            return Data(value=self.graph.input.name, shape=shape, axes=("n", h + w + c if last else c + h + w)), last
        raise ConversionError(
            f"{where} must have shape (frames, channels, height, width), (frames, height, width) or "
            f"(frames, features), not {tuple(d or '?' for d in dims)}"
        )

    def _inferred_data(self, name: str) -> Data | None:
        dims = self.graph.inferred_dims().get(name, [])
        if len(dims) not in (2, 4) or min(dims[1:]) < 1:
            return None
        shape = Shape(dims[2], dims[3], dims[1]) if len(dims) == 4 else Shape(1, 1, dims[1])
        return Data(value=name, shape=shape, axes=channels_first(shape)[: len(dims)])

    def _finish(self, data: Data | None) -> Data:
        assert data is not None
        if data.last is None:
            raise ConversionError(f"{self.graph.path}: must have a Conv, Gemm or MatMul node")
        no_padding(self.graph, data)
        waiting = (*data.scaled_by, *data.averaged_by)
        if not waiting:
            return data
        back = fold_back(self.graph, data)
        if back is not None:
            return back
        # Outputs in the order of the file's own output, so that class n stays class n.
        size = data.shape.size
        weights = ordered(np.eye(size), "".join(data.axes[1:]), data.shape).reshape(size, size)
        node = (*data.averaged_by, *data.scaled_by)[0]
        name = self.graph.identifier(node)
        layer = FloatLayer(kind="linear", name=name, tensor=data.value, weights=weights, bias=np.zeros(size))
        found = append(self.graph, node, data, layer, Shape(1, 1, size), ("n", "c" if size > 1 else ""))
        for folded in waiting:
            self.graph.report(folded, "supported", f"linear layer {name!r} of its own, at the network's end")
        return found


_HANDLERS: dict[str, Callable[[OnnxGraph, onnx.NodeProto, Data], Data]] = {
    "Conv": convolution,
    **dict.fromkeys(("Gemm", "MatMul"), linear),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), arithmetic),
    "BatchNormalization": normalize,
    "Relu": relu,
    "Clip": clip,
    **dict.fromkeys(("MaxPool", "GlobalMaxPool"), max_pool),
    **dict.fromkeys(("AveragePool", "GlobalAveragePool"), average_pool),
    "ReduceMean": reduce_mean,
    "Pad": pad,
    "Flatten": flatten,
    "Reshape": reshape,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Transpose": transpose,
    **dict.fromkeys(("Dropout", "Identity", "Cast"), nothing),
    **dict.fromkeys(("Softmax", "LogSoftmax"), softmax),
}
"""What reads each operator of `SUPPORTED`."""
