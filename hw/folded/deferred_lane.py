"""The lane of a folded machine whose neurons fire deferred: an event adds, a flush says which count is taken.

What `hw.neuron.DeferredLane` and `hw.neuron.Flush` do for one layer is done here for any one of several. Compare
`model.neuron.accumulate_residual` and `model.neuron.flush_residual`.
"""

from amaranth.hdl import Const, Module, Mux, Shape, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.folded.lane import Facts
from hw.neuron import driven, even_half
from model.machine.stored_state import StoredWidths
from model.network import Neurons

__all__ = ["Accumulate", "DeferredFacts", "IntegratedState", "TakeCount", "WantedCount"]


class IntegratedState(data.StructLayout):
    """State of one neuron of any of ``layers``.

    Parameters
    ----------
    layers : Neurons
        give the widths

    Members
    -------
    summed : signed
        ``R``, a bit wider than the widest potential: it wraps; of a layer that is narrower what it wraps to is in its lower bits
    count : signed or unsigned
        ``Q``
    """

    def __init__(self, *layers: Neurons) -> None:
        widths = StoredWidths.of(layers)
        super().__init__(
            {
                "summed": signed(widths.potential_bits + 1),
                "count": signed(widths.count_bits) if widths.signed else unsigned(widths.count_bits),
            }
        )


class DeferredFacts(Facts):
    """What a lane has to know of the layer in use.

    Parameters
    ----------
    layers : Neurons
        the layers that a lane serves

    Attributes
    ----------
    forms : list of tuple
        the places of a threshold in a residual and of that residual's guard bit that there are

    Members
    -------
    form : a bit for each of ``forms``
        1 at that of the layer
    most, least : signed
        the layer's limits of a count
    signed_count : 1 bit
        whether its counts have a sign
    ends : 1 bit
        whether its activation ends at ``most``, where its count is not held then
    even : 1 bit
        whether it rounds halves to even; only where one of the layers does
    """

    def __init__(self, *layers: Neurons) -> None:
        self.layers = layers
        self.forms = sorted({_form(layer) for layer in layers})
        count = signed(StoredWidths.of(layers).count_bits + 1)
        self.any_even = any(layer.halves_to_even for layer in layers)
        even = {"even": 1} if self.any_even else {}
        super().__init__({"form": len(self.forms), "most": count, "least": count, "signed_count": 1, "ends": 1, **even})

    def of(self, layer: Neurons) -> dict[str, int]:
        """The facts of one of the layers."""
        least, most = layer.count_limits
        return {
            "form": 1 << self.forms.index(_form(layer)),
            "most": most,
            "least": least,
            "signed_count": int(not layer.relu),
            "ends": int(layer.count_max is not None),
            **({"even": int(layer.halves_to_even)} if self.any_even else {}),
        }


def _form(layer: Neurons) -> tuple[int, int]:
    return layer.threshold_log2, layer.potential_bits


def _wanted(*layers: Neurons) -> Shape:
    """Of a count before it is held within its limits."""
    widths = StoredWidths.of(layers)
    spikes = max(widths.potential_bits + 1 - layer.threshold_log2 for layer in layers)
    return signed(max(spikes, widths.count_bits + 1) + 1)


class Accumulate(wiring.Component):
    """What an event does to a neuron: it adds.

    Timing
    ------
    Combinational.

    Parameters
    ----------
    layers : Neurons
        give the widths

    Members
    -------
    state : In, IntegratedState
        before
    drive, negative : In
        as of `hw.neuron.DeferredLane`
    summed : Out, signed
        the residual after
    """

    def __init__(self, *layers: Neurons) -> None:
        state = IntegratedState(*layers)
        super().__init__(
            {
                "state": In(state),
                "drive": In(signed(max(layer.weight_bits for layer in layers))),
                "negative": In(1),
                "summed": Out(state["summed"].shape),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.summed.eq(driven(self.state.summed, self.drive, self.negative))
        return m


class WantedCount(wiring.Component):
    """The first half of a flush: the whole thresholds in a neuron's potential, rounded down.

    Timing
    ------
    Combinational.

    Parameters
    ----------
    layers : Neurons
        give thresholds and widths; of several, one is in use at a time

    Members
    -------
    facts : In, DeferredFacts
        of the layer in use
    state : In, IntegratedState
    wanted : Out, signed
        the count that this would be
    outside : Out, 1 bit
        1 where the sum does not fit the layer's ``potential_bits``
    """

    def __init__(self, *layers: Neurons) -> None:
        super().__init__(
            {
                "facts": In(DeferredFacts(*layers)),
                "state": In(IntegratedState(*layers)),
                "wanted": Out(_wanted(*layers)),
                "outside": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        facts, summed = self.facts, self.state.summed
        forms = facts.shape().forms
        spikes = Signal(signed(max(guard + 1 - threshold for threshold, guard in forms)))
        rest = Signal(name="rest") if facts.shape().any_even else None
        for number, (threshold, guard) in enumerate(forms):
            with m.If(facts.form[number] if len(forms) > 1 else Const(1)):
                # One bit is more than fits.
                m.d.comb += [
                    spikes.eq(summed[threshold : guard + 1].as_signed()),
                    self.outside.eq(summed[guard] ^ summed[guard - 1]),
                ]
                if rest is not None:
                    m.d.comb += rest.eq(summed[:threshold].any())
        whole = spikes + self.state.count
        if rest is not None:
            whole = even_half(whole, rest | ~facts.even)
        m.d.comb += self.wanted.eq(whole)
        return m


class TakeCount(wiring.Component):
    """The second half of a flush: the count that the neuron takes, within its limits.

    Timing
    ------
    Combinational.

    Parameters
    ----------
    layers : Neurons
        give activations and widths; of several, one is in use at a time

    Members
    -------
    facts : In, DeferredFacts
        of the layer in use
    wanted, outside : In
        what `WantedCount` gives
    count : Out
        ``Q`` after the flush
    held : Out, 1 bit
        1 where the sum did not fit, or the count is held at its end
    """

    def __init__(self, *layers: Neurons) -> None:
        super().__init__(
            {
                "facts": In(DeferredFacts(*layers)),
                "wanted": In(_wanted(*layers)),
                "outside": In(1),
                "count": Out(IntegratedState(*layers)["count"].shape),
                "held": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        facts, wanted = self.facts, self.wanted
        above, below = Signal(), Signal()
        m.d.comb += [
            above.eq(wanted > facts.most),
            below.eq(wanted < facts.least),
            self.count.eq(Mux(above, facts.most, Mux(below, facts.least, wanted))),
            # An activation that has an end does not go beyond it, nor does one that is 0.
            self.held.eq(self.outside | (above & ~facts.ends) | (below & facts.signed_count)),
        ]
        return m
