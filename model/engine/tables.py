"""What the kernels read of a layer: which neurons an event reaches, and with which weights, as flat arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.arrays import Ints
from model.engine.vectors import LANES
from model.network import Layer, MaxPool, Network, Neurons, Shape
from model.projection import ConvolutionProjection, LinearProjection, Projection
from model.rest import first_states

__all__ = ["Start", "Tables", "starts_of", "tables_of"]


@dataclass(frozen=True)
class Tables:
    """What the kernels need of a layer after sources of some shapes.

    Parameters
    ----------
    shapes : tuple[Shape, ...]
        Of the sources.
    output : tuple[int, int, int]
        The shape as the kernel sees it.
    axes : tuple[npt.NDArray[np.int32], ...]
        Of neurons: of each address the first neuron of the first row that it reaches and the first weight of its input, row and
        column, rows reached, and neurons reached; of each row, where the weights of those rows begin; of each column its runs, as
        first neuron, neurons, and where their weights begin. First neurons are to be added, and so are beginnings of weights.
        Of a pool the ranges of outputs and those of inputs, and the coordinates of each address.
    weights : npt.NDArray[np.signedinteger] | None
        ``(run, tap y, input, neuron of the run)``, filled with zeros to whole blocks of `LANES`.
    """

    shapes: tuple[Shape, ...]
    output: tuple[int, int, int]
    axes: tuple[npt.NDArray[np.int32], ...]
    weights: npt.NDArray[np.signedinteger] | None = None


@dataclass(frozen=True)
class Start:
    """What a layer starts a frame with.

    Parameters
    ----------
    residual : npt.NDArray[np.signedinteger]
        Of each neuron, and a block of zeros; of a pool the counts of its source.
    count : npt.NDArray[np.signedinteger]
        Of each neuron, and a block of zeros; or of each maximum of a pool.
    below : npt.NDArray[np.signedinteger]
        Of each neuron the residual below which it fires or saturates, and a block of zeros; empty for a pool.
    extremes : tuple[int, int, int]
        The greatest magnitude of a count, the least and the greatest residual.
    """

    residual: npt.NDArray[np.signedinteger]
    count: npt.NDArray[np.signedinteger]
    below: npt.NDArray[np.signedinteger]
    extremes: tuple[int, int, int]


def starts_of(network: Network) -> dict[str, Start]:
    """What each layer of the network starts a frame with, by name, made once and kept with it."""
    kept = network.__dict__.get("_engine_starts")
    if isinstance(kept, dict):
        return kept
    starts = {}
    for layer in network.layers:
        state = first_states(network)[layer.name]
        most = int(np.abs(state.count).max())
        if isinstance(layer, Neurons):
            dtype = tables_of(layer, *map(network.shape_of, layer.sources)).weights.dtype  # type: ignore[union-attr]
            residual, counts, below = np.zeros((3, state.count.size + LANES), dtype)
            counts[:-LANES] = count = state.count.reshape(-1)
            residual[:-LANES] = state.potential.reshape(-1) - state.count.reshape(-1) * layer.theta
            # A neuron fires -1 only where that lowers its count; others are below their limit where they saturate.
            lowers = count > 0 if layer.relu else count > layer.count_limits[0] - 1
            negative = int(layer.halves_to_even) if network.deferred else 1 - layer.theta
            below[:-LANES] = np.where(lowers, negative, layer.residual_limits[0])
            starts[layer.name] = Start(residual, counts, below, (most, int(residual.min()), int(residual.max())))
        else:
            of_source = state.potential.astype(np.int32)
            starts[layer.name] = Start(of_source, state.count.astype(np.int32), np.zeros(0, np.int32), (most, 0, 0))
    network.__dict__["_engine_starts"] = starts
    return starts


def tables_of(layer: Layer, *shapes: Shape) -> Tables:
    """The layer's tables for sources of these shapes, made once and kept with it: they cost more than a frame does."""
    kept = layer.__dict__.get("_engine_tables")
    if isinstance(kept, Tables) and kept.shapes == shapes:
        return kept
    height, width, channels = layer.output_shape(shapes[0])
    output = (height, width, channels)
    if isinstance(layer, MaxPool):
        (shape,) = shapes
        rows, columns = (_axis_table(layer, shape, axis)[0] for axis in (0, 1))
        inside = (_window_ranges(rows, output[0]), _window_ranges(columns, output[1]))
        tables = Tables(shapes, output, (rows, columns, *inside, _coordinates(shape).astype(np.int32)))
    elif isinstance(layer, Neurons):
        # The sum of two such numbers has to fit, and deferred one of a bit more; and a count that is held.
        narrow = max(layer.potential_bits, layer.weight_bits) <= 15 and layer.count_limits[1] < np.iinfo(np.int16).max
        dtype: type[np.signedinteger] = np.int16 if narrow else np.int32
        each = [_projected(projection, shape, output) for projection, shape in zip(layer.inputs, shapes, strict=True)]
        axes, weights = each[0] if len(each) == 1 else _together(each)
        filled = np.zeros((*weights.shape[:3], -(-weights.shape[3] // LANES) * LANES), dtype)
        filled[..., : weights.shape[3]] = weights
        tables = Tables(shapes, output, _walk(axes, filled.shape, output[1] * output[2]), filled)
    else:
        raise TypeError(f"layer must be a Convolution, Linear or MaxPool, not {type(layer).__name__}")
    layer.__dict__["_engine_tables"] = tables
    return tables


def _coordinates(shape: Shape) -> Ints:
    """Row, column and channel of each address."""
    found: Ints = np.stack(np.unravel_index(np.arange(shape.size), shape), axis=1)
    return found


def _walk(
    axes: tuple[npt.NDArray[np.int32], ...], weights: tuple[int, ...], row_size: int
) -> tuple[npt.NDArray[np.int32], ...]:
    """The axes of neurons (`Tables`), from those of their projections (`_Projected`)."""
    places, row_ranges, row_taps, runs = axes
    y, x, c, reached = places.T
    first, rows = row_ranges[y, 0], row_ranges[y, 1] - row_ranges[y, 0]
    _, taps, inputs, longest = weights
    visited = rows * runs[x, :, 1].sum(axis=1)
    reaches = np.stack([first * row_size + reached, c * longest, y, x, rows, visited], axis=1)
    steps = np.array([1, 1, taps * inputs * longest], np.int32)
    return np.ascontiguousarray(reaches, np.int32), (row_taps * (inputs * longest)).astype(np.int32), runs * steps


_Projected = tuple[tuple[npt.NDArray[np.int32], ...], npt.NDArray[np.signedinteger]]
"""Of a projection: row, column, input and first channel reached of each address; of each row the range of outputs, and their
taps; of each column its runs, as first neuron, neurons and where in the weights; and the weights."""


def _projected(layer: Projection, shape: Shape, output: tuple[int, int, int]) -> _Projected:
    y, x, c = _coordinates(shape).T
    channels = output[2]
    if isinstance(layer, LinearProjection):
        # One position whose channels are the inputs: a run of all neurons, of one tap. The second row reaches none.
        taken = layer.taken(shape)
        y, x = y // layer.averaged[0], x // layer.averaged[1]
        beyond = (y >= taken.height) | (x >= taken.width)
        c = np.where(beyond, 0, (y * taken.width + x) * taken.channels + c)
        y, x = beyond.astype(np.int64), np.zeros_like(c)
        rows, row_taps = np.array([[0, 1], [0, 0]], np.int32), np.zeros((2, 1), np.int32)
        weights: npt.NDArray[np.signedinteger] = layer.weights.T.reshape(1, 1, taken.size, channels)
        runs, reached = np.array([[[0, channels, 0]]]), np.zeros_like(c)
    elif isinstance(layer, ConvolutionProjection):
        rows, row_taps = _axis_table(layer, shape, 0)
        weights, runs = _runs(layer, *_axis_table(layer, shape, 1))
        reached = c // (shape.channels // layer.groups) * (channels // layer.groups)
    else:
        raise TypeError(f"layer must be a Convolution, Linear or MaxPool, not {type(layer).__name__}")
    return (np.stack([y, x, c, reached], axis=1).astype(np.int32), rows, row_taps, runs.astype(np.int32)), weights


def _together(each: Sequence[_Projected]) -> _Projected:
    """Several projections as one, whose rows, columns and runs are those of all, one after the other."""
    places, rows, row_taps, runs = [], [], [], []
    largest = np.max([found.shape for _, found in each], axis=0)
    weights = np.zeros((sum(len(found) for _, found in each), *largest[1:]), np.int64)
    row = column = run = 0
    for axes, found in each:
        places.append(axes[0] + np.array([row, column, 0, 0], np.int32))
        rows.append(axes[1])
        row_taps.append(axes[2])
        runs.append(axes[3] + np.array([0, 0, run], np.int32))
        weights[run : run + len(found), : found.shape[1], : found.shape[2], : found.shape[3]] = found
        row, column, run = row + len(axes[1]), column + len(axes[3]), run + len(found)
    return (np.concatenate(places), np.concatenate(rows), _filled(row_taps), _filled(runs)), weights


def _filled(parts: Sequence[npt.NDArray[np.int32]]) -> npt.NDArray[np.int32]:
    """The parts one after the other, with zeros where the second axis of one is shorter."""
    longest = max(part.shape[1] for part in parts)
    return np.concatenate(
        [np.pad(part, [(0, 0), (0, longest - part.shape[1]), *[(0, 0)] * (part.ndim - 2)]) for part in parts]
    )


def _runs(
    layer: ConvolutionProjection, columns: npt.NDArray[np.int32], column_taps: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.signedinteger], Ints]:
    """Runs of consecutive neurons that an event in each column reaches in a row.

    Returns
    -------
    Weights ``(run, tap y, input channel, neuron of the run)``; of each column its runs, ``(column, runs, 3)``: first neuron
    within the row, neurons (0 after the last), which run of weights.
    """
    channels, groups = layer.channels, layer.groups
    inputs = layer.weights.shape[1] * groups
    # Of each input channel the weights (tap y, tap x, channel of its group).
    by_input = layer.weights.reshape(groups, channels // groups, inputs // groups, *layer.kernel)
    by_tap = by_input.transpose(3, 4, 0, 2, 1).reshape(*layer.kernel, inputs, channels // groups)
    taps_of = [tuple(found[: end - first]) for found, (first, end) in zip(column_taps.tolist(), columns.tolist(), strict=True)]
    if groups > 1:
        # Neighbours in a group are apart in the next position: a run is one position.
        runs = np.zeros((len(columns), max(1, *map(len, taps_of)), 3), np.int64)
        for column, (found, (first, _)) in enumerate(zip(taps_of, columns.tolist(), strict=True)):
            for n, tap in enumerate(found):
                runs[column, n] = (first + n) * channels, channels // groups, tap
        return by_tap.transpose(1, 0, 2, 3), runs
    distinct = sorted({found for found in taps_of if found}) or [(0,)]
    weights = np.zeros((len(distinct), layer.kernel[0], inputs, max(map(len, distinct)) * channels), np.int64)
    for run, found in enumerate(distinct):
        weights[run, :, :, : len(found) * channels] = by_tap[:, list(found)].transpose(0, 2, 1, 3).reshape(
            layer.kernel[0], inputs, -1
        )
    runs = np.zeros((len(columns), 1, 3), np.int64)
    for column, (found, (first, _)) in enumerate(zip(taps_of, columns.tolist(), strict=True)):
        runs[column, 0] = first * channels, len(found) * channels, distinct.index(found) if found else 0
    return weights, runs


def _axis_table(
    layer: ConvolutionProjection | MaxPool, shape: Shape, axis: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Of each input coordinate the range of outputs, and the tap of each output of that range."""
    reached = layer.taps(shape, axis)
    ranges = np.array([(pairs[0][0], pairs[-1][0] + 1) if pairs else (0, 0) for pairs in reached], dtype=np.int32)
    table = np.zeros((len(reached), max(1, *map(len, reached))), dtype=np.int32)
    for row, pairs in zip(table, reached, strict=True):
        row[: len(pairs)] = [k for _, k in pairs]
    return ranges, table


def _window_ranges(reached: npt.NDArray[np.int32], outputs: int) -> npt.NDArray[np.int32]:
    """Of each output coordinate the range of inputs in its window."""
    inside = [[i for i, (first, end) in enumerate(reached) if first <= o < end] for o in range(outputs)]
    return np.array([(found[0], found[-1] + 1) for found in inside], dtype=np.int32)
