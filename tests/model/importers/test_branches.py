"""Graphs with branches: each joined tensor becomes inputs of a layer, and every layer is what ONNX's reference gives."""

import re

import numpy as np
import pytest

from model.importers.onnx import ConversionError, import_model, report_nodes
from sim.generators.random_onnx_graphs import RandomGraph
from tests.onnx_graphs import TWO, Graph, kinds, same

SAME = {"pads": [1] * 4}


def inputs(network):
    """Of each layer the sources of its inputs."""
    return {layer.name: [taken.source for taken in layer.inputs] for layer in network.layers}


def stem(channels=3):
    """A graph with a first layer, and its output."""
    graph = Graph()
    graph.conv(channels, 2, 3, **SAME, name="stem").add("Relu")
    return graph, graph.last


def end(graph, channels, outputs=3):
    """Scores of averages."""
    return graph.add("GlobalAveragePool").add("Flatten").linear(channels, outputs)


@pytest.mark.parametrize("order", ["add, relu", "relu, add", "add, norm, relu", "norm, add, relu"])
def test_residual_block(order):
    graph, shortcut = stem()
    graph.conv(3, 3, 3, **SAME, name="a").add("Relu").conv(3, 3, 3, **SAME, name="b")
    for step in order.split(", "):
        {
            "add": lambda: graph.add("Add", shortcut, name="add"),
            "relu": lambda: graph.add("Relu"),
            "norm": lambda: graph.norm(3),
        }[step]()
    graph.conv(2, 3, 3, name="c").add("Relu")
    found = inputs(same(end(graph, 2)))
    if order == "relu, add":
        assert found == {"stem": ["input"], "a": ["stem"], "b": ["a"], "c": ["b", "stem"], "gemm11": ["c"]}
    else:
        assert found["add"] == ["a", "stem"] and found["c"] == ["add"] and "b" not in found


def test_a_shortcut_that_is_a_convolution():
    graph, shortcut = stem()
    graph.conv(4, 3, 3, **SAME, strides=[2, 2], name="a").norm(4).add("Relu").conv(4, 4, 3, **SAME, name="b").norm(4)
    longer = graph.last
    graph.add("Conv", graph.rng.normal(0, 0.5, (4, 3, 1, 1)), data=shortcut, strides=[2, 2], name="down").norm(4)
    network = same(end(graph.add("Add", longer, name="add").add("Relu"), 4))
    assert inputs(network)["add"] == ["stem", "a"]
    add = network.layers[2]
    assert [(taken.window, taken.stride) for taken in add.inputs] == [((1, 1), (2, 2)), ((3, 3), (1, 1))]
    assert (network.branched, network.shape_of("add"), network.shape_of("input")) == (True, (4, 4, 4), (8, 8, 2))


def test_a_shortcut_that_is_the_source_itself():
    graph, shortcut = stem()
    network = same(end(graph.conv(3, 3, 3, **SAME).add("Add", shortcut, name="add").add("Relu"), 3))
    one = network.layers[1].joined[0]
    assert (one.source, one.kind, one.groups, one.window, one.weights.tolist()) == (
        "stem", "convolution", 3, (1, 1), [[[[1.0]]]] * 3,
    )  # fmt: skip
    # All inputs count: 64 positions of 3 channels, of 27 weights and of one; and the other layers'.
    assert network.weights == 2 * 27 + 3 * 27 + 3 + 9
    assert network.macs == 64 * 3 * (18 + 27 + 1) + 9
    assert network.neurons == 2 * 64 * 3 + 3


def test_sums_without_activation_between_are_one():
    graph, shortcut = stem()
    graph.conv(3, 3, 3, **SAME, name="a").add("Add", shortcut, name="first").add("Add", shortcut, name="second")
    graph.conv(3, 3, 1, name="b").add("Relu")
    found = inputs(same(end(graph, 3)))
    assert found["second"] == ["stem", "stem", "stem"] and "first" not in found

    graph, shortcut = stem()
    graph.conv(3, 3, 3, **SAME, name="a").add("Relu").add("Add", shortcut).add("Sub", shortcut).add("Sum", shortcut, shortcut)
    network = same(end(graph.conv(3, 3, 1, name="b").add("Relu"), 3))
    assert inputs(network) == {"stem": ["input"], "a": ["stem"], "b": ["a", *["stem"] * 4], "gemm11": ["b"]}
    b = network.layers[2]
    assert (b.joined[1].weights == -b.weights).all() and (b.joined[0].weights == b.weights).all()


def test_activation_before_the_convolution():
    graph = Graph().conv(3, 2, 3, **SAME, name="stem")
    for number in range(3):
        before = graph.last
        graph.norm(3).add("Relu").conv(3, 3, 3, **SAME, name=f"a{number}").norm(3).add("Relu")
        graph.conv(3, 3, 3, **SAME, name=f"b{number}").add("Add", before, name=f"add{number}")
    found = inputs(same(end(graph.norm(3).add("Relu"), 3)))
    # What has no activation is no layer: the sum has its inputs, and the layer with one is that of the branch.
    assert found["add0"] == ["a0", "input"] and found["stem"] == ["input"]
    assert found["add1"] == ["a1", "a0", "input"] and found["add2"] == ["a2", "a1", "a0", "input"]


def test_inverted_bottlenecks():
    graph, _ = stem(4)
    graph.conv(2, 4, 1, name="narrow").norm(2)
    for number in range(2):
        before = graph.last
        graph.conv(6, 2, 1).norm(6).add("Clip", min=0.0, max=6.0).conv(6, 1, 3, **SAME, group=6).norm(6)
        graph.add("Clip", min=0.0, max=6.0).conv(2, 6, 1).norm(2).add("Add", before, name=f"add{number}")
    network = same(end(graph, 2))
    found = inputs(network)
    # The narrow layer is the source of a convolution too, and stays one for it.
    assert found["narrow"] == ["stem"] and len(found["add1"]) == 3
    assert network.quantized is False and [layer.end for layer in network.layers if layer.end] == [6.0] * 4


def test_dense_blocks():
    graph, _ = stem()
    channels = 3
    for number in range(3):
        before = graph.last
        graph.norm(channels).add("Relu").conv(2, channels, 3, **SAME, name=f"grow{number}")
        graph.add("Concat", graph.last, data=before, axis=1, name=f"join{number}")
        channels += 2
    graph.norm(channels).add("Relu").conv(4, channels, 1, name="over").add("AveragePool", **TWO)
    found = inputs(same(end(graph.norm(4).add("Relu"), 4)))
    assert len(found["over"]) == 4 and len(found["grow2"]) == 3


def test_pooled_and_strided_parts():
    graph, before = stem()
    graph.add("MaxPool", **TWO)
    pooled = graph.last
    graph.add("AveragePool", **TWO, data=before)
    averaged = graph.last
    graph.conv(1, 3, 1, name="one").add("Relu")
    one = graph.last
    graph.add("Conv", graph.rng.normal(0, 0.5, (2, 3, 2, 2)), data=before, strides=[2, 2], name="strided").add("Relu")
    graph.add("Concat", pooled, averaged, one, axis=1, name="join").conv(4, 9, 3, **SAME, name="next").add("Relu")
    network = same(end(graph, 4))
    assert inputs(network)["next"] == ["strided", "maxpool2", "stem", "one"]
    nexts = next(layer for layer in network.layers if layer.name == "next")
    assert [taken.averaged for taken in nexts.inputs] == [(1, 1), (1, 1), (2, 2), (1, 1)]


def test_nested_forks_and_shortcuts_over_three_layers():
    graph, before = stem()
    outer = graph.conv(3, 3, 3, **SAME, name="a").add("Relu").last
    inner = graph.conv(3, 3, 3, **SAME, name="b").add("Relu").last
    graph.conv(3, 3, 3, **SAME, name="c").add("Add", inner, name="inner").add("Relu").conv(3, 3, 3, **SAME, name="d")
    graph.add("Add", outer, name="outer").add("Relu").conv(3, 3, 1, name="e").add("Add", before, name="far").add("Relu")
    found = inputs(same(end(graph, 3)))
    assert (found["inner"], found["outer"], found["far"]) == (["b", "b"], ["inner", "a"], ["outer", "stem"])


def test_two_inputs_from_one_source_and_from_the_input():
    graph = Graph().conv(2, 2, 3, **SAME, name="a").add("Add", "image", name="add").add("Relu")
    graph.add("Add", graph.last, name="twice").conv(2, 2, 1, name="b").add("Relu")
    network = same(end(graph, 2))
    assert inputs(network)["add"] == ["input", "input"] and inputs(network)["b"] == ["add", "add"]


def test_a_layer_with_and_without_its_activation_is_kept_twice():
    graph = Graph().conv(3, 2, 3, **SAME, name="a")
    plain = graph.last
    graph.add("Relu", data=plain).conv(2, 3, 3, **SAME, name="b").add("Relu")
    one = graph.last
    graph.add("MaxPool", data=plain, kernel_shape=[3, 3], **SAME).conv(2, 3, 1, name="c").add("Relu").add("Add", one)
    graph.conv(2, 2, 1, name="d").add("Relu")
    network = same(end(graph, 2))
    by_name = {layer.name: layer for layer in network.layers}
    assert {name: by_name[name].relu for name in ("a", "a_2")} == {"a": False, "a_2": True}
    assert inputs(network)["b"] == ["a_2"] and inputs(network)["maxpool4"] == ["a"]


def test_layers_of_both_branches_are_there_once():
    graph, _ = stem()
    shared = graph.conv(3, 3, 3, **SAME, name="shared").add("Relu").last
    left = graph.conv(2, 3, 3, **SAME, name="left").add("Relu").last
    graph.add("Conv", graph.rng.normal(0, 0.5, (2, 3, 1, 1)), data=shared, name="right").add("Relu")
    network = same(end(graph.add("Concat", left, axis=1).conv(2, 4, 1, name="last").add("Relu"), 2))
    assert [layer.name for layer in network.layers] == ["stem", "shared", "right", "left", "last", "gemm13"]


@pytest.mark.parametrize("axes", [None, [0, 2, 3, 1], [0, 3, 1, 2]])
def test_flattened_concatenations(axes):
    graph, before = stem()
    graph.conv(1, 3, 3, **SAME).add("Relu").add("Concat", before, axis=-3)
    if axes is not None:
        graph.add("Transpose", perm=axes)
    same(graph.add("Reshape", np.array([0, -1])).add("Mul", graph.rng.uniform(0.5, 1, 256)).add("Relu").linear(256, 3))


@pytest.mark.parametrize("transposed", [False, True])
def test_vectors_of_flattened_parts(transposed):
    graph, before = stem()
    conv = graph.conv(2, 3, 3, name="a").last
    graph.add("GlobalMaxPool", data=before).add("Flatten")
    vector = graph.last
    if transposed:
        graph.add("Transpose", data=conv, perm=[0, 3, 1, 2]).add("Flatten")
    else:
        graph.add("Flatten", data=conv)
    graph.add("Concat", vector, axis=1, name="join").add("BatchNormalization", *graph.rng.uniform(0.5, 1, (4, 75)))
    network = same(graph.add("Relu").linear(75, 4))
    assert network.layers[-1].kind == "linear" and len(network.layers[-1].joined) == 0
    assert inputs(network)["join"] == ["a", "globalmaxpool3"]


@pytest.mark.parametrize(("groups", "outputs"), [(1, 3), (2, 4), (4, 4), (4, 8)])
def test_groups_behind_a_concatenation(groups, outputs):
    graph, before = stem()
    graph.conv(1, 3, 3, **SAME, name="one").add("Relu").add("Concat", before, axis=1)
    graph.conv(outputs, 4 // groups, 3, **SAME, group=groups, name="grouped").add("Relu")
    network = same(end(graph, outputs))
    grouped = network.layers[2]
    assert [taken.weights.shape for taken in grouped.inputs] == [(outputs, 1, 3, 3), (outputs, 3, 3, 3)]


def test_activations_and_pools_of_concatenations():
    graph, before = stem()
    graph.conv(2, 3, 3, **SAME, name="a").add("Concat", before, axis=1, name="join").norm(5, least=0.5)
    graph.add("Clip", min=0.0, max=1.0)
    graph.add("MaxPool", **TWO, name="pool").add("Pad", pads=[0, 0, 1, 1, 0, 0, 1, 1])
    network = same(end(graph.conv(2, 5, 3, name="b").add("Relu"), 2))
    assert kinds(network).count("maxpool") == 2
    assert inputs(network)["b"] == ["pool", "pool_2"]


def test_padded_sums():
    graph, before = stem()
    graph.conv(3, 3, 3, **SAME, name="a").add("Relu").add("Add", before, name="add").add("Pad", pads=[0, 0, 1, 1, 0, 0, 1, 1])
    network = same(end(graph.conv(2, 3, 3, name="b").add("Relu"), 2))
    assert inputs(network)["b"] == ["a", "stem"]


@pytest.mark.parametrize("operator", ["MaxPool", "Relu", "Clip"])
def test_what_takes_a_sum_as_a_layer(operator):
    graph, before = stem()
    graph.conv(3, 3, 3, **SAME, name="a").add("Relu").add("Sub", before, name="sub")
    attributes = {"MaxPool": TWO, "Relu": {}, "Clip": {"min": 0.0, "max": 1.0}}[operator]
    network = same(end(graph.add(operator, **attributes).conv(2, 3, 1).add("Relu"), 2))
    assert inputs(network)["sub"] == ["a", "stem"]


@pytest.mark.parametrize("operator", ["Add", "Concat"])
@pytest.mark.parametrize("vector", [False, True])
def test_joined_at_the_end(operator, vector):
    graph, before = stem()
    graph.conv(3, 3, 3, **SAME, name="a").add("Relu").add("Mul", np.array(0.5))
    if vector:
        before = graph.add("GlobalAveragePool", data=before).add("Flatten").last
        graph.add("GlobalAveragePool", data="t3").add("Flatten")
    attributes = {"axis": 1} if operator == "Concat" else {}
    network = same(graph.add(operator, before, **attributes, name="end"))
    assert inputs(network)["end"] == ["a", "stem"] and not network.layers[-1].relu
    assert network.outputs == (3 if operator == "Add" else 6) * (1 if vector else 64)


def test_constants_in_a_sum():
    graph, before = stem()
    graph.conv(3, 3, 3, **SAME).add("Relu").add("Sum", before, graph.rng.normal(0, 1, (3, 1, 1)), np.array([[2.0]]))
    same(end(graph.conv(3, 3, 3, **SAME).add("Relu").add("Sum").add("Sum", np.array([1.0])), 3))


def test_what_is_averaged_or_scaled_before_it_is_added():
    graph, before = stem()
    graph.conv(3, 3, 2, strides=[2, 2], name="a").norm(3).add("Relu").add("Mul", graph.rng.normal(0, 1, (3, 1, 1)))
    other = graph.last
    graph.add("AveragePool", **TWO, data=before).norm(3).add("Add", other, name="add").add("Add", np.ones((3, 1, 1)))
    network = same(graph.add("GlobalAveragePool").add("Flatten").linear(3, 4))
    assert inputs(network)["gemm12"] == ["stem", "a"] and [i.averaged for i in network.layers[-1].inputs] == [(8, 8), (4, 4)]


def test_one_dimension():
    graph = Graph(shape=("frames", 2, 16)).add("Conv", np.ones((3, 2, 3)) / 4, np.ones(3) / 9, pads=[1, 1]).add("Relu")
    before = graph.last
    graph.add("Conv", graph.rng.normal(0, 0.5, (3, 3, 3)), pads=[1, 1]).add("Add", before, name="add").add("Relu")
    graph.add("Concat", before, axis=1).add("MaxPool", kernel_shape=[2], strides=[2])
    same(graph.add("AveragePool", kernel_shape=[2], strides=[2]).add("Flatten").linear(24, 3))


@pytest.mark.parametrize("operator", ["Relu", "MaxPool"])
def test_an_activation_of_what_has_one_already_is_a_layer_where_branches_part(operator):
    graph, before = stem()
    attributes = TWO if operator == "MaxPool" else {}
    graph.norm(3, name="bn").add(operator, **attributes, name="by_itself").conv(2, 3, 1, name="a").add("Relu")
    one = graph.add("GlobalAveragePool").last
    graph.add("GlobalAveragePool", data=before).add("Concat", one, axis=1).add("Flatten")
    network = same(graph.linear(5, 3))
    one = network.layers[1]
    assert (one.name, one.source, one.groups, one.relu) == ("by_itself", "stem", 3, operator == "Relu")


def test_many_sums_of_what_has_no_activation():
    """A sum takes the inputs of a sum before it while these are few."""
    graph = Graph().conv(2, 2, 3, **SAME)
    for _ in range(40):
        graph.add("Add", graph.last).add("Mul", np.array(0.5))
    network = same(graph.add("Relu").conv(2, 2, 1).add("Flatten"))
    assert max(len(layer.inputs) for layer in network.layers) == 16

    graph, _ = stem()
    for _ in range(40):
        graph.add("Add", graph.last).add("Mul", np.array(0.5))
    network = same(graph.conv(2, 3, 1).add("Flatten"))
    assert max(len(layer.inputs) for layer in network.layers) <= 16


def test_too_many_inputs():
    graph, before = stem(1)
    graph.add("Concat", *[before] * 255, axis=1).conv(1, 256, 1)
    assert len(same(graph).layers[-1].inputs) == 256
    graph, before = stem(1)
    graph.add("Concat", *[before] * 256, axis=1, name="join").conv(1, 257, 1)
    message = "node 'join' (Concat): must join at most 256 branches, with those that they are joined of, not 257"
    with pytest.raises(ConversionError, match=f"^net: {re.escape(message)}$"):
        import_model(graph.model(), "net")


def test_too_much_that_is_done_to_each_part(monkeypatch):
    monkeypatch.setattr("model.importers.graph.MOST_COPIES", 4)
    graph, before = stem()
    graph.add("Concat", before, axis=1).add("Relu").add("Relu").add("Relu", name="third")
    message = (
        "node 'third' (Relu): is done to each branch that is joined, and nodes like it up to here are more than 4 times; join "
        "fewer branches"
    )
    with pytest.raises(ConversionError, match=f"^net: {re.escape(message)}$"):
        import_model(end(graph, 6).model(), "net")


JOINS = "branches are joined by Add, Sub or Sum of tensors of one shape, and by Concat along the channels"


def two():
    """Two activated images of three channels."""
    graph, before = stem()
    return graph.conv(3, 3, 3, **SAME).add("Relu"), before


REFUSED = {
    "channels that differ": (
        lambda g, before: g.conv(2, 3, 1).add("Add", before, name="n"),
        f"node 'n' (Add): inputs must be of one shape, not 2 x 8 x 8 and 3 x 8 x 8; {JOINS}",
    ),
    "one channel for all": (
        lambda g, before: g.conv(1, 3, 1).add("Sum", before, name="n"),
        f"node 'n' (Sum): inputs must be of one shape, not 1 x 8 x 8 and 3 x 8 x 8; {JOINS}",
    ),
    "axes in another order": (
        lambda g, before: g.add("Transpose", perm=[0, 1, 3, 2]).add("Add", before, name="n"),
        "node 'n' (Add): inputs must be of one shape, not 3 x 8 x 8 (channels, width, height) and 3 x 8 x 8; " + JOINS,
    ),
    "a product": (
        lambda g, before: g.add("Mul", before, name="n"),
        f"node 'n' (Mul): must have one input that is not a constant, not 2; {JOINS}",
    ),
    "a quotient": (
        lambda g, before: g.add("Div", before, name="n"),
        f"node 'n' (Div): must have one input that is not a constant, not 2; {JOINS}",
    ),
    "along the height": (
        lambda g, before: g.add("Concat", before, axis=2, name="n"),
        f"node 'n' (Concat): axis must be that of the channels, not 2 (height); {JOINS}",
    ),
    "along the width": (
        lambda g, before: g.add("Concat", before, axis=-1, name="n"),
        f"node 'n' (Concat): axis must be that of the channels, not 3 (width); {JOINS}",
    ),
    "along the frames": (
        lambda g, before: g.add("Concat", before, axis=0, name="n"),
        "node 'n' (Concat): axis must be within 1..3, after the frames, of inputs alike, not 0",
    ),
    "images of two sizes": (
        lambda g, before: g.add("MaxPool", **TWO).add("Concat", before, axis=1, name="n"),
        "node 'n' (Concat): inputs must be images of one height and width, joined along their channels, not 3 x 4 x 4 and 3 x 8 "
        f"x 8; {JOINS}",
    ),
    "a constant": (
        lambda g, before: g.add("Concat", np.ones((1, 3, 8, 8)), axis=1, name="n"),
        "node 'n' (Concat): input 'k4' must not be a constant; concatenate data only",
    ),
    "padding": (
        lambda g, before: g.add("Pad", pads=[0, 0, 1, 1, 0, 0, 1, 1], name="p").add("Add", g.last, name="n"),
        "node 'p' (Pad): must stand in front of a Conv or MaxPool; use pads of the node after it",
    ),
    "a softmax": (
        lambda g, before: g.add("Softmax", axis=1, name="s").add("Add", g.last, name="n"),
        "node 's' (Softmax): must be over all outputs of a vector, not over axis 1 of shape 8x8x3",
    ),
    "an average at the border": (
        lambda g, before: g.add("AveragePool", kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2], name="p")
        .add("Add", g.last, name="n").conv(2, 3, 3, **SAME, name="c"),
        "node 'p' (AveragePool): does not fold into node 'c' (Conv) after it: at the border it is not one convolution; set the "
        "pads of both to 0, use MaxPool, or a convolution with that stride",
    ),
    "a maximum of two": (
        lambda g, before: g.add("Max", before, name="n"),
        "node 'n' (Max): operator Max is not supported; branches are joined by Add, Sub, Sum or Concat only",
    ),
    "a split": (
        lambda g, before: g.add("Split", outputs=3, axis=1, name="n"),
        "node 'n' (Split): operator Split is not supported; use a convolution for each part, and join them by Concat",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_refusals(what, tmp_path):
    build, message = REFUSED[what]
    graph = build(*two())
    with pytest.raises(ConversionError, match=f"^net: {re.escape(message)}$"):
        import_model(graph.model(), "net")
    refused = [report for report in report_nodes(graph.save(tmp_path / "net.onnx")) if not report.supported]
    assert message.startswith(f"node {refused[0].name!r} ({refused[0].operator}): {refused[0].what}")


def test_levels_of_only_some_branches_are_refused():
    """The sum is rounded, the activation that is its shortcut is not."""
    graph, before = stem()
    graph.conv(3, 3, 3, **SAME).add("Add", before, name="add")
    graph.add("Quant", np.array(0.1), np.array(0.0), np.array(8.0), domain="qonnx.custom_op.general")
    message = "layer 'stem': must have a quantizer after it, as others of the file have; quantize all activations, or none"
    with pytest.raises(ConversionError, match=f"^net: {re.escape(message)}$"):
        import_model(end(graph, 3).model(), "net")


def test_what_becomes_of_each_node(tmp_path):
    graph, before = stem()
    graph.conv(3, 3, 3, **SAME, name="a").norm(3, name="bn").add("Add", before, name="add").add("Relu", name="r")
    after = graph.last
    graph.conv(3, 3, 3, **SAME, name="b").add("Relu").add("Sub", after, name="sub").add("Concat", before, axis=1, name="join")
    graph.conv(2, 6, 1, name="c").add("Relu", name="r2")
    same(end(graph, 2))
    what = {report.name: (report.status, report.what) for report in report_nodes(graph.save(tmp_path / "net.onnx"))}
    assert what["a"] == ("supported", "convolution, input of layer 'add': kernel 3x3, 8x8x3 to 8x8x3")
    assert what["bn"] == ("folded", "into layer 'a' before it")
    assert what["add"] == ("supported", "layer 'add': sum of 2 inputs")
    assert what["r"] == ("folded", "activation of layer 'add'")
    assert what["sub"] == ("supported", "layer 'sub': sum of 2 inputs")
    assert what["join"] == ("folded", "2 inputs of layer 'c', each with its part of the channels")


def test_a_chain_is_no_graph():
    chain = import_model(end(stem()[0], 3).model(), "net")
    assert not chain.branched and inputs(chain) == {"stem": ["input"], "gemm4": ["stem"]}
    assert inputs(chain.without_first()) == {"gemm4": ["input"]}


ALLOWED = re.compile(
    r"net.onnx: (must have a Conv, Gemm or MatMul node$|node '\w+' \(\w+\): (averages in front of|does not fold into|"
    r"counts its padding|stands after|scale must not be negative))"
)
"""What a chain would be refused with as well."""


@pytest.mark.parametrize("part", range(8))
def test_random_graphs(part):
    """25 random graphs each that import, and what does not has the words of a chain."""
    seed, found, refused, kept, drawn = 1000 * part, 0, 0, 0, set()
    while found < 25:
        graph = RandomGraph(np.random.default_rng(seed))
        seed += 1
        try:
            network = same(graph.graph)
        except ConversionError as error:
            if not ALLOWED.match(str(error)):
                raise
            refused += 1
            continue
        found += 1
        drawn |= set(graph.kinds)
        kept += network.branched
    assert kept > 15 and refused < 15 and {"add", "concat", "conv", "relu"} <= drawn
