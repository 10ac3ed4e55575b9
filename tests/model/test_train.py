"""Tests of `model.train`."""

import hashlib
import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner

from model import train as module
from model.support.choices import ZOO
from model.support.datasets import DataError, Dataset, load
from model.training import common, paper_network

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e .[train]")


@pytest.fixture(scope="module")
def digits():
    return load("digits5k", "train")


@pytest.fixture(scope="module")
def short(digits):
    """Five epochs over 605 of 660 digits."""
    torch.set_num_threads(1)
    some = Dataset("some", digits.images[::6][:660], digits.labels[::6][:660])
    settings = paper_network.TrainSettings(seed=3, epochs=5, batch_size=32, learning_rate=2e-3)
    return settings, some, paper_network.train(settings, some)


def run(path, images):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == ["image"]
    return session.run(None, {"image": images})[0]


def test_loss_falls(short, digits):
    settings, some, result = short
    assert len(result.losses) == settings.epochs
    assert result.losses[0] > result.losses[1] > result.losses[-1]
    assert result.losses[-1] < 1.4, "chance is 2.3"
    assert result.validation_frames == len(some) // 12
    assert not result.network.training
    test = load("digits5k", "test")
    assert common.accuracy(result.network, test.images, test.labels) > 0.6
    assert common.accuracy(result.network, common.binarise(test.images), test.labels) > 0.6


def test_same_seed_same_weights(short):
    settings, some, result = short
    again = paper_network.train(settings, some)
    assert again.losses == result.losses
    for name, value in result.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name]), name


def test_export_is_the_network(short, digits, tmp_path):
    network = short[2].network
    paper_network.export_onnx(network, tmp_path / "a.onnx")
    paper_network.export_onnx(network, tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "b.onnx"]

    model = onnx.load(tmp_path / "a.onnx", load_external_data=False)
    assert [node.op_type for node in model.graph.node] == [
        "Conv",
        "Relu",
        "MaxPool",
        "Conv",
        "Relu",
        "MaxPool",
        "Flatten",
        "Gemm",
        "Relu",
        "Gemm",
    ]
    assert {value.name: list(value.dims) for value in model.graph.initializer} == {
        "conv1.weight": [16, 1, 5, 5],
        "conv1.bias": [16],
        "conv2.weight": [8, 16, 5, 5],
        "conv2.bias": [8],
        "fc1.weight": [256, 392],
        "fc1.bias": [256],
        "fc2.weight": [10, 256],
        "fc2.bias": [10],
    }

    frames = (digits.images[:50].transpose(0, 3, 1, 2) / 255).astype(np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(frames)).numpy()
    np.testing.assert_allclose(run(tmp_path / "a.onnx", frames), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(run(tmp_path / "a.onnx", frames[:1]), expected[:1], rtol=1e-4, atol=1e-4)


def test_export_refuses_other_layers(tmp_path):
    network = torch.nn.Sequential(torch.nn.Sigmoid())
    with pytest.raises(TypeError) as caught:
        paper_network.export_onnx(network, tmp_path / "a.onnx")
    assert str(caught.value) == "layer 0 must be one of those of build_network, not Sigmoid"
    assert not list(tmp_path.iterdir())


def test_paper_sizes():
    network = paper_network.build_network()
    weights = sum(value.numel() for name, value in network.named_parameters() if name.endswith("weight"))
    assert weights == 106_512


def test_binarise():
    images = np.array([0, 50, 51, 52, 255], dtype=np.uint8)
    assert common.binarise(images).tolist() == [0, 0, 0, 255, 255]
    assert common.binarise(images).dtype == np.uint8


def test_augment_moves_little(digits):
    torch.manual_seed(5)
    frames = torch.from_numpy(digits.images[::8].transpose(0, 3, 1, 2).copy()).float() / 255
    moved = common.augment(frames)
    assert moved.shape == frames.shape
    assert float(moved.min()) >= 0
    assert float(moved.max()) <= 1
    assert not torch.equal(moved, frames)
    columns, rows = torch.arange(28.0), torch.arange(28.0)
    shifts = []
    for before, after in zip(frames[:, 0], moved[:, 0], strict=True):
        shifts.append(
            [
                float((after.sum(axis) * at).sum() / after.sum() - (before.sum(axis) * at).sum() / before.sum())
                for axis, at in ((0, columns), (1, rows))
            ]
        )
    assert np.abs(shifts).max() < 4
    assert np.abs(shifts).max() > 1.5
    assert np.abs(np.mean(shifts, axis=0)).max() < 0.3


@pytest.mark.parametrize(
    ("field", "value", "error", "expected"),
    [
        ("seed", -1, ValueError, "seed must be 0 or more, not -1"),
        ("seed", 1.0, TypeError, "seed must be an integer, not 1.0"),
        ("epochs", 0, ValueError, "epochs must be 1 or more, not 0"),
        ("batch_size", True, TypeError, "batch_size must be an integer, not True"),
        ("learning_rate", 0.0, ValueError, "learning_rate must be more than 0, not 0.0"),
        ("weight_decay", -0.1, ValueError, "weight_decay must be 0 or more, not -0.1"),
        ("dropout", 1.0, ValueError, "dropout must be at least 0 and less than 1, not 1.0"),
        ("average_decay", float("nan"), ValueError, "average_decay must be at least 0 and less than 1, not nan"),
        ("binary_share", 1.5, ValueError, "binary_share must be from 0 to 1, not 1.5"),
    ],
)
def test_settings_errors(field, value, error, expected):
    with pytest.raises(error) as caught:
        paper_network.TrainSettings(**{field: value})
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("shape", "label", "expected"),
    [
        ((24, 32, 32, 1), 0, "own: images must be of (height, width, channels) (28, 28, 1), not (32, 32, 1)"),
        ((24, 28, 28, 1), 10, "own: labels must be less than 10, not 10"),
        ((11, 28, 28, 1), 0, "own: training must have at least 12 frames, not 11"),
    ],
)
def test_dataset_errors(shape, label, expected):
    own = Dataset("own", np.zeros(shape, np.uint8), np.full(shape[0], label))
    with pytest.raises(DataError) as caught:
        paper_network.train(paper_network.TrainSettings(), own)
    assert str(caught.value) == expected


def test_command(monkeypatch, digits, tmp_path):
    test = load("digits5k", "test")
    few = {"train": Dataset("digits5k", digits.images[::10], digits.labels[::10]), "test": test}
    monkeypatch.setattr("model.support.datasets.load", lambda name, split, data_dir: few[split])
    monkeypatch.chdir(tmp_path)
    outcome = CliRunner().invoke(
        module.main, ["--dataset", "digits5k", "--epochs", "1", "--out", "here", "--threads", "1", "--seed", "9", "--json"]
    )
    assert outcome.exit_code == 0, outcome.output
    report = json.loads((tmp_path / "here" / "mnist-paper.train.json").read_text())
    assert json.loads(outcome.stdout) == report
    assert report["command"] == (
        "python -m model.train --dataset digits5k --out here --threads 1 --seed 9 --epochs 1 "
        "--batch-size 128 --learning-rate 0.004 --weight-decay 0.05 --dropout 0.5 --binary-share 0.7 "
        "--average-decay 0.998"
    )
    assert (report["seed"], report["epochs"]) == (9, 1)
    assert (report["frames_train"], report["frames_validation"], report["frames_test"]) == (367, 33, 1000)
    scores = run(
        tmp_path / "here" / "mnist-paper.onnx", (common.binarise(test.images).transpose(0, 3, 1, 2) / 255).astype(np.float32)
    )
    assert report["float_accuracy_1bit"] == pytest.approx((scores.argmax(1) == test.labels).mean(), abs=0.002)


def test_command_without_torch(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    outcome = CliRunner().invoke(module.main, ["--dataset", "digits5k", "--out", str(tmp_path / "here")])
    assert outcome.exit_code == 6
    assert outcome.stderr == "error: training must have PyTorch installed: pip install -e .[train]\n"
    assert not (tmp_path / "here").exists()


def test_command_with_bad_option(tmp_path):
    outcome = CliRunner().invoke(module.main, ["--epochs", "0", "--out", str(tmp_path / "here")])
    assert outcome.exit_code == 2
    assert outcome.stderr == "error: epochs must be 1 or more, not 0\n"
    assert not (tmp_path / "here").exists()


def test_bundled_network(digits):
    """The digits are among those it was trained on: this finds a wrong file, not a wrong generalisation."""
    report = json.loads((ZOO / "mnist-paper.train.json").read_text())
    assert hashlib.sha256((ZOO / "mnist-paper.onnx").read_bytes()).hexdigest() == report["onnx_sha256"]
    assert report["float_accuracy_grey"] >= 0.991
    assert report["float_accuracy_1bit"] >= 0.991
    for images in (digits.images, common.binarise(digits.images)):
        scores = run(ZOO / "mnist-paper.onnx", (images.transpose(0, 3, 1, 2) / 255).astype(np.float32))
        assert (scores.argmax(1) == digits.labels).mean() >= 0.99
