"""The options that the commands of trainings from scratch have in common."""

from __future__ import annotations

from collections.abc import Callable

import click

from model.support.choices import DIGITS
from model.support.cli import FolderPath, OutFolder

__all__ = ["training_options"]


def training_options(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options of a command that trains a small network from scratch; ``name`` is that of their files."""
    options = [
        click.option(
            "--dataset", "dataset_name", type=click.Choice(DIGITS), default="mnist", help="Data to train and test on."
        ),
        click.option("--data-dir", type=FolderPath(), help="First folder to look for the MNIST files in."),
        click.option(
            "--out",
            type=OutFolder(),
            required=True,
            help=f"Folder for {name}.onnx and {name}.train.json.",
        ),
        click.option("--threads", type=click.IntRange(1), default=1, help="Processor threads."),
        click.option("--seed", type=int, default=1, help="Seed of everything random."),
    ]

    def add(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return add
