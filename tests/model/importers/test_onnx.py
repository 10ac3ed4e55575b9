"""Whole files: what their inputs may be, and a file of the ONNX model zoo."""

import numpy as np
import pytest

from model.network import Shape
from tests.onnx_graphs import OPSETS, Graph, same


@pytest.mark.parametrize("opset", OPSETS)
def test_inputs(opset):
    last = same(
        Graph(opset, shape=("n", 8, 6, 3))
        .add("Div", np.array(0.5))
        .add("Transpose", perm=[0, 3, 1, 2])
        .conv(4, 3, 3)
        .add("Transpose", perm=[0, 2, 3, 1])
        .add("Flatten")
        .linear(96, 3)
    )
    assert (last.input_shape, last.channels_last) == (Shape(8, 6, 3), True)
    grey = same(Graph(opset, shape=("n", 8, 6)).add("Unsqueeze", axes=[1]).conv(4, 1, 3))
    assert grey.input_shape == Shape(8, 6, 1)
    vector = same(Graph(opset, shape=("n", 48)).linear(48, 3))
    assert vector.input_shape == Shape(1, 1, 48)
    shaped = same(Graph(opset, shape=("n", 96)).add("Reshape", np.array([-1, 2, 8, 6])).conv(4, 2, 3))
    assert shaped.input_shape == Shape(8, 6, 2)
    shaped_last = same(
        Graph(opset, shape=("n", 96)).add("Reshape", np.array([-1, 8, 6, 2])).add("Transpose", perm=[0, 3, 1, 2]).conv(4, 2, 3)
    )
    assert (shaped_last.input_shape, shaped_last.channels_last) == (Shape(8, 6, 2), True)


@pytest.mark.parametrize("opset", OPSETS)
def test_the_mnist_file_of_the_onnx_model_zoo(opset):
    """Its topology, with random weights: biases as (8, 1, 1), the weights of the linear layer reshaped in the graph."""
    g = Graph(opset, shape=(1, 1, 28, 28))
    g.add("Conv", g.rng.normal(0, 0.2, (8, 1, 5, 5)), auto_pad="SAME_UPPER", dilations=[1, 1], group=1,
          kernel_shape=[5, 5], strides=[1, 1], name="Convolution28")
    g.add("Add", g.rng.normal(0, 0.2, (8, 1, 1)), name="Plus30").add("Relu", name="ReLU32")
    g.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2], pads=[0] * 4, auto_pad="NOTSET", name="Pooling66")
    g.add("Conv", g.rng.normal(0, 0.1, (16, 8, 5, 5)), auto_pad="SAME_UPPER", kernel_shape=[5, 5], name="Convolution110")
    g.add("Add", g.rng.normal(0, 0.2, (16, 1, 1)), name="Plus112").add("Relu", name="ReLU114")
    g.add("MaxPool", kernel_shape=[3, 3], strides=[3, 3], pads=[0] * 4, auto_pad="NOTSET", name="Pooling160")
    g.add("Reshape", np.array([1, 256]), name="Times212_reshape0")
    image = g.last
    weights = g.constant(g.rng.normal(0, 0.1, (16, 4, 4, 10)))
    g.add("Reshape", np.array([256, 10]), data=weights, name="Times212_reshape1")
    g.add("MatMul", g.last, data=image, name="Times212").add("Add", g.rng.normal(0, 0.1, (1, 10)), name="Plus214")
    network = same(g)
    assert [(layer.name, layer.relu) for layer in network.layers] == [
        ("Convolution28", True),
        ("Pooling66", False),
        ("Convolution110", True),
        ("Pooling160", False),
        ("Times212", False),
    ]
