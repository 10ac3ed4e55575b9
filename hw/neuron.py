"""The neuron lane: Algorithm 1 of the paper in residual form, as gates. Compare `model/neuron.py`."""

from amaranth.hdl import Cat, Const, Module, Mux, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from model.network import Neurons

__all__ = ["Lane", "NeuronState", "saturate"]


class NeuronState(data.StructLayout):
    """Stored state of one neuron of ``layer``.

    Members
    -------
    residual : ``R = V - Q * theta``, in units of the potential
    count : spike count ``Q``
    """

    def __init__(self, layer: Neurons) -> None:
        super().__init__(
            {
                "residual": signed(layer.potential_bits),
                "count": unsigned(layer.count_bits) if layer.relu else signed(layer.count_bits),
            }
        )


def saturate(value: Value, width: int) -> tuple[Value, Value]:
    """``value`` (signed, wider than ``width`` by one bit or more) held within ``signed(width)``; and whether it was."""
    top = value[width - 1 :]
    held = top.any() & ~top.all()
    sign = value[-1]
    limit = Cat((~sign).replicate(width - 1), sign)
    return Mux(held, limit, value[:width]).as_signed(), held


class Lane(wiring.Component):
    """One neuron update.

    Operation
    ---------
    ``R <- saturate(R + s * W)``; fire +1 where ``R >= theta``, -1 where ``R <= -theta`` (ReLU: and ``Q >= 1``),
    unless ``Q`` is at its end; a spike of sign ``p`` does ``R <- R - p * theta`` and ``Q <- Q + p``. The sign of the
    event comes folded into the weight as its one's complement, so that it costs a carry-in.

    Timing
    ------
    Combinational.

    Parameters
    ----------
    layer : gives threshold, activation and widths

    Members
    -------
    state : In, `NeuronState` before the update
    drive : In, ``W`` for a positive event, ``~W`` for a negative one
    negative : In, 1 for a negative event
    update : Out, `NeuronState` after the update
    plus, minus : Out, 1 where the neuron fires +1, -1
    saturated : Out, 1 where the residual or the count was held at its end
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
                "plus": Out(1),
                "minus": Out(1),
                "saturated": Out(1),
            }
        )

    @property
    def layer(self) -> Neurons:
        """The layer whose neuron this is."""
        return self._layer

    def elaborate(self, platform: object) -> Module:
        m = Module()
        layer, f = self._layer, self._layer.threshold_log2
        width = max(layer.potential_bits, layer.weight_bits)
        count = self.state.count

        # One adder for add and subtract: 1 + negative in the place below the binary point carries in.
        summed = Cat(Const(1, 1), self.state.residual).as_signed() + Cat(self.negative, self.drive).as_signed()
        total = summed[1 : width + 2].as_signed()
        residual, overflow = saturate(total, layer.potential_bits)

        # Saturation keeps the order against theta, so both tests can use the sum before it.
        sign, low = total[-1], total[:f]
        upper = total[f:-1]
        up = ~sign & upper.any()
        down = sign & ~(upper.all() & low.any())
        most = count.all() if layer.relu else ~count[-1] & count[:-1].all()
        least = ~count.any() if layer.relu else count[-1] & ~count[:-1].any()
        fired = self.plus | self.minus
        m.d.comb += [
            self.plus.eq(up & ~most),
            self.minus.eq(down & ~least),
            self.saturated.eq(overflow | (up & most) | (Const(0) if layer.relu else down & least)),
            self.update.residual.eq(Cat(residual[:f], residual[f:].as_signed() + Cat(fired, self.plus).as_signed())),
            self.update.count.eq(count + Cat(fired, self.minus).as_signed()),
        ]
        return m
