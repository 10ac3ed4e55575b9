"""What all command lines share."""

import math
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from model.support.errors import one_line, one_line_errors

__all__ = ["Command", "FilePath", "Group", "Number", "command", "group", "tell"]


class Number(click.FloatRange):
    """A finite number within a range: the type of options that take one."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


class FilePath(click.Path):
    """The path of a file: the type of arguments that name one. An empty text, which pathlib takes for this folder, is none."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("must name a file, not be empty.", param, ctx)
        return super().convert(value, param, ctx)


class Command(click.Command):
    """A command whose `model.support.errors.TallyError` ends it in one line, with the error's exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        with one_line_errors():
            result = super().invoke(ctx)
            # Whatever reads standard output may be full: that shows only here.
            sys.stdout.flush()
            return result


class Group(click.Group):
    """A group of such commands."""

    command_class = Command
    group_class = type


def command(help: str | None = None, **options: Any) -> Callable[[Callable[..., Any]], Command]:
    """The decorator of every command: like `click.command`, and errors are told in one line.

    Parameters
    ----------
    help : str
        What ``--help`` says first; the function's docstring where it is not given.
    **options
        As of `click.command`.
    """
    return click.command(cls=Command, help=help, **options)


def group(help: str, **options: Any) -> Callable[[Callable[..., Any]], Group]:
    """The same for a group of commands."""
    return click.group(cls=Group, help=help, **options)


def tell(notes: Iterable[str] = (), warnings: Iterable[str] = ()) -> None:
    """Notes and warnings on standard error, a line each."""
    for note in notes:
        print(f"note: {one_line(note)}", file=sys.stderr)
    for warning in warnings:
        print(f"warning: {one_line(warning)}", file=sys.stderr)
