"""An all-convolutional network (Springenberg et al., 2014): strides in place of pools, batch normalization, global average."""

from pathlib import Path
from typing import Any

from model.benchmark.networks.torch_training import export, fit, seeded
from model.support.dataset import Dataset

__all__ = ["train"]


def train(dataset: Dataset, path: Path, seed: int) -> None:
    """Train on ``dataset`` and write the ONNX file ``path``."""
    from torch import nn, optim

    def convolution(inputs: int, outputs: int, stride: int) -> list[Any]:
        return [nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    seeded(seed)
    network = nn.Sequential(
        *convolution(1, 16, 1),
        *convolution(16, 16, 2),
        *convolution(16, 32, 1),
        *convolution(32, 32, 2),
        *convolution(32, 32, 1),
        nn.Conv2d(32, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )
    fit(network, dataset, optim.Adam(network.parameters(), lr=1e-3), epochs=4)
    export(network, (1, 28, 28), path)
