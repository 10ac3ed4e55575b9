"""Thresholds that rise with the input to come: by hand, and a network against the definition, step by step in time."""

import numpy as np
import pytest

from model.importers.float_network import FloatLayer
from model.network import Padding, Shape
from model.studies.first_spike import FirstSpikeNetwork, run_first_spikes, spike_times_of_layers
from model.studies.first_spike_waiting import Events, pool_waiting
from model.studies.synapses import NeuronStage, PoolStage, stages_of

INF = np.inf


def linear(weights, bias, name="f", source="input"):
    return FloatLayer(
        kind="linear", source=source, name=name, tensor=name, weights=np.array(weights, float), bias=np.array(bias, float)
    )


def network_of(shape, *layers, input_spikes=True, duration=32.0, waits=True):
    return FirstSpikeNetwork(
        input_shape=shape,
        stages=stages_of(layers, shape),
        scales=(1.0,) * len(layers),
        input_spikes=input_spikes,
        duration=duration,
        waits=waits,
    )


def pixels(*values):
    return np.array(values, np.uint8).reshape(1, 1, 1, -1)


def test_a_neuron_waits_for_inhibition():
    shape = Shape(1, 1, 2)
    layer = linear([[0.5, -9], [0.5, -0.25]], [0, 0])
    # Pixels at 1 and 5. With a threshold that stays both fire at 3, before the second pixel.
    assert spike_times_of_layers(network_of(shape, layer, waits=False), pixels(255, 51))["f"].tolist() == [[3.0, 3.0]]
    # The one that rises is 10 and 1.25 from 1 until 5. The second has 1.25 at 3.5.
    # At 5 the threshold falls to 1 and the potential is 2 already: the first fires after all.
    found = run_first_spikes(network_of(shape, layer), pixels(255, 51))
    times = spike_times_of_layers(network_of(shape, layer), pixels(255, 51))["f"]
    assert times.tolist() == [[5.0, 3.5]]
    assert found.answers.tolist() == [1]
    # Both pixels expected at 0 and the one no longer at 1: three events on two thresholds.
    assert found.threshold_operations_by_answer.tolist() == [[6]]
    assert found.threshold_operations.tolist() == [[8]]
    assert found.operations.tolist() == [[4]]


def test_a_neuron_is_held_back_for_good():
    shape = Shape(1, 1, 2)
    # u(5) = 4/8 is below the threshold that is left, and falls from there.
    times = spike_times_of_layers(network_of(shape, linear([[0.125, -9]], [0])), pixels(255, 51))
    assert times["f"].tolist() == [[INF]]


def test_what_no_longer_rises_is_not_waited_for():
    shape = Shape(1, 1, 2)
    # Hidden neuron a fires at 1 + 1; b rises from 1 on by 1/32, and falls from 5 on: it never fires.
    hidden = linear([[1, 0], [1 / 32, -1]], [0, 0], "h")
    outputs = linear([[0.5, -8]], [0])
    times = spike_times_of_layers(network_of(shape, hidden, outputs), pixels(255, 51))
    # The output waits for b until 5, with a threshold of 9, and has 1.5 by then.
    assert times["h"].tolist() == [[2.0, INF]]
    assert times["f"].tolist() == [[5.0]]


def test_a_pool_is_expected_until_one_of_its_neurons_fires():
    pool = PoolStage(name="p", starts=np.array([0, 2, 4]), addresses=np.array([0, 1, 2, 3]))
    heard = [(0.0, 0, 0), (0.0, 1, 0), (1.0, 2, 0), (2.0, 0, 1), (3.0, 2, 1), (4.0, 1, 2), (5.0, 3, 3), (6.0, 0, 3)]
    times, addresses, kinds = (np.array(column) for column in zip(*heard, strict=True))
    found = pool_waiting(Events(times, addresses, kinds.astype(np.int8)), pool)
    # Window 0: expected from 0 on, through neuron 0 alone giving up, until neuron 1 fires. Window 1: expected from 1 to 3.
    assert list(zip(found.times, found.addresses, found.kinds, strict=True)) == [
        (0.0, 0, 0), (1.0, 1, 0), (3.0, 1, 1), (4.0, 0, 2), (5.0, 1, 3),
    ]


def reference(network, image):
    """Times of all stages by the definition alone: potentials and thresholds anew at every moment at which any changes."""
    levels = image.reshape(-1) / 255
    with np.errstate(divide="ignore"):
        pixels = 1 / levels
    stages = network.stages
    dense = []
    for stage in stages:
        if isinstance(stage, NeuronStage):
            matrix = np.zeros((len(stage.bias), len(stage.synapses.fan_out)))
            sources = np.repeat(np.arange(matrix.shape[1]), stage.synapses.fan_out)
            np.add.at(matrix, (stage.synapses.targets, sources), stage.synapses.weights)
            dense.append(matrix)
        else:
            dense.append([stage.addresses[a:b] for a, b in zip(stage.starts, stage.starts[1:], strict=False)])
    fired = [np.full(len(matrix), INF) for matrix in dense]

    def look(now):
        """Fire what has reached its threshold by now, from the first stage to the last; the next moment of a change."""
        source, coming = np.where(pixels <= now, pixels, INF), [pixels[pixels > now]]
        expected = (pixels > now) & np.isfinite(pixels)
        for index, (stage, matrix) in enumerate(zip(stages, dense, strict=True)):
            if isinstance(stage, PoolStage):
                fired[index] = np.array([source[window].min() for window in matrix])
                source, expected = fired[index], np.array([expected[w].any() for w in matrix]) & np.isinf(fired[index])
                continue
            begin = source.min()
            if index == 0 and not network.input_spikes:
                begin, slopes = 0.0, matrix @ levels + stage.bias
                potentials, thresholds = slopes * now, np.ones(len(matrix))
            else:
                alive = source <= now
                slopes = (matrix[:, alive].sum(axis=1) + stage.bias) * (begin <= now)
                began = stage.bias * (now - begin) if begin <= now else np.zeros(len(matrix))
                potentials = matrix[:, alive] @ (now - source[alive]) + began
                thresholds = 1 + np.abs(matrix[:, expected]).sum(axis=1)
            open_ = np.isinf(fired[index])
            fires = open_ & (potentials >= thresholds - 1e-12) & (begin <= now)
            fired[index][fires] = now
            rising = open_ & ~fires & (slopes > 0)
            coming.append(now + (thresholds - potentials)[rising] / slopes[rising])
            source, expected = fired[index], np.isinf(fired[index]) & (slopes > 0)
        later = np.concatenate(coming)
        return later[later > now].min(initial=INF)

    now, moments = 0.0, 0
    while now <= network.duration:
        now = look(now)
        moments += 1
    return {stage.name: times for stage, times in zip(stages, fired, strict=True)}


@pytest.mark.parametrize("input_spikes", [True, False])
def test_random_network_fires_by_the_definition(input_spikes):
    rng = np.random.default_rng(5)
    layers = [
        FloatLayer(kind="convolution", source="input", name="c", tensor="c", weights=rng.normal(0.05, 0.2, (3, 2, 3, 3)),
                   bias=rng.normal(0, 0.05, 3), window=(3, 3), padding=Padding(1, 1, 1, 1), relu=True),
        FloatLayer(kind="maxpool", source="c", name="p", tensor="p", window=(2, 2), stride=(2, 2)),
        linear(rng.normal(0.05, 0.3, (8, 27)), rng.normal(0, 0.1, 8), "h", source="p"),
        linear(rng.normal(0.1, 0.4, (4, 8)), rng.normal(0, 0.1, 4), source="h"),
    ]
    images = rng.integers(0, 256, (8, 6, 6, 2)).astype(np.uint8)
    images[rng.random(images.shape) < 0.3] = 0
    network = network_of(Shape(6, 6, 2), *layers, duration=20.0, input_spikes=input_spikes)
    found = spike_times_of_layers(network, images)
    stays = spike_times_of_layers(network_of(Shape(6, 6, 2), *layers, input_spikes=input_spikes, waits=False), images)
    silent = fired = other = 0
    for frame, image in enumerate(images):
        for name, times in reference(network, image).items():
            assert found[name][frame] == pytest.approx(np.where(times <= 20, times, INF), rel=1e-9), (name, frame)
            fired += np.isfinite(found[name][frame]).sum()
            silent += np.isinf(found[name][frame]).sum()
            other += (found[name][frame] != stays[name][frame]).sum()
    assert fired > 200 and silent > 50 and other > 50
    # The company of other frames changes nothing.
    whole = run_first_spikes(network, np.tile(images, (20, 1, 1, 1)))
    alone = run_first_spikes(network, images)
    assert (whole.answers == np.tile(alone.answers, 20)).all()
    assert (whole.threshold_operations_by_answer == np.tile(alone.threshold_operations_by_answer, (20, 1))).all()
    assert (alone.threshold_operations_by_answer <= alone.threshold_operations).all()
    assert alone.threshold_operations.sum() > 0
