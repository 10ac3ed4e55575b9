"""A VGG-like network: pairs of 3 x 3 convolutions with batch normalization between max-pools, and a global average."""

from pathlib import Path
from typing import Any

from model.benchmark.networks.torch_training import export, fit, seeded
from model.support.dataset import Dataset

__all__ = ["train"]


def train(dataset: Dataset, path: Path, seed: int) -> None:
    """Train on ``dataset`` and write the ONNX file ``path``."""
    from torch import nn, optim

    def convolution(inputs: int, outputs: int) -> list[Any]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]

    seeded(seed)
    network = nn.Sequential(
        *convolution(1, 16), *convolution(16, 16), nn.MaxPool2d(2),
        *convolution(16, 32), *convolution(32, 32), nn.MaxPool2d(2),
        *convolution(32, 64), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2), nn.Linear(64, 10),
    )
    fit(network, dataset, optim.Adam(network.parameters(), lr=1e-3), epochs=2)
    export(network, (1, 28, 28), path)
