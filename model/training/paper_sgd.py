"""The paper's network trained as the paper says: plain stochastic gradient descent, with nothing that shrinks activations."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from model.support.dataset import Dataset
from model.support.errors import BadInputError
from model.training.common import accuracy, binarise, check_dataset, held_out, import_torch, to_tensor
from model.training.paper_network import LAYERS, build_network, export_onnx
from model.training.paper_trained import Trained
from model.training.settings import as_asked, check_numbers, check_whole

if TYPE_CHECKING:
    from torch import nn

__all__ = ["SgdSettings", "train_sgd"]

_LARGE = 99.0
"""Percentile of the positive activations that counts as a large one."""


@dataclass(frozen=True)
class SgdSettings:
    """Everything that decides the outcome of a training, beside the data and the versions of the libraries.

    Parameters
    ----------
    seed : int
        Of the initial weights, the order of frames and dropout.
    epochs : int
        Passes over the training frames.
    batch_size : int
        Frames per step.
    learning_rate : float
        Of plain stochastic gradient descent. No momentum, no weight decay.
    falling : float
        Share of the steps, the last ones, in which the rate falls evenly to 0; the same at every step before.
    dropout : float
        Share of the 256 values of ``fc1`` dropped, as in the paper; nowhere else.
    first_scale : float
        What the initial weights and biases of the first layer are multiplied by; PyTorch's own at 1.
    """

    seed: int = 1
    epochs: int = 12
    batch_size: int = 64
    learning_rate: float = 0.1
    falling: float = 0.3
    dropout: float = 0.5
    first_scale: float = 4.0

    def __post_init__(self) -> None:
        check_whole(self, {"seed": 0, "epochs": 1, "batch_size": 1})
        check_numbers(self, positive=["learning_rate", "first_scale"], shares=["dropout"])
        if not 0 <= self.falling <= 1:
            raise BadInputError(f"falling must be from 0 to 1, not {self.falling!r}")


def train_sgd(data: Dataset, seed: int, epochs: int | None, console: Console) -> Trained:
    """Train the paper's network; frames are grey, as they come, from 0 to 1."""
    return train_with(as_asked(SgdSettings(), seed, epochs), data, console)


def train_with(settings: SgdSettings, data: Dataset, console: Console) -> Trained:
    """The same with settings of one's own."""
    torch = import_torch()
    check_dataset(data)
    held = held_out(data)
    images, labels = data.images[~held], torch.from_numpy(data.labels[~held])
    torch.manual_seed(settings.seed)
    network = _initial(settings)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(network.parameters(), lr=settings.learning_rate)
    steps = settings.epochs * math.ceil(len(images) / settings.batch_size)
    last = max(1.0, settings.falling * steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (steps - step) / last))
    started = time.monotonic()
    losses = []
    for epoch in range(1, settings.epochs + 1):
        network.train()
        total = 0.0
        for batch in torch.randperm(len(images)).split(settings.batch_size):
            frames = to_tensor(images[batch.numpy()]).to(memory_format=torch.channels_last)
            loss = torch.nn.functional.cross_entropy(network(frames), labels[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        losses.append(total / len(images))
        console.print(f"epoch {epoch}/{settings.epochs}: loss {losses[-1]:.4f}, {time.monotonic() - started:.0f} s")
    network = network.to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    record = {
        **asdict(settings),
        "frames_train": len(images),
        "frames_held_out": int(held.sum()),
        "losses": [round(loss, 5) for loss in losses],
        "held_out_accuracy_grey": accuracy(network, data.images[held], data.labels[held]),
        "held_out_accuracy_1bit": accuracy(network, binarise(data.images[held]), data.labels[held]),
        "large_activations_1bit": _large_activations(network, binarise(data.images[held])),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        export_onnx(network, path, "paper-sgd")
        return Trained(record=record, onnx=path.read_bytes())


def _initial(settings: SgdSettings) -> nn.Sequential:
    """The network before training."""
    torch = import_torch()
    network = build_network(settings.dropout)
    # The paper drops values behind the hidden layer only.
    behind_flatten = next(layer for layer in network if isinstance(layer, torch.nn.Dropout))
    behind_flatten.p = 0.0
    with torch.no_grad():
        for parameter in network[0].parameters():
            parameter.mul_(settings.first_scale)
    return network


def _large_activations(network: nn.Sequential, images: np.ndarray) -> dict[str, float]:
    """Of each layer the percentile of its positive activations that counts as a large one."""
    torch = import_torch()
    values, found = to_tensor(images[:1000]), {}
    with torch.inference_mode():
        for at, layer in enumerate(network):
            values = layer(values)
            if at in LAYERS:
                positive = values[values > 0].numpy()
                found[LAYERS[at]] = round(float(np.percentile(positive, _LARGE)), 3) if len(positive) else 0.0
    return found
