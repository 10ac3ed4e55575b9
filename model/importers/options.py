"""The options of commands that read an ONNX file, about what the file does not say."""

from collections.abc import Callable
from typing import Any

import click

from model.importers.layouts import LAYOUTS

__all__ = ["file_options"]


def file_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--layout`` and ``--output``, which become the arguments ``layout`` and ``output``."""
    layout = click.option(
        "--layout",
        type=click.Choice(LAYOUTS),
        help="Whether the file's input has its channels first or last, where neither its nodes nor the data's shape show it.",
    )
    output = click.option("--output", metavar="NAME", help="The output that the network ends in, of a file with several.")
    return layout(output(function))
