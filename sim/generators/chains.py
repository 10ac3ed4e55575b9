"""Random chains of layers of the kinds that a folded machine has, for tests of it and of its parts."""

import random
from dataclasses import replace
from typing import Any

import numpy as np

from model.network import Layer, MaxPool, Network, Neurons, Padding, Shape
from sim.generators.networks import random_convolution, random_linear

__all__ = ["bursting_chain", "deferred_chain", "ending_chain", "random_chain", "resting_chain"]


def random_chain(seed: int) -> Network:
    """Convolutions and linear layers one after the other, with max-pools of all kinds that hardware builds."""
    chance = random.Random(seed)
    shape = Shape(chance.randint(6, 9), chance.randint(6, 9), chance.randint(1, 2))
    options: dict[str, Any] = {"activation": "identity", "count_bits": 6} if seed % 4 == 3 else {}
    layers: list[Layer] = [
        random_convolution(
            seed, inputs=shape.channels, name="conv1", channels=chance.randint(3, 9), potential_bits=9, **options
        )
    ]
    before = layers[0].output_shape(shape)
    # Windows that leave rows out, or are cut off by the border.
    window = (chance.randint(1, min(2, before.height)), chance.randint(1, min(3, before.width)))
    stride = (window[0] + chance.randint(0, 1), window[1] + chance.randint(0, 1))
    padding = Padding(*(chance.randint(0, window[n % 2] - 1) for n in range(4)))
    layers.append(MaxPool(name="pool1", source="conv1", window=window, stride=stride, padding=padding))
    before = layers[1].output_shape(before)
    if seed % 2:
        kernel = (chance.randint(1, before.height), chance.randint(1, before.width))
        layers.append(random_convolution(seed + 1, inputs=before.channels, name="conv2", source="pool1", kernel=kernel,
                                         padding=Padding(), count_bits=3))
        before = layers[-1].output_shape(before)
    layers.append(random_linear(seed + 2, inputs=before.size, outputs=chance.randint(5, 13), name="fc1", source=layers[-1].name,
                                potential_bits=9))
    inputs = layers[-1].output_shape(before).channels
    layers.append(random_linear(seed + 3, inputs=inputs, outputs=chance.randint(2, 6), name="fc2", source="fc1",
                                activation="identity"))
    return Network(name=f"chain{seed}", input_shape=shape, layers=tuple(layers))


def resting_chain(seed: int) -> Network:
    """As `random_chain`, with biases above the thresholds and one by position: most frames start with counts that are not 0."""
    chain = random_chain(seed)
    layers: list[Any] = [replace(la, bias=la.bias * 4) if isinstance(la, Neurons) else la for la in chain.layers]
    shape = chain.shape_of("conv1")
    if seed % 3:
        rows, columns = (np.minimum(np.arange(size), 2)[:, np.newaxis] for size in shape[:2])
        bias = layers[0].bias - 60 * rows[:, np.newaxis] + 50 * (columns % 2)
        layers[0] = replace(layers[0], bias=np.clip(bias, -256, 255))
    return replace(chain, name=f"resting{seed}", layers=tuple(layers), rest=True)


def bursting_chain(seed: int) -> Network:
    """As `ending_chain`, with layers whose updates fire several spikes, of weights above their thresholds."""
    chain, bursts = ending_chain(seed), ((0, 2, 4), (4, 1, 0), (2, 0, 3))[seed % 3]
    layers: list[Layer] = []
    number = 0
    for layer in chain.layers:
        if isinstance(layer, Neurons):
            lower = max(0, layer.threshold_log2 - 2)
            layer = replace(layer, burst=bursts[number % 3], threshold_log2=lower)
            number += 1
        layers.append(layer)
    return replace(chain, name=f"bursting{seed}", layers=tuple(layers))


def deferred_chain(seed: int) -> Network:
    """As `ending_chain`, but neurons fire deferred; one in four starts from its biases."""
    return replace(ending_chain(seed), name=f"deferred{seed}", firing="deferred", rest=seed % 4 != 0)


def ending_chain(seed: int) -> Network:
    """As `resting_chain`, with activations that end, and an average pool before the first linear layer."""
    chain = resting_chain(seed)
    layers: list[Layer] = []
    layer: Any
    for layer, source, _ in chain.walk():
        if layer.name == "conv1" and layer.relu:
            layer = replace(layer, count_max=1 + seed % 3)
        elif layer.name == "conv2":
            layer = replace(layer, count_max=2)
        elif layer.name == "fc1":
            averaged = (min(2, source.height), min(1 + seed % 3, source.width))
            taken = Shape(source.height // averaged[0], source.width // averaged[1], source.channels)
            layer = replace(layer, weights=layer.weights[:, : taken.size], averaged=averaged, count_max=3)
        layers.append(layer)
    return replace(chain, name=f"ending{seed}", layers=tuple(layers))
