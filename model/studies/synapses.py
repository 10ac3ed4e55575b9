"""Which neurons an address of a float layer's source reaches, and with what weight: the layer as lists of synapses.

The conversions that this project is measured against (`model.studies.rate_coded`, `model.studies.first_spike`) are event-driven
too: a spike costs an accumulation at each neuron that it reaches, so that a layer's fan-out is all they need of it. Windows are
clipped at the border, and neurons are in the canonical order, ascending ``(y, x, c)``. Memory grows with the number of
synapses, 12 bytes for each: 13 MB for the MNIST network.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from model.arrays import Floats, Ints
from model.importers.float_network import ConversionError, FloatLayer, FloatNetwork, refuse_branches
from model.network import Shape, taps

__all__ = ["NeuronStage", "PoolStage", "Synapses", "normalized", "pool_windows", "stages_of", "synapses_of"]


@dataclass(frozen=True, kw_only=True)
class Synapses:
    """The synapses of a layer, sorted by the address of its source.

    Parameters
    ----------
    starts : Ints
        Address ``i`` has the synapses ``starts[i]`` to ``starts[i + 1]``; ``(inputs + 1,)``.
    targets : npt.NDArray[np.int32]
        Neuron that each reaches, by address; ``int32``.
    weights : Floats
        Of each.
    neurons : int
        Number of neurons.
    """

    starts: Ints
    targets: npt.NDArray[np.int32]
    weights: Floats
    neurons: int

    @property
    def fan_out(self) -> Ints:
        """Accumulations that a spike of each address costs, ``(inputs,)``."""
        return np.diff(self.starts)

    def sums(self, values: npt.NDArray[np.number]) -> Floats:
        """``W x`` without biases: ``(frames, neurons)`` of values ``(frames, inputs)``."""
        sums = np.zeros((len(values), self.neurons))
        for frame, row in enumerate(values):
            each = np.repeat(row, self.fan_out) * self.weights
            sums[frame] = np.bincount(self.targets, each, minlength=self.neurons)
        return sums


def synapses_of(layer: FloatLayer, shape: Shape) -> Synapses:
    """The synapses of a convolution or linear layer whose source has ``shape``."""
    assert layer.weights is not None
    if layer.averaged != (1, 1):
        taken_shape = layer.taken(shape)
        return _of_windows(synapses_of(replace(layer, averaged=(1, 1)), taken_shape), layer.averaged, taken_shape, shape)
    output = layer.output_shape(shape)
    if layer.kind == "linear":
        neurons, inputs = layer.weights.shape
        return Synapses(
            starts=np.arange(inputs + 1, dtype=np.int64) * neurons,
            targets=np.tile(np.arange(neurons, dtype=np.int32), inputs),
            weights=np.ascontiguousarray(layer.weights.T, np.float64).reshape(-1),
            neurons=neurons,
        )
    taken, each = layer.weights.shape[1], output.channels // layer.groups
    rows_of, columns_of = (_axis(layer, shape, output, axis) for axis in (0, 1))
    targets, weights, counts = [], [], []
    for y in range(shape.height):
        for x in range(shape.width):
            rows, row_taps = rows_of[y]
            columns, column_taps = columns_of[x]
            positions = (rows[:, np.newaxis] * output.width + columns).reshape(-1, 1) * output.channels
            # (channel, input channel of a group, position)
            window = layer.weights[:, :, row_taps[:, np.newaxis], column_taps].reshape(output.channels, taken, -1)
            for c in range(shape.channels):
                group, inside = divmod(c, taken)
                channels = np.arange(group * each, (group + 1) * each)
                targets.append((positions + channels).reshape(-1))
                weights.append(window[channels, inside].T.reshape(-1))
                counts.append(len(targets[-1]))
    return Synapses(
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        targets=np.concatenate(targets).astype(np.int32),
        weights=np.concatenate(weights).astype(np.float64),
        neurons=output.size,
    )


def _of_windows(synapses: Synapses, window: tuple[int, int], taken: Shape, shape: Shape) -> Synapses:
    """Synapses of a source of shape ``taken`` as those of one of ``shape``, each window of which is one of its positions."""
    y, x, c = np.unravel_index(np.arange(shape.size), shape)
    y, x = y // window[0], x // window[1]
    inside = (y < taken.height) & (x < taken.width)
    addresses = np.where(inside, (y * taken.width + x) * taken.channels + c, 0)
    counts = np.where(inside, synapses.fan_out[addresses], 0)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    each = np.arange(starts[-1]) - np.repeat(starts[:-1] - synapses.starts[addresses], counts)
    return Synapses(
        starts=starts, targets=synapses.targets[each], weights=synapses.weights[each], neurons=synapses.neurons
    )


@dataclass(frozen=True, kw_only=True)
class NeuronStage:
    """A layer of neurons: its synapses, and the bias of each neuron, ``(neurons,)``."""

    name: str
    synapses: Synapses
    bias: Floats


@dataclass(frozen=True, kw_only=True)
class PoolStage:
    """A max-pool: output ``o`` pools ``addresses[starts[o] : starts[o + 1]]``, in raster order."""

    name: str
    starts: Ints
    addresses: Ints


def stages_of(layers: Sequence[FloatLayer], shape: Shape) -> tuple[NeuronStage | PoolStage, ...]:
    """The stages of a chain of layers after an input of ``shape``."""
    stages: list[NeuronStage | PoolStage] = []
    for layer in layers:
        output = layer.output_shape(shape)
        if layer.kind == "maxpool":
            starts, addresses = pool_windows(layer, shape)
            stages.append(PoolStage(name=layer.name, starts=starts, addresses=addresses))
        else:
            assert layer.bias is not None
            # Channel-minor: the biases of all channels, position after position.
            bias = np.broadcast_to(layer.bias, output).reshape(-1).astype(np.float64)
            stages.append(NeuronStage(name=layer.name, synapses=synapses_of(layer, shape), bias=bias))
        shape = output
    return tuple(stages)


def pool_windows(layer: FloatLayer, shape: Shape) -> tuple[Ints, Ints]:
    """The addresses in the window of each output of a max-pool, in raster order.

    Returns
    -------
    ``starts`` and ``addresses``: output ``o`` pools ``addresses[starts[o] : starts[o + 1]]``.
    """
    output = layer.output_shape(shape)
    inside = [
        [[i for i, (outputs, _) in enumerate(_axis(layer, shape, output, axis)) if o in outputs] for o in range(output[axis])]
        for axis in (0, 1)
    ]
    addresses = [
        [shape.address(y, x, c) for y in rows for x in columns]
        for rows in inside[0]
        for columns in inside[1]
        for c in range(output.channels)
    ]
    starts = np.concatenate([[0], np.cumsum([len(found) for found in addresses])])
    return starts.astype(np.int64), np.concatenate(addresses).astype(np.int64)


def normalized(
    network: FloatNetwork, frames: npt.NDArray[np.floating], *, percentile: float = 99.9
) -> tuple[tuple[FloatLayer, ...], tuple[float, ...]]:
    """Scale every layer so that a large activation of it is 1: data-based weight normalization.

    With ``s_l`` the percentile of layer ``l``'s positive activations, ``W_l * s_(l-1) / s_l`` and ``b_l / s_l`` (Rueckauer et
    al. 2017, "Parameter Normalization"; a percentile of 100 is the maximum, as Diehl et al. 2015 have it). What the network
    computes stays the same but for these factors. Inputs are at most 1 already.

    Parameters
    ----------
    network : FloatNetwork
        Float network.
    frames : npt.NDArray[np.floating]
        Calibration frames ``(frames, height, width, channels)``, full scale 1.0, as the network is to be shown them.
    percentile : float
        More than 0, at most 100.

    Returns
    -------
    The layers; and ``s_l`` of each layer that is no pool.

    Raises
    ------
    ConversionError : a layer of the network has no counterpart in spikes that are all positive
    """
    if not 0 < percentile <= 100:
        raise ValueError(f"percentile must be more than 0 and at most 100, not {percentile!r}")
    if len(frames) == 0:
        raise ValueError("frames must be at least one frame, not 0")
    _check(network)
    neurons = [layer for layer in network.layers if layer.kind != "maxpool"]
    layers: list[FloatLayer] = []
    scales: list[float] = []
    before = 1.0
    found = _large(network, frames, [layer.tensor for layer in neurons], percentile)
    for layer in network.layers:
        if layer.kind != "maxpool":
            assert layer.weights is not None and layer.bias is not None
            scale = found[len(scales)]
            layer = replace(layer, weights=layer.weights * (before / scale), bias=layer.bias / scale)
            scales.append(scale)
            before = scale
        layers.append(layer)
    return tuple(layers), tuple(scales)


def _large(
    network: FloatNetwork, frames: npt.NDArray[np.floating], tensors: Sequence[str], percentile: float
) -> list[float]:
    found = []
    for tensor in tensors:
        values = network.run(frames, [tensor])[0]
        positive = values[values > 0]
        found.append(float(np.percentile(positive, percentile)) if len(positive) else 1.0)
    return found


def _check(network: FloatNetwork) -> None:
    refuse_branches(network, "studied in other codes")
    *hidden, last = network.layers
    for layer in (network.layers[0], last):
        if layer.kind == "maxpool":
            raise ConversionError(f"{network.path}: layer {layer.name!r}: first and last layer must have neurons, not pool")
    for layer in network.layers:
        if layer.end is not None:
            raise ConversionError(
                f"{network.path}: layer {layer.name!r}: activation must have no end, not one at {layer.end:g}, as a rate has none"
            )
    for layer in hidden:
        if layer.kind != "maxpool" and not layer.relu:
            raise ConversionError(
                f"{network.path}: layer {layer.name!r}: must have a ReLU after it, as spikes that are all positive stand for "
                "no negative activation"
            )


def _axis(layer: FloatLayer, shape: Shape, output: Shape, axis: int) -> list[tuple[Ints, Ints]]:
    """Of each input coordinate the output coordinates that it reaches, and through which taps."""
    kernel = layer.window if layer.weights is None else layer.weights.shape[2:]
    reached = taps(
        size=shape[axis],
        outputs=output[axis],
        kernel=kernel[axis],
        stride=layer.stride[axis],
        padding=layer.padding[axis],
    )
    return [
        (np.array([o for o, _ in pairs], np.int64), np.array([k for _, k in pairs], np.int64)) for pairs in reached
    ]
