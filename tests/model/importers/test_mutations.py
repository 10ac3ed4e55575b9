"""Files with anything changed: refused in one line that names where, or read as ONNX Runtime runs them; never a warning."""

import copy
import random
import re
import warnings

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, helper, numpy_helper

from model.importers.onnx import import_model
from model.support.errors import BadInputError
from tests.onnx_graphs import TWO, Graph

INTEGERS = (-(2**63), -100, -1, 0, 1, 2, 3, 5, 7, 100, 2**31, 2**40, 2**62)
NUMBERS = (0.0, -1.0, 0.5, 3e38, float("nan"), float("inf"), float("-inf"))
OPERATORS = (
    *("", "Relu", "Conv", "Gemm", "MatMul", "MaxPool", "Clip", "Flatten", "Reshape", "Squeeze", "Constant", "Cast", "Shape"),
    *("BatchNormalization", "Pad", "Foo", "Softmax", "Add", "Div", "ReduceMean", "AveragePool", "Transpose", "Range", "Split",
    *("Concat", "Sum", "Sub")),
)
ATTRIBUTES = (
    *("foo", "axis", "axes", "kernel_shape", "pads", "group", "alpha", "transA", "epsilon", "min", "max", "to", "perm", "mode"),
    *("keepdims", "value", "strides", "dilations", "ceil_mode", "auto_pad", "training_mode", "allowzero", "storage_order"),
)


def graphs():
    """Chains that have every operator of the import among them, and a graph."""
    graph = Graph().conv(3, 2, 3, pads=[1] * 4).norm(3).add("Relu").add("MaxPool", **TWO)
    graph.conv(4, 3, 3, pads=[1] * 4, strides=[1, 1], dilations=[1, 1], group=1).add("Clip", min=0.0, max=6.0)
    yield graph.add("AveragePool", **TWO, count_include_pad=0).add("Flatten", axis=1).linear(16, 5).add("Softmax", axis=1)
    graph = Graph(13).add("Pad", pads=[0, 0, 1, 1, 0, 0, 1, 1]).conv(3, 2, 3, auto_pad="VALID").add("Relu")
    graph.add("ReduceMean", axes=[2, 3], keepdims=0).add("MatMul", graph.rng.normal(0, 0.3, (3, 4)))
    yield graph.add("Add", graph.rng.normal(0, 0.3, 4)).add("Sigmoid")
    graph = Graph(shape=("frames", 8, 8, 2)).add("Transpose", perm=[0, 3, 1, 2]).add("Mul", np.array(2.0)).conv(3, 2, 3)
    graph.add("Relu").add("GlobalAveragePool").add("Squeeze", axes=[2, 3]).add("Unsqueeze", axes=[2, 3])
    yield graph.add("Reshape", np.array([0, -1])).add("Cast", to=1).add("Dropout").linear(3, 2)
    graph = Graph(shape=("frames", 2, 32)).add("Conv", np.ones((4, 2, 5)), np.ones(4), pads=[2, 1], strides=[2]).norm(4)
    graph.add("Relu").add("MaxPool", kernel_shape=[2], strides=[2], ceil_mode=0).add("GlobalMaxPool")
    yield graph.add("Flatten").linear(4, 2)
    graph = Graph().conv(3, 2, 3).add("Relu").add("Flatten")
    flat, target = graph.last, numpy_helper.from_array(np.array([0, -1]))
    graph.nodes.append(helper.make_node("Constant", [], ["target"], value=target))
    graph.add("Transpose", data=graph.constant(graph.rng.normal(0, 0.3, (3, 108))), perm=[1, 0]).add("Identity")
    weights = graph.last
    yield graph.add("Reshape", "target", data=flat).add("MatMul", weights)
    graph = Graph().conv(3, 2, 3, pads=[1] * 4).add("Relu")
    first = graph.last
    graph.norm(3).add("Relu").conv(3, 3, 3, pads=[1] * 4).add("Add", first).add("Sub", first, data=graph.last)
    graph.add("Concat", first, axis=1).norm(6).add("Clip", min=0.0, max=6.0).add("MaxPool", **TWO)
    yield graph.add("Sum", graph.last).conv(2, 6, 1).add("GlobalAveragePool").add("Concat", graph.last, axis=1).add("Flatten")


def any_attribute(name, chance):
    """An attribute of any type and value."""
    kind = chance.randrange(7)
    if kind == 0:
        return AttributeProto(name=name, type=chance.choice(AttributeProto.AttributeType.values()))
    values = (
        chance.choice(INTEGERS), chance.choice(NUMBERS), chance.choice(("", "SAME_UPPER", "x", "reflect")), [1.5, 2.5],
        [chance.choice(INTEGERS) for _ in range(chance.randint(1, 5))], numpy_helper.from_array(np.ones(1, np.float32)),
    )  # fmt: skip
    return helper.make_attribute(name, values[kind - 1])


def change_attribute(node, chance):
    """One attribute of a node without a number, with another, twice, of another type, or not there."""
    if not node.attribute or chance.random() < 0.3:
        node.attribute.append(any_attribute(chance.choice(ATTRIBUTES), chance))
        return
    attribute = chance.choice(node.attribute)
    kind = chance.randrange(5)
    if kind < 2 and attribute.ints:
        at = chance.randrange(len(attribute.ints))
        attribute.ints[at : at + chance.randrange(2)] = [chance.choice(INTEGERS)] * chance.randrange(3)
    elif kind == 2:
        node.attribute.append(copy.deepcopy(attribute))
    elif kind == 3:
        node.attribute.remove(attribute)
    else:
        attribute.CopyFrom(any_attribute(attribute.name, chance))


def change_links(graph, node, chance):
    """An input or output of a node that is more, less, or another."""
    tensors = [t.name for t in graph.initializer] + [name for one in graph.node for name in one.output] + ["image", "", "none"]
    links = chance.choice((node.input, node.input, node.output))
    kind = chance.randrange(3)
    if kind == 0:
        links.append(chance.choice(tensors))
    elif links and kind == 1:
        del links[chance.randrange(len(links))]
    elif links:
        links[chance.randrange(len(links))] = chance.choice(tensors)


def change_tensor(tensor, chance):
    """Sizes, type, bytes, name or numbers of an initializer."""
    array, kind = numpy_helper.to_array(tensor), chance.randrange(6)
    if kind == 0:
        tensor.dims[:] = [chance.choice((-1, 0, 1, 2, 3, 2**40, *array.shape)) for _ in range(chance.randint(0, 4))]
    elif kind == 1:
        tensor.data_type = chance.randrange(30)
    elif kind == 2:
        tensor.raw_data = tensor.raw_data[: -chance.randint(1, 9)]
    elif kind == 3:
        other = chance.choice((np.float64, np.int32, np.int64, np.float16, bool, np.uint8, np.complex64))
        tensor.CopyFrom(numpy_helper.from_array(array.astype(other), tensor.name))
    elif kind == 4 and array.dtype.kind == "f":
        array = array.astype(np.float64)
        array.flat[chance.randrange(array.size)] = chance.choice((1e308, 1e-300, *NUMBERS))
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    else:
        shapes = (array.reshape(-1), array[None], array.reshape(-1)[1:], array.reshape(-1)[:0])
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(chance.choice(shapes)), tensor.name))


def change_file(model, chance):
    """What a file says of itself, of its input and of its output."""
    value = chance.choice((model.graph.input[0], model.graph.output[0]))
    kind = chance.randrange(6)
    if kind == 0:
        model.ir_version = chance.choice((-1, 0, 2, 3, 99, 2**40))
    elif kind == 1:
        model.opset_import[0].version = chance.choice((-1, 0, 1, 7, 9, 11, 13, 18, 20, 21, 23, 99))
    elif kind == 2:
        value.type.sequence_type.elem_type.tensor_type.elem_type = 1
    elif kind == 3:
        value.type.tensor_type.elem_type = chance.randrange(30)
    elif kind == 4 and value.type.tensor_type.shape.dim:
        chance.choice(value.type.tensor_type.shape.dim).dim_value = chance.choice(INTEGERS)
    else:
        value.name = chance.choice(("", "other"))


def mutated(model, chance):
    """A copy with one or two things changed."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    tensors = chance.sample(list(found.graph.initializer), 2)
    for tensor in tensors[: chance.randint(1, 2)]:
        node, kind = chance.choice(found.graph.node), chance.randrange(12)
        if kind < 4:
            change_attribute(node, chance)
        elif kind < 7:
            change_links(found.graph, node, chance)
        elif kind == 7:
            node.op_type = chance.choice(OPERATORS)
        elif kind < 11:
            change_tensor(tensor, chance)
        else:
            change_file(found, chance)
    return found


NAMED = re.compile(
    r"net: (node '.*' \(|initializer '|tensor '|input '|output '|layer '|opset of |ir_version must|must have a Conv)", re.DOTALL
)


@pytest.mark.parametrize("seed", range(5))
def test_mutated_files(seed):
    """The comparison with ONNX Runtime, which every import ends with, holds what is read to what the file means."""
    chance, models = random.Random(seed), [graph.model() for graph in graphs()]
    accepted = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(150):
            model = mutated(chance.choice(models), chance)
            try:
                import_model(model, "net")
                accepted += 1
            except BadInputError as error:
                message = str(error)
                assert NAMED.match(message) and "\n" not in message and len(message) < 1500, message
                assert "out of the ordinary" not in message and "report this file" not in message, message
    assert 0 < accepted < 75
