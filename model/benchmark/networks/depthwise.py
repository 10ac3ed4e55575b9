"""Depthwise-separable convolutions with batch normalization and a global average, a small MobileNet (Howard et al., 2017)."""

from pathlib import Path
from typing import Any

from model.benchmark.networks.torch_training import export, fit, seeded
from model.support.dataset import Dataset

__all__ = ["train"]


def train(dataset: Dataset, path: Path, seed: int) -> None:
    """Train on ``dataset`` and write the ONNX file ``path``."""
    from torch import nn, optim

    def separable(inputs: int, outputs: int, stride: int) -> list[Any]:
        return [
            nn.Conv2d(inputs, inputs, 3, stride, padding=1, groups=inputs, bias=False), nn.BatchNorm2d(inputs), nn.ReLU(),
            nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
        ]

    seeded(seed)
    network = nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        *separable(16, 32, 1),
        *separable(32, 64, 2),
        *separable(64, 64, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(64, 10),
    )
    fit(network, dataset, optim.Adam(network.parameters(), lr=1e-3), epochs=5)
    export(network, (1, 28, 28), path)
