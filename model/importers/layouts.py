"""What the axes of a file's input may be: the file gives their sizes only.

Whether channels come first or last shows in what the nodes do with them, or, where they only flatten them, in the shape of the
data. So every way to read the input is tried; `model.importers.onnx` takes the one that converts and that the data has.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from onnx import TensorProto, helper

from model.arrays import Floats
from model.importers.float_network import ConversionError, is_float32
from model.importers.graph import OnnxGraph, permutation
from model.importers.limits import MOST_VALUES
from model.importers.normalization import AS_THEY_ARE, Normalization
from model.importers.structure import FLOATS, printable, type_name
from model.importers.tensors import Data, filled, letter_sizes
from model.network import Shape

__all__ = ["Start", "starts", "where"]

_UINT8_FULL = 255.0

_TO_CHANNELS_FIRST = [0, 3, 1, 2]

_TAKE_CHANNELS = ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool", "BatchNormalization")
"""Operators whose second axis is the channels."""


@dataclass(frozen=True)
class Start:
    """One way to read the input.

    Parameters
    ----------
    data : Data
        The input with its axes.
    layout : str
        One of `model.support.choices.LAYOUTS`; empty where it has no channels.
    factors : tuple[Floats, Floats] or None
        Scale and offset of each channel, where the network takes other numbers than pixels of 0 to 1.
    """

    data: Data
    layout: str
    factors: tuple[Floats, Floats] | None = None

    @property
    def shape(self) -> Shape:
        """Shape of a frame."""
        return self.data.shape


def where(graph: OnnxGraph) -> str:
    """The file and its input, for messages."""
    return f"{graph.path}: input {printable(graph.input.name)!r}"


def starts(
    graph: OnnxGraph,
    layout: str | None = None,
    input_shape: Sequence[int] | None = None,
    normalization: Normalization = AS_THEY_ARE,
) -> list[Start]:
    """All ways to read the input, the usual one first.

    Parameters
    ----------
    graph : OnnxGraph
        The file's graph.
    layout : str or None
        One of `model.support.choices.LAYOUTS`, where it is known.
    input_shape : sequence of int or None
        Shape of the data's frames, where it is known: a vector of that size may be such a frame.
    normalization : Normalization
        What the network takes in place of pixels of 0 to 1.

    Raises
    ------
    ConversionError
        The input is not of a type or shape that can be read, or too large, or has other channels than the normalization.
    """
    what = graph.input.type.WhichOneof("value")
    if what not in (None, "tensor_type"):
        raise ConversionError(f"{where(graph)} must be a tensor, not of {what}")
    kind = graph.input.type.tensor_type
    if kind.elem_type not in (*FLOATS, TensorProto.UINT8):
        raise ConversionError(f"{where(graph)} must be of a float type or uint8, not {type_name(kind.elem_type)}")
    if kind.elem_type == TensorProto.UINT8 and normalization.scale is None:
        normalization = replace(normalization, scale=_UINT8_FULL)
    dims = [d.dim_value if d.HasField("dim_value") else 0 for d in kind.shape.dim]
    if len(dims) not in (2, 3, 4) or min(dims[1:]) < 1:
        raise ConversionError(
            f"{where(graph)} must have shape (frames, channels, height, width), (frames, height, width), "
            f"(frames, channels, length) or (frames, features), not {tuple(d if d > 0 else '?' for d in dims)}"
        )
    if math.prod(dims[1:]) > MOST_VALUES:
        raise ConversionError(f"{where(graph)} must have at most {MOST_VALUES:,} values per frame, not {math.prod(dims[1:]):,}")
    found: dict[tuple[Shape, tuple[str, ...]], Start] = {}
    for start in _all(graph, dims[1:], input_shape):
        if layout is None or start.layout in ("", layout):
            found.setdefault((start.data.shape, start.data.axes), start)
    fitting = [start for start in found.values() if not normalization.misfit(start.shape.channels)]
    if found and not fitting:
        first = next(iter(found.values()))
        raise ConversionError(f"{where(graph)}: {normalization.misfit(first.shape.channels)}")
    return [_normalized(graph, start, normalization) for start in fitting]


def _normalized(graph: OnnxGraph, start: Start, normalization: Normalization) -> Start:
    """The same, with the normalization in front of the file's nodes."""
    integers = graph.input.type.tensor_type.elem_type not in FLOATS
    start = replace(start, data=replace(start.data, integers=integers))
    if normalization == AS_THEY_ARE:
        return start
    factors = normalization.factors(start.shape.channels)
    if not all(map(is_float32, factors)):
        raise ConversionError(f"{where(graph)}: --scale and --mean over --std must be finite numbers of float32")
    scale, offset = (np.broadcast_to(values, start.shape) for values in factors)
    # Stands in messages for a node that the file has not.
    node = helper.make_node("--mean, --std, --scale", [], [f"{graph.input.name} normalized"], name=graph.input.name)
    return replace(start, data=replace(start.data, affine=(scale, offset), scaled_by=(node,)), factors=factors)


def _all(graph: OnnxGraph, dims: list[int], input_shape: Sequence[int] | None) -> Iterator[Start]:
    first = graph.first_use(graph.input.name)
    if len(dims) > 1:
        found = list(_of_dims(graph, dims))
        if first is not None and first.op_type == "Transpose" and permutation(first) == _TO_CHANNELS_FIRST:
            found.reverse()
        if first is not None and first.op_type in _TAKE_CHANNELS:
            found.sort(key=lambda start: start.layout != "nchw")
        yield from found
        return
    size = dims[0]
    if first is not None and first.op_type == "Reshape" and len(first.input) > 1:
        target = filled(graph.target(first)[1:], size)
        if 1 < len(target) < 4 and min(target) > 0 and math.prod(target) == size:
            after = graph.first_use(first.output[0])
            found = list(_of_dims(graph, target))
            if after is not None and after.op_type == "Transpose" and permutation(after) == _TO_CHANNELS_FIRST:
                found.reverse()
            yield from map(_flat, found)
    yield _start(graph, Shape(1, 1, size), ("c",), "")
    yield _start(graph, Shape(1, size, 1), ("w",), "")
    if input_shape is not None and len(input_shape) == 3 and math.prod(input_shape) == size:
        shape = Shape(*input_shape)
        yield _flat(_start(graph, shape, ("c", "h", "w"), "nchw" if shape.channels > 1 else ""))
        yield _flat(_start(graph, shape, ("h", "w", "c"), "nhwc" if shape.channels > 1 else ""))


def _of_dims(graph: OnnxGraph, dims: Sequence[int]) -> Iterator[Start]:
    if len(dims) == 3:
        yield _start(graph, Shape(dims[1], dims[2], dims[0]), ("c", "h", "w"), "nchw")
        yield _start(graph, Shape(*dims), ("h", "w", "c"), "nhwc")
        return
    yield _start(graph, Shape(dims[0], dims[1], 1), ("h", "w"), "")
    yield _start(graph, Shape(1, dims[1], dims[0]), ("c", "w"), "nchw")
    yield _start(graph, Shape(1, dims[0], dims[1]), ("w", "c"), "nhwc")
    yield _start(graph, Shape(dims[1], 1, dims[0]), ("c", "h"), "nchw")
    yield _start(graph, Shape(dims[0], 1, dims[1]), ("h", "c"), "nhwc")


def _start(graph: OnnxGraph, shape: Shape, letters: Sequence[str], layout: str) -> Start:
    sizes = letter_sizes(shape)
    axes = ("n", *(letter if sizes[letter] > 1 else "" for letter in letters))
    return Start(Data(value=graph.input.name, shape=shape, axes=axes), layout)


def _flat(start: Start) -> Start:
    """The same, flattened."""
    data = start.data
    axes = ("n", "".join(data.axes[1:]))
    return Start(Data(value=data.value, shape=data.shape, axes=axes), start.layout)
