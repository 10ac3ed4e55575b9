"""The fast engine against the golden model, in every field of every layer."""

from collections import Counter

import numpy as np
import pytest

from model.encode import encode
from model.engine import run_fast, run_frames
from model.golden import run
from model.network import Network, Shape
from tests.hardware import random_convolution, random_frames, random_network


def same(network, frames):
    covered = dict.fromkeys(("spikes", "negative", "saturated_updates", "saturated_events"), 0)
    for events in frames:
        golden, fast = run(network, events), run_fast(network, events)
        for name, expected in golden.layers.items():
            found = fast.layers[name]
            assert found.spikes.tolist() == expected.spikes.tolist(), name
            assert (found.potential == expected.potential).all(), name
            assert (found.count == expected.count).all(), name
            for field in ("operations", "saturated_updates", "saturated_events"):
                assert getattr(found, field) == getattr(expected, field), (name, field)
            covered["spikes"] += len(expected.spikes)
            covered["negative"] += int((expected.spikes["sign"] < 0).sum())
            covered["saturated_updates"] += expected.saturated_updates
            covered["saturated_events"] += expected.saturated_events
        assert (fast.answer, fast.counts.tolist()) == (golden.answer, golden.counts.tolist())
    return covered


def test_random_networks():
    covered = Counter()
    for seed in range(8):
        network = random_network(seed)
        covered.update(same(network, random_frames(network.input_shape, seed)))
    assert min(covered.values()) > 0, covered


@pytest.mark.parametrize("seed", range(20))
def test_random_convolutions(seed):
    rng = np.random.default_rng(seed)
    shape = Shape(int(rng.integers(4, 9)), int(rng.integers(4, 9)), int(rng.integers(1, 4)))
    layer = random_convolution(seed, inputs=shape.channels, activation=["relu", "identity"][seed % 2])
    covered = same(Network(name="one", input_shape=shape, layers=(layer,)), random_frames(shape, seed))
    assert covered["spikes"] > 0


def test_frames_in_order_on_all_cores():
    network = random_network(3)
    images = np.random.default_rng(0).integers(0, 256, (150, *network.input_shape), dtype=np.uint8)
    summaries = list(run_frames(network, images))
    assert len(summaries) == 150
    for image, summary in zip(images[::25], summaries[::25], strict=True):
        trace = run(network, encode(network, image))
        assert summary.counts.tolist() == trace.counts.tolist()
        assert summary.potentials.tolist() == trace.potentials.tolist()
        assert summary.spikes.tolist() == [len(t.spikes) for t in trace.layers.values()]
        assert summary.operations.tolist() == [t.operations for t in trace.layers.values()]
