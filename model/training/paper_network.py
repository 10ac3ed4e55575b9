"""The network of the paper, 16C5-2MP2-8C5-2MP2-256FC-10FC: trained, and exported as ONNX."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from model.support.datasets import DataError, Dataset
from model.support.files import write_file
from model.training.common import (
    CLASSES,
    INPUT_SHAPE,
    accuracy,
    augment,
    binarise,
    binarise_some,
    check_dataset,
    held_out,
    import_torch,
    to_tensor,
    track,
)
from model.training.paper_settings import NAME, TrainSettings

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["LAYERS", "NAME", "TrainResult", "TrainSettings", "build_network", "export_onnx", "load_network",
           "report_training", "train"]

LAYERS = {0: "conv1", 3: "conv2", 8: "fc1", 11: "fc2"}

_OPSET = 17

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
        nn.Dropout(dropout), nn.Linear(256, CLASSES),
    )


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
            frames = binarise_some(augment(to_tensor(images[batch.numpy()])), settings.binary_share)
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


def export_onnx(network: nn.Sequential, path: Path, graph_name: str = NAME) -> None:
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
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["frames", CLASSES])], weights)
    model = helper.make_model(graph, producer_name="tally", ir_version=8,
                              opset_imports=[helper.make_opsetid("", _OPSET)])
    onnx.checker.check_model(model, full_check=True)
    write_file(path, model.SerializeToString(deterministic=True))


def report_training(
    settings: TrainSettings, result: TrainResult, dataset: Dataset, test: Dataset, onnx_path: Path
) -> dict[str, Any]:
    """What training found, ready for JSON."""
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
