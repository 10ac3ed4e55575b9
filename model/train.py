"""Train the network of the paper, 16C5-2MP2-8C5-2MP2-256FC-10FC, and export it as ONNX."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import json
import math
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import rich.console
import rich.progress

from model.support.cli import command
from model.support.datasets import DATASETS, DataError, Dataset, load
from model.support.errors import BadInputError, Exit, ToolMissingError, fail
from model.support.files import write_file

if TYPE_CHECKING:
    from torch import Tensor, nn

    from model.training.sparse import SparseSettings

__all__ = ["INPUT_SHAPE", "TrainResult", "TrainSettings", "accuracy", "augment", "binarise", "build_network",
           "export_onnx", "main", "train"]

INPUT_SHAPE = (28, 28, 1)
"""What the network takes, as (height, width, channels)."""

_CLASSES = 10
LAYERS = {0: "conv1", 3: "conv2", 8: "fc1", 11: "fc2"}
_OPSET = 17
_NAME = "mnist-paper"
_SPARSE = "mnist-sparse"
ZOO = Path(__file__).parent / "zoo"
"""Folder of the bundled networks."""

# One training frame of 12 is held out: 5,000 of the 60,000 of MNIST.
_HOLD_OUT = 12
# A pixel of exactly 0.2 of full scale, 51 of 255, does not fire.
INPUT_THRESHOLD = 51


def check_whole(settings: object, least: dict[str, int]) -> None:
    """Raise `TypeError` or `ValueError` where a field is not a whole number, or less than its least."""
    for name, low in least.items():
        value = getattr(settings, name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be an integer, not {value!r}")
        if value < low:
            raise BadInputError(f"{name} must be {low} or more, not {value!r}")


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides the outcome of a training, beside the data and the versions of the libraries.

    Parameters
    ----------
    seed : int
        Of the initial weights, the order of frames, augmentation and dropout.
    epochs : int
        Passes over the training frames.
    batch_size : int
        Frames a step.
    learning_rate : float
        Peak of the one-cycle schedule of AdamW.
    weight_decay : float
        Of AdamW; it keeps outliers out of the weights, which one scale a layer has to cover later.
    dropout : float
        Share of values dropped before each linear layer. As in the paper.
    binary_share : float
        Share of training frames shown as 1-bit; the others are grey.
    average_decay : float
        Decay a step of the moving average of the weights. The average is what is exported.
    """

    seed: int = 1
    epochs: int = 60
    batch_size: int = 128
    learning_rate: float = 4e-3
    weight_decay: float = 0.05
    dropout: float = 0.5
    binary_share: float = 0.7
    average_decay: float = 0.998

    def __post_init__(self) -> None:
        check_whole(self, {"seed": 0, "epochs": 1, "batch_size": 1})
        if not 0 < self.learning_rate < math.inf:
            raise BadInputError(f"learning_rate must be more than 0, not {self.learning_rate!r}")
        if not 0 <= self.weight_decay < math.inf:
            raise BadInputError(f"weight_decay must be 0 or more, not {self.weight_decay!r}")
        for name in ("dropout", "average_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise BadInputError(f"{name} must be at least 0 and less than 1, not {getattr(self, name)!r}")
        if not 0 <= self.binary_share <= 1:
            raise BadInputError(f"binary_share must be from 0 to 1, not {self.binary_share!r}")


@dataclass(frozen=True, eq=False)
class TrainResult:
    """A trained network and how the training went.

    Parameters
    ----------
    network : torch.nn.Sequential
        In evaluation mode, with the averaged weights.
    losses : tuple of float
        Mean training loss of each epoch.
    validation_accuracy_grey, validation_accuracy_1bit : float
        Of the averaged weights on the held-out training frames, 0 to 1.
    validation_frames : int
        Training frames held out.
    seconds : float
        Time of the training.
    """

    network: nn.Sequential
    losses: tuple[float, ...]
    validation_accuracy_grey: float
    validation_accuracy_1bit: float
    validation_frames: int
    seconds: float


def import_torch() -> Any:
    # Only training needs PyTorch, which is large; all else works without it.
    try:
        import torch
    except ImportError as error:
        raise ToolMissingError("training must have PyTorch installed: pip install -e .[train]") from error
    return torch


def keep_memory() -> None:
    """Have the C library keep freed memory: tensors of each step come from the kernel again otherwise, half of the time."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        # Not glibc: nothing but speed is lost.
        return
    trim_threshold, mmap_max = -1, -4
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(mmap_max, 0)


def build_network(dropout: float = 0.5) -> nn.Sequential:
    """Build the network with initial weights from torch's global random generator.

    Parameters
    ----------
    dropout : float
        Share of values dropped before each linear layer in training.

    Returns
    -------
    torch.nn.Sequential
        From ``(frames, 1, 28, 28)`` to ``(frames, 10)``.
    """
    nn = import_torch().nn
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 8, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(dropout), nn.Linear(8 * 7 * 7, 256), nn.ReLU(),
        nn.Dropout(dropout), nn.Linear(256, _CLASSES),
    )


def augment(frames: Tensor) -> Tensor:
    """Rotate, scale, shear and shift each frame a little, by amounts from torch's global random generator.

    Parameters
    ----------
    frames : torch.Tensor
        ``float32``, ``(frames, 1, height, width)``.

    Returns
    -------
    torch.Tensor
        Of the same shape. Shifts are up to 2 pixels, rotations 12 degrees, scales 0.88 to 1.12.
    """
    torch = import_torch()
    count, _, height, width = frames.shape

    def uniform(limit: float) -> Tensor:
        return (2 * torch.rand(count) - 1) * limit

    angle = uniform(math.radians(12))
    scale_x, scale_y = 1 + uniform(0.12), 1 + uniform(0.12)
    shear = uniform(0.12)
    cos, sin = torch.cos(angle), torch.sin(angle)
    # affine_grid measures in half widths and half heights.
    shift_x, shift_y = uniform(2) * 2 / width, uniform(2) * 2 / height
    row_x = torch.stack([cos * scale_x, (shear * cos - sin) * scale_y, shift_x], dim=1)
    row_y = torch.stack([sin * scale_x, (shear * sin + cos) * scale_y, shift_y], dim=1)
    grid = torch.nn.functional.affine_grid(torch.stack([row_x, row_y], dim=1), list(frames.shape),
                                           align_corners=False)
    return torch.nn.functional.grid_sample(frames, grid, align_corners=False)


def _binarise_some(frames: Tensor, share: float) -> Tensor:
    # The threshold varies, as augmentation blurs edges, and as other sources draw thicker or thinner lines.
    torch = import_torch()
    count = len(frames)
    threshold = 0.1 + 0.25 * torch.rand(count, 1, 1, 1)
    chosen = torch.rand(count, 1, 1, 1) < share
    return torch.where(chosen, (frames > threshold).to(frames.dtype), frames)


def binarise(images: np.ndarray) -> np.ndarray:
    """Give the 1-bit input of the spiking network: one spike for each pixel above 0.2 of full scale.

    Parameters
    ----------
    images : numpy.ndarray
        ``uint8``.

    Returns
    -------
    numpy.ndarray
        ``uint8`` of the same shape: 255 where a pixel spikes, else 0.
    """
    return np.where(images > INPUT_THRESHOLD, 255, 0).astype(np.uint8)


def to_tensor(images: np.ndarray) -> Tensor:
    torch = import_torch()
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float().div_(255)


def accuracy(network: nn.Module, images: np.ndarray, labels: np.ndarray) -> float:
    """Measure the share of frames that a network classifies rightly.

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode.
    images : numpy.ndarray
        ``uint8``, ``(frames, height, width, channels)``.
    labels : numpy.ndarray
        ``int64``, ``(frames,)``.

    Returns
    -------
    float
        0 to 1.
    """
    torch = import_torch()
    correct = 0
    with torch.inference_mode():
        for start in range(0, len(images), 1000):
            classes = network(to_tensor(images[start:start + 1000])).argmax(dim=1).numpy()
            correct += int((classes == labels[start:start + 1000]).sum())
    return correct / len(images)


def check_dataset(dataset: Dataset) -> None:
    if dataset.images.shape[1:] != INPUT_SHAPE:
        raise DataError(f"{dataset.name}: images must be of (height, width, channels) {INPUT_SHAPE}, "
                        f"not {dataset.images.shape[1:]}")
    if dataset.labels.max() >= _CLASSES:
        raise DataError(f"{dataset.name}: labels must be less than {_CLASSES}, "
                        f"not {int(dataset.labels.max())}")


def held_out(dataset: Dataset) -> np.ndarray:
    """Which frames are for validation only: every twelfth.

    Raises
    ------
    DataError
        There are fewer than twelve.
    """
    if len(dataset) < _HOLD_OUT:
        raise DataError(f"{dataset.name}: training must have at least {_HOLD_OUT} frames, not {len(dataset)}")
    return np.arange(len(dataset)) % _HOLD_OUT == _HOLD_OUT - 1


def train(settings: TrainSettings, dataset: Dataset, *, progress: bool = False) -> TrainResult:
    """Train the network; every twelfth frame is held out, and measured once at the end.

    In training, each frame is distorted a little, then shown as 1-bit or as grey, so that the network is good
    for both. The weights that count are a moving average over the steps.

    Parameters
    ----------
    settings : TrainSettings
        How to train.
    dataset : Dataset
        Training frames of 28 x 28 x 1 in ten classes.
    progress : bool
        Show progress on standard error.

    Returns
    -------
    TrainResult
    """
    torch = import_torch()
    check_dataset(dataset)
    held = held_out(dataset)
    images, labels = dataset.images[~held], torch.from_numpy(dataset.labels[~held])

    torch.manual_seed(settings.seed)
    network = build_network(settings.dropout)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=_moving_average(settings.average_decay))
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate,
                                  weight_decay=settings.weight_decay)
    steps = math.ceil(len(images) / settings.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate,
                                                   total_steps=settings.epochs * steps)
    started = time.monotonic()
    losses = []
    for epoch in range(1, settings.epochs + 1):
        network.train()
        total = 0.0
        batches = torch.randperm(len(images)).split(settings.batch_size)
        for batch in track(batches, f"epoch {epoch}/{settings.epochs}", progress):
            frames = _binarise_some(augment(to_tensor(images[batch.numpy()])), settings.binary_share)
            loss = torch.nn.functional.cross_entropy(network(frames.to(memory_format=torch.channels_last)),
                                                     labels[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            average.update_parameters(network)
            total += loss.item() * len(batch)
        losses.append(total / len(images))
        if progress:
            click.echo(f"epoch {epoch}/{settings.epochs}: loss {losses[-1]:.4f}, "
                       f"{time.monotonic() - started:.0f} s", err=True)
    seconds = time.monotonic() - started

    result = average.module.to(memory_format=torch.contiguous_format).eval()
    held_images, held_labels = dataset.images[held], dataset.labels[held]
    return TrainResult(
        network=result, losses=tuple(losses),
        validation_accuracy_grey=accuracy(result, held_images, held_labels),
        validation_accuracy_1bit=accuracy(result, binarise(held_images), held_labels),
        validation_frames=int(held.sum()), seconds=seconds)


def _moving_average(decay: float) -> Callable[[list[Tensor], list[Tensor], Tensor], None]:
    torch = import_torch()

    def update(averages: list[Tensor], values: list[Tensor], steps: Tensor) -> None:
        # A shorter memory at first, or the initial weights would count for most of a short training.
        step = int(steps)
        torch._foreach_lerp_(averages, values, 1 - min(decay, (1 + step) / (10 + step)))

    return update


def track(items: Sequence[Any], what: str, progress: bool) -> Iterable[Any]:
    # A bar is of no use in a log file; there the line at the end of each epoch is enough.
    if not progress or not sys.stderr.isatty():
        return items
    return rich.progress.track(items, what, console=rich.console.Console(stderr=True), transient=True)


def load_network(path: Path) -> nn.Sequential:
    """Read the weights of a network that `export_onnx` wrote.

    Raises
    ------
    ConversionError, DataError
        The file cannot be read; it is not such a network.
    """
    from onnx import numpy_helper

    from model.importers.graph import load as load_model

    torch = import_torch()
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in load_model(path).graph.initializer}
    network = build_network(0.0)
    for at, name in LAYERS.items():
        for what in ("weight", "bias"):
            parameter, key = getattr(network[at], what), f"{name}.{what}"
            if key not in stored or stored[key].shape != tuple(parameter.shape):
                found = "none" if key not in stored else f"shape {stored[key].shape}"
                raise DataError(f"{path}: must hold {key} of shape {tuple(parameter.shape)}, not {found}")
            parameter.data = torch.from_numpy(stored[key].astype(np.float32))
    return network.eval()


def export_onnx(network: nn.Sequential, path: Path, graph_name: str = _NAME) -> None:
    """Write a network made by `build_network` as one ONNX file, weights included.

    The graph consists of Conv, Relu, MaxPool, Flatten and Gemm, with the input ``image`` of
    ``(frames, 1, 28, 28)``, full scale 1.0, and the output ``scores`` of ``(frames, 10)``; dropout does
    nothing after training and is left out. The same weights give the same file, byte for byte.

    Parameters
    ----------
    network : torch.nn.Sequential
        The network.
    path : Path
        The file to write. It appears only when it is complete.
    graph_name : str
        Name of the graph.
    """
    torch = import_torch()
    # The graph is built here, as what torch's own exporters write differs from version to version.
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nn = torch.nn
    nodes, weights, value = [], [], "image"
    attributes: dict[str, Any]
    for at, layer in enumerate(network):
        if isinstance(layer, nn.Dropout):
            continue
        name = LAYERS.get(at, f"{type(layer).__name__.lower()}{at}")
        inputs, output = [value], f"{name}_out"
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            for what in ("weight", "bias"):
                array = getattr(layer, what).detach().cpu().contiguous().numpy()
                weights.append(numpy_helper.from_array(array, f"{name}.{what}"))
                inputs.append(f"{name}.{what}")
        if isinstance(layer, nn.Conv2d):
            kind = "Conv"
            attributes = {"kernel_shape": list(layer.kernel_size), "strides": list(layer.stride),
                          "pads": [*layer.padding, *layer.padding]}
        elif isinstance(layer, nn.MaxPool2d):
            kind = "MaxPool"
            attributes = {"kernel_shape": [layer.kernel_size] * 2, "strides": [layer.stride] * 2}
        elif isinstance(layer, nn.Linear):
            kind, attributes = "Gemm", {"transB": 1}
        elif isinstance(layer, nn.ReLU):
            kind, attributes = "Relu", {}
        elif isinstance(layer, nn.Flatten):
            kind, attributes = "Flatten", {"axis": 1}
        else:
            raise TypeError(f"layer {at} must be one of those of build_network, not {type(layer).__name__}")
        if at == len(network) - 1:
            output = "scores"
        nodes.append(helper.make_node(kind, inputs, [output], name=name, **attributes))
        value = output

    height, width, channels = INPUT_SHAPE
    graph = helper.make_graph(
        nodes, graph_name,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["frames", channels, height, width])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["frames", _CLASSES])], weights)
    model = helper.make_model(graph, producer_name="tally", ir_version=8,
                              opset_imports=[helper.make_opsetid("", _OPSET)])
    onnx.checker.check_model(model, full_check=True)
    write_file(path, model.SerializeToString(deterministic=True))


def _report(settings: TrainSettings, result: TrainResult, dataset: Dataset, test: Dataset, onnx_path: Path) -> dict[str, Any]:
    weights = {}
    for at, name in LAYERS.items():
        values = result.network.get_parameter(f"{at}.weight").detach()
        weights[name] = {"max_abs": round(float(values.abs().max()), 6), "std": round(float(values.std()), 6)}
    return {
        "frames_train": len(dataset) - result.validation_frames,
        "frames_validation": result.validation_frames,
        "frames_test": len(test),
        "train_seconds": round(result.seconds, 1),
        "losses": [round(loss, 5) for loss in result.losses],
        "validation_accuracy_grey": result.validation_accuracy_grey,
        "validation_accuracy_1bit": result.validation_accuracy_1bit,
        "float_accuracy_grey": accuracy(result.network, test.images, test.labels),
        "float_accuracy_1bit": accuracy(result.network, binarise(test.images), test.labels),
        "weights": weights,
        "onnx_sha256": hashlib.sha256(onnx_path.read_bytes()).hexdigest(),
    }


def _given(settings: TrainSettings | SparseSettings, command: str, dataset: Dataset, threads: int) -> dict[str, Any]:
    """What a report says of how a network came to be."""
    return {
        "command": command,
        "dataset": dataset.name,
        **asdict(settings),
        "threads": threads,
        "versions": {"python": platform.python_version(),
                     **{package: importlib.metadata.version(package) for package in ("torch", "onnx", "numpy")}},
    }


def _settings(sparse: bool, options: dict[str, Any]) -> TrainSettings | SparseSettings:
    """The settings of the kind of training, with what was given in place of their defaults."""
    from model.training.sparse import SparseSettings

    kind = SparseSettings if sparse else TrainSettings
    known = {field.name for field in fields(kind)}
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in known:
            raise BadInputError(f"--{name.replace('_', '-')} must not be given {'with' if sparse else 'without'} --sparse")
    return kind(**given)


@command()
@click.option("--dataset", "dataset_name", type=click.Choice(DATASETS), default="mnist", show_default=True,
              help="Data to train and test on; digits5k needs no download.")
@click.option("--data-dir", type=click.Path(path_type=Path),
              help="First folder to look for the MNIST files in.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True,
              help=f"Folder for {_NAME}.onnx and {_NAME}.train.json; with --sparse for {_SPARSE}.onnx, .npz and .train.json.")
@click.option("--sparse", is_flag=True, help="Fine-tune for few events, instead of training from the beginning.")
@click.option("--start", type=click.Path(path_type=Path),
              help="With --sparse: the network to start from; the bundled one by default.")
@click.option("--teacher", type=click.Path(path_type=Path),
              help="With --sparse: the float network whose answers are learned; the bundled one by default.")
@click.option("--seed", type=int, help="Seed of everything random; 1 by default.")
@click.option("--epochs", type=int, help="Passes over the training frames; 60 by default, 16 with --sparse.")
@click.option("--batch-size", type=int, help="Frames a step; 128 by default.")
@click.option("--learning-rate", type=float, help="Peak learning rate; 0.004 by default, 0.001 with --sparse.")
@click.option("--average-decay", type=float, help="Decay a step of the averaged weights; 0.998 by default.")
@click.option("--weight-decay", type=float, help="Weight decay of AdamW; 0.05 by default. Not with --sparse.")
@click.option("--dropout", type=float,
              help="Share of values dropped before each linear layer; 0.5 by default. Not with --sparse.")
@click.option("--binary-share", type=float,
              help="Share of training frames shown as 1-bit, the others are grey; 0.7 by default. Not with --sparse.")
@click.option("--event-price", type=float, help="With --sparse: loss for one spike a neuron a frame; 1.3 by default.")
@click.option("--moments", type=int, help="With --sparse: moments of a frame that are looked at; 4 by default.")
@click.option("--last-epochs", type=int, help="With --sparse: passes with more moments after these; 4 by default.")
@click.option("--last-moments", type=int, help="With --sparse: moments of a frame in these; 10 by default.")
@click.option("--weight-bits", type=int, help="With --sparse: width of the weights; 8 by default.")
@click.option("--teacher-share", type=float,
              help="With --sparse: share of the loss that is distance from the start's answers; 0.5 by default.")
@click.option("--keep-thresholds", is_flag=True, default=None,
              help="With --sparse: the start is for the threshold 1.0, as what --sparse makes is.")
@click.option("--average-start", is_flag=True, default=None,
              help="With --keep-thresholds: the outcome is the average of the start and of what it became.")
@click.option("--threads", type=click.IntRange(1), help="Processor threads; 2 by default, 1 with --sparse.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON on standard output.")
def main(dataset_name: str, data_dir: Path | None, out: Path, sparse: bool, start: Path | None, teacher: Path | None,
         threads: int | None, as_json: bool, **options: Any) -> None:
    """Train the network 16C5-2MP2-8C5-2MP2-256FC-10FC and export it as ONNX; or fine-tune one for few events.

    One training frame of twelve is held out for validation; the test frames are measured once, at the end.
    About 10 minutes on two idle processor cores with the defaults, an hour on one with --sparse. The result is the
    same each time, given the same versions, processor and number of threads.
    """
    try:
        settings = _settings(sparse, options)
        for option, path in (("start", start), ("teacher", teacher)):
            if path is not None and not sparse:
                raise BadInputError(f"--{option} must not be given without --sparse")
        torch = import_torch()
        threads = threads or (1 if sparse else 2)
        torch.set_num_threads(threads)
        keep_memory()
        dataset, test = (load(dataset_name, split, data_dir) for split in ("train", "test"))
        check_dataset(test)
        command = ["python", "-m", "model.train", *(["--sparse"] if sparse else []), "--dataset", dataset_name,
                   "--out", out.as_posix(), "--threads", str(threads)]
        for option, path in (("start", start), ("teacher", teacher)):
            command += [f"--{option}", path.as_posix()] if path else []
        for name, value in asdict(settings).items():
            if isinstance(value, bool):
                command += [f"--{name.replace('_', '-')}"] if value else []
            else:
                command += [f"--{name.replace('_', '-')}", str(value)]
        given = _given(settings, shlex.join(command), dataset, threads)
        if isinstance(settings, TrainSettings):
            target = out / f"{_NAME}.onnx"
            result = train(settings, dataset, progress=True)
            export_onnx(result.network, target)
            report = given | _report(settings, result, dataset, test, target)
            line = (f"{target}: accuracy {report['float_accuracy_grey']:.2%} grey, {report['float_accuracy_1bit']:.2%} "
                    f"1-bit, on {len(test)} test frames of {test.name}")
        else:
            from model.training.sparse import make

            target = out / f"{_SPARSE}.onnx"
            first, taught = (load_network(path or ZOO / f"{_NAME}.onnx") for path in (start, teacher))
            report = given | make(settings, first, taught, dataset, test, target)
            line = (f"{target.with_suffix('.npz')}: accuracy {report['accuracy_snn']:.2%} by spike count on {len(test)} test "
                    f"frames of {test.name}, {report['spikes_per_neuron']} spikes a neuron, "
                    f"{report['accumulations_per_frame']:,} accumulations")
        text = json.dumps(report, indent=2) + "\n"
        write_file(target.with_suffix(".train.json"), text.encode())
    except OSError as error:
        fail(Exit.BAD_INPUT, f"{error.filename}: cannot be written: {error.strerror}")
    click.echo(text if as_json else line, nl=not as_json)


if __name__ == "__main__":
    main()
