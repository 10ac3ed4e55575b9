"""What the events of a source do to a layer of neurons: a projection, with its geometry.

Addresses follow the canonical order: ``(y * width + x) * channels + c``, channel-minor; a vector has
shape ``1 x 1 x channels``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from model.arrays import Words
from model.support.network_file import check

if TYPE_CHECKING:
    from model.network import MaxPool

__all__ = [
    "MOST_WEIGHT_BITS",
    "MOST_WINDOW",
    "PROJECTIONS",
    "ConvolutionProjection",
    "LinearProjection",
    "Padding",
    "Projection",
    "Shape",
    "TransposedProjection",
    "check_int",
    "check_ints",
    "integers",
    "taps",
    "window_outputs",
    "window_taps",
]

MOST_WINDOW = 1 << 23
"""Positions of a window, and of its step, along an axis: no more than a frame that can be imported has."""

MOST_WEIGHT_BITS = 16
"""The widest weight that the format has."""


class Shape(NamedTuple):
    """Shape of a layer's output, in neurons."""

    height: int
    width: int
    channels: int

    @property
    def size(self) -> int:
        """Number of addresses."""
        return self.height * self.width * self.channels

    def address(self, y: int, x: int, c: int) -> int:
        """Flat address of neuron ``(y, x, c)``, channel-minor."""
        return (y * self.width + x) * self.channels + c

    def coordinates(self, address: int) -> tuple[int, int, int]:
        """The ``(y, x, c)`` of a flat address."""
        position, c = divmod(int(address), self.channels)
        y, x = divmod(position, self.width)
        return y, x, c

    def __str__(self) -> str:
        return f"{self.height}x{self.width}x{self.channels}"


class Padding(NamedTuple):
    """Zero padding of a window, in positions."""

    top: int = 0
    left: int = 0
    bottom: int = 0
    right: int = 0


def taps(*, size: int, outputs: int, kernel: int, stride: int, padding: int) -> list[list[tuple[int, int]]]:
    """Fan-out of a window along one axis.

    Parameters
    ----------
    size : int
        Number of input coordinates.
    outputs : int
        Number of output coordinates.
    kernel, stride : int
        Window size and step.
    padding : int
        Zeros before the first input coordinate.

    Returns
    -------
    For each input coordinate ``i``, the pairs ``(o, k)`` of output coordinate and kernel tap with
    ``o * stride + k - padding == i``, ascending in ``o`` and clipped at the border.
    """
    return [
        [
            (o, i + padding - o * stride)
            for o in range(max(0, (i + padding - kernel) // stride + 1), min(outputs, (i + padding) // stride + 1))
        ]
        for i in range(size)
    ]


def check_int(label: str, name: str, value: object, low: int, high: int) -> None:
    """Refuse what is no integer, or outside its limits."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{label}: {name} must be an integer, not {value!r}")
    check(low <= value <= high, f"{label}: {name} must be within {low}..{high}, not {value!r}")


def check_ints(label: str, name: str, values: object, limits: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """As many integers as there are limits, each within its own."""
    if not isinstance(values, (tuple, list)) or len(values) != len(limits):
        raise TypeError(f"{label}: {name} must be {len(limits)} integers, not {values!r}")
    for value, (low, high) in zip(values, limits, strict=True):
        check_int(label, name, value, low, high)
    return tuple(map(int, values))


def integers(label: str, name: str, values: object, bits: int) -> Words:
    """Integers of a width, as they are kept: they cannot be written to."""
    array = np.asarray(values)
    check(array.dtype.kind in "iu", f"{label}: {name} must be integers, not {array.dtype}")
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    check(array.size > 0, f"{label}: {name} must not be empty")
    for found in (array.min(), array.max()):
        check(low <= found <= high, f"{label}: {name} must be within {low}..{high} ({bits} bits), not {int(found)}")
    # One order in memory, so that equal networks have equal files.
    array = array.astype(np.int32, order="C")
    array.setflags(write=False)
    return array


@dataclass(frozen=True, kw_only=True)
class Projection:
    """What the events of one source do to a layer of neurons.

    Parameters
    ----------
    source : str
        Name of the layer whose events it takes, or ``"input"``.
    weights : Words
        int32 array in units of the potential; outputs come first.
    averaged : tuple[int, int]
        Windows ``(height, width)`` side by side in the source, each of which is taken as one position: an event at ``(y, x, c)``
        as one at ``(y // height, x // width, c)``, and none of those after the last whole window. With the division folded into
        the weights this is average pooling, as a change of address.
    """

    KIND: ClassVar[str]

    source: str
    weights: Words
    averaged: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        check(isinstance(self.source, str), f"source of an input must be a name, not {self.source!r}")
        object.__setattr__(self, "weights", integers(self.label, "weights", self.weights, MOST_WEIGHT_BITS))
        self._check_averaged()

    def _check_averaged(self) -> None:
        object.__setattr__(self, "averaged", check_ints(self.label, "averaged", self.averaged, [(1, MOST_WINDOW)] * 2))

    @property
    def label(self) -> str:
        """What messages call it."""
        return f"input from {self.source!r}"

    @property
    def channels(self) -> int:
        """Number of output channels."""
        return int(self.weights.shape[0])

    def taken(self, shape: Shape) -> Shape:
        """What is left of a source of ``shape`` with each of its averaged windows taken as one position."""
        height, width = shape.height // self.averaged[0], shape.width // self.averaged[1]
        check(
            height > 0 and width > 0,
            f"{self.label}: averaged window {self.averaged[0]}x{self.averaged[1]} is larger than its source {shape}",
        )
        return Shape(height, width, shape.channels)

    def channels_of(self, c: int) -> range:
        """The output channels that an event of channel ``c`` of its source reaches; consecutive."""
        return range(self.channels)

    def output_shape(self, shape: Shape) -> Shape:
        """As `Layer.output_shape`."""
        raise NotImplementedError  # pragma: no cover - every kind of projection defines it

    def taps(self, shape: Shape, axis: int) -> list[list[tuple[int, int]]]:
        """As `Layer.taps`."""
        raise NotImplementedError  # pragma: no cover - every kind of projection defines it

    def _spread(self, reached: list[list[tuple[int, int]]], size: int, axis: int) -> list[list[tuple[int, int]]]:
        """What each of ``size`` rows (columns) of the source reaches, given what those of the averaged windows do."""
        window = self.averaged[axis]
        return [reached[at // window] if at // window < len(reached) else [] for at in range(size)]


@dataclass(frozen=True, kw_only=True)
class ConvolutionProjection(Projection):
    """Convolution; ``weights`` has shape ``(channels, input channels of a group, kernel height, kernel width)``.

    Parameters
    ----------
    stride, padding : tuple[int, int], Padding
        Of the window.
    groups : int
        Output channels ``n * channels / groups`` and up take the ``n``-th part of the input channels, and no event of the others
        reaches them; as many as input channels is depthwise, and with a window of one position one-to-one.
    """

    KIND: ClassVar[str] = "convolution"

    stride: tuple[int, int] = (1, 1)
    padding: Padding = Padding()
    groups: int = 1

    def __post_init__(self) -> None:
        check(
            np.ndim(self.weights) == 4,
            f"{self.label}: weights must have 4 dimensions (out, in, height, width), not {np.ndim(self.weights)}",
        )
        super().__post_init__()
        object.__setattr__(self, "stride", check_ints(self.label, "stride", self.stride, [(1, MOST_WINDOW)] * 2))
        padding = check_ints(self.label, "padding", self.padding, [(0, size - 1) for size in (*self.kernel, *self.kernel)])
        object.__setattr__(self, "padding", Padding(*padding))
        check_int(self.label, "groups", self.groups, 1, self.channels)
        object.__setattr__(self, "groups", int(self.groups))
        check(
            self.channels % self.groups == 0,
            f"{self.label}: groups must divide the {self.channels} channels, not {self.groups}",
        )

    @property
    def kernel(self) -> tuple[int, int]:
        """Kernel ``(height, width)``."""
        return int(self.weights.shape[2]), int(self.weights.shape[3])

    def channels_of(self, c: int) -> range:
        each, group = self.channels // self.groups, c // self.weights.shape[1]
        return range(group * each, (group + 1) * each)

    def _check_channels(self, shape: Shape) -> None:
        taken = self.weights.shape[1] * self.groups
        check(
            shape.channels == taken,
            f"{self.label}: weights take {taken} input channels, "
            f"but its source {self.source!r} has shape {shape}",
        )

    def output_shape(self, shape: Shape) -> Shape:
        averaged = self.taken(shape)
        self._check_channels(shape)
        return Shape(*window_outputs(self.label, averaged, self.kernel, self.stride, self.padding), self.channels)

    def taps(self, shape: Shape, axis: int) -> list[list[tuple[int, int]]]:
        outputs = self.output_shape(shape)[axis]
        return self._spread(window_taps(self, self.taken(shape)[axis], outputs, axis, self.kernel), shape[axis], axis)


@dataclass(frozen=True, kw_only=True)
class TransposedProjection(ConvolutionProjection):
    """Transposed convolution: an event reaches a window of outputs, whose first is as many strides further on as it is itself.

    ``weights`` has shape ``(channels, input channels of a group, kernel height, kernel width)``, and ``padding`` is what is cut
    off of the outputs. With a stride it enlarges its source; of nearest-neighbour upsampling and a convolution behind it, it is
    both.

    Parameters
    ----------
    more : tuple[int, int]
        Rows and columns of outputs beyond the last window, fewer than the stride, which no event reaches unless the padding at
        the end would have cut them off.
    """

    KIND: ClassVar[str] = "transposed"

    more: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        limits = [(0, stride - 1) for stride in self.stride]
        object.__setattr__(self, "more", check_ints(self.label, "more", self.more, limits))

    def output_shape(self, shape: Shape) -> Shape:
        self._check_channels(shape)
        sizes = [
            (size - 1) * stride + kernel - self.padding[axis] - self.padding[axis + 2] + more
            for axis, (size, stride, kernel, more) in enumerate(
                zip(self.taken(shape)[:2], self.stride, self.kernel, self.more, strict=True)
            )
        ]
        check(min(sizes) > 0, f"{self.label}: padding {tuple(self.padding)} leaves nothing of its source {shape}")
        return Shape(sizes[0], sizes[1], self.channels)

    def taps(self, shape: Shape, axis: int) -> list[list[tuple[int, int]]]:
        outputs, size = self.output_shape(shape)[axis], self.taken(shape)[axis]
        first = [at * self.stride[axis] - self.padding[axis] for at in range(size)]
        reached = [[(at + k, k) for k in range(self.kernel[axis]) if 0 <= at + k < outputs] for at in first]
        return self._spread(reached, shape[axis], axis)


@dataclass(frozen=True, kw_only=True)
class LinearProjection(Projection):
    """Linear; ``weights`` has shape ``(outputs, inputs)``, inputs by the source's flat address."""

    KIND: ClassVar[str] = "linear"

    def __post_init__(self) -> None:
        check(
            np.ndim(self.weights) == 2,
            f"{self.label}: weights must have 2 dimensions (out, in), not {np.ndim(self.weights)}",
        )
        super().__post_init__()

    def output_shape(self, shape: Shape) -> Shape:
        taken = self.taken(shape)
        averaged = "" if taken == shape else f", averaged {taken}"
        check(
            taken.size == self.weights.shape[1],
            f"{self.label}: weights take {self.weights.shape[1]} inputs, "
            f"but its source {self.source!r} has shape {shape}{averaged}, which is {taken.size}",
        )
        return Shape(1, 1, self.channels)

    def taps(self, shape: Shape, axis: int) -> list[list[tuple[int, int]]]:
        return self._spread([[(0, at)] for at in range(self.taken(shape)[axis])], shape[axis], axis)


def window_outputs(
    label: str, shape: Shape, kernel: tuple[int, int], stride: tuple[int, int], padding: Padding
) -> tuple[int, int]:
    """Positions of a window, ``(height, width)``."""
    height = (shape.height + padding.top + padding.bottom - kernel[0]) // stride[0] + 1
    width = (shape.width + padding.left + padding.right - kernel[1]) // stride[1] + 1
    check(
        height > 0 and width > 0,
        f"{label}: window {kernel[0]}x{kernel[1]} is larger than its padded input {shape}",
    )
    return height, width


def window_taps(
    layer: "ConvolutionProjection | MaxPool", size: int, outputs: int, axis: int, window: tuple[int, int]
) -> list[list[tuple[int, int]]]:
    """`taps` of a layer's window along an axis."""
    return taps(
        size=size,
        outputs=outputs,
        kernel=window[axis],
        stride=layer.stride[axis],
        padding=layer.padding[axis],
    )


PROJECTIONS: dict[str, type[Projection]] = {
    kind.KIND: kind for kind in (ConvolutionProjection, LinearProjection, TransposedProjection)
}
"""The kinds of projections, by name."""
