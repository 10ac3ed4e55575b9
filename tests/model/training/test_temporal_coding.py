"""Training in the times of spikes: its gradients, its costs, and a training in small."""

import math
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from model.studies.temporal_coding import TemporalNetwork, run_temporal
from model.studies.temporal_coding import spike_times as measured_times
from model.support.datasets import load
from model.training.temporal_coding import LARGE, NEVER, TemporalSettings, cost, shorten_rows, spike_times, train_with

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def torch():
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e .[train]")
    torch.set_num_threads(1)
    return torch


@pytest.fixture(scope="module")
def digits():
    return load("digits5k", "train").first(360)


def weights_of(torch, seed, pixels=20, hidden=12, classes=6):
    rng = np.random.default_rng(seed)
    drawn = rng.normal(0.15, 0.5, (hidden, pixels)), rng.normal(0.1, 0.7, (classes, hidden))
    return [torch.tensor(each, dtype=torch.float64, requires_grad=True) for each in drawn]


@pytest.mark.parametrize(
    ("settings", "kind", "line"),
    [
        ({"hidden": 0}, ValueError, "hidden must be 1 or more, not 0"),
        ({"epochs": 1.5}, TypeError, "epochs must be an integer, not 1.5"),
        ({"learning_rate": 0}, ValueError, "learning_rate must be more than 0, not 0"),
        ({"row_norm": math.inf}, ValueError, "row_norm must be more than 0, not inf"),
        ({"constraint": -1}, ValueError, "constraint must be 0 or more, not -1"),
        ({"late": math.nan}, ValueError, "late must be more than 0, not nan"),
        ({"delayed": 1}, ValueError, "delayed must be at least 0 and less than 1, not 1"),
    ],
)
def test_settings_out_of_range(settings, kind, line):
    with pytest.raises(kind) as caught:
        TemporalSettings(**settings)
    assert str(caught.value) == line


@pytest.mark.parametrize("late", [math.log(6), 0.2])
def test_times_are_those_that_are_measured(torch, late):
    rng = np.random.default_rng(3)
    weights = weights_of(torch, 6)
    images = rng.integers(0, 256, (40, 4, 5, 1), dtype=np.uint8)
    hidden, output = (each.detach().numpy() for each in weights)
    network = TemporalNetwork(hidden=hidden, output=output, bright=127, late=late)
    expected = np.minimum(np.exp(measured_times(network, images)[2]), NEVER)
    found = spike_times(weights, torch.tensor((images.reshape(40, -1) > 127).astype(float)), late)[1].detach().numpy()
    assert found == pytest.approx(expected, rel=1e-9)
    assert 0.1 < (found == NEVER).mean() < 0.6


@pytest.mark.parametrize("late", [math.log(6), 0.2])
def test_gradients_are_finite_differences(torch, late):
    """Of all weights; of neurons that fire before the dark pixels and after them, and of those that do not fire."""
    bright = torch.tensor(np.random.default_rng(8).random((5, 20)) < 0.5, dtype=torch.float64)
    weights = weights_of(torch, 3)
    use = torch.linspace(-1, 1, 30, dtype=torch.float64).reshape(5, 6)

    def scored(hidden, output):
        z = spike_times([hidden, output], bright, late)[1]
        return (torch.where(z < NEVER, 1 / z, torch.zeros_like(z)) * use).sum()

    scored(*weights).backward()
    step = 1e-6
    for at, weight in enumerate(weights):
        differences = torch.zeros_like(weight)
        for place in np.ndindex(*weight.shape):
            both = []
            for sign in (1, -1):
                moved = [each.detach().clone() for each in weights]
                moved[at][place] += sign * step
                both.append(scored(*moved).item())
            differences[place] = (both[0] - both[1]) / (2 * step)
        np.testing.assert_allclose(weight.grad.numpy(), differences.numpy(), atol=1e-6)
        assert (differences != 0).any(dim=1).sum() >= 3


def test_what_training_makes_small(torch):
    """Hidden neurons at z = 2 and 5, outputs at 4 and never; and what rows lack to 1, and squares."""
    hidden, output = torch.tensor([[2.0, -1.5], [1.25, -1.5]]), torch.tensor([[2.0, -1.5], [0.25, -0.5]])
    bright, classes = torch.tensor([[1.0, 0.0]]), torch.tensor([0])
    plain = replace(LARGE, constraint=0.0, weight_cost=0.0, activity=0.0, sharpness=1.0)

    def cost_with(**changes):
        return cost([hidden, output], bright, classes, replace(plain, **changes)).item()

    assert cost_with() == 0
    assert cost_with(activity=8.0) == 8 * (1 / 2 - 1 / 4)
    assert cost_with(constraint=10.0) == 10 * (0.5 + 1.25 + 0.5 + 1.25)
    assert cost_with(weight_cost=0.5) == 0.5 * (4 + 2.25 + 1.5625 + 2.25 + 4 + 2.25 + 0.0625 + 0.25)
    # Both outputs fire, at 4 and 4.5: the softmax over -2 z.
    output[1] = torch.tensor([1.8, -1.5])
    assert cost_with(sharpness=2.0) == pytest.approx(math.log(1 + math.exp(-2 * 0.5)), rel=1e-5)


def test_long_gradients_are_shortened_row_by_row(torch):
    weight = torch.zeros(2, 2, requires_grad=True)
    weight.grad = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    shorten_rows([weight], 1.0)
    np.testing.assert_allclose(weight.grad.numpy(), [[0.6, 0.8], [0.3, 0.4]], rtol=1e-6)


@pytest.mark.parametrize("settings", [LARGE, replace(LARGE, sharpness=5.0, activity=0.003, delayed=0.0)])
def test_a_training_learns_and_is_the_same_again(torch, digits, settings):
    settings = replace(settings, epochs=8, batch_size=16, hidden=100, learning_rate=0.01)
    first, again = (train_with(settings, digits, QUIET) for _ in range(2))
    other = train_with(replace(settings, seed=2, epochs=1), digits, QUIET)
    assert first.record == again.record
    assert all((first.arrays[name] == again.arrays[name]).all() for name in first.arrays)
    assert not np.array_equal(first.arrays["output"], other.arrays["output"])
    arrays = {name: first.arrays[name].astype(float) for name in ("hidden", "output")}
    network = TemporalNetwork(**arrays, bright=int(first.arrays["bright"]), late=float(first.arrays["late"]))
    others = load("digits5k", "test")
    assert (run_temporal(network, others.images).answers == others.labels).mean() > 0.6
    assert (first.record["frames_train"], first.record["frames_held_out"]) == (330, 30)
