"""Quantized files: what becomes of their nodes, and one line for each that cannot be read."""

import json
import re
from dataclasses import replace

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

import model.check
import model.convert
from model.importers.agreement import check_agreement
from model.importers.float_network import ConversionError
from model.importers.normalization import Normalization
from model.importers.onnx import examine, import_model
from model.importers.quantizer import Quantizer, computed, type_limits
from model.network import Network
from tests.quantized_graphs import SHAPE, Quantized, usual

FRAMES = np.random.default_rng(0).integers(0, 256, (40, *SHAPE), dtype=np.uint8)


def refusal(net):
    with pytest.raises(ConversionError) as caught:
        import_model(net.model(), "net.onnx")
    return str(caught.value).removeprefix("net.onnx: ")


def test_levels_belong_to_the_layer_before_them():
    net = usual()
    network = import_model(net.model(), "net.onnx")
    assert [(layer.name, layer.kind, layer.relu, layer.quantizer) for layer in network.layers] == [
        ("QuantizeLinear_0", "convolution", False, Quantizer(scale=2.0**-4, low=0, high=255)),
        ("Conv_3", "convolution", True, Quantizer(scale=2.0**-4, low=0, high=255)),
        ("MaxPool_7", "maxpool", False, None),
        ("Conv_9", "convolution", True, Quantizer(scale=2.0**-3, low=0, high=255)),
        ("QuantizeLinear_14", "convolution", False, Quantizer(scale=2.0**-3, low=0, high=255)),
        ("Gemm_18", "linear", False, Quantizer(scale=2.0**-2, low=0, high=255)),
    ]
    assert network.layers[4].averaged == (2, 2)


def test_what_becomes_of_each_node(tmp_path):
    reports = {(r.operator, r.status): r.what for r in examine(usual("operators").save(tmp_path / "net.onnx")).reports}
    assert reports == {
        ("QuantizeLinear", "supported"): "levels of the input: 0 to 255 times 0.0625",
        ("QLinearConv", "supported"): "convolution 'QLinearConv_3': kernel 3x3, 4x4x4 to 3x3x6, levels 0 to 255 times 0.125",
        ("MaxPool", "supported"): "max-pool 'MaxPool_2': window 2x2, 8x8x4 to 4x4x4",
        ("QLinearAveragePool", "supported"): "layer 'QLinearAveragePool_4' that takes each value by itself: 0 to 255 times 0.125",
        ("Flatten", "folded"): "change of address",
        ("QGemm", "supported"): "linear layer 'QGemm_6': 6 to 5, levels 0 to 255 times 0.25",
        ("DequantizeLinear", "folded"): "nothing: a count stands for its level",
    }


def test_a_clip_of_levels_narrows_them():
    network = import_model(Quantized("qcdq").round(2.0**-3, bits=3).linear(128, 2).model(), "net.onnx")
    assert network.layers[0].quantizer == Quantizer(scale=2.0**-3, low=0, high=7)


def test_a_cast_of_levels_to_their_type_is_nothing():
    """As PyTorch writes it."""
    net = Quantized()
    net.step = 2.0**-4
    levels = net.levels
    net.last = net.add("Cast", net.add("QuantizeLinear", net.last, *levels), to=TensorProto.UINT8)
    net.last = net.add("DequantizeLinear", net.last, *levels)
    network = import_model(net.linear(128, 2).model(), "net.onnx")
    assert network.layers[0].quantizer == Quantizer(scale=2.0**-4, low=0, high=255)


@pytest.mark.parametrize(("narrow", "low"), [(0, -8), (1, -7)])
def test_bits_of_qonnx(narrow, low):
    net = Quantized("qonnx", signed=True).round(2.0**-3, bits=4, narrow=narrow, rounding_mode="FLOOR").linear(128, 2)
    network = import_model(net.model(), "net.onnx")
    assert network.layers[0].quantizer == Quantizer(scale=2.0**-3, low=low, high=7, rounding="floor")


def odd(operator, *inputs, domain="", **attributes):
    """A quantized input, and then a node."""
    net = Quantized("qonnx" if domain else "qdq").round(2.0**-4)
    given = [net.constant(*i) if isinstance(i, tuple) else net.constant(i) for i in inputs]
    net.last = net.add(operator, net.last, *given, domain=domain, **attributes)
    return net.linear(128, 2)


QONNX = "qonnx.custom_op.general"

REFUSED = {
    "a scale for each channel": (
        lambda: odd("QuantizeLinear", [0.1, 0.2], ([0, 0], np.uint8)),
        "node 'QuantizeLinear_2' (QuantizeLinear): scale of activations must be one number, not 2; quantize activations to at "
        "most 16 bits, with one scale and one zero point for the whole tensor",
    ),
    "a scale of 0": (
        lambda: odd("QuantizeLinear", 0.0, (0, np.uint8)),
        "node 'QuantizeLinear_2' (QuantizeLinear): scale must be above 0, not 0",
    ),
    "levels of 32 bits": (
        lambda: odd("Quant", 0.1, 0, 20, domain=QONNX, signed=0, narrow=0, rounding_mode="ROUND"),
        "node 'Quant_1' (Quant): bit width must be a whole number within 1..16, not 20.0",
    ),
    "an odd zero point of QONNX": (
        lambda: odd("Quant", 0.1, 3, 8, domain=QONNX, signed=0, narrow=0, rounding_mode="ROUND"),
        "node 'Quant_1' (Quant): zero point must be an even number, not 3.0",
    ),
    "a way to round": (
        lambda: odd("Quant", 0.1, 0, 8, domain=QONNX, signed=0, narrow=0, rounding_mode="CEIL"),
        "node 'Quant_1' (Quant): rounding_mode must be one of ROUND, HALF_EVEN, FLOOR, not CEIL",
    ),
    "levels of another quantizer": (
        lambda: _between("DequantizeLinear", 0.3, (0, np.uint8)),
        "node 'DequantizeLinear_1' (DequantizeLinear): scale and zero point must be those of the quantizer before it, 0.0625 and "
        "0, not 0.3 and 0",
    ),
    "a Cast of levels to fewer": (
        lambda: _between("Cast", to=TensorProto.INT8),
        "node 'Cast_1' (Cast): to must be a type of integers that holds levels 0 to 255, not int8",
    ),
    "a ReLU of levels": (
        lambda: _between("Relu"),
        "node 'Relu_1' (Relu): must be after a Cast to a float type, as the input is of integers",
    ),
    "activations of -1 and 1": (
        lambda: odd("BipolarQuant", 0.5, domain=QONNX),
        "node 'BipolarQuant_1' (BipolarQuant): must be of constant weights: activations of -1 and 1 have no level 0; round "
        "activations to levels that 0 is one of",
    ),
    "a Trunc that rounds twice": (
        lambda: odd("Trunc", 0.1, 0, 8, 0.2, 4, domain=QONNX, signed=0, narrow=0, rounding_mode="FLOOR"),
        "node 'Trunc_1' (Trunc): must be of levels, or of their averages over windows side by side, in whole steps of its scale, "
        "with zero point 0 and an output scale that is a power of two times as large; round with Quant",
    ),
    "an end between two levels": (
        lambda: odd("Clip", 0.0, 5.97),
        "node 'Clip_2' (Clip): must end at a level of the quantizer before it, in steps of 0.0625, or in front of another one, "
        "not at 5.97",
    ),
    "a Softmax that is rounded": (
        lambda: _rounded_softmax(),
        "node 'Softmax_5' (Softmax): must not be rounded to levels: classes of one level could be answered otherwise than its "
        "input says; quantize the network without it",
    ),
    "only some activations": (
        lambda: _unfinished(),
        "layer 'Conv_3': must have a quantizer after it, as others of the file have; quantize all activations, or none",
    ),
}


def _between(operator, *inputs, **attributes):
    net = Quantized()
    net.step = 2.0**-4
    net.last = net.add("QuantizeLinear", net.last, *net.levels)
    given = [net.constant(*i) if isinstance(i, tuple) else net.constant(i) for i in inputs]
    net.last = net.add(operator, net.last, *given, **attributes)
    return net.linear(128, 2)


def _rounded_softmax():
    net = Quantized().round(2.0**-4).linear(128, 3)
    net.last = net.add("Softmax", net.last, axis=1)
    return net.round(2.0**-8)


def test_a_softmax_of_levels_is_left_out():
    """As ONNX Runtime's quantizer writes it."""
    net = Quantized("operators").round(2.0**-4).linear(128, 3, 2.0**-2)
    net.last = net.add("QLinearSoftmax", net.last, *net.levels, *net.levels, domain="com.microsoft", opset=13)
    assert refusal(net) == (
        "node 'QLinearSoftmax_3' (QLinearSoftmax): operator com.microsoft.QLinearSoftmax is not one of a quantized file that is "
        "read; quantize the network without it"
    )


def test_pixels_of_integers_are_taken_as_they_are():
    """They have levels of their own, which no normalization changes."""
    net = Quantized().take_pixels(2.0**-8).conv(4, 3, 2.0**-3).linear(144, 3)
    with pytest.raises(ConversionError) as caught:
        import_model(net.model(), "net.onnx", normalization=Normalization(mean=(0.5,)))
    assert str(caught.value) == (
        "net.onnx: node 'DequantizeLinear_0' (DequantizeLinear): takes pixels as they are; give no --mean, --std or --scale"
    )


def _unfinished():
    net = Quantized().round(2.0**-4)
    weights, _ = net.weights((3, 2, 3, 3), 2.0**-4, 0)
    net.last, net.shape = net.add("Relu", net.add("Conv", net.last, *weights)), (6, 6, 3)
    return net.linear(108, 2)


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_read_is_named(what):
    make, message = REFUSED[what]
    assert refusal(make()) == message


def test_each_layer_is_compared_for_the_files_levels_before_it():
    """A layer that is read wrongly is named; halves that float32 takes to another level are not taken for that."""
    net = Quantized(seed=3, signed=True).round(0.011).pool("AveragePool").conv(4, 3, 0.013, step=0.017, pads=[1] * 4, relu=False)
    network = import_model(net.pool("AveragePool").linear(16, 5, 0.001, step=0.019).model(), "net.onnx")
    assert [layer.quantizer is None for layer in network.layers] == [False] * 5
    layers = list(network.layers)
    layers[2] = replace(layers[2], weights=layers[2].weights[::-1])
    with pytest.raises(ConversionError) as caught:
        check_agreement(replace(network, layers=tuple(layers)))
    assert re.fullmatch(
        r"net.onnx: layer 'Conv_\d+': must give what ONNX Runtime gives on random frames, not up to [\d.]+ off; report this file",
        str(caught.value),
    )


def constant(node, *inputs):
    return computed(node, [np.asarray(value) for value in inputs])


def test_constants_are_quantized_as_onnx_says():
    """Against the reference, of every shape of scale; dequantized in float64, exactly."""
    rng = np.random.default_rng(0)
    floats = rng.normal(0, 3, (4, 6)).astype(np.float32)
    for scale, attributes in ((np.float32(0.1), {}), (rng.random(4).astype(np.float32) + 0.1, {"axis": 0})):
        zero = np.zeros(scale.shape, np.int8)
        node = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"], **attributes)
        levels = constant(node, floats, scale, zero)
        graph = helper.make_graph(
            [node],
            "test",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
            [helper.make_tensor_value_info("y", TensorProto.INT8, None)],
            [numpy_helper.from_array(scale, "s"), numpy_helper.from_array(zero, "z")],
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
        (expected,) = onnx.reference.ReferenceEvaluator(made).run(None, {"x": floats})
        assert levels.dtype == np.int8 and (levels == expected).all()
        back = constant(helper.make_node("DequantizeLinear", ["x", "s", "z"], ["y"], **attributes), levels, scale, zero)
        along = scale.reshape(-1, 1) if scale.ndim else scale
        assert back.dtype == np.float64 and (back == levels * along.astype(np.float64)).all()


def test_constants_in_blocks_and_with_zero_points():
    node = helper.make_node("DequantizeLinear", ["x", "s", "z"], ["y"], axis=1, block_size=2)
    levels, scale, zero = np.array([[1, 2, 3]], np.uint8), np.array([[0.5, 2.0]], np.float32), np.array([[1, 4]], np.uint8)
    assert constant(node, levels, scale, zero).tolist() == [[0.0, 0.5, -2.0]]
    assert [type_limits(name) for name in ("uint4", "int16", "float32", "float8e4m3fn")] == [(0, 15), (-32768, 32767), None, None]


@pytest.fixture
def files(tmp_path):
    network = import_model(usual().model(), "net.onnx")
    labels = network.scores(FRAMES.astype(np.float32) / 255).argmax(axis=1)
    np.savez(tmp_path / "data.npz", images=FRAMES, labels=labels)
    return usual().save(tmp_path / "net.onnx"), tmp_path / "data.npz", tmp_path / "net.npz"


def test_check_tells_what_becomes_of_it(files):
    found = CliRunner().invoke(model.check.main, [str(files[0])], env={"COLUMNS": "300"})
    assert found.exit_code == 0
    assert found.stdout.splitlines()[-2:] == [
        "the file is quantized: it is converted with deferred firing and its own levels, and with an input of 16 levels",
        "bit for bit: Conv_3, Conv_9, QuantizeLinear_14, Gemm_18",
    ]


def test_convert_picks_deferred_firing_and_the_files_levels(files):
    path, data, out = files
    found = CliRunner().invoke(model.convert.main, [str(path), "--calibrate", str(data), "-o", str(out), "--json"])
    assert found.exit_code == 0
    told = json.loads(found.stdout)
    assert told["accuracy_snn"] == told["accuracy_ann"] == 1.0
    assert [(layer["name"], layer["exact"], layer["differing"]) for layer in told["quantized"]] == [
        ("Conv_3", True, 0), ("Conv_9", True, 0), ("QuantizeLinear_14", True, 0), ("Gemm_18", True, 0)
    ]
    network = Network.load(out)
    assert (network.firing, network.input_levels, network.input_step) == ("deferred", 16, 16)
    assert network.origin == f"net.onnx, quantized file, firing deferred on 40 frames of {data}"
    assert "note: on 40 frames 0 of 12,840 counts differ from ONNX Runtime's levels, and 0 answers" in found.stderr


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--firing", "immediate"], "--firing immediate must not be given with a quantized file: its layers round whole sums, "
                                    "which is what deferred firing does"),
        (["--levels", "3"], "--levels must not be given with a quantized file: its activations have levels of their own"),
        (["--weight-bits", "4"], "--weight-bits must not be given with a quantized file: its weights are integers already"),
    ],
)
def test_options_that_contradict_the_file_are_refused(files, options, why):
    path, data, out = files
    found = CliRunner().invoke(model.convert.main, [str(path), "--calibrate", str(data), "-o", str(out), *options])
    assert (found.exit_code, found.stderr.splitlines()[-1]) == (2, f"error: {path}: {why}")
    assert not out.exists()
