"""The command that proves: what it prints and writes, and how it fails."""

import json

import pytest
from click.testing import CliRunner

from model.support.errors import Exit
from sim import prove
from sim.formal.catalogue import PROPERTIES
from sim.formal.properties import Check, Checked


@pytest.fixture(autouse=True)
def checked(monkeypatch, tmp_path):
    """Checks that end at once; gives what fails, by part and case."""
    monkeypatch.chdir(tmp_path)
    failing = {}

    def run(check, solver):
        failed = failing.get((check.wanted.part, check.case), "")
        return Checked(failed=failed, of_fault=check.case is None, asserts=3, seconds=0.25)

    monkeypatch.setattr(Check, "run", run)
    return failing


def command(*options):
    return CliRunner().invoke(prove.main, options)


def test_all_are_proved_and_the_page_is_written(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- table formal -->\n<!-- end -->\nb\n")
    found = command("--docs", "page.md", "--json")
    rows = json.loads(found.stdout)
    assert found.exit_code == 0
    assert [row["name"] for row in rows] == [one.name for one in PROPERTIES]
    assert all(row["proved"] and row["fault_found"] for row in rows)
    first = PROPERTIES[0]
    assert (rows[0]["part"], rows[0]["cases"]) == ("hw.parts.buffer.StreamBuffer", len(first.cases))
    assert rows[0]["assertions"] == 3 * len(first.cases)
    assert rows[0]["processor_seconds"] == round(0.25 * (len(first.cases) + len(first.faults)), 1)
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("a", "b")
    assert sum(" proved | found: " in line for line in lines) == len(PROPERTIES)


def test_what_fails_is_named_and_the_rest_goes_on(checked):
    checked["fork", 1] = "readers 3: induct: it fails"
    checked["Merge", None] = "the planted fault is not found"
    found = command("--only", "fork, Merge,StreamBuffer")
    fork, merge = (one for one in PROPERTIES if one.part in ("fork", "Merge"))
    assert found.exit_code == Exit.MISMATCH
    assert f"FAILED fork: {fork.name}: readers 3: induct: it fails\n" in found.stderr
    assert f"FAILED Merge: {merge.name}: the planted fault is not found\n" in found.stderr
    assert "StreamBuffer: proved, 5 cases" in found.stderr
    assert found.stderr.splitlines()[-1] == f"error: not proved: {fork.name}; {merge.name}"
    assert "StreamBuffer" in found.stdout and "MISSED" in found.stdout


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--only", "lane"), "error: --only must be of StreamBuffer, "),
        (("--only", "fork", "--docs", "page.md"), "error: --docs must not be given with --only"),
        (("--docs", "page.md"), "error: page.md: cannot be read: "),
    ],
)
def test_what_is_refused(options, says):
    found = command(*options)
    assert found.exit_code == Exit.BAD_INPUT
    assert found.stderr.startswith(says)
