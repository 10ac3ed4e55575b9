"""The lane of a folded machine, which its layers share: Algorithm 1 in residual form, in two halves. Compare `model/neuron.py`.

Where updates are not in each other's way there is a register in the middle, and a spike is settled as it is fired: what
`hw.neuron.Lane` does for one layer, in a single cycle, is done here for any one of several.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.neuron import driven, fires, reaches
from model.machine.stored_state import StoredWidths
from model.network import Neurons

__all__ = ["Facts", "LayerFacts", "LayerSelect", "Settle", "SettledState", "Update", "saturate_from"]


class SettledState(data.StructLayout):
    """Stored state of one neuron of any of ``layers``, its last spike settled.

    Parameters
    ----------
    layers : Neurons
        give the widths

    Members
    -------
    summed : signed
        the residual ``R``, in units of the potential
    count : signed or unsigned
        ``Q``
    """

    def __init__(self, *layers: Neurons) -> None:
        widths = StoredWidths.of(layers)
        super().__init__(
            {
                "summed": signed(widths.potential_bits),
                "count": signed(widths.count_bits) if widths.signed else unsigned(widths.count_bits),
            }
        )


class Facts(data.StructLayout):
    """What a lane of some kind has to know of the layer in use, one of ``layers``."""

    layers: tuple[Neurons, ...]

    def of(self, layer: Neurons) -> dict[str, int]:
        """The facts of one of the layers."""
        raise NotImplementedError


class LayerFacts(Facts):
    """What a lane has to know of the layer in use.

    Parameters
    ----------
    layers : Neurons
        the layers that a lane serves

    Members
    -------
    threshold : a bit for each of a potential
        1 at that of the threshold, which is a power of two
    from_threshold : a bit for each of a sum but its sign
        1 at that of the threshold and above
    from_sign : a bit for each of a sum
        1 at those that all equal the sign where the sum fits the layer's ``potential_bits``
    most, least : as wide as a count
        the layer's limits of it
    signed_count : 1 bit
        whether its counts have a sign
    ends : 1 bit
        whether its activation ends at ``most``, where any layer's does: its count is not held there
    """

    def __init__(self, *layers: Neurons) -> None:
        self.layers = layers
        widths = StoredWidths.of(layers)
        self.sum_width = max(widths.potential_bits, *(layer.weight_bits for layer in layers)) + 1
        self.any_ends = any(layer.count_max is not None for layer in layers)
        super().__init__(
            {
                "threshold": widths.potential_bits,
                "from_threshold": self.sum_width - 1,
                "from_sign": self.sum_width,
                "most": widths.count_bits,
                "least": widths.count_bits,
                "signed_count": 1,
                **({"ends": 1} if self.any_ends else {}),
            }
        )

    def of(self, layer: Neurons) -> dict[str, int]:
        """The facts of one of the layers."""
        least, most = layer.count_limits
        return {
            "threshold": layer.theta,
            "from_threshold": _ones(layer.threshold_log2, self.sum_width - 1),
            "from_sign": _ones(layer.potential_bits - 1, self.sum_width),
            "most": most,
            "least": least & _ones(0, self["least"].width),
            "signed_count": int(not layer.relu),
            **({"ends": int(layer.count_max is not None)} if self.any_ends else {}),
        }


def _ones(start: int, stop: int) -> int:
    """Ones from bit ``start`` to before bit ``stop``."""
    return (1 << stop) - (1 << start)


class LayerSelect(wiring.Component):
    """The facts of the layer in use, for all lanes.

    Timing
    ------
    A fact that differs from layer to layer has a register: it is that of the layer a cycle ago. The others are constants.

    Parameters
    ----------
    facts : Facts
        those of the layers of which one is in use at a time

    Members
    -------
    layer : In, range(layers)
        number of the layer in use
    facts : Out, Facts
        what is true of it
    """

    def __init__(self, facts: Facts) -> None:
        super().__init__({"layer": In(range(max(2, len(facts.layers)))), "facts": Out(facts)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        layout = self.facts.shape()
        words = [layout.const(layout.of(layer)).as_value().value for layer in layout.layers]
        bits: list[Value] = []
        for n in range(layout.size):
            numbers = [number for number, word in enumerate(words) if word >> n & 1]
            if len(numbers) in (0, len(words)):
                bits.append(Const(int(bool(numbers)), 1))
                continue
            bits.append(bit := Signal(name=f"fact_{n}", reset_less=True))
            m.d.sync += bit.eq(Cat(self.layer == number for number in numbers).any())
        m.d.comb += self.facts.eq(Cat(bits))
        return m


class Update(wiring.Component):
    """The first half: the weight is added, ``R <- saturate(R + s * W)``, and both comparisons say whether that fires.

    Timing
    ------
    Combinational.

    Parameters
    ----------
    layers : Neurons
        give thresholds, activations and widths; of several, one is in use at a time

    Members
    -------
    facts : In, LayerFacts
        of the layer in use
    state : In, SettledState
        before the update
    drive, negative : In
        as of `hw.neuron.Lane`
    update : Out, SettledState
        with the weight added, its spike not yet settled
    plus, minus : Out, 1 bit
        1 where that fires +1, -1
    saturated : Out, 1 bit
        1 where the residual is held at its end, or the count is and fires no further
    """

    def __init__(self, *layers: Neurons) -> None:
        state = SettledState(*layers)
        super().__init__(
            {
                "facts": In(LayerFacts(*layers)),
                "state": In(state),
                "drive": In(signed(max(layer.weight_bits for layer in layers))),
                "negative": In(1),
                "update": Out(state),
                "plus": Out(1),
                "minus": Out(1),
                "saturated": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        facts, summed, count = self.facts, self.state.summed, self.state.count
        added = Signal(signed(facts.shape().sum_width))
        m.d.comb += added.eq(driven(summed, self.drive, self.negative))
        residual, overflow = saturate_from(added, facts.from_sign)
        # What is held at an end is beyond theta before as after, as theta is within the ends: no need to wait for that.
        sign, rest, upper = added[-1], added[:-1], facts.from_threshold
        at_theta, at_minus_theta = reaches(
            positive=~sign,
            negative=sign,
            upper_any=(rest & upper).any(),
            upper_all=(rest | ~upper).all(),
            lower_any=(rest & ~upper).any(),
        )
        firing = fires(
            at_theta,
            at_minus_theta,
            at_most=count.as_unsigned() == facts.most,
            at_least=count.as_unsigned() == facts.least,
            signed_count=facts.signed_count,
        )
        held = firing.held
        if facts.shape().any_ends:
            held &= ~(facts.ends & at_theta)
        m.d.comb += [
            self.update.summed.eq(residual),
            self.update.count.eq(count),
            self.plus.eq(firing.plus),
            self.minus.eq(firing.minus),
            self.saturated.eq(overflow | held),
        ]
        return m


def saturate_from(value: Value, from_sign: Value) -> tuple[Value, Value]:
    """``value`` held within the width whose sign and further bits ``from_sign`` marks; and whether it was."""
    held = (value & from_sign).any() & ~(value | ~from_sign).all()
    limit = ~(from_sign ^ value[-1].replicate(len(from_sign)))
    return Mux(held, limit, value).as_signed(), held


class Settle(wiring.Component):
    """The second half: a spike of sign ``p`` does ``R <- R - p * theta`` and ``Q <- Q + p``.

    Timing
    ------
    Combinational.

    Parameters
    ----------
    layers : Neurons
        give thresholds and widths; of several, one is in use at a time

    Members
    -------
    facts : In, LayerFacts
        of the layer in use
    state, plus, minus : In
        what `Update` gives
    update : Out, SettledState
        to be stored
    """

    def __init__(self, *layers: Neurons) -> None:
        state = SettledState(*layers)
        super().__init__(
            {"facts": In(LayerFacts(*layers)), "state": In(state), "plus": In(1), "minus": In(1), "update": Out(state)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        facts, summed = self.facts, self.state.summed
        # Adding theta adds its own bit, subtracting it adds all bits from there on.
        width = len(summed)
        theta = (facts.threshold & self.minus.replicate(width)) | (facts.from_threshold[:width] & self.plus.replicate(width))
        m.d.comb += [
            self.update.summed.eq((summed + theta)[:width].as_signed()),
            self.update.count.eq(self.state.count + Cat(self.plus | self.minus, self.minus).as_signed()),
        ]
        return m
