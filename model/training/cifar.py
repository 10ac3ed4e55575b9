"""Training of a small residual network on CIFAR-10 or frames of one's own, for spiking hardware on small devices."""

from __future__ import annotations

import copy
import hashlib
import io
import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import torch
from torch import Tensor, nn
from torch.nn import functional

from model.importers.float_network import FloatNetwork
from model.importers.onnx import import_onnx
from model.support.datasets import DataError, Dataset
from model.support.errors import BadInputError
from model.support.files import read_sealed, write_sealed
from model.training.cifar_settings import CifarSettings
from model.training.common import accuracy, to_tensor, track
from model.training.counted import CountedNetwork, even_coding
from model.training.distillation import distance, taught
from model.training.event_price import followed
from model.training.photographs import cut_out, shifted_and_mirrored
from model.training.residual import ResidualNetwork, begin_with, export_residual

__all__ = ["CifarTraining", "make", "resume_file"]

_MOMENTUM = 0.9
_WARM_UP = 0.15
"""Part of all steps in which the learning rate rises."""

_BEGUN_ON = 512
"""Training frames whose statistics batch normalization has at first, where weights are given."""

_AT_ONCE = 500
"""Test frames at once."""


class CifarTraining:
    """A training that can be interrupted after any epoch.

    Parameters
    ----------
    settings : CifarSettings
        How.
    dataset : Dataset
        Frames, all of which are trained on.
    teachers : sequence of FloatNetwork
        Whose answers are learned too, the mean of their probabilities.
    start : Path, optional
        A file that such a training made, whose weights to begin with.
    """

    def __init__(
        self, settings: CifarSettings, dataset: Dataset, teachers: Sequence[FloatNetwork] = (), start: Path | None = None
    ) -> None:
        self._settings = settings
        self._images, self._labels = torch.from_numpy(dataset.images), torch.from_numpy(dataset.labels)
        torch.manual_seed(settings.seed)
        network = ResidualNetwork(
            dataset.images.shape[3], settings.widths, settings.blocks, _classes(dataset), settings.stem  # type: ignore[arg-type]
        )
        # What is computed does not depend on the order in memory, but for rounding; this one is faster.
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        coding = even_coding(settings.input_levels)
        self._network = CountedNetwork(network, coding) if settings.counts else network
        self._teachers, self._price = tuple(teachers), settings.event_price
        if start is not None:
            frames = to_tensor(dataset.images[:_BEGUN_ON])
            begin_with(network, lambda: self._network(frames), start)
        self.average = copy.deepcopy(self._network).requires_grad_(False).eval()
        weights = [p for p in self._network.parameters() if p.ndim > 1]
        others = [p for p in self._network.parameters() if p.ndim == 1]
        self._optimizer = torch.optim.SGD(
            [{"params": weights, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=settings.learning_rate, momentum=_MOMENTUM, nesterov=True,
        )
        self.losses: list[float] = []
        self.key = _key(settings, dataset, self._teachers, start)

    def run(self, report: Callable[[str], None], resume: Path | None = None, *, progress: bool = False) -> None:
        """Go through all epochs, those that ``resume`` has done apart; ``average`` is what comes out.

        Parameters
        ----------
        report : Callable[[str], None]
            Is told a line after each epoch.
        resume : Path, optional
            The file in which the state after each epoch is kept, and from which it is taken where it is there.
        progress : bool
            Show a bar on a terminal.
        """
        if resume is not None and resume.exists():
            self._load(resume)
            report(f"goes on after epoch {len(self.losses)} of {self._settings.epochs}")
        for epoch in range(len(self.losses) + 1, self._settings.epochs + 1):
            started = time.monotonic()
            loss, right, taken = self._epoch(epoch, progress)
            self.losses.append(loss)
            seconds = time.monotonic() - started
            events = f"{taken:,.0f} accumulations, " if self._settings.counts else ""
            report(f"epoch {epoch}/{self._settings.epochs}: loss {loss:.4f}, {right:.2%} of the training frames right, "
                   f"{events}{seconds:.0f} s")
            if self._settings.accumulations is not None:
                self._price = followed(self._price, taken, self._settings.accumulations)
            if resume is not None:
                self._save(resume)

    def _epoch(self, epoch: int, progress: bool) -> tuple[float, float, float]:
        """One pass over the training frames: the mean loss, the share of right answers, and accumulations per frame."""
        settings, total, right, taken = self._settings, 0.0, 0, 0.0
        self._network.train()
        batches = torch.randperm(len(self._images)).split(settings.batch_size)
        for at, batch in enumerate(track(batches, f"epoch {epoch}/{settings.epochs}", progress)):
            step = (epoch - 1) * len(batches) + at
            for group in self._optimizer.param_groups:
                group["lr"] = settings.learning_rate * _rate((step + 1) / (settings.epochs * len(batches)))
            labels = self._labels[batch]
            pixels = cut_out(shifted_and_mirrored(self._images[batch]), settings.cutout)
            with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bfloat16"):
                scores = self._network(pixels / 255)
                wanted = taught(self._teachers, pixels) if self._teachers else None
            scores = scores.float()
            loss = functional.cross_entropy(scores, labels, label_smoothing=settings.label_smoothing)
            if wanted is not None:
                loss = (1 - settings.teacher_share) * loss + settings.teacher_share * distance(scores, wanted)
            if isinstance(self._network, CountedNetwork):
                loss = loss + self._price * self._network.accumulations / self._network.macs
                taken += float(self._network.accumulations.detach()) * len(batch)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            self._update_average(step)
            total += loss.item() * len(batch)
            right += int((scores.argmax(1) == labels).sum())
            if not math.isfinite(total):
                raise BadInputError(f"learning_rate must be less for the loss to stay finite, not {settings.learning_rate!r}")
        count = len(self._images)
        return total / count, right / count, taken / count

    @torch.no_grad()
    def _update_average(self, step: int) -> None:
        decay = min(self._settings.average_decay, (1 + step) / (10 + step))
        for average, value in zip(self._values(self.average), self._values(self._network), strict=True):
            average.lerp_(value, 1 - decay)

    @staticmethod
    def _values(network: nn.Module) -> list[Tensor]:
        """Weights, and the statistics of batch normalization; not how many batches those are of."""
        return [value for value in itertools.chain(network.parameters(), network.buffers()) if value.is_floating_point()]

    def _save(self, path: Path) -> None:
        written = io.BytesIO()
        state = {
            "key": self.key,
            "network": self._network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "losses": self.losses,
            "price": self._price,
        }
        torch.save(state, written)
        write_sealed(path, written.getvalue())

    def _load(self, path: Path) -> None:
        try:
            state = torch.load(io.BytesIO(read_sealed(path)), weights_only=True)
        except Exception as error:
            # A damaged file is reported by whatever the code that unpacks it happens to raise.
            message = f"{path}: file to resume from must be one that a training wrote; delete it to start again"
            raise BadInputError(message) from error
        if not isinstance(state, dict) or state.get("key") != self.key:
            raise BadInputError(f"{path}: file to resume from must be of the same data, settings, version and threads")
        self._network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        self.losses, self._price = state["losses"], state["price"]


def _classes(dataset: Dataset) -> int:
    """How many there are: those that have names, or those of the labels."""
    found = len(dataset.classes) or int(dataset.labels.max()) + 1
    if found < 2:
        raise DataError(f"{dataset.name}: classes must be 2 or more, not {found}")
    return found


def _check_test(dataset: Dataset, test: Dataset) -> None:
    """Raise `DataError` where test frames are not like those to train on, or are the same."""
    frame = dataset.images.shape[1:]
    if test.images.shape[1:] != frame:
        raise DataError(
            f"{test.name}: test images must be of (height, width, channels) {frame}, as those to train on, "
            f"not {test.images.shape[1:]}"
        )
    if test.labels.max() >= _classes(dataset):
        raise DataError(f"{test.name}: test labels must be less than {_classes(dataset)}, not {int(test.labels.max())}")
    if np.array_equal(dataset.images, test.images):
        raise DataError(f"{test.name}: frames to train on and to test on must differ: x_train, y_train, x_test and y_test")


def _rate(part: float) -> float:
    """The learning rate after that part of all steps, as a part of its peak."""
    if part < _WARM_UP:
        return part / _WARM_UP
    return (1 + math.cos(math.pi * (part - _WARM_UP) / (1 - _WARM_UP))) / 2


def _key(settings: CifarSettings, dataset: Dataset, teachers: Sequence[FloatNetwork], start: Path | None) -> str:
    """What the outcome depends on, in short."""
    found = hashlib.sha256(dataset.images.tobytes() + dataset.labels.tobytes())
    if start is not None:
        found.update(start.read_bytes())
    for teacher in teachers:
        found.update(teacher.model.SerializeToString(deterministic=True))
    found.update(repr((asdict(settings), torch.__version__, torch.get_num_threads())).encode())
    return found.hexdigest()


def resume_file(training: CifarTraining) -> Path:
    """Where the user's cache keeps the state of a training, by all that its outcome depends on."""
    return Path(platformdirs.user_cache_dir("tally")) / "train" / f"{training.key}.pt"


def _counted(network: CountedNetwork, test: Dataset) -> dict[str, Any]:
    """Accuracy and accumulations per frame of a network that counts, its weights not rounded."""
    right, taken = 0, 0.0
    with torch.inference_mode():
        for at in range(0, len(test), _AT_ONCE):
            frames, labels = (part[at : at + _AT_ONCE] for part in (test.images, test.labels))
            right += int((network(to_tensor(frames)).argmax(dim=1).numpy() == labels).sum())
            taken += float(network.accumulations) * len(frames)
    coding = network.coding
    return {
        "accuracy_counts": right / len(test),
        "accumulations_per_frame": round(taken / len(test)),
        "input_threshold": coding.first,
        "input_step": coding.step,
    }


def make(
    settings: CifarSettings,
    dataset: Dataset,
    test: Dataset,
    path: Path,
    report: Callable[[str], None],
    teachers: Sequence[FloatNetwork] = (),
    start: Path | None = None,
) -> dict[str, Any]:
    """Train, export and measure on the test frames, once; gives what there is to report.

    Parameters
    ----------
    settings, dataset : CifarSettings, Dataset
        How to train, and on what.
    test : Dataset
        Frames to measure on.
    path : Path
        The ONNX file to write; its graph gets the file's name.
    report : Callable[[str], None]
        Is told a line after each epoch.
    teachers : sequence of FloatNetwork
        Whose answers are learned too.
    start : Path, optional
        Whose weights to begin with.
    """
    _check_test(dataset, test)
    training = CifarTraining(settings, dataset, teachers, start)
    resume, started = resume_file(training), time.process_time()
    training.run(report, resume, progress=True)
    seconds = time.process_time() - started
    network, counted = training.average, {}
    if isinstance(network, CountedNetwork):
        counted = _counted(network, test)
        network = network.network
    height, width, channels = dataset.images.shape[1:]
    export_residual(network, path.stem, (height, width, channels), path)
    floats = import_onnx(path)
    found = {
        "frames_train": len(dataset),
        "frames_test": len(test),
        "losses": [round(loss, 5) for loss in training.losses],
        "train_processor_seconds": round(seconds, 1),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "neurons": floats.neurons,
        "macs_per_frame": floats.macs,
        "float_accuracy": accuracy(network, test.images, test.labels),
        **counted,
        "onnx_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    resume.unlink(missing_ok=True)
    return found
