"""The two-layer network: its settings, its training in small, and the bundled file."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from model.importers.onnx import import_onnx
from model.support.datasets import DataError, Dataset, load
from model.support.errors import ToolMissingError
from model.training import plain
from model.two_layer import TwoLayerSettings, export_two_layer, main, train_two_layer

ZOO = Path(__file__).parents[2] / "model" / "zoo"


@pytest.mark.parametrize(
    ("settings", "kind", "line"),
    [
        ({"epochs": 0}, ValueError, "epochs must be 1 or more, not 0"),
        ({"hidden": 1.5}, TypeError, "hidden must be an integer, not 1.5"),
        ({"learning_rate": 0}, ValueError, "learning_rate must be more than 0, not 0"),
        ({"weight_decay": -1}, ValueError, "weight_decay must be 0 or more, not -1"),
        ({"dropout": 1}, ValueError, "dropout must be at least 0 and less than 1, not 1"),
    ],
)
def test_settings_out_of_range(settings, kind, line):
    with pytest.raises(kind) as caught:
        TwoLayerSettings(**settings)
    assert str(caught.value) == line


def test_bundled_file_is_the_one_of_its_report():
    report = json.loads((ZOO / "mnist-two-layer.train.json").read_text())
    content = (ZOO / "mnist-two-layer.onnx").read_bytes()
    assert hashlib.sha256(content).hexdigest() == report["onnx_sha256"]
    assert len(content) < 3_000_000
    network = import_onnx(ZOO / "mnist-two-layer.onnx")
    assert [(layer.kind, layer.weights.shape, layer.relu) for layer in network.layers] == [
        ("linear", (800, 784), True),
        ("linear", (10, 800), False),
    ]
    digits = load("digits5k", "test")
    scores = network.run(digits.images.astype(np.float32) / 255)[0]
    assert (scores.argmax(axis=1) == digits.labels).mean() > 0.98


def test_short_training_learns_and_is_the_same_again(tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e .[train]")
    torch.set_num_threads(1)
    digits = load("digits5k", "train")
    some = Dataset("some", digits.images[::8], digits.labels[::8])
    settings = TwoLayerSettings(epochs=4, hidden=40, batch_size=16)
    for name in ("a.onnx", "b.onnx"):
        export_two_layer(train_two_layer(settings, some), tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.onnx", "b.onnx"]
    network = import_onnx(tmp_path / "a.onnx")
    scores = network.run(digits.images[1::4].astype(np.float32) / 255)[0]
    assert (scores.argmax(axis=1) == digits.labels[1::4]).mean() > 0.7
    with pytest.raises(DataError) as caught:
        train_two_layer(settings, Dataset("odd", np.zeros((2, 4, 4, 1), np.uint8), np.zeros(2, np.int64)))
    assert str(caught.value) == "odd: images must be of (height, width, channels) (28, 28, 1), not (4, 4, 1)"


def test_without_pytorch_it_says_how_to_get_it(tmp_path, monkeypatch):
    def missing():
        raise ToolMissingError("training must have PyTorch installed: pip install -e .[train]")

    monkeypatch.setattr(plain, "import_torch", missing)
    result = CliRunner().invoke(main, ["--dataset", "digits5k", "--out", str(tmp_path / "out")])
    assert result.exit_code == 6
    assert result.stderr.strip() == "error: training must have PyTorch installed: pip install -e .[train]"
    assert not (tmp_path / "out").exists()
