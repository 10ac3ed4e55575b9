"""The choice of thresholds, of the output layer's too."""

import numpy as np

from model.conversion.convert import convert
from model.conversion.quantize import Settings
from model.engine.engine import run_frames
from model.importers.onnx import import_model
from model.support.datasets import Dataset
from tests.onnx_graphs import Graph


def test_levels_of_the_output_where_few_events_reach_it():
    """One quadrant is bright; every event of it lifts all outputs, its own one most: with fine thresholds all fire alike."""
    graph = Graph(shape=("frames", 1, 8, 8))
    graph.add("Conv", np.full((1, 1, 4, 4), 1 / 16), name="conv", strides=[4, 4]).add("Relu").add("Flatten")
    graph.add("Gemm", np.eye(4) + 0.5, name="fc", transB=1)
    floats = import_model(graph.model(), "net.onnx")
    rng, labels = np.random.default_rng(1), np.arange(60) % 4
    images = np.zeros((60, 8, 8, 1), np.uint8)
    for image, label in zip(images, labels, strict=True):
        y, x = divmod(int(label), 2)
        image[4 * y : 4 * y + 4, 4 * x : 4 * x + 4, 0] = rng.integers(100, 256, (4, 4))
    told = []
    found = convert(floats, Dataset("own", images, labels), Settings(), name="net", progress=told.append)
    assert told[0].startswith("levels 10, 100: accuracy 0.2500, ")
    assert (found.accuracy_float_1bit, found.accuracy_snn) == (1.0, 1.0)
    # 1.5 is the largest output.
    assert 1.5 / 100 < found.thresholds["fc"] <= 1.5
    assert (run_frames(found.network, images).counts.argmax(axis=1) == labels).all()
