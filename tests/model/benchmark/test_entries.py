"""The list of the suite's networks."""

from pathlib import Path

import pytest

import model.benchmark.networks
from model.benchmark.entries import ENTRIES, chosen


def test_every_network_has_its_module():
    folder = Path(model.benchmark.networks.__file__).parent
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__", "torch_training"}
    assert {entry.name for entry in ENTRIES} == modules


def test_some_of_them_in_the_order_of_the_tables():
    assert [entry.name for entry in chosen("mlp, lenet5")] == ["lenet5", "mlp"]
    names = "lenet5, meanstd, allconv, depthwise, vgg, mlp, keras, brevitas, resnet, unet, mobilenet"
    with pytest.raises(ValueError, match=f"^networks must be of {names}, not 'le'$"):
        chosen("mlp,le")
