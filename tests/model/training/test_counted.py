"""Tests of `model.training.counted`: what a network in training counts is what the spiking network counts."""

import copy

import numpy as np
import pytest
import torch

from model.conversion.quantize import Settings, quantize
from model.conversion.quantized_frames import run_images
from model.importers.onnx import import_onnx
from model.training.common import to_tensor
from model.training.counted import CountedNetwork, even_coding
from model.training.residual import ResidualNetwork, export_residual

FRAME = (8, 12, 3)


def network(widths, blocks, stem, seed=3):
    """A network whose statistics are those of its frames, in evaluation mode, and the frames."""
    torch.manual_seed(seed)
    made = CountedNetwork(ResidualNetwork(3, widths, blocks, 5, stem), even_coding(4))
    images = np.random.default_rng(seed).integers(0, 256, (40, *FRAME)).astype(np.uint8)
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
            module.momentum = 1.0
    with torch.no_grad():
        made(to_tensor(images))
    # Weights of the folded convolutions are then those that conversion stores, so that nothing is rounded.
    for module in made.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.data = torch.round(module.weight.data * 16) / 16
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var = torch.full_like(module.running_var, 1 - module.eps)
            for values in (module.weight.data, module.running_mean, module.bias.data):
                values.copy_(torch.round(values * 4) / 4)
    made.network.classifier.weight.data = torch.round(made.network.classifier.weight.data * 16) / 16
    made.network.classifier.bias.data = torch.round(made.network.classifier.bias.data * 16) / 16
    return made.eval(), images


@pytest.mark.parametrize(
    ("widths", "blocks", "stem"),
    [((4, 6), (1, 2), (3, 1)), ((4, 6), (0, 1), (4, 2)), ((5,), (1,), (2, 2)), ((3, 4, 5), (0, 1, 1), (1, 1))],
)
def test_it_takes_what_the_spiking_network_takes(tmp_path, widths, blocks, stem):
    made, images = network(widths, blocks, stem)
    path = tmp_path / "net.onnx"
    export_residual(made.network, "net", FRAME, path)
    floats = import_onnx(path)
    coding = made.coding
    settings = Settings(
        weight_bits=16, threshold=1.0, firing="deferred", rounding=True, rest=False, input_levels=coding.levels,
        input_threshold=coding.first, input_step=coding.step,
    )
    spiking = quantize(floats, [1.0] * sum(layer.bias is not None for layer in floats.layers), settings, name="net")
    found = run_images(spiking, images)
    with torch.no_grad():
        scores = made(to_tensor(images))
    assert round(float(made.accumulations) * len(images)) == found.operations.sum()
    assert made.macs == floats.macs
    assert found.operations.sum() > 0
    # The output's counts are its scores, rounded.
    assert np.abs(scores.numpy() - found.counts).max() < 0.51


def test_training_pushes_down_what_fires():
    made, images = network((4, 6), (1, 1), (3, 1))
    before = copy.deepcopy(made.state_dict())
    made.train()
    optimizer = torch.optim.SGD(made.parameters(), 1e-4)
    taken = []
    for _ in range(15):
        made(to_tensor(images))
        taken.append(float(made.accumulations.detach()))
        optimizer.zero_grad()
        made.accumulations.backward()
        optimizer.step()
    assert taken[-1] < 0.8 * taken[0]
    stem = "network.stem.normalization.bias"
    assert (made.state_dict()[stem] <= before[stem]).all()


def test_gradients_pass_where_a_count_can_change():
    from model.training.counted import _Fire

    potential = torch.tensor([-0.7, -0.4, 0.2, 0.6, 1.4, 1.6]).reshape(1, 6, 1, 1).requires_grad_()
    counts, taken = _Fire.apply(potential, torch.tensor([[3.0]]))
    assert counts.flatten().tolist() == [0, 0, 0, 1, 1, 2]
    assert float(taken.detach()) == 12
    (counts.sum() * 10 + taken).backward()
    assert potential.grad.flatten().tolist() == [0, 10, 10, 13, 13, 13]


@pytest.mark.parametrize("levels", [2, 3, 8, 32])
def test_even_limits(levels):
    coding = even_coding(levels)
    assert coding.levels == levels
    assert 0 <= coding.first < coding.step
    # The brightest pixel fires as often as one can.
    assert coding.counts(np.array([[[[0], [255]]]], np.uint8)).flatten().tolist() == [0, levels]
