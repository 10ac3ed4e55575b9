"""The answer so far, against the instruments that look at one frame at a time."""

from dataclasses import replace

import numpy as np
import pytest

from model.engine.engine import run_frames
from model.studies.instruments import instruments
from model.studies.paper.courses import course
from model.studies.random_network import drawn
from model.support.errors import BadInputError


@pytest.fixture(scope="module")
def network():
    return replace(drawn("9x9x1: 6C3p P2 20F 4F", (8, 16, 10)), input_threshold=51)


@pytest.fixture(scope="module")
def images():
    # Some frames are black, and some have a few pixels of any brightness.
    chance = np.random.default_rng(3)
    found = chance.integers(0, 256, (130, 9, 9, 1), np.uint8) * (chance.random((130, 9, 9, 1)) < 0.5)
    found[7] = 0
    return found.astype(np.uint8)


def test_it_is_what_the_instruments_see(network, images):
    labels = np.random.default_rng(4).integers(0, 4, len(images))
    told = []
    found = course("all", network, images, labels, done=told.append)
    assert told == [100, 30]
    _, slow = instruments(network, images, labels)
    # Those look at 0, 0.025, 0.05 ...: every second of their times is a fifth of ours.
    shared = [(slow.time.index(time), found.time.index(time)) for time in found.time if time in slow.time]
    assert len(shared) == 17
    for theirs, ours in shared:
        assert found.accuracy[ours] == pytest.approx(slow.accuracy[theirs], abs=5e-5)
        assert found.spikes_per_neuron[ours] * network.neurons == pytest.approx(slow.spikes_per_frame[theirs], abs=0.06)
        assert found.accumulations_per_frame[ours] == pytest.approx(slow.accumulations_per_frame[theirs], abs=0.6)
    frames = run_frames(network, images)
    assert found.accuracy[-1] == round(float((frames.counts.argmax(axis=1) == labels).mean()), 6)
    assert found.accumulations_per_frame[-1] == round(float(frames.operations.sum(axis=1).mean()), 1)
    assert 0 < found.settled < found.settled_slow <= 0.8
    assert 0 < found.inputs_settled < 1 and 0 < found.spikes_settled < 1


def test_when_an_answer_is_settled():
    """Two pixels: the brighter speaks for class 1, the darker for class 0, twice as much."""
    network = drawn("1x2x1: 2F", (8, 16, 10), threshold_log2=4)
    [layer] = network.layers
    layer = replace(layer, weights=np.array([[0, 40], [16, 0]]), bias=np.array([0, 0]))
    network = replace(network, layers=(layer,), input_threshold=51)
    images = np.array([[[[204], [102]]], [[[102], [0]]], [[[0], [0]]]], np.uint8)
    found = course("two", network, images, np.array([0, 1, 0]))
    # Class 0 has one spike, as an update fires one at the most, and class 1 has one: the lower class wins.
    assert found.accuracy[-1] == 1
    # The first frame's answer is 1 from 0.2 to 0.6, and 0 before it; the second one's 1 from 0.6 on; the third one's always 0.
    assert found.accuracy[20] == pytest.approx(1 / 3, abs=1e-6)
    assert found.accuracy[19] == pytest.approx(2 / 3, abs=1e-6)
    assert found.settled == pytest.approx((0.6 + 0.6 + 0) / 3, abs=1e-4)
    assert found.last_input == pytest.approx((0.6 + 0.6 + 0) / 3, abs=1e-4)
    assert found.inputs_settled == pytest.approx(2 / 3, abs=1e-4)


def test_what_it_does_not_follow_is_refused(network, images):
    for other in (replace(network, firing="deferred"), replace(network, rest=True)):
        with pytest.raises(BadInputError) as caught:
            course("x", other, images, np.zeros(len(images), int))
        assert str(caught.value) == "network 'drawn' must fire immediately, start from its biases and have one input level"
