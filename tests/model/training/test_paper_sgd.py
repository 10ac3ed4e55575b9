"""The paper's network by plain gradient descent: its settings, and a training in small."""

from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from model.importers.onnx import import_onnx
from model.support.datasets import load
from model.training.paper_sgd import SgdSettings, train_sgd, train_with

QUIET = Console(quiet=True)


@pytest.mark.parametrize(
    ("settings", "kind", "line"),
    [
        ({"epochs": 0}, ValueError, "epochs must be 1 or more, not 0"),
        ({"batch_size": 1.5}, TypeError, "batch_size must be an integer, not 1.5"),
        ({"learning_rate": 0}, ValueError, "learning_rate must be more than 0, not 0"),
        ({"first_scale": -1}, ValueError, "first_scale must be more than 0, not -1"),
        ({"falling": 1.5}, ValueError, "falling must be from 0 to 1, not 1.5"),
        ({"dropout": 1}, ValueError, "dropout must be at least 0 and less than 1, not 1"),
    ],
)
def test_settings_out_of_range(settings, kind, line):
    with pytest.raises(kind) as caught:
        SgdSettings(**settings)
    assert str(caught.value) == line


def test_the_same_again_and_other_with_another_seed(digits):
    first, again, other = (train_sgd(digits, seed, 1, QUIET) for seed in (1, 1, 2))
    assert first.onnx == again.onnx != other.onnx
    assert first.record == again.record
    assert first.record["frames_held_out"] == 30


def test_a_larger_first_layer_keeps_larger_activations(digits):
    """Nothing in this training shrinks what the initial weights bring."""
    settings = SgdSettings(epochs=1, learning_rate=1e-3)
    one, four = (train_with(replace(settings, first_scale=scale), digits, QUIET).record for scale in (1.0, 4.0))
    ratio = four["large_activations_1bit"]["conv1"] / one["large_activations_1bit"]["conv1"]
    assert 3.5 < ratio < 4.5


def test_the_first_steps_are_of_plain_gradient_descent(digits):
    """One step on one batch is the gradient times the rate, and dropout is behind the hidden layer only."""
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e .[train]")
    from model.training.common import held_out, to_tensor
    from model.training.paper_sgd import _initial

    settings = SgdSettings(epochs=1, batch_size=1000, dropout=0.0, learning_rate=0.5)
    torch.manual_seed(settings.seed)
    network = _initial(settings)
    kept = ~held_out(digits)
    loss = torch.nn.functional.cross_entropy(network(to_tensor(digits.images[kept])), torch.from_numpy(digits.labels[kept]))
    loss.backward()
    expected = (network[3].weight - 0.5 * network[3].weight.grad).detach().numpy()
    trained = train_with(settings, digits, QUIET)
    assert [layer.p for layer in _initial(replace(settings, dropout=0.5)) if isinstance(layer, torch.nn.Dropout)] == [0.0, 0.5]
    from onnx import load_from_string, numpy_helper

    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in load_from_string(trained.onnx).graph.initializer}
    np.testing.assert_allclose(stored["conv2.weight"], expected, atol=1e-6)


def test_a_longer_training_learns(digits, tmp_path):
    trained = train_with(SgdSettings(epochs=16, batch_size=8, learning_rate=0.05), digits, QUIET)
    (tmp_path / "network.onnx").write_bytes(trained.onnx)
    network = import_onnx(tmp_path / "network.onnx")
    others = load("digits5k", "test")
    scores = network.scores(others.images.astype(np.float32) / 255)
    assert (scores.argmax(axis=1) == others.labels).mean() > 0.8
    assert trained.record["losses"][-1] < trained.record["losses"][0] / 2
