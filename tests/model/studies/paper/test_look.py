"""A frame looked into: spikes, potentials and times against the golden model's, and what is kept within a frame."""

from dataclasses import replace

import numpy as np
import pytest

from model.encode import encode, spike_times
from model.golden import run
from model.network import Neurons
from model.rest import first_states
from model.studies.paper.look import Look, look, unreset
from model.studies.random_network import drawn
from model.support.errors import BadInputError
from model.support.results import plain


@pytest.fixture(scope="module")
def network():
    return replace(drawn("9x9x1: 6C3p P2 20F 4F", (8, 16, 10)), input_threshold=51)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(3).integers(0, 256, (12, 9, 9, 1), np.uint8)


def test_spikes_and_potentials(network, images):
    trace, due = run(network, encode(network, images[0])), spike_times(network, images[0])
    found = look(network, images[0], trace.answer)
    assert found.image == images[0, :, :, 0].tolist()
    assert found.answer == found.label == trace.answer
    assert [(raster.layer, raster.neurons) for raster in found.layers] == [
        ("input", 81), ("c0", 486), ("f2", 20), ("f3", 4),
    ]  # fmt: skip
    for raster in found.layers[1:]:
        spikes = trace.layers[raster.layer].spikes
        assert raster.neuron == spikes["address"].tolist()
        assert raster.sign == spikes["sign"].tolist()
        assert raster.time == pytest.approx(due[spikes["origin"]], abs=1e-5)
        assert len(spikes) > 0
    theta = network.output.theta
    assert [each[-1] for each in found.potentials] == pytest.approx((trace.potentials / theta).tolist(), abs=1e-4)
    assert len(found.time) == len(found.potentials[0]) == len(trace.layers["f3"].events)
    assert found.biases == pytest.approx((network.output.bias / theta).tolist(), abs=1e-4)
    assert found.last_input == pytest.approx(due[-1], abs=1e-5)
    assert Look.read(plain(found)) == found


def test_when_the_answer_is_right_for_good():
    network = drawn("1x3x1: 2F", (8, 16, 10), threshold_log2=4)
    [layer] = network.layers
    layer = replace(layer, weights=np.array([[0, 16, 0], [16, 0, 16]]), bias=np.array([0, 0]))
    network = replace(network, layers=(layer,), input_threshold=51)
    image = np.array([[[204], [153], [102]]], np.uint8)
    # Class 1 leads at 0.2, class 0 draws level at 0.4 and comes first, class 1 leads again at 0.6.
    assert look(network, image, 1).first_right == 0.6
    assert look(network, image, 0).first_right is None
    assert look(network, image, 0).answer == 1
    black = look(network, np.zeros((1, 3, 1), np.uint8), 0)
    assert (black.first_right, black.last_input, black.time) == (0, 0, [])


def test_nothing_is_reset_within_a_frame(network, images):
    found = unreset(network, images)
    neurons = sum(shape.size for layer, _, shape in network.walk() if isinstance(layer, Neurons))
    assert (found.frames, found.neurons) == (len(images), len(images) * neurons)
    assert found.fired_often > 0
    assert found.different == 0
    # It does see what is lost: in narrow neurons potentials saturate.
    narrow = replace(network, layers=tuple(
        replace(layer, potential_bits=10) if isinstance(layer, Neurons) else layer for layer in network.layers
    ))  # fmt: skip
    assert unreset(narrow, images).different > 0
    assert first_states(network)["c0"].count.max() == 0


def test_what_it_does_not_look_into_is_refused(network, images):
    with pytest.raises(BadInputError) as caught:
        look(replace(network, firing="deferred"), images[0], 1)
    assert str(caught.value) == (
        "network 'drawn' must fire immediately, start from its biases, take one channel and end with a linear layer"
    )
