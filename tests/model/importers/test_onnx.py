"""Import from ONNX: every construct in several opsets against ONNX's own reference, and every refusal word for word."""

import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from model.conversion.convert import convert
from model.conversion.quantize import Settings
from model.engine.engine import run_frames
from model.importers.float_network import expand_groups
from model.importers.onnx import ConversionError, import_model, import_onnx, report_nodes
from model.network import Shape
from model.support.datasets import Dataset
from tests.onnx_graphs import OPSETS, Graph, run_layers


def same(graph):
    """Import the graph; its layers in numpy are what ONNX's reference gives, and every layer's tensor is its output."""
    model = graph.model()
    network = import_model(model, "net.onnx")
    images = np.random.default_rng(1).random((3, *network.input_shape))
    layers = run_layers(network, images)
    fed = images if network.channels_last else images.transpose(0, 3, 1, 2)
    dims = [n for n in graph.shape[1:] if n]
    fed = fed.reshape(3, *dims).astype(np.float32)
    if graph.opset < 14 and any(node.op_type == "BatchNormalization" for node in graph.nodes):
        # The reference takes these for training, which they are only with five outputs.
        expected = network.run(images)[0]
    else:
        frames = [fed[n : n + 1] for n in range(3)] if graph.shape[0] == 1 else [fed]
        expected = np.concatenate([ReferenceEvaluator(model).run(None, {"image": chunk})[0] for chunk in frames])
    found = layers[-1][1].reshape(3, -1)
    assert np.allclose(found, expected.reshape(3, -1), rtol=1e-5, atol=1e-5)
    neurons = [(layer, both) for layer, both in zip(network.layers, layers, strict=True) if layer.kind != "maxpool"]
    tensors = network.run(images, [layer.tensor for layer, _ in neurons])
    for (layer, both), tensor in zip(neurons, tensors, strict=True):
        height, width, channels = both[0].shape[1:]
        values = tensor.reshape(3, channels, height, width).transpose(0, 2, 3, 1)
        assert any(np.allclose(values, one, rtol=1e-4, atol=1e-4) for one in both), layer.name
    return network


def channels_last(graph):
    """An end in addresses' order, so that a convolution at the end stays one."""
    return graph.add("Transpose", perm=[0, 2, 3, 1])


def kinds(network):
    return [layer.kind for layer in network.layers]


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


def relu_conv(g, **attributes):
    return g.conv(3, 2, 3, **attributes).add("Relu")


def head(g, size):
    return g.add("Flatten").linear(size, 4)


AFFINE = {
    "norm after a convolution": lambda g: g.conv(3, 2, 3, pads=[1] * 4).norm(3, epsilon=1e-3).add("Relu").conv(2, 3, 3),
    "norm after a linear layer": lambda g: g.add("Flatten").linear(128, 5).norm(5).add("Relu").linear(5, 3),
    "norm at the input": lambda g: g.norm(2).conv(3, 2, 3),
    "norm before a padded convolution, no offset": lambda g: relu_conv(g.add("Mul", np.array([[[2.0]], [[-3.0]]])), pads=[1] * 4),
    "norm after ReLU, before a convolution": lambda g: relu_conv(g).norm(3).conv(2, 3, 3),
    "norm after ReLU, before groups": lambda g: g.conv(4, 2, 3).add("Relu").norm(4).conv(6, 2, 3, group=2),
    "norm after ReLU, before a linear layer": lambda g: head(relu_conv(g).norm(3), 108),
    "norm through a max-pool": lambda g: head(
        relu_conv(g).norm(3, least=0.1).add("MaxPool", kernel_shape=[2, 2], strides=[2, 2]), 27
    ),
    "norm through an average": lambda g: head(
        relu_conv(g).norm(3).add("AveragePool", kernel_shape=[2, 2], strides=[2, 2]), 27
    ),
    "norm after an average": lambda g: g.conv(3, 2, 3)
    .add("AveragePool", kernel_shape=[2, 2], strides=[2, 2])
    .norm(3)
    .add("Relu")
    .conv(2, 3, 2),
    "norm between max-pool and ReLU": lambda g: g.conv(3, 2, 3)
    .add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    .norm(3, least=0.1)
    .add("Relu")
    .conv(2, 3, 2, pads=[1] * 4),
    "norm between max-pool and a padded convolution": lambda g: g.conv(3, 2, 3)
    .add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    .norm(3, least=0.1)
    .conv(2, 3, 2, pads=[1] * 4),
    "norm of a flat tensor": lambda g: relu_conv(g).add("Flatten").norm(108).linear(108, 3),
    "norm at the end": lambda g: relu_conv(g).norm(3).add("GlobalAveragePool").add("Flatten"),
    "scalars at the input": lambda g: g.add("Sub", np.array(0.4)).add("Div", np.array([0.25])).conv(3, 2, 3),
    "constant minus data": lambda g: g.add("Sub", first=np.array(1.0)).conv(3, 2, 3),
    "bias after a convolution": lambda g: g.conv(3, 2, 3, bias=False).add("Add", np.array([[[0.5]], [[1.0]], [[-1.0]]])),
    "mean image": lambda g: g.add("Sub", np.linspace(0, 1, 128).reshape(1, 2, 8, 8)).add("Flatten").linear(128, 3),
    "norm at the input, before padding": lambda g: g.norm(2).conv(3, 2, (4, 3), pads=[2, 1, 3, 0], strides=[2, 1]),
    "norm, a pad node, padding": lambda g: g.norm(2).add("Pad", pads=[0, 0, 1, 0, 0, 0, 0, 1]).conv(3, 2, 3, pads=[1, 1, 0, 1]),
    "norm after ReLU, before padded groups": lambda g: relu_conv(g).norm(3).conv(6, 1, 3, group=3, pads=[1] * 4),
    "norm before padding, then another norm": lambda g: g.norm(2).conv(3, 2, 3, pads=[1] * 4).norm(3).add("Relu").conv(2, 3, 3),
    "norm before padding, then an average": lambda g: g.norm(2).conv(3, 2, 3, pads=[1] * 4).add("AveragePool", **TWO).add("Relu"),
    "norm before padding, at the end in the file's order": lambda g: g.norm(2).conv(3, 2, 3, pads=[1] * 4).add("Flatten"),
    "averages before an offset before padding": lambda g: g.conv(3, 2, 3)
    .add("Relu")
    .add("AveragePool", **TWO)
    .norm(3)
    .conv(2, 3, 3, pads=[1] * 4),
    "mean image before a padded convolution": lambda g: g.add("Sub", np.linspace(0, 1, 128).reshape(2, 8, 8)).conv(
        4, 1, (2, 3), pads=[1, 1, 0, 2], strides=[1, 2], group=2
    ),
    "bias by position before a ReLU": lambda g: head(
        g.conv(2, 2, 1).add("Add", np.linspace(-1, 1, 64).reshape(8, 8)).add("Relu"), 128
    ),
    "dropout and cast": lambda g: head(relu_conv(g).add("Dropout").add("Cast", to=TensorProto.FLOAT).add("Identity"), 108),
}


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("construct", AFFINE)
def test_scales_and_offsets(construct, opset):
    same(AFFINE[construct](Graph(opset)))


def pooled(g, **attributes):
    return relu_conv(g).add("AveragePool", **attributes)


TWO = {"kernel_shape": [2, 2], "strides": [2, 2]}

AVERAGE = {
    "into a linear layer": (lambda g: head(pooled(g, **TWO), 27), ["convolution", "linear"]),
    "overlapping, into a linear layer": (lambda g: head(pooled(g, kernel_shape=[3, 2]), 60), ["convolution", "linear"]),
    "padded, not counted": (lambda g: head(pooled(g, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4), 27), None),
    "padded, counted": (
        lambda g: head(pooled(g, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, count_include_pad=1), 27),
        None,
    ),
    "same upper": (lambda g: head(pooled(g, kernel_shape=[3, 3], auto_pad="SAME_UPPER"), 108), None),
    "into a convolution": (lambda g: pooled(g, **TWO).conv(2, 3, 2, strides=[1, 2]), ["convolution", "convolution"]),
    "overlapping, into a convolution": (lambda g: pooled(g, kernel_shape=[3, 2]).conv(2, 3, (2, 3)), None),
    "into a padded convolution, no overlap": (lambda g: pooled(g, **TWO).conv(2, 3, 3, pads=[1] * 4), None),
    "counted padding, into a convolution": (
        lambda g: pooled(g, kernel_shape=[3, 3], strides=[3, 3], pads=[1, 1, 2, 2], count_include_pad=1).conv(2, 3, 2),
        None,
    ),
    "positions left over, into a convolution": (
        lambda g: pooled(g, kernel_shape=[2, 2], strides=[4, 4]).conv(2, 3, 1),
        None,
    ),
    "into groups": (
        lambda g: g.conv(4, 2, 3).add("Relu").add("AveragePool", **TWO).conv(4, 1, 2, group=4),
        None,
    ),
    "into the convolution before": (
        lambda g: g.conv(3, 2, 3, pads=[1] * 4).add("AveragePool", **TWO).add("Relu").conv(2, 3, 3),
        ["convolution", "convolution"],
    ),
    "overlapping, into the strided convolution before": (
        lambda g: g.conv(3, 2, 2, strides=[2, 1]).add("AveragePool", kernel_shape=[2, 3]).add("Relu"),
        ["convolution"],
    ),
    "between two convolutions": (
        lambda g: g.conv(3, 2, 3).add("AveragePool", **TWO).conv(2, 3, 2, pads=[1] * 4),
        ["convolution", "convolution"],
    ),
    "before a max-pool, into the convolution before": (
        lambda g: g.conv(3, 2, 3).add("AveragePool", kernel_shape=[2, 2]).add("MaxPool", **TWO).add("Relu").conv(2, 3, 2),
        ["convolution", "maxpool", "convolution"],
    ),
    "after a max-pool": (
        lambda g: relu_conv(g).add("MaxPool", **TWO).add("GlobalAveragePool").add("Flatten").linear(3, 2),
        ["convolution", "maxpool", "linear"],
    ),
    "of averages": (lambda g: head(pooled(g, kernel_shape=[2, 2]).add("AveragePool", kernel_shape=[3, 3]), 27), None),
    "of averages, into a convolution": (lambda g: pooled(g, **TWO).add("AveragePool", **TWO).conv(2, 3, 1), None),
    "of the input": (lambda g: g.add("AveragePool", **TWO).conv(2, 2, 3), ["convolution"]),
    "of one position": (lambda g: head(relu_conv(g).add("AveragePool", kernel_shape=[1, 1]), 108), ["convolution", "linear"]),
    "of all positions": (
        lambda g: relu_conv(g).add("GlobalAveragePool").add("Flatten").linear(3, 2),
        ["convolution", "linear"],
    ),
    "of all positions, by mean": (
        lambda g: relu_conv(g).add("ReduceMean", axes=[2, 3], keepdims=0).linear(3, 2),
        ["convolution", "linear"],
    ),
    "of rows, by mean": (
        lambda g: head(relu_conv(g).add("ReduceMean", axes=[-2], keepdims=1), 18),
        ["convolution", "linear"],
    ),
    "at the end": (lambda g: relu_conv(g).add("GlobalAveragePool"), ["convolution", "linear"]),
    "at the end, of windows": (lambda g: pooled(g, **TWO).add("Flatten"), ["convolution", "linear"]),
    "at the end, into the convolution before": (lambda g: g.conv(3, 2, 3).add("GlobalAveragePool"), ["convolution"]),
    "of what is not negative, with a ReLU": (
        lambda g: head(pooled(g, **TWO).add("Relu"), 27),
        ["convolution", "linear"],
    ),
}


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("construct", AVERAGE)
def test_averages(construct, opset):
    build, layers = AVERAGE[construct]
    network = same(channels_last(build(Graph(opset))) if layers and layers[-1] == "convolution" else build(Graph(opset)))
    assert layers is None or kinds(network) == layers


@pytest.mark.parametrize("opset", [11, 17, 21])
def test_averages_that_round_up(opset):
    for size, more in ((27, {}), (27, {"count_include_pad": 1}), (36, {"pads": [1, 0, 1, 0], "count_include_pad": 1})):
        same(head(pooled(Graph(opset), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, **more), size))


AXES = {
    "flatten": lambda g: head(relu_conv(g), 108),
    "reshape": lambda g: relu_conv(g).add("Reshape", np.array([-1, 108])).linear(108, 3),
    "reshape, frames kept": lambda g: relu_conv(g).add("Reshape", np.array([0, -1])).linear(108, 3),
    "reshape there and back": lambda g: relu_conv(g)
    .add("Reshape", np.array([0, 3, 36]))
    .add("Reshape", np.array([0, 0, 6, 6]))
    .conv(2, 3, 3),
    "channels last before flatten": lambda g: relu_conv(g).add("Transpose", perm=[0, 2, 3, 1]).add("Flatten").linear(108, 3),
    "channels last and back": lambda g: g.conv(3, 2, 3)
    .add("Transpose", perm=[0, 2, 3, 1])
    .add("Add", np.array([0.5, 1.0, -1.0]))
    .add("Relu")
    .add("Transpose", perm=[0, 3, 1, 2])
    .conv(2, 3, 3),
    "channels last, bias and ReLU there": lambda g: g.conv(3, 2, 3)
    .add("Transpose", perm=[0, 2, 3, 1])
    .add("Add", np.array([0.5, 1.0, -1.0]))
    .add("Relu")
    .add("ReduceMean", axes=[1, 2], keepdims=0)
    .linear(3, 2),
    "sequence of positions": lambda g: relu_conv(g)
    .add("Reshape", np.array([0, 3, -1]))
    .add("Transpose", perm=[0, 2, 1])
    .add("ReduceMean", axes=[1], keepdims=0)
    .linear(3, 2),
    "squeeze": lambda g: relu_conv(g).add("GlobalAveragePool").add("Squeeze", axes=[2, 3]).linear(3, 2),
    "unsqueeze": lambda g: relu_conv(g)
    .add("GlobalAveragePool")
    .add("Squeeze", axes=[2, 3])
    .add("Unsqueeze", axes=[2, 3])
    .conv(2, 3, 1),
    "linear on four axes": lambda g: relu_conv(g)
    .add("GlobalAveragePool")
    .add("Transpose", perm=[0, 2, 3, 1])
    .add("MatMul", g.rng.normal(0, 1, (3, 4)))
    .add("Add", g.rng.normal(0, 1, 4)),
}


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("construct", AXES)
def test_axes(construct, opset):
    same(AXES[construct](Graph(opset)))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax"])
def test_a_final_softmax_changes_nothing(opset, operator):
    """What the layers give is what stands in front of it, pending averages included."""
    graph = relu_conv(Graph(opset)).add("GlobalAveragePool").add(operator, axis=1).add("Flatten")
    network = import_model(graph.model(), "net")
    images = np.random.default_rng(1).random((4, 8, 8, 2))
    last = run_layers(network, images)[-1][1].reshape(4, -1)
    scores, tensor = network.run(images, [network.model.graph.output[0].name, network.layers[-1].tensor])
    assert np.allclose(tensor.reshape(4, -1), last, atol=1e-5)
    assert np.allclose(scores, last, atol=1e-5)
    shares = ReferenceEvaluator(graph.model()).run(None, {"image": images.transpose(0, 3, 1, 2).astype(np.float32)})[0]
    assert (shares.argmax(axis=1) == scores.argmax(axis=1)).all()


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


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_constants_are_computed(opset):
    g = Graph(opset)
    relu_conv(g)
    data = g.last
    shape = helper.make_node("Constant", [], ["shape"], value=onnx.numpy_helper.from_array(np.array([0, -1])))
    g.nodes.append(shape)
    weights = g.constant(g.rng.normal(0, 0.3, (3, 108)))
    g.add("Transpose", data=weights, perm=[1, 0]).add("Cast", to=TensorProto.DOUBLE).add("Cast", to=TensorProto.FLOAT)
    g.add("Identity")
    weights = g.last
    g.add("Reshape", "shape", data=data).add("MatMul", weights)
    same(g)


def test_the_shape_may_be_computed_from_the_frames(tmp_path):
    """As exporters write ``x.view(x.size(0), -1)``."""
    g = relu_conv(Graph())
    data = g.last
    g.add("Shape").add("Gather", np.array(0)).add("Unsqueeze", axes=[0])
    frames = g.last
    g.add("Concat", np.array([-1]), data=frames, axis=0)
    g.add("Reshape", g.last, data=data).linear(108, 3)
    assert kinds(same(g)) == ["convolution", "linear"]
    assert all(report.supported for report in report_nodes(g.save(tmp_path / "net.onnx")))


def linear_end(g, size):
    return g.add("Flatten").linear(size, 2)


REFUSED = {
    "average before a padded convolution": (
        lambda g: pooled(g, kernel_shape=[3, 3], strides=[1, 1]).conv(2, 3, 3, pads=[1] * 4, name="c2"),
        "node 'averagepool2' (AveragePool): does not fold into node 'c2' (Conv) after it: at the border it is not one "
        "convolution; set the pads of both to 0, use MaxPool, or a convolution with that stride",
    ),
    "padded average, not counted, before a convolution": (
        lambda g: pooled(g, kernel_shape=[3, 3], strides=[3, 3], pads=[1] * 4).conv(2, 3, 2, name="c2"),
        "node 'averagepool2' (AveragePool): does not fold into node 'c2' (Conv) after it: at the border it is not one "
        "convolution; set the pads of both to 0, use MaxPool, or a convolution with that stride",
    ),
    "average before a max-pool": (
        lambda g: linear_end(pooled(g, kernel_shape=[2, 2]).add("MaxPool", **TWO, name="max"), 12),
        "node 'averagepool2' (AveragePool): averages in front of node 'max' (MaxPool) have no layer to fold into; put the "
        "average after the MaxPool, or a convolution between them",
    ),
    "average of a max-pool, then a ReLU": (
        lambda g: linear_end(g.conv(3, 2, 3).add("MaxPool", **TWO).add("GlobalAveragePool").add("Relu", name="r"), 3),
        "node 'globalaveragepool2' (GlobalAveragePool): does not fold into the layer before it, and node 'r' (Relu) after it "
        "needs a layer; put the ReLU in front of it, or set pads to 0",
    ),
    "average that counts its padding, of an offset": (
        lambda g: linear_end(relu_conv(g).norm(3, name="bn").add("AveragePool", **TWO, pads=[1] * 4, count_include_pad=1), 48),
        "node 'averagepool3' (AveragePool): counts its padding as zeros, without the offset of node 'bn' (BatchNormalization); "
        "set count_include_pad to 0, or pads to 0",
    ),
    "negative scale before a max-pool": (
        lambda g: relu_conv(g).add("Mul", np.array([[[1.0]], [[-2.0]], [[1.0]]]), name="m").add("MaxPool", **TWO, name="max"),
        "node 'm' (Mul): scale must not be negative in front of node 'max' (MaxPool), not -2: a maximum would become a minimum; "
        "put it after the MaxPool, or in front of the ReLU",
    ),
    "negative scale between max-pool and ReLU": (
        lambda g: g.conv(3, 2, 3).add("MaxPool", **TWO).add("Mul", np.array(-1.5), name="m").add("Relu", name="r"),
        "node 'm' (Mul): scale must not be negative between a MaxPool and node 'r' (Relu), not -1.5; put it in front of the "
        "MaxPool",
    ),
    "norm between two ReLUs": (
        lambda g: relu_conv(g).norm(3, name="bn").add("Relu", name="r").conv(2, 3, 1),
        "node 'r' (Relu): stands after node 'bn' (BatchNormalization), with another ReLU or the input before that; put a Conv, "
        "Gemm or MatMul between them",
    ),
    "scales by position before a convolution": (
        lambda g: g.add("Mul", np.linspace(0, 1, 64).reshape(8, 8), name="mean").conv(2, 2, 3, name="c"),
        "node 'mean' (Mul): holds different values at different positions, in front of node 'c' (Conv); "
        "use one value per channel",
    ),
    "scales by position before a ReLU": (
        lambda g: g.conv(2, 2, 1).add("Mul", np.linspace(0, 1, 64).reshape(8, 8), name="b").add("Relu", name="r"),
        "node 'b' (Mul): holds different values at different positions, in front of node 'r' (Relu); use one value per channel",
    ),
    "offset by position before a max-pool": (
        lambda g: relu_conv(g).add("Add", np.linspace(0, 1, 36).reshape(6, 6), name="b").add("MaxPool", **TWO, name="max"),
        "node 'b' (Add): holds different values at different positions, in front of node 'max' (MaxPool); use one value per "
        "channel",
    ),
    "division of a constant": (
        lambda g: g.add("Div", first=np.array(1.0), name="d").conv(2, 2, 3),
        "node 'd' (Div): divides a constant by the data; activations can be divided by constants only",
    ),
    "division by 0": (lambda g: g.add("Div", np.array(0.0), name="d").conv(2, 2, 3), "node 'd' (Div): constant must not be 0"),
    "groups that do not fit": (
        lambda g: g.conv(4, 2, 3, group=2, name="c"),
        "node 'c' (Conv): weights must take 2 channels, not 2 in 2 groups",
    ),
    "groups that do not divide": (
        lambda g: g.conv(3, 1, 3, group=2, name="c"),
        "node 'c' (Conv): group must divide the 3 output channels, not 2",
    ),
    "too much padding": (
        lambda g: g.conv(3, 2, 2, pads=[0, 0, 2, 0], name="c"),
        "node 'c' (Conv): pads must be at least 0 and less than the window 2x2, not [0, 0, 2, 0]",
    ),
    "dilations that ONNX Runtime does not run": (
        lambda g: g.conv(3, 2, 3, dilations=[2, 2], auto_pad="SAME_UPPER", name="c"),
        "node 'c' (Conv): dilations with auto_pad SAME are more than ONNX Runtime can run; give the padding as pads",
    ),
    "dilations of a pool": (
        lambda g: relu_conv(g).add("MaxPool", kernel_shape=[2, 2], dilations=[2, 2], name="p"),
        "node 'p' (MaxPool): dilations must be 1, not [2, 2]; use a window without gaps",
    ),
    "channels last into a convolution": (
        lambda g: relu_conv(g).add("Transpose", perm=[0, 2, 3, 1]).conv(2, 6, 1, name="c"),
        "node 'c' (Conv): input must be (frames, channels, height, width), not (frames, height, width, channels); Transpose "
        "nodes around it must come in pairs",
    ),
    "a vector into a convolution": (
        lambda g: g.add("Flatten").conv(2, 2, 3, name="c"),
        "node 'c' (Conv): input must be (frames, channels, height, width), not a vector of 128",
    ),
    "frames not in front": (
        lambda g: relu_conv(g).add("Transpose", perm=[1, 0, 2, 3], name="t"),
        "node 't' (Transpose): perm must leave the frames in front, not [1, 0, 2, 3]",
    ),
    "reshape through an axis": (
        lambda g: relu_conv(g).add("Reshape", np.array([0, 2, -1]), name="s"),
        "node 's' (Reshape): must flatten to (frames, 108), not to (0, 2, -1)",
    ),
    "squeeze of everything": (
        lambda g: relu_conv(g).add("GlobalAveragePool").add("Squeeze", name="s"),
        "node 's' (Squeeze): axes must be given: without them the frames may be squeezed too",
    ),
    "squeeze of positions": (
        lambda g: relu_conv(g).add("Squeeze", axes=[2], name="s"),
        "node 's' (Squeeze): axes must be of size 1, not [2] of (3, 6, 6)",
    ),
    "mean of channels": (
        lambda g: relu_conv(g).add("ReduceMean", axes=[1], name="m"),
        "node 'm' (ReduceMean): axes must be height and width, not the channels",
    ),
    "mean of frames": (
        lambda g: relu_conv(g).add("ReduceMean", axes=[0, 2], name="m"),
        "node 'm' (ReduceMean): axes must be within 1..3, after the frames, not [0, 2]",
    ),
    "clip from below 0": (
        lambda g: g.conv(2, 2, 3).add("Clip", min=-1.0, max=6.0, name="relu6"),
        "node 'relu6' (Clip): must be from 0 to more than 0, or without an upper end, not -1.0 to 6.0; train with ReLU",
    ),
    "pad with ones": (
        lambda g: g.add("Pad", np.array([0, 0, 1, 1, 0, 0, 1, 1]), np.array(1.0), name="p").conv(2, 2, 3),
        "node 'p' (Pad): mode must be 'constant' with 0, not 'constant' with 1; pad with zeros",
    ),
    "pad before an average": (
        lambda g: relu_conv(g).add("Pad", pads=[0, 0, 1, 1, 0, 0, 1, 1], name="p").add("AveragePool", **TWO),
        "node 'p' (Pad): must stand in front of a Conv or MaxPool; use pads of the node after it",
    ),
    "pad before a max-pool of negative values": (
        lambda g: g.conv(2, 2, 3).add("Pad", pads=[0, 0, 1, 1, 0, 0, 1, 1], name="p").add("MaxPool", **TWO, name="max"),
        "node 'p' (Pad): zeros must not be greater than the values around which they are, in front of node 'max' (MaxPool); "
        "put the ReLU in front of this node, or use pads of the MaxPool",
    ),
    "cast to integers": (
        lambda g: relu_conv(g).add("Cast", to=TensorProto.INT8, name="c"),
        "node 'c' (Cast): to must be a float type, not int8",
    ),
    "softmax in the middle": (
        lambda g: g.add("Flatten").linear(128, 4).add("Softmax", name="s").linear(4, 2),
        "node 's' (Softmax): is supported at the network's end only; train without it",
    ),
    "quantized convolution": (
        lambda g: g.add("QuantizeLinear", np.array(0.1), name="q").conv(2, 2, 3),
        "node 'q' (QuantizeLinear): quantized files are not read (operator QuantizeLinear); export the float network: conversion "
        "quantizes by itself",
    ),
    "recurrence": (
        lambda g: g.add("LSTM", name="l"),
        "node 'l' (LSTM): operator LSTM is not supported; recurrent layers have no event-driven form here: use convolutions or "
        "linear layers over a frame",
    ),
    "attention": (
        lambda g: g.add("Attention", name="a"),
        "node 'a' (Attention): operator Attention is one of ONNX from opset 23 on, the file declares 17; products of activations "
        "have no event-driven form here: use convolutions or linear layers",
    ),
    "layer normalization": (
        lambda g: g.add("LayerNormalization", name="l"),
        "node 'l' (LayerNormalization): operator LayerNormalization is not supported; normalizes with statistics of each frame: "
        "use BatchNormalization, which folds into weights",
    ),
    "other activations": (
        lambda g: g.conv(2, 2, 3).add("LeakyRelu", name="l"),
        "node 'l' (LeakyRelu): operator LeakyRelu is not supported; train with ReLU",
    ),
    "an operator that nobody knows": (
        lambda g: g.add("Unheard", name="u"),
        "node 'u' (Unheard): operator Unheard is not one of ONNX; leave it out or replace it",
    ),
    "an operator of a runtime": (
        lambda g: g.add("FusedConv", name="f", domain="com.microsoft"),
        "node 'f' (FusedConv): operator com.microsoft.FusedConv is not one of ONNX; export without the optimizations of a "
        "runtime, and without operators of your own",
    ),
    "two branches": (
        lambda g: g.conv(2, 2, 1).add("Add", "image", name="skip"),
        "node 'skip' (Add): must have one input that is not a constant, not 2; branches are not supported: make the network a "
        "chain",
    ),
    "two branches, joined": (
        lambda g: g.conv(2, 2, 1).add("Concat", "image", axis=1, name="join"),
        "node 'join' (Concat): operator Concat is not supported; networks must be a chain: leave out branches",
    ),
    "weights that are data": (
        lambda g: g.add("RandomNormalLike", name="w").add("Flatten").add("MatMul", "image", name="m"),
        "node 'w' (RandomNormalLike): operator RandomNormalLike is not supported; leave it out or replace it",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refusals(tmp_path, what):
    build, message = REFUSED[what]
    path = build(Graph(17)).save(tmp_path / "net.onnx")
    with pytest.raises(ConversionError, match=f"^{re.escape(f'{path}: {message}')}$"):
        import_onnx(path)
    # The report names the same node, with the same words.
    refused = [report for report in report_nodes(path) if not report.supported]
    assert f"node {refused[0].name!r} ({refused[0].operator}): " + "; ".join(
        part for part in (refused[0].what, refused[0].remedy) if part
    ) == message


@pytest.mark.parametrize(
    ("shape", "element", "message"),
    [
        (
            ("n", 3, "h", "w"),
            TensorProto.FLOAT,
            "input 'image' must have shape (frames, channels, height, width), (frames, height, width), "
            "(frames, channels, length) or (frames, features), not ('?', 3, '?', '?')",
        ),
        (("n", 1, 8, 8), TensorProto.INT8, "input 'image' must be of a float type or uint8, not int8"),
        (
            ("n", 1, 8, 8),
            TensorProto.UINT8,
            "node 'relu0' (Relu): must be after a Cast to a float type, as the input is of integers",
        ),
    ],
)
def test_refused_inputs(shape, element, message):
    model = Graph(shape=shape).add("Relu").model()
    model.graph.input[0].type.tensor_type.elem_type = element
    with pytest.raises(ConversionError, match=f"^net: {re.escape(message)}$"):
        import_model(model, "net")


def test_the_report_goes_on_after_what_does_not_convert(tmp_path):
    g = Graph()
    relu_conv(g).add("Mul", np.linspace(0.5, 1, 36).reshape(6, 6), name="bn").conv(4, 3, 3, pads=[1] * 4, name="c2")
    g.add("Tanh", name="tanh")
    g.add("AveragePool", **TWO, name="avg").add("MaxPool", kernel_shape=[2, 2], name="max").add("Flatten").linear(16, 3)
    g.add("Sigmoid", name="sig")
    reports = {report.name: report for report in report_nodes(g.save(tmp_path / "net.onnx"))}
    assert [name for name, report in reports.items() if not report.supported] == ["bn", "tanh", "avg"]
    assert reports["conv0"].what == "convolution 'conv0': kernel 3x3, 8x8x2 to 6x6x3"
    assert reports["relu1"].what == "activation of layer 'conv0'"
    assert (reports["max"].status, reports["flatten7"].status) == ("supported", "folded")


def test_groups_expand_to_zeros():
    network = import_model(channels_last(Graph().conv(4, 1, 3, group=2, name="c")).model(), "net")
    (layer,) = network.layers
    (dense,) = map(expand_groups, network.layers)
    assert (layer.weights.shape, dense.weights.shape, dense.groups) == ((4, 1, 3, 3), (4, 2, 3, 3), 1)
    assert (dense.weights[:2, :1] == layer.weights[:2]).all() and (dense.weights[2:, 1:] == layer.weights[2:]).all()
    assert not dense.weights[:2, 1:].any() and not dense.weights[2:, :1].any()


@pytest.mark.parametrize("construct", ["into a convolution", "into the convolution before", "at the end", "of the input"])
def test_averages_convert(construct):
    """Thresholds are found from tensors that are folded, and the spiking network answers as the float network does."""
    graph = AVERAGE[construct][0](Graph(17))
    network = import_model(graph.model(), "net.onnx")
    images = np.random.default_rng(3).integers(0, 256, (40, 8, 8, 2), dtype=np.uint8)
    labels = network.run((images > 51).astype(np.float32))[0].reshape(40, -1).argmax(axis=1)
    found = convert(network, Dataset(name="own", images=images, labels=labels), Settings(accuracy_budget=0.2), name="own")
    assert found.accuracy_float_1bit == 1.0
    assert run_frames(found.network, images).saturated_events.sum() == 0


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("of_data", [True, False])
def test_a_dropout_that_drops_is_refused_wherever_it_is(of_data, training):
    graph = Graph(17).conv(3, 2, 3).add("Relu").add("Flatten")
    flat, weights = graph.last, graph.rng.normal(0, 0.3, (108, 3)).astype(np.float32)
    graph.constants.append(numpy_helper.from_array(np.array(training), "mode"))
    if of_data:
        graph.add("Dropout", np.float32(0.5), "mode", name="drop").add("MatMul", weights)
    else:
        graph.add("Dropout", np.float32(0.5), "mode", data=graph.constant(weights), name="drop")
        graph.add("MatMul", graph.last, data=flat)
    if training:
        message = "net.onnx: node 'drop' (Dropout): training_mode must be false; export the network in evaluation mode"
        with pytest.raises(ConversionError, match=f"^{re.escape(message)}$"):
            import_model(graph.model(), "net.onnx")
    else:
        same(graph)
