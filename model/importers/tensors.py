"""What is known of a tensor on its way through the graph, and the nodes that only move its axes.

A tensor is a frame of ``(height, width, channels)`` whose axes are somewhere: which letters are on which axis, in which
order, is all that a reshape or a transpose changes, and all that a linear layer after them needs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import onnx

from model.arrays import Floats
from model.importers.constants import drops
from model.importers.float_network import FloatLayer
from model.importers.folding import Average
from model.importers.graph import OnnxGraph, permutation
from model.importers.operators import SUPPORTED
from model.importers.structure import FLOATS, type_name
from model.network import INPUT, Padding, Shape

__all__ = [
    "Data",
    "Levels",
    "along",
    "axes_after_frames",
    "axes_like",
    "by_address",
    "channels_first",
    "filled",
    "flatten",
    "image_shape",
    "letter_sizes",
    "monotonic",
    "no_padding",
    "nothing",
    "of_parts",
    "ordered",
    "ranges",
    "reshape",
    "softmax",
    "squeeze",
    "transpose",
    "unsqueeze",
]


@dataclass(frozen=True)
class Levels:
    """Integers that stand for ``scale * (level - zero)``.

    Parameters
    ----------
    scale : float
        What one stands for.
    zero : int
        The zero point.
    kind : str
        Their type.
    """

    scale: float
    zero: int
    kind: str = field(default="uint8", compare=False)


@dataclass(frozen=True, kw_only=True)
class Data:
    """What is known of the tensor that a node takes.

    The tensor is what the last of `layers` gives, averaged, then scaled and shifted, then padded: the last three wait for a
    layer that they fold into. Or it is the sum or the concatenation of `parts`, padded, which waits for a layer that takes them
    as its inputs; then it has no layers of its own.

    Parameters
    ----------
    value : str
        Name of the tensor, or of the last one that has these values without padding.
    shape : Shape
        Its shape, with the padding.
    axes : tuple[str, ...]
        Of each axis the letters of ``shape`` that are on it, in order: ``("n", "c", "h", "w")``, or flattened ``("n", "chw")``.
        Letters of size 1 are left out, so that they may be on any axis.
    layers : tuple[FloatLayer, ...]
        The layer that gives it, last, and all that this one depends on, each after its sources. A pool comes right after its
        source, where it is the last.
    before : tuple[Shape, ...]
        Shapes of the inputs of the last layer with weights.
    average : tuple[Average, Average] | None
        Along rows and columns, and by which nodes.
    affine : tuple[Floats, Floats] | None
        Scale and offset, of shape ``(height, width, channels)``, and by which nodes.
    padding : Padding
        Zeros around it, and by which node.
    final : onnx.NodeProto | None
        The Softmax or Sigmoid after which this is.
    integers : bool
        Whether it is of an integer type: not to be computed with before it is cast.
    levels : Levels | None
        What these integers stand for, where a quantizer made them.
    end : float | None
        Where the activation of a rounded layer ends, between two of its levels, and by which node: it waits for a quantizer.
    parts : tuple[Data, ...]
        What is joined, without padding and not joined themselves. Each axis of a part has the same letters as that of the joined
        tensor, or a vector is joined of parts that are flattened, in any order of letters (`uneven`).
    join : str
        ``"sum"`` or ``"concat"``, along the channels; and by which nodes.
    """

    value: str
    shape: Shape
    axes: tuple[str, ...]
    layers: tuple[FloatLayer, ...] = ()
    before: tuple[Shape, ...] = (Shape(1, 1, 1),)
    average: tuple[Average, Average] | None = None
    averaged_by: tuple[onnx.NodeProto, ...] = ()
    affine: tuple[Floats, Floats] | None = None
    scaled_by: tuple[onnx.NodeProto, ...] = ()
    padding: Padding = Padding()
    padded_by: onnx.NodeProto | None = None
    final: onnx.NodeProto | None = None
    integers: bool = False
    levels: Levels | None = None
    end: float | None = None
    ended_by: onnx.NodeProto | None = None
    parts: tuple["Data", ...] = ()
    join: str = ""
    joined_by: tuple[onnx.NodeProto, ...] = ()

    @property
    def inside(self) -> Shape:
        """The shape without the padding."""
        top, left, bottom, right = self.padding
        return Shape(self.shape.height - top - bottom, self.shape.width - left - right, self.shape.channels)

    @property
    def last(self) -> int | None:
        """Index of the last layer with weights."""
        return next((n for n in reversed(range(len(self.layers))) if self.layers[n].kind != "maxpool"), None)

    @property
    def tip(self) -> str:
        """Name of the layer that gives it, or of the input."""
        return self.layers[-1].name if self.layers else INPUT

    @property
    def uneven(self) -> bool:
        """Whether a vector is joined of parts that are no vectors themselves."""
        size = self.inside[:2]
        return self.join == "concat" and any(part.shape[:2] != size for part in self.parts)

    @property
    def waits(self) -> bool:
        """Whether anything waits for a layer."""
        return bool(self.averaged_by or self.scaled_by or self.padded_by or self.parts)

    @property
    def dims(self) -> tuple[int, ...]:
        """Size of each axis; 1 for the frames."""
        sizes = letter_sizes(self.shape)
        return tuple(math.prod(sizes[letter] for letter in axis.strip("n")) for axis in self.axes)


def letter_sizes(shape: Shape) -> dict[str, int]:
    """Size of each letter."""
    return {"h": shape.height, "w": shape.width, "c": shape.channels}


def channels_first(shape: Shape) -> tuple[str, ...]:
    """The axes of an image, ``(frames, channels, height, width)``."""
    return _lettered(shape, "chw")


def _lettered(shape: Shape, letters: str) -> tuple[str, ...]:
    sizes = letter_sizes(shape)
    return ("n", *(letter if sizes[letter] > 1 else "" for letter in letters))


def along(data: Data) -> int | None:
    """Of a tensor ``(frames, channels, length)`` the axis of the image that its length is: 1 for width; None of any other."""
    if data.shape.height == 1 and data.axes == _lettered(data.shape, "cw"):
        return 1
    return 0 if data.shape.width == 1 and data.axes == _lettered(data.shape, "ch") else None


def axes_like(data: Data, shape: Shape) -> tuple[str, ...]:
    """The axes of an image of ``shape`` in a tensor with as many axes as that of ``data``, channels first."""
    length = along(data)
    return channels_first(shape) if length is None else _lettered(shape, "cw" if length else "ch")


def filled(dims: Sequence[int], size: int) -> list[int]:
    """The dimensions, with the one that is -1 filled in from the size of all."""
    rest = math.prod(d for d in dims if d != -1)
    return [size // rest if d == -1 and rest else d for d in dims]


def ordered(values: Floats, order: str, shape: Shape) -> Floats:
    """Values ``(n, ...)`` whose columns go along the letters ``order``, as ``(n, ...)`` by channel-minor address."""
    sizes = letter_sizes(shape)
    apart = values.reshape(len(values), *(sizes[letter] for letter in order))
    return apart.transpose(0, *(1 + order.index(letter) for letter in "hwc" if letter in order))


def regrouped(order: str, sizes: dict[str, int], dims: Sequence[int]) -> list[str] | None:
    """The letters on axes of the sizes ``dims``; None where an axis would be cut through."""
    found, left = [], order
    for wanted in dims:
        axis, size = "", 1
        while size < wanted and left:
            axis, size, left = axis + left[0], size * sizes[left[0]], left[1:]
        if size != wanted:
            return None
        found.append(axis)
    return None if left else found


def axes_after_frames(graph: OnnxGraph, node: onnx.NodeProto, axes: Sequence[int], rank: int) -> list[int]:
    """Axes counted from the front; the frames must not be among them."""
    found = [axis + rank if axis < 0 else axis for axis in axes]
    if not all(0 < axis < rank for axis in found):
        raise graph.error(node, f"axes must be within 1..{rank - 1}, after the frames, not {list(axes)}")
    return found


def by_address(constant: npt.NDArray[np.floating], data: Data) -> Floats | None:
    """A constant that meets the tensor element by element, as ``(height, width, channels)``; None if it does not fit.

    An axis along which it is the same is of size 1 where the tensor's axes are not joined.
    """
    if constant.ndim > len(data.dims) or any(
        n not in (1, d) for n, d in zip(constant.shape[::-1], data.dims[::-1], strict=False)
    ):
        return None
    letters = [axis for axis in data.axes[1:] if axis]
    if all(len(axis) == 1 for axis in letters):
        kept = constant.astype(np.float64).reshape([1] * (len(data.dims) - constant.ndim) + list(constant.shape))
        kept = kept.reshape([n for n, axis in zip(kept.shape[1:], data.axes[1:], strict=True) if axis])
        order = [letters.index(letter) for letter in "hwc" if letter in letters]
        sizes = iter(kept.transpose(order).shape)
        return kept.transpose(order).reshape([next(sizes) if letter in letters else 1 for letter in "hwc"])
    whole = np.broadcast_to(constant.astype(np.float64), data.dims)
    return ordered(whole.reshape(1, -1), "".join(data.axes[1:]), data.shape).reshape(data.shape)


def ranges(data: Data) -> list[tuple[int, int]]:
    """Of each part of a concatenation the first of its channels, and the one after its last."""
    found, start, uneven = [], 0, data.uneven
    for part in data.parts:
        stop = start + (part.shape.size if uneven else part.shape.channels)
        found.append((start, stop))
        start = stop
    return found


def of_parts(values: Floats, data: Data) -> list[Floats]:
    """Values ``(n, height, width, channels)`` of a concatenation as those of its parts; what is the same for all stays so.

    A vector joined of flattened parts has their values in the order of their axes.
    """
    if values.shape[3] == 1:
        return [values] * len(data.parts)
    found = [values[..., start:stop] for start, stop in ranges(data)]
    if not data.uneven:
        return found
    return [
        ordered(own.reshape(len(own), -1), "".join(part.axes[1:]), part.shape).reshape(len(own), *part.shape)
        for own, part in zip(found, data.parts, strict=True)
    ]


def image_shape(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Shape:
    """The shape, where the axes are those of an image; of one row or column, they may be channels and length."""
    if data.axes == channels_first(data.shape) or along(data) is not None:
        return data.shape
    wanted = "(frames, channels, length)" if len(data.axes) == 3 else "(frames, channels, height, width)"
    if len(data.axes) == 2:
        raise graph.error(node, f"input must be {wanted}, not a vector of {data.shape.size}")
    words = {"n": "frames", "c": "channels", "h": "height", "w": "width", "": "1"}
    found = ", ".join(words.get(axis, " x ".join(words[letter] for letter in axis)) for axis in data.axes)
    raise graph.error(node, f"input must be {wanted}, not ({found})", "Transpose nodes around it must come in pairs")


def no_padding(graph: OnnxGraph, data: Data) -> None:
    """Refuse a node that cannot take padding."""
    if data.padded_by is not None:
        raise graph.error(data.padded_by, "must stand in front of a Conv or MaxPool", "use pads of the node after it")


def flatten(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Data:
    """All axes after the frames joined."""
    axis = graph.attributes(node, ("axis",)).get("axis", 1)
    if axis not in (1, 1 - len(data.axes)):
        raise graph.error(node, f"axis must be 1, not {axis}")
    return _readdressed(graph, node, data, ("n", "".join(data.axes[1:])))


def transpose(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Data:
    """Axes in another order, the frames in front."""
    order = permutation(node) or list(range(len(data.axes)))[::-1]
    if sorted(order) != list(range(len(data.axes))) or order[0] != 0:
        raise graph.error(node, f"perm must leave the frames in front, not {order}")
    return _readdressed(graph, node, data, tuple(data.axes[n] for n in order))


def squeeze(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Data:
    """Axes of size 1 left out."""
    axes = graph.integers(node, "axes", 1)
    if axes is None:
        raise graph.error(node, "axes must be given: without them the frames may be squeezed too")
    gone = axes_after_frames(graph, node, axes, len(data.axes))
    if any(data.axes[axis] for axis in gone):
        raise graph.error(node, f"axes must be of size 1, not {axes} of {data.dims[1:]}")
    return _readdressed(graph, node, data, tuple(a for n, a in enumerate(data.axes) if n not in gone))


def unsqueeze(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Data:
    """Axes of size 1 put in."""
    axes = graph.integers(node, "axes", 1) or []
    rank = len(data.axes) + len(axes)
    new = axes_after_frames(graph, node, axes, rank)
    old = iter(data.axes)
    return _readdressed(graph, node, data, tuple("" if n in new else next(old) for n in range(rank)))


def reshape(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Data:
    """Axes joined or taken apart again; the target may be computed from the batch size."""
    if len(node.input) < 2:
        raise graph.error(node, "shape must be an input; export with opset 5 or newer")
    batch = graph.input.type.tensor_type.shape.dim[0]
    frames = batch.dim_value if batch.HasField("dim_value") else None
    target = graph.target(node)
    # PyTorch's exporter always sets it; without a 0 in the target it means nothing.
    if graph.attributes(node, ("allowzero",)).get("allowzero", 0) and 0 in target:
        raise graph.error(node, f"allowzero must be 0, not 1, where the target has a 0: {tuple(target)}")
    if target and target[0] not in (0, -1, frames):
        raise graph.error(node, f"frames must be 0 or -1 in the target, not {target[0]}; use Flatten")
    dims = [data.dims[n] if d == 0 and n < len(data.dims) else d for n, d in enumerate(target)][1:]
    if target[:1] == [-1] and -1 in dims and node.input[1] in graph.constants:
        dims = []
    if dims.count(-1) > 1 or min(target, default=0) < -1:
        raise graph.error(node, f"shape must have numbers of at least 0 and -1 at most once, not {tuple(target)}")
    axes = regrouped("".join(data.axes[1:]), letter_sizes(data.shape), filled(dims, data.shape.size))
    if not dims or axes is None:
        raise graph.error(node, f"must flatten to (frames, {data.shape.size}), not to {tuple(target)}")
    return _readdressed(graph, node, data, ("n", *axes))


def _readdressed(graph: OnnxGraph, node: onnx.NodeProto, data: Data, axes: tuple[str, ...]) -> Data:
    no_padding(graph, data)
    graph.report(node, "folded", "change of address")
    return replace(data, axes=axes)


def nothing(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Data:
    """Nodes that pass on what they take."""
    if drops(node, graph.constants):
        raise graph.error(node, "training_mode must be false; export the network in evaluation mode")
    if node.op_type == "Dropout":
        graph.number(node, 1)
    if node.op_type == "Cast":
        to = int(graph.attributes(node, ("to", "saturate")).get("to", 0))
        if to not in FLOATS:
            raise graph.error(node, f"to must be a float type, not {type_name(to)}")
    cast = data.integers and node.op_type == "Cast"
    graph.report(node, "folded", "nothing, from integers" if cast else SUPPORTED[node.op_type])
    if cast:
        return replace(data, integers=False)
    return data


def softmax(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Data:
    """A Softmax over the outputs of the network: the greatest stays the greatest."""
    axis = graph.attributes(node, ("axis",)).get("axis", 1 if graph.opset < 13 else -1)
    rank = len(data.axes)
    found = axis + rank if axis < 0 else axis
    over = data.axes[found:] if graph.opset < 13 else data.axes[found : found + 1]
    if data.shape.height * data.shape.width > 1 or found < 1 or "".join(over) != "".join(data.axes[1:]):
        raise graph.error(node, f"must be over all outputs of a vector, not over axis {axis} of shape {data.shape}")
    if data.shape.size == 1:
        raise graph.error(node, "must be over at least two outputs: of one it is always 1", "leave it out, or use Sigmoid")
    graph.report(node, "folded", SUPPORTED[node.op_type])
    return replace(data, final=node)


def monotonic(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Data:
    """A Sigmoid or a Tanh of the outputs: both are monotonic, and 0.5 and 0 are where their input is 0."""
    no_padding(graph, data)
    middle = "0.5" if node.op_type == "Sigmoid" else "0"
    one = f"nothing: of one output, more than {middle} is more than 0 in front of it"
    graph.report(node, "folded", one if data.shape.size == 1 else SUPPORTED[node.op_type])
    return replace(data, final=node)
