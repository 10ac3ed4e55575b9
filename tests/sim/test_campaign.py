"""The command: what it refuses in a line, what it prints, and how it ends."""

import json
import sys

import pytest
from click.testing import CliRunner

from model.support.errors import Exit
from sim.campaign import main
from sim.campaigns import cluster as clusters
from sim.campaigns import engine as engines
from sim.campaigns.jobs import DIFFERS, DONE, FAILED, Job, Outcome
from sim.campaigns.store import Store
from tests.commands import shown_help


def job(number, **parameters):
    return Job(kind="verify", version="1", parameters={"seed": 3, "number": number, **parameters})


@pytest.fixture
def store(tmp_path):
    """A store with a job that was done and one that differs."""
    path = tmp_path / "a.sqlite"
    with Store(path, new=True) as made:
        made.add(job(0), Outcome(outcome=DONE, found={"networks": 1, "spikes": 1_000, "layers": {"linear": 2}}, seconds=90))
        made.add(job(1), Outcome(outcome=DIFFERS, found={"networks": 1, "spikes": 234, "differences": 1}, message="late"))
    return path


def run(*words):
    found = CliRunner().invoke(main, [str(word) for word in words])
    return found.exit_code, found.stdout, found.stderr.splitlines()


def test_help_is_quick():
    """It loads neither Dask nor the models."""
    shown, loaded = shown_help("sim.campaign", "verify")
    assert loaded == [] and "--spikes" in shown and "--scheduler" in shown


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ("verify", "--workers", "2", "--scheduler", "tcp://a:1"),
            "--workers must not be given with --scheduler, whose workers they are",
        ),
        (
            ("engine", "--scheduler", "a:1"),
            "--scheduler must be an address such as tcp://host:8786 (tcp, tls, ws, wss), not 'a:1'",
        ),
        (("verify", "--store", "a.txt"), "--store must end in .sqlite, not 'a.txt'"),
        (("report", "--store", "none.sqlite"), "none.sqlite: cannot be read: No such file or directory"),
    ],
)  # fmt: skip
def test_bad_input_gets_one_line(words, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*words) == (Exit.BAD_INPUT, "", [f"error: {line}"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ("verify", "--spikes", "0"), ("verify", "--spikes", "nan"), ("verify", "--workers", "0"), ("verify", "--seed", "-1"),
        ("verify", "--simulator", "other"), ("verify", "--job-spikes", "1"), ("engine", "--patience", "0"), ("report",),
        ("rerun", "a"),
    ],
)  # fmt: skip
def test_values_that_are_none(words):
    code, out, err = run(*words)
    assert (code, out) == (Exit.BAD_INPUT, "") and err[-1].startswith("Error: ")


def test_dask_is_not_installed(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "distributed", None)
    line = "error: campaigns must have Dask distributed installed: pip install -e .[cluster]"
    for kind in ("verify", "engine"):
        assert run(kind) == (Exit.TOOL_MISSING, "", [line])
    assert list(tmp_path.iterdir()) == []


def test_report(store, tmp_path):
    code, out, err = run("report", "--store", store, "--json")
    assert (code, err) == (0, [])
    assert json.loads(out) == [
        {
            "kind": "verify", "version": "1", "jobs": 2, "differ": 1, "failed": 0,
            "found": {"networks": 2, "spikes": 1_234, "layers": {"linear": 2}, "differences": 1},
            "seeds": {"seed 3": "0..1"}, "processor_seconds": 90.0,
        }
    ]  # fmt: skip
    code, out, _ = run("report", "--store", store)
    for words in (("spikes", "1,234"), ("layers: linear", "2"), ("seeds", "seed 3: 0..1"), ("processor time", "1 min 30 s")):
        assert any(all(word in line for word in words) for line in out.splitlines()), (words, out)
    # What is in two stores is counted once.
    with Store(tmp_path / "b.sqlite", new=True) as other:
        other.add(job(0), Outcome(outcome=DONE, found={"networks": 1, "spikes": 1_000}))
        other.add(job(2), Outcome(outcome=FAILED, message="no"))
    code, out, _ = run("report", "--store", store, "--store", tmp_path / "b.sqlite", "--json")
    (section,) = json.loads(out)
    assert (section["jobs"], section["differ"], section["failed"], section["found"]["spikes"]) == (3, 1, 1, 1_234)
    with Store(tmp_path / "c.sqlite", new=True):
        pass
    assert run("report", "--store", tmp_path / "c.sqlite") == (0, "no jobs\n", [])


def test_a_report_in_a_page(store, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table campaigns -->\nold\n<!-- end -->\nafter\n")
    code, _, err = run("report", "--store", store, "--docs", page)
    assert (code, err) == (0, [])
    text = page.read_text()
    lines = text.splitlines()
    assert (lines[0], lines[-1]) == ("before", "after") and "old" not in text
    for line in ("|  | `verify`, version 1 |", "| spikes | 1,234 |", "| seeds | seed 3: 0..1 |", "| jobs that differ | 1 |"):
        assert line in lines
    page.write_text("no place")
    code, out, err = run("report", "--store", store, "--docs", page)
    place = "<!-- table campaigns --> with <!-- end --> after it"
    assert (code, out, err) == (Exit.BAD_INPUT, "", [f"error: {page}: the page must have one {place}, not 0"])
    assert page.read_text() == "no place"


@pytest.mark.parametrize(
    ("failed", "code", "line"),
    [
        ({}, 0, None),
        ({1: FAILED}, Exit.TOOL_FAILED, "1 of 3 jobs failed, kept in {}; the first, {}: late"),
        ({2: DIFFERS, 1: FAILED}, Exit.MISMATCH, "2 of 3 jobs differ or failed, kept in {}; the first, {}: late"),
    ],
)
def test_exit_codes(failed, code, line, tmp_path, monkeypatch):
    """Whatever runs the jobs: the store is printed, and the exit code says how it went."""
    pytest.importorskip("distributed", reason="Dask distributed is not installed; get it with: pip install -e .[cluster]")
    told = []

    class Cluster:
        def __init__(self, *arguments, **options):
            told.append(options)

        def __enter__(self):
            return None

        def __exit__(self, *error):
            pass

    def fake(asked, store, client, progress, *, retry, patience_seconds):
        tally = engines.Tally(amount=30, jobs=3)
        for number in range(3):
            each = asked.job(number, "1")
            outcome = Outcome(outcome=failed.get(number, DONE), found={"spikes": 10}, message="late\nand more")
            store.add(each, outcome)
            if number in failed:
                tally.failed.append((each, outcome.message))
        tally.differs = DIFFERS in failed.values()
        return tally

    monkeypatch.setattr(clusters, "cluster", Cluster)
    monkeypatch.setattr(engines, "run_campaign", fake)
    monkeypatch.chdir(tmp_path)
    found, out, err = run("engine", "--workers", "1", "--spikes", "30", "--seed", "4", "--json")
    first = f"engine seed 4, spikes 20000, number {min(failed, default=0)}"
    wanted = [f"error: {line.format('build/campaign/engine.failures', first)}"] if line else []
    assert (found, err) == (code, wanted)
    assert json.loads(out)[0]["found"] == {"spikes": 30}
    assert (told[0]["workers"], told[0]["scheduler"]) == (1, None)


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("", "KEY must be the beginning of one key of {}, not of 2: ''"),
        ("zz", "KEY must be the beginning of one key of {}, not of 0: 'zz'"),
    ],
)
def test_rerun_needs_one_job(key, line, store, tmp_path):
    code, out, err = run("rerun", key, "--store", store, "--out", tmp_path / "out")
    assert (code, out, err) == (Exit.BAD_INPUT, "", [f"error: {line.format(store)}"])


def test_rerun(tmp_path):
    path, out = tmp_path / "a.sqlite", tmp_path / "out"
    asked = Job(kind="engine", version="old", parameters={"seed": 2, "spikes": 200, "number": 1})
    with Store(path, new=True) as store:
        store.add(asked, Outcome(outcome=FAILED, message="no memory"))
    code, told, err = run("rerun", asked.key[:10], "--store", path, "--out", out)
    assert (code, told) == (0, "engine seed 2, spikes 200, number 1: done\n")
    assert err == ["note: the store has this job of version old, which these sources are not"]
    assert (out / "network.npz").exists()
    code, _, err = run("rerun", asked.key[:10], "--store", path, "--out", out)
    assert (code, err) == (Exit.BAD_INPUT, [f"error: --out must be empty, not {str(out)!r}"])

