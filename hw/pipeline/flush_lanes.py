"""What a flush fires: the count that each neuron takes, and how far it moves."""

from functools import reduce
from operator import or_

from amaranth.hdl import Module, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.neuron import DeferredState, Flush, spikes_of
from model.network import Neurons

__all__ = ["FlushLanes"]


class FlushLanes(wiring.Component):
    """The lanes of a flush, for a block of channels at one position of one of several banks.

    Operation
    ---------
    A step of a flush reads one position, or one of each column, while a step of an event updates all banks: those that are not
    flushed together share these lanes.

    Timing
    ------
    2 cycles from `states` to what has fired; 3 where banks share it.

    Parameters
    ----------
    layer : Neurons
        The layer that fires.
    channels : int
        Lanes.
    banks : int
        Banks that share them.
    more_bits : int
        As of `hw.aer.SpikeGroup`.

    Members
    -------
    states : In, array of DeferredState
        Of each bank the states that it has read.
    flushed : In
        One-hot, the bank that is flushed; none where there is no flush.
    plus, minus : Out
        Of each lane, whether it has fired.
    saturated : Out
        Of each lane, whether its sum did not fit, or its count was held.
    more : Out
        Of each lane, the spikes beyond the first.
    """

    def __init__(self, *, layer: Neurons, channels: int, banks: int, more_bits: int) -> None:
        self._layer = layer
        self._channels = channels
        self._banks = banks
        self._more_bits = more_bits
        states = data.ArrayLayout(DeferredState(layer), channels)
        super().__init__(
            {
                "states": In(data.ArrayLayout(states, banks)),
                "flushed": In(banks),
                "plus": Out(channels),
                "minus": Out(channels),
                "saturated": Out(channels),
                "more": Out(data.ArrayLayout(unsigned(more_bits), channels)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        states, taken = self.states[0], Signal()
        if self._banks > 1:
            states, visits = Signal(states.shape(), name="chosen", reset_less=True), Signal()
            m.d.sync += [
                visits.eq(self.flushed.any()),
                states.eq(
                    reduce(
                        or_,
                        (
                            self.states[bank].as_value() & self.flushed[bank].replicate(states.shape().size)
                            for bank in range(self._banks)
                        ),
                    )
                ),
            ]
        else:
            visits = self.flushed
        m.d.sync += taken.eq(visits)
        for lane in range(self._channels):
            m.submodules[f"flush_{lane}"] = flush = Flush(layer=self._layer)
            before, after = (
                Signal(flush.count.shape(), name=f"{name}_{lane}", reset_less=True) for name in ("before", "after")
            )
            held = Signal(name=f"held_{lane}", reset_less=True)
            change = Signal(signed(len(before) + 1), name=f"change_{lane}")
            m.d.comb += [flush.state.eq(states[lane]), change.eq(after - before)]
            m.d.sync += [before.eq(states[lane].count), after.eq(flush.count), held.eq(flush.held)]
            self._fire(m, lane, taken, change, held)
        return m

    def _fire(self, m: Module, lane: int, taken: Value, change: Value, held: Value) -> None:
        """Tell what one lane's count has moved by."""
        plus, minus, saturated = (Signal(name=f"{name}_{lane}", reset_less=True) for name in ("plus", "minus", "saturated"))
        more = Signal(self._more_bits, name=f"more_{lane}", reset_less=True)
        spikes = spikes_of(change, self._more_bits)
        m.d.sync += [
            plus.eq(spikes.plus & taken),
            minus.eq(spikes.minus & taken),
            saturated.eq(held & taken),
            more.eq(spikes.more & taken.replicate(self._more_bits)),
        ]
        m.d.comb += [
            self.plus[lane].eq(plus),
            self.minus[lane].eq(minus),
            self.saturated[lane].eq(saturated),
            self.more[lane].eq(more),
        ]
