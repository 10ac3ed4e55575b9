"""Networks trained in the times of their spikes, by gradient descent through exact spike times (Mostafa 2018).

"Supervised learning based on temporal coding in spiking neural networks" (IEEE TNNLS), our own implementation. A neuron
integrates its synaptic currents, which decay exponentially, and fires once, where its potential reaches 1:

    V(t) = sum of w_i * (1 - exp(-(t - t_i))) over all inputs i that have fired by t,

in units of the synaptic time constant. With ``z = exp(t)`` the time at which it fires is

    z = (sum of w_i * z_i) / (sum of w_i - 1) over the causal set, the inputs that have fired by then,

so that training sees a function that is linear in ``z_i`` for a given causal set. Bright pixels fire at time 0, the others
later, all at the same time. There are thus only two input times, and sums over two groups of pixels say all about a hidden
neuron; only the output layer needs its inputs sorted.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit
from rich.console import Console

from model.support.dataset import Dataset
from model.training.common import CLASSES, INPUT_SHAPE, check_dataset, held_out, import_torch
from model.training.paper_trained import Trained
from model.training.settings import as_asked, check_numbers, check_whole

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FAST", "LARGE", "TemporalSettings", "train_fast", "train_large"]

NEVER = 1e6
"""``z`` of a neuron that does not fire: so late that a softmax over ``-z`` leaves nothing of it, and no infinity in a sum."""

_BRIGHT_PIXELS = 100
"""Of a frame of MNIST, about."""


@dataclass(frozen=True)
class TemporalSettings:
    """Everything that decides the outcome of a training, beside the data and the versions of the libraries.

    Parameters
    ----------
    seed : int
        Of the initial weights, the order of frames and noise.
    epochs : int
        Passes over the training frames.
    hidden : int
        Neurons of the hidden layer.
    batch_size : int
        Frames per step.
    learning_rate : float
        Of Adam; it falls exponentially, to a hundredth in the last step.
    bright : int
        A pixel is bright that is more than this, of 255.
    late : float
        Time at which pixels fire that are not bright.
    sharpness : float
        What ``-z`` is multiplied by in the softmax of the cost: the more, the less the outputs' times need to differ.
    delayed : float
        Share of bright pixels that count as dark, drawn anew each time a frame is trained on.
    constraint : float
        Of the cost of neurons whose weights sum up to less than 1, per missing 1.
    activity : float
        Of the cost of hidden neurons that fire before the answer, per neuron and ``1 / z`` by which it is too early.
    weight_cost : float
        Of the squares of all weights.
    initial_hidden, initial_output : float
        What the initial weights of a neuron sum up to on average, over the bright pixels of a frame, and over all hidden neurons:
        with less than 1 not all neurons fire; the more, the sooner they do.
    row_norm : float
        Largest norm of a neuron's gradient; a longer one is shortened.
    """

    seed: int = 1
    epochs: int = 12
    hidden: int = 800
    batch_size: int = 128
    learning_rate: float = 5e-3
    bright: int = 127
    late: float = math.log(6)
    sharpness: float = 1.0
    delayed: float = 0.1
    constraint: float = 100.0
    activity: float = 0.0
    weight_cost: float = 1e-5
    initial_hidden: float = 0.5
    initial_output: float = 8.0
    row_norm: float = 1.0

    def __post_init__(self) -> None:
        check_whole(self, {"seed": 0, "epochs": 1, "hidden": 1, "batch_size": 1, "bright": 0})
        positive = ("learning_rate", "late", "sharpness", "initial_hidden", "initial_output", "row_norm")
        check_numbers(self, positive=positive, not_negative=["constraint", "activity", "weight_cost"], shares=["delayed"])


LARGE = TemporalSettings()
"""784-800-10, as published by Mostafa 2018."""

FAST = TemporalSettings(hidden=600, sharpness=5.0, activity=0.003, initial_hidden=0.2, initial_output=100.0)
"""784-600-10, as published by Mostafa, Pedroni, Sheik and Cauwenberghs 2017."""


def train_large(data: Dataset, seed: int, epochs: int | None, console: Console) -> Trained:
    """Train 784-800-10."""
    return train_with(as_asked(LARGE, seed, epochs), data, console)


def train_fast(data: Dataset, seed: int, epochs: int | None, console: Console) -> Trained:
    """Train 784-600-10."""
    return train_with(as_asked(FAST, seed, epochs), data, console)


def train_with(settings: TemporalSettings, data: Dataset, console: Console) -> Trained:
    """Train; a twelfth of the frames is held out."""
    torch = import_torch()
    check_dataset(data)
    held = held_out(data)
    bright = torch.from_numpy((data.images.reshape(len(data), -1) > settings.bright).astype(np.float32))
    labels = torch.from_numpy(data.labels)
    frames, classes = bright[~held], labels[~held]
    random = torch.Generator().manual_seed(settings.seed)
    weights = initial_weights(settings, random)
    optimizer = torch.optim.Adam(weights, lr=settings.learning_rate)
    steps = settings.epochs * math.ceil(len(frames) / settings.batch_size)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.01 ** (1 / steps))
    started = time.monotonic()
    accuracies = []
    for epoch in range(1, settings.epochs + 1):
        for batch in torch.randperm(len(frames), generator=random).split(settings.batch_size):
            shown = frames[batch]
            if settings.delayed:
                shown = shown * (torch.rand(shown.shape, generator=random) >= settings.delayed)
            optimizer.zero_grad(set_to_none=True)
            cost(weights, shown, classes[batch], settings).backward()
            shorten_rows(weights, settings.row_norm)
            optimizer.step()
            schedule.step()
        accuracies.append(_accuracy(weights, bright[held], labels[held], settings.late))
        console.print(f"epoch {epoch}/{settings.epochs}: held out {accuracies[-1]:.2%}, {time.monotonic() - started:.0f} s")
    arrays = {name: each.detach().numpy().astype(np.float16) for name, each in zip(("hidden", "output"), weights, strict=True)}
    stored = [torch.from_numpy(each.astype(np.float32)) for each in arrays.values()]
    record = {
        **asdict(settings),
        "frames_train": len(frames),
        "frames_held_out": int(held.sum()),
        "held_out_accuracies": [round(each, 4) for each in accuracies],
        "held_out_accuracy": _accuracy(stored, bright[held], labels[held], settings.late),
    }
    return Trained(record=record, arrays={**arrays, "late": np.array(settings.late), "bright": np.array(settings.bright)})


def initial_weights(settings: TemporalSettings, random: Any) -> list[Tensor]:
    """Of the hidden layer, ``(hidden, 784)``, and of the output, ``(10, hidden)``."""
    torch = import_torch()
    pixels = math.prod(INPUT_SHAPE)
    found = []
    for neurons, inputs, firing, total in (
        (settings.hidden, pixels, _BRIGHT_PIXELS, settings.initial_hidden),
        (CLASSES, settings.hidden, settings.hidden, settings.initial_output),
    ):
        spread = 1 / math.sqrt(firing)
        found.append((total / firing + spread * torch.randn(neurons, inputs, generator=random)).requires_grad_())
    return found


def spike_times(weights: list[Tensor], bright: Tensor, late: float) -> tuple[Tensor, Tensor]:
    """``z`` of hidden and output neurons, ``(frames, neurons)``, `NEVER` where one does not fire.

    Parameters
    ----------
    weights : list of torch.Tensor
        Of both layers.
    bright : torch.Tensor
        Which pixels are, 0 or 1, ``(frames, pixels)``.
    late : float
        When the others fire.
    """
    two_times, any_times = _functions()
    early = bright @ weights[0].T
    hidden = two_times.apply(early, weights[0].sum(dim=1) - early, math.exp(late))
    return hidden, any_times.apply(hidden, weights[1])


def cost(weights: list[Tensor], bright: Tensor, classes: Tensor, settings: TemporalSettings) -> Tensor:
    """What training makes small: the first output spike is to be the class's, neurons are to be able to fire, weights small."""
    torch = import_torch()
    hidden, output = spike_times(weights, bright, settings.late)
    total = torch.nn.functional.cross_entropy(-settings.sharpness * output, classes)
    if settings.activity:
        answer = output.detach().amin(dim=1, keepdim=True)
        total = total + settings.activity * torch.relu(1 / hidden - 1 / answer).sum(dim=1).mean()
    missing = sum(torch.relu(1 - each.sum(dim=1)).sum() for each in weights)
    squares = sum(each.square().sum() for each in weights)
    return total + settings.constraint * missing + settings.weight_cost * squares  # type: ignore[no-any-return]


def shorten_rows(weights: list[Tensor], longest: float) -> None:
    """Gradients blow up where a causal set's weights sum up to hardly more than 1: limit the norm of each neuron's."""
    for each in weights:
        assert each.grad is not None
        norms = each.grad.norm(dim=1, keepdim=True)
        each.grad.mul_(longest / norms.clamp(min=longest))


def _accuracy(weights: list[Tensor], bright: Tensor, labels: Tensor, late: float) -> float:
    torch = import_torch()
    right = 0
    with torch.inference_mode():
        for frames, classes in zip(bright.split(500), labels.split(500), strict=True):
            right += int((spike_times(weights, frames, late)[1].argmin(dim=1) == classes).sum())
    return right / len(labels)


@cache
def _functions() -> tuple[Any, Any]:
    """The two layers, with their gradients; a function, as PyTorch is only there where there is training."""
    torch = import_torch()

    class TwoTimes(torch.autograd.Function):  # type: ignore[misc, name-defined]
        """``z`` of neurons of which an input group of weight ``early`` fires at ``z = 1``, and one of ``other`` at ``late``."""

        @staticmethod
        def forward(ctx: Any, early: Tensor, other: Tensor, late: float) -> Tensor:
            both = early + other
            # The potential when the other group fires.
            soon = early * (1 - 1 / late) >= 1
            later = ~soon & (both > 1)
            over = torch.where(soon, early, both) - 1
            z = torch.where(soon, early, early + late * other) / over
            fires = (soon | later) & (z < NEVER)
            ctx.save_for_backward(torch.where(fires, z, NEVER), over, fires, later)
            ctx.late = late
            return torch.where(fires, z, NEVER)

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
            z, over, fires, later = ctx.saved_tensors
            scaled = torch.where(fires, gradient / over, 0)
            return scaled * (1 - z), scaled * later * (ctx.late - z), None

    class AnyTimes(torch.autograd.Function):  # type: ignore[misc, name-defined]
        """``z`` of neurons whose inputs fire at any times."""

        @staticmethod
        def forward(ctx: Any, times: Tensor, weights: Tensor) -> Tensor:
            order = np.argsort(times.numpy(), axis=1)
            by_input = np.ascontiguousarray(weights.detach().numpy().T)
            z, over, causal = _crossings(times.numpy(), order, by_input)
            ctx.kept = order, by_input, z, over, causal
            ctx.save_for_backward(times)
            return torch.from_numpy(z)

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
            order, by_input, z, over, causal = ctx.kept
            scaled = gradient.numpy() / over
            of_times, of_weights = _gradients(ctx.saved_tensors[0].numpy(), order, by_input, z, causal, scaled)
            return torch.from_numpy(of_times), torch.from_numpy(of_weights.T)

    return TwoTimes, AnyTimes


@njit(nogil=True)
def _crossings(times, order, weights):  # type: ignore[no-untyped-def]
    """``z`` at which neurons fire, what the weights of their causal sets sum up to beyond 1, and how many inputs are in these.

    Parameters
    ----------
    times, order
        ``z`` of the inputs, ``(frames, inputs)``, and their places from the earliest to the latest.
    weights
        ``(inputs, neurons)``.
    """
    frames, inputs = times.shape
    neurons = weights.shape[1]
    z = np.full((frames, neurons), NEVER, times.dtype)
    over = np.full((frames, neurons), np.inf, times.dtype)
    causal = np.zeros((frames, neurons), np.int64)
    total, weighted = np.empty(neurons), np.empty(neurons)
    for frame in range(frames):
        total[:] = -1.0
        weighted[:] = 0.0
        left = neurons
        for place in range(inputs):
            at = order[frame, place]
            time = times[frame, at]
            if time >= NEVER or left == 0:
                break
            following = times[frame, order[frame, place + 1]] if place + 1 < inputs else NEVER
            for neuron in range(neurons):
                total[neuron] += weights[at, neuron]
                weighted[neuron] += weights[at, neuron] * time
            for neuron in range(neurons):
                # The potential is 1 or more when the next input comes.
                if causal[frame, neuron] == 0 and total[neuron] > 0 and total[neuron] * following >= weighted[neuron]:
                    z[frame, neuron] = weighted[neuron] / total[neuron]
                    over[frame, neuron] = total[neuron]
                    causal[frame, neuron] = place + 1
                    left -= 1
    return z, over, causal


@njit(nogil=True)
def _gradients(times, order, weights, z, causal, scaled):  # type: ignore[no-untyped-def]
    """Of the inputs' times and of the weights; ``scaled`` is that of ``z``, over what the causal set has beyond 1."""
    frames, neurons = z.shape
    of_times, of_weights = np.zeros_like(times), np.zeros_like(weights)
    for frame in range(frames):
        for place in range(causal[frame].max()):
            at = order[frame, place]
            time = times[frame, at]
            for neuron in range(neurons):
                if place < causal[frame, neuron]:
                    of_times[frame, at] += scaled[frame, neuron] * weights[at, neuron]
                    of_weights[at, neuron] += scaled[frame, neuron] * (time - z[frame, neuron])
    return of_times, of_weights
