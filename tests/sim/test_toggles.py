"""The command: what it refuses in a line, the table and the record that it writes, and its exit code where something differs."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from model.support.errors import Exit
from sim.toggles import main
from tests.commands import shown_help
from tests.sim.toggling.small import PLAN, images, network, plan

NAME = f"{plan().name} ice40"
PLACE = f"# Page\n\n<!-- table toggles small {NAME} -->\n\nas before\n\n<!-- end -->\n"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    network().save(folder / "small.npz")
    np.savez(folder / "frames.npz", images=images(), labels=np.zeros(len(images()), np.int64))
    return folder


@pytest.fixture
def run(files, tmp_path):
    def command(*words):
        given = [files / "small.npz", "--dataset", files / "frames.npz", "--plan", PLAN, "--out", tmp_path / "out", *words]
        found = CliRunner().invoke(main, [str(word) for word in given])
        return found.exit_code, found.stdout, found.stderr.splitlines()

    return command


def test_help_is_quick():
    """It loads neither the models nor the simulators."""
    shown, loaded = shown_help("sim.toggles")
    assert loaded == [] and "--family" in shown


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--docs", "none.md"), "none.md: cannot be read: No such file or directory"),
        (("--plan", "small"), "plan must be a file or one of minimal, default, fast, folded, not 'small'"),
    ],
)
def test_bad_input_gets_one_line(run, words, line):
    assert run(*words) == (Exit.BAD_INPUT, "", [f"error: {line}"])


def test_a_page_needs_a_place_for_the_table(run, tmp_path):
    (tmp_path / "page.md").write_text("# Page\n")
    code, _, lines = run("--docs", tmp_path / "page.md")
    assert (code, len(lines)) == (Exit.BAD_INPUT, 1)
    assert f"must have one <!-- table toggles small {NAME} -->" in lines[0]


def test_the_table_and_the_record(run, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PLACE)
    code, text, _ = run("--frames", 3, "--docs", page, "--json")
    assert code == 0
    found = json.loads(text)
    assert found == json.loads((tmp_path / "out" / NAME.replace(" ", "-") / "toggles.json").read_text())
    assert (found["family"], found["frames"], len(found["toggles_each"])) == ("ice40", 3, 3)
    assert set(found["energy_nj"]) == {"nets", "nets_by_sinks", "accesses", "flip_flops", "clock", "total"}
    table = page.read_text()
    assert "as before" not in table and "| flip-flop: toggles |" in table
    (line,) = [line for line in table.splitlines() if line.startswith("| clock: cycles |")]
    assert line.split("|")[3].strip() == f"{found['cycles_per_frame']:,.0f}"
    code, text, _ = run("--frames", 3)
    assert code == 0
    assert "0 mismatches" in text and "nJ per frame, nets priced by toggle" in text


def test_a_netlist_that_differs_is_told(run, monkeypatch):
    from sim.toggling import study

    right = study.verify
    wrong = {"mismatches": 3, "report": "3 mismatches"}
    monkeypatch.setattr(study, "verify", lambda *words, **more: replace(right(*words, **more), **wrong))
    code, text, lines = run("--frames", 3)
    assert (code, text) == (Exit.MISMATCH, "")
    assert lines[-2] == "3 mismatches"
    assert lines[-1].endswith("small.npz: the simulation of the netlist differs from the golden model")
