"""How many spikes come of a neuron at once: a width of the hardware, as the model bounds it."""

import itertools

import numpy as np
import pytest

from model.machine.stages import more_bits, most_spikes
from model.network import Linear, MaxPool, Network, Shape
from model.neuron import update_burst_residual
from sim.generators.networks import bursting, random_convolution, random_linear, random_network


def one_neuron(activation: str, weight: int, bias: int, **options: int) -> Network:
    layer = Linear(
        name="fc",
        source="input",
        weights=np.array([[weight]]),
        bias=np.array([bias]),
        activation=activation,
        weight_bits=6,
        potential_bits=7,
        count_bits=4,
        **options,
    )
    return Network(name="one", input_shape=(1, 1, 1), layers=(layer,))


@pytest.mark.parametrize(("activation", "count_max"), [("relu", None), ("relu", 6), ("identity", None)])
@pytest.mark.parametrize("burst", [0, 2, 5])
def test_no_neuron_fires_more_at_once_and_some_do_as_many(activation, count_max, burst):
    """Of every state that a neuron can come to, by every weight up to its largest one."""
    reached = 0
    for f, weight, bias in itertools.product((0, 2, 3), (3, 14, -31), (0, 5, 40, -40)):
        network = one_neuron(activation, weight, bias, threshold_log2=f, count_max=count_max, burst=burst)
        layer, bound = network.layers[0], most_spikes(network, network.layers[0])
        drives = np.arange(-abs(weight), abs(weight) + 1)
        states, most = {(bias, 0)}, 0
        while True:
            R, Q = np.array(sorted(states)).T
            R, Q, fired, _ = (found.reshape(-1) for found in update_burst_residual(layer, R[:, None], Q[:, None], drives))
            most = max(most, int(np.abs(fired).max()))
            more = states | set(zip(R.tolist(), Q.tolist(), strict=True))
            if more == states:
                break
            states = more
        assert 1 <= most <= bound <= (burst or bound)
        reached += most == bound
    assert reached >= 18


def test_widths_by_layer():
    """A pool has its source's where both are in one core; over a link spikes come one after the other."""
    network = bursting(random_network(2), (0, 1, 4, 2), 3)
    bits = {layer.name: more_bits(network, layer.name) for layer in network.layers}
    spikes = {layer.name: most_spikes(network, layer) for layer in network.layers if not isinstance(layer, MaxPool)}
    assert spikes["side"] == 1 and spikes["conv2"] == 4 and spikes["conv1"] > 8 and spikes["fc1"] == 2
    assert bits == {"conv1": 4, "pool1": 4, "pool2": 0, "side": 0, "conv2": 2, "fc1": 1, "fc2": bits["fc2"]}


def test_algorithm_1_as_printed_takes_no_bits():
    network = random_network(1)
    assert {more_bits(network, layer.name) for layer in network.layers} == {0}
    hidden = random_convolution(1, inputs=1, kernel=(1, 1), channels=1, burst=0, weight_bits=8)
    size = hidden.output_shape(Shape(3, 3, 1)).size
    out = random_linear(1, inputs=size, outputs=2, source="conv", activation="identity")
    narrow = Network(name="n", input_shape=(3, 3, 1), layers=(hidden, out))
    # Weights and biases of less than a threshold: no burst, though one may be.
    assert most_spikes(narrow, hidden) == max(1, 63 + int(np.abs(hidden.weights).max()) >> 6)
