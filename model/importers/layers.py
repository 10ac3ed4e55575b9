"""Nodes that become layers, and activations, which belong to the layers before them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import helper

from model.arrays import Floats
from model.importers.float_network import ConversionError, FloatLayer
from model.importers.folding import is_uniform
from model.importers.graph import OnnxGraph, text
from model.importers.inputs import append, as_layer, by_itself, channel_major, different_values, fold_back
from model.importers.limits import MOST_WEIGHTS
from model.importers.operators import refusal
from model.importers.parts import over_parts
from model.importers.structure import label
from model.importers.tensors import Data, along, axes_like, image_shape, no_padding, ordered
from model.network import MOST_WINDOW, Padding, Shape

__all__ = [
    "add_padding",
    "both_axes",
    "clip",
    "convolution",
    "dilated",
    "flag",
    "linear",
    "max_pool",
    "moved",
    "node_bias",
    "output_shape",
    "pool_window",
    "relu",
    "waiting_end",
]


_ON_GRID = 1e-4
"""Part of a step that rounding of numbers may be off by."""

_ENDLESS = 1e30
"""An upper end from which on a Clip has none; below its negative it has no lower one."""


def convolution(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Data:
    """A convolution; dilations are written out with zeros, one of a single dimension has a kernel of one row or column."""
    shape = image_shape(graph, node, data)
    if data.uneven:
        data = as_layer(graph, data)
    attributes = graph.attributes(node, ("kernel_shape", "strides", "pads", "auto_pad", "dilations", "group"))
    weights = graph.constant(node, 1).astype(np.float64)
    if weights.ndim != len(data.axes):
        raise graph.error(node, f"weights must have {len(data.axes)} dimensions, as its input has, not {weights.ndim}")
    length = along(data)
    if length is not None:
        weights = np.expand_dims(weights, 2 if length else 3)
    groups = int(attributes.get("group", 1))
    if groups < 1 or weights.shape[1] * groups != shape.channels:
        found = f"{weights.shape[1]}" + (f" in {groups} groups" if groups != 1 else "")
        raise graph.error(node, f"weights must take {shape.channels} channels, not {found}")
    kernel = (weights.shape[2], weights.shape[3])
    if not weights.size:
        found = f"{kernel[0]}x{kernel[1]} to {len(weights)}"
        raise graph.error(node, f"weights must have a kernel of at least 1x1 to at least one channel, not {found}")
    if len(weights) % groups:
        raise graph.error(node, f"group must divide the {len(weights)} output channels, not {groups}")
    given = both_axes(data, attributes.get("kernel_shape", kernel if length is None else [kernel[length]]))
    if tuple(given) != kernel:
        raise graph.error(node, f"kernel_shape must be that of the weights {list(kernel)}, not {attributes['kernel_shape']}")
    dilations = both_axes(data, attributes.get("dilations", [1] * (len(data.axes) - 2)))
    if len(dilations) != 2 or min(dilations) < 1:
        raise graph.error(node, f"dilations must be two numbers of at least 1, not {dilations}")
    if max(dilations) > 1 and text(attributes.get("auto_pad", "NOTSET")).startswith("SAME"):
        # Calibration runs the file itself.
        raise graph.error(node, "dilations with auto_pad SAME are more than ONNX Runtime can run", "give the padding as pads")
    window = ((kernel[0] - 1) * dilations[0] + 1, (kernel[1] - 1) * dilations[1] + 1)
    stride, padding = strides_and_padding(graph, node, attributes, data, window)
    output = output_shape(graph, node, shape, window, stride, padding, len(weights))
    name = graph.identifier(node)
    _report_convolution(graph, node, f"{shape} to {output}", window, dilations, groups)
    layer = FloatLayer(
        kind="convolution",
        source=data.tip,
        name=name,
        tensor=node.output[0],
        weights=dilated(graph, node, weights, window, dilations),
        bias=node_bias(graph, node, len(weights)),
        window=window,
        stride=stride,
        padding=add_padding(padding, data.padding),
        groups=groups,
    )
    return append(graph, node, data, layer, output, axes_like(data, output))


def dilated(
    graph: OnnxGraph, node: onnx.NodeProto, weights: Floats, window: tuple[int, int], dilations: Sequence[int]
) -> Floats:
    """The weights with zeros between them."""
    if max(dilations) == 1:
        return weights
    size = weights.shape[0] * weights.shape[1] * window[0] * window[1]
    if size > MOST_WEIGHTS:
        raise graph.error(node, f"weights must be at most {MOST_WEIGHTS:,} with dilations written out, not {size:,}")
    found = np.zeros((*weights.shape[:2], *window))
    found[:, :, :: dilations[0], :: dilations[1]] = weights
    return found


def node_bias(graph: OnnxGraph, node: onnx.NodeProto, size: int) -> Floats:
    """The third input; zeros where there is none."""
    if len(node.input) > 2 and node.input[2]:
        bias = graph.constant(node, 2)
        if node.op_type in ("Conv", "ConvTranspose"):
            return graph.per_channel(node, bias, size, "bias")
        if bias.size not in (1, size) or (bias.size > 1 and bias.shape[-1] != size) or bias.ndim > 2:
            raise graph.error(node, f"bias must hold one value per output ({size}), not shape {bias.shape}")
        return np.zeros(size) + bias.astype(np.float64).reshape(-1)
    return np.zeros(size)


def _report_convolution(
    graph: OnnxGraph, node: onnx.NodeProto, shapes: str, window: tuple[int, int], dilations: Sequence[int], groups: int
) -> None:
    graph.report(
        node,
        "supported",
        f"convolution {graph.identifier(node)!r}: kernel {window[0]}x{window[1]}"
        + (f" (dilations {list(dilations)} written out with zeros)" if max(dilations) > 1 else "")
        + f", {shapes}"
        + (f", {groups} groups" if groups > 1 else ""),
    )


def linear(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Data:
    """A linear layer, with its weights by address."""
    shape = data.shape
    if node.op_type == "Gemm":
        attributes = graph.attributes(node, ("alpha", "beta", "transA", "transB"))
        if flag(graph, node, "transA"):
            raise graph.error(node, "transA must be 0, not 1")
        weights = graph.constant(node, 1).astype(np.float64) * attributes.get("alpha", 1.0)
        weights = weights if flag(graph, node, "transB") else weights.T
    else:
        if node.input[0] in graph.constants:
            raise graph.error(node, "the constant must be the second input")
        weights = graph.constant(node, 1).astype(np.float64).T
    if weights.ndim != 2:
        raise graph.error(node, f"weights must have 2 dimensions, not {weights.ndim}")
    bias = np.zeros(len(weights))
    if node.op_type == "Gemm":
        bias = node_bias(graph, node, len(weights)) * attributes.get("beta", 1.0)
    if any(data.axes[1:-1]) or (node.op_type == "Gemm" and len(data.axes) != 2):
        raise graph.error(node, f"input of shape {shape} must be flattened first")
    no_padding(graph, data)
    if weights.shape[1] != shape.size or not len(weights):
        raise graph.error(node, f"weights must take {shape.size} inputs to at least 1 output, not {weights.shape[::-1]}")
    name = graph.identifier(node)
    graph.report(node, "supported", f"linear layer {name!r}: {shape.size} to {len(weights)}")
    by_address = ordered(weights, data.axes[-1], shape).reshape(len(weights), -1)
    layer = FloatLayer(
        kind="linear", source=data.tip, name=name, tensor=node.output[0], weights=by_address, bias=bias
    )
    axes = (*data.axes[:-1], "c" if len(weights) > 1 else "")
    return append(graph, node, data, layer, Shape(1, 1, len(weights)), axes)


def max_pool(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Data:
    """A max-pool; a scale that is not negative passes through it."""
    shape = image_shape(graph, node, data)
    if data.parts:
        return over_parts(graph, node, data, max_pool)
    window, stride, padding, _ = pool_window(graph, node, data, ("storage_order",))
    output = output_shape(graph, node, shape, window, stride, padding, shape.channels)
    if data.average is not None or (
        data.affine is not None and not (all(map(is_uniform, data.affine)) and data.affine[0].min() >= 0)
    ):
        back = fold_back(graph, data)
        if back is None:
            raise _cannot_pool(graph, node, data)
        data = back
    if any(data.padding):
        assert data.padded_by is not None
        if data.affine is not None or (data.last is not None and not data.layers[data.last].relu):
            raise graph.error(
                data.padded_by,
                f"zeros must not be greater than the values around which they are, in front of {label(node)}",
                "put the ReLU in front of this node, or use pads of the MaxPool",
            )
        graph.report(data.padded_by, "folded", f"padding of {label(node)} after it")
    layer = FloatLayer(
        kind="maxpool",
        source=data.tip,
        name=graph.identifier(node),
        tensor=node.output[0],
        window=window,
        stride=stride,
        padding=add_padding(padding, data.padding),
    )
    graph.report(node, "supported", f"max-pool {layer.name!r}: window {window[0]}x{window[1]}, {shape} to {output}")
    return moved(data, output, (*data.layers, layer), axes_like(data, output))


def moved(data: Data, output: Shape, layers: tuple[FloatLayer, ...], axes: tuple[str, ...]) -> Data:
    """After a pool, an affine that is the same at every position still is."""
    affine = data.affine
    if affine is not None:
        scale, offset = (np.broadcast_to(values[0, 0], output) for values in affine)
        affine = (scale, offset)
    return replace(data, shape=output, axes=axes, layers=layers, affine=affine, padding=Padding(), padded_by=None)


def _cannot_pool(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> ConversionError:
    if data.averaged_by:
        return graph.error(
            data.averaged_by[-1],
            f"averages in front of {label(node)} have no layer to fold into",
            "put the average after the MaxPool, or a convolution between them",
        )
    assert data.affine is not None
    if not all(map(is_uniform, data.affine)):
        return different_values(graph, data.scaled_by[-1], node)
    return graph.error(
        _scaling(graph, data),
        f"scale must not be negative in front of {label(node)}, not {data.affine[0].min():.4g}: a maximum would become a minimum",
        "put it after the MaxPool, or in front of the ReLU",
    )


def _scaling(graph: OnnxGraph, data: Data) -> onnx.NodeProto:
    """The last node that waits and scales, not only shifts."""

    def scales(node: onnx.NodeProto) -> bool:
        return node.op_type not in ("Add", "Sub") or (node.op_type == "Sub" and node.input[0] in graph.constants)

    return next((node for node in reversed(data.scaled_by) if scales(node)), data.scaled_by[-1])


def clip(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Data:
    """A ReLU, also one with an upper end; any other range is refused."""
    if data.parts:
        return over_parts(graph, node, data, clip)
    found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    low, high = (found.get(name, graph.number(node, n)) for n, name in ((1, "min"), (2, "max")))
    end = float(high) if high is not None and high < _ENDLESS else None
    if end is None and (low is None or low <= -_ENDLESS):
        graph.report(node, "folded", "nothing: it has neither a lower nor an upper end")
        return data
    if low != 0 or (end is not None and not end > 0):
        ends = " to ".join("none" if bound is None else str(bound) for bound in (low, high))
        raise graph.error(node, f"must be from 0 to more than 0, or without an upper end, not {ends}", "train with ReLU")
    return relu(graph, node, data) if end is None else _ending(graph, node, data, end)


def _ending(graph: OnnxGraph, node: onnx.NodeProto, data: Data, end: float) -> Data:
    """A ReLU with an upper end: the ReLU belongs to the neuron layer before it, and so does the end."""
    known = data.last is not None and data.layers[data.last].relu
    if data.affine is not None and (known or data.last is None):
        raise graph.error(
            node,
            f"stands after {label(data.scaled_by[-1])}, with another ReLU or the input before that",
            "put a Conv, Gemm or MatMul between them",
        )
    if known and data.average is not None:
        raise graph.error(node, f"stands after {label(data.averaged_by[-1])}, with another ReLU before that", "leave it out")
    found = relu(graph, node, data)
    if found.last is None:
        if end < 1:
            raise graph.error(node, f"must not end below full scale at the input, not at {end:g}", "clip the data")
        return found
    layer = found.layers[found.last]
    if known:
        graph.report(node, "folded", f"end of the activation of layer {layer.name!r}")
    if layer.quantizer is not None:
        steps = end / layer.quantizer.scale
        if steps >= layer.quantizer.high:
            return found
        if abs(steps - round(steps)) > _ON_GRID:
            return replace(found, end=end if found.end is None else min(end, found.end), ended_by=node)
    layer = replace(layer, end=end if layer.end is None else min(end, layer.end))
    if found.last == len(found.layers) - 1 and not any(found.padding):
        layer = replace(layer, tensor=channel_major(graph, replace(found, value=node.output[0])))
    return replace(found, layers=(*found.layers[: found.last], layer, *found.layers[found.last + 1 :]))


def maximum(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Data:
    """A Max with a constant 0, which is a ReLU."""
    bound = _bound(graph, node, data)
    if bound != 0:
        raise graph.error(node, f"must be of 0 where it is of a constant, not of {bound:g}", "train with ReLU")
    return relu(graph, node, data)


def minimum(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Data:
    """A Min with a constant, which is the upper end of the ReLU before it."""
    if data.parts:
        return over_parts(graph, node, data, minimum)
    end = _bound(graph, node, data)
    if end >= _ENDLESS:
        graph.report(node, "folded", "nothing: it has no upper end")
        return data
    if end <= 0 or (data.last is not None and not data.layers[data.last].relu):
        what = "behind a ReLU" if end > 0 else f"of more than 0, not of {end:g}"
        raise graph.error(node, f"must be {what} where it is of a constant", "put a Relu in front of it, or use Clip from 0")
    return _ending(graph, node, data, end)


def _bound(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> float:
    """The one constant of a Max or a Min."""
    index = next((n for n, name in enumerate(node.input) if name in graph.constants), None)
    if index is None or len(node.input) != 2 or graph.constants[node.input[index]].ndim > len(data.axes):
        raise graph.error(node, f"must be of one tensor and one number, not of {len(node.input)} inputs")
    found = graph.number(node, index)
    assert found is not None
    return found


def leaky_relu(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Data:
    """A LeakyRelu or a PRelu of slope 0, which is a ReLU."""
    if node.op_type == "LeakyRelu":
        steep = bool(graph.attributes(node, ("alpha",)).get("alpha", 0.01))
    else:
        steep = bool(graph.constant(node, 1).any())
    if steep:
        raise graph.error(node, *refusal(node.op_type, node.domain, graph.opset))
    return relu(graph, node, data)


def waiting_end(graph: OnnxGraph, data: Data) -> ConversionError:
    """The error of an end between two levels that no quantizer rounds after it."""
    assert data.ended_by is not None
    part = next((part for part in data.parts if part.end is not None), data)
    assert part.last is not None
    quantizer = part.layers[part.last].quantizer
    assert quantizer is not None
    return graph.error(
        data.ended_by,
        f"must end at a level of the quantizer before it, in steps of {quantizer.scale:g}, or in front of another one, not at "
        f"{part.end:g}",
    )


def relu(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Data:
    """A ReLU belongs to the neuron layer before it; it commutes with max-pooling, and the input is not negative.

    Behind a quantizer, what scales or averages in front of it takes a layer that has each value by itself.
    """
    if data.parts:
        return over_parts(graph, node, data, relu)
    before = data.layers[data.last] if data.last is not None else None
    if before is not None and before.quantizer is not None and (data.affine or (data.average and not before.relu)):
        data = by_itself(graph, node, data)
    if data.last is None or data.layers[data.last].relu:
        if data.affine is not None and min(map(np.min, data.affine)) < 0:
            raise graph.error(
                node,
                f"stands after {label(data.scaled_by[-1])}, with another ReLU or the input before that",
                "put a Conv, Gemm or MatMul between them",
            )
        graph.report(node, "folded", "nothing: its input is not negative")
        return data
    if data.average is not None or data.affine is not None:
        back = fold_back(graph, data)
        if back is None:
            raise _cannot_relu(graph, node, data)
        data = back
    assert data.last is not None
    layer = data.layers[data.last]
    if data.last == len(data.layers) - 1 and not any(data.padding):
        layer = replace(layer, tensor=channel_major(graph, replace(data, value=node.output[0])))
    graph.report(node, "folded", f"activation of layer {layer.name!r}")
    layers = (*data.layers[: data.last], replace(layer, relu=True), *data.layers[data.last + 1 :])
    return replace(data, layers=layers)


def _cannot_relu(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> ConversionError:
    if data.averaged_by:
        return graph.error(
            data.averaged_by[-1],
            f"does not fold into the layer before it, and {label(node)} after it needs a layer",
            "put the ReLU in front of it, or set pads to 0",
        )
    assert data.affine is not None
    if not all(map(is_uniform, data.affine)):
        return different_values(graph, data.scaled_by[-1], node)
    return graph.error(
        _scaling(graph, data),
        f"scale must not be negative between a MaxPool and {label(node)}, not {data.affine[0].min():.4g}",
        "put it in front of the MaxPool",
    )


def flag(graph: OnnxGraph, node: onnx.NodeProto, name: str, usual: int = 0) -> int:
    """An attribute that is 0 or 1; what is usual where it is left out."""
    found = next((int(a.i) for a in node.attribute if a.name == name), usual)
    if found not in (0, 1):
        raise graph.error(node, f"{name} must be 0 or 1, not {found}")
    return found


def both_axes(data: Data, values: Sequence[int], none: int = 1) -> list[int]:
    """Values of a window along height and width, beside the one along the length those of an axis that is not there."""
    found, length = [int(n) for n in values], along(data)
    if length is None or len(found) not in (1, 2):
        return found
    pairs = [[none, n] if length else [n, none] for n in found]
    return [n for pair in pairs for n in pair]


def strides_and_padding(
    graph: OnnxGraph, node: onnx.NodeProto, attributes: dict[str, Any], data: Data, kernel: tuple[int, int]
) -> tuple[tuple[int, int], Padding]:
    """Strides, and the padding beside that around the input already."""
    shape, around = data.shape, data.padding
    axes = len(data.axes) - 2
    strides = both_axes(data, attributes.get("strides", [1] * axes))
    pads = both_axes(data, attributes.get("pads", [0] * (2 * axes)), 0)
    if len(strides) != 2 or len(pads) != 4:
        raise graph.error(
            node, f"strides must have {axes} values and pads {2 * axes}, not "
            f"{len(attributes.get('strides', [1] * axes))} and {len(attributes.get('pads', [0] * (2 * axes)))}"
        )
    stride = (int(strides[0]), int(strides[1]))
    if min(stride) < 1:
        raise graph.error(node, f"strides must be at least 1, not {list(stride)}")
    if max(*stride, *kernel) > MOST_WINDOW:
        raise graph.error(node, f"window and strides must be at most {MOST_WINDOW:,}, not {max(*stride, *kernel):,}")
    auto = text(attributes.get("auto_pad", "NOTSET"))
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pads = [0, 0, 0, 0]
        for axis in (0, 1):
            size = shape[axis]
            total = max(0, (-(-size // stride[axis]) - 1) * stride[axis] + kernel[axis] - size)
            first = total // 2 if auto == "SAME_UPPER" else -(-total // 2)
            pads[axis], pads[axis + 2] = first, total - first
    elif auto == "VALID":
        pads = [0, 0, 0, 0]
    elif auto != "NOTSET":
        raise graph.error(node, f"auto_pad must be NOTSET, SAME_UPPER, SAME_LOWER or VALID, not {auto!r}")
    whole = [pad + more for pad, more in zip(pads, around, strict=True)]
    if min(pads) < 0 or any(pad >= size for pad, size in zip(whole, (*kernel, *kernel), strict=True)):
        what = "pads" if data.padded_by is None else f"pads, with those of {label(data.padded_by)},"
        raise graph.error(node, f"{what} must be at least 0 and less than the window {kernel[0]}x{kernel[1]}, not {whole}")
    return stride, Padding(*pads)


def output_shape(
    graph: OnnxGraph,
    node: onnx.NodeProto,
    shape: Shape,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: Padding,
    channels: int,
) -> Shape:
    """Shape of the output of a window."""
    height = (shape.height + padding.top + padding.bottom - kernel[0]) // stride[0] + 1
    width = (shape.width + padding.left + padding.right - kernel[1]) // stride[1] + 1
    if height < 1 or width < 1:
        raise graph.error(node, f"window {kernel[0]}x{kernel[1]} must not be larger than its padded input {shape}")
    found = Shape(height, width, channels)
    graph.check_size(node, found)
    return found


def pool_window(
    graph: OnnxGraph, node: onnx.NodeProto, data: Data, more: Sequence[str]
) -> tuple[tuple[int, int], tuple[int, int], Padding, Padding]:
    """Window, stride, padding with which rounding down is right, and the padding as it is given."""
    shape = data.shape
    if node.op_type.startswith("Global"):
        return (shape.height, shape.width), (shape.height, shape.width), Padding(), Padding()
    attributes = graph.attributes(node, ("kernel_shape", "strides", "pads", "auto_pad", "dilations", "ceil_mode", *more))
    kernel = both_axes(data, attributes.get("kernel_shape", ()))
    if len(kernel) != 2 or min(kernel) < 1:
        axes = {1: "one number", 2: "two numbers"}[len(data.axes) - 2]
        raise graph.error(
            node, f"kernel_shape must be {axes} of at least 1, not {list(attributes.get('kernel_shape', ()))}"
        )
    if any(n != 1 for n in attributes.get("dilations", [1, 1])):
        raise graph.error(node, f"dilations must be 1, not {list(attributes['dilations'])}", "use a window without gaps")
    window = (kernel[0], kernel[1])
    stride, given = strides_and_padding(graph, node, attributes, data, window)
    padding = given
    if flag(graph, node, "ceil_mode") and text(attributes.get("auto_pad", "NOTSET")) in ("NOTSET", "VALID"):
        padding = _ceiling(shape, window, stride, given)
    return window, stride, padding, given


def _ceiling(shape: Shape, kernel: tuple[int, int], stride: tuple[int, int], padding: Padding) -> Padding:
    """The padding with which rounding down gives what rounding up gives, of windows that begin inside."""
    ends = [padding.bottom, padding.right]
    for axis in (0, 1):
        reach = shape[axis] + padding[axis] + ends[axis] - kernel[axis]
        if -(-reach // stride[axis]) * stride[axis] < shape[axis] + padding[axis]:
            ends[axis] += -reach % stride[axis]
    return Padding(padding.top, padding.left, *ends)


def add_padding(a: Padding, b: Padding) -> Padding:
    """Padding around padding."""
    return Padding(*(x + y for x, y in zip(a, b, strict=True)))
