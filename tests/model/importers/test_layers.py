"""Convolutions and max-pools of every geometry, in several opsets, against ONNX's own reference."""

import pytest

from model.importers.float_network import expand_groups
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
