"""The quantized network against the golden model's membrane potentials, layer by layer."""

from dataclasses import replace

import numpy as np
import pytest

from model.conversion.quantized import counts_of_layers, quantized_counts
from model.events import make_events
from model.golden import run_layer
from model.network import MaxPool, Network, Neurons, Padding, Shape
from sim.generators.networks import random_convolution, random_linear


def wide(seed, *, groups=1, averaged=(1, 1), **pool):
    """A network that never saturates: its potentials are plain sums."""
    shape = Shape(7, 6, 2)
    conv1 = random_convolution(seed, inputs=2, name="conv1", channels=4, potential_bits=24, count_bits=12)
    by_position = np.random.default_rng(seed).integers(-300, 300, conv1.output_shape(shape))
    layers = [conv1 if averaged == (1, 1) else replace(conv1, bias=by_position)]
    layers.append(MaxPool(name="pool", source="conv1", **pool))
    pooled = layers[1].output_shape(layers[0].output_shape(shape))
    widths = {"potential_bits": 24, "count_bits": 12}
    layers.append(
        random_convolution(
            seed + 1, inputs=4 // groups, groups=groups, channels=6, name="conv2", source="pool", kernel=(2, 2),
            averaged=averaged, **widths
        )
    )
    size = layers[2].output_shape(pooled).size
    layers.append(
        random_linear(
            seed, inputs=size, outputs=5, name="fc", source="conv2", potential_bits=24, count_bits=12, activation="identity"
        )
    )
    return Network(name="wide", input_shape=shape, layers=tuple(layers))


def events_of(counts):
    """One event for each count, signed: after them a layer's potential is its weighted sum."""
    flat = counts.reshape(-1)
    return make_events(np.repeat(np.arange(len(flat)), np.abs(flat)), np.repeat(np.sign(flat), np.abs(flat)))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "pool",
    [
        {"window": (2, 2), "stride": (2, 2)},
        {"window": (3, 2), "stride": (1, 2), "padding": Padding(1, 1, 0, 1)},
        {"window": (1, 1), "stride": (1, 1), "averaged": (2, 1)},
    ],
)
def test_counts_are_whole_thresholds_of_the_potentials(seed, pool):
    network = wide(seed, groups=1 + seed % 2, **pool)
    images = np.random.default_rng(seed).integers(0, 256, (3, *network.input_shape), dtype=np.uint8)
    (layers,) = counts_of_layers(network, images)
    assert (layers["input"] == (images > network.input_threshold)).all()
    for frame in range(len(images)):
        for layer, shape, _ in network.walk():
            golden = run_layer(layer, shape, events_of(layers[layer.source][frame]))
            found = layers[layer.name][frame]
            if isinstance(layer, Neurons):
                activation = np.maximum(golden.potential, 0) if layer.relu else golden.potential
                assert (found == np.trunc(activation / layer.theta)).all(), layer.name
            else:
                assert (found == golden.count).all()
    assert np.abs(layers["fc"]).max() > 0
    assert quantized_counts(network, images).tolist() == layers["fc"].reshape(3, -1).tolist()


def test_counts_stop_at_their_ends():
    layer = random_linear(1, inputs=4, outputs=6, threshold_log2=2, count_bits=2)
    network = Network(name="narrow", input_shape=(1, 1, 4), layers=(layer,))
    found = quantized_counts(network, np.full((1, 1, 1, 4), 255, np.uint8))
    assert (found.min(), found.max()) == (0, 3)
