"""The networks of the suite, trained on a few digits: their files are as their frameworks export them, and convert."""

import numpy as np
import pytest

from model.benchmark.entries import ENTRIES
from model.benchmark.networks.torch_training import fit, seeded, tensor
from model.support.datasets import Dataset, load

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e .[train]")

PACKAGES = {"keras": ("keras", "tensorflow", "tf2onnx"), "mlp": ("skl2onnx",), "brevitas": ("brevitas", "onnxoptimizer")}


def few(count):
    found = load("digits5k", "train")
    return Dataset("few", found.images[:count], found.labels[:count])


def test_the_same_seed_trains_the_same_network():
    data, found = few(64), []
    for seed in (3, 3, 4):
        seeded(seed)
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
        fit(network, data, torch.optim.SGD(network.parameters(), lr=0.1), epochs=1, batch_size=16, mean=0.1, std=0.3)
        assert not network.training
        found.append(network[1].weight.detach().numpy())
    assert (found[0] == found[1]).all()
    assert (found[0] != found[2]).any()


def test_training_learns_what_is_normalized():
    data = few(200)
    seeded(1)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    fit(network, data, torch.optim.Adam(network.parameters(), lr=0.01), epochs=10, mean=0.1307, std=0.3081)
    right = network((tensor(data.images) - 0.1307) / 0.3081).argmax(dim=1).numpy() == data.labels
    assert right.mean() > 0.95


def test_pixels_become_shares_with_the_channels_first():
    images = np.arange(2 * 3 * 4 * 2, dtype=np.uint8).reshape(2, 3, 4, 2)
    found = tensor(images).numpy()
    assert found.shape == (2, 2, 3, 4)
    assert found[1, 0, 2, 3] == np.float32(images[1, 2, 3, 0]) / np.float32(255)


@pytest.mark.full
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_files_import(entry, tmp_path):
    """What PyTorch, Keras, scikit-learn and Brevitas write is read, and is right about what it was trained on."""
    for package in PACKAGES.get(entry.name, ("onnxscript",)):
        pytest.importorskip(package, reason="needs the suite's packages: make suite-tools")
    data = few(4000)
    path = tmp_path / "net.onnx"
    entry.train(data, path, 1)
    floats = entry.read(path, data)
    images = data.fitted(floats.input_shape, classes=10, threshold=0).images
    right = floats.scores(images.astype(np.float32) / 255).argmax(axis=1) == data.labels
    assert right.mean() > 0.3
