"""The command that shows the trade-off."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from model.support.datasets import Dataset, load

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e .[train]")
tradeoff = pytest.importorskip("model.tradeoff")


@pytest.fixture(scope="module")
def few():
    found = load("digits5k", "train")
    return Dataset("few", found.images[::64], found.labels[::64])


def test_command(few, monkeypatch, tmp_path):
    monkeypatch.setattr("model.support.datasets.load", lambda name, split, data_dir: few)
    monkeypatch.chdir(tmp_path)
    arguments = ["--dataset", "digits5k", "--prices", "1,9", "--bits", "8,4", "--epochs", "1", "--docs", "docs", "--json"]
    result = CliRunner().invoke(tradeoff.main, arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found == json.loads(Path("build/tradeoff/tradeoff.json").read_text())
    assert [row["event_price"] for row in found["prices"]] == [1.0, 9.0]
    assert [row["weight_bits"] for row in found["bits"]] == [8, 4]
    assert set(found["bundled"]) == {"mnist-paper", "mnist-sparse"}
    assert Path("docs/tradeoff.svg").read_bytes() == Path("build/tradeoff/tradeoff.svg").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--prices", "1,x"], "must be numbers with commas between, not '1,x'"),
        (["--start", "missing.onnx"], "missing.onnx: cannot be read: No such file or directory"),
        (["--bits", "1"], "weight_bits must be within 2..16, not 1"),
    ],
)
def test_bad_input(arguments, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(tradeoff.main, ["--dataset", "digits5k", *arguments])
    assert result.exit_code == 2
    assert line in result.stderr
    assert not Path("build").exists()
