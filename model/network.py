"""The integer spiking network: what conversion produces and everything else is derived from.

A :class:`Network` is a tree of layers. Each layer names the one layer (or the input) whose events it
takes; several layers may name the same source, which is multicast. Integers only: weights, biases and
thresholds that are powers of two. Nothing here knows of hardware or of floating point.

Addresses follow the canonical order: ``(y * width + x) * channels + c``, channel-minor; a vector has
shape ``1 x 1 x channels``.
"""

import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from model.arrays import Words
from model.support.errors import NetworkError
from model.support.files import write_file
from model.support.names import LAYER_NAME, MOST_TEXT, SAFE_NAME, is_layer_name, is_printable, is_safe_name
from model.support.network_file import check, read_network, to_bytes, version_of

__all__ = [
    "FIRINGS",
    "INPUT",
    "MOST_COUNT_BITS",
    "MOST_LAYERS",
    "MOST_POTENTIAL_BITS",
    "MOST_UNITS",
    "MOST_WEIGHT_BITS",
    "MOST_WINDOW",
    "Convolution",
    "Layer",
    "Linear",
    "MaxPool",
    "Network",
    "Neurons",
    "Padding",
    "Shape",
    "taps",
]

MOST_WINDOW = 1 << 23
"""Positions of a window, and of its step, along an axis: no more than a frame that can be imported has."""

FIRINGS = ("immediate", "deferred")
"""When a network's neurons compare: at every update, or at a flush."""

INPUT = "input"
"""The name by which a layer takes the network's input events."""

MOST_LAYERS = 1000
"""Layers that a network may have."""

MOST_WEIGHT_BITS, MOST_POTENTIAL_BITS, MOST_COUNT_BITS = 16, 24, 16
"""The widest that the format has."""

MOST_UNITS = 1 << 24
"""Addresses of the input and of all layers that a network may have together."""

_MOST_SIDE = 1 << 16
"""Height or width that a shape may have."""


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


def _check_int(layer: str, name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"layer {layer!r}: {name} must be an integer, not {value!r}")
    check(low <= value <= high, f"layer {layer!r}: {name} must be within {low}..{high}, not {value!r}")


def _check_ints(layer: str, name: str, values: object, limits: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """As many integers as there are limits, each within its own."""
    if not isinstance(values, (tuple, list)) or len(values) != len(limits):
        raise TypeError(f"layer {layer!r}: {name} must be {len(limits)} integers, not {values!r}")
    for value, (low, high) in zip(values, limits, strict=True):
        _check_int(layer, name, value, low, high)
    return tuple(map(int, values))


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What every layer has.

    Parameters
    ----------
    name : str
        Unique name, also a part of the names of its core and its links in hardware.
    source : str
        Name of the layer whose events this one takes, or ``"input"``.
    mean_events : float
        Mean input events per frame seen in calibration; 0 where never calibrated.
    """

    KIND: ClassVar[str]

    name: str
    source: str
    mean_events: float = 0.0

    def __post_init__(self) -> None:
        check(
            is_layer_name(self.name) and self.name != INPUT,
            f"layer name must be {LAYER_NAME}, other than {INPUT!r}, not {self.name!r}",
        )
        check(isinstance(self.source, str), f"layer {self.name!r}: source must be a name, not {self.source!r}")
        events = self.mean_events
        check(
            isinstance(events, (int, float)) and not isinstance(events, bool) and 0 <= events <= sys.float_info.max,
            f"layer {self.name!r}: mean_events must be a finite number of at least 0, not {events!r}",
        )

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of the output for an input of ``shape``; raises `NetworkError` where they do not fit."""
        raise NotImplementedError  # pragma: no cover - every layer kind defines it

    def taps(self, shape: Shape, axis: int) -> list[list[tuple[int, int]]]:
        """What an event reaches along one axis.

        Parameters
        ----------
        shape : Shape
            Of the input.
        axis : int
            0 for rows, 1 for columns.

        Returns
        -------
        list of list of (int, int)
            For each input row (column) the output rows (columns) that it reaches, ascending and clipped at the border, each
            with the row (column) of the window through which it does.
        """
        raise NotImplementedError  # pragma: no cover - every layer kind defines it


@dataclass(frozen=True, kw_only=True)
class Neurons(Layer):
    """A layer of sigma-delta neurons (the paper's Algorithm 1): what `Convolution` and `Linear` share.

    Parameters
    ----------
    bias : Words
        int32 array in units of the potential: one an output channel, ``(channels,)``, or, where a convolution's neurons differ by
        position, one a neuron, ``(height, width, channels)``.
    threshold_log2 : int
        The threshold is ``theta = 2 ** threshold_log2``.
    activation : str
        ``"relu"`` in hidden layers, ``"identity"`` in the output layer.
    weight_bits, potential_bits : int
        Widths of a weight and of the stored residual, two's complement.
    count_bits : int
        Width of the spike count; unsigned for ``"relu"``, two's complement for ``"identity"``.
    burst : int
        Spikes that an update may fire: 1 is Algorithm 1 as printed, 0 is as many as it takes. Without meaning in a network that
        fires deferred.
    count_max : int or None
        Count at which the activation ends (ReLU6, Clip), with ``"relu"``: a neuron there fires no further, and is not held from
        it. None where it has no end.
    halves_to_even : bool
        Whether a neuron whose potential at a flush is a whole number of thresholds takes the even one of that number and the one
        below it. With half a threshold in the bias that rounds what is half way between two counts to the even one. Only in a
        network that fires deferred.
    averaged : tuple[int, int]
        Windows ``(height, width)`` side by side in the source, each of which this layer takes as one position: an event at
        ``(y, x, c)`` as one at ``(y // height, x // width, c)``, and none of those after the last whole window. With the division
        folded into the weights this is average pooling, as a change of address.
    """

    weights: Words
    bias: Words
    threshold_log2: int
    activation: str = "relu"
    weight_bits: int = 8
    potential_bits: int = 16
    count_bits: int = 8
    burst: int = 1
    averaged: tuple[int, int] = (1, 1)
    count_max: int | None = None
    halves_to_even: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self.activation in ("relu", "identity"),
            f"layer {self.name!r}: activation must be 'relu' or 'identity', not {self.activation!r}",
        )
        _check_int(self.name, "weight_bits", self.weight_bits, 1, MOST_WEIGHT_BITS)
        _check_int(self.name, "potential_bits", self.potential_bits, 2, MOST_POTENTIAL_BITS)
        _check_int(self.name, "count_bits", self.count_bits, 1 if self.relu else 2, MOST_COUNT_BITS)
        _check_int(self.name, "threshold_log2", self.threshold_log2, 0, self.potential_bits - 2)
        _check_int(self.name, "burst", self.burst, 0, (1 << 16) - 1)
        for name in ("weight_bits", "potential_bits", "count_bits", "threshold_log2", "burst"):
            object.__setattr__(self, name, int(getattr(self, name)))
        even = self.halves_to_even
        check(isinstance(even, bool), f"layer {self.name!r}: halves_to_even must be true or false, not {even!r}")
        check(
            not even or self.threshold_log2,
            f"layer {self.name!r}: halves_to_even must be false where threshold_log2 is 0, as there are no halves",
        )
        if self.count_max is not None:
            check(self.relu, f"layer {self.name!r}: count_max must be None unless activation is 'relu', not {self.count_max!r}")
            _check_int(self.name, "count_max", self.count_max, 1, (1 << self.count_bits) - 1)
            object.__setattr__(self, "count_max", int(self.count_max))
        for name in ("weights", "bias"):
            array = np.asarray(getattr(self, name))
            check(array.dtype.kind in "iu", f"layer {self.name!r}: {name} must be integers, not {array.dtype}")
            bits = self.weight_bits if name == "weights" else self.potential_bits
            low, high = -(1 << bits - 1), (1 << bits - 1) - 1
            check(array.size > 0, f"layer {self.name!r}: {name} must not be empty")
            for found in (array.min(), array.max()):
                check(
                    low <= found <= high,
                    f"layer {self.name!r}: {name} must be within {low}..{high} ({bits} bits), not {int(found)}",
                )
            # One order in memory, so that equal networks have equal files.
            array = array.astype(np.int32, order="C")
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        by_position = isinstance(self, Convolution) and self.bias.ndim == 3 and self.bias.shape[2] == self.channels
        check(
            self.bias.shape == (self.channels,) or by_position,
            f"layer {self.name!r}: bias must have shape ({self.channels},), not {self.bias.shape}",
        )
        object.__setattr__(self, "averaged", _check_ints(self.name, "averaged", self.averaged, [(1, MOST_WINDOW)] * 2))

    def taken(self, shape: Shape) -> Shape:
        """What is left of a source of ``shape`` with each of its averaged windows taken as one position."""
        height, width = shape.height // self.averaged[0], shape.width // self.averaged[1]
        check(
            height > 0 and width > 0,
            f"layer {self.name!r}: averaged window {self.averaged[0]}x{self.averaged[1]} is larger than its source {shape}",
        )
        return Shape(height, width, shape.channels)

    def _spread(self, reached: list[list[tuple[int, int]]], size: int, axis: int) -> list[list[tuple[int, int]]]:
        """What each of ``size`` rows (columns) of the source reaches, given what those of the averaged windows do."""
        window = self.averaged[axis]
        return [reached[at // window] if at // window < len(reached) else [] for at in range(size)]

    @property
    def channels(self) -> int:
        """Number of output channels."""
        return int(self.weights.shape[0])

    @property
    def relu(self) -> bool:
        """Whether the activation is ``max(., 0)``."""
        return self.activation == "relu"

    @property
    def theta(self) -> int:
        """The threshold, in units of the potential."""
        return 1 << self.threshold_log2

    @property
    def residual_limits(self) -> tuple[int, int]:
        """Least and greatest stored residual ``R``."""
        return -(1 << self.potential_bits - 1), (1 << self.potential_bits - 1) - 1

    @property
    def count_limits(self) -> tuple[int, int]:
        """Least and greatest spike count ``Q``."""
        if self.relu:
            return 0, (1 << self.count_bits) - 1 if self.count_max is None else self.count_max
        return -(1 << self.count_bits - 1), (1 << self.count_bits - 1) - 1


@dataclass(frozen=True, kw_only=True)
class Convolution(Neurons):
    """Convolution; ``weights`` has shape ``(channels, input channels of a group, kernel height, kernel width)``.

    Parameters
    ----------
    stride, padding : tuple[int, int], Padding
        Of the window.
    groups : int
        Output channels ``n * channels / groups`` and up take the ``n``-th part of the input channels, and no event of the others
        reaches them; as many as input channels is depthwise.
    """

    KIND: ClassVar[str] = "convolution"

    stride: tuple[int, int] = (1, 1)
    padding: Padding = Padding()
    groups: int = 1

    def __post_init__(self) -> None:
        check(
            np.ndim(self.weights) == 4,
            f"layer {self.name!r}: weights must have 4 dimensions (out, in, height, width), not {np.ndim(self.weights)}",
        )
        super().__post_init__()
        object.__setattr__(self, "stride", _check_ints(self.name, "stride", self.stride, [(1, MOST_WINDOW)] * 2))
        padding = _check_ints(self.name, "padding", self.padding, [(0, size - 1) for size in (*self.kernel, *self.kernel)])
        object.__setattr__(self, "padding", Padding(*padding))
        _check_int(self.name, "groups", self.groups, 1, self.channels)
        object.__setattr__(self, "groups", int(self.groups))
        check(
            self.channels % self.groups == 0,
            f"layer {self.name!r}: groups must divide the {self.channels} channels, not {self.groups}",
        )

    @property
    def kernel(self) -> tuple[int, int]:
        """Kernel ``(height, width)``."""
        return int(self.weights.shape[2]), int(self.weights.shape[3])

    def output_shape(self, shape: Shape) -> Shape:
        taken = self.weights.shape[1] * self.groups
        averaged = self.taken(shape)
        check(
            shape.channels == taken,
            f"layer {self.name!r}: weights take {taken} input channels, "
            f"but its source {self.source!r} has shape {shape}",
        )
        found = Shape(*_window_outputs(self.name, averaged, self.kernel, self.stride, self.padding), self.channels)
        check(
            self.bias.ndim == 1 or self.bias.shape == found,
            f"layer {self.name!r}: bias must have shape ({self.channels},) or that of the output {tuple(found)}, "
            f"not {self.bias.shape}",
        )
        return found

    def taps(self, shape: Shape, axis: int) -> list[list[tuple[int, int]]]:
        outputs = self.output_shape(shape)[axis]
        return self._spread(_window_taps(self, self.taken(shape)[axis], outputs, axis, self.kernel), shape[axis], axis)


@dataclass(frozen=True, kw_only=True)
class Linear(Neurons):
    """Linear layer; ``weights`` has shape ``(outputs, inputs)``, inputs by the source's flat address."""

    KIND: ClassVar[str] = "linear"

    def __post_init__(self) -> None:
        check(
            np.ndim(self.weights) == 2,
            f"layer {self.name!r}: weights must have 2 dimensions (out, in), not {np.ndim(self.weights)}",
        )
        super().__post_init__()

    def output_shape(self, shape: Shape) -> Shape:
        taken = self.taken(shape)
        averaged = "" if taken == shape else f", averaged {taken}"
        check(
            taken.size == self.weights.shape[1],
            f"layer {self.name!r}: weights take {self.weights.shape[1]} inputs, "
            f"but its source {self.source!r} has shape {shape}{averaged}, which is {taken.size}",
        )
        return Shape(1, 1, self.channels)

    def taps(self, shape: Shape, axis: int) -> list[list[tuple[int, int]]]:
        return self._spread([[(0, at)] for at in range(self.taken(shape)[axis])], shape[axis], axis)


@dataclass(frozen=True, kw_only=True)
class MaxPool(Layer):
    """Max-pooling on spike counts, a channel at a time; positions in the padding do not take part."""

    KIND: ClassVar[str] = "maxpool"

    window: tuple[int, int]
    stride: tuple[int, int]
    padding: Padding = Padding()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("window", "stride"):
            object.__setattr__(self, name, _check_ints(self.name, name, getattr(self, name), [(1, MOST_WINDOW)] * 2))
        padding = _check_ints(self.name, "padding", self.padding, [(0, size - 1) for size in (*self.window, *self.window)])
        object.__setattr__(self, "padding", Padding(*padding))

    def output_shape(self, shape: Shape) -> Shape:
        return Shape(*_window_outputs(self.name, shape, self.window, self.stride, self.padding), shape.channels)

    def taps(self, shape: Shape, axis: int) -> list[list[tuple[int, int]]]:
        return _window_taps(self, shape[axis], self.output_shape(shape)[axis], axis, self.window)

    @property
    def overlapping(self) -> bool:
        """Whether an input position can belong to more than one window."""
        return self.stride[0] < self.window[0] or self.stride[1] < self.window[1]


def _window_outputs(
    name: str, shape: Shape, kernel: tuple[int, int], stride: tuple[int, int], padding: Padding
) -> tuple[int, int]:
    height = (shape.height + padding.top + padding.bottom - kernel[0]) // stride[0] + 1
    width = (shape.width + padding.left + padding.right - kernel[1]) // stride[1] + 1
    check(
        height > 0 and width > 0,
        f"layer {name!r}: window {kernel[0]}x{kernel[1]} is larger than its padded input {shape}",
    )
    return height, width


def _window_taps(
    layer: Convolution | MaxPool, size: int, outputs: int, axis: int, window: tuple[int, int]
) -> list[list[tuple[int, int]]]:
    return taps(
        size=size,
        outputs=outputs,
        kernel=window[axis],
        stride=layer.stride[axis],
        padding=layer.padding[axis],
    )


_KINDS: dict[str, type[Layer]] = {kind.KIND: kind for kind in (Convolution, Linear, MaxPool)}


@dataclass(frozen=True, kw_only=True)
class Network:
    """A spiking network of integers.

    Parameters
    ----------
    name : str
        Name, used for build folders: `SAFE_NAME`.
    input_shape : Shape
        Shape of an input frame.
    layers : tuple[Layer, ...]
        The layers, each after its source; the last one is read out.
    input_threshold : int
        Pixels of 8 bits fire when greater than this (0.2 of full scale is 51).
    origin : str
        One printable line that says where the network came from.
    input_levels : int
        Spikes that a pixel fires at most.
    input_step : int
        How much brighter a pixel has to be for each further spike; 1 where it fires one at most.
    firing : str
        ``"immediate"``: a neuron compares at every update, which is Algorithm 1. ``"deferred"``: events are added up, and neurons
        compare when a flush comes: at the end of the frame.
    rest : bool
        Whether frames start from the state at rest (`model.rest`), not from potentials of the bias and counts of 0.
    flush_events : int
        After how many input events each a flush comes in a deferred network, besides that at the end; 0 for none.
    """

    name: str
    input_shape: Shape
    layers: tuple[Layer, ...]
    input_threshold: int = 51
    origin: str = ""
    input_levels: int = 1
    input_step: int = 1
    firing: str = "immediate"
    rest: bool = False
    flush_events: int = 0
    shapes: tuple[Shape, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check(is_safe_name(self.name), f"name must be {SAFE_NAME}, not {self.name!r}")
        check(
            is_printable(self.origin),
            f"origin must be a line of at most {MOST_TEXT} printable characters, not {self.origin!r}",
        )
        sizes, threshold = self.input_shape, self.input_threshold
        check(
            isinstance(sizes, (tuple, list)) and len(sizes) == 3 and all(_is_int(value) and value >= 1 for value in sizes),
            f"input_shape must be three positive integers, not {sizes!r}",
        )
        object.__setattr__(self, "input_shape", Shape(*map(int, sizes)))
        check(_is_int(threshold) and 0 <= threshold <= 254, f"input_threshold must be within 0..254, not {threshold!r}")
        object.__setattr__(self, "input_threshold", int(threshold))
        self._check_levels()
        self._check_firing()
        object.__setattr__(self, "layers", tuple(self.layers))
        check(0 < len(self.layers) <= MOST_LAYERS, f"layers must be 1 to {MOST_LAYERS}, not {len(self.layers)}")
        known = {INPUT: self.input_shape}
        units = _checked_size(INPUT, self.input_shape, 0)
        for layer in self.layers:
            check(layer.name not in known, f"layer name must be unique, not {layer.name!r} twice")
            check(
                layer.source in known,
                f"layer {layer.name!r}: source must be an earlier layer or {INPUT!r}, not {layer.source!r}",
            )
            check(
                self.deferred or not (isinstance(layer, Neurons) and layer.halves_to_even),
                f"layer {layer.name!r}: halves_to_even must be false in a network that fires {self.firing}",
            )
            known[layer.name] = layer.output_shape(known[layer.source])
            units = _checked_size(layer.name, known[layer.name], units)
        object.__setattr__(self, "shapes", tuple(known[layer.name] for layer in self.layers))

    def _check_levels(self) -> None:
        levels, step = self.input_levels, self.input_step
        check(_is_int(levels) and 1 <= levels <= 255, f"input_levels must be within 1..255, not {levels!r}")
        most = 1 if levels == 1 else (254 - self.input_threshold) // (levels - 1)
        check(
            most >= 1,
            f"input_levels must be at most {255 - self.input_threshold} above an input_threshold of {self.input_threshold}, "
            f"not {levels}",
        )
        check(
            _is_int(step) and 1 <= step <= most,
            f"input_step must be within 1..{most} with {levels} levels above {self.input_threshold}, not {step!r}",
        )
        object.__setattr__(self, "input_levels", int(levels))
        object.__setattr__(self, "input_step", int(step))

    def _check_firing(self) -> None:
        firing, events = self.firing, self.flush_events
        check(isinstance(firing, str) and firing in FIRINGS, f"firing must be 'immediate' or 'deferred', not {firing!r}")
        check(isinstance(self.rest, bool), f"rest must be true or false, not {self.rest!r}")
        most = MOST_UNITS if self.deferred else 0
        wanted = f"within 0..{most} in a network that fires deferred" if most else "0 in a network that fires immediate"
        check(_is_int(events) and 0 <= events <= most, f"flush_events must be {wanted}, not {events!r}")
        object.__setattr__(self, "flush_events", int(events))

    @property
    def deferred(self) -> bool:
        """Whether neurons compare only when a flush comes."""
        return self.firing == "deferred"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Network) and self.to_bytes() == other.to_bytes()

    def __hash__(self) -> int:
        return hash(self.content_hash)

    def layer(self, name: str) -> Layer:
        """The layer of that name; `NetworkError` names the known ones where there is none."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise NetworkError(f"layer must be one of {', '.join(la.name for la in self.layers)}, not {name!r}")

    def shape_of(self, name: str) -> Shape:
        """Output shape of the layer called ``name`` (or of the input)."""
        if name == INPUT:
            return self.input_shape
        return self.shapes[self.layers.index(self.layer(name))]

    def readers(self, name: str) -> tuple[Layer, ...]:
        """The layers that take the events of ``name``, in the order of `layers`."""
        return tuple(layer for layer in self.layers if layer.source == name)

    def walk(self) -> Iterator[tuple[Layer, Shape, Shape]]:
        """Each layer with the shapes of its input and output."""
        for layer, shape in zip(self.layers, self.shapes, strict=True):
            yield layer, self.shape_of(layer.source), shape

    @property
    def output(self) -> Layer:
        """The layer that is read out."""
        return self.layers[-1]

    @property
    def outputs(self) -> int:
        """Number of neurons that are read out."""
        return self.shapes[-1].size

    @property
    def classes(self) -> int:
        """Number of answers: one for each output, and two where the sign of a single output answers."""
        return max(2, self.outputs)

    @property
    def neurons(self) -> int:
        """Number of neurons: units of convolutional and linear layers, pooling units apart."""
        return sum(s.size for la, s in zip(self.layers, self.shapes, strict=True) if isinstance(la, Neurons))

    @property
    def version(self) -> int:
        """Version of its file form."""
        return version_of(self)

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of the content, in hexadecimal; equal for equal networks."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """The file form; see `model.support.network_file`."""
        return to_bytes(self)

    def save(self, path: Path | str) -> None:
        """Write the file form, whole or not at all."""
        write_file(path, self.to_bytes())

    @classmethod
    def load(cls, path: Path | str) -> "Network":
        """Read the file form.

        Raises
        ------
        NetworkError : with one line that names the file, and the field where there is one
        """
        return read_network(path, kinds=_KINDS, most_layers=MOST_LAYERS, make=cls)

    def renamed(self, name: str) -> "Network":
        """The same network under another name."""
        return replace(self, name=name)


def _is_int(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _checked_size(name: str, shape: Shape, before: int) -> int:
    """Units of a network so far, which had this many ``before``: refused where a machine's memory could not hold them."""
    units = before + shape.size
    check(
        max(shape.height, shape.width) <= _MOST_SIDE and units <= MOST_UNITS,
        f"{name!r} of shape {shape}: height and width must be at most {_MOST_SIDE}, and all layers together at most "
        f"{MOST_UNITS} units",
    )
    return units
