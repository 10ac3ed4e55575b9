"""Nodes that scale, shift, average or pad: they wait for a layer that they fold into."""

from dataclasses import replace

import numpy as np
import onnx
from onnx import helper

from model.arrays import Floats
from model.importers.float_network import is_float32
from model.importers.folding import Average, average_window, is_uniform
from model.importers.graph import OnnxGraph, text
from model.importers.inputs import different_values, fold_back
from model.importers.layers import add_padding, flag, moved, output_shape, pool_window
from model.importers.limits import MOST_MATRIX
from model.importers.parts import averaged_parts, scaled_parts
from model.importers.structure import label
from model.importers.tensors import Data, along, axes_after_frames, axes_like, by_address, channels_first, image_shape, no_padding
from model.network import Padding, Shape

__all__ = ["affine", "arithmetic", "average_pool", "normalize", "pad", "reduce_mean"]


def affine(graph: OnnxGraph, node: onnx.NodeProto, data: Data, scale: Floats, offset: Floats) -> Data:
    """Scale and shift: into the layer before where it stands right after it, or to wait.

    Both may be of size 1 along an axis; what waits is broadcast along it, and takes no memory for it.
    """
    no_padding(graph, data)
    if data.parts:
        return scaled_parts(graph, node, data, scale, offset, affine)
    if data.affine is not None:
        first, second = map(_without_copies, data.affine)
        scale, offset = scale * first, scale * second + offset
    for what, values in (("scale", scale), ("offset", offset)):
        if not is_float32(values):
            raise graph.error(node, f"{what} must be finite numbers of float32, with those before it")
    scale, offset = np.broadcast_to(scale, data.shape), np.broadcast_to(offset, data.shape)
    graph.report(node, "folded", "into the layer after it")
    waiting = replace(data, value=node.output[0], affine=(scale, offset), scaled_by=(*data.scaled_by, node))
    if data.average is None and data.last is not None and data.last == len(data.layers) - 1:
        return fold_back(graph, waiting) or waiting
    return waiting


def _without_copies(values: Floats) -> Floats:
    """Values that are broadcast along an axis, with size 1 along it."""
    return values[tuple(slice(1) if stride == 0 else slice(None) for stride in values.strides)]


def arithmetic(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Data:
    """Constants added, subtracted, multiplied or divided by."""
    graph.attributes(node, ())
    if len(node.input) != 2:
        raise graph.error(node, f"must have 2 inputs, not {len(node.input)}")
    index = 0 if node.input[0] in graph.constants else 1
    constant = graph.constant(node, index).astype(np.float64)
    values = by_address(constant, data)
    if values is None:
        raise graph.error(node, f"constant must hold one value per channel ({data.shape.channels}), not shape {constant.shape}")
    one, none = np.ones((1, 1, 1)), np.zeros((1, 1, 1))
    if node.op_type == "Add":
        return affine(graph, node, data, one, values)
    if node.op_type == "Sub":
        return affine(graph, node, data, one, -values) if index == 1 else affine(graph, node, data, -one, values)
    if node.op_type == "Mul":
        return affine(graph, node, data, values, none)
    if index == 0:
        raise graph.error(node, "divides a constant by the data", "activations can be divided by constants only")
    if not values.all():
        raise graph.error(node, "constant must not be 0")
    return affine(graph, node, data, 1 / values, none)


def normalize(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Data:
    """Batch normalization, with the statistics of training."""
    attributes = graph.attributes(node, ("epsilon", "momentum", "training_mode", "spatial"))
    if attributes.get("training_mode", 0) or not attributes.get("spatial", 1):
        raise graph.error(node, "training_mode must be 0 and spatial 1; export the network in evaluation mode")
    if len(data.axes) < 2:
        raise graph.error(node, "input must be (frames, channels, ...)")
    size = data.dims[1]
    gain, shift, mean, variance = (
        graph.per_channel(node, graph.constant(node, n), size, f"input {n}") for n in range(1, 5)
    )
    variance = variance + attributes.get("epsilon", 1e-5)
    if variance.min() <= 0:
        raise graph.error(node, f"variance and epsilon must be more than 0 in sum, not {variance.min():.4g}")
    factor = gain / np.sqrt(variance)
    along = (1, -1, *[1] * (len(data.axes) - 2))
    scale, offset = (by_address(v.reshape(along), data) for v in (factor, shift - mean * factor))
    assert scale is not None and offset is not None
    return affine(graph, node, data, scale, offset)


def average_pool(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Data:
    """Averages over windows, or over all positions."""
    no_padding(graph, data)
    shape = image_shape(graph, node, data)
    window, stride, padding, given = pool_window(graph, node, data, ("count_include_pad",))
    output = output_shape(graph, node, shape, window, stride, padding, shape.channels)
    if node.op_type.startswith("Global"):
        stride = (1, 1)
    counts = bool(flag(graph, node, "count_include_pad"))
    for axis in (0, 1):
        _check_matrix(graph, node, output[axis], shape[axis], window[axis])
    rows, columns = (
        average_window(
            size=shape[axis],
            outputs=output[axis],
            kernel=window[axis],
            stride=stride[axis],
            before=given[axis],
            after=given[axis + 2],
            count_padding=counts,
        )
        for axis in (0, 1)
    )
    return _average(graph, node, data, rows, columns, axes_like(data, output))


def reduce_mean(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Data:
    """Averages over height, width or both."""
    graph.attributes(node, ("axes", "keepdims", "noop_with_empty_axes"))
    keep = flag(graph, node, "keepdims", usual=1)
    axes = graph.integers(node, "axes", 1)
    if not axes:
        raise graph.error(node, "axes must be given: height and width")
    reduced = axes_after_frames(graph, node, axes, len(data.axes))
    letters = "".join(data.axes[axis] for axis in reduced)
    if "c" in letters:
        raise graph.error(node, "axes must be height and width, not the channels")
    for n, letter in ((data.shape.height, "h"), (data.shape.width, "w")):
        _check_matrix(graph, node, 1 if letter in letters else n, n, n)
    rows, columns = (
        average_window(size=n, outputs=1, kernel=n, stride=1, before=0, after=0, count_padding=False)
        if letter in letters
        else Average.nothing(n)
        for n, letter in ((data.shape.height, "h"), (data.shape.width, "w"))
    )
    left = ["" if axis in reduced else found for axis, found in enumerate(data.axes)]
    return _average(
        graph, node, data, rows, columns, tuple(left if keep else [a for n, a in enumerate(left) if n not in reduced])
    )


def _check_matrix(graph: OnnxGraph, node: onnx.NodeProto, outputs: int, size: int, kernel: int) -> None:
    """Refuse an average along an axis that would take too much to work out."""
    if outputs * size + kernel > MOST_MATRIX:
        raise graph.error(
            node,
            f"inputs times outputs along an axis must be at most {MOST_MATRIX:,}, not {size:,} times {outputs:,} of a window of "
            f"{kernel:,}",
            "average less at once, or use MaxPool",
        )


def _average(graph: OnnxGraph, node: onnx.NodeProto, data: Data, rows: Average, columns: Average, axes: tuple[str, ...]) -> Data:
    """An average waits after what waits already."""
    no_padding(graph, data)
    output = Shape(len(rows.matrix), len(columns.matrix), data.shape.channels)
    if all(m.shape[0] == m.shape[1] and np.array_equal(m, np.eye(len(m))) for m in (rows.matrix, columns.matrix)):
        graph.report(node, "folded", "nothing: its window is one position")
        return replace(data, axes=axes)
    if data.parts:
        return averaged_parts(
            graph, node, data, axes, lambda graph, node, part: _average(graph, node, part, rows, columns, _as_image(part, output))
        )
    if data.affine is not None:
        if not all(map(is_uniform, data.affine)):
            raise different_values(graph, data.scaled_by[-1], node)
        if data.affine[1].any() and not (rows.keeps_offsets and columns.keeps_offsets):
            raise graph.error(
                node,
                f"counts its padding as zeros, without the offset of {label(data.scaled_by[-1])}",
                "set count_include_pad to 0, or pads to 0",
            )
    if data.average is not None:
        rows, columns = rows.after(data.average[0]), columns.after(data.average[1])
    graph.report(node, "folded", "into the layer after it")
    waiting = moved(data, output, data.layers, axes)
    return replace(waiting, average=(rows, columns), averaged_by=(*data.averaged_by, node))


def _as_image(part: Data, output: Shape) -> tuple[str, ...]:
    """The axes of a part, averaged to the height and width of ``output``."""
    return channels_first(Shape(output.height, output.width, part.shape.channels))


def pad(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Data:
    """Zeros around an image, which wait for a window."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    mode = text(attributes.get("mode", "constant"))
    value = attributes.get("value", 0.0)
    if (given := graph.number(node, 2)) is not None:
        value = given
    if mode != "constant" or value != 0:
        raise graph.error(node, f"mode must be 'constant' with 0, not {mode!r} with {value:g}", "pad with zeros")
    rank = len(data.axes)
    axes = list(range(rank))
    if len(node.input) > 3 and node.input[3]:
        axes = graph.integers(node, "axes", 3) or []
        if not all(-rank <= axis < rank for axis in axes) or len({axis % rank for axis in axes}) < len(axes):
            raise graph.error(node, f"axes must be different ones within {-rank}..{rank - 1}, not {axes}")
        axes = [axis % rank for axis in axes]
    pads = graph.integers(node, "pads", 1) or []
    if len(pads) != 2 * len(axes) or min(pads) < 0:
        raise graph.error(node, f"pads must be {2 * len(axes)} numbers of at least 0, not {pads}")
    if not any(pads):
        graph.report(node, "folded", "nothing: pads are 0")
        return data
    shape = image_shape(graph, node, data)
    around = {axis: (pads[n], pads[n + len(axes)]) for n, axis in enumerate(axes)}
    if any(sum(around.get(axis, (0, 0))) for axis in (0, 1)):
        raise graph.error(node, f"pads must be 0 for frames and channels, not {pads}")
    length = along(data)
    image = {0: around.get(2, (0, 0)), 1: around.get(3, (0, 0))} if length is None else {length: around.get(2, (0, 0))}
    (top, bottom), (left, right) = image.get(0, (0, 0)), image.get(1, (0, 0))
    graph.report(node, "folded", "padding of the layer after it")
    padded = Shape(shape.height + top + bottom, shape.width + left + right, shape.channels)
    return replace(
        data,
        shape=padded,
        axes=axes_like(data, padded),
        padding=add_padding(data.padding, Padding(top, left, bottom, right)),
        padded_by=node,
    )
