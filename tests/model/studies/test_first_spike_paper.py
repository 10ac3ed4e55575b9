"""The networks of Table I with neurons that fire once: read from their files, and measured."""

import numpy as np
import pytest

from model.network import Shape
from model.studies.first_spike_paper import VARIANTS, float_scores, measure, read_first_spike
from model.support.choices import ZOO
from model.support.dataset import DataError, Dataset
from model.support.datasets import load
from model.support.errors import BadInputError
from model.training.common import held_out


def arrays_of(rng):
    """A convolution of 2 channels on 6 x 6 with its size kept, pooled to 3 x 3, a hidden layer of 5, 3 outputs."""
    shapes = {"conv1": (2, 1, 3, 3), "fc1": (5, 18), "fc2": (3, 5)}
    found = {
        "input_shape": np.array((6, 6, 1)), "scales": np.array([2.0, 0.5, 4.0]), "low": np.array(0.25),
        "paddings": np.array([1, 0, 0]), "pools": np.array([2, 1, 1]),
    }
    for kind in ("plain", "clamped"):
        for name, shape in shapes.items():
            found[f"{kind}.{name}.weight"] = rng.normal(0.1, 0.4, shape).astype(np.float16)
            found[f"{kind}.{name}.bias"] = rng.normal(0, 0.1, shape[0]).astype(np.float16)
    return found


@pytest.fixture
def arrays():
    return arrays_of(np.random.default_rng(3))


@pytest.fixture
def path(arrays, tmp_path):
    np.savez(tmp_path / "net.npz", **arrays)
    return tmp_path / "net.npz"


@pytest.fixture
def data():
    rng = np.random.default_rng(4)
    images = rng.integers(0, 256, (30, 6, 6, 1)).astype(np.uint8)
    return Dataset("noise", images, rng.integers(0, 3, 30))


def scores_by_loops(arrays, kind, lows, image):
    """The float network, value by value, channels first as PyTorch has them."""
    values = np.pad(image[..., 0] / 255, 1)
    weights = {name: arrays[name].astype(float) for name in arrays if name.startswith(kind)}

    def activated(value, low):
        return value if value > low else 0.0

    convolved = np.zeros((2, 6, 6))
    for c, y, x in np.ndindex(2, 6, 6):
        inside = (values[y : y + 3, x : x + 3] * weights[f"{kind}.conv1.weight"][c, 0]).sum()
        convolved[c, y, x] = activated(inside + weights[f"{kind}.conv1.bias"][c], lows[0])
    pooled = convolved.reshape(2, 3, 2, 3, 2).max(axis=(2, 4)).reshape(-1)
    hidden = weights[f"{kind}.fc1.weight"] @ pooled + weights[f"{kind}.fc1.bias"]
    hidden = np.array([activated(value, lows[1]) for value in hidden])
    return weights[f"{kind}.fc2.weight"] @ hidden + weights[f"{kind}.fc2.bias"]


@pytest.mark.parametrize(("clamped", "lows"), [(False, (0.0, 0.0, 0.0)), (True, (0.5, 0.125, 1.0))])
def test_float_scores(arrays, path, data, clamped, lows):
    network = read_first_spike(path, clamped=clamped, waits=False)
    assert network.lows == lows
    scores = float_scores(network, data.images)
    for frame, image in enumerate(data.images):
        expected = scores_by_loops(arrays, "clamped" if clamped else "plain", lows, image)
        assert scores[frame] == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_a_scale_is_the_activation_that_fires_at_1(arrays, path):
    network = read_first_spike(path, clamped=False, waits=False).spiking
    stages = {stage.name: stage for stage in network.stages}
    assert list(stages) == ["conv1", "conv1_pool", "fc1", "fc2"]
    # From a scale of 2 to one of 0.5; address 1 is channel 1 of the first place.
    weights = stages["fc1"].synapses.weights.reshape(18, 5)
    assert weights[1] == pytest.approx(arrays["plain.fc1.weight"][:, 9].astype(float) * 4)
    assert stages["fc2"].bias == pytest.approx(arrays["plain.fc2.bias"].astype(float) / 4)


def test_measured(path, data):
    network = read_first_spike(path, clamped=True, waits=True, duration=16.0)
    finished = []
    found = measure(network, data, finished.append)
    assert sum(finished) == found.frames == 30
    # 36 pixels, 72 + 5 + 3 neurons; windows clipped at the border: (2 + 3 * 4 + 2)^2 taps of each of 2 channels.
    assert found.neurons == 116
    assert found.synapses == 16 * 16 * 2 + 18 * 5 + 5 * 3
    assert found.weights == 18 + 18 * 5 + 5 * 3
    assert 0 < found.spikes_per_neuron <= found.spikes_per_neuron_without_end <= 80 / 116
    assert found.threshold_additions_per_frame > 0
    assert found.accumulations_per_frame >= found.input_operations_per_frame > 0
    assert found == measure(network, data)
    stays = measure(read_first_spike(path, clamped=True, waits=False, duration=16.0), data)
    assert stays.threshold_additions_per_frame == 0
    assert stays.accuracy_ann == found.accuracy_ann
    assert stays.answer_time_mean < found.answer_time_mean


def test_frames_of_another_shape(path):
    network = read_first_spike(path, clamped=False, waits=False)
    other = Dataset("small", np.zeros((2, 5, 5, 1), np.uint8), np.zeros(2, np.int64))
    with pytest.raises(DataError) as caught:
        measure(network, other)
    assert str(caught.value) == "frames of small must have the network's input shape (6, 6, 1), not (5, 5, 1)"
    assert network.spiking.input_shape == Shape(6, 6, 1)


def test_no_such_network(tmp_path, arrays):
    path = tmp_path / "other.npz"
    np.savez(path, **{name: values for name, values in arrays.items() if name != "scales"})
    with pytest.raises(BadInputError) as caught:
        read_first_spike(path, clamped=False, waits=False)
    assert str(caught.value) == f"{path}: must be a network of neurons that fire once: 'scales'"
    path.write_bytes(b"no archive")
    with pytest.raises(BadInputError) as caught:
        read_first_spike(path, clamped=False, waits=False)
    assert str(caught.value).startswith(f"{path}: must be a network of neurons that fire once: ")


@pytest.mark.full
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: f"{variant.network}, {variant.remedy}")
def test_variants_of_the_table_on_digits_that_no_training_saw(variant):
    # The held-out twelfth of the digits that come with a package would be others: these are MNIST's, 500 of them.
    data = load("mnist", "train")
    held = held_out(data)
    data = Dataset("held out", data.images[held][:500], data.labels[held][:500])
    found = measure(variant.read(ZOO / "paper"), data)
    assert found.accuracy >= 0.98
    assert found.accuracy_ann >= found.accuracy - 0.01
    assert (found.neurons, found.synapses) in ((7706, 1_192_576), (1394, 476_400))
