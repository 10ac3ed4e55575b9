"""Fine-tune the network of the paper for few events: the spiking network's own counts and events in the loss.

The forward pass is the quantized network at a few moments of the frame, the input so far brightest first. From moment
to moment each count moves towards its activation by whole thresholds, rounded towards zero: the sigma-delta neuron of
`model.neuron`, its input handed over in a few portions instead of an event at a time. How far the counts moved is how
often the neurons fired, and is in the loss, each spike at its price. Gradients pass the rounding as if it were not
there (a straight-through estimator, Bengio et al. 2013); the float network that is the start also teaches (distillation,
Hinton et al. 2015).

Weights are kept in units of the thresholds, which are learned as one number per layer. So the network that comes out is
for the threshold 1.0 everywhere: the paper's mode of conversion, weights as they are.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from model.conversion.convert import convert
from model.conversion.quantize import Settings
from model.engine.engine import run_frames
from model.importers.onnx import import_onnx
from model.network import Network, Neurons
from model.support.datasets import Dataset
from model.training.common import (
    INPUT_THRESHOLD,
    accuracy,
    augment,
    binarise,
    check_dataset,
    held_out,
    import_torch,
    to_tensor,
    track,
)
from model.training.paper_network import LAYERS, export_onnx
from model.training.sparse_settings import SparseSettings

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["SparseSettings", "fine_tune", "make", "measure"]

_LEVELS = {"conv1": 2.0, "conv2": 3.0, "fc1": 3.0, "fc2": 10.0}
"""Thresholds that a large activation holds at the start."""

_CALIBRATED = 3000
"""Training frames that the widths are chosen on."""

_LAST_RATE = 0.7
"""Learning rate of the last epochs, as a share of that of the others."""

_LARGE = 0.99
_NEURONS = 28 * 28 * 16 + 14 * 14 * 8 + 256 + 10
_ACCUMULATIONS = 250_000
"""What the price of an accumulation is measured by."""


class _Quantized:
    """The network with counts: weights in units of thresholds, and one threshold per layer to be learned."""

    def __init__(self, network: nn.Sequential, weight_bits: int) -> None:
        torch = import_torch()
        self.layers: dict[str, Any] = {name: network[at] for at, name in LAYERS.items()}
        self.log_theta = {name: torch.zeros((), requires_grad=True) for name in self.layers}
        self.most = (1 << weight_bits - 1) - 1
        self.bits = weight_bits

    def parameters(self) -> list[Tensor]:
        return [p for layer in self.layers.values() for p in layer.parameters()] + list(self.log_theta.values())

    def scaled(self, name: str, before: str | None) -> tuple[Tensor, Tensor]:
        """Weights and biases in units of the layer's threshold, not yet rounded."""
        torch = import_torch()
        layer, theta = self.layers[name], torch.exp(self.log_theta[name])
        weights = layer.weight * ((torch.exp(self.log_theta[before]) if before else 1.0) / theta)
        return weights, layer.bias / theta

    def rounded(self, name: str, before: str | None) -> tuple[Tensor, Tensor]:
        """As `scaled`, rounded as `model.conversion.quantize` rounds."""
        torch = import_torch()
        weights, bias = self.scaled(name, before)
        step = 2.0 ** -max(0.0, math.floor(math.log2(self.most / max(float(weights.detach().abs().max()), 1e-12))))
        return tuple(v + (torch.round(v / step) * step - v).detach() for v in (weights, bias))  # type: ignore[return-value]

    def __call__(self, moments: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run frames at several moments.

        Parameters
        ----------
        moments : torch.Tensor
            1-bit, ``(moments, frames, 1, 28, 28)``.

        Returns
        -------
        The outputs in the float network's units, ``(frames, 10)``; spikes and accumulations, both means a frame.
        """
        torch = import_torch()
        functional = torch.nn.functional
        times, frames = moments.shape[:2]
        spikes = accumulations = torch.zeros(())
        values, before = moments.flatten(0, 1), None
        for name, layer in self.layers.items():
            weights, bias = self.rounded(name, before)
            if weights.ndim == 4:
                potential = functional.conv2d(values, weights, bias, padding=layer.padding)
            else:
                potential = functional.linear(values.flatten(1), weights, bias)
            counts = _follow(potential.unflatten(0, (times, frames)), relu=name != "fc2")
            spikes = spikes + _moves(counts) / frames
            if name == "fc2":
                break
            if weights.ndim == 4:
                pooled = _pool(counts.flatten(0, 1), functional.relu(potential.detach()))
                counts = pooled.unflatten(0, (times, frames))
            fan_out = {"conv1": 25 * 8, "conv2": 256, "fc1": 10}[name]
            accumulations = accumulations + fan_out * _moves(counts) / frames
            values, before = counts.flatten(0, 1), name
        return counts[-1] * torch.exp(self.log_theta["fc2"]), spikes, accumulations


def _follow(potential: Tensor, *, relu: bool) -> Tensor:
    """Counts ``(moments, frames, ...)`` that follow activations by whole thresholds, from moment to moment."""
    torch = import_torch()
    activation = torch.relu(potential) if relu else potential
    with torch.no_grad():
        count, values = torch.zeros_like(activation[0]), []
        for now in activation:
            count = count + torch.trunc(now - count)
            values.append(count)
    return activation + (torch.stack(values) - activation).detach()


def _moves(counts: Tensor) -> Tensor:
    """How far counts moved in all."""
    torch = import_torch()
    return torch.diff(counts, dim=0, prepend=torch.zeros_like(counts[:1])).abs().sum()


def _pool(counts: Tensor, activation: Tensor) -> Tensor:
    """Maxima of counts; of equal ones, the gradient goes to the one with the greatest activation."""
    torch = import_torch()
    pooled = torch.nn.functional.max_pool2d(counts + activation.clamp(max=500.0) / 1000, 2)
    return pooled + (pooled.floor() - pooled).detach()


def _moments(grey: Tensor, times: int) -> Tensor:
    """The 1-bit input so far, brightest first, at ``times`` moments: random shares of the events, then all of them."""
    torch = import_torch()
    pixels = torch.round(grey * 255).flatten(1)
    order = torch.argsort(pixels, dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1]).expand_as(order).contiguous())
    fires = pixels > INPUT_THRESHOLD
    share = torch.cat([torch.rand(times - 1).sort().values, torch.ones(1)]).reshape(-1, 1, 1)
    there = fires & (rank < torch.ceil(fires.sum(dim=1, keepdim=True) * share))
    return there.float().reshape(times, *grey.shape)


def fine_tune(
    settings: SparseSettings,
    start: nn.Sequential,
    dataset: Dataset,
    *,
    teacher: nn.Sequential | None = None,
    progress: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> nn.Sequential:
    """Fine-tune ``start``, which is left as it is; every twelfth frame is held out and not looked at.

    Parameters
    ----------
    settings : SparseSettings
        How.
    start : torch.nn.Sequential
        A network made by `model.train.build_network`, trained.
    dataset : Dataset
        Training frames of 28 x 28 x 1 in ten classes.
    teacher : torch.nn.Sequential
        The float network whose answers on grey frames are part of the loss; the start where None.
    progress : bool
        Show progress on standard error.
    report : callable
        Takes a line at the end of each epoch.

    Returns
    -------
    torch.nn.Sequential
        The network for the threshold 1.0 in every layer, in evaluation mode.
    """
    torch = import_torch()
    functional = torch.nn.functional
    check_dataset(dataset)
    kept = ~held_out(dataset)
    images, labels = dataset.images[kept], torch.from_numpy(dataset.labels[kept])
    torch.manual_seed(settings.seed)
    teacher = copy.deepcopy(teacher or start).eval()
    network = copy.deepcopy(start).train()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    quantized = _Quantized(network, settings.weight_bits)
    if not settings.keep_thresholds:
        _choose_thresholds(quantized, copy.deepcopy(start).eval(), images[:1000])
    parameters = quantized.parameters()
    averages = [p.detach().clone() for p in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=0.0)
    steps = math.ceil(len(images) / settings.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.epochs * steps, pct_start=0.15
    )
    started = time.monotonic()
    for epoch in range(1, settings.epochs + 1):
        sums = np.zeros(3)
        for batch in track(torch.randperm(len(images)).split(settings.batch_size), f"epoch {epoch}/{settings.epochs}", progress):
            grey = augment(to_tensor(images[batch.numpy()]))
            with torch.no_grad():
                taught = teacher(grey)
            scores, spikes, accumulations = quantized(_moments(grey, settings.moments))
            wrong = functional.cross_entropy(scores, labels[batch])
            distance = functional.kl_div(
                functional.log_softmax(scores / 2, dim=1), functional.softmax(taught / 2, dim=1), reduction="batchmean"
            )
            price = spikes / _NEURONS + accumulations / (10 * _ACCUMULATIONS)
            loss = (1 - settings.teacher_share) * wrong + settings.teacher_share * 4 * distance + settings.event_price * price
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            step = schedule.last_epoch
            decay = min(settings.average_decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(averages, [p.detach() for p in parameters], 1 - decay)
            sums += np.array([loss.item(), spikes.item() / _NEURONS, accumulations.item()]) * len(batch)
        loss_mean, spikes_mean, work = sums / len(images)
        report(
            f"epoch {epoch}/{settings.epochs}: loss {loss_mean:.4f}, about {spikes_mean:.3f} spikes per neuron, "
            f"{work:,.0f} accumulations after the input, {time.monotonic() - started:.0f} s"
        )
    return _at_threshold_one(network, quantized, parameters, averages)


def _choose_thresholds(quantized: _Quantized, network: nn.Sequential, images: np.ndarray) -> None:
    """Thresholds of which a large activation holds `_LEVELS`."""
    torch = import_torch()
    values = (to_tensor(images) > INPUT_THRESHOLD / 255).float()
    with torch.inference_mode():
        for at, layer in enumerate(network):
            values = layer(values)
            if at in LAYERS:
                name = LAYERS[at]
                active = values.abs().flatten() if name == "fc2" else values[values > 1e-6]
                large = float(np.quantile(active.numpy(), _LARGE))
                quantized.log_theta[name].data.fill_(math.log(large / _LEVELS[name]))


def _at_threshold_one(
    network: nn.Sequential, quantized: _Quantized, parameters: Sequence[Tensor], averages: Sequence[Tensor]
) -> nn.Sequential:
    torch = import_torch()
    with torch.no_grad():
        for parameter, average in zip(parameters, averages, strict=True):
            parameter.copy_(average)
        found: dict[str, Any] = {}
        for before, name in zip([None, *quantized.layers], quantized.layers, strict=False):
            found[name] = quantized.scaled(name, before)
        for name, (weights, bias) in found.items():
            quantized.layers[name].weight.copy_(weights)
            quantized.layers[name].bias.copy_(bias)
    return network.to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload,no-any-return]


def _average(one: nn.Sequential, other: nn.Sequential) -> nn.Sequential:
    """The network half way between two, both for the threshold 1.0."""
    torch = import_torch()
    network = copy.deepcopy(other)
    with torch.no_grad():
        for average, first in zip(network.parameters(), one.parameters(), strict=True):
            average.copy_((average.double() + first.double()) / 2)
    return network


def last(settings: SparseSettings) -> SparseSettings:
    """The settings of the last epochs: more moments, smaller steps, thresholds as they are."""
    return replace(
        settings,
        epochs=settings.last_epochs,
        moments=settings.last_moments,
        learning_rate=_LAST_RATE * settings.learning_rate,
        keep_thresholds=True,
    )


def make(
    settings: SparseSettings, start: nn.Sequential, teacher: nn.Sequential, dataset: Dataset, test: Dataset, target: Path
) -> dict[str, Any]:
    """Fine-tune, write the ONNX file ``target`` and the integer network beside it, and measure both on held-out data.

    Returns
    -------
    What the training's report says of the outcome; the test frames are run once.
    """
    started = time.monotonic()
    lines: list[str] = []

    def report(line: str) -> None:
        lines.append(line)
        click.echo(line, err=True)

    network = fine_tune(settings, start, dataset, teacher=teacher, progress=True, report=report)
    if settings.last_epochs:
        network = fine_tune(last(settings), network, dataset, teacher=teacher, progress=True, report=report)
    if settings.average_start:
        network = _average(start, network)
    export_onnx(network, target, target.stem)
    kept = ~held_out(dataset)
    calibration = replace(dataset, images=dataset.images[kept][:_CALIBRATED], labels=dataset.labels[kept][:_CALIBRATED])
    conversion = convert(
        import_onnx(target),
        calibration,
        Settings(weight_bits=settings.weight_bits, threshold=1.0),
        name=target.stem,
        origin=f"{target.name}, all thresholds 1 on {_CALIBRATED} frames of {dataset.name}",
    )
    conversion.network.save(target.with_suffix(".npz"))
    validation = measure(conversion.network, dataset.images[~kept], dataset.labels[~kept])
    return {
        "frames_train": int(kept.sum()),
        "frames_validation": int((~kept).sum()),
        "frames_test": len(test),
        "train_seconds": round(time.monotonic() - started, 1),
        "epoch_lines": lines,
        **{f"validation_{name}": value for name, value in validation.items()},
        **measure(conversion.network, test.images, test.labels),
        "float_accuracy_1bit": accuracy(network, binarise(test.images), test.labels),
        "onnx_sha256": hashlib.sha256(target.read_bytes()).hexdigest(),
        "network_hash": conversion.network.content_hash,
    }


def measure(network: Network, images: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Accuracy by count and by potential, spikes per neuron, and accumulations and saturated events per frame."""
    found = run_frames(network, images)
    neurons = [index for index, layer in enumerate(network.layers) if isinstance(layer, Neurons)]
    return {
        "accuracy_snn": float((found.counts.argmax(axis=1) == labels).mean()),
        "accuracy_snn_potential": float((found.potentials.argmax(axis=1) == labels).mean()),
        "spikes_per_neuron": round(float(found.spikes[:, neurons].sum(axis=1).mean()) / network.neurons, 4),
        "accumulations_per_frame": round(float(found.operations.sum(axis=1).mean())),
        "saturated_events": int(found.saturated_events.sum()),
    }
