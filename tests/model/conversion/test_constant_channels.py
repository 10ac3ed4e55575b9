"""Channels that nobody reads, constant parts and common offsets: they change no answer, and decide no scale."""

from dataclasses import replace

import numpy as np
import pytest

from model.conversion.constant_channels import without_constant_parts, without_unread
from model.conversion.convert import convert
from model.conversion.projections import driven
from model.conversion.quantize import Settings
from model.conversion.quantized_frames import run_images
from model.importers.onnx import import_model
from model.network import INPUT, MaxPool
from model.rest import pooled
from model.support.datasets import Dataset
from tests.onnx_graphs import Graph

LEVELS = Settings(levels=16, input_levels=64)
FRAMES = np.random.default_rng(3).integers(0, 256, (300, 1, 1, 12), dtype=np.uint8)


def perceptron(bias, reading, *, offset=0.0, end=None):
    """Two hundred neurons of which number 7 has this bias, read with weights of so much of the others'."""
    graph = Graph(shape=("frames", 12), seed=5)
    weights, out = graph.rng.normal(0, 1, (200, 12)), graph.rng.normal(0, 1, (4, 200))
    biases = np.zeros(200)
    biases[7] = bias
    out[:, 7] *= reading
    graph.add("Gemm", weights, biases, transB=1, name="hidden")
    graph.add("Relu") if end is None else graph.add("Clip", min=0.0, max=end)
    return import_model(graph.add("Gemm", out, np.full(4, offset), transB=1, name="out").model(), "net.onnx")


def converted(floats, settings=LEVELS):
    labels = floats.scores(FRAMES.astype(np.float32) / 255).argmax(axis=1)
    return convert(floats, Dataset("own", FRAMES, labels), settings, name="net")


def test_a_channel_that_nobody_reads_decides_nothing():
    found = [converted(perceptron(bias, 0.0)) for bias in (0.0, 1e3, 1e10, -1e10)]
    assert all(one.network.content_hash == found[0].network.content_hash for one in found)
    hidden = found[0].network.layer("hidden")
    assert not hidden.weights[7].any() and hidden.bias[7] < hidden.theta and np.abs(hidden.weights).max() > 60
    assert found[0].accuracy_snn > 0.9


def test_what_reads_only_unread_channels_is_unread():
    graph = Graph(shape=("frames", 12)).linear(12, 6).add("Relu")
    second, last = graph.rng.normal(0, 1, (5, 6)), graph.rng.normal(0, 1, (3, 5))
    second[:4, 2], last[:, 4] = 0, 0
    graph.add("Gemm", second, transB=1).add("Relu").add("Gemm", last, transB=1)
    floats = import_model(graph.model(), "net.onnx")
    found, read = without_unread(floats)
    names = [layer.name for layer in floats.layers]
    assert [np.flatnonzero(~read[name]).tolist() for name in names] == [[2], [4], []]
    assert not found.layers[0].weights[2].any() and not found.layers[1].weights[4].any()
    all_read = import_model(Graph(shape=("frames", 12)).linear(12, 6).add("Relu").linear(6, 3).model(), "net.onnx")
    assert without_unread(all_read)[0] is all_read


@pytest.mark.parametrize("size", [1e4, 1e7])
def test_a_channel_that_is_always_on_leaves_its_constant_part_to_those_that_read_it(size):
    usual, found = converted(perceptron(0.0, 1.0)), converted(perceptron(size, 1 / size))
    assert found.accuracy_snn > usual.accuracy_snn - 0.05 and found.accuracy_float == 1.0
    hidden = found.network.layer("hidden")
    assert np.abs(hidden.weights).max() > 60
    assert np.abs(hidden.bias).max() < 1 << 15


def test_the_function_stays_the_same():
    """Behind a max-pool, at a border, in a group, under an average."""
    graph = Graph(seed=1)
    weights, biases = graph.rng.normal(0, 0.5, (4, 2, 3, 3)), np.array([0.1, 1000.0, 0.2, -0.1])
    graph.add("Conv", weights, biases).add("Relu").add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    graph.conv(4, 2, 2, group=2, pads=[1, 1, 0, 0]).add("Relu").add("GlobalAveragePool").add("Flatten").linear(4, 3)
    floats = import_model(graph.model(), "net.onnx")
    frames = graph.rng.random((20, 8, 8, 2))

    def sums(network):
        values = {INPUT: frames}
        for layer in network.layers:
            if layer.kind == "maxpool":
                pool = MaxPool(name=layer.name, source=layer.source, window=layer.window, stride=layer.stride)
                values[layer.name] = pooled(pool, values[layer.source])
            else:
                values[layer.name] = layer.activated(driven(network, layer, values) + layer.bias)
        return values

    before = sums(floats)
    values = {layer.name: before[layer.name].transpose(0, 3, 1, 2) for layer in floats.layers if layer.kind != "maxpool"}
    found, taken_off = without_constant_parts(floats, values, 1.0, lambda layer, some: float(some.max()))
    first, _, second, last = floats.layers
    least = np.minimum(weights[1], 0).sum()
    assert list(taken_off) == [first.name, second.name]
    assert np.allclose(taken_off[first.name], [0, 1000 + least, 0, 0])
    assert found.layers[2].bias.ndim == 3
    after = sums(found)
    assert np.allclose(after[last.name], before[last.name], rtol=1e-9)
    assert np.abs(after[second.name]).max() < np.abs(before[second.name]).max()
    same, nothing = without_constant_parts(floats, values, 1.0, lambda layer, some: 1e6)
    assert same is floats and nothing == {}


def test_what_all_outputs_have_in_common_decides_nothing():
    usual, found = converted(perceptron(0.0, 1.0)), converted(perceptron(0.0, 1.0, offset=1e4))
    assert found.accuracy_snn > usual.accuracy_snn - 0.03
    few = usual.network.output.bias, found.network.output.bias
    assert np.abs(few[1].astype(int) - few[0]).max() < usual.network.output.theta


def test_an_activation_with_an_end_takes_no_more_of_a_bias_than_holds_it_there():
    networks = [converted(perceptron(bias, 1.0, end=2.0)).network for bias in (1e3, 1e6, 1e12)]
    assert all(network.content_hash == networks[0].content_hash for network in networks)
    hidden = networks[0].layer("hidden")
    least = 64 * np.minimum(hidden.weights[7].astype(int), 0).sum()
    assert hidden.bias[7] == (hidden.count_max << hidden.threshold_log2) - least
    larger = replace(hidden, bias=np.where(np.arange(200) == 7, 2 * hidden.bias[7], hidden.bias))
    other = replace(networks[0], layers=(larger, networks[0].output))
    assert (run_images(other, FRAMES).counts == run_images(networks[0], FRAMES).counts).all()


def test_sums_far_below_zero_do_not_wrap():
    """Wide weights whose sums reach a thousand times further down than up."""
    rng = np.random.default_rng(5)
    weights = -np.abs(rng.normal(0, 1, (40, 784)))
    weights[:20] *= 0.002 * np.where(rng.random((20, 784)) < 0.5, 1, -1)
    graph = Graph(shape=("frames", 784)).add("Gemm", weights, transB=1).add("Relu")
    floats = import_model(graph.add("Gemm", rng.normal(0, 1, (4, 40)), transB=1).model(), "net.onnx")
    images = np.rint(255 * rng.random((200, 1, 1, 784)) ** 2).astype(np.uint8)
    labels = floats.scores(images.astype(np.float32) / 255).argmax(axis=1)
    settings = Settings(levels=64, input_levels=64, weight_bits=16)
    found = convert(floats, Dataset("own", images, labels), settings, name="net")
    assert found.network.layers[0].potential_bits == 24
    assert not run_images(found.network, images).saturated_events.any()
    assert found.accuracy_snn > 0.6
