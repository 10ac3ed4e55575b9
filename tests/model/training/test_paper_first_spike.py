"""The networks for the time to first spike: settings, and a training in small."""

import numpy as np
import pytest
from rich.console import Console

from model.training.paper_first_spike import (
    CONVOLUTIONAL,
    TWO_LAYER,
    FirstSpikeSettings,
    train_convolutional,
    train_two_layers,
    train_with,
)

QUIET = Console(quiet=True)


@pytest.mark.parametrize(
    ("settings", "kind", "line"),
    [
        ({"epochs": 0}, ValueError, "epochs must be 1 or more, not 0"),
        ({"clamped_epochs": 1.5}, TypeError, "clamped_epochs must be an integer, not 1.5"),
        ({"learning_rate": 0}, ValueError, "learning_rate must be more than 0, not 0"),
        ({"weight_decay": -1}, ValueError, "weight_decay must be 0 or more, not -1"),
        ({"dropout": 1}, ValueError, "dropout must be at least 0 and less than 1, not 1"),
        ({"low": -0.1}, ValueError, "low must be at least 0 and less than 1, not -0.1"),
        ({"percentile": 0}, ValueError, "percentile must be more than 0 and at most 100, not 0"),
    ],
)
def test_settings_out_of_range(settings, kind, line):
    with pytest.raises(kind) as caught:
        FirstSpikeSettings(**settings)
    assert str(caught.value) == line


def test_the_same_again_and_other_with_another_seed(digits):
    first, again, other = (train_two_layers(digits, seed, 1, QUIET) for seed in (1, 1, 2))
    assert first.record == again.record
    assert first.arrays.keys() == again.arrays.keys()
    assert all((first.arrays[name] == again.arrays[name]).all() for name in first.arrays)
    assert not (first.arrays["plain.fc1.weight"] == other.arrays["plain.fc1.weight"]).all()


def test_sizes_of_the_networks(digits):
    found = train_convolutional(digits, 1, 1, QUIET).arrays
    shapes = {name.removeprefix("clamped."): values.shape for name, values in found.items() if name.startswith("clamped.")}
    assert shapes == {
        "conv1.weight": (6, 1, 5, 5), "conv1.bias": (6,),
        "conv2.weight": (32, 6, 5, 5), "conv2.bias": (32,),
        "conv3.weight": (48, 32, 5, 5), "conv3.bias": (48,),
        "fc1.weight": (640, 768), "fc1.bias": (640,),
        "fc2.weight": (10, 640), "fc2.bias": (10,),
    }
    assert {values.dtype for name, values in found.items() if name.startswith("clamped.")} == {np.dtype(np.float16)}
    assert found["paddings"].tolist() == list(CONVOLUTIONAL.paddings)
    assert found["pools"].tolist() == list(CONVOLUTIONAL.pools)


def test_clamped_training_goes_on_from_the_plain_network(digits):
    # With next to no learning rate the clamped network is the plain one; what it was shown is not.
    settings = FirstSpikeSettings(epochs=4, clamped_epochs=1, clamped_learning_rate=1e-12, low=0.9)
    found = train_with(settings, TWO_LAYER, digits, QUIET)
    for name in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"):
        assert (found.arrays[f"plain.{name}"] == found.arrays[f"clamped.{name}"]).all()
    # Activations below 0.9 of a large one are 0 there: hardly any is left.
    assert found.record["held_out_accuracy_clamped"] < found.record["held_out_accuracy_plain"]
