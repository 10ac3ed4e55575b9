"""The lane of a folded machine whose layers fire several spikes an update: Algorithm 1 with bursts, in two halves.

Compare `model.neuron.update_burst_residual`. The first half adds, the second one says how many spikes and settles all of them.
"""

from amaranth.hdl import Cat, Module, Signal, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.folded.deferred_lane import DeferredFacts, TakeCount
from hw.folded.lane import Facts, LayerFacts, SettledState, saturate_from
from hw.neuron import driven, spikes_of
from model.machine.stored_state import StoredWidths
from model.network import Neurons

__all__ = ["Burst", "BurstFacts", "SaturatingAdd"]


class BurstFacts(Facts):
    """What a lane has to know of the layer in use.

    Parameters
    ----------
    layers : Neurons
        the layers that a lane serves

    Attributes
    ----------
    thresholds : list of int
        the places of a threshold in a residual that there are

    Members
    -------
    from_sign : a bit for each of a sum
        as of `hw.folded.lane.LayerFacts`
    threshold : a bit for each of ``thresholds``
        1 at that of the layer
    burst : unsigned
        the most spikes of an update
    most, least, signed_count, ends
        as of `hw.folded.deferred_lane.DeferredFacts`
    """

    def __init__(self, *layers: Neurons) -> None:
        self.layers = layers
        self._sums, self._counts = LayerFacts(*layers), DeferredFacts(*layers)
        self.thresholds = sorted({layer.threshold_log2 for layer in layers})
        self._most = max(1 << layer.potential_bits - 1 - layer.threshold_log2 for layer in layers)
        counts = {name: self._counts[name].shape for name in ("most", "least", "signed_count", "ends")}
        super().__init__(
            {
                "from_sign": self._sums["from_sign"].shape,
                "threshold": len(self.thresholds),
                "burst": unsigned(self._most.bit_length()),
                **counts,
            }
        )

    @property
    def sum_width(self) -> int:
        """Bits of a sum."""
        return self._sums.sum_width

    def of(self, layer: Neurons) -> dict[str, int]:
        """The facts of one of the layers."""
        sums, counts = self._sums.of(layer), self._counts.of(layer)
        return {
            "from_sign": sums["from_sign"],
            "threshold": 1 << self.thresholds.index(layer.threshold_log2),
            "burst": min(layer.burst or self._most, self._most),
            **{name: counts[name] for name in ("most", "least", "signed_count", "ends")},
        }


class SaturatingAdd(wiring.Component):
    """The first half: ``R <- saturate(R + s * W)``.

    Timing
    ------
    Combinational.

    Parameters
    ----------
    layers : Neurons
        give the widths; of several, one is in use at a time

    Members
    -------
    facts : In, BurstFacts
        of the layer in use
    state : In, SettledState
        before the update
    drive, negative : In
        as of `hw.neuron.Lane`
    summed : Out, signed
        the residual with the weight added
    overflow : Out, 1 bit
        1 where it is held at its end
    """

    def __init__(self, *layers: Neurons) -> None:
        state = SettledState(*layers)
        super().__init__(
            {
                "facts": In(BurstFacts(*layers)),
                "state": In(state),
                "drive": In(signed(max(layer.weight_bits for layer in layers))),
                "negative": In(1),
                "summed": Out(state["summed"].shape),
                "overflow": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        added = Signal(signed(self.facts.shape().sum_width))
        residual, overflow = saturate_from(added, self.facts.from_sign)
        m.d.comb += [
            added.eq(driven(self.state.summed, self.drive, self.negative)),
            self.summed.eq(residual),
            self.overflow.eq(overflow),
        ]
        return m


class Burst(wiring.Component):
    """The second half: as many spikes as there are whole thresholds in ``R``, within the burst and the limits of the count; ``n``
    of them do ``R <- R - n * theta`` and ``Q <- Q + n``.

    Timing
    ------
    Combinational.

    Parameters
    ----------
    layers : Neurons
        give thresholds, activations, bursts and widths; of several, one is in use at a time
    more_bits : int
        width of how many spikes follow the first

    Members
    -------
    facts : In, BurstFacts
        of the layer in use
    state : In, SettledState
        with the weight added
    update : Out, SettledState
        to be stored
    plus, minus : Out, 1 bit
        1 where spikes of +1, of -1 fire
    more : Out, unsigned
        how many follow the first
    held : Out, 1 bit
        1 where there would be more, but the count is at its end
    """

    def __init__(self, *layers: Neurons, more_bits: int) -> None:
        self._neurons = layers
        self._more_bits = more_bits
        state = SettledState(*layers)
        super().__init__(
            {
                "facts": In(BurstFacts(*layers)),
                "state": In(state),
                "update": Out(state),
                "plus": Out(1),
                "minus": Out(1),
                "more": Out(more_bits),
                "held": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        facts, summed, count = self.facts, self.state.summed, self.state.count
        bits, sign = StoredWidths.of(self._neurons).potential_bits, summed[-1]
        thresholds = facts.shape().thresholds
        m.submodules.take = take = TakeCount(*self._neurons)

        # Towards zero: of a residual below 0, the upper bits are one less where any lower bit is 1.
        found = Signal(signed(bits - thresholds[0] + 1))
        limited = Signal.like(found)
        for number, threshold in enumerate(thresholds):
            with m.If(facts.threshold[number]):
                m.d.comb += found.eq(summed[threshold:].as_signed() + (sign & summed[:threshold].any()))
        m.d.comb += limited.eq(found)
        with m.If(~sign & (found > facts.burst)):
            m.d.comb += limited.eq(facts.burst)
        with m.If(sign & (found < -facts.burst)):
            m.d.comb += limited.eq(-facts.burst)
        m.d.comb += [
            *(take.facts[name].eq(facts[name]) for name in ("most", "least", "signed_count", "ends")),
            take.wanted.eq(limited + count),
            self.held.eq(take.held),
        ]

        # All bits below the threshold stay.
        change = Signal(signed(len(count) + 1))
        spikes = spikes_of(change, self._more_bits)
        m.d.comb += [
            change.eq(take.count - count),
            self.update.count.eq(take.count),
            self.plus.eq(spikes.plus),
            self.minus.eq(spikes.minus),
            self.more.eq(spikes.more),
        ]
        for number, threshold in enumerate(thresholds):
            with m.If(facts.threshold[number]):
                upper = (summed[threshold:].as_signed() - change)[: bits - threshold]
                m.d.comb += self.update.summed.eq(Cat(summed[:threshold], upper).as_signed())
        return m
