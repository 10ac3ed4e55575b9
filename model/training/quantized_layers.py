"""The quantized network that any float network becomes, as PyTorch computes it, with gradients past the rounding.

Its forward pass is that of the integer network: weights rounded as `model.conversion.quantize` rounds them, counts of whole
thresholds. All is in units of thresholds: of each output channel of a hidden layer, whose logarithm is learned beside the weights
and folded into them (as `model.conversion.channels` does), and of the output layer as a whole, so that its counts compare.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from model.conversion.coding import InputCoding
from model.conversion.projections import integer_projection
from model.conversion.quantize import count_at_end
from model.importers.float_network import FloatLayer, FloatNetwork, FloatProjection
from model.network import INPUT, MOST_POTENTIAL_BITS, Shape
from model.training.firing import Firing, Limits, max_pool

__all__ = ["Folded", "Outcome", "QuantizedLayers", "float_scores", "shifted", "weighted"]

_MOST_FRACTION = MOST_POTENTIAL_BITS - 4
_CLIPPED_BITS = 2
"""How many bits the largest weights of a layer may lose at the top, so that the others keep more at the bottom."""

_SHRINK, _SHRINKS = 0.98, 600
"""By what weights are made smaller at a time where a sum would be too wide, and how often: then one of 16 bits rounds to 0."""

_MOST_BIAS = (1 << MOST_POTENTIAL_BITS - 2) - 1


@dataclass(frozen=True)
class Outcome:
    """What some frames come to.

    Parameters
    ----------
    counts : torch.Tensor
        Of the outputs, ``(frames, outputs)``.
    scores : torch.Tensor
        The same in the float network's units.
    spikes, accumulations : torch.Tensor
        Means per frame.
    """

    counts: Tensor
    scores: Tensor
    spikes: Tensor
    accumulations: Tensor


@dataclass(frozen=True)
class Folded:
    """A layer of neurons for the threshold 1.

    Parameters
    ----------
    layer : FloatLayer
        Gives the geometry.
    weights : tuple of torch.Tensor
        Of each input, as a file has them: for sums of pixels of full scale 1.0 or of counts; of windows that are averaged, for
        the averages.
    bias : torch.Tensor
        Likewise.
    limits : Limits
        Of the counts.
    """

    layer: FloatLayer
    weights: tuple[Tensor, ...]
    bias: Tensor
    limits: Limits


def shifted(layers: Sequence[Folded], counts: int) -> list[Folded]:
    """The layers, but that in deferred firing each output counts so many more: no answer of classes changes.

    A count is the floor of a potential in thresholds. Around 0 it needs the fewest bits.
    """
    *others, output = layers
    return [*others, replace(output, bias=output.bias + counts)]


class _Taken:
    """An input of a layer of neurons: what a count of its source is worth at the start, and how far one reaches.

    ``unit`` is what a count stands for in a file: the value of a pixel's spike, else 1.
    """

    def __init__(self, taken: FloatProjection, shape: Shape, *, before: float, theta: float, unit: float) -> None:
        assert taken.weights is not None
        self.taken, self.unit = taken, unit
        self.area = taken.averaged[0] * taken.averaged[1]
        self.weights = torch.tensor(taken.weights * (before / theta), dtype=torch.float32).requires_grad_()
        self.reach = torch.from_numpy(_reach(taken, shape))

    def exact(self, weights: Tensor) -> Tensor:
        """Weights for counts in float64: the importer divides a file's by the windows' size, and then conversion multiplies."""
        return weights.detach().double() / self.area * self.unit


class _Neurons:
    """A layer of neurons in units of its thresholds, and what has been learned about these."""

    def __init__(
        self, layer: FloatLayer, inputs: Sequence[_Taken], *, theta: float, bits: int, fraction: int | None, is_last: bool
    ) -> None:
        assert layer.weights is not None and layer.bias is not None
        self.layer, self.inputs, self.first_theta = layer, inputs, theta
        self.most, self.fraction = (1 << bits - 1) - 1, fraction
        self.bias = torch.tensor(layer.bias / theta, dtype=torch.float32).requires_grad_()
        self.log_scale = torch.zeros(1 if is_last else len(layer.weights)).requires_grad_()
        end = math.inf if layer.end is None else float(count_at_end(layer.end, theta))
        self.limits = Limits(0.0, end) if layer.relu else Limits()


class QuantizedLayers:
    """The network with counts.

    Parameters
    ----------
    floats : FloatNetwork
        The start.
    thresholds : sequence of float
        Of each layer of neurons, in its units.
    coding : InputCoding
        Of the input.
    bits_of : callable
        Width of the weights of a layer of that name.
    fraction_of : callable
        Bits of them behind the point; None: as many as change the weights least.
    input_bits : int or None
        Width of the potentials of layers that take the input alone, and of which ``fraction_of`` is known: where a frame could
        make a sum that is wider, the weights of its sign are made smaller.
    firing : Firing
        How counts come from potentials.
    """

    def __init__(
        self,
        floats: FloatNetwork,
        thresholds: Sequence[float],
        coding: InputCoding,
        *,
        bits_of: Callable[[str], int],
        fraction_of: Callable[[str], int | None] = lambda _: None,
        input_bits: int | None = None,
        firing: Firing,
    ) -> None:
        self.coding, self.firing, self._input_bits = coding, firing, input_bits
        self._layers: list[_Neurons | FloatLayer] = []
        left = list(thresholds)
        # Of each source what a count is worth, and what it stands for in a file.
        worth = {INPUT: (1.0, coding.value)}
        for layer in floats.layers:
            if layer.kind == "maxpool":
                self._layers.append(layer)
                worth[layer.name] = worth[layer.source]
                continue
            theta = left.pop(0)
            inputs = [
                _Taken(taken, floats.shape_of(taken.source), before=before, theta=theta, unit=unit)
                for taken in layer.inputs
                for before, unit in [worth[taken.source]]
            ]
            bits, fraction = bits_of(layer.name), fraction_of(layer.name)
            self._layers.append(_Neurons(layer, inputs, theta=theta, bits=bits, fraction=fraction, is_last=not left))
            worth[layer.name] = (theta, 1.0)
        self._neurons = [layer for layer in self._layers if isinstance(layer, _Neurons)]

    def parameters(self) -> list[Tensor]:
        """All that is learned."""
        return [
            tensor
            for layer in self._neurons
            for tensor in (*(each.weights for each in layer.inputs), layer.bias, layer.log_scale)
        ]

    def groups(self, rate: float, scale_rate: float) -> list[dict[str, Any]]:
        """Of an optimizer: a step is a part of the size of a layer's weights; ``scale_rate`` is that of thresholds."""
        found: list[dict[str, Any]] = []
        for layer in self._neurons:
            sizes = [float(each.weights.detach().square().mean().sqrt()) or 1.0 for each in layer.inputs]
            found += [
                *({"params": [each.weights], "lr": rate * size} for each, size in zip(layer.inputs, sizes, strict=True)),
                {"params": [layer.bias], "lr": rate * sizes[0] * layer.inputs[0].unit},
                {"params": [layer.log_scale], "lr": scale_rate},
            ]
        return found

    @property
    def unit(self) -> Tensor:
        """What a count of the output stands for in the float network."""
        output = self._neurons[-1]
        return torch.exp(output.log_scale) * output.first_theta

    def folded(self) -> Iterator[Folded]:
        """Each layer of neurons for the threshold 1, in the precision of a file."""
        scales: dict[str, Tensor] = {}
        for layer in self._layers:
            if isinstance(layer, FloatLayer):
                if layer.source in scales:
                    scales[layer.name] = scales[layer.source]
                continue
            scale = torch.exp(layer.log_scale)
            found = []
            for each in layer.inputs:
                weights = each.weights / scale.reshape(-1, *[1] * (each.weights.ndim - 1))
                if each.taken.source in scales:
                    weights = weights * _of_inputs(each.taken, scales[each.taken.source])
                found.append(weights * each.area)
            exact = [each.exact(weights) for each, weights in zip(layer.inputs, found, strict=True)]
            fraction = _clipping_fraction(exact, layer.most) if layer.fraction is None else layer.fraction
            # Rounded it is the most, and conversion leaves it the same fraction.
            most = (layer.most - 0.25) * 2.0**-fraction
            clipped = [
                weights.clamp(-most * each.area / each.unit, most * each.area / each.unit)
                for each, weights in zip(layer.inputs, found, strict=True)
            ]
            limit = _MOST_BIAS * 2.0**-fraction - 1
            bias = (layer.bias / scale).clamp(-limit, limit)
            if self._input_bits and all(each.taken.source == INPUT for each in layer.inputs):
                clipped, bias = self._bounded(layer, clipped, bias, 2.0**-fraction, self._input_bits)
            yield Folded(layer.layer, tuple(clipped), bias, layer.limits)
            scales[layer.layer.name] = scale

    def _bounded(
        self, layer: _Neurons, inputs: Sequence[Tensor], bias: Tensor, step: float, bits: int
    ) -> tuple[list[Tensor], Tensor]:
        """Weights and biases of a layer that takes the input, with which no frame makes a sum wider than ``bits`` of ``step``."""
        # A step less than there is room for: biases that are halves may round another way from a file.
        most, half = (1 << bits - 1) - 2, 0.5 if self.firing.rounds else 0.0
        found, bias = list(inputs), bias.clamp(-most * step - half, most * step - half)
        start = torch.round((bias.detach().double() + half) / step)
        start = start.reshape(-1, bias.shape[-1])
        for sign, first in ((-1, start.amin(0)), (1, start.amax(0))):
            part = torch.ones(len(first), dtype=torch.float64)
            for _ in range(_SHRINKS):
                tried = [_shrunk(weights, part, sign) for weights in found]
                whole = [
                    torch.round(each.exact(weights) / step).flatten(1) * each.area
                    for each, weights in zip(layer.inputs, tried, strict=True)
                ]
                reached = sign * first + self.coding.levels * sum((sign * weights).clamp(min=0).sum(1) for weights in whole)
                if not (reached > most).any():
                    break
                part = torch.where(reached > most, part * _SHRINK, part)
            found = tried
        return found, bias

    def _rounded(self) -> Iterator[tuple[list[Tensor], Tensor]]:
        """Each layer's weights for counts, input by input, and its biases, rounded as `model.conversion.quantize` rounds.

        What rounding of counts adds to a bias is included.
        """
        half = 0.5 if self.firing.rounds else 0.0
        for layer, folded in zip(self._neurons, self.folded(), strict=True):
            exact = [each.exact(weights) for each, weights in zip(layer.inputs, folded.weights, strict=True)]
            step = 2.0 ** -(_fraction(exact, layer.most) if layer.fraction is None else layer.fraction)
            biases = folded.bias.detach().double() + half
            weights = [
                _Passing.apply(own * (each.unit / each.area), torch.round(wanted / step) * step)
                for each, own, wanted in zip(layer.inputs, folded.weights, exact, strict=True)
            ]
            yield weights, _Passing.apply(folded.bias, torch.round(biases / step) * step)

    def __call__(self, pixels: Tensor, *, kept: dict[str, Tensor] | None = None, exact: bool = False) -> Outcome:
        """Run frames.

        Parameters
        ----------
        pixels : torch.Tensor
            Whole, of full scale 255, ``(frames, channels, height, width)``.
        kept : dict, optional
            Is filled with the counts of each layer.
        exact : bool
            Whether to add in float64, which is exact for layers of any size.
        """
        kind = torch.float64 if exact else torch.float32
        firing, rounded = self.firing, self._rounded()
        fired = {INPUT: firing.shown(pixels.to(kind), self.coding)}
        sent = {INPUT: firing.sent(fired[INPUT])}
        spikes = accumulations = torch.zeros((), dtype=torch.float64)
        for layer in self._layers:
            if isinstance(layer, FloatLayer):
                name = layer.name
                fired[name] = firing.pool(fired[layer.source], layer.window, layer.stride, layer.padding)
            else:
                name = layer.layer.name
                weights, bias = next(rounded)
                potential: Tensor | None = None
                for each, own in zip(layer.inputs, weights, strict=True):
                    source = each.taken.source
                    accumulations = accumulations + (sent[source].double() * each.reach).sum()
                    sums = weighted(each.taken, fired[source].counts, own.to(kind), bias.to(kind) if potential is None else None)
                    potential = sums if potential is None else potential + sums
                assert potential is not None
                fired[name] = firing.fire(potential, layer.limits)
            sent[name] = firing.sent(fired[name])
            if isinstance(layer, _Neurons):
                spikes = spikes + sent[name].double().sum()
            if kept is not None:
                kept[name] = firing.final(fired[name]).detach()
        counts = firing.final(fired[name]).permute(0, 2, 3, 1).flatten(1)
        return Outcome(counts, counts * self.unit, spikes / len(pixels), accumulations / len(pixels))


def _shrunk(weights: Tensor, part: Tensor, sign: int) -> Tensor:
    """Weights of which those of one sign are only a part of what they were, by channel."""
    by_channel = part.to(weights.dtype).reshape(-1, *[1] * (weights.ndim - 1))
    return torch.where(sign * weights > 0, weights * by_channel, weights)


def _fraction(inputs: Sequence[Tensor], most: int) -> int:
    """Fractional bits that the largest weight of all inputs leaves, where one is at most ``most``."""
    greatest = max(float(weights.abs().max()) for weights in inputs)
    # Of what is not a number the loss is none either, and says so.
    left = np.log2(most / greatest) if greatest > 0 else np.inf
    return int(np.clip(np.floor(left), 0, _MOST_FRACTION))


def _clipping_fraction(inputs: Sequence[Tensor], most: int) -> int:
    """Fractional bits with which rounding and clipping together change the weights of all inputs least."""
    usual = _fraction(inputs, most)

    def error(fraction: int) -> float:
        step = 2.0**-fraction
        changed = ((weights / step).round().clamp(-most, most) * step - weights for weights in inputs)
        return sum(float(each.square().sum()) for each in changed)

    return min((min(usual + more, _MOST_FRACTION) for more in range(_CLIPPED_BITS + 1)), key=error)


def weighted(layer: FloatProjection, values: Tensor, weights: Tensor, bias: Tensor | None) -> Tensor:
    """Sums of an input of a layer, ``(frames, channels, height, width)``; windows that it averages are added up."""
    if layer.averaged != (1, 1):
        values = functional.avg_pool2d(values, layer.averaged, divisor_override=1)
    if layer.kind == "linear":
        found: Tensor = functional.linear(values.permute(0, 2, 3, 1).flatten(1), weights, bias)
        return found[:, :, None, None]
    by_position = bias if bias is not None and bias.ndim == 3 else None
    by_channel = None if by_position is not None else bias
    if layer.kind == "transposed":
        found = _transposed(layer, values, weights)
        return found if bias is None else found + (bias[:, None, None] if bias.ndim == 1 else bias.permute(2, 0, 1))
    top, left, bottom, right = layer.padding
    sides: tuple[int, int] = (0, 0)
    if (top, left) == (bottom, right):
        sides = (top, left)
    else:
        values = functional.pad(values, (left, right, top, bottom))
    found = functional.conv2d(values, weights, by_channel, stride=layer.stride, padding=sides, groups=layer.groups)
    return found if by_position is None else found + by_position.permute(2, 0, 1)


def _transposed(layer: FloatProjection, values: Tensor, weights: Tensor) -> Tensor:
    """Sums of a transposed convolution: PyTorch has inputs first, and cuts off the same on both sides."""
    outputs, inputs = weights.shape[:2]
    turned = weights.reshape(layer.groups, outputs // layer.groups, inputs, *layer.window).transpose(1, 2)
    turned = turned.reshape(layer.groups * inputs, outputs // layer.groups, *layer.window)
    whole = functional.conv_transpose2d(values, turned, stride=layer.stride, groups=layer.groups)
    whole = functional.pad(whole, (0, layer.more[1], 0, layer.more[0]))
    top, left, bottom, right = layer.padding
    return whole[:, :, top : whole.shape[2] - bottom, left : whole.shape[3] - right]


def float_scores(floats: FloatNetwork, pixels: Tensor) -> Tensor:
    """What the layers of a float network give, ``(frames, outputs)``, for pixels as `QuantizedLayers` takes them."""
    values = {INPUT: pixels / 255}
    for layer in floats.layers:
        if layer.bias is None:
            values[layer.name] = max_pool(values[layer.source], layer.window, layer.stride, layer.padding)
            continue
        bias: Tensor | None = torch.tensor(layer.bias, dtype=torch.float32)
        sums: list[Tensor] = []
        for taken in layer.inputs:
            sums.append(weighted(taken, values[taken.source], torch.tensor(taken.weights, dtype=torch.float32), bias))
            bias = None
        found = sum(sums[1:], sums[0])
        values[layer.name] = found.clamp(0, layer.end) if layer.relu else found
    return values[floats.layers[-1].name].permute(0, 2, 3, 1).flatten(1)


class _Passing(torch.autograd.Function):
    """What is rounded, with the gradient of what it was rounded from."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, rounded: Tensor) -> Tensor:
        return rounded.to(values.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient, None


def _of_inputs(layer: FloatProjection, scales: Tensor) -> Tensor:
    """The scales of the channels that each weight reads (`model.conversion.channels`)."""
    assert layer.weights is not None
    if layer.kind == "linear":
        return scales.repeat(layer.weights.shape[1] // len(scales))
    return scales.reshape(layer.groups, -1).repeat_interleave(len(layer.weights) // layer.groups, dim=0)[:, :, None, None]


def _reach(taken: FloatProjection, shape: Shape) -> np.ndarray:
    """How many neurons an event at each position of a source of ``shape`` reaches."""
    assert taken.weights is not None
    there = integer_projection(taken, np.zeros(taken.weights.shape, np.int32))
    rows, columns = ([len(taps) for taps in there.taps(shape, axis)] for axis in (0, 1))
    return np.outer(rows, columns).astype(np.float32) * (len(taken.weights) // taken.groups)
