"""The lanes of a folded machine: as many neurons as it updates at once, of any one layer at a time."""

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.folded.burst_lane import Burst, BurstFacts, SaturatingAdd
from hw.folded.lane import LayerFacts, LayerSelect, Settle, SettledState, Update
from model.machine.folded_layout import WEIGHT_SLOT, FoldedLayer

__all__ = ["LaneArray"]


class LaneArray(wiring.Component):
    """Updates a block of neurons of any one of several layers.

    Operation
    ---------
    Each lane is `hw.folded.lane.Update`, a register and `Settle`, with the widths and thresholds of all layers, of which one is
    in use.

    Timing
    ------
    All outputs follow ``word`` and ``drive`` by a cycle; ``layer`` has to be there a cycle before them.

    Parameters
    ----------
    layers : tuple of FoldedLayer
        the layers
    lanes : int
        neurons updated at once
    more_bits : int
        width of how many spikes a neuron fires at once beyond its first; 0 where it fires one at most. Otherwise a lane is
        `hw.folded.burst_lane.SaturatingAdd`, a register and `Burst`.

    Members
    -------
    layer : In, range(layers)
        number of the layer in use
    word : In, array of SettledState
        of each lane the state before the update
    drive : In, array of WEIGHT_SLOT bits
        of each lane the weight for a positive event, its one's complement for a negative one
    negative : In, 1 bit
        1 for a negative event
    after : Out, array of SettledState
        of each lane the state after the update
    count : Out, array of counts
        of each lane the count before it
    plus, minus, saturated : Out, a bit per lane
        as of `Update`
    more : Out, array of unsigned
        of each lane how many spikes follow its first; where ``more_bits``
    """

    def __init__(self, *, layers: tuple[FoldedLayer, ...], lanes: int, more_bits: int = 0) -> None:
        self._neurons = tuple(layer.layer for layer in layers)
        self._lanes = lanes
        self._more_bits = more_bits
        state = SettledState(*self._neurons)
        super().__init__(
            {
                "layer": In(range(max(2, len(layers)))),
                "word": In(data.ArrayLayout(state, lanes)),
                "drive": In(data.ArrayLayout(WEIGHT_SLOT, lanes)),
                "negative": In(1),
                "after": Out(data.ArrayLayout(state, lanes)),
                "count": Out(data.ArrayLayout(state["count"].shape, lanes)),
                "plus": Out(lanes),
                "minus": Out(lanes),
                "saturated": Out(lanes),
                **({"more": Out(data.ArrayLayout(unsigned(more_bits), lanes))} if more_bits else {}),
            }
        )

    @property
    def lanes(self) -> int:
        """Neurons updated at once."""
        return self._lanes

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if self._more_bits:
            self._with_bursts(m)
            return m
        m.submodules.select = select = LayerSelect(LayerFacts(*self._neurons))
        m.d.comb += select.layer.eq(self.layer)
        for lane in range(self._lanes):
            m.submodules[f"update_{lane}"] = update = Update(*self._neurons)
            m.submodules[f"settle_{lane}"] = settle = Settle(*self._neurons)
            updated = Signal(self.word.shape().elem_shape, name=f"updated_{lane}")
            m.d.comb += [
                update.facts.eq(select.facts),
                update.state.eq(self.word[lane]),
                update.drive.eq(self.drive[lane]),
                update.negative.eq(self.negative),
                settle.facts.eq(select.facts),
                settle.state.eq(updated),
                settle.plus.eq(self.plus[lane]),
                settle.minus.eq(self.minus[lane]),
                self.after[lane].eq(settle.update),
                self.count[lane].eq(updated.count),
            ]
            m.d.sync += [
                updated.eq(update.update),
                self.plus[lane].eq(update.plus),
                self.minus[lane].eq(update.minus),
                self.saturated[lane].eq(update.saturated),
            ]
        return m

    def _with_bursts(self, m: Module) -> None:
        m.submodules.select = select = LayerSelect(BurstFacts(*self._neurons))
        m.d.comb += select.layer.eq(self.layer)
        for lane in range(self._lanes):
            m.submodules[f"add_{lane}"] = add = SaturatingAdd(*self._neurons)
            m.submodules[f"burst_{lane}"] = burst = Burst(*self._neurons, more_bits=self._more_bits)
            updated, overflow = Signal(self.word.shape().elem_shape, name=f"updated_{lane}"), Signal(name=f"overflow_{lane}")
            m.d.sync += [updated.summed.eq(add.summed), updated.count.eq(self.word[lane].count), overflow.eq(add.overflow)]
            m.d.comb += [
                add.facts.eq(select.facts),
                add.state.eq(self.word[lane]),
                add.drive.eq(self.drive[lane]),
                add.negative.eq(self.negative),
                burst.facts.eq(select.facts),
                burst.state.eq(updated),
                self.after[lane].eq(burst.update),
                self.count[lane].eq(updated.count),
                self.plus[lane].eq(burst.plus),
                self.minus[lane].eq(burst.minus),
                self.more[lane].eq(burst.more),
                self.saturated[lane].eq(overflow | burst.held),
            ]
