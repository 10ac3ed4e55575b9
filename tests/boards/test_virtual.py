"""The command of the virtual board: where it says that it is, a device is, until Ctrl-C."""

import json
import signal
import subprocess
import sys
from functools import partial

from boards.device import Device
from sim.generators.networks import random_network


def test_where_it_is_as_json(tmp_path):
    network = random_network(2)
    network.save(tmp_path / "net.npz")
    options = [tmp_path / "net.npz", "--plan", "minimal", "--port", "0", "--json"]
    command = [sys.executable, "-m", "boards.virtual", *options]
    # Whoever runs the tests in the background ignores Ctrl-C, and so would the command.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heard
    ) as process:
        try:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            said = json.loads(line)
            assert (said["board"], said["network"], said["plan"]) == ("ulx3s-85f", "random2", "minimal")
            assert said["url"] == f"socket://127.0.0.1:{said['port']}"
            with Device.open(said["url"], timeout=60) as device:
                device.require(network)
            process.send_signal(signal.SIGINT)
            assert process.wait(600) == 0
        finally:
            process.kill()
