"""Whole machines in Amaranth's simulator: injection at every port, watching, multicast; and the Verilog."""

import re
from dataclasses import replace

import numpy as np
import pytest

from hw.flow.verilog import to_verilog
from hw.parts.memory import BLOCK, LOGIC
from hw.pipeline.machine import Machine
from hw.pipeline.readout import Readout
from model.engine.engine import run_fast
from model.golden import run, run_layer
from model.machine.named_plans import named_plan
from model.machine.plan import CorePlan
from model.machine.stages import ports
from model.network import INPUT, Convolution, Linear, MaxPool, Network, Shape
from model.studies.random_network import drawn
from sim.generators.frames import random_frames
from sim.generators.networks import random_network
from tests.hardware import event_tokens, pairs, simulate, sink, source

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
    # A frame injected after the fork does not reach both leaves; those that reach the output are answered in order.
    assert [[int(n) for n in result.counts] for result in results] == counts
    assert [result.answer for result in results] == [int(np.argmax(c)) for c in counts]


def test_a_frame_enters_where_the_end_of_the_one_before_has_been_copied():
    """Copies of a link are much slower than answers: there an end still waits when the frame has left the machine."""
    machine = Machine(network=NETWORK, plan=named_plan(NETWORK, "minimal"))
    inner, links = NETWORK.output.source, ports(NETWORK)
    tokens, wanted, counts = [], [], []
    for turn, name in enumerate((INPUT, inner, INPUT, inner)):
        shape = NETWORK.shape_of(name)
        events = random_frames(shape, turn, frames=1, events=8)[0]
        tokens += event_tokens(shape, [events], port=links[name])
        streams = from_port(name, events)
        wanted += [*pairs(streams[inner]), "end"]
        sums = np.zeros(NETWORK.classes, int)
        np.add.at(sums, streams[NETWORK.output.name]["address"], streams[NETWORK.output.name]["sign"])
        counts.append(sums.tolist())
    results, copies = [], []

    async def watch_one(ctx):
        ctx.set(machine.watch, 1 << links[inner])

    simulate(
        machine,
        watch_one,
        source(machine.host, tokens),
        sink(machine.result, results, len(counts)),
        sink(machine.watched, copies, len(wanted), stall=0.985),
        cycles=40_000,
    )
    shape = NETWORK.shape_of(inner)
    found = [
        "end" if token.kind.value else (shape.address(token.y, token.x, token.c), -1 if token.negative else 1) for token in copies
    ]
    assert found == wanted
    assert [[int(n) for n in result.counts] for result in results] == counts


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


@pytest.mark.parametrize("firing", ["immediate", "deferred"])
def test_memories_in_luts_change_neither_answers_nor_cycles(firing):
    network = replace(drawn("6x6x1: 3C3 7F 4F", (6, 12, 6)), firing=firing)
    plan = named_plan(network, "minimal")
    frames = random_frames(network.input_shape, 5, frames=3, events=15)
    found = {}
    for memory in ("auto", "mixed", "distributed"):
        said = {"weight_memory": memory}
        if memory == "distributed":
            said |= {"state_memory": memory, "tag_memory": memory}
        machine = Machine(network=network, plan=replace(plan, cores=tuple(replace(core, **said) for core in plan.cores)))
        moved = {built.name.split(".")[2] for built in machine.memories if built.moved}
        assert moved == {"auto": set(), "mixed": {"weights_0"}, "distributed": {"weights_0", "state_0"}}[memory]
        found[memory] = timed_answers(machine, network, frames)
    assert [counts for _, counts in found["auto"]] == [run(network, events).counts.tolist() for events in frames]
    assert found["mixed"] == found["distributed"] == found["auto"]


@pytest.mark.parametrize("firing", ["immediate", "deferred"])
def test_divided_memories_change_neither_answers_nor_cycles(firing):
    """Into blocks, and into blocks and a table; one that is not divided; and one that is a table anyway."""
    network = replace(drawn("9x12x1: 60F 54F 4F", (6, 12, 6)), firing=firing)
    cores = tuple(CorePlan(layer=f"f{number}", channels=channels) for number, channels in enumerate((6, 6, 1)))
    plan = replace(named_plan(network, "minimal"), cores=cores)
    split = replace(plan, cores=tuple(replace(core, weight_memory="split") for core in plan.cores))
    frames = random_frames(network.input_shape, 5, frames=3, events=20)
    before, after = Machine(network=network, plan=plan), Machine(network=network, plan=split)
    further = [(built.name.split(".")[0], built.depth, built.kind) for built in after.memories if built.further]
    assert further == [("core_f0", 56, BLOCK), ("core_f1", 28, LOGIC)]
    blocks = [sum(built.blocks for built in machine.memories) for machine in (before, after)]
    assert blocks[0] - blocks[1] == sum(built.freed_blocks for built in after.memories) == 1 + 1
    found = timed_answers(before, network, frames)
    assert [counts for _, counts in found] == [run(network, events).counts.tolist() for events in frames]
    assert timed_answers(after, network, frames) == found


def timed_answers(machine, network, frames):
    """The counts of each frame, and in which cycle they come."""
    answers = []

    async def take(ctx):
        ctx.set(machine.result.ready, 1)
        cycle = 0
        while len(answers) < len(frames):
            _, _, valid, payload = await ctx.tick().sample(machine.result.valid, machine.result.payload)
            cycle += 1
            if valid:
                answers.append((cycle, [int(count) for count in payload.counts]))

    simulate(machine, source(machine.host, event_tokens(network.input_shape, frames, port=0)), take)
    return answers


def test_verilog_is_the_same_every_time_and_has_no_multiplier():
    texts = {to_verilog(Machine(network=NETWORK, plan=named_plan(NETWORK, "default")), "machine") for _ in range(2)}
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

def test_windows_and_steps_beyond_255():
    """A convolution and a max-pool of 257 positions at once: the machine is the golden model."""
    rng = np.random.default_rng(5)
    numbers = {"threshold_log2": 3, "potential_bits": 16, "count_bits": 8, "weight_bits": 6}
    shape = Shape(1, 516, 1)
    steps = Convolution(
        name="steps",
        source="input",
        weights=rng.integers(-9, 20, (3, 1, 1, 257)),
        bias=np.zeros(3, int),
        stride=(1, 257),
        **numbers,
    )
    wide = Convolution(name="wide", source="input", weights=rng.integers(-3, 9, (2, 1, 1, 1)), bias=np.zeros(2, int), **numbers)
    pool = MaxPool(name="pool", source="wide", window=(1, 257), stride=(1, 257))
    out = {"activation": "identity", **numbers}
    for layers in (
        (steps, Linear(name="out", source="steps", weights=rng.integers(-9, 9, (2, 6)), bias=np.zeros(2, int), **out)),
        (wide, pool, Linear(name="out", source="pool", weights=rng.integers(-9, 9, (2, 4)), bias=np.zeros(2, int), **out)),
    ):
        network = Network(name="wide", input_shape=shape, layers=layers)
        frames = random_frames(shape, 3, frames=2, events=80)
        expected = [run(network, events) for events in frames]
        tokens, results = event_tokens(shape, frames, port=0), []
        machine = Machine(network=network, plan=named_plan(network, "minimal"))
        simulate(machine, source(machine.host, tokens), sink(machine.result, results, len(frames)))
        assert [[int(n) for n in result.counts] for result in results] == [found.counts.tolist() for found in expected]
        assert any(found.counts.any() for found in expected)
        for events, found in zip(frames, expected, strict=True):
            assert (run_fast(network, events).counts == found.counts).all()
