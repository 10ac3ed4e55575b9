"""What the small networks that are trained from scratch share: training, export and report of modules one after the other."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import platform
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from model.support.datasets import DataError, Dataset, load
from model.support.files import write_file
from model.training.common import INPUT_SHAPE, augment, import_torch

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["CLASSES", "PlainSettings", "export_plain", "report_plain", "train_plain"]

CLASSES = 10

_OPSET = 17


class PlainSettings(Protocol):
    """What settings of such a training have; they are a dataclass, whose other fields are those of the network.

    Parameters
    ----------
    seed
        Of the initial weights, the order of frames, and distortion.
    epochs
        Passes over the training frames.
    batch_size
        Frames per step.
    learning_rate
        Peak of the one-cycle schedule of AdamW.
    weight_decay
        Of AdamW.
    """

    @property
    def seed(self) -> int: ...
    @property
    def epochs(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...


def train_plain(
    build: Callable[[], nn.Sequential],
    settings: PlainSettings,
    dataset: Dataset,
    *,
    shown: Callable[[Tensor], Tensor] = lambda frames: frames,
    progress: bool = False,
) -> nn.Sequential:
    """Train on all frames of ``dataset``, which are of 28 x 28 x 1 in ten classes, distorted as in `model.train`.

    Parameters
    ----------
    build : Callable[[], nn.Sequential]
        Makes the network, once the seed is set.
    settings, dataset : PlainSettings, Dataset
        How, and on what.
    shown : Callable[[Tensor], Tensor]
        What the network is shown of distorted frames, ``(frames, 1, 28, 28)``, full scale 1.0.
    progress : bool
        Print the loss of each epoch.

    Returns
    -------
    torch.nn.Sequential
        From ``(frames, 1, 28, 28)`` to ``(frames, 10)``; in evaluation mode.
    """
    torch = import_torch()
    if dataset.images.shape[1:] != INPUT_SHAPE:
        raise DataError(
            f"{dataset.name}: images must be of (height, width, channels) {INPUT_SHAPE}, not {dataset.images.shape[1:]}"
        )
    if dataset.labels.max() >= CLASSES:
        raise DataError(f"{dataset.name}: labels must be less than {CLASSES}, not {int(dataset.labels.max())}")
    torch.manual_seed(settings.seed)
    network = build()
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    steps = settings.epochs * math.ceil(len(dataset) / settings.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, total_steps=steps)
    images = torch.from_numpy(np.ascontiguousarray(dataset.images.transpose(0, 3, 1, 2)))
    labels = torch.from_numpy(dataset.labels)
    for epoch in range(1, settings.epochs + 1):
        network.train()
        total = 0.0
        for batch in torch.randperm(len(images)).split(settings.batch_size):
            loss = torch.nn.functional.cross_entropy(network(shown(augment(images[batch].float() / 255))), labels[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        if progress:
            click.echo(f"epoch {epoch}/{settings.epochs}: loss {total / len(images):.4f}", err=True)
    return network.eval()


def export_plain(
    network: nn.Sequential, name: str, nodes: Sequence[onnx.NodeProto], parameters: Mapping[int, str], path: Path
) -> None:
    """Write a network of `train_plain` as ONNX. The same weights give the same bytes.

    Parameters
    ----------
    network, name : nn.Sequential, str
        The network, and what the graph is called.
    nodes : Sequence[onnx.NodeProto]
        From ``image`` to ``scores``.
    parameters : Mapping[int, str]
        Of each module that has any, by its place, the name of its node: weights are ``NAME.weight`` there.
    path : Path
        File to write.
    """
    tensors = [
        numpy_helper.from_array(network[at].get_parameter(what).detach().cpu().contiguous().numpy(), f"{node}.{what}")
        for at, node in parameters.items()
        for what in ("weight", "bias")
    ]
    height, width, channels = INPUT_SHAPE
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["frames", channels, height, width])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["frames", CLASSES])],
        tensors,
    )
    model = helper.make_model(graph, producer_name="tally", ir_version=8, opset_imports=[helper.make_opsetid("", _OPSET)])
    onnx.checker.check_model(model, full_check=True)
    write_file(path, model.SerializeToString(deterministic=True))


def report_plain(
    module: str,
    name: str,
    settings: PlainSettings,
    asked: Sequence[str],
    *,
    dataset_name: str,
    data_dir: Path | None,
    out: Path,
    threads: int,
    train: Callable[[Dataset], nn.Sequential],
    export: Callable[[nn.Sequential, Path], None],
    measure: Callable[[nn.Sequential, Dataset], dict[str, float]],
) -> dict[str, Any]:
    """Train, export and measure on the test frames, once; writes and gives the report.

    Parameters
    ----------
    module, name : str
        The command's module, and the name of its files.
    settings, asked : PlainSettings, Sequence[str]
        Settings, and those of them that are options of the command.
    dataset_name, data_dir, out, threads : str, Path | None, Path, int
        Options of the command.
    train, export, measure : Callable
        What to do; ``measure`` gives accuracies by name.
    """
    torch = import_torch()
    torch.set_num_threads(threads)
    dataset, test = (load(dataset_name, split, data_dir) for split in ("train", "test"))
    started = time.process_time()
    network = train(dataset)
    seconds = time.process_time() - started
    path = out / f"{name}.onnx"
    export(network, path)
    command = ["python", "-m", module, "--dataset", dataset_name, "--out", out.as_posix(), "--threads", str(threads)]
    for option in asked:
        command += [f"--{option}", str(getattr(settings, option))]
    report = {
        "command": shlex.join(command),
        "dataset": dataset.name,
        **asdict(settings),  # type: ignore[call-overload]
        "threads": threads,
        "versions": {
            "python": platform.python_version(),
            **{package: importlib.metadata.version(package) for package in ("torch", "onnx", "numpy")},
        },
        "frames_train": len(dataset),
        "frames_test": len(test),
        "train_processor_seconds": round(seconds, 1),
        **measure(network, test),
        "onnx_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    write_file(out / f"{name}.train.json", json.dumps(report, indent=2) + "\n")
    return report


