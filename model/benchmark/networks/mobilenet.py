"""A small MobileNetV2 (Sandler et al., 2018): inverted residuals with linear bottlenecks, depthwise convolutions, ReLU6."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from model.benchmark.networks.torch_training import export, fit, seeded
from model.support.dataset import Dataset

__all__ = ["train"]


def train(dataset: Dataset, path: Path, seed: int) -> None:
    """Train on ``dataset`` and write the ONNX file ``path``."""
    from torch import Tensor, nn, optim

    def convolution(inputs: int, outputs: int, window: int, stride: int = 1, groups: int = 1) -> list[Any]:
        return [
            nn.Conv2d(inputs, outputs, window, stride, padding=window // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU6(),
        ]

    class InvertedResidual(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int, expand_ratio: int) -> None:
            super().__init__()
            hidden = inputs * expand_ratio
            self.use_res_connect = stride == 1 and inputs == outputs
            self.conv = nn.Sequential(
                *convolution(inputs, hidden, 1),
                *convolution(hidden, hidden, 3, stride, groups=hidden),
                nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
            )

        def forward(self, x: Tensor) -> Tensor:
            return x + self.conv(x) if self.use_res_connect else self.conv(x)  # type: ignore[no-any-return]

    seeded(seed)
    network = nn.Sequential(
        *convolution(1, 16, 3, stride=2),
        InvertedResidual(16, 16, stride=1, expand_ratio=3),
        InvertedResidual(16, 24, stride=2, expand_ratio=3),
        InvertedResidual(24, 24, stride=1, expand_ratio=3),
        *convolution(24, 64, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Dropout(0.2), nn.Linear(64, 10),
    )
    fit(network, dataset, optim.Adam(network.parameters(), lr=1e-3), epochs=5)
    export(network, (1, 28, 28), path)
