"""What folds into a neuron layer exactly: scales and offsets of channels, and averages over windows.

An average pool is a linear map along rows, and one along columns. After or before a linear layer it is a product of
matrices. After or before a convolution it is a larger convolution wherever the windows are whole; at a border, or where
positions are left over, it need not be, and so every fold into a convolution is compared with the product of matrices.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from model.arrays import Floats
from model.importers.float_network import FloatLayer, FloatProjection
from model.network import Padding, Shape

__all__ = [
    "Average",
    "average_after",
    "average_before",
    "average_window",
    "is_uniform",
    "scale_inputs",
    "scale_outputs",
    "spread_averages",
]

_Taking = TypeVar("_Taking", bound=FloatProjection)


@dataclass(frozen=True)
class Average:
    """Averaging along one axis.

    Parameters
    ----------
    window : Floats
        Weights of a whole window.
    stride, before : int
        Of the window: its step, and positions in front of the first input.
    matrix : Floats
        The exact map, ``(outputs, inputs)``.
    """

    window: Floats
    stride: int
    before: int
    matrix: Floats

    @classmethod
    def nothing(cls, size: int) -> "Average":
        """No averaging."""
        return cls(np.ones(1), 1, 0, np.eye(size))

    @property
    def keeps_offsets(self) -> bool:
        """Whether the average of equal values is that value, at the border too."""
        return bool(np.allclose(self.matrix.sum(axis=1), 1))

    @property
    def block(self) -> int | None:
        """Size of the window where whole windows lie side by side from the first input on; None where it is otherwise."""
        (outputs, size), kernel = self.matrix.shape, len(self.window)
        if self.before or outputs != size // kernel or (outputs > 1 and self.stride != kernel):
            return None
        whole = self.matrix[:, : outputs * kernel].reshape(outputs, outputs, kernel)
        inside = whole[np.arange(outputs), np.arange(outputs)]
        side_by_side = np.count_nonzero(self.matrix) == outputs * kernel and np.allclose(inside, 1 / kernel)
        return kernel if side_by_side else None

    def after(self, first: "Average") -> "Average":
        """This average of the averages ``first``."""
        window = np.zeros((len(self.window) - 1) * first.stride + len(first.window))
        for tap, weight in enumerate(self.window):
            window[tap * first.stride : tap * first.stride + len(first.window)] += weight * first.window
        return Average(window, self.stride * first.stride, first.before + self.before * first.stride, self.matrix @ first.matrix)


def average_window(
    *, size: int, outputs: int, kernel: int, stride: int, before: int, after: int, count_padding: bool
) -> Average:
    """An average pool along one axis.

    Parameters
    ----------
    size, outputs : int
        Input and output coordinates.
    kernel, stride, before, after : int
        Of the window.
    count_padding : bool
        Whether the zeros of the padding count; what a window has beyond the padding never does.
    """
    matrix = np.zeros((outputs, size))
    for output in range(outputs):
        inside = np.arange(kernel) + output * stride - before
        real = inside[(inside >= 0) & (inside < size)]
        counted = (inside < size + after).sum() if count_padding else len(real)
        matrix[output, real] = 1 / counted
    return Average(np.full(kernel, 1 / kernel), stride, before, matrix)


def scale_outputs(layer: FloatLayer, scale: Floats, offset: Floats) -> FloatLayer:
    """The layer with ``scale * output + offset``: a scale per output channel, an offset per channel or per position too."""
    assert layer.bias is not None
    joined = tuple(_scaled(taken, scale) for taken in layer.joined)
    return replace(_scaled(layer, scale), joined=joined, bias=_by_position(layer.bias * scale + offset))


def _scaled(taken: _Taking, scale: Floats) -> _Taking:
    assert taken.weights is not None
    return replace(taken, weights=taken.weights * scale.reshape(-1, *[1] * (taken.weights.ndim - 1)))


def scale_inputs(layer: FloatLayer, scale: Floats, offset: Floats) -> FloatLayer | None:
    """The layer of one input on ``scale * input + offset``, both of shape ``(height, width, channels)``; None where not exact.

    A convolution has the same weights at every position. Zeros of its padding have no offset, so that its bias may then differ
    from position to position.
    """
    assert layer.weights is not None and layer.bias is not None
    if layer.kind == "linear":
        return replace(layer, weights=layer.weights * scale.reshape(-1), bias=layer.bias + layer.weights @ offset.reshape(-1))
    if not is_uniform(scale):
        return None
    groups, each = layer.groups, len(layer.weights) // layer.groups
    weights = layer.weights.reshape(groups, each, *layer.weights.shape[1:])
    by_group = (groups, 1, -1, 1, 1)
    scaled = (weights * scale[0, 0].reshape(by_group)).reshape(layer.weights.shape)
    if layer.kind == "transposed":
        moved = _transposed(layer, offset) if offset.any() else np.zeros(len(weights) * each)
    elif not is_uniform(offset):
        moved = _convolved(layer, offset)
    elif any(layer.padding) and offset.any():
        by_tap = (weights * offset[0, 0].reshape(by_group)).sum(axis=2).reshape(-1, *layer.window)
        rows, columns = (_inside(layer, Shape(*offset.shape), axis) for axis in (0, 1))
        moved = _spread(rows, columns, by_tap.transpose(1, 2, 0))
    else:
        moved = (weights * offset[0, 0].reshape(by_group)).sum(axis=(2, 3, 4)).reshape(-1)
    return replace(layer, weights=scaled, bias=_by_position(layer.bias + moved))


def _inside(layer: FloatLayer, shape: Shape, axis: int) -> Floats:
    """Of each output along an axis, 1 for each tap of its window that is inside the input of ``shape``, else 0."""
    first = np.arange(layer.output_shape(shape)[axis]) * layer.stride[axis] - layer.padding[axis]
    taken = first[:, np.newaxis] + np.arange(layer.window[axis])
    return ((taken >= 0) & (taken < shape[axis])).astype(np.float64)


def _convolved(layer: FloatLayer, values: Floats) -> Floats:
    """The convolution, without its bias, of one frame ``(height, width, channels)``."""
    assert layer.weights is not None
    top, left, bottom, right = layer.padding
    output = layer.output_shape(Shape(*values.shape))
    padded = np.pad(values, ((top, bottom), (left, right), (0, 0)))
    found = np.zeros(output)
    groups = zip(np.split(layer.weights, layer.groups), np.split(padded, layer.groups, axis=2), strict=True)
    for group, (weights, part) in enumerate(groups):
        channels = slice(group * len(weights), (group + 1) * len(weights))
        for y, x in np.ndindex(layer.window):
            taken = part[y : y + output.height * layer.stride[0] : layer.stride[0]][: output.height]
            taken = taken[:, x : x + output.width * layer.stride[1] : layer.stride[1]][:, : output.width]
            found[:, :, channels] += taken @ weights[:, :, y, x].T
    return found


def _transposed(layer: FloatLayer, values: Floats) -> Floats:
    """The transposed convolution, without its bias, of one frame ``(height, width, channels)``."""
    assert layer.weights is not None
    (height, width), (rows, columns) = layer.stride, values.shape[:2]
    top, left, bottom, right = layer.padding
    output = layer.output_shape(Shape(*values.shape))
    found = np.zeros((output.height + top + bottom, output.width + left + right, output.channels))
    groups = zip(np.split(layer.weights, layer.groups), np.split(values, layer.groups, axis=2), strict=True)
    for group, (weights, part) in enumerate(groups):
        channels = slice(group * len(weights), (group + 1) * len(weights))
        for y, x in np.ndindex(layer.window):
            reached = np.s_[y : y + rows * height : height, x : x + columns * width : width, channels]
            found[reached] += part @ weights[:, :, y, x].T
    return found[top : top + output.height, left : left + output.width]


def _spread(rows: Floats, columns: Floats, values: Floats) -> Floats:
    """``rows`` and ``columns``, matrices ``(outputs, inputs)``, applied to values ``(height, width, channels)``.

    Equal rows give equal numbers to the last bit, so that there are no more distinct ones than need be.
    """
    (rows, row_of), (columns, column_of) = (np.unique(matrix, axis=0, return_inverse=True) for matrix in (rows, columns))
    classes = np.einsum("yh,xw,hwc->yxc", rows, columns, values, optimize=True)
    found: Floats = classes[row_of.reshape(-1)][:, column_of.reshape(-1)]
    return found


def _by_position(bias: Floats) -> Floats:
    """A bias for each channel where it is the same at every position."""
    return bias[0, 0] if bias.ndim == 3 and is_uniform(bias) else bias


def is_uniform(values: Floats) -> bool:
    """Whether values ``(height, width, channels)`` are the same at every position."""
    return values.strides[:2] == (0, 0) or bool((values == values[:1, :1]).all())


def average_before(layer: FloatLayer, rows: Average, columns: Average) -> FloatLayer | None:
    """The layer of one input on averages of it; None where that is not exact.

    Windows side by side are taken as one position each, and the division is the weights'.
    """
    return _taken(layer, rows, columns) or _spread_average(layer, rows, columns)


def _taken(layer: _Taking, rows: Average, columns: Average) -> _Taking | None:
    """The layer on averages of windows side by side; None where they are not."""
    assert layer.weights is not None
    height, width = rows.block, columns.block
    if height is None or width is None:
        return None
    return replace(layer, weights=layer.weights / (height * width), averaged=(height, width))


def spread_averages(layer: _Taking, shape: Shape) -> _Taking | None:
    """A layer on an input of ``shape`` with the averages that it takes spread over its weights; None where that is not exact.

    That is how networks of version 1 of the file form have them.
    """
    assert layer.weights is not None
    rows, columns = (
        average_window(
            size=shape[axis],
            outputs=shape[axis] // kernel,
            kernel=kernel,
            stride=kernel,
            before=0,
            after=0,
            count_padding=False,
        )
        for axis, kernel in enumerate(layer.averaged)
    )
    whole = replace(layer, weights=layer.weights * (layer.averaged[0] * layer.averaged[1]), averaged=(1, 1))
    return _spread_average(whole, rows, columns)


def _spread_average(layer: _Taking, rows: Average, columns: Average) -> _Taking | None:
    assert layer.weights is not None
    if layer.kind == "linear":
        averaged = layer.weights.reshape(len(layer.weights), len(rows.matrix), len(columns.matrix), -1)
        spread = np.empty((len(averaged), rows.matrix.shape[1], columns.matrix.shape[1], averaged.shape[3]))
        for output, weights in enumerate(averaged):
            np.einsum("yxc,yh,xw->hwc", weights, rows.matrix, columns.matrix, optimize=True, out=spread[output])
        return replace(layer, weights=spread.reshape(len(layer.weights), -1))
    if layer.kind == "transposed":
        return None
    merged = []
    for axis, average in enumerate((rows, columns)):
        kernel, stride, before = layer.window[axis], layer.stride[axis], layer.padding[axis]
        middle = len(average.matrix)
        outputs = (middle + before + layer.padding[axis + 2] - kernel) // stride + 1
        mixed = np.zeros((kernel, (kernel - 1) * average.stride + len(average.window)))
        for tap in range(kernel):
            mixed[tap, tap * average.stride : tap * average.stride + len(average.window)] = average.window
        exact = np.zeros((kernel, outputs, average.matrix.shape[1]))
        for tap in range(kernel):
            taken = np.arange(outputs) * stride + tap - before
            inside = (taken >= 0) & (taken < middle)
            exact[tap, inside] = average.matrix[taken[inside]]
        merged.append(_merged(mixed, stride * average.stride, average.before + before * average.stride, exact))
    return _with(layer, merged)


def average_after(layer: FloatLayer, shapes: Sequence[Shape], rows: Average, columns: Average) -> FloatLayer | None:
    """The layer on inputs of these ``shapes``, with its outputs averaged; None where that is not exact."""
    assert layer.bias is not None
    if layer.kind != "convolution":
        return None
    if layer.bias.ndim > 1 or not (rows.keeps_offsets and columns.keeps_offsets):
        bias = np.broadcast_to(layer.bias, layer.output_shape(shapes[0]))
        layer = replace(layer, bias=_by_position(_spread(rows.matrix, columns.matrix, bias)))
    first = _averaged_after(layer, shapes[0], rows, columns)
    joined = [_averaged_after(taken, shape, rows, columns) for taken, shape in zip(layer.joined, shapes[1:], strict=True)]
    whole = tuple(taken for taken in joined if taken is not None)
    return None if first is None or len(whole) < len(joined) else replace(first, joined=whole)


def _averaged_after(layer: _Taking, shape: Shape, rows: Average, columns: Average) -> _Taking | None:
    """One input of a layer, with the outputs averaged."""
    if layer.kind != "convolution":
        return None
    merged = []
    single = layer.window == layer.stride == layer.averaged == (1, 1)
    # Averages of what single positions give are what their averages give.
    if single and (found := _taken(layer, rows, columns)) is not None:
        return found
    shape = layer.taken(shape)
    for axis, average in enumerate((rows, columns)):
        kernel, stride, before = layer.window[axis], layer.stride[axis], layer.padding[axis]
        mixed = np.zeros((kernel, kernel + (len(average.window) - 1) * stride))
        for tap in range(kernel):
            mixed[tap, tap : tap + len(average.window) * stride : stride] = average.window
        exact = np.zeros((kernel, len(average.matrix), shape[axis]))
        for tap in range(kernel):
            taken = np.arange(average.matrix.shape[1]) * stride + tap - before
            inside = (taken >= 0) & (taken < shape[axis])
            exact[tap][:, taken[inside]] = average.matrix[:, inside]
        merged.append(_merged(mixed, stride * average.stride, before + average.before * stride, exact))
    return _with(layer, merged)


@dataclass(frozen=True)
class _Merged:
    """A convolution along one axis: how its taps are mixed of the old ones, and its geometry."""

    mixed: Floats
    stride: int
    before: int
    after: int


def _merged(mixed: Floats, stride: int, before: int, exact: Floats) -> _Merged | None:
    """The convolution whose taps are ``mixed``, where it is the ``exact`` map ``(old tap, outputs, inputs)``."""
    outputs, size = exact.shape[1:]
    after = (outputs - 1) * stride + mixed.shape[1] - size - before
    if after <= -stride:
        # Zeros at the end of the window, so that positions which are left over make no more outputs.
        mixed = np.pad(mixed, ((0, 0), (0, 1 - stride - after)))
    after = max(after, 0)
    kernel = mixed.shape[1]
    if max(before, after) >= kernel:
        return None
    found = np.zeros_like(exact)
    for output in range(outputs):
        first = output * stride - before
        start, stop = max(first, 0), min(first + kernel, size)
        if start < stop:
            found[:, output, start:stop] = mixed[:, start - first : stop - first]
    return _Merged(mixed, stride, before, after) if np.allclose(found, exact, rtol=0, atol=1e-12) else None


def _with(layer: _Taking, merged: list[_Merged | None]) -> _Taking | None:
    rows, columns = merged
    if rows is None or columns is None:
        return None
    assert layer.weights is not None
    weights = np.einsum("oihw,hy,wx->oiyx", layer.weights, rows.mixed, columns.mixed, optimize=True)
    return replace(
        layer,
        weights=weights,
        window=(weights.shape[2], weights.shape[3]),
        stride=(rows.stride, columns.stride),
        padding=Padding(rows.before, columns.before, rows.after, columns.after),
    )
