"""Neurons fed by Poisson trains: trains by their rate, one neuron by hand, and a network against a slow reading of the rules."""

import numpy as np
import pytest

from model.importers.float_network import ConversionError
from model.network import Shape
from model.studies.poisson import PoissonNetwork, average_pool, convolution, run_poisson, settled, spike_counts


def grid(rng, *shape):
    """Weights that are whole multiples of 1/64, so that sums are exact in any order."""
    return rng.integers(-24, 40, shape).astype(np.float32) / 64


def small(seed=0, **options):
    """Pixels of 10 x 10, a convolution of two maps, a pool, a convolution of three maps, three classes."""
    rng = np.random.default_rng(seed)
    weights = grid(rng, 2, 1, 3, 3), grid(rng, 3, 2, 3, 2), grid(rng, 3, 3, 2, 3)
    first = convolution(weights[0], Shape(10, 10, 1))
    pool = average_pool(2, first.shape)
    second = convolution(weights[1], pool.shape)
    network = PoissonNetwork(
        input_shape=Shape(10, 10, 1), stages=(first, pool, second, convolution(weights[2], second.shape)), **options
    )
    images = rng.integers(0, 256, (5, 10, 10, 1), dtype=np.uint8)
    images[images < 100] = 0
    return network, weights, images


def slow_convolution(spikes, weights):
    """What arrives at each neuron, and how many spikes brought it."""
    outputs, _, height, width = weights.shape
    sums = np.zeros((spikes.shape[0] - height + 1, spikes.shape[1] - width + 1, outputs))
    cost = 0
    for y, x, o in np.ndindex(*sums.shape):
        window = spikes[y : y + height, x : x + width].transpose(2, 0, 1)
        sums[y, x, o] = (window * weights[o]).sum()
        cost += int(window.sum())
    return sums, cost


def slow_pool(spikes):
    height, width, channels = spikes.shape
    return spikes.reshape(height // 2, 2, width // 2, 2, channels).mean(axis=(1, 3)), int(spikes.sum())


def slow_run(weights, image, steps, seed, frame, max_rate):
    """Answers after each step; spikes and accumulations by step and stage; counts of the last stage."""
    first, second, last = weights
    layers = [lambda s: slow_convolution(s, first), slow_pool, lambda s: slow_convolution(s, second),
              lambda s: slow_convolution(s, last)]
    rng = np.random.default_rng((seed, frame))
    potentials, counts = [0.0] * len(layers), 0
    answers, spikes, costs = [], [], []
    for _ in range(steps):
        fired = np.zeros(image.shape)
        for y, x, c in zip(*np.nonzero(image), strict=True):
            fired[y, x, c] = rng.random() < image[y, x, c] * (max_rate / 1000 / 255)
        spikes.append([fired.sum()])
        costs.append([])
        for index, layer in enumerate(layers):
            arriving, cost = layer(fired)
            potentials[index] = potentials[index] + arriving
            fired = (potentials[index] >= 1).astype(float)
            potentials[index] = np.where(fired, 0, potentials[index])
            spikes[-1].append(fired.sum())
            costs[-1].append(cost)
        counts = counts + fired.reshape(-1)
        answers.append(int(np.argmax(counts)))
    return answers, np.array(spikes), np.array(costs), counts


@pytest.mark.parametrize("max_rate", [1000.0, 400.0])
def test_network_does_what_a_slow_reading_of_the_rules_does(max_rate):
    network, weights, images = small(seed=3, max_rate=max_rate)
    steps = 40
    slow = [slow_run(weights, image, steps, network.seed, frame, max_rate) for frame, image in enumerate(images)]
    found = run_poisson(network, images, steps)
    assert found.answers.tolist() == [answers for answers, *_ in slow]
    assert found.spikes.tolist() == np.sum([spikes for _, spikes, _, _ in slow], axis=0).tolist()
    assert found.accumulations.tolist() == np.sum([costs for _, _, costs, _ in slow], axis=0).tolist()
    assert spike_counts(network, images, steps).tolist() == [counts.tolist() for *_, counts in slow]
    # All stages fire, and answers change as time goes by.
    assert (found.spikes.sum(axis=0) > 20).all()
    assert len(np.unique(found.answers)) > 1


def test_courses_are_means_of_frames():
    network, _, images = small()
    found = run_poisson(network, images, 7)
    labels = np.array([0, 1, 2, 0, 1])
    assert found.accuracies(labels).tolist() == [np.mean(found.answers[:, step] == labels) for step in range(7)]
    assert found.spikes_so_far()[-1] == found.spikes.sum() / 5
    assert found.accumulations_so_far()[0] == found.accumulations[0].sum() / 5


def test_pixels_fire_at_the_rate_of_their_grey_value():
    shape = Shape(1, 4, 1)
    image = np.array([0, 51, 102, 255], np.uint8).reshape(1, 1, 4, 1)
    # A neuron of its own for each pixel, which fires whenever that does.
    stage = convolution(np.ones((1, 1, 1, 1), np.float32), shape)
    counts = spike_counts(PoissonNetwork(input_shape=shape, stages=(stage,)), image, 5000)[0].tolist()
    assert (counts[0], counts[3]) == (0, 5000)
    # Six standard deviations.
    assert counts[1] == pytest.approx(1000, abs=170)
    assert counts[2] == pytest.approx(2000, abs=210)
    half = PoissonNetwork(input_shape=shape, stages=(stage,), max_rate=500.0)
    assert spike_counts(half, image, 5000)[0, 3].item() == pytest.approx(2500, abs=215)


def test_neuron_is_set_to_zero_and_a_negative_potential_stays():
    shape = Shape(1, 1, 1)
    white = np.full((1, 1, 1, 1), 255, np.uint8)

    def counts(weight, steps):
        network = PoissonNetwork(input_shape=shape, stages=(convolution(np.full((1, 1, 1, 1), weight), shape),))
        return [int(spike_counts(network, white, step)[0, 0]) for step in range(1, steps + 1)]

    # 0.375, 0.75, 1.125: what is above the threshold is lost.
    assert counts(0.375, 9) == [0, 0, 1, 1, 1, 2, 2, 2, 3]
    assert counts(0.5, 4) == [0, 1, 1, 2]
    assert counts(3.0, 3) == [1, 2, 3]
    assert counts(-1.0, 3) == [0, 0, 0]


def test_frame_does_the_same_wherever_it_stands():
    network, _, images = small()
    whole = run_poisson(network, images, 9)
    assert run_poisson(network, images[3:], 9, first=3).answers.tolist() == whole.answers[3:].tolist()
    assert run_poisson(network, images, 4).answers.tolist() == whole.answers[:, :4].tolist()
    seen = []
    run_poisson(network, images.repeat(30, axis=0), 2, done=seen.append)
    assert seen == [64, 64, 22]
    other, _, _ = small(seed=0)
    other = PoissonNetwork(input_shape=other.input_shape, stages=other.stages, seed=2)
    assert run_poisson(other, images, 9).spikes.tolist() != whole.spikes.tolist()


def test_neurons_and_synapses_are_counted():
    network, _, _ = small()
    assert network.neurons == 100 + 8 * 8 * 2 + 4 * 4 * 2 + 2 * 3 * 3 + 3
    assert network.neurons_without_pools == network.neurons - 4 * 4 * 2
    assert network.synapses == 2 * 9 + 3 * 2 * 6 + 3 * 18


def test_time_from_which_accuracy_is_wanted():
    assert settled(np.array([0.1, 0.9, 0.7, 0.8, 0.9]), 0.8) == 4
    assert settled(np.array([0.9, 0.9]), 0.8) == 1
    # It ends below: where it is best.
    assert settled(np.array([0.1, 0.7, 0.6]), 0.65) == 2


def test_what_does_not_fit_is_refused():
    network, _, images = small()
    with pytest.raises(ConversionError, match=r"^frames must have the network's shape \(10, 10, 1\), not \(9, 10, 1\)$"):
        run_poisson(network, images[:, 1:], 3)
    with pytest.raises(ConversionError, match=r"^images must be at least one frame, not 0$"):
        run_poisson(network, images[:0], 3)
    with pytest.raises(ConversionError, match=r"^steps must be from 1 to 65535, not 0$"):
        run_poisson(network, images, 0)
    with pytest.raises(TypeError, match=r"^steps must be an integer, not 2\.5$"):
        run_poisson(network, images, 2.5)
    with pytest.raises(ConversionError, match=r"^windows of 3 pixels must fill their source, not \(8, 9, 1\)$"):
        average_pool(3, Shape(8, 9, 1))
    with pytest.raises(
        ConversionError, match=r"^weights must be of windows inside their source \(2, 3, 1\), not \(4, 1, 3, 3\)$"
    ):
        convolution(np.zeros((4, 1, 3, 3)), Shape(2, 3, 1))
    with pytest.raises(ConversionError, match=r"^max_rate must be more than 0 and at most 1000 spikes per second, not 1001\.0$"):
        PoissonNetwork(input_shape=Shape(1, 1, 1), stages=(), max_rate=1001.0)
