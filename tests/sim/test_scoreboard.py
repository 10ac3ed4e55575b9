"""The scoreboard sees every kind of difference, and names the place."""

from dataclasses import replace
from itertools import pairwise

import pytest

from hw.pipeline.machine import Machine
from model.benchmark.ungrouped import ungrouped
from model.golden import run
from model.machine.named_plans import named_plan
from sim.generators.frames import random_frames
from sim.generators.networks import random_network
from sim.scoreboard import FLUSHED, Spike, Token, _stream, compare, decode
from tests.graphs import residual_block

NETWORK = random_network(1)
FRAMES = [run(NETWORK, events) for events in random_frames(NETWORK.input_shape, 7)]
TRACES = Machine(network=NETWORK, plan=named_plan(NETWORK, "default")).traces


def recorded():
    """What a machine without faults would record: a token a cycle."""
    found = {}
    for trace in TRACES:
        tokens = []
        for frame in FRAMES:
            stream = frame.events if trace.layer == "input" else frame.layers[trace.layer].spikes
            tokens += [Spike(int(e["address"]), int(e["sign"])) for e in stream]
            tokens.append(None)
        found[trace.name] = [Token(spike, 10 * n) for n, spike in enumerate(tokens)]
    return found


def test_no_difference():
    score = compare(NETWORK, FRAMES, TRACES, recorded())
    assert (score.mismatches, score.first) == (0, None)
    assert score.spikes_compared == sum(len(la.spikes) for frame in FRAMES for la in frame.layers.values()) > 500
    assert score.events_compared > 500


def changed(kind, tokens, at):
    if kind == "sign":
        spike = tokens[at].spike
        return [*tokens[:at], tokens[at]._replace(spike=Spike(spike.address, -spike.sign)), *tokens[at + 1 :]]
    if kind == "missing":
        return tokens[:at] + tokens[at + 1 :]
    if kind == "extra":
        return [*tokens[: at + 1], *tokens[at:]]
    if kind == "swapped":
        one, other = tokens[at], tokens[at + 1]
        return [*tokens[:at], one._replace(spike=other.spike), other._replace(spike=one.spike), *tokens[at + 2 :]]
    if kind == "end":
        return [*tokens[:at], tokens[at]._replace(spike=None), *tokens[at + 1 :]]
    assert kind == "early"
    return tokens[:at]


@pytest.mark.parametrize("kind", ["sign", "missing", "extra", "swapped", "end", "early"])
@pytest.mark.parametrize("name", ["groups_conv1", "groups_pool1", "groups_fc1", "events_input", "events_fc2"])
def test_a_planted_difference_is_reported_where_it_is(kind, name):
    found = recorded()
    at = next(
        n
        for n, (a, b) in enumerate(zip(found[name], found[name][1:], strict=False))
        if n >= 2 and a.spike and b.spike and a.spike != b.spike
    )
    found[name] = changed(kind, found[name], at)
    score = compare(NETWORK, FRAMES, TRACES, found)
    assert score.mismatches > 0
    first = score.first
    place = at if kind != "extra" else at + 1
    flat = [
        (n, i)
        for n, f in enumerate(FRAMES)
        for i in range(len(f.events if first.trace.layer == "input" else f.layers[first.trace.layer].spikes) + 1)
    ]
    assert first.trace.name == name
    assert (first.frame, first.index) == flat[place]
    if kind == "early":
        assert first.cycle is None
    else:
        assert first.cycle is not None
    report = first.report(NETWORK, FRAMES[first.frame], seed=42, plan="default", simulator="verilator")
    for word in ("frame ", "layer ", "event index", "expected", "found", "seed            42", "plan            default"):
        assert word in report
    if name != "events_input":
        assert "caused by       input event" in report
        assert "Q = " in report


def test_a_difference_at_a_flush_is_reported_with_what_the_neuron_has_then():
    network = replace(NETWORK, firing="deferred")
    frame = run(network, random_frames(NETWORK.input_shape, 7)[0])
    traces = [trace for trace in TRACES if trace.name == "groups_conv1"]
    layer = frame.layers["conv1"]
    spike, *others = [Spike(int(e["address"]), int(e["sign"])) for e in layer.spikes]
    tokens = [Token(other, 5) for other in others] + [Token(None, 9)]
    report = compare(network, [frame], traces, {"groups_conv1": tokens}).first.report(
        network, frame, seed=1, plan="default", simulator="verilator"
    )
    neuron = network.shape_of("conv1").coordinates(spike.address)
    assert (
        f"  state           V = {layer.potential[neuron]}, Q = {layer.count[neuron]} after the flush, of neuron {neuron}\n"
        f"  caused by       the flush at the end of the frame, after {len(frame.events)} input events of the layer\n"
    ) in report


@pytest.fixture(scope="module")
def flushed():
    """A network with flushes within a frame, a frame, and what a machine without faults would record of conv1."""
    network = replace(NETWORK, firing="deferred", flush_events=9)
    frame = run(network, random_frames(NETWORK.input_shape, 7)[0])
    layer, spikes = frame.layers["conv1"], []
    for (first, _), (after, _) in pairwise([(0, 0), *layer.flushes]):
        spikes += [Spike(int(e["address"]), int(e["sign"])) for e in layer.spikes[first:after]] + [FLUSHED]
    return network, frame, [*spikes[:-1], None]


@pytest.mark.parametrize("form", ["groups", "events"])
def test_flushes_are_told_from_ends(form):
    network = replace(NETWORK, firing="deferred", flush_events=9)
    traces = Machine(network=network, plan=named_plan(network, "default")).traces
    trace = next(trace for trace in traces if trace.form == form)
    within, end = ({"flush": 1}, {"flush": 0}) if form == "groups" else ({"negative": 1}, {"negative": 0})
    records = [(n, trace.layout.const({"kind": 1, **which}).as_value().value) for n, which in enumerate((within, end))]
    assert decode(network, trace, records) == [Token(FLUSHED, 0), Token(None, 1)]


def test_a_flush_that_is_missing_is_a_difference(flushed):
    network, frame, stream = flushed
    traces = [trace for trace in TRACES if trace.name == "groups_conv1"]
    tokens = [Token(spike, n) for n, spike in enumerate(stream)]
    score = compare(network, [frame], traces, {"groups_conv1": tokens})
    assert (score.mismatches, score.spikes_compared) == (0, len(frame.layers["conv1"].spikes))
    at = stream.index(FLUSHED)
    score = compare(network, [frame], traces, {"groups_conv1": tokens[:at] + tokens[at + 1 :]})
    assert score.mismatches and (score.first.index, score.first.expected) == (at, FLUSHED)
    report = score.first.report(network, frame, seed=1, plan="default", simulator="verilator")
    assert "  expected        flush within the frame\n" in report
    assert "  caused by       flush 0 within the frame, after 9 input events of the layer\n" in report


def test_a_difference_at_a_flush_within_a_frame_has_the_state_of_that_flush(flushed):
    network, frame, stream = flushed
    traces = [trace for trace in TRACES if trace.name == "groups_conv1"]
    # The last spike of the second flush, of an address that fires again later.
    at = next(n for n in range(len(stream)) if stream[: n + 1].count(FLUSHED) == 2) - 1
    tokens = [Token(spike, n) for n, spike in enumerate(stream)]
    tokens[at] = Token(Spike(stream[at].address, -stream[at].sign), at)
    score = compare(network, [frame], traces, {"groups_conv1": tokens})
    neuron = network.shape_of("conv1").coordinates(stream[at].address)
    # A frame of the events up to there ends with the same state.
    then = run(network, frame.events[:18]).layers["conv1"]
    assert (
        f"  state           V = {then.potential[neuron]}, Q = {then.count[neuron]} after the flush, of neuron {neuron}\n"
        "  caused by       flush 1 within the frame, after 18 input events of the layer\n"
    ) in score.first.report(network, frame, seed=1, plan="default", simulator="verilator")


def test_a_difference_after_a_merge_has_the_state_of_its_flush():
    """Flush by flush, what a layer of several inputs has taken is what all of them brought."""
    network = ungrouped(replace(residual_block("deferred"), flush_events=9))
    frame = run(network, random_frames(network.input_shape, 7)[0])
    traces = [t for t in Machine(network=network, plan=named_plan(network, "minimal")).traces if t.name == "groups_block2"]
    layer, before = frame.layers["block2"], [frame.layers[name] for name in ("inner2", "block1")]
    stream = _stream(network, frame, "block2")
    at = next(n for n in range(len(stream)) if stream[: n + 1].count(FLUSHED) == 2) - 1
    tokens = [Token(spike, n) for n, spike in enumerate(stream)]
    assert compare(network, [frame], traces, {"groups_block2": tokens}).mismatches == 0
    tokens[at] = Token(Spike(stream[at].address, -stream[at].sign), at)
    score = compare(network, [frame], traces, {"groups_block2": tokens})
    neuron = network.shape_of("block2").coordinates(stream[at].address)
    # A frame of the events up to there ends with the same state.
    then = run(network, frame.events[:18]).layers["block2"]
    taken = sum(each.flushes[1].after for each in before)
    assert 0 < taken < len(layer.events)
    assert (
        f"  state           V = {then.potential[neuron]}, Q = {then.count[neuron]} after the flush, of neuron {neuron}\n"
        f"  caused by       flush 1 within the frame, after {taken} input events of the layer\n"
    ) in score.first.report(network, frame, seed=1, plan="minimal", simulator="verilator")


def test_the_earliest_difference_comes_first():
    found = recorded()
    found["groups_conv1"] = changed("sign", found["groups_conv1"], 20)
    found["events_fc2"] = changed("sign", found["events_fc2"], 2)
    assert compare(NETWORK, FRAMES, TRACES, found).first.trace.name == "events_fc2"
