"""The command: what it refuses in a line, one flip told in detail, and the table and figure that it writes."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from model.support.errors import Exit
from sim.upsets import main
from tests.commands import shown_help
from tests.sim.seu.small import FRAMES, images, network

BIT = ("--place", "core_p1.projection.weights_0.slice_0", "--bit", "7")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    network().save(folder / "small.npz")
    np.savez(folder / "frames.npz", images=images(), labels=np.zeros(FRAMES, np.int64))
    return folder


@pytest.fixture
def run(files, tmp_path):
    def command(*words):
        given = [files / "small.npz", "--dataset", files / "frames.npz", "--plan", "minimal", "--out", tmp_path / "out", *words]
        found = CliRunner().invoke(main, [str(word) for word in given])
        return found.exit_code, found.stdout, found.stderr.splitlines()

    return command


def test_help_is_quick():
    """It loads neither the models nor the simulators."""
    shown, loaded = shown_help("sim.upsets")
    assert loaded == [] and "--each" in shown and "--places" in shown


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--at", "5"), "--at, --place and --bit must be given together"),
        (("--word", "5"), "--word must be given with --at, --place and --bit"),
        (("--at", "5", *BIT, "--docs", "x.md"), "--docs must not be given with --at"),
        (("--at", "5", *BIT, "--word", "18"), f"--word must be within 0..17 for {BIT[1]}, not 18"),
        (("--at", "5", *BIT[:3], "8"), f"--bit must be within 0..7 for {BIT[1]}, not 8"),
        (("--docs", "none.md"), "none.md: cannot be read: No such file or directory"),
        (("--plan", "small"), "plan must be a file or one of minimal, default, fast, folded, not 'small'"),
    ],
)
def test_bad_input_gets_one_line(run, words, line):
    assert run(*words) == (Exit.BAD_INPUT, "", [f"error: {line}"])


def test_more_frames_than_there_are_get_one_line(run, files):
    line = f"error: frames must be within 1..{FRAMES} for {files / 'frames.npz'}, not {FRAMES + 1}"
    assert run("--frames", FRAMES + 1) == (Exit.BAD_INPUT, "", [line])


def test_a_place_that_is_not_there_is_refused_with_some_that_are(run):
    code, out, (line,) = run("--at", "5", "--place", "core_p1.projection.weights", "--bit", "0")
    assert (code, out) == (Exit.BAD_INPUT, "")
    assert line.startswith("error: --place must be one of what --places lists, such as core_p1.projection.")
    assert line.endswith(", not 'core_p1.projection.weights'")


def test_a_cycle_after_the_last_answer_is_refused(run):
    code, out, lines = run("--at", "1000000", *BIT)
    assert (code, out) == (Exit.BAD_INPUT, "")
    assert lines[-1].startswith("error: --at must be within 1..") and lines[-1].endswith(", not 1000000")


def test_a_page_without_a_place_is_refused_before_any_work(run, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("no place")
    place = "<!-- table upsets small minimal --> with <!-- end --> after it"
    assert run("--docs", page) == (Exit.BAD_INPUT, "", [f"error: {page}: the page must have one {place}, not 0"])


def test_places_are_listed(run):
    code, out, _ = run("--places")
    assert code == 0 and f"{BIT[1]}: weights, bits 0 to 7, words 0 to 17\n" in out
    assert "core_p1.projection.fifo.level: registers, bits 0 to 4\n" in out
    listed = json.loads(run("--places", "--json")[1])
    assert len(listed) == len(out.splitlines()) and listed[0].keys() >= {"name", "bits", "words", "of"}


def test_one_flip_is_told(run):
    code, out, _ = run("--at", "1", *BIT, "--word", "9")
    told = out.splitlines()
    assert code == 0 and told[0].startswith(f"{BIT[1]} (weights), word 9, bit 7: from ")
    assert told[0].endswith(" in cycle 1, before the answer to frame 0") and told[1].startswith("effect: ")
    assert told[-1] == "registers and memories: not as without the flip before the run ended"
    found = json.loads(run("--at", "1", *BIT, "--word", "9", "--json")[1])
    assert (found["place"], found["word"], found["bit"], found["cycle"]) == (BIT[1], 9, 7, 1)
    assert told[1] == f"effect: {found['effect']}"


def test_upsets_are_drawn_recorded_and_written_into_a_page(run, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table upsets small minimal -->\nold\n<!-- end -->\nafter\n")
    code, out, lines = run("--each", "2", "--docs", page, "--json")
    assert code == 0 and lines[0] == "small, plan minimal: compiling" and lines[-1].endswith("of 14 upsets")
    found = json.loads(out)
    assert (tmp_path / "out" / "upsets.json").read_text() == out
    assert len(found["upsets"]) == 14 and [row["upsets"] for row in found["rows"]] == [2] * 7
    assert all(each.keys() >= {"place", "word", "bit", "cycle", "effect", "lasts_frames"} for each in found["upsets"])
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "| weights | 400 | 2 |" in text and "old" not in text
    figures = [tmp_path / "img" / "upsets-small-minimal.svg", tmp_path / "out" / "upsets.svg"]
    assert figures[0].read_bytes() == figures[1].read_bytes()
    again = run("--each", "2", "--docs", tmp_path / "figures", "--json")
    assert again[:2] == (0, out) and (tmp_path / "figures" / figures[0].name).read_bytes() == figures[0].read_bytes()


def test_what_the_check_of_weights_reports_is_counted(run):
    """Every weight, and none of what a frame writes; its own registers, where they are hit."""
    code, out, _ = run("--each", "2", "--weight-check", "--json")
    found = json.loads(out)
    assert code == 0 and found["plan"] == "minimal-checked" and found["weight_passes"] > 10
    reported = {row["of"]: row["reported"] for row in found["rows"]}
    assert reported["weights"] == 2
    assert not any(reported[of] for of in ("initial words", "states", "tags", "queues"))
    code, out, _ = run("--at", "1", *BIT, "--word", "9", "--weight-check")
    core = BIT[1].split(".")[0].removeprefix("core_")
    assert code == 0 and out.splitlines()[-1] == f"reported by the check of the weights: {core}"
