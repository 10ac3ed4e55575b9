"""The command that disturbs a network, and the page that shows what came of it."""

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from model.robustness import main
from tests.graphs import residual_block
from tests.model.studies.test_robustness import small

ZOO = Path(__file__).parents[2] / "model" / "zoo" / "mnist-paper.npz"


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.sources, self.cells = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.sources += [value for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data):
        self.cells.append(data.replace("\u00a0", " "))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("robustness")
    network, data = small()
    network.save(folder / "net.npz")
    np.savez(folder / "frames.npz", images=data.images, labels=data.labels)
    arguments = [str(folder / "net.npz"), "--dataset", str(folder / "frames.npz"), "--frames", "8", "--trials", "2"]
    arguments += ["--detail", "3", "--out", str(folder / "out"), "--docs", str(folder / "img"), "--json"]
    printed = CliRunner().invoke(main, arguments[:-1])
    assert printed.exit_code == 0, printed.output
    written = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == written
    assert result.stdout == (folder / "out" / "robustness.json").read_text()
    return folder, json.loads(result.stdout), printed.stdout


def test_command_writes_what_it_says(written):
    folder, found, printed = written
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["robustness.html", "robustness.json"]
    drawn = sorted((folder / "img").iterdir())
    names = ("events", "order", "parting", "thresholds", "weights")
    assert [path.name for path in drawn] == [f"robustness-{name}.svg" for name in names]
    assert all(path.read_text().startswith("<?xml") for path in drawn)
    assert (found["frames"], found["seed"], found["trials"], found["detail"]) == (8, 1, 2, 3)
    assert found["dataset"] == f"{folder / 'frames.npz'} (first 8 frames)"
    page = Page((folder / "out" / "robustness.html").read_text())
    assert len(page.sources) == 5
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.sources)
    for cell in ("reverse raster", "all but the top two", f"{found['tables']['order'][2]['accuracy']:.2%}"):
        assert any(cell in text for text in page.cells), cell
        assert cell in printed, cell


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["missing.npz"], "missing.npz: cannot be read: No such file or directory"),
        (
            [str(ZOO), "--dataset", "mnisty"],
            "dataset must be 'mnist', 'digits5k', 'cifar10' or the path of an .npz file, not 'mnisty'",
        ),
        (
            [str(ZOO), "--dataset", "frames.npz"],
            "frames of frames.npz must have the network's input shape (28, 28, 1), not (5, 4, 1)",
        ),
        ([str(ZOO), "--dataset", "digits5k", "--out", "frames.npz"], "--out must be a folder, not 'frames.npz'"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(arguments, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("frames.npz", images=np.zeros((3, 5, 4, 1), np.uint8), labels=np.zeros(3, np.int64))
    result = CliRunner().invoke(main, ["--out", "out", *arguments])
    assert result.exit_code == 2
    assert result.stderr.strip() == f"error: {line}"
    assert [path.name for path in Path().iterdir()] == ["frames.npz"]


@pytest.mark.parametrize("option", ["--frames", "--trials", "--detail"])
def test_numbers_out_of_range(option):
    result = CliRunner().invoke(main, [str(ZOO), option, "0"])
    assert result.exit_code == 2
    assert f"Error: Invalid value for '{option}': 0 is not in the range x>=1." in result.stderr


def test_branches_are_refused_before_anything_is_written(tmp_path):
    residual_block("deferred").save(tmp_path / "net.npz")
    np.savez(tmp_path / "data.npz", images=np.full((12, 6, 6, 1), 90, np.uint8), labels=np.arange(12) % 10)
    done = CliRunner().invoke(
        main, [str(tmp_path / "net.npz"), "--dataset", str(tmp_path / "data.npz"), "--out", str(tmp_path / "out")]
    )
    message = "error: layer 'block1': inputs must be one for a study of robustness, not 2"
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (2, message)
    assert not (tmp_path / "out").exists()
