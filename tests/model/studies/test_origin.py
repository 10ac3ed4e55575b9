"""The float network beside a network: named, refused where its layers are others, doubted where its weights are."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from model.conversion.convert import convert
from model.conversion.quantize import Settings
from model.evaluate import main
from model.importers.onnx import import_model, import_onnx
from model.network import Network
from model.studies.origin import another_origin, check_structure
from model.support.datasets import Dataset
from tests.onnx_graphs import Graph

ZOO = Path(__file__).parents[3] / "model" / "zoo"
RNG = np.random.default_rng(0)
IMAGES = ((RNG.random((40, 8, 8, 2)) < 0.4) * 255).astype(np.uint8)
DATA = Dataset("own", IMAGES, RNG.integers(0, 3, 40))


def chain(seed=0, outputs=3, pool="MaxPool", **conv):
    graph = Graph(seed=seed).conv(4, 2, 3, **(conv or {"pads": [1, 1, 1, 1]})).add("Relu")
    graph.add(pool, kernel_shape=[2, 2], strides=[2, 2]).add("Flatten")
    return graph.linear(4 * 9 if conv else 4 * 16, outputs)


def grouped():
    graph = Graph(seed=5).conv(4, 1, 3, group=2).add("Relu").add("Flatten")
    return graph.linear(4 * 36, 3)


@pytest.mark.parametrize("name", ["mnist-paper", "mnist-small", "mnist-sparse"])
def test_bundled_networks_are_of_their_float_networks(name):
    network, floats = Network.load(ZOO / f"{name}.npz"), import_onnx(ZOO / f"{name}.onnx", input_shape=(28, 28, 1))
    check_structure(network, floats)
    assert another_origin(network, floats) is None


@pytest.mark.parametrize(
    "settings",
    [
        Settings(accuracy_budget=1),
        Settings(accuracy_budget=0),
        Settings(accuracy_budget=1, weight_bits=3),
        Settings(accuracy_budget=1, weight_bits=16),
        Settings(threshold=1.0),
        Settings(accuracy_budget=1, ungroup=True),
        Settings(accuracy_budget=1, firing="deferred", channel_thresholds=True),
    ],
)
@pytest.mark.parametrize("graph", [chain, grouped])
def test_what_was_converted_is_found_again(graph, settings):
    floats = import_model(graph().model(), "net.onnx")
    network = convert(floats, DATA, settings, name="net").network
    check_structure(network, floats)
    assert another_origin(network, floats) is None
    for index, layer in enumerate(network.layers):
        if layer.KIND != "maxpool":
            turned = replace(layer, weights=layer.weights[::-1])
            other = replace(network, layers=(*network.layers[:index], turned, *network.layers[index + 1 :]))
            assert another_origin(other, floats) == layer.name


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network, and data."""
    folder = tmp_path_factory.mktemp("origin")
    floats = import_onnx(chain().save(folder / "given.onnx"))
    convert(floats, DATA, Settings(accuracy_budget=1), name="net").network.save(folder / "net.npz")
    np.savez(folder / "data.npz", images=DATA.images, labels=DATA.labels)
    return folder


def evaluated(folder, *arguments):
    return CliRunner().invoke(
        main, [str(folder / "net.npz"), "--dataset", str(folder / "data.npz"), "--out", str(folder / "out"), *arguments]
    )


def test_the_float_network_is_named(folder):
    beside = folder / "net.onnx"
    for graph, doubted in ((chain(), False), (chain(seed=1), True)):
        graph.save(beside)
        result = evaluated(folder)
        assert result.exit_code == 0, result.output
        assert f"\nfloat_network: {beside}\n" in result.stdout
        found = json.loads((folder / "out" / "evaluate.json").read_text())
        assert found["float_network"] == str(beside)
        page = (folder / "out" / "evaluate.html").read_text()
        assert f"float network {beside}" in page
        line = (
            f"{beside} is not the float network that 'net' was converted from: the weights of layer 'conv0' are others; all "
            "figures of the float network are another network's"
        )
        assert (line in found["warnings"], f"warning: {line}" in result.stderr.splitlines()) == (doubted, doubted)
        assert ("Warning:</strong> " + str(beside) in page) == doubted
    beside.unlink()
    assert "float_network" not in json.loads(evaluated(folder, "--json").stdout)


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (lambda: Graph(seed=1).add("Flatten").linear(128, 3), "layers must be the network's 3, not 1"),
        (lambda: chain(outputs=4), "layer 'gemm4' must be of the kind, sizes, inputs and activation of the network's 'gemm4'"),
        (lambda: chain(strides=[1, 1]),
         "layer 'conv0' must be of the kind, sizes, inputs and activation of the network's 'conv0'"),
        (lambda: Graph().conv(4, 2, 3).add("Relu").conv(4, 4, 3).add("Relu").add("Flatten").linear(64, 3),
         "layer 'conv0' must be of the kind, sizes, inputs and activation of the network's 'conv0'"),
    ],
)
def test_other_layers_are_refused(folder, graph, reason):
    other = graph().save(folder / "other.onnx")
    result = evaluated(folder, "--onnx", str(other))
    line = f"error: {other}: {reason}: it is not what network 'net' was converted from"
    assert (result.exit_code, result.stderr.strip()) == (2, line)
