"""What all command lines share: commands, types of options, standard streams, and what is shown on a terminal.

It loads rich only to show something: ``--help`` needs none of it.
"""

from __future__ import annotations

import math
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from model.support.errors import BadInputError, StoppedError, one_line, one_line_errors
from model.support.files import check_writable_file, check_writable_folder
from model.support.processes import Started, started, terminate
from model.support.streams import standard_streams

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn
    from rich.table import Table

__all__ = [
    "Command",
    "FilePath",
    "FolderPath",
    "Group",
    "Number",
    "OutFile",
    "OutFolder",
    "command",
    "doing",
    "group",
    "make_console",
    "make_table",
    "progress_bar",
    "tell",
]

_MOST = 1e30
"""No number of a command is larger: what is computed with it stays far within the range of floats."""

_LEAST_WIDTH = 60
"""Characters of a line at the least: in fewer a table has no room for what it says."""


class Number(click.FloatRange):
    """A finite number within a range: the type of options that take one."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        if abs(number) > _MOST:
            self.fail(f"{value!r} is not within -{_MOST:g}..{_MOST:g}.", param, ctx)
        return number


class _NamedPath(click.Path):
    """A path. An empty text, which pathlib takes for this folder, is none."""

    _WHAT = "file"

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        option = _option(param)
        if value == "":
            raise BadInputError(f"{option} must name a {self._WHAT}, not be empty")
        path = Path(value)
        self._check(option, path)
        return path

    def _check(self, option: str, path: Path) -> None:
        """Raise `BadInputError` where the path is no good."""


class FilePath(_NamedPath):
    """The type of arguments that name a file to read; what is wrong with it shows when it is read."""


class FolderPath(_NamedPath):
    """The type of arguments that name a folder to read."""

    _WHAT = "folder"


class OutFile(_NamedPath):
    """The type of options that name a file to write: whether it can be shows at once, not after the work.

    Parameters
    ----------
    ending : str
        What its name ends in, such as ``.npz``.
    """

    def __init__(self, ending: str) -> None:
        super().__init__()
        self._ending = ending

    def _check(self, option: str, path: Path) -> None:
        if path.name == self._ending:
            raise BadInputError(f"{option} must have a name before {self._ending}, not be {str(path)!r}")
        if path.suffix != self._ending:
            raise BadInputError(f"{option} must end in {self._ending}, not {str(path)!r}")
        check_writable_file(option, path)


class OutFolder(_NamedPath):
    """The type of options that name a folder to write to: whether that can be shows at once, not after the work."""

    _WHAT = "folder"

    def _check(self, option: str, path: Path) -> None:
        check_writable_folder(option, path)


def _option(param: click.Parameter | None) -> str:
    """How a parameter is called on the command line."""
    if isinstance(param, click.Option):
        return max(param.opts, key=len)
    return param.human_readable_name if param is not None else "path"


class _Guarded(click.Command):
    """What commands and groups share: how they end."""

    def main(self, *args: Any, **options: Any) -> Any:
        with _terminable(), standard_streams(), one_line_errors():
            try:
                return super().main(*args, **options)
            finally:
                # Whatever reads standard output may be full: that shows only here.
                sys.stdout.flush()

    def invoke(self, ctx: click.Context) -> Any:
        # Before click, which would take Ctrl-C for a failure.
        with one_line_errors():
            return super().invoke(ctx)


class Command(_Guarded):
    """A command whose `model.support.errors.TallyError` ends it in one line, with the error's exit code."""


class Group(_Guarded, click.Group):
    """A group of such commands."""

    command_class = Command
    group_class = type


@contextmanager
def _terminable() -> Iterator[None]:
    """A context in which signals that ask to end are exceptions, so that files are cleaned up, and no process is left.

    Tools start further processes, which go on where only the tool is ended.
    """
    left: list[Started] = []

    def stop(number: int, frame: object) -> None:
        left.extend(started())
        raise KeyboardInterrupt if number == signal.SIGINT else StoppedError

    before = {}
    if threading.current_thread() is threading.main_thread():
        # Who starts a command in the background may have it ignore Ctrl-C.
        known = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        numbers = [number for number, handler in known.items() if handler not in (signal.SIG_IGN, None)]
        before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        terminate(left)


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


def make_console(*, stderr: bool = False, width_in_file: int | None = None) -> Console:
    """Where tables and lines are shown. Text, in tables too, is shown as it is: brackets in a name mean nothing.

    Parameters
    ----------
    stderr : bool
        Whether on standard error rather than standard output.
    width_in_file : int or None
        Characters of a line where there is no terminal; None for what the environment says, or 80.
    """
    from model.support.console import PlainConsole

    console = PlainConsole(stderr=stderr, markup=False, emoji=False)
    if width_in_file is not None and not console.is_terminal:
        console.width = width_in_file
    console.width = max(console.width, _LEAST_WIDTH)
    return console


def make_table(*titles: str, **options: Any) -> Table:
    """A table for a console; arguments as of `rich.table.Table`."""
    from rich.table import Table

    return Table(*titles, **options)


@contextmanager
def doing(console: Console, text: str) -> Iterator[Callable[[str], None]]:
    """What is being done, on a terminal; gives what to call with what is done next."""
    from rich.text import Text

    with console.status(Text(text)) as shown:
        yield lambda text: shown.update(Text(text))


def progress_bar(console: Console, *columns: ProgressColumn) -> Progress:
    """A progress bar on a terminal, and nothing elsewhere.

    Parameters
    ----------
    console : Console
        Where.
    *columns : ProgressColumn
        What stands after the bar: by default percents and the time that is left.
    """
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", style="progress.description", markup=False),
        BarColumn(),
        *(columns or (TaskProgressColumn(), TimeRemainingColumn())),
        console=console,
        disable=not console.is_terminal,
    )
