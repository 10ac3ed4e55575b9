"""Conversion from ONNX: equal to the float network where nothing is lost, and errors in one line."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from model.conversion.convert import convert, convert_file
from model.conversion.quantize import Settings, fit_widths, quantize
from model.convert import main
from model.encode import encode
from model.engine.engine import run_frames
from model.golden import run
from model.importers.onnx import ConversionError, import_model, import_onnx, report_nodes
from model.machine.named_plans import named_plan
from model.machine.plan import PlanError
from model.network import Convolution, Linear, MaxPool, Network, Neurons
from model.rest import states_at_rest
from model.support.datasets import Dataset
from model.support.errors import NetworkError
from model.support.names import SAFE_NAME
from tests.onnx_graphs import Graph

RNG = np.random.default_rng(0)


def save(path, nodes, weights, shape=(1, 2, 8, 8), opset=17):
    outputs = [helper.make_empty_tensor_value_info(nodes[-1].output[0])]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        outputs,
        [
            numpy_helper.from_array(np.asarray(value, np.float32 if np.asarray(value).dtype.kind == "f" else np.int64), name)
            for name, value in weights.items()
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


def small(tmp_path, **conv):
    """Conv, Relu, MaxPool, Reshape, MatMul + Add, Softmax."""
    nodes = [
        helper.make_node(
            "Conv", ["image", "w1", "b1"], ["c1"], name="/conv/1", kernel_shape=[3, 3], **(conv or {"pads": [1] * 4})
        ),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("MaxPool", ["r1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Dropout", ["p1"], ["d1"]),
        helper.make_node("Reshape", ["d1", "shape"], ["f1"]),
        helper.make_node("MatMul", ["f1", "w2"], ["m1"], name="head"),
        helper.make_node("Add", ["m1", "b2"], ["a1"]),
        helper.make_node("Softmax", ["a1"], ["s1"]),
    ]
    weights = {
        "w1": RNG.normal(0, 0.5, (4, 2, 3, 3)),
        "b1": RNG.normal(0, 0.1, 4),
        "shape": np.array([1, -1]),
        "w2": RNG.normal(0, 0.3, (64, 3)),
        "b2": RNG.normal(0, 0.1, 3),
    }
    return save(tmp_path / "net.onnx", nodes, weights)


def test_layers_and_addresses(tmp_path):
    float_network = import_onnx(small(tmp_path))
    assert [(layer.kind, layer.name, layer.relu) for layer in float_network.layers] == [
        ("convolution", "conv_1", True),
        ("maxpool", "maxpool", False),
        ("linear", "head", False),
    ]
    images = RNG.random((5, 8, 8, 2))
    pooled, logits = float_network.run(images, ["p1", "a1"])
    head = float_network.layers[-1]
    by_address = pooled.transpose(0, 2, 3, 1).reshape(5, -1)
    assert np.allclose(by_address @ head.weights.T + head.bias, logits, atol=1e-4)


@pytest.mark.parametrize(
    "conv",
    [
        {"auto_pad": "SAME_UPPER"},
        {"auto_pad": "SAME_LOWER", "strides": [2, 1]},
        {"auto_pad": "VALID"},
        {"pads": [0, 1, 2, 1], "strides": [1, 2]},
    ],
)
def test_convolution_geometry_is_onnx(tmp_path, conv):
    """The integer network's potentials, with tiny thresholds removed, are the float network's convolution."""
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"], name="conv", **conv),
        # The order of addresses, in which a convolution at the end stays one.
        helper.make_node("Transpose", ["c"], ["out"], perm=[0, 2, 3, 1]),
    ]
    path = save(tmp_path / "c.onnx", nodes, {"w": RNG.integers(-3, 4, (3, 2, 3, 3)).astype(float)})
    float_network = import_onnx(path)
    network = quantize(float_network, [64.0], Settings(weight_bits=16, rounding=False), name="c")
    layer = network.layers[0]
    assert isinstance(layer, Convolution)
    images = (RNG.random((3, 8, 8, 2)) > 0.6).astype(np.uint8) * 255
    expected = float_network.run(images / 255)[0].reshape(3, -1)
    assert (run_frames(network, images).potentials * 64 == np.rint(expected).astype(int) * layer.theta).all()


def test_end_to_end(tmp_path):
    float_network = import_onnx(small(tmp_path))
    images = RNG.integers(0, 256, (60, 8, 8, 2), dtype=np.uint8)
    labels = float_network.run((images > 51).astype(np.float32))[0].reshape(60, -1).argmax(axis=1)
    found = convert(float_network, Dataset(name="own", images=images, labels=labels), Settings(accuracy_budget=0.05), name="own")
    assert found.accuracy_float_1bit == 1.0
    assert found.accuracy_snn >= 0.9
    assert isinstance(found.network.layers[1], MaxPool)
    assert all(layer.mean_events > 0 for layer in found.network.layers)
    assert run_frames(found.network, images).saturated_events.sum() == 0
    paper = convert(float_network, Dataset(name="own", images=images, labels=labels), Settings(threshold=0.5), name="own")
    assert set(paper.thresholds.values()) == {0.5}


def test_batch_normalization_is_folded(tmp_path):
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"], name="conv"),
        helper.make_node("BatchNormalization", ["c", "g", "o", "m", "v"], ["n"], epsilon=1e-3),
        helper.make_node("Transpose", ["n"], ["out"], perm=[0, 2, 3, 1]),
    ]
    values = {"w": RNG.normal(0, 1, (3, 2, 3, 3)), "g": RNG.random(3), "o": RNG.random(3), "m": RNG.random(3), "v": RNG.random(3)}
    network = import_onnx(save(tmp_path / "bn.onnx", nodes, values))
    (layer,) = network.layers
    images = RNG.random((1, 8, 8, 2))
    expected = network.run(images)[0]
    plain = [
        helper.make_node("Conv", ["image", "w", "b"], ["c"]),
        helper.make_node("Transpose", ["c"], ["out"], perm=[0, 2, 3, 1]),
    ]
    folded = import_onnx(save(tmp_path / "plain.onnx", plain, {"w": layer.weights, "b": layer.bias}))
    assert np.allclose(folded.run(images)[0], expected, atol=1e-4)


def one(tmp_path, operator, weights=None, **attributes):
    return save(
        tmp_path / "x.onnx",
        [helper.make_node(operator, ["image", *(weights or {})], ["y"], name="odd", **attributes)],
        weights or {},
    )


W = np.ones((4, 2, 3, 3))


@pytest.mark.parametrize(
    ("operator", "weights", "attributes", "message"),
    [
        ("Elu", {}, {}, "node 'odd' (Elu): operator Elu is not supported; train with ReLU"),
        ("GlobalAveragePool", {}, {}, None),
        ("Conv", {"w": W}, {"dilations": [0, 1]}, "node 'odd' (Conv): dilations must be two numbers of at least 1, not [0, 1]"),
        (
            "Conv",
            {"w": np.ones((4, 1, 3, 3))},
            {"group": 3},
            "node 'odd' (Conv): weights must take 2 channels, not 1 in 3 groups",
        ),
        ("Conv", {"w": np.ones((4, 3, 3, 3))}, {}, "node 'odd' (Conv): weights must take 2 channels, not 3"),
        (
            "Conv",
            {"w": np.ones((4, 2, 9, 9))},
            {},
            "node 'odd' (Conv): window 9x9 must not be larger than its padded input 8x8x2",
        ),
        ("Gemm", {"w": np.ones((128, 4))}, {}, "node 'odd' (Gemm): input of shape 8x8x2 must be flattened first"),
        ("Add", {"b": np.ones(3)}, {}, "node 'odd' (Add): constant must hold one value per channel (2), not shape (3,)"),
        ("Relu", {}, {}, None),
    ],
)
def test_what_is_not_supported_is_named(tmp_path, operator, weights, attributes, message):
    path = one(tmp_path, operator, weights, **attributes)
    expected = f"{path}: {message}" if message else f"{path}: must have a Conv, Gemm or MatMul node"
    with pytest.raises(ConversionError, match=f"^{re.escape(expected)}$"):
        import_onnx(path)


def test_a_relu_after_a_pool_is_the_same_network(tmp_path):
    images = RNG.integers(0, 256, (20, 8, 8, 2), dtype=np.uint8)
    data = Dataset(name="noise", images=images, labels=RNG.integers(0, 3, 20))
    weights = {"w1": RNG.normal(0, 0.5, (4, 2, 3, 3)), "b1": RNG.normal(-1, 0.5, 4), "w2": RNG.normal(0, 0.3, (64, 3))}
    found = []
    attributes = {"Relu": {}, "MaxPool": {"kernel_shape": [2, 2], "strides": [2, 2]}}
    for order in (("Relu", "MaxPool"), ("MaxPool", "Relu")):
        nodes = [
            helper.make_node("Conv", ["image", "w1", "b1"], ["c"], name="conv", pads=[1] * 4),
            helper.make_node(order[0], ["c"], ["a"], **attributes[order[0]]),
            helper.make_node(order[1], ["a"], ["b"], **attributes[order[1]]),
            helper.make_node("Flatten", ["b"], ["f"]),
            helper.make_node("MatMul", ["f", "w2"], ["y"], name="head"),
        ]
        path = save(tmp_path / f"{order[0]}.onnx", nodes, weights)
        found.append(convert(import_onnx(path), data, Settings(), name="net").network)
    assert found[0].content_hash == found[1].content_hash


def test_branches_and_reports(tmp_path):
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"], name="conv", pads=[1] * 4),
        helper.make_node("Mul", ["c", "image"], ["y"], name="gate"),
    ]
    path = save(tmp_path / "gate.onnx", nodes, {"w": np.ones((2, 2, 3, 3))})
    with pytest.raises(
        ConversionError, match=r"node 'gate' \(Mul\): must have one input that is not a constant, not 2; branches are"
    ):
        import_onnx(path)
    assert [report.supported for report in report_nodes(one(tmp_path, "LSTM"))] == [False]


def grouped(tmp_path, window=2):
    """A depthwise separable network with a max-pool of stride 2."""
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["c1"], name="depthwise", group=2, pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="pointwise"),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("MaxPool", ["r2"], ["p2"], name="pool", kernel_shape=[window] * 2, strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["p2"], ["y"], name="mean"),
    ]
    rng = np.random.default_rng(5)
    weights = {"w1": rng.uniform(-0.2, 0.5, (2, 1, 3, 3)), "w2": rng.uniform(-0.2, 0.5, (3, 2, 1, 1))}
    return save(tmp_path / "grouped.onnx", nodes, weights)


def test_for_hardware(tmp_path):
    path = grouped(tmp_path)
    images = RNG.integers(0, 256, (40, 8, 8, 2), dtype=np.uint8)
    data = Dataset(name="own", images=images, labels=RNG.integers(0, 3, 40))
    plain = quantize(import_onnx(path), [0.5, 0.5, 0.1], Settings(), name="net")
    layer = plain.layer("depthwise")
    assert isinstance(layer, Convolution) and (layer.groups, layer.weights.shape) == (2, (2, 1, 3, 3))
    with pytest.raises(PlanError, match=r"^layer 'depthwise': a convolution of 2 groups is walked by no folded machine as "):
        named_plan(plain, "folded")
    networks = []
    for ungroup, groups in ((False, 2), (True, 1)):
        settings = Settings(for_hardware=True, ungroup=ungroup, accuracy_budget=0.5)
        found = convert(import_onnx(path), data, settings, name="net")
        assert found.groups_expanded == (("depthwise",) if ungroup else ())
        layer = found.network.layer("depthwise")
        assert isinstance(layer, Convolution) and (layer.groups, layer.weights.shape) == (groups, (2, 2 // groups, 3, 3))
        named_plan(found.network, "default")
        networks.append(found.network)
    assert (run_frames(networks[0], images).counts == run_frames(networks[1], images).counts).all()
    overlapping = grouped(tmp_path, window=3)
    plain = quantize(import_onnx(overlapping), [0.5, 0.5, 0.1], Settings(ungroup=True), name="net")
    assert isinstance(plain.layer("pool"), MaxPool)
    named_plan(plain, "default")


def test_command(tmp_path):
    def run(*args):
        done = CliRunner().invoke(main, [*map(str, args)])
        return done.exit_code, done.stderr.strip().splitlines()[-1]

    broken, out = tmp_path / "broken.onnx", tmp_path / "net.npz"
    broken.write_bytes(b"not onnx at all")
    code, line = run(broken, "-o", out)
    assert code == 2
    assert line.startswith(f"error: {broken}: must be an ONNX file")
    assert run(tmp_path / "none.onnx", "-o", out) == (
        2,
        f"error: {tmp_path / 'none.onnx'}: cannot be read: No such file or directory",
    )
    code, line = run(small(tmp_path), "-o", out)
    assert code == 2
    assert line == "error: frames of digits5k must have the network's input shape (8, 8, 2), not (28, 28, 1)"
    assert not out.exists()
    assert run(small(tmp_path), "-o", out, "--threshold", "1.0") == (2, "error: --threshold must not be given without --paper")
    images = RNG.integers(0, 256, (20, 8, 8, 2), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images=images, labels=RNG.integers(0, 3, 20))
    code, _ = run(small(tmp_path), "-o", out, "--calibrate", tmp_path / "data.npz")
    assert code == 0
    assert any(isinstance(layer, Neurons) for layer in Network.load(out).layers)
    out.unlink()
    np.savez(tmp_path / "sorted.npz", images=images, labels=np.arange(20) // 5)
    assert run(small(tmp_path), "-o", out, "--calibrate", tmp_path / "sorted.npz", "--frames", 8) == (
        2,
        f"error: {tmp_path / 'sorted.npz'}: the first 8 frames must hold more than half of the 4 classes, not only 0, 1; "
        "shuffle the data or raise --frames",
    )
    more = ("--calibrate", tmp_path / "data.npz", "--accuracy-budget", "1", "--for-hardware", "--ungroup")
    done = subprocess.run(
        [sys.executable, "-m", "model.convert", grouped(tmp_path), "-o", out, *more],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert done.returncode == 0, done.stderr
    assert "groups written as ordinary convolutions: depthwise" in done.stderr


def test_a_single_output_answers_by_its_sign():
    graph = Graph(seed=3).conv(6, 2, 3).add("Relu").add("Flatten").linear(6 * 36, 1)
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (400, 8, 8, 2), dtype=np.uint8)
    logits = import_model(graph.model(), "net.onnx").run((images > 51).astype(np.float32))[0]
    floats = import_model(graph.add("Sub", np.median(logits, axis=0)).model(), "net.onnx")
    # Frames of which it is sure.
    order = logits[:, 0].argsort()
    images = images[np.concatenate([order[:40], order[-40:]])]
    labels = (floats.run((images > 51).astype(np.float32))[0][:, 0] > 0).astype(np.int64)
    assert labels.sum() == 40
    found = convert(floats, Dataset("own", images, labels), Settings(accuracy_budget=0.02), name="net")
    assert (found.network.outputs, found.network.classes) == (1, 2)
    assert found.accuracy_float_1bit == 1.0
    assert found.accuracy_snn >= 0.97
    assert [step.accuracy for step in found.steps if step.cause == "saturation"] == [found.accuracy_snn]
    assert {run(found.network, encode(found.network, image)).answer for image in images[::10]} == {0, 1}


def test_data_are_said_or_refused(tmp_path):
    rng = np.random.default_rng(2)
    images, labels = rng.integers(0, 2, (40, 2, 8, 8)), rng.integers(0, 3, (40, 1))
    np.savez(tmp_path / "data.npz", x_train=images, y_train=labels)
    np.savez(tmp_path / "counts.npz", images=images * 15, labels=labels)
    np.savez(tmp_path / "from_1.npz", images=images, labels=labels + 1)

    def run(data):
        command = [small(tmp_path), "-o", tmp_path / "net.npz", "--calibrate", data, "--accuracy-budget", "1"]
        done = CliRunner().invoke(main, [*map(str, command)])
        return done.exit_code, done.stderr.strip().splitlines()

    for name, message in (
        (
            "counts",
            "some pixels must be greater than 51 (of full scale 255), so that something fires, but the largest of 40 frames is "
            "15; scale the frames to 0..255",
        ),
        ("from_1", "labels must be within 0..2, not 1..3; they count from 1: subtract 1"),
    ):
        code, lines = run(tmp_path / f"{name}.npz")
        assert (code, lines[-1]) == (2, f"error: {tmp_path / name}.npz: {message}")
        assert not (tmp_path / "net.npz").exists()
    code, lines = run(tmp_path / "data.npz")
    assert code == 0
    assert [line.removeprefix(f"note: {tmp_path / 'data.npz'}: ") for line in lines if line.startswith("note: ")] == [
        "arrays are x_train and y_train",
        "pixels are 0 or 1: 1 is taken as full scale",
        "labels of shape (40, 1) are taken as one per frame",
        "frames of shape (2, 8, 8) are taken with the channels first, as (8, 8, 2)",
    ]


def test_a_name_that_leads_elsewhere_is_refused_before_anything_is_read(tmp_path):
    message = f"network's name must be {SAFE_NAME}, not '../x'"
    with pytest.raises(NetworkError, match=f"^{re.escape(message)}$"):
        convert_file(tmp_path / "missing.onnx", name="../x")


def test_what_is_read_is_not_overwritten(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("net.npz", "data.npz"):
        (tmp_path / name).write_bytes(b"not read")
    (tmp_path / "link.npz").symlink_to("data.npz")
    (tmp_path / "folder").mkdir()
    for onnx_file, out, calibrate, what in (
        ("net.onnx", "data.npz", "data.npz", "the calibration file"),
        ("net.onnx", str(tmp_path / "folder" / ".." / "data.npz"), "data.npz", "the calibration file"),
        ("net.onnx", "link.npz", "data.npz", "the calibration file"),
        ("net.onnx", "data.npz", "link.npz", "the calibration file"),
        ("net.npz", "net.npz", "data.npz", "the ONNX file"),
    ):
        result = CliRunner().invoke(main, [onnx_file, "-o", out, "--calibrate", calibrate])
        line = f"error: --out must not be {what}, {out!r}: it would be overwritten"
        assert (result.exit_code, result.stderr.splitlines()[-1]) == (2, line)
    assert {path.read_bytes() for path in tmp_path.glob("*.npz")} == {b"not read"}


def scaled(first, last):
    """A network of which the two layers' weights are so many times as large."""
    graph, rng = Graph(17), np.random.default_rng(4)
    graph.add("Conv", rng.normal(0, 0.5, (4, 2, 3, 3)) * first, rng.normal(0, 0.1, 4) * first).add("Relu").add("Flatten")
    graph.add("Gemm", rng.normal(0, 0.3, (3, 144)) * last, rng.normal(0, 0.3, 3) * first * last, transB=1)
    return import_model(graph.model(), "net.onnx")


def test_the_scale_of_weights_does_not_matter():
    images = ((RNG.random((60, 8, 8, 2)) < 0.4) * 255).astype(np.uint8)
    labels = scaled(1, 1).scores(images.astype(np.float32) / 255).argmax(axis=1)
    given = Dataset("own", images, labels)
    found = convert(scaled(1, 1), given, Settings(), name="net")
    assert found.accuracy_float == 1
    assert found.accuracy_snn > 0.9
    for first, last in ((1, 2.0**-24), (2.0**-30, 1), (2.0**-30, 2.0**-30), (2.0**40, 2.0**-60), (2.0**30, 2.0**30)):
        again = convert(scaled(first, last), given, Settings(), name="net")
        assert again.network.content_hash == found.network.content_hash
        assert list(again.thresholds.values()) == [
            theta * scale for theta, scale in zip(found.thresholds.values(), (first, first * last), strict=True)
        ]
    tenth = convert(scaled(1, 1e-7), given, Settings(), name="net")
    assert abs(tenth.accuracy_snn - found.accuracy_snn) < 0.05


def converted(tmp_path, *options):
    """The network that the command writes, and its report."""
    onnx_file, data, out = small(tmp_path), tmp_path / "data.npz", tmp_path / "out.npz"
    images = np.random.default_rng(0).integers(0, 256, (80, 8, 8, 2), dtype=np.uint8)
    labels = import_onnx(onnx_file).scores((images > 51).astype(np.float32)).argmax(axis=1)
    np.savez(data, images=images, labels=labels)
    found = CliRunner().invoke(main, [str(onnx_file), "-o", str(out), "--calibrate", str(data), "--json", *options])
    return found, Network.load(out) if out.exists() else None


def test_firing_rest_burst_and_rounding_are_options(tmp_path):
    found, network = converted(tmp_path, "--firing", "deferred", "--thresholds", "channel")
    report = json.loads(found.stdout)
    assert network.deferred
    assert ", firing deferred, rounding, thresholds by channel on " in network.origin
    assert report["firing"] == "deferred" and report["rest"] == network.rest
    # With deferred firing nothing can be lost to the order of events.
    assert "order of events" not in {step["cause"] for step in report["steps"]}
    assert report["accuracy_snn"] >= report["accuracy_ann_1bit"] - 0.05
    _, plain = converted(tmp_path, "--firing", "immediate", "--burst", "0", "--no-rest")
    assert [layer.burst for layer in plain.layers if isinstance(layer, Neurons)] == [0, 0]
    assert (plain.firing, plain.rest) == ("immediate", False)
    assert ", bursts of any number on " in plain.origin


def test_without_options_it_is_the_fewest_accumulations_within_the_budget(tmp_path):
    """Deferred, with rounding; all that was tried is told and kept, and the network is the best of it."""
    found, network = converted(tmp_path)
    report = json.loads(found.stdout)
    assert network.deferred and report["firing"] == "deferred"
    assert ", firing deferred, rounding on 80 frames" in network.origin
    assert report["accuracy_snn"] >= max(report["accuracy_ann"], report["accuracy_ann_1bit"]) - 0.005
    assert list(report["levels"]) == [layer.name for layer in network.layers if isinstance(layer, Neurons)]
    assert report["macs_per_frame"] == import_onnx(tmp_path / "net.onnx").macs
    told = [line for line in found.stderr.splitlines() if line.startswith("levels ")]
    assert len(told) == len(report["tried"]) > 3
    for line, tried in zip(told, report["tried"], strict=True):
        levels = ", ".join(f"{n:g}" for n in tried["levels"])
        assert line == (
            f"levels {levels}: accuracy {tried['accuracy']:.4f}, {tried['accuracy_expected']:.4f} to expect, "
            f"{tried['accumulations_per_frame']:,.0f} accumulations and {tried['spikes_per_frame']:,.0f} spikes per frame"
        )
    best = [
        tried
        for tried in report["tried"]
        if tried["levels"] == list(report["levels"].values())
        and (tried["input_levels"], tried["bias_corrected"]) == (report["input_levels"], report["bias_corrected"])
    ]
    assert (best[0]["accuracy"], best[0]["accumulations_per_frame"]) == (
        report["accuracy_snn"], report["accumulations_per_frame"]
    )
    assert best[0]["accuracy_expected"] >= report["accuracy_wanted"] - 0.0005
    assert {tried["frames"] for tried in report["tried"]} == {80}
    # The figures are the engine's.
    data = np.load(tmp_path / "data.npz")
    frames = run_frames(network, data["images"])
    assert frames.operations.sum(axis=1).mean() == report["accumulations_per_frame"]
    assert (frames.counts.argmax(axis=1) == data["labels"]).mean() == report["accuracy_snn"]
    out = CliRunner().invoke(
        main, [str(tmp_path / "net.onnx"), "-o", str(tmp_path / "out.npz"), "--calibrate", str(tmp_path / "data.npz")]
    )
    assert "what was tried" in out.stderr and Network.load(tmp_path / "out.npz") == network


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        (["--levels", "64"], "fewer --levels take"),
        (["--input-levels", "32"], "fewer --input-levels take"),
        (["--levels", "2", "--input-levels", "32"], "fewer --levels or --input-levels take"),
        (["--paper", "--threshold", "0.02"], "a larger --threshold takes"),
    ],
)
def test_what_takes_fewer_accumulations_is_an_option_that_may_be_given(tmp_path, options, remedy):
    onnx_file, data, out = small(tmp_path), tmp_path / "data.npz", tmp_path / "out.npz"
    images = np.random.default_rng(0).integers(0, 256, (80, 8, 8, 2), dtype=np.uint8)
    np.savez(data, images=images, labels=import_onnx(onnx_file).scores(images.astype(np.float32) / 255).argmax(axis=1))
    found = CliRunner().invoke(main, [str(onnx_file), "-o", str(out), "--calibrate", str(data), *options])
    assert found.exit_code == 0
    said = f"more accumulations than the float network has multiplications: {remedy} fewer, and so does fine-tuning"
    assert said in " ".join(found.stderr.split())


def test_a_budget_is_for_a_search(tmp_path):
    found, network = converted(tmp_path, "--levels", "2", "--accuracy-budget", "0.01")
    assert (found.exit_code, network) == (2, None)
    assert found.stderr.endswith("error: --accuracy-budget must not be given with --levels, which searches for nothing\n")


def test_of_many_frames_some_are_searched_on():
    """A search measures networks on 500 frames, and what it settles on on all, where the accuracy is held."""
    graph = Graph(shape=("frames", 1, 8, 8)).conv(6, 1, 3, pads=[1, 1, 1, 1]).add("Relu").add("Flatten").linear(384, 4)
    floats = import_model(graph.model(), "net.onnx")
    images = np.random.default_rng(1).integers(0, 256, (700, 8, 8, 1), dtype=np.uint8)
    data = Dataset("own", images, floats.scores(images.astype(np.float32) / 255).argmax(axis=1))
    found = convert(floats, data, Settings(accuracy_budget=0.05), name="net")
    assert {tried.frames for tried in found.tried} == {500, 700}
    last = found.tried[-1]
    assert (last.frames, last.accuracy, last.accumulations) == (700, found.accuracy_snn, found.accumulations_per_frame)
    assert found.accuracy_snn >= found.accuracy_wanted == max(found.accuracy_float, found.accuracy_float_1bit) - 0.05
    assert last.levels == tuple(found.levels.values())


def test_weights_are_as_wide_as_the_accuracy_needs():
    """One output weighs a small weight against a large one, which 8 bits cannot."""
    graph = Graph(shape=("frames", 1, 1, 3)).add("Flatten")
    graph.add("Gemm", np.array([[1.0, 0.0, 0.002], [1.0, 0.003, 0.0]]), np.zeros(2), transB=1)
    floats = import_model(graph.model(), "net.onnx")
    images = np.full((40, 1, 3, 1), 255, np.uint8)
    images[::2, 0, 1] = 0
    data = Dataset("own", images, floats.scores(images.astype(np.float32) / 255).argmax(axis=1))
    found = convert(floats, data, Settings(), name="net")
    assert found.accuracy_snn == 1.0 and found.network.layers[0].weight_bits == 12
    assert [tried.weight_bits for tried in found.tried] == sorted(tried.weight_bits for tried in found.tried)
    assert convert(floats, data, Settings(weight_bits=8), name="net").network.layers[0].weight_bits == 8


def test_rounding_is_half_a_threshold_in_the_bias(tmp_path):
    floats = import_onnx(small(tmp_path))
    down, nearest = (
        quantize(floats, [0.3, 0.2], Settings(firing="deferred", rounding=rounding), name="n") for rounding in (False, True)
    )
    for a, b in zip(down.layers, nearest.layers, strict=True):
        if isinstance(a, Neurons):
            assert (b.bias - a.bias == a.theta // 2).all()
    assert Settings(firing="immediate").rounding_chosen is Settings(threshold=1.0).rounding_chosen is False
    assert Settings().rounding_chosen is Settings(firing="deferred").rounding_chosen is True


@pytest.mark.parametrize("firing", ["immediate", "deferred"])
def test_layers_that_round_may_be_named(tmp_path, firing):
    """Half a threshold in the biases of one layer, and of no other; the search and the steps of accuracy know it."""
    floats = import_onnx(small(tmp_path))
    down, some = (
        quantize(floats, [0.3, 0.2], Settings(firing=firing, rounding=rounding), name="n") for rounding in (False, ("conv_1",))
    )
    a, b = down.layers[0], some.layers[0]
    assert (b.bias - a.bias == a.theta // 2).all()
    assert (down.layers[-1].bias == some.layers[-1].bias).all() and (down.layers[-1].weights == some.layers[-1].weights).all()
    found, network = converted(tmp_path, "--firing", firing, "--rounding-layers", "conv_1", "--levels", "2")
    assert found.exit_code == 0 and ", rounding of conv_1 on " in network.origin
    # Its float biases are a small part of a threshold.
    first, last = network.layers[0], network.layers[-1]
    assert (np.abs(first.bias - first.theta / 2) < first.theta / 4).all() and not (last.bias > last.theta / 4).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rounding-layers", "conv_1,pool"], "layers that round must be of conv_1, {last}, not 'pool'"),
        (["--rounding-layers", "conv_1", "--no-rounding"], "--no-rounding must not be given with --rounding-layers"),
        (["--rounding-layers", "conv_1", "--paper"], "--rounding-layers must not be given with --paper"),
        (["--rounding-layers", "a,,b"], "Invalid value for '--rounding-layers': 'a,,b' must be different names with commas"),
    ],
)
def test_names_of_layers_that_round(tmp_path, options, message):
    last = import_onnx(small(tmp_path)).layers[-1].name
    found, network = converted(tmp_path, *options)
    assert (found.exit_code, network) == (2, None)
    assert message.format(last=last) in found.stderr


def test_rest_only_where_it_is_not_the_biases():
    layer = {"source": "input", "weights": np.full((2, 3), 40), "threshold_log2": 6}
    images = np.full((2, 1, 1, 3), 255, np.uint8)
    for bias, rests in (([63, -200], False), ([63, 64], True)):
        fc = Linear(name="fc", bias=np.array(bias), **layer)
        network = fit_widths(Network(name="n", input_shape=(1, 1, 3), layers=(fc,), rest=True), images)
        assert network.rest is rests
        state = states_at_rest(network)["fc"]
        assert (state.potential == bias).all() and run(network, encode(network, images[0])).counts.sum() > 0
    assert [Settings(**options).rests for options in ({}, {"threshold": 1.0}, {"for_hardware": True})] == [True, False, True]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--input-levels", "3"], "--input-levels 3"),
        (["--firing", "deferred"], "--firing deferred"),
        (["--rest"], "--rest"),
        (["--burst", "4"], "--burst 4"),
        (["--rounding"], "--rounding"),
        (["--thresholds", "channel"], "--thresholds channel"),
        (["--levels", "2"], "--levels"),
    ],
)
def test_the_paper_has_one_way(tmp_path, options, what):
    found, network = converted(tmp_path, "--paper", *options)
    assert (found.exit_code, network) == (2, None)
    assert found.stderr.endswith(f"error: {what} must not be given with --paper\n")
    plain = converted(tmp_path, "--paper")[1]
    assert (plain.firing, plain.rest, plain.layers[0].burst) == ("immediate", False, 1)


def test_levels_are_taken_as_given(tmp_path):
    """Half as many levels are thresholds twice as large, unless a weight has to fit; and nothing is searched for."""
    onnx_file, data, out = small(tmp_path), tmp_path / "data.npz", tmp_path / "out.npz"
    images = np.random.default_rng(0).integers(0, 256, (80, 8, 8, 2), dtype=np.uint8)
    np.savez(data, images=images, labels=np.arange(80) % 3)
    found = {}
    for levels in ("1", "2"):
        command = [str(onnx_file), "-o", str(out), "--calibrate", str(data), "--json", "--levels", levels]
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 0 and "accumulations per frame" not in result.stderr
        assert f"levels {levels}.0" in Network.load(out).origin
        found[levels] = json.loads(result.stdout)["thresholds"]
    assert found["1"]["conv_1"] == pytest.approx(2 * found["2"]["conv_1"])
    out.unlink()
    refused, network = converted(tmp_path, "--levels", "0.5")
    assert (refused.exit_code, network) == (2, None)


def test_bursts_are_built(tmp_path):
    found, network = converted(tmp_path, "--for-hardware", "--firing", "immediate", "--burst", "4")
    assert found.exit_code == 0
    assert [layer.burst for layer in network.layers if isinstance(layer, Neurons)] == [4, 4]
    found, _ = converted(tmp_path, "--burst", "4")
    assert (found.exit_code, found.stderr) == (2, "error: --burst must not be given without --firing immediate\n")


@pytest.mark.parametrize(("options", "frames"), [([], 50), (["--firing", "immediate"], 30), (["--frames", "40"], 40)])
def test_frames_of_calibration_are_as_many_as_suit_the_search(tmp_path, monkeypatch, options, frames):
    monkeypatch.setattr("model.conversion.convert._CALIBRATED", 50)
    monkeypatch.setattr("model.conversion.convert._CALIBRATED_BY_SIMULATION", 30)
    data, out = tmp_path / "data.npz", tmp_path / "out.npz"
    images = np.random.default_rng(0).integers(0, 256, (80, 8, 8, 2), dtype=np.uint8)
    np.savez(data, images=images, labels=np.arange(80) % 3)
    arguments = [str(small(tmp_path)), "-o", str(out), "--calibrate", str(data), "--json", *options]
    found = CliRunner().invoke(main, arguments)
    assert json.loads(found.stdout)["frames"] == frames and f" on {frames} frames of " in Network.load(out).origin
