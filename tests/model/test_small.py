"""The network for small boards: its settings, its training in small, and the bundled files."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from model.importers.onnx import import_onnx
from model.network import Network, Neurons
from model.small import SmallSettings, export_small, train_small
from model.support.datasets import DataError, Dataset

ZOO = Path(__file__).parents[2] / "model" / "zoo"


@pytest.mark.parametrize(
    ("settings", "kind", "line"),
    [
        ({"epochs": 0}, ValueError, "epochs must be 1 or more, not 0"),
        ({"channels": 1.5}, TypeError, "channels must be an integer, not 1.5"),
        ({"learning_rate": 0}, ValueError, "learning_rate must be more than 0, not 0"),
    ],
)
def test_settings_out_of_range(settings, kind, line):
    with pytest.raises(kind) as caught:
        SmallSettings(**settings)
    assert str(caught.value) == line


def test_bundled_files_are_those_of_the_report():
    report = json.loads((ZOO / "mnist-small.train.json").read_text())
    assert hashlib.sha256((ZOO / "mnist-small.onnx").read_bytes()).hexdigest() == report["onnx_sha256"]
    assert report["float_accuracy_1_bit"] > 0.97
    import_onnx(ZOO / "mnist-small.onnx")
    network = Network.load(ZOO / "mnist-small.npz")
    assert [str(shape) for shape in network.shapes] == ["14x14x8", "7x7x8", "1x1x10"]
    assert sum(layer.weights.size for layer in network.layers if isinstance(layer, Neurons)) == 4120


def test_training_in_small(tmp_path):
    pytest.importorskip("torch", reason="needs PyTorch: pip install -e .[train]")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 64)
    images = np.zeros((64, 28, 28, 1), np.uint8)
    images[np.arange(64), 2 * labels + 4, 10:18] = 255
    dataset = Dataset("drawn", images, labels)
    files = [tmp_path / name for name in ("a.onnx", "b.onnx")]
    for path in files:
        export_small(train_small(SmallSettings(epochs=1, batch_size=32), dataset), path)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert len(import_onnx(files[0]).layers) == 3
    line = r"^drawn: images must be of \(height, width, channels\) \(28, 28, 1\), not \(27, 28, 1\)$"
    with pytest.raises(DataError, match=line):
        train_small(SmallSettings(), Dataset("drawn", images[:, 1:], labels))
