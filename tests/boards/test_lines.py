"""The command: what it refuses in a line, its table, and its exit code where something is open."""

import json
import sys

import pytest
from click.testing import CliRunner

from boards import lines
from boards.lines import main
from model.support.errors import Exit
from sim.elaboration import machines, measuring
from sim.elaboration.argued import ARGUED
from sim.elaboration.measuring import Hole, Module
from tests.commands import shown_help

PLACE = "# Page\n\n<!-- table lines -->\n\nas before\n\n<!-- end -->\n"
OPEN = Hole(module="hw/a.py", function="f", line=3, to=None, text="return 1")


def run(*words):
    found = CliRunner().invoke(main, [str(word) for word in words])
    return found.exit_code, found.stdout, found.stderr.splitlines()


def test_help_is_quick():
    """It loads neither the models nor what measures."""
    shown, loaded = shown_help("boards.lines")
    assert loaded == [] and "--machines" in shown


def test_bad_input_gets_one_line(tmp_path):
    assert run("--docs", "none.md") == (
        Exit.BAD_INPUT, "", ["error: none.md: cannot be read: No such file or directory"]
    )  # fmt: skip
    page = tmp_path / "page.md"
    page.write_text("no place")
    place = "<!-- table lines --> with <!-- end --> after it"
    assert run("--docs", page) == (Exit.BAD_INPUT, "", [f"error: {page}: the page must have one {place}, not 0"])


def test_what_is_missing_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "coverage", None)
    told = "error: coverage is not installed: pip install -e '.[dev]'"
    assert run("--machines", 1) == (Exit.TOOL_MISSING, "", [told])


@pytest.fixture
def one_machine(monkeypatch):
    """Of all that is elaborated, one random machine."""
    monkeypatch.setattr(machines, "bundled_systems", lambda: iter(()))
    monkeypatch.setattr(lines, "_tops", lambda: iter(()))


def test_the_hardware_is_measured(one_machine, tmp_path):
    """Of one machine much is open; each number of a module is the sum of what it is made of."""
    page = tmp_path / "page.md"
    page.write_text(PLACE)
    code, out, err = run("--machines", 1, "--json", "--docs", page)
    found = {module["name"]: module for module in json.loads(out)["modules"]}
    assert code == Exit.MISMATCH and len(err) == 1
    assert {"hw/neuron.py", "hw/link/system.py", "hw/link/receiver.py", "hw/pipeline/machine.py", "boards/top.py"} <= set(found)
    assert not {"hw/build.py", "hw/link/protocol.py", "hw/flow/synthesis.py", "boards/host.py"} & set(found)
    for module in found.values():
        unreached = sum(hole.get("to") is None for hole in module["holes"])
        assert module["lines"] == module["reached"] + module["refusals"] + unreached, module["name"]
        assert len(module["holes"]) - unreached <= module["missed"] <= module["branches"]
    assert found["hw/link/receiver.py"]["reached"] > 20 and found["boards/top.py"]["reached"] == 0
    text = page.read_text()
    assert "as before" not in text and "| `hw/pipeline` | " in text and "| all | " in text


@pytest.mark.parametrize(
    ("holes", "argued", "code", "last"),
    [
        ((), {}, Exit.OK, None),
        ((OPEN,), {}, Exit.MISMATCH, "open: hw/a.py:3: f: return 1"),
        ((OPEN,), {"hw/a.py: f": "For tests."}, Exit.OK, None),
        ((), {"hw/a.py: f": "For tests."}, Exit.MISMATCH, "reached, and argued all the same: hw/a.py: f"),
    ],
)
def test_what_is_open_decides_the_exit_code(one_machine, monkeypatch, holes, argued, code, last):
    module = Module(name="hw/a.py", lines=4, reached=4 - len(holes), refusals=0, branches=0, missed=0, holes=holes)
    monkeypatch.setattr(measuring, "measured", lambda work, **options: [module])
    for place in list(ARGUED):
        monkeypatch.delitem(ARGUED, place)
    for place, why in argued.items():
        monkeypatch.setitem(ARGUED, place, why)
    found = run("--machines", 1)
    assert found[0] == code
    told = [line for line in found[1].splitlines() if line.startswith(("open", "reached, and"))]
    assert told == ([last] if last else [])
