"""Transposed convolutions and upsampling: the layers are what ONNX's reference gives."""

import re

import numpy as np
import pytest

from model.importers.onnx import ConversionError, import_model, report_nodes
from model.studies.synapses import normalized
from tests.onnx_graphs import TWO, Graph, channels_last, kinds, linear_end, same

SAME = {"pads": [1] * 4}


def transposed(graph, inputs, outputs, kernel, groups=1, **attributes):
    """A transposed convolution, with its bias."""
    weights = graph.rng.normal(0, 0.5, (inputs, outputs // groups, *kernel))
    return graph.add("ConvTranspose", weights, graph.rng.normal(0, 0.3, outputs), group=groups, **attributes)


def small(channels=3):
    """Activated images of 4x4."""
    return Graph().conv(channels, 2, 2, strides=[2, 2], name="stem").add("Relu")


GEOMETRIES = {
    "plain": {},
    "strides": {"strides": [2, 3]},
    "pads": {"strides": [2, 2], "pads": [1, 0, 2, 1]},
    "more": {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
    "more on one side": {"strides": [3, 2], "output_padding": [2, 0]},
    "dilations": {"dilations": [2, 1], "strides": [1, 2], "pads": [1, 0, 0, 1]},
    "groups": {"groups": 2, "strides": [2, 2]},
}


@pytest.mark.parametrize("what", GEOMETRIES)
def test_transposed_convolution(what):
    graph = transposed(small(4), 4, 6, (3, 3), **GEOMETRIES[what], name="up").add("Relu")
    network = same(channels_last(graph))
    layer = network.layers[1]
    assert (layer.kind, layer.weights.shape[0]) == ("transposed", 6)
    source = network.shape_of("stem")
    assert network.macs == 64 * 4 * 2 + source.height * source.width * layer.weights.size


def test_scales_and_offsets_around_it():
    values = np.random.default_rng(0).normal(0.5, 1, (2, 3, 1, 1))
    graph = small().add("Mul", values[0]).add("Add", values[1])
    transposed(graph, 3, 4, (3, 2), strides=[2, 2], pads=[1, 0, 0, 0], name="up").norm(4).add("Relu").add("AveragePool", **TWO)
    network = same(linear_end(graph.conv(2, 4, 2), 2 * 3 * 3))
    assert network.layers[1].bias.ndim == 3


def test_averages_before_it():
    graph = small().add("AveragePool", **TWO)
    network = same(channels_last(transposed(graph, 3, 2, (2, 2), strides=[2, 2]).add("Relu")))
    assert network.layers[1].averaged == (2, 2)


def test_one_dimension():
    graph = Graph(shape=("frames", 2, 8)).add("Conv", np.ones((3, 2, 2)) / 3, strides=[2]).add("Relu")
    graph.add("ConvTranspose", graph.rng.normal(0, 0.5, (3, 2, 3)), strides=[2], output_padding=[1]).add("Relu")
    graph.add("Resize", "", np.array([1.0, 1.0, 3.0]), mode="nearest")
    same(graph.add("Flatten").linear(2 * 30, 3))


def test_at_the_end():
    """The outputs come in the file's order."""
    same(transposed(small(), 3, 2, (3, 3), strides=[2, 2], pads=[1] * 4))
    same(small().add("Resize", "", np.array([1.0, 1.0, 2.0, 2.0])))


@pytest.mark.parametrize("opset", [7, 9, 10, 11, 17])
@pytest.mark.parametrize("factors", [(2, 2), (3, 1), (2, 4)])
def test_upsampling(opset, factors):
    graph = Graph(opset).conv(3, 2, 2, strides=[2, 2], name="stem").add("Relu")
    scales, operator = np.array([1.0, 1.0, *factors]), "Resize" if opset >= 10 else "Upsample"
    if opset == 7:
        graph.add(operator, scales=scales.tolist(), mode="nearest", name="up")
    else:
        graph.add(operator, *([np.zeros(0)] if opset >= 11 else []), scales, mode="nearest", name="up")
    graph.conv(2, 3, 3, **SAME, name="conv").add("Relu")
    network = same(channels_last(graph))
    # The convolution takes the upsampling with it.
    conv = network.layers[1]
    assert (kinds(network), conv.source, conv.stride) == (["convolution", "transposed"], "stem", factors)
    assert conv.window == (3 + factors[0] - 1, 3 + factors[1] - 1)


@pytest.mark.parametrize(
    "attributes",
    [
        {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        {"coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_ceil"},
        {"coordinate_transformation_mode": "pytorch_half_pixel"},
        {},
    ],
)
@pytest.mark.parametrize("window", [{"pads": [0, 0, 0, 0]}, {"pads": [2, 1, 0, 1]}, {"strides": [2, 2], "pads": [1] * 4}])
def test_upsampling_in_front_of_a_convolution(attributes, window):
    graph = small().add("Resize", "", np.array([1.0, 1.0, 2.0, 3.0]), **attributes, name="up")
    if not attributes:
        graph.norm(3, least=0.5)
    network = same(channels_last(graph.conv(2, 3, 3, **window, name="conv").add("Relu")))
    assert ("up" in [layer.name for layer in network.layers]) == ("strides" in window or not attributes)


def test_sizes_in_place_of_scales():
    graph = Graph(shape=(1, 2, 8, 8)).conv(3, 2, 2, strides=[2, 2]).add("Relu").add("Resize", "", "", np.array([1, 3, 8, 8]))
    assert same(channels_last(graph.conv(2, 3, 1))).layers[1].kind == "transposed"
    same(linear_end(small().add("Resize", "", np.ones(4)), 48))


def test_a_u_shape():
    graph = Graph().conv(3, 2, 3, **SAME, name="top").add("Relu")
    top = graph.last
    graph.add("MaxPool", **TWO).conv(4, 3, 3, **SAME, name="down").add("Relu")
    down = graph.last
    graph.add("MaxPool", **TWO).conv(5, 4, 3, **SAME, name="bottom").add("Relu")
    transposed(graph, 5, 4, (2, 2), strides=[2, 2], name="up").add("Concat", down, axis=1)
    graph.conv(4, 8, 3, **SAME, name="left").add("Relu").add("Resize", "", np.array([1.0, 1.0, 2.0, 2.0]), name="wide")
    graph.add("Concat", top, axis=1, name="join").conv(2, 7, 3, **SAME, name="last")
    network = same(channels_last(graph))
    by_name = {layer.name: layer for layer in network.layers}
    assert [(taken.source, taken.kind) for taken in by_name["last"].inputs] == [("left", "transposed"), ("top", "convolution")]
    assert [taken.source for taken in by_name["left"].inputs] == ["up", "down"] and "wide" not in by_name


def test_enlarged_in_a_sum(tmp_path):
    graph = Graph().conv(3, 2, 3, **SAME, name="top").add("Relu")
    top = graph.last
    graph.add("MaxPool", **TWO, name="pool").add("Resize", "", np.array([1.0, 1.0, 2.0, 2.0]), name="up")
    graph.add("Add", top, name="add").add("Relu").conv(2, 3, 1, name="last")
    network = same(channels_last(graph))
    assert [(taken.source, taken.kind) for taken in network.layers[2].inputs] == [("pool", "transposed"), ("top", "convolution")]
    what = {report.name: report.what for report in report_nodes(graph.save(tmp_path / "net.onnx"))}
    assert what["up"] == "upsampling, input of layer 'add': 4x4x3 to 8x8x3"


SCALES = "scales must be whole numbers of at least 1, and 1 for frames and channels, not"
NEAREST = "enlarge to the nearest by a whole number, or with a ConvTranspose"
REFUSED = {
    "linear": (
        lambda g: g.add("Resize", "", np.array([1.0, 1.0, 2.0, 2.0]), mode="linear", name="n"),
        f"node 'n' (Resize): mode must be 'nearest', not 'linear'; {NEAREST}",
    ),
    "a half": (
        lambda g: g.add("Resize", "", np.array([1.0, 1.0, 1.5, 2.0]), name="n"),
        f"node 'n' (Resize): {SCALES} 1, 1, 1.5, 2; {NEAREST}",
    ),
    "channels": (
        lambda g: g.add("Resize", "", np.array([1.0, 2.0, 1.0, 1.0]), name="n"),
        f"node 'n' (Resize): {SCALES} 1, 2, 1, 1; {NEAREST}",
    ),
    "not where it was": (
        lambda g: g.add("Resize", "", np.array([1.0, 1.0, 3.0, 3.0]), coordinate_transformation_mode="align_corners", name="n"),
        "node 'n' (Resize): must repeat each value, which 'align_corners' with 'round_prefer_floor' does not by 3; " + NEAREST,
    ),
    "output_shape": (
        lambda g: transposed(g, 3, 2, (3, 3), output_shape=[9, 9], name="n"),
        "node 'n' (ConvTranspose): output_shape is not supported; give the padding as pads",
    ),
    "auto_pad": (
        lambda g: transposed(g, 3, 2, (3, 3), auto_pad="SAME_UPPER", name="n"),
        "node 'n' (ConvTranspose): auto_pad must be NOTSET or VALID, not 'SAME_UPPER'; give the padding as pads",
    ),
    "channels of the weights": (
        lambda g: transposed(g, 2, 2, (3, 3), name="n"),
        "node 'n' (ConvTranspose): weights must take 3 channels, not 2",
    ),
    "groups": (
        lambda g: g.add("ConvTranspose", np.ones((3, 2, 2, 2)), group=2, name="n"),
        "node 'n' (ConvTranspose): group must divide the 3 input channels, not 2",
    ),
    "pads": (
        lambda g: transposed(g, 3, 2, (3, 3), pads=[3, 0, 0, 0], name="n"),
        "node 'n' (ConvTranspose): pads must be less than the window 3x3, and leave outputs, not [3, 0, 0, 0]",
    ),
    "strides": (
        lambda g: transposed(g, 3, 2, (3, 3), strides=[2], name="n"),
        "node 'n' (ConvTranspose): strides must be 2 numbers of at least 1, not [2]",
    ),
    "output_padding": (
        lambda g: transposed(g, 3, 2, (3, 3), strides=[2, 2], output_padding=[2, 0], name="n"),
        "node 'n' (ConvTranspose): output_padding must be less than the strides [2, 2], not [2, 0]",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refusals(what):
    build, message = REFUSED[what]
    with pytest.raises(ConversionError, match=f"^net: {re.escape(message)}$"):
        import_model(build(small()).model(), "net")


def test_what_does_not_take_them_says_so():
    network = import_model(linear_end(transposed(small(), 3, 2, (2, 2)).add("Relu"), 50).model(), "net")
    message = "transposed convolutions are imported but not studied in other codes yet"
    with pytest.raises(ConversionError, match=f"^net: {message}$"):
        normalized(network, np.zeros((2, 8, 8, 2)))
