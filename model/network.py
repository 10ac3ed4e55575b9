"""The integer spiking network: what conversion produces and everything else is derived from.

A :class:`Network` is a tree of layers. Each layer names the one layer (or the input) whose events it
takes; several layers may name the same source, which is multicast. Integers only: weights, biases and
thresholds that are powers of two. Nothing here knows of hardware or of floating point.

Addresses follow the canonical order: ``(y * width + x) * channels + c``, channel-minor; a vector has
shape ``1 x 1 x channels``.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from model.support.errors import BadInputError

__all__ = [
    "FORMAT_VERSION",
    "INPUT",
    "Convolution",
    "Layer",
    "Linear",
    "MaxPool",
    "Network",
    "NetworkError",
    "Neurons",
    "Padding",
    "Shape",
    "taps",
]

FORMAT_VERSION = 1
"""Version of the file form; a file of another version is refused."""

INPUT = "input"
"""The name by which a layer takes the network's input events."""

IntArray = npt.NDArray[np.int32]


class NetworkError(BadInputError):
    """A network, or the file it was read from, is not what it must be."""


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
    size : number of input coordinates
    outputs : number of output coordinates
    kernel, stride : window size and step
    padding : zeros before the first input coordinate

    Returns
    -------
    For each input coordinate ``i``, the pairs ``(o, k)`` of output coordinate and kernel tap with
    ``o * stride + k - padding == i``, ascending in ``o`` and clipped at the border.
    """
    return [
        [(o, i + padding - o * stride) for o in range(outputs) if 0 <= i + padding - o * stride < kernel]
        for i in range(size)
    ]


def _check(condition: object, message: str) -> None:
    if not condition:
        raise NetworkError(message)


def _check_int(layer: str, name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"layer {layer!r}: {name} must be an integer, not {value!r}")
    _check(low <= value <= high, f"layer {layer!r}: {name} must be within {low}..{high}, not {value!r}")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What every layer has.

    Parameters
    ----------
    name : unique name, also the name of its core in hardware
    source : name of the layer whose events this one takes, or ``"input"``
    mean_events : mean input events a frame seen in calibration; 0 where never calibrated
    """

    KIND: ClassVar[str]

    name: str
    source: str
    mean_events: float = 0.0

    def __post_init__(self) -> None:
        _check(
            self.name.isidentifier() and self.name != INPUT,
            f"layer name must be an identifier other than {INPUT!r}, not {self.name!r}",
        )
        _check(self.mean_events >= 0, f"layer {self.name!r}: mean_events must be at least 0, not {self.mean_events!r}")

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of the output for an input of ``shape``; raises `NetworkError` where they do not fit."""
        raise NotImplementedError  # pragma: no cover - every layer kind defines it


@dataclass(frozen=True, kw_only=True)
class Neurons(Layer):
    """A layer of sigma-delta neurons (the paper's Algorithm 1): what `Convolution` and `Linear` share.

    Parameters
    ----------
    bias : int32 array, one an output channel, in units of the potential
    threshold_log2 : the threshold is ``theta = 2 ** threshold_log2``
    activation : ``"relu"`` in hidden layers, ``"identity"`` in the output layer
    weight_bits, potential_bits : widths of a weight and of the stored residual, two's complement
    count_bits : width of the spike count; unsigned for ``"relu"``, two's complement for ``"identity"``
    """

    weights: IntArray
    bias: IntArray
    threshold_log2: int
    activation: str = "relu"
    weight_bits: int = 8
    potential_bits: int = 16
    count_bits: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(
            self.activation in ("relu", "identity"),
            f"layer {self.name!r}: activation must be 'relu' or 'identity', not {self.activation!r}",
        )
        _check_int(self.name, "weight_bits", self.weight_bits, 1, 16)
        _check_int(self.name, "potential_bits", self.potential_bits, 2, 24)
        _check_int(self.name, "count_bits", self.count_bits, 1 if self.relu else 2, 16)
        _check_int(self.name, "threshold_log2", self.threshold_log2, 0, self.potential_bits - 2)
        for name in ("weights", "bias"):
            array = np.asarray(getattr(self, name))
            _check(array.dtype.kind in "iu", f"layer {self.name!r}: {name} must be integers, not {array.dtype}")
            bits = self.weight_bits if name == "weights" else self.potential_bits
            low, high = -(1 << bits - 1), (1 << bits - 1) - 1
            _check(array.size > 0, f"layer {self.name!r}: {name} must not be empty")
            for found in (array.min(), array.max()):
                _check(
                    low <= found <= high,
                    f"layer {self.name!r}: {name} must be within {low}..{high} ({bits} bits), not {int(found)}",
                )
            array = array.astype(np.int32)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        _check(
            self.bias.shape == (self.channels,),
            f"layer {self.name!r}: bias must have shape ({self.channels},), not {self.bias.shape}",
        )

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
            return 0, (1 << self.count_bits) - 1
        return -(1 << self.count_bits - 1), (1 << self.count_bits - 1) - 1


@dataclass(frozen=True, kw_only=True)
class Convolution(Neurons):
    """Convolution; ``weights`` has shape ``(channels, input channels of a group, kernel height, kernel width)``.

    Parameters
    ----------
    stride, padding : of the window
    groups : output channels ``n * channels / groups`` and up take the ``n``-th part of the input channels, and no event of
        the others reaches them; as many as input channels is depthwise
    """

    KIND: ClassVar[str] = "convolution"

    stride: tuple[int, int] = (1, 1)
    padding: Padding = Padding()
    groups: int = 1

    def __post_init__(self) -> None:
        _check(
            np.ndim(self.weights) == 4,
            f"layer {self.name!r}: weights must have 4 dimensions (out, in, height, width), not {np.ndim(self.weights)}",
        )
        super().__post_init__()
        object.__setattr__(self, "padding", Padding(*self.padding))
        object.__setattr__(self, "stride", tuple(self.stride))
        for value in self.stride:
            _check_int(self.name, "stride", value, 1, 255)
        for value, limit in zip(self.padding, (*self.kernel, *self.kernel), strict=True):
            _check_int(self.name, "padding", value, 0, limit - 1)
        _check_int(self.name, "groups", self.groups, 1, self.channels)
        _check(
            self.channels % self.groups == 0,
            f"layer {self.name!r}: groups must divide the {self.channels} channels, not {self.groups}",
        )

    @property
    def kernel(self) -> tuple[int, int]:
        """Kernel ``(height, width)``."""
        return int(self.weights.shape[2]), int(self.weights.shape[3])

    def output_shape(self, shape: Shape) -> Shape:
        taken = self.weights.shape[1] * self.groups
        _check(
            shape.channels == taken,
            f"layer {self.name!r}: weights take {taken} input channels, "
            f"but its source {self.source!r} has shape {shape}",
        )
        return Shape(*_window_outputs(self.name, shape, self.kernel, self.stride, self.padding), self.channels)


@dataclass(frozen=True, kw_only=True)
class Linear(Neurons):
    """Linear layer; ``weights`` has shape ``(outputs, inputs)``, inputs by the source's flat address."""

    KIND: ClassVar[str] = "linear"

    def __post_init__(self) -> None:
        _check(
            np.ndim(self.weights) == 2,
            f"layer {self.name!r}: weights must have 2 dimensions (out, in), not {np.ndim(self.weights)}",
        )
        super().__post_init__()

    def output_shape(self, shape: Shape) -> Shape:
        _check(
            shape.size == self.weights.shape[1],
            f"layer {self.name!r}: weights take {self.weights.shape[1]} inputs, "
            f"but its source {self.source!r} has shape {shape}, which is {shape.size}",
        )
        return Shape(1, 1, self.channels)


@dataclass(frozen=True, kw_only=True)
class MaxPool(Layer):
    """Max-pooling on spike counts, a channel at a time; positions in the padding do not take part."""

    KIND: ClassVar[str] = "maxpool"

    window: tuple[int, int]
    stride: tuple[int, int]
    padding: Padding = Padding()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "padding", Padding(*self.padding))
        for name in ("window", "stride"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
            for value in getattr(self, name):
                _check_int(self.name, name, value, 1, 255)
        for value, limit in zip(self.padding, (*self.window, *self.window), strict=True):
            _check_int(self.name, "padding", value, 0, limit - 1)

    def output_shape(self, shape: Shape) -> Shape:
        return Shape(*_window_outputs(self.name, shape, self.window, self.stride, self.padding), shape.channels)

    @property
    def overlapping(self) -> bool:
        """Whether an input position can belong to more than one window."""
        return self.stride[0] < self.window[0] or self.stride[1] < self.window[1]


def _window_outputs(
    name: str, shape: Shape, kernel: tuple[int, int], stride: tuple[int, int], padding: Padding
) -> tuple[int, int]:
    height = (shape.height + padding.top + padding.bottom - kernel[0]) // stride[0] + 1
    width = (shape.width + padding.left + padding.right - kernel[1]) // stride[1] + 1
    _check(
        height > 0 and width > 0,
        f"layer {name!r}: window {kernel[0]}x{kernel[1]} is larger than its padded input {shape}",
    )
    return height, width


_WRITTEN_UNLESS = {"groups": 1}
"""Fields that the file form leaves out at this value, so that networks without them keep their bytes."""

_KINDS: dict[str, type[Layer]] = {kind.KIND: kind for kind in (Convolution, Linear, MaxPool)}


@dataclass(frozen=True, kw_only=True)
class Network:
    """A spiking network of integers.

    Parameters
    ----------
    name : name, used for build folders
    input_shape : shape of an input frame
    layers : the layers, each after its source; the last one is read out
    input_threshold : pixels of 8 bits fire when greater than this (0.2 of full scale is 51)
    origin : one line that says where the network came from
    """

    name: str
    input_shape: Shape
    layers: tuple[Layer, ...]
    input_threshold: int = 51
    origin: str = ""
    shapes: tuple[Shape, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_shape", Shape(*self.input_shape))
        object.__setattr__(self, "layers", tuple(self.layers))
        for value in self.input_shape:
            _check(isinstance(value, int) and value >= 1, f"input_shape must be positive, not {self.input_shape}")
        _check(0 <= self.input_threshold <= 254, f"input_threshold must be within 0..254, not {self.input_threshold!r}")
        _check(len(self.layers) > 0, "layers must not be empty")
        known = {INPUT: self.input_shape}
        for layer in self.layers:
            _check(layer.name not in known, f"layer name must be unique, not {layer.name!r} twice")
            _check(
                layer.source in known,
                f"layer {layer.name!r}: source must be an earlier layer or {INPUT!r}, not {layer.source!r}",
            )
            known[layer.name] = layer.output_shape(known[layer.source])
        object.__setattr__(self, "shapes", tuple(known[layer.name] for layer in self.layers))

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
    def classes(self) -> int:
        """Number of answers."""
        return self.shapes[-1].size

    @property
    def neurons(self) -> int:
        """Number of neurons: units of convolutional and linear layers, pooling units apart."""
        return sum(s.size for la, s in zip(self.layers, self.shapes, strict=True) if isinstance(la, Neurons))

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of the content, in hexadecimal; equal for equal networks."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """The file form: an npz archive of ``network.json`` (as text) and the arrays; the same on every run."""
        arrays: dict[str, np.ndarray] = {}
        layers: list[dict[str, Any]] = []
        for layer in self.layers:
            entry: dict[str, Any] = {"kind": layer.KIND}
            for item in fields(layer):
                value = getattr(layer, item.name)
                if isinstance(value, np.ndarray):
                    arrays[f"{layer.name}.{item.name}"] = value.astype(np.int16 if item.name == "weights" else np.int32)
                elif item.name not in _WRITTEN_UNLESS or value != _WRITTEN_UNLESS[item.name]:
                    entry[item.name] = list(value) if isinstance(value, tuple) else value
            layers.append(entry)
        header = {
            "format": "tally-network",
            "version": FORMAT_VERSION,
            "name": self.name,
            "input_shape": list(self.input_shape),
            "input_threshold": self.input_threshold,
            "origin": self.origin,
            "layers": layers,
        }
        arrays["header"] = np.frombuffer(json.dumps(header, sort_keys=True).encode(), dtype=np.uint8)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        return buffer.getvalue()

    def save(self, path: Path | str) -> None:
        """Write the file form, whole or not at all."""
        path = Path(path)
        part = path.with_name(path.name + ".part")
        part.write_bytes(self.to_bytes())
        part.replace(path)

    @classmethod
    def load(cls, path: Path | str) -> "Network":
        """Read the file form.

        Raises
        ------
        NetworkError : with one line that names the file, and the field where there is one
        """
        path = Path(path)
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            header = json.loads(bytes(arrays.pop("header")))
        except OSError as error:
            raise NetworkError(f"{path}: cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zipfile.LargeZipFile, TypeError, AttributeError):
            what = "an ONNX file, to be converted first" if path.suffix == ".onnx" else "damaged, truncated or something else"
            raise NetworkError(f"{path}: must be a Tally network file, is {what}") from None
        except Exception as error:  # zlib and struct errors of a damaged archive have no common base
            raise NetworkError(f"{path}: is damaged ({type(error).__name__}: {error})") from None
        try:
            return cls._from_header(header, arrays)
        except (NetworkError, TypeError) as error:
            raise NetworkError(f"{path}: {error}") from None

    @classmethod
    def _from_header(cls, header: Any, arrays: dict[str, np.ndarray]) -> "Network":
        _check(isinstance(header, dict) and header.get("format") == "tally-network", "must be a Tally network file")
        version = header.get("version")
        _check(version == FORMAT_VERSION, f"version must be {FORMAT_VERSION}, not {version!r}")
        expected = {"format", "version", "name", "input_shape", "input_threshold", "origin", "layers"}
        _check(set(header) == expected, f"fields must be {sorted(expected)}, not {sorted(header)}")
        layers = []
        for entry in header["layers"]:
            entry = dict(entry)
            name, kind = entry.get("name"), entry.pop("kind", None)
            _check(kind in _KINDS, f"layer {name!r}: kind must be one of {sorted(_KINDS)}, not {kind!r}")
            layer_class = _KINDS[kind]
            for array in ("weights", "bias"):
                if issubclass(layer_class, Neurons):
                    _check(f"{name}.{array}" in arrays, f"layer {name!r}: array {array!r} is missing")
                    entry[array] = arrays.pop(f"{name}.{array}")
            known = {item.name for item in fields(layer_class)}
            missing = known - set(entry) - set(_WRITTEN_UNLESS)
            _check(set(entry) <= known and not missing, f"layer {name!r}: fields must be {sorted(known)}, not {sorted(entry)}")
            layers.append(layer_class(**entry))
        _check(not arrays, f"arrays must belong to a layer, not {sorted(arrays)}")
        return cls(
            name=header["name"],
            input_shape=Shape(*header["input_shape"]),
            layers=tuple(layers),
            input_threshold=header["input_threshold"],
            origin=header["origin"],
        )

    def renamed(self, name: str) -> "Network":
        """The same network under another name."""
        return replace(self, name=name)
