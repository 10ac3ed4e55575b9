"""Train a small network for small boards, 8C5s2-2MP2-10FC, and export it as ONNX.

It has 4,138 parameters, where the paper's has 106,786: its weights and states are a few memory blocks of any device. Frames are
what the spiking network sees, one bit per pixel, distorted as in `model.train`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from model.support.cli import command
from model.support.errors import BadInputError, Exit, fail
from model.training.options import training_options
from model.training.settings import check_whole

if TYPE_CHECKING:
    from torch import nn

    from model.support.dataset import Dataset

__all__ = ["SmallSettings", "export_small", "main", "train_small"]

_NAME = "mnist-small"


@dataclass(frozen=True)
class SmallSettings:
    """Everything that decides the outcome of a training, beside the data and the versions of the libraries.

    Parameters
    ----------
    seed : int
        Of the initial weights, the order of frames, and distortion.
    epochs : int
        Passes over the training frames.
    channels : int
        Of the convolution.
    batch_size : int
        Frames per step.
    learning_rate : float
        Peak of the one-cycle schedule of AdamW.
    weight_decay : float
        Of AdamW.
    """

    seed: int = 1
    epochs: int = 15
    channels: int = 8
    batch_size: int = 128
    learning_rate: float = 0.01
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        check_whole(self, {"seed": 0, "epochs": 1, "channels": 1, "batch_size": 1})
        if not 0 < self.learning_rate < math.inf:
            raise BadInputError(f"learning_rate must be more than 0, not {self.learning_rate!r}")
        if not 0 <= self.weight_decay < math.inf:
            raise BadInputError(f"weight_decay must be 0 or more, not {self.weight_decay!r}")


def train_small(settings: SmallSettings, dataset: Dataset, *, progress: bool = False) -> nn.Sequential:
    """`train_plain` of this network, on frames of one bit per pixel."""
    from model.training.common import INPUT_THRESHOLD, import_torch
    from model.training.plain import CLASSES, train_plain

    torch = import_torch()

    def build() -> nn.Sequential:
        return torch.nn.Sequential(  # type: ignore[no-any-return]
            torch.nn.Conv2d(1, settings.channels, 5, stride=2, padding=2),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
            torch.nn.Flatten(),
            torch.nn.Linear(settings.channels * 7 * 7, CLASSES),
        )

    return train_plain(
        build, settings, dataset, shown=lambda frames: (frames > INPUT_THRESHOLD / 255).float(), progress=progress
    )


def export_small(network: nn.Sequential, path: Path) -> None:
    """Write a network of `train_small` as ONNX. The same weights give the same bytes."""
    from onnx import helper

    from model.training.plain import export_plain

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
    export_plain(network, _NAME, nodes, {0: "conv1", 4: "fc1"}, path)


@command(context_settings={"show_default": True})
@training_options(_NAME)
@click.option("--epochs", type=int, default=SmallSettings.epochs, help="Passes over the training frames.")
@click.option("--channels", type=int, default=SmallSettings.channels, help="Channels of the convolution.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON on standard output.")
def main(
    dataset_name: str, data_dir: Path | None, out: Path, threads: int, as_json: bool, **options: Any
) -> None:
    """Train the network 8C5s2-2MP2-10FC for small boards and export it as ONNX.

    The test frames are measured once, at the end. A minute or two on one processor core; the result is the same each time,
    given the same versions, processor and number of threads.
    """
    from model.training.common import accuracy, binarise
    from model.training.plain import report_plain

    try:
        settings = SmallSettings(**options)
        report = report_plain(
            "model.small",
            _NAME,
            settings,
            ("seed", "epochs", "channels"),
            dataset_name=dataset_name,
            data_dir=data_dir,
            out=out,
            threads=threads,
            train=lambda dataset: train_small(settings, dataset, progress=True),
            export=export_small,
            measure=lambda network, test: {
                "float_accuracy_1_bit": accuracy(network, binarise(test.images), test.labels)
            },
        )
    except OSError as error:
        fail(Exit.BAD_INPUT, f"{error.filename}: cannot be written: {error.strerror}")
    accurate = f"{report['float_accuracy_1_bit']:.2%} of 1-bit frames, {report['frames_test']} test frames of {dataset_name}"
    click.echo(json.dumps(report, indent=2) if as_json else f"{out / _NAME}.onnx: accuracy {accurate}")


if __name__ == "__main__":
    main()
