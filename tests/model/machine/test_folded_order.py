"""The order in which a folded machine serves inputs: each layer takes what the golden model's does, in its order."""

from collections import deque

import numpy as np
import pytest

from model.golden import merged, run
from model.machine.folded_order import Action, Join, Service, orders
from model.network import INPUT, Convolution, Network
from model.projection import ConvolutionProjection
from sim.generators.frames import random_events
from sim.generators.graphs import random_graph
from tests.graphs import residual_block


def joins(network):
    """Those of a machine with a core for each layer."""
    return [Join(each.source, la.name, la.name, place) for la in network.layers for place, each in enumerate(la.inputs)]


def taken_depth_first(network, events):
    """Of each layer the inputs' places and the numbers of the events that it takes, by the services; and the most kept."""
    inputs, trace = joins(network), run(network, events)
    services = orders(network, inputs)
    merges, streams = {}, {INPUT: events}
    for layer in network.layers:
        merges[layer.name] = merged(network, layer, streams, {}, merges)
        streams[layer.name] = trace.layers[layer.name].spikes
    taken = {layer.name: [] for layer in network.layers}
    kept, most = {number: deque() for number in range(len(inputs))}, 0
    caused = {
        name: [np.flatnonzero(layer.spikes["cause"] == n).tolist() for n in range(len(layer.events))]
        for name, layer in trace.layers.items()
    }

    def take(number, index):
        each = inputs[number]
        taken[each.layer].append((each.place, index))
        for spike in caused[each.layer][len(taken[each.layer]) - 1]:
            serve(each.leaves, spike)

    def serve(link, index):
        nonlocal most
        for service in services.get(link, ()):
            queue = kept[service.number]
            if service.action is Action.TAKE:
                take(service.number, index)
            elif service.action is Action.KEEP:
                queue.append(index)
                most = max(most, len(queue))
            else:
                while queue:
                    take(service.number, queue.popleft())

    for index in range(len(events)):
        serve(INPUT, index)
        assert not any(kept.values())
    expected = {
        name: list(zip(merge.number.tolist(), merge.index.tolist(), strict=True)) for name, merge in merges.items()
    }
    return taken, expected, most


@pytest.mark.parametrize("first", [0, pytest.param(40, marks=pytest.mark.full), pytest.param(80, marks=pytest.mark.full)])
def test_random_graphs(first):
    kept = merges = 0
    for seed in range(first, first + 40):
        network = random_graph(seed)
        taken, expected, most = taken_depth_first(network, random_events(network.input_shape, seed, most=4))
        assert taken == expected, seed
        kept += most > 0
        merges += network.branched
    assert kept > 10 and merges - kept > 10


def test_a_chain_and_a_residual_block_keep_nothing():
    network = residual_block()
    served = orders(network, joins(network))
    assert all(service.action is Action.TAKE for services in served.values() for service in services)
    # The branch goes first, as its input does.
    inner, _, shortcut = 1, 2, 3
    assert served["stem"] == (Service(Action.TAKE, inner), Service(Action.TAKE, shortcut))


@pytest.mark.parametrize("turned", [False, True])
def test_a_fork_serves_in_the_order_of_the_merges_inputs(turned):
    """Also where it lists them the other way round; and where one merge wants what another does not, one of them keeps."""
    inputs = [
        Join(INPUT, "stem", "stem", 0), Join("stem", "left", "left", 0), Join("stem", "right", "right", 0),
        *(Join(name, "first", "first", place) for place, name in enumerate(("right", "left"))),
        *(Join(name, "second", "second", place) for place, name in enumerate(("right", "left") if turned else ("left", "right"))),
    ]  # fmt: skip
    one = np.ones((1, 1, 1, 1), int)
    common = {"weights": one, "bias": np.zeros(1, int), "threshold_log2": 1}
    sources = {each.layer: [other.link for other in inputs if other.layer == each.layer] for each in inputs}
    layers = tuple(
        Convolution(name=name, source=links[0], joined=tuple(
            ConvolutionProjection(source=link, weights=one) for link in links[1:]
        ), **common)
        for name, links in sources.items()
    )  # fmt: skip
    served = orders(Network(name="crossed", input_shape=(1, 1, 1), layers=layers), inputs)
    left, right = Service(Action.TAKE, 1), Service(Action.TAKE, 2)
    if turned:
        assert served["stem"] == (right, left)
    else:
        assert served["stem"] == (right, left, Service(Action.RELEASE, 6))
        assert served["right"] == (Service(Action.TAKE, 3), Service(Action.KEEP, 6))
