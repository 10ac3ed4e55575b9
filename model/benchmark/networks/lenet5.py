"""LeNet-5 with rectified linear units: convolutions of 6 and 16 channels, average pools, linear layers of 120, 84 and 10."""

from pathlib import Path

from model.benchmark.networks.torch_training import export, fit, seeded
from model.support.dataset import Dataset

__all__ = ["train"]


def train(dataset: Dataset, path: Path, seed: int) -> None:
    """Train on ``dataset`` and write the ONNX file ``path``."""
    from torch import nn, optim

    seeded(seed)
    network = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(),
        nn.Linear(120, 84), nn.ReLU(),
        nn.Linear(84, 10),
    )
    fit(network, dataset, optim.Adam(network.parameters(), lr=1e-3), epochs=6)
    export(network, (1, 28, 28), path)
