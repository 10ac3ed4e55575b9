"""The options of commands that read an ONNX file, about what the file does not say."""

import functools
from collections.abc import Callable
from typing import Any

import click

from model.importers.normalization import AS_THEY_ARE, Normalization
from model.support.choices import LAYOUTS
from model.support.cli import Number

__all__ = ["LayerNames", "file_options", "gives_normalization"]


class _Numbers(click.ParamType):
    """Numbers with commas between them."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        number = Number()
        return tuple(number.convert(part.strip(), param, ctx) for part in str(value).split(","))


class LayerNames(click.ParamType):
    """Names of layers with commas between them."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        found = tuple(part.strip() for part in str(value).split(","))
        if not all(found) or len(set(found)) < len(found):
            self.fail(f"{value!r} must be different names with commas between them.", param, ctx)
        return found


def file_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--layout`` and ``--output``, which become arguments of that name; ``--mean``, ``--std`` and ``--scale``, which become
    the argument ``normalization``.
    """
    options = (
        click.option(
            "--layout",
            type=click.Choice(LAYOUTS),
            help="Whether the file's input has its channels first or last, where neither its nodes nor the data's shape show it.",
        ),
        click.option("--output", metavar="NAME", help="The output that the network ends in, of a file with several."),
        click.option(
            "--scale",
            type=Number(0, min_open=True),
            help="Full scale of the pixels that the network was trained on: 255 for raw ones; 1 by default, and 255 where the "
            "file takes uint8.",
        ),
        click.option(
            "--mean",
            type=_Numbers(),
            help="What was subtracted from the pixels in training, on the same scale: a number, or one for each channel, as "
            "0.485,0.456,0.406.",
        ),
        click.option("--std", type=_Numbers(), help="What they were divided by after that, likewise."),
    )

    @functools.wraps(function)
    def with_normalization(
        *, scale: float | None, mean: tuple[float, ...] | None, std: tuple[float, ...] | None, **rest: Any
    ) -> Any:
        normalization = Normalization(mean=mean or AS_THEY_ARE.mean, std=std or AS_THEY_ARE.std, scale=scale)
        return function(normalization=normalization, **rest)

    return functools.reduce(lambda made, option: option(made), reversed(options), with_normalization)


def gives_normalization() -> bool:
    """Whether the command that runs was given ``--mean``, ``--std`` or ``--scale``."""
    given = click.get_current_context().params
    return any(given[name] is not None for name in ("mean", "std", "scale"))
