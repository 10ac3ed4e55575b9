"""The neuron lane: Algorithm 1 of the paper in residual form, as gates.

To be read beside `model.neuron.update_residual`. `reaches` and `fires` are its comparisons, for this lane and for that of the
folded machine; `Lane` is its additions. `BurstComparison` and `BurstLane` are those of layers whose updates fire several spikes
(`model.neuron.update_burst_residual`). ``tests/hw/test_neuron.py`` proves the lanes against Algorithm 1 as printed.

The model adds, compares, and takes the spike off the residual, all in one update. Gates leave the last to the neuron's next
update, which does it first: in the order of the model's lines,

====================================  ===============================================================
`model.neuron.update_residual`        here
====================================  ===============================================================
``R`` and ``Q`` before                the state less its last spike: what `Lane` settles first
``R``, clipped                        ``summed`` of the state after
``up``, ``down``                      ``up``, ``down``: `reaches`, in `Comparison`
``Q == most``, ``Q == least``         ``at_most``, ``at_least`` of `fires`
``Q < layer.count_max``               the same, in `Comparison`
``fired``                             ``plus`` less ``minus`` of `Comparison`
``held``                              ``held`` of `Comparison`, which looks at the state after
``R != summed``                       ``overflow`` of `Lane`
``saturated``                         ``overflow`` or ``held``, put together by whoever counts events
``R - fired * theta``, ``Q + fired``  settled in the next update
====================================  ===============================================================

With bursts the same table holds: `BurstLane` for `Lane`, `BurstComparison` for `Comparison`, and its ``change`` for ``fired``.
"""

from typing import NamedTuple

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from model.network import Neurons

__all__ = [
    "BurstComparison",
    "BurstLane",
    "Comparison",
    "DeferredLane",
    "DeferredState",
    "Firing",
    "Flush",
    "Lane",
    "NeuronState",
    "Spikes",
    "SummedState",
    "driven",
    "even_half",
    "fires",
    "reaches",
    "saturate",
    "spikes_of",
    "within_limits",
]


class NeuronState(data.StructLayout):
    """Stored state of one neuron of ``layer``: what its last update left, before its spike is settled.

    A spike of sign ``p`` does ``R <- R - p * theta`` and ``Q <- Q + p``. Whether a neuron fires follows from what is stored, so
    that comparing and settling can wait: the next update does both while it adds its weight.

    Members
    -------
    summed
        ``R`` after the last weight was added, in units of the potential.
    count
        ``Q`` before the spike of that update.
    updated
        0 where there was no update yet in this frame, and hence no spike, whatever the bias.
    """

    def __init__(self, layer: Neurons) -> None:
        super().__init__(
            {
                "summed": signed(layer.potential_bits),
                "count": unsigned(layer.count_bits) if layer.relu else signed(layer.count_bits),
                "updated": 1,
            }
        )


def saturate(value: Value, width: int) -> tuple[Value, Value]:
    """``value`` (signed, wider than ``width`` by one bit or more) held within ``signed(width)``; and whether it was."""
    top = value[width - 1 :]
    held = top.any() & ~top.all()
    sign = value[-1]
    limit = Cat((~sign).replicate(width - 1), sign)
    return Mux(held, limit, value[:width]).as_signed(), held


def reaches(*, positive: Value, negative: Value, upper_any: Value, upper_all: Value, lower_any: Value) -> tuple[Value, Value]:
    """Both comparisons with the threshold: ``R >= theta``, and ``R <= -theta``.

    ``theta`` is a power of two, and one bit of ``R`` is its place. From there on, the sign left out, are the *upper* bits; those
    below are the *lower* bits.

    - ``R >= theta``: ``R`` is not negative, and any upper bit is 1.
    - ``R <= -theta``: ``R`` is negative, and not all upper bits are 1 with any lower bit, which is ``-theta < R < 0``.

    Parameters
    ----------
    positive, negative : Value
        Whether ``R`` is not negative, and whether it is; both 0 where there is nothing to compare.
    upper_any, upper_all, lower_any : Value
        Whether any upper bit is 1, all of them are, any lower bit is.
    """
    return positive & upper_any, negative & ~(upper_all & lower_any)


class Firing(NamedTuple):
    """What an update fires."""

    plus: Value
    """1 for a spike of +1."""
    minus: Value
    """1 for a spike of -1."""
    held: Value
    """1 where there would be one, were the count not at its end: ``held`` of the model."""


def fires(up: Value, down: Value, *, at_most: Value, at_least: Value, signed_count: Value | bool) -> Firing:
    """Whether a neuron fires: where it reaches the threshold, unless its count is at its end.

    Parameters
    ----------
    up, down : Value
        As `reaches` gives them: ``R >= theta``, ``R <= -theta``.
    at_most, at_least : Value
        ``Q == most``, ``Q == least``, of the count's limits. With ReLU the least is 0: not to be there is ``Q >= 1``.
    signed_count : Value or bool
        Whether the layer's counts have a sign. With ReLU a neuron whose count is 0 has nothing to fire, and is not held.
    """
    if isinstance(signed_count, bool):
        held_at_least = down & at_least if signed_count else Const(0)
    else:
        held_at_least = down & at_least & signed_count
    return Firing(plus=up & ~at_most, minus=down & ~at_least, held=(up & at_most) | held_at_least)


class Comparison(wiring.Component):
    """Whether a neuron fires: both comparisons of Algorithm 1.

    Operation
    ---------
    +1 where ``R >= theta``, -1 where ``R <= -theta`` (ReLU: and ``Q >= 1``), unless ``Q`` is at its end. Constants that are
    powers of two: a few gates on the upper bits (`reaches`, `fires`).

    Timing
    ------
    Combinational.

    Parameters
    ----------
    layer : Neurons
        Gives threshold, activation and widths.

    Members
    -------
    state : In, NeuronState
        After an update.
    plus, minus : Out
        1 where that update fires +1, -1.
    held : Out
        1 where it would, but the count is at its end.
    """

    def __init__(self, *, layer: Neurons) -> None:
        self._layer = layer
        super().__init__({"state": In(NeuronState(layer)), "plus": Out(1), "minus": Out(1), "held": Out(1)})

    @property
    def layer(self) -> Neurons:
        """The layer whose neuron this is."""
        return self._layer

    def elaborate(self, platform: object) -> Module:
        m = Module()
        layer, f = self._layer, self._layer.threshold_log2
        summed, count, updated = self.state.summed, self.state.count, self.state.updated
        sign, lower, upper = summed[-1], summed[:f], summed[f:-1]
        up, down = Signal(), Signal()
        at_theta, at_minus_theta = reaches(
            positive=updated & ~sign,
            negative=updated & sign,
            upper_any=upper.any(),
            upper_all=upper.all(),
            lower_any=lower.any(),
        )
        firing = fires(
            up,
            down,
            at_most=count.all() if layer.relu else ~count[-1] & count[:-1].all(),
            at_least=~count.any() if layer.relu else count[-1] & ~count[:-1].any(),
            signed_count=not layer.relu,
        )
        if layer.count_max is not None:
            # Where the activation ends there is nothing to fire, and nothing held. A count is not beyond.
            at_theta &= count != layer.count_max
        m.d.comb += [
            up.eq(at_theta),
            down.eq(at_minus_theta),
            self.plus.eq(firing.plus),
            self.minus.eq(firing.minus),
            self.held.eq(firing.held),
        ]
        return m


def driven(residual: Value, drive: Value, negative: Value) -> Value:
    """``R + s * W`` of every lane, with room for the sum; ``drive`` is ``W`` for a positive event, ``~W`` for a negative one.

    One adder for add and subtract: 1 + negative in the place below the binary point carries in.
    """
    return (Cat(Const(1, 1), residual).as_signed() + Cat(negative, drive).as_signed())[1:].as_signed()


class Lane(wiring.Component):
    """One neuron update: Algorithm 1, in residual form.

    Operation
    ---------
    The spike of the update before is settled: of sign ``p``, it does ``R <- R - p * theta`` and ``Q <- Q + p``. Then ``R <-
    saturate(R + s * W)``. Whether this update fires in turn is a `Comparison` of what it leaves.

    The sign of the event comes folded into the weight as its one's complement, so that it costs a carry-in. The comparison that
    says whether there is a spike to settle runs beside the addition of the weight; the spike then changes only the bits from
    ``theta`` on.

    Timing
    ------
    Combinational.

    Parameters
    ----------
    layer : Neurons
        Gives threshold, activation and widths.

    Members
    -------
    state : In, NeuronState
        Before the update.
    drive : In
        ``W`` for a positive event, ``~W`` for a negative one.
    negative : In
        1 for a negative event.
    update : Out, NeuronState
        After the update.
    overflow : Out
        1 where the residual was held at its end.
    """

    def __init__(self, *, layer: Neurons) -> None:
        self._layer = layer
        state = NeuronState(layer)
        super().__init__(
            {
                "state": In(state),
                "drive": In(signed(layer.weight_bits)),
                "negative": In(1),
                "update": Out(state),
                "overflow": Out(1),
            }
        )

    @property
    def layer(self) -> Neurons:
        """The layer whose neuron this is."""
        return self._layer

    def elaborate(self, platform: object) -> Module:
        m = Module()
        layer, f = self._layer, self._layer.threshold_log2
        m.submodules.before = before = Comparison(layer=layer)
        m.d.comb += before.state.eq(self.state)
        plus, minus = before.plus, before.minus

        width = max(layer.potential_bits, layer.weight_bits) + 1
        added = Signal(signed(width))
        m.d.comb += added.eq(driven(self.state.summed, self.drive, self.negative))

        # The spike before: theta less or more. Adding 1 has all bits 0 but the lowest, subtracting 1 has them all 1.
        settled = Signal(signed(width))
        upper = added[f:].as_signed() + Cat(plus | minus, plus).as_signed()
        m.d.comb += settled.eq(Cat(added[:f], upper[: width - f]))
        residual, overflow = saturate(settled, layer.potential_bits)
        m.d.comb += [
            self.update.summed.eq(residual),
            self.update.count.eq(self.state.count + Cat(plus | minus, minus).as_signed()),
            self.update.updated.eq(1),
            self.overflow.eq(overflow),
        ]
        return m


class BurstComparison(wiring.Component):
    """How many spikes of which sign an update fires: Algorithm 1 with bursts, in one comparison.

    To be read beside `model.neuron.update_burst_residual`.

    Operation
    ---------
    As many as there are whole thresholds in ``R``, which are its upper bits; at most ``burst`` of them, and no more than take
    ``Q`` to its end, or that of the activation.

    Timing
    ------
    Combinational.

    Parameters
    ----------
    layer : Neurons
        Gives threshold, activation, burst and widths.

    Members
    -------
    state : In, NeuronState
        After an update.
    change : Out
        The spikes that the update fires, times their sign.
    count : Out
        ``Q`` after them.
    held : Out
        1 where there would be more, but the count is at its end.
    """

    def __init__(self, *, layer: Neurons) -> None:
        self._layer = layer
        state = NeuronState(layer)
        super().__init__(
            {
                "state": In(state),
                "change": Out(signed(layer.count_bits + 1)),
                "count": Out(state["count"].shape),
                "held": Out(1),
            }
        )

    @property
    def layer(self) -> Neurons:
        """The layer whose neuron this is."""
        return self._layer

    def elaborate(self, platform: object) -> Module:
        m = Module()
        layer, f, burst = self._layer, self._layer.threshold_log2, self._layer.burst
        summed, count, updated = self.state.summed, self.state.count, self.state.updated
        sign, lower, upper = summed[-1], summed[:f], summed[f:].as_signed()
        thresholds, limited = (Signal(signed(len(upper)), name=name) for name in ("thresholds", "limited"))
        wanted = Signal(signed(max(len(upper), layer.count_bits + 1) + 1))
        # Towards zero: of a residual below 0, the upper bits are one less where any lower bit is 1.
        m.d.comb += [
            thresholds.eq(upper + (sign & lower.any())),
            limited.eq(thresholds),
            wanted.eq(count + Mux(updated, limited, 0)),
        ]
        if 0 < burst < 1 << len(upper) - 1:
            with m.If(~sign & (thresholds > burst)):
                m.d.comb += limited.eq(burst)
            with m.If(sign & (thresholds < -burst)):
                m.d.comb += limited.eq(-burst)
        within, held = within_limits(layer, wanted)
        m.d.comb += [self.count.eq(within), self.held.eq(held), self.change.eq(self.count - count)]
        return m


class BurstLane(wiring.Component):
    """One neuron update of a layer with bursts: a `Lane` that settles all spikes of the update before at once.

    A burst of ``n`` spikes does ``R <- R - n * theta`` and ``Q <- Q + n``: as in `Lane`, only the bits from ``theta`` on change.

    Timing
    ------
    Combinational.

    Parameters
    ----------
    layer : Neurons
        Gives threshold, activation, burst and widths.

    Members
    -------
    state, drive, negative, update, overflow
        As of `Lane`.
    """

    def __init__(self, *, layer: Neurons) -> None:
        self._layer = layer
        state = NeuronState(layer)
        super().__init__(
            {
                "state": In(state),
                "drive": In(signed(layer.weight_bits)),
                "negative": In(1),
                "update": Out(state),
                "overflow": Out(1),
            }
        )

    @property
    def layer(self) -> Neurons:
        """The layer whose neuron this is."""
        return self._layer

    def elaborate(self, platform: object) -> Module:
        m = Module()
        layer, f = self._layer, self._layer.threshold_log2
        m.submodules.before = before = BurstComparison(layer=layer)
        m.d.comb += before.state.eq(self.state)

        width = max(layer.potential_bits, layer.weight_bits) + 1
        added = Signal(signed(width))
        m.d.comb += added.eq(driven(self.state.summed, self.drive, self.negative))

        # Residual and sum are within the width, and so is the sum of what is left of the residual.
        settled, upper = Signal(signed(width)), Signal(signed(width - f))
        m.d.comb += [upper.eq(added[f:].as_signed() - before.change), settled.eq(Cat(added[:f], upper))]
        residual, overflow = saturate(settled, layer.potential_bits)
        m.d.comb += [
            self.update.summed.eq(residual),
            self.update.count.eq(before.count),
            self.update.updated.eq(1),
            self.overflow.eq(overflow),
        ]
        return m


class DeferredState(data.StructLayout):
    """Stored state of one neuron of ``layer`` in a network that fires deferred.

    Members
    -------
    summed
        ``R``, with a bit more than ``potential_bits``: it wraps, and the bit tells at the flush whether the sum fits.
    count
        ``Q``.
    """

    def __init__(self, layer: Neurons) -> None:
        super().__init__(
            {
                "summed": signed(layer.potential_bits + 1),
                "count": unsigned(layer.count_bits) if layer.relu else signed(layer.count_bits),
            }
        )


class SummedState(data.StructLayout):
    """What is stored of it where its count stays what the frame started with until the flush, and the frame ends there.

    Members
    -------
    summed
        As of `DeferredState`.
    """

    def __init__(self, layer: Neurons) -> None:
        super().__init__({"summed": DeferredState(layer)["summed"].shape})


class DeferredLane(wiring.Component):
    """What an event does to a neuron that fires deferred: it adds, and no more.

    To be read beside `model.neuron.accumulate_residual`.

    Timing
    ------
    Combinational.

    Parameters
    ----------
    layer : Neurons
        Gives the widths.

    Members
    -------
    state : In, DeferredState
        Before.
    drive : In
        ``W`` for a positive event, ``~W`` for a negative one.
    negative : In
        1 for a negative event.
    update : Out, DeferredState
        After.
    """

    def __init__(self, *, layer: Neurons) -> None:
        state = DeferredState(layer)
        super().__init__({"state": In(state), "drive": In(signed(layer.weight_bits)), "negative": In(1), "update": Out(state)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += [
            self.update.summed.eq(driven(self.state.summed, self.drive, self.negative)),
            self.update.count.eq(self.state.count),
        ]
        return m


class Flush(wiring.Component):
    """The count that a neuron takes at a flush: the whole thresholds in its activation, within its limits.

    To be read beside `model.neuron.flush_residual`. The spikes that it fires are the difference (`spikes_of`).

    Timing
    ------
    Combinational.

    Parameters
    ----------
    layer : Neurons
        Gives threshold, activation and widths.
    goes_on : bool
        Whether a frame may go on after it, for which the neuron has to be written.

    Members
    -------
    state : In, DeferredState
        Before.
    count : Out
        ``Q`` after.
    held : Out
        1 where the sum did not fit into ``potential_bits``, or the count was held at its end.
    update : Out, DeferredState
        After; where ``goes_on``.
    """

    def __init__(self, *, layer: Neurons, goes_on: bool = False) -> None:
        self._layer = layer
        self._goes_on = goes_on
        state = DeferredState(layer)
        members: dict[str, In | Out] = {"state": In(state), "count": Out(state["count"].shape), "held": Out(1)}
        super().__init__(members | ({"update": Out(state)} if goes_on else {}))

    @property
    def layer(self) -> Neurons:
        """The layer whose neuron this is."""
        return self._layer

    def elaborate(self, platform: object) -> Module:
        m = Module()
        layer, bits = self._layer, self._layer.count_bits
        summed, count = self.state.summed, self.state.count
        wanted = Signal(signed(max(layer.potential_bits + 1 - layer.threshold_log2, bits + 1) + 1))
        whole_thresholds = summed[layer.threshold_log2 :].as_signed() + count
        m.d.comb += wanted.eq(
            even_half(whole_thresholds, summed[: layer.threshold_log2].any()) if layer.halves_to_even else whole_thresholds
        )
        # One bit is more than is stored.
        outside = summed[-1] ^ summed[-2]
        within, held = within_limits(layer, wanted)
        m.d.comb += [self.count.eq(within), self.held.eq(outside | held)]
        if self._goes_on:
            # What the count does not take is left of the thresholds; it moves towards 0, so that it fits.
            f = layer.threshold_log2
            # Half a threshold that was rounded down is left, too.
            reached = whole_thresholds if layer.halves_to_even else wanted
            left = (reached - self.count)[: len(summed) - f]
            m.d.comb += [self.update.summed.eq(Cat(summed[:f], left)), self.update.count.eq(self.count)]
        return m


def even_half(whole: Value, rest: Value) -> Value:
    """Whole thresholds (signed), or, where no ``rest`` is left beyond them, the even one of them and one less."""
    return Cat(whole[0] & rest, whole[1:]).as_signed()


def within_limits(layer: Neurons, wanted: Value) -> tuple[Value, Value]:
    """The count nearest to ``wanted`` (signed, wider than a count) that a neuron can have; and whether it is held from the other.

    With ReLU it is not held from a count below 0, nor from one beyond the end of its activation.
    """
    bits, (_, most) = layer.count_bits, layer.count_limits
    if not layer.relu:
        return saturate(wanted, bits)
    below = wanted[-1]
    above = ~below & (wanted[bits:-1].any() if most == (1 << bits) - 1 else wanted > most)
    return Mux(below, 0, Mux(above, most, wanted[:bits])), above if layer.count_max is None else Const(0)


class Spikes(NamedTuple):
    """Spikes of one sign, as a group has them of a channel."""

    plus: Value
    """1 where they are of sign +1."""
    minus: Value
    """1 where they are of sign -1."""
    more: Value
    """How many follow the first; 0 where there are none."""


def spikes_of(change: Value, more_bits: int) -> Spikes:
    """The spikes that tell of a change (signed) of a count, of which at most ``more_bits`` say how many follow the first."""
    minus = change[-1]
    plus = ~minus & change.any()
    # A number below 0 is one less than its complement says, and one above 0 has one to go first.
    more = (change ^ minus.replicate(len(change))) - plus
    return Spikes(plus, minus, more[:more_bits])
