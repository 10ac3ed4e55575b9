"""The neuron without hysteresis: by hand, against a slow reading of its rule, and against the quantized network."""

from dataclasses import replace

import numpy as np
import pytest

from model.conversion.quantized import quantized_counts
from model.encode import encode
from model.engine.engine import run_frames
from model.golden import fan_out, run_layer
from model.network import INPUT, Linear, MaxPool, Network
from model.studies.direct_quantization import run_direct
from model.studies.random_network import drawn
from model.support.errors import BadInputError


def random_images(network, frames=6):
    return np.random.default_rng(1).integers(0, 256, (frames, *network.input_shape), np.uint8)


def one_neuron(weights, theta_log2=4, **options):
    layer = Linear(
        name="only", source=INPUT, weights=np.array([weights], np.int8), bias=np.array([0], np.int32), threshold_log2=theta_log2,
        weight_bits=8, potential_bits=16, count_bits=8, **({"activation": "relu"} | options),
    )  # fmt: skip
    return Network(name="one", input_shape=(1, len(weights), 1), layers=(layer,), input_threshold=0)


def test_it_fires_at_each_crossing_where_hysteresis_waits():
    # The potential is 16, 15, 17, 14, 16: about the threshold of 16. Brighter pixels fire first.
    network = one_neuron([16, -1, 2, -3, 2])
    images = np.array([[[[200], [150], [100], [50], [20]]]], np.uint8)
    direct, hysteresis = run_direct(network, images), run_frames(network, images)
    assert direct.spikes.tolist() == [[5]]
    assert direct.negative.tolist() == [[2]]
    assert hysteresis.spikes.tolist() == [[1]]
    assert direct.counts.tolist() == hysteresis.counts.tolist() == [[1]]


def test_one_event_may_take_several_thresholds():
    found = run_direct(one_neuron([100, -100], activation="identity"), np.array([[[[2], [1]]], [[[1], [2]]]], np.uint8))
    # 100 is 6 thresholds of 16, -100 is -6 of them.
    assert found.spikes.tolist() == [[12], [12]]
    assert found.negative.tolist() == [[6], [6]]
    assert found.counts.tolist() == [[0], [0]]


def slow(network, image):
    """Of each layer its spikes as (address, sign) and its accumulations, one event after the other."""
    streams, found = {INPUT: encode(network, image)}, {}
    for layer, shape, output in network.walk():
        events = streams[layer.source]
        if isinstance(layer, MaxPool):
            trace = run_layer(layer, shape, events)
            streams[layer.name], found[layer.name] = trace.spikes, ([(s["address"], s["sign"]) for s in trace.spikes], 0)
            continue
        V, Q = np.array(np.broadcast_to(layer.bias, output), np.int64), np.zeros(output, np.int64)
        spikes, operations = [], 0
        for index, event in enumerate(events):
            for rows, columns, channels, W in fan_out(layer, layer.weights, shape, output, *shape.coordinates(event["address"])):
                for y in range(rows.start, rows.stop):
                    for x in range(columns.start, columns.stop):
                        for c in range(channels.start, channels.stop):
                            V[y, x, c] += event["sign"] * W[y - rows.start, x - columns.start, c - channels.start]
                            act = max(V[y, x, c], 0) if layer.relu else V[y, x, c]
                            wanted = int(act / layer.theta)
                            sign = 1 if wanted > Q[y, x, c] else -1
                            spikes += [(output.address(y, x, c), sign, index, event["origin"])] * abs(wanted - Q[y, x, c])
                            Q[y, x, c] = wanted
                            operations += 1
        streams[layer.name] = np.array(spikes, events.dtype)
        found[layer.name] = [(s["address"], s["sign"]) for s in streams[layer.name]], operations
    return found, Q.reshape(-1)


@pytest.mark.parametrize("text", ["6x6x2: 4C3p P2 6F 3F", "7x5x1: 3C2 5F 2F", "5x5x1: 9F 4F"])
def test_networks_against_the_rule_read_slowly(text):
    network = drawn(text, (8, 16, 10), threshold_log2=6)
    images = random_images(network)
    found = run_direct(network, images)
    for at, image in enumerate(images):
        expected, counts = slow(network, image)
        assert found.counts[at].tolist() == counts.tolist()
        assert found.spikes[at].tolist() == [len(spikes) for spikes, _ in expected.values()]
        assert found.negative[at].tolist() == [sum(sign < 0 for _, sign in spikes) for spikes, _ in expected.values()]
        assert found.operations[at].tolist() == [operations for _, operations in expected.values()]
    assert found.negative[:, -1].sum() > 0


def test_it_counts_what_the_quantized_network_has():
    # Thresholds above every bias, so that a neuron that no event reaches has a count of 0 in both.
    network = drawn("8x8x1: 6C3p P2 20F 5F", (8, 16, 10), threshold_log2=8)
    images, told = random_images(network, 230), []
    found = run_direct(network, images, done=told.append)
    assert (found.counts == quantized_counts(network, images)).all()
    assert told == [100, 100, 30]
    hysteresis = run_frames(network, images)
    assert found.spikes[:, 2:].sum() > hysteresis.spikes[:, 2:].sum()
    assert found.operations[:, 0].tolist() == hysteresis.operations[:, 0].tolist()


def test_what_it_does_not_run_is_refused():
    network = drawn("4x4x1: 3F 2F")
    for other in (replace(network, firing="deferred"), replace(network, rest=True)):
        with pytest.raises(BadInputError) as caught:
            run_direct(other, random_images(network))
        assert str(caught.value) == "network 'drawn' must fire immediately and start from its biases"
    with pytest.raises(BadInputError) as caught:
        run_direct(one_neuron([100, 100, 100, 100], 0), np.full((1, 1, 4, 1), 255, np.uint8))
    assert str(caught.value) == "layer 'only': counts must stay within 0..255"
