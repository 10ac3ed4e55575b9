"""The neuron lane: Algorithm 1 of the paper in residual form, as gates. Compare `model/neuron.py`."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from model.network import Neurons

__all__ = ["Lane", "NeuronState", "saturate"]


class NeuronState(data.StructLayout):
    """Stored state of one neuron of ``layer``: what its last update left, before its spike is settled.

    A spike of sign ``p`` does ``R <- R - p * theta`` and ``Q <- Q + p``. Storing that it fired, and settling it in the next
    update, takes that subtraction out of the loop: it is made together with the next weight. The sign of the spike is that of
    the sum.

    Members
    -------
    summed : ``R + p * theta``, in units of the potential; the residual ``R`` where it has not fired
    count : ``Q - p``
    fired : 1 where the last update fired
    """

    def __init__(self, layer: Neurons) -> None:
        super().__init__(
            {
                "summed": signed(layer.potential_bits),
                "count": unsigned(layer.count_bits) if layer.relu else signed(layer.count_bits),
                "fired": 1,
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
    unless ``Q`` is at its end; a spike of sign ``p`` does ``R <- R - p * theta`` and ``Q <- Q + p``, which the next update
    settles first (`NeuronState`). The sign of the event comes folded into the weight as its one's complement, so that it
    costs a carry-in; of the weight, only the bits above ``theta`` know of the spike before. So the loop is one addition
    and the comparisons with constants.

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
        state, drive = self.state, self.drive
        width = max(layer.potential_bits, layer.weight_bits)
        below = state.summed[-1]

        # Settle the spike before: of sign p = -1 where the sum is below 0. Adding 1 flips a bit where all lower ones are 1,
        # subtracting 1 where they are 0.
        count = Signal.like(state.count)
        m.d.comb += count.eq(state.count + Cat(state.fired, state.fired & below).as_signed())
        wide = Cat(drive, drive[-1].replicate(max(len(drive), f + 1) + 1 - len(drive)))
        low, upper = wide[:f], wide[f:]
        flips = [state.fired]
        for bit in upper[:-1]:
            flips.append(flips[-1] & (bit == below))
        less_spike = Cat(low, *(bit ^ flip for bit, flip in zip(upper, flips, strict=True))).as_signed()

        # One adder for add and subtract: 1 + negative in the place below the binary point carries in.
        total = (Cat(Const(1, 1), state.summed).as_signed() + Cat(self.negative, less_spike).as_signed())[1 : width + 2]
        residual, overflow = saturate(total.as_signed(), layer.potential_bits)

        # Saturation keeps the order against theta, so both tests can use the sum before it.
        sign, rest, upper = total[-1], total[:f], total[f:-1]
        up = ~sign & upper.any()
        down = sign & ~(upper.all() & rest.any())
        most = count.all() if layer.relu else ~count[-1] & count[:-1].all()
        least = ~count.any() if layer.relu else count[-1] & ~count[:-1].any()
        m.d.comb += [
            self.plus.eq(up & ~most),
            self.minus.eq(down & ~least),
            self.saturated.eq(overflow | (up & most) | (Const(0) if layer.relu else down & least)),
            self.update.summed.eq(residual),
            self.update.count.eq(count),
            self.update.fired.eq(self.plus | self.minus),
        ]
        return m
