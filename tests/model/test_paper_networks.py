"""The command that trains the networks of Table I: what it writes, and what it refuses."""

import hashlib
import importlib
import json

import numpy as np
import pytest
from click.testing import CliRunner

from model.paper_networks import NETWORKS, main
from model.support.choices import ZOO
from model.support.npz import read_npz
from model.training.paper_trained import Trained, archive


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="needs PyTorch: pip install -e .[train]")


def test_it_writes_the_network_and_how_it_came_to_be(torch, tmp_path, monkeypatch):
    seen = []

    def train(data, seed, epochs, console):
        seen.append((data.name, seed, epochs))
        return Trained(record={"held_out_accuracy": 0.5}, arrays={"w": np.arange(3, dtype=np.float32)}, onnx=b"model")

    monkeypatch.setattr("model.training.paper_sgd.train_sgd", train)
    arguments = ["paper-sgd", "--dataset", "digits5k", "--seed", "7", "--epochs", "2", "--out", str(tmp_path)]
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, seen) == (0, [("digits5k", 7, 2)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["paper-sgd.npz", "paper-sgd.onnx", "paper-sgd.train.json"]
    assert read_npz(tmp_path / "paper-sgd.npz", most_bytes=100)["w"].tolist() == [0, 1, 2]
    record = json.loads((tmp_path / "paper-sgd.train.json").read_text())
    assert record["command"] == "python -m model.paper_networks paper-sgd --dataset digits5k --seed 7 --epochs 2"
    assert record["sha256"]["paper-sgd.onnx"] == hashlib.sha256(b"model").hexdigest()
    assert record["held_out_accuracy"] == 0.5
    assert result.stdout.splitlines()[1] == f"{tmp_path / 'paper-sgd.onnx'}: 5 bytes"


def test_archives_of_the_same_arrays_are_the_same_bytes():
    arrays = {"a": np.ones((3, 2), np.float16), "b": np.arange(4)}
    assert archive(arrays) == archive(dict(arrays))


def test_each_network_has_what_trains_it():
    for module, function in NETWORKS.values():
        assert callable(getattr(importlib.import_module(module), function))


def test_a_network_that_is_none_is_refused():
    result = CliRunner().invoke(main, ["paper-none"])
    assert result.exit_code == 2
    assert "'paper-none' is not" in result.stderr


def test_bundled_files_are_those_of_their_records():
    records = {path.name.removesuffix(".train.json"): path for path in (ZOO / "paper").glob("*.train.json")}
    assert set(records) == set(NETWORKS)
    named = set()
    for name, path in records.items():
        record = json.loads(path.read_text())
        command = f"python -m model.paper_networks {name} --dataset mnist --seed {record['seed']}"
        assert record["command"] in (command, f"{command} --epochs {record['epochs']}")
        assert record["sha256"]
        named |= set(record["sha256"])
        for file, digest in record["sha256"].items():
            assert hashlib.sha256((path.parent / file).read_bytes()).hexdigest() == digest
    assert named == {path.name for path in (ZOO / "paper").iterdir() if path not in records.values()}
