"""Integer networks at full widths."""

import numpy as np
import pytest

from model.conversion.quantize import Settings, quantize
from model.conversion.quantized_frames import run_images
from model.importers.onnx import import_model
from tests.onnx_graphs import Graph


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_potentials_have_room_for_the_sums_of_wide_weights(bits):
    """Averages of many positions: weights are small beside the threshold, and sums of many spikes large beside the weights."""
    graph = Graph(shape=("frames", 2, 16, 16), seed=1).conv(24, 2, 3, pads=[1] * 4).add("Relu")
    graph.add("GlobalAveragePool").add("Flatten").add("MatMul", graph.rng.normal(0, 0.3, (24, 4)))
    floats = import_model(graph.model(), "net")
    images = np.random.default_rng(0).integers(0, 256, (30, 16, 16, 2), np.uint8)
    scores = floats.scores((images > 51).astype(np.float32))
    large = [3.0, float(np.abs(scores).max())]
    thetas, settings = [large[0] / 64, large[1] / 200], Settings(weight_bits=bits)
    found = run_images(quantize(floats, thetas, settings, name="net", large=large), images)
    assert not found.saturated_events.any()
    assert np.abs(found.counts * thetas[1] - scores).max() < 0.08 * large[1]
    without = run_images(quantize(floats, thetas, settings, name="net"), images)
    assert without.saturated_events.any() == (bits > 8)
