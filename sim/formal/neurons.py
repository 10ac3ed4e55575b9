"""The neuron: any sequence of events, beside Algorithm 1 as the paper prints it."""

from types import ModuleType
from typing import Any

import numpy as np
from amaranth.hdl import Const, Mux, Signal, Value, signed

import hw.neuron
from model.network import Linear, Neurons
from sim.formal.bench import Bench
from sim.formal.properties import Fault, Property

__all__ = ["PROPERTIES", "Event", "Start", "layer_of"]


def lane(bench: Bench, neurons: ModuleType, **options: Any) -> None:
    """A `Lane` and a register for its state, and the `Comparison` of what is in that, as a machine has them.

    In each cycle an event of any weight and sign comes, or none, or the neuron starts anew, with any residual and count. Beside
    it Algorithm 1 keeps ``V`` and ``Q``, and fires at once.
    """
    m, layer = bench.m, layer_of(**options)
    dut, comparison = neurons.Lane(layer=layer), neurons.Comparison(layer=layer)
    m.submodules.dut, m.submodules.comparison = dut, comparison
    stored, overflowed = Signal(dut.state.shape(), name="stored"), Signal()
    event, start = Event(bench, layer), Start(bench, dut.state.shape(), layer)
    algorithm = _Algorithm(bench, layer, event, start, most_spikes=1)
    m.d.comb += [dut.state.eq(stored), *event.drives(dut), comparison.state.eq(stored)]
    with m.If(start.now):
        m.d.sync += [stored.summed.eq(start.residual), stored.count.eq(start.count), stored.updated.eq(0), overflowed.eq(0)]
    with m.Elif(event.now):
        m.d.sync += [stored.eq(dut.update), overflowed.eq(dut.overflow)]

    bench.holds(comparison.plus == (algorithm.fired == 1))
    bench.holds(comparison.minus == (algorithm.fired == -1))
    bench.holds((overflowed | comparison.held) == algorithm.saturated)
    algorithm.lemmas(bench, stored)
    algorithm.reach(bench)


def burst_lane(bench: Bench, neurons: ModuleType, **options: Any) -> None:
    """A `BurstLane` and a `BurstComparison`, as `lane`; Algorithm 1 fires at most ``burst`` times an update."""
    m, layer = bench.m, layer_of(**options)
    dut, comparison = neurons.BurstLane(layer=layer), neurons.BurstComparison(layer=layer)
    m.submodules.dut, m.submodules.comparison = dut, comparison
    stored, overflowed = Signal(dut.state.shape(), name="stored"), Signal()
    event, start = Event(bench, layer), Start(bench, dut.state.shape(), layer)
    algorithm = _Algorithm(bench, layer, event, start, most_spikes=layer.burst)
    m.d.comb += [dut.state.eq(stored), *event.drives(dut), comparison.state.eq(stored)]
    with m.If(start.now):
        m.d.sync += [stored.summed.eq(start.residual), stored.count.eq(start.count), stored.updated.eq(0), overflowed.eq(0)]
    with m.Elif(event.now):
        m.d.sync += [stored.eq(dut.update), overflowed.eq(dut.overflow)]

    bench.holds(comparison.change == algorithm.fired)
    bench.holds(comparison.count == algorithm.Q)
    bench.holds((overflowed | comparison.held) == algorithm.saturated)
    algorithm.lemmas(bench, stored)
    algorithm.reach(bench)


class Event:
    """An event that may come in a cycle."""

    def __init__(self, bench: Bench, layer: Neurons) -> None:
        self.now = bench.any(1, "event")
        self.weight = bench.any(signed(layer.weight_bits), "weight")
        self.negative = bench.any(1, "negative")

    def drives(self, dut: Any) -> list[Any]:
        """Assignments to a lane."""
        return [dut.drive.eq(Mux(self.negative, ~self.weight, self.weight)), dut.negative.eq(self.negative)]


class Start:
    """A frame that may start in a cycle, and does in the first one."""

    def __init__(self, bench: Bench, state: Any, layer: Neurons) -> None:
        self.now = bench.any(1, "start") | ~bench.started
        self.residual = bench.any(state["summed"].shape, "residual")
        self.count = bench.any(state["count"].shape, "count")
        least, most = layer.count_limits
        bench.assume((self.count >= least) & (self.count <= most))


class _Algorithm:
    """Algorithm 1, with what is stored of it saturating.

    Attributes
    ----------
    V, Q : Signal
        Membrane potential and count.
    fired : Signal
        Spikes of the last update times their sign; 0 before the first one.
    saturated : Signal
        Whether the residual of that update was held at its end, or a spike did not fire as the count was at its own.
    """

    def __init__(self, bench: Bench, layer: Neurons, event: Event, start: Start, *, most_spikes: int) -> None:
        m, f, theta = bench.m, layer.threshold_log2, 1 << layer.threshold_log2
        # Wide enough for the sum of both, and for one more.
        width = max(layer.potential_bits, layer.weight_bits, layer.count_bits + 1 + f) + 3
        self.V, self.Q = Signal(signed(width), name="V"), Signal(signed(layer.count_bits + 2), name="Q")
        self.fired, self.saturated = Signal(signed(layer.count_bits + 2), name="fired"), Signal(name="saturated")
        (least, most), (lowest, highest) = layer.count_limits, layer.residual_limits
        self._layer, self._least, self._most = layer, least, most

        # V <- V + s * W; what is stored is V - Q * theta.
        summed = self._named(m, "summed", width, Mux(event.negative, self.V - event.weight, self.V + event.weight))
        offset = self._named(m, "offset", width, self.Q << f)
        residual = self._named(m, "residual_sum", width, summed - offset)
        held = (residual > highest) | (residual < lowest)
        V = self._named(m, "V_held", width, Mux(held, offset + Mux(residual < 0, Const(lowest), Const(highest)), summed))
        # diff <- act(V) - Q * theta
        activated: Value = V
        if layer.relu:
            activated = Mux(V < 0, 0, V)
            if layer.count_max is not None:
                activated = Mux(V > layer.count_max * theta, layer.count_max * theta, activated)
        diff = self._named(m, "diff", width, activated - offset)
        # if diff >= theta: fire +1, Q <- Q + 1; if diff <= -theta: fire -1, Q <- Q - 1
        Q, stuck = self.Q, Const(0)
        for number in range(most_spikes):
            up, down = diff >= theta, diff <= -theta
            fires_up, fires_down = up & (Q < most), down & (Q > least)
            stuck = stuck | (up & ~fires_up) | (down & ~fires_down)
            Q = self._named(m, f"Q_{number}", len(self.Q), Q + fires_up - fires_down)
            diff = self._named(m, f"diff_{number}", width, activated - (Q << f))

        with m.If(start.now):
            m.d.sync += [self.V.eq(start.residual + (start.count << f)), self.Q.eq(start.count)]
            m.d.sync += [self.fired.eq(0), self.saturated.eq(0)]
        with m.Elif(event.now):
            m.d.sync += [self.V.eq(V), self.Q.eq(Q), self.fired.eq(Q - self.Q), self.saturated.eq(held | stuck)]
        self._most_spikes, self._held = most_spikes, held & event.now & ~start.now
        self._stuck = stuck & event.now & ~start.now

    @staticmethod
    def _named(m: Any, name: str, width: int, value: Any) -> Signal:
        signal = Signal(signed(width), name=name)
        m.d.comb += signal.eq(value)
        return signal

    def lemmas(self, bench: Bench, stored: Any) -> None:
        """What a stored state says of it."""
        bench.lemma(self.Q == stored.count + self.fired)
        bench.lemma(self.V == stored.summed + (stored.count << self._layer.threshold_log2))
        bench.lemma((self.Q >= self._least) & (self.Q <= self._most))
        bench.lemma((self.fired <= self._most_spikes) & (self.fired >= -self._most_spikes))
        bench.lemma(stored.updated | ((self.fired == 0) & ~self.saturated))

    def reach(self, bench: Bench) -> None:
        """State that all of it happens."""
        bench.reaches(self.fired == self._most_spikes)
        bench.reaches(self.fired == -self._most_spikes)
        bench.reaches(self._held)
        bench.reaches((self.fired == 0) & ~self.saturated & bench.started)


def layer_of(activation: str, **options: Any) -> Linear:
    """A layer of one neuron."""
    return Linear(
        name="fc", source="input", weights=np.zeros((1, 1), int), bias=np.zeros(1, int), activation=activation, **options
    )


_NARROW = {"weight_bits": 4, "potential_bits": 6, "count_bits": 3}

PROPERTIES = (
    Property(
        name="Neuron: for any sequence of events, Algorithm 1's spikes and saturations",
        module=hw.neuron,
        part="Lane",
        bound="weights of 8 bits, potentials of 16, counts of 8, all thresholds; narrow and odd widths; activations that end",
        build=lane,
        cases=[
            {"activation": "identity", "threshold_log2": 2, **_NARROW},
            {"activation": "relu", "threshold_log2": 2, **_NARROW},
            {"activation": "relu", "threshold_log2": 4, "weight_bits": 10, "potential_bits": 7, "count_bits": 3},
            {"activation": "identity", "threshold_log2": 4, "weight_bits": 10, "potential_bits": 7, "count_bits": 3},
            *({"activation": "relu", "threshold_log2": 5, "count_max": most} for most in (1, 6, 255)),
            *({"activation": kind, "threshold_log2": f} for kind in ("relu", "identity") for f in range(15)),
        ],
        reach=4,
        fault=Fault(
            says="-theta itself does not fire",
            right="negative & ~(upper_all & lower_any)",
            wrong="negative & ~upper_all",
            steps=4,
        ),
    ),
    Property(
        name="Neuron with bursts: for any sequence of events, Algorithm 1's spikes and saturations",
        module=hw.neuron,
        part="BurstLane",
        bound="weights 8, potentials 16, counts 8 bits, bursts of 7, 4, 2 at thresholds of 2^4, 2^5, 2^8; narrow and odd widths",
        build=burst_lane,
        cases=[
            {"activation": "relu", "threshold_log2": 2, "burst": 3, **_NARROW},
            {"activation": "identity", "threshold_log2": 1, "burst": 2, **_NARROW},
            {"activation": "relu", "threshold_log2": 4, "burst": 2, "weight_bits": 10, "potential_bits": 8, "count_bits": 4},
            {"activation": "relu", "threshold_log2": 5, "burst": 4, "count_max": 6},
            *(
                {"activation": kind, "threshold_log2": f, "burst": burst}
                for kind in ("relu", "identity")
                for f, burst in ((4, 7), (5, 4), (8, 2))
            ),
        ],
        reach=6,
        fault=Fault(
            says="negative bursts end a spike early", right="limited.eq(-burst)", wrong="limited.eq(1 - burst)", steps=6
        ),
    ),
)
