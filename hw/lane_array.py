"""The lanes of a folded machine: as many neurons as it updates at once, of any one layer at a time."""

from amaranth.hdl import Cat, Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.neuron import Comparison, Lane, NeuronState
from model.folded import WEIGHT_SLOT, FoldedLayer

__all__ = ["LaneArray"]


class LaneArray(wiring.Component):
    """Updates a block of neurons of any one of several layers.

    Operation
    ---------
    Each lane is `hw.neuron.Lane` and `hw.neuron.Comparison` with the widths and thresholds of all layers, of which one is in use.

    Timing
    ------
    `after` and `overflow` follow `word` and `drive` by a cycle; what fires follows `after` in the same cycle.

    Parameters
    ----------
    layers : the layers
    lanes : neurons updated at once

    Members
    -------
    layer : In, number of the layer in use
    word : In, of each lane the state before the update, a `NeuronState` of all layers
    drive : In, of each lane the weight for a positive event, its one's complement for a negative one
    negative : In, 1 for a negative event
    after : Out, of each lane the state after the update: its count is that of the update before, its spike included
    overflow, plus, minus, held : Out, a bit a lane, as of `Lane` and `Comparison`
    """

    def __init__(self, *, layers: tuple[FoldedLayer, ...], lanes: int) -> None:
        self._neurons = tuple(layer.layer for layer in layers)
        self._lanes = lanes
        state = NeuronState(*self._neurons)
        super().__init__(
            {
                "layer": In(range(len(layers))),
                "word": In(data.ArrayLayout(state, lanes)),
                "drive": In(data.ArrayLayout(WEIGHT_SLOT, lanes)),
                "negative": In(1),
                "after": Out(data.ArrayLayout(state, lanes)),
                "overflow": Out(lanes),
                "plus": Out(lanes),
                "minus": Out(lanes),
                "held": Out(lanes),
            }
        )

    @property
    def lanes(self) -> int:
        """Neurons updated at once."""
        return self._lanes

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for number in range(self._lanes):
            m.submodules[f"lane_{number}"] = lane = Lane(*self._neurons)
            m.submodules[f"comparison_{number}"] = comparison = Comparison(*self._neurons)
            m.d.comb += [
                lane.layer.eq(self.layer),
                lane.state.eq(self.word[number]),
                lane.drive.eq(self.drive[number]),
                lane.negative.eq(self.negative),
                comparison.layer.eq(self.layer),
                comparison.state.eq(self.after[number]),
                Cat(self.plus[number], self.minus[number], self.held[number]).eq(
                    Cat(comparison.plus, comparison.minus, comparison.held)
                ),
            ]
            m.d.sync += [self.after[number].eq(lane.update), self.overflow[number].eq(lane.overflow)]
        return m
