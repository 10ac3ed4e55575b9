"""The bundled networks that fire deferred are what their records say."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from model.conversion.coding import InputCoding
from model.conversion.quantize import quantize
from model.conversion.quantized_frames import run_images
from model.golden import answers
from model.importers.onnx import import_onnx
from model.network import Network, Neurons
from model.support.datasets import load
from model.training.finetune_settings import FinetuneSettings

ZOO = Path(__file__).parents[2] / "model" / "zoo"


@pytest.mark.parametrize("name", ["mnist-deferred", "mnist-fast", "mnist-narrow"])
def test_a_deferred_network_is_its_file_as_it_is(name):
    """The ONNX file converts to it with the threshold 1.0 and weights as they are, but for widths."""
    record = json.loads((ZOO / f"{name}.finetune.json").read_text())
    path = ZOO / f"{name}.onnx"
    network = Network.load(ZOO / f"{name}.npz")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == record["onnx_sha256"]
    assert network.content_hash == record["network_hash"]
    assert (network.firing, network.input_levels, network.input_threshold) == ("deferred", 1, 160)
    settings = FinetuneSettings(**record["settings"]).at_threshold_one(InputCoding(160, 1, 1))
    floats = import_onnx(path)
    again = quantize(floats, [1.0] * 4, settings, name=network.name)
    for layer, expected in zip(network.layers, again.layers, strict=True):
        if isinstance(layer, Neurons):
            assert np.array_equal(layer.weights, expected.weights) and np.array_equal(layer.bias, expected.bias)
            assert layer.threshold_log2 == expected.threshold_log2


@pytest.mark.parametrize(("name", "most"), [("mnist-deferred", 100_000), ("mnist-fast", 115_000), ("mnist-narrow", 115_000)])
def test_it_answers(name, most):
    """The digits are among those it was trained on: this finds a wrong file, not a wrong generalisation."""
    network, data = Network.load(ZOO / f"{name}.npz"), load("digits5k", "test")
    found = run_images(network, data.images)
    assert (answers(found.counts) == data.labels).mean() >= 0.985
    assert found.operations.sum(axis=1).mean() < most and not found.saturated_events.any()
