"""The golden model against loops that are written out, and what the design says of it."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from model.events import EVENT, make_events
from model.golden import answers, run, run_layer
from model.network import Convolution, Linear, MaxPool, Network, Padding, Shape
from sim.generators.frames import random_frames
from sim.generators.networks import random_convolution, random_linear, random_network


def written_out(layer, shape, events):
    """A convolution, neuron by neuron, in plain integers and in the order of the design."""
    output = layer.output_shape(shape)
    theta = 1 << layer.threshold_log2
    bias = layer.bias if layer.bias.ndim == 3 else np.broadcast_to(layer.bias, output)
    V = {n: int(bias[n]) for n in itertools.product(*map(range, output))}
    Q = dict.fromkeys(V, 0)
    spikes = []
    for index, event in enumerate(events):
        y, x, c = shape.coordinates(event["address"])
        y, x = y // layer.averaged[0], x // layer.averaged[1]
        if y >= shape.height // layer.averaged[0] or x >= shape.width // layer.averaged[1]:
            continue
        for oy, ox, oc in itertools.product(*map(range, output)):
            ky = y + layer.padding.top - oy * layer.stride[0]
            kx = x + layer.padding.left - ox * layer.stride[1]
            if not (0 <= ky < layer.kernel[0] and 0 <= kx < layer.kernel[1]):
                continue
            n = (oy, ox, oc)
            group, taken = oc // (layer.channels // layer.groups), layer.weights.shape[1]
            if c // taken != group:
                continue
            V[n] += int(event["sign"]) * int(layer.weights[oc, c % taken, ky, kx])
            diff = (max(V[n], 0) if layer.relu else V[n]) - Q[n] * theta
            fired = 1 if diff >= theta else -1 if diff <= -theta else 0
            Q[n] += fired
            if fired:
                spikes.append((output.address(*n), fired, index, int(event["origin"])))
    return spikes, V, Q


@pytest.mark.parametrize(("groups", "seed"), [(1, seed) for seed in range(8)] + [(2, 8), (2, 9), (6, 10), (6, 11)])
def test_convolution_is_the_written_out_loop(groups, seed):
    rng = np.random.default_rng(seed)
    shape = Shape(int(rng.integers(4, 7)), int(rng.integers(4, 7)), 2 if groups == 1 else 6)
    more = {} if groups == 1 else {"groups": groups, "channels": 6 * int(rng.integers(1, 3))}
    layer = random_convolution(
        seed,
        inputs=shape.channels // groups,
        activation=["relu", "identity"][seed % 2],
        potential_bits=24,
        count_bits=16,
        **more,
    )
    for events in random_frames(shape, seed, frames=3):
        trace = run_layer(layer, shape, events)
        spikes, V, Q = written_out(layer, shape, events)
        assert trace.spikes.tolist() == spikes
        assert {n: int(trace.potential[n]) for n in V} == V
        assert {n: int(trace.count[n]) for n in Q} == Q
        assert trace.saturated_updates == trace.saturated_events == 0


@pytest.mark.parametrize("averaged", [(1, 1), (2, 1), (2, 3)])
@pytest.mark.parametrize("seed", range(3))
def test_bias_by_position_and_averaged_windows(averaged, seed):
    shape = Shape(9, 8, 2)
    layer = random_convolution(seed, inputs=2, kernel=(2, 2), potential_bits=24, count_bits=16, averaged=averaged)
    output = layer.output_shape(shape)
    layer = replace(layer, bias=np.random.default_rng(seed).integers(-200, 200, output))
    for events in random_frames(shape, seed, frames=3, events=80):
        trace = run_layer(layer, shape, events)
        spikes, V, Q = written_out(layer, shape, events)
        assert trace.spikes.tolist() == spikes
        assert {n: int(trace.potential[n]) for n in V} == V
        assert {n: int(trace.count[n]) for n in Q} == Q


def test_a_linear_layer_of_averaged_windows_is_that_of_the_smaller_source():
    shape = Shape(7, 5, 3)
    layer = random_linear(0, inputs=3 * 2 * 3, outputs=6, averaged=(2, 2))
    plain, smaller = replace(layer, averaged=(1, 1)), Shape(3, 2, 3)
    for events in random_frames(shape, 1, events=100):
        trace = run_layer(layer, shape, events)
        y, x, c = np.unravel_index(events["address"], shape)
        inside = (y < 6) & (x < 4)
        assert len(events) == 0 or 0 < inside.sum() < len(events)
        moved = make_events(((y // 2 * 2 + x // 2) * 3 + c)[inside], events["sign"][inside])
        expected = run_layer(plain, smaller, moved)
        assert (trace.count == expected.count).all() and (trace.potential == expected.potential).all()
        assert trace.spikes["address"].tolist() == expected.spikes["address"].tolist()
        assert trace.spikes["cause"].tolist() == np.flatnonzero(inside)[expected.spikes["cause"]].tolist()
        assert trace.operations == 6 * inside.sum() == expected.operations


@pytest.mark.parametrize(("window", "stride", "padding"), [((2, 2), (2, 2), Padding()), ((3, 2), (1, 2), Padding(1, 0, 1, 1))])
def test_pool_is_the_maximum_of_counts_after_every_event(window, stride, padding):
    shape, rng = Shape(5, 6, 2), np.random.default_rng(1)
    layer = MaxPool(name="p", source="input", window=window, stride=stride, padding=padding)
    output = layer.output_shape(shape)
    events = make_events(rng.integers(0, shape.size, 400), rng.choice([1, 1, -1], 400))
    spikes = run_layer(layer, shape, events).spikes
    counts, pooled = np.zeros(shape, int), np.zeros(output, int)
    assert (spikes["sign"] < 0).any()
    for index, event in enumerate(events):
        counts[shape.coordinates(event["address"])] += event["sign"]
        for spike in spikes[spikes["cause"] == index]:
            pooled[output.coordinates(spike["address"])] += spike["sign"]
        for oy, ox, c in itertools.product(*map(range, output)):
            y, x = oy * stride[0] - padding.top, ox * stride[1] - padding.left
            inside = counts[max(y, 0) : y + window[0], max(x, 0) : x + window[1], c]
            assert pooled[oy, ox, c] == inside.max()


def expanded(layer):
    """A grouped convolution as an ordinary one."""
    taken, each = layer.weights.shape[1], layer.channels // layer.groups
    weights = np.zeros((layer.channels, taken * layer.groups, *layer.kernel), int)
    for channel in range(layer.channels):
        first = channel // each * taken
        weights[channel, first : first + taken] = layer.weights[channel]
    return replace(layer, weights=weights, groups=1)


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_groups_are_an_expansion_with_zeros_where_no_neuron_lags(groups):
    """No weight is above the threshold, so that no neuron is left with a spike to fire at a visit of weight 0."""
    layer = random_convolution(groups, inputs=6 // groups, channels=12, groups=groups, threshold_log2=7, kernel=(3, 2))
    shape = Shape(5, 6, 6)
    assert max(abs(layer.weights).max(), abs(layer.bias).max()) < layer.theta
    negative = 0
    for events in random_frames(shape, groups, frames=4, events=300):
        grouped, dense = run_layer(layer, shape, events), run_layer(expanded(layer), shape, events)
        assert grouped.spikes.tolist() == dense.spikes.tolist()
        assert (grouped.potential == dense.potential).all() and (grouped.count == dense.count).all()
        assert grouped.operations * groups == dense.operations
        negative += int((grouped.spikes["sign"] < 0).sum())
    assert negative


def test_an_event_reaches_its_group_only_in_order():
    """Two groups of one input and two output channels, a window of two columns; 8 is the threshold."""
    weights = np.array([[[[8, 8]]], [[[0, 8]]], [[[8, 16]]], [[[-8, 24]]]])
    layer = Convolution(
        name="c", source="input", weights=weights, bias=np.zeros(4, int), threshold_log2=3, groups=2, activation="identity"
    )
    shape = Shape(1, 3, 2)
    assert layer.output_shape(shape) == Shape(1, 2, 4)
    # Column 1 is the right column of the window at 0, and the left column of the one at 1.
    trace = run_layer(layer, shape, make_events([shape.address(0, 1, 1), shape.address(0, 1, 0), shape.address(0, 0, 0)]))
    fired = [(*trace.layer.output_shape(shape).coordinates(s["address"]), int(s["sign"]), int(s["cause"])) for s in trace.spikes]
    assert fired == [
        (0, 0, 2, 1, 0),
        (0, 0, 3, 1, 0),
        (0, 1, 2, 1, 0),
        (0, 1, 3, -1, 0),
        (0, 0, 0, 1, 1),
        (0, 0, 1, 1, 1),
        (0, 1, 0, 1, 1),
        (0, 0, 0, 1, 2),
    ]
    # Neurons 2 and 3 of the window at 0 lag by one and two spikes, and no event of the other group lets them catch up.
    assert trace.potential[0, 0].tolist() == [16, 8, 16, 24] and trace.count[0, 0].tolist() == [2, 1, 1, 1]
    assert trace.operations == 4 + 4 + 2
    assert len(run_layer(expanded(layer), shape, trace.events).spikes) > len(fired)


def test_greater_or_equal_fires_and_only_once_an_update():
    layer = Linear(name="fc", source="input", weights=np.array([[8, 20, -8]]), bias=np.zeros(1, int), threshold_log2=3)
    fired = run_layer(layer, Shape(1, 1, 3), make_events([0, 1, 2, 2, 2, 2, 2])).spikes
    # V: 8 fires at theta; 28 fires once although three thresholds above; then V falls by 8: at 4 it is
    # a threshold below Q, and at -4 ReLU holds it at 0, again a threshold below.
    assert list(zip(fired["cause"].tolist(), fired["sign"].tolist(), strict=True)) == [(0, 1), (1, 1), (4, -1), (5, -1)]


def test_a_burst_leaves_before_the_next_neuron():
    """Three neurons of one event: as many spikes as a burst allows, those of a neuron in a row; the rest at a later visit."""
    weights = np.array([[40, 0], [-8, 0], [17, 0]])
    layer = Linear(
        name="fc", source="input", weights=weights, bias=np.zeros(3, int), threshold_log2=3, activation="identity", burst=3
    )
    fired = run_layer(layer, Shape(1, 1, 2), make_events([0, 1])).spikes
    found = list(zip(*(fired[name].tolist() for name in ("address", "sign", "cause")), strict=True))
    assert found == [(0, 1, 0)] * 3 + [(1, -1, 0)] + [(2, 1, 0)] * 2 + [(0, 1, 1)] * 2
    unlimited = run_layer(replace(layer, burst=0), Shape(1, 1, 2), make_events([0, 1])).spikes
    assert unlimited["address"].tolist() == [0] * 5 + [1] + [2] * 2
    # With ReLU the way down ends at 0, and is not held there.
    down = run_layer(replace(layer, burst=0, activation="relu"), Shape(1, 1, 2), make_events([0, 0, 0], [1, -1, -1]))
    assert down.spikes["sign"].tolist() == [1] * 7 + [-1] * 7 + [1]
    assert down.count.tolist() == [[[0, 1, 0]]] and down.saturated_updates == 0


def test_deferred_firing_waits_for_the_flush():
    """What was taken back is never sent; spikes know the last event, and the last input event, before their flush."""
    weights = np.array([[8, 20, -8], [-20, 9, 0]])
    first = Linear(name="a", source="input", weights=weights, bias=np.zeros(2, int), threshold_log2=3)
    second = Linear(
        name="b", source="a", weights=np.array([[-9, 8]]), bias=np.array([-8]), threshold_log2=3, activation="identity"
    )
    network = Network(name="n", input_shape=(1, 1, 3), layers=(first, second), firing="deferred")
    trace = run(network, make_events([0, 1, 2, 2]))
    assert trace.layers["a"].spikes.tolist() == [(0, 1, 3, 3)]
    # -17 is three thresholds below 0, rounded down.
    assert trace.layers["b"].spikes.tolist() == [(0, -1, 0, 3)] * 3
    assert [trace.layers[name].flushes for name in "ab"] == [((1, 3),), ((3, 3),)]
    assert trace.layers["a"].operations == 8
    more = run(replace(network, flush_events=2), make_events([0, 1, 2, 2]))
    assert more.layers["a"].spikes.tolist() == [(0, 1, 1, 1)] * 3 + [(0, -1, 3, 3)] * 2
    assert more.layers["a"].flushes == ((3, 1), (5, 3), (5, 3))
    assert more.layers["b"].count.tolist() == trace.layers["b"].count.tolist()
    empty = run(network, make_events([])).layers["b"]
    assert empty.spikes.tolist() == [(0, -1, -1, -1)] and empty.flushes == ((1, -1),)


def test_frames_are_independent_and_origins_point_to_the_input():
    network = random_network(4)
    frames = random_frames(network.input_shape, 9)
    traces = [run(network, frame) for frame in frames]
    assert [run(network, frame).counts.tolist() for frame in reversed(frames)] == [t.counts.tolist() for t in traces][::-1]
    for trace in traces:
        for layer in trace.layers.values():
            assert (layer.spikes["origin"] == layer.events["origin"][layer.spikes["cause"]]).all()
            assert (np.diff(layer.spikes["cause"]) >= 0).all()
        last = trace.layers[network.output.name]
        sums = np.zeros(network.classes, int)
        np.add.at(sums, last.spikes["address"], last.spikes["sign"])
        assert (sums == trace.counts).all()


def test_bad_events():
    network = random_network(4)
    with pytest.raises(ValueError, match=r"^layer 'conv1': event address must be within 0\.\.\d+$"):
        run(network, make_events([network.input_shape.size]))
    with pytest.raises(ValueError, match=r"^sign must be \+1 or -1$"):
        make_events([0], 2)
    assert make_events([]).dtype == EVENT


def test_answers():
    """Arg-max with the lowest index on ties; of a single score its sign."""
    assert answers(np.array([[1, 3, 3], [0, 0, 0], [-1, -2, -1]])).tolist() == [1, 0, 0]
    assert answers(np.array([[2], [0], [-1]])).tolist() == [1, 0, 0]
    assert answers(np.zeros((4, 1, 3))).shape == (4, 1)
