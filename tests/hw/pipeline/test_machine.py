"""Whole machines in Amaranth's simulator: injection at every port, watching, multicast; and the Verilog."""

import re
from dataclasses import replace

import numpy as np
import pytest

from hw.flow.verilog import to_verilog
from hw.pipeline.machine import Machine
from hw.pipeline.readout import Readout
from model.golden import run, run_layer
from model.machine.named_plans import named_plan
from model.machine.stages import ports
from tests.hardware import event_tokens, pairs, random_frames, random_network, simulate, sink, source

NETWORK = random_network(2)


def from_port(name, events):
    """Streams below link ``name`` in the golden model, for a frame that is injected there."""
    streams = {name: events}
    for layer in NETWORK.layers:
        if layer.source in streams:
            streams[layer.name] = run_layer(layer, NETWORK.shape_of(layer.source), streams[layer.source]).spikes
    return streams


@pytest.mark.parametrize("stall", [0, 0.3])
def test_injecting_into_and_watching_every_port(stall):
    machine = Machine(network=NETWORK, plan=named_plan(NETWORK, "minimal"))
    links = ports(NETWORK)
    tokens, watched, counts = [], {name: [] for name in links}, []
    for turn in range(1 + (stall == 0)):
        for name, port in links.items():
            shape = NETWORK.shape_of(name)
            for events in random_frames(shape, port + turn, frames=2, events=12):
                tokens += event_tokens(shape, [events], port=port)
                streams = from_port(name, events)
                for link, stream in streams.items():
                    if link in watched:
                        watched[link] += [*pairs(stream), "end"]
                if NETWORK.output.name in streams:
                    sums = np.zeros(NETWORK.classes, int)
                    np.add.at(sums, streams[NETWORK.output.name]["address"], streams[NETWORK.output.name]["sign"])
                    counts.append(sums.tolist())
    results, copies = [], []

    async def watch_all(ctx):
        ctx.set(machine.watch, (1 << len(NETWORK.layers) + 1) - 1)

    simulate(
        machine,
        watch_all,
        source(machine.host, tokens, idle=stall),
        sink(machine.result, results, len(counts), stall=stall),
        sink(machine.watched, copies, sum(map(len, watched.values())), stall=stall),
    )
    found = {name: [] for name in links}
    names = {port: name for name, port in links.items()}
    for token in copies:
        name = names[token.port]
        address = NETWORK.shape_of(name).address(token.y, token.x, token.c)
        found[name].append("end" if token.kind.value else (address, -1 if token.negative else 1))
    assert found == watched
    # A frame injected behind the fork does not reach both leaves; those that reach the output are answered in order.
    assert [[int(n) for n in result.counts] for result in results] == counts
    assert [result.answer for result in results] == [int(np.argmax(c)) for c in counts]


def test_without_host_ports_a_chain_is_wires():
    plan = replace(named_plan(NETWORK, "default"), inject=False, watch=False)
    text = to_verilog(Machine(network=NETWORK, plan=plan), "machine")
    body = text[text.index("module \\machine.router ") :]
    body = body[: body.index("endmodule")]
    assert "injecting" not in body
    assert "watch" not in body
    machine, results = Machine(network=NETWORK, plan=plan), []
    frames = random_frames(NETWORK.input_shape, 1)
    simulate(
        machine,
        source(machine.host, event_tokens(NETWORK.input_shape, frames, port=0)),
        sink(machine.result, results, len(frames)),
    )
    assert [[int(n) for n in result.counts] for result in results] == [run(NETWORK, f).counts.tolist() for f in frames]


def test_verilog_is_the_same_every_time_and_has_no_multiplier():
    texts = {to_verilog(Machine(network=NETWORK, plan=named_plan(NETWORK, "fast")), "machine") for _ in range(2)}
    (text,) = texts
    assert not [line for line in text.splitlines() if re.search(r"assign .* [*/%] ", line)]
    assert "assert" not in text.lower()


def test_readout_takes_the_lowest_class_on_ties_and_waits_for_its_sink():
    readout, results = Readout(network=NETWORK), []
    shape = NETWORK.shapes[-1]
    rows = [[(1, 1), (3, 1)], [(0, -1)], [], [(2, 1), (2, 1), (1, 1)]]
    tokens = []
    for row in rows:
        tokens += [{"kind": 0, "negative": int(sign < 0), "y": 0, "x": 0, "c": c} for c, sign in row]
        tokens.append({"kind": 1, "negative": 0, "y": 0, "x": 0, "c": 0})

    async def start(ctx):
        for _ in rows:
            ctx.set(readout.started, 1)
            await ctx.tick()
        ctx.set(readout.started, 0)

    simulate(readout, start, source(readout.spikes, tokens), sink(readout.result, results, len(rows), stall=0.9))
    assert [result.answer for result in results] == [1, 1, 0, 2]
    assert [int(n) for n in results[1].counts] == [-1] + [0] * (shape.size - 1)
