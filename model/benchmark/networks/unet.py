"""A small U-Net (Ronneberger et al., 2015) that classifies: its features are averaged over all positions, then a linear layer."""

from __future__ import annotations

from pathlib import Path

from model.benchmark.networks.torch_training import export, fit, seeded
from model.support.dataset import Dataset

__all__ = ["train"]


def train(dataset: Dataset, path: Path, seed: int) -> None:
    """Train on ``dataset`` and write the ONNX file ``path``."""
    import torch
    from torch import Tensor, nn, optim

    def convolution(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inc = convolution(1, 8)
            self.down1 = nn.Sequential(nn.MaxPool2d(2), convolution(8, 16))
            self.down2 = nn.Sequential(nn.MaxPool2d(2), convolution(16, 32))
            self.up1 = nn.ConvTranspose2d(32, 16, 2, stride=2)
            self.conv1 = convolution(32, 16)
            self.up2 = nn.ConvTranspose2d(16, 8, 2, stride=2)
            self.conv2 = convolution(16, 16)
            self.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))

        def forward(self, x: Tensor) -> Tensor:
            x1 = self.inc(x)
            x2 = self.down1(x1)
            x3 = self.down2(x2)
            out = self.conv1(torch.cat([x2, self.up1(x3)], dim=1))
            out = self.conv2(torch.cat([x1, self.up2(out)], dim=1))
            return self.classifier(out)  # type: ignore[no-any-return]

    seeded(seed)
    network = UNet()
    fit(network, dataset, optim.Adam(network.parameters(), lr=1e-3), epochs=3)
    export(network, (1, 28, 28), path)
