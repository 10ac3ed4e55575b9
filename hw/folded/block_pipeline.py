"""The pipeline through memories and lanes: a block of neurons is read, updated and written."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.folded.lane import SettledState
from hw.folded.lane_array import LaneArray
from hw.folded.layouts import Place, Step
from hw.folded.memories import BlockPort
from hw.folded.tables import InitialStates
from model.machine.folded_layout import WEIGHT_SLOT, Folded

__all__ = ["BlockPipeline", "BlockRequest"]


class BlockRequest(data.StructLayout):
    """What is to be done with a block.

    Parameters
    ----------
    folded : Folded
        the machine's layers

    Members
    -------
    valid : 1 bit
        1 where there is anything to do: with neither of the next two, the block is updated
    compare : 1 bit
        its counts are only read, to be compared with those of the block that fired
    fired_itself : 1 bit
        it is the block that fired: with ``compare`` there is nothing to do
    collect : 1 bit
        its counts are only read, for the answer
    step : Step
        the block
    """

    def __init__(self, folded: Folded) -> None:
        super().__init__({"valid": 1, "compare": 1, "fired_itself": 1, "collect": 1, "step": Step(folded)})


class BlockPipeline(wiring.Component):
    """Reads, updates and writes blocks of neurons.

    Operation
    ---------
    Blocks follow each other without looking at what fires. A block that fires drops those after it, before they are written; they
    are to be requested again.

    Timing
    ------
    ======================================================= ======================
    what                                                    cycles after `request`
    ======================================================= ======================
    states and weights are there                            1
    they are at the lanes; ``states``                       2
    the block is written; ``compares``, ``collects``        3
    ``fires``                                               4
    ======================================================= ======================

    Parameters
    ----------
    folded : Folded
        the machine's layers and memories

    Members
    -------
    layer : In, range(layers)
        number of the layer in use
    negative : In, 1 bit
        1 for a negative event
    last_block : In, unsigned
        number of the last block at each position of that layer
    request : In, BlockRequest
    y, x : In, unsigned
        position of the block that is read: that of its step, or with ``compare`` of the window
    memory : Out, BlockPort
    states : Out, array of SettledState
        of each lane, before the update
    compares, collects : Out, 1 bit
        1 where ``counts`` are those of a block that was requested for that
    counts : Out, array of counts
        of each lane
    saturates : Out, 1 bit
        1 where something saturated in a block
    fires : Out, 1 bit
        1 in the cycle after a block was written that fires
    plus, minus : Out, a bit per lane
        what fires
    fired_step : Out, Step
        that block
    highest : Out, array of counts
        of each lane of it, the greater of its counts before and after
    busy : Out, 1 bit
        1 while blocks are on their way that are not written yet
    writing : Out, 1 bit
        1 while one is at its last stage
    more : Out, array of unsigned
        of each lane how many spikes follow its first; where neurons fire several at once
    """

    def __init__(self, *, folded: Folded) -> None:
        self._folded = folded
        self._state = state = SettledState(*(la.layer for la in folded.layers))
        step, lanes = Step(folded), folded.lanes
        counts = data.ArrayLayout(state["count"].shape, lanes)
        super().__init__(
            {
                "layer": In(range(max(2, len(folded.layers)))),
                "negative": In(1),
                "last_block": In(step["block"].shape),
                "request": In(BlockRequest(folded)),
                "y": In(step["y"].shape),
                "x": In(step["x"].shape),
                "memory": Out(BlockPort(folded)),
                "states": Out(data.ArrayLayout(state, lanes)),
                "compares": Out(1),
                "collects": Out(1),
                "counts": Out(counts),
                "saturates": Out(1),
                "fires": Out(1),
                "plus": Out(lanes),
                "minus": Out(lanes),
                "fired_step": Out(step),
                "highest": Out(counts),
                "busy": Out(1),
                "writing": Out(1),
                **({"more": Out(data.ArrayLayout(unsigned(folded.more_bits), lanes))} if folded.more_bits else {}),
            }
        )

    @property
    def folded(self) -> Folded:
        """The machine's layers and memories."""
        return self._folded

    def elaborate(self, platform: object) -> Module:
        m = Module()
        folded, memory, request = self._folded, self.memory, self.request
        m.submodules.lanes = lanes = LaneArray(layers=folded.layers, lanes=folded.lanes, more_bits=folded.more_bits)
        m.submodules.initial = initial = InitialStates(folded=folded)

        # The stages, and where the block of each lies.
        request_layout, place_layout = BlockRequest(folded), Place(folded)
        loaded, updated, done = (Signal(request_layout, name=name) for name in ("loaded", "updated", "done"))
        places = [Signal(place_layout, name=f"{name}_place") for name in ("loaded", "updated", "done")]
        m.d.sync += [
            *(after.eq(before) for before, after in zip((request, loaded, updated), (loaded, updated, done), strict=True)),
            *(after.eq(before) for before, after in zip((memory.place, *places[:-1]), places, strict=True)),
        ]
        with m.If(self.fires):
            m.d.sync += [stage.valid.eq(0) for stage in (loaded, updated, done)]
        m.d.comb += [self.busy.eq(loaded.valid | updated.valid), self.writing.eq(done.valid)]

        # From memory to the lanes.
        m.d.comb += [
            memory.y.eq(self.y),
            memory.x.eq(self.x),
            memory.block.eq(request.step.block),
            memory.weight.eq(request.step.weight),
            initial.layer.eq(self.layer),
            initial.block.eq(loaded.step.block),
            lanes.layer.eq(self.layer),
            lanes.negative.eq(self.negative),
            self.states.eq(lanes.word),
        ]
        if initial.by_position:
            m.d.comb += [initial.y.eq(self.y), initial.x.eq(self.x)]
        for lane in range(folded.lanes):
            word, drive = Signal(self._state, name=f"word_{lane}"), Signal(WEIGHT_SLOT, name=f"drive_{lane}")
            m.d.sync += [
                word.eq(Mux(memory.stale, initial.states[lane].as_value(), memory.states[lane].as_value())),
                drive.eq(memory.weights[lane] ^ self.negative.replicate(WEIGHT_SLOT)),
            ]
            m.d.comb += [lanes.word[lane].eq(word), lanes.drive[lane].eq(drive)]

        # From the lanes to memory.
        m.d.comb += [
            memory.write.eq(done.valid & ~done.compare & ~done.collect & ~self.fires),
            memory.write_place.eq(places[-1]),
            memory.write_states.eq(lanes.after),
            memory.completes.eq(done.step.block == self.last_block),
            self.counts.eq(lanes.count),
            self.compares.eq(done.valid & done.compare & ~done.fired_itself),
            self.collects.eq(done.valid & done.collect),
            self.saturates.eq(memory.write & lanes.saturated.any()),
        ]

        # What fires.
        m.d.sync += [
            self.plus.eq(lanes.plus & memory.write.replicate(folded.lanes)),
            self.minus.eq(lanes.minus & memory.write.replicate(folded.lanes)),
        ]
        m.d.comb += self.fires.eq((self.plus | self.minus).any())
        with m.If(memory.write):
            m.d.sync += [
                self.fired_step.eq(done.step),
                *(self.highest[lane].eq(lanes.count[lane] + lanes.plus[lane]) for lane in range(folded.lanes)),
            ]
            if folded.more_bits:
                m.d.sync += [self.more.eq(lanes.more)]
                for lane in range(folded.lanes):
                    with m.If(lanes.plus[lane]):
                        m.d.sync += self.highest[lane].eq(lanes.after[lane].count)
        return m
