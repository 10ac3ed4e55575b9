"""Nodes that join branches: sums of tensors of one shape, and concatenations along the channels.

What they join waits, as what scales or averages does, for the next layer, which takes each part as an input of its own. A sum
with a layer that has no activation is itself one: it takes what drives that layer.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx

from model.importers.deferred import affine
from model.importers.float_network import ConversionError, FloatLayer
from model.importers.graph import OnnxGraph
from model.importers.inputs import Drive, absorbed, as_layer, assembled, channel_major, drives, one_to_one
from model.importers.limits import MOST_INPUTS, MOST_SUMMED
from model.importers.structure import printable
from model.importers.tensors import Data, by_address, channels_first, no_padding
from model.network import Shape

__all__ = ["JOINING", "JOINS", "join", "settle_reports"]

JOINING = ("Add", "Sub", "Sum", "Concat", "QLinearAdd", "QLinearConcat")
"""Operators that may take several tensors that are not constants."""

JOINS = "branches are joined by Add, Sub or Sum of tensors of one shape, and by Concat along the channels"
"""What may be done in place of what is refused."""

_WORDS = {"n": "frames", "c": "channels", "h": "height", "w": "width"}


def join(graph: OnnxGraph, node: onnx.NodeProto, known: Mapping[str, Data]) -> Data:
    """Several tensors as one.

    Parameters
    ----------
    graph : OnnxGraph
        The graph.
    node : onnx.NodeProto
        One of ONNX's own of `JOINING`.
    known : mapping of str to Data
        What is known of those of its inputs that are not constants.
    """
    for data in known.values():
        no_padding(graph, data)
    return _concatenated(graph, node, known) if node.op_type == "Concat" else _summed(graph, node, known)


def _summed(graph: OnnxGraph, node: onnx.NodeProto, known: Mapping[str, Data]) -> Data:
    graph.attributes(node, ())
    given = [known[name] for name in node.input if name in known]
    for data in given[1:]:
        if (data.shape, data.axes) != (given[0].shape, given[0].axes):
            raise graph.error(node, f"inputs must be of one shape, not {_and(map(_words, given))}", JOINS)
    if len(given) == 1:
        graph.report(node, "folded", "nothing: it has one input")
        found = replace(given[0], value=node.output[0])
    else:
        found = _sum(graph, node, given)
    for index, name in enumerate(node.input):
        if name not in known:
            values = by_address(graph.constant(node, index).astype(np.float64), found)
            if values is None:
                shape = graph.constants[name].shape
                raise graph.error(node, f"constants must hold one value per channel ({found.shape.channels}), not shape {shape}")
            found = affine(graph, node, found, np.ones((1, 1, 1)), values)
    return found


def _sum(graph: OnnxGraph, node: onnx.NodeProto, given: Sequence[Data]) -> Data:
    """The sum of two tensors or more; the second less than nothing where it is a Sub."""
    flat = sum(len(data.parts) if data.join == "sum" else 1 for data in given) <= MOST_SUMMED
    parts: list[Data] = []
    for index, data in enumerate(given):
        minus = node.op_type == "Sub" and index == 1
        if data.uneven or (data.join == "concat" and minus) or (data.join == "sum" and not flat):
            data = as_layer(graph, data)
        own = data.parts if data.join == "sum" else (data,)
        parts += [_negative(node, part) for part in own] if minus else own
    shape, axes = given[0].shape, given[0].axes
    joined_by = tuple(by for data in given if data.join == "sum" and flat for by in data.joined_by)
    waiting = Data(
        value=node.output[0], shape=shape, axes=axes, parts=tuple(parts), join="sum", joined_by=(*joined_by, node)
    )
    taken = [absorbed(graph, part) for part in parts]
    if all(drive is None for drive in taken) and not any(part.parts for part in parts):
        graph.report(node, "folded", f"{len(parts)} inputs of the layer after it")
        return waiting
    layer = replace(one_to_one(graph, node, waiting), tensor=channel_major(graph, waiting))
    left, found = MOST_SUMMED - len(parts), list[Drive]()
    for part, drive in zip(parts, taken, strict=True):
        if drive is not None and len(drive.layer.inputs) - 1 <= left:
            left -= len(drive.layer.inputs) - 1
            found.append(drive)
            graph.absorbed.setdefault(drive.layer.name, []).append(layer.name)
            for by in (*part.scaled_by, *part.averaged_by):
                graph.report(by, "folded", f"into layer {layer.name!r} after it")
        else:
            found += drives(graph, node, part, layer)
    made = assembled(graph, node, found, layer, shape, axes)
    for by in waiting.joined_by[:-1]:
        graph.report(by, "folded", f"inputs of layer {layer.name!r}")
    graph.report(node, "supported", f"layer {layer.name!r}: sum of {len(made.layers[-1].inputs)} inputs")
    return made


def _negative(node: onnx.NodeProto, data: Data) -> Data:
    """What is subtracted, as what is added."""
    scale, offset = data.affine or (np.broadcast_to(1.0, data.shape), np.broadcast_to(0.0, data.shape))
    return replace(data, value="", affine=(-scale, -offset), scaled_by=(*data.scaled_by, node))


def _concatenated(graph: OnnxGraph, node: onnx.NodeProto, known: Mapping[str, Data]) -> Data:
    given = [known[name] for name in node.input if name in known]
    if len(given) < len(node.input):
        name = next(name for name in node.input if name not in known)
        raise graph.error(node, f"input {printable(name)!r} must not be a constant", "concatenate data only")
    levels = [data.levels for data in given]
    if any(own != levels[0] for own in levels):
        raise graph.error(
            node, "levels that are joined must have one scale and one zero point", "put a DequantizeLinear in front of it"
        )
    axis = int(graph.attributes(node, ("axis",)).get("axis", 1))
    rank = len(given[0].axes)
    found = axis + rank if axis < 0 else axis
    if any(len(data.axes) != rank for data in given) or not 0 < found < rank:
        raise graph.error(node, f"axis must be within 1..{rank - 1}, after the frames, of inputs alike, not {axis}")
    if len(given) == 1:
        graph.report(node, "folded", "nothing: it has one input")
        return given[0]
    flat = not all(_is_along_channels(data, given[0], found) for data in given)
    if flat and rank != 2:
        raise _not_channels(graph, node, given, found)
    parts: list[Data] = []
    for data in (replace(own, levels=None, integers=False) for own in given):
        if data.join == "sum" or (data.parts and flat and data.inside[:2] != (1, 1)):
            data = as_layer(graph, data)
        parts += data.parts or (data if flat else _image(graph, data),)
    if len(parts) > MOST_INPUTS:
        raise graph.error(node, f"must join at most {MOST_INPUTS} branches, with those that they are joined of, not {len(parts)}")
    total = sum(data.shape.size if flat else data.shape.channels for data in given)
    shape = Shape(1, 1, total) if flat else Shape(given[0].shape.height, given[0].shape.width, total)
    axes = tuple("c" if n == found else own for n, own in enumerate(given[0].axes))
    joined_by = tuple(by for data in given if data.join == "concat" for by in data.joined_by)
    graph.report(node, "folded", f"{len(parts)} inputs of the layer after it, each with its part of the channels")
    return Data(
        value=node.output[0],
        shape=shape,
        axes=axes,
        levels=levels[0],
        integers=levels[0] is not None,
        parts=tuple(parts),
        join="concat",
        joined_by=(*joined_by, node),
    )


def _not_channels(graph: OnnxGraph, node: onnx.NodeProto, given: Sequence[Data], axis: int) -> ConversionError:
    """The error of a concatenation along another axis, or of images of other sizes."""
    along = sorted({_WORDS[letter] for data in given for letter in data.axes[axis]} - {"channels"})
    if along:
        return graph.error(node, f"axis must be that of the channels, not {axis} ({_and(along)})", JOINS)
    found = _and(map(_words, given))
    return graph.error(node, f"inputs must be images of one height and width, joined along their channels, not {found}", JOINS)


def _is_along_channels(data: Data, first: Data, axis: int) -> bool:
    """Whether an axis is that of the channels, and all others are as those of the first input."""
    others = [(*own.axes[:axis], *own.axes[axis + 1 :]) for own in (data, first)]
    own = data.axes[axis] == "c" or (data.axes[axis] == "" and data.shape.channels == 1)
    return own and others[0] == others[1] and data.shape[:2] == first.shape[:2]


def _image(graph: OnnxGraph, data: Data) -> Data:
    """A part as an image, whatever the order of its axes."""
    return replace(data, value=channel_major(graph, data), axes=channels_first(data.shape))


def _words(data: Data) -> str:
    """Shape of a tensor, with its axes where they are not those of an image."""
    sizes = " x ".join(map(str, data.dims[1:]))
    usual = data.axes == channels_first(data.shape)[: len(data.axes)]
    return sizes if usual else f"{sizes} ({', '.join(' '.join(_WORDS[c] for c in axis) or '1' for axis in data.axes[1:])})"


def _and(words: Iterable[str]) -> str:
    return " and ".join(words)


def settle_reports(graph: OnnxGraph, layers: Sequence[FloatLayer]) -> None:
    """Say of each node whose layer is no longer one by itself into which sums it went, and of one with several forms so."""
    names = {layer.name for layer in layers}
    nodes = {graph.identifiers[node.output[0]]: node for node in graph.nodes if node.output[0] in graph.identifiers}
    for name in graph.absorbed:
        node = nodes.get(graph.forms.get(name, name))
        if node is None or name in names:
            continue
        sums, seen, left = list[str](), {name}, list(graph.absorbed[name])
        while left:
            found = left.pop(0)
            if found not in seen:
                seen.add(found)
                sums += [found] if found in names else []
                left += [] if found in names else graph.absorbed.get(found, [])
        if node.op_type in JOINING:
            graph.report(node, "folded", f"inputs of layer {_and(map(repr, sums))}")
        else:
            what = graph.reports[node.output[0]].what
            graph.report(node, "supported", what.replace(f" {name!r}", f", input of layer {_and(map(repr, sums))}", 1))
    for name in (layer.name for layer in layers if layer.name in graph.forms):
        if (node := nodes.get(graph.forms[name])) is not None:
            report = graph.reports[node.output[0]]
            graph.report(node, report.status, f"{report.what}, and in another form {name!r}")
