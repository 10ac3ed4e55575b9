"""The command of the suite: which networks, what it writes, and a page's tables."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.model.benchmark.test_table import result

pytest.importorskip("torch", reason="needs PyTorch: pip install -e .[train]")
suite = pytest.importorskip("model.suite")

PAGE = "".join(f"<!-- table {name} -->\n<!-- end -->\n" for name in ("accuracy", "work", "levels", "peer"))


def run(entry, folder, train, test, plan, **more):
    return replace(result(), name=entry.name, weights=plan.seed, macs=len(test) + plan.peer_frames)


def test_command(tmp_path, monkeypatch):
    monkeypatch.setattr("model.benchmark.run.run", run)
    monkeypatch.chdir(tmp_path)
    Path("page.md").write_text(PAGE)
    arguments = ["--dataset", "digits5k", "--networks", "mlp,lenet5", "--seed", "7", "--peer-frames", "5000", "--docs", "page.md"]
    found = CliRunner().invoke(suite.main, [*arguments, "--json"])
    assert found.exit_code == 0, found.output
    written = json.loads(Path("build/suite/suite.json").read_text())
    assert json.loads(found.stdout) == written
    assert written["dataset"] == "digits5k"
    # As many frames for the peer as there are.
    assert [(one["name"], one["weights"], one["macs"]) for one in written["networks"]] == [("lenet5", 7, 2000), ("mlp", 7, 2000)]
    tables = Path("build/suite/suite.md").read_text()
    assert "| `lenet5`: a network | 7 |" in tables
    page = Path("page.md").read_text()
    assert all(line in page for line in tables.splitlines())
    # Rows of networks that are left out stay.
    more = ["--dataset", "digits5k", "--networks", "meanstd", "--seed", "7", "--peer-frames", "0", "--docs", "page.md"]
    other = CliRunner().invoke(suite.main, more)
    assert other.exit_code == 0, other.output
    again = Path("page.md").read_text()
    assert all(line in again for line in page.splitlines())
    rows = [line.split("`")[1] for line in again.splitlines() if line.startswith("| `") and ": a network" in line]
    assert rows == ["lenet5", "meanstd", "mlp"]
    shown = CliRunner().invoke(suite.main, arguments)
    assert shown.exit_code == 0
    assert "tables: build/suite/suite.md" in shown.stdout


def test_bad_input(tmp_path, monkeypatch):
    monkeypatch.setattr("model.benchmark.run.run", run)
    monkeypatch.chdir(tmp_path)
    Path("page.md").write_text("nothing here\n")
    other = CliRunner().invoke(suite.main, ["--dataset", "digits5k", "--networks", "mlp,lenet"])
    assert other.exit_code == 2
    names = "lenet5, meanstd, allconv, depthwise, vgg, mlp, keras, brevitas, resnet, unet, mobilenet"
    assert f"networks must be of {names}, not 'lenet'" in other.stderr
    bare = CliRunner().invoke(suite.main, ["--dataset", "digits5k", "--networks", "mlp", "--docs", "page.md"])
    assert bare.exit_code == 2
    assert bare.stderr.splitlines()[-1] == (
        "error: page.md: the page must have one <!-- table accuracy --> with <!-- end --> after it, not 0"
    )
    assert Path("page.md").read_text() == "nothing here\n"


@pytest.mark.full
def test_a_network_end_to_end(tmp_path):
    """scikit-learn's, on the bundled digits: trained, converted, fine-tuned, beside the peer."""
    for package in ("skl2onnx", "spikingjelly"):
        pytest.importorskip(package, reason="needs the suite's packages: make suite-tools")
    arguments = ["--dataset", "digits5k", "--networks", "mlp", "--tuning-epochs", "2", "--peer-frames", "200"]
    arguments += ["--out", str(tmp_path)]
    found = CliRunner().invoke(suite.main, arguments)
    assert found.exit_code == 0, found.output
    (network,) = json.loads((tmp_path / "suite.json").read_text())["networks"]
    assert network["accuracy_float"] > 0.9
    for kind in ("converted", "tuned"):
        measured = network[kind]["measured"]
        assert measured["accuracy"] > network["accuracy_float"] - 0.03
        assert measured["accumulations"] < network["macs"]
        assert {peer["pixels"] for peer in network[kind]["peers"]} == {"spikes", "current"}
        assert (tmp_path / network[kind]["file"]).exists()
