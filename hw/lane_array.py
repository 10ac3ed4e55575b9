"""The lanes of a folded machine: as many neurons as it updates at once, of any one layer at a time."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.shared_lane import Fire, SettledState, Sum
from model.folded import WEIGHT_SLOT, FoldedLayer

__all__ = ["LaneArray"]


class LaneArray(wiring.Component):
    """Updates a block of neurons of any one of several layers.

    Operation
    ---------
    Each lane is `hw.shared_lane.Sum`, a register and `Fire`, with the widths and thresholds of all layers, of which one is
    in use.

    Timing
    ------
    All outputs follow `word` and `drive` by a cycle.

    Parameters
    ----------
    layers : the layers
    lanes : neurons updated at once

    Members
    -------
    layer : In, number of the layer in use
    word : In, of each lane the state before the update, a `SettledState` of all layers
    drive : In, of each lane the weight for a positive event, its one's complement for a negative one
    negative : In, 1 for a negative event
    after : Out, of each lane the state after the update
    count : Out, of each lane the count before it
    overflow, plus, minus, held : Out, a bit a lane, as of `Sum` and `Fire`
    """

    def __init__(self, *, layers: tuple[FoldedLayer, ...], lanes: int) -> None:
        self._neurons = tuple(layer.layer for layer in layers)
        self._lanes = lanes
        state = SettledState(*self._neurons)
        super().__init__(
            {
                "layer": In(range(len(layers))),
                "word": In(data.ArrayLayout(state, lanes)),
                "drive": In(data.ArrayLayout(WEIGHT_SLOT, lanes)),
                "negative": In(1),
                "after": Out(data.ArrayLayout(state, lanes)),
                "count": Out(data.ArrayLayout(state["count"].shape, lanes)),
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
        for lane in range(self._lanes):
            m.submodules[f"sum_{lane}"] = added = Sum(*self._neurons)
            m.submodules[f"fire_{lane}"] = fire = Fire(*self._neurons)
            summed = Signal(self.word.shape().elem_shape, name=f"summed_{lane}")
            most, least = Signal(name=f"most_{lane}"), Signal(name=f"least_{lane}")
            m.d.sync += [
                summed.eq(added.update),
                most.eq(added.most),
                least.eq(added.least),
                self.overflow[lane].eq(added.overflow),
            ]
            m.d.comb += [
                added.layer.eq(self.layer),
                added.state.eq(self.word[lane]),
                added.drive.eq(self.drive[lane]),
                added.negative.eq(self.negative),
                fire.layer.eq(self.layer),
                fire.state.eq(summed),
                fire.most.eq(most),
                fire.least.eq(least),
                self.after[lane].eq(fire.update),
                self.count[lane].eq(summed.count),
                Cat(self.plus[lane], self.minus[lane], self.held[lane]).eq(Cat(fire.plus, fire.minus, fire.held)),
            ]
        return m
