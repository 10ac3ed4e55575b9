"""Nodes that are not what ONNX asks of them, and tensors that do not hold what they say: refused by name, with the cause."""

import warnings

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from model.importers.onnx import ConversionError, examine, import_model
from tests.onnx_graphs import TWO, Graph, linear_end, relu_conv, same


def refusal(model):
    """The line by which a model is refused; no warning of numpy goes with it."""
    model = model.model() if isinstance(model, Graph) else model
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ConversionError) as caught:
            import_model(model, "net.onnx")
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix("net.onnx: ")


def changed(change, graph=None):
    """A model of a convolution, with a change."""
    model = (graph or Graph().conv(3, 2, 3, name="c").add("Relu").add("Flatten").linear(108, 3).add("Sigmoid", name="s")).model()
    change(model)
    return model


def of_indices():
    graph = relu_conv(Graph()).add("MaxPool", **TWO, outputs=2, name="max")
    return graph.add("Cast", data=f"{graph.last}_1", to=TensorProto.FLOAT, name="cast").conv(2, 3, 1)


def indices_at_the_end():
    model = relu_conv(Graph()).add("MaxPool", **TWO, outputs=2, name="max").model()
    model.graph.output[0].name = "t2_1"
    return model


def empty_constant():
    graph = relu_conv(Graph())
    graph.nodes.append(helper.make_node("Constant", [], ["none"], name="k"))
    return graph.add("Add", "none", data="t1")


def narrow(graph, values, kind):
    """A graph with another constant, of a type of its own."""
    graph.constants.append(numpy_helper.from_array(values.astype(kind), f"k{len(graph.constants)}"))
    return graph


def of_undefined_type(model):
    model.graph.node[0].attribute.append(onnx.AttributeProto(name="group", type=onnx.AttributeProto.UNDEFINED))


NODES = {
    "more inputs": (
        lambda: relu_conv(Graph()).add("Relu", "k0", name="r"),
        "node 'r' (Relu): inputs must be 1, not 2",
    ),
    "fewer inputs": (lambda: Graph().add("Conv", name="c"), "node 'c' (Conv): inputs must be 2 to 3, not 1"),
    "inputs of which there may be any number": (
        lambda: relu_conv(Graph()).add("Sum", "", name="s"),
        "node 's' (Sum): input '' must be a constant",
    ),
    "more outputs": (
        lambda: relu_conv(Graph()).add("Flatten", outputs=2, name="f"),
        "node 'f' (Flatten): outputs must be 1, not 2",
    ),
    "an input left out": (
        lambda: changed(lambda model: model.graph.node[0].input.__setitem__(1, "")),
        "node 'c' (Conv): input 'W' must be given",
    ),
    "an attribute of another operator": (
        lambda: changed(lambda model: model.graph.node[4].attribute.append(helper.make_attribute("axis", 1))),
        "node 's' (Sigmoid): attribute 'axis' must be one of opset 17's (none)",
    ),
    "an attribute of another opset": (
        lambda: Graph(13).conv(2, 2, 3).add("Reshape", np.array([0, -1]), allowzero=0, name="r"),
        "node 'r' (Reshape): attribute 'allowzero' must be one of opset 13's (none)",
    ),
    "an attribute twice": (
        lambda: changed(lambda model: model.graph.node[0].attribute.extend(2 * [helper.make_attribute("group", 1)])),
        "node 'c' (Conv): attribute 'group' must be given once",
    ),
    "an attribute of another type": (
        lambda: Graph().conv(3, 2, 3, strides=1, name="c"),
        "node 'c' (Conv): attribute 'strides' must be of type ints, not int",
    ),
    "an attribute of no type": (
        lambda: changed(of_undefined_type),
        "node 'c' (Conv): attribute 'group' must be of type int, not undefined",
    ),
    "an attribute that is missing": (
        lambda: relu_conv(Graph()).add("MaxPool", strides=[2, 2], name="max"),
        "node 'max' (MaxPool): attribute 'kernel_shape' must be given",
    ),
    "an attribute that is no number": (
        lambda: Graph().conv(3, 2, 3).norm(3, epsilon=float("nan"), name="bn"),
        "node 'bn' (BatchNormalization): attribute 'epsilon' must be a finite number, not nan",
    ),
    "an attribute without end": (
        lambda: Graph().add("Flatten").add("Gemm", np.ones((128, 3)), alpha=float("inf"), name="fc"),
        "node 'fc' (Gemm): attribute 'alpha' must be a finite number, not inf",
    ),
    "text that is none": (
        lambda: Graph().conv(3, 2, 3, auto_pad=b"\xff", name="c"),
        "node 'c' (Conv): attribute 'auto_pad' must be text in UTF-8",
    ),
    "no operator": (
        lambda: relu_conv(Graph()).add("", name="e"),
        "node 'e' (no operator): must have an operator; give its op_type one of ONNX's",
    ),
    "no name": (
        lambda: Graph().conv(3, 2, 3).add("Relu", "k0", name=""),
        "node 't1' (Relu): inputs must be 1, not 2",
    ),
    "a constant without a value": (empty_constant, "node 'k' (Constant): must have one attribute with its value, not 0"),
    "another output than the first": (
        of_indices,
        "node 'cast' (Cast): input 't2_1' must be the first output of node 'max' (MaxPool), not its Indices; leave it out",
    ),
    "another output at the end": (
        indices_at_the_end,
        "node 'max' (MaxPool): output of the network must be its first output, not its Indices",
    ),
    "a kernel of no rows": (
        lambda: Graph().add("Conv", np.zeros((3, 2, 0, 3)), name="c"),
        "node 'c' (Conv): weights must have a kernel of at least 1x1 to at least one channel, not 0x3 to 3",
    ),
    "a bias by row": (
        lambda: Graph().add("Conv", np.ones((3, 2, 3, 3)), np.ones((3, 1, 1)), name="c"),
        "node 'c' (Conv): bias must hold one value per channel (3), not shape (3, 1, 1)",
    ),
    "a bias of another size": (
        lambda: Graph().add("Flatten").add("Gemm", np.ones((128, 3)), np.ones(2), name="fc"),
        "node 'fc' (Gemm): bias must hold one value per output (3), not shape (2,)",
    ),
    "statistics of one value": (
        lambda: Graph().conv(3, 2, 3).add("BatchNormalization", *[np.ones(1)] * 4, name="bn"),
        "node 'bn' (BatchNormalization): input 1 must hold one value per channel (3), not shape (1,)",
    ),
    "weights of integers": (
        lambda: Graph().add("Conv", np.ones((3, 2, 3, 3), int), name="c"),
        "node 'c' (Conv): input 'k0' must be of a float type, not int64",
    ),
    "a shape of fractions": (
        lambda: relu_conv(Graph()).add("Reshape", np.array([0.0, -1.0]), name="r"),
        "node 'r' (Reshape): input 'k2' must be a vector of int64, not float32 of (2,)",
    ),
    "a shape of two unknowns": (
        lambda: relu_conv(Graph()).add("Reshape", np.array([0, -1, -1]), name="r"),
        "node 'r' (Reshape): shape must have numbers of at least 0 and -1 at most once, not (0, -1, -1)",
    ),
    "axes of a pad that are none": (
        lambda: Graph(21).add("Pad", np.array([1, 1]), np.array(0.0), np.array([7]), name="p").conv(3, 2, 3),
        "node 'p' (Pad): axes must be different ones within -4..3, not [7]",
    ),
    "a shape of small integers": (
        lambda: narrow(relu_conv(Graph()), np.array([0, -1]), np.int8).add("Reshape", "k2", name="r"),
        "node 'r' (Reshape): input 'k2' must be a vector of int64, not int8 of (2,)",
    ),
    "a switch at 2": (
        lambda: Graph().add("Flatten").add("Gemm", np.ones((3, 128)), transB=2, name="fc"),
        "node 'fc' (Gemm): transB must be 0 or 1, not 2",
    ),
    "dimensions kept by a number": (
        lambda: relu_conv(Graph(13)).add("ReduceMean", axes=[2, 3], keepdims=-1, name="mean"),
        "node 'mean' (ReduceMean): keepdims must be 0 or 1, not -1",
    ),
    "a clip at two numbers": (
        lambda: Graph().conv(3, 2, 3).add("Clip", min=np.zeros(2), max=6.0, name="clip"),
        "node 'clip' (Clip): input 'k2' must be one number of a float type, not float32 of (2,)",
    ),
    "a clip at no number": (
        lambda: Graph().conv(3, 2, 3).add("Clip", min=0.0, max=np.nan, name="clip"),
        "node 'clip' (Clip): input 'k3' must be a number, not nan",
    ),
    "a clip at no number, of an older opset": (
        lambda: Graph(7).conv(3, 2, 3).add("Clip", min=0.0, max=float("nan"), name="clip"),
        "node 'clip' (Clip): attribute 'max' must be a finite number, not nan",
    ),
    "a clip without a lower end": (
        lambda: Graph(7).conv(3, 2, 3).add("Clip", max=6.0, name="clip"),
        "node 'clip' (Clip): must be from 0 to more than 0, or without an upper end, not none to 6.0; train with ReLU",
    ),
    "a cast to what is no type": (
        lambda: relu_conv(Graph()).add("Cast", to=77, name="cast"),
        "node 'cast' (Cast): to must be a float type, not type 77",
    ),
}


@pytest.mark.parametrize("what", NODES)
def test_nodes(what, tmp_path):
    build, message = NODES[what]
    assert refusal(build()) == message
    # The report has the same words, beside what becomes of the other nodes.
    model = build()
    onnx.save(model.model() if isinstance(model, Graph) else model, tmp_path / "net.onnx")
    (refused,) = [report for report in examine(tmp_path / "net.onnx").reports if not report.supported][:1]
    said = f"node {refused.name!r} ({refused.operator}): {refused.what}"
    assert (f"{said}; {refused.remedy}" if refused.remedy else said) == message


def initializer(**fields):
    def change(model):
        for name, value in fields.items():
            if name == "dims":
                model.graph.initializer[0].dims[:] = value
            else:
                setattr(model.graph.initializer[0], name, value)

    return change


FILES = {
    "a size below 0": (initializer(dims=[3, 2, -1, 3]), "initializer 'k0': dims must be at least 0, not -1"),
    "too few numbers": (
        initializer(raw_data=bytes(8)),
        "initializer 'k0': must hold the 54 values of its dims [3, 2, 3, 3], of type float",
    ),
    "a broken number": (
        initializer(raw_data=bytes(215)),
        "initializer 'k0': must hold the 54 values of its dims [3, 2, 3, 3], of type float",
    ),
    "no type of element": (initializer(data_type=0), "initializer 'k0': data_type must be one of ONNX's, not 0"),
    "an unknown type of element": (initializer(data_type=77), "initializer 'k0': data_type must be one of ONNX's, not 77"),
    "a newer form": (
        lambda model: setattr(model, "ir_version", 99),
        f"ir_version must be within 3..{onnx.IR_VERSION}, not 99",
    ),
    "no form": (lambda model: model.ClearField("ir_version"), f"ir_version must be within 3..{onnx.IR_VERSION}, not 0"),
    "two opsets": (
        lambda model: model.opset_import.append(helper.make_opsetid("ai.onnx", 11)),
        "opset of ONNX's operators must be declared once",
    ),
    "an output that is a sequence": (
        lambda model: setattr(model.graph.output[0].type.sequence_type.elem_type.tensor_type, "elem_type", 1),
        "output 't4' must be a tensor, not of sequence_type",
    ),
    "an output of integers": (
        lambda model: setattr(model.graph.output[0].type.tensor_type, "elem_type", TensorProto.INT64),
        "output 't4' must be of a float type, or of integers of at most 16 bits, not int64",
    ),
    "an input that is a sequence": (
        lambda model: setattr(model.graph.input[0].type.sequence_type.elem_type.tensor_type, "elem_type", 1),
        "input 'image' must be a tensor, not of sequence_type",
    ),
    "an input of an unknown type": (
        lambda model: setattr(model.graph.input[0].type.tensor_type, "elem_type", 77),
        "input 'image' must be of a float type or uint8, not type 77",
    ),
}


@pytest.mark.parametrize(("operator", "output"), [("ArgMax", 0), ("TopK", 1)])
def test_an_output_that_chooses_a_class_is_to_be_left_out(operator, output):
    model = Graph().conv(3, 2, 3).add("Flatten").model()
    inputs = [model.graph.output[0].name, *(["one"] if output else [])]
    model.graph.node.append(helper.make_node(operator, inputs, ["score", "class"][1 - output :], name="last"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "one"))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("class", TensorProto.INT64, None))
    assert refusal(model) == (
        "output 'class' must be of a float type, or of integers of at most 16 bits, not int64; "
        f"node 'last' ({operator}): leave it out: the answer is the arg-max of the spike counts"
    )


@pytest.mark.parametrize("what", FILES)
def test_files(what):
    change, message = FILES[what]
    assert refusal(changed(change)) == message


def test_names_are_text():
    """Protobuf writes no others, and reads them."""
    content = Graph().conv(3, 2, 3, name="convolution").model().SerializeToString().replace(b"convolution", b"convoluti\xff\xfe")
    assert refusal(onnx.load_from_string(content)) == "names must be text in UTF-8, not b'convoluti\\xff\\xfe'"


def with_number(value):
    """Weights in float64, one of which is ``value``."""
    graph = Graph().conv(3, 2, 3, name="c")
    weights = numpy_helper.to_array(graph.constants[0]).astype(np.float64)
    weights[0, 0, 0, 0] = value
    graph.constants[0] = numpy_helper.from_array(weights, "k0")
    return graph


def squared_weights():
    graph = Graph().add("Flatten")
    weights = graph.constant(np.full((128, 3), 3e38))
    graph.add("Mul", weights, data=weights)
    return graph.add("MatMul", graph.last, data="t0", name="fc")


HUGE = np.array(3e38)
LARGE = {
    **{
        f"a weight of {value}": (
            lambda value=value: with_number(value),
            "node 'c' (Conv): input 'k0' must be finite numbers of float32, not NaN, infinity or more",
        )
        for value in (1e308, np.inf, np.nan)
    },
    "a constant that is computed": (
        squared_weights,
        "node 'fc' (MatMul): input 't1' must be finite numbers of float32, not NaN, infinity or more",
    ),
    "scales": (
        lambda: Graph().add("Mul", HUGE).add("Mul", HUGE, name="m").conv(3, 2, 3),
        "node 'm' (Mul): scale must be finite numbers of float32, with those before it",
    ),
    "offsets": (
        lambda: Graph().add("Add", HUGE).add("Mul", np.array(2.0), name="m").conv(3, 2, 3),
        "node 'm' (Mul): offset must be finite numbers of float32, with those before it",
    ),
    "many scales": (
        lambda: linear_end(Graph().conv(3, 2, 3, name="c").add("Mul", HUGE, name="m").add("Mul", HUGE), 108),
        "node 'm' (Mul): weights and biases of layer 'c' must be finite numbers of float32 with this folded into them",
    ),
    "a small variance": (
        lambda: Graph().conv(3, 2, 3).add("BatchNormalization", *[np.full(3, 3e38)] * 3, np.full(3, 1e-9), epsilon=0.0, name="b"),
        "node 'b' (BatchNormalization): scale must be finite numbers of float32, with those before it",
    ),
    "a factor of a linear layer": (
        lambda: Graph().add("Flatten").add("Gemm", np.full((128, 3), 3e38), alpha=3e38, name="fc"),
        "layer 'fc': weights and biases must be finite numbers of float32 with what is folded into them",
    ),
    "sums": (
        lambda: relu_conv(Graph()).add("Flatten").add("Gemm", np.full((108, 3), 3e38), name="fc"),
        "layer 'fc': outputs must be finite numbers on frames within 0..1, not NaN or infinity",
    ),
}


@pytest.mark.parametrize("what", LARGE)
def test_numbers_that_are_too_large(what):
    build, message = LARGE[what]
    assert refusal(build()) == message


@pytest.mark.parametrize("opset", [7, 11, 17])
def test_a_clip_without_ends_is_nothing(opset):
    network = same(Graph(opset).conv(3, 2, 3).add("Clip").add("Relu").conv(2, 3, 3))
    assert [layer.relu for layer in network.layers] == [True, False]
    same(Graph(opset).conv(3, 2, 3).add("Clip", min=-3.4e38, max=3.4e38).conv(2, 3, 3))


def test_more_outputs_than_the_first_do_not_matter():
    network = same(linear_end(relu_conv(Graph()).add("MaxPool", **TWO, outputs=2), 27))
    assert [layer.kind for layer in network.layers] == ["convolution", "maxpool", "linear"]
