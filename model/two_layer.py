"""Train the two-layer network 784-800FC-10FC that a comparison is made on, and export it as ONNX.

It is one of the two networks that the time-to-first-spike conversion (`model.first_spike`) is measured on. Frames are grey, as
that conversion takes them; the training frames are distorted as in `model.train`.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import platform
import shlex
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from model.datasets import DATASETS, DataError, Dataset, load
from model.errors import Exit, fail
from model.train import INPUT_SHAPE, accuracy, augment

if TYPE_CHECKING:
    from torch import nn

__all__ = ["TwoLayerSettings", "export_two_layer", "main", "train_two_layer"]

_NAME = "mnist-two-layer"
_CLASSES = 10
_OPSET = 17


@dataclass(frozen=True)
class TwoLayerSettings:
    """Everything that decides the outcome of a training, beside the data and the versions of the libraries.

    Parameters
    ----------
    seed : of the initial weights, the order of frames, distortion and dropout
    epochs : passes over the training frames
    hidden : neurons of the hidden layer
    batch_size : frames a step
    learning_rate : peak of the one-cycle schedule of AdamW
    weight_decay : of AdamW
    dropout : share of hidden values dropped in training
    """

    seed: int = 1
    epochs: int = 30
    hidden: int = 800
    batch_size: int = 256
    learning_rate: float = 4e-3
    weight_decay: float = 0.02
    dropout: float = 0.3

    def __post_init__(self) -> None:
        for name, low in (("seed", 0), ("epochs", 1), ("hidden", 1), ("batch_size", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} must be an integer, not {value!r}")
            if value < low:
                raise ValueError(f"{name} must be {low} or more, not {value!r}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be more than 0, not {self.learning_rate!r}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be 0 or more, not {self.weight_decay!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and less than 1, not {self.dropout!r}")


def _import_torch() -> Any:
    # Only training needs PyTorch, which is large; all else works without it.
    try:
        import torch
    except ImportError as error:
        raise ImportError("training must have PyTorch installed: pip install -e .[train]") from error
    return torch


def train_two_layer(settings: TwoLayerSettings, dataset: Dataset, *, progress: bool = False) -> nn.Sequential:
    """Train on all frames of ``dataset``, which are of 28 x 28 x 1 in ten classes.

    Returns
    -------
    torch.nn.Sequential
        From ``(frames, 1, 28, 28)``, full scale 1.0, to ``(frames, 10)``; in evaluation mode.
    """
    torch = _import_torch()
    if dataset.images.shape[1:] != INPUT_SHAPE:
        raise DataError(
            f"{dataset.name}: images must be of (height, width, channels) {INPUT_SHAPE}, not {dataset.images.shape[1:]}"
        )
    if dataset.labels.max() >= _CLASSES:
        raise DataError(f"{dataset.name}: labels must be less than {_CLASSES}, not {int(dataset.labels.max())}")
    torch.manual_seed(settings.seed)
    network = torch.nn.Sequential(
        torch.nn.Flatten(),
        torch.nn.Linear(math.prod(INPUT_SHAPE), settings.hidden),
        torch.nn.ReLU(),
        torch.nn.Dropout(settings.dropout),
        torch.nn.Linear(settings.hidden, _CLASSES),
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    steps = settings.epochs * math.ceil(len(dataset) / settings.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, total_steps=steps)
    images = torch.from_numpy(np.ascontiguousarray(dataset.images.transpose(0, 3, 1, 2)))
    labels = torch.from_numpy(dataset.labels)
    for epoch in range(1, settings.epochs + 1):
        network.train()
        total = 0.0
        for batch in torch.randperm(len(images)).split(settings.batch_size):
            frames = augment(images[batch].float() / 255)
            loss = torch.nn.functional.cross_entropy(network(frames), labels[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        if progress:
            click.echo(f"epoch {epoch}/{settings.epochs}: loss {total / len(images):.4f}", err=True)
    return network.eval()  # type: ignore[no-any-return]


def export_two_layer(network: nn.Sequential, path: Path) -> None:
    """Write a network of `train_two_layer` as ONNX: Flatten, Gemm, Relu, Gemm. The same weights give the same bytes."""
    tensors = [
        numpy_helper.from_array(network[at].get_parameter(what).detach().cpu().contiguous().numpy(), f"{name}.{what}")
        for at, name in ((1, "fc1"), (4, "fc2"))
        for what in ("weight", "bias")
    ]
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"], name="flatten", axis=1),
        helper.make_node("Gemm", ["flat", "fc1.weight", "fc1.bias"], ["fc1_out"], name="fc1", transB=1),
        helper.make_node("Relu", ["fc1_out"], ["relu_out"], name="relu"),
        helper.make_node("Gemm", ["relu_out", "fc2.weight", "fc2.bias"], ["scores"], name="fc2", transB=1),
    ]
    height, width, channels = INPUT_SHAPE
    graph = helper.make_graph(
        nodes,
        _NAME,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["frames", channels, height, width])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["frames", _CLASSES])],
        tensors,
    )
    model = helper.make_model(graph, producer_name="tally", ir_version=8, opset_imports=[helper.make_opsetid("", _OPSET)])
    onnx.checker.check_model(model, full_check=True)
    _write(path, model.SerializeToString(deterministic=True))


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    part.replace(path)


@click.command(context_settings={"show_default": True})
@click.option("--dataset", "dataset_name", type=click.Choice(DATASETS), default="mnist", help="Data to train and test on.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="First folder to look for the MNIST files in.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help=f"Folder for {_NAME}.onnx and {_NAME}.train.json.",
)
@click.option("--seed", type=int, default=TwoLayerSettings.seed, help="Seed of everything random.")
@click.option("--epochs", type=int, default=TwoLayerSettings.epochs, help="Passes over the training frames.")
@click.option("--hidden", type=int, default=TwoLayerSettings.hidden, help="Neurons of the hidden layer.")
@click.option("--threads", type=click.IntRange(1), default=1, help="Processor threads.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON on standard output.")
def main(dataset_name: str, data_dir: Path | None, out: Path, threads: int, as_json: bool, **options: Any) -> None:
    """Train the network 784-800FC-10FC and export it as ONNX.

    The test frames are measured once, at the end. About three minutes on one processor core; the result is the same each
    time, given the same versions, processor and number of threads.
    """
    try:
        settings = TwoLayerSettings(**options)
        torch = _import_torch()
        torch.set_num_threads(threads)
        dataset, test = (load(dataset_name, split, data_dir) for split in ("train", "test"))
        started = time.process_time()
        network = train_two_layer(settings, dataset, progress=True)
        seconds = time.process_time() - started
        path = out / f"{_NAME}.onnx"
        export_two_layer(network, path)
        command = ["python", "-m", "model.two_layer", "--dataset", dataset_name, "--out", out.as_posix()]
        command += ["--threads", str(threads)]
        for name in ("seed", "epochs", "hidden"):
            command += [f"--{name}", str(getattr(settings, name))]
        report = {
            "command": shlex.join(command),
            "dataset": dataset.name,
            **asdict(settings),
            "threads": threads,
            "versions": {
                "python": platform.python_version(),
                **{package: importlib.metadata.version(package) for package in ("torch", "onnx", "numpy")},
            },
            "frames_train": len(dataset),
            "frames_test": len(test),
            "train_processor_seconds": round(seconds, 1),
            "float_accuracy_grey": accuracy(network, test.images, test.labels),
            "onnx_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        text = json.dumps(report, indent=2) + "\n"
        _write(out / f"{_NAME}.train.json", text.encode())
    except (ImportError, OSError, ValueError, TypeError) as error:
        fail(Exit.BAD_INPUT, str(error))
    if as_json:
        click.echo(text, nl=False)
    else:
        click.echo(f"{path}: accuracy {report['float_accuracy_grey']:.2%} grey, on {len(test)} test frames of {test.name}")


if __name__ == "__main__":
    main()
