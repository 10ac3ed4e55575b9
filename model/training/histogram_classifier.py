"""A linear classifier of spike counts: what Stromatias et al. 2017 train behind a layer of spiking neurons."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.arrays import Ints
from model.training.common import import_torch
from model.training.settings import check_numbers, check_whole

__all__ = ["ClassifierSettings", "train_classifier"]


@dataclass(frozen=True)
class ClassifierSettings:
    """Everything that decides the outcome of a training, beside the counts and the versions of the libraries.

    Parameters
    ----------
    seed : int
        Of the order of frames.
    epochs : int
        Passes over the frames.
    batch_size : int
        Frames per step.
    learning_rate : float
        Peak of the one-cycle schedule of Adam.
    """

    seed: int = 1
    epochs: int = 8
    batch_size: int = 100
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        check_whole(self, {"seed": 0, "epochs": 1, "batch_size": 1})
        check_numbers(self, positive=["learning_rate"])


def train_classifier(
    settings: ClassifierSettings,
    counts: npt.NDArray[np.uint8],
    labels: Ints,
    classes: int,
    *,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[npt.NDArray[np.float32], list[float]]:
    """Train a layer without biases to tell classes by softmax.

    Parameters
    ----------
    settings : ClassifierSettings
        How.
    counts, labels, classes : npt.NDArray[np.uint8], Ints, int
        ``(frames, neurons)``, 255 of which are 1; the classes of the frames; how many there are.
    say : Callable[[str], None]
        Told the loss of each epoch.

    Returns
    -------
    The weights, ``(classes, neurons)``; and the mean loss of each epoch.
    """
    torch = import_torch()
    torch.manual_seed(settings.seed)
    layer = torch.nn.Linear(counts.shape[1], classes, bias=False)
    torch.nn.init.zeros_(layer.weight)
    optimizer = torch.optim.Adam(layer.parameters(), lr=settings.learning_rate)
    frames, wanted = torch.from_numpy(counts), torch.from_numpy(labels)
    steps = settings.epochs * math.ceil(len(frames) / settings.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, total_steps=steps)
    losses = []
    for epoch in range(1, settings.epochs + 1):
        total = 0.0
        for batch in torch.randperm(len(frames)).split(settings.batch_size):
            loss = torch.nn.functional.cross_entropy(layer(frames[batch].float().div_(255)), wanted[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        losses.append(total / len(frames))
        say(f"epoch {epoch}/{settings.epochs}: loss {losses[-1]:.4f}")
    return layer.weight.detach().numpy().copy(), losses
