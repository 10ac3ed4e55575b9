"""The evaluation of the bundled network, and the page that shows it."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from model.engine.engine import run_frames
from model.evaluate import main
from model.network import Network
from model.reports.evaluation_page import evaluation_page
from model.studies.evaluation import evaluate
from model.support.dataset import Dataset
from model.support.datasets import load
from sim.generators.networks import random_network

ZOO = Path(__file__).parents[2] / "model" / "zoo" / "mnist-paper.npz"
FRAMES = 60


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    arguments = [str(ZOO), "--dataset", "digits5k", "--frames", str(FRAMES), "--detail", "20", "--out", str(folder), "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in folder.iterdir()) == ["evaluate.html", "evaluate.json"]
    assert json.loads(result.stdout) == json.loads((folder / "evaluate.json").read_text())
    return json.loads(result.stdout), (folder / "evaluate.html").read_text()


def test_figures_are_those_of_the_engine(found):
    values, _ = found
    network = Network.load(ZOO)
    digits = load("digits5k", "test")
    frames = run_frames(network, digits.images[:FRAMES])
    labels = digits.labels[:FRAMES]
    answers = frames.counts.argmax(axis=1)
    assert values["frames"] == FRAMES
    assert values["network_hash"] == network.content_hash
    assert values["accuracy_snn"] == (answers == labels).mean()
    assert values["accuracy_snn_potential"] == (frames.potentials.argmax(axis=1) == labels).mean()
    assert values["accumulations_per_frame"] == round(frames.operations.sum(axis=1).mean())
    neurons = [index for index, layer in enumerate(network.layers) if layer.KIND != "maxpool"]
    assert values["spikes_per_neuron"] == round(frames.spikes[:, neurons].sum(axis=1).mean() / 14378, 4)
    assert values["macs_true"] == 1_043_712
    assert values["macs_paper"] == 455_712
    table = np.array(values["confusion"])
    assert table.sum() == FRAMES
    assert np.trace(table) == (answers == labels).sum()
    assert min(values["frames_per_second"], values["float_frames_per_second"]) > 0


def test_every_stage_is_there(found):
    values, _ = found
    for stage in ("accuracy_ann", "accuracy_ann_1bit", "accuracy_qann", "accuracy_snn", "accuracy_snn_potential"):
        assert 0.9 < values[stage] <= 1, stage
    for row in values["agreement"]:
        assert 0.7 < row["correlation"] <= 1
        assert 0.7 < row["float_correlation"] <= 1
        assert len(row["float_worst_neurons"]) == 5
    assert values["course"]["frames"] == 20
    # Before the first event there is no answer but the first class.
    assert values["course"]["by_events"]["accuracy"][0] == (load("digits5k", "test").labels[:20] == 0).mean()
    for course in (values["course"], values["course"]["by_events"]):
        assert course["accuracy"][-1] > 0.9
        assert course["spikes_per_frame"] == sorted(course["spikes_per_frame"])
        assert course["spikes_per_frame"][-1] > 0


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.open, self.sources, self.cells = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.cells.append(data)


def test_page_loads_nothing_and_shows_the_figures(found):
    values, text = found
    page = Page(text)
    assert len(page.sources) == 3
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.sources)
    for figure in (f"{values['accuracy_snn']:.2%}", f"{values['accumulations_per_frame']:,}", "conv2", "fc2"):
        assert figure in page.cells, figure


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["missing.npz"], "missing.npz: cannot be read: No such file or directory"),
        ([str(ZOO), "--onnx", "missing.onnx"], "missing.onnx: cannot be read: No such file or directory"),
        (
            [str(ZOO), "--dataset", "frames.npz"],
            "frames of frames.npz must have the network's input shape (28, 28, 1), not (5, 4, 1)",
        ),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(arguments, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("frames.npz", images=np.zeros((3, 5, 4, 1), np.uint8), labels=np.zeros(3, np.int64))
    result = CliRunner().invoke(main, [*arguments, "--out", "out"])
    assert result.exit_code == 2
    assert result.stderr.strip() == f"error: {line}"
    assert not Path("out").exists()


def test_the_page_of_several_levels_and_of_flushes():
    network = replace(random_network(1), input_threshold=40, input_step=60, input_levels=3, firing="deferred")
    images = np.random.default_rng(0).integers(0, 256, (6, *network.input_shape), dtype=np.uint8)
    found = evaluate(network, Dataset("frames", images, np.arange(6) % network.classes), detail=3)
    assert (found.input_levels, found.firing) == (3, "deferred")
    # There is no answer before the only flush.
    assert set(found.course.accuracy[:-1]) == {0.0}
    page = evaluation_page(found)
    assert "Pixels furthest past their limit fire first;\nneurons fire at a flush" in page.replace("\n\n", "\n")
    assert "Pixels furthest past" not in evaluation_page(replace(found, input_levels=1))
