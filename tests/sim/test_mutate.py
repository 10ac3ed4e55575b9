"""The command: what it refuses in a line, how it resumes, and how it ends."""

import json

import pytest
from click.testing import CliRunner

from model.support.errors import Exit
from sim.campaigns import cluster as clusters
from sim.campaigns import engine as engines
from sim.campaigns.jobs import DONE, FAILED, Outcome
from sim.mutate import main
from sim.mutation.designs import DESIGNS
from sim.mutation.faults import FAULTS
from tests.commands import shown_help


def run(*words):
    found = CliRunner().invoke(main, [str(word) for word in words])
    return found.exit_code, found.stdout, found.stderr.splitlines()


def test_help_is_quick():
    """It loads neither Dask nor the models."""
    shown, loaded = shown_help("sim.mutate")
    assert loaded == [] and "--mutants" in shown and "--scheduler" in shown


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--designs", "folded; nothing"), f"--designs must be of {'; '.join(DESIGNS)}, not 'nothing'"),
        (
            ("--workers", "2", "--scheduler", "tcp://a:1"),
            "--workers must not be given with --scheduler, whose workers they are",
        ),
        (("--store", "a.txt"), "--store must end in .sqlite, not 'a.txt'"),
        (("--docs", "none.md"), "none.md: cannot be read: No such file or directory"),
    ],
)
def test_bad_input_gets_one_line(words, line):
    assert run(*words) == (Exit.BAD_INPUT, "", [f"error: {line}"])


def test_a_page_without_a_place_is_refused_before_any_work(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("no place")
    place = "<!-- table mutation --> with <!-- end --> after it"
    assert run("--docs", page) == (Exit.BAD_INPUT, "", [f"error: {page}: the page must have one {place}, not 0"])


class Cluster:
    """In place of workers."""

    def __init__(self, *arguments, **options):
        pass

    def __enter__(self):
        return None

    def __exit__(self, *error):
        pass


@pytest.fixture
def performed(monkeypatch, tmp_path):
    """Jobs do nothing: of ten mutants of a lane each kills nine, and the number of survivors is what ``left`` says."""
    pytest.importorskip("distributed", reason="Dask distributed is not installed; get it with: pip install -e .[cluster]")
    done = []

    def fake(campaign, store, client, progress, *, retry, patience_seconds):
        version, known = campaign.kind.version(), {each.job.key for each in store.results()}
        tally = engines.Tally()
        wanted = campaign.numbers if campaign.counted is None else campaign.goal // 10
        for number in range(wanted):
            job = campaign.job(number, version)
            if job.key not in known:
                done.append((campaign.kind.name, number))
                store.add(job, fake.outcome(campaign.kind.name))
            tally.jobs += 1
        return tally

    monkeypatch.setattr(clusters, "cluster", Cluster)
    monkeypatch.setattr(engines, "run_campaign", fake)
    monkeypatch.chdir(tmp_path)
    return done, fake


def outcome(survivors):
    def of(kind):
        if kind == "plant":
            return Outcome(outcome=DONE, found={"by hand, of part": {"lane": 1}, "by hand, killed": {"lane, token": 1}})
        killed = {"lane, token": 10 - survivors}
        found = {"mutants": 10, "of part": {"lane": 10}, "killed": killed, "survivors": ["lane: x"] * bool(survivors)}
        return Outcome(outcome=DONE, found=found | {"killed within cycles": {"lane, 10": 10 - survivors}})

    return of


def test_it_resumes_and_tells_the_score(performed, tmp_path):
    done, fake = performed
    fake.outcome = outcome(0)
    words = ("--mutants", 20, "--job-mutants", 10, "--designs", "folded", "--workers", 1, "--json")
    code, out, _ = run(*words, "--no-by-hand")
    assert code == 0 and done == [("mutate", 0), ("mutate", 1)]
    (row,) = json.loads(out)["rows"]
    assert (row["part"], row["mutants"], row["killed"], row["survived"], row["percent"]) == ("lane", 20, {"events": 20}, 0, 100)
    # The same again does nothing, more does what is left, and the faults by hand.
    assert run(*words, "--no-by-hand")[0] == 0 and len(done) == 2
    page = tmp_path / "page.md"
    page.write_text("<!-- table mutation -->\nold\n<!-- end -->\n")
    code, out, _ = run(*words[2:], "--mutants", 30, "--docs", page)
    assert code == 0 and done[2:] == [("mutate", 2), *(("plant", number) for number in range(len(FAULTS)))]
    text = page.read_text()
    assert "| half within cycles | proved equivalent | argued | survived | killed | by hand, killed |\n" in text
    assert f"| lane | 30 | 30 | 0 | 0 | 0 | 10 | 0 | 0 | 0 | 100.0 % | {len(FAULTS)} of {len(FAULTS)} |\n" in text


def test_exit_code_where_too_few_are_killed(performed):
    _, fake = performed
    fake.outcome = outcome(1)
    code, out, err = run("--mutants", 20, "--designs", "folded", "--workers", 1, "--no-by-hand")
    assert (code, err) == (Exit.MISMATCH, ["error: less than 95 % of the mutants are killed of: lane"])
    assert "survived: lane: x" in out


def test_exit_code_where_a_job_fails(performed, monkeypatch):
    _, fake = performed
    fake.outcome = lambda kind: Outcome(outcome=FAILED, message="no\nmore")

    def failing(campaign, store, client, progress, *, retry, patience_seconds):
        tally = fake(campaign, store, client, progress, retry=retry, patience_seconds=patience_seconds)
        tally.failed = [(each.job, each.outcome.message) for each in store.results()]
        return tally

    monkeypatch.setattr(engines, "run_campaign", failing)
    code, _, err = run("--mutants", 10, "--job-mutants", 5, "--designs", "folded", "--workers", 1, "--no-by-hand")
    job = "mutate seed 1, mutants 5, designs folded, number 0"
    assert code == Exit.TOOL_FAILED
    assert err == [f"error: 1 of 1 jobs failed, kept in build/campaign/mutate.failures; the first, {job}: no"]
