"""What a command started ends with it, however far below."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from model.support.processes import started, terminate

ROOT = Path(__file__).parents[3]

COMMAND = """
import subprocess
from model.support.cli import command

@command(help="A command.")
def main():
    # A tool that starts another, as make does, and does not end it.
    subprocess.run(["bash", "-c", "sleep 61 & echo $!; wait"])

main()
"""

WITH_IT = """
import subprocess, sys
from model.support.processes import end_with_this_process

end_with_this_process()
subprocess.run(["bash", "-c", "sleep 61 & echo $!; wait"])
"""


def running(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_no_process(number):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = subprocess.Popen(
        [sys.executable, "-c", COMMAND],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        # Tests that run in the background ignore Ctrl-C, and what they start inherits it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with command:
        assert command.stdout is not None
        below = int(command.stdout.readline())
        assert running(below)
        command.send_signal(number)
        assert command.wait(30) == 128 + number
    assert ends(below)


def ends(process):
    """Whether it does, soon."""
    until = time.monotonic() + 30
    while running(process) and time.monotonic() < until:
        time.sleep(0.05)
    return not running(process)


def test_what_is_killed_leaves_no_process():
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WITH_IT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as killed:
        assert killed.stdout is not None
        below = int(killed.stdout.readline())
        assert running(below)
        killed.kill()
        assert killed.wait(30) == -signal.SIGKILL
        assert ends(below)


def test_what_was_started_is_found_and_ended():
    with subprocess.Popen(["bash", "-c", "sleep 61 & wait"], stdout=subprocess.PIPE) as process:
        found = started()
        while {number for number, _ in found} <= {process.pid}:
            found = started()
        assert process.pid in [number for number, _ in found]
        terminate([(process.pid, -1)])
        assert process.poll() is None
        terminate(found)
        assert process.wait(10) == -signal.SIGTERM
