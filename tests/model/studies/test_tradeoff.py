"""The points of the trade-off."""

from dataclasses import replace

import pytest

from model.support.choices import ZOO
from model.support.datasets import Dataset, load
from model.training.sparse import SparseSettings

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e .[train]")
tradeoff = pytest.importorskip("model.studies.tradeoff")

START = ZOO / "mnist-sparse.onnx"


@pytest.fixture(scope="module")
def few():
    found = load("digits5k", "train")
    return Dataset("few", found.images[::16], found.labels[::16])


def test_a_point_is_made_once(few, tmp_path):
    settings = SparseSettings(epochs=1, moments=2, keep_thresholds=True, event_price=0.5)
    first = tradeoff.point(settings, START, few, tmp_path)
    (kept,) = tmp_path.glob("*.json")
    stamp = kept.stat().st_mtime_ns
    assert tradeoff.point(settings, START, few, tmp_path) == first
    assert kept.stat().st_mtime_ns == stamp
    dear = tradeoff.point(replace(settings, event_price=50.0), START, few, tmp_path)
    assert dear.measured.spikes_per_neuron < first.measured.spikes_per_neuron
    assert len(list(tmp_path.glob("*.json"))) == 2
    assert not list(tmp_path.glob("*.onnx"))
