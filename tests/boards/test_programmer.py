"""What the programmer is told, and what is said of one that fails."""

import pytest
from click.testing import CliRunner

from hw.build import main

ICEBREAKER, ULX3S = ["--board", "ice40_generic"], ["--board", "ulx3s"]
FLASH = ["--write-flash", "--verify", "--offset"]


@pytest.mark.parametrize(
    ("board", "option", "weights", "calls"),
    [
        ("ulx3s-85f", "--program", None, [[*ULX3S, "net.bit"]]),
        ("ulx3s-85f", "--program-flash", None, [[*ULX3S, *FLASH, "0x0", "net.bit"]]),
        (
            "icebreaker",
            "--program-flash",
            "weights.bin",
            [
                [*ICEBREAKER, *FLASH, "0x0", "net.bit"],
                [*ICEBREAKER, *FLASH, "0x20000", "weights.bin"],
            ],
        ),
    ],
)
def test_what_the_programmer_is_told(tmp_path, monkeypatch, board, option, weights, calls):
    """A programmer that writes down what it is asked."""
    tool = tmp_path / "openFPGALoader"
    tool.write_text('#!/bin/sh\necho "$@" >> calls\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report.md").write_text("")
    monkeypatch.setattr("boards.bitstream.build", lambda options, console: {"bitstream": "net.bit", "weights_image": weights})
    done = CliRunner().invoke(main, ["--board", board, option])
    assert done.exit_code == 0, done.output
    assert [line.split() for line in (tmp_path / "calls").read_text().splitlines()] == calls


def test_a_programmer_that_fails_without_an_exit_code(tmp_path, monkeypatch):
    tool = tmp_path / "openFPGALoader"
    tool.write_text('#!/bin/sh\necho "Wait for CDONE FAIL"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("boards.bitstream.build", lambda options, console: {"bitstream": "net.bit", "weights_image": None})
    done = CliRunner().invoke(main, ["--program"])
    assert (done.exit_code, done.stderr) == (7, "error: openfpgaloader failed; see net.program.log\n")
