"""The command of a build: errors in one line, the list of boards, options that do not go together."""

import json

import pytest
from click.testing import CliRunner

from boards.definitions import BOARDS
from hw.build import main


def command(*args):
    done = CliRunner().invoke(main, [str(arg) for arg in args])
    return done.exit_code, done.stdout, done.stderr.strip().splitlines()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--board", "teapot"), f"error: board must be one of {', '.join(BOARDS)}, not 'teapot'"),
        (("none.npz",), "error: none.npz: cannot be read: No such file or directory"),
        (("none.onnx",), "error: none.onnx: cannot be read: No such file or directory"),
        (("--plan", "huge"), "error: plan must be a file or one of minimal, default, fast, folded, not 'huge'"),
    ],
)
def test_bad_input_gets_one_line(args, message):
    code, out, err = command(*args, "--verilog-only")
    assert (code, out, err[-1]) == (2, "", message)


def test_list_boards():
    code, out, _ = command("--list-boards", "--json")
    assert code == 0
    assert [board["name"] for board in json.loads(out)] == list(BOARDS)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["--board", "icebreaker", "--program"],
            "--program must be --program-flash for iCEBreaker: its programmer reaches the flash, not the device",
        ),
        (["--program", "--program-flash"], "--program and --program-flash must not both be given"),
        (
            ["--verilog-only", "--program-flash"],
            "--verilog-only makes no bitstream: --program and --program-flash must not be given",
        ),
    ],
)
def test_what_cannot_be_programmed(monkeypatch, args, message):
    monkeypatch.setattr("boards.bitstream.build", None)
    done = CliRunner().invoke(main, args)
    assert (done.exit_code, done.stderr) == (2, f"error: {message}\n")
