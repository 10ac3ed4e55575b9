"""The neuron lane: Algorithm 1 of the paper in residual form, as gates. Compare `model/neuron.py`."""

from collections.abc import Iterable, Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from model.network import Neurons
from model.neuron import StoredWidths

__all__ = ["Comparison", "Lane", "NeuronState"]


class NeuronState(data.StructLayout):
    """Stored state of one neuron of any of ``layers``: what its last update left, before its spike is settled.

    A spike of sign ``p`` does ``R <- R - p * theta`` and ``Q <- Q + p``. Whether a neuron fires follows from what is stored, so
    that comparing and settling can wait: the next update does both while it adds its weight.

    Members
    -------
    summed : ``R`` after the last weight was added, in units of the potential
    count : ``Q`` before the spike of that update
    updated : 0 where there was no update yet in this frame, and hence no spike, whatever the bias
    """

    def __init__(self, *layers: Neurons) -> None:
        widths = StoredWidths.of(layers)
        super().__init__(
            {
                "summed": signed(widths.potential_bits),
                "count": signed(widths.count_bits) if widths.signed else unsigned(widths.count_bits),
                "updated": 1,
            }
        )


class _InUse:
    """What is true of the layer in use: a constant where it is so of all layers that there are."""

    def __init__(self, layers: Sequence[Neurons], number: Value) -> None:
        self._layers = layers
        self._number = number

    def __call__(self, of_layers: Iterable[bool]) -> Value:
        found = list(of_layers)
        if len(set(found)) == 1:
            return Const(int(found[0]), 1)
        return Cat(self._number == n for n, is_true in enumerate(found) if is_true).any()

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


class Comparison(wiring.Component):
    """Whether a neuron fires: both comparisons of Algorithm 1.

    Operation
    ---------
    +1 where ``R >= theta``, -1 where ``R <= -theta`` (ReLU: and ``Q >= 1``), unless ``Q`` is at its end. Constants that are
    powers of two: a few gates on the upper bits.

    Timing
    ------
    Combinational.

    Parameters
    ----------
    layers : give threshold, activation and widths; of several, one is in use at a time

    Members
    -------
    layer : In, number of the layer in use
    state : In, `NeuronState` after an update
    plus, minus : Out, 1 where that update fires +1, -1
    held : Out, 1 where it would, but the count is at its end
    """

    def __init__(self, *layers: Neurons) -> None:
        self._layers = layers
        super().__init__(
            {"layer": In(range(len(layers))), "state": In(NeuronState(*layers)), "plus": Out(1), "minus": Out(1), "held": Out(1)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        in_use = _InUse(self._layers, self.layer)
        summed, count = self.state.summed, self.state.count
        sign = summed[-1]
        # Of each bit, whether it is that of theta or above.
        from_theta = [in_use(n >= layer.threshold_log2 for layer in self._layers) for n in range(len(summed) - 1)]
        bits = list(zip(summed, from_theta, strict=False))
        up, down = Signal(), Signal()
        most = in_use.equals(count, [layer.count_limits[1] for layer in self._layers])
        least = in_use.equals(count, [layer.count_limits[0] for layer in self._layers])
        signed_count = in_use(not layer.relu for layer in self._layers)
        m.d.comb += [
            up.eq(self.state.updated & ~sign & Cat(bit & upper for bit, upper in bits).any()),
            down.eq(
                self.state.updated
                & sign
                & ~(Cat(bit | ~upper for bit, upper in bits).all() & Cat(bit & ~upper for bit, upper in bits).any())
            ),
            self.plus.eq(up & ~most),
            self.minus.eq(down & ~least),
            self.held.eq((up & most) | (down & least & signed_count)),
        ]
        return m


class Lane(wiring.Component):
    """One neuron update: Algorithm 1, in residual form.

    Operation
    ---------
    The spike of the update before is settled: of sign ``p``, it does ``R <- R - p * theta`` and ``Q <- Q + p``. Then ``R <-
    saturate(R + s * W)``. Whether this update fires in turn is a `Comparison` of what it leaves.

    The sign of the event comes folded into the weight as its one's complement, so that it costs a carry-in. The weight is added
    while it is found whether there is a spike to settle, which then changes only the bits from ``theta`` on.

    Timing
    ------
    Combinational.

    Parameters
    ----------
    layers : give threshold, activation and widths; of several, one is in use at a time

    Members
    -------
    layer : In, number of the layer in use
    state : In, `NeuronState` before the update
    drive : In, ``W`` for a positive event, ``~W`` for a negative one
    negative : In, 1 for a negative event
    update : Out, `NeuronState` after the update
    overflow : Out, 1 where the residual was held at its end
    """

    def __init__(self, *layers: Neurons) -> None:
        self._layers = layers
        state = NeuronState(*layers)
        super().__init__(
            {
                "layer": In(range(len(layers))),
                "state": In(state),
                "drive": In(signed(max(layer.weight_bits for layer in layers))),
                "negative": In(1),
                "update": Out(state),
                "overflow": Out(1),
            }
        )

    @property
    def layers(self) -> tuple[Neurons, ...]:
        """The layers whose neurons these are."""
        return self._layers

    def elaborate(self, platform: object) -> Module:
        m = Module()
        in_use = _InUse(self._layers, self.layer)
        m.submodules.before = before = Comparison(*self._layers)
        m.d.comb += [before.layer.eq(self.layer), before.state.eq(self.state)]
        plus, minus = before.plus, before.minus

        # One adder for add and subtract: 1 + negative in the place below the binary point carries in.
        bits = len(self.state.summed)
        width = max(bits, len(self.drive)) + 1
        added = Signal(signed(width))
        both = Cat(Const(1, 1), self.state.summed).as_signed() + Cat(self.negative, self.drive).as_signed()
        m.d.comb += added.eq(both[1:].as_signed())

        # The spike before: theta less or more. Adding theta is its own bit, subtracting it has all bits from there on.
        lowest = min(layer.threshold_log2 for layer in self._layers)
        theta = Cat(
            (in_use(n == layer.threshold_log2 for layer in self._layers) & minus)
            | (in_use(n >= layer.threshold_log2 for layer in self._layers) & plus)
            for n in range(lowest, width)
        )
        settled = Signal(signed(width))
        m.d.comb += settled.eq(Cat(added[:lowest], (added[lowest:] + theta)[: width - lowest]))
        residual, overflow = in_use.saturate(settled, bits)
        m.d.comb += [
            self.update.summed.eq(residual),
            self.update.count.eq(self.state.count + Cat(plus | minus, minus).as_signed()),
            self.update.updated.eq(1),
            self.overflow.eq(overflow),
        ]
        return m
