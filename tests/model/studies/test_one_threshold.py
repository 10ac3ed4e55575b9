"""What the float network is scaled by."""

from pathlib import Path

import pytest

from model.conversion.quantize import Settings, quantize
from model.engine.engine import run_frames
from model.importers.onnx import import_onnx
from model.studies.one_threshold import fitting_factor, rescaled
from model.support.datasets import load

ZOO = Path(__file__).parents[3] / "model" / "zoo"


@pytest.fixture(scope="module")
def floats():
    return import_onnx(ZOO / "mnist-paper.onnx")


def test_rescaled_network_at_threshold_one_is_the_network_at_a_fraction(floats):
    for factor in (2, 4):
        settings = Settings(threshold=1.0)
        scaled = quantize(rescaled(floats, factor), [1.0] * 4, settings, name="x")
        fraction = quantize(floats, [1.0 / factor] * 4, settings, name="x")
        assert scaled.content_hash == fraction.content_hash
    with pytest.raises(ValueError, match=r"^factor must be more than 0, not 0$"):
        rescaled(floats, 0)


def test_fitting_factor_is_the_largest_that_fits(floats):
    images = load("digits5k", "train").images[:20]

    def cost(factor):
        network = quantize(floats, [1.0 / factor] * 4, Settings(threshold=1.0), name="x")
        found = run_frames(network, images)
        return found.operations.sum(axis=1).mean(), found.spikes[:, [0, 2, 4, 5]].sum(axis=1).mean() / network.neurons

    factor = fitting_factor(floats, images, most_accumulations=300_000)
    assert cost(factor)[0] <= 300_000 < cost(factor + 1)[0]
    factor = fitting_factor(floats, images, most_spikes_per_neuron=0.2, step=0.25)
    assert cost(factor)[1] <= 0.2 < cost(factor + 0.25)[1]
    assert fitting_factor(floats, images, most_accumulations=1) == 1
