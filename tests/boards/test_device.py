"""The host's library against a virtual board, which is the hardware's own RTL."""

from dataclasses import replace

import numpy as np
import pytest

from boards.device import Device, DeviceError, State
from boards.self_test import self_test
from boards.virtual_board import DIVISOR, VirtualBoard
from boards.wire import BAUD
from hw.link.protocol import Command, Event, pack_event
from model.encode import encode
from model.events import make_events
from model.golden import run
from model.machine.named_plans import named_plan
from model.machine.stages import ports
from model.network import INPUT, Neurons
from model.support.errors import BadInputError
from sim.generators.networks import random_network
from tests.boards.small_board import IMAGES, NETWORK, NEURON_LAYERS, PLAN, expected


def test_frames_have_the_golden_models_answers(device):
    for image in IMAGES:
        found = device.classify(image)
        assert (found.answer, found.counts) == expected(image)
        assert found.cycles > 0
    assert device.resent == 0


def test_signed_events(device):
    rng = np.random.default_rng(1)
    addresses = rng.integers(0, NETWORK.input_shape.size, 20).tolist()
    signs = rng.choice((-1, 1), 20).tolist()
    trace = run(NETWORK, make_events(addresses, signs))
    found = device.classify_events(NETWORK, addresses, signs)
    assert (found.answer, found.counts) == (trace.answer, tuple(trace.counts.tolist()))
    with pytest.raises(ValueError, match=rf"^address must be within 0..{NETWORK.input_shape.size - 1}, not -1$"):
        device.classify_events(NETWORK, [-1])


def test_what_passes_on_a_link(device):
    trace = run(NETWORK, encode(NETWORK, IMAGES[0]))
    output = NETWORK.output.name
    answer, passed = device.observe(IMAGES[0], NETWORK, [INPUT, output])
    assert (answer.answer, answer.counts) == expected(IMAGES[0])
    for link, events, shape in (
        (INPUT, encode(NETWORK, IMAGES[0]), NETWORK.input_shape),
        (output, trace.layers[output].spikes, NETWORK.shape_of(output)),
    ):
        found = [(shape.address(p.y, p.x, p.c), p.sign) for p in passed if p.link == link]
        assert found == list(zip(events["address"].tolist(), events["sign"].tolist(), strict=True))
    assert len(passed) > 20


def test_identity(device):
    identity = device.identity
    assert NETWORK.content_hash.startswith(identity.network_hash) and len(identity.network_hash) == 16
    assert PLAN.content_hash.startswith(identity.plan_hash) and len(identity.plan_hash) == 8
    assert (identity.plan_name, identity.clock_hz) == ("minimal", DIVISOR * BAUD)
    assert (identity.watch, identity.states, identity.inject) == (True, True, True)
    assert (identity.loads, identity.weight_words) == (False, 0)
    device.require(NETWORK, PLAN)
    other = replace(PLAN, name="other", watch=False)
    with pytest.raises(
        DeviceError,
        match=rf"^{device._name}: plan must be 'minimal' \({identity.plan_hash}\), which is on the device, "
        rf"not 'other' \({other.content_hash[:8]}\)$",
    ):
        device.require(NETWORK, other)


def same_states(device, layer, events):
    """Whether the states of all neurons are those of the golden model after these events."""
    trace = run(NETWORK, events).layers[layer]
    for place in np.ndindex(trace.potential.shape):
        expected = State(int(trace.potential[place]), int(trace.count[place]))
        assert device.state(NETWORK, layer, *place) == expected, (layer, place)
    return trace


def test_membrane_potentials_in_the_middle_of_a_frame(device):
    device.reset()
    events = encode(NETWORK, IMAGES[1])
    half = len(events) // 2
    none = make_events([], [])
    seen = dict.fromkeys(("negative", "fired", "untouched"), False)
    for layer in NEURON_LAYERS:
        same_states(device, layer, none)
    device.begin_frame(NETWORK, events["address"][:half].tolist())
    for layer in NEURON_LAYERS:
        trace = same_states(device, layer, events[:half])
        seen["negative"] |= bool((trace.potential < 0).any())
        seen["fired"] |= bool(trace.count.any())
    device.begin_frame(NETWORK, events["address"][half:].tolist())
    for layer in NEURON_LAYERS[-2:]:
        same_states(device, layer, events)
    answer = device.end_frame(NETWORK)
    assert (answer.answer, answer.counts) == expected(IMAGES[1])
    for layer in NEURON_LAYERS:
        trace = same_states(device, layer, none)
        seen["untouched"] |= bool(trace.potential.any())
    assert all(seen.values()), seen
    assert device.classify(IMAGES[2]).counts == expected(IMAGES[2])[1]


@pytest.mark.full
def test_states_of_a_machine_with_many_lanes():
    plan = replace(named_plan(NETWORK, "fast"), states=True)
    assert any(core.rows > 1 for core in plan.cores) and any(core.channels > 1 for core in plan.cores)
    events = encode(NETWORK, IMAGES[0])
    with VirtualBoard(NETWORK, plan) as board, Device.open(board.url, clock=board.seconds) as device:
        device.begin_frame(NETWORK, events["address"].tolist())
        for layer in NEURON_LAYERS:
            same_states(device, layer, events)
        answer = device.end_frame(NETWORK)
        assert (answer.answer, answer.counts) == expected(IMAGES[0])


DEFERRED = replace(random_network(17), firing="deferred")
DEFERRED_IMAGES = np.random.default_rng(17).integers(0, 256, (4, *DEFERRED.input_shape), dtype=np.uint8)


def test_frames_of_a_bit_per_pixel():
    """They have the answers of the frames themselves; a device takes them between whole frames only."""
    plan = replace(named_plan(DEFERRED, "minimal"), states=True)
    with VirtualBoard(DEFERRED, plan) as board, Device.open(board.url, clock=board.seconds) as device:
        assert device.identity.bits
        for image in DEFERRED_IMAGES:
            trace = run(DEFERRED, encode(DEFERRED, image))
            for found in (device.classify_bits(DEFERRED, image), device.classify(image)):
                assert (found.answer, found.counts) == (trace.answer, tuple(trace.counts.tolist()))
        checks = self_test(device, DEFERRED, DEFERRED_IMAGES)
        assert all(check.passed for check in checks) and "bits" in [check.name for check in checks]
        device.begin_frame(DEFERRED, [0])
        with pytest.raises(DeviceError, match="a list of events without its end has begun a frame"):
            device.classify_bits(DEFERRED, DEFERRED_IMAGES[0])
        device.end_frame(DEFERRED)
        with pytest.raises(BadInputError, match="frame must be uint8 of shape"):
            device.classify_bits(DEFERRED, DEFERRED_IMAGES[0][1:])
        size = DEFERRED.input_shape.size // 8
        for wrong in (bytes(size - 1), bytes(size + 1)):
            with pytest.raises(DeviceError, match="answers bad length to bits"):
                device._exchange.ask(Command.BITS, wrong, answered_by=Command.FRAME, retries=0)
        assert device.classify_bits(DEFERRED, DEFERRED_IMAGES[3]).counts == tuple(trace.counts.tolist())


def test_no_frames_of_bits_where_order_decides(device):
    assert not device.identity.bits
    with pytest.raises(DeviceError, match="takes no frames of a bit per pixel"):
        device.classify_bits(NETWORK, IMAGES[0])
    with pytest.raises(DeviceError, match="answers bad command to bits"):
        device._exchange.ask(Command.BITS, bytes(8), answered_by=Command.FRAME, retries=0)


def test_states_where_neurons_fire_deferred():
    """In the middle of a frame the first layer has added up what has come, and nothing has fired."""
    network, images = DEFERRED, DEFERRED_IMAGES
    first, *others = (layer for layer in network.layers if isinstance(layer, Neurons))
    plan = replace(named_plan(network, "minimal"), states=True)
    events = encode(network, images[0])
    with VirtualBoard(network, plan) as board, Device.open(board.url, clock=board.seconds) as device:
        device.begin_frame(network, events["address"].tolist())
        after = run(network, events).layers[first.name].potential
        assert (after < 0).any() and (after > first.theta).any()
        # Every seventh, which is of every channel: there are not seven.
        for place in list(np.ndindex(after.shape))[::7]:
            assert device.state(network, first.name, *place) == State(int(after[place]), 0)
        for layer in others:
            assert device.state(network, layer.name, 0, 0, 0) == State(int(layer.bias[0]), 0)
        answer = device.end_frame(network)
        assert list(answer.counts) == run(network, events).counts.tolist()


def test_no_such_neuron(device):
    output = NETWORK.output.name
    classes = NETWORK.classes
    with pytest.raises(ValueError, match=rf"^c must be within 0..{classes - 1} in {output}, not {classes}$"):
        device.state(NETWORK, output, 0, 0, classes)
    pools = [layer.name for layer in NETWORK.layers if layer.name not in NEURON_LAYERS]
    with pytest.raises(ValueError, match=rf"^layer must be one of {', '.join(NEURON_LAYERS)}, not '{pools[0]}'$"):
        device.state(NETWORK, pools[0], 0, 0, 0)
    # The device knows as well.
    numbers = {layer.name: number for number, layer in enumerate(NETWORK.layers, start=1)}
    bad = [Event(port=numbers[output], c=classes), Event(), Event(port=numbers[pools[0]])]
    bad.append(Event(port=numbers[NEURON_LAYERS[0]], y=NETWORK.shape_of(NEURON_LAYERS[0]).height))
    for place in bad:
        with pytest.raises(DeviceError, match=rf"^{device._name}: there is no such neuron, or no way in at that port$"):
            device._exchange.ask(Command.STATE, pack_event(NETWORK, place))
    assert device.classify(IMAGES[0]).counts == expected(IMAGES[0])[1]


def test_no_way_in_at_a_port_and_none_out_of_it(device):
    """A layer that a max-pool is fused to has no link of its own; events there are refused, and answers go on."""
    known = ports(NETWORK).values()
    fused = next(port for port in range(len(NETWORK.layers) + 1) if port not in known)
    with pytest.raises(DeviceError, match="no way in at that port"):
        device._exchange.ask(Command.EVENTS, pack_event(NETWORK, Event(port=fused, end=True)), retries=0)
    assert device.classify(IMAGES[0]).counts == expected(IMAGES[0])[1]


def test_frames_at_an_inner_port_have_their_own_numbers(device):
    """Three frames of the output's own spikes, and then pixels."""
    port = ports(NETWORK)[NETWORK.output.name]
    tokens = [Event(port=port, c=1), Event(port=port, end=True)]
    payload = b"".join(pack_event(NETWORK, token) for token in tokens)
    for _ in range(3):
        answer = device._answer(device._exchange.ask(Command.EVENTS, payload, answered_by=Command.FRAME, retries=0))
        assert (answer.answer, answer.counts[1], sum(answer.counts)) == (1, 1, 1)
    assert device.classify(IMAGES[0]).counts == expected(IMAGES[0])[1]


def test_pixels_do_not_go_on_with_a_list(device):
    device.begin_frame(NETWORK, [0, 1, 2])
    with pytest.raises(DeviceError, match="a list of events without its end has begun a frame; forget it with"):
        device.classify(IMAGES[0])
    answer = device.end_frame(NETWORK)
    assert answer.counts == tuple(run(NETWORK, make_events([0, 1, 2], [1, 1, 1])).counts.tolist())
    assert device.classify(IMAGES[0]).counts == expected(IMAGES[0])[1]


def test_another_network_is_on_the_device(device):
    with pytest.raises(DeviceError, match=r"network must be random1 \(\w{16}\), not \w{16}, which is on the device$"):
        device.require(random_network(1))


def test_a_frame_of_another_shape(device):
    with pytest.raises(ValueError, match=r"^frame must be uint8 of shape \(.*\), not uint8 of \(3, 3, 1\)$"):
        device.classify(np.zeros((3, 3, 1), np.uint8))
