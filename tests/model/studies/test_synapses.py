"""Float layers as lists of synapses: against dense arithmetic, and against the rule for borders."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from model.importers.float_network import ConversionError, FloatLayer
from model.importers.onnx import import_model, import_onnx
from model.network import Padding, Shape, taps
from model.studies.synapses import normalized, pool_windows, stages_of, synapses_of
from tests.onnx_graphs import Graph, run_layers


class Chain:
    """Layers alone, for `run_layers`."""

    def __init__(self, *layers):
        self.layers = layers


def convolution(rng, outputs, taken, kernel, **window):
    weights = rng.integers(-8, 9, (outputs, taken, *kernel)) / 16
    return FloatLayer(
        kind="convolution",
        source="input",
        name="c",
        tensor="t",
        weights=weights,
        bias=np.zeros(outputs),
        window=kernel,
        **window,
    )


@pytest.mark.parametrize(
    ("outputs", "taken", "kernel", "window"),
    [
        (3, 4, (3, 3), {"padding": Padding(1, 1, 1, 1)}),
        (2, 4, (2, 3), {"stride": (2, 1)}),
        (4, 2, (3, 2), {"stride": (1, 2), "padding": Padding(2, 0, 1, 1), "groups": 2}),
        (4, 1, (3, 3), {"padding": Padding(1, 1, 1, 1), "groups": 4}),
    ],
)
def test_convolution_is_its_synapses(outputs, taken, kernel, window):
    rng = np.random.default_rng(1)
    shape = Shape(5, 6, 4)
    layer = convolution(rng, outputs, taken, kernel, **window)
    synapses = synapses_of(layer, shape)
    values = rng.integers(-4, 5, (3, *shape)) / 4
    [(expected, _)] = run_layers(Chain(layer), values)
    assert (synapses.sums(values.reshape(3, -1)) == expected.reshape(3, -1)).all()
    rows, columns = (
        taps(
            size=shape[axis],
            outputs=layer.output_shape(shape)[axis],
            kernel=kernel[axis],
            stride=layer.stride[axis],
            padding=layer.padding[axis],
        )
        for axis in (0, 1)
    )
    reached = np.array([[[len(r) * len(c) * outputs // layer.groups] * 4 for c in columns] for r in rows])
    assert (synapses.fan_out == reached.reshape(-1)).all()
    assert synapses.fan_out.min() < synapses.fan_out.max()
    for first, end in itertools.pairwise(synapses.starts):
        assert (np.diff(synapses.targets[first:end]) > 0).all()


def test_linear_is_its_synapses():
    rng = np.random.default_rng(2)
    weights = rng.integers(-8, 9, (3, 8)) / 8
    layer = FloatLayer(kind="linear", source="input", name="f", tensor="t", weights=weights, bias=np.zeros(3))
    synapses = synapses_of(layer, Shape(2, 2, 2))
    values = rng.integers(0, 5, (4, 8)) / 4
    assert (synapses.sums(values) == values @ layer.weights.T).all()
    assert (synapses.fan_out == 3).all()


def test_pool_windows_are_in_raster_order_and_clipped():
    window = {"window": (2, 2), "stride": (1, 2), "padding": Padding(1, 0, 0, 0)}
    layer = FloatLayer(kind="maxpool", source="input", name="p", tensor="t", **window)
    starts, addresses = pool_windows(layer, Shape(2, 4, 1))
    windows = [addresses[a:b].tolist() for a, b in itertools.pairwise(starts)]
    assert windows == [[0, 1], [2, 3], [0, 1, 4, 5], [2, 3, 6, 7]]


def test_stages_repeat_biases_by_channel():
    layer = FloatLayer(
        kind="convolution", source="input", name="c", tensor="t", weights=np.ones((2, 1, 1, 1)), bias=np.array([0.5, -1.0])
    )
    [stage] = stages_of([layer], Shape(1, 2, 1))
    assert stage.bias.tolist() == [0.5, -1.0, 0.5, -1.0]


def small(seed=3):
    graph = Graph(shape=("frames", 2, 6, 6), seed=seed)
    graph.conv(3, 2, 3, pads=[1, 1, 1, 1]).add("Relu").add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    graph.add("Flatten", axis=1).linear(27, 5).add("Relu").linear(5, 4)
    return import_model(graph.model(), "small")


def test_normalization_makes_large_activations_one_and_keeps_the_function():
    network = small()
    frames = np.random.default_rng(4).random((40, 6, 6, 2)).astype(np.float32)
    layers, scales = normalized(network, frames, percentile=100)
    found = [values for layer, values in zip(layers, run_layers(Chain(*layers), frames), strict=True) if layer.kind != "maxpool"]
    usual = [values for layer, values in zip(layers, run_layers(network, frames), strict=True) if layer.kind != "maxpool"]
    assert len(scales) == 3
    for (_, after), (_, before), scale in zip(found, usual, scales, strict=True):
        assert np.allclose(after * scale, before)
        assert after.max() == pytest.approx(1, rel=1e-5)
    _, less = normalized(network, frames, percentile=90)
    assert all(a < b for a, b in zip(less, scales, strict=True))


@pytest.mark.parametrize("percentile", [0, 100.5])
def test_percentile_out_of_range(percentile):
    with pytest.raises(ValueError, match=rf"^percentile must be more than 0 and at most 100, not {percentile}$"):
        normalized(small(), np.zeros((1, 6, 6, 2), np.float32), percentile=percentile)


def test_no_frames():
    with pytest.raises(ValueError, match=r"^frames must be at least one frame, not 0$"):
        normalized(small(), np.zeros((0, 6, 6, 2), np.float32))


def test_layers_that_have_no_counterpart_are_named():
    frames = np.zeros((1, 4, 4, 1), np.float32)
    graph = Graph(shape=("frames", 1, 4, 4)).add("MaxPool", kernel_shape=[2, 2], strides=[2, 2], name="first")
    network = import_model(graph.add("Flatten", axis=1).linear(4, 2).model(), "net")
    with pytest.raises(ConversionError, match=r"^net: layer 'first': first and last layer must have neurons, not pool$"):
        normalized(network, frames)
    graph = Graph(shape=("frames", 1, 4, 4)).conv(1, 1, 3, name="bare").add("Flatten", axis=1).linear(4, 2)
    with pytest.raises(ConversionError) as caught:
        normalized(import_model(graph.model(), "net"), frames)
    assert str(caught.value) == (
        "net: layer 'bare': must have a ReLU after it, as spikes that are all positive stand for no negative activation"
    )


def test_memory_of_the_bundled_network_is_what_the_docs_say():
    network = import_onnx(Path(__file__).parents[3] / "model" / "zoo" / "mnist-paper.onnx")
    stages = [stage for stage in stages_of(network.layers, network.input_shape) if hasattr(stage, "synapses")]
    size = sum(stage.synapses.targets.nbytes + stage.synapses.weights.nbytes for stage in stages)
    assert size < 13e6
