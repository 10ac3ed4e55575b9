"""Designs whose netlists are mutated: small, as the tests draw them, and together with every part.

Each has frames that come close together and apart, an empty one, an idle source and stalled sinks, and tags that wrap.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hw.link.encoder import Encoder
from hw.link.frame_encoder import FrameEncoder
from hw.link.levels_encoder import LevelsEncoder
from hw.link.scan_encoder import ScanEncoder
from model.events import Events, make_events
from model.machine.named_plans import named_plan
from model.machine.plan import Plan
from model.network import Layer, MaxPool, Network, Padding, Shape
from sim.generators.frames import random_events, random_frames
from sim.generators.graphs import nested_graph, random_graph
from sim.generators.networks import bursting, random_convolution, random_linear
from sim.mutation.benches import Given, MutationBench, machine_bench
from sim.mutation.link_bench import encoder_bench, system_bench

__all__ = ["DESIGNS", "Design"]


@dataclass(frozen=True, kw_only=True)
class Design:
    """A design.

    Parameters
    ----------
    says : str
        What it is.
    parts : tuple[str, ...]
        Parts of it that are mutated.
    bench : Callable[[], MutationBench]
        Makes it.
    """

    says: str
    parts: tuple[str, ...]
    bench: Callable[[], MutationBench]


def _chain(seed: int, *, side: int = 5, count_bits: int = 4, threshold_log2: int = 6, **changes: Any) -> Network:
    """A chain with a fused max-pool, and neurons that saturate; counts come to all of their values within some dozen spikes.

    Of an input of side 7 the numbers of words are no powers of two: there an address with a bit turned over is often of no word.
    """
    shape = Shape(side, side, 1)
    convolution = random_convolution(
        seed, inputs=1, name="conv", channels=2, kernel=(3, 3), stride=(1, 1), padding=Padding(1, 1, 1, 1), potential_bits=9,
        count_bits=count_bits, threshold_log2=threshold_log2,
    )  # fmt: skip
    pool = MaxPool(name="pool", source="conv", window=(2, 2), stride=(2, 2))
    size = pool.output_shape(convolution.output_shape(shape)).size
    layers: tuple[Layer, ...] = (
        convolution,
        pool,
        random_linear(seed + 1, inputs=size, outputs=3, name="fc", source="pool", potential_bits=8, count_bits=3),
        random_linear(
            seed + 2, inputs=3, outputs=2, name="out", source="fc", activation="identity", potential_bits=9, count_bits=4
        ),
    )
    return replace(Network(name="chain", input_shape=shape, layers=layers), **changes)


def _short_tags(plan: Plan) -> Plan:
    """The plan with tags that wrap within a few frames, and without what no bench of a whole machine asks for."""
    cores = tuple(replace(core, generation_bits=_TAG_BITS) for core in plan.cores)
    return replace(plan, cores=cores, states=False, inject=False)


def _walks(shape: Shape, seed: int, *, frames: int, events: int) -> list[Events]:
    """Frames in which each event is at the one before, or next to it towards the last one of the shape, or two further."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(frames):
        steps = np.cumsum(rng.integers(0, 3, (events, 2)), axis=0) + rng.integers(0, 2 * shape.size, 2)
        addresses = (steps[:, 0] % shape.height * shape.width + steps[:, 1] % shape.width) * shape.channels
        found.append(make_events(addresses + rng.integers(0, shape.channels, events), rng.choice([1, 1, 1, -1], events)))
    return found


_EMPTY_FRAMES = 24

_TAG_BITS = 2
"""Bits of the tags: a sweep comes once in three frames."""


def _machine(network: Network, plan: Plan, seed: int, *, frames: int = 80, events: int = 16) -> MutationBench:
    shape = network.input_shape
    # So many at once fill what keeps frames apart.
    empty = [make_events([])] * _EMPTY_FRAMES
    most = [
        *random_frames(shape, seed, frames=frames, events=events, near=True),
        *random_frames(shape, seed + 1, frames=frames // 4, events=events),
        *empty,
    ]
    blocked = [*random_frames(shape, seed + 2, frames=10, events=10), *empty]
    long = random_frames(shape, seed + 3, frames=4, events=300, near=True)
    # Of one neuron, of one sign: potentials and counts, of eight bits too, come to both of their ends.
    long += [make_events([address] * 320, [sign] * 320) for address in (0, shape.size // 2, shape.size - 1) for sign in (1, -1)]
    # Up and down again, so that every layer fires all the time.
    swings = [make_events([address] * 192, [*[1] * 8, *[-1] * 8] * 12) for address in (shape.size // 2, shape.size - 1)]
    # Counts that are close to each other.
    short = [random_events(shape, seed + number, most=8) for number in range(60)]
    # All else of a round of tags is empty: words are met that only the sweep before has cleared.
    rounds = [[each, *empty[: 2**_TAG_BITS - 2]] for each in random_frames(shape, seed + 22, frames=20, events=40)]
    return machine_bench(
        network,
        plan,
        [
            Given(frames=most, idle=0.2, stall=0.5, seed=seed),
            Given(frames=random_frames(shape, seed + 4, frames=50, events=12), seed=seed + 4),
            Given(frames=long, stall=0.2, seed=seed + 3),
            Given(frames=blocked, stall=0.95, seed=seed + 2),
            # Copies of some links only, which come apart.
            Given(frames=most[: frames // 2], idle=0.9, seed=seed + 5, ports=0b01010101),
            Given(frames=blocked, stall=0.85, seed=seed + 6, ports=0b10101010),
            # No copies: nothing holds frames up before the answers do.
            Given(frames=blocked, stall=0.998, seed=seed + 7, ports=0),
            # Copies of one link only, which holds up what comes before it.
            *(Given(frames=most[: frames // 2], stall=0.6, seed=seed + 8 + port, ports=1 << port) for port in range(6)),
            # One event after the other, so that cycles pass between those that meet in a neuron.
            *(
                Given(frames=_walks(shape, seed + number, frames=frames, events=events), idle=idle, seed=seed + number)
                for number, idle in enumerate((0.0, 0.5, 0.9, 0.95), start=14)
            ),
            Given(frames=short, seed=seed + 21),
            Given(frames=[frame for each in rounds for frame in each], seed=seed + 22),
            # So much at once behind one link that every FIFO before it fills up.
            *(Given(frames=swings, stall=0.9, seed=seed + 23 + port, ports=1 << port) for port in range(1, 6)),
            # Behind a reset, at any of the tags.
            *(
                Given(frames=most[: frames // 2] if cycles % 500 else most[:12], seed=seed + cycles, idle=0.3, earlier=cycles)
                for cycles in (510, 1110, 2310, *range(1000, 4000, 500))
            ),
        ],
    )


def _pipeline(network: Network, plan: str, seed: int) -> MutationBench:
    return _machine(network, _short_tags(named_plan(network, plan)), seed)


def _folded(network: Network, seed: int) -> MutationBench:
    return _machine(network, _short_tags(_folded_plan(network)), seed)


def _folded_plan(network: Network) -> Plan:
    """Two lanes, and all in block RAM: of a memory that is a cell of a device Yosys knows no ports to mutate."""
    plan = named_plan(network, "folded")
    cores = [replace(core, channels=min(2, core.channels), state_memory="block", weight_memory="block") for core in plan.cores]
    return replace(plan, cores=tuple(cores))


def _coded(**coding: Any) -> Network:
    """A network whose input is coded so."""
    layer = random_linear(0, inputs=12, outputs=2, activation="identity")
    return replace(Network(name="coded", input_shape=Shape(2, 3, 2), layers=(layer,)), **coding)


def _encoder(kind: type[FrameEncoder], network: Network) -> MutationBench:
    """Frames with ties, dark ones, bright ones, and those next to the threshold."""
    shape, rng = tuple(network.input_shape), np.random.default_rng(0)
    threshold = network.input_threshold
    images = [
        rng.integers(0, 256, shape, dtype=np.uint8),
        np.zeros(shape, np.uint8),
        (rng.integers(0, 4, shape) * 80).astype(np.uint8),
        np.full(shape, 255, np.uint8),
        rng.integers(threshold - 1, threshold + 3, shape, dtype=np.uint8),
        *rng.integers(0, 256, (40, *shape), dtype=np.uint8),
    ]
    return encoder_bench(kind, network, images, stalls=[(0.2, 0.3), (0.0, 0.0), (0.0, 0.9), (0.9, 0.0)])


def _system(network: Network, plan: Plan, seed: int) -> MutationBench:
    rng = np.random.default_rng(seed)
    images = [rng.integers(0, 256, tuple(network.input_shape), dtype=np.uint8) for _ in range(2)]
    frames = random_frames(network.input_shape, seed, frames=1, events=8)
    return system_bench(network, plan, images, [*frames[:1], frames[0][::-1]])


_OF_PIPELINES = ("lane", "state", "projection", "pool", "router", "readout")

DESIGNS: Mapping[str, Design] = {
    "immediate": Design(
        says="a chain that fires immediate, a lane a core",
        parts=_OF_PIPELINES,
        bench=lambda: _pipeline(_chain(1, side=7), "minimal", 1),
    ),
    "deferred": Design(
        says="a chain that fires deferred, with flushes within frames",
        parts=_OF_PIPELINES,
        # With half the threshold a flush sends more than half of what a count can be.
        bench=lambda: _pipeline(_chain(2, side=7, threshold_log2=5, firing="deferred", flush_events=5, rest=True), "minimal", 2),
    ),
    "bursts": Design(
        says="a chain of bursts, several lanes a core, from its state at rest",
        parts=_OF_PIPELINES,
        bench=lambda: _pipeline(bursting(_chain(3, side=7, rest=True), [2, 0, 3], 4), "default", 3),
    ),
    "ordered merge": Design(
        says="forks and merges that fire immediate",
        parts=("state", "projection", "router", "readout"),
        bench=lambda: _pipeline(nested_graph(4), "minimal", 4),
    ),
    "merge": Design(
        says="forks and merges that fire deferred",
        parts=("state", "projection", "router", "readout"),
        bench=lambda: _pipeline(random_graph(8, firing="deferred", plain=True, most_layers=4), "minimal", 5),
    ),
    "folded": Design(
        says="a folded machine that fires immediate",
        parts=("lane", "folded"),
        bench=lambda: _folded(_chain(6, count_bits=8), 6),
    ),
    "folded, deferred": Design(
        says="a folded machine that fires deferred",
        parts=("lane", "folded"),
        bench=lambda: _folded(_chain(7, count_bits=8, firing="deferred", rest=True), 7),
    ),
    "encoder": Design(
        says="the encoder of one level that sorts",
        parts=("encoder",),
        bench=lambda: _encoder(Encoder, _coded()),
    ),
    "scan encoder": Design(
        says="the encoder that scans, of several levels",
        parts=("encoder",),
        bench=lambda: _encoder(ScanEncoder, _coded(input_threshold=20, input_step=29, input_levels=3)),
    ),
    "levels encoder": Design(
        says="the encoder of several levels that sorts",
        parts=("encoder",),
        bench=lambda: _encoder(LevelsEncoder, _coded(input_threshold=20, input_step=29, input_levels=3)),
    ),
    "link": Design(
        says="a pipeline at its two wires, with every command and every error, and frames at every link",
        parts=("link", "router"),
        bench=lambda: _system(_chain(8), named_plan(_chain(8), "minimal"), 8),
    ),
    "folded link": Design(
        says="a folded machine at its two wires",
        parts=("link",),
        bench=lambda: _system(_chain(9), _folded_plan(_chain(9)), 9),
    ),
}
"""By name, in the order in which batches of mutants are drawn from them."""
