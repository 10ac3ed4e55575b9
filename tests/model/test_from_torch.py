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


NETWORKS = {
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


def test_it_converts():
    torch.manual_seed(1)
    network = from_torch(trained(Separable()), (8, 7, 3))
    images = np.random.default_rng(3).integers(0, 256, (50, 8, 7, 3), dtype=np.uint8)
    labels = network.run((images > 51).astype(np.float32))[0].argmax(axis=1)
    settings = Settings(accuracy_budget=0.3, for_hardware=True)
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
            nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh()),
            (8, 8, 1),
            "Sequential: node '/1/Tanh' (Tanh): operator Tanh is not supported; train with ReLU",
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
