"""Quantized files with branches: the spiking network's counts are ONNX Runtime's levels, in every layer and on every frame."""

import re

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from model.conversion.from_quantized import FromQuantized, from_quantized, layers_as_built, quantized_lines
from model.conversion.quantize import Settings
from model.conversion.quantized import quantized_counts
from model.encode import encode
from model.engine.engine import run_frames
from model.golden import answers, run
from model.importers.float_network import ConversionError
from model.importers.onnx import import_model, import_onnx
from model.importers.quantizer import Quantizer
from model.machine.capability import check_machine_can
from model.network import Neurons
from model.studies.origin import another_origin, check_structure
from tests.onnx_graphs import Graph
from tests.quantized_graphs import FORMS, SHAPE, Quantized, RandomBranches, residual

FRAMES = np.random.default_rng(4).integers(0, 256, (20, *SHAPE), dtype=np.uint8)
FRAMES[0], FRAMES[1] = 0, 255

SAME = {"pads": [1] * 4}


def imported(net: Quantized):
    return import_model(net.model(), "net.onnx")


def inputs(network):
    """Of each layer the sources of its inputs."""
    return {layer.name: [taken.source for taken in layer.inputs] for layer in network.layers}


def run_file(model: onnx.ModelProto, frames: np.ndarray) -> np.ndarray:
    """What ONNX Runtime gives, with the optimizations that it has for such files."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    images = (frames.astype(np.float32) / np.float32(255)).transpose(0, 3, 1, 2)
    return session.run(None, {session.get_inputs()[0].name: images})[0].reshape(len(frames), -1)


def same(net: Quantized) -> FromQuantized:
    """Convert; every count of every layer is ONNX Runtime's level, and the answers are its own."""
    floats = imported(net)
    found = from_quantized(floats, FRAMES, Settings(), name="net")
    assert all(layer.exact and layer.worst == layer.differing == layer.largest == 0 for layer in found.layers)
    assert found.differing == 0
    counts = quantized_counts(found.network, FRAMES)
    assert (run_frames(found.network, FRAMES[:6]).counts == counts[:6]).all()
    expected = floats.scores(FRAMES.astype(np.float32) / 255) if net.form == "qonnx" else run_file(net.model(), FRAMES)
    output = found.network.output
    assert isinstance(output, Neurons)
    if net.step_of_output is not None:
        lowest = floats.layers[-1].quantizer.low if output.relu else 0
        assert (counts + lowest == np.rint(expected / net.step_of_output)).all()
    assert (answers(counts) == answers(expected)).all()
    return found


@pytest.mark.parametrize("form", FORMS)
def test_residual_blocks(form):
    """Both operands are counts; the sum has them with what their levels stand for, in units of its own."""
    net = residual(form, signed=True) if form == "operators" else residual(form)
    found = same(net)
    floats = imported(net)
    add = next(layer for layer in floats.layers if layer.joined)
    second, first = (taken.source for taken in add.inputs)
    assert [layer.source for layer in floats.layers if layer.name == second] != [first]
    made = found.network.layer(add.name)
    assert [taken.weights.reshape(-1).tolist() for taken in made.inputs] == [[1] * 4, [2] * 4]
    assert (made.threshold_log2, made.halves_to_even) == (2, True)
    check_machine_can(found.network)
    built = layers_as_built(floats, found.network)
    check_structure(found.network, built)
    assert another_origin(found.network, built) is None


def test_what_becomes_of_a_residual_block():
    network = imported(residual())
    assert inputs(network) == {
        "QuantizeLinear_0": ["input"],
        "Conv_3": ["QuantizeLinear_0"],
        "Conv_8": ["Conv_3"],
        "Conv_13": ["Conv_8"],
        "Add_16": ["Conv_13", "Conv_3"],
        "QuantizeLinear_21": ["Add_16"],
        "Gemm_25": ["QuantizeLinear_21"],
    }
    add = network.layers[4]
    assert (add.relu, add.quantizer) == (True, Quantizer(scale=2.0**-3, low=0, high=255))
    assert network.layers[3].quantizer == Quantizer(scale=2.0**-5, low=0, high=255)
    assert quantized_lines(network) == [
        "the file is quantized: it is converted with deferred firing and its own levels, and with an input of 16 levels",
        "bit for bit: Conv_3, Conv_8, Conv_13, Add_16, QuantizeLinear_21, Gemm_25",
    ]


@pytest.mark.parametrize("form", ["qdq", "qonnx"])
def test_a_convolution_that_is_not_rounded_goes_into_the_sum(form):
    """As networks that are trained with quantization have it: one layer, of the convolution's weights and of the shortcut's."""
    net = residual(form, rounds=False)
    found = same(net)
    add = next(layer for layer in found.network.layers if len(layer.sources) > 1)
    assert sorted(taken.weights.shape for taken in add.inputs) == [(4, 1, 1, 1), (4, 4, 3, 3)]
    assert add.weights.max() <= 8


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("zero", [0, 96])
def test_shortcuts_with_levels_below_zero(form, zero):
    """The block's end and its shortcut both have a zero point, which is no count of 0, around which the padding is."""
    net = Quantized(form).round(2.0**-4, bits=4).conv(3, 3, 2.0**-4, **SAME)
    before = net.place
    other = net.conv(4, 1, 2.0**-3, relu=False, zero=100).place
    net.place = before
    net.conv(4, 3, 2.0**-4, relu=False, zero=130, **SAME).sum(other, 2.0**-3, relu=not zero, zero=zero)
    found = same(net.conv(4, 3, 2.0**-2, zero=0, **SAME).linear(256, 5, 2.0**-3, gemm=False))
    assert any(layer.bias.ndim == 3 for layer in found.network.layers) == bool(zero)


@pytest.mark.parametrize("form", FORMS)
def test_concatenations_have_a_layer_where_scales_differ(form):
    net = Quantized(form).round(2.0**-4, bits=4).conv(3, 3, 2.0**-4, **SAME)
    before = net.place
    one = net.conv(2, 1, 2.0**-3).place
    net.place = before
    net.last = net.add("MaxPool", net.last, kernel_shape=[3, 3], **SAME)
    net.concat(one, out_step=2.0**-4)
    found = same(net.conv(4, 3, 2.0**-3, **SAME).pool("AveragePool", 4, out_step=2.0**-4).linear(16, 4))
    (last,) = (layer for layer in found.network.layers if len(layer.sources) > 1)
    pool, own = map(found.network.layer, last.sources)
    assert (pool.KIND, own.KIND, own.groups, own.weights.reshape(-1).tolist()) == ("maxpool", "convolution", 2, [2, 2])


def test_integers_may_be_concatenated_where_they_stand_for_the_same():
    net = Quantized("operators").round(2.0**-4).conv(3, 3, 2.0**-3)
    before = net.place
    other = net.conv(2, 3, 2.0**-3, **SAME).place
    net.place = before
    net.last, net.shape = net.add("Concat", net.last, other.last, axis=1), (6, 6, 5)
    same(net.conv(4, 3, 2.0**-3).linear(64, 4, 2.0**-2))


def test_two_quantizers_of_the_input():
    """Each is a layer: the coding of the input can be that of one of them only."""
    net = Quantized().round(2.0**-4)
    first = net.place
    net.last = "image"
    net.round(2.0**-3).sum(first, 2.0**-4)
    found = same(net.conv(4, 3, 2.0**-3).linear(144, 4, 2.0**-2))
    assert found.network.input_levels == 255 and found.network.layers[2].sources == ("QuantizeLinear_2", "QuantizeLinear_0")


def test_a_constant_is_added_to_levels():
    net = Quantized("operators").round(2.0**-4).conv(3, 3, 2.0**-3)
    before, levels = net.levels, net.constant(np.arange(3).reshape(1, 3, 1, 1) * 9, np.uint8)
    net.step = 2.0**-2
    constant = [levels, net.constant(2.0**-4), net.constant(4, np.uint8)]
    net.last = net.add("QLinearAdd", net.last, *before, *constant, *net.levels, domain="com.microsoft")
    same(net.linear(108, 4, 2.0**-2, gemm=False))


def test_the_golden_model_counts_the_levels():
    network = from_quantized(imported(residual()), FRAMES, Settings(), name="net").network
    counts = np.stack([run(network, encode(network, frame)).counts for frame in FRAMES[2:4]])
    assert (counts == np.rint(run_file(residual().model(), FRAMES[2:4]) * 2**4)).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", [1, 3])
def test_random_networks(form, seed):
    same(RandomBranches(seed, form).net)


@pytest.mark.full
@pytest.mark.parametrize("form", FORMS)
def test_many_random_networks(form):
    kinds = set()
    for seed in range(100, 125):
        one = RandomBranches(seed, form)
        same(one.net)
        kinds.update(one.kinds)
    assert kinds == {"identity", "shortcut", "concat", "pooled", "waiting", "average"}


def test_scales_that_are_no_powers_of_two_are_off_by_a_last_place_at_most():
    net = Quantized(seed=2).round(0.07).conv(4, 3, 0.11, step=0.013, **SAME)
    before = net.place
    net.conv(4, 3, 0.05, step=0.017, relu=False, zero=120, **SAME).sum(before, 0.09, zero=0)
    found = from_quantized(imported(net.linear(256, 5, 0.3, step=0.019)), FRAMES, Settings(), name="net")
    by_name = {layer.name: layer for layer in found.layers}
    add = next(layer for layer in found.network.layers if len(layer.sources) > 1)
    near = by_name[add.name]
    assert (near.exact, near.worst) == (False, 1) and near.largest <= 1
    assert near.disagreeing < near.counts / 200
    assert found.differing == 0


class Frames(CalibrationDataReader):
    """Random frames that a quantizer calibrates on."""

    def __init__(self, frames):
        self.left = iter(frames.astype(np.float32).transpose(0, 3, 1, 2) / np.float32(255))

    def get_next(self):
        frame = next(self.left, None)
        return None if frame is None else {"image": frame[np.newaxis]}


def small_resnet() -> onnx.ModelProto:
    """A convolution, a block with its source as shortcut, one with a convolution as shortcut, and three branches joined."""
    g = Graph(shape=("frames", 3, 8, 8), seed=11)

    def conv(outputs, inputs, kernel, data=None, **attributes):
        draw = g.rng
        weights = draw.normal(0, np.sqrt(2 / (inputs * kernel**2)), (outputs, inputs, kernel, kernel))
        return g.add("Conv", weights, draw.normal(0, 0.1, outputs), data=data, pads=[kernel // 2] * 4, **attributes)

    stem = conv(6, 3, 3).add("Relu").last
    conv(6, 6, 3).add("Relu")
    conv(6, 6, 3).add("Add", stem).add("Relu")
    before = g.last
    conv(8, 6, 3, strides=[2, 2]).add("Relu")
    longer = conv(8, 8, 3).last
    conv(8, 6, 1, before, strides=[2, 2]).add("Add", longer).add("Relu")
    after = g.last
    one = conv(4, 8, 1).add("Relu").last
    two = conv(4, 8, 3, after).add("Relu").last
    g.add("MaxPool", data=after, kernel_shape=[3, 3], pads=[1] * 4).add("Concat", one, two, axis=1)
    conv(10, 16, 3).add("Relu").add("GlobalAveragePool").add("Flatten").linear(10, 5)
    model = g.model()
    model.graph.output[0].type.CopyFrom(helper.make_tensor_type_proto(TensorProto.FLOAT, ["frames", 5]))
    return model


QUANTIZED = {
    "uint8": {"activation_type": QuantType.QUInt8},
    "int8": {"activation_type": QuantType.QInt8, "extra_options": {"ActivationSymmetric": True}, "per_channel": True},
    "int8 with zero points": {"activation_type": QuantType.QInt8, "per_channel": True},
    "operators": {"activation_type": QuantType.QUInt8, "quant_format": QuantFormat.QOperator, "per_channel": True},
}


@pytest.mark.parametrize("how", QUANTIZED)
def test_what_onnx_runtime_quantizes(how, tmp_path):
    """A small residual network: every layer is read, and off by a last place where its own sums are."""
    onnx.save(small_resnet(), tmp_path / "float.onnx")
    path = tmp_path / "quantized.onnx"
    frames = np.random.default_rng(8).integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    options = {"quant_format": QuantFormat.QDQ, "weight_type": QuantType.QInt8, **QUANTIZED[how]}
    quantize_static(tmp_path / "float.onnx", path, Frames(frames[:16]), **options)
    floats = import_onnx(path)
    assert sorted(len(layer.inputs) for layer in floats.layers)[-3:] == [2, 2, 3]
    found = from_quantized(floats, frames, Settings(), name="net")
    assert all(layer.disagreeing <= layer.counts / 25 for layer in found.layers)
    assert found.differing <= 1
    expected = run_file(onnx.load(path), frames)
    assert (answers(quantized_counts(found.network, frames)) != answers(expected)).sum() <= 2
    check_machine_can(found.network)


def _wrong_scale():
    net = Quantized("operators").round(2.0**-4).conv(3, 3, 2.0**-3)
    wrong = net.place._replace(step=2.0**-5)
    return net.sum(wrong, 2.0**-3)


def _short(operator, least):
    net = Quantized("operators").round(2.0**-4).conv(3, 3, 2.0**-3)
    net.last = net.add(operator, net.last, *net.levels, *[net.last] * least, domain="com.microsoft")
    return net


def _integers_of_two_scales():
    net = Quantized("operators").round(2.0**-4).conv(3, 3, 2.0**-3)
    before = net.place
    net.conv(3, 3, 2.0**-4, **SAME)
    net.last = net.add("Concat", net.last, before.last, axis=1)
    return net


def _unrounded():
    """A ReLU of a sum, and no levels after it."""
    net = Quantized().round(2.0**-4).conv(3, 3, 2.0**-3)
    before = net.place
    net.conv(3, 3, 2.0**-4, **SAME).sum(before)
    net.step = 2.0**-4
    return net.activate(True).conv(3, 3, 2.0**-3)


def _difference_of_concatenations():
    net = Quantized().round(2.0**-4).conv(3, 3, 2.0**-3)
    one = net.concat(net.place).place
    net.last = net.add("Sub", net.last, one.last)
    net.step = 2.0**-3
    return net.conv(3, 3, 2.0**-3)


REFUSED = {
    "levels that are taken for others": (
        _wrong_scale,
        "node 'QLinearAdd_2' (QLinearAdd): scale and zero point must be those of the quantizer before it, 0.125 and 0, not "
        "0.03125 and 0",
    ),
    "a sum without all its inputs": (
        lambda: _short("QLinearAdd", 1), "node 'QLinearAdd_2' (QLinearAdd): inputs must be 7 or 8, not 4",
    ),
    "a concatenation without all its inputs": (
        lambda: _short("QLinearConcat", 3),
        "node 'QLinearConcat_2' (QLinearConcat): inputs must be 2 and 3 for each tensor that is joined, not 6",
    ),
    "integers of two scales": (
        _integers_of_two_scales,
        "node 'Concat_3' (Concat): levels that are joined must have one scale and one zero point; put a DequantizeLinear in "
        "front of it",
    ),
    "a sum that is not rounded": (
        _unrounded,
        "layer 'Add_12': must have a quantizer after it, as others of the file have; quantize all activations, or none",
    ),
    "a concatenation that is subtracted": (
        _difference_of_concatenations,
        "layer 'Sub_8': must have a quantizer after it, as others of the file have; quantize all activations, or none",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_refusals(what):
    make, message = REFUSED[what]
    net = make()
    size = {"integers of two scales": 36 * 6, "a sum that is not rounded": 16 * 3, "a concatenation that is subtracted": 16 * 3}
    with pytest.raises(ConversionError, match=f"^net.onnx: {re.escape(message)}"):
        imported(net.linear(size.get(what, 36 * 3), 2, 2.0**-2, gemm=net.form != "operators"))
