"""PyTorch's first MNIST example: two convolutions, max-pools before the ReLU, dropout, log-softmax, normalized pixels."""

from pathlib import Path

from model.benchmark.entries import MEAN, STD
from model.benchmark.networks.torch_training import export, fit, seeded
from model.support.dataset import Dataset

__all__ = ["train"]


def train(dataset: Dataset, path: Path, seed: int) -> None:
    """Train on ``dataset`` and write the ONNX file ``path``."""
    from torch import nn, optim

    seeded(seed)
    network = nn.Sequential(
        nn.Conv2d(1, 10, 5), nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(10, 20, 5), nn.Dropout2d(), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(),
        nn.Linear(320, 50), nn.ReLU(), nn.Dropout(),
        nn.Linear(50, 10), nn.LogSoftmax(dim=1),
    )
    fit(network, dataset, optim.SGD(network.parameters(), lr=0.01, momentum=0.5), epochs=10, mean=MEAN, std=STD)
    export(network, (1, 28, 28), path)
