"""What comes behind joined branches and is done to each of them: activations, pools, scales and averages.

Of a concatenation each part is that of some channels, and a tensor beside those of the file has them. Of a sum only what is
linear is done to each part; anything else takes the sum as a layer.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import onnx

from model.arrays import Floats
from model.importers.float_network import ConversionError
from model.importers.graph import OnnxGraph
from model.importers.inputs import as_layer, by_itself, channel_major
from model.importers.tensors import Data, axes_like, channels_first, of_parts, ranges
from model.network import Padding, Shape

__all__ = ["averaged_parts", "of_each", "or_by_itself", "over_parts", "scaled_parts"]

Handler = Callable[[OnnxGraph, onnx.NodeProto, Data], Data]


def over_parts(graph: OnnxGraph, node: onnx.NodeProto, data: Data, handler: Handler) -> Data:
    """An activation or a pool of what is joined."""
    if data.join == "sum" or data.uneven:
        return handler(graph, node, as_layer(graph, data))
    return _of_channels(graph, node, data, [partial(or_by_itself, handler)] * len(data.parts))


def or_by_itself(handler: Handler, graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Data:
    """A node on one branch; on a layer that takes each of its values by itself, where the branch has none of its own for it."""
    try:
        return handler(graph, node, data)
    except ConversionError as error:
        try:
            own = by_itself(graph, graph.copy(node, "value"), data)
            layer = replace(own.layers[-1], tensor=channel_major(graph, data))
            return handler(graph, node, replace(own, value=data.value, layers=(*own.layers[:-1], layer)))
        except ConversionError:
            raise error from None


def of_each(graph: OnnxGraph, node: onnx.NodeProto, data: Data, handler: Handler) -> Data:
    """What is done to each part of a concatenation."""
    return _of_channels(graph, node, data, [handler] * len(data.parts))


def averaged_parts(
    graph: OnnxGraph, node: onnx.NodeProto, data: Data, axes: tuple[str, ...], handler: Handler
) -> Data:
    """An average of what is joined, with these axes."""
    if data.join == "sum":
        return _of_sum(node, data, [handler(graph, node, part) for part in data.parts], axes)
    return _of_channels(graph, node, data, [handler] * len(data.parts), axes)


def scaled_parts(
    graph: OnnxGraph,
    node: onnx.NodeProto,
    data: Data,
    scale: Floats,
    offset: Floats,
    handler: Callable[[OnnxGraph, onnx.NodeProto, Data, Floats, Floats], Data],
) -> Data:
    """A scale and an offset of what is joined; a sum has the offset once."""
    if data.join == "sum":
        offsets = [offset, *[np.zeros((1, 1, 1))] * (len(data.parts) - 1)]
        found = [handler(graph, node, part, scale, own) for part, own in zip(data.parts, offsets, strict=True)]
        return _of_sum(node, data, found, data.axes)
    scales, offsets = ([own[0] for own in of_parts(values[np.newaxis], data)] for values in (scale, offset))
    return _of_channels(
        graph,
        node,
        data,
        [
            lambda graph, node, part, scale=own, offset=other: handler(graph, node, part, scale, offset)  # type: ignore[misc]
            for own, other in zip(scales, offsets, strict=True)
        ],
    )


def _of_sum(node: onnx.NodeProto, data: Data, parts: Sequence[Data], axes: tuple[str, ...]) -> Data:
    """A sum of other parts, which are no tensors of their own."""
    nameless = tuple(replace(part, value="") for part in parts)
    return replace(data, value=node.output[0], shape=parts[0].shape, axes=axes, parts=nameless)


def _of_channels(
    graph: OnnxGraph,
    node: onnx.NodeProto,
    data: Data,
    handlers: Sequence[Handler],
    axes: tuple[str, ...] | None = None,
) -> Data:
    """A concatenation of what a node makes of each of its parts; ``axes`` where they are not those of an image."""
    first, whole, uneven = len(graph.extra.node), data.shape, data.uneven
    copies = [graph.copy(node, str(number)) for number in range(len(data.parts))]
    parts = [
        handler(graph, copy, part if uneven else _padded(data, part))
        for part, copy, handler in zip(data.parts, copies, handlers, strict=True)
    ]
    joined = data
    if not uneven:
        shape = Shape(parts[0].shape.height, parts[0].shape.width, whole.channels)
        axes = axes or (data.axes if shape == whole else axes_like(data, shape))
        joined = replace(data, shape=shape, axes=axes, padding=parts[0].padding, padded_by=parts[0].padded_by)
        parts = [_bare(part) for part in parts]
    ends = [(part.end, part.ended_by) for part in parts if part.end is not None]
    end, ended_by = ends[0] if ends else (None, None)
    joined = replace(joined, parts=tuple(parts), end=end, ended_by=ended_by)
    _report(graph, node, copies)
    if not any(joined.padding):
        joined = replace(joined, value=node.output[0])
        _gather(graph, joined, copies, first)
        named = (replace(part, value=copy.output[0]) for part, copy in zip(parts, copies, strict=True))
        joined = replace(joined, parts=tuple(named))
    return joined


def _padded(data: Data, part: Data) -> Data:
    """A part of an image with the padding of the whole, in as many dimensions as that has."""
    shape = Shape(data.shape.height, data.shape.width, part.shape.channels)
    axes = axes_like(data, shape)
    axes = axes if len(axes) == len(data.axes) else channels_first(shape)
    return replace(part, shape=shape, axes=axes, padding=data.padding, padded_by=data.padded_by)


def _bare(part: Data) -> Data:
    """A part without padding, as an image."""
    shape = part.inside
    return replace(part, shape=shape, axes=channels_first(shape), padding=Padding(), padded_by=None)


def _report(graph: OnnxGraph, node: onnx.NodeProto, copies: Sequence[onnx.NodeProto]) -> None:
    """What becomes of a node, from what becomes of it on each part."""
    found = [graph.reports[copy.output[0]] for copy in copies if copy.output[0] in graph.reports]
    status = "supported" if any(report.status == "supported" for report in found) else "folded"
    graph.report(node, status, "; ".join(dict.fromkeys(report.what for report in found)))


def _gather(graph: OnnxGraph, joined: Data, copies: Sequence[onnx.NodeProto], first: int) -> None:
    """The parts as tensors beside those of the file, in front of the nodes from ``first`` on, which may take them."""
    nodes = graph.extra.node
    since = len(nodes)
    value, shape = channel_major(graph, joined), joined.shape
    image = graph.add_node("Reshape", value, np.array([-1, shape.channels, shape.height, shape.width]))
    for copy, (start, stop) in zip(copies, ranges(joined), strict=True):
        graph.add_node("Gather", image, np.arange(start, stop), output=copy.output[0], axis=1)
    moved = onnx.GraphProto()
    moved.node.extend([*nodes[since:], *nodes[first:since]])
    del nodes[first:]
    nodes.extend(moved.node)
