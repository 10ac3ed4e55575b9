"""What the kernels read of a layer: which neurons an event reaches, and with which weights, as flat arrays."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.arrays import Ints
from model.network import Convolution, Layer, Linear, MaxPool, Network, Neurons, Shape
from model.rest import first_states

__all__ = ["LANES", "Start", "Tables", "starts_of", "tables_of"]

LANES = 16
"""Neurons are added in whole blocks of this many, those after a run's end with weights of 0."""


@dataclass(frozen=True)
class Tables:
    """What the kernels need of a layer after a source of some shape.

    Parameters
    ----------
    shape : Shape
        Of the source.
    source, output : tuple[int, int, int]
        The shapes as the kernel sees them.
    axes : tuple[npt.NDArray[np.int32], ...]
        Of neurons: of each address row, column and first channel reached; of each row the outputs, and their taps; of each column
        its runs, as first neuron, neurons and where in ``weights``; of a pool the ranges of outputs and those of inputs, and the
        coordinates of each address.
    weights : npt.NDArray[np.signedinteger] | None
        ``(run, tap y, input, neuron of the run)``, filled with zeros to whole blocks of `LANES`.
    """

    shape: Shape
    source: tuple[int, int, int]
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
    count : npt.NDArray[np.int32]
        Of each neuron, or of each maximum of a pool.
    below : npt.NDArray[np.signedinteger]
        Of each neuron the residual below which it fires or saturates, and a block of zeros; empty for a pool.
    extremes : tuple[int, int, int]
        The greatest magnitude of a count, the least and the greatest residual.
    """

    residual: npt.NDArray[np.signedinteger]
    count: npt.NDArray[np.int32]
    below: npt.NDArray[np.signedinteger]
    extremes: tuple[int, int, int]


def starts_of(network: Network) -> dict[str, Start]:
    """What each layer of the network starts a frame with, by name, made once and kept with it."""
    kept = network.__dict__.get("_engine_starts")
    if isinstance(kept, dict):
        return kept
    starts = {}
    for layer, shape, _ in network.walk():
        state = first_states(network)[layer.name]
        most = int(np.abs(state.count).max())
        if isinstance(layer, Neurons):
            dtype = tables_of(layer, shape).weights.dtype  # type: ignore[union-attr]
            count = state.count.reshape(-1).astype(np.int32)
            residual, below = np.zeros((2, count.size + LANES), dtype)
            residual[:-LANES] = state.potential.reshape(-1) - state.count.reshape(-1) * layer.theta
            # A neuron fires -1 only where that lowers its count; others are below their limit where they saturate.
            lowers = count > 0 if layer.relu else np.True_
            below[:-LANES] = np.where(lowers, 1 - layer.theta, layer.residual_limits[0])
            starts[layer.name] = Start(residual, count, below, (most, int(residual.min()), int(residual.max())))
        else:
            counts = state.potential.astype(np.int32)
            starts[layer.name] = Start(counts, state.count.astype(np.int32), np.zeros(0, np.int32), (most, 0, 0))
    network.__dict__["_engine_starts"] = starts
    return starts


def tables_of(layer: Layer, shape: Shape) -> Tables:
    """The layer's tables, made once and kept with it: they cost more than a frame does."""
    kept = layer.__dict__.get("_engine_tables")
    if isinstance(kept, Tables) and kept.shape == shape:
        return kept
    height, width, channels = layer.output_shape(shape)
    output = (height, width, channels)
    source = (shape.height, shape.width, shape.channels)
    y, x, c = np.unravel_index(np.arange(shape.size), source)
    if isinstance(layer, MaxPool):
        rows, columns = (_axis_table(layer, shape, axis)[0] for axis in (0, 1))
        inside = (_window_ranges(rows, output[0]), _window_ranges(columns, output[1]))
        tables = Tables(shape, source, output, (rows, columns, *inside, np.stack([y, x, c], axis=1).astype(np.int32)))
    elif isinstance(layer, Neurons):
        bits = max(layer.potential_bits, layer.weight_bits)
        # Sums of three such numbers have to fit.
        dtype: type[np.signedinteger] = np.int16 if bits <= 14 else np.int32
        if isinstance(layer, Linear):
            # One position whose channels are the inputs: a run of all neurons, of one tap. The second row reaches none.
            taken = layer.taken(shape)
            y, x = y // layer.averaged[0], x // layer.averaged[1]
            beyond = (y >= taken.height) | (x >= taken.width)
            c = np.where(beyond, 0, (y * taken.width + x) * taken.channels + c)
            y, x = beyond.astype(np.int64), np.zeros_like(c)
            rows, row_taps = np.array([[0, 1], [0, 0]], np.int32), np.zeros((2, 1), np.int32)
            by_run: npt.NDArray[np.signedinteger] = layer.weights.T.reshape(1, 1, taken.size, channels)
            runs, reached = np.array([[[0, channels, 0]]]), np.zeros_like(c)
        elif isinstance(layer, Convolution):
            rows, row_taps = _axis_table(layer, shape, 0)
            by_run, runs = _runs(layer, *_axis_table(layer, shape, 1))
            reached = c // (shape.channels // layer.groups) * (channels // layer.groups)
        else:
            raise TypeError(f"layer must be a Convolution or Linear, not {type(layer).__name__}")
        weights = np.zeros((*by_run.shape[:3], -(-by_run.shape[3] // LANES) * LANES), dtype)
        weights[..., : by_run.shape[3]] = by_run
        axes = (np.stack([y, x, c, reached], axis=1).astype(np.int32), rows, row_taps, runs.astype(np.int32))
        tables = Tables(shape, source, output, axes, weights)
    else:
        raise TypeError(f"layer must be a Convolution, Linear or MaxPool, not {type(layer).__name__}")
    layer.__dict__["_engine_tables"] = tables
    return tables


def _runs(
    layer: Convolution, columns: npt.NDArray[np.int32], column_taps: npt.NDArray[np.int32]
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
    layer: Convolution | MaxPool, shape: Shape, axis: int
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
