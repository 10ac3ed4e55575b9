"""Types of options, and what is shown on a terminal."""

import io

import click
import pytest
from click.testing import CliRunner
from rich.table import Table

from model.support.cli import FilePath, Number, OutFile, OutFolder, command, doing, make_console, progress_bar


@command(help="A command.")
@click.argument("net", type=FilePath(), required=False)
@click.option("-o", "--out", type=OutFile(".npz"))
@click.option("--folder", type=OutFolder())
@click.option("--number", type=Number(0, min_open=True))
def main(**options):
    print("ran")


def told(*arguments):
    found = CliRunner().invoke(main, [str(argument) for argument in arguments])
    return found.exit_code, found.stdout, found.stderr


def test_what_can_be_written_is_not_made_yet(tmp_path):
    (tmp_path / "there.npz").write_text("before")
    for arguments in (("-o", tmp_path / "there.npz"), ("-o", tmp_path / "new" / "n.npz"), ("--folder", tmp_path / "new" / "sub")):
        assert told(*arguments) == (0, "ran\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["there.npz"]
    assert (tmp_path / "there.npz").read_text() == "before"


def test_what_cannot_be_written_is_refused_before_the_work(tmp_path):
    file, folder = tmp_path / "file", tmp_path / "dir.npz"
    file.write_text("")
    folder.mkdir()
    for arguments, error in (
        (("-o", ""), "--out must name a file, not be empty"),
        (("-o", ".npz"), "--out must have a name before .npz, not be '.npz'"),
        (("-o", "x.txt"), "--out must end in .npz, not 'x.txt'"),
        (("-o", folder), f"--out must be a file, not a folder, {str(folder)!r}"),
        (("-o", file / "x.npz"), f"--out must be in a folder, not {str(file / 'x.npz')!r}: {str(file)!r} is none"),
        (("-o", "/proc/x.npz"), "--out must be a file that can be written, not '/proc/x.npz': No such file or directory"),
        (
            ("-o", f"{'n' * 300}.npz"),
            f"--out must be a file that can be written, not '{'n' * 300}.npz': File name too long",
        ),
        (("--folder", ""), "--folder must name a folder, not be empty"),
        (("--folder", "/dev/null"), "--folder must be a folder, not '/dev/null'"),
        (("--folder", file / "sub"), f"--folder must be a folder, not {str(file / 'sub')!r}: {str(file)!r} is none"),
        (
            ("--folder", "/proc/x"),
            "--folder must be a folder that can be written to, not '/proc/x': No such file or directory",
        ),
        (("",), "NET must name a file, not be empty"),
    ):
        assert told(*arguments) == (2, "", f"error: {error}\n")


def test_numbers_have_an_end():
    assert told("--number", "1e30") == (0, "ran\n", "")
    code, _, error = told("--number", "1e308")
    assert code == 2
    assert error.endswith("Error: Invalid value for '--number': '1e308' is not within -1e+30..1e+30.\n")


def shown(monkeypatch, columns, show):
    monkeypatch.setenv("COLUMNS", columns)
    console = make_console()
    console.file = io.StringIO()
    show(console)
    return console.file.getvalue()


@pytest.mark.parametrize("columns", ["0", "20", "60", "200"])
def test_a_table_has_room_for_what_it_says(monkeypatch, columns):
    table = Table(title="[/x] of [red]y", safe_box=True)
    for name in ("layer", "[/kind]", "threshold", "events in"):
        table.add_column(name)
    table.add_row("[bold]conv1[/]", "[/]", ":smile:", "123,456")
    text = shown(monkeypatch, columns, lambda console: console.print(table))
    for cell in ("[/x] of [red]y", "layer", "[/kind]", "threshold", "events in", "[bold]conv1[/]", "[/]", ":smile:", "123,456"):
        assert cell in text


def test_what_is_being_done_is_no_markup(monkeypatch):
    console = make_console(stderr=True)
    with doing(console, "[/x]") as say:
        say("[/y]")
    with progress_bar(console) as bar:
        bar.update(bar.add_task("[/x]", total=1), description="[/y]")
    monkeypatch.setenv("FORCE_COLOR", "1")
    told = make_console()
    told.file = io.StringIO()
    with doing(told, "[/x]") as say:
        say("[/y]")
    with progress_bar(told) as bar:
        bar.add_task("[/z]", total=1)
        bar.refresh()
    assert "[/z]" in told.file.getvalue()


def test_width_where_there_is_no_terminal():
    assert make_console(width_in_file=140).width == 140


def test_no_text_commands_a_terminal(capsys):
    """Not where it stands by itself, in a table or in its title."""
    escapes = "a\x1b]0;own\x07\x1b[2J\u202eb\nc"
    table = Table("x", title=escapes)
    table.add_row(escapes)
    console = make_console()
    console.print(escapes)
    console.print(table)
    shown = capsys.readouterr().out
    assert [c for c in shown if not c.isprintable() and c != "\n"] == []
    assert "a ]0;own  [2J b\nc" in shown
