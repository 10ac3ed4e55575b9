"""The loop of a fine-tuning: steps, epochs, and the file from which one that was stopped goes on."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from model.conversion.choice import accuracy_of
from model.conversion.coding import InputCoding
from model.engine.engine import run_frames
from model.importers.float_network import FloatNetwork
from model.network import Network, Neurons
from model.support.datasets import Dataset
from model.support.errors import BadInputError
from model.support.files import read_sealed, write_sealed
from model.training.common import augment, track
from model.training.distillation import by_class, distance, taught
from model.training.event_price import followed
from model.training.finetune_settings import NEAR, EpochLine, FinetuneSettings
from model.training.firing import Deferred, Firing, Immediate
from model.training.photographs import cut_out, shifted_and_mirrored
from model.training.quantized_layers import Folded, Outcome, QuantizedLayers

__all__ = ["Tuning"]

_AT_ONCE = 500
"""Held-out frames at once."""

_WARM_UP = 0.15
"""Part of the steps in which the learning rate rises."""

_LEAST_RATE = 1e-3
"""Part of the learning rate that is left at the end, and there is at first."""

_AVERAGED = 4
"""How often the span of the averaged weights fits into all steps. Those of the last epochs are better together than each."""

_FALLING = 0.5
"""Part of the epochs in which accumulations fall to the budget."""

_WEIGHED = 1000
"""Held-out frames on which accumulations are compared with the budget where they take simulation."""

class Tuning:
    """A network that is being fine-tuned.

    Parameters
    ----------
    floats : FloatNetwork
        The start.
    thresholds : sequence of float
        Of its layers of neurons, at the start.
    coding : InputCoding
        Of the input.
    settings : FinetuneSettings
        How.
    teachers : sequence of FloatNetwork
        Whose answers on frames as they are are learned, the mean of their probabilities.
    converted : callable
        The integer network of layers as a file has them.
    progress : bool
        Show progress on standard error.
    """

    def __init__(
        self,
        floats: FloatNetwork,
        thresholds: Sequence[float],
        coding: InputCoding,
        settings: FinetuneSettings,
        teachers: Sequence[FloatNetwork],
        converted: Callable[[Iterable[Folded]], Network],
        *,
        progress: bool = False,
    ) -> None:
        self._settings, self._teachers, self._converted, self._progress = settings, tuple(teachers), converted, progress
        self._neurons, self._macs = floats.neurons, floats.macs
        self._layers, self.averaged = (
            QuantizedLayers(
                floats,
                thresholds,
                coding,
                bits_of=settings.conversion.bits_of,
                fraction_of=settings.fraction_of,
                input_bits=settings.input_potential_bits,
                firing=_firing(settings, 1),
            )
            for _ in range(2)
        )
        for parameter in self.averaged.parameters():
            parameter.requires_grad_(False)
        groups = self._layers.groups(settings.learning_rate, settings.threshold_rate)
        self._peaks = [group["lr"] for group in groups]
        self._optimizer = torch.optim.Adam(groups)
        self._best: list[Tensor] = []
        self._price = settings.event_price
        self.lines: list[EpochLine] = []

    def run(self, training: Dataset, held: Dataset, report: Callable[[str], None], resume: Path | None) -> int:
        """Go through all epochs, those that ``resume`` has done apart; ``averaged`` is what comes out.

        Returns
        -------
        The epoch that is chosen: of the second half, in which learning rates are low, the one with the least loss on held-out
        frames; where there is a budget, of those within it, and if none is, the one with the fewest accumulations.
        """
        settings, key = self._settings, self._key(training, held)
        torch.manual_seed(settings.seed)
        if resume is not None and resume.exists():
            self._load(resume, key)
            report(f"goes on after epoch {self.lines[-1].epoch} of {settings.epochs}")
        else:
            self.lines.append(self._held_out(0, None, held))
            report(f"start: {self.lines[0]}")
        for epoch in range(len(self.lines), settings.epochs + 1):
            loss = self._epoch(epoch, training)
            self.lines.append(self._held_out(epoch, loss, held))
            self._follow_budget(epoch, held)
            if self._chosen() == epoch:
                self._best = [average.clone() for average in self.averaged.parameters()]
            report(f"epoch {epoch}/{settings.epochs}: {self.lines[-1]}")
            if resume is not None:
                self._save(resume, key)
        for average, best in zip(self.averaged.parameters(), self._best, strict=True):
            average.copy_(best)
        return self._chosen()

    @torch.no_grad()
    def counts(self, images: np.ndarray) -> np.ndarray:
        """What ``averaged`` counts in deferred firing, whatever is trained, ``(frames, outputs)``; sums are exact."""
        usual, self.averaged.firing = self.averaged.firing, Deferred(rest=self._settings.rest)
        found = self.averaged(_pixels(images), exact=True).counts.numpy()
        self.averaged.firing = usual
        return found

    def _chosen(self) -> int:
        """The epoch that is the best so far."""
        late = [line for line in self.lines if 2 * line.epoch > self._settings.epochs]
        if not late:
            return 0
        budget = self._settings.accumulations
        within = late if budget is None else [line for line in late if line.accumulations_per_frame <= NEAR * budget]
        if not within:
            return min(late, key=lambda line: line.accumulations_per_frame).epoch
        return min(within, key=lambda line: line.held_out_loss).epoch

    def _follow_budget(self, epoch: int, held: Dataset) -> None:
        """Change the price of events by what the weights take after that epoch; their average would lag behind."""
        settings, first = self._settings, self.lines[0].accumulations_per_frame
        if settings.accumulations is None:
            return
        found = self._run(self._layers, held if settings.firing == "deferred" else held.first(_WEIGHED))
        left = max(0.0, 1 - epoch / settings.epochs / _FALLING)
        allowed = settings.accumulations + left * max(0.0, first - settings.accumulations)
        self._price = followed(self._price, float(found.accumulations), allowed)

    def _epoch(self, epoch: int, training: Dataset) -> float:
        """One pass over the training frames; the mean loss."""
        settings, total = self._settings, 0.0
        batches = torch.randperm(len(training)).split(settings.batch_size)
        labels = torch.from_numpy(training.labels)
        parameters, averages = self._layers.parameters(), self.averaged.parameters()
        self._layers.firing = _firing(settings, epoch)
        share = _augmented(settings, epoch)
        for at, batch in enumerate(track(batches, f"epoch {epoch}/{settings.epochs}", self._progress)):
            step = (epoch - 1) * len(batches) + at
            steps = settings.epochs * len(batches)
            rate = _rate(step / steps)
            for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=True):
                group["lr"] = peak * rate
            images = training.images[batch.numpy()]
            pixels = shifted_and_mirrored(torch.from_numpy(images)) if settings.mirror else _pixels(images, augmented=share)
            loss = self._loss(cut_out(pixels, settings.cutout), labels[batch])
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            usual = max(0.0, 1 - _AVERAGED / steps) if settings.average_decay is None else settings.average_decay
            decay = min(usual, (1 + step) / (10 + step))
            torch._foreach_lerp_(averages, [p.detach() for p in parameters], 1 - decay)
            total += loss.item() * len(batch)
            if not math.isfinite(total):
                rates = f"{settings.learning_rate!r} and {settings.threshold_rate!r}"
                raise BadInputError(f"learning_rate and threshold_rate must be less for the loss to stay finite, not {rates}")
        return total / len(training)

    def _loss(self, pixels: Tensor, labels: Tensor) -> Tensor:
        settings = self._settings
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bfloat16"):
            found = self._layers(pixels)
            wanted = taught(self._teachers, pixels) if settings.teacher_share else None
        scores = by_class(found.scores).float()
        loss = (1 - settings.teacher_share) * functional.cross_entropy(scores, labels)
        if wanted is not None:
            loss = loss + settings.teacher_share * distance(scores, wanted)
        return loss + self._price * self._events(found.spikes, found.accumulations)

    def _events(self, spikes: Any, accumulations: Any) -> Any:
        """Spikes per neuron, and accumulations for each multiplication of the float network."""
        return self._settings.spike_weight * spikes / self._neurons + accumulations / self._macs

    def _held_out(self, epoch: int, loss: float | None, held: Dataset) -> EpochLine:
        """What the averaged weights do on held-out frames."""
        found = self._run(self.averaged, held)
        labels, spikes, accumulations = torch.from_numpy(held.labels), float(found.spikes), float(found.accumulations)
        wrong = float(functional.cross_entropy(by_class(found.scores), labels))
        # A price that changes says nothing of which epoch is better.
        price = self._price if self._settings.accumulations is None else 0.0
        return EpochLine(
            epoch=epoch,
            loss=loss,
            held_out_loss=wrong + price * self._events(spikes, accumulations),
            accuracy=accuracy_of(found.counts.numpy(), held.labels),
            spikes_per_neuron=spikes / self._neurons,
            accumulations_per_frame=accumulations,
            event_price=self._price,
        )

    def _run(self, layers: QuantizedLayers, held: Dataset) -> Outcome:
        """What the integer network of layers does."""
        return self._pass(layers, held) if self._settings.firing == "deferred" else self._simulated(layers, held)

    @torch.no_grad()
    def _pass(self, layers: QuantizedLayers, held: Dataset) -> Outcome:
        """The forward pass, which deferred is what the integer network does."""
        parts = [layers(_pixels(held.images[at : at + _AT_ONCE])) for at in range(0, len(held), _AT_ONCE)]
        sizes = torch.tensor([len(part.counts) for part in parts], dtype=torch.float64)
        return Outcome(
            torch.cat([part.counts for part in parts]),
            torch.cat([part.scores for part in parts]),
            *((torch.stack([getattr(part, name) for part in parts]) * sizes).sum() / len(held)
              for name in ("spikes", "accumulations")),
        )

    def _simulated(self, layers: QuantizedLayers, held: Dataset) -> Outcome:
        """What the integer network does an event at a time."""
        network = self._converted(layers.folded())
        found = run_frames(network, held.images)
        neurons = [isinstance(layer, Neurons) for layer in network.layers]
        spikes, operations = found.spikes[:, neurons].sum(axis=1).mean(), found.operations.sum(axis=1).mean()
        counts = torch.from_numpy(found.counts)
        return Outcome(counts, counts * layers.unit.detach(), torch.tensor(spikes), torch.tensor(operations))

    def _key(self, training: Dataset, held: Dataset) -> str:
        """What the outcome depends on, in short."""
        found = hashlib.sha256()
        for tensor in self._layers.parameters():
            found.update(tensor.detach().numpy().tobytes())
        for data in (training, held):
            found.update(data.images.tobytes() + data.labels.tobytes())
        for teacher in self._teachers:
            found.update(teacher.model.SerializeToString(deterministic=True))
        choices = (asdict(self._settings), self._layers.coding, torch.__version__, torch.get_num_threads())
        found.update(repr(choices).encode())
        return found.hexdigest()

    def _save(self, path: Path, key: str) -> None:
        written = io.BytesIO()
        state = {
            "key": key,
            "parameters": [p.detach() for p in self._layers.parameters()],
            "averages": self.averaged.parameters(),
            "best": self._best,
            "optimizer": self._optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "lines": [asdict(line) for line in self.lines],
            "price": self._price,
        }
        torch.save(state, written)
        write_sealed(path, written.getvalue())

    def _load(self, path: Path, key: str) -> None:
        try:
            state = torch.load(io.BytesIO(read_sealed(path)), weights_only=True)
        except Exception as error:
            # A damaged file is reported by whatever the code that unpacks it happens to raise.
            message = f"{path}: file to resume from must be one that a fine-tuning wrote; delete it to start again"
            raise BadInputError(message) from error
        if not isinstance(state, dict) or state.get("key") != key:
            raise BadInputError(f"{path}: file to resume from must be of the same start, data, settings, version and threads")
        with torch.no_grad():
            for name, layers in (("parameters", self._layers), ("averages", self.averaged)):
                for parameter, value in zip(layers.parameters(), state[name], strict=True):
                    parameter.copy_(value)
        self._optimizer.load_state_dict(state["optimizer"])
        self._best, self.lines = state["best"], [EpochLine(**line) for line in state["lines"]]
        self._price = state["price"]
        torch.set_rng_state(state["random"])


def _firing(settings: FinetuneSettings, epoch: int) -> Firing:
    """That of an epoch: the last quarter looks at more moments, which is closer to events one at a time, and slower."""
    if settings.firing == "deferred":
        return Deferred(rest=settings.rest)
    return Immediate(settings.last_moments if 4 * epoch > 3 * settings.epochs else settings.moments)


def _rate(part: float) -> float:
    """The learning rate after that part of all steps, as a part of its peak: it rises, then falls as half a cosine."""
    if part < _WARM_UP:
        return _LEAST_RATE + (1 - _LEAST_RATE) * part / _WARM_UP
    falling = (part - _WARM_UP) / (1 - _WARM_UP)
    return _LEAST_RATE + (1 - _LEAST_RATE) * (1 + math.cos(math.pi * falling)) / 2


def _augmented(settings: FinetuneSettings, epoch: int) -> float:
    """Share of the frames of an epoch that are augmented."""
    if not settings.augment:
        return 0.0
    part = (epoch - 1) / max(1, settings.epochs - 1)
    return settings.augment_share + part * (settings.last_augment_share - settings.augment_share)


def _pixels(images: np.ndarray, *, augmented: float = 0.0) -> Tensor:
    """Whole pixels of full scale 255, ``(frames, channels, height, width)``; a share of the frames is augmented."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    if augmented == 0:
        return pixels
    moved = torch.round(augment(pixels / 255) * 255)
    return moved if augmented == 1 else torch.where(torch.rand(len(pixels), 1, 1, 1) < augmented, moved, pixels)
