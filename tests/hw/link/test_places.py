"""Events at every place that their bits can say, at every port of both machines: none that is nowhere enters."""

from itertools import product

import numpy as np
import pytest

from hw.link.protocol import RESULT, Command, Event, Status, event_widths, pack_event, packet
from model.encode import encode
from model.events import make_events
from model.golden import run
from model.machine.named_plans import named_plan
from model.machine.stages import ports
from model.network import INPUT, MaxPool, Network, Padding, Shape
from sim.generators.networks import random_convolution, random_linear
from sim.wire import SimulatedWire


def small_network() -> Network:
    """No size is a power of two where another one is not: bits say more than there is, at every port."""
    conv = random_convolution(
        1, inputs=1, kernel=(2, 2), stride=(1, 1), padding=Padding(), channels=3, name="conv1", potential_bits=12
    )
    return Network(
        name="places",
        input_shape=Shape(3, 3, 1),
        layers=(
            conv,
            MaxPool(name="pool1", source="conv1", window=(1, 2), stride=(1, 2)),
            random_linear(2, inputs=6, outputs=5, name="fc1", source="pool1"),
            random_linear(3, inputs=5, outputs=3, name="fc2", source="fc1", activation="identity"),
        ),
    )


NETWORK = small_network()
SHAPES = {port: NETWORK.shape_of(name) for name, port in ports(NETWORK).items()}
WIDTHS = event_widths(NETWORK)


def there_is(event: Event) -> bool:
    shape = SHAPES[event.port]
    return event.y < shape.height and event.x < shape.width and event.c < shape.channels


def places(port: int) -> list[Event]:
    """All that bits can say of a neuron."""
    return [Event(port, y=y, x=x, c=c) for y, x, c in product(*(range(1 << WIDTHS[name]) for name in ("y", "x", "c")))]


def listed(number: int, *events: Event) -> bytes:
    return packet(number, Command.EVENTS, b"".join(pack_event(NETWORK, event) for event in events))


def counts_of(found: list[tuple[int, int, bytes]], number: int) -> list[int]:
    (payload,) = (payload for sequence, command, payload in found if (sequence, command) == (number, Command.FRAME))
    return list(map(int, np.frombuffer(payload[RESULT.size :], "<i2")))


@pytest.fixture(params=["minimal", "folded"])
def machine(request):
    """A wire, and the ports at which events may enter."""
    plan = named_plan(NETWORK, request.param)
    with SimulatedWire(NETWORK, plan) as wire:
        wire.load(NETWORK, plan)
        yield wire, set(SHAPES) if plan.inject else {0}


def test_there_is_something_to_refuse_at_every_port():
    assert SHAPES.keys() == {0, 2, 3, 4} and 1 << WIDTHS["port"] == 8
    for port in SHAPES:
        assert 0 < sum(map(there_is, places(port))) == SHAPES[port].size < len(places(port))


def test_what_is_nowhere_does_not_enter_and_what_came_before_has(machine):
    wire, ways_in = machine
    frame = NETWORK.input_shape
    for port in sorted(ways_in):
        good = [event for event in places(port) if there_is(event)]
        entered = []
        for number, bad in enumerate([event for event in places(port) if not there_is(event)]):
            before = good[number % len(good)]
            entered.append(before)
            wire.send(listed(number & 0xFF, before, bad, good[-1]))
            assert wire.receive(1) == [(number & 0xFF, Status.NO_PLACE, b"")], bad
        wire.send(listed(1, Event(port, end=True)))
        wire.send(b"")
        counts = counts_of(wire.receive(2), 1)
        # The same frame again, with nothing else in it.
        for event in entered:
            wire.send(listed(2, event))
            assert wire.receive(1) == [(2, Command.EVENTS, b"")]
        wire.send(listed(3, Event(port, end=True)))
        assert counts_of(wire.receive(2), 3) == counts
        if port == 0:
            events = make_events([frame.address(e.y, e.x, e.c) for e in entered], [1] * len(entered))
            assert counts == run(NETWORK, events).counts.tolist()
        if port == len(NETWORK.layers):
            assert counts == [sum(e.c == c for e in entered) for c in range(3)]


def test_every_neuron_that_there_is_takes_events(machine):
    wire, ways_in = machine
    for port in sorted(ways_in):
        good = [event for event in places(port) if there_is(event)]
        wire.send(listed(4, *good[:6]))
        assert wire.receive(1) == [(4, Command.EVENTS, b"")]
        wire.send(listed(5, *good[6:], Event(port, end=True)))
        counts = counts_of(wire.receive(2), 5)
        if port == 0:
            assert counts == run(NETWORK, make_events(list(range(9)), [1] * 9)).counts.tolist()
        if port == len(NETWORK.layers):
            assert counts == [1, 1, 1]


def test_no_way_in(machine):
    """A port that is none, or that of a layer whose max-pool is fused, or of any layer of a folded machine."""
    wire, ways_in = machine
    closed = sorted(set(range(1 << WIDTHS["port"])) - ways_in)
    for port in closed:
        for event in (*places(port), Event(port, end=True)):
            wire.send(listed(6, event))
            assert wire.receive(1) == [(6, Status.NO_PLACE, b"")], event
    assert len(closed) >= 4


def test_an_end_of_frame_is_at_no_place(machine):
    """Whatever else its bits say; the answer is that of its frame, and the next one's has its own number."""
    wire, ways_in = machine
    image = np.full(NETWORK.input_shape, 200, np.uint8)
    expected = run(NETWORK, encode(NETWORK, image)).counts.tolist()
    nothing = run(NETWORK, make_events([])).counts.tolist()
    assert NETWORK.shape_of(INPUT) == NETWORK.input_shape
    most = {name: (1 << WIDTHS[name]) - 1 for name in ("y", "x", "c")}
    for place in ({"y": 1}, {"x": 1}, {"c": 4}, most):
        for port in sorted(ways_in):
            wire.send(listed(7, Event(port, end=True, negative=True, **place)))
            found = wire.receive(2)
            assert counts_of(found, 7) == (nothing if port == 0 else [0, 0, 0])
        wire.send(packet(8, Command.FRAME, image.tobytes()))
        assert counts_of(wire.receive(1), 8) == expected
