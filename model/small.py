"""Train a small network for small boards, 8C5s2-2MP2-10FC, and export it as ONNX.

It has 4,138 parameters, where the paper's has 106,786: its weights and states are a few memory blocks of any device. Frames are
what the spiking network sees, one bit a pixel, distorted as in `model.train`.
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
from model.train import INPUT_SHAPE, INPUT_THRESHOLD, accuracy, augment, binarise, check_whole, import_torch

if TYPE_CHECKING:
    from torch import nn

__all__ = ["SmallSettings", "export_small", "main", "train_small"]

_NAME = "mnist-small"
_CLASSES = 10
_OPSET = 17


@dataclass(frozen=True)
class SmallSettings:
    """Everything that decides the outcome of a training, beside the data and the versions of the libraries.

    Parameters
    ----------
    seed : of the initial weights, the order of frames, and distortion
    epochs : passes over the training frames
    channels : of the convolution
    batch_size : frames a step
    learning_rate : peak of the one-cycle schedule of AdamW
    """

    seed: int = 1
    epochs: int = 15
    channels: int = 8
    batch_size: int = 128
    learning_rate: float = 0.01

    def __post_init__(self) -> None:
        check_whole(self, {"seed": 0, "epochs": 1, "channels": 1, "batch_size": 1})
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be more than 0, not {self.learning_rate!r}")


def train_small(settings: SmallSettings, dataset: Dataset, *, progress: bool = False) -> nn.Sequential:
    """Train on all frames of ``dataset``, which are of 28 x 28 x 1 in ten classes.

    Returns
    -------
    torch.nn.Sequential
        From ``(frames, 1, 28, 28)``, full scale 1.0, to ``(frames, 10)``; in evaluation mode.
    """
    torch = import_torch()
    if dataset.images.shape[1:] != INPUT_SHAPE:
        raise DataError(
            f"{dataset.name}: images must be of (height, width, channels) {INPUT_SHAPE}, not {dataset.images.shape[1:]}"
        )
    torch.manual_seed(settings.seed)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, settings.channels, 5, stride=2, padding=2),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(settings.channels * 7 * 7, _CLASSES),
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=0.01)
    steps = settings.epochs * math.ceil(len(dataset) / settings.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, total_steps=steps)
    images = torch.from_numpy(np.ascontiguousarray(dataset.images.transpose(0, 3, 1, 2)))
    labels = torch.from_numpy(dataset.labels)
    for epoch in range(1, settings.epochs + 1):
        network.train()
        total = 0.0
        for batch in torch.randperm(len(images)).split(settings.batch_size):
            frames = (augment(images[batch].float() / 255) > INPUT_THRESHOLD / 255).float()
            loss = torch.nn.functional.cross_entropy(network(frames), labels[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        if progress:
            click.echo(f"epoch {epoch}/{settings.epochs}: loss {total / len(images):.4f}", err=True)
    return network.eval()  # type: ignore[no-any-return]


def export_small(network: nn.Sequential, path: Path) -> None:
    """Write a network of `train_small` as ONNX. The same weights give the same bytes."""
    tensors = [
        numpy_helper.from_array(network[at].get_parameter(what).detach().cpu().contiguous().numpy(), f"{name}.{what}")
        for at, name in ((0, "conv1"), (4, "fc1"))
        for what in ("weight", "bias")
    ]
    nodes = [
        helper.make_node(
            "Conv",
            ["image", "conv1.weight", "conv1.bias"],
            ["conv1_out"],
            name="conv1",
            kernel_shape=[5, 5],
            strides=[2, 2],
            pads=[2, 2, 2, 2],
        ),
        helper.make_node("Relu", ["conv1_out"], ["relu_out"], name="relu"),
        helper.make_node("MaxPool", ["relu_out"], ["pool1_out"], name="pool1", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["pool1_out"], ["flat"], name="flatten", axis=1),
        helper.make_node("Gemm", ["flat", "fc1.weight", "fc1.bias"], ["scores"], name="fc1", transB=1),
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
@click.option("--seed", type=int, default=SmallSettings.seed, help="Seed of everything random.")
@click.option("--epochs", type=int, default=SmallSettings.epochs, help="Passes over the training frames.")
@click.option("--channels", type=int, default=SmallSettings.channels, help="Channels of the convolution.")
@click.option("--threads", type=click.IntRange(1), default=1, help="Processor threads.")
def main(dataset_name: str, data_dir: Path | None, out: Path, threads: int, **options: Any) -> None:
    """Train the network 8C5s2-2MP2-10FC for small boards and export it as ONNX.

    The test frames are measured once, at the end. A minute or two on one processor core; the result is the same each time,
    given the same versions, processor and number of threads.
    """
    try:
        settings = SmallSettings(**options)
        torch = import_torch()
        torch.set_num_threads(threads)
        dataset, test = (load(dataset_name, split, data_dir) for split in ("train", "test"))
        started = time.process_time()
        network = train_small(settings, dataset, progress=True)
        seconds = time.process_time() - started
        path = out / f"{_NAME}.onnx"
        export_small(network, path)
        command = ["python", "-m", "model.small", "--dataset", dataset_name, "--out", out.as_posix()]
        command += ["--threads", str(threads)]
        for name in ("seed", "epochs", "channels"):
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
            "float_accuracy_1_bit": accuracy(network, binarise(test.images), test.labels),
            "onnx_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        _write(out / f"{_NAME}.train.json", (json.dumps(report, indent=2) + "\n").encode())
    except (ImportError, OSError, ValueError, TypeError) as error:
        fail(Exit.BAD_INPUT, str(error))
    click.echo(f"{path}: accuracy {report['float_accuracy_1_bit']:.2%} of 1-bit frames, {len(test)} test frames of {test.name}")


if __name__ == "__main__":
    main()
