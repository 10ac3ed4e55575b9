"""What goes into a layer of neurons: its inputs, with what waits in front of them, and what folds back into it from behind.

A layer behind branches that were joined has an input for each of them: of a sum each with the same weights, of a concatenation
each with those of its channels.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import helper

from model.arrays import Floats
from model.importers.float_network import (
    ConversionError,
    FloatLayer,
    FloatProjection,
    is_float32,
    projection_of,
    ungrouped_weights,
)
from model.importers.folding import average_after, average_before, is_uniform, scale_inputs, scale_outputs
from model.importers.forms import united
from model.importers.graph import OnnxGraph
from model.importers.limits import MOST_FOLD, MOST_INPUTS, MOST_OUTPUT_WEIGHTS, MOST_WEIGHTS
from model.importers.structure import label
from model.importers.tensors import Data, axes_like, letter_sizes, no_padding, of_parts
from model.network import INPUT, Padding, Shape

__all__ = [
    "Drive",
    "absorbed",
    "append",
    "as_layer",
    "assembled",
    "by_itself",
    "channel_major",
    "different_values",
    "drives",
    "fold_back",
    "one_to_one",
]


@dataclass(frozen=True)
class Drive:
    """What drives a layer, in whole or in part.

    Parameters
    ----------
    layers : tuple[FloatLayer, ...]
        Its sources, and all that these depend on.
    layer : FloatLayer
        Its inputs, and their part of its bias.
    shapes : tuple[Shape, ...]
        Shapes of its sources.
    """

    layers: tuple[FloatLayer, ...]
    layer: FloatLayer
    shapes: tuple[Shape, ...]


def append(graph: OnnxGraph, node: onnx.NodeProto, data: Data, layer: FloatLayer, shape: Shape, axes: tuple[str, ...]) -> Data:
    """Another neuron layer, into which goes what waits."""
    found = drives(graph, node, data, layer)
    for join in data.joined_by:
        what = f"{len(data.parts)} inputs of layer {layer.name!r}"
        graph.report(join, "folded", what if data.join == "sum" else f"{what}, each with its part of the channels")
    if data.parts and data.padded_by is not None:
        graph.report(data.padded_by, "folded", f"into layer {layer.name!r} after it")
    return assembled(graph, node, found, layer, shape, axes)


def assembled(
    graph: OnnxGraph, node: onnx.NodeProto, driven: Sequence[Drive], layer: FloatLayer, shape: Shape, axes: tuple[str, ...]
) -> Data:
    """A layer with the name and the tensor of ``layer``, and all inputs that drive it."""
    if (size := sum(len(drive.layer.inputs) for drive in driven)) > MOST_INPUTS:
        raise graph.error(node, f"layer {layer.name!r} must have at most {MOST_INPUTS} inputs, not {size}", "join fewer branches")
    layers, renamed = united(graph, [drive.layers for drive in driven])
    inputs: list[FloatProjection] = []
    bias = np.zeros(1)
    for drive, names in zip(driven, renamed, strict=True):
        inputs += [replace(taken, source=names.get(taken.source, taken.source)) for taken in drive.layer.inputs]
        assert drive.layer.bias is not None
        bias = bias + drive.layer.bias
    first, *joined = inputs
    assert isinstance(first, FloatLayer)
    made = replace(
        first,
        name=layer.name,
        tensor=layer.tensor,
        bias=bias[0, 0] if bias.ndim == 3 and is_uniform(bias) else bias,
        joined=tuple(map(projection_of, joined)),
    )
    before = tuple(size for drive in driven for size in drive.shapes)
    return Data(value=node.output[0], shape=shape, axes=axes, layers=(*layers, made), before=before)


def drives(graph: OnnxGraph, node: onnx.NodeProto, data: Data, layer: FloatLayer) -> list[Drive]:
    """A layer of one input on data that may be joined: what drives it, one for each part."""
    if not data.parts:
        return [_drive(graph, node, data, layer)]
    return [_drive(graph, node, part, own) for part, own in _by_parts(graph, node, data, layer)]


def _by_parts(
    graph: OnnxGraph, node: onnx.NodeProto, data: Data, layer: FloatLayer
) -> Iterator[tuple[Data, FloatLayer]]:
    """Each part of what is joined, with the layer on it alone; the bias is in the first."""
    assert layer.weights is not None and layer.bias is not None
    weights, outputs = [layer.weights] * len(data.parts), len(layer.weights)
    if data.join == "concat":
        size = layer.weights.size * layer.groups
        if size > MOST_WEIGHTS:
            what = f"weights must be at most {MOST_WEIGHTS:,} with its groups written out, as its input is joined, not {size:,}"
            raise graph.error(node, what, "use fewer groups")
        whole = ungrouped_weights(layer.weights, layer.groups)
        layer = replace(layer, groups=1)
        if layer.kind == "linear":
            weights = [own.reshape(outputs, -1) for own in of_parts(whole.reshape(outputs, *data.inside), data)]
        else:
            weights = [own.transpose(0, 3, 1, 2) for own in of_parts(whole.transpose(0, 2, 3, 1), data)]
    none = np.zeros_like(layer.bias)
    for number, (part, own) in enumerate(zip(data.parts, weights, strict=True)):
        yield part, replace(layer, weights=own, bias=none if number else layer.bias)


def _drive(graph: OnnxGraph, node: onnx.NodeProto, data: Data, layer: FloatLayer) -> Drive:
    """What drives a layer of one input, with what waits in front of it folded into it, or else into the layer before."""
    found = layer if data.affine is None else scale_inputs(layer, *data.affine)
    culprits = data.scaled_by if found is None else data.averaged_by
    if found is not None and data.average is not None:
        _check_spread(graph, data, found)
        found = average_before(found, *data.average)
    if found is not None:
        for folded in (*data.scaled_by, *data.averaged_by, *([data.padded_by] if data.padded_by else [])):
            graph.report(folded, "folded", f"into layer {layer.name!r} after it")
        before = data.inside
        if data.average is not None:
            before = Shape(data.average[0].matrix.shape[1], data.average[1].matrix.shape[1], before.channels)
    else:
        back = fold_back(graph, data)
        if back is None:
            raise _cannot_append(graph, culprits[-1], node, data)
        data, found, before = back, layer, data.inside
    if (enlarged := _enlarged(data, found)) is not None:
        graph.absorbed.setdefault(data.tip, []).append(layer.name)
        return Drive(data.layers[:-1], enlarged, data.before)
    return Drive(data.layers, replace(found, source=data.tip), (before,))


def _enlarged(data: Data, layer: FloatLayer) -> FloatLayer | None:
    """A convolution with the upsampling in front of it, as one transposed convolution; None of anything else.

    A value is repeated in a window, so that it reaches all outputs that any of these positions does.
    """
    before = data.layers[-1] if data.layers else None
    if before is None or before.kind != "transposed" or before.weights is None or before.relu or before.joined:
        return None
    if before.quantizer is not None:
        return None
    upsamples = before.groups == before.weights.shape[0] and before.window == before.stride and not any(before.padding)
    single = layer.stride == layer.averaged == (1, 1) and layer.kind == "convolution"
    if not (upsamples and single and before.bias is not None and not before.bias.any() and (before.weights == 1).all()):
        return None
    assert layer.weights is not None
    (height, width), (rows, columns) = before.window, layer.window
    weights = np.zeros((*layer.weights.shape[:2], rows + height - 1, columns + width - 1))
    for y, x in np.ndindex(before.window):
        weights[:, :, y : y + rows, x : x + columns] += layer.weights[:, :, ::-1, ::-1]
    top, left, bottom, right = layer.padding
    return replace(
        layer,
        kind="transposed",
        source=before.source,
        weights=weights,
        window=(rows + height - 1, columns + width - 1),
        stride=before.stride,
        padding=Padding(rows - 1 - top, columns - 1 - left, rows - 1 - bottom, columns - 1 - right),
        averaged=before.averaged,
    )


def absorbed(graph: OnnxGraph, data: Data) -> Drive | None:
    """What drives a layer without activation, as a part of what drives a sum; None of anything else."""
    if data.last is None or data.last != len(data.layers) - 1:
        return None
    layer = data.layers[data.last]
    if layer.relu or layer.quantizer is not None:
        return None
    found: FloatLayer | None = layer
    if data.average is not None:
        found = average_after(layer, data.before, *data.average) if _can_spread(data, layer) else None
    if found is None:
        return None
    if data.affine is not None:
        scale, offset = data.affine
        if not is_uniform(scale):
            return None
        found = scale_outputs(found, scale[0, 0], offset[0, 0] if is_uniform(offset) else offset)
    return Drive(data.layers[:-1], found, data.before)


def _check_spread(graph: OnnxGraph, data: Data, layer: FloatLayer) -> None:
    """Refuse an average that would fold into a layer with too many weights, or with too much to compare it by."""
    assert data.average is not None
    if not _can_spread(data, layer):
        raise graph.error(
            data.averaged_by[-1],
            f"averages {data.average[0].matrix.shape[1]}x{data.average[1].matrix.shape[1]} positions, more than can be folded "
            f"into layer {layer.name!r}",
            "average less, or use MaxPool",
        )


def _can_spread(data: Data, layer: FloatLayer) -> bool:
    """Whether an average is small enough to fold into a layer."""
    assert data.average is not None
    if all(average.block for average in data.average):
        return True
    size, work = 0, 0
    for taken in layer.inputs:
        assert taken.weights is not None
        own = math.prod(taken.weights.shape[:2])
        if taken.kind == "linear":
            own = data.shape.channels * len(taken.weights) * math.prod(a.matrix.shape[1] for a in data.average)
        else:
            for kernel, stride, average in zip(taken.window, taken.stride, data.average, strict=True):
                own *= max(kernel * average.stride + len(average.window), kernel + len(average.window) * stride)
                work = max(work, kernel * average.matrix.size * stride)
        size += own
    return size <= MOST_WEIGHTS and work <= MOST_FOLD


def _cannot_append(graph: OnnxGraph, culprit: onnx.NodeProto, node: onnx.NodeProto, data: Data) -> ConversionError:
    if culprit in data.averaged_by:
        return graph.error(
            culprit,
            f"does not fold into {label(node)} after it: at the border it is not one convolution",
            "set the pads of both to 0, use MaxPool, or a convolution with that stride",
        )
    assert data.affine is not None
    return different_values(graph, culprit, node)


def different_values(graph: OnnxGraph, culprit: onnx.NodeProto, node: onnx.NodeProto) -> ConversionError:
    """The error of a scale or offset that is not the same at every position."""
    return graph.error(
        culprit,
        f"holds different values at different positions, in front of {label(node)}",
        "use one value per channel",
    )


def fold_back(graph: OnnxGraph, data: Data) -> Data | None:
    """What waits folded into the last layer with weights; None where that is not exact, or where it has no tensor."""
    if data.last is None or data.layers[data.last].relu or data.layers[data.last].quantizer is not None:
        return None
    layer = data.layers[data.last]
    pooled = data.last != len(data.layers) - 1
    found: FloatLayer | None = layer
    if data.average is not None:
        if not pooled:
            _check_spread(graph, data, layer)
        found = None if pooled else average_after(layer, data.before, *data.average)
    if found is None:
        return None
    if not (pooled or data.value):
        return None
    tensor = layer.tensor if pooled else channel_major(graph, data)
    if data.affine is not None:
        scale, offset = data.affine
        if not is_uniform(scale) or (pooled and (scale.min() < 0 or not is_uniform(offset))):
            return None
        found = scale_outputs(found, scale[0, 0], offset[0, 0] if is_uniform(offset) else offset)
        assert found.bias is not None
        if not all(map(is_float32, [found.bias, *(taken.weights for taken in found.inputs if taken.weights is not None)])):
            what = f"weights and biases of layer {layer.name!r} must be finite numbers of float32 with this folded into them"
            raise graph.error(data.scaled_by[-1], what)
        if pooled:
            tensor = _scaled(graph, tensor, layer.output_shape(data.before[0]), scale[0, 0], offset[0, 0])
    for folded in (*data.scaled_by, *data.averaged_by):
        graph.report(folded, "folded", f"into layer {layer.name!r} before it")
    layers = (*data.layers[: data.last], replace(found, tensor=tensor), *data.layers[data.last + 1 :])
    return replace(data, layers=layers, average=None, averaged_by=(), affine=None, scaled_by=())


def by_itself(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Data:
    """A layer that takes each value by itself, with what waits folded into it."""
    no_padding(graph, data)
    layer = replace(one_to_one(graph, node, data), tensor=node.output[0])
    return append(graph, node, data, layer, data.shape, data.axes)


def one_to_one(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> FloatLayer:
    """A layer named after the node, with each value of what may be joined as its one input."""
    name, size = graph.identifier(node), data.inside.channels
    if not data.uneven:
        return FloatLayer(
            kind="convolution",
            source=INPUT,
            name=name,
            tensor="",
            weights=np.ones((size, 1, 1, 1)),
            bias=np.zeros(size),
            groups=size,
        )
    if size * size > MOST_OUTPUT_WEIGHTS:
        raise graph.error(
            data.joined_by[-1],
            f"joins vectors of images in a layer of its own, which must have at most {MOST_OUTPUT_WEIGHTS:,} weights, not "
            f"{size * size:,}",
            "put a Gemm or MatMul behind it",
        )
    return FloatLayer(kind="linear", source=INPUT, name=name, tensor="", weights=np.eye(size), bias=np.zeros(size))


def as_layer(graph: OnnxGraph, data: Data) -> Data:
    """What is joined as a layer of its own."""
    node, shape = data.joined_by[-1], data.inside
    axes = data.axes if data.padded_by is None else axes_like(data, shape)
    inside = replace(data, shape=shape, axes=axes, padding=Padding(), padded_by=None)
    layer = replace(one_to_one(graph, node, inside), tensor=channel_major(graph, inside))
    found = append(graph, node, inside, layer, shape, axes)
    how = "sum" if data.join == "sum" else "concatenation"
    graph.report(node, "supported", f"layer {layer.name!r}: {how} of {len(data.parts)} inputs")
    return replace(
        found,
        value=data.value,
        shape=data.shape,
        axes=data.axes,
        padding=data.padding,
        padded_by=data.padded_by,
        final=data.final,
    )


def channel_major(graph: OnnxGraph, data: Data) -> str:
    """The tensor itself, or a new one with its values in the order channels, height, width."""
    order = "".join(data.axes[1:])
    if order == "".join(letter for letter in "chw" if letter in order):
        return data.value
    sizes = letter_sizes(data.inside)
    shaped = graph.add_node("Reshape", data.value, np.array([-1, *(sizes[letter] for letter in order)]))
    perm = [0, *(1 + order.index(letter) for letter in "chw" if letter in order)]
    found = f"{shaped}_transposed"
    graph.extra.node.append(helper.make_node("Transpose", [shaped], [found], perm=perm))
    return found


def _scaled(graph: OnnxGraph, tensor: str, shape: Shape, scale: Floats, offset: Floats) -> str:
    """A new tensor: channel-major ``tensor`` of ``shape``, scaled and shifted by channel."""
    image = graph.add_node("Reshape", tensor, np.array([-1, shape.channels, shape.height, shape.width]))
    product = graph.add_node("Mul", image, scale.astype(np.float32).reshape(-1, 1, 1))
    return graph.add_node("Add", product, offset.astype(np.float32).reshape(-1, 1, 1))
