"""What does not convert: every refusal word for word, with its node and what could be done."""

import re

import numpy as np
import pytest
from onnx import TensorProto

from model.importers.onnx import ConversionError, import_model, import_onnx, report_nodes
from tests.onnx_graphs import TWO, Graph, linear_end, pooled, relu_conv

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
        lambda g: g.add("DynamicQuantizeLinear", name="q").conv(2, 2, 3),
        "node 'q' (DynamicQuantizeLinear): operator DynamicQuantizeLinear is not one of a quantized file that is read; quantize "
        "with QuantizeLinear and DequantizeLinear (static), or export the float network",
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
        lambda g: g.conv(2, 2, 1).add("Mul", "image", name="gate"),
        "node 'gate' (Mul): must have one input that is not a constant, not 2; branches are joined by Add, Sub or Sum of tensors "
        "of one shape, and by Concat along the channels",
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
    g.add("Elu", name="elu")
    g.add("AveragePool", **TWO, name="avg").add("MaxPool", kernel_shape=[2, 2], name="max").add("Flatten").linear(16, 3)
    g.add("Sigmoid", name="sig")
    reports = {report.name: report for report in report_nodes(g.save(tmp_path / "net.onnx"))}
    assert [name for name, report in reports.items() if not report.supported] == ["bn", "elu", "avg"]
    assert reports["conv0"].what == "convolution 'conv0': kernel 3x3, 8x8x2 to 6x6x3"
    assert reports["relu1"].what == "activation of layer 'conv0'"
    assert (reports["max"].status, reports["flatten7"].status) == ("supported", "folded")
