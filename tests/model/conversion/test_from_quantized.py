"""A quantized network and the spiking one that is made of it: the same integers as ONNX Runtime's, on every frame."""

import numpy as np
import onnx
import onnxruntime
import pytest

from model.conversion.convert import convert as conversion
from model.conversion.from_quantized import FromQuantized, check_options, from_quantized, layers_as_built, quantized_lines
from model.conversion.quantize import Settings
from model.conversion.quantized_frames import run_images
from model.encode import encode
from model.engine.engine import run_frames
from model.golden import answers, run
from model.importers.float_network import ConversionError
from model.importers.onnx import import_model
from model.network import Neurons
from model.studies.origin import another_origin, check_structure
from model.support.dataset import Dataset
from tests.quantized_graphs import FORMS, SHAPE, Quantized, usual

FRAMES = np.random.default_rng(3).integers(0, 256, (24, *SHAPE), dtype=np.uint8)
FRAMES[0], FRAMES[1] = 0, 255


def convert(net: Quantized, **settings: object) -> FromQuantized:
    return from_quantized(import_model(net.model(), "net.onnx"), FRAMES, Settings(**settings), name="net")


def scores(net: Quantized) -> np.ndarray:
    """What ONNX Runtime gives; of QONNX's form, which it does not run, what the model that stands for it does."""
    images = FRAMES if net.of_pixels else FRAMES.astype(np.float32) / np.float32(255)
    if net.form == "qonnx":
        return import_model(net.model(), "net.onnx").scores(images)
    options = onnxruntime.SessionOptions()
    if net.opset < 11 or net.fraction:
        # Its optimizer rounds biases that are not quantized, and does so with a Round, which older opsets do not have.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(net.model().SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = session.run(None, {"image": images.transpose(0, 3, 1, 2)})[0].reshape(len(FRAMES), -1)
    return (found.astype(int) - net.zero) * net.step_of_output if net.ends_in_levels else found


def same(net: Quantized) -> FromQuantized:
    """The spiking network's counts are ONNX Runtime's levels, in the output and, without events, in every layer."""
    found = convert(net)
    assert all(layer.exact and layer.worst == layer.differing == layer.largest == 0 for layer in found.layers)
    assert found.network.deferred and found.differing == 0
    counts = run_frames(found.network, FRAMES).counts
    expected = scores(net)
    output = found.network.output
    assert isinstance(output, Neurons)
    if net.step_of_output is not None:
        levels = np.rint(expected / net.step_of_output).astype(int)
        lowest = (-128 if net.signed else 0) - net.zero
        assert (counts + (lowest if output.relu else 0) == levels).all()
    assert (answers(counts) == answers(expected)).all()
    assert len(np.unique(expected)) > 5
    return found


def test_the_golden_model_counts_the_levels():
    net = usual()
    network = convert(net).network
    counts = np.stack([run(network, encode(network, frame)).counts for frame in FRAMES[2:4]])
    assert (counts == np.rint(scores(net)[2:4] / net.step_of_output)).all()


def supports(form: str, opset: int, per_channel: bool) -> bool:
    """Whether the form can be said in an opset."""
    if form == "qonnx":
        return opset >= 11
    return opset >= (13 if per_channel and form != "operators" else 12 if form == "qcdq" else 10)


CASES = [
    (form, opset, per_channel)
    for form in FORMS
    for opset in (10, 11, 12, 13, 17, 19, 21, 23)
    for per_channel in (False, True)
    if supports(form, opset, per_channel)
]


@pytest.mark.parametrize(("form", "opset", "per_channel"), CASES)
def test_every_form_in_every_opset(form, opset, per_channel):
    found = same(usual(form, opset, per_channel=per_channel))
    assert {layer.counts for layer in found.layers[:-1]} == {len(FRAMES) * n for n in (256, 54, 6)}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("signed", "zero"), [(True, 0), (True, -128), (False, 4), (False, 200)])
def test_signed_levels_and_zero_points(form, signed, zero):
    """Levels below 0, and padding with the zero point, which is no count of 0."""
    net = Quantized(form, signed=signed, zero=zero).round(2.0**-4)
    net.conv(4, 3, 2.0**-3, pads=[1, 1, 0, 1], relu=False).pool().linear(3 * 4 * 4, 4, 2.0**-3)
    same(net)


@pytest.mark.parametrize("seed", range(3))
def test_halves_go_to_the_even_level(seed):
    """An average of two by two is half way between two levels every fourth time."""
    net = Quantized(seed=seed).round(2.0**-4).pool("AveragePool").linear(4 * 4 * 2, 3)
    found = same(net)
    assert found.network.layers[0].halves_to_even and found.network.layers[0].threshold_log2 == 2
    (images,) = import_model(net.model(), "net.onnx").run(FRAMES.astype(np.float32) / 255, ["t1"])
    images = images.reshape(len(FRAMES), 2, 4, 2, 4, 2)
    halves = images.sum(axis=(3, 5)) / 2.0**-4 % 4 == 2
    assert halves.sum() > 100


@pytest.mark.parametrize("fraction", [0.25, 0.5, 0.3])
def test_biases_that_are_not_quantized(fraction):
    """Half way between two levels is only what is so with the bias as it is, not as a whole number."""
    net = Quantized(seed=5).round(2.0**-4, bits=4)
    net.fraction = fraction
    found = same(net.conv(8, 3, 2.0**-8).conv(4, 3, 2.0**-4, pads=[1] * 4).linear(144, 4, 2.0**-3))
    assert [layer.halves_to_even for layer in found.network.layers] == [fraction != 0.3, True, True]


def test_biases_decide_between_outputs_that_are_equal_but_for_less_than_a_unit():
    """As many bits as it takes to rank what biases are more than whole units: outputs are in the file's order on every frame."""
    net = Quantized(seed=3).round(2.0**-4)
    net.fraction = 0.25
    found = same(net.linear(128, 6))
    output = found.network.output
    assert (found.layers[-1].bit_for_bit, output.weight_bits) == (True, 5 + 2)
    assert (output.weights % 4 == 0).all() and (output.bias & 3).tolist() == [0, 1, 2, 3, 0, 1]
    rng = np.random.default_rng(5)
    other = rng.integers(0, 256, (3000, *SHAPE), dtype=np.uint8) * (rng.random((3000, *SHAPE)) < 0.04).astype(np.uint8)
    potentials, floats = run_images(found.network, other).potentials, import_model(net.model(), "net.onnx")
    expected = answers(floats.scores(other.astype(np.float32) / 255))
    assert (answers(potentials) == expected).all()
    assert (answers(potentials >> 2) != expected).sum() > 10
    assert found.notes[-2] == (
        f"outputs are counted in steps of {output.theta} units of {output.name}: of those that are less apart, and of equal "
        "count, the first is the answer"
    )


def test_what_float32_rounds_is_not_said_to_be_exact():
    """Biases just below half a level: from 64 levels on, ONNX Runtime's sums are half way, and odd ones are rounded up."""
    net = Quantized(seed=5).round(2.0**-4)
    net.fraction = 2 - 2.0**-16
    found = convert(net.conv(8, 3, 2.0**-6).linear(288, 4, 2.0**-2))
    first = found.layers[0]
    assert (first.exact, first.bit_for_bit, first.worst, first.largest) == (False, True, 0, 1)
    assert first.disagreeing == first.differing > 10
    assert found.notes[1] == (
        f"{first.name} is not exact: {first.disagreeing} of its counts on calibration frames are one off what ONNX Runtime gives "
        "for the same levels before them, as sums of float32 round"
    )


def test_halves_above_an_odd_lowest_level_are_said():
    """An even count is an odd level there, and neurons round to even counts."""
    net = Quantized(seed=1, zero=3).round(2.0**-4).pool("AveragePool").linear(32, 3)
    found = convert(net)
    first = found.layers[0]
    assert (first.exact, first.bit_for_bit, first.worst, first.largest) == (False, True, 1, 1)
    assert found.notes[2] == (
        f"weights of {first.name} are the file's bit for bit, and a sum half way between two levels goes up, not to the even "
        "one: a count can be off by 1 there"
    )


def test_an_input_with_levels_that_no_coding_has():
    """256 levels over pixels of 255: pixel 128 is level 129. A layer of its own takes each pixel to its level, all of them."""
    net = Quantized(seed=1).round(2.0**-8).conv(3, 3, 2.0**-4).linear(108, 4)
    found = same(net)
    first = found.network.layers[0]
    assert (found.network.input_levels, first.name, first.KIND) == (255, "QuantizeLinear_0", "convolution")
    pixels = np.arange(256)
    counts = np.clip((pixels * int(first.weights[0, 0, 0, 0]) + int(first.bias[0])) >> first.threshold_log2, 0, 255)
    assert (counts == np.clip(np.rint(pixels.astype(np.float32) / np.float32(255) * 256), 0, 255)).all()


@pytest.mark.parametrize("form", ["qdq", "operators"])
@pytest.mark.parametrize(("zero", "padded"), [(0, True), (128, False), (4, True)])
def test_an_input_of_integers(form, zero, padded):
    """Pixels are levels: with a zero point they are numbers below 0 too, and around them are zeros that no pixel is."""
    net = Quantized(form, zero=zero).take_pixels(2.0**-6)
    found = same(net.conv(4, 3, 2.0**-1, pads=[int(padded)] * 4, relu=False).pool().linear(64 if padded else 36, 4, 2.0**-1))
    assert (found.network.input_levels, found.layers[0].bit_for_bit) == (255, True)


@pytest.mark.parametrize("form", ["qdq", "operators"])
@pytest.mark.parametrize(("signed", "zero"), [(False, 0), (False, 100), (True, 0)])
def test_an_output_of_integers(form, signed, zero):
    """The file ends in levels, as a network for a microcontroller does."""
    net = Quantized(form, signed=signed, zero=zero).round(2.0**-4).conv(4, 3, 2.0**-3, pads=[1] * 4).pool()
    net.linear(64, 5, 2.0**-2, gemm=False)
    net.ends_in_levels = True
    same(net)


@pytest.mark.parametrize(("end", "greatest"), [(6.0, (96, 255)), (5.97, (255, 48)), (40.0, (255, 255))])
def test_a_relu6_between_quantizers(end, greatest):
    """Where the first one has no level at its end, it is the second one's; where it has none that high, there is none."""
    net = Quantized(seed=3).round(2.0**-4).conv(4, 3, 2.0**-4, relu=False)
    net.last = net.add("Clip", net.last, net.constant(0.0), net.constant(end))
    found = same(net.round(2.0**-3).linear(144, 4))
    assert tuple(layer.count_max for layer in found.network.layers[:2]) == greatest


def test_a_batch_normalization_between_quantizers():
    """It becomes a layer that takes each value by itself, with the ReLU after it."""
    net = Quantized(seed=3).round(2.0**-4).conv(4, 3, 2.0**-3, relu=False, step=2.0**-3)
    gain, shift = np.array([1, 2, 0.5, -1]), np.array([0, -3, 1, 2])
    net.last = net.add("BatchNormalization", net.last, *map(net.constant, (gain, shift, np.zeros(4), np.ones(4))), epsilon=0.0)
    found = same(net.activate(True).round(2.0**-2).linear(144, 4))
    layer = found.network.layers[1]
    assert (layer.name, layer.groups, layer.relu) == ("Relu_7", 4, True)


def test_weights_of_one_bit():
    """QONNX's, of -1 and 1."""
    net = Quantized("qonnx", seed=3).round(2.0**-4)
    floats = net.rng.normal(0, 1, (4, 2, 3, 3))
    weights = net.add("BipolarQuant", net.constant(floats), net.constant(2.0**-3), domain="qonnx.custom_op.general")
    net.last, net.shape = net.add("Conv", net.last, weights), (6, 6, 4)
    found = same(net.activate(True).round(2.0**-2).linear(144, 4))
    assert (found.network.layers[0].weights == np.where(floats >= 0, 1, -1)).all()
    assert found.network.layers[0].weight_bits == 2


@pytest.mark.parametrize("mode", ["FLOOR", "ROUND"])
def test_averages_that_are_truncated(mode):
    """QONNX's Trunc of the average of four levels: its steps are fourths of them, its result has their step again."""
    net = Quantized("qonnx", seed=3).round(2.0**-2, bits=4)
    net.last = net.add("AveragePool", net.last, kernel_shape=[2, 2], strides=[2, 2])
    inputs = (net.constant(n) for n in (2.0**-4, 0, 6, 2.0**-2, 4))
    how = {"rounding_mode": mode, "signed": 0, "narrow": 0, "domain": "qonnx.custom_op.general"}
    net.last = net.add("Trunc", net.last, *inputs, **how)
    same(net.linear(32, 4))


def test_an_input_without_levels_has_every_pixel_value():
    net = Quantized()
    net.step = 1 / 255
    found = convert(net.conv(3, 3, 2.0**-4).linear(108, 4))
    assert (found.network.input_levels, found.network.input_threshold, found.network.input_step) == (255, 0, 1)
    assert not found.layers[0].exact and found.layers[0].worst == 1
    assert found.layers[0].largest <= 1 and found.layers[0].differing < found.layers[0].counts / 100


LAYERED = Quantized(seed=1).round(2.0**-8).conv(3, 3, 2.0**-4).linear(108, 4)


@pytest.mark.parametrize("net", [usual(), LAYERED], ids=["coder", "layer"])
def test_the_file_is_the_networks_origin(net):
    """Whether the input's coding takes pixels to levels, or a layer does."""
    network, floats = convert(net).network, import_model(net.model(), "net.onnx")
    floats = layers_as_built(floats, network)
    check_structure(network, floats)
    assert another_origin(network, floats) is None
    other = import_model(Quantized(seed=1).round(2.0**-8).conv(5, 3, 2.0**-4).linear(180, 4).model(), "other.onnx")
    with pytest.raises(ConversionError, match=r"^other.onnx: .*: it is not what network 'net' was converted from$"):
        check_structure(network, layers_as_built(other, network))


@pytest.mark.parametrize("form", FORMS)
def test_scales_that_are_no_powers_of_two_are_off_by_a_last_place_at_most(form):
    net = Quantized(form, seed=2).round(0.07).conv(4, 3, 0.11, step=0.013, pads=[1] * 4).pool().linear(64, 5, 0.3, step=0.019)
    found = convert(net)
    assert [(layer.exact, layer.worst) for layer in found.layers] == [(True, 0), (False, 1), (False, 1)]
    assert found.differing == 0
    assert all(layer.largest <= 1 and layer.differing < layer.counts / 50 for layer in found.layers)
    assert found.notes[2] == (
        f"scales of {found.layers[1].name} are not a power of two: weights of {found.layers[1].weight_bits} bits with their "
        "ratio folded in, a count can be off by 1 next to the middle between two levels"
    )


@pytest.mark.parametrize("form", ["qcdq", "qonnx"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_few_levels_are_exact_whatever_the_scales(form, per_channel):
    """Weights are multiples of the file's, another one for each channel, at which every sum gives its level."""
    net = Quantized(form, seed=10).round(1 / 15, bits=4)
    steps = 0.11 * 1.07 ** np.arange(6) if per_channel else 0.11
    net.conv(6, 3, 0.61, step=steps, pads=[1] * 4, bits=3, most=3).pool().conv(4, 3, 0.53, step=0.07, bits=4, most=3)
    net.pool("AveragePool", out_step=0.3).linear(4, 4, 0.02, step=0.019)
    found = same(net)
    assert [layer.bit_for_bit for layer in found.layers] == [False] * 4
    assert all(layer.weight_bits < 16 for layer in found.layers)
    names = [layer.name for layer in found.layers]
    assert found.notes[1] == (
        f"weights of {', '.join(names)} are multiples of the file's, at which every sum gives the file's level"
    )
    assert quantized_lines(import_model(net.model(), "net.onnx"))[1:] == [
        f"every count the file's level, with weights that are multiples of the file's: {', '.join(names)}"
    ]


def test_more_levels_than_fit_are_refused():
    net = Quantized(bits=16, seed=2).round(0.0003).conv(4, 3, 0.0007, step=0.013).linear(144, 5)
    message = (
        r"^net.onnx: layer 'Conv_3': counts must be within one of ONNX Runtime's levels: with scales that are not a power of two "
        r"\(.*Conv_3 0\.0007\), 65,536 levels do not fit potentials of 24 bits; quantize activations to 8 bits$"
    )
    for act in (convert, of_check):
        with pytest.raises(ConversionError, match=message):
            act(net)


def of_check(net):
    """What `model.check` says of it, without data."""
    return quantized_lines(import_model(net.model(), "net.onnx"))


@pytest.mark.parametrize(
    ("scale", "layer", "scales"), [(1e-30, "Conv_3", r".*Conv_3 1e-30"), (1e30, "Conv_8", r"Conv_3 1e\+30, Conv_8 0\.0007")]
)
def test_scales_that_do_not_fit_are_refused_with_data_and_without(scale, layer, scales):
    net = Quantized(seed=2).round(0.003).conv(4, 3, scale, step=0.013).conv(3, 3, 0.0007, step=0.013)
    message = (
        rf"^net.onnx: layer '{layer}': weights and sums must fit 16 and 24 bits, not be \d\.\d+e\+\d+ times as large, as they "
        rf"are with its scales \({scales}\); quantize each activation with a scale that covers its values$"
    )
    for act in (convert, of_check):
        with pytest.raises(ConversionError, match=message):
            act(net)


def test_transposed_convolutions_are_refused_with_data_and_without():
    net = Quantized(seed=2).round(0.003)
    constants = [net.constant(net.rng.integers(-8, 9, (2, 3, 2, 2)), np.int8), net.constant(0.01), net.constant(0, np.int8)]
    net.last = net.add("ConvTranspose", net.last, net.add("DequantizeLinear", *constants), strides=[2, 2])
    net.last = net.add("Relu", net.last)
    net.round(0.02).linear(768, 3)
    message = (
        "^net.onnx: layer 'ConvTranspose_3': must not be a transposed convolution in a quantized file; use a convolution, or "
        "convert the float network$"
    )
    for act in (convert, of_check):
        with pytest.raises(ConversionError, match=message):
            act(net)


def test_weights_are_the_files_bit_for_bit():
    net = Quantized("operators", per := 13).round(2.0**-4).conv(4, 3, 2.0**-4).linear(144, 3, 2.0**-2)
    assert per == 13
    integers = [onnx.numpy_helper.to_array(t) for t in net.constants if t.data_type == onnx.TensorProto.INT8 and t.dims]
    found = same(net).network.layers
    assert (found[0].weights == integers[0]).all() and found[0].threshold_log2 == 4
    by_address = integers[1].T.reshape(3, 4, 6, 6).transpose(0, 2, 3, 1).reshape(3, -1)
    assert (found[1].weights == by_address).all() and found[1].threshold_log2 == 6


@pytest.mark.parametrize("gemm", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_linear_layers(form, gemm):
    net = Quantized(form).round(2.0**-4, bits=4)
    same(net.linear(128, 12, 2.0**-3, relu=form != "operators", gemm=gemm).linear(12, 4, 2.0**-4, gemm=gemm))


def test_one_output_answers_by_its_sign():
    net = Quantized(seed=4).round(2.0**-4, bits=4).conv(3, 3, 2.0**-4).linear(108, 1)
    found = same(net)
    assert (found.network.outputs, found.network.output.activation) == (1, "identity")


def test_a_group_is_written_out_where_that_is_asked_for():
    net = Quantized().round(2.0**-8).conv(4, 3, 2.0**-4, group=2).pool("AveragePool", 3).linear(16, 4)
    plain, hardware = convert(net, for_hardware=True), convert(net, for_hardware=True, ungroup=True)
    assert [getattr(layer, "groups", 1) for layer in plain.network.layers] == [2, 2, 4, 1]
    assert [getattr(layer, "groups", 1) for layer in hardware.network.layers] == [1, 1, 1, 1]
    assert plain.differing == hardware.differing == 0
    assert [layer.differing for layer in hardware.layers] == [0, 0, 0, 0]


def test_levels_of_the_input_can_be_chosen():
    found = convert(usual(), input_levels=3)
    assert (found.network.input_levels, found.network.input_step) == (3, 85)
    assert found.notes[0] == "the file is quantized: deferred firing, its own levels, input of 3 levels"


def test_what_is_said_of_a_file_and_of_what_became_of_it():
    net = usual()
    assert quantized_lines(import_model(net.model(), "net.onnx")) == [
        "the file is quantized: it is converted with deferred firing and its own levels, and with an input of 16 levels",
        "bit for bit: Conv_3, Conv_9, QuantizeLinear_14, Gemm_18",
    ]
    assert same(net).notes == (
        "the file is quantized: deferred firing, its own levels, input of 16 levels",
        "weights of Conv_3, Conv_9, QuantizeLinear_14, Gemm_18 are the file's bit for bit",
        "on 24 frames 0 of 7,704 counts differ from ONNX Runtime's levels, and 0 answers",
    )


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--levels", "--levels must not be given with a quantized file: its activations have levels of their own"),
        (
            "--firing immediate",
            "--firing immediate must not be given with a quantized file: its layers round whole sums, which is what deferred "
            "firing does",
        ),
        ("--no-rounding", "--no-rounding must not be given with a quantized file: it says itself how it rounds"),
    ],
)
def test_options_that_do_not_go_with_a_quantized_file(option, message):
    check_options("net.onnx", ["--out net.npz", "--firing deferred"])
    with pytest.raises(ConversionError) as caught:
        check_options("net.onnx", ["--out net.npz", option])
    assert str(caught.value) == f"net.onnx: {message}"


def test_what_an_option_of_the_input_costs_is_the_inputs():
    """One bit a pixel in place of the file's levels: its loss is said to be the input's, not that of scales."""
    net = LAYERED
    data = Dataset("noise", FRAMES, answers(scores(net)))
    found = conversion(import_model(net.model(), "net.onnx"), data, Settings(input_levels=1), name="net")
    causes = [step.cause for step in found.steps]
    assert causes == ["quantized file", "1-bit input", "last place"]
    assert found.steps[1].lost > 0.4 and found.steps[2].lost == 0
    whole = conversion(import_model(net.model(), "net.onnx"), data, Settings(), name="net")
    assert [(step.cause, step.lost) for step in whole.steps] == [("quantized file", 0.0), ("last place", 0.0)]


DIM = np.random.default_rng(0).integers(0, 6, (20, *SHAPE), dtype=np.uint8)


def calibrated_on_dim_frames(out_step: float) -> FromQuantized:
    """A linear layer on 8 bits, whose sums on other frames are some hundred times as large."""
    net = Quantized(seed=2).round(1 / 255).linear(128, 4, out_step, step=0.013)
    return from_quantized(import_model(net.model(), "net.onnx"), DIM, Settings(), name="net")


@pytest.mark.parametrize(("out_step", "overflow"), [(0.02, 0), (0.005, 1), (0.001, 1)])
def test_sums_that_calibration_did_not_foresee_do_not_wrap_unseen(out_step, overflow):
    """Frames that are bright where weights are positive: each sum is the greatest that there is."""
    found = calibrated_on_dim_frames(out_step)
    output = found.network.output
    bright = np.where(output.weights > 0, 255, 0).reshape(4, *SHAPE).astype(np.uint8)
    result = run_frames(found.network, bright)
    greatest = (np.maximum(output.weights.astype(int), 0) * 255).sum(axis=1) + output.bias
    assert (np.diag(result.potentials) == greatest).all()
    fits = greatest - output.count_limits[0] * output.theta < 1 << output.potential_bits - 1
    assert (result.saturated_events[:, 0] == ~fits).all()
    assert fits.all() == (overflow == 0)
    assert found.layers[-1].overflow == overflow and not any("wrap" in note for note in found.notes)


def test_sums_that_an_exact_layer_does_not_hold_are_said():
    net = Quantized(bits=16, seed=2).round(1 / 255).linear(128, 4, 2.0**-14 / 255, step=2.0**-7)
    found = from_quantized(import_model(net.model(), "net.onnx"), DIM, Settings(), name="net")
    assert (found.layers[-1].exact, found.layers[-1].overflow) == (True, 1)
    assert found.notes[2] == (
        "sums of Gemm_4 can be up to 2 times what potentials of 24 bits hold: frames with such sums are counted as saturated, "
        "and are not exact"
    )


def test_sums_that_may_wrap_unseen_are_said():
    """Where weights are the file's bit for bit, they are not made coarser for sums that no calibration frame has."""
    net = Quantized(bits=16, seed=2).round(1 / 255).linear(128, 4, 2.0**-14 / 255, step=2.0**-6)
    found = from_quantized(import_model(net.model(), "net.onnx"), DIM, Settings(), name="net")
    assert (found.layers[-1].exact, found.layers[-1].overflow) == (True, 2)
    assert found.notes[2] == (
        "sums of Gemm_4 can be up to 4 times what potentials of 24 bits hold, and wrap unseen from twice that on: on frames "
        "unlike those of calibration"
    )
