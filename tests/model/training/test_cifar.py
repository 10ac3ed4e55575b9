"""Tests of `model.training.cifar`, on a few frames that can be told apart."""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnxruntime
import platformdirs
import pytest
import torch
from click.testing import CliRunner

from model import train as train_module
from model.importers.onnx import import_onnx
from model.support.datasets import DataError, Dataset
from model.support.errors import BadInputError
from model.training.cifar import CifarTraining, make
from model.training.cifar_settings import CifarSettings

TINY = {"widths": (4, 6, 8), "blocks": (0, 1, 1), "batch_size": 32, "learning_rate": 0.1}


def coloured(count, seed=1):
    """Frames whose class is a colour and a texture, with noise."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 10
    base = np.random.default_rng(77).integers(40, 216, (10, 4, 4, 3))
    images = base[labels].repeat(8, axis=1).repeat(8, axis=2) + random.integers(-40, 40, (count, 32, 32, 3))
    return Dataset("coloured", images.astype(np.uint8), labels.astype(np.int64))


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    """One thread, which gives the same everywhere, and a cache of the test's own."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda app: str(tmp_path / "cache" / app))
    yield
    torch.set_num_threads(threads)


def values(training):
    return [value.numpy().copy() for value in training.average.state_dict().values()]


def same(some, others):
    return len(some) == len(others) and all(np.array_equal(one, other) for one, other in zip(some, others, strict=True))


def test_it_learns_and_is_exported(tmp_path):
    settings = CifarSettings(epochs=6, average_decay=0.8, **TINY)
    test, lines = coloured(100, seed=2), []
    found = make(settings, coloured(320), test, tmp_path / "net.onnx", lines.append)
    assert found["float_accuracy"] > 0.8
    assert (found["frames_train"], found["frames_test"], len(found["losses"])) == (320, 100, 6)
    assert found["losses"][-1] < found["losses"][0]
    assert [line.partition(":")[0] for line in lines] == [f"epoch {n}/6" for n in range(1, 7)]
    content = (tmp_path / "net.onnx").read_bytes()
    assert found["onnx_sha256"] == hashlib.sha256(content).hexdigest()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    scores = session.run(None, {"image": (test.images.transpose(0, 3, 1, 2) / 255).astype(np.float32)})[0]
    assert (scores.argmax(1) == test.labels).mean() == pytest.approx(found["float_accuracy"], abs=0.011)
    assert found["parameters"] == 1910
    # The stem, two blocks of two layers, and the scores; convolutions, two of them on shortcuts, and the linear layer.
    assert found["neurons"] == 32 * 32 * 4 + 2 * 16 * 16 * 6 + 2 * 8 * 8 * 8 + 10
    stages = 32 * 32 * 4 * 3 * 9 + 16 * 16 * (6 * 4 * 10 + 6 * 6 * 9) + 8 * 8 * (8 * 6 * 10 + 8 * 8 * 9)
    assert found["macs_per_frame"] == stages + 8 * 10
    # A training that is done leaves nothing to resume from.
    assert list((tmp_path / "cache" / "tally" / "train").iterdir()) == []


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_resumed_training_ends_as_one_that_was_not_stopped(tmp_path, precision):
    settings, data = CifarSettings(epochs=3, precision=precision, **TINY), coloured(96)
    whole = CifarTraining(settings, data)
    whole.run(lambda line: None)

    class StoppedError(Exception):
        pass

    def stop(line):
        # The state of the second epoch is not kept yet.
        if line.startswith("epoch 2/3"):
            raise StoppedError

    resume = tmp_path / "state.pt"
    with pytest.raises(StoppedError):
        CifarTraining(settings, data).run(stop, resume)
    torch.rand(5)
    lines = []
    resumed = CifarTraining(settings, data)
    resumed.run(lines.append, resume)
    assert lines[0] == "goes on after epoch 1 of 3"
    assert len(lines) == 3
    assert same(values(resumed), values(whole))
    assert resumed.losses == whole.losses

    # Another seed is another training.
    other = CifarTraining(CifarSettings(epochs=3, precision=precision, seed=2, **TINY), data)
    assert not same(values(other), values(CifarTraining(settings, data)))
    with pytest.raises(BadInputError) as caught:
        other.run(lambda line: None, resume)
    assert str(caught.value) == f"{resume}: file to resume from must be of the same data, settings, version and threads"


def test_a_file_to_resume_from_that_is_none(tmp_path):
    path = tmp_path / "state.pt"
    path.write_bytes(b"something else")
    with pytest.raises(BadInputError) as caught:
        CifarTraining(CifarSettings(**TINY), coloured(32)).run(lambda line: None, path)
    assert str(caught.value) == f"{path}: file to resume from must be one that a training wrote; delete it to start again"


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("epochs", 0, "epochs must be 1 or more, not 0"),
        ("learning_rate", 0, "learning_rate must be more than 0, not 0"),
        ("weight_decay", -1, "weight_decay must be 0 or more, not -1"),
        ("label_smoothing", 1, "label_smoothing must be at least 0 and less than 1, not 1"),
        ("average_decay", 1.0, "average_decay must be at least 0 and less than 1, not 1.0"),
        ("widths", (), "widths must be numbers of 1 or more, not ()"),
        ("widths", (8, 0, 8), "widths must be numbers of 1 or more, not (8, 0, 8)"),
        ("blocks", (0, -1, 2), "blocks must be numbers of 0 or more, not (0, -1, 2)"),
        ("stem", (2, 3), "stem must be a window of 1 or more and a stride of 1 up to the window, not (2, 3)"),
        ("stem", (3,), "stem must be a window of 1 or more and a stride of 1 up to the window, not (3,)"),
        ("input_levels", 33, "input_levels must be within 2..32, not 33"),
        ("accumulations", 1e6, "accumulations must not be given without counts"),
        ("event_price", 0.2, "event_price must not be given without counts"),
        ("input_levels", 4, "input_levels must not be given without counts"),
        ("event_price", -0.1, "event_price must be 0 or more, not -0.1"),
        ("teacher_share", 1.0, "teacher_share must be at least 0 and less than 1, not 1.0"),
        ("blocks", (1, 1), "blocks must be one number for each of the 3 widths, not (1, 1)"),
        ("blocks", (1, 1, 0), "blocks must be 1 or more in the last stage, not (1, 1, 0)"),
        ("precision", "float16", "precision must be 'float32' or 'bfloat16', not 'float16'"),
    ],
)
def test_settings_that_are_wrong(field, value, expected):
    with pytest.raises(BadInputError) as caught:
        CifarSettings(**{field: value})
    assert str(caught.value) == expected


def test_a_rate_at_which_the_loss_is_not_finite():
    settings = CifarSettings(epochs=2, **(TINY | {"learning_rate": 1e30}))
    with pytest.raises(BadInputError) as caught:
        CifarTraining(settings, coloured(96)).run(lambda line: None)
    assert str(caught.value) == "learning_rate must be less for the loss to stay finite, not 1e+30"


@pytest.mark.parametrize(
    ("shape", "label", "expected"),
    [
        (
            (28, 28, 1), 0,
            "own: test images must be of (height, width, channels) (32, 32, 3), as those to train on, not (28, 28, 1)",
        ),
        ((32, 32, 3), 10, "own: test labels must be less than 10, not 10"),
    ],
)
def test_frames_that_are_wrong(tmp_path, shape, label, expected):
    own = Dataset("own", np.zeros((4, *shape), np.uint8), np.full(4, label))
    with pytest.raises(DataError) as caught:
        make(CifarSettings(**TINY), coloured(32), own, Path(tmp_path / "net.onnx"), lambda line: None)
    assert str(caught.value) == expected


def test_frames_to_train_on_are_no_test_and_one_class_is_none(tmp_path):
    data = coloured(32)
    with pytest.raises(DataError) as caught:
        make(CifarSettings(**TINY), data, data, Path(tmp_path / "net.onnx"), lambda line: None)
    assert str(caught.value) == (
        "coloured: frames to train on and to test on must differ: x_train, y_train, x_test and y_test"
    )
    with pytest.raises(DataError) as caught:
        CifarTraining(CifarSettings(**TINY), Dataset("own", data.images, np.zeros(32, np.int64)))
    assert str(caught.value) == "own: classes must be 2 or more, not 1"


def test_frames_of_ones_own(tmp_path, monkeypatch):
    """Of another size and other classes; the file is named after them."""
    made, test = coloured(96), coloured(20, seed=2)
    few = np.array(["red", "green", "blue"])
    arrays = {"x_train": made.images[:, :12, :20], "y_train": made.labels % 3, "x_test": test.images[:, :12, :20]}
    np.savez(tmp_path / "pets.npz", **arrays, y_test=test.labels % 3, classes=few)
    monkeypatch.chdir(tmp_path)
    arguments = ["--cifar", "--dataset", "pets.npz", "--epochs", "1", "--widths", "4,6", "--blocks", "0,1", "--out", "here"]
    outcome = CliRunner().invoke(train_module.main, [*arguments, "--threads", "1"])
    assert outcome.exit_code == 0, outcome.output
    network = import_onnx(tmp_path / "here" / "pets-resnet.onnx")
    assert (tuple(network.input_shape), network.layers[-1].weights.shape[0]) == ((12, 20, 3), 3)
    assert (tmp_path / "here" / "pets-resnet.train.json").exists()


def test_command(monkeypatch, tmp_path):
    frames = {"train": coloured(64), "test": coloured(20, seed=2)}
    asked = []
    monkeypatch.setattr("model.support.datasets.load", lambda name, split, data_dir: asked.append((name, split)) or frames[split])
    monkeypatch.chdir(tmp_path)
    arguments = ["--cifar", "--epochs", "1", "--widths", "4,6", "--blocks", "0,1", "--batch-size", "32", "--out", "here"]
    arguments += ["--threads", "1"]
    outcome = CliRunner().invoke(train_module.main, [*arguments, "--json"])
    assert outcome.exit_code == 0, outcome.output
    assert asked == [("cifar10", "train"), ("cifar10", "test")]
    report = json.loads((tmp_path / "here" / "cifar-resnet.train.json").read_text())
    assert json.loads(outcome.stdout) == report
    assert report["command"] == (
        "python -m model.train --cifar --dataset cifar10 --out here --threads 1 --seed 1 --epochs 1 --batch-size 32 "
        "--learning-rate 0.2 --weight-decay 0.0005 --label-smoothing 0.05 --cutout 0 --average-decay 0.998 --widths 4,6 "
        "--blocks 0,1 --stem 3,1 --input-levels 8 --event-price 0.05 --teacher-share 0.5 --precision float32"
    )
    assert (report["dataset"], report["widths"], report["blocks"]) == ("coloured", [4, 6], [0, 1])
    first = (tmp_path / "here" / "cifar-resnet.onnx").read_bytes()
    assert report["onnx_sha256"] == hashlib.sha256(first).hexdigest()

    # The command of the report gives the same file.
    outcome = CliRunner().invoke(train_module.main, report["command"].split()[3:])
    assert outcome.stdout == (
        f"here/cifar-resnet.onnx: accuracy {report['float_accuracy']:.2%} on 20 test frames of coloured, "
        f"{report['parameters']:,} parameters, {report['macs_per_frame']:,} MACs per frame\n"
    )
    assert (tmp_path / "here" / "cifar-resnet.onnx").read_bytes() == first


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--cifar", "--sparse"], "--sparse must not be given with --cifar"),
        (["--cifar", "--dropout", "0.1"], "--dropout must not be given with --cifar"),
        (["--widths", "8,16"], "--widths must not be given without --cifar"),
        (["--sparse", "--precision", "bfloat16"], "--precision must not be given with --sparse"),
        (["--start", "x.onnx"], "--start must not be given without --sparse or --cifar"),
        (["--teacher", "x.onnx"], "--teacher must not be given without --sparse or --cifar"),
        (["--cifar", "--teacher-share", "0.3"], "--teacher-share must not be given without --teacher"),
        (["--sparse", "--teacher", "x.onnx", "--teacher", "y.onnx"], "--teacher must be given once with --sparse"),
        (["--counts"], "--counts must not be given without --cifar"),
        (["--cifar", "--blocks", "1,2"], "blocks must be one number for each of the 3 widths, not (1, 2)"),
        (
            ["--cifar", "--dataset", "digits5k"],
            "--dataset must be cifar10 or an .npz file with --cifar, not 'digits5k'",
        ),
        (["--dataset", "cifar10"], "--dataset must be mnist or digits5k without --cifar, not 'cifar10'"),
    ],
)
def test_command_with_bad_options(arguments, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = CliRunner().invoke(train_module.main, [*arguments, "--out", "here"])
    assert (outcome.exit_code, outcome.stderr) == (2, f"error: {line}\n")
    assert not Path("here").exists()


def test_widths_that_are_no_numbers(tmp_path):
    outcome = CliRunner().invoke(train_module.main, ["--cifar", "--widths", "8,x", "--out", str(tmp_path / "here")])
    assert outcome.exit_code == 2
    assert "must be whole numbers with commas between, not '8,x'" in outcome.stderr


def test_counts_learned_from_teachers_go_on_to_be_fine_tuned(tmp_path, monkeypatch):
    """From a float network through one that counts to the integer network, by commands."""
    from model import finetune as finetune_module

    frames = {"train": coloured(480), "test": coloured(100, seed=2)}
    monkeypatch.setattr("model.support.datasets.load", lambda name, split, data_dir: frames[split])
    monkeypatch.chdir(tmp_path)
    shape = ["--widths", "6,8", "--blocks", "0,1", "--stem", "4,2", "--batch-size", "32", "--average-decay", "0.9"]
    shape += ["--threads", "1"]
    outcome = CliRunner().invoke(train_module.main, ["--cifar", "--epochs", "4", *shape, "--out", "float"])
    assert outcome.exit_code == 0, outcome.output
    taught = ["--counts", "--teacher", "float/cifar-resnet.onnx", "--accumulations", "95000", "--event-price", "0.5"]
    taught += ["--input-levels", "2"]
    arguments = ["--cifar", "--epochs", "6", *shape, *taught, "--out", "counts", "--json"]
    outcome = CliRunner().invoke(train_module.main, arguments)
    assert outcome.exit_code == 0, outcome.output
    report = json.loads(outcome.stdout)
    assert report["accuracy_counts"] > 0.8
    assert report["accumulations_per_frame"] < 110_000
    assert "--counts --input-levels 2 --event-price 0.5 --accumulations 95000.0" in report["command"]
    first = (tmp_path / "counts" / "cifar-resnet.onnx").read_bytes()
    outcome = CliRunner().invoke(train_module.main, report["command"].split()[3:])
    assert outcome.exit_code == 0, outcome.output
    assert (tmp_path / "counts" / "cifar-resnet.onnx").read_bytes() == first

    # Going on from there for no more than a step changes little.
    more = ["--cifar", "--start", "counts/cifar-resnet.onnx", "--epochs", "1", "--learning-rate", "0.001", *shape, *taught]
    outcome = CliRunner().invoke(train_module.main, [*more, "--out", "more", "--json"])
    assert outcome.exit_code == 0, outcome.output
    again = json.loads(outcome.stdout)
    assert again["accuracy_counts"] > 0.8
    assert abs(again["accumulations_per_frame"] / report["accumulations_per_frame"] - 1) < 0.1
    assert "--start counts/cifar-resnet.onnx" in again["command"]

    limits = ["--input-levels", "2", "--input-threshold", report["input_threshold"], "--input-step", report["input_step"]]
    arguments = ["counts/cifar-resnet.onnx", "--dataset", "cifar10", "--keep-thresholds", *map(str, limits), "--no-rest"]
    arguments += ["--weight-bits", "8", "--epochs", "1", "--learning-rate", "0.002", "--threads", "1", "--out", "net.onnx"]
    outcome = CliRunner().invoke(finetune_module.main, [*arguments, "--json", "--teacher", "float/cifar-resnet.onnx"])
    assert outcome.exit_code == 0, outcome.output
    found = json.loads(outcome.stdout)
    assert found["held_out"]["accuracy_snn"] > 0.8
    assert found["warnings"] == []
    # As a float network, on frames that are not in levels, it knows little, and would teach that.
    found = json.loads(CliRunner().invoke(finetune_module.main, [*arguments, "--json"]).stdout)
    assert any(line.endswith(", and teaches: --teacher FILE gives another teacher") for line in found["warnings"])
