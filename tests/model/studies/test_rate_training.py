"""Two rate codes, trained and their times found on held-out frames: a few hundred digits, a few steps."""

import dataclasses
import io

import numpy as np
import pytest
from rich.console import Console

from model.network import Shape
from model.studies import rate_training
from model.studies.balanced_rates import BalancedNetwork, float_scores, measure_balanced
from model.studies.event_classifier import EventClassifier, measure_classifier
from model.studies.rate_training import train_balanced_rates, train_event_classifier
from model.support.dataset import Dataset
from model.support.datasets import load
from model.support.npz import read_npz
from model.training.common import held_out
from model.training.paper_trained import archive

FRAMES = 600


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch):
    """Short runs, on one core, as the command trains."""
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e .[train]")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for name, steps in (("_BALANCED_STEPS", 30), ("_COUNTED_STEPS", 40), ("_STEPS_TRAINED", 10), ("_OUTPUT_STEPS", 20)):
        monkeypatch.setattr(rate_training, name, steps)
    monkeypatch.setattr(rate_training, "PUBLISHED_SPIKES", 0.5)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def digits():
    whole = load("digits5k", "train")
    places = np.random.default_rng(0).permutation(len(whole))[:FRAMES]
    return Dataset("a few digits", whole.images[places], whole.labels[places])


def trained(train, digits, epochs):
    text = io.StringIO()
    found = train(digits, 1, epochs, Console(file=text))
    return found, text.getvalue()


def test_balanced_rates_are_trained_and_their_times_found(digits, tmp_path):
    found, text = trained(train_balanced_rates, digits, 4)
    assert text.splitlines()[0].startswith("epoch 1/4: loss 2.")
    (tmp_path / "n.npz").write_bytes(archive(found.arrays))
    network = BalancedNetwork.load(tmp_path / "n.npz")
    held = held_out(digits)
    data = dataclasses.replace(digits, images=digits.images[held], labels=digits.labels[held])
    figures = measure_balanced(network, data)
    record = found.record
    assert record["frames_held_out"] == len(data) == 50
    # What numpy computes is what PyTorch did.
    assert figures.accuracy_float == record["held_out_accuracy"] > 0.5
    assert figures.accuracy[network.steps_accurate - 1] == record["held_out_accuracy_spiking"]
    assert network.steps_accurate == record["steps_accurate"] <= 30
    at = network.steps_published - 1
    assert figures.spikes_per_neuron[at - 1] < 0.5 <= figures.spikes_per_neuron[at] + 1e-4
    # The largest activation is that of the frames that were trained on.
    scores = float_scores(network.weights, digits.images[~held])
    assert network.largest[2] == pytest.approx(scores.max(), rel=1e-5)
    again, _ = trained(train_balanced_rates, digits, 4)
    assert archive(again.arrays) == archive(found.arrays)


def test_event_classifier_is_trained_and_its_gain_and_time_found(digits, tmp_path):
    found, text = trained(train_event_classifier, digits, 6)
    assert text.splitlines()[0] == "counting spikes of 550 frames"
    (tmp_path / "n.npz").write_bytes(archive(found.arrays))
    network = EventClassifier.load(tmp_path / "n.npz")
    held = held_out(digits)
    data = dataclasses.replace(digits, images=digits.images[held], labels=digits.labels[held])
    figures = measure_classifier(network, data)
    record = found.record
    assert figures.accuracy_float == record["held_out_accuracy_on_histograms"] > 0.7
    assert figures.accuracy[-1] == record["held_out_accuracy_spiking"]
    tried = record["held_out_accuracy_by_output_gain"]
    assert len(tried) == 5
    assert tried[f"{network.output_gain:.4g}"] == max(tried.values())
    assert (network.steps_trained, network.spiking(Shape(28, 28, 1)).neurons) == (10, 9506)
    again, _ = trained(train_event_classifier, digits, 6)
    assert archive(again.arrays) == archive(found.arrays)
    assert set(read_npz(tmp_path / "n.npz", most_bytes=1 << 20)) == set(found.arrays)
