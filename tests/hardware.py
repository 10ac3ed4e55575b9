"""What the component tests share: random layers and networks, and streams with idle sources and stalled sinks."""

import itertools
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from amaranth.lib import stream, wiring
from amaranth.sim import Simulator

from model.events import Events, make_events
from model.machine.plan import CorePlan
from model.network import Convolution, Linear, MaxPool, Network, Neurons, Padding, Shape, Transposed

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
        for _ in range(cycles):
            if not left:
                return
            await ctx.delay(1e-6)
        raise AssertionError(f"{left} testbenches still wait after {cycles} cycles")

    for testbench in testbenches:
        simulator.add_testbench(counted(testbench))
    for testbench in background:
        simulator.add_testbench(testbench, background=True)
    simulator.add_testbench(watchdog)
    simulator.run()


def source(interface: stream.Interface, tokens: Iterable[Any], *, idle: float = 0.0, seed: int = 0) -> Any:
    """A testbench that sends ``tokens``, idle with this probability before each cycle."""

    async def run(ctx: Any) -> None:
        chance = random.Random(seed)
        for token in tokens:
            while chance.random() < idle:
                await ctx.tick()
            ctx.set(interface.payload, token)
            ctx.set(interface.valid, 1)
            await ctx.tick().until(interface.ready)
            ctx.set(interface.valid, 0)

    return run


def sink(interface: stream.Interface, found: list[Any], count: int, *, stall: float = 0.0, seed: int = 1) -> Any:
    """A testbench that takes ``count`` tokens, stalled with this probability before each cycle."""

    async def run(ctx: Any) -> None:
        chance = random.Random(seed)
        while len(found) < count:
            if chance.random() < stall:
                await ctx.tick()
                continue
            ctx.set(interface.ready, 1)
            _, _, valid, payload = await ctx.tick().sample(interface.valid, interface.payload)
            if valid:
                found.append(payload)
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


def random_frames(shape: Shape, seed: int, *, frames: int = 4, events: int = 40, near: bool = False) -> list[Events]:
    """Random signed events; ``near`` keeps them close together, so that windows overlap. One frame is empty."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(frames):
        if near:
            y, x = rng.integers(0, shape.height), rng.integers(0, shape.width)
            ys = np.clip(y + rng.integers(-1, 2, events), 0, shape.height - 1)
            xs = np.clip(x + rng.integers(-1, 2, events), 0, shape.width - 1)
            addresses = (ys * shape.width + xs) * shape.channels + rng.integers(0, shape.channels, events)
        else:
            addresses = rng.integers(0, shape.size, events)
        found.append(make_events(addresses, rng.choice([1, 1, 1, -1], events)))
    return [*found[:1], make_events([]), *found[1:]]


def random_convolution(seed: int, *, inputs: int, name: str = "conv", source: str = "input", **options: Any) -> Convolution:
    """A convolution of random weights and geometry."""
    rng = np.random.default_rng(seed)
    kernel = options.pop("kernel", tuple(int(n) for n in rng.integers(1, 5, 2)))
    channels = options.pop("channels", int(rng.integers(1, 6)))
    options.setdefault("stride", tuple(int(n) for n in rng.integers(1, 3, 2)))
    options.setdefault("padding", Padding(*(int(rng.integers(0, kernel[n % 2])) for n in range(4))))
    options.setdefault("threshold_log2", 6)
    return Convolution(
        name=name,
        source=source,
        weights=rng.integers(-60, 80, (channels, inputs, *kernel)),
        bias=rng.integers(-30, 60, channels),
        **options,
    )


def random_linear(seed: int, *, inputs: int, outputs: int, name: str = "fc", source: str = "input", **options: Any) -> Linear:
    """A linear layer of random weights."""
    rng = np.random.default_rng(seed)
    options.setdefault("threshold_log2", 6)
    return Linear(
        name=name,
        source=source,
        weights=rng.integers(-60, 80, (outputs, inputs)),
        bias=rng.integers(-30, 60, outputs),
        **options,
    )


def random_network(seed: int) -> Network:
    """A small network with every layer kind: a fused pool, a pool alone, a side branch, narrow saturating neurons."""
    rng = np.random.default_rng(seed)
    shape = Shape(int(rng.integers(6, 10)), int(rng.integers(6, 10)), int(rng.integers(1, 3)))
    layers: list[Neurons | MaxPool] = [
        random_convolution(
            seed,
            inputs=shape.channels,
            name="conv1",
            kernel=(3, 3),
            stride=(1, 1),
            padding=Padding(1, 1, 1, 1),
            potential_bits=9,
        ),
        MaxPool(name="pool1", source="conv1", window=(2, 2), stride=(2, 2)),
    ]
    shape1 = layers[1].output_shape(layers[0].output_shape(shape))
    layers.append(MaxPool(name="pool2", source="pool1", window=(1, 2), stride=(1, 2)))
    layers.append(random_linear(seed + 1, inputs=shape1.size, outputs=3, name="side", source="pool1"))
    shape2 = layers[2].output_shape(shape1)
    layers.append(
        random_convolution(
            seed + 2,
            inputs=shape2.channels,
            name="conv2",
            source="pool2",
            kernel=(2, 2),
            padding=Padding(1, 0, 0, 1),
            stride=(1, 1),
        )
    )
    layers.append(
        random_linear(
            seed + 3,
            inputs=layers[-1].output_shape(shape2).size,
            outputs=11,
            name="fc1",
            source="conv2",
            potential_bits=8,
            count_bits=3,
        )
    )
    layers.append(random_linear(seed + 4, inputs=11, outputs=4, name="fc2", source="fc1", activation="identity"))
    return Network(name=f"random{seed}", input_shape=shape, layers=tuple(layers))


def grouped(seed: int, *, firing: str = "immediate", burst: int = 1, flush_events: int = 0) -> Network:
    """A small network of a grouped, a depthwise and a transposed convolution, none of whose inputs is one of zeros."""
    rng = np.random.default_rng(seed)
    shape = Shape(int(rng.integers(3, 5)), int(rng.integers(3, 5)), 4)
    common: dict[str, Any] = {"threshold_log2": 5, "burst": burst}
    first = random_convolution(
        seed, inputs=2, groups=2, channels=6, name="grouped", kernel=(2, 3), stride=(1, 1), potential_bits=10, **common
    )
    second = random_convolution(
        seed + 1, inputs=1, groups=6, channels=6 * int(rng.integers(1, 3)), name="depthwise", source="grouped", kernel=(3, 3),
        stride=(1, int(rng.integers(1, 3))), padding=Padding(1, 1, 1, 1), **common,
    )  # fmt: skip
    groups = int(rng.integers(1, 3))
    third = Transposed(
        name="transposed", source="depthwise", weights=rng.integers(-60, 80, (4, second.channels // groups, 3, 2)),
        bias=rng.integers(-30, 60, 4), groups=groups, stride=(2, int(rng.integers(1, 4))), more=(1, 0),
        padding=Padding(*(int(n) for n in rng.integers(0, 2, 4))), threshold_log2=7, burst=burst,
    )  # fmt: skip
    size = third.output_shape(second.output_shape(first.output_shape(shape))).size
    last = random_linear(
        seed + 2, inputs=size, outputs=2, name="out", source="transposed", activation="identity", threshold_log2=6, burst=burst
    )
    return Network(
        name=f"grouped{seed}",
        input_shape=shape,
        layers=(first, second, third, last),
        firing=firing,
        flush_events=flush_events,
    )


def overlapped(seed: int, *, burst: int = 1, **changes: Any) -> Network:
    """A network with a max-pool after neurons, and one alone after it, whose windows overlap."""
    first = random_convolution(
        seed, inputs=2, kernel=(2, 2), channels=3, stride=(1, 1), padding=Padding(1, 1, 0, 0), threshold_log2=5, burst=burst
    )
    pools = (
        MaxPool(name="after", source="conv", window=(3, 3), stride=(2, 1 + seed % 2), padding=Padding(1, 1, 1, 0)),
        MaxPool(name="alone", source="after", window=(2, 2), stride=(1, 2 - seed % 2)),
    )
    size = pools[1].output_shape(pools[0].output_shape(first.output_shape(Shape(5, 6, 2)))).size
    out = random_linear(seed + 1, inputs=size, outputs=3, name="out", source="alone", activation="identity", burst=burst)
    layers = (first, *pools, out)
    return Network(name=f"overlapped{seed}", input_shape=Shape(5, 6, 2), layers=layers, rest=seed > 2, **changes)


def mixed(
    seed: int, *, firing: str = "immediate", rest: bool = False, burst: int = 1, flush_events: int = 0, wide: bool = False
) -> Network:
    """A network of every layer kind with biases and weights above thresholds, signed counts before a max-pool too.

    ``wide`` makes nothing saturate.
    """
    rng = np.random.default_rng(seed)
    shape = Shape(int(rng.integers(5, 9)), int(rng.integers(5, 9)), 2)
    widths = {"potential_bits": 24, "count_bits": 16} if wide else {}
    narrow = widths or {"potential_bits": 9, "count_bits": 3}
    layers: list[Neurons | MaxPool] = [
        random_convolution(seed, inputs=2, name="conv1", channels=4, kernel=(3, 3), stride=(1, 1), threshold_log2=5, **widths),
        MaxPool(name="pool1", source="conv1", window=(3, 2), stride=(1, 2), padding=Padding(1, 1, 1, 0)),
    ]
    pooled = layers[1].output_shape(layers[0].output_shape(shape))
    by_position = Padding(1, 0, 0, 1)
    signed = random_convolution(
        seed + 1, inputs=2, groups=2, channels=6, name="conv2", source="pool1", kernel=(2, 2), stride=(1, 1),
        padding=by_position, threshold_log2=4, activation="identity", **widths,
    )  # fmt: skip
    after = signed.output_shape(pooled)
    layers.append(replace(signed, bias=rng.integers(-40, 60, after)))
    layers.append(MaxPool(name="pool2", source="conv2", window=(2, 2), stride=(2, 2)))
    last = layers[-1].output_shape(after)
    averaged = (min(2, last.height), 1)
    inputs = last.height // averaged[0] * last.width * 6
    layers.append(
        random_linear(
            seed + 2, inputs=inputs, outputs=9, name="fc1", source="pool2", averaged=averaged, threshold_log2=5, **narrow
        )
    )
    layers.append(
        random_linear(seed + 3, inputs=9, outputs=4, name="fc2", source="fc1", activation="identity", threshold_log2=4, **widths)
    )
    layers = [replace(layer, burst=burst) if isinstance(layer, Neurons) else layer for layer in layers]
    return Network(
        name=f"mixed{seed}", input_shape=shape, layers=tuple(layers), firing=firing, rest=rest, flush_events=flush_events
    )


def bursting(network: Network, bursts: Sequence[int], threshold_log2: int) -> Network:
    """The network with bursts of its layers of neurons, one after the other, and so low thresholds that there are any."""
    layers, of = [], itertools.cycle(bursts)
    for layer in network.layers:
        layers.append(replace(layer, burst=next(of), threshold_log2=threshold_log2) if isinstance(layer, Neurons) else layer)
    return replace(network, name=f"{network.name}_burst", layers=tuple(layers))


def restless(seed: int, **changes: Any) -> Network:
    """A `random_network` that starts frames from its state at rest, with biases above thresholds, by position in convolutions.

    ``changes`` are of all its layers of neurons.
    """
    network, rng = random_network(seed), np.random.default_rng(seed)
    layers = []
    for layer, shape in zip(network.layers, network.shapes, strict=True):
        if isinstance(layer, Neurons):
            bias = rng.integers(-100, 120, layer.channels)
            if isinstance(layer, Convolution):
                bias = np.broadcast_to(bias, shape).copy()
                bias[0] = rng.integers(-100, 120, shape[1:])
            layers.append(replace(layer, bias=bias, **changes))
        else:
            layers.append(layer)
    return replace(network, name=f"restless{seed}", layers=tuple(layers), rest=True)
