"""The classifier of spike counts: what it learns, and settings that are refused."""

import numpy as np
import pytest

from model.support.errors import BadInputError
from model.training.balanced_rates import BalancedSettings
from model.training.histogram_classifier import ClassifierSettings, train_classifier


def test_it_learns_which_count_is_the_largest():
    pytest.importorskip("torch", reason="needs PyTorch: pip install -e .[train]")
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 256, (400, 3), dtype=np.uint8)
    labels = counts.argmax(axis=1).astype(np.int64)
    settings = ClassifierSettings(epochs=30, batch_size=20, learning_rate=0.1)
    said = []
    weights, losses = train_classifier(settings, counts, labels, 3, say=said.append)
    assert weights.shape == (3, 3)
    assert ((counts / 255 @ weights.T).argmax(axis=1) == labels).mean() > 0.97
    # It begins with weights of 0, for which the loss is log 3.
    assert np.log(3) > losses[0] > losses[-1]
    assert said[-1] == f"epoch 30/30: loss {losses[-1]:.4f}"
    again, _ = train_classifier(settings, counts, labels, 3)
    assert again.tolist() == weights.tolist()


def test_settings_are_refused():
    for settings in (ClassifierSettings, BalancedSettings):
        with pytest.raises(BadInputError, match=r"^learning_rate must be more than 0, not 0$"):
            settings(learning_rate=0)
        with pytest.raises(BadInputError, match=r"^epochs must be 1 or more, not 0$"):
            settings(epochs=0)
    with pytest.raises(BadInputError, match=r"^dropout must be at least 0 and less than 1, not 1$"):
        BalancedSettings(dropout=1)
