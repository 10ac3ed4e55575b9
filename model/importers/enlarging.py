"""Nodes that enlarge images: transposed convolutions, and upsampling to the nearest, which is one of ones.

Upsampling becomes a layer that takes each value by itself. A convolution with stride 1 behind it takes both in one transposed
convolution (`model.importers.inputs`), and the layer between them is gone.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from model.arrays import Floats
from model.importers.float_network import FloatLayer
from model.importers.graph import OnnxGraph, text
from model.importers.inputs import append, as_layer
from model.importers.layers import both_axes, dilated, node_bias
from model.importers.tensors import Data, along, axes_like, image_shape, no_padding
from model.network import MOST_WINDOW, Padding, Shape

__all__ = ["resize", "transposed_convolution"]

_ATTRIBUTES = (
    *("kernel_shape", "strides", "pads", "auto_pad", "dilations", "group", "output_padding", "output_shape"),
)  # fmt: skip

_RESIZE = (
    *("mode", "coordinate_transformation_mode", "nearest_mode", "cubic_coeff_a", "exclude_outside", "extrapolation_value"),
    *("antialias", "axes", "keep_aspect_ratio_policy", "scales"),
)

_NEAREST = "enlarge to the nearest by a whole number, or with a ConvTranspose"


def transposed_convolution(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Data:
    """A transposed convolution; dilations are written out with zeros."""
    no_padding(graph, data)
    shape = image_shape(graph, node, data)
    if data.uneven:
        data = as_layer(graph, data)
    attributes = graph.attributes(node, _ATTRIBUTES)
    if attributes.get("output_shape"):
        raise graph.error(node, "output_shape is not supported", "give the padding as pads")
    if (auto := text(attributes.get("auto_pad", "NOTSET"))) not in ("NOTSET", "VALID"):
        raise graph.error(node, f"auto_pad must be NOTSET or VALID, not {auto!r}", "give the padding as pads")
    weights, groups = _weights(graph, node, data, int(attributes.get("group", 1)))
    kernel = (weights.shape[2], weights.shape[3])
    given = both_axes(data, attributes.get("kernel_shape", kernel if along(data) is None else [kernel[along(data) or 0]]))
    if tuple(given) != kernel:
        raise graph.error(node, f"kernel_shape must be that of the weights {list(kernel)}, not {attributes['kernel_shape']}")
    stride, padding, more, dilations = _geometry(graph, node, data, attributes, kernel)
    window = ((kernel[0] - 1) * dilations[0] + 1, (kernel[1] - 1) * dilations[1] + 1)
    layer = FloatLayer(
        kind="transposed",
        source=data.tip,
        name=graph.identifier(node),
        tensor=node.output[0],
        weights=dilated(graph, node, weights, window, dilations),
        bias=node_bias(graph, node, len(weights)),
        window=window,
        stride=stride,
        padding=padding,
        groups=groups,
        more=more,
    )
    output = layer.output_shape(shape)
    if min(output) < 1 or any(size >= window[axis % 2] for axis, size in enumerate(padding)):
        what = f"pads must be less than the window {window[0]}x{window[1]}, and leave outputs, not {list(padding)}"
        raise graph.error(node, what)
    graph.check_size(node, output)
    graph.report(
        node,
        "supported",
        f"transposed convolution {layer.name!r}: kernel {window[0]}x{window[1]}, {shape} to {output}"
        + (f", {groups} groups" if groups > 1 else ""),
    )
    return append(graph, node, data, layer, output, axes_like(data, output))


def _weights(graph: OnnxGraph, node: onnx.NodeProto, data: Data, groups: int) -> tuple[Floats, int]:
    """The weights with outputs first, and the number of groups."""
    weights, channels = graph.constant(node, 1).astype(np.float64), data.shape.channels
    if weights.ndim != len(data.axes) or not weights.size:
        raise graph.error(node, f"weights must have {len(data.axes)} dimensions, none of them 0, not shape {weights.shape}")
    if len(weights) != channels:
        raise graph.error(node, f"weights must take {channels} channels, not {len(weights)}")
    if groups < 1 or channels % groups:
        raise graph.error(node, f"group must divide the {channels} input channels, not {groups}")
    if (length := along(data)) is not None:
        weights = np.expand_dims(weights, 2 if length else 3)
    apart = weights.reshape(groups, channels // groups, *weights.shape[1:]).swapaxes(1, 2)
    return apart.reshape(-1, *apart.shape[2:]), groups


def _geometry(
    graph: OnnxGraph, node: onnx.NodeProto, data: Data, attributes: dict[str, Any], kernel: tuple[int, int]
) -> tuple[tuple[int, int], Padding, tuple[int, int], list[int]]:
    """Strides, padding, the outputs beyond the last window, and dilations."""
    axes = len(data.axes) - 2
    found: dict[str, list[int]] = {}
    for name, usual, each in (("strides", 1, 1), ("dilations", 1, 1), ("pads", 0, 2), ("output_padding", 0, 1)):
        values = attributes.get(name) or [usual] * (axes * each)
        found[name] = both_axes(data, values, usual)
        if len(values) != axes * each or min(values) < usual:
            raise graph.error(node, f"{name} must be {axes * each} numbers of at least {usual}, not {list(values)}")
    stride, more, pads = found["strides"], found["output_padding"], found["pads"]
    if max(*stride, *(size * step for size, step in zip(kernel, found["dilations"], strict=True))) > MOST_WINDOW:
        raise graph.error(node, f"window and strides must be at most {MOST_WINDOW:,}")
    if any(size >= step for size, step in zip(more, stride, strict=True)):
        raise graph.error(node, f"output_padding must be less than the strides {stride}, not {more}")
    return (stride[0], stride[1]), Padding(*pads), (more[0], more[1]), found["dilations"]


def resize(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Data:
    """Upsampling by a whole number along height and width, each output the nearest input."""
    no_padding(graph, data)
    shape = image_shape(graph, node, data)
    attributes = graph.attributes(node, _RESIZE)
    mode = text(attributes.get("mode", "nearest"))
    if mode != "nearest":
        raise graph.error(node, f"mode must be 'nearest', not {mode!r}", _NEAREST)
    scales = _scales(graph, node, data, attributes)
    if len(scales) != len(data.axes):
        raise graph.error(node, f"scales must be {len(data.axes)} numbers, not {len(scales)}")
    factors = [round(scale) for scale in scales]
    if any(scale != factor or factor < 1 for scale, factor in zip(scales, factors, strict=True)) or factors[:2] != [1, 1]:
        what = "scales must be whole numbers of at least 1, and 1 for frames and channels, not"
        raise graph.error(node, f"{what} {', '.join(f'{scale:g}' for scale in scales)}", _NEAREST)
    window = both_axes(data, factors[2:])
    if max(window) > MOST_WINDOW:
        raise graph.error(node, f"scales must be at most {MOST_WINDOW:,}, not {max(window):,}")
    graph.check_size(node, Shape(shape.height * window[0], shape.width * window[1], shape.channels))
    for size, factor in zip(shape[:2], window, strict=True):
        if not _is_nearest(attributes, node.op_type == "Upsample" or graph.opset < 11, size, factor):
            how = [text(attributes.get(name, usual)) for name, usual in _USUAL.items()]
            raise graph.error(node, f"must repeat each value, which {how[0]!r} with {how[1]!r} does not by {factor}", _NEAREST)
    graph.constants[f"{node.output[0]}_roi"] = np.zeros(0, np.float32)
    graph.constants[f"{node.output[0]}_scales"] = np.array(scales, np.float32)
    if window == [1, 1]:
        graph.report(node, "folded", "nothing: it enlarges by 1")
        return data
    layer = FloatLayer(
        kind="transposed",
        source=data.tip,
        name=graph.identifier(node),
        tensor=node.output[0],
        weights=np.ones((shape.channels, 1, *window)),
        bias=np.zeros(shape.channels),
        window=(window[0], window[1]),
        stride=(window[0], window[1]),
        groups=shape.channels,
    )
    if data.uneven:
        data = as_layer(graph, data)
    output = layer.output_shape(shape)
    graph.report(node, "supported", f"upsampling {layer.name!r}: {shape} to {output}")
    return append(graph, node, data, layer, output, axes_like(data, output))


_USUAL = {"coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_floor"}


def _scales(graph: OnnxGraph, node: onnx.NodeProto, data: Data, attributes: dict[str, Any]) -> Sequence[float]:
    """How many times as large each axis becomes, the frames' first."""
    if attributes.get("axes") is not None:
        raise graph.error(node, "axes must be left out: all of them in order", "export with opset 17")
    if attributes.get("scales") is not None:
        return [float(scale) for scale in attributes["scales"]]
    index = 2 if node.op_type == "Resize" and graph.opset >= 11 else 1
    if len(node.input) > index and node.input[index] and graph.constants.get(node.input[index], np.ones(1)).size:
        return [float(scale) for scale in graph.constant(node, index).reshape(-1)]
    sizes = graph.inferred_dims().get(node.output[0], [])
    if len(node.input) > 3 and node.input[3] in graph.constants:
        sizes = graph.integers(node, "", 3) or []
    if len(sizes) != len(data.axes) or min(sizes[1:]) < 1:
        raise graph.error(node, "sizes must be known", "export with scale_factor")
    return [1.0, *(size / before for size, before in zip(sizes[1:], data.dims[1:], strict=True))]


def _is_nearest(attributes: dict[str, Any], old: bool, size: int, factor: int) -> bool:
    """Whether each value is repeated as many times, and so comes to stand where it was."""
    outputs = np.arange(size * factor)
    how, rounding = (text(attributes.get(name, usual)) for name, usual in _USUAL.items())
    if old:
        how, rounding = "asymmetric", "floor"
    positions: dict[str, npt.NDArray[np.floating]] = {
        "asymmetric": outputs / factor,
        "half_pixel": (outputs + 0.5) / factor - 0.5,
        "half_pixel_symmetric": (outputs + 0.5) / factor - 0.5,
        "pytorch_half_pixel": (outputs + 0.5) / factor - 0.5,
        "align_corners": outputs * float((size - 1) / max(size * factor - 1, 1)),
    }
    if how not in positions:
        return False
    at = positions[how]
    near: dict[str, npt.NDArray[np.floating]] = {
        "floor": np.floor(at),
        "ceil": np.ceil(at),
        "round_prefer_floor": np.ceil(at - 0.5),
        "round_prefer_ceil": np.floor(at + 0.5),
    }
    return rounding in near and bool((np.clip(near[rounding], 0, size - 1) == outputs // factor).all())
