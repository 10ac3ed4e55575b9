"""Straight from PyTorch: what the module gives, the folded layers give."""

import re

import numpy as np
import pytest

from model.conversion.convert import convert
from model.conversion.quantize import Settings
from model.from_torch import from_torch
from model.importers.float_network import ConversionError
from model.machine.named_plans import named_plan
from model.network import Network, Shape
from model.support.datasets import Dataset
from tests.onnx_graphs import run_layers

torch = pytest.importorskip("torch", reason="PyTorch is not installed; get it with: pip install -e .[train]")
nn = torch.nn


def trained(module):
    """Statistics as after a training, so that batch normalization does something."""
    generator = torch.Generator().manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.running_mean = torch.randn(part.num_features, generator=generator) * 0.3
            part.running_var = torch.rand(part.num_features, generator=generator) + 0.5
    return module


class Separable(nn.Module):
    """Depthwise and pointwise convolutions, an average of all positions, one linear layer."""

    def __init__(self):
        super().__init__()
        self.depthwise = nn.Conv2d(3, 6, 3, padding=1, groups=3, bias=False)
        self.first = nn.BatchNorm2d(6)
        self.pointwise = nn.Conv2d(6, 8, 1, bias=False)
        self.second = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = torch.relu(self.first(self.depthwise(x)))
        x = torch.relu(self.second(self.pointwise(x)))
        return self.head(x.mean(dim=(2, 3)))


class Viewed(nn.Module):
    """The frames of the shape computed, as one writes it by hand."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 4, 3, dilation=2), nn.Linear(4 * 6 * 5, 3)

    def forward(self, x):
        x = nn.functional.max_pool2d(torch.relu(self.conv((x - 0.1) / 0.3)), 3, stride=1, padding=1)
        return self.fc(x.view(x.size(0), -1))


def unit(inputs, outputs, kernel, *activation, **window):
    """A convolution with batch normalization, and what comes after it."""
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False, **window)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), *activation)


class Residual(nn.Module):
    """What it is given, as it is or through a convolution, and what two convolutions make of it."""

    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.long = nn.Sequential(unit(inputs, outputs, 3, nn.ReLU(), stride=stride), unit(outputs, outputs, 3))
        self.short = nn.Identity() if inputs == outputs else unit(inputs, outputs, 1, stride=stride)

    def forward(self, x):
        return torch.relu(self.short(x) + self.long(x))


class Bottleneck(nn.Module):
    """An inverted residual: wide, depthwise, narrow without an activation."""

    def __init__(self, channels):
        super().__init__()
        wide = unit(channels, 4 * channels, 1, nn.ReLU6())
        depthwise = unit(4 * channels, 4 * channels, 3, nn.ReLU6(), groups=4 * channels)
        self.layers = nn.Sequential(wide, depthwise, unit(4 * channels, channels, 1))

    def forward(self, x):
        return x + self.layers(x)


class Dense(nn.Module):
    """Convolutions of all that came before."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(taken), nn.ReLU(), nn.Conv2d(taken, 2, 3, padding=1)) for taken in (4, 6)
        )

    def forward(self, x):
        found = [x]
        for layer in self.layers:
            found.append(layer(torch.cat(found, 1)))
        return torch.cat(found, 1)


def headed(*layers, channels):
    """Scores of averages."""
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3))


BRANCHED = {
    "residual": (lambda: headed(unit(2, 4, 3, nn.ReLU()), Residual(4, 4), Residual(4, 6, 2), channels=6), (8, 8, 2)),
    "inverted residual": (
        lambda: headed(unit(2, 4, 3, nn.ReLU6()), unit(4, 3, 1), Bottleneck(3), Bottleneck(3), channels=3), (6, 6, 2)
    ),
    "dense": (
        lambda: headed(unit(2, 4, 3, nn.ReLU()), nn.MaxPool2d(2), Dense(), unit(8, 4, 1, nn.ReLU()), channels=4), (8, 8, 2)
    ),
}

NETWORKS = {
    **BRANCHED,
    "convolution, norm, average": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Conv2d(4, 6, 3, stride=2),
            nn.ReLU(),
            nn.BatchNorm2d(6),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(6 * 2 * 1, 3),
        ),
        (10, 9, 1),
    ),
    "depthwise separable": (Separable, (8, 7, 3)),
    "viewed": (Viewed, (10, 9, 1)),
    "average of all positions": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 5, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        ),
        (8, 8, 2),
    ),
    "padding on one side": (lambda: nn.Sequential(nn.ZeroPad2d((1, 0, 2, 0)), nn.Conv2d(2, 3, 3), nn.ReLU()), (8, 8, 2)),
    "vector": (
        lambda: nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3), nn.Softmax(dim=1)),
        (12,),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_as_the_module(name):
    torch.manual_seed(1)
    build, shape = NETWORKS[name]
    module = trained(build())
    module.train()
    frozen = next(part for part in module.modules() if not list(part.children()))
    frozen.eval()
    network = from_torch(module, shape, name="net")
    assert module.training and not frozen.training
    assert network.input_shape == (Shape(*shape) if len(shape) == 3 else Shape(1, 1, *shape))
    images = np.random.default_rng(2).random((4, *network.input_shape))
    module.eval()
    if name == "vector":
        module = module[:-1]
    with torch.no_grad():
        taken = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32))
        expected = module(taken if len(shape) == 3 else taken.reshape(4, -1)).numpy()
    found = run_layers(network, images)[-1][1].transpose(0, 3, 1, 2)
    assert np.allclose(found.reshape(4, -1), expected.reshape(4, -1), atol=1e-4)
    assert network.run(images)[0].shape[0] == 4
    assert network.branched == (name in BRANCHED)


def test_it_converts():
    torch.manual_seed(1)
    network = from_torch(trained(Separable()), (8, 7, 3))
    images = np.random.default_rng(3).integers(0, 256, (50, 8, 7, 3), dtype=np.uint8)
    labels = network.run((images > 51).astype(np.float32))[0].argmax(axis=1)
    settings = Settings(accuracy_budget=0.3, for_hardware=True, ungroup=True)
    found = convert(network, Dataset(name="own", images=images, labels=labels), settings, name="separable")
    assert isinstance(found.network, Network) and found.groups_expanded == ("depthwise_Conv",)
    assert found.accuracy_float_1bit == 1.0 and found.accuracy_snn >= 0.5
    named_plan(found.network, "default")


class Broken(nn.Module):
    def forward(self, x):
        raise RuntimeError("no such luck\nand more lines")


@pytest.mark.parametrize(
    ("module", "shape", "message"),
    [
        (
            nn.Sequential(nn.Conv2d(1, 2, 3), nn.ELU()),
            (8, 8, 1),
            "Sequential: node '/1/Elu' (Elu): operator Elu is not supported; train with ReLU",
        ),
        (Broken(), (8, 8, 1), "Broken: PyTorch cannot export it to ONNX: RuntimeError: no such luck"),
        (nn.ReLU(), (8, 8), "ReLU: input_shape must be (height, width, channels) or (features,), not (8, 8)"),
        (nn.ReLU(), (8, 8, 1), "ReLU: must have a Conv, Gemm or MatMul node"),
    ],
)
def test_one_line_errors(module, shape, message):
    module.train()
    with pytest.raises(ConversionError, match=f"^{re.escape(message)}$"):
        from_torch(module, shape)
    assert all(part.training for part in module.modules())
