"""What layers settle to: counts of whole thresholds for counts of their sources; and the state at rest, from which frames start.

A neuron that no event reaches never compares: it would stay silent also where its bias alone is above its threshold. So a
network can start each frame from its *state at rest*: what it settles to on a frame without events. Layer by layer, ``V0`` is
the bias and the weights times the ``Q0`` of the sources, and ``Q0`` the count at which ``|act(V0) - Q0 * theta| < theta`` first
holds, coming from 0 (deferred: ``floor(act(V0) / theta)``), within the limits of the count; of a max-pool the maxima in its
windows. The counts of the input are 0. All of it follows from the network and is stored nowhere.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from model.arrays import Floats, Ints
from model.network import INPUT, Layer, MaxPool, Network, Neurons, Shape
from model.neuron import accumulate_residual
from model.projection import ConvolutionProjection, LinearProjection, Projection, TransposedProjection

__all__ = [
    "BorderClasses",
    "State",
    "border_classes",
    "classes",
    "counts_of_layer",
    "first_states",
    "pooled",
    "rounded",
    "states_at_rest",
    "weighted_sums",
]

T = TypeVar("T", np.int16, np.int32, np.int64, np.float64)

_LEAST = -(2**53)

_WINDOWS_AT_ONCE = 1 << 23
"""Values of windows that are written out at once for a product of matrices."""


@dataclass(frozen=True)
class State:
    """What a layer starts a frame with.

    Parameters
    ----------
    potential : Ints
        ``V`` of each neuron, of the layer's shape; of a max-pool the counts of its source, of the source's shape.
    count : Ints
        ``Q`` of each neuron, and the maxima of a max-pool, of the layer's shape.
    """

    potential: Ints
    count: Ints


def first_states(network: Network) -> Mapping[str, State]:
    """What each layer starts a frame with: the state at rest where the network has one, else the bias and a count of 0."""
    if network.rest:
        return states_at_rest(network)
    return _kept(network, "_first_states", _without_rest)


def states_at_rest(network: Network) -> Mapping[str, State]:
    """The state at rest of each layer, by name, whether or not the network's frames start from it.

    What is stored of a potential saturates (deferred: wraps) here as it does anywhere.
    """
    return _kept(network, "_states_at_rest", _at_rest)


def _kept(network: Network, name: str, made: Callable[[Network], Mapping[str, State]]) -> Mapping[str, State]:
    """What was made of the network once, kept with it."""
    if name not in network.__dict__:
        network.__dict__[name] = made(network)
    found: Mapping[str, State] = network.__dict__[name]
    return found


def _without_rest(network: Network) -> Mapping[str, State]:
    states = {}
    for layer, shape, output in network.walk():
        if isinstance(layer, Neurons):
            potential = np.broadcast_to(layer.bias.astype(np.int64), output)
        else:
            potential = np.zeros(shape, np.int64)
        states[layer.name] = State(_fixed(potential), _fixed(np.zeros(output, np.int64)))
    return states


def _at_rest(network: Network) -> Mapping[str, State]:
    counts = {INPUT: np.zeros(network.input_shape, np.int64)}
    states = {}
    for layer, _, output in network.walk():
        taken = {source: counts[source][np.newaxis] for source in layer.sources}
        Q = counts_of_layer(network, layer, output, taken)[0]
        potential = counts[layer.source]
        if isinstance(layer, Neurons):
            sums = _driven(network, layer, output, taken)[0]
            potential = Q * layer.theta + _stored(layer, sums.astype(np.int64) + layer.bias - Q * layer.theta, network.deferred)
        counts[layer.name] = Q
        states[layer.name] = State(_fixed(potential), _fixed(Q))
    return states


def _stored(layer: Neurons, residual: Ints, deferred: bool) -> Ints:
    """What a neuron keeps of a residual: it saturates; deferred, it wraps, with a bit more."""
    if deferred:
        return accumulate_residual(layer, residual, np.zeros_like(residual))
    return np.clip(residual, *layer.residual_limits)


def _fixed(array: Ints) -> Ints:
    array = np.ascontiguousarray(array, np.int64)
    array.setflags(write=False)
    return array


@dataclass(frozen=True)
class BorderClasses:
    """Which positions of a layer start a frame alike.

    Parameters
    ----------
    potential, count : Ints
        Of each class the state of its channels, ``(classes, channels)``.
    of_position : Ints
        The class of each position, ``(height, width)``.
    """

    potential: Ints
    count: Ints
    of_position: Ints


def border_classes(state: State) -> BorderClasses:
    """The distinct states of positions of a layer of neurons, in the order in which they first come."""
    height, width, channels = state.count.shape
    words = np.concatenate([state.potential, state.count], axis=2).reshape(height * width, -1)
    of_word, first = classes(words)
    distinct, of_position = words[first], np.array(of_word).reshape(height, width)
    return BorderClasses(potential=distinct[:, :channels], count=distinct[:, channels:], of_position=of_position)


def classes(words: Ints) -> tuple[list[int], list[int]]:
    """The class of each, those that are equal being of one, numbered as they first come; and of each class the first.

    Parameters
    ----------
    words : Ints
        What is classed, along the first axis.
    """
    # `numpy.unique` would compare rows as records, and makes a TypeError of what a signal raises in the middle of it.
    found: dict[bytes, int] = {}
    alike = [found.setdefault(word.tobytes(), place) for place, word in enumerate(words)]
    first = list(found.values())
    numbers = {place: number for number, place in enumerate(first)}
    return [numbers[place] for place in alike], first


def counts_of_layer(network: Network, layer: Layer, output: Shape, counts: Mapping[str, Ints]) -> Ints:
    """A layer's counts ``(frames, *output)`` for counts ``(frames, *shape)`` of each of its sources, by name."""
    if isinstance(layer, MaxPool):
        return pooled(layer, counts[layer.source])
    assert isinstance(layer, Neurons)
    sums = _driven(network, layer, output, counts)
    return rounded(layer, (sums + layer.bias) / layer.theta, deferred=network.deferred).astype(np.int64)


def _driven(network: Network, layer: Neurons, output: Shape, counts: Mapping[str, Ints]) -> Floats:
    """What all inputs of a layer bring it, in units of the potential, the bias apart."""
    # Float64 holds these integers exactly, and multiplies matrices faster than integers are.
    return functools.reduce(
        np.add,
        (
            weighted_sums(each, each.weights, counts[each.source].astype(np.float64), network.shape_of(each.source), output)
            for each in layer.inputs
        ),
    )


def pooled(layer: MaxPool, values: npt.NDArray[T]) -> npt.NDArray[T]:
    """Maxima of the windows of values ``(frames, height, width, channels)``."""
    output = layer.output_shape(Shape(*values.shape[1:]))
    # What stands in the padding takes no part: nothing is as small.
    least = _LEAST if values.dtype.kind == "f" else int(np.iinfo(values.dtype.name).min)
    return functools.reduce(np.maximum, (there for _, there in _taps(layer, values, least, layer.window, output)))


def rounded(layer: Neurons, potential: Floats, *, deferred: bool) -> Floats:
    """Activations, given in thresholds, rounded towards zero (deferred: down) to whole ones within the limits of the count."""
    activation = np.maximum(potential, 0) if layer.relu else potential
    whole = np.floor(potential) if deferred else np.trunc(activation)
    if layer.halves_to_even:
        whole -= (whole == potential) & (whole % 2 == 1)
    return np.clip(whole, *layer.count_limits)


def weighted_sums(
    layer: Projection, weights: npt.NDArray[np.number], values: npt.NDArray[Any], shape: Shape, output: Shape
) -> Floats:
    """``W x``, with ``weights`` in the place of the layer's own.

    Parameters
    ----------
    layer : Projection
        Gives the geometry.
    weights : npt.NDArray[np.number]
        Of the shape of the layer's.
    values : Floats
        ``(frames, *shape)``, in the precision in which to add.
    shape, output : Shape
        Of its source and of the layer.

    Returns
    -------
    ``(frames, *output)``
    """
    kind = values.dtype if values.dtype.kind == "f" else np.dtype(np.float64)
    values, floats = values.astype(kind, copy=False), weights.astype(kind)
    if layer.averaged != (1, 1):
        values = _summed(values, layer.averaged, layer.taken(shape))
    if isinstance(layer, LinearProjection):
        return (values.reshape(len(values), -1) @ floats.T).reshape(len(values), *output)
    if not isinstance(layer, ConvolutionProjection):
        raise TypeError(f"layer must be a Convolution, Linear or MaxPool, not {type(layer).__name__}")
    if isinstance(layer, TransposedProjection):
        return _transposed(layer, floats, values, output)
    # One product of matrices, or one for each group, for as many frames as the windows' values fit into memory.
    step = max(1, _WINDOWS_AT_ONCE // (output.height * output.width * floats[0].size * layer.groups))
    parts = [_convolved(layer, floats, values[at : at + step], output) for at in range(0, len(values), step)]
    return np.concatenate(parts) if len(parts) != 1 else parts[0]


def _convolved(layer: ConvolutionProjection, weights: Floats, values: Floats, output: Shape) -> Floats:
    top, left, bottom, right = layer.padding
    padded = np.pad(values, ((0, 0), (top, bottom), (left, right), (0, 0)))
    seen = np.lib.stride_tricks.sliding_window_view(padded, layer.kernel, axis=(1, 2))[:, :: layer.stride[0], :: layer.stride[1]]
    frames, groups = len(values), layer.groups
    # (group, frame, y, x, tap y, tap x, channel of the group)
    grouped = seen.reshape(frames, output.height, output.width, groups, -1, *layer.kernel).transpose(3, 0, 1, 2, 5, 6, 4)
    matrices = weights.reshape(groups, layer.channels // groups, *weights.shape[1:]).transpose(0, 3, 4, 2, 1)
    size = weights[0].size
    sums = grouped.reshape(groups, -1, size) @ matrices.reshape(groups, size, -1)
    return sums.reshape(groups, frames, output.height, output.width, -1).transpose(1, 2, 3, 0, 4).reshape(frames, *output)


def _transposed(layer: TransposedProjection, weights: Floats, values: Floats, output: Shape) -> Floats:
    frames, height, width, _ = values.shape
    (down, across), (top, left), groups = layer.stride, layer.padding[:2], layer.groups
    sizes = [
        max((size - 1) * stride + kernel, before + wanted)
        for size, stride, kernel, before, wanted in zip(
            (height, width), layer.stride, layer.kernel, (top, left), output[:2], strict=True
        )
    ]
    whole = np.zeros((frames, *sizes, groups, layer.channels // groups), values.dtype)
    grouped = values.reshape(frames, height, width, groups, -1)
    matrices = weights.reshape(groups, layer.channels // groups, *weights.shape[1:])
    for y, x in np.ndindex(layer.kernel):
        there = np.s_[:, y : y + (height - 1) * down + 1 : down, x : x + (width - 1) * across + 1 : across]
        whole[there] += np.einsum("fyxgi,goi->fyxgo", grouped, matrices[..., y, x], optimize=True)
    inside = whole[:, top : top + output.height, left : left + output.width]
    return inside.reshape(frames, *output)


def _summed(values: Floats, window: tuple[int, int], taken: Shape) -> Floats:
    """Sums over windows side by side in values ``(frames, height, width, channels)``, positions after the last left out."""
    rows, columns = window
    whole = values[:, : taken.height * rows, : taken.width * columns]
    by_row: Floats = whole.reshape(len(values), taken.height, rows, taken.width * columns, -1).sum(axis=2)
    return functools.reduce(np.add, (by_row[:, :, column::columns] for column in range(columns)))


def _taps(
    layer: ConvolutionProjection | MaxPool, values: npt.NDArray[T], outside: float, window: tuple[int, int], output: Shape
) -> Iterator[tuple[tuple[int, int], npt.NDArray[T]]]:
    """Of each tap of the window, the padded values ``(frames, output height, output width, channels)`` that it sees."""
    top, left, bottom, right = layer.padding
    padded = np.pad(values, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=outside)
    rows, columns = (
        [slice(tap, tap + (count - 1) * stride + 1, stride) for tap in range(size)]
        for size, count, stride in zip(window, output, layer.stride, strict=False)
    )
    for y, down in enumerate(rows):
        for x, across in enumerate(columns):
            yield (y, x), padded[:, down, across]
