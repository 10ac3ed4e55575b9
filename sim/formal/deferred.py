"""The neuron that fires deferred: any sequence of events and flushes, beside the potential and the count that they make."""

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

from amaranth.hdl import Const, Module, Mux, Signal, Value, signed

import hw.folded.deferred_lane
import hw.neuron
from model.network import Neurons
from sim.formal.bench import Bench
from sim.formal.neurons import Event, Start, layer_of
from sim.formal.properties import Fault, Property

__all__ = ["PROPERTIES", "Taken", "taken_at_flush"]


def flushed(bench: Bench, neurons: ModuleType, *, goes_on: bool, **options: Any) -> None:
    """A `DeferredLane`, a register for its state, and the `Flush` of what is in that, as a machine has them.

    In each cycle an event of any weight and sign comes, or none, or the neuron starts anew, with any residual and count; where
    ``goes_on``, or a flush, after which the frame goes on. Beside it are ``V`` and ``Q``.
    """
    m, layer = bench.m, layer_of(**options)
    dut, flush = neurons.DeferredLane(layer=layer), neurons.Flush(layer=layer, goes_on=goes_on)
    m.submodules.dut, m.submodules.flush = dut, flush
    stored = Signal(dut.state.shape(), name="stored")
    event, start = Event(bench, layer), Start(bench, dut.state.shape(), layer)
    flushes = bench.any(1, "flush") if goes_on else Const(0)
    potential = _Potential(bench, layer, event, start, flushes)
    m.d.comb += [dut.state.eq(stored), *event.drives(dut), flush.state.eq(stored)]
    with m.If(start.now):
        m.d.sync += [stored.summed.eq(start.residual), stored.count.eq(start.count)]
    with m.Elif(flushes):
        m.d.sync += stored.eq(flush.update if goes_on else stored)
    with m.Elif(event.now):
        m.d.sync += stored.eq(dut.update)

    bench.holds(flush.count == potential.count)
    bench.holds(flush.held == potential.saturated)
    # The spikes that tell of it.
    spikes = neurons.spikes_of((flush.count - stored.count)[: layer.count_bits + 1].as_signed(), layer.count_bits)
    fired = Mux(spikes.plus, spikes.more + 1, Mux(spikes.minus, -(spikes.more + 1), 0))
    bench.holds((potential.Q + fired == potential.count) & ~(spikes.plus & spikes.minus))
    bench.lemma(potential.Q == stored.count)
    bench.lemma(potential.V == stored.summed + (stored.count << layer.threshold_log2))
    potential.holds(bench)


def folded(bench: Bench, lanes: ModuleType, *, layers: Sequence[Mapping[str, Any]], use: int) -> None:
    """An `Accumulate` for any of several layers, of which one is in use, with a `WantedCount` and a `TakeCount`, as `flushed`.

    A frame ends with its flush, and the neuron starts anew.
    """
    m, served = bench.m, [layer_of(**options) for options in layers]
    layer = served[use]
    dut, wanted, takes = lanes.Accumulate(*served), lanes.WantedCount(*served), lanes.TakeCount(*served)
    m.submodules.dut, m.submodules.wanted, m.submodules.takes = dut, wanted, takes
    stored, facts = Signal(dut.state.shape(), name="stored"), Signal(takes.facts.shape(), name="facts")
    event, start = Event(bench, layer), Start(bench, dut.state.shape(), layer)
    potential = _Potential(bench, layer, event, start, Const(0))
    m.d.comb += [dut.state.eq(stored), *event.drives(dut), facts.eq(facts.shape().const(facts.shape().of(layer)))]
    m.d.comb += [wanted.facts.eq(facts), wanted.state.eq(stored)]
    m.d.comb += [takes.facts.eq(facts), takes.wanted.eq(wanted.wanted), takes.outside.eq(wanted.outside)]
    with m.If(start.now):
        m.d.sync += [stored.summed.eq(start.residual), stored.count.eq(start.count)]
    with m.Elif(event.now):
        m.d.sync += stored.summed.eq(dut.summed)

    bench.holds(takes.count == potential.count)
    bench.holds(takes.held == potential.saturated)
    bench.lemma(potential.Q == stored.count)
    residual = stored.summed[: layer.potential_bits + 1].as_signed()
    bench.lemma(potential.V == residual + (stored.count << layer.threshold_log2))
    potential.holds(bench)


class _Potential:
    """What is kept of a neuron that fires deferred, and what a flush makes of it.

    Attributes
    ----------
    V, Q : Signal
        Membrane potential and count.
    count : Signal
        What a flush makes the count (`Taken`).
    saturated : Signal
        Whether at a flush what is stored of the potential did not fit, or the count was held at its end.
    """

    def __init__(self, bench: Bench, layer: Neurons, event: Event, start: Start, flushes: Value) -> None:
        m, f = bench.m, layer.threshold_log2
        width = max(layer.potential_bits, layer.weight_bits, layer.count_bits + 1 + f) + 3
        self._bits = layer.potential_bits + 1
        self.V, self.Q = Signal(signed(width), name="V"), Signal(signed(layer.count_bits + 2), name="Q")
        self.count, self.saturated = Signal(signed(layer.count_bits + 2), name="count_taken"), Signal(name="saturated")
        self._total, self._least, self._most = Signal(signed(width), name="total"), *layer.count_limits

        # What is stored of V is V - Q * theta, with a bit more than the potential has; it wraps.
        drive = Mux(event.negative, -event.weight, event.weight)
        summed, offset = Signal(signed(width), name="summed"), Signal(signed(width), name="offset")
        m.d.comb += [offset.eq(self.Q << f), summed.eq(self.V + drive - offset)]
        with m.If(start.now):
            first = start.residual[: self._bits].as_signed() + (start.count << f)
            m.d.sync += [self.V.eq(first), self._total.eq(first), self.Q.eq(start.count)]
        with m.Elif(flushes):
            m.d.sync += self.Q.eq(self.count)
        with m.Elif(event.now):
            m.d.sync += [self.V.eq(offset + summed[: self._bits].as_signed()), self._total.eq(self._total + drive)]

        taken = taken_at_flush(m, layer, self.V, self.Q)
        m.d.comb += [self.count.eq(taken.count), self.saturated.eq(taken.outside | taken.held)]
        self._outside, self._is_half, self._held = taken.outside, taken.is_half, taken.held
        self._layer, self._flushes = layer, flushes

    def holds(self, bench: Bench) -> None:
        """State that it is the sum of all that came, whatever their order, where that fits; and that all of it happens."""
        bench.holds((self.V - self._total)[: self._bits] == 0)
        bench.lemma((self.Q >= self._least) & (self.Q <= self._most))
        layer = self._layer
        several = self._most - self._least > 1 and layer.threshold_log2 + 2 < layer.potential_bits
        bench.reaches((self.count > self.Q + several) & ~self.saturated)
        bench.reaches((self.count < self.Q - several) & ~self.saturated)
        bench.reaches(self._outside)
        if layer.count_max is None:
            bench.reaches(self._held & ~self._outside)
        if layer.halves_to_even:
            bench.reaches(self._is_half & ~self.saturated)
        bench.reaches(bench.started & (self.V != self._total))


class Taken(NamedTuple):
    """What a flush makes of a neuron."""

    count: Signal
    """Its count: the whole thresholds in the activation, rounded down, within the count's limits. Where halves are rounded to
    even, an odd number of thresholds without a rest is taken for one less."""
    outside: Value
    """Whether what is stored of the potential did not fit."""
    held: Value
    """Whether the count was held at its end."""
    is_half: Value
    """Whether it was an odd number of thresholds without a rest, where that makes a difference."""


def taken_at_flush(m: Module, layer: Neurons, V: Value, Q: Value) -> Taken:
    """What a flush makes of a neuron, of its membrane potential and count, written from the paper's words."""
    f, theta = layer.threshold_log2, 1 << layer.threshold_log2
    width = max(len(V), len(Q) + f) + 1
    residual, activated, wanted = (Signal(signed(width), name=name) for name in ("residual_kept", "activated", "wanted_count"))
    count = Signal(signed(layer.count_bits + 2), name="count_at_flush")
    m.d.comb += [residual.eq(V - (Q << f)), activated.eq(V)]
    if layer.relu:
        with m.If(V < 0):
            m.d.comb += activated.eq(0)
    if layer.count_max is not None:
        with m.If(V > layer.count_max * theta):
            m.d.comb += activated.eq(layer.count_max * theta)
    whole = activated >> f
    is_half = (activated == V) & (V[:f] == 0) & whole[0] if layer.halves_to_even else Const(0)
    (least, most), (lowest, highest) = layer.count_limits, layer.residual_limits
    m.d.comb += [wanted.eq(whole - is_half), count.eq(Mux(wanted > most, most, Mux(wanted < least, least, wanted)))]
    outside, held = (residual < lowest) | (residual > highest), (wanted > most) | (wanted < least)
    return Taken(count=count, outside=outside, held=held, is_half=is_half)


_NARROW = {"weight_bits": 4, "potential_bits": 6, "count_bits": 3}
_WIDE = {"weight_bits": 10, "potential_bits": 7, "count_bits": 3}
_SERVED = (
    {"activation": "relu", "threshold_log2": 2, **_NARROW},
    {"activation": "identity", "threshold_log2": 3, "weight_bits": 5, "potential_bits": 9, "count_bits": 4},
    {"activation": "relu", "threshold_log2": 1, "count_max": 5, "halves_to_even": True, **_NARROW},
)
_OF_8_BITS = ({"activation": "relu", "threshold_log2": 5}, {"activation": "identity", "threshold_log2": 8})

PROPERTIES = (
    Property(
        name="Deferred neuron: for any sequence of events and flushes, the whole thresholds in their sum, and saturations",
        module=hw.neuron,
        part="DeferredLane",
        bound="weights of 8 bits, potentials of 16, counts of 8, all thresholds; narrow and odd widths; activations that end; "
        "halves to even; flushes within frames",
        build=flushed,
        cases=[
            {"activation": "relu", "threshold_log2": 2, "goes_on": True, **_NARROW},
            {"activation": "identity", "threshold_log2": 2, "goes_on": True, "halves_to_even": True, **_NARROW},
            {"activation": "identity", "threshold_log2": 2, "goes_on": False, **_NARROW},
            {"activation": "relu", "threshold_log2": 4, "goes_on": True, **_WIDE},
            {"activation": "identity", "threshold_log2": 4, "goes_on": True, **_WIDE},
            *(
                {"activation": "relu", "threshold_log2": 5, "count_max": most, "goes_on": True, "halves_to_even": even}
                for most in (1, 6, 255)
                for even in (False, True)
            ),
            *(
                {"activation": kind, "threshold_log2": f, "goes_on": True, "halves_to_even": f % 2 == 1}
                for kind in ("relu", "identity")
                for f in range(15)
            ),
        ],
        reach=4,
        fault=Fault(
            says="a sum that is too low is not told",
            right="outside = summed[-1] ^ summed[-2]",
            wrong="outside = ~summed[-1] & summed[-2]",
            steps=6,
        ),
        more_faults=[
            Fault(
                says="a count that is held takes its thresholds off all the same",
                right="left = (reached - self.count)[: len(summed) - f]",
                wrong="left = (reached - wanted)[: len(summed) - f]",
                steps=6,
            ),
            Fault(
                says="all whole numbers of thresholds are taken for one less",
                right="return Cat(whole[0] & rest, whole[1:]).as_signed()",
                wrong="return (whole - ~rest).as_signed()",
                steps=6,
                case=1,
            ),
            Fault(
                says="a negative change tells of one spike more",
                right="more = (change ^ minus.replicate(len(change))) - plus",
                wrong="more = (change ^ minus.replicate(len(change))) - plus + minus",
                steps=6,
            ),
        ],
    ),
    Property(
        name="Deferred neuron of a folded machine: of the layer in use, the whole thresholds in its events' sum, and saturations",
        module=hw.folded.deferred_lane,
        part="TakeCount",
        bound="layers of different widths, thresholds and activations, each in use, alone and of two or three",
        build=folded,
        cases=[
            *({"layers": _SERVED, "use": use} for use in range(3)),
            *({"layers": _SERVED[:2], "use": use} for use in range(2)),
            *({"layers": [one], "use": 0} for one in _SERVED),
            *({"layers": _OF_8_BITS, "use": use} for use in range(2)),
        ],
        reach=4,
        fault=Fault(
            says="the place of a sum's sign is that of the widest layer",
            right="self.outside.eq(summed[guard] ^ summed[guard - 1])",
            wrong="self.outside.eq(summed[-1] ^ summed[-2])",
            steps=6,
        ),
        more_faults=[
            Fault(
                says="what a narrower layer wraps to is not told from what it wraps around",
                right="spikes.eq(summed[threshold : guard + 1].as_signed())",
                wrong="spikes.eq(summed[threshold:].as_signed())",
                steps=6,
            ),
            Fault(
                says="a count without a sign is held from below 0",
                right="(below & facts.signed_count)",
                wrong="below",
                steps=6,
            ),
            Fault(
                says="where an activation ends its count is held",
                right="(above & ~facts.ends)",
                wrong="above",
                steps=6,
                case=2,
            ),
        ],
    ),
)
