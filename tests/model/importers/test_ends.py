"""Activations that end, as ReLU6 does: from the file to the spikes."""

from dataclasses import replace

import numpy as np
import pytest

from model.conversion.convert import convert
from model.conversion.quantize import Settings, quantize
from model.conversion.quantized import quantized_counts
from model.encode import encode
from model.engine.engine import run_fast, run_frames
from model.golden import run
from model.importers.float_network import ConversionError
from model.importers.onnx import import_model
from model.studies.origin import check_structure
from model.studies.rate_coded import convert_rates
from model.support.datasets import Dataset
from tests.onnx_graphs import Graph

CHANCE = np.random.default_rng(0)
END = 0.625


def graph(end=END):
    """Two hidden layers that often are at their end; the first with a max-pool after it."""
    found = Graph(seed=3).conv(6, 2, 3, pads=[1] * 4).add("Clip", min=0.0, max=end)
    found.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2]).conv(8, 6, 3).add("Clip", min=0.0, max=end)
    return found.add("Flatten").linear(32, 4)


def frames(count):
    return ((CHANCE.random((count, 8, 8, 2)) > 0.5) * 255).astype(np.uint8)


def test_the_end_is_of_the_layer():
    found = import_model(graph().model(), "net")
    assert [(layer.kind, layer.end) for layer in found.layers] == [
        ("convolution", END), ("maxpool", None), ("convolution", END), ("linear", None)
    ]  # fmt: skip
    with pytest.raises(ConversionError) as caught:
        convert_rates(found, frames(2))
    assert str(caught.value) == "net: layer 'conv0': activation must have no end, not one at 0.625, as a rate has none"


def relu_conv():
    return Graph().conv(3, 2, 3).add("Relu")


@pytest.mark.parametrize(
    ("before", "message"),
    [
        (
            relu_conv().norm(3, name="bn"),
            "stands after node 'bn' (BatchNormalization), with another ReLU or the input before that; put a Conv, Gemm or MatMul "
            "between them",
        ),
        (Graph(), "must not end below full scale at the input, not at 0.5; clip the data"),
        (
            relu_conv().add("AveragePool", kernel_shape=[2, 2], name="mean"),
            "stands after node 'mean' (AveragePool), with another ReLU before that; leave it out",
        ),
    ],
)
def test_refused(before, message):
    model = before.add("Clip", min=0.0, max=0.5, name="clip").conv(3, 3 if len(before.nodes) > 1 else 2, 2).model()
    with pytest.raises(ConversionError) as caught:
        import_model(model, "net")
    assert str(caught.value) == f"net: node 'clip' (Clip): {message}"


@pytest.mark.parametrize("firing", ["immediate", "deferred"])
def test_spikes(firing):
    """Deferred, counts are the quantized network's; and they are the float network's activations, rounded down."""


    floats = import_model(graph().model(), "net")
    network = quantize(floats, [END / 5, END / 4, 0.01], Settings(weight_bits=16, rounding=False), name="net")
    network = replace(network, firing=firing, rest=True)
    ends = [layer.count_max for layer in (network.layers[0], *network.layers[2:])]
    assert ends == [5, 4, None]
    images = frames(4)
    for image in images:
        golden, fast = run(network, encode(network, image)), run_fast(network, encode(network, image))
        for name, layer in golden.layers.items():
            assert layer.spikes.tolist() == fast.layers[name].spikes.tolist()
            assert (layer.potential == fast.layers[name].potential).all() and (layer.count == fast.layers[name].count).all()
            assert layer.saturated_updates == fast.layers[name].saturated_updates == 0
    counts = golden.layers["conv0"].count
    assert counts.max() == 5
    if firing == "deferred":
        expected = run_frames(network, images).counts
        assert quantized_counts(network, images).tolist() == expected.tolist()
        activation = np.clip(floats.run(images[-1:] / 255, ["t0"])[0], 0, END)[0].transpose(1, 2, 0) / (END / 5)
        assert (np.abs(counts - np.floor(activation)) <= (np.abs(activation - np.rint(activation)) < 1e-3)).all()


def test_conversion_chooses_thresholds_that_end_with_the_activation():
    floats, images = import_model(graph().model(), "net"), frames(120)
    labels = floats.scores(images.astype(np.float32) / 255).argmax(axis=1)
    found = convert(floats, Dataset("own", images, labels), Settings(accuracy_budget=0.05), name="net")
    for name in ("conv0", "conv3"):
        layer = found.network.layer(name)
        assert layer.count_max * found.thresholds[name] == pytest.approx(END)
        assert layer.count_bits >= layer.count_max.bit_length()
    assert found.accuracy_float_1bit == 1.0 and found.accuracy_snn > 0.8
    assert not run_frames(found.network, images).saturated_events.any()
    check_structure(found.network, floats)
    with pytest.raises(ConversionError, match="must be of the kind, sizes, inputs and activation of the network's 'conv0'"):
        check_structure(found.network, import_model(graph(1e38).model(), "net"))
