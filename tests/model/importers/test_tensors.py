"""Axes moved, joined and taken apart, and what passes a tensor on, in several opsets, against ONNX's own reference."""

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from model.importers.float_network import ConversionError
from model.importers.onnx import import_model, report_nodes
from tests.onnx_graphs import OPSETS, Graph, head, kinds, relu_conv, run_layers, same

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


def test_a_reshape_that_allows_zeros():
    """PyTorch's exporter sets ``allowzero`` whatever the target; it says something of a 0 in there only."""
    same(relu_conv(Graph(17)).add("Reshape", np.array([-1, 108]), allowzero=1).linear(108, 3))
    graph = relu_conv(Graph(17)).add("Reshape", np.array([0, 108]), allowzero=1, name="r").linear(108, 3)
    with pytest.raises(ConversionError) as raised:
        import_model(graph.model(), "network")
    assert raised.value.args == (
        "network: node 'r' (Reshape): allowzero must be 0, not 1, where the target has a 0: (0, 108)",
    )


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
