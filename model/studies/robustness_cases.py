"""The disturbances of the study of robustness, one case for each line of its tables."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from model.arrays import Images
from model.engine.engine import run_fast
from model.events import Events
from model.network import INPUT, Layer, Network, Neurons
from model.studies.disturb import ORDERS, drop, duplicate, flip_bits, flip_signs, insert_spurious, jitter, reorder

__all__ = ["Case", "cases_of", "links_to_neurons"]

_SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
"""Shares of the input events that are dropped, duplicated, added or turned."""

_WINDOWS = (2, 8, 32, 128)
"""Windows of `jitter`, in events."""

_LINK_SHARES = (0.01, 0.05, 0.2)
"""Shares of the events that a link within the network drops or duplicates."""

_FLIPS = (0.0, 1e-5, 1e-4, 1e-3, 1e-2)
"""Probabilities that a weight bit is flipped."""

_LAYER_FLIPS = 1e-3
"""That probability where one layer after the other is disturbed."""

_POSITION_FLIPS = 1e-2
"""That probability where one bit after the other is disturbed: so much that the low bits show too."""

_BIT_SETS: dict[str, Callable[[int], Sequence[int]]] = {
    "all bits": lambda width: range(width),
    "top bit": lambda width: range(width - 1, width),
    "all but the top bit": lambda width: range(width - 1),
    "all but the top two": lambda width: range(max(0, width - 2)),
    "lowest two": lambda width: range(min(2, width)),
}
"""Of a weight's width the bits that may flip. What is left out is what an error-correcting memory would hold."""


@dataclass(frozen=True)
class Case:
    """One line of the study.

    Parameters
    ----------
    table : str
        The table in which the line stands.
    name, level
        What is disturbed, and by how much.
    make : callable
        From a generator the network and the frames of events to run.
    random : bool
        Whether `make` draws anything.
    change, link, bit
        As of `Row`.
    """

    table: str
    name: str
    level: float | None
    make: Callable[[np.random.Generator], tuple[Network, Sequence[Events]]]
    random: bool = True
    change: str | None = None
    link: str | None = None
    bit: int | None = None

    def seeds(self, seed: int, trials: int) -> list[list[int]]:
        """Of each trial what its generator is made from; of a line's own, so that no line depends on which others there are."""
        if not self.random:
            return []
        return [[seed, zlib.crc32(f"{self.table} {self.name} {self.level}".encode()), trial] for trial in range(trials)]


def cases_of(network: Network, images: Images, encoded: Sequence[Events]) -> Iterator[Case]:
    """All lines of the study, in the order of its tables."""
    shape = network.input_shape

    def inputs(change: Callable[[Events, np.random.Generator], Events]) -> Callable[..., tuple[Network, Sequence[Events]]]:
        return lambda rng: (network, [change(events, rng) for events in encoded])

    for order in ORDERS:

        def in_order(rng: np.random.Generator, order: str = order) -> tuple[Network, Sequence[Events]]:
            return network, [reorder(e, frame, shape, order, rng) for e, frame in zip(encoded, images, strict=True)]

        yield Case("order", order, None, in_order, random=order == "random")
    for window in _WINDOWS:
        yield Case("jitter", "jitter", window, inputs(lambda events, rng, w=window: jitter(events, w, rng)))  # type: ignore[misc]
    for name, change in _EVENT_CHANGES.items():
        for share in _SHARES:
            make = inputs(lambda events, rng, c=change, s=share: c(events, s, shape.size, rng))  # type: ignore[misc]
            yield Case("events", name, share, make, random=share > 0)
    # Of a link all frames' events are kept, of one link at a time: they are many.
    spikes_of = lru_cache(maxsize=1)(lambda link: _spikes(network, link, encoded))
    for link in links_to_neurons(network):
        after = _after(network, link)
        for name in ("dropped", "duplicated"):
            for share in _LINK_SHARES:

                def on_link(
                    rng: np.random.Generator,
                    link: str = link,
                    after: Network = after,
                    change: Callable[..., Events] = _EVENT_CHANGES[name],
                    share: float = share,
                ) -> tuple[Network, Sequence[Events]]:
                    return after, [change(events, share, after.input_shape.size, rng) for events in spikes_of(link)]

                yield Case("links", f"{name} after {link}", share, on_link, change=name, link=link)

    def weights(
        bits: Callable[[int], Sequence[int]], probability: float, only: str | None = None
    ) -> Callable[[np.random.Generator], tuple[Network, Sequence[Events]]]:
        return lambda rng: (_with_flips(network, bits, probability, only, rng), encoded)

    for name, bits in _BIT_SETS.items():
        for probability in _FLIPS:
            yield Case("weights", name, probability, weights(bits, probability), random=probability > 0)
    with_weights = [layer for layer in network.layers if isinstance(layer, Neurons)]
    for layer in with_weights:
        yield Case("weights by layer", layer.name, _LAYER_FLIPS, weights(range, _LAYER_FLIPS, layer.name))
    for bit in reversed(range(max(layer.weight_bits for layer in with_weights))):
        # A layer of narrower weights does not have its upper bits.
        own = weights(lambda width, bit=bit: [bit] if bit < width else [], _POSITION_FLIPS)  # type: ignore[misc]
        yield Case("weights by bit", f"bit {bit}", _POSITION_FLIPS, own, bit=bit)


_EVENT_CHANGES: dict[str, Callable[[Events, float, int, np.random.Generator], Events]] = {
    "dropped": lambda events, share, addresses, rng: drop(events, share, rng),
    "duplicated": lambda events, share, addresses, rng: duplicate(events, share, rng),
    "spurious": insert_spurious,
    "sign flipped": lambda events, share, addresses, rng: flip_signs(events, share, rng),
}


def links_to_neurons(network: Network) -> list[str]:
    """The layers whose spikes travel to neurons on the way to the answer; a pool after neurons is fused with them."""
    found = []
    layer = network.output
    while layer.source != INPUT:
        if isinstance(layer, Neurons):
            found.append(layer.source)
        layer = network.layer(layer.source)
    return found[::-1]


def _after(network: Network, link: str) -> Network:
    """The part of the network that hears of the spikes of ``link``, with these as its input."""
    layers: list[Layer] = []
    for layer in network.layers:
        if layer.source == link:
            layers.append(replace(layer, source=INPUT))
        elif any(layer.source == earlier.name for earlier in layers):
            layers.append(layer)
    return replace(network, input_shape=network.shape_of(link), layers=tuple(layers))


def _spikes(network: Network, link: str, encoded: Sequence[Events]) -> list[Events]:
    """The spikes of layer ``link`` in each frame."""
    way: list[Layer] = [network.layer(link)]
    while way[0].source != INPUT:
        way.insert(0, network.layer(way[0].source))
    until = replace(network, layers=tuple(way))
    return [run_fast(until, events).layers[link].spikes for events in encoded]


def _with_flips(
    network: Network, bits: Callable[[int], Sequence[int]], probability: float, only: str | None, rng: np.random.Generator
) -> Network:
    """The network with weight bits flipped; in the layer called ``only`` where one is named."""
    layers = [
        replace(layer, weights=flip_bits(layer.weights, layer.weight_bits, bits(layer.weight_bits), probability, rng))
        if isinstance(layer, Neurons) and only in (None, layer.name)
        else layer
        for layer in network.layers
    ]
    return replace(network, layers=tuple(layers))
