"""Spatio-temporal backpropagation: its gradients, and that the trained network is the one that is measured."""

import io

import numpy as np
import pytest
from rich.console import Console

from model.studies.stbp import read_stbp, run_stbp
from model.support.datasets import load
from model.support.errors import BadInputError
from model.training import stbp
from model.training.paper_trained import archive
from model.training.stbp import StbpSettings, train_stbp, train_stbp_with

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e .[train]")


def ramp(potential, threshold, window):
    """A spike that comes by and by: its derivative is the window of the paper."""
    return ((potential - threshold) / window + 0.5).clamp(0, 1)


def run(sums, threshold, decay, spike):
    """The rules, step by step."""
    kept, spikes, potentials = torch.zeros_like(sums[0]), [], []
    for arriving in sums:
        potentials.append(arriving + kept)
        spikes.append(spike(potentials[-1]))
        kept = decay * potentials[-1] * (1 - spikes[-1])
    return torch.stack(spikes), torch.stack(potentials)


def averages(spikes, pool):
    steps, frames, height, width, channels = spikes.shape
    return spikes.view(steps, frames, height // pool, pool, width // pool, pool, channels).mean(dim=(3, 5))


SHAPES = [((6, 3, 4, 2, 5), 2), ((6, 2, 1, 1, 30), 1)]


@pytest.mark.parametrize(("shape", "pool"), SHAPES)
def test_spikes_are_those_of_the_rules(shape, pool):
    settings = StbpSettings(threshold=0.75, decay=0.25)
    sums = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    expected, potentials = run(sums, 0.75, 0.25, lambda potential: (potential >= 0.75).float())
    given = sums.clone()
    assert torch.equal(stbp._fire(given, pool, settings), averages(expected, pool))
    assert torch.allclose(given, potentials, atol=1e-6)
    assert 0 < int(expected.sum()) < expected.numel()


@pytest.mark.parametrize(("shape", "pool"), SHAPES)
def test_gradient_is_that_of_the_window(shape, pool):
    """Against autograd, of a loop whose spikes have the derivative of the ramp."""
    settings = StbpSettings(threshold=0.7, decay=0.4, window=0.8)
    generator = torch.Generator().manual_seed(3)
    sums = (torch.randn(shape, generator=generator) * 1.5).requires_grad_()

    def spike(potential):
        soft = ramp(potential, 0.7, 0.8)
        return (potential >= 0.7).float() + soft - soft.detach()

    expected = averages(run(sums, 0.7, 0.4, spike)[0], pool)
    weights = torch.randn(expected.shape, generator=generator)
    (gradient,) = torch.autograd.grad((expected * weights).sum(), sums)
    (found,) = torch.autograd.grad((stbp._fire(sums.clone(), pool, settings) * weights).sum(), sums)
    assert torch.allclose(found, gradient, atol=1e-5)
    assert 0 < int((found != 0).sum()) < found.numel()


def test_gradient_is_that_of_finite_differences():
    """Of neurons that are far from the threshold until the last step, where their spikes come by and by."""
    threshold, decay, window, step = 1.0, 0.5, 0.6, 1e-3
    settings = StbpSettings(threshold=threshold, decay=decay, window=window)
    generator = torch.Generator().manual_seed(2)
    sums = torch.rand((4, 1, 1, 1, 200), generator=generator, dtype=torch.float64) * 0.3
    # Some fire in the third step, and their potentials begin again.
    sums[2, ..., :60] += 2
    sums[3] += 0.75
    weights = torch.randn((4, 1, 1, 1, 200), generator=generator, dtype=torch.float64)

    def soft(sums):
        return run(sums, threshold, decay, lambda potential: ramp(potential, threshold, window))

    # What is at an end of the ramp within a step of it has two derivatives.
    plain = ((soft(sums)[1][3] - threshold).abs() - window / 2).abs() > step
    given = sums.float().requires_grad_()
    (found,) = torch.autograd.grad((stbp._fire(given.clone(), 1, settings) * weights.float()).sum(), given)
    for at in range(len(sums)):
        moved = torch.zeros_like(sums)
        moved[at] = step
        difference = ((soft(sums + moved)[0] - soft(sums - moved)[0]) * weights).sum(dim=0) / (2 * step)
        assert torch.allclose(found[at].double()[plain], difference[plain], atol=1e-4)
        assert int((difference != 0).sum()) > 100


def test_pixels_spike_as_often_as_they_are_bright():
    torch.manual_seed(4)
    images = torch.tensor([0, 51, 204, 255], dtype=torch.uint8).view(1, 1, 4, 1)
    rates = stbp._pixel_spikes(images, 20_000).mean(dim=0).flatten().tolist()
    assert (rates[0], rates[3]) == (0, 1)
    assert rates[1:3] == pytest.approx([0.2, 0.8], abs=0.012)


def test_what_is_trained_is_what_is_measured(tmp_path):
    """Weights so few and so simple that sums are exact in bfloat16 too, and pixels that spike always or never."""
    settings = StbpSettings(threshold=0.75, decay=0.5)
    network = stbp._initial(settings)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for layer, share in zip(network.values(), (0.5, 0.02, 0.004, 0.03), strict=True):
            chosen = torch.rand(layer.weight.shape, generator=generator)
            layer.weight.copy_((chosen < share).float() / 2 - (chosen < share / 4).float())
            layer.bias.copy_(torch.randint(0, 3, layer.bias.shape, generator=generator) / 8)
    images = load("digits5k", "test").first(12).images
    images = np.where(images > 51, 255, 0).astype(np.uint8)
    with torch.inference_mode():
        rates = stbp._rates(network, stbp._pixel_spikes(torch.from_numpy(images), 5), settings)
    path = tmp_path / "n.npz"
    path.write_bytes(archive(stbp._arrays(network, settings)))
    found = run_stbp(read_stbp(path), images, 5)
    assert found.spikes[:, :, -1].sum(axis=1).tolist() == (rates.sum(dim=1) * 5).round().long().tolist()
    assert found.answers[:, -1].tolist() == rates.argmax(dim=1).tolist()
    assert len(set(found.answers[:, -1].tolist())) > 1
    assert (found.spikes.sum(axis=(0, 1)) > 0).all()


def test_training_is_the_same_each_time():
    data = load("digits5k", "train").first(120)
    first, second = (train_stbp_with(StbpSettings(epochs=1, steps=2), data, Console(file=io.StringIO())) for _ in range(2))
    assert archive(first.arrays) == archive(second.arrays)
    assert first.record == second.record


def test_training_learns(tmp_path):
    data = load("digits5k", "train").first(600)
    settings = StbpSettings(epochs=2, batch_size=20, steps=3, steps_measured=4)
    log = io.StringIO()
    trained = train_stbp_with(settings, data, Console(file=log))
    record = trained.record
    assert (record["frames_train"], record["frames_held_out"]) == (550, 50)
    assert record["losses"][1] < record["losses"][0] < 0.6
    assert len(record["held_out_accuracy_by_epoch"]) == 2
    assert record["held_out_accuracy"] > 0.5
    assert [line.partition(":")[0] for line in log.getvalue().splitlines()] == ["epoch 1/2", "epoch 2/2"]
    path = tmp_path / "n.npz"
    path.write_bytes(archive(trained.arrays))
    network = read_stbp(path)
    assert (network.threshold, network.decay, network.steps) == (0.5, 0.2, 4)
    assert network.neurons == 20_694
    assert (run_stbp(network, data.images, 4).answers[:, -1] == data.labels).mean() > 0.5


def test_epochs_and_seed_come_from_the_command(monkeypatch):
    seen = []
    monkeypatch.setattr(stbp, "train_stbp_with", lambda settings, data, console: seen.append(settings))
    train_stbp(None, 7, 3, None)
    train_stbp(None, 7, None, None)
    assert seen == [StbpSettings(seed=7, epochs=3), StbpSettings(seed=7)]


@pytest.mark.parametrize(
    ("setting", "kind", "line"),
    [
        ({"epochs": 0}, BadInputError, "epochs must be 1 or more, not 0"),
        ({"steps": 2.0}, TypeError, "steps must be an integer, not 2.0"),
        ({"threshold": 0.0}, BadInputError, "threshold must be more than 0, not 0.0"),
        ({"window": float("inf")}, BadInputError, "window must be more than 0, not inf"),
        ({"decay": 1.0}, BadInputError, "decay must be at least 0 and less than 1, not 1.0"),
    ],
)
def test_settings_out_of_range(setting, kind, line):
    with pytest.raises(kind) as caught:
        StbpSettings(**setting)
    assert str(caught.value) == line
