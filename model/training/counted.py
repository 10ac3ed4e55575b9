"""Networks that are trained with whole counts as activations from the beginning: what an event costs is in the loss.

Fine-tuning (`model.training.finetune`) starts from a trained float network, without batch normalization; here it is there, and
no activation is ever anything but a count.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.conversion.coding import InputCoding
from model.training.residual import Block, Normalized, ResidualNetwork

__all__ = ["CountedNetwork", "even_coding"]

_FULL = 255


def even_coding(levels: int) -> InputCoding:
    """Limits that are the same step apart, the first at three quarters of a step, so that dark pixels send nothing.

    Parameters
    ----------
    levels : int
        How often a pixel fires at most, 2 to 32.
    """
    step = (_FULL + 1) // levels
    return InputCoding(first=3 * step // 4, step=step, levels=levels)


class CountedNetwork(nn.Module):
    """A residual network whose activations are whole counts, on frames in levels; it says what their events take.

    Parameters
    ----------
    network : ResidualNetwork
        Gives the layers. Its activations are in units of thresholds.
    coding : InputCoding
        Of the input.
    """

    def __init__(self, network: ResidualNetwork, coding: InputCoding) -> None:
        super().__init__()
        self.network, self.coding = network, coding
        self.accumulations, self.macs = torch.zeros(()), 0

    def forward(self, frames: Tensor) -> Tensor:
        """Scores ``(frames, classes)`` of ``(frames, channels, height, width)`` of full scale 1.

        ``accumulations`` is then the mean of those that a frame takes, with gradients of what fires; ``macs`` are the
        multiplications of the same network without counts.
        """
        network, coding = self.network, self.coding
        blocks: list[Block] = list(network.blocks.values())  # type: ignore[arg-type]
        self.macs = network.classifier.weight.numel()
        pixels = torch.round(frames * _FULL)
        counts = torch.ceil((pixels - coding.first) / coding.step).clamp_(0, coding.levels)
        taken = [(counts.sum((0, 1)) * self._reach(counts, [network.stem])).sum()]
        # Frames in levels, of full scale 1.
        potential = network.stem(counts * coding.value)
        for block in blocks:
            counts = self._fire(potential, [block.first, block.shortcut], taken)
            inner = self._fire(block.first(counts), [block.second], taken)
            potential = block.second(inner) + (counts if block.shortcut is None else block.shortcut(counts))
        counts = self._fire(potential, [], taken)
        self.accumulations = torch.stack(taken).sum() / len(frames)
        scores: Tensor = network.classifier(counts.mean((2, 3)))
        return scores

    def _fire(self, potential: Tensor, readers: Sequence[Normalized | None], taken: list[Tensor]) -> Tensor:
        """Counts of a layer; adds what they take in the layers that read them, None being a shortcut without a convolution."""
        counts, accumulations = _Fire.apply(potential, self._reach(potential, readers))
        taken.append(accumulations)
        return counts  # type: ignore[no-any-return]

    def _reach(self, counts: Tensor, readers: Sequence[Normalized | None]) -> Tensor:
        """How many neurons an event at each position reaches, ``(height, width)``; without readers it is all classes."""
        size = counts.shape[2:]
        if not readers:
            return torch.full(size, float(self.network.classifier.out_features))
        found = torch.zeros(size)
        for reader in readers:
            if reader is None:
                found += 1
                self.macs += counts[0].numel()
                continue
            layer, positions = reader.convolution, 1
            lines = []
            for axis, length in enumerate(size):
                starts, places = _windows(length, layer.kernel_size[axis], layer.stride[axis], int(layer.padding[axis]))
                lines.append(places)
                positions *= starts
            found += torch.outer(*lines) * layer.out_channels
            self.macs += layer.weight.numel() * positions
        return found


class _Fire(torch.autograd.Function):
    """What neurons of threshold 1 count that fire deferred and round, and how many neurons their events reach in all."""

    @staticmethod
    def forward(ctx: Any, potential: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
        above = functional.relu(potential + 0.5)
        counts = above.floor()
        ctx.save_for_backward(above, counts, reach)
        # One product with a vector: fast, and in float32 exact.
        events = counts.new_ones(1, len(counts)) @ counts.permute(0, 2, 3, 1).flatten(1)
        by_position = events.float().reshape(*reach.shape, -1).sum(dim=2)
        return counts, (by_position * reach).sum()

    @staticmethod
    def backward(ctx: Any, of_counts: Tensor, of_taken: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        above, counts, reach = ctx.saved_tensors
        # Fewer events come of what fires; a neuron that is silent cannot send fewer.
        fires = counts.clamp(max=1)
        gradient = torch.addcmul(of_counts, fires, (of_taken * reach).to(fires.dtype))
        return torch.ops.aten.threshold_backward(gradient, above, 0), None


@functools.cache
def _windows(length: int, window: int, stride: int, padding: int) -> tuple[int, Tensor]:
    """How many windows a line has, and how many of them see each of its places."""
    count = (length + 2 * padding - window) // stride + 1
    starts = torch.arange(count) * stride - padding
    at = torch.arange(length)[:, None]
    return count, ((starts <= at) & (at < starts + window)).sum(dim=1).float()
