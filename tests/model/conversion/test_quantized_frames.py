"""Frames of deferred networks by matrix products: the engine's figures, all of them."""

from dataclasses import fields, replace

import numpy as np
import pytest

from model.conversion.quantized_frames import QuantizedFrames, run_images, weighted_counts
from model.engine.engine import FrameSummaries, run_frames
from model.network import MaxPool, Network, Padding, Shape
from sim.generators.networks import random_convolution, random_linear

POOLS = {
    "apart": {"window": (2, 2), "stride": (2, 2)},
    "overlapping": {"window": (3, 2), "stride": (1, 2), "padding": Padding(1, 1, 0, 1)},
}


def drawn(seed, *, pool="apart", groups=1, averaged=(1, 1), levels=1, rest=True, **widths):
    """A network of every layer kind that fires deferred."""
    shape, widths = Shape(7, 6, 2), {"potential_bits": 24, "count_bits": 12, **widths}
    conv1 = random_convolution(seed, inputs=2, name="conv1", channels=4, **widths)
    if averaged != (1, 1):
        rng = np.random.default_rng(seed)
        conv1 = replace(conv1, bias=rng.integers(-300, 300, conv1.output_shape(shape)).clip(*conv1.residual_limits))
    layers = [conv1, MaxPool(name="pool", source="conv1", **POOLS[pool])]
    pooled = layers[1].output_shape(conv1.output_shape(shape))
    layers.append(
        random_convolution(
            seed + 1, inputs=4 // groups, groups=groups, channels=6, name="conv2", source="pool", kernel=(2, 2),
            averaged=averaged, **widths
        )
    )
    size = layers[2].output_shape(pooled).size
    layers.append(random_linear(seed, inputs=size, outputs=5, name="fc", source="conv2", activation="identity", **widths))
    coding = {"input_levels": levels, "input_step": levels}
    return Network(name="drawn", input_shape=shape, layers=tuple(layers), firing="deferred", rest=rest, **coding)


def frames(seed, network, count=7):
    return np.random.default_rng(seed).integers(0, 256, (count, *network.input_shape), dtype=np.uint8)


def check(network, images):
    found, engine = QuantizedFrames(images).run(network), run_frames(network, images)
    for field in fields(FrameSummaries):
        ours, theirs = getattr(found, field.name), getattr(engine, field.name)
        assert ours.dtype.kind == "i" and ours.shape == theirs.shape and (ours == theirs).all(), field.name
    return found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rest": False, "pool": "overlapping"},
        {"groups": 2, "levels": 3},
        {"averaged": (2, 1), "pool": "overlapping"},
        {"groups": 2, "averaged": (1, 2), "rest": False, "pool": "overlapping"},
    ],
)
def test_the_engine_finds_the_same(seed, options):
    network = drawn(seed, **options)
    found = check(network, frames(seed, network))
    assert found.operations.sum(axis=0)[[0, 2, 3]].all() and not found.saturated_events.any()


def test_what_saturates_is_the_same():
    seen = np.zeros(4, np.int64)
    for seed in range(6):
        for widths in ({"potential_bits": 11}, {"count_bits": 2}, {"potential_bits": 11, "count_bits": 3}):
            network = drawn(seed, pool="overlapping", rest=bool(seed % 2), **widths)
            seen += check(network, frames(seed, network)).saturated_events.sum(axis=0)
    assert seen[[0, 2, 3]].all() and not seen[1]


def test_an_activation_that_ends():
    network = drawn(3)
    conv1 = replace(network.layers[0], count_max=2)
    network = replace(network, layers=(conv1, *network.layers[1:]))
    assert check(network, frames(3, network)).greatest_count[0] == 2


def test_a_pool_that_is_read_out_and_large_sums():
    network = drawn(4)
    check(replace(network, layers=network.layers[:2]), frames(4, network))
    widths = {"weight_bits": 16, "potential_bits": 24}
    wide = random_linear(5, inputs=84, outputs=3, name="fc", source="input", activation="identity", **widths)
    wide = replace(wide, weights=np.full((3, 84), -(1 << 15)), threshold_log2=3, count_bits=16)
    network = replace(network, layers=(wide,), input_levels=100, input_step=2)
    assert check(network, frames(5, network)).saturated_events.any()


def test_layers_in_common_run_once(monkeypatch):
    network = drawn(1)
    images = frames(1, network)
    runner, ran = QuantizedFrames(images), []
    first = runner.run(network)
    monkeypatch.setattr(
        "model.conversion.quantized_frames.weighted_counts",
        lambda layer, *given, real=weighted_counts: ran.append(layer.name) or real(layer, *given),
    )
    other = replace(network.layers[3], bias=network.layers[3].bias + 50)
    changed = replace(network, layers=(*network.layers[:3], other))
    assert (runner.run(changed).potentials == first.potentials + 50).all()
    assert ran == ["fc"]
    assert (runner.run(network).counts == first.counts).all() and ran == ["fc"]
    conv = replace(network.layers[0], threshold_log2=network.layers[0].threshold_log2 + 1)
    assert (runner.run(replace(network, layers=(conv, *network.layers[1:]))).operations[:, 0] == first.operations[:, 0]).all()
    assert ran == ["fc", "conv1", "conv2", "fc"]


def test_only_where_a_frame_ends_in_its_only_flush():
    network = drawn(1)
    for other in (replace(network, firing="immediate"), replace(network, flush_events=3)):
        with pytest.raises(ValueError, match=r"^network must fire deferred, with a flush at the end of a frame only$"):
            QuantizedFrames(frames(1, network)).run(other)
        images = frames(1, network)
        assert (run_images(other, images).operations == run_frames(other, images).operations).all()
    with pytest.raises(ValueError, match=r"^images must be at least one frame$"):
        QuantizedFrames(images[:0])
