"""The table of builds."""

import json

import pytest
from click.testing import CliRunner

from boards.build_table import COLUMNS
from boards.table import main

REPORT = {
    "board": "icebreaker",
    "network": "some",
    "plan": "folded",
    "lanes": 8,
    "lut": 5167,
    "ff": 1825,
    "ram_blocks": 28,
    "clock_mhz": 24.0,
    "fmax_mhz_by_seed": {"1": 26.48, "2": 25.45},
    "cycles_per_frame_mean": 69398.8,
    "frames_per_second": 346,
    "frames_verified": 4,
    "spikes_compared": 9428,
    "mismatches": 0,
    "cycle_mismatches": 3,
}


def test_a_row_of_each_build(tmp_path):
    (tmp_path / "report.json").write_text(json.dumps(REPORT))
    found = CliRunner().invoke(main, [str(tmp_path), str(tmp_path)])
    assert found.exit_code == 0, found.output
    head, _, first, second = (line.strip("|").split("|") for line in found.stdout.splitlines())
    assert tuple(name.strip() for name in head) == COLUMNS
    cells = {name: cell.strip() for name, cell in zip(COLUMNS, first, strict=True)}
    assert cells["LUT of"] == "5,167 of 5,280" and cells["blocks of"] == "28 of 30"
    assert cells["after routing"] == "25.45, 26.48 MHz"
    assert cells["RTL = golden model"] == "4 frames, 9,428 spikes, 3 differ"
    assert first == second


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read, python -m hw.build writes it: No such file or directory"),
        ("{", "must be what python -m hw.build writes: "),
        ("{}", "must be what python -m hw.build writes: 'board'"),
        (json.dumps({**REPORT, "lut": None}), "must be what python -m hw.build writes: a figure must be a number, not None"),
        (json.dumps({**REPORT, "board": "other"}), "must be what python -m hw.build writes: board must be one of"),
    ],
)
def test_a_folder_without_a_report(tmp_path, text, message):
    if text is not None:
        (tmp_path / "report.json").write_text(text)
    found = CliRunner().invoke(main, [str(tmp_path)])
    assert found.exit_code == 2
    assert found.stderr.startswith(f"error: {tmp_path / 'report.json'}: {message}") and found.stdout == ""
