"""Spatio-temporal backpropagation (Wu, Deng, Li, Zhu and Shi 2018): a network that is trained as the spiking network it is.

Our own implementation of "Spatio-temporal backpropagation for training high-performance spiking neural networks" (Frontiers in
Neuroscience 12). A neuron leaks and is set to 0 by its spike: in time step ``t``

    u[t] = decay * u[t - 1] * (1 - o[t - 1]) + W x[t] + b,        o[t] = 1 where u[t] >= threshold, else 0,

and the loss is the mean square of the difference between the rates of the ten output neurons and 1 for the right class, 0 for
the others. The error flows back through the layers and through time, the reset included; the derivative of a spike is taken as
``1 / window`` where ``u`` is within half a window of the threshold, and 0 elsewhere. A pixel spikes in each step with the
probability that its grey value is of full scale.

Layers follow one another, each for all time steps: the tensors are ``(steps, frames, height, width, channels)``. Convolutions
and linear layers multiply in bfloat16, which halves the time; weights, potentials and gradients of weights are float32.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from numba import njit
from rich.console import Console

from model.support.dataset import Dataset
from model.training.common import CLASSES, check_dataset, held_out, import_torch
from model.training.paper_trained import Trained
from model.training.settings import as_asked, check_numbers, check_whole

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["StbpSettings", "train_stbp", "train_stbp_with"]

_CHANNELS = (15, 40)
_HIDDEN = 300
_SIDE = 28
_KERNEL = 5


@dataclass(frozen=True)
class StbpSettings:
    """Everything that decides the outcome of a training, beside the data and the versions of the libraries.

    Parameters
    ----------
    seed : int
        Of the initial weights, the order of frames and the spikes of the pixels.
    epochs : int
        Passes over the training frames.
    batch_size : int
        Frames per step of the optimizer.
    steps : int
        Time steps of a frame in training.
    steps_measured : int
        Time steps of a frame where the network is measured.
    learning_rate : float
        Peak of the one-cycle schedule of Adam.
    threshold, decay, window : float
        Of the neurons, as above. A window of 1 ends at a potential of 0, and neurons that were driven below learn nothing more:
        70 % of held-out digits after three epochs of 10,000, where a window of 2 has 97 %.
    weight_length : float
        Of the vector of each neuron's initial weights. At 1 the last layers are silent, and learn nothing.
    """

    seed: int = 1
    epochs: int = 16
    batch_size: int = 100
    steps: int = 5
    steps_measured: int = 8
    learning_rate: float = 5e-3
    threshold: float = 0.5
    decay: float = 0.2
    window: float = 2.0
    weight_length: float = 2.0

    def __post_init__(self) -> None:
        check_whole(self, {"seed": 0, "epochs": 1, "batch_size": 1, "steps": 1, "steps_measured": 1})
        check_numbers(self, positive=["learning_rate", "threshold", "window", "weight_length"], shares=["decay"])


def train_stbp(data: Dataset, seed: int, epochs: int | None, console: Console) -> Trained:
    """Train 15C5-P2-40C5-P2-300-10, average pools, as `model.paper_networks` has it done."""
    return train_stbp_with(as_asked(StbpSettings(), seed, epochs), data, console)


def train_stbp_with(settings: StbpSettings, data: Dataset, console: Console) -> Trained:
    """The same with settings of one's own; the accuracy on held-out frames is measured after each epoch."""
    torch = import_torch()
    check_dataset(data)
    held = held_out(data)
    images, labels = (torch.from_numpy(array) for array in (data.images, data.labels))
    training = torch.from_numpy(np.flatnonzero(~held))
    held_images, held_labels = images[held], labels[held]
    torch.manual_seed(settings.seed)
    network = _initial(settings)
    optimizer = torch.optim.Adam(network.parameters())
    batches = math.ceil(len(training) / settings.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.epochs * batches, cycle_momentum=False
    )
    losses: list[float] = []
    accuracies: list[float] = []
    started = time.process_time()
    for epoch in range(1, settings.epochs + 1):
        total = 0.0
        for batch in training[torch.randperm(len(training))].split(settings.batch_size):
            rates = _rates(network, _pixel_spikes(images[batch], settings.steps), settings)
            wanted = torch.nn.functional.one_hot(labels[batch], CLASSES).float()
            # As the paper: half the square of the vector's length, averaged over the frames.
            loss = (rates - wanted).square().sum(dim=1).mean() / 2
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        losses.append(total / len(training))
        accuracies.append(_accuracy(network, held_images, held_labels, settings))
        console.print(
            f"epoch {epoch}/{settings.epochs}: loss {losses[-1]:.4f}, held out {accuracies[-1]:.2%}, "
            f"{time.process_time() - started:.0f} s"
        )
    record = {
        **asdict(settings),
        "frames_train": len(training),
        "frames_held_out": len(held_labels),
        "losses": [round(loss, 5) for loss in losses],
        "held_out_accuracy_by_epoch": [round(accuracy, 4) for accuracy in accuracies],
        "held_out_accuracy": accuracies[-1],
    }
    return Trained(record=record, arrays=_arrays(network, settings))


def _fire(sums: Tensor, pool: int, settings: StbpSettings) -> Tensor:
    """Spikes of a layer, averaged over windows of ``pool`` x ``pool``; their gradient is the one of the paper.

    ``sums`` is ``(steps, frames, height, width, channels)``, and becomes the potentials.
    """
    torch = import_torch()
    threshold, decay, window = (np.float32(value) for value in (settings.threshold, settings.decay, settings.window))

    class Fire(torch.autograd.Function):  # type: ignore[misc,name-defined]
        @staticmethod
        def forward(context: Any, sums: Tensor) -> Tensor:
            steps, frames, height, width, channels = sums.shape
            fired = torch.empty(steps, frames, height // pool, width // pool, channels)
            potentials = sums.detach()
            _fire_steps(_rows(potentials), fired.numpy(), pool, threshold, decay)
            context.save_for_backward(potentials)
            return fired

        @staticmethod
        def backward(context: Any, gradient: Tensor) -> Tensor:
            (potentials,) = context.saved_tensors
            result = torch.empty_like(potentials)
            _fire_steps_back(
                gradient.contiguous().numpy(), _rows(potentials), _rows(result), pool, threshold, decay, window
            )
            return result

    return Fire.apply(sums)  # type: ignore[no-any-return]


def _rows(values: Tensor) -> npt.NDArray[np.float32]:
    """The same memory as ``(steps, frames, height, width * channels)``."""
    return values.flatten(3).numpy()  # type: ignore[no-any-return]


@njit(nogil=True)
def _fire_steps(sums, fired, pool, threshold, decay):  # type: ignore[no-untyped-def]
    """Makes potentials before reset of sums, in place, and averages of spikes."""
    steps, frames, height, run = sums.shape
    channels = fired.shape[4]
    nothing, one = np.float32(0), np.float32(1)
    share = np.float32(1 / pool**2)
    for frame in range(frames):
        for y in range(height // pool):
            kept = np.zeros((pool, run), np.float32)
            for step in range(steps):
                counts = np.zeros(run, np.float32)
                for down in range(pool):
                    row, before = sums[step, frame, y * pool + down], kept[down]
                    for at in range(run):
                        potential = row[at] + before[at]
                        fires = potential >= threshold
                        row[at] = potential
                        before[at] = nothing if fires else decay * potential
                        counts[at] += one if fires else nothing
                for x in range(fired.shape[3]):
                    for channel in range(channels):
                        total = nothing
                        for right in range(pool):
                            total += counts[(x * pool + right) * channels + channel]
                        fired[step, frame, y, x, channel] = total * share


@njit(nogil=True)
def _fire_steps_back(gradient, potentials, result, pool, threshold, decay, window):  # type: ignore[no-untyped-def]
    """The gradient with respect to the sums, from the one with respect to the averages."""
    steps, frames, height, run = potentials.shape
    channels = gradient.shape[4]
    nothing = np.float32(0)
    share, slope_inside, half = np.float32(1 / pool**2), np.float32(1 / window), np.float32(window / 2)
    for frame in range(frames):
        for y in range(height // pool):
            following = np.zeros((pool, run), np.float32)
            arriving = np.zeros(run, np.float32)
            for back in range(steps):
                step = steps - 1 - back
                for x in range(gradient.shape[3]):
                    for right in range(pool):
                        for channel in range(channels):
                            arriving[(x * pool + right) * channels + channel] = gradient[step, frame, y, x, channel] * share
                for down in range(pool):
                    row, after = potentials[step, frame, y * pool + down], following[down]
                    out = result[step, frame, y * pool + down]
                    for at in range(run):
                        potential = row[at]
                        slope = slope_inside if abs(potential - threshold) < half else nothing
                        leak = nothing if potential >= threshold else decay
                        # The next potential is decay * potential * (1 - spike), and the spike depends on the potential.
                        after[at] = slope * (arriving[at] - decay * potential * after[at]) + leak * after[at]
                        out[at] = after[at]


def _initial(settings: StbpSettings) -> nn.ModuleDict:
    """The layers before training: weights of a neuron uniform, and then all of one length, as in the paper."""
    torch = import_torch()
    nn = torch.nn
    first, second = _CHANNELS
    network = nn.ModuleDict(
        {
            "conv1": nn.Conv2d(1, first, _KERNEL, padding=_KERNEL // 2),
            "conv2": nn.Conv2d(first, second, _KERNEL, padding=_KERNEL // 2),
            "fc1": nn.Linear((_SIDE // 4) ** 2 * second, _HIDDEN),
            "fc2": nn.Linear(_HIDDEN, CLASSES),
        }
    )
    with torch.no_grad():
        for layer in network.values():
            weights = layer.weight
            weights.uniform_(-1, 1)
            lengths = weights.flatten(1).norm(dim=1).view(-1, *[1] * (weights.dim() - 1))
            weights.mul_(settings.weight_length / lengths)
            layer.bias.zero_()
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _pixel_spikes(images: Tensor, steps: int) -> Tensor:
    """Which pixels spike in each step, ``(steps, frames, height, width, channels)``."""
    torch = import_torch()
    # Of 255 values each is as likely, so that full scale always spikes and 0 never does.
    return (torch.randint(255, (steps, *images.shape), dtype=torch.uint8) < images).float()


def _rates(network: nn.ModuleDict, spikes: Tensor, settings: StbpSettings) -> Tensor:
    """Spikes per step of each output neuron, ``(frames, classes)``."""
    torch = import_torch()
    for name, layer in network.items():
        steps, frames = spikes.shape[:2]
        convolution = name.startswith("conv")
        # Channels last in memory, which is how convolutions are fastest; the views of it cost nothing.
        given = spikes.flatten(0, 1).permute(0, 3, 1, 2) if convolution else spikes.reshape(steps * frames, -1)
        with torch.autocast("cpu", torch.bfloat16):
            sums = layer(given)
        sums = sums.permute(0, 2, 3, 1) if convolution else sums[:, None, None]
        spikes = _fire(sums.float().contiguous().unflatten(0, (steps, frames)), 2 if convolution else 1, settings)
    return spikes.flatten(2).mean(dim=0)


def _accuracy(network: nn.ModuleDict, images: Tensor, labels: Tensor, settings: StbpSettings) -> float:
    """On frames with as many steps as in training."""
    torch = import_torch()
    right = 0
    with torch.inference_mode():
        for frames, classes in zip(images.split(200), labels.split(200), strict=True):
            rates = _rates(network, _pixel_spikes(frames, settings.steps), settings)
            right += int((rates.argmax(dim=1) == classes).sum())
    return right / len(labels)


def _arrays(network: nn.ModuleDict, settings: StbpSettings) -> Mapping[str, npt.NDArray[np.number]]:
    """The network as it is saved: half precision, 1.2 MB."""
    found: dict[str, npt.NDArray[np.number]] = {
        "threshold": np.array(settings.threshold),
        "decay": np.array(settings.decay),
        "steps": np.array(settings.steps_measured),
    }
    for name, layer in network.items():
        for what in ("weight", "bias"):
            found[f"{name}.{what}"] = layer.get_parameter(what).detach().contiguous().numpy().astype(np.float16)
    return found
