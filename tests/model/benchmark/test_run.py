"""A network of the suite from its training to its figures, on a small network and few digits: each step is made once."""

import dataclasses
import shutil
from dataclasses import dataclass

import pytest

from model.benchmark import run as steps
from model.benchmark.entries import Entry
from model.benchmark.peer import PeerPoint, PeerResult
from model.benchmark.run import Plan, run
from model.importers.onnx import import_model
from model.network import Network
from model.support.choices import ZOO
from model.support.datasets import Dataset, load
from model.support.errors import ToolMissingError
from tests.onnx_graphs import Graph


@dataclass(frozen=True, kw_only=True)
class Bundled(Entry):
    """Trained already."""

    packages: tuple[str, ...] = ("onnx",)

    def train(self, dataset, path, seed):
        shutil.copy(ZOO / "mnist-small.onnx", path)


@pytest.fixture(scope="module")
def data():
    found = {split: load("digits5k", split) for split in ("train", "test")}
    return found["train"], Dataset("few", found["test"].images[:300], found["test"].labels[:300])


def test_every_step_is_made_once(data, tmp_path, monkeypatch):
    asked = []

    class Peer:
        def __init__(self, floats, calibration, test, *, pixels, steps):
            self.test, self.pixels, self.steps = test, pixels, steps

        def reach(self, wanted):
            asked.append((len(self.test), wanted, self.pixels, self.steps))
            point = PeerPoint("Max", 3, wanted, 5.0, 6.0)
            return PeerResult(self.pixels, len(self.test), wanted, 0.9, point if self.pixels == "spikes" else None, point)

    monkeypatch.setattr(steps, "RateCode", Peer)
    monkeypatch.setattr(steps, "_versions", lambda packages: {})
    entry = Bundled(name="mlp", title="small")
    plan = Plan(calibrated=300, tuning_epochs=0, peer_frames=100, peer_steps=7)
    told = []
    found = run(entry, tmp_path, *data, plan, calibrate="digits5k", tell=told.append)
    assert (found.name, found.title, found.weights, found.tuned) == ("mlp", "small", 4120, None)
    assert found.accuracy_float > 0.95
    ours = found.converted
    assert ours.measured.accuracy > found.accuracy_float - 0.03
    assert ours.measured.accuracy == ours.measured.accuracy_quantized
    assert (ours.measured.frames, ours.beside_peer.frames) == (300, 100)
    assert Network.load(tmp_path / ours.file).content_hash == ours.network_hash
    assert set(ours.levels) == {layer.layer for layer in ours.measured.layers if layer.kind != "maxpool"}
    assert asked == [(100, ours.beside_peer.accuracy, pixels, 7) for pixels in ("spikes", "current")]
    assert [peer.reached is None for peer in ours.peers] == [False, True]
    assert told[0] == "training"

    told.clear()
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert run(entry, tmp_path, *data, plan, calibrate="digits5k", tell=told.append) == found
    assert told == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files

    fewer = Dataset("fewer", data[1].images[:200], data[1].labels[:200])
    again = run(entry, tmp_path, data[0], fewer, plan, calibrate="digits5k", tell=told.append)
    assert told == ["measuring mlp on 200 frames", "measuring the float network"]
    assert again.converted.network_hash == ours.network_hash

    alone = run(entry, tmp_path, *data, dataclasses.replace(plan, peer_frames=0), calibrate="digits5k").converted
    assert alone == dataclasses.replace(ours, beside_peer=None, peers=())


def test_size_of_a_graph():
    """Weights and multiplications of a residual block with a linear layer, without what only the import adds."""
    graph = Graph().conv(4, 2, 3, pads=[1] * 4).add("Relu")
    before = graph.conv(2, 4, 1).last
    before = graph.conv(6, 2, 1).add("Relu").conv(2, 6, 1).add("Add", before).add("Relu").last
    graph.conv(2, 2, 3, pads=[1] * 4).add("Add", before).add("Relu").add("Flatten").linear(128, 3)
    floats = import_model(graph.model(), "net.onnx")
    of_convolutions = 72 + 8 + 12 + 12 + 36
    # The layer of two channels is written twice, and the last shortcut is one weight for each channel.
    assert (floats.weights, floats.macs) == (of_convolutions + 8 + 2 + 384, 64 * (of_convolutions + 8 + 2) + 384)
    assert steps._size(floats) == {"weights": of_convolutions + 384, "macs": 64 * of_convolutions + 384}


def test_what_trains_it_must_be_installed(data, tmp_path):
    entry = Bundled(name="mlp", title="small", packages=("no-such-package",))
    with pytest.raises(ToolMissingError, match=r"^the suite must have no-such-package installed: make suite-tools$"):
        run(entry, tmp_path, *data, Plan())
