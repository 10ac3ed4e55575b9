"""Corrected biases: the means that they are for, and a conversion that needs them."""

import numpy as np
import pytest

from model.conversion.coding import InputCoding
from model.conversion.convert import convert
from model.conversion.correction import corrected, mean_sums
from model.conversion.explain import verdict
from model.conversion.quantize import Settings, quantize
from model.encode import encode
from model.engine.engine import run_fast
from model.importers.onnx import import_model
from model.network import INPUT, Neurons
from model.rest import weighted_sums
from model.support.datasets import Dataset, load
from tests.onnx_graphs import Graph

FRAMES = 150


@pytest.fixture(scope="module")
def averaged():
    """A network with average pools over many positive activations, all classes about as often; its own answers as labels."""

    def graph():
        found = Graph(seed=5, shape=(1, 1, 28, 28)).conv(4, 1, 5).add("Relu")
        found.add("AveragePool", kernel_shape=[4, 4], strides=[4, 4]).conv(6, 4, 3).add("Relu")
        return found.add("AveragePool", kernel_shape=[2, 2], strides=[2, 2]).add("Flatten").linear(24, 4)

    images = load("digits5k", "test").images[:FRAMES]
    frames = (images > 51).astype(np.float32)
    middle = np.median(import_model(graph().model(), "net.onnx").run(frames)[0].reshape(FRAMES, -1), axis=0)
    floats = import_model(graph().add("Sub", middle).model(), "net.onnx")
    return floats, Dataset("own", images, floats.run(frames)[0].reshape(FRAMES, -1).argmax(axis=1))


def means(floats, network, thresholds, images):
    """Of each neuron layer, the mean of its weighted sums from counts, and of the float network's, in units of weights."""
    frames = (images > network.input_threshold).astype(np.float64)
    traces = [run_fast(network, encode(network, image)) for image in images]
    by_name, activations = {layer.name: layer for layer in floats.layers}, {INPUT: frames}
    for layer, shape, output in network.walk():
        assert isinstance(layer, Neurons)
        float_layer = by_name[layer.name]
        wanted = weighted_sums(layer, float_layer.weights, activations[layer.source], shape, output) + float_layer.bias
        activations[layer.name] = np.maximum(wanted, 0) if layer.relu else wanted
        counts = frames if layer.source == INPUT else np.stack([t.layers[layer.source].count for t in traces]).astype(float)
        found = weighted_sums(layer, layer.weights, counts, shape, output) + layer.bias
        scale = layer.theta / thresholds[layer.name]
        yield found.reshape(-1, output.channels).mean(axis=0), wanted.reshape(-1, output.channels).mean(axis=0) * scale


def test_means_are_the_float_networks(averaged):
    floats, data = averaged
    layers = [layer for layer in floats.layers if layer.kind != "maxpool"]
    thresholds = {layer.name: theta for layer, theta in zip(layers, (0.3, 0.3, 0.05), strict=True)}
    plain = quantize(floats, list(thresholds.values()), Settings(), name="net")
    found = corrected(mean_sums(floats, InputCoding.of(plain).frames(data.images)), plain, thresholds, data.images)
    assert any((a.bias != b.bias).any() for a, b in zip(plain.layers, found.layers, strict=True))
    for mean, wanted in means(floats, found, thresholds, data.images):
        # A bias is whole.
        assert np.abs(mean - wanted).max() <= 0.5 + 1e-6
    assert max(np.abs(mean - wanted).max() for mean, wanted in means(floats, plain, thresholds, data.images)) > 2


def test_a_conversion_that_needs_them(averaged):
    floats, data = averaged
    # With wider weights it does without them.
    found = convert(floats, data, Settings(accuracy_budget=0, weight_bits=8), name="net")
    assert found.bias_corrected
    assert "corrected biases" in {step.cause for step in found.steps}
    assert found.accuracy_float - sum(step.lost for step in found.steps) == pytest.approx(found.accuracy_snn, abs=1e-4)
    assert "corrected" not in verdict(found.steps)
