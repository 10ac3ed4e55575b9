"""Commands whose standard streams are closed, full, cut off or of another encoding, and ones that are interrupted."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

COMMAND = """
import sys, time
import click
from model.support.cli import command, doing, make_console, tell
from model.support.errors import Exit, fail

@command(help="A command.")
@click.option("--lines", default=1)
@click.option("--wait", default=0.0)
@click.option("--code", default=0)
def main(lines, wait, code):
    tell(["a note"], ["a warning"])
    for n in range(lines):
        print('{"text": "\u00e9"}')
    if wait:
        sys.stdout.flush()
    time.sleep(wait)
    if code:
        with doing(make_console(stderr=True), "working"):
            fail(Exit(code), "no")

main()
"""
TOLD = "note: a note\nwarning: a warning\n"
FULL = "error: standard output: No space left on device\n"


def shell(redirection, *arguments, **environment):
    """The exit code of the command in a shell, and what both streams hold."""
    found = subprocess.run(
        ["bash", "-c", f'{sys.executable} -c "$SOURCE" {" ".join(arguments)} {redirection}'],
        capture_output=True,
        env={**os.environ, "SOURCE": COMMAND, "PYTHONPATH": str(ROOT), **environment},
        cwd=ROOT,
        check=False,
    )
    return found.returncode, found.stdout.decode(), found.stderr.decode()


def test_a_closed_stream_is_none():
    assert shell(">&-") == (0, "", TOLD)
    code, out, err = shell("2>&-")
    assert (code, json.loads(out), err) == (0, {"text": "é"}, "")
    assert shell("<&- >&- 2>&-", "--code", "5") == (5, "", "")


@pytest.mark.parametrize(
    ("redirection", "arguments", "expected"),
    [
        (">/dev/full", [], (9, "", TOLD + FULL)),
        (">/dev/full", ["--lines", "20000"], (9, "", TOLD + FULL)),
        (">/dev/full", ["--help"], (9, "", FULL)),
        (">/dev/full", ["--code", "5"], (9, "", TOLD + "error: no\n" + FULL)),
        (">/dev/full 2>/dev/full", [], (9, "", "")),
        ("2>/dev/full", ["--code", "5"], (5, '{"text": "é"}\n', "")),
    ],
)
def test_a_full_stream_is_one_line(redirection, arguments, expected):
    assert shell(redirection, *arguments) == expected


def test_a_closed_pipe_is_silent():
    code, out, err = shell("| head -n 1; exit ${PIPESTATUS[0]}", "--lines", "100000")
    assert (code, out, err) == (128 + signal.SIGPIPE, '{"text": "é"}\n', TOLD)


@pytest.mark.parametrize("encoding", ["ascii", "ascii:strict"])
def test_what_an_encoding_does_not_have_is_replaced(encoding):
    assert shell("", PYTHONIOENCODING=encoding) == (0, '{"text": "?"}\n', TOLD)


@pytest.mark.parametrize(("number", "told"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_a_signal_is_one_line(number, told):
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "--wait", "30"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        # Tests that run in the background ignore Ctrl-C, and what they start inherits it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.send_signal(number)
        assert (process.wait(10), process.stderr.read()) == (128 + number, f"{TOLD}error: {told}\n")
