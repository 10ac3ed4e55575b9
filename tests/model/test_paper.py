"""The command that measures this method beside two others: what it writes, and what its rows rest on."""

import html
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from model.conversion.quantize import Settings, quantize
from model.engine.engine import run_frames
from model.importers.onnx import import_onnx
from model.paper import main
from model.studies import one_threshold, paper, paper_measurements
from model.studies.rate_coded import convert_rates, run_rates
from model.support.datasets import load

ZOO = Path(__file__).parents[2] / "model" / "zoo"
FRAMES = 30


@pytest.fixture(scope="module")
def floats():
    return import_onnx(ZOO / "mnist-paper.onnx")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("paper")


@pytest.fixture(scope="module")
def arguments(folder):
    options = {"--dataset": "digits5k", "--frames": str(FRAMES), "--detail": "5", "--out": folder / "out"}
    options |= {"--cache": folder / "cache", "--docs": folder / "docs"}
    return [str(part) for pair in options.items() for part in pair]


@pytest.fixture(scope="module")
def found(folder, arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paper, "_CALIBRATED", 60)
        patch.setattr(paper, "_THRESHOLDS", (0.3, 1.0, 2.0))
        result = CliRunner().invoke(main, [*arguments, "--json"])
        assert result.exit_code == 0, result.output
        values = json.loads(result.stdout)
        assert values == json.loads((folder / "out" / "paper.json").read_text())
        # A second run takes everything from what was kept, and writes the same.
        written = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        patch.setattr(one_threshold, "run_frames", None)
        patch.setattr(paper_measurements, "run_frames", None)
        patch.setattr(paper_measurements, "run_rates", None)
        patch.setattr(paper_measurements, "run_first_spikes", None)
        assert CliRunner().invoke(main, arguments).exit_code == 0
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == written
    return values


def test_it_writes_what_it_says(found, folder):
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["paper.html", "paper.json"]
    assert sorted(path.name for path in (folder / "docs").iterdir()) == [
        "paper-figure2.svg",
        "paper-figure3.svg",
        "paper-figure4.svg",
    ]
    assert found["frames"] == FRAMES
    assert found["detail_frames"] == 5
    assert found["calibration"] == {"dataset": "digits5k", "frames": 60}


def test_every_row_is_there_and_is_measured(found, floats):
    settings = [(row["method"], row["network"], row["setting"]) for row in found["rows"]]
    factors = found["factors"]
    assert settings == [
        ("sigma-delta", "convolutional", "a threshold for each layer (the bundled conversion)"),
        ("sigma-delta", "convolutional", "threshold 1.0, weights as they are"),
        ("sigma-delta", "convolutional", "threshold 2.0, weights as they are"),
        *(
            ("sigma-delta", "convolutional", f"threshold {at}, network scaled by {factors[bound]:g} (to the paper's {bound})")
            for at, bound in (("1.0", "accumulations"), ("2.0", "accumulations"), ("1.0", "spikes"))
        ),
        ("rate", "convolutional", "15 time steps, grey input"),
        ("rate", "convolutional", "25 time steps, grey input"),
        ("rate", "convolutional", "15 time steps, 1-bit input"),
        ("rate", "convolutional", "25 time steps, 1-bit input"),
        ("first spike", "convolutional", "pixels are currents, grey"),
        ("first spike", "convolutional", "pixels are spikes, grey"),
        ("first spike", "two-layer", "pixels are currents, grey"),
        ("first spike", "two-layer", "pixels are spikes, grey"),
    ]
    data, training = load("digits5k", "test"), load("digits5k", "train")
    by_setting = {row["setting"]: row for row in found["rows"]}
    images, labels = data.images[:FRAMES], data.labels[:FRAMES]
    frames = run_frames(quantize(floats, [1.0] * 4, Settings(threshold=1.0), name="x"), images)
    row = by_setting["threshold 1.0, weights as they are"]
    assert row["accuracy"] == (frames.counts.argmax(axis=1) == labels).mean()
    assert row["accumulations_per_frame"] == round(frames.operations.sum(axis=1).mean())
    rates = run_rates(convert_rates(floats, training.images[:60], input_threshold=51), images, 15)
    row = by_setting["15 time steps, 1-bit input"]
    assert row["accuracy"] == round((rates.answers[:, -1] == labels).mean(), 6)
    expected = rates.operations.sum(axis=(1, 2)).mean() + rates.input_operations.mean()
    assert row["accumulations_per_frame"] == round(expected)
    for row in found["rows"]:
        if "weights as they are" not in row["setting"] and "threshold 2.0" not in row["setting"]:
            assert row["accuracy"] > 0.9, row["setting"]


def test_published_figures_stand_only_where_they_are_known(found, folder):
    scaled = [row.get("scaled_to") for row in found["rows"]]
    assert scaled == [None, None, None, "accumulations", "accumulations", "spikes", *[None] * 8]
    text = (folder / "out" / "paper.html").read_text()
    rows = [re.findall("<td.*?>(.*?)</td>", row) for row in re.findall("<tr>(.*?)</tr>", text)]
    [known] = [row for row in rows if row[-3:] == ["99.19%", "0.25", "less than 600,000"]]
    assert html.unescape(known[2]) == found["rows"][5]["setting"]
    assert sum(row[-3:] == ["not known to us"] * 3 for row in rows) == len(found["rows"]) - 1


def test_figures_and_reasons(found):
    assert [len(course["time"]) == len(course["accuracy"]) for course in found["courses"]] == [True] * 5
    for rates in found["rates"].values():
        assert rates["steps"] == list(range(1, 41))
        for key in ("accuracy", "spikes_per_neuron", "accumulations_per_frame"):
            assert len(rates[key]) == 40
        assert rates["accumulations_per_frame"] == sorted(rates["accumulations_per_frame"])
    for why in found["why"].values():
        assert [layer["layer"] for layer in why["layers"]] == ["conv1", "conv2", "fc1", "fc2"]
        assert why["steps"][-1]["cause"] == "saturation"
    ours = found["why"]["threshold 1.0, weights as they are"]["layers"]
    factor = found["factors"]["accumulations"]
    scaled = found["why"][f"threshold 1.0, network scaled by {factor:g} (to the paper's accumulations)"]["layers"]
    for before, after in zip(ours, scaled, strict=True):
        assert before["threshold"] == pytest.approx(1, rel=0.02)
        ratio = after["large_activation_thresholds"] / before["large_activation_thresholds"]
        assert ratio == pytest.approx(factor, rel=0.03)
        assert after["spikes_per_frame"] > before["spikes_per_frame"]
        assert after["counts_per_frame"] <= after["spikes_per_frame"]
    assert sum(layer["negative_spikes"] for layer in scaled) > 0
    assert [row["layer"] for row in found["why_first_spike"]] == ["conv1", "conv2", "fc1", "fc2"]
    # The first layer's currents are there from the start: its times are the inverses of its activations.
    assert found["why_first_spike"][0]["fired_of_active"] > 0.99
    assert found["why_first_spike"][0]["fired_of_silent"] == 0
    assert found["why_first_spike"][0]["correlation"] > 0.999
    assert found["why_first_spike"][1]["fired_of_silent"] > 0


def test_page_loads_nothing_and_shows_the_figures(found, folder):
    text = (folder / "out" / "paper.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]{0,40})', text)
    assert len(sources) == 3
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    for row in found["rows"]:
        assert f"<td class=words>{row['setting']}</td>" in html.unescape(text)
        assert f"<td>{row['accumulations_per_frame']:,}</td>" in text


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["--dataset", "frames.npz"],
            "frames of frames.npz must have the networks' input shape (28, 28, 1), not (5, 4, 1)",
        ),
        (["--dataset", "missing.npz"], "missing.npz: dataset must be an existing .npz file"),
        (["--dataset", "dogs"], "dataset must be 'mnist', 'digits5k' or the path of an .npz file, not 'dogs'"),
        (["--dataset", "digits5k", "--out", "file"], "--out must be a folder, not 'file'"),
    ],
)
def test_bad_input_is_one_line(arguments, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("frames.npz", images=np.zeros((3, 5, 4, 1), np.uint8), labels=np.zeros(3, np.int64))
    Path("file").write_text("")
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert result.stderr.strip() == f"error: {line}"
    assert list(tmp_path.rglob("paper.*")) == []
