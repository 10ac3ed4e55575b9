"""Bounds of counts: never passed by any frame, reached where they can be, and what they are for."""

from dataclasses import replace

import numpy as np
import pytest

from model.conversion.bounds import Bounds
from model.conversion.convert import convert
from model.conversion.quantize import Settings, quantize
from model.encode import encode
from model.engine.engine import run_fast
from model.importers.float_network import ConversionError
from model.importers.onnx import import_model
from model.network import INPUT, Convolution, MaxPool, Neurons
from model.support.datasets import Dataset
from sim.generators.networks import random_network
from tests.onnx_graphs import Graph


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_count_passes_its_bounds(seed):
    network = random_network(seed)
    # Saturation holds a potential, which then is not what bounds are of.
    layers = [replace(la, potential_bits=20, count_bits=12) if isinstance(la, Neurons) else la for la in network.layers]
    network = replace(network, layers=tuple(layers))
    bounds = {INPUT: Bounds.of_input(network.input_shape.channels)}
    for layer in network.layers:
        bounds[layer.name] = bounds[layer.source]
        if isinstance(layer, Neurons):
            groups = layer.groups if isinstance(layer, Convolution) else 1
            bounds[layer.name] = bounds[layer.source].sums(layer.weights, groups).counts(layer.bias, layer.theta, relu=layer.relu)
    rng, reached = np.random.default_rng(seed), 0
    for density in (0.05, 0.3, 0.6, 1.0):
        image = ((rng.random(network.input_shape) < density) * 255).astype(np.uint8)
        trace = run_fast(network, encode(network, image))
        for layer in network.layers:
            spikes, bound = trace.layers[layer.name].spikes, bounds[layer.name]
            counts = np.zeros(network.shape_of(layer.name).size, np.int64)
            for event in spikes:
                counts[event["address"]] += event["sign"]
                channel = event["address"] % len(bound.greatest)
                # At every moment, not only at the end.
                assert bound.least[channel] <= counts[event["address"]] <= bound.greatest[channel]
            if not isinstance(layer, MaxPool):
                reached += int((counts > 0).sum())
    assert reached > 20


def dead(bias):
    """A convolution of which channel 1 has this bias, and a linear layer after it."""
    graph = Graph(seed=2, shape=(1, 2, 8, 8))
    weights, biases = graph.rng.normal(0, 0.5, (4, 2, 3, 3)), np.array([0.1, bias, 0.2, -0.1])
    graph.add("Conv", weights, biases, name="conv").add("Relu").add("Flatten").linear(4 * 36, 3)
    return import_model(graph.model(), "net.onnx")


def test_a_dead_channel_takes_no_precision():
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (60, 8, 8, 2), dtype=np.uint8)
    found = []
    for bias in (-40.0, -1e5, -1e9, -1e30):
        floats = dead(bias)
        labels = floats.scores((images > 51).astype(np.float32)).argmax(axis=1)
        found.append(convert(floats, Dataset("own", images, labels), Settings(accuracy_budget=0.05), name="net"))
    first = found[0].network
    conv = first.layer("conv")
    assert isinstance(conv, Convolution) and np.abs(conv.weights).max() > 60
    # It just cannot fire: with all pixels under its positive weights it is at 0.
    assert conv.bias[1] == -np.maximum(conv.weights[1], 0).sum() < 0
    assert conv.potential_bits <= 12
    assert all(other.network.content_hash == first.content_hash for other in found[1:])


def test_a_channel_that_can_fire_keeps_its_bias():
    floats = dead(-0.5)
    conv = quantize(floats, [0.3, 0.1], Settings(firing="immediate"), name="net").layer("conv")
    assert isinstance(conv, Convolution)
    assert conv.bias[1] == np.rint(-0.5 / 0.3 * conv.theta) > -np.maximum(conv.weights[1], 0).sum()


def test_a_bias_that_no_count_needs():
    conv = quantize(dead(3e6), [0.3, 0.1], Settings(), name="net").layer("conv")
    assert isinstance(conv, Convolution)
    assert conv.bias[1] == (65535 << conv.threshold_log2) - np.minimum(conv.weights[1].astype(int), 0).sum()


def test_a_bias_that_no_width_holds():
    message = r"^net\.onnx: layer 'fc': largest bias must be less than 8388608 thresholds, not 1e\+07; use a larger threshold$"
    graph = Graph(shape=(1, 12)).add("Gemm", np.ones((2, 12)), np.array([0.0, 3e6]), transB=1, name="fc")
    with pytest.raises(ConversionError, match=message):
        quantize(import_model(graph.model(), "net.onnx"), [0.3], Settings(), name="net")
