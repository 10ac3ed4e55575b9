"""What the component tests share: streams with idle sources and stalled sinks, and their tokens as frames."""

import random
from collections.abc import Iterable, Sequence
from typing import Any

from amaranth.lib import stream, wiring
from amaranth.sim import Simulator

from model.events import Events
from model.machine.plan import CorePlan
from model.network import Shape

END = {"kind": 1}


def simulate(component: wiring.Component, *testbenches: Any, background: Sequence[Any] = (), cycles: int = 200_000) -> None:
    """Run to the end of all testbenches; a hang fails after ``cycles``."""
    simulator = Simulator(component)
    simulator.add_clock(1e-6, if_exists=True)
    left = len(testbenches)

    def counted(testbench: Any) -> Any:
        async def run(ctx: Any) -> None:
            nonlocal left
            await testbench(ctx)
            left -= 1

        return run

    async def watchdog(ctx: Any) -> None:
        await ctx.delay(cycles * 1e-6)
        raise AssertionError(f"{left} testbenches still wait after {cycles} cycles")

    for testbench in testbenches:
        simulator.add_testbench(counted(testbench))
    for testbench in background:
        simulator.add_testbench(testbench, background=True)
    simulator.add_testbench(watchdog, background=True)
    simulator.run()


def source(interface: stream.Interface, tokens: Iterable[Any], *, idle: float = 0.0, seed: int = 0) -> Any:
    """A testbench that sends ``tokens``, idle with this probability before each cycle."""

    async def run(ctx: Any) -> None:
        chance, offers = random.Random(seed), False
        for token in tokens:
            while chance.random() < idle:
                if offers:
                    ctx.set(interface.valid, 0)
                    offers = False
                await ctx.tick()
            ctx.set(interface.payload, token)
            # The simulator settles the component at each change: only what changes is set.
            if not offers:
                ctx.set(interface.valid, 1)
                offers = True
            await ctx.tick().until(interface.ready)
        if offers:
            ctx.set(interface.valid, 0)

    return run


def sink(interface: stream.Interface, found: list[Any], count: int, *, stall: float = 0.0, seed: int = 1) -> Any:
    """A testbench that takes ``count`` tokens, stalled with this probability before each cycle."""

    async def run(ctx: Any) -> None:
        chance, takes = random.Random(seed), False
        while len(found) < count:
            stalled = chance.random() < stall
            if takes == stalled:
                takes = not stalled
                ctx.set(interface.ready, takes)
            if stalled:
                await ctx.tick()
                continue
            _, _, valid, payload = await ctx.tick().sample(interface.valid, interface.payload)
            if valid:
                found.append(payload)
        if takes:
            ctx.set(interface.ready, 0)

    return run


def event_tokens(shape: Shape, frames: Sequence[Events], **extra: int) -> list[dict[str, int]]:
    """Frames of events as payloads of an event stream, each with its ``END``."""
    tokens: list[dict[str, int]] = []
    for events in frames:
        for event in events:
            y, x, c = shape.coordinates(event["address"])
            tokens.append({"kind": 0, "negative": int(event["sign"] < 0), "y": y, "x": x, "c": c, **extra})
        tokens.append({**END, "negative": 0, "y": 0, "x": 0, "c": 0, **extra})
    return tokens


def frames_of_events(shape: Shape, tokens: Sequence[Any]) -> list[list[tuple[int, int]]]:
    """Payloads of an event stream as frames of ``(address, sign)``."""
    frames: list[list[tuple[int, int]]] = [[]]
    for token in tokens:
        if token.kind.value:
            frames.append([])
        else:
            frames[-1].append((shape.address(token.y, token.x, token.c), -1 if token.negative else 1))
    return frames[:-1]


def group_spikes(shape: Shape, core: CorePlan, group: Any) -> list[tuple[int, int]]:
    """The spikes of a group, in order, as ``(address, sign)``."""
    plus, minus = group.plus, group.minus
    assert not plus & minus
    first, found = core.firsts(shape.channels)[group.part], []
    for n in range(core.group_channels):
        more = group.more[n] if group.shape().more_bits else 0
        if (plus | minus) >> n & 1:
            found += [(shape.address(group.y, group.x, first + n), 1 if plus >> n & 1 else -1)] * (1 + more)
        else:
            assert not more
    return found


def frames_of_groups(shape: Shape, core: CorePlan, tokens: Sequence[Any]) -> list[list[tuple[int, int]]]:
    """Payloads of a group stream as frames of ``(address, sign)``."""
    frames: list[list[tuple[int, int]]] = [[]]
    for token in tokens:
        if token.kind.value:
            frames.append([])
        else:
            frames[-1] += group_spikes(shape, core, token)
    return frames[:-1]


def pairs(events: Events) -> list[tuple[int, int]]:
    """A sequence as ``(address, sign)``."""
    return [(int(event["address"]), int(event["sign"])) for event in events]
