"""Fuzzing of network files."""

import io
import random
from functools import cache
from pathlib import Path

import numpy as np

from model.engine.engine import run_fast
from model.golden import run
from model.network import Network
from model.projection import Projection
from sim.fuzzing.archives import edited_archive
from sim.fuzzing.targets import Target, WrongError
from sim.generators import chains, graphs, networks
from sim.generators.frames import random_events
from sim.traces import differing

__all__ = ["MOST_UNITS", "TARGET", "corpus", "is_small", "same_as_numpy"]

MOST_UNITS = 4000
"""Addresses of a network up to which its models are run."""

_MOST_WEIGHTS = 40_000

_MOST_SPIKES = 1500
"""Spikes of a frame up to which the golden model is run."""

_WORDS = (
    *("convolution", "linear", "maxpool", "transposed", "conv", "conv1", "conv2", "fc1", "fc2", "pool1", "out", "joined"),
    *("bias", "weights", "burst", "averaged", "count_max", "halves_to_even", "firing", "rest", "flush_events", "input_levels"),
    *("input_step", "kind", "source", "padding", "stride", "window", "groups", "more", "version", "tally-network", "tally-plan"),
)


@cache
def corpus() -> tuple[Network, ...]:
    """Small networks of every kind of layer and firing, in files of every version."""
    return (
        *(networks.random_network(seed) for seed in (2, 3)),
        networks.mixed(1),
        networks.grouped(7),
        networks.grouped(7, firing="deferred", flush_events=3),
        networks.overlapped(1),
        networks.pooled_input(1),
        networks.restless(1),
        chains.random_chain(4),
        chains.ending_chain(1),
        chains.bursting_chain(2),
        chains.deferred_chain(3),
        *(graphs.random_graph(seed, firing=firing) for seed, firing in ((9, "immediate"), (9, "deferred"), (11, "deferred"))),
        graphs.nested_graph(1),
    )


@cache
def _seeds() -> tuple[bytes, ...]:
    return tuple(network.to_bytes() for network in corpus())


def _mutated(content: bytes, chance: random.Random) -> bytes:
    return edited_archive(content, chance, text="header", words=_WORDS)


def is_small(network: Network) -> bool:
    """Whether its models run in no time."""
    units = network.input_shape.size + sum(shape.size for shape in network.shapes)
    weights = sum(taken.weights.size for layer in network.layers for taken in layer.inputs if isinstance(taken, Projection))
    return units <= MOST_UNITS and weights <= _MOST_WEIGHTS


def same_as_numpy(content: bytes, network: Network) -> None:
    """Raise `WrongError` where numpy reads other weights in the file."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        for layer in network.layers:
            for number, taken in enumerate(layer.inputs):
                name = f"{layer.name}.{number}.weights" if number else f"{layer.name}.weights"
                if isinstance(taken, Projection) and not np.array_equal(archive[name], taken.weights):
                    raise WrongError(f"{name} must be as numpy reads them")


def _read(content: bytes, folder: Path) -> str:
    path = folder / "network.npz"
    path.write_bytes(content)
    network = Network.load(path)
    same_as_numpy(content, network)
    network.save(path)
    again = Network.load(path)
    # Networks, and so their hashes, are equal where their files are.
    if not path.read_bytes() == network.to_bytes() == again.to_bytes():
        raise WrongError("the network must be the same when it is written and read again")
    if not is_small(network):
        return "written and read again"
    events = random_events(network.input_shape, 1, 12)
    found = run_fast(network, events)
    if sum(len(layer.spikes) + len(layer.events) for layer in found.layers.values()) > _MOST_SPIKES:
        return "run by the engine"
    if wrong := differing(run(network, events), found):
        raise WrongError(f"the engine must be equal to the golden model, but differs: {', '.join(wrong)}")
    return "run by both models"


TARGET = Target(name="network", ending=".npz", seeds=_seeds, mutated=_mutated, read=_read)
