"""Average pools as changes of address: no weights for them, in every layer kind, down to the spikes."""

from dataclasses import replace

import numpy as np
import pytest

from model.conversion.convert import convert
from model.conversion.quantize import Settings, quantize
from model.conversion.quantized import counts_of_layers
from model.encode import encode
from model.engine.engine import run_fast
from model.golden import run
from model.importers.folding import spread_averages
from model.importers.hardware_form import without_groups
from model.importers.onnx import import_model
from model.machine.named_plans import named_plan
from model.machine.simulate import simulate
from model.studies.origin import another_origin, check_structure
from model.studies.synapses import synapses_of
from model.support.datasets import Dataset
from tests.onnx_graphs import Graph, run_layers

TWO = {"kernel_shape": [2, 2], "strides": [2, 2]}
CHANCE = np.random.default_rng(1)


def lenet5():
    graph = Graph(shape=("frames", 1, 28, 28), seed=2)
    graph.conv(6, 1, 5, pads=[2] * 4).add("Relu").add("AveragePool", **TWO)
    graph.conv(16, 6, 5).add("Relu").add("AveragePool", **TWO).add("Flatten")
    return graph.linear(400, 120).add("Relu").linear(120, 84).add("Relu").linear(84, 10)


def test_lenet5_has_its_own_parameters():
    found = import_model(lenet5().model(), "lenet5")
    assert [layer.averaged for layer in found.layers] == [(1, 1), (2, 2), (2, 2), (1, 1), (1, 1)]
    assert sum(layer.weights.size + layer.bias.size for layer in found.layers) == 61_706
    network = quantize(found, [0.5] * 5, Settings(), name="lenet5")
    assert sum(layer.weights.size for layer in network.layers) == 61_470


SHAPES = {
    "into a padded convolution": lambda g: g.add("AveragePool", **TWO).conv(4, 3, 3, pads=[1] * 4).add("Flatten").linear(64, 5),
    "into a strided convolution of groups": lambda g: g.add("AveragePool", kernel_shape=[1, 2], strides=[1, 2])
    .conv(6, 1, 2, strides=[2, 1], group=3)
    .add("Flatten")
    .linear(6 * 4 * 3, 5),
    "into a linear layer, positions left over": lambda g: g.add("AveragePool", kernel_shape=[3, 2], strides=[3, 2])
    .add("Flatten")
    .linear(3 * 2 * 4, 5),
    "of averages": lambda g: g.add("AveragePool", **TWO).add("AveragePool", **TWO).add("Flatten").linear(12, 5),
    "of all positions": lambda g: g.add("GlobalAveragePool").add("Flatten").linear(3, 5),
    "after a convolution of single positions": lambda g: g.conv(5, 3, 1).add("GlobalAveragePool").add("Flatten"),
    "with an offset": lambda g: g.add("AveragePool", **TWO).norm(3).conv(4, 3, 3, pads=[1] * 4).add("Flatten").linear(64, 5),
    "at the end": lambda g: g.conv(5, 3, 3).add("Relu").add("GlobalAveragePool"),
}


def pooled(construct):
    return SHAPES[construct](Graph(shape=("frames", 2, 10, 10), seed=5).conv(3, 2, 3).add("Relu"))


@pytest.mark.parametrize("construct", SHAPES)
def test_spikes_of_averages(construct):
    """Golden model, engine and quantized network; and the float network, as near as counts are."""
    floats = import_model(pooled(construct).model(), "net")
    largest = max(layer.weights.size for layer in floats.layers)
    assert any(layer.averaged != (1, 1) for layer in floats.layers) and largest <= 5 * 72
    thetas = [0.02] * len(floats.layers)
    network = quantize(floats, thetas, Settings(weight_bits=16, firing="immediate"), name="net")
    images = (CHANCE.random((6, 10, 10, 2)) > 0.5).astype(np.uint8) * np.uint8(255)
    (counts,) = counts_of_layers(network, images)
    for image, count in zip(images, counts[network.output.name], strict=True):
        golden, fast = run(network, encode(network, image)), run_fast(network, encode(network, image))
        for name, layer in golden.layers.items():
            assert layer.spikes.tolist() == fast.layers[name].spikes.tolist()
            assert (layer.potential == fast.layers[name].potential).all()
            assert layer.operations == fast.layers[name].operations
            assert layer.saturated_updates == 0
        # What is summed, is: the weights times the counts of the source.
        last = network.output
        source = golden.layers[last.source].count.astype(np.int64)
        starts = np.broadcast_to(last.bias, golden.layers[last.name].potential.shape)
        layer = next(own for own in floats.layers if own.name == last.name)
        synapses = synapses_of(layer, network.shape_of(last.source))
        summed = synapses.sums(source.reshape(1, -1)) * last.theta + starts.reshape(-1)
        assert np.abs(golden.potentials - summed).max() < 0.01 * np.abs(summed).max() + 40
        assert np.abs(count.reshape(-1) * 0.02 - floats.run(image[None] / 255)[0].reshape(-1)).max() < 0.3
    expected = run_layers(floats, images / 255)[-1][1].reshape(6, -1)
    assert np.abs(counts[network.output.name].reshape(6, -1) * 0.02 - expected).max() < 0.3 < np.abs(expected).max()


def test_hardware_has_averages_as_addresses():
    """No weight more for hardware: LeNet-5 has its own parameters there, too."""
    floats = without_groups(import_model(lenet5().model(), "lenet5"))
    assert sum(layer.weights.size + layer.bias.size for layer in floats.layers) == 61_706
    # Also where they would not spread over the weights: a padded convolution after windows that leave positions over.
    graph = Graph(shape=("frames", 2, 8, 8)).add("AveragePool", kernel_shape=[3, 3], strides=[3, 3])
    odd = import_model(graph.conv(2, 2, 2, pads=[1] * 4, name="conv3").add("Flatten").linear(18, 3).model(), "net")
    assert [layer.averaged for layer in without_groups(odd).layers] == [(3, 3), (1, 1)]


def test_averages_convert_for_hardware():
    """The same network with the option as without, which both machines' cycle models run."""
    floats, data = import_model(pooled("into a linear layer, positions left over").model(), "net"), labelled()
    plain, built = (
        convert(floats, data, Settings(ungroup=flag, accuracy_budget=1.0), name="net").network for flag in (False, True)
    )
    assert plain == built and built.layers[-1].averaged == (3, 2)
    events = [encode(built, image) for image in data.images[:2]]
    assert all(run(built, frame).counts.any() for frame in events)
    for architecture in ("default", "folded"):
        found = simulate(built, named_plan(built, architecture), events)
        assert found.frames == 2 and (found.latency > [len(frame) for frame in events]).all()


def labelled():
    """Frames, with the float network's answers to them."""
    floats = import_model(pooled("into a linear layer, positions left over").model(), "net")
    pixels = CHANCE.integers(0, 256, (4, 10, 10, 2), dtype=np.uint8)
    labels = floats.scores((pixels > 51).astype(np.float32)).argmax(axis=1)
    return Dataset("own", np.tile(pixels, (10, 1, 1, 1)), np.tile(labels, 10))


def test_older_networks_have_averages_in_the_weights():
    """Those are known again as what they were converted from."""
    floats = import_model(pooled("into a linear layer, positions left over").model(), "net")
    (first, _, inside), (last, _, _) = floats.walk()
    spread = replace(floats, layers=(first, spread_averages(last, inside)))
    assert [layer.weights.shape for layer in (last, spread.layers[-1])] == [(5, 24), (5, 192)]
    images = CHANCE.random((4, 10, 10, 2))
    assert np.allclose(run_layers(floats, images)[-1][1], run_layers(spread, images)[-1][1])
    network = convert(spread, labelled(), Settings(accuracy_budget=1.0, rest=False, firing="immediate"), name="net").network
    assert network.version == 1 and network.layers[-1].averaged == (1, 1)
    check_structure(network, floats)
    assert another_origin(network, floats) is None
