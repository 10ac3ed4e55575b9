"""Train the two-layer network 784-800FC-10FC that a comparison is made on, and export it as ONNX.

It is one of the two networks that the time-to-first-spike conversion (`model.studies.first_spike`) is measured on. Frames are
grey, as that conversion takes them; the training frames are distorted as in `model.train`.
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

__all__ = ["TwoLayerSettings", "export_two_layer", "main", "train_two_layer"]

_NAME = "mnist-two-layer"


@dataclass(frozen=True)
class TwoLayerSettings:
    """Everything that decides the outcome of a training, beside the data and the versions of the libraries.

    Parameters
    ----------
    seed : int
        Of the initial weights, the order of frames, distortion and dropout.
    epochs : int
        Passes over the training frames.
    hidden : int
        Neurons of the hidden layer.
    batch_size : int
        Frames per step.
    learning_rate : float
        Peak of the one-cycle schedule of AdamW.
    weight_decay : float
        Of AdamW.
    dropout : float
        Share of hidden values dropped in training.
    """

    seed: int = 1
    epochs: int = 30
    hidden: int = 800
    batch_size: int = 256
    learning_rate: float = 4e-3
    weight_decay: float = 0.02
    dropout: float = 0.3

    def __post_init__(self) -> None:
        check_whole(self, {"seed": 0, "epochs": 1, "hidden": 1, "batch_size": 1})
        if not 0 < self.learning_rate < math.inf:
            raise BadInputError(f"learning_rate must be more than 0, not {self.learning_rate!r}")
        if not 0 <= self.weight_decay < math.inf:
            raise BadInputError(f"weight_decay must be 0 or more, not {self.weight_decay!r}")
        if not 0 <= self.dropout < 1:
            raise BadInputError(f"dropout must be at least 0 and less than 1, not {self.dropout!r}")


def train_two_layer(settings: TwoLayerSettings, dataset: Dataset, *, progress: bool = False) -> nn.Sequential:
    """`train_plain` of this network."""
    from model.training.common import INPUT_SHAPE, import_torch
    from model.training.plain import CLASSES, train_plain

    torch = import_torch()

    def build() -> nn.Sequential:
        return torch.nn.Sequential(  # type: ignore[no-any-return]
            torch.nn.Flatten(),
            torch.nn.Linear(math.prod(INPUT_SHAPE), settings.hidden),
            torch.nn.ReLU(),
            torch.nn.Dropout(settings.dropout),
            torch.nn.Linear(settings.hidden, CLASSES),
        )

    return train_plain(build, settings, dataset, progress=progress)


def export_two_layer(network: nn.Sequential, path: Path) -> None:
    """Write a network of `train_two_layer` as ONNX: Flatten, Gemm, Relu, Gemm. The same weights give the same bytes."""
    from onnx import helper

    from model.training.plain import export_plain

    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"], name="flatten", axis=1),
        helper.make_node("Gemm", ["flat", "fc1.weight", "fc1.bias"], ["fc1_out"], name="fc1", transB=1),
        helper.make_node("Relu", ["fc1_out"], ["relu_out"], name="relu"),
        helper.make_node("Gemm", ["relu_out", "fc2.weight", "fc2.bias"], ["scores"], name="fc2", transB=1),
    ]
    export_plain(network, _NAME, nodes, {1: "fc1", 4: "fc2"}, path)


@command(context_settings={"show_default": True})
@training_options(_NAME)
@click.option("--epochs", type=int, default=TwoLayerSettings.epochs, help="Passes over the training frames.")
@click.option("--hidden", type=int, default=TwoLayerSettings.hidden, help="Neurons of the hidden layer.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON on standard output.")
def main(
    dataset_name: str, data_dir: Path | None, out: Path, threads: int, as_json: bool, **options: Any
) -> None:
    """Train the network 784-800FC-10FC and export it as ONNX.

    The test frames are measured once, at the end. About three minutes on one processor core; the result is the same each
    time, given the same versions, processor and number of threads.
    """
    from model.training.common import accuracy
    from model.training.plain import report_plain

    try:
        settings = TwoLayerSettings(**options)
        report = report_plain(
            "model.two_layer",
            _NAME,
            settings,
            ("seed", "epochs", "hidden"),
            dataset_name=dataset_name,
            data_dir=data_dir,
            out=out,
            threads=threads,
            train=lambda dataset: train_two_layer(settings, dataset, progress=True),
            export=export_two_layer,
            measure=lambda network, test: {"float_accuracy_grey": accuracy(network, test.images, test.labels)},
        )
    except OSError as error:
        fail(Exit.BAD_INPUT, f"{error.filename}: cannot be written: {error.strerror}")
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        accurate = f"{report['float_accuracy_grey']:.2%} grey, on {report['frames_test']} test frames of {dataset_name}"
        click.echo(f"{out / _NAME}.onnx: accuracy {accurate}")


if __name__ == "__main__":
    main()
