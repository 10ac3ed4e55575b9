"""What talks to a board starts without what only models, hardware and plots need."""

import json
import subprocess
import sys

import pytest

from boards.bundled import BUNDLED
from model.machine.named_plans import named_plan
from model.network import Network
from tests.boards.fake_device import FakeDevice, served

HEAVY = ("amaranth", "cocotb", "cocotb_tools", "llvmlite", "matplotlib", "numba", "onnx", "onnxruntime", "scipy", "torch")

SCRIPT = f"""
import http.server, json, runpy, sys

def end(self, poll_interval=0.5):
    raise KeyboardInterrupt

# The page is served until Ctrl-C; here that comes at once.
http.server.ThreadingHTTPServer.serve_forever = end
module, *sys.argv[1:] = sys.argv[1:]
code = 0
try:
    runpy.run_module(module, run_name="__main__")
except SystemExit as error:
    code = error.code
print(json.dumps([code, [name for name in {HEAVY} if name in sys.modules]]), file=sys.stderr)
"""


def started(*args):
    """Output of a module that is run, and which of `HEAVY` it has loaded."""
    found = subprocess.run([sys.executable, "-c", SCRIPT, *args], capture_output=True, text=True, check=False)
    code, loaded = json.loads(found.stderr.splitlines()[-1])
    assert code in (0, None), found.stderr
    return found.stdout, loaded


@pytest.mark.parametrize(
    "args",
    [
        ["boards.device"],
        ["boards.host", "--help"],
        *(["boards.host", name, "--help"] for name in ("identify", "status", "reset", "load", "selftest", "states", "evaluate")),
        ["boards.demo", "--help"],
    ],
    ids=" ".join,
)
def test_a_start_loads_nothing_heavy(args):
    output, loaded = started(*args)
    assert loaded == []
    assert output.startswith("Usage: ") or args == ["boards.device"]


def test_talking_loads_nothing_heavy():
    network = Network.load(BUNDLED.with_name("mnist-small.npz"))
    with served(FakeDevice(network, named_plan(network, "minimal"))) as url:
        for command in ("identify", "status", "reset", "load"):
            output, loaded = started("boards.host", command, "--port", url, "--json")
            assert (loaded, isinstance(json.loads(output), dict)) == ([], True)
        output, loaded = started("boards.demo", "--port", url, "--no-browser", "--http", "0")
        assert loaded == []
        assert "".join(output.split()).startswith(f"mnist-smallon{url}:http://127.0.0.1:")


def test_the_list_is_of_what_can_be_loaded():
    """A self-test needs the golden model's engine, which is there then: the check can fail."""
    network = Network.load(BUNDLED.with_name("mnist-small.npz"))
    with served(FakeDevice(network, named_plan(network, "minimal"))) as url:
        output, loaded = started("boards.host", "selftest", "--port", url, "--frames", "1")
    assert set(loaded) >= {"numba", "llvmlite"} and "amaranth" not in loaded
    assert "pass  frames: 1 frames, 0 differ from the golden model" in output
