"""Tests of `model.training.residual`: what is written as ONNX is what was trained."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from model.support.errors import BadInputError
from model.training.residual import Normalized, ResidualNetwork, begin_with, export_residual

FRAME = (12, 8, 3)


def network(widths=(4, 6), blocks=(1, 2), seed=5):
    """A network whose batch normalization is unlike the identity, in evaluation mode."""
    torch.manual_seed(seed)
    made = ResidualNetwork(3, widths, blocks, 7)
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for values, least, most in (
                (module.weight, 0.5, 1.5),
                (module.bias, -0.5, 0.5),
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.2, 2),
            ):
                torch.nn.init.uniform_(values, least, most)
    return made.eval()


def run(path, frames):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": frames.astype(np.float32)})[0]


def test_a_folded_convolution_does_what_both_did():
    torch.manual_seed(3)
    layer = Normalized(3, 5, 3, 2)
    layer(torch.randn(16, 3, 9, 9) * 2 + 1)
    layer.eval()
    weights, bias = layer.folded()
    frames = torch.randn(4, 3, 9, 9)
    found = torch.nn.functional.conv2d(frames, weights, bias, stride=2, padding=1)
    assert torch.allclose(found, layer(frames), atol=1e-5)
    assert found.abs().max() > 0.5


@pytest.mark.parametrize(("widths", "blocks"), [((4, 6), (1, 2)), ((4, 6), (0, 1)), ((5,), (1,)), ((3, 4, 5), (0, 0, 1))])
def test_onnx_gives_the_scores_of_torch(tmp_path, widths, blocks):
    made = network(widths, blocks)
    export_residual(made, "small", FRAME, tmp_path / "net.onnx")
    frames = torch.rand(6, 3, *FRAME[:2])
    with torch.inference_mode():
        wanted = made(frames).numpy()
    found = run(tmp_path / "net.onnx", frames.numpy())
    assert found.shape == (6, 7)
    assert np.allclose(found, wanted, atol=1e-5)
    assert np.ptp(wanted, axis=0).min() > 1e-3, "scores must depend on the frame"


def test_the_onnx_file(tmp_path):
    """One node a layer, as any exporter writes them; the same weights give the same bytes."""
    for name in ("a", "b"):
        export_residual(network(), "small", FRAME, tmp_path / f"{name}.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    graph = onnx.load(tmp_path / "a.onnx").graph
    kinds = [node.op_type for node in graph.node]
    plain, with_shortcut = ["Conv", "Relu", "Conv", "Add", "Relu"], ["Conv", "Relu", "Conv", "Conv", "Add", "Relu"]
    assert kinds == ["Conv", "Relu", *plain, *with_shortcut, *plain, "GlobalAveragePool", "Flatten", "Gemm"]
    strides = [list(onnx.helper.get_node_attr_value(node, "strides")) for node in graph.node if node.op_type == "Conv"]
    assert strides == [[1, 1], [1, 1], [1, 1], [2, 2], [1, 1], [2, 2], [1, 1], [1, 1]]
    sums = [list(node.input) for node in graph.node if node.op_type == "Add"]
    assert sums[0] == ["stage1_block1/second/out", "stem/relu/out"]
    assert sums[1] == ["stage2_block1/second/out", "stage2_block1/shortcut/out"]


def test_a_network_begins_with_the_weights_of_a_file(tmp_path):
    """Batch normalization is there again, and what it does is what the file does; the weights have their size at first."""
    made = network(widths=(4, 6), blocks=(1, 2))
    path = tmp_path / "net.onnx"
    export_residual(made, "net", FRAME, path)
    frames = torch.rand(40, 3, *FRAME[:2])
    torch.manual_seed(9)
    other = ResidualNetwork(3, (4, 6), (1, 2), 7)
    layers = [layer for layer in other.modules() if isinstance(layer, Normalized)]
    sizes = [layer.convolution.weight.detach().flatten(1).norm(dim=1) for layer in layers]
    begin_with(other, lambda: other(frames), path)
    with torch.no_grad():
        wanted = made(frames)
        assert torch.allclose(other.eval()(frames), wanted, atol=1e-4)
        # A batch's own statistics are those that it began with.
        assert torch.allclose(other.train()(frames), wanted, atol=1e-3)
    for size, layer in zip(sizes, layers, strict=True):
        assert torch.allclose(layer.convolution.weight.flatten(1).norm(dim=1), size, rtol=1e-4)
        assert not layer._forward_hooks


def test_a_file_of_another_shape_to_begin_with(tmp_path):
    path = tmp_path / "net.onnx"
    export_residual(network(widths=(4, 6), blocks=(1, 2)), "net", FRAME, path)
    for widths, blocks, name, shape, has in (
        ((5, 6), (1, 2), "stem", (5, 3, 3, 3), "one of (4, 3, 3, 3)"),
        ((4, 6), (2, 2), "stage1_block2/first", (4, 4, 3, 3), "none"),
    ):
        with pytest.raises(BadInputError) as caught:
            begin_with(ResidualNetwork(3, widths, blocks, 7), lambda: None, path)
        assert str(caught.value) == f"{path}: {name}.weight must be of {shape}, as the network to train, not {has}"
