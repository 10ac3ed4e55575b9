"""The command: what it refuses in a line, what it prints, and how it ends."""

import json

import pytest
from click.testing import CliRunner

from model.support.errors import Exit
from sim.campaigns import cluster as clusters
from sim.campaigns import engine as engines
from sim.campaigns.jobs import DIFFERS, DONE, Outcome
from sim.fuzz import _TARGETS, main
from sim.fuzzing.targets import TARGETS


def run(*words):
    found = CliRunner().invoke(main, [str(word) for word in words])
    return found.exit_code, found.stdout, found.stderr.splitlines()


def test_it_knows_every_way_in():
    assert set(_TARGETS) == set(TARGETS)


def test_bad_input_gets_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = ", ".join(_TARGETS)
    assert run("plan", "other") == (Exit.BAD_INPUT, "", [f"error: TARGET must be one of {known}, not 'other'"])
    assert run("plan", "--docs", "no.md")[0] == Exit.BAD_INPUT
    assert run("plan", "--inputs", "0")[0] == Exit.BAD_INPUT
    assert run()[0] == Exit.BAD_INPUT
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failed", [False, True])
def test_what_it_prints_and_writes(failed, tmp_path, monkeypatch):
    pytest.importorskip("distributed", reason="Dask distributed is not installed; get it with: pip install -e .[cluster]")

    class Cluster:
        def __init__(self, *arguments, **options):
            pass

        def __enter__(self):
            return None

        def __exit__(self, *error):
            pass

    def fake(asked, store, client, progress, *, retry, patience_seconds):
        job = asked.job(0, asked.kind.version())
        found = {"inputs": 100, "bytes": 9, "refused": {"PlanError": 90}, "accepted": {"run": 10 - failed}, "failed": {}}
        found["failed"] = {"hang": 1} if failed else {}
        wrong = {"message": "input 4: hang: too long", "files": {"4.json": b"{}"}} if failed else {}
        outcome = Outcome(outcome=DIFFERS if failed else DONE, found=found, **wrong)
        store.add(job, outcome)
        return engines.Tally(amount=100, jobs=1, failed=[(job, outcome.message)] if failed else [], differs=failed)

    monkeypatch.setattr(clusters, "cluster", Cluster)
    monkeypatch.setattr(engines, "run_campaign", fake)
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table fuzzing -->\n<!-- end -->\n")
    store = tmp_path / "a.sqlite"
    code, out, err = run("plan", "--inputs", "1e2", "--store", store, "--docs", page, "--json", "--workers", 1)
    (row,) = json.loads(out)
    assert (row["target"], row["inputs"], row["refused"]) == ("plan", 100, {"PlanError": 90})
    line = "| plan | 100 | 90.0 % | 9.0 % | 1 hang |" if failed else "| plan | 100 | 90.0 % | 10.0 % | 0 |"
    assert line in page.read_text()
    if failed:
        first = "fuzz-plan seed 1, inputs 10000, number 0: input 4: hang: too long"
        kept = tmp_path / "a.failures"
        assert (code, err) == (Exit.MISMATCH, [f"error: 1 of 1 jobs differ or failed, kept in {kept}; the first, {first}"])
        assert next(kept.rglob("4.json")).read_bytes() == b"{}"
    else:
        assert (code, err) == (0, [])
