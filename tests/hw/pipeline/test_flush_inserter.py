"""Flushes are put among a frame's input events, wherever source and sink wait."""

from dataclasses import replace

import pytest

from hw.pipeline.flush_inserter import FlushInserter
from model.events import input_flushes
from sim.generators.frames import random_frames
from sim.generators.networks import random_network
from tests.hardware import event_tokens, simulate, sink, source

NETWORK = replace(random_network(1), firing="deferred")


def told(tokens):
    """Of each token its port, whether it is an end, its sign, and where it is."""
    return [(t.port, t.kind.value, t.negative, t.y, t.x, t.c) for t in tokens]


@pytest.mark.parametrize(("idle", "stall"), [(0, 0), (0.6, 0), (0, 0.6), (0.4, 0.4)])
@pytest.mark.parametrize("every", [1, 3, 8, 1000])
def test_flushes_are_where_the_model_has_them(every, idle, stall):
    network = replace(NETWORK, flush_events=every)
    inserter, found = FlushInserter(network=network), []
    # One frame ends with a flush, one is empty, one ends in between.
    frames = [events[:size] for events, size in zip(random_frames(network.input_shape, 3), (24, 0, 25, 1, 40), strict=True)]
    tokens, expected = event_tokens(network.input_shape, frames, port=0), []
    for events in frames:
        ends = [flush.after for flush in input_flushes(events, every)]
        for number, event in enumerate(event_tokens(network.input_shape, [events], port=0)):
            if number < len(events):
                expected.append(tuple(event[name] for name in ("port", "kind", "negative", "y", "x", "c")))
                expected += [(0, 1, 1, 0, 0, 0)] * ends[:-1].count(number + 1)
        expected.append((0, 1, 0, 0, 0, 0))
    simulate(
        inserter, source(inserter.host, tokens, idle=idle), sink(inserter.flushed, found, len(expected), stall=stall)
    )
    assert told(found) == expected
    assert len(expected) - len(tokens) == sum(len(events) // every for events in frames)


def test_frames_at_other_ports_pass_as_they_are():
    network = replace(NETWORK, flush_events=2)
    inserter, found = FlushInserter(network=network), []
    shape = network.shape_of("conv1")
    tokens = event_tokens(shape, random_frames(shape, 3, frames=1, events=9), port=1)
    simulate(inserter, source(inserter.host, tokens), sink(inserter.flushed, found, len(tokens)))
    assert told(found) == [tuple(token[name] for name in ("port", "kind", "negative", "y", "x", "c")) for token in tokens]


def test_without_flushes_there_is_nothing_to_insert():
    with pytest.raises(ValueError, match=rf"^network {NETWORK.name!r}: flush_events must be at least 1, not 0$"):
        FlushInserter(network=NETWORK)
