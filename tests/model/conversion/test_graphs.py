"""Networks with branches, from ONNX to spikes."""

import numpy as np
import pytest
from click.testing import CliRunner
from onnx import numpy_helper

from model.conversion.channels import channel_scales, with_scales
from model.conversion.convert import convert
from model.conversion.correction import mean_sums
from model.conversion.projections import driven, forget
from model.conversion.quantize import Settings, quantize
from model.conversion.quantized_frames import run_images
from model.convert import main as convert_main
from model.engine.engine import run_frames
from model.evaluate import main as evaluate_main
from model.importers.float_network import ConversionError, pool_of
from model.importers.onnx import import_model
from model.network import INPUT, MaxPool, Network
from model.rest import pooled
from model.studies.origin import another_origin, check_structure
from model.support.dataset import Dataset
from sim.generators.random_onnx_graphs import RandomGraph
from tests.onnx_graphs import TWO, Graph


def residual():
    """A stem, a block with its input added, a block with strides and a 1 x 1 convolution on the shortcut, a concatenation."""
    graph = Graph(shape=("frames", 2, 8, 8), seed=3)
    stem = graph.conv(6, 2, 3, pads=[1] * 4).add("Relu").last
    block = graph.conv(6, 6, 3, pads=[1] * 4).add("Relu").conv(6, 6, 3, pads=[1] * 4).last
    first = graph.add("Add", stem, data=block).add("Relu").last
    inner = graph.conv(8, 6, 3, strides=[2, 2], pads=[1] * 4).last
    shortcut = graph.conv(8, 6, 1, strides=[2, 2], data=first).last
    second = graph.add("Add", shortcut, data=inner).add("Relu").last
    pool = graph.add("MaxPool", data=first, **TWO).last
    graph.add("Concat", pool, data=second, axis=1).conv(5, 14, 1).add("Relu").add("GlobalAveragePool").add("Flatten")
    return graph.linear(5, 4)


def values_of(floats, frames):
    """What each layer gives in front of its activation, and behind it."""
    values, before = {INPUT: frames}, {}
    for layer in floats.layers:
        if layer.kind == "maxpool":
            values[layer.name] = pooled(pool_of(layer), values[layer.source])
            continue
        before[layer.name] = driven(floats, layer, values) + layer.bias
        values[layer.name] = layer.activated(before[layer.name])
    return values, before


def frames_of(count, shape=(8, 8, 2), seed=0):
    """Smooth frames."""
    rng = np.random.default_rng(seed)
    height, width, channels = shape
    corners = rng.uniform(0, 256, (count, height // 2, width // 2, channels))
    return np.repeat(np.repeat(corners, 2, axis=1), 2, axis=2).astype(np.uint8)


def labelled(floats, images):
    """The network's own answers."""
    return Dataset("own", images, floats.scores(images.astype(np.float32) / 255).argmax(axis=1).astype(np.int64))


def test_structure():
    network = quantize(import_model(residual().model(), "net"), [1.0] * 6, Settings(), name="net")
    sources = {layer.name: layer.sources for layer in network.layers}
    kinds = [type(layer) for layer in network.layers]
    assert kinds.count(MaxPool) == 1 and network.branched
    assert sorted(len(each) for each in sources.values()) == [1, 1, 1, 1, 2, 2, 2]


def test_the_layers_are_the_files():
    """Means of sums, layer by layer, and channels scaled: the same function."""
    floats = import_model(residual().model(), "net")
    frames = frames_of(20) / 255
    values, before = values_of(floats, frames)
    scores = floats.scores(frames.astype(np.float32))
    assert np.abs(values[floats.layers[-1].name].reshape(20, -1) - scores).max() < 1e-4 * np.abs(scores).max()
    means = mean_sums(floats, frames)
    assert means.keys() == before.keys()
    for name, found in means.items():
        assert np.abs(found - before[name].reshape(-1, before[name].shape[3]).mean(axis=0)).max() < 1e-9
    neurons = [layer for layer in floats.layers if layer.kind != "maxpool"]
    activations = floats.run(frames.astype(np.float32), [layer.tensor for layer in neurons])
    scales = [channel_scales(layer, found, 1.0) for layer, found in zip(neurons, activations, strict=True)]
    assert any((each != 1).any() for each in scales[:-1])
    scaled, _ = values_of(with_scales(floats, scales[:-1]), frames)
    for layer, scale in zip(neurons[:-1], scales, strict=False):
        assert np.abs(scaled[layer.name] * scale - values[layer.name]).max() < 1e-9
    assert np.abs(scaled[floats.layers[-1].name] - values[floats.layers[-1].name]).max() < 1e-9


def test_potentials_are_those_of_the_float_network():
    """With fine thresholds and wide weights the spiking network gives what the float network does of the coded frames."""
    merges = 0
    for seed in range(40):
        graph = residual() if seed == 0 else RandomGraph(np.random.default_rng(seed)).graph
        try:
            floats = import_model(graph.model(), "net")
        except ConversionError:
            # What folds nowhere is refused: tests of the import say what that is.
            continue
        images = frames_of(3, floats.input_shape)
        settings = Settings(weight_bits=10, firing="deferred", input_levels=4, input_threshold=30, input_step=51)
        _, before = values_of(floats, settings.coding.frames(images))
        large = [max(float(np.abs(found).max()), 0.1) for found in before.values()]
        network = quantize(floats, [each / 128 for each in large], settings, name="net")
        spiking = run_images(network, images)
        assert not spiking.saturated_events.any() and spiking.input_events.any()
        expected = before[floats.layers[-1].name].reshape(len(images), -1)
        found = spiking.potentials * (large[-1] / 128 / network.output.theta)
        # An output that cancels is as exact as what it is the difference of.
        assert np.abs(found - expected).max() < 0.1 * max(large[-1], max(large) / 8)
        merges += sum(len(layer.sources) > 1 for layer in network.layers)
    assert merges > 20


@pytest.mark.parametrize(
    ("settings", "least"),
    [
        (Settings(firing="deferred", accuracy_budget=0.05, input_levels=8), 0.8),
        # Of what comes and is taken back layer after layer, a random network makes more than it has to say.
        (Settings(firing="immediate", levels=8.0, input_levels=8), 0.35),
    ],
)
def test_conversion_keeps_the_accuracy(settings, least):
    floats = import_model(residual().model(), "net")
    data = labelled(floats, frames_of(100))
    found = convert(floats, data, settings, name="net")
    network = found.network
    check_structure(network, floats)
    assert found.accuracy_snn > least and network.branched
    assert network.layers[-1].mean_events > 0
    summaries = run_frames(network, data.images)
    assert (summaries.counts.argmax(axis=1) == data.labels).mean() == found.accuracy_snn
    assert not summaries.saturated_events.any()
    # The ladder ends where the conversion does.
    assert {step.layer for step in found.steps if step.cause == "threshold"} == set(found.thresholds)


def test_another_files_branches_are_told_apart():
    floats = import_model(residual().model(), "net")
    network = quantize(floats, [1.0] * 6, Settings(weight_bits=16), name="net")
    check_structure(network, floats)
    assert another_origin(network, floats) is None
    other = residual()
    # The convolution on the shortcut of the second block.
    name = other.nodes[8].input[1]
    weights = next(constant for constant in other.constants if constant.name == name)
    weights.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weights), name))
    assert another_origin(network, import_model(other.model(), "other")) == network.layers[3].name


def test_forget():
    floats = import_model(residual().model(), "net")
    left, most = {INPUT: 0}, 0
    for layer in floats.layers:
        assert {taken.source for taken in layer.inputs} <= set(left)
        left[layer.name] = 0
        forget(left, floats.layers, layer.name)
        most = max(most, len(left))
    assert list(left) == [floats.layers[-1].name] and most == 2


def test_commands(tmp_path):
    """Converted, evaluated with every spike of some frames."""
    path = residual().save(tmp_path / "net.onnx")
    images = frames_of(50)
    data = labelled(import_model(residual().model(), "net"), images)
    np.savez(tmp_path / "data.npz", images=images, labels=data.labels)
    out = tmp_path / "net.npz"
    done = CliRunner().invoke(
        convert_main, [str(path), "--out", str(out), "--calibrate", str(tmp_path / "data.npz"), "--accuracy-budget", "0.1"]
    )
    assert done.exit_code == 0, done.output
    network = Network.load(out)
    assert network.version == 3
    given = ["--dataset", str(tmp_path / "data.npz"), "--out", str(tmp_path / "page"), "--onnx", str(path), "--json"]
    done = CliRunner().invoke(evaluate_main, [str(out), *given])
    assert done.exit_code == 0, done.output
