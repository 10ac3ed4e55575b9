"""The instruments against what the traces say, counted another way."""

from dataclasses import replace

import numpy as np
import pytest

from model.conversion.quantized import counts_of_layers
from model.encode import encode, spike_times
from model.golden import run
from model.network import INPUT, Neurons
from model.studies.instruments import confusion, instruments
from sim.generators.networks import mixed, random_network


def test_confusion():
    assert confusion(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2]), 3) == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]


LEVELS = {"input_threshold": 40, "input_step": 60, "input_levels": 3}


@pytest.mark.parametrize(("seed", "coding"), [(1, {}), (2, LEVELS)])
def test_course_and_agreement(seed, coding):
    network = replace(random_network(seed), **coding)
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (6, *network.input_shape), dtype=np.uint8)
    labels = rng.integers(0, network.classes, 6)
    done = []
    agreement, course = instruments(network, images, labels, done=done.append)
    assert sum(done) == 6
    traces = [run(network, encode(network, image)) for image in images]
    # At the end of time, the course is the whole frame.
    fired = [sum(len(t.spikes) for t in trace.layers.values() if isinstance(t.layer, Neurons)) for trace in traces]
    assert course.spikes_per_frame[-1] == round(np.mean(fired), 1)
    operations = [sum(t.operations for t in trace.layers.values()) for trace in traces]
    assert course.accumulations_per_frame[-1] == round(np.mean(operations))
    assert course.accuracy[-1] == round(np.mean([t.answer == label for t, label in zip(traces, labels, strict=True)]), 4)
    # In between, it is the frame that ends there.
    middle = course.time[20]
    early = []
    for image in images:
        events = encode(network, image)
        early.append(run(network, events[spike_times(network, image) <= middle]))
    assert 0 < len(early[0].events) < len(traces[0].events)
    expected = [early_trace.answer == label for early_trace, label in zip(early, labels, strict=True)]
    assert course.accuracy[20] == round(np.mean(expected), 4)
    operations = [sum(t.operations for t in trace.layers.values()) for trace in early]
    assert course.accumulations_per_frame[20] == round(np.mean(operations))
    (quantized,) = counts_of_layers(network, images)
    assert INPUT in quantized
    for row in agreement:
        counts = np.array([trace.layers[row.layer].count for trace in traces])
        difference = counts - quantized[row.layer]
        assert row.counts_equal == round((difference == 0).mean(), 4)
        assert row.count_difference_mean == round(difference.mean(), 4)
        worst = row.worst_neurons[0]
        assert worst.difference_mean_absolute == round(np.abs(difference).mean(axis=0).max(), 3)
        assert np.abs(difference).mean(axis=0)[tuple(worst.neuron)] == np.abs(difference).mean(axis=0).max()
    assert any(row.correlation for row in agreement)


@pytest.mark.parametrize("firing", ["immediate", "deferred"])
@pytest.mark.parametrize("rest", [False, True])
def test_the_course_starts_at_rest_and_ends_as_the_frame_does(firing, rest):
    """Frames without an event too, on which a network that fires deferred may fire all the same."""
    network = mixed(1, firing=firing, rest=rest, flush_events=20 if firing == "deferred" else 0, wide=True)
    images = np.random.default_rng(1).integers(0, 256, (4, *network.input_shape), dtype=np.uint8)
    images[2] = 0
    traces = [run(network, encode(network, image)) for image in images]
    labels = np.array([trace.answer for trace in traces])
    agreement, course = instruments(network, images, labels)
    assert course.accuracy[-1] == course.by_events.accuracy[-1] == 1
    fired = [sum(len(t.spikes) for t in trace.layers.values() if isinstance(t.layer, Neurons)) for trace in traces]
    assert course.spikes_per_frame[-1] == round(np.mean(fired), 1)
    assert (len(traces[2].layers["conv1"].spikes) > 0) == (firing == "deferred" and not rest)
    if firing == "deferred":
        assert all(row.counts_equal == 1 for row in agreement)


@pytest.mark.parametrize("coding", [{}, LEVELS])
@pytest.mark.parametrize("every", [0, 7])
def test_deferred_there_is_an_answer_after_a_flush_only(every, coding):
    network = replace(mixed(1, firing="deferred", rest=True, flush_events=every, wide=True), **coding)
    images = np.random.default_rng(1).integers(0, 256, (3, *network.input_shape), dtype=np.uint8)
    images[2] = 0
    frames = [encode(network, image) for image in images]
    labels = np.array([run(network, events).answer for events in frames])
    _, course = instruments(network, images, labels)
    assert course.accuracy[-1] == course.by_events.accuracy[-1] == 1
    assert (max(course.accuracy[:-1]) > 0) == (every > 0)
    for at, time in list(enumerate(course.time))[8:-1:15]:
        right = spikes = operations = 0
        for image, events, label in zip(images, frames, labels, strict=True):
            come = int((spike_times(network, image) <= time + 1e-9).sum())
            flushed = come // every * every if every else 0
            trace = run(network, events[:flushed])
            if flushed:
                right += trace.answer == label
                spikes += sum(len(t.spikes) for t in trace.layers.values() if isinstance(t.layer, Neurons))
                operations += sum(t.operations for t in trace.layers.values())
            # The first layer adds up what has come since.
            operations += run(network, events[:come]).layers["conv1"].operations
            operations -= trace.layers["conv1"].operations if flushed else 0
        assert course.accuracy[at] == round(right / 3, 4)
        assert course.spikes_per_frame[at] == round(spikes / 3, 1)
        assert course.accumulations_per_frame[at] == round(operations / 3)
