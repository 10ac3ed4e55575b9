"""Small ONNX graphs of any opset, which grow node by node."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["TWO", "Graph"]

TWO: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}
"""Windows of two by two, side by side."""


class Graph:
    """A graph that grows node by node; arrays among the inputs become initializers.

    Attributes that became inputs in newer opsets are given as attributes (``axes`` of Squeeze, Unsqueeze and ReduceMean,
    ``pads`` of Pad, ``min`` and ``max`` of Clip).
    """

    def __init__(self, opset: int = 17, shape: Sequence[int | str] = ("frames", 2, 8, 8), seed: int = 0) -> None:
        self.opset, self.shape = opset, shape
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.last = "image"

    def constant(self, value: Any) -> str:
        """An initializer; its name."""
        name = f"k{len(self.constants)}"
        value = np.asarray(value)
        self.constants.append(numpy_helper.from_array(value.astype(np.float32 if value.dtype.kind == "f" else np.int64), name))
        return name

    def add(
        self, operator: str, *inputs: Any, data: str | None = None, first: Any = None, outputs: int = 1, **attributes: Any
    ) -> "Graph":
        """A node on the last tensor, or on ``data``, with more ``inputs`` after it, or ``first`` in front of it."""
        since = {"Squeeze": 13, "Unsqueeze": 13, "ReduceMean": 18, "Pad": 11, "Clip": 11}.get(operator, 99)
        given = list(inputs)
        if self.opset >= since:
            for name in ("axes", "pads", "min", "max"):
                if name in attributes:
                    given.append(np.array(attributes.pop(name)))
        named = [data or self.last, *(i if isinstance(i, str) else self.constant(i) for i in given)]
        if first is not None:
            named.insert(0, self.constant(first))
        name = attributes.pop("name", f"{operator.lower()}{len(self.nodes)}")
        found = [f"t{len(self.nodes)}", *(f"t{len(self.nodes)}_{n}" for n in range(1, outputs))]
        self.nodes.append(helper.make_node(operator, named, found, name=name, **attributes))
        self.last = found[0]
        return self

    def conv(
        self, outputs: int, inputs: int, kernel: int | tuple[int, int], *, bias: bool = True, **attributes: Any
    ) -> "Graph":
        """A convolution of random weights."""
        kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        more = [self.rng.normal(0, 0.3, outputs)] if bias else []
        return self.add("Conv", self.rng.normal(0, 0.5, (outputs, inputs, *kernel)), *more, **attributes)

    def norm(self, channels: int, *, least: float = -1.0, **attributes: Any) -> "Graph":
        """Batch normalization; factors of at least ``least``."""
        gain = self.rng.uniform(least, 1.5, channels)
        return self.add("BatchNormalization", gain, *self.rng.normal(0, 0.5, (2, channels)),
                        self.rng.uniform(0.5, 1.5, channels), **attributes)

    def linear(self, inputs: int, outputs: int) -> "Graph":
        """A linear layer of random weights."""
        return self.add("Gemm", self.rng.normal(0, 0.3, (outputs, inputs)), self.rng.normal(0, 0.3, outputs), transB=1)

    def model(self) -> onnx.ModelProto:
        """The graph as a model, whose output is the last tensor."""
        graph = helper.make_graph(
            self.nodes,
            "test",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, self.shape)],
            [helper.make_empty_tensor_value_info(self.last)],
            self.constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)

    def save(self, path: Path) -> Path:
        """Write the model; gives the path."""
        onnx.save(self.model(), path)
        return path
