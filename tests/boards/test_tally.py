"""The console script: every command is there, is the one of `python -m`, and is loaded only when asked for."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from boards.tally import COMMANDS, main
from model.support.cli import Command, Group
from model.support.errors import Exit, OutputClosedError, StoppedError, TallyError

ROOT = Path(__file__).parents[2]


def test_it_is_the_script_of_the_project():
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"] == {"tally": "boards.tally:main"}


def test_every_command_of_the_packages_is_there():
    """A command is a file that runs ``main`` when it is run."""
    found = set()
    for package in ("model", "hw", "sim", "boards"):
        for path in (ROOT / package).rglob("*.py"):
            tree = ast.parse(path.read_text())
            if any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in tree.body):
                found.add(".".join(path.relative_to(ROOT).with_suffix("").parts))
    assert found == {module for module, _ in COMMANDS.values()} | {"boards.tally"}


@pytest.mark.parametrize("name", COMMANDS)
def test_each_explains_itself(name):
    found = CliRunner().invoke(main, [name, "--help"])
    assert found.exit_code == 0, found.output
    assert found.stdout.startswith(f"Usage: main {name} ")
    command = main.get_command(click.Context(main), name)
    assert isinstance(command, Command | Group)


def test_help_lists_all_and_loads_none():
    script = (
        "import sys\nfrom boards.tally import main\n"
        "try:\n    main(['--help'])\nfinally:\n"
        "    loaded = {'amaranth', 'numba', 'onnx', 'onnxruntime', 'torch', 'matplotlib', 'numpy'} & set(sys.modules)\n"
        "    print(sorted(loaded), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stderr == "[]\n"
    listed = done.stdout.split("Commands:\n")[1]
    assert all(f"  {name} " in listed for name in COMMANDS)
    codes = "Exit codes: 2 bad input, 3 does not fit, 4 timing, 5 mismatch, 6 tool missing, 7 tool failed, 8 no device, "
    codes += "9 not written, 10 weights differ, 130 interrupted, 141 output closed, 143 terminated."
    assert " ".join(done.stdout.split()).endswith(codes)


def test_an_unknown_command_is_refused():
    found = CliRunner().invoke(main, ["bake"])
    assert (found.exit_code, found.stderr.splitlines()[-1]) == (2, "Error: No such command 'bake'.")


def errors(base=TallyError):
    for kind in base.__subclasses__():
        yield kind
        yield from errors(kind)


def leaves(command):
    return [leaf for sub in command.commands.values() for leaf in leaves(sub)] if isinstance(command, click.Group) else [command]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_error_of_every_command_is_one_line_with_its_exit_code(name, monkeypatch):
    """Whatever a command raises on purpose, wherever it comes from; anything else is a fault and is not dressed up."""
    commands = leaves(main.get_command(click.Context(main), name))
    codes = {Exit(kind.exit_code) for kind in errors()}
    assert commands
    assert codes == set(Exit) - {Exit.OK, Exit.INTERRUPTED, Exit.TERMINATED}
    for command in commands:
        monkeypatch.setattr(command, "params", [])
        for kind in errors():

            def fails(kind=kind):
                raise kind("it is\nnot \x1b[31mwell")

            monkeypatch.setattr(command, "callback", fails)
            done = CliRunner().invoke(command)
            told = "" if kind is OutputClosedError else "error: it is not [31mwell\n"
            assert (done.exit_code, done.stdout, done.stderr) == (kind.exit_code, "", told)
        for stop, code, told in (
            (KeyboardInterrupt, Exit.INTERRUPTED, "interrupted"),
            (StoppedError, Exit.TERMINATED, "terminated"),
        ):
            # A signal that comes within compiled code is the cause of another error.
            for raised in ("raise stop", "raise SystemError('returned a result with an exception set') from stop()"):
                monkeypatch.setattr(command, "callback", lambda stop=stop, raised=raised: exec(raised, {"stop": stop}))
                done = CliRunner().invoke(command)
                assert (done.exit_code, done.stdout, done.stderr) == (code, "", f"error: {told}\n")

        def breaks():
            raise ValueError("a fault")

        monkeypatch.setattr(command, "callback", breaks)
        assert isinstance(CliRunner().invoke(command).exception, ValueError)


def test_each_kind_of_error_has_one_exit_code():
    assert {kind.__name__: int(kind.exit_code) for kind in TallyError.__subclasses__()} == {
        "BadInputError": 2,
        "DoesNotFitError": 3,
        "TimingError": 4,
        "MismatchError": 5,
        "ToolMissingError": 6,
        "ToolError": 7,
        "DeviceError": 8,
        "OutputError": 9,
    }


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("convert", ["net.onnx", "--out", "net.npz", "--calibrate", "mnist", "--accuracy-budget"]),
        ("convert", ["net.onnx", "--out", "net.npz", "--calibrate", "mnist", "--threshold"]),
        ("estimate", ["net.npz", "--clock"]),
        ("estimate", ["net.npz", "--target-fps"]),
        ("build", ["--clock"]),
        ("verify", ["net.npz", "--idle"]),
        ("host", ["identify", "--port", "none", "--timeout"]),
    ],
)
def test_numbers_are_finite(name, arguments, value):
    found = CliRunner().invoke(main, [name, *arguments, value])
    assert found.exit_code == 2
    assert f"Invalid value for '{arguments[-1]}'" in found.stderr


def test_what_the_system_refuses_of_a_file_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-m", "boards.tally", "build", "--verilog-only", "model/zoo/mnist-small.npz"]
    done = subprocess.run([*command, "--out", tmp_path / "file"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        2,
        f"error: --out must be a folder, not {str(tmp_path / 'file')!r}",
    )
    with Path("/dev/full").open("w") as full:
        check = [sys.executable, "-m", "boards.tally", "check", "model/zoo/mnist-small.onnx"]
        done = subprocess.run(check, stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (9, "error: standard output: No space left on device\n")
