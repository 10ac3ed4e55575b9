"""Scales, offsets and averages that fold into layers, in several opsets, against ONNX's own reference."""

import numpy as np
import pytest
from onnx import TensorProto

from model.conversion.convert import convert
from model.conversion.quantize import Settings
from model.engine.engine import run_frames
from model.importers.onnx import import_model
from model.support.datasets import Dataset
from tests.onnx_graphs import OPSETS, TWO, Graph, channels_last, head, kinds, pooled, relu_conv, same

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


@pytest.mark.parametrize("construct", ["into a convolution", "into the convolution before", "at the end", "of the input"])
def test_averages_convert(construct):
    """Thresholds are found from tensors that are folded, and the spiking network answers as the float network does."""
    graph = AVERAGE[construct][0](Graph(17))
    network = import_model(graph.model(), "net.onnx")
    images = np.random.default_rng(3).integers(0, 256, (40, 8, 8, 2), dtype=np.uint8)
    labels = network.run((images > 51).astype(np.float32))[0].reshape(40, -1).argmax(axis=1)
    settings = Settings(accuracy_budget=0.2, input_levels=1)
    found = convert(network, Dataset(name="own", images=images, labels=labels), settings, name="own")
    assert found.accuracy_float_1bit == 1.0
    assert run_frames(found.network, images).saturated_events.sum() == 0
