"""What a board is compared with where frames start from the state at rest, or fire deferred."""

from dataclasses import replace

import numpy as np
import pytest

from boards.demo_server import Demo
from boards.device import Device, State
from boards.frames import Frames
from boards.self_test import golden_states, layer_states, self_test
from boards.virtual_board import VirtualBoard
from model.encode import encode
from model.golden import run
from model.machine.folded_plan import folded_plan
from model.machine.named_plans import named_plan
from model.network import Neurons
from model.rest import first_states
from sim.generators.chains import deferred_chain
from sim.generators.networks import random_network

IMAGES = np.random.default_rng(0).integers(0, 256, (3, *random_network(2).input_shape), dtype=np.uint8)


@pytest.mark.parametrize("firing", ["immediate", "deferred"])
@pytest.mark.parametrize("rest", [False, True])
def test_the_demos_counts_and_potentials_over_time(firing, rest):
    network = random_network(2)
    # Biases above thresholds, so that the output rests neither at its bias nor at 0.
    hidden, output = (
        replace(layer, bias=layer.bias + 3 * layer.theta, potential_bits=16, count_bits=8) for layer in network.layers[-2:]
    )
    network = replace(network, layers=(*network.layers[:-2], hidden, output), firing=firing, rest=rest)
    demo = Demo(network, None, None, 1.0, "", Frames(IMAGES, None, ""))
    first = first_states(network)[output.name]
    assert first.count.any() == rest == (first.potential.reshape(-1) != output.bias).any()
    for image in IMAGES:
        trace = run(network, encode(network, image))
        found = demo._over_time(trace)
        assert found["counts_over_time"][-1] == trace.counts.tolist()
        assert found["potentials_over_time"][-1] == (trace.potentials * 100 // output.theta).tolist()
        assert len(found["counts_over_time"]) == len(found["potentials_over_time"]) == len(trace.events) + 1


def test_states_before_a_deferred_network_flushes():
    network = replace(random_network(2), firing="deferred", rest=True)
    events, first = encode(network, IMAGES[0]), first_states(network)
    for layer in network.layers:
        if isinstance(layer, Neurons):
            found = golden_states(network, layer.name, events)
            of = first[layer.name]
            resting = [State(int(v), int(q)) for v, q in zip(of.potential.flat, of.count.flat, strict=True)]
            assert golden_states(network, layer.name, events[:0]) == resting
            assert (found == resting) == (layer.name != "conv1")
            # No matter in which order, and what comes and goes leaves nothing.
            assert golden_states(network, layer.name, events[::-1]) == found
    wide = replace(network, layers=(replace(network.layers[0], potential_bits=20), *network.layers[1:]))
    before = golden_states(wide, "conv1", events)
    assert [state.potential for state in before] == run(wide, events).layers["conv1"].potential.reshape(-1).tolist()


def test_flushes_within_a_frame_on_a_board():
    """The self-test, the states of neurons after the last flush and some events more, and what passes on links."""
    network = replace(random_network(2), firing="deferred", rest=True, flush_events=5)
    plan = named_plan(network, "minimal")
    events = encode(network, IMAGES[0])
    trace = run(network, events)
    assert len(events) % 5 and len(trace.layers["conv1"].flushes) > 3
    with VirtualBoard(network, plan) as board, Device.open(board.url, clock=board.seconds) as device:
        checks = self_test(device, network, IMAGES)
        assert all(check.passed for check in checks) and len(checks) == 5
        for name in ("conv1", "fc1", "fc2"):
            places = list(np.ndindex(*network.shape_of(name)))[::7]
            found, answer = layer_states(device, network, name, events, places)
            assert found == golden_states(network, name, events)[::7]
            assert answer.counts == tuple(trace.counts.tolist())
        answer, passed = device.observe(IMAGES[0], network, ["pool1", "fc2"])
        assert (answer.answer, answer.counts) == (trace.answer, tuple(trace.counts.tolist()))
        for name in ("pool1", "fc2"):
            shape, spikes = network.shape_of(name), trace.layers[name].spikes
            found = [(shape.address(spike.y, spike.x, spike.c), spike.sign) for spike in passed if spike.link == name]
            assert found == list(zip(spikes["address"].tolist(), spikes["sign"].tolist(), strict=True))
            assert len(found) > 5


def test_a_folded_machine_that_fires_deferred():
    """The self-test, and the states of all neurons before the frame's end, on a virtual board."""
    network = deferred_chain(4)
    plan = folded_plan(network)
    images = np.random.default_rng(1).integers(0, 256, (3, *network.input_shape), dtype=np.uint8)
    with VirtualBoard(network, plan) as board, Device.open(board.url, clock=board.seconds) as device:
        device.load(network, plan)
        checks = self_test(device, network, images)
        assert all(check.passed for check in checks) and len(checks) == 6
        for name in ("conv1", "fc1"):
            events = encode(network, images[0])
            found, answer = layer_states(device, network, name, events, np.ndindex(*network.shape_of(name)))
            assert found == golden_states(network, name, events)
            assert answer.counts == tuple(run(network, events).counts.tolist())
