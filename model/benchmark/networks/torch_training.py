"""What the suite's PyTorch networks share: a plain training loop and the exporter's defaults."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from model.support.dataset import Dataset

if TYPE_CHECKING:
    from torch import Tensor, nn, optim

__all__ = ["export", "fit", "seeded", "tensor"]


def seeded(seed: int) -> None:
    """Set the seed of everything random, and one thread: the same weights on every run of one machine."""
    import torch

    torch.manual_seed(seed)
    torch.set_num_threads(1)


def tensor(images: np.ndarray) -> Tensor:
    """Pixels from 0 to 1, as ``torchvision.transforms.ToTensor`` makes them: ``(frames, channels, height, width)``."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float() / 255


def fit(
    network: nn.Module,
    dataset: Dataset,
    optimizer: optim.Optimizer,
    *,
    epochs: int,
    batch_size: int = 64,
    mean: float = 0.0,
    std: float = 1.0,
) -> None:
    """Train by cross-entropy on all frames, and leave the network in evaluation mode.

    Parameters
    ----------
    network, dataset, optimizer : nn.Module, Dataset, optim.Optimizer
        What learns, from what, and how.
    epochs, batch_size : int
        Passes over the frames, and frames per step.
    mean, std : float
        As in ``torchvision.transforms.Normalize``.
    """
    import torch

    labels = torch.from_numpy(dataset.labels)
    for epoch in range(1, epochs + 1):
        network.train()
        total = 0.0
        for batch in torch.randperm(len(dataset)).split(batch_size):
            frames = (tensor(dataset.images[batch.numpy()]) - mean) / std
            loss = torch.nn.functional.cross_entropy(network(frames), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        click.echo(f"epoch {epoch}/{epochs}: loss {total / len(dataset):.4f}", err=True)
    network.eval()


def export(network: nn.Module, shape: tuple[int, ...], path: Path) -> None:
    """Write ``torch.onnx.export``'s file, in one piece, for frames of ``shape`` and any number of them."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(2, *shape),),
            path,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            external_data=False,
            verbose=False,
        )
