"""The network that Diehl et al. 2015 make spikes of, 12C5-2S-64C5-2S-10FC: trained without biases, as they have it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from model.support.datasets import Dataset
from model.training.common import accuracy, check_dataset, held_out, import_torch, to_tensor
from model.training.settings import check_numbers, check_whole

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["BalancedSettings", "TrainedBalanced", "train_balanced"]

_LAYERS = {0: "conv1", 3: "conv2", 8: "fc"}
"""Modules with weights, by their place."""


@dataclass(frozen=True)
class BalancedSettings:
    """Everything that decides the outcome of a training, beside the data and the versions of the libraries.

    Parameters
    ----------
    seed : int
        Of the initial weights, the order of frames, and dropout.
    epochs : int
        Passes over the training frames.
    batch_size : int
        Frames per step.
    learning_rate : float
        Peak of the one-cycle schedule of Adam.
    dropout : float
        Share of the values dropped before the output layer.
    """

    seed: int = 1
    epochs: int = 12
    batch_size: int = 50
    learning_rate: float = 3e-3
    dropout: float = 0.5

    def __post_init__(self) -> None:
        check_whole(self, {"seed": 0, "epochs": 1, "batch_size": 1})
        check_numbers(self, positive=["learning_rate"], shares=["dropout"])


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedBalanced:
    """What a training makes.

    Parameters
    ----------
    weights : dict[str, npt.NDArray[np.float32]]
        Of ``conv1``, ``conv2`` and ``fc``, ``(output channels, input channels, height, width)``.
    largest : list of float
        Of each of them the largest activation on the frames that were trained on.
    losses : list of float
        Mean of each epoch.
    accuracy_held_out : float
        On the frames that were held out, 0 to 1.
    """

    weights: dict[str, npt.NDArray[np.float32]]
    largest: list[float]
    losses: list[float]
    accuracy_held_out: float


def build_balanced(dropout: float) -> nn.Sequential:
    """The network with initial weights from torch's global random generator."""
    nn = import_torch().nn
    return nn.Sequential(  # type: ignore[no-any-return]
        nn.Conv2d(1, 12, 5, bias=False),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(12, 64, 5, bias=False),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(1024, 10, bias=False),
    )


def train_balanced(
    settings: BalancedSettings, dataset: Dataset, *, say: Callable[[str], None] = lambda text: None
) -> TrainedBalanced:
    """Train on all frames but those that are held out, which are looked at once, at the end. Frames are grey, not distorted.

    Parameters
    ----------
    settings, dataset : BalancedSettings, Dataset
        How, and on what.
    say : Callable[[str], None]
        Told the loss of each epoch.
    """
    torch = import_torch()
    check_dataset(dataset)
    kept = held_out(dataset)
    torch.manual_seed(settings.seed)
    network = build_balanced(settings.dropout)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    frames, labels = to_tensor(dataset.images[~kept]), torch.from_numpy(dataset.labels[~kept])
    steps = settings.epochs * math.ceil(len(frames) / settings.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, total_steps=steps)
    losses = []
    for epoch in range(1, settings.epochs + 1):
        network.train()
        total = 0.0
        for batch in torch.randperm(len(frames)).split(settings.batch_size):
            loss = torch.nn.functional.cross_entropy(network(frames[batch]), labels[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        losses.append(total / len(frames))
        say(f"epoch {epoch}/{settings.epochs}: loss {losses[-1]:.4f}")
    network.eval()
    weights = {name: network.get_parameter(f"{place}.weight").detach().numpy().copy() for place, name in _LAYERS.items()}
    weights["fc"] = weights["fc"].reshape(10, 64, 4, 4)
    return TrainedBalanced(
        weights=weights,
        largest=_largest(network, frames),
        losses=losses,
        accuracy_held_out=accuracy(network, dataset.images[kept], dataset.labels[kept]),
    )


def _largest(network: nn.Sequential, frames: Tensor) -> list[float]:
    """The largest activation of each layer with weights."""
    found = dict.fromkeys(_LAYERS, 0.0)
    with import_torch().inference_mode():
        for values in frames.split(1000):
            for place, layer in enumerate(network):
                values = layer(values)
                if place in found:
                    found[place] = max(found[place], values.max().item())
    return list(found.values())
