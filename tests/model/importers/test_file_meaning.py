"""What a file means where its nodes alone do not say it: layouts, one dimension, several outputs, types, the order of outputs."""

import re
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from model.conversion.convert import convert
from model.conversion.quantize import Settings
from model.engine.engine import run_frames
from model.importers.agreement import check_agreement
from model.importers.onnx import ConversionError, examine, import_model, import_onnx
from model.network import Padding, Shape
from model.support.datasets import Dataset
from tests.onnx_graphs import OPSETS, Graph, run_layers

RNG = np.random.default_rng(7)


def outputs(network, images):
    """What the layers give, by address."""
    return run_layers(network, images)[-1][1].reshape(len(images), -1)


def agrees(network, images):
    """The layers give what ONNX Runtime gives, in the file's order."""
    assert np.allclose(outputs(network, images), network.run(images)[0].reshape(len(images), -1), atol=1e-4)


def refused(message, graph, **options):
    with pytest.raises(ConversionError, match=f"^{re.escape(message)}$"):
        import_model(graph.model() if isinstance(graph, Graph) else graph, "net.onnx", **options)


# Layouts.


def dense(*shape, reshape=False):
    size = int(np.prod(shape))
    g = Graph(shape=("frames", *shape))
    return (g.add("Reshape", np.array([-1, size])) if reshape else g.add("Flatten")).linear(size, 8).add("Relu").linear(8, 3)


@pytest.mark.parametrize("reshape", [False, True])
def test_the_shape_of_the_data_decides_between_layouts(reshape):
    graph = dense(6, 5, 2, reshape=reshape)
    first, last = ({"input_shape": shape} for shape in ((5, 2, 6), (6, 5, 2)))
    assert import_model(graph.model(), "net.onnx").input_shape == Shape(5, 2, 6)
    for options, shape in ((first, Shape(5, 2, 6)), (last, Shape(6, 5, 2)), ({"layout": "nhwc"}, Shape(6, 5, 2))):
        network = import_model(graph.model(), "net.onnx", **options)
        assert network.input_shape == shape
        images = RNG.random((4, *shape))
        agrees(network, images)
        # The file itself, fed as it is meant to be.
        fed = images if shape == Shape(6, 5, 2) else images.transpose(0, 3, 1, 2)
        assert np.allclose(outputs(network, images), whole_file(graph.model(), fed), atol=1e-4)


def whole_file(model, fed):
    return onnx.reference.ReferenceEvaluator(model).run(None, {"image": fed.astype(np.float32)})[0].reshape(len(fed), -1)


def test_where_both_layouts_fit_one_has_to_be_given():
    graph = dense(3, 3, 3)
    message = (
        "net.onnx: input 'image' of 3x3x3 may have its channels first or last, and neither its nodes nor its shape say which; "
        "give --layout nchw or nhwc"
    )
    refused(message, graph)
    refused(message, graph, input_shape=(3, 3, 3))
    images = RNG.random((4, 3, 3, 3))
    first, last = (import_model(graph.model(), "net.onnx", layout=layout) for layout in ("nchw", "nhwc"))
    assert np.allclose(outputs(first, images), whole_file(graph.model(), images.transpose(0, 3, 1, 2)), atol=1e-4)
    assert np.allclose(outputs(last, images), whole_file(graph.model(), images), atol=1e-4)
    refused("net.onnx: layout must be one of nchw, nhwc, not 'chwn'", graph, layout="chwn")


def test_a_convolution_says_its_layout():
    graph = Graph(shape=("frames", 3, 3, 3)).conv(2, 3, 2).add("Flatten").linear(8, 2)
    assert not import_model(graph.model(), "net.onnx").channels_last
    with pytest.raises(ConversionError, match=re.escape("(Conv): input must be (frames, channels, height, width)")):
        import_model(graph.model(), "net.onnx", layout="nhwc")


def test_data_of_no_layout_is_told_both():
    refused(
        "net.onnx: input 'image' must have the shape of the frames (14, 14, 1), not (5, 2, 6) or (6, 5, 2)",
        dense(6, 5, 2),
        input_shape=(14, 14, 1),
    )
    # Where there is one shape only, whoever brings the frames says that they do not fit.
    graph = Graph().conv(3, 2, 3).add("Flatten").linear(108, 3)
    assert import_model(graph.model(), "net.onnx", input_shape=(14, 14, 1)).input_shape == Shape(8, 8, 2)


def test_a_vector_may_be_a_flattened_frame():
    graph = Graph(shape=("frames", 30)).linear(30, 4)
    assert import_model(graph.model(), "net.onnx").input_shape == Shape(1, 1, 30)
    images = RNG.random((3, 6, 5, 1))
    network = import_model(graph.model(), "net.onnx", input_shape=(6, 5, 1))
    assert np.allclose(outputs(network, images), whole_file(graph.model(), images.reshape(3, 30)), atol=1e-4)
    refused(
        "net.onnx: input 'image' of 30 may have its channels first or last, and neither its nodes nor its shape say which; "
        "give --layout nchw or nhwc",
        graph,
        input_shape=(3, 5, 2),
    )
    images = RNG.random((3, 3, 5, 2))
    network = import_model(graph.model(), "net.onnx", input_shape=(3, 5, 2), layout="nchw")
    fed = images.transpose(0, 3, 1, 2).reshape(3, 30)
    assert np.allclose(outputs(network, images), whole_file(graph.model(), fed), atol=1e-4)


def test_a_reshape_in_place_of_a_transpose_of_one_channel():
    graph = Graph(shape=("frames", 8, 8, 1)).add("Reshape", np.array([-1, 1, 8, 8])).conv(3, 1, 3).add("Relu")
    network = import_model(graph.add("Flatten").linear(108, 2).model(), "net.onnx")
    assert (network.input_shape, network.channels_last) == (Shape(8, 8, 1), True)
    agrees(network, RNG.random((3, 8, 8, 1)))


# One dimension.


def sequence(opset=13):
    """A convolution, max-pool, average and batch normalization of one dimension."""
    g = Graph(opset, shape=("frames", 2, 32))
    g.add("Conv", g.rng.normal(0, 0.5, (4, 2, 5)), g.rng.normal(0, 0.3, 4), kernel_shape=[5], pads=[2, 1], strides=[2], name="c1")
    g.norm(4).add("Relu").add("MaxPool", kernel_shape=[2], strides=[2], name="max")
    g.add("Conv", g.rng.normal(0, 0.5, (6, 2, 3)), group=2, dilations=[2], name="c2").add("Relu")
    g.add("AveragePool", kernel_shape=[2], strides=[2], name="mean")
    return g.add("Flatten").linear(12, 3)


@pytest.mark.parametrize("opset", OPSETS)
def test_one_dimension(opset):
    network = import_model(sequence(opset).model(), "net.onnx")
    assert network.input_shape == Shape(1, 32, 2)
    assert [(layer.kind, layer.window, layer.stride) for layer in network.layers] == [
        ("convolution", (1, 5), (1, 2)),
        ("maxpool", (1, 2), (1, 2)),
        ("convolution", (1, 5), (1, 1)),
        ("linear", (1, 1), (1, 1)),
    ]
    assert network.layers[0].padding == Padding(0, 2, 0, 1)
    agrees(network, RNG.random((4, 1, 32, 2)))


@pytest.mark.parametrize(("axis", "shape"), [(2, Shape(1, 32, 2)), (3, Shape(32, 1, 2))])
def test_one_dimension_as_frameworks_write_it(axis, shape):
    """Channels last, a Transpose, and a convolution of two dimensions between Unsqueeze and Squeeze."""
    g = Graph(13, shape=("frames", 32, 2)).add("Transpose", perm=[0, 2, 1]).add("Unsqueeze", axes=[axis])
    kernel, strides = ((1, 5), [1, 2]) if axis == 2 else ((5, 1), [2, 1])
    g.conv(4, 2, kernel, strides=strides).add("Squeeze", axes=[axis]).add("Relu").add("MaxPool", kernel_shape=[2], strides=[2])
    network = import_model(g.add("Transpose", perm=[0, 2, 1]).add("Flatten").linear(28, 3).model(), "net.onnx")
    assert (network.input_shape, network.channels_last) == (shape, True)
    agrees(network, RNG.random((4, *shape)))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: Graph(shape=("frames", 2, 32)).add("Conv", np.ones((4, 2, 1, 5)), name="c"),
            "node 'c' (Conv): weights must have 3 dimensions, as its input has, not 4",
        ),
        (
            lambda: sequence().add("Unsqueeze", axes=[2]).add("Transpose", perm=[0, 2, 1]).conv(2, 3, 3, name="c"),
            "node 'c' (Conv): input must be (frames, channels, length), not (frames, 1, channels); Transpose nodes around it "
            "must come in pairs",
        ),
        (
            lambda: Graph(shape=("frames", 2, 32)).add("MaxPool", kernel_shape=[2, 2], name="p"),
            "node 'p' (MaxPool): kernel_shape must be one number of at least 1, not [2, 2]",
        ),
    ],
)
def test_what_one_dimension_cannot_be(build, message):
    refused(f"net.onnx: {message}", build())


# Several outputs.


def two_outputs(path=None):
    g = Graph(shape=("frames", 1, 8, 8)).conv(4, 1, 3).add("Relu").add("Flatten")
    features = g.last
    model = g.linear(144, 3).add("Softmax", name="odd").model()
    model.graph.output.append(helper.make_empty_tensor_value_info(features))
    # A node of another output that does not convert does not matter.
    model.graph.node.append(helper.make_node("Elu", [features], ["other"]))
    model.graph.output.append(helper.make_empty_tensor_value_info("other"))
    if path:
        onnx.save(model, path)
    return model, features


def test_one_of_several_outputs(tmp_path):
    model, features = two_outputs(tmp_path / "net.onnx")
    refused("net.onnx: output must be chosen with --output: there are 3: 't4', 't2', 'other'", model)
    refused("net.onnx: output must be one of 't4', 't2', 'other', not 't1'", model, output="t1")
    images = RNG.random((4, 8, 8, 1))
    scores, flat = (import_onnx(tmp_path / "net.onnx", output=name) for name in ("t4", features))
    assert [layer.kind for layer in scores.layers] == ["convolution", "linear"]
    for network in (scores, flat):
        agrees(network, images)
    fed = images.transpose(0, 3, 1, 2).astype(np.float32)
    expected = onnx.reference.ReferenceEvaluator(model).run([features], {"image": fed})
    assert np.allclose(outputs(flat, images), expected[0], atol=1e-4)
    assert [report.status for report in examine(tmp_path / "net.onnx", output=features).reports] == [
        *("supported", "folded", "folded"),
        *["folded"] * 3,
    ]
    assert examine(tmp_path / "net.onnx", output="other").network is None


# The order of outputs, and what may stand after them.


def quadrants():
    """Frames that are bright in one quadrant, left or right half of it, of eight classes in the order (c, y, x)."""
    images, labels = np.zeros((80, 8, 8), np.uint8), np.arange(80) % 8
    for image, label in zip(images, labels, strict=True):
        channel, row, column = np.unravel_index(label, (2, 2, 2))
        image[row * 4 : row * 4 + 4, column * 4 + channel * 2 : column * 4 + channel * 2 + 2] = 255
    return Dataset(name="quadrants", images=images[..., None], labels=labels.astype(np.int64))


def halves(*ends, **attributes):
    weights = np.full((2, 1, 4, 4), -0.5)
    weights[0, :, :, :2] = weights[1, :, :, 2:] = 1.0
    g = Graph(shape=("frames", 1, 8, 8)).add("Conv", weights, strides=[4, 4], name="conv", **attributes)
    for end in ends:
        g.add(end)
    return g


@pytest.mark.parametrize("ends", [(), ("Flatten",), ("Relu",), ("Relu", "Flatten"), ("Sigmoid",), ("Flatten", "Sigmoid")])
def test_a_convolution_at_the_end_answers_in_the_order_of_the_file(ends):
    data, network = quadrants(), import_model(halves(*ends).model(), "net.onnx")
    assert [(layer.kind, layer.name) for layer in network.layers] == [("linear", "conv")]
    found = convert(network, data, Settings(), name="net")
    assert (found.accuracy_float, found.accuracy_snn) == (1.0, 1.0)
    assert (run_frames(found.network, data.images).counts.argmax(axis=1) == data.labels).all()


def test_channels_last_at_the_end_need_no_order():
    network = import_model(halves().add("Transpose", perm=[0, 2, 3, 1]).add("Flatten").model(), "net.onnx")
    assert [layer.kind for layer in network.layers] == ["convolution"]
    agrees(network, RNG.random((3, 8, 8, 1)))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize(
    "build",
    [
        lambda g: g.conv(4, 1, 3, group=2, pads=[1, 0, 2, 1], strides=[2, 3]).norm(4).add("Relu"),
        lambda g: g.conv(3, 2, 3).add("AveragePool", kernel_shape=[2, 2], strides=[2, 2]),
        lambda g: g.conv(3, 2, 3).add("Relu").add("MaxPool", kernel_shape=[2, 2], strides=[2, 2]).add("Flatten"),
        lambda g: g.conv(3, 2, 3).add("Relu").add("MaxPool", kernel_shape=[2, 2], strides=[2, 2]).norm(3, least=0.1),
        lambda g: g.conv(3, 2, 3).add("Transpose", perm=[0, 3, 1, 2]),
        lambda g: g.conv(3, 2, 5).add("Add", np.linspace(0, 1, 48).reshape(3, 4, 4)),
    ],
)
def test_the_order_of_other_ends(opset, build):
    network = import_model(build(Graph(opset)).model(), "net.onnx")
    agrees(network, RNG.random((3, 8, 8, 2)))
    last = network.layers[-1]
    assert (last.kind, np.allclose(network.run(RNG.random((3, 8, 8, 2)), [last.tensor])[0].shape[1:], 0)) == ("linear", False)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("size", [1, 4])
def test_a_final_sigmoid_is_left_out(opset, size, tmp_path):
    graph = Graph(opset).conv(3, 2, 3).add("Relu").add("Flatten").linear(108, size).add("Sigmoid", name="end")
    path = graph.save(tmp_path / "net.onnx")
    found = examine(path)
    assert found.reports[-1].what == {
        1: "nothing: of one output, more than 0.5 is more than 0 in front of it",
        4: "nothing: does not change the arg-max",
    }[size]
    images = RNG.random((5, 8, 8, 2))
    agrees(found.network, images)
    scores, shares = found.network.run(images)[0], whole_file(graph.model(), images.transpose(0, 3, 1, 2))
    assert np.allclose(shares, 1 / (1 + np.exp(-scores)), atol=1e-5)
    assert ((shares > 0.5) == (scores > 0)).all()


@pytest.mark.parametrize("size", [1, 4])
def test_a_final_tanh_is_left_out(size, tmp_path):
    graph = Graph().conv(3, 2, 3).add("Relu").add("Flatten").linear(108, size).add("Tanh", name="end")
    found = examine(graph.save(tmp_path / "net.onnx"))
    assert found.reports[-1].what == {
        1: "nothing: of one output, more than 0 is more than 0 in front of it",
        4: "nothing: does not change the arg-max",
    }[size]
    images = RNG.random((5, 8, 8, 2))
    agrees(found.network, images)
    scores, shares = found.network.run(images)[0], whole_file(graph.model(), images.transpose(0, 3, 1, 2))
    assert np.allclose(shares, np.tanh(scores), atol=1e-5)


def test_a_sigmoid_or_softmax_elsewhere_is_refused():
    refused(
        "net.onnx: node 't' (Tanh): is supported at the network's end only; train with ReLU",
        Graph().conv(3, 2, 3).add("Tanh", name="t").conv(3, 3, 3),
    )
    refused(
        "net.onnx: node 's' (Sigmoid): is supported at the network's end only; train with ReLU",
        Graph().conv(3, 2, 3).add("Sigmoid", name="s").conv(3, 3, 3),
    )
    refused(
        "net.onnx: node 's' (Softmax): must be over at least two outputs: of one it is always 1; leave it out, or use Sigmoid",
        Graph().add("Flatten").linear(128, 1).add("Softmax", axis=1, name="s"),
    )


# Types.


@pytest.mark.parametrize("kind", [TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_other_floats_are_run_in_float32(kind):
    """ONNX Runtime has no convolution of two of these types; a Cast on the way is one to float32."""
    g = Graph().conv(3, 2, 3).add("Relu").add("Cast", to=kind).add("Flatten").linear(108, 3)
    model = g.model()
    model.graph.input[0].type.tensor_type.elem_type = kind
    plain = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    narrow = [helper.make_tensor(f"k{n}", kind, array.shape, array.reshape(-1)) for n, array in enumerate(plain)]
    del model.graph.initializer[:]
    model.graph.initializer.extend(narrow)
    network = import_model(model, "net.onnx")
    for (weights, bias), layer in zip((narrow[:2], narrow[2:]), network.layers, strict=True):
        expected = numpy_helper.to_array(weights).astype(np.float64)
        assert np.allclose(np.sort(layer.weights.reshape(-1)), np.sort(expected.reshape(-1)), rtol=0, atol=0)
        assert (layer.bias == numpy_helper.to_array(bias).astype(np.float64)).all()
    agrees(network, RNG.random((4, 8, 8, 2)))


# Messages that name the cause.


def test_nodes_need_not_be_in_order():
    model = Graph().conv(3, 2, 3).add("Relu").add("Flatten").linear(108, 3).model()
    nodes = list(model.graph.node)
    expected = import_model(model, "net.onnx")
    del model.graph.node[:]
    model.graph.node.extend(nodes[::-1])
    network = import_model(model, "net.onnx")
    images = RNG.random((3, 8, 8, 2))
    assert (outputs(network, images) == outputs(expected, images)).all()
    agrees(network, images)


@pytest.mark.parametrize("opset", [10, 13, 19, 21])
def test_quantized_weights_are_read_in_every_opset(opset):
    g = Graph(opset, shape=("frames", 1, 8, 8)).add("Flatten", name="flat")
    integers = RNG.integers(-9, 9, (64, 3)).astype(np.int8)
    g.constants.append(numpy_helper.from_array(integers, "q"))
    g.constants.append(numpy_helper.from_array(np.int8(0), "zero"))
    data = g.last
    g.add("DequantizeLinear", np.array(0.1), "zero", data="q", name="dq")
    weights = g.last
    g.add("MatMul", weights, data=data, name="fc")
    (layer,) = import_model(g.model(), "net.onnx").layers
    assert (layer.weights == integers.T * np.float64(np.float32(0.1))).all() and layer.quantizer is None


@pytest.mark.parametrize(
    ("operator", "domain", "message"),
    [
        (
            "MultiThreshold",
            "qonnx.custom_op.general",
            "operator qonnx.custom_op.general.MultiThreshold is not one of a quantized file that is read; quantize with "
            "QuantizeLinear and DequantizeLinear (static), or export the float network",
        ),
        (
            "Relu",
            "com.example",
            "operator com.example.Relu is not one of ONNX; export without the optimizations of a runtime, and without operators "
            "of your own",
        ),
        ("relu", "", "operator relu is not one of ONNX; it is written Relu"),
        ("Gelu", "", "operator Gelu is one of ONNX from opset 20 on, the file declares 17; train with ReLU"),
    ],
)
def test_operators_are_named_with_whose_they_are(operator, domain, message):
    g = Graph().conv(3, 2, 3)
    g.nodes.append(helper.make_node(operator, [g.last], ["odd"], name="odd", domain=domain))
    g.last = "odd"
    refused(f"net.onnx: node 'odd' ({operator}): {message}", g)


@pytest.mark.parametrize("opset", [1, 6, 99])
def test_opsets(opset):
    newest = onnx.defs.onnx_opset_version()
    model = Graph().conv(3, 2, 3).model()
    model.opset_import[0].version = opset
    refused(
        f"net.onnx: opset of ONNX's operators must be within 7..{newest}, not {opset}; export with opset_version=17", model
    )
    del model.opset_import[:]
    refused(f"net.onnx: opset of ONNX's operators must be within 7..{newest}, not None; export with opset_version=17", model)


def test_what_nobody_gives():
    model = Graph().conv(3, 2, 3, name="c").model()
    model.graph.node[0].input[1] = "gone"
    refused("net.onnx: node 'c' (Conv): input 'gone' must be an input, an initializer or another node's output", model)
    model = Graph().conv(3, 2, 3, name="c").model()
    model.graph.output[0].name = "gone"
    refused("net.onnx: output 'gone' must be the output of a node", model)
    model = Graph().conv(3, 2, 3, name="c").add("Add", "second").model()
    model.graph.input.append(helper.make_tensor_value_info("second", TensorProto.FLOAT, [1, 3, 6, 6]))
    refused("net.onnx: output 't1' must depend on one input, not on 2: 'image', 'second'", model)


# The comparison with ONNX Runtime.


def test_what_is_read_in_another_way_than_onnx_runtime_runs_it_is_refused():
    """ONNX Runtime shifts a window whose stride is far beyond it, which ONNX does not say."""
    with pytest.raises(ConversionError) as error:
        import_model(Graph().conv(3, 2, (4, 3), auto_pad="SAME_UPPER", strides=[10, 2]).model(), "net.onnx")
    assert re.fullmatch(
        r"net.onnx: layers must give what ONNX Runtime gives on random frames, not outputs of up to [0-9.]+ that differ by "
        "[0-9.]+; report this file",
        str(error.value),
    )


def test_a_wrong_reading_does_not_pass():
    """Layers that differ in a bias, in the order of outputs, or in their number are told from those of the file."""
    network = import_model(Graph().conv(3, 2, 3).add("Relu").add("Flatten").linear(108, 3).model(), "net.onnx")
    check_agreement(network)
    first, last = network.layers
    wrong = {
        "bias": [replace(first, bias=first.bias + 0.05), last],
        "no ReLU": [replace(first, relu=False), last],
        "order": [first, replace(last, weights=last.weights[[1, 0, 2]], bias=last.bias[[1, 0, 2]])],
        "addresses": [first, replace(last, weights=np.roll(last.weights, 1, axis=1))],
    }
    for layers in wrong.values():
        with pytest.raises(ConversionError, match=r"^net\.onnx: layers must give what ONNX Runtime gives on random frames, not "):
            check_agreement(replace(network, layers=tuple(layers)))
    fewer = [first, replace(last, weights=last.weights[:2], bias=last.bias[:2])]
    with pytest.raises(
        ConversionError, match=r"^net\.onnx: layers must give as many outputs as ONNX Runtime, 3, not 2; report this file$"
    ):
        check_agreement(replace(network, layers=tuple(fewer)))
