"""How counts come from potentials in training, deferred or at every update, with gradients past the rounding.

Deferred, counts are whole thresholds of what a frame comes to. Immediate, a frame is looked at in a few moments, the input so far
brightest first: from moment to moment each count moves towards its activation by whole thresholds, rounded towards zero. That is
the sigma-delta neuron of `model.neuron`, its input handed over in a few portions instead of an event at a time.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from model.conversion.coding import InputCoding
from model.network import Padding

__all__ = ["Deferred", "Fired", "Firing", "Immediate", "Limits", "max_pool"]

_BELOW_ALL = -float("inf")


@dataclass(frozen=True)
class Limits:
    """Least and greatest count that a layer's activation allows."""

    least: float = -float("inf")
    most: float = float("inf")


@dataclass(frozen=True)
class Fired:
    """What a layer holds.

    Parameters
    ----------
    potential : torch.Tensor
        In thresholds, with what rounding adds to biases; of the input its counts.
    counts : torch.Tensor
        Of the same shape, whole numbers.
    limits : Limits
        Of the counts.
    """

    potential: Tensor
    counts: Tensor
    limits: Limits


class Firing(Protocol):
    """When neurons compare, and so what a batch holds beside its frames."""

    rounds: bool
    """Whether biases are half a threshold higher."""

    def shown(self, pixels: Tensor, coding: InputCoding) -> Fired:
        """The input's counts, of whole pixels ``(frames, channels, height, width)`` of full scale 255."""

    def fire(self, potential: Tensor, limits: Limits) -> Fired:
        """Counts of neurons."""

    def pool(self, fired: Fired, window: tuple[int, int], stride: tuple[int, int], padding: Padding) -> Fired:
        """Maxima of windows."""

    def sent(self, fired: Fired) -> Tensor:
        """How many spikes all channels sent in all frames, ``(height, width)``."""

    def final(self, fired: Fired) -> Tensor:
        """Counts at the end of the frame, ``(frames, channels, height, width)``."""


class _Floor(torch.autograd.Function):
    """Whole thresholds, within limits; gradients pass where the count is not held at one."""

    @staticmethod
    def forward(ctx: Any, potential: Tensor, least: float, most: float) -> Tensor:
        ctx.save_for_backward(potential)
        ctx.limits = least, most
        return torch.floor(potential).clamp_(least, most)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (potential,), (least, most) = ctx.saved_tensors, ctx.limits
        if least > -float("inf"):
            gradient = gradient * (potential > least)
        if most < float("inf"):
            gradient = gradient * (potential < most + 1)
        return gradient, None, None


class _Sent(torch.autograd.Function):
    """What counts differ by from those of the last frame, or from 0, added up by position."""

    @staticmethod
    def forward(ctx: Any, counts: Tensor, from_last: bool) -> Tensor:
        moved = counts[:-1] - counts[-1:] if from_last else counts[:-1]
        # Sums of one position are whole numbers that float32 holds.
        sums = moved.abs().sum(dim=(0, 1), dtype=torch.promote_types(counts.dtype, torch.float32))
        ctx.from_last, ctx.signs = from_last, moved.sign()
        return sums

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        of_frames = ctx.signs * gradient.to(ctx.signs.dtype)
        of_last = -of_frames.sum(dim=0, keepdim=True) if ctx.from_last else torch.zeros_like(of_frames[:1])
        return torch.cat([of_frames, of_last]), None


def _side_by_side(values: Tensor, window: tuple[int, int]) -> list[Tensor]:
    """Of each tap of windows side by side what it sees, as views."""
    (rows, columns), (height, width) = window, values.shape[2:]
    whole = values[:, :, : height // rows * rows, : width // columns * columns]
    return [whole[:, :, y::rows, x::columns] for y in range(rows) for x in range(columns)]


class Deferred:
    """Neurons compare when the frame ends; the last of a batch is a frame without events, whose counts are those at rest.

    Parameters
    ----------
    rest : bool
        Whether frames start from the state at rest; otherwise from counts of 0, and what neurons have at rest is sent too.
    """

    rounds = True

    def __init__(self, *, rest: bool = True) -> None:
        self._rest = rest

    def shown(self, pixels: Tensor, coding: InputCoding) -> Fired:
        counts = torch.ceil((pixels - coding.first) / coding.step).clamp_(0, coding.levels)
        counts = torch.cat([counts, torch.zeros_like(counts[:1])]).contiguous(memory_format=torch.channels_last)
        return Fired(counts, counts, Limits())

    def fire(self, potential: Tensor, limits: Limits) -> Fired:
        return Fired(potential, _Floor.apply(potential, limits.least, limits.most), limits)

    def pool(self, fired: Fired, window: tuple[int, int], stride: tuple[int, int], padding: Padding) -> Fired:
        # The greatest count is that of the greatest potential, which is where the gradient belongs.
        return self.fire(max_pool(fired.potential, window, stride, padding), fired.limits)

    def sent(self, fired: Fired) -> Tensor:
        found: Tensor = _Sent.apply(fired.counts, self._rest)
        return found

    def final(self, fired: Fired) -> Tensor:
        return fired.counts[:-1]


class _Follow(torch.autograd.Function):
    """Counts that follow activations ``(moments, frames, ...)`` by whole thresholds, from moment to moment."""

    @staticmethod
    def forward(ctx: Any, potential: Tensor, least: float, most: float) -> Tensor:
        ctx.save_for_backward(potential)
        ctx.limits = least, most
        counts, count = torch.empty_like(potential), torch.zeros_like(potential[0])
        for now, kept in zip(potential.clamp(least, most), counts, strict=True):
            count = count + torch.trunc(now - count)
            kept.copy_(count)
        return counts

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (potential,), (least, most) = ctx.saved_tensors, ctx.limits
        if least > -float("inf"):
            gradient = gradient * (potential > least)
        if most < float("inf"):
            gradient = gradient * (potential < most)
        return gradient, None, None


class Immediate:
    """Neurons compare at every update; a batch holds its frames at several moments, one after the other.

    Parameters
    ----------
    moments : int
        How many: random shares of a frame's events, then all of them.
    """

    rounds = False

    def __init__(self, moments: int) -> None:
        self.moments = moments

    def shown(self, pixels: Tensor, coding: InputCoding) -> Fired:
        limits = coding.first + coding.step * torch.arange(coding.levels)
        # (frames, address of the pixel and level)
        past = (pixels.permute(0, 2, 3, 1).flatten(1)[:, :, None] - limits).flatten(1)
        order = torch.argsort(past, dim=1, descending=True, stable=True)
        rank = torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1]).expand_as(order).contiguous())
        share = torch.cat([torch.rand(self.moments - 1).sort().values, torch.ones(1)]).reshape(-1, 1, 1)
        fires = past > 0
        there = fires & (rank < torch.ceil(fires.sum(dim=1, keepdim=True) * share))
        counts = there.unflatten(2, (-1, coding.levels)).sum(dim=3, dtype=pixels.dtype)
        frames, channels, height, width = pixels.shape
        counts = counts.reshape(self.moments * frames, height, width, channels).permute(0, 3, 1, 2)
        return Fired(counts, counts, Limits())

    def fire(self, potential: Tensor, limits: Limits) -> Fired:
        counts = _Follow.apply(self._by_moment(potential), limits.least, limits.most).flatten(0, 1)
        return Fired(potential, counts, limits)

    def pool(self, fired: Fired, window: tuple[int, int], stride: tuple[int, int], padding: Padding) -> Fired:
        # Of equal counts the gradient goes to the one with the greatest potential.
        order = torch.atan(fired.potential.detach()) / math.pi + 0.5
        counts = max_pool(fired.counts + 0.9 * order, window, stride, padding)
        potential = max_pool(fired.potential.detach(), window, stride, padding)
        return Fired(potential, counts + (counts.floor() - counts).detach(), fired.limits)

    def sent(self, fired: Fired) -> Tensor:
        counts = self._by_moment(fired.counts)
        return torch.diff(counts, dim=0, prepend=torch.zeros_like(counts[:1])).abs().sum(dim=(0, 1, 2))

    def final(self, fired: Fired) -> Tensor:
        return self._by_moment(fired.counts)[-1]

    def _by_moment(self, values: Tensor) -> Tensor:
        return values.unflatten(0, (self.moments, -1))


def max_pool(values: Tensor, window: tuple[int, int], stride: tuple[int, int], padding: Padding) -> Tensor:
    """Maxima of windows of values ``(frames, channels, height, width)``; what stands in the padding takes no part."""
    if window == stride and not any(padding) and not torch.is_grad_enabled():
        # PyTorch's own also finds where the maxima are, which takes most of the time.
        return functools.reduce(torch.maximum, _side_by_side(values, window))
    if any(padding):
        sides = (padding.left, padding.right, padding.top, padding.bottom)
        values = functional.pad(values, sides, value=_BELOW_ALL)
    return functional.max_pool2d(values, window, stride)
