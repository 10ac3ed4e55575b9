"""The table of records."""

import json

import pytest
from click.testing import CliRunner

from boards.record_table import COLUMNS
from boards.records import main
from tests.boards.test_table import REPORT

HASH = "3373b45d"
FILES = {
    "report.json": {
        **REPORT,
        "network_hash": HASH,
        "fmax_mhz_by_seed": {"1": 26.0, "2": 24.0, "3": 25.0},
        "mismatches": 0,
        "cycle_mismatches": 0,
    },
    "evaluate.json": {"network_hash": HASH, "accuracy_snn": 0.9917, "frames": 10_000},
    "estimate.json": {
        "network_hash": HASH,
        "plan": "folded",
        "lanes": 8,
        "cycles_per_frame": 25_000.0,
        "frames": 1000,
        "energy_nj_per_frame": {"total": 688.4},
    },
}


def written(folder, files):
    folder.mkdir()
    for name, found in files.items():
        (folder / name).write_text(found if isinstance(found, str) else json.dumps(found))
    return folder


def changed(name, **values):
    return {**FILES, name: {**FILES[name], **values}}


def test_the_fastest_comes_first(tmp_path):
    slow = written(tmp_path / "slow", FILES)
    fast = written(tmp_path / "fast", changed("estimate.json", cycles_per_frame=12_500.0))
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table records -->\nold\n<!-- end -->\nafter\n")
    found = CliRunner().invoke(main, [str(slow), str(fast), "--docs", str(page)])
    assert found.exit_code == 0, found.output
    head, _, *rows = (line.strip("|").split("|") for line in found.stdout.splitlines())
    assert tuple(name.strip() for name in head) == COLUMNS
    first, second = ({name: cell.strip() for name, cell in zip(COLUMNS, row, strict=True)} for row in rows)
    assert first["frames per second"] == "**2,000**" and second["frames per second"] == "**1,000**"
    assert second["per LUT"] == "0.19" and second["accuracy"] == "99.17 % of 10,000"
    assert second["after routing, each seed"] == "24, 25, 26; median 25 MHz"
    assert page.read_text() == f"before\n<!-- table records -->\n\n{found.stdout}\n<!-- end -->\nafter\n"


def test_a_seed_that_does_not_route_counts_as_the_slowest(tmp_path):
    clocks = {"1": 26.0, "2": 0.0, "3": 24.0}
    folder = written(tmp_path / "one", changed("report.json", fmax_mhz_by_seed=clocks))
    found = CliRunner().invoke(main, [str(folder)])
    assert "| not routed, 24, 26; median 24 MHz |" in found.stdout


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (changed("evaluate.json", network_hash="other"), "all three must be of the same network"),
        (changed("estimate.json", plan="default"), "estimate.json: plan must be 'folded', as in report.json, not 'default'"),
        (changed("estimate.json", lanes=9), "estimate.json: lanes must be 8, as in report.json, not 9"),
        (changed("evaluate.json", accuracy_snn=None), "a figure must be a number, not None"),
        ({**FILES, "estimate.json": {"network_hash": HASH}}, "'plan'"),
        (changed("estimate.json", cycles_per_frame=0), "estimate.json: cycles_per_frame must not be 0"),
        (changed("estimate.json", cycles_per_frame=-5.0), "a figure must be from 0 to below 1e+15, not -5.0"),
        (changed("estimate.json", cycles_per_frame=1e999), "a figure must be from 0 to below 1e+15, not inf"),
        (changed("report.json", lut=10**400), "a figure must be from 0 to below 1e+15, not 10000000000000000000"),
        (changed("report.json", lut=0), "report.json: lut must not be 0"),
        (changed("report.json", fmax_mhz_by_seed={}), "fmax_mhz_by_seed must hold the clock of one seed or more"),
        (changed("report.json", network="a|b"), "a name must be of printable characters, without |, not 'a|b'"),
        (changed("report.json", network="a\nb"), r"a name must be of printable characters, without |, not 'a\nb'"),
        (changed("evaluate.json", accuracy_snn=7), "evaluate.json: accuracy_snn must be a share, not 7"),
        (changed("report.json", mismatches=5), "report.json: RTL and golden model differ in 5 places, which is no record"),
    ],
)
def test_files_that_do_not_belong_together(tmp_path, files, message):
    folder = written(tmp_path / "record", files)
    found = CliRunner().invoke(main, [str(folder)])
    assert (found.exit_code, found.stdout) == (2, "")
    names = "report.json, evaluate.json, estimate.json"
    assert found.stderr == f"error: {folder}: must hold {names} of one network and plan: {message}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read, python -m model.evaluate writes it: No such file or directory"),
        ("{", "must be what python -m model.evaluate writes: "),
        ("[]", "must be what python -m model.evaluate writes: not an object"),
    ],
)
def test_a_file_that_is_none(tmp_path, text, message):
    folder = written(tmp_path / "record", {**FILES, "evaluate.json": text or ""})
    if text is None:
        (folder / "evaluate.json").unlink()
    found = CliRunner().invoke(main, [str(folder)])
    assert (found.exit_code, found.stdout) == (2, "")
    assert found.stderr.startswith(f"error: {folder / 'evaluate.json'}: {message}")


def test_a_page_without_a_place(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("none")
    found = CliRunner().invoke(main, [str(written(tmp_path / "record", FILES)), "--docs", str(page)])
    assert found.exit_code == 2 and "<!-- table records -->" in found.stderr
