"""Thresholds of channels, folded into weights: the same function, and where channels differ in size, a better network."""

from dataclasses import replace

import numpy as np
import pytest

from model.conversion.channels import channel_scales, with_scales
from model.conversion.convert import convert
from model.conversion.quantize import Settings, quantize
from model.conversion.quantized import quantized_counts
from model.importers.float_network import FloatLayer, pool_of
from model.importers.onnx import import_model
from model.network import INPUT
from model.rest import pooled, weighted_sums
from model.support.datasets import Dataset
from tests.onnx_graphs import Graph, run_layers


def uneven(seed, *, groups=1):
    """Two convolutions with max-pools and a linear layer; the channels of each layer differ a lot in size."""
    rng = np.random.default_rng(seed)
    one, two = np.array([1, 0.3, 3, 0.5]), np.array([0.3, 2, 1, 0.4, 1, 4])
    graph = Graph(shape=("frames", 1, 12, 12))
    graph.add("Conv", rng.normal(0.2, 0.5, (4, 1, 3, 3)) * one.reshape(-1, 1, 1, 1), 0.1 * one, pads=[1] * 4).add("Relu")
    graph.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    inner = rng.normal(0.1, 0.5, (6, 4 // groups, 3, 3)) * two.reshape(-1, 1, 1, 1)
    inner /= one.reshape(groups, -1).repeat(6 // groups, axis=0)[..., np.newaxis, np.newaxis]
    graph.add("Conv", inner, 0.1 * two, group=groups).add("Relu")
    graph.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2]).add("Flatten")
    # Channel-major, as Flatten leaves them.
    graph.add("Gemm", rng.normal(0, 0.5, (24, 5)) / two.repeat(4)[:, np.newaxis], rng.normal(0, 0.5, 5))
    return import_model(graph.model(), "uneven.onnx")


def scales_of(floats, frames):
    layers = [layer for layer in floats.layers if layer.kind != "maxpool"]
    found = floats.run(frames, [layer.tensor for layer in layers])
    return [
        channel_scales(layer, values, 1.0)
        for layer, values in zip(layers[:-1], found, strict=False)
    ]


def frames(floats, seed, count=200):
    images = np.random.default_rng(seed).integers(0, 256, (count, *floats.input_shape), dtype=np.uint8)
    scores = floats.scores((images > 51).astype(np.float32))
    return Dataset(name="own", images=images, labels=scores.argmax(axis=1))


@pytest.mark.parametrize("groups", [1, 2])
def test_the_function_stays_the_same(groups):
    """The float network's layers, run at a threshold so fine that nothing is lost, answer what they did."""
    floats = uneven(groups, groups=groups)
    data = frames(floats, 1, count=30)
    binary = (data.images > 51).astype(np.float32)
    scales = scales_of(floats, binary)
    scaled = with_scales(floats, scales)
    assert max(scales[0]) > 4 * min(scales[0]) and len(scales[1]) == 6
    values = [{INPUT: binary.astype(np.float64)} for _ in range(2)]
    for layers, found in zip((floats.layers, scaled.layers), values, strict=True):
        source, shape = INPUT, floats.input_shape
        for layer in layers:
            output = layer.output_shape(shape)
            if layer.kind == "maxpool":
                found[layer.name] = pooled(pool_of(layer), found[source])
            else:
                built = quantize(floats, [1e3] * 3, Settings(), name="n").layer(layer.name)
                found[layer.name] = weighted_sums(built, layer.weights, found[source], shape, output) + layer.bias
                if layer.relu:
                    found[layer.name] = np.maximum(found[layer.name], 0)
            source, shape = layer.name, output
    before, after = values
    neurons = [layer.name for layer in floats.layers if layer.kind != "maxpool"]
    for name, factor in zip(neurons, [*scales, np.ones(5)], strict=True):
        assert np.allclose(before[name], after[name] * factor, atol=1e-9)
    assert np.allclose(after[neurons[-1]].reshape(30, -1), floats.scores(binary), atol=1e-3)


def test_scales_are_of_active_channels_and_bounded():
    values = np.array([[[4.0, 2.0], [-1.0, -3.0], [0.001, 0.0], [8.0, 8.0]]])
    layer = FloatLayer(
        kind="linear", source="input", name="fc", tensor="t", weights=np.ones((4, 1)), bias=np.zeros(4), relu=True
    )
    assert channel_scales(layer, values, 4.0).tolist() == [pytest.approx(0.995), 1, 1 / 8, 2]
    assert channel_scales(replace(layer, relu=False), values, 4.0)[1] == pytest.approx(0.745)
    # All channels end at the same activation, so that none may be divided by another number.
    assert channel_scales(replace(layer, end=6.0), values, 4.0).tolist() == [1, 1, 1, 1]


def test_scales_of_channels_with_a_bias_by_position():
    graph = Graph(seed=2).add("Sub", np.array([[[0.2]], [[0.5]]])).conv(4, 2, 3, pads=[1] * 4).add("Relu")
    floats = import_model(graph.add("AveragePool", kernel_shape=[2, 2], strides=[2, 2]).add("Flatten").linear(64, 3).model(), "n")
    assert floats.layers[0].bias.shape == (8, 8, 4)
    data = frames(floats, 0, 60)
    found = convert(floats, data, Settings(channel_thresholds=True, accuracy_budget=0.1), name="n")
    images = (data.images[:8] > 51).astype(float)
    scaled = with_scales(floats, scales_of(floats, images))
    assert np.allclose(run_layers(scaled, images)[-1][1].reshape(8, -1), floats.scores(images), atol=1e-4)
    assert found.network.layers[0].bias.shape == (8, 8, 4) and found.accuracy_snn > 0.8


@pytest.mark.parametrize("seed", range(3))
def test_counts_of_channels_of_other_sizes_are_nearer(seed):
    """With as many levels for a large activation, what is read out is nearer to the float network's scores."""
    floats = uneven(seed)
    data = frames(floats, seed)
    binary = (data.images > 51).astype(np.float32)
    scores, errors = floats.scores(binary), []
    values = floats.run(binary, [layer.tensor for layer in floats.layers if layer.kind != "maxpool"])
    large = [float(np.percentile(value[value > 0], 99)) for value in values]
    scales = [
        channel_scales(layer, value, most)
        for layer, value, most in zip((floats.layers[0], floats.layers[2]), values, large, strict=False)
    ]
    settings = Settings(firing="deferred", weight_bits=12)
    for network in (floats, with_scales(floats, scales)):
        thresholds = [large[0] / 4, large[1] / 4, large[2] / 100]
        counts = quantized_counts(quantize(network, thresholds, settings, name="n"), data.images)
        errors.append(np.abs(counts * thresholds[-1] - scores).mean())
    assert errors[1] < 0.7 * errors[0]


def test_convert_takes_the_option():
    floats = uneven(3)
    found = convert(floats, frames(floats, 2), Settings(firing="deferred", channel_thresholds=True), name="own")
    assert found.network.deferred and found.accuracy_snn > 0.95
