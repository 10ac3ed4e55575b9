"""The input coder against the words of the design, and the engine's against it."""

from dataclasses import replace

import numpy as np
import pytest

from model.encode import encode, input_counts, spike_times
from model.engine.engine import run_frames, run_streams
from sim.generators.networks import random_network

NETWORK = random_network(5)

LIMITS = [(51, 1, 1), (0, 255, 1), (20, 40, 5), (10, 7, 3), (0, 1, 255), (200, 20, 3), (254, 1, 1)]


def written_out(pixels, first, step, levels):
    """Of all pixels that have a spike to fire, the furthest past its limit goes first, ties in raster order; again and again."""
    counts, events, past = [0] * len(pixels), [], []
    while True:
        waiting = [
            (int(x) - (first + q * step), -address)
            for address, (x, q) in enumerate(zip(pixels, counts, strict=True))
            if q < levels and x > first + q * step
        ]
        if not waiting:
            return events, past, counts
        distance, address = max(waiting)
        events.append(-address)
        past.append(distance)
        counts[-address] += 1


def images():
    chance = np.random.default_rng(0)
    shape = (8, *NETWORK.input_shape)
    found = chance.integers(0, 256, shape, dtype=np.uint8)
    # Many equal pixels, a dark frame and a bright one.
    found[2:4] = found[2:4] // 64 * 85
    found[4], found[5] = 0, 255
    return found


@pytest.mark.parametrize(("first", "step", "levels"), LIMITS)
def test_the_furthest_past_its_limit_goes_first(first, step, levels):
    network = replace(NETWORK, input_threshold=first, input_step=step if levels > 1 else 1, input_levels=levels)
    events = [encode(network, image) for image in images()]
    for image, found in zip(images(), events, strict=True):
        addresses, past, counts = written_out(image.reshape(-1), first, step, levels)
        assert found["address"].tolist() == addresses
        assert (found["sign"] == 1).all() and found["origin"].tolist() == list(range(len(found)))
        assert input_counts(network, image).reshape(-1).tolist() == counts
        offset = first if levels == 1 else 0
        assert spike_times(network, image).tolist() == [1 - (d + offset) / 255 for d in past]
    stream = run_streams(network, images())["input"]
    assert np.split(stream.address, stream.starts[1:-1])[0].tolist() == events[0]["address"].tolist()
    assert stream.address.tolist() == np.concatenate([found["address"] for found in events]).tolist()
    assert stream.origin.tolist() == np.concatenate([found["origin"] for found in events]).tolist()
    assert stream.starts.tolist() == [0, *np.cumsum([len(found) for found in events])]
    encoded, given = run_frames(network, images()), run_frames(network, events)
    assert encoded.counts.tolist() == given.counts.tolist()
    assert encoded.input_events.tolist() == [len(found) for found in events]


def test_the_brightest_pixel_of_one_level_fires_at_once():
    frame = np.zeros(NETWORK.input_shape, np.uint8)
    frame[0, 0, 0], frame[1, 0, 0] = 102, 255
    assert spike_times(NETWORK, frame).tolist() == [0.0, 0.6]
