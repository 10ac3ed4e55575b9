"""An evaluation on a device: its journal, where it goes on, and what it says of a device that differs."""

import json

import numpy as np
import pytest

from boards.virtual_board import VirtualBoard
from tests.boards.small_board import IMAGES, NETWORK, PLAN, command, expected


def files(tmp_path):
    NETWORK.save(tmp_path / "net.npz")
    np.savez(tmp_path / "data.npz", images=IMAGES, labels=np.zeros(len(IMAGES), np.int64))
    return [tmp_path / "net.npz", "--dataset", tmp_path / "data.npz", "--out", tmp_path]


def test_an_evaluation_of_other_frames_begins_anew(tmp_path, board):
    """The data set's file has the same name, and other frames."""
    options = files(tmp_path)
    assert command("evaluate", "--port", board.url, *options).exit_code == 0
    np.savez(tmp_path / "data.npz", images=IMAGES[::-1], labels=np.zeros(len(IMAGES), np.int64))
    found = command("evaluate", "--port", board.url, *options)
    assert found.exit_code == 0, found.output


def test_an_evaluation_goes_on_where_the_plug_was_pulled(tmp_path):
    options = files(tmp_path)
    with VirtualBoard(NETWORK, PLAN) as board:
        assert command("evaluate", "--port", board.url, *options, "--frames", 3, "--json").exit_code == 0
    gone = command("evaluate", "--port", board.url, *options)
    assert gone.exit_code == 8
    assert gone.stderr.startswith(f"error: {board.url}: cannot be opened: ")
    # The last line of the journal is cut off, as where the program was killed while it wrote.
    journal = tmp_path / "device.jsonl"
    journal.write_text(journal.read_text()[:-9])
    with VirtualBoard(NETWORK, PLAN) as board:
        found = command("evaluate", "--port", board.url, *options, "--json")
    assert found.exit_code == 0, found.output
    result = json.loads(found.stdout)
    assert (result["frames"], result["mismatches"]) == (len(IMAGES), 0)
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [line["frame"] for line in lines[1:]] == list(range(len(IMAGES)))
    answers = [expected(image)[0] for image in IMAGES]
    assert result["accuracy"] == pytest.approx(np.mean(np.array(answers) == 0))


def test_a_device_that_differs_is_named(tmp_path, board):
    options = files(tmp_path)
    assert command("evaluate", "--port", board.url, *options).exit_code == 0
    journal = tmp_path / "device.jsonl"
    lines = journal.read_text().splitlines()
    wrong = json.loads(lines[2])
    wrong["counts"][0] += 1
    journal.write_text("\n".join([*lines[:2], json.dumps(wrong), *lines[3:]]) + "\n")
    found = command("evaluate", "--port", board.url, *options)
    assert found.exit_code == 5
    assert found.stderr.startswith("error: frame 1 of ")
