"""Fine-tuning for few events: its forward pass against the golden model and the conversion, and the bundled network."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from model import train as train_module
from model.conversion.quantize import Settings, quantize
from model.conversion.quantized import quantized_counts
from model.encode import encode
from model.engine.engine import run_frames
from model.events import make_events
from model.golden import run_layer
from model.importers.onnx import import_onnx
from model.network import Linear, Network, Shape
from model.support.choices import ZOO
from model.support.datasets import Dataset, load
from model.training import common, paper_network

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e .[train]")
sparse = pytest.importorskip("model.training.sparse")


@pytest.fixture(scope="module")
def digits():
    found = load("digits5k", "train")
    return Dataset("some", found.images[::16], found.labels[::16])


@pytest.fixture(scope="module")
def start():
    return paper_network.load_network(ZOO / "mnist-paper.onnx")


@pytest.mark.parametrize("relu", [True, False])
def test_counts_follow_as_the_golden_neuron_does(relu):
    """One event a moment, each of less than a threshold, for eight neurons of one input."""
    rng = np.random.default_rng(3)
    signs = rng.choice([-1, 1, 1], 200)
    weights = rng.integers(-60, 61, (8, 1))
    layer = Linear(
        name="n",
        source="input",
        weights=weights,
        bias=np.zeros(8, int),
        threshold_log2=6,
        potential_bits=20,
        count_bits=12,
        activation="relu" if relu else "identity",
    )
    potential = torch.from_numpy(np.cumsum(signs)[:, None, None] * weights[:, 0] / 64)
    counts = sparse._follow(potential, relu=relu)
    trace = run_layer(layer, Shape(1, 1, 1), make_events(np.zeros(200, int), signs))
    assert counts[-1, 0].tolist() == trace.count.reshape(-1).tolist()
    assert sparse._moves(counts).item() == len(trace.spikes) > 100
    assert (trace.spikes["sign"] < 0).any()


def test_gradient_passes_the_rounding_where_the_neuron_is_active():
    potential = torch.tensor([[[0.4, 1.7, -0.3]]], requires_grad=True)
    sparse._follow(potential, relu=True).sum().backward()
    assert potential.grad.tolist() == [[[1.0, 1.0, 0.0]]]


def test_pool_is_the_maximum_and_teaches_the_greatest():
    counts = torch.tensor([[[[1.0, 1.0], [0.0, 1.0]]]], requires_grad=True)
    activation = torch.tensor([[[[1.1, 1.8], [0.9, 1.5]]]])
    pooled = sparse._pool(counts, activation)
    pooled.sum().backward()
    assert pooled.tolist() == [[[[1.0]]]]
    assert counts.grad.tolist() == [[[[0.0, 1.0], [0.0, 0.0]]]]


def test_moments_are_the_first_events_of_the_encoder(digits):
    torch.manual_seed(5)
    images = digits.images[:6]
    network = Network.load(ZOO / "mnist-paper.npz")
    found = sparse._moments(common.to_tensor(images), 4).numpy().reshape(4, 6, -1)
    lengths = set()
    for frame, image in enumerate(images):
        order = encode(network, image)["address"]
        for moment in found[:, frame]:
            lengths.add(int(moment.sum()))
            assert set(np.flatnonzero(moment)) == set(order[: int(moment.sum())])
        assert found[-1, frame].sum() == len(order)
    assert len(lengths) > 10


@pytest.fixture(scope="module")
def tuned(start, digits):
    """Two short epochs."""
    torch.set_num_threads(1)
    settings = sparse.SparseSettings(epochs=2, moments=2, weight_bits=6, event_price=3.0)
    lines = []
    return settings, sparse.fine_tune(settings, start, digits, report=lines.append), lines


def test_forward_pass_is_the_converted_network(tuned, tmp_path, digits):
    """Every count of every frame, by the integers of the conversion."""
    settings, network, _ = tuned
    paper_network.export_onnx(network, tmp_path / "net.onnx")
    chosen = Settings(weight_bits=settings.weight_bits, threshold=1.0)
    integers = quantize(import_onnx(tmp_path / "net.onnx"), [1.0] * 4, chosen, name="net")
    quantized = sparse._Quantized(network, settings.weight_bits)
    whole = torch.from_numpy((digits.images > 51).transpose(0, 3, 1, 2).astype(np.float32))
    with torch.no_grad():
        scores, _, _ = quantized(whole[None])
    assert scores.numpy().astype(int).tolist() == quantized_counts(integers, digits.images).tolist()


def test_fewer_events_and_still_right(tuned, start, tmp_path, digits):
    _, network, lines = tuned
    assert [line.split(":")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    paper_network.export_onnx(network, tmp_path / "net.onnx")
    test = load("digits5k", "test")
    integers = quantize(import_onnx(tmp_path / "net.onnx"), [1.0] * 4, Settings(weight_bits=8, threshold=1.0), name="net")
    found = sparse.measure(integers, test.images, test.labels)
    before = sparse.measure(Network.load(ZOO / "mnist-paper.npz"), test.images, test.labels)
    assert found["spikes_per_neuron"] < before["spikes_per_neuron"]
    assert found["accuracy_snn"] > 0.95


def test_same_seed_same_weights(tuned, start, digits):
    settings, network, _ = tuned
    again = sparse.fine_tune(settings, start, digits)
    for name, value in network.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("moments", 0, "moments must be 1 or more, not 0"),
        ("weight_bits", 1, "weight_bits must be within 2..16, not 1"),
        ("learning_rate", 0.0, "learning_rate must be more than 0, not 0.0"),
        ("event_price", -1.0, "event_price must be 0 or more, not -1.0"),
        ("teacher_share", 1.5, "teacher_share must be from 0 to 1, not 1.5"),
        ("average_decay", 1.0, "average_decay must be at least 0 and less than 1, not 1.0"),
        ("average_start", True, "average_start must not be given without keep_thresholds"),
    ],
)
def test_settings_errors(field, value, expected):
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        sparse.SparseSettings(**{field: value})


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--sparse", "--dropout", "0.1"], "--dropout must not be given with --sparse"),
        (["--moments", "3"], "--moments must not be given without --sparse"),
        (["--start", "x.onnx"], "--start must not be given without --sparse or --cifar"),
        (["--sparse", "--start", "x.onnx"], "x.onnx: cannot be read: No such file or directory"),
    ],
)
def test_command_with_bad_options(arguments, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = CliRunner().invoke(train_module.main, [*arguments, "--dataset", "digits5k", "--out", "here"])
    assert (outcome.exit_code, outcome.stderr) == (2, f"error: {line}\n")
    assert not Path("here").exists()


def test_command(monkeypatch, digits, tmp_path):
    few = {"train": Dataset("fewer", digits.images[::4], digits.labels[::4]), "test": load("digits5k", "test").limited(200)}
    monkeypatch.setattr("model.support.datasets.load", lambda name, split, data_dir: few[split])
    monkeypatch.chdir(tmp_path)
    arguments = ["--sparse", "--dataset", "digits5k", "--epochs", "1", "--moments", "2", "--out", "here", "--json"]
    arguments += ["--last-epochs", "1", "--last-moments", "3"]
    outcome = CliRunner().invoke(train_module.main, arguments)
    assert outcome.exit_code == 0, outcome.output
    report = json.loads(Path("here/mnist-sparse.train.json").read_text())
    assert json.loads(outcome.stdout) == report
    assert len(report["epoch_lines"]) == 2
    network = Network.load("here/mnist-sparse.npz")
    assert report["network_hash"] == network.content_hash
    assert sorted(path.name for path in Path("here").iterdir()) == [
        "mnist-sparse.npz",
        "mnist-sparse.onnx",
        "mnist-sparse.train.json",
    ]
    counts = run_frames(network, few["test"].images).counts
    assert report["accuracy_snn"] == (counts.argmax(axis=1) == few["test"].labels).mean()

    # From there on, once without and once with averaging: the same training, and the average lies half way.
    first = paper_network.load_network(Path("here/mnist-sparse.onnx"))
    more = ["--sparse", "--dataset", "digits5k", "--epochs", "1", "--moments", "2", "--last-epochs", "0", "--keep-thresholds"]
    found = []
    for out, option in (("plain", []), ("averaged", ["--average-start"])):
        outcome = CliRunner().invoke(
            train_module.main, [*more, *option, "--start", "here/mnist-sparse.onnx", "--out", out]
        )
        assert outcome.exit_code == 0, outcome.output
        found.append(paper_network.load_network(Path(out) / "mnist-sparse.onnx").state_dict())
    plain, averaged = found
    for name, value in first.state_dict().items():
        assert torch.allclose(averaged[name], (value + plain[name]) / 2, atol=1e-6), name
        assert not torch.equal(averaged[name], plain[name])


def test_bundled_network():
    """What the report says was measured on MNIST; here the digits are among those it was trained on."""
    report = json.loads((ZOO / "mnist-sparse.train.json").read_text())
    assert hashlib.sha256((ZOO / "mnist-sparse.onnx").read_bytes()).hexdigest() == report["onnx_sha256"]
    network = Network.load(ZOO / "mnist-sparse.npz")
    assert network.content_hash == report["network_hash"]
    digits = load("digits5k", "train")
    found = sparse.measure(network, digits.images, digits.labels)
    assert found["accuracy_snn"] >= 0.99
    assert found["saturated_events"] == 0
    assert found["spikes_per_neuron"] <= 0.2
