"""The fast engine against the golden model, in every field of every layer."""

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from model.encode import encode
from model.engine.engine import run_fast, run_frames, run_streams
from model.golden import run
from model.network import Network, Neurons, Shape
from sim.generators.frames import random_frames
from sim.generators.networks import mixed, random_convolution, random_linear, random_network
from sim.traces import differing


def same(network, frames):
    covered = dict.fromkeys(("spikes", "negative", "saturated_updates", "saturated_events"), 0)
    for events in frames:
        golden, fast = run(network, events), run_fast(network, events)
        assert differing(golden, fast) == []
        for expected in golden.layers.values():
            covered["spikes"] += len(expected.spikes)
            covered["negative"] += int((expected.spikes["sign"] < 0).sum())
            covered["saturated_updates"] += expected.saturated_updates
            covered["saturated_events"] += expected.saturated_events
    return covered


def test_random_networks():
    covered = Counter()
    for seed in range(8):
        network = random_network(seed)
        covered.update(same(network, random_frames(network.input_shape, seed)))
    assert min(covered.values()) > 0, covered


@pytest.mark.parametrize("seed", range(30))
def test_random_convolutions(seed):
    rng = np.random.default_rng(seed)
    # Two thirds in one group; narrow neurons are kept in 16 bits by the engine, wide ones in 32.
    groups = (1, 1, 2, 1, 1, 3)[seed % 6]
    shape = Shape(int(rng.integers(4, 9)), int(rng.integers(4, 9)), groups * int(rng.integers(1, 4)))
    layer = random_convolution(
        seed,
        inputs=shape.channels // groups,
        groups=groups,
        channels=groups * int(rng.integers(1, 9)),
        activation=["relu", "identity"][seed // 2 % 2],
        potential_bits=int(rng.choice([8, 11, 14, 15, 16, 24])),
        count_bits=int(rng.choice([2, 3, 8])),
    )
    covered = same(Network(name="one", input_shape=shape, layers=(layer,)), random_frames(shape, seed))
    assert covered["spikes"] > 0


@pytest.mark.parametrize("seed", range(8))
def test_bias_by_position_and_averaged_windows(seed):
    rng = np.random.default_rng(seed)
    shape, groups = Shape(9, 8, 4), 1 + seed % 2
    averaged = [(1, 1), (2, 1), (2, 3), (1, 2)][seed % 4]
    common = {"potential_bits": int(rng.choice([11, 16])), "averaged": averaged}
    layer = random_convolution(seed, inputs=4 // groups, groups=groups, channels=6, kernel=(2, 2), **common)
    layer = replace(layer, bias=rng.integers(-200, 200, layer.output_shape(shape)))
    last = random_linear(seed, inputs=layer.taken(shape).size, outputs=5, **common)
    for one in (layer, last):
        covered = same(Network(name="one", input_shape=shape, layers=(one,)), random_frames(shape, seed, events=80))
        assert covered["spikes"] > 0


@pytest.mark.parametrize("firing", ["immediate", "deferred"])
@pytest.mark.parametrize("rest", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_every_mix_of_firing_rest_and_burst(firing, rest, seed):
    burst, flush_events = [(1, 0), (0, 7), (2, 1), (3, 40)][seed % 4]
    network = mixed(seed, firing=firing, rest=rest, burst=burst, flush_events=flush_events if firing == "deferred" else 0)
    frames = random_frames(network.input_shape, seed, frames=2)
    covered = same(network, frames)
    assert covered["spikes"] > 0 and covered["negative"] > 0
    # Where an update may fire several spikes, or a flush, several of one neuron follow each other.
    several = 0
    for trace in (run_fast(network, events) for events in frames):
        for layer in trace.layers.values():
            fields = [(spike["address"], spike["cause"]) for spike in layer.spikes]
            several += sum(a == b for a, b in itertools.pairwise(fields))
    assert (several > 0) == (firing == "deferred" or burst != 1)


@pytest.mark.parametrize("seed", range(12))
def test_deferred_sums_that_wrap(seed):
    """Narrow residuals, in 16 bits and in 32, many events: what does not fit is the same, and is reported the same."""
    rng = np.random.default_rng(seed)
    shape = Shape(5, 5, 2)
    layer = random_convolution(
        seed,
        inputs=2,
        channels=4,
        activation=["relu", "identity"][seed % 2],
        potential_bits=int(rng.choice([8, 11, 15, 16])),
        count_bits=int(rng.choice([2, 3, 8])),
    )
    network = Network(name="one", input_shape=shape, layers=(layer,), firing="deferred", flush_events=50 * (seed % 3))
    assert same(network, random_frames(shape, seed, events=600))["spikes"] > 0


def test_wraps_are_reported():
    layer = random_convolution(2, inputs=2, channels=4, potential_bits=8, count_bits=8, threshold_log2=5)
    network = Network(name="one", input_shape=(5, 5, 2), layers=(layer,), firing="deferred")
    covered = same(network, random_frames(network.input_shape, 2, events=600))
    assert covered["saturated_updates"] > covered["saturated_events"] > 0


@pytest.mark.parametrize("firing", ["immediate", "deferred"])
def test_frames_are_traces(firing):
    """Many frames at once, with flushes in them, are what each frame is by itself."""
    network = mixed(1, firing=firing, rest=True, burst=2, flush_events=5 if firing == "deferred" else 0)
    images = np.random.default_rng(0).integers(0, 256, (8, *network.input_shape), dtype=np.uint8)
    images[3] = images[7] = 0
    found, streams = run_frames(network, images), run_streams(network, images)
    for frame, image in enumerate(images):
        trace = run(network, encode(network, image))
        assert found.counts[frame].tolist() == trace.counts.tolist()
        assert found.potentials[frame].tolist() == trace.potentials.tolist()
        for name, layer in trace.layers.items():
            stream = streams[name]
            start, end = stream.starts[frame : frame + 2]
            assert stream.events()[start:end].tolist() == layer.spikes.tolist()
            if firing == "deferred":
                some = slice(*stream.flushes.starts[frame : frame + 2])
                after, origin = stream.flushes.after[some] - start, stream.flushes.origin[some]
                assert list(zip(after.tolist(), origin.tolist(), strict=True)) == list(layer.flushes)


@pytest.mark.parametrize("seed", range(12))
def test_activations_that_end(seed):
    """A neuron at its end is not saturated; without the end it would go further."""
    rng = np.random.default_rng(seed)
    shape = Shape(6, 6, 2)
    layer = random_convolution(seed, inputs=2, channels=6, potential_bits=[12, 16][seed % 2], burst=[1, 3, 0][seed % 3])
    open_layer = replace(layer, bias=rng.integers(-100, 300, 6), count_bits=8)
    layer = replace(open_layer, count_max=2)
    networks = [
        Network(name="one", input_shape=shape, layers=(one,), firing=["immediate", "deferred"][seed // 6], rest=bool(seed % 2))
        for one in (layer, open_layer)
    ]
    frames = random_frames(shape, seed, events=60)
    covered = same(networks[0], frames)
    assert covered["spikes"] > 0
    counts = [np.array([run(network, events).layers["conv"].count for events in frames]) for network in networks]
    assert counts[0].max() == 2 < counts[1].max()
    for network in networks:
        assert all(run(network, events).layers["conv"].saturated_updates == 0 for events in frames)


@pytest.mark.parametrize("threshold", [0, 51, 200, 254])
def test_frames_and_their_events_are_the_same(threshold):
    network = replace(random_network(5), input_threshold=threshold)
    images = np.random.default_rng(threshold).integers(0, 256, (20, *network.input_shape), dtype=np.uint8)
    # Many equal pixels, and frames without any event.
    images[5:10] = images[5:10] // 64 * 85
    images[3] = images[17] = 0
    encoded, given = run_frames(network, images), run_frames(network, [encode(network, image) for image in images])
    for name in ("input_events", "counts", "potentials", "spikes", "operations", "saturated_events"):
        assert getattr(encoded, name).tolist() == getattr(given, name).tolist(), name
    assert encoded.input_events[3] == 0


def test_frames_in_order_on_all_cores():
    network = random_network(3)
    images = np.random.default_rng(0).integers(0, 256, (150, *network.input_shape), dtype=np.uint8)
    done = []
    found = run_frames(network, images, done=done.append)
    assert sum(done) == 150
    assert len(done) > 1
    traces = [run(network, encode(network, image)) for image in images[::25]]
    assert found.counts[::25].tolist() == [trace.counts.tolist() for trace in traces]
    assert found.potentials[::25].tolist() == [trace.potentials.tolist() for trace in traces]
    assert found.input_events[::25].tolist() == [len(trace.events) for trace in traces]
    for name in ("operations", "saturated_events"):
        expected = [[getattr(layer, name) for layer in trace.layers.values()] for trace in traces]
        assert getattr(found, name)[::25].tolist() == expected, name
    assert found.spikes[::25].tolist() == [[len(layer.spikes) for layer in trace.layers.values()] for trace in traces]


@pytest.mark.parametrize("seed", range(4))
def test_extremes_hold_every_final_state(seed):
    network = random_network(seed)
    images = np.random.default_rng(seed).integers(0, 256, (40, *network.input_shape), dtype=np.uint8)
    found = run_frames(network, images)
    traces = [run_fast(network, encode(network, image)) for image in images]
    for index, layer in enumerate(network.layers):
        counts = np.array([trace.layers[layer.name].count for trace in traces])
        assert found.greatest_count[index] >= np.abs(counts).max()
        if isinstance(layer, Neurons):
            residuals = np.array([trace.layers[layer.name].potential for trace in traces]) - counts * layer.theta
            assert min(found.least_residual[index], -layer.theta) <= residuals.min()
            assert residuals.max() <= max(found.greatest_residual[index], layer.theta)
    # Silent neurons far below their threshold are what would be missed.
    thetas = [layer.theta if isinstance(layer, Neurons) else 0 for layer in network.layers]
    assert any(found.least_residual < -np.array(thetas))
