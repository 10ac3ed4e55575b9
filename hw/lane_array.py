"""The lanes of a folded machine: of each layer as many as work at once, of which one layer's are in use at a time."""

from amaranth.hdl import Cat, Module, Mux, Shape, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.neuron import Comparison, Lane, NeuronState
from model.folded import WEIGHT_SLOT, FoldedLayer

__all__ = ["LaneArray"]


class LaneArray(wiring.Component):
    """Updates a block of neurons of any one of several layers.

    Operation
    ---------
    Every layer has `hw.neuron.Lane` and `hw.neuron.Comparison` of its own, as widths and thresholds differ: they are small,
    and so they are the same that a pipeline has. What leaves is that of the layer in use.

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
    word : In, of each lane the state before the update (`NeuronState` of the layer, in the lowest bits)
    drive : In, of each lane the weight for a positive event, its one's complement for a negative one
    negative : In, 1 for a negative event
    after : Out, of each lane the state after the update
    count : Out, of each lane the count in it: that of the update before, its spike included; with a sign, in one bit more, where
        a pool compares such counts
    overflow, plus, minus, held : Out, a bit a lane, as of `Lane` and `Comparison`
    """

    def __init__(self, *, layers: tuple[FoldedLayer, ...], lanes: int) -> None:
        self._layers = layers
        self._lanes = lanes
        width = max(layer.state_bits for layer in layers)
        count: Shape = unsigned(max(layer.layer.count_bits for layer in layers))
        if any(layer.pool and not layer.layer.relu for layer in layers):
            # Counts are compared only where a pool follows.
            count = signed(count.width + 1)
        super().__init__(
            {
                "layer": In(range(len(layers))),
                "word": In(data.ArrayLayout(width, lanes)),
                "drive": In(data.ArrayLayout(WEIGHT_SLOT, lanes)),
                "negative": In(1),
                "after": Out(data.ArrayLayout(width, lanes)),
                "count": Out(data.ArrayLayout(count, lanes)),
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
            updates, overflows, fires, counts = [], [], [], []
            for number, layer in enumerate(self._layers):
                neurons = layer.layer
                m.submodules[f"lane_{number}_{lane}"] = update = Lane(layer=neurons)
                m.submodules[f"comparison_{number}_{lane}"] = comparison = Comparison(layer=neurons)
                after = Signal(NeuronState(neurons), name=f"after_{number}_{lane}")
                m.d.comb += [
                    update.state.eq(self.word[lane]),
                    update.drive.eq(self.drive[lane]),
                    update.negative.eq(self.negative),
                    after.eq(self.after[lane]),
                    comparison.state.eq(after),
                ]
                updates.append(update.update.as_value())
                overflows.append(update.overflow)
                fires.append(Cat(comparison.plus, comparison.minus, comparison.held))
                counts.append(after.count)
            m.d.sync += [
                self.after[lane].eq(self._chosen(updates)),
                self.overflow[lane].eq(self._chosen(overflows)),
            ]
            m.d.comb += [
                Cat(self.plus[lane], self.minus[lane], self.held[lane]).eq(self._chosen(fires)),
                self.count[lane].eq(self._chosen(counts)),
            ]
        return m

    def _chosen(self, values: list[Value]) -> Value:
        chosen = values[-1]
        for number in reversed(range(len(values) - 1)):
            chosen = Mux(self.layer == number, values[number], chosen)
        return chosen
