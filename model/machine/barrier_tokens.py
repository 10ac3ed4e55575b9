"""What passes in the streams of a pipeline with barriers (`model.machine.barriers`), without when."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.arrays import Bools, Ints
from model.engine.engine import Stream
from model.machine.barriers import closed, own_level
from model.network import INPUT, Layer, Network

__all__ = ["BARE", "Taken", "Tokens", "fired", "given", "inputs_of", "leaving", "of_streams", "take"]

BARE = -1
"""In place of a spike, where a token is a barrier alone."""


@dataclass(frozen=True)
class Tokens:
    """What passes in a stream, but for the ends of frames.

    Parameters
    ----------
    spike : Ints
        Of each token which of the stream's events it is, or `BARE`.
    closes : Ints
        Of each how many levels close behind it.
    frame : Ints
        Of each its frame.
    """

    spike: Ints
    closes: Ints
    frame: Ints

    def of(self, chosen: Bools) -> "Tokens":
        """Those that are chosen."""
        return Tokens(self.spike[chosen], self.closes[chosen], self.frame[chosen])


@dataclass(frozen=True)
class Taken:
    """What a layer takes.

    Parameters
    ----------
    inputs : tuple of Tokens
        Of each of its inputs, what it is given.
    goes_on : tuple of Bools
        Of each of these tokens whether it goes on past the merge.
    merged : Tokens
        Those, in the order at the merge; events count through all inputs in that order.
    number, index : Ints
        Of each of these the input that it is of, and which of that input's tokens.
    """

    inputs: tuple[Tokens, ...]
    goes_on: tuple[Bools, ...]
    merged: Tokens
    number: Ints
    index: Ints


def given(network: Network, source: str, layer: Layer, tokens: Tokens) -> tuple[Tokens, Bools]:
    """What ``layer`` is given of the tokens of its source, and of each of those whether it is."""
    closes = np.array(closed(network, source, layer))[tokens.closes]
    wanted = (tokens.spike != BARE) | (closes > 0)
    return Tokens(tokens.spike, closes, tokens.frame).of(wanted), wanted


def take(network: Network, layer: Layer, tokens: Mapping[str, Tokens]) -> Taken:
    """What ``layer`` takes of the tokens of its sources."""
    inputs = tuple(given(network, source, layer, tokens[source])[0] for source in layer.sources)
    if len(inputs) == 1:
        every = np.arange(len(inputs[0].spike))
        return Taken(inputs, (np.ones(len(every), bool),), inputs[0], np.zeros(len(every), np.int64), every)
    # Each input's tokens belong to turns, of which each ends with what closes the merge's own level.
    turn = np.concatenate([np.cumsum(each.closes > 0) - (each.closes > 0) for each in inputs])
    number = np.repeat(np.arange(len(inputs)), [len(each.spike) for each in inputs])
    index = np.concatenate([np.arange(len(each.spike)) for each in inputs])
    spike, closes, frame = (np.concatenate([getattr(each, name) for each in inputs]) for name in ("spike", "closes", "frame"))
    # What the last input closes closes behind the merge.
    closes = np.where(number == len(inputs) - 1, np.maximum(0, closes - own_level(network, layer)), 0)
    on = (spike != BARE) | (closes > 0)
    order = np.lexsort((index, number, turn))
    order = order[on[order]]
    fires = spike[order] != BARE
    merged = Tokens(np.where(fires, np.cumsum(fires) - 1, BARE), closes[order], frame[order])
    goes_on = tuple(on[number == each] for each in range(len(inputs)))
    return Taken(inputs, goes_on, merged, number[order], index[order])


def leaving(spikes: Ints, closes: Ints, frame: Ints) -> Tokens:
    """The tokens that leave for things of which each fires so many spikes, and closes so many levels: behind the last spike, or
    alone where there is none."""
    counts = np.maximum(spikes, closes > 0)
    ends = np.cumsum(counts)
    fires = np.repeat(spikes > 0, counts)
    of_token = np.zeros(int(counts.sum()), np.int64)
    of_token[ends[closes > 0] - 1] = closes[closes > 0]
    return Tokens(np.where(fires, np.cumsum(fires) - 1, BARE), of_token, np.repeat(frame, counts))


def inputs_of(stream: Stream) -> Tokens:
    """The tokens of the network's input."""
    every = np.arange(len(stream.address))
    return Tokens(every, np.zeros(len(every), np.int64), stream.frame)


def of_streams(network: Network, streams: Mapping[str, Stream]) -> dict[str, Tokens]:
    """The tokens of the input and of each layer, as they are where what closes goes with the last spike, if there is one.

    In a core what closes goes with the last step of a walk, and is a token of its own where that fires nothing. The order of
    spikes and barriers is the same.
    """
    found = {INPUT: inputs_of(streams[INPUT])}
    for layer in network.layers:
        merged = take(network, layer, found).merged
        spikes = fired(network, layer, streams, merged)
        found[layer.name] = leaving(spikes, merged.closes, merged.frame)
    return found


def fired(network: Network, layer: Layer, streams: Mapping[str, Stream], merged: Tokens) -> Ints:
    """Of each token that ``layer`` takes the spikes that it fires for it."""
    starts = np.sum([streams[source].starts for source in layer.sources], axis=0)
    spikes = streams[layer.name]
    each: npt.NDArray[np.int64] = np.bincount(starts[spikes.frame] + spikes.cause, minlength=int(starts[-1]))
    return np.where(merged.spike == BARE, 0, np.append(each, 0)[merged.spike])
