"""The scoreboard: what a simulation recorded against the golden traces, every token, in order."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from amaranth.lib import data

from hw.interface import Trace as TracePoint
from model.events import Flush, input_flushes
from model.golden import LayerTrace, Trace, run_layer
from model.machine.barrier_tokens import BARE, Tokens
from model.network import INPUT, Layer, Network, Neurons
from model.rest import first_states

__all__ = [
    "FLUSHED",
    "Barrier",
    "Divergence",
    "Score",
    "Spike",
    "Token",
    "compare",
    "compare_cycles",
    "decode",
    "places",
    "taken_flushes",
]


class Spike(NamedTuple):
    """A spike as recorded or expected: flat address and sign."""

    address: int
    sign: int


FLUSHED = Spike(-1, 0)
"""Stands for a flush within a frame among what is recorded or expected."""


class Barrier(NamedTuple):
    """What stands behind a spike, or behind nothing, that closes so many levels (`model.machine.barriers`)."""

    levels: int


class Token(NamedTuple):
    """A token as recorded: a spike, `FLUSHED`, a barrier, or the end of a frame (None), and its cycle."""

    spike: Spike | Barrier | None
    cycle: int


@dataclass(frozen=True)
class Divergence:
    """The first place where a recorded stream leaves the golden one.

    Parameters
    ----------
    trace, frame, index : TracePoint, int
        Where: the trace, the frame, and the index in the frame's stream, flushes and barriers included.
    cycle : int | None
        When, in cycles since reset; None where the recording ended too early.
    expected, found : Spike | Barrier | None
        None is the end of the frame, `FLUSHED` a flush within it.
    barriers : int
        Barriers of the frame's stream before that.
    """

    trace: TracePoint
    frame: int
    index: int
    cycle: int | None
    expected: Spike | Barrier | None
    found: Spike | Barrier | None
    barriers: int = 0

    def report(self, network: Network, trace: Trace, *, seed: int, plan: str, simulator: str) -> str:
        """The report, in lines; ``trace`` is the golden trace of the frame."""
        layer = self.trace.layer
        shape = network.shape_of(layer)

        def told(spike: Spike | Barrier | None) -> str:
            if spike is None:
                return "end of frame"
            if isinstance(spike, Barrier):
                return f"barrier of {spike.levels} {'level' if spike.levels == 1 else 'levels'}"
            if spike is FLUSHED:
                return "flush within the frame"
            if not 0 <= spike.address < shape.size:
                return f"{'+1' if spike.sign > 0 else '-1'} at address {spike.address}, outside {shape}"
            return f"{'+1' if spike.sign > 0 else '-1'} from neuron (y, x, c) = {shape.coordinates(spike.address)}"

        lines = [
            f"first divergence: {self.trace.name}, cycle {'never' if self.cycle is None else self.cycle}",
            f"  frame           {self.frame}",
            f"  layer           {layer}",
            f"  event index     {self.index}",
            f"  expected        {told(self.expected)}",
            f"  found           {'nothing more' if self.cycle is None else told(self.found)}",
        ]
        if layer != INPUT:
            lines += self._flushed(network, trace) if network.deferred else self._state(network, trace.layers[layer])
        lines += [f"  seed            {seed}", f"  plan            {plan}", f"  simulator       {simulator}"]
        return "\n".join(lines)

    def _state(self, network: Network, trace: LayerTrace) -> list[str]:
        """``V`` and ``Q`` of the neuron as the golden model has them after the causing event."""
        spikes = trace.spikes
        if not len(trace.events):
            return ["  caused by       no input event: the layer's input is empty"]
        at = min(self.index - self.barriers, len(spikes) - 1)
        cause = int(spikes["cause"][at]) if at >= 0 else 0
        event = trace.events[cause]
        source, *joined = map(network.shape_of, trace.layer.sources)
        output = network.shape_of(trace.layer.name)
        taker, shape, first = next(each for each in reversed(network.inputs(trace.layer)) if each.first <= event["address"])
        spike = self.expected or self.found
        lines = []
        if isinstance(spike, Spike) and 0 <= spike.address < output.size:
            start = first_states(network)[trace.layer.name]
            state = run_layer(trace.layer, source, trace.events[: cause + 1], start=start, joined=joined)
            neuron = output.coordinates(spike.address)
            potential = f"V = {state.potential[neuron]}, " if isinstance(trace.layer, Neurons) else ""
            lines.append(
                f"  state           {potential}Q = {state.count[neuron]} after the causing event, of neuron {neuron}"
            )
        sign = "+1" if event["sign"] > 0 else "-1"
        lines.append(
            f"  caused by       input event {cause} of the layer, {sign} from (y, x, c) = "
            f"{shape.coordinates(event['address'] - first)}{f' of {taker.source}' if joined else ''}; input event "
            f"{int(event['origin'])} of the network"
        )
        return lines

    def _flushed(self, network: Network, frame: Trace) -> list[str]:
        """``V`` and ``Q`` of the neuron as the golden model has them after the flush that it fires at, or does not."""
        trace = frame.layers[self.trace.layer]
        layer = trace.layer
        output, spike = network.shape_of(layer.name), self.expected or self.found
        taken_before = taken_flushes(frame, layer)
        # Which of them that is: as many are before this place in the stream.
        number = sum(flush.after + before < self.index for before, flush in enumerate(trace.flushes[:-1]))
        taken = taken_before[number]
        lines = []
        if isinstance(spike, Spike) and 0 <= spike.address < output.size:
            start = first_states(network)[layer.name]
            source, *joined = map(network.shape_of, layer.sources)
            flushes = [Flush(after, flush.origin) for after, flush in zip(taken_before, trace.flushes, strict=True)][: number + 1]
            state = run_layer(layer, source, trace.events[:taken], start=start, flushes=flushes, joined=joined)
            neuron = output.coordinates(spike.address)
            potential = f"V = {state.potential[neuron]}, " if isinstance(layer, Neurons) else ""
            lines.append(f"  state           {potential}Q = {state.count[neuron]} after the flush, of neuron {neuron}")
        which = "the flush at the end of the frame" if number == len(taken_before) - 1 else f"flush {number} within the frame"
        lines.append(f"  caused by       {which}, after {taken} input events of the layer")
        return lines


@dataclass(frozen=True)
class Score:
    """What a comparison found.

    Parameters
    ----------
    spikes_compared : int
        Spikes of layers, each once.
    events_compared : int
        Events on links between cores, each once.
    mismatches : int
        Tokens that differ, or are missing or too many.
    first : Divergence | None
        The earliest divergence, by cycle.
    """

    spikes_compared: int
    events_compared: int
    mismatches: int
    first: Divergence | None


def places(layout: data.Layout) -> dict[str, tuple[int, int]]:
    """Of each field of a packed payload its lowest bit, and its mask there, shifted down."""
    return {name: (layout[name].offset, (1 << layout[name].width) - 1) for name in layout.members}


def decode(network: Network, trace: TracePoint, records: Iterable[tuple[int, int]]) -> list[Token]:
    """The tokens of the ``(cycle, payload)`` records of one trace."""
    shape, layout = network.shape_of(trace.layer), trace.layout
    bits = places(layout)
    events, barred = trace.form == "events", "closes" in bits
    (at_kind, kind), (at_y, rows), (at_x, columns) = bits["kind"], bits["y"], bits["x"]
    # What marks a flush within a frame.
    at_flush, flush = bits["negative"] if events else bits.get("flush", (0, 0))
    tokens: list[Token] = []
    for cycle, payload in records:
        closes = payload >> bits["closes"][0] & bits["closes"][1] if barred else 0
        behind = [Token(Barrier(closes), cycle)] if closes else []
        if payload >> at_kind & kind:
            within = payload >> at_flush & flush
            tokens += behind or [Token(FLUSHED if within else None, cycle)]
            continue
        # Where the position's first channel is.
        base = shape.address(payload >> at_y & rows, payload >> at_x & columns, 0)
        if events:
            (at_c, channels), sign = bits["c"], -1 if payload >> at_flush & 1 else 1
            tokens += [Token(Spike(base + (payload >> at_c & channels), sign), cycle), *behind]
            continue
        part, plus, minus, more = (payload >> at & mask for at, mask in (bits.get(name, (0, 0)) for name in _OF_GROUP))
        first, width = base + layout.firsts[part], layout.more_bits
        for bit in range((plus | minus).bit_length()):
            for mask, sign in ((plus, 1), (minus, -1)):
                if mask >> bit & 1:
                    spikes = 1 + (more >> bit * width & (1 << width) - 1)
                    tokens += [Token(Spike(first + bit, sign), cycle)] * spikes
        tokens += behind
    return tokens


_OF_GROUP = ("part", "plus", "minus", "more")
"""Fields of a group of spikes; the last one is not always there."""


def compare(
    network: Network,
    golden: Sequence[Trace],
    traces: Sequence[TracePoint],
    found: Mapping[str, Sequence[Token]],
    *,
    barriers: Mapping[str, Tokens] | None = None,
) -> Score:
    """Compare the recorded tokens of every trace with the golden frames.

    ``barriers`` has, of each layer that sends some, where they stand among its spikes. A barrier counts as a token of its own,
    behind the spike with which it came if it did.
    """
    standing = barriers or {}
    spikes = events = mismatches = 0
    first: Divergence | None = None
    for trace in traces:
        expected: list[tuple[Spike | Barrier | None, int, int]] = []
        for number, frame in enumerate(golden):
            stream: Sequence[Spike | Barrier | None] = _stream(network, frame, trace.layer)
            if trace.layer in standing:
                stream = _with_barriers(stream, standing[trace.layer], number)
            expected += [(spike, number, index) for index, spike in enumerate(stream)]
        tokens = found.get(trace.name, ())
        compared = sum(isinstance(spike, Spike) and spike is not FLUSHED for spike, _, _ in expected)
        if trace.form == "groups":
            spikes += compared
        else:
            events += compared
        wrong = [
            n for n, ((want, _, _), token) in enumerate(zip(expected, tokens, strict=False)) if want != token.spike
        ]
        mismatches += len(wrong) + abs(len(expected) - len(tokens))
        if wrong:
            at, token = wrong[0], tokens[wrong[0]]
            number, index = expected[at][1:]
            before = sum(isinstance(spike, Barrier) for spike, _, _ in expected[at - index : at])
            divergence = Divergence(trace, number, index, token.cycle, expected[at][0], token.spike, before)
        elif len(tokens) < len(expected):
            want, number, index = expected[len(tokens)]
            at = len(tokens)
            before = sum(isinstance(spike, Barrier) for spike, _, _ in expected[at - index : at])
            divergence = Divergence(trace, number, index, None, want, None, before)
        elif len(tokens) > len(expected):
            token = tokens[len(expected)]
            divergence = Divergence(trace, len(golden) - 1, expected[-1][2] + 1, token.cycle, None, token.spike)
        else:
            continue
        if first is None or _earlier(divergence, first):
            first = divergence
    return Score(spikes, events, mismatches, first)


def compare_cycles(
    expected: Mapping[str, npt.NDArray[np.int64]], found: Mapping[str, Sequence[int]]
) -> tuple[int, str | None]:
    """Tokens that pass in another cycle than expected, are missing or too many; and where that first happens.

    Parameters
    ----------
    expected, found : Mapping[str, npt.NDArray[np.int64]], Mapping[str, Sequence[int]]
        Of each trace, the cycle of each token.
    """
    mismatches, first, note = 0, float("inf"), None
    for trace, cycles in expected.items():
        both = min(len(cycles), len(found[trace]))
        at = np.flatnonzero(cycles[:both] != np.asarray(found[trace][:both], dtype=np.int64))
        mismatches += len(at) + abs(len(cycles) - len(found[trace]))
        number = int(at[0]) if len(at) else both
        pair = tuple(int(of[number]) if number < len(of) else None for of in (cycles, found[trace]))
        when = min((cycle for cycle in pair if cycle is not None), default=float("inf"))
        if pair[0] != pair[1] and when < first:
            first, note = when, f"{trace}: token {number} expected in cycle {pair[0]}, found in {pair[1]}"
    return mismatches, note


def _earlier(one: Divergence, other: Divergence) -> bool:
    never = float("inf")
    return (never if one.cycle is None else one.cycle) < (never if other.cycle is None else other.cycle)


def taken_flushes(frame: Trace, layer: Layer) -> list[int]:
    """How many events a layer of a network that fires deferred has taken, of all its inputs, before each flush."""
    network = frame.network
    each = [
        input_flushes(frame.events, network.flush_events) if source == INPUT else frame.layers[source].flushes
        for source in layer.sources
    ]
    return [sum(flush.after for flush in together) for together in zip(*each, strict=True)]


def _stream(network: Network, frame: Trace, layer: str) -> list[Spike | None]:
    """What passes in a frame: spikes, flushes, and its end."""
    if layer == INPUT:
        events, flushes = frame.events, input_flushes(frame.events, network.flush_events) if network.deferred else ()
    else:
        events, flushes = frame.layers[layer].spikes, frame.layers[layer].flushes
    found: list[Spike | None] = []
    # The last flush is the end.
    for first, after in pairwise([0, *(flush.after for flush in flushes[:-1]), len(events)]):
        part = events[first:after]
        found += map(Spike, part["address"].tolist(), part["sign"].tolist())
        found.append(FLUSHED)
    return [*found[:-1], None]


def _with_barriers(stream: Sequence[Spike | Barrier | None], tokens: Tokens, frame: int) -> list[Spike | Barrier | None]:
    """A frame's stream with the barriers that stand in it."""
    mine = tokens.of(tokens.frame == frame)
    spikes, found = iter(stream), list[Spike | Barrier | None]()
    for spike, closes in zip(mine.spike.tolist(), mine.closes.tolist(), strict=True):
        found += [next(spikes)] if spike != BARE else []
        found += [Barrier(closes)] if closes else []
    return [*found, *spikes]
