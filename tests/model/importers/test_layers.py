"""Convolutions and max-pools of every geometry, in several opsets, against ONNX's own reference."""

import re

import numpy as np
import pytest

from model.importers.float_network import ConversionError, expand_groups
from model.importers.onnx import import_model
from tests.onnx_graphs import OPSETS, TWO, Graph, channels_last, same

GEOMETRY = {
    "strides": lambda g: g.conv(3, 2, (3, 2), strides=[2, 3]),
    "dilations": lambda g: g.conv(3, 2, (3, 2), dilations=[2, 3], pads=[1, 0, 2, 1]),
    "dilations and strides": lambda g: g.conv(3, 2, 2, dilations=[3, 1], strides=[2, 2], bias=False),
    "asymmetric padding": lambda g: g.conv(3, 2, 3, pads=[0, 1, 2, 0]),
    "same upper": lambda g: g.conv(3, 2, (4, 3), auto_pad="SAME_UPPER", strides=[2, 2]),
    "same lower": lambda g: g.conv(3, 2, (4, 3), auto_pad="SAME_LOWER", strides=[1, 2]),
    "valid": lambda g: g.conv(3, 2, 3, auto_pad="VALID", bias=False),
    "groups": lambda g: g.conv(6, 1, 3, group=2, pads=[1] * 4),
    "depthwise, then pointwise": lambda g: g.conv(2, 1, 3, group=2, bias=False).norm(2).add("Relu").conv(4, 2, 1),
    "pad node": lambda g: g.add("Pad", pads=[0, 0, 1, 2, 0, 0, 0, 1]).conv(3, 2, 3, pads=[1, 0, 0, 0]),
    "max-pool, overlapping": lambda g: g.conv(3, 2, 3).add("Relu").add("MaxPool", kernel_shape=[3, 2], strides=[2, 1]),
    "max-pool, gaps and padding": lambda g: g.conv(3, 2, 3).add(
        "MaxPool", kernel_shape=[2, 3], strides=[3, 3], pads=[1, 0, 0, 2]
    ),
    "max-pool after a pad node": lambda g: g.conv(3, 2, 3)
    .add("Relu")
    .add("Pad", pads=[0, 0, 1, 1, 0, 0, 1, 1])
    .add("MaxPool", kernel_shape=[3, 3], strides=[2, 2]),
    "global max-pool": lambda g: g.conv(3, 2, 3).add("Relu").add("GlobalMaxPool").add("Flatten").linear(3, 2),
    "clip at 0 and 1": lambda g: g.conv(3, 2, 3).add("Clip", min=0.0, max=1.0).conv(2, 3, 3),
    "clip of a norm, then a max-pool": lambda g: g.conv(3, 2, 3).norm(3).add("Clip", min=0.0, max=0.7).add(
        "MaxPool", kernel_shape=[2, 2], strides=[2, 2]
    ),
    "clip of a max-pool": lambda g: g.conv(3, 2, 3).add("MaxPool", **TWO).add("Clip", min=0.0, max=0.5).conv(2, 3, 2),
    "clips one after the other": lambda g: g.add("Clip", min=0.0, max=2.0)
    .conv(3, 2, 3)
    .add("Relu")
    .add("Clip", min=0.0, max=0.8)
    .add("Clip", min=0.0, max=6.0)
    .conv(2, 3, 3),
    "clip of a linear layer": lambda g: g.add("Flatten").linear(128, 5).add("Clip", min=0.0, max=0.3).linear(5, 3),
    "clip at 0": lambda g: g.conv(3, 2, 3).add("Clip", min=0.0, max=3.4e38).conv(2, 3, 3),
}


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("construct", GEOMETRY)
def test_geometry(construct, opset):
    same(GEOMETRY[construct](Graph(opset)))


def test_groups_expand_to_zeros():
    network = import_model(channels_last(Graph().conv(4, 1, 3, group=2, name="c")).model(), "net")
    (layer,) = network.layers
    (dense,) = map(expand_groups, network.layers)
    assert (layer.weights.shape, dense.weights.shape, dense.groups) == ((4, 1, 3, 3), (4, 2, 3, 3), 1)
    assert (dense.weights[:2, :1] == layer.weights[:2]).all() and (dense.weights[2:, 1:] == layer.weights[2:]).all()
    assert not dense.weights[:2, 1:].any() and not dense.weights[2:, :1].any()


@pytest.mark.parametrize("opset", [13, 21])
@pytest.mark.parametrize(
    ("activation", "end"),
    [
        (lambda g: g.add("Max", np.array(0.0)), None),
        (lambda g: g.add("Max", first=np.zeros((1, 1, 1))), None),
        (lambda g: g.add("LeakyRelu", alpha=0.0), None),
        (lambda g: g.add("PRelu", np.zeros((3, 1, 1))), None),
        (lambda g: g.add("Relu").add("Min", np.array(0.5)), 0.5),
        (lambda g: g.add("Max", np.array(0.0)).add("Min", first=np.array([[0.5]])), 0.5),
        (lambda g: g.add("Relu").add("Min", np.array(np.inf)), None),
    ],
)
def test_activations_by_other_names(opset, activation, end):
    """Held against ONNX Runtime by the import itself; the layers are those of Relu and Clip."""
    graph = activation(Graph(opset).conv(3, 2, 3)).add("Flatten").linear(108, 4)
    first, _ = import_model(graph.model(), "net").layers
    assert (first.relu, first.end) == (True, end)


@pytest.mark.parametrize(
    ("activation", "message"),
    [
        (
            lambda g: g.add("Max", np.array(-1.0), name="n"),
            "(Max): must be of 0 where it is of a constant, not of -1; train with ReLU",
        ),
        (
            lambda g: g.add("Min", np.array(6.0), name="n"),
            "(Min): must be behind a ReLU where it is of a constant; put a Relu in front of it, or use Clip from 0",
        ),
        (
            lambda g: g.add("Relu").add("Min", np.array(-2.0), name="n"),
            "(Min): must be of more than 0, not of -2 where it is of a constant; put a Relu in front of it, or use Clip from 0",
        ),
        (lambda g: g.add("LeakyRelu", name="n"), "(LeakyRelu): operator LeakyRelu is not supported; train with ReLU"),
        (
            lambda g: g.add("PRelu", np.full((3, 1, 1), 0.1), name="n"),
            "(PRelu): operator PRelu is not supported; train with ReLU",
        ),
        (lambda g: g.add("Max", np.zeros(6), name="n"), None),
    ],
)
def test_activations_that_are_no_relu(activation, message):
    graph = activation(Graph().conv(3, 2, 3)).add("Flatten").linear(108, 4)
    what = re.escape(f"net: node 'n' {message}") + "$" if message else "net: node 'n' .Max.: input 'k2' must be one number"
    with pytest.raises(ConversionError, match=f"^{what}"):
        import_model(graph.model(), "net")


def test_nodes_may_share_a_name():
    graph = Graph().conv(3, 2, 3, name="n").add("Relu", name="n").add("Flatten", name="n")
    graph.add("Gemm", graph.rng.normal(0, 0.3, (4, 108)), transB=1, name="n")
    network = import_model(graph.model(), "net")
    assert [layer.name for layer in network.layers] == ["n", "n_2"]
    assert network.run(np.zeros((2, 8, 8, 2)))[0].shape == (2, 4)
