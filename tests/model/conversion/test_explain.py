"""The ladder from float to spiking: each rung against the stage that it must be equal to, and planted faults found."""

from dataclasses import replace

import numpy as np
import pytest

from model.conversion.convert import convert
from model.conversion.explain import CAUSES, Step, explain, verdict
from model.conversion.quantize import Settings, quantize
from model.conversion.quantized import quantized_counts
from model.engine.engine import run_frames
from model.importers.onnx import import_model
from model.network import Neurons
from model.support.datasets import Dataset
from tests.onnx_graphs import Graph

FRAMES = 60


@pytest.fixture(scope="module")
def ladder():
    """A small network, its own answers as labels, a coarse conversion and its ladder."""
    graph = Graph(seed=4).conv(6, 2, 3, pads=[1, 1, 1, 1]).add("Relu").add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    graph.add("Flatten").linear(6 * 4 * 4, 16).add("Relu").linear(16, 4)
    floats = import_model(graph.model(), "net.onnx")
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (FRAMES, *floats.input_shape), dtype=np.uint8)
    labels = floats.run(images.astype(np.float32) / 255)[0].argmax(axis=1)
    data = Dataset("own", images, labels)
    found = convert(floats, data, Settings(weight_bits=4, accuracy_budget=0.1, firing="immediate"), name="net")
    return floats, data, found


def accuracy(scores, labels):
    return (scores.reshape(len(labels), -1).argmax(axis=1) == labels).mean()


def test_rungs_are_the_stages(ladder):
    floats, data, found = ladder
    neurons = [layer.name for layer in found.network.layers if isinstance(layer, Neurons)]
    causes = ("weight bits", "threshold", "order of events")
    expected = [("1-bit input", ""), *((cause, name) for cause in causes for name in neurons), ("saturation", "")]
    assert [(step.cause, step.layer) for step in found.steps] == expected
    assert not found.bias_corrected
    assert set(CAUSES) == {step.cause for step in found.steps} | {"corrected biases", "input levels", "last place"}
    at = {(step.cause, step.layer): step.accuracy for step in found.steps}
    one_bit = (data.images > found.network.input_threshold).astype(np.float32)
    assert at["1-bit input", ""] == accuracy(floats.run(one_bit)[0], data.labels)
    assert at["threshold", neurons[-1]] == accuracy(quantized_counts(found.network, data.images), data.labels)
    assert at["saturation", ""] == accuracy(run_frames(found.network, data.images).counts, data.labels) == found.accuracy_snn


def test_losses_add_up(ladder):
    floats, data, found = ladder
    grey = accuracy(floats.run(data.images.astype(np.float32) / 255)[0], data.labels)
    assert grey - sum(step.lost for step in found.steps) == pytest.approx(found.accuracy_snn, abs=1e-4)


def test_fine_weights_and_thresholds_lose_nothing_before_events(ladder):
    floats, data, found = ladder
    thresholds = {name: theta / 500 for name, theta in found.thresholds.items()}
    settings = Settings(weight_bits=16, firing="immediate")
    network = quantize(floats, list(thresholds.values()), settings, name="fine")
    steps = explain(floats, network, thresholds, data.images, data.labels)
    assert all(step.lost == 0 for step in steps if step.cause in ("weight bits", "threshold"))


def test_saturation_is_named(ladder):
    floats, data, found = ladder
    narrow = replace(
        found.network,
        layers=tuple(
            replace(layer, count_bits=1) if isinstance(layer, Neurons) and layer.relu else layer for layer in found.network.layers
        ),
    )
    steps = explain(floats, narrow, found.thresholds, data.images, data.labels)
    assert steps[-1].cause == "saturation"
    assert steps[-1].lost > 0.1
    assert verdict(steps[-1:]).startswith("most is lost to the saturation (")


def test_verdict_names_layer_and_cause():
    steps = (
        Step("weight bits", "conv1", 0.97, 0.01),
        Step("threshold", "conv2", 0.93, 0.04),
        Step("saturation", "", 0.95, -0.02),
    )
    assert verdict(steps) == f"most is lost to the threshold in conv2 (4.00%): {CAUSES['threshold']}"
    assert verdict(steps, least=0.05) == "no step loses 5.0% or more"
