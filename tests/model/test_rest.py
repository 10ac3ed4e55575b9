"""The state at rest, and what deferred firing settles to: against their definitions, on every layer kind."""

from dataclasses import replace

import numpy as np
import pytest

from model.conversion.quantized import counts_of_layers
from model.encode import encode
from model.events import make_events
from model.golden import run
from model.network import INPUT, Linear, MaxPool, Network, Neurons
from model.rest import border_classes, classes, first_states, states_at_rest, weighted_sums
from sim.generators.networks import mixed, random_convolution

EMPTY = make_events([])


def input_counts(network, events):
    counts = np.zeros(network.input_shape.size, np.int64)
    np.add.at(counts, events["address"], events["sign"])
    return counts.reshape(network.input_shape)


def potentials(network, counts):
    """Of each layer of neurons, the bias and the weights times the counts of its source."""
    found = {}
    for layer, shape, output in network.walk():
        if isinstance(layer, Neurons):
            source = counts[layer.source][np.newaxis].astype(np.float64)
            found[layer.name] = weighted_sums(layer, layer.weights, source, shape, output)[0].astype(np.int64) + layer.bias
    return found


def activation(layer, potential):
    return np.maximum(potential, 0) if layer.relu else potential


@pytest.mark.parametrize("seed", range(6))
def test_the_state_at_rest_is_its_definition(seed):
    for firing in ("immediate", "deferred"):
        network = mixed(seed, firing=firing, rest=True, wide=True)
        states = states_at_rest(network)
        counts = {INPUT: np.zeros(network.input_shape, int), **{name: state.count for name, state in states.items()}}
        expected = potentials(network, counts)
        for layer in network.layers:
            V, Q = states[layer.name].potential, states[layer.name].count
            if isinstance(layer, MaxPool):
                assert (V == counts[layer.source]).all()
                continue
            assert (V == expected[layer.name]).all()
            settled = activation(layer, V)
            diff = settled - Q * layer.theta
            if firing == "deferred":
                assert (0 <= diff).all() and (diff < layer.theta).all()
            else:
                assert (np.abs(diff) < layer.theta).all()
                # The first count at which that holds, coming from 0.
                assert (np.abs(settled - (Q - np.sign(Q)) * layer.theta)[Q != 0] >= layer.theta).all()
        assert min(states["conv2"].count.min(), 0) < 0 < states["conv2"].count.max()
        # Nothing is sent on a frame without events, and its answer is the state at rest.
        trace = run(network, EMPTY)
        for name, state in states.items():
            assert not len(trace.layers[name].spikes)
            assert (trace.layers[name].count == state.count).all()
        assert trace.counts.tolist() == states[network.output.name].count.reshape(-1).tolist()
        assert trace.counts.any()


@pytest.mark.parametrize("seed", range(3))
def test_an_immediate_network_settles_to_its_state_at_rest(seed):
    """Updated without an event until nothing fires, each layer after its source has settled, neurons come to Q0."""
    network = mixed(seed, wide=True)
    states, cold = states_at_rest(network), first_states(network)
    assert all(not state.count.any() for state in cold.values())
    for layer, shape, _ in network.walk():
        if isinstance(layer, Neurons):
            V, Q = states[layer.name].potential, cold[layer.name].count.copy()
            for _ in range(np.abs(states[layer.name].count).max()):
                diff = activation(layer, V) - Q * layer.theta
                Q = Q + (diff >= layer.theta) - (diff <= -layer.theta)
            assert (Q == states[layer.name].count).all()
        else:
            assert (cold[layer.name].potential == np.zeros(shape)).all()


@pytest.mark.parametrize("rest", [False, True])
@pytest.mark.parametrize("flush_events", [0, 9])
@pytest.mark.parametrize("seed", range(5))
def test_deferred_counts_are_the_quantized_networks(seed, flush_events, rest):
    """Neuron for neuron, whatever the order of events; with narrow counts too."""
    network = mixed(seed, firing="deferred", rest=rest, flush_events=flush_events, wide=True)
    narrow = replace(network.layer("conv1"), count_bits=2)
    network = replace(network, layers=(narrow, *network.layers[1:]))
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (4, *network.input_shape), dtype=np.uint8)
    images[1] = 0
    (quantized,) = counts_of_layers(network, images)
    for frame, image in enumerate(images):
        events = encode(network, image)
        shuffled = make_events(rng.permutation(events["address"]))
        for trace in (run(network, events), run(network, shuffled)):
            for name, layer in trace.layers.items():
                assert layer.count.tolist() == quantized[name][frame].tolist(), name
    assert quantized["conv1"].max() == 3


@pytest.mark.parametrize("firing", ["immediate", "deferred"])
@pytest.mark.parametrize("rest", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_potentials_are_weights_times_counts(seed, firing, rest):
    """At the end of a frame, as long as nothing saturates; and counts are those at rest and what was fired."""
    network = mixed(seed, firing=firing, rest=rest, burst=1 + seed % 3, wide=True)
    events = encode(network, np.random.default_rng(seed).integers(0, 256, network.input_shape, dtype=np.uint8))
    trace, first = run(network, events), first_states(network)
    counts = {INPUT: input_counts(network, events), **{name: layer.count for name, layer in trace.layers.items()}}
    expected = potentials(network, counts)
    # Without rest a layer's count starts at 0, as those of its sources do.
    for name, layer in trace.layers.items():
        assert layer.saturated_updates == 0
        fired = np.zeros(layer.count.size, np.int64)
        np.add.at(fired, layer.spikes["address"], layer.spikes["sign"])
        assert (first[name].count.reshape(-1) + fired == layer.count.reshape(-1)).all()
        if name in expected:
            assert (layer.potential == expected[name]).all(), name


def test_what_is_stored_at_rest_is_held_at_its_ends():
    """Of two layers the second has a sum at rest that its residual cannot hold, and counts at their ends."""
    first = Linear(name="a", source="input", weights=np.ones((3, 1), int), bias=np.array([100, 100, 100]), threshold_log2=2)
    weights = np.array([[100, 100, 100], [-100, -100, -100], [1, 0, 0]])
    second = Linear(
        name="b", source="a", weights=weights, bias=np.array([0, 0, 1]), threshold_log2=4, potential_bits=10, count_bits=3
    )
    network = Network(name="n", input_shape=(1, 1, 1), layers=(first, second), rest=True)
    states = states_at_rest(network)
    assert states["a"].count.reshape(-1).tolist() == [25, 25, 25]
    assert states["b"].count.reshape(-1).tolist() == [7, 0, 1]
    assert (states["b"].potential - states["b"].count * 16).reshape(-1).tolist() == [511, -512, 10]
    wrapped = states_at_rest(replace(network, firing="deferred"))["b"]
    assert wrapped.count.tolist() == states["b"].count.tolist()
    # 7,500 less 112, and -7,500, in 11 bits.
    assert (wrapped.potential - wrapped.count * 16).reshape(-1).tolist() == [7388 - 4 * 2048, -7500 + 4 * 2048, 10]
    assert run(replace(network, firing="deferred"), EMPTY).layers["b"].saturated_updates == 2


def test_border_classes():
    """Positions of one state at rest are one class, in the order in which they come."""
    network = mixed(2, rest=True, wide=True)
    for name, state in states_at_rest(network).items():
        if isinstance(network.layer(name), Neurons):
            classes = border_classes(state)
            assert (classes.potential[classes.of_position] == state.potential).all()
            assert (classes.count[classes.of_position] == state.count).all()
            assert np.unique(np.concatenate([classes.potential, classes.count], axis=1), axis=0).shape[0] == len(classes.count)
    layers = (
        random_convolution(1, inputs=1, name="a", channels=2, kernel=(1, 1), stride=(1, 1)),
        random_convolution(2, inputs=2, name="b", source="a", channels=2, kernel=(3, 3), stride=(1, 1), padding=(1, 1, 1, 1)),
    )
    layers = (replace(layers[0], bias=np.array([80, 300])), layers[1])
    network = Network(name="n", input_shape=(5, 6, 1), layers=layers, rest=True)
    classes = border_classes(states_at_rest(network)["b"])
    assert classes.of_position.tolist() == [
        [0, 1, 1, 1, 1, 2],
        [3, 4, 4, 4, 4, 5],
        [3, 4, 4, 4, 4, 5],
        [3, 4, 4, 4, 4, 5],
        [6, 7, 7, 7, 7, 8],
    ]


def test_what_is_equal_is_of_one_class():
    rng = np.random.default_rng(4)
    several = 0
    for shape in ((7, 2), (6, 3, 2), (9, 1), (1, 5)):
        words = rng.integers(-1, 2, shape)
        for ordered in (words, words[::-1], words.swapaxes(0, 1)):
            of_word, first = classes(ordered)
            rows = ordered.tolist()
            assert first == [place for place, row in enumerate(rows) if row not in rows[:place]]
            assert [rows[first[number]] for number in of_word] == rows
            several += 1 < len(first) < len(rows)
    assert several
