"""Networks trained on other numbers than pixels of 0 to 1, by options or by the file: the same layers, and the same answers."""

import json
import re

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto

from model.check import main as check
from model.conversion.origin_line import normalization_in, origin_line, tuned_line
from model.conversion.quantize import Settings, quantize
from model.conversion.quantized import counts_of_layers
from model.convert import main as convert
from model.encode import encode, input_counts
from model.engine.engine import run_fast, run_frames
from model.evaluate import main as evaluate
from model.golden import run
from model.importers.normalization import Normalization
from model.importers.onnx import ConversionError, import_model
from model.network import Network
from tests.onnx_graphs import Graph, run_layers

MEAN, STD = (0.4, 0.2, 0.7), (0.2, 0.25, 0.3)
CHANCE = np.random.default_rng(0)


def network(graph):
    """A padded and a strided convolution, and a linear layer."""
    graph.conv(4, 3, 3, pads=[1] * 4).add("Relu").conv(5, 4, 3, pads=[1, 1, 0, 0], strides=[2, 2]).add("Relu")
    return graph.add("Flatten").linear(5 * 4 * 4, 3)


def coloured():
    return Graph(shape=("frames", 3, 8, 8), seed=4)


def by_channel(values):
    return np.array(values).reshape(3, 1, 1)


IN_THE_FILE = {
    "Sub and Div": lambda g: g.add("Sub", by_channel(MEAN)).add("Div", by_channel(STD)),
    "Mul and Add": lambda g: g.add("Mul", 1 / by_channel(STD)).add("Add", -by_channel(MEAN) / by_channel(STD)),
    "BatchNormalization": lambda g: g.add(
        "BatchNormalization", np.ones(3), np.zeros(3), np.array(MEAN), np.array(STD) ** 2 - 1e-5
    ),
}


@pytest.mark.parametrize("construct", IN_THE_FILE)
def test_options_are_what_a_file_may_say(construct):
    said = import_model(network(IN_THE_FILE[construct](coloured())).model(), "net")
    given = import_model(network(coloured()).model(), "net", normalization=Normalization(mean=MEAN, std=STD))
    images = CHANCE.random((4, 8, 8, 3))
    assert np.allclose(said.run(images)[0], given.run(images)[0], atol=1e-4)
    for one, other in zip(said.layers, given.layers, strict=True):
        assert np.allclose(one.weights, other.weights, atol=1e-5) and np.allclose(one.bias, other.bias, atol=1e-4)
    assert np.allclose(run_layers(given, images)[-1][1].reshape(4, -1), given.run(images)[0], atol=1e-4)
    first, second, _ = given.layers
    # One bias for each border class: three kinds of rows and of columns.
    assert first.bias.shape == (8, 8, 4) and second.bias.shape == (5,)
    assert len(np.unique(first.bias.reshape(-1, 4), axis=0)) == 9


@pytest.mark.parametrize("levels", [1, 5])
def test_the_spiking_network_has_the_offset(levels):
    """Golden model, engine and quantized network, against the float network on coded frames."""
    floats = import_model(network(coloured()).model(), "net", normalization=Normalization(mean=MEAN, std=STD))
    found = quantize(floats, [0.05, 0.05, 0.02], Settings(weight_bits=16, input_levels=levels, firing="immediate"), name="net")
    assert found.layers[0].bias.shape == (8, 8, 4) and found.version == 2
    images = CHANCE.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    for image in images[:2]:
        golden, fast = run(found, encode(found, image)), run_fast(found, encode(found, image))
        for name, layer in golden.layers.items():
            assert layer.spikes.tolist() == fast.layers[name].spikes.tolist()
            assert (layer.potential == fast.layers[name].potential).all()
    # Potentials of the first layer are exact sums, saturation apart: they are the float network's, scaled.
    value = 1.0 if levels == 1 else found.input_step / 255
    coded = input_counts(found, images) * value
    theta = found.layers[0].theta
    traces = [run(found, encode(found, image)) for image in images[:2]]
    potentials = np.array([trace.layers["conv0"].potential for trace in traces]) / theta * 0.05
    assert np.abs(potentials - run_layers(floats, coded[:2])[0][0]).max() < 0.02
    (counts,) = counts_of_layers(found, images)
    assert (counts["conv0"][:2] == np.maximum(potentials / 0.05, 0).astype(int)).all()
    scores = run_layers(floats, coded)[-1][1].reshape(6, -1)
    assert np.abs(counts["gemm5"].reshape(6, -1) * 0.02 - scores).max() < 0.2 * np.abs(scores).max()
    assert not run_frames(found, images).saturated_events.any()


def test_pixels_of_type_uint8():
    """Full scale is 255, as the file's own division says."""
    graph = coloured().add("Cast", to=TensorProto.FLOAT).add("Div", np.array(255.0))
    model, plain = network(graph).model(), import_model(network(coloured()).model(), "net")
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    found = import_model(model, "net")
    images = CHANCE.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    for one, other in zip(found.layers, plain.layers, strict=True):
        assert np.allclose(one.weights, other.weights) and np.allclose(one.bias, other.bias)
    assert np.allclose(found.scores(images / 255), plain.scores(images / 255), atol=1e-5)
    given = import_model(model, "net", normalization=Normalization(scale=1.0))
    assert np.allclose(given.layers[0].weights * 255, plain.layers[0].weights)


@pytest.mark.parametrize("operator", ["Div", "Mul", "Sub"])
def test_integers_are_not_computed_with(operator):
    model = network(coloured().add(operator, np.array(2.0), name="first")).model()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    message = f"net: node 'first' ({operator}): must be after a Cast to a float type, as the input is of integers"
    with pytest.raises(ConversionError, match=f"^{re.escape(message)}$"):
        import_model(model, "net")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"std": (0.2, 0.0, 0.1)}, "--std must be finite and above 0, not 0"),
        ({"scale": -1.0}, "--scale must be finite and above 0, not -1"),
        ({"mean": (float("nan"),)}, "--mean must be finite, not nan"),
    ],
)
def test_what_it_must_be(given, message):
    with pytest.raises(ConversionError, match=f"^{re.escape(message)}$"):
        Normalization(**given)


def test_what_it_is_called():
    assert str(Normalization()) == ""
    assert str(Normalization(mean=MEAN, std=(0.5,), scale=255)) == "scale 255, mean 0.4 0.2 0.7, std 0.5"


def doubts(found):
    """What an evaluation says against the normalization."""
    return [warning for warning in found["warnings"] if "is read with" in warning]


def test_commands(tmp_path):
    path, data, net = tmp_path / "net.onnx", tmp_path / "data.npz", tmp_path / "net.npz"
    network(Graph(shape=("frames", 3, 8, 8), seed=10)).save(path)
    given = ["--mean", "0.4, 0.2,0.7", "--std", "0.25"]
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3)).astype(np.uint8)
    floats = import_model(onnx.load(path), "net", normalization=Normalization(mean=MEAN, std=(0.25,)))
    np.savez(data, images=images, labels=floats.scores(images / 255).argmax(axis=1))
    assert CliRunner().invoke(check, [str(path), *given]).exit_code == 0
    done = CliRunner().invoke(check, [str(path), "--mean", "1,2"])
    message = f"{path}: input 'image': --mean must be one number, or one for each of the 3 channels, not 2"
    assert (done.exit_code, done.stderr) == (2, f"error: {message}\n")
    assert CliRunner().invoke(check, [str(path), "--mean", "dark"]).exit_code == 2
    command = [str(path), "--out", str(net), "--calibrate", str(data), "--json", "--accuracy-budget", "0.2"]
    done = CliRunner().invoke(convert, [*command, *given])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["accuracy_ann"] == 1.0
    assert Network.load(net).layers[0].bias.shape == (8, 8, 4)
    assert Network.load(net).origin.startswith("net.onnx, mean 0.4 0.2 0.7, std 0.25, thresholds chosen, firing deferred, ")
    command = [str(net), "--dataset", str(data), "--out", str(tmp_path), "--json"]
    note = "the float network is read with mean 0.4 0.2 0.7, std 0.25, as 'net' was converted"
    for options, notes in ((given, []), ([], [note])):
        done = CliRunner().invoke(evaluate, [*command, *options])
        found = json.loads(done.stdout)
        assert (found["accuracy_ann"], found["notes"], doubts(found)) == (1.0, notes, [])
        assert (f"note: {note}" in done.stderr.splitlines()) == (not options)
    # With others it is another network.
    other = import_model(onnx.load(path), "net").scores(images.astype(np.float32) / 255)
    assert (other != floats.scores(images.astype(np.float32) / 255)).any()
    right = float((other.argmax(axis=1) == np.load(data)["labels"]).mean())
    for options, words in (
        (["--mean", "0", "--std", "1"], "no --mean, --std or --scale"),
        (["--std", "0.25"], "std 0.25"),
        (["--mean", "0.4,0.2,0.7", "--std", "0.25", "--scale", "2"], "scale 2, mean 0.4 0.2 0.7, std 0.25"),
    ):
        done = CliRunner().invoke(evaluate, [*command, *options])
        warning = (
            f"{path} is read with {words}, but 'net' was converted with mean 0.4 0.2 0.7, std 0.25: all figures of the float "
            "network are another network's; leave --mean, --std and --scale out, and they are those of the conversion"
        )
        assert doubts(json.loads(done.stdout)) == [warning]
        assert f"warning: {warning}" in done.stderr.splitlines()
        if words.startswith("no "):
            assert json.loads(done.stdout)["accuracy_ann"] == right < 0.6
    # Said in other words it is the same.
    done = CliRunner().invoke(evaluate, [*command, *given, "--scale", "1"])
    assert doubts(json.loads(done.stdout)) == []
    # Nor is one to be given that the conversion had not.
    np.savez(data, images=images, labels=other.argmax(axis=1))
    assert CliRunner().invoke(convert, [str(path), "--out", str(net), "--calibrate", str(data), "--levels", "4"]).exit_code == 0
    found = json.loads(CliRunner().invoke(evaluate, command).stdout)
    assert (found["accuracy_ann"], found["notes"], doubts(found)) == (1.0, [], [])
    found = json.loads(CliRunner().invoke(evaluate, [*command, *given]).stdout)
    assert doubts(found) == [
        f"{path} is read with mean 0.4 0.2 0.7, std 0.25, but 'net' was converted with no --mean, --std or --scale: all figures "
        "of the float network are another network's; leave --mean, --std and --scale out, and they are those of the conversion"
    ]


CHOICES = ["thresholds chosen", "all thresholds 0.15, firing deferred", "quantized file, firing deferred"]


@pytest.mark.parametrize("choices", CHOICES)
@pytest.mark.parametrize(
    "normalization",
    [
        Normalization(),
        Normalization(mean=MEAN),
        Normalization(std=(1e-7,)),
        Normalization(mean=(-0.13066047627384287,), std=(1 / 3,), scale=255.0),
        Normalization(scale=1.0),
    ],
)
def test_the_line_of_an_origin_says_it(choices, normalization):
    for file in ("net.onnx", "my net, mean 0.5.onnx", "x"):
        line = origin_line(file, normalization, choices, frames=40, data="a, mean 3, thresholds chosen.npz")
        assert normalization_in(line) == normalization


def test_other_lines_do_not_say_it():
    line = tuned_line("net.onnx", epochs=3, frames=55_000, data="mnist")
    assert line == "net.onnx, fine-tuned for 3 epochs on 55,000 frames of mnist"
    assert normalization_in(line) == Normalization()
    others = ["", "net.onnx, mean 0.5", "by hand on 3 frames of mnist"]
    # What is no number, or none that can be.
    wrong = ("mean 1-2", "std 0", "scale 1 2", "std 1e999")
    others += [f"net.onnx, {text}, thresholds chosen on 4 frames of x" for text in wrong]
    assert [normalization_in(line) for line in others] == [None] * len(others)
