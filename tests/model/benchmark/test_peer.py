"""The peer's network is the float network; what it needs is said where it is not installed; its spikes are counted."""

import re
import sys

import numpy as np
import pytest

from model.benchmark.peer import RateCode, as_torch, outputs
from model.importers.float_network import ConversionError
from model.importers.onnx import import_model, import_onnx
from model.support.choices import ZOO
from model.support.datasets import Dataset, load
from model.support.errors import ToolMissingError
from tests.onnx_graphs import TWO, Graph, relu_conv

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e .[train]")

SAME = {"pads": [1] * 4}


def residual(g):
    """Two blocks, the second with a convolution in its shortcut."""
    before = relu_conv(g, **SAME).last
    before = g.conv(3, 3, 3, **SAME).add("Relu").conv(3, 3, 3, **SAME).add("Add", before).add("Relu").last
    shortcut = g.conv(4, 3, 1, strides=[2, 2]).last
    g.add("Conv", g.rng.normal(0, 0.5, (4, 3, 3, 3)), data=before, strides=[2, 2], **SAME)
    return g.add("Relu").conv(4, 4, 3, **SAME).add("Add", shortcut).add("Relu").add("Flatten").linear(64, 3)


def unet(g):
    """Down, up by a transposed convolution with groups, and joined."""
    before = g.conv(4, 2, 3, **SAME).add("Relu").last
    g.add("MaxPool", **TWO).add("ConvTranspose", g.rng.normal(0, 0.5, (4, 3, 3, 3)), g.rng.normal(0, 0.5, 6), group=2,
                                strides=[2, 2], pads=[1] * 4, output_padding=[1, 1])  # fmt: skip
    return g.add("Concat", before, axis=1).conv(3, 10, 3, **SAME).add("Relu").add("Flatten").linear(192, 3)


def bottleneck(g):
    """An inverted residual block: no activation at its end, those within end at 6."""
    before = g.conv(2, 2, 3, **SAME).last
    g.conv(6, 2, 1).norm(6).add("Clip", min=0.0, max=6.0).conv(6, 1, 3, group=6, **SAME).add("Clip", min=0.0, max=0.5)
    return g.conv(2, 6, 1).add("Add", before).conv(4, 2, 1).add("Relu").add("GlobalAveragePool").add("Flatten").linear(4, 3)


CONSTRUCTS = {
    "padding, max-pool": lambda g: g.conv(3, 2, 3, pads=[1] * 4).add("Relu").add("MaxPool", **TWO).add("Flatten").linear(48, 4),
    "average pool, then convolution": lambda g: relu_conv(g).add("AveragePool", **TWO).conv(4, 3, 2),
    "average pool, then linear": lambda g: relu_conv(g).add("AveragePool", **TWO).add("Flatten").linear(27, 3),
    "global average": lambda g: relu_conv(g).add("GlobalAveragePool").add("Flatten").linear(3, 2),
    "groups, normalization, strides": lambda g: relu_conv(g)
    .conv(6, 1, 3, group=3, strides=[2, 2])
    .norm(6)
    .add("Relu")
    .conv(2, 6, 2),
    "residual blocks": residual,
    "transposed convolution, concatenation": unet,
    "linear bottleneck, activations that end": bottleneck,
    "channels last": lambda g: relu_conv(g).add("Transpose", perm=[0, 2, 3, 1]).add("Flatten").linear(108, 3),
}


@pytest.mark.parametrize("construct", CONSTRUCTS)
def test_the_float_network_in_pytorch(construct):
    floats = import_model(CONSTRUCTS[construct](Graph()).model(), "net.onnx")
    images = np.random.default_rng(1).random((3, *floats.input_shape)).astype(np.float32)
    with torch.inference_mode():
        found = as_torch(floats)(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()
    if found.ndim == 4:
        found = found.transpose(0, 2, 3, 1)
        expected = floats.run(images)[0].transpose(0, 2, 3, 1)
    else:
        expected = floats.scores(images)
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_what_pytorch_has_no_module_for_is_refused():
    graph = Graph().conv(3, 2, 3, pads=[0, 0, 1, 1], name="c").add("Relu").add("Flatten").linear(147, 3)
    floats = import_model(graph.model(), "net.onnx")
    line = "layer 'c': padding must be the same on both sides for PyTorch, not Padding(top=0, left=0, bottom=1, right=1)"
    with pytest.raises(ConversionError, match=f"^{re.escape(line)}$"):
        as_torch(floats)


def test_answers_of_a_convolution_at_the_end():
    """Its outputs are a frame of one position for each class."""
    graph = Graph().conv(3, 2, 3).add("Relu").conv(4, 3, 1).add("GlobalAveragePool").add("Flatten")
    floats = import_model(graph.model(), "net.onnx")
    assert floats.layers[-1].kind == "convolution"
    images = torch.from_numpy(np.random.default_rng(2).random((6, 2, 8, 8)).astype(np.float32))
    found = outputs(as_torch(floats), images)
    assert found.shape == (6, 4)
    assert np.allclose(found, floats.scores(images.numpy().transpose(0, 2, 3, 1)), rtol=1e-4, atol=1e-4)


def test_it_must_be_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "spikingjelly.activation_based.ann2snn", None)
    floats = import_onnx(ZOO / "mnist-small.onnx")
    found = load("digits5k", "test")
    data = Dataset("few", found.images[:20], found.labels[:20])
    with pytest.raises(ToolMissingError, match=r"^the peer must be installed: make suite-tools$"):
        RateCode(floats, data, data).reach(0.9)


@pytest.mark.full
@pytest.mark.parametrize("pixels", ["spikes", "current"])
def test_a_rate_code(pixels):
    pytest.importorskip("spikingjelly", reason="needs the suite's packages: make suite-tools")
    floats = import_onnx(ZOO / "mnist-small.onnx")
    train, test = load("digits5k", "train"), load("digits5k", "test")
    few = Dataset("few", test.images[:200], test.labels[:200])
    code = RateCode(floats, train, few, pixels=pixels, steps=32)
    found = code.reach(0.94)
    assert (found.pixels, found.frames, found.wanted) == (pixels, 200, 0.94)
    assert found.reached is not None
    assert found.reached.accuracy >= 0.94
    assert found.best.accuracy >= found.reached.accuracy
    assert (found.reached.input_spikes > 0) == (pixels == "spikes")
    assert found.reached.hidden_spikes > 0
    never = RateCode(floats, train, few, pixels=pixels, steps=2).reach(1.01)
    assert (never.reached, never.best.steps <= 2) == (None, True)
    # Asked again, it goes on from where it is.
    less = code.reach(0.9)
    assert less.reached is not None and less.reached.spikes <= found.reached.spikes
    assert less == RateCode(floats, train, few, pixels=pixels, steps=32).reach(0.9)
    assert code.reach(0.94) == found
