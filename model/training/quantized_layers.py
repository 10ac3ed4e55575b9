"""The quantized network that any float network becomes, as PyTorch computes it, with gradients past the rounding.

Its forward pass is that of the integer network: weights rounded as `model.conversion.quantize` rounds them, counts of whole
thresholds. All is in units of thresholds: of each output channel of a hidden layer, whose logarithm is learned beside the weights
and folded into them (as `model.conversion.channels` does), and of the output layer as a whole, so that its counts compare.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from model.conversion.coding import InputCoding
from model.conversion.quantize import count_at_end
from model.importers.float_network import FloatLayer, FloatNetwork, refuse_branches
from model.network import MOST_POTENTIAL_BITS, Convolution, Linear, Shape
from model.training.firing import Firing, Limits, max_pool

__all__ = ["Folded", "Outcome", "QuantizedLayers", "float_scores", "weighted"]

_MOST_FRACTION = MOST_POTENTIAL_BITS - 4
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
    weights, bias : torch.Tensor
        As a file has them: for sums of pixels of full scale 1.0 or of counts; of windows that are averaged, for the averages.
    limits : Limits
        Of the counts.
    """

    layer: FloatLayer
    weights: Tensor
    bias: Tensor
    limits: Limits


class _Neurons:
    """A layer of neurons in units of its thresholds, and what has been learned about these."""

    def __init__(self, layer: FloatLayer, shape: Shape, *, before: float, theta: float, unit: float, is_last: bool) -> None:
        assert layer.weights is not None and layer.bias is not None
        self.layer, self.unit, self.first_theta = layer, unit, theta
        self.area = layer.averaged[0] * layer.averaged[1]
        self.weights = torch.tensor(layer.weights * (before / theta), dtype=torch.float32).requires_grad_()
        self.bias = torch.tensor(layer.bias / theta, dtype=torch.float32).requires_grad_()
        self.log_scale = torch.zeros(1 if is_last else len(layer.weights)).requires_grad_()
        self.reach = torch.from_numpy(_reach(layer, shape))
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
    weight_bits : int
        Width of the weights.
    firing : Firing
        How counts come from potentials.
    """

    def __init__(
        self, floats: FloatNetwork, thresholds: Sequence[float], coding: InputCoding, *, weight_bits: int, firing: Firing
    ) -> None:
        refuse_branches(floats, "fine-tuned")
        self.coding, self.firing = coding, firing
        self._most = (1 << weight_bits - 1) - 1
        self._layers: list[_Neurons | FloatLayer] = []
        left, before, unit = list(thresholds), 1.0, coding.value
        for layer, shape, _ in floats.walk():
            if layer.kind == "maxpool":
                self._layers.append(layer)
                continue
            theta = left.pop(0)
            self._layers.append(_Neurons(layer, shape, before=before, theta=theta, unit=unit, is_last=not left))
            before, unit = theta, 1.0
        self._neurons = [layer for layer in self._layers if isinstance(layer, _Neurons)]

    def parameters(self) -> list[Tensor]:
        """All that is learned."""
        return [tensor for layer in self._neurons for tensor in (layer.weights, layer.bias, layer.log_scale)]

    def groups(self, rate: float, scale_rate: float) -> list[dict[str, Any]]:
        """Of an optimizer: a step is a part of the size of a layer's weights; ``scale_rate`` is that of thresholds."""
        found: list[dict[str, Any]] = []
        for layer in self._neurons:
            size = float(layer.weights.detach().square().mean().sqrt()) or 1.0
            found += [
                {"params": [layer.weights], "lr": rate * size},
                {"params": [layer.bias], "lr": rate * size * layer.unit},
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
        before: Tensor | None = None
        for layer in self._neurons:
            scale = torch.exp(layer.log_scale)
            weights = layer.weights / scale.reshape(-1, *[1] * (layer.weights.ndim - 1))
            if before is not None:
                weights = weights * _of_inputs(layer.layer, before)
            most = self._most / layer.unit
            weights = weights.clamp(-most, most) * layer.area
            limit = _MOST_BIAS * 2.0 ** -self._fraction(_exact(layer, weights)) - 1
            yield Folded(layer.layer, weights, (layer.bias / scale).clamp(-limit, limit), layer.limits)
            before = scale

    def _rounded(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Each layer's weights for counts and its biases, rounded as `model.conversion.quantize` rounds.

        What rounding of counts adds to a bias is included.
        """
        half = 0.5 if self.firing.rounds else 0.0
        for layer, folded in zip(self._neurons, self.folded(), strict=True):
            exact = _exact(layer, folded.weights)
            step = 2.0 ** -self._fraction(exact)
            biases = folded.bias.detach().double() + half
            yield (
                _Passing.apply(folded.weights * (layer.unit / layer.area), torch.round(exact / step) * step),
                _Passing.apply(folded.bias, torch.round(biases / step) * step),
            )

    def _fraction(self, weights: Tensor) -> int:
        """Fractional bits that the largest weight leaves."""
        greatest = float(weights.abs().max())
        # Of what is not a number the loss is none either, and says so.
        left = np.log2(self._most / greatest) if greatest > 0 else np.inf
        return int(np.clip(np.floor(left), 0, _MOST_FRACTION))

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
        fired = firing.shown(pixels.to(kind), self.coding)
        spikes = accumulations = torch.zeros((), dtype=kind)
        frames = len(pixels)
        for layer in self._layers:
            if isinstance(layer, FloatLayer):
                fired = firing.pool(fired, layer.window, layer.stride, layer.padding)
                name = layer.name
            else:
                accumulations = accumulations + firing.sent(fired, layer.reach) / frames
                weights, bias = next(rounded)
                potential = weighted(layer.layer, fired.counts, weights.to(kind), bias.to(kind))
                fired = firing.fire(potential, layer.limits)
                spikes = spikes + firing.sent(fired) / frames
                name = layer.layer.name
            if kept is not None:
                kept[name] = firing.final(fired).detach()
        counts = firing.final(fired).permute(0, 2, 3, 1).flatten(1)
        return Outcome(counts, counts * self.unit, spikes, accumulations)


def weighted(layer: FloatLayer, values: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """Sums of a layer, ``(frames, channels, height, width)``; windows that it averages are added up."""
    if layer.averaged != (1, 1):
        values = functional.avg_pool2d(values, layer.averaged, divisor_override=1)
    if layer.kind == "linear":
        found = functional.linear(values.permute(0, 2, 3, 1).flatten(1), weights, bias)
        return found[:, :, None, None]
    top, left, bottom, right = layer.padding
    sides: tuple[int, int] = (0, 0)
    if (top, left) == (bottom, right):
        sides = (top, left)
    else:
        values = functional.pad(values, (left, right, top, bottom))
    by_position = bias.ndim == 3
    found = functional.conv2d(
        values, weights, None if by_position else bias, stride=layer.stride, padding=sides, groups=layer.groups
    )
    return found + bias.permute(2, 0, 1) if by_position else found


def float_scores(floats: FloatNetwork, pixels: Tensor) -> Tensor:
    """What the layers of a float network give, ``(frames, outputs)``, for pixels as `QuantizedLayers` takes them."""
    values = pixels / 255
    for layer in floats.layers:
        if layer.weights is None or layer.bias is None:
            values = max_pool(values, layer.window, layer.stride, layer.padding)
            continue
        weights, bias = (torch.tensor(array, dtype=torch.float32) for array in (layer.weights, layer.bias))
        values = weighted(layer, values, weights, bias)
        if layer.relu:
            values = values.clamp(0, layer.end)
    return values.permute(0, 2, 3, 1).flatten(1)


def _exact(layer: _Neurons, weights: Tensor) -> Tensor:
    """Weights for counts in float64, as the importer divides a file's by the windows' size, and then conversion multiplies."""
    return weights.detach().double() / layer.area * layer.unit


class _Passing(torch.autograd.Function):
    """What is rounded, with the gradient of what it was rounded from."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, rounded: Tensor) -> Tensor:
        return rounded.to(values.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient, None


def _of_inputs(layer: FloatLayer, scales: Tensor) -> Tensor:
    """The scales of the channels that each weight reads (`model.conversion.channels`)."""
    assert layer.weights is not None
    if layer.kind == "linear":
        return scales.repeat(layer.weights.shape[1] // len(scales))
    return scales.reshape(layer.groups, -1).repeat_interleave(len(layer.weights) // layer.groups, dim=0)[:, :, None, None]


def _reach(layer: FloatLayer, shape: Shape) -> np.ndarray:
    """How many neurons an event at each position of a source of ``shape`` reaches."""
    assert layer.weights is not None
    plain: dict[str, Any] = {
        "name": layer.name,
        "source": "input",
        "weights": np.zeros(layer.weights.shape, np.int32),
        "bias": np.zeros(len(layer.weights), np.int32),
        "averaged": layer.averaged,
        "threshold_log2": 0,
    }
    window: dict[str, Any] = {"stride": layer.stride, "padding": layer.padding, "groups": layer.groups}
    there = Linear(**plain) if layer.kind == "linear" else Convolution(**plain, **window)
    rows, columns = ([len(taps) for taps in there.taps(shape, axis)] for axis in (0, 1))
    return np.outer(rows, columns).astype(np.float32) * (len(layer.weights) // layer.groups)
