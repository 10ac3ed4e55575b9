"""The network of spatio-temporal backpropagation: one neuron by hand, and a network against a slow reading of the rules."""

import dataclasses

import numpy as np
import pytest

from model.network import Shape
from model.studies.stbp import LeakyLayer, StbpNetwork, measure, read_stbp, run_stbp
from model.support.choices import ZOO
from model.support.dataset import Dataset
from model.support.datasets import load
from model.support.errors import NetworkError


def layer(weights, bias, name="f"):
    return LeakyLayer(name=name, weights=np.array(weights, float), bias=np.array(bias, float))


def network_of(shape, *layers, threshold=1.0, decay=0.5, steps=4):
    return StbpNetwork(input_shape=Shape(*shape), layers=layers, threshold=threshold, decay=decay, steps=steps)


def white(frames, shape):
    return np.full((frames, *shape), 255, np.uint8)


def spikes_of(network, images, steps, at=-1):
    return run_stbp(network, images, steps).spikes[0, :, at].tolist()


def test_a_neuron_leaks_and_its_spike_sets_it_to_zero():
    # 0.625, 0.9375, 1.09375: fires, and begins again at 0; what was above the threshold is lost.
    network = network_of((1, 1, 1), layer([[0.625]], [0]))
    assert spikes_of(network, white(1, (1, 1, 1)), 7) == [0, 0, 1, 0, 0, 1, 0]
    # At the threshold, not only above; without a leak it takes every second step.
    network = network_of((1, 1, 1), layer([[0.5]], [0]), decay=0.0)
    assert spikes_of(network, white(1, (1, 1, 1)), 3) == [0, 0, 0]
    network = network_of((1, 1, 1), layer([[1.0]], [0]), decay=0.0)
    assert spikes_of(network, white(1, (1, 1, 1)), 3) == [1, 1, 1]


def test_bias_is_added_in_every_step_and_a_negative_potential_stays():
    black = np.zeros((1, 1, 1, 1), np.uint8)
    network = network_of((1, 1, 1), layer([[-3.0]], [0.75]))
    assert spikes_of(network, black, 4) == [0, 1, 0, 1]
    assert spikes_of(network, white(1, (1, 1, 1)), 4) == [0, 0, 0, 0]


def test_pixels_spike_as_often_as_they_are_bright():
    grey = np.array([0, 51, 204, 255], np.uint8).reshape(1, 1, 4, 1).repeat(50, axis=1)
    found = run_stbp(network_of((50, 4, 1), layer(np.zeros((1, 200)), [0])), grey[:, :, :, :], 400)
    # 50 pixels of each, so that the mean is that of 20,000 spikes; the error of one is 0.003.
    assert found.spikes[0, :, 0].mean() / 50 == pytest.approx(0 + 0.2 + 0.8 + 1, abs=0.015)
    only = network_of((1, 2, 1), layer([[0.0, 0.0]], [0]))
    assert spikes_of(only, np.array([[[[0], [255]]]], np.uint8), 50, at=0) == [1] * 50


def test_pixels_do_not_depend_on_batches_and_steps(monkeypatch):
    network, images = small()
    whole = run_stbp(network, images, 4)
    shorter = run_stbp(network, images, 3)
    monkeypatch.setattr("model.studies.stbp._WINDOWS_AT_ONCE", 1)
    seen = []
    one_by_one = run_stbp(network, images, 4, done=seen.append)
    assert seen == [1] * len(images)
    assert np.array_equal(whole.spikes, one_by_one.spikes)
    assert np.array_equal(whole.answers, one_by_one.answers)
    assert np.array_equal(whole.spikes[:, :3], shorter.spikes)
    # The same picture at another place has other spikes.
    assert not np.array_equal(*run_stbp(network, images[[0, 0]], 4).spikes[:, :, 0])


def small(frames=3):
    """Two convolutions and two linear layers on 4 x 8 pixels."""
    rng = np.random.default_rng(3)

    def array(*shape):
        return rng.integers(-40, 72, shape) / 64

    network = network_of(
        (4, 8, 2),
        layer(array(3, 2, 3, 5), array(3) / 4, "c"),
        layer(array(2, 3, 5, 3), array(2) / 4, "d"),
        layer(array(6, 4), array(6) / 4, "e"),
        layer(array(3, 6), array(3) / 4, "f"),
        threshold=1.25,
        decay=0.3,
    )
    return network, rng.integers(0, 256, (frames, 4, 8, 2), dtype=np.uint8)


def slowly(network, pixels, steps):
    """The rules, neuron by neuron: spikes of each layer in each step, and accumulations; ``pixels`` are of each step."""
    states, work, counts = {}, np.zeros((steps, len(network.layers)), int), np.zeros((steps, len(network.layers)), int)
    for step in range(steps):
        values = pixels[step].astype(float)
        spiking = {(y, x, c): [(y, x, c)] for y, x, c in np.argwhere(pixels[step])}
        for at, each in enumerate(network.layers):
            height, width, _ = values.shape
            linear = each.weights.ndim == 2
            output = (1, 1, len(each.weights)) if linear else (height, width, len(each.weights))
            fired = np.zeros(output, int)
            for neuron in np.ndindex(output):
                y, x, c = neuron
                total = each.bias[c]
                for index in np.ndindex(each.weights.shape[1:]):
                    if linear:
                        source = tuple(int(i) for i in np.unravel_index(index[0], values.shape))
                    else:
                        i, ky, kx = index
                        source = (y + ky - each.weights.shape[2] // 2, x + kx - each.weights.shape[3] // 2, i)
                    if all(0 <= n < side for n, side in zip(source, values.shape, strict=True)):
                        total += each.weights[(c, *index)] * values[source]
                        work[step, at] += len(spiking.get(source, ()))
                before = states.get((at, neuron), 0.0)
                states[at, neuron] = total + before
                fired[neuron] = states[at, neuron] >= network.threshold
                states[at, neuron] = 0.0 if fired[neuron] else states[at, neuron] * network.decay
            counts[step, at] = fired.sum()
            if linear:
                values, spiking = fired.astype(float), {tuple(n): [n] for n in np.argwhere(fired).tolist()}
                continue
            values, spiking = np.zeros((height // 2, width // 2, output[2])), {}
            for y, x, c in np.argwhere(fired).tolist():
                values[y // 2, x // 2, c] += 0.25
                spiking.setdefault((y // 2, x // 2, c), []).append((y, x, c))
    return counts, work


def test_network_against_a_slow_reading_of_the_rules():
    network, images = small()
    # Of black and white pixels it is known when they spike: always or never.
    images = np.where(images > 120, 255, 0).astype(np.uint8)
    steps = 6
    found = run_stbp(network, images, steps)
    for frame, image in enumerate(images):
        counts, work = slowly(network, np.repeat(image[np.newaxis] > 0, steps, axis=0), steps)
        assert found.spikes[frame, :, 1:].tolist() == counts.tolist()
        assert found.accumulations[frame].tolist() == work.tolist()
    # Each layer fires, and none always.
    for at, shape in enumerate(network.shapes):
        assert 0 < found.spikes[:, :, 1 + at].sum() < len(images) * steps * shape.size


def test_answer_is_the_class_with_most_spikes_and_the_first_of_these():
    network = network_of((1, 1, 1), layer([[0.75], [1.0], [1.0]], [0] * 3))
    found = run_stbp(network, white(1, (1, 1, 1)), 3)
    assert found.answers.tolist() == [[1, 1, 1]]
    silent = network_of((1, 1, 1), layer([[0.0], [0.0]], [0, 0]))
    assert run_stbp(silent, white(1, (1, 1, 1)), 2).answers.tolist() == [[0, 0]]


def test_figures():
    network = network_of((1, 2, 1), layer([[1.0, 1.0], [0.625, 0.0]], [0, 0]), layer([[1.0, 0.0], [0.0, 2.0]], [0, 0], "g"))
    data = Dataset(name="two", images=white(2, (1, 2, 1)), labels=np.array([0, 1]))
    seen = []
    found = measure(network, data, seen.append)
    assert sum(seen) == 2
    # Of 4 steps the first neuron of each layer fires in all, the second in the third.
    assert dataclasses.asdict(found) == {
        "frames": 2,
        "neurons": 6,
        "synapses": 8,
        "steps": 4,
        "accuracy": 0.5,
        "spikes_per_neuron": 3.0,
        "spikes_per_neuron_without_input": 2.5,
        "spikes": [8.0, 5.0, 5.0],
        "accumulations_per_frame": 26,
        "updates_per_frame": 16,
        "accuracy_by_step": [0.5] * 4,
        "spikes_per_neuron_by_step": [0.6667, 1.3333, 2.3333, 3.0],
        "accumulations_by_step": [6.0, 12.0, 20.0, 26.0],
    }


def published():
    """The sizes of 28x28-15C5-P2-40C5-P2-300-10, without the numbers."""
    sizes = {"conv1": (15, 1, 5, 5), "conv2": (40, 15, 5, 5), "fc1": (300, 1960), "fc2": (10, 300)}
    arrays = {"threshold": np.array(1.5), "decay": np.array(0.1), "steps": np.array(5)}
    for name, shape in sizes.items():
        arrays |= {f"{name}.weight": np.zeros(shape, np.float16), f"{name}.bias": np.zeros(shape[0], np.float16)}
    return arrays


def test_published_sizes_are_those_of_the_table(tmp_path):
    np.savez(tmp_path / "n.npz", **published())
    network = read_stbp(tmp_path / "n.npz")
    assert [each.name for each in network.layers] == ["conv1", "conv2", "fc1", "fc2"]
    # 20.7k and 0.6M.
    assert (network.neurons, network.synapses) == (20_694, 606_375)
    assert (network.threshold, network.decay, network.steps) == (1.5, 0.1, 5)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"decay": None}, "decay must be a number"),
        ({"decay": np.array(1.0)}, "decay must be at least 0 and less than 1, not 1.0"),
        ({"threshold": np.array(0.0)}, "threshold must be more than 0, not 0.0"),
        ({"steps": np.array(0)}, "steps must be an integer of 1 or more, not 0"),
        ({"steps": np.array(2.5)}, "steps must be an integer of 1 or more, not 2.5"),
        ({"fc2.bias": None}, "fc2.bias must be an array of finite half-precision numbers"),
        ({"fc2.bias": np.zeros(10)}, "fc2.bias must be an array of finite half-precision numbers"),
        ({"fc2.bias": np.full(10, np.nan, np.float16)}, "fc2.bias must be an array of finite half-precision numbers"),
        ({"fc2.bias": np.zeros(9, np.float16)}, "layer 'fc2': bias must be of shape (10,), not (9,)"),
        ({"fc1.weight": np.zeros((300, 1959), np.float16)}, "layer 'fc1': weights must be for 1960 inputs, not 1959"),
        ({"conv2.weight": np.zeros((40, 15, 4, 5), np.float16)}, "layer 'conv2': kernel must have odd sides, not (4, 5)"),
        (
            {"fc2.weight": np.zeros((10, 300, 1, 1), np.float16)},
            "layer 'fc2': weights must be those of a convolution, or of a linear layer after all convolutions, "
            "not of shape (10, 300, 1, 1)",
        ),
    ],
)
def test_files_that_are_no_such_network(tmp_path, change, line):
    arrays = {name: array for name, array in (published() | change).items() if array is not None}
    path = tmp_path / "n.npz"
    np.savez(path, **arrays)
    with pytest.raises(NetworkError) as caught:
        read_stbp(path)
    assert str(caught.value) == f"{path}: {line}"


def test_a_file_that_is_no_archive(tmp_path):
    path = tmp_path / "n.npz"
    path.write_bytes(b"no archive")
    with pytest.raises(NetworkError) as caught:
        read_stbp(path)
    assert str(caught.value) == f"{path}: must be a whole archive of arrays: its end is missing"
    np.savez(path, threshold=np.array(1.5), decay=np.array(0.1), steps=np.array(5))
    with pytest.raises(NetworkError) as caught:
        read_stbp(path)
    assert str(caught.value) == f"{path}: layers must be at least one, not 0"


def test_sides_that_cannot_be_halved():
    with pytest.raises(NetworkError) as caught:
        run_stbp(network_of((3, 4, 1), layer(np.zeros((1, 1, 3, 3)), [0], "c")), white(1, (3, 4, 1)), 1)
    assert str(caught.value) == "network: layer 'c': input must have even sides, not (3, 4)"


@pytest.mark.parametrize(
    ("images", "steps", "kind", "line"),
    [
        (white(1, (4, 8, 2)), 0, ValueError, "steps must be 1 or more, not 0"),
        (white(1, (4, 8, 2)), 2.0, TypeError, "steps must be an integer, not 2.0"),
        (white(1, (4, 8, 2)), True, TypeError, "steps must be an integer, not True"),
        (white(1, (4, 7, 2)), 1, NetworkError, "frames must have the network's shape (4, 8, 2), not (4, 7, 2)"),
        (white(0, (4, 8, 2)), 1, ValueError, "images must be at least one frame, not 0"),
    ],
)
def test_runs_that_are_refused(images, steps, kind, line):
    with pytest.raises(kind) as caught:
        run_stbp(small()[0], images, steps)
    assert str(caught.value) == line


def test_bundled_network_answers_digits():
    network = read_stbp(ZOO / "paper" / "stbp.npz")
    assert (network.neurons, network.synapses) == (20_694, 606_375)
    data = load("digits5k", "test").first(100)
    found = run_stbp(network, data.images, 5)
    # Digits of the training split: 97 of 100 is far from chance, and not the figure of the table.
    assert (found.answers[:, -1] == data.labels).sum() >= 97
