"""Random cases for a co-simulation: a network, a plan, frames, and how the source and the sinks behave."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from model.engine.engine import run_fast
from model.events import Events, make_events
from model.machine.checks import check_plan
from model.machine.named_plans import NAMED_PLANS, named_plan
from model.machine.plan import Plan, PlanError
from model.network import Layer, Network, Neurons
from sim.generators import chains, networks
from sim.generators.frames import random_frames
from sim.generators.graphs import nested_graph, random_graph
from sim.generators.plans import random_folded_plan, random_pipeline_plan

__all__ = ["Case", "random_case", "random_firing_network", "random_machine"]

MOST_FRAMES = 400
"""Of a case; most have as many spikes as are wanted in fewer."""

_LOUD = 4
"""A network that fires more than this many times the spikes wanted of a case in one frame would take minutes for it."""

_MOST_EVENTS = 40
"""Of a frame's input."""

_EMPTY = 0.3
"""Chance that one of the frames has no event."""

_TRIES = 200
"""Draws in which there is a case; about half of them give one."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What to simulate.

    Parameters
    ----------
    network, plan : Network, Plan
        The machine.
    frames : Sequence[Events]
        Its input.
    idle, stall : float
        Chance in a cycle that the source is idle, that a sink is stalled.
    watch : bool
        Whether every link is watched through the host port.
    seed : int
        Of idle source and stalled sinks.
    """

    network: Network
    plan: Plan
    frames: Sequence[Events]
    idle: float
    stall: float
    watch: bool
    seed: int

    def save(self, folder: Path) -> None:
        """Write the network, the plan and the frames; with these files it can be simulated without its seed."""
        self.network.save(folder / "network.npz")
        self.plan.save(folder / "plan.json")
        frames: dict[str, Any] = {f"frame{number}": frame for number, frame in enumerate(self.frames)}
        np.savez_compressed(folder / "frames.npz", **frames)


def _with(network: Network, chance: random.Random) -> Network:
    """The network with any firing, flushes within frames, rest and bursts."""
    if chance.random() < 0.3:
        bursts = [chance.choice([0, 1, 2, 4]) for _ in range(4)]
        network = networks.bursting(network, bursts, chance.randint(3, 5))
    deferred = chance.random() < 0.5
    return replace(
        network,
        firing="deferred" if deferred else "immediate",
        flush_events=chance.choice([0, 0, 1, 3, 7]) if deferred else 0,
        rest=chance.random() < 0.5,
    )


def _ended(network: Network, chance: random.Random) -> Network:
    """The network with activations that end, and deferred with halves that go to even, in some of its layers of neurons."""
    layers: list[Layer] = []
    for layer in network.layers:
        if isinstance(layer, Neurons):
            most, even = chance.randint(1, 3), chance.random() < 0.3
            if layer.relu and chance.random() < 0.3:
                layer = replace(layer, count_max=min(most, (1 << layer.count_bits) - 1))
            if network.deferred and layer.threshold_log2 and even:
                layer = replace(layer, halves_to_even=True)
        layers.append(layer)
    return replace(network, layers=tuple(layers))


def _sided(network: Network, chance: random.Random) -> Network:
    """The network, now and then with a layer that nothing reads, on a link that may have barriers that it does not need."""
    *before, last = network.layers
    if not before or chance.random() < 0.6:
        return network
    source = chance.choice(before).name
    side = networks.random_convolution(
        chance.randrange(1 << 31), inputs=network.shape_of(source).channels, name="side", source=source, kernel=(1, 1)
    )
    return replace(network, layers=(*before, side, last))


def _graph(seed: int, chance: random.Random) -> Network:
    return random_graph(seed, firing=chance.choice(["immediate", "deferred"]), plain=chance.random() < 0.5)


_Drawn = Callable[[int, random.Random], Network]

PIPELINES: dict[str, _Drawn] = {
    "random": lambda seed, chance: _with(networks.random_network(seed), chance),
    "restless": lambda seed, chance: _with(networks.restless(seed), chance),
    "pooled input": lambda seed, chance: _with(networks.pooled_input(seed), chance),
    "mixed": lambda seed, chance: _with(networks.mixed(seed), chance),
    "grouped": lambda seed, chance: _with(networks.grouped(seed), chance),
    "overlapped": lambda seed, chance: _with(networks.overlapped(seed), chance),
    "graph": _graph,
    "nested graph": lambda seed, chance: _sided(nested_graph(seed), chance),
    "single layer": lambda seed, chance: _with(networks.single_layer(seed), chance),
}
"""Networks for pipelines, by what they are."""

FOLDED: dict[str, _Drawn] = {
    "chain": lambda seed, chance: chains.random_chain(seed),
    "resting chain": lambda seed, chance: chains.resting_chain(seed),
    "ending chain": lambda seed, chance: chains.ending_chain(seed),
    "bursting chain": lambda seed, chance: chains.bursting_chain(seed),
    "deferred chain": lambda seed, chance: chains.deferred_chain(seed),
    "graph": lambda seed, chance: replace(
        random_graph(seed, firing=chance.choice(["immediate", "deferred"]), plain=True), flush_events=0
    ),
    "nested graph": lambda seed, chance: _sided(nested_graph(seed), chance),
    "single layer": lambda seed, chance: replace(_with(networks.single_layer(seed, linear=True), chance), flush_events=0),
}
"""Networks for folded machines."""


def random_case(seed: int, number: int, *, spikes: int) -> Case:
    """One of the cases of a seed: the same each time, and no other than the one before.

    Parameters
    ----------
    seed, number : int
        Which.
    spikes : int
        How many are fired in all frames, about; fewer where a network is quiet.
    """
    chance = _chance("case", seed, number)
    for _ in range(_TRIES):
        drawn = chance.randrange(1 << 31)
        try:
            network, plan = _machine(drawn, chance)
        except PlanError:
            # Not every network can be built in every way.
            continue
        if frames := _frames(network, drawn, spikes, near=chance.random() < 0.5, events=chance.randint(4, _MOST_EVENTS)):
            idle, stall = chance.choice([(0.0, 0.0), (0.5, 0.0), (0.1, 0.7), (chance.random() / 2, chance.random() * 0.8)])
            watch = plan.watch and chance.random() < 0.5
            if chance.random() < _EMPTY:
                frames.insert(chance.randrange(len(frames) + 1), make_events([]))
            return Case(
                network=network, plan=plan, frames=frames, idle=round(idle, 3), stall=round(stall, 3), watch=watch, seed=drawn
            )
    raise AssertionError(f"no case in {_TRIES} draws of seed {seed}, number {number}")


def random_machine(seed: int, number: int) -> tuple[Network, Plan]:
    """One of the machines of a seed, the same each time, without frames."""
    chance = _chance("machine", seed, number)
    for _ in range(_TRIES):
        try:
            return _machine(chance.randrange(1 << 31), chance)
        except PlanError:
            # Not every network can be built in every way.
            continue
    raise AssertionError(f"no machine in {_TRIES} draws of seed {seed}, number {number}")


def random_firing_network(seed: int, number: int, *, spikes: int) -> tuple[Network, Sequence[Events]]:
    """The same for the models alone: a network of any kind, whether a machine can be built of it or not, and its frames."""
    chance = _chance("network", seed, number)
    for _ in range(_TRIES):
        drawn = chance.randrange(1 << 31)
        network = _ended(chance.choice([*PIPELINES.values(), *FOLDED.values()])(drawn, chance), random.Random(f"ends of {drawn}"))
        if frames := _frames(network, drawn, spikes, near=chance.random() < 0.5, events=chance.randint(4, _MOST_EVENTS)):
            return network, frames
    raise AssertionError(f"no network in {_TRIES} draws of seed {seed}, number {number}")


def _chance(what: str, seed: int, number: int) -> random.Random:
    return random.Random(f"{what} {seed} {number}")


def _machine(seed: int, chance: random.Random) -> tuple[Network, Plan]:
    """A network and a plan that suits it; `PlanError` where none does."""
    # Drawn apart, so that the other choices of a seed stay what they were.
    ends = random.Random(f"ends of {seed}")
    if chance.random() < 0.3:
        network = _ended(chance.choice(list(FOLDED.values()))(seed, chance), ends)
        plan = named_plan(network, "folded") if chance.random() < 0.2 else random_folded_plan(network, seed)
    else:
        network = _ended(chance.choice(list(PIPELINES.values()))(seed, chance), ends)
        name = chance.choice([*NAMED_PLANS, *["random"] * 5])
        plan = random_pipeline_plan(network, seed) if name == "random" else named_plan(network, name)
    check_plan(network, plan)
    return network, plan


def _frames(network: Network, seed: int, spikes: int, *, near: bool, events: int) -> list[Events]:
    """Frames in which about so many spikes are fired; none where the network is too loud for it."""
    found: list[Events] = []
    fired = 0
    for frame in random_frames(network.input_shape, seed, frames=MOST_FRAMES, events=events, near=near):
        more = sum(len(layer.spikes) for layer in run_fast(network, frame).layers.values())
        if more > _LOUD * spikes:
            return []
        found.append(frame)
        fired += more
        if fired >= spikes:
            break
    return found
