"""The router: multicast to readers of different pace, the host's port, watching; on small graphs of their own."""

import pytest

from hw.pipeline.router import Router
from model.machine.named_plans import named_plan
from model.machine.stages import ports, stages
from model.network import Network
from sim.generators.frames import random_frames
from sim.generators.networks import random_linear, random_network
from tests.hardware import event_tokens, frames_of_events, pairs, simulate, sink, source

NETWORK = random_network(2)
LINKS = ports(NETWORK)


def test_ports_are_the_links_of_the_graph():
    assert LINKS == {"input": 0, "pool1": 2, "pool2": 3, "side": 4, "conv2": 5, "fc1": 6, "fc2": 7}
    assert {stage.name: stage.source for stage in stages(NETWORK)} == {
        "pool1": "input",
        "pool2": "pool1",
        "side": "pool1",
        "conv2": "pool2",
        "fc1": "conv2",
        "fc2": "fc1",
    }


@pytest.mark.parametrize("idle", [0, 0.4])
@pytest.mark.parametrize(("stall", "other"), [(0, 0), (0.5, 0), (0, 0.5), (0.7, 0.7)])
def test_multicast_gives_each_reader_everything_in_order(idle, stall, other):
    router = Router(network=NETWORK, plan=named_plan(NETWORK, "default"))
    shape = NETWORK.shape_of("pool1")
    frames = random_frames(shape, 1)
    tokens = event_tokens(shape, frames)
    readers = {"pool2": [], "side": []}
    watched = []

    async def watch(ctx):
        ctx.set(router.watch, 1 << LINKS["pool1"])

    simulate(
        router,
        watch,
        source(router.from_pool1, tokens, idle=idle),
        sink(router.to_pool2, readers["pool2"], len(tokens), stall=stall, seed=3),
        sink(router.to_side, readers["side"], len(tokens), stall=other, seed=4),
        sink(router.watched, watched, len(tokens), stall=(stall + other) / 2, seed=5),
    )
    for found in (*readers.values(), watched):
        assert frames_of_events(shape, found) == [pairs(frame) for frame in frames]
    assert {token.port for token in watched} == {LINKS["pool1"]}


def test_a_frame_for_another_port_waits_until_the_machine_is_empty():
    network = Network(
        name="two",
        input_shape=(1, 1, 4),
        layers=(
            random_linear(1, inputs=4, outputs=3, name="a"),
            random_linear(2, inputs=3, outputs=2, name="b", source="a"),
        ),
    )
    router = Router(network=network, plan=named_plan(network, "default"))
    spike = {"kind": 0, "negative": 0, "y": 0, "x": 0, "c": 1}
    end = {"kind": 1, "negative": 0, "y": 0, "x": 0, "c": 0}

    async def testbench(ctx):
        ctx.set(router.room, 1)
        for reader in (router.to_a, router.to_b, router.spikes):
            ctx.set(reader.ready, 1)
        ctx.set(router.host.valid, 1)
        for token in (spike, end):
            ctx.set(router.host.payload, {**token, "port": 0})
            await ctx.tick().until(router.host.ready)
        # The next frame goes to the link after layer a, where the first one's spikes may still pass.
        ctx.set(router.host.payload, {**spike, "port": 1})
        for _ in range(20):
            assert not ctx.get(router.host.ready)
            assert not ctx.get(router.to_b.valid)
            await ctx.tick()
        for core, reader in ((router.from_a, router.to_b), (router.from_b, router.spikes)):
            ctx.set(core.payload, end)
            ctx.set(core.valid, 1)
            assert ctx.get(reader.valid)
            assert not ctx.get(router.host.ready)
            await ctx.tick()
            ctx.set(core.valid, 0)
        # Empty: the port changes, and the frame passes, to that link only.
        for token in (spike, end):
            ctx.set(router.host.payload, {**token, "port": 1})
            while not ctx.get(router.host.ready):
                await ctx.tick()
            assert (ctx.get(router.to_a.valid), ctx.get(router.to_b.valid)) == (0, 1)
            assert ctx.get(router.to_b.payload.kind).value == token["kind"]
            await ctx.tick()

    simulate(router, testbench)


def test_a_frame_for_no_port_is_taken_and_dropped():
    router = Router(network=NETWORK, plan=named_plan(NETWORK, "default"))
    tokens = []
    # Port 1 is conv1, which has no link of its own: its pool is fused.
    for port in (1, 0):
        tokens += event_tokens(NETWORK.input_shape, random_frames(NETWORK.input_shape, port, frames=1), port=port)
    expected = random_frames(NETWORK.input_shape, 0, frames=1)
    found = []

    async def room(ctx):
        ctx.set(router.room, 1)

    simulate(
        router,
        room,
        source(router.host, tokens),
        sink(router.to_pool1, found, sum(len(frame) + 1 for frame in expected)),
    )
    assert frames_of_events(NETWORK.input_shape, found) == [pairs(frame) for frame in expected]
