"""The two networks that the time to first spike is measured on, each trained as usual, and then on with clamped activations.

Rueckauer and Liu 2018 train with activations that are 0 below a bound, so that in the spiking network no neuron fires very late
("clamped ReLU"). A network is trained with ReLUs first; then a large activation of each layer is measured, and the training goes
on for some epochs in which an activation of less than a share of it, ``low``, is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from rich.console import Console

from model.support.dataset import Dataset
from model.support.errors import BadInputError
from model.training.common import INPUT_SHAPE, accuracy, check_dataset, held_out, import_torch, to_tensor
from model.training.paper_trained import Trained
from model.training.plain import CLASSES, train_plain
from model.training.settings import as_asked, check_numbers, check_whole

if TYPE_CHECKING:
    from torch import nn

__all__ = ["CONVOLUTIONAL", "TWO_LAYER", "Architecture", "FirstSpikeSettings", "train_convolutional", "train_two_layers",
           "train_with"]

_CALIBRATED = 2000
"""Training frames that large activations are taken from."""


@dataclass(frozen=True)
class FirstSpikeSettings:
    """Everything that decides the outcome of a training, beside the data and the versions of the libraries.

    Parameters
    ----------
    seed : int
        Of the initial weights, the order of frames, distortion and dropout.
    epochs, clamped_epochs : int
        Passes over the training frames, with ReLUs and with clamped ones.
    batch_size : int
        Frames per step.
    learning_rate, clamped_learning_rate : float
        Peaks of the one-cycle schedule of AdamW.
    weight_decay : float
        Of AdamW.
    dropout : float
        Share of hidden values of the linear layers dropped.
    low : float
        Below this share of a layer's large activation, a clamped one is 0.
    percentile : float
        Of the positive activations of a layer, which is a large one.
    """

    seed: int = 1
    epochs: int = 20
    clamped_epochs: int = 8
    batch_size: int = 256
    learning_rate: float = 4e-3
    clamped_learning_rate: float = 1e-3
    weight_decay: float = 0.02
    dropout: float = 0.3
    low: float = 0.1
    percentile: float = 99.9

    def __post_init__(self) -> None:
        check_whole(self, {"seed": 0, "epochs": 1, "clamped_epochs": 1, "batch_size": 1})
        rates = ("learning_rate", "clamped_learning_rate")
        check_numbers(self, positive=rates, not_negative=["weight_decay"], shares=["dropout", "low"])
        if not 0 < self.percentile <= 100:
            raise BadInputError(f"percentile must be more than 0 and at most 100, not {self.percentile!r}")


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A network to train.

    Parameters
    ----------
    build : Callable[[float], nn.Sequential]
        Makes it, given its dropout.
    places : dict[str, int]
        Where its layers with weights are, by name; the last one is the output.
    paddings, pools : tuple[int, ...]
        Of each of them, its padding, and the size of the max-pool behind it, 1 without.
    """

    build: Callable[[float], nn.Sequential]
    places: dict[str, int]
    paddings: tuple[int, ...]
    pools: tuple[int, ...]


def _convolutional(dropout: float) -> nn.Sequential:
    nn = import_torch().nn
    return nn.Sequential(  # type: ignore[no-any-return]
        *(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 32, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 48, 5, padding=2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(48 * 4 * 4, 640), nn.ReLU(), nn.Dropout(dropout)),
        nn.Linear(640, CLASSES),
    )


def _two_layers(dropout: float) -> nn.Sequential:
    nn = import_torch().nn
    return nn.Sequential(  # type: ignore[no-any-return]
        *(nn.Flatten(), nn.Linear(784, 600), nn.ReLU(), nn.Dropout(dropout)),
        nn.Linear(600, CLASSES),
    )


CONVOLUTIONAL = Architecture(
    build=_convolutional,
    places={"conv1": 0, "conv2": 3, "conv3": 6, "fc1": 9, "fc2": 12},
    paddings=(0, 0, 2, 0, 0),
    pools=(2, 2, 1, 1, 1),
)
TWO_LAYER = Architecture(build=_two_layers, places={"fc1": 1, "fc2": 4}, paddings=(0, 0), pools=(1, 1))


def train_convolutional(data: Dataset, seed: int, epochs: int | None, console: Console) -> Trained:
    """Train 6C5-2MP2-32C5-2MP2-48C5-640FC-10FC, in which only the third convolution keeps its input's size."""
    return train_with(_settings(seed, epochs), CONVOLUTIONAL, data, console)


def train_two_layers(data: Dataset, seed: int, epochs: int | None, console: Console) -> Trained:
    """Train 784-600FC-10FC."""
    return train_with(_settings(seed, epochs), TWO_LAYER, data, console)


def _settings(seed: int, epochs: int | None) -> FirstSpikeSettings:
    settings = as_asked(FirstSpikeSettings(), seed, epochs)
    return settings if epochs is None else replace(settings, clamped_epochs=epochs)


def train_with(settings: FirstSpikeSettings, architecture: Architecture, data: Dataset, console: Console) -> Trained:
    """Train a network and then the clamped one.

    Parameters
    ----------
    settings : FirstSpikeSettings
        How.
    architecture : Architecture
        What.
    data, console : Dataset, Console
        As of `Train`.

    Returns
    -------
    Trained
        Arrays ``plain.LAYER.weight`` and ``clamped.LAYER.weight``, the same of biases, float16 in PyTorch's order; of each layer
        ``scales``, its large activation in the plain network, ``paddings``, and ``pools``, the size of the max-pool behind it, 1
        without; ``low``, and ``input_shape``, (height, width, channels).
    """
    check_dataset(data)
    held = held_out(data)
    training, kept = (replace(data, images=data.images[which], labels=data.labels[which]) for which in (~held, held))
    progress = not console.quiet
    plain = train_plain(lambda: architecture.build(settings.dropout), settings, training, progress=progress)
    _round(plain)
    scales = _large_activations(plain, tuple(architecture.places.values()), training.images[:_CALIBRATED], settings.percentile)
    again = replace(settings, epochs=settings.clamped_epochs, learning_rate=settings.clamped_learning_rate)
    # The schedule's own seed: the clamped network sees the frames in another order.
    again = replace(again, seed=settings.seed + 1)
    clamped = train_plain(
        lambda: _clamped(plain, [settings.low * scale for scale in scales]), again, training, progress=progress
    )
    _round(clamped)
    arrays: dict[str, npt.NDArray[np.number]] = {
        "input_shape": np.array(INPUT_SHAPE),
        "scales": np.array(scales),
        "low": np.array(settings.low),
        "paddings": np.array(architecture.paddings),
        "pools": np.array(architecture.pools),
    }
    for kind, network in (("plain", plain), ("clamped", clamped)):
        for name, at in architecture.places.items():
            for what in ("weight", "bias"):
                values = network[at].get_parameter(what).detach().numpy()
                arrays[f"{kind}.{name}.{what}"] = values.astype(np.float16)
    record = {
        **asdict(settings),
        "frames_train": len(training),
        "frames_held_out": len(kept),
        "scales": [round(scale, 4) for scale in scales],
        "held_out_accuracy_plain": accuracy(plain, kept.images, kept.labels),
        "held_out_accuracy_clamped": accuracy(clamped, kept.images, kept.labels),
    }
    return Trained(record=record, arrays=arrays)


def _round(network: nn.Sequential) -> None:
    """Make parameters what float16 can hold, as they are kept."""
    torch = import_torch()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.half().float())


def _large_activations(network: nn.Sequential, places: Sequence[int], images: np.ndarray, percentile: float) -> list[float]:
    """Of each layer the percentile of its positive activations."""
    torch = import_torch()
    values, found = to_tensor(images), []
    with torch.inference_mode():
        for at, layer in enumerate(network):
            values = layer(values)
            if at in places:
                positive = values[values > 0].numpy()
                found.append(float(np.percentile(positive, percentile)) if len(positive) else 1.0)
    return found


def _clamped(network: nn.Sequential, lows: list[float]) -> nn.Sequential:
    """A copy with activations that are 0 up to a bound of each layer, and not only up to 0; the last bound is not used."""
    nn = import_torch().nn
    bounds = iter(lows)
    return nn.Sequential(  # type: ignore[no-any-return]
        *(nn.Threshold(next(bounds), 0.0) if isinstance(layer, nn.ReLU) else deepcopy(layer) for layer in network)
    )
