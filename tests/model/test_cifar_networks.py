"""The bundled networks for CIFAR-10 are what their records say."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from model.conversion.coding import InputCoding
from model.conversion.quantize import quantize
from model.conversion.quantized_frames import run_images
from model.golden import answers
from model.importers.hardware_form import without_groups
from model.importers.onnx import import_onnx
from model.machine.capability import check_machine_can
from model.machine.checks import check_plan
from model.machine.plan import Plan
from model.network import Network, Neurons
from model.support import cifar
from model.support.datasets import DataError, load
from model.training.finetune_settings import FinetuneSettings

ZOO = Path(__file__).parents[2] / "model" / "zoo"


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("cifar-small-float", 6),
        ("cifar-resnet-float", 10),
        ("cifar-resnet-float-80", 10),
        ("cifar-wide-float", 8),
        ("cifar-wide-counts", 8),
    ],
)
def test_the_float_network_is_that_of_its_record(name, layers):
    record, path = json.loads((ZOO / f"{name}.train.json").read_text()), ZOO / f"{name}.onnx"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == record["onnx_sha256"]
    floats = import_onnx(path)
    assert (floats.macs, len(floats.layers)) == (record["macs_per_frame"], layers)


@pytest.mark.parametrize("name", ["cifar-small", "cifar-resnet", "cifar-wide"])
def test_the_integer_network_is_its_file_as_it_is(name):
    record, path = json.loads((ZOO / f"{name}.finetune.json").read_text()), ZOO / f"{name}.onnx"
    network = Network.load(ZOO / f"{name}.npz")
    check_machine_can(network)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == record["onnx_sha256"]
    assert network.content_hash == record["network_hash"]
    coding = InputCoding(first=record["input_threshold"], step=record["input_step"], levels=record["input_levels"])
    assert InputCoding.of(network) == coding
    settings, floats = FinetuneSettings(**record["settings"]), import_onnx(path)
    if settings.ungroup:
        floats = without_groups(floats)
    again = quantize(floats, [1.0] * len(floats.layers), settings.at_threshold_one(coding), name=network.name)
    for layer, expected in zip(network.layers, again.layers, strict=True):
        assert isinstance(layer, Neurons)
        assert np.array_equal(layer.weights, expected.weights) and np.array_equal(layer.bias, expected.bias)
        for joined, others in zip(layer.joined, expected.joined, strict=True):
            assert np.array_equal(joined.weights, others.weights)
        assert layer.threshold_log2 == expected.threshold_log2


@pytest.mark.parametrize(("name", "plan"), [("cifar-small", "plan"), ("cifar-resnet", "plan"), ("cifar-resnet", "176")])
def test_the_plan_suits_its_network(name, plan):
    check_plan(Network.load(ZOO / f"{name}.npz"), Plan.load(ZOO / f"{name}-{plan}.json"))


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "accuracy", "accumulations"),
    [("cifar-small", 0.7, 4_000_000), ("cifar-resnet", 0.78, 5_744_170), ("cifar-wide", 0.8, 7_672_810)],
)
def test_it_answers(name, accuracy, accumulations, monkeypatch):
    """On frames that no training saw, where there are any: they are no part of the project, and not downloaded for a test."""

    def not_here(path):
        raise DataError("CIFAR-10 is not here, and not downloaded for a test")

    monkeypatch.setattr(cifar, "_download", not_here)
    try:
        data = load("cifar10", "test").first(300)
    except DataError as error:
        pytest.skip(str(error))
    found = run_images(Network.load(ZOO / f"{name}.npz"), data.images)
    assert (answers(found.counts) == data.labels).mean() >= accuracy
    assert found.operations.sum(axis=1).mean() < accumulations and not found.saturated_events.any()
