"""The integer spiking network: what conversion produces and everything else is derived from.

A :class:`Network` is a directed acyclic graph of layers. A max-pool takes the events of one layer (or of the input); a layer of
neurons has one or more inputs, each a source and a projection, which all drive the same neurons. Several layers may take the
same source, which is multicast. Integers only: weights, biases and thresholds that are powers of two. Nothing here knows of
hardware or of floating point.

Addresses follow the canonical order: ``(y * width + x) * channels + c``, channel-minor; a vector has
shape ``1 x 1 x channels``.
"""

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from model.arrays import Words
from model.projection import (
    MOST_WEIGHT_BITS,
    MOST_WINDOW,
    PROJECTIONS,
    ConvolutionProjection,
    LinearProjection,
    Padding,
    Projection,
    Shape,
    TransposedProjection,
    check_int,
    check_ints,
    integers,
    taps,
    window_outputs,
    window_taps,
)
from model.support.choices import FIRINGS
from model.support.errors import NetworkError
from model.support.files import write_file
from model.support.names import LAYER_NAME, MOST_TEXT, SAFE_NAME, is_layer_name, is_printable, is_safe_name
from model.support.network_file import check, read_network, to_bytes, version_of

__all__ = [
    "FIRINGS",
    "INPUT",
    "MOST_COUNT_BITS",
    "MOST_INPUTS",
    "MOST_LAYERS",
    "MOST_POTENTIAL_BITS",
    "MOST_UNITS",
    "MOST_WEIGHT_BITS",
    "MOST_WINDOW",
    "Convolution",
    "ConvolutionProjection",
    "Input",
    "Layer",
    "Linear",
    "LinearProjection",
    "MaxPool",
    "Network",
    "Neurons",
    "Padding",
    "Projection",
    "Shape",
    "Transposed",
    "TransposedProjection",
    "taps",
]

INPUT = "input"
"""The name by which a layer takes the network's input events."""

MOST_LAYERS = 1000
"""Layers that a network may have."""

MOST_INPUTS = 64
"""Inputs that a layer may have."""

MOST_POTENTIAL_BITS, MOST_COUNT_BITS = 24, 16
"""The widest that the format has."""

MOST_UNITS = 1 << 24
"""Addresses of the input and of all layers that a network may have together."""

_MOST_SIDE = 1 << 16
"""Height or width that a shape may have."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What every layer has.

    Parameters
    ----------
    name : str
        Unique name, also a part of the names of its core and its links in hardware.
    source : str
        Name of the layer whose events this one takes, or ``"input"``; of several inputs that of the first.
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
        check(isinstance(self.source, str), f"{self.label}: source must be a name, not {self.source!r}")
        events = self.mean_events
        check(
            isinstance(events, (int, float)) and not isinstance(events, bool) and 0 <= events <= sys.float_info.max,
            f"{self.label}: mean_events must be a finite number of at least 0, not {events!r}",
        )

    @property
    def label(self) -> str:
        """What messages call it."""
        return f"layer {self.name!r}"

    @property
    def inputs(self) -> "tuple[Layer | Projection, ...]":
        """What takes the events of each of its sources, in order."""
        return (self,)

    @property
    def sources(self) -> tuple[str, ...]:
        """The source of each of its inputs."""
        return tuple(found.source for found in self.inputs)

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
class Neurons(Projection, Layer):
    """A layer of sigma-delta neurons (the paper's Algorithm 1), and the projection of its first input.

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
    joined : tuple of Projection
        Further inputs, which drive the same neurons. For each event of the layer (or the network's input) through which all
        that the layer takes has passed, the events that it caused come by input: those of the first, then those of the next.
    """

    bias: Words
    threshold_log2: int
    activation: str = "relu"
    weight_bits: int = 8
    potential_bits: int = 16
    count_bits: int = 8
    burst: int = 1
    count_max: int | None = None
    halves_to_even: bool = False
    joined: tuple[Projection, ...] = ()

    def __post_init__(self) -> None:
        # The width of weights is the layer's, and not what a projection by itself may have.
        Layer.__post_init__(self)
        label = self.label
        check(
            self.activation in ("relu", "identity"),
            f"{label}: activation must be 'relu' or 'identity', not {self.activation!r}",
        )
        check_int(label, "weight_bits", self.weight_bits, 1, MOST_WEIGHT_BITS)
        check_int(label, "potential_bits", self.potential_bits, 2, MOST_POTENTIAL_BITS)
        check_int(label, "count_bits", self.count_bits, 1 if self.relu else 2, MOST_COUNT_BITS)
        check_int(label, "threshold_log2", self.threshold_log2, 0, self.potential_bits - 2)
        check_int(label, "burst", self.burst, 0, (1 << 16) - 1)
        for name in ("weight_bits", "potential_bits", "count_bits", "threshold_log2", "burst"):
            object.__setattr__(self, name, int(getattr(self, name)))
        even = self.halves_to_even
        check(isinstance(even, bool), f"{label}: halves_to_even must be true or false, not {even!r}")
        check(
            not even or self.threshold_log2,
            f"{label}: halves_to_even must be false where threshold_log2 is 0, as there are no halves",
        )
        if self.count_max is not None:
            check(self.relu, f"{label}: count_max must be None unless activation is 'relu', not {self.count_max!r}")
            check_int(label, "count_max", self.count_max, 1, (1 << self.count_bits) - 1)
            object.__setattr__(self, "count_max", int(self.count_max))
        object.__setattr__(self, "weights", integers(label, "weights", self.weights, self.weight_bits))
        object.__setattr__(self, "bias", integers(label, "bias", self.bias, self.potential_bits))
        by_position = isinstance(self, ConvolutionProjection) and self.bias.ndim == 3 and self.bias.shape[2] == self.channels
        check(
            self.bias.shape == (self.channels,) or by_position,
            f"{label}: bias must have shape ({self.channels},), not {self.bias.shape}",
        )
        self._check_averaged()
        self._check_joined()

    def _checked_bias(self, found: Shape) -> Shape:
        """The shape of the output, which a bias by position has to have too."""
        check(
            self.bias.ndim == 1 or self.bias.shape == found,
            f"{self.label}: bias must have shape ({self.channels},) or that of the output {tuple(found)}, "
            f"not {self.bias.shape}",
        )
        return found

    def _check_joined(self) -> None:
        joined = self.joined
        if not isinstance(joined, (tuple, list)) or any(type(each) not in PROJECTIONS.values() for each in joined):
            raise TypeError(f"{self.label}: joined must be projections, not {joined!r}")
        check(len(joined) < MOST_INPUTS, f"{self.label}: inputs must be at most {MOST_INPUTS}, not {1 + len(joined)}")
        for each in joined:
            label = f"{self.label}, {each.label}"
            integers(label, "weights", each.weights, self.weight_bits)
            check(each.channels == self.channels, f"{label}: weights must be to {self.channels} channels, not {each.channels}")
        object.__setattr__(self, "joined", tuple(joined))

    @property
    def label(self) -> str:
        return f"layer {self.name!r}"

    @property
    def inputs(self) -> tuple[Projection, ...]:
        return (self, *self.joined)

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
class Convolution(ConvolutionProjection, Neurons):
    """A layer of neurons whose first input is a convolution."""

    def output_shape(self, shape: Shape) -> Shape:
        return self._checked_bias(super().output_shape(shape))


@dataclass(frozen=True, kw_only=True)
class Transposed(TransposedProjection, Neurons):
    """A layer of neurons whose first input is a transposed convolution."""

    def output_shape(self, shape: Shape) -> Shape:
        return self._checked_bias(super().output_shape(shape))


@dataclass(frozen=True, kw_only=True)
class Linear(LinearProjection, Neurons):
    """A layer of neurons whose first input is linear."""


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
            object.__setattr__(self, name, check_ints(self.label, name, getattr(self, name), [(1, MOST_WINDOW)] * 2))
        padding = check_ints(self.label, "padding", self.padding, [(0, size - 1) for size in (*self.window, *self.window)])
        object.__setattr__(self, "padding", Padding(*padding))

    def output_shape(self, shape: Shape) -> Shape:
        return Shape(*window_outputs(self.label, shape, self.window, self.stride, self.padding), shape.channels)

    def taps(self, shape: Shape, axis: int) -> list[list[tuple[int, int]]]:
        return window_taps(self, shape[axis], self.output_shape(shape)[axis], axis, self.window)

    @property
    def overlapping(self) -> bool:
        """Whether an input position can belong to more than one window."""
        return self.stride[0] < self.window[0] or self.stride[1] < self.window[1]


_KINDS: dict[str, type[Layer]] = {kind.KIND: kind for kind in (Convolution, Linear, MaxPool, Transposed)}


class Input(NamedTuple):
    """One of a layer's inputs.

    Parameters
    ----------
    taker : Layer or Projection
        What takes its events: a max-pool, or a projection.
    shape : Shape
        Of its source.
    first : int
        What its source's addresses begin at in the sequence that the layer takes: the sizes of the sources of all inputs before.
    """

    taker: Layer | Projection
    shape: Shape
    first: int


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
            for source in layer.sources:
                check(
                    source in known, f"layer {layer.name!r}: source must be an earlier layer or {INPUT!r}, not {source!r}"
                )
            check(
                self.deferred or not (isinstance(layer, Neurons) and layer.halves_to_even),
                f"layer {layer.name!r}: halves_to_even must be false in a network that fires {self.firing}",
            )
            known[layer.name] = shape = layer.output_shape(known[layer.source])
            for taker in layer.inputs[1:]:
                try:
                    found = taker.output_shape(known[taker.source])
                except NetworkError as error:
                    raise NetworkError(f"{layer.label}, {error}") from None
                check(found == shape, f"{layer.label}, {taker.label}: shape must be {shape}, not {found}")
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
        return self.layers[self._index(name)]

    def shape_of(self, name: str) -> Shape:
        """Output shape of the layer called ``name`` (or of the input)."""
        if name == INPUT:
            return self.input_shape
        return self.shapes[self._index(name)]

    def _index(self, name: str) -> int:
        found = self._indices.get(name)
        if found is None:
            raise NetworkError(f"layer must be one of {', '.join(self._indices)}, not {name!r}")
        return found

    @cached_property
    def _indices(self) -> dict[str, int]:
        """Of each layer's name its place in `layers`."""
        return {layer.name: index for index, layer in enumerate(self.layers)}

    def readers(self, name: str) -> tuple[Layer, ...]:
        """The layers that take the events of ``name``, in the order of `layers`."""
        return tuple(layer for layer in self.layers if name in layer.sources)

    def walk(self) -> Iterator[tuple[Layer, Shape, Shape]]:
        """Each layer with the shapes of its (first) input and of its output."""
        for layer, shape in zip(self.layers, self.shapes, strict=True):
            yield layer, self.shape_of(layer.source), shape

    def inputs(self, layer: Layer) -> tuple[Input, ...]:
        """The inputs of a layer, in order."""
        found, first = [], 0
        for taker in layer.inputs:
            shape = self.shape_of(taker.source)
            found.append(Input(taker, shape, first))
            first += shape.size
        return tuple(found)

    @property
    def branched(self) -> bool:
        """Whether any layer has several inputs."""
        return any(len(layer.sources) > 1 for layer in self.layers)

    def refuse_branches(self, what: str) -> None:
        """Raise `NetworkError` where a layer has several inputs, and ``what`` takes networks of layers with one."""
        for layer in self.layers:
            if len(layer.sources) > 1:
                raise NetworkError(f"layer {layer.name!r}: inputs must be one for {what}, not {len(layer.sources)}")

    def fork(self, name: str) -> str:
        """The nearest layer (or the input) through which every path from the input to a layer passes: its immediate dominator."""
        return self._forks[name]

    @cached_property
    def _forks(self) -> dict[str, str]:
        """Of each layer its immediate dominator."""
        forks: dict[str, str] = {}
        # How many dominators each has: of two layers that differ, the one with more is no dominator of the other.
        depths = {INPUT: 0}
        for layer in self.layers:
            fork, *others = layer.sources
            for other in others:
                while fork != other:
                    if depths[fork] > depths[other]:
                        fork = forks[fork]
                    else:
                        other = forks[other]
            forks[layer.name], depths[layer.name] = fork, depths[fork] + 1
        return forks

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
        return read_network(path, kinds=_KINDS, projections=PROJECTIONS, most_layers=MOST_LAYERS, make=cls)

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
