"""The lane of a folded machine, which its layers share: Algorithm 1 in residual form, in two halves. Compare `model/neuron.py`.

Where updates are not in each other's way there is a register in the middle, and a spike is settled as it is fired: what
`hw/neuron.py` does for one layer, in a single cycle, is done here for any one of several.
"""

from collections.abc import Iterable, Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.neuron import fires, reaches
from model.machine.stored_state import StoredWidths
from model.network import Neurons

__all__ = ["Settle", "SettledState", "Update"]


class SettledState(data.StructLayout):
    """Stored state of one neuron of any of ``layers``, its last spike settled.

    Members
    -------
    summed : the residual ``R``, in units of the potential
    count : ``Q``
    """

    def __init__(self, *layers: Neurons) -> None:
        widths = StoredWidths.of(layers)
        super().__init__(
            {
                "summed": signed(widths.potential_bits),
                "count": signed(widths.count_bits) if widths.signed else unsigned(widths.count_bits),
            }
        )


class _InUse:
    """What is true of the layer in use: a constant where it is so of all layers that there are.

    Of several layers, each fact has a register: it is that of the layer a cycle ago.
    """

    def __init__(self, m: Module, layers: Sequence[Neurons], number: Value) -> None:
        self._m = m
        self._layers = layers
        self._number = number
        self._facts: dict[tuple[bool, ...], Value] = {}

    def __call__(self, of_layers: Iterable[bool]) -> Value:
        found = tuple(of_layers)
        if len(set(found)) == 1:
            return Const(int(found[0]), 1)
        if found not in self._facts:
            self._facts[found] = fact = Signal(name="fact_" + "".join(str(int(is_true)) for is_true in found), reset_less=True)
            self._m.d.sync += fact.eq(Cat(self._number == n for n, is_true in enumerate(found) if is_true).any())
        return self._facts[found]

    def ends(self, count: Value) -> tuple[Value, Value]:
        """Whether ``count`` is the most, the least that there is."""
        least, most = zip(*(layer.count_limits for layer in self._layers), strict=True)
        return self.equals(count, most), self.equals(count, least)

    def compare(self, summed: Value) -> tuple[Value, Value]:
        """Whether ``R >= theta``, whether ``R <= -theta``."""
        sign = summed[-1]
        # Of each bit, whether it is that of theta or above.
        from_theta = [self(n >= layer.threshold_log2 for layer in self._layers) for n in range(len(summed) - 1)]
        bits = list(zip(summed, from_theta, strict=False))
        above = Cat(bit & upper for bit, upper in bits).any()
        return reaches(
            positive=~sign,
            negative=sign,
            upper_any=above,
            upper_all=Cat(bit | ~upper for bit, upper in bits).all(),
            lower_any=Cat(bit & ~upper for bit, upper in bits).any(),
        )

    def equals(self, value: Value, of_layers: Sequence[int]) -> Value:
        """Whether ``value`` is the number of that layer."""
        wanted = [self(bool(number >> n & 1) for number in of_layers) for n in range(len(value))]
        return Cat(~(value[n] ^ bit) for n, bit in enumerate(wanted)).all()

    def saturate(self, value: Value, width: int) -> tuple[Value, Value]:
        """``value`` (signed, wider than ``width``) held within the layer's ``potential_bits``; and whether it was."""
        least = min(layer.potential_bits for layer in self._layers) - 1
        at_top = [self(n >= layer.potential_bits - 1 for layer in self._layers) for n in range(least, len(value))]
        top = list(zip(value[least:], at_top, strict=True))
        sign = value[-1]
        held = Cat(bit & at for bit, at in top).any() & ~Cat(bit | ~at for bit, at in top).all()
        limit = Cat((~sign).replicate(least), *(~(sign ^ at) for at in at_top))
        return Mux(held, limit[:width], value[:width]).as_signed(), held

    def settle(self, value: Value, plus: Value, minus: Value) -> Value:
        """``value`` less theta where ``plus``, more where ``minus``, as wide as it is: it changes from the bit of theta on."""
        lowest = min(layer.threshold_log2 for layer in self._layers)
        # Adding theta is its own bit, subtracting it has all bits from there on.
        theta = Cat(
            (self(n == layer.threshold_log2 for layer in self._layers) & minus)
            | (self(n >= layer.threshold_log2 for layer in self._layers) & plus)
            for n in range(lowest, len(value))
        )
        return Cat(value[:lowest], (value[lowest:] + theta)[: len(value) - lowest]).as_signed()


class Update(wiring.Component):
    """The first half: the weight is added, ``R <- saturate(R + s * W)``, and both comparisons say whether that fires.

    Timing
    ------
    Combinational; ``layer`` has to be there a cycle before.

    Parameters
    ----------
    layers : give thresholds, activations and widths; of several, one is in use at a time

    Members
    -------
    layer : In, number of the layer in use
    state : In, `SettledState`
    drive, negative : In, as of `hw.neuron.Lane`
    update : Out, `SettledState` with the weight added, its spike not yet settled
    plus, minus : Out, 1 where that fires +1, -1
    saturated : Out, 1 where the residual is held at its end, or the count is and fires no further
    """

    def __init__(self, *layers: Neurons) -> None:
        self._layers = layers
        state = SettledState(*layers)
        super().__init__(
            {
                "layer": In(range(len(layers))),
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
        in_use = _InUse(m, self._layers, self.layer)
        summed, count = self.state.summed, self.state.count
        # One adder for add and subtract: 1 + negative in the place below the binary point carries in.
        both = Cat(Const(1, 1), summed).as_signed() + Cat(self.negative, self.drive).as_signed()
        added = Signal(signed(max(len(summed), len(self.drive)) + 1))
        m.d.comb += added.eq(both[1:].as_signed())
        residual, overflow = in_use.saturate(added, len(summed))
        # What is held at an end is beyond theta before as after, as theta is within the ends: no need to wait for that.
        up, down = in_use.compare(added)
        most, least = in_use.ends(count)
        firing = fires(
            up, down, most=most, least=least, signed_count=in_use(not layer.relu for layer in self._layers)
        )
        m.d.comb += [
            self.update.summed.eq(residual),
            self.update.count.eq(count),
            self.plus.eq(firing.plus),
            self.minus.eq(firing.minus),
            self.saturated.eq(overflow | firing.held),
        ]
        return m


class Settle(wiring.Component):
    """The second half: a spike of sign ``p`` does ``R <- R - p * theta`` and ``Q <- Q + p``.

    Timing
    ------
    Combinational; ``layer`` has to be there a cycle before.

    Parameters
    ----------
    layers : give thresholds and widths; of several, one is in use at a time

    Members
    -------
    layer : In, number of the layer in use
    state, plus, minus : In, what `Update` gives
    update : Out, `SettledState` to be stored
    """

    def __init__(self, *layers: Neurons) -> None:
        self._layers = layers
        state = SettledState(*layers)
        super().__init__(
            {"layer": In(range(len(layers))), "state": In(state), "plus": In(1), "minus": In(1), "update": Out(state)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        in_use = _InUse(m, self._layers, self.layer)
        m.d.comb += [
            self.update.summed.eq(in_use.settle(self.state.summed, self.plus, self.minus)),
            self.update.count.eq(self.state.count + Cat(self.plus | self.minus, self.minus).as_signed()),
        ]
        return m
