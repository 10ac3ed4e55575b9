"""Commands load what they need only to run: not for ``--help``, and what talks to a board never what only models need."""

import json
import subprocess
import sys

import pytest

from boards.bundled import BUNDLED
from boards.host import main as host
from boards.tally import COMMANDS
from hw.flow.choices import FAMILY_NAMES
from hw.flow.families.registry import FAMILIES
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


HELP_SCRIPT = """
import contextlib, io, json, runpy, sys

at_start = set(sys.modules)
module, *words = sys.argv[1:]
told = []
for option in ("--help", "--none-such"):
    sys.argv = [module, *words, option]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            runpy.run_module(module, run_name="__main__")
        except SystemExit as error:
            told.append([error.code, out.getvalue(), err.getvalue()])
packages = {name.partition(".")[0] for name in set(sys.modules) - at_start}
print(json.dumps([told, sorted(packages - sys.stdlib_module_names)]))
"""


@pytest.mark.parametrize(
    "words",
    [*([module] for module, _ in COMMANDS.values()), ["boards.tally"], *(["boards.host", name] for name in host.commands)],
    ids=" ".join,
)
def test_help_and_a_wrong_option_load_nothing_but_click(words):
    """The packages that are loaded are the project's own and click: arrays, tables, plots and tools come with the work."""
    found = subprocess.run([sys.executable, "-c", HELP_SCRIPT, *words], capture_output=True, text=True, check=True)
    (helped, refused), packages = json.loads(found.stdout)
    assert [name for name in packages if name not in ("boards", "click", "hw", "model", "sim")] == []
    assert "click" in packages
    assert (helped[0], helped[1].startswith("Usage: "), helped[2]) == (0, True, "")
    assert (refused[0], refused[1]) == (2, "")
    assert "No such option" in refused[2] and "--none-such" in refused[2]


def test_a_netlist_can_be_of_every_family():
    assert tuple(FAMILIES) == FAMILY_NAMES


def test_a_device_loads_nothing_heavy():
    _, loaded = started("boards.device")
    assert loaded == []


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
