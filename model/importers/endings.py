"""The network's end: what waits there becomes a layer of its own, and the outputs come in the file's order.

Addresses go by ``(y, x, c)``. The outputs of a file that ends in an image with several positions and channels go by
``(c, y, x)``, and class n must stay class n.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx

from model.importers.float_network import FloatLayer, FloatProjection, expand_groups, projection_of
from model.importers.graph import OnnxGraph
from model.importers.inputs import append
from model.importers.limits import MOST_OUTPUT_WEIGHTS
from model.importers.tensors import Data, letter_sizes, ordered
from model.network import Shape
from model.support.names import layer_name

__all__ = ["in_file_order", "own_layer"]


_WORDS = {"c": "channels", "h": "height", "w": "width"}


def own_layer(graph: OnnxGraph, data: Data) -> Data:
    """What waits at the end and folds into nothing, as a linear layer whose outputs are in the file's order."""
    size = inputs = data.shape.size
    if data.average is not None and not all(average.block for average in data.average):
        inputs = math.prod(average.matrix.shape[1] for average in data.average) * data.shape.channels
    waiting = (*data.scaled_by, *data.averaged_by)
    node = (*data.averaged_by, *data.scaled_by)[0]
    _check_weights(graph, node, data, size * max(size, inputs))
    weights = ordered(np.eye(size), "".join(data.axes[1:]), data.shape).reshape(size, size)
    name = graph.identifier(node)
    layer = FloatLayer(
        kind="linear", source=data.tip, name=name, tensor=data.value, weights=weights, bias=np.zeros(size)
    )
    found = append(graph, node, data, layer, Shape(1, 1, size), ("n", "c" if size > 1 else ""))
    for folded in waiting:
        graph.report(folded, "supported", f"linear layer {name!r} of its own, at the network's end")
    return found


def in_file_order(graph: OnnxGraph, data: Data) -> Data:
    """The outputs in the file's order: a convolution at the end is written as a linear layer, a pool gets one after it."""
    order = "".join(data.axes[1:])
    canonical = "".join(letter for letter in "hwc" if letter in order)
    if order == canonical:
        return data
    size, last = data.shape.size, data.layers[-1]
    name = graph.forms.get(last.name, last.name)
    node = next(n for n in graph.nodes if graph.identifiers.get(n.output[0]) == name)
    sizes = letter_sizes(data.shape)
    addresses = np.arange(size).reshape([sizes[letter] for letter in canonical])
    outputs = addresses.transpose([canonical.index(letter) for letter in order]).reshape(-1)
    words = ", ".join(_WORDS[letter] for letter in order)
    if last.kind == "maxpool":
        _check_weights(graph, node, data, size * size)
        name = layer_name(f"{last.name}_order", {layer.name for layer in data.layers})
        layer = FloatLayer(
            kind="linear",
            source=last.name,
            name=name,
            tensor=data.value,
            weights=np.eye(size)[outputs],
            bias=np.zeros(size),
        )
        layers = (*data.layers, layer)
        what = f"{graph.reports[node.output[0]].what}, and linear layer {name!r}"
    else:
        inputs = [taken.taken(shape).size for taken, shape in zip(last.inputs, data.before, strict=True)]
        _check_weights(graph, node, data, size * sum(inputs))
        layers = (*data.layers[:-1], _as_linear(last, data.before, outputs, data.value))
        what = f"linear layer {last.name!r}: {' and '.join(map(str, inputs))} to {size}"
    graph.report(node, "supported", f"{what}, with outputs in the file's order: {words}")
    return replace(data, layers=layers, shape=Shape(1, 1, size), axes=("n", "c"))


def _check_weights(graph: OnnxGraph, node: onnx.NodeProto, data: Data, weights: int) -> None:
    if weights > MOST_OUTPUT_WEIGHTS:
        raise graph.error(
            node,
            f"outputs {data.shape} must be brought into the file's order by a linear layer of at most {MOST_OUTPUT_WEIGHTS:,} "
            f"weights, not {weights:,}",
            "end in fewer outputs, or in a Transpose to (frames, height, width, channels)",
        )


def _as_linear(
    layer: FloatLayer, shapes: Sequence[Shape], outputs: npt.NDArray[np.int64], tensor: str
) -> FloatLayer:
    """A convolution on inputs of these ``shapes`` as a linear layer with the ``outputs`` at these addresses."""
    assert layer.bias is not None
    shape, expanded = layer.output_shape(shapes[0]), expand_groups(layer)
    bias = np.broadcast_to(layer.bias, shape).reshape(-1)[outputs]
    first, *joined = (_dense(taken, size, outputs) for taken, size in zip(expanded.inputs, shapes, strict=True))
    return replace(expanded, **vars(projection_of(first)), tensor=tensor, bias=bias, joined=tuple(joined))


def _dense(taken: FloatProjection, shape: Shape, outputs: npt.NDArray[np.int64]) -> FloatProjection:
    """One input of a layer on a source of ``shape``."""
    taken = projection_of(taken)
    assert taken.weights is not None
    if taken.kind == "linear":
        return replace(taken, weights=taken.weights[outputs])
    shape = taken.taken(shape)
    if taken.kind == "transposed":
        return replace(_dense_transposed(taken, shape, outputs), averaged=taken.averaged)
    height, width, channels = replace(taken, averaged=(1, 1)).output_shape(shape)
    dense = np.zeros((height, width, channels, *shape))
    top, left, _, _ = taken.padding
    kernel = taken.weights.transpose(0, 2, 3, 1)
    for y, x in np.ndindex(height, width):
        row, column = y * taken.stride[0] - top, x * taken.stride[1] - left
        inside = kernel[:, max(-row, 0) : shape.height - row, max(-column, 0) : shape.width - column]
        rows, columns = slice(max(row, 0), row + taken.window[0]), slice(max(column, 0), column + taken.window[1])
        dense[y, x, :, rows, columns] = inside
    return FloatProjection(
        kind="linear",
        source=taken.source,
        weights=dense.reshape(height * width * channels, shape.size)[outputs],
        averaged=taken.averaged,
    )


def _dense_transposed(taken: FloatProjection, shape: Shape, outputs: npt.NDArray[np.int64]) -> FloatProjection:
    """A transposed convolution of a source of ``shape`` as a linear input."""
    assert taken.weights is not None
    height, width, channels = replace(taken, averaged=(1, 1)).output_shape(shape)
    dense = np.zeros((height, width, channels, *shape))
    kernel = taken.weights.transpose(2, 3, 0, 1)
    for y, x in np.ndindex(shape[:2]):
        row, column = y * taken.stride[0] - taken.padding.top, x * taken.stride[1] - taken.padding.left
        inside = kernel[max(-row, 0) : max(height - row, 0), max(-column, 0) : max(width - column, 0)]
        rows, columns = slice(max(row, 0), max(row + taken.window[0], 0)), slice(max(column, 0), max(column + taken.window[1], 0))
        dense[rows, columns, :, y, x, :] = inside
    weights = dense.reshape(height * width * channels, shape.size)[outputs]
    return FloatProjection(kind="linear", source=taken.source, weights=weights)
