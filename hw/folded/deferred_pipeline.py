"""The pipeline through memories and lanes of neurons that fire deferred: a block is updated, or read for a flush."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.folded.deferred_lane import Accumulate, DeferredFacts, IntegratedState, TakeCount, WantedCount
from hw.folded.flush_sweep import FlushPlace
from hw.folded.lane import LayerSelect
from hw.folded.layouts import Place, Step
from hw.folded.memories import BlockPort
from hw.folded.tables import InitialStates
from hw.neuron import spikes_of
from model.machine.folded_layout import WEIGHT_SLOT, Folded

__all__ = ["DeferredPipeline", "DeferredRequest"]


class DeferredRequest(data.StructLayout):
    """What is to be done with a block.

    Parameters
    ----------
    folded : Folded
        the machine's layers

    Members
    -------
    valid : 1 bit
        1 where there is anything to do: without the next one, the block is updated
    flush : 1 bit
        it is read for a flush
    first, last : 1 bit
        with ``flush``: it is the first member of its place, the last one
    place : FlushPlace
        that place, or the block that is updated
    """

    def __init__(self, folded: Folded) -> None:
        super().__init__({"valid": 1, "flush": 1, "first": 1, "last": 1, "place": FlushPlace(folded)})


class DeferredPipeline(wiring.Component):
    """Reads, updates and writes blocks of neurons; of a flush, reads them and says what fires.

    Operation
    ---------
    An event only adds: what is updated fires nothing. A flush reads the members of a place, one after another, and takes of each
    lane the greatest count before the flush, and the greatest after it; their difference fires. Nothing is written then, as the
    frame is over. After a place that fires, ``drop`` drops those that follow; they are to be requested again.

    Timing
    ------
    ======================================================= ======================
    what                                                    cycles after `request`
    ======================================================= ======================
    states and weights are there                            1
    they are at the lanes; ``states``                       2
    the block is written                                    3
    ``settles``, of the last member of a place              4
    ``fires``                                               5
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
    request : In, DeferredRequest
    y, x : In, unsigned
        position of the block that is read
    weight : In, unsigned
        address of its weights
    memory : Out, BlockPort
    drop : In, 1 bit
        nothing that is on its way is of use
    states : Out, array of IntegratedState
        of each lane, as they are read
    saturates : Out, 1 bit
        1 where something did not fit in a block that is flushed
    settles : Out, 1 bit
        1 where ``counts`` are those of a place
    counts : Out, array of counts
        of each lane the count that it takes
    fires : Out, 1 bit
        1 in the cycle after a place settled that fires
    plus, minus : Out, a bit per lane
        what fires; the last four stay until the next place settles
    more : Out, array of unsigned
        of each lane how many spikes follow its first
    fired : Out, FlushPlace
        that place
    waits : Out, 1 bit
        1 while the block of the last request waits for its states
    busy : Out, 1 bit
        1 while blocks are on their way
    """

    def __init__(self, *, folded: Folded) -> None:
        self._folded = folded
        self._state = state = IntegratedState(*(la.layer for la in folded.layers))
        step, lanes = Step(folded), folded.lanes
        super().__init__(
            {
                "layer": In(range(max(2, len(folded.layers)))),
                "negative": In(1),
                "last_block": In(step["block"].shape),
                "request": In(DeferredRequest(folded)),
                "y": In(step["y"].shape),
                "x": In(step["x"].shape),
                "weight": In(step["weight"].shape),
                "memory": Out(BlockPort(folded)),
                "drop": In(1),
                "states": Out(data.ArrayLayout(state, lanes)),
                "saturates": Out(1),
                "settles": Out(1),
                "counts": Out(data.ArrayLayout(state["count"].shape, lanes)),
                "fires": Out(1),
                "plus": Out(lanes),
                "minus": Out(lanes),
                "more": Out(data.ArrayLayout(unsigned(max(1, folded.more_bits)), lanes)),
                "fired": Out(FlushPlace(folded)),
                "waits": Out(1),
                "busy": Out(1),
            }
        )

    @property
    def folded(self) -> Folded:
        """The machine's layers and memories."""
        return self._folded

    def elaborate(self, platform: object) -> Module:
        m = Module()
        folded, memory, request = self._folded, self.memory, self.request
        neurons = tuple(la.layer for la in folded.layers)
        m.submodules.initial = initial = InitialStates(folded=folded)
        m.submodules.select = select = LayerSelect(DeferredFacts(*neurons))

        # The stages, and where the block of each lies.
        layout, place_layout = DeferredRequest(folded), Place(folded)
        loaded, _, done, settled = stages = [Signal(layout, name=name) for name in ("loaded", "updated", "done", "settled")]
        places = [Signal(place_layout, name=f"{name}_place") for name in ("loaded", "updated", "done")]
        m.d.sync += [
            *(after.eq(before) for before, after in zip((request, *stages[:-1]), stages, strict=True)),
            # What was updated is written by then.
            settled.valid.eq(done.valid & done.flush),
            *(after.eq(before) for before, after in zip((memory.place, *places[:-1]), places, strict=True)),
        ]
        with m.If(self.drop):
            m.d.sync += [stage.valid.eq(0) for stage in stages]
        m.d.comb += [
            self.waits.eq(loaded.valid),
            self.busy.eq(Cat(stage.valid for stage in stages).any()),
            memory.y.eq(self.y),
            memory.x.eq(self.x),
            memory.block.eq(request.place.block),
            memory.weight.eq(self.weight),
            memory.write.eq(done.valid & ~done.flush),
            memory.write_place.eq(places[-1]),
            memory.completes.eq(done.place.block == self.last_block),
            initial.layer.eq(self.layer),
            initial.block.eq(loaded.place.block),
            select.layer.eq(self.layer),
            self.settles.eq(settled.valid & settled.last & ~self.drop),
        ]
        if initial.by_position:
            m.d.comb += [initial.y.eq(self.y), initial.x.eq(self.x)]

        held, changes = Signal(folded.lanes), Signal(folded.lanes)
        for lane in range(folded.lanes):
            self._lane(m, lane, initial.states[lane], select.facts, done, held=held[lane], changes=changes[lane])
        m.d.comb += self.saturates.eq(done.valid & done.flush & held.any())
        m.d.sync += self.fires.eq(self.settles & changes.any())
        with m.If(self.settles):
            m.d.sync += self.fired.eq(settled.place)
        return m

    def _lane(
        self, m: Module, lane: int, first: data.View, facts: data.View, done: data.View, *, held: Signal, changes: Signal
    ) -> None:
        """A lane: its state on its way from memory and back, and what a flush makes of it."""
        memory, neurons = self.memory, tuple(la.layer for la in self._folded.layers)
        m.submodules[f"accumulate_{lane}"] = accumulate = Accumulate(*neurons)
        m.submodules[f"want_{lane}"] = want = WantedCount(*neurons)
        m.submodules[f"take_{lane}"] = take = TakeCount(*neurons)

        # From memory to the lane. A frame leaves counts as it found them until the flush: they are those of its start.
        word, drive = Signal(self._state, name=f"word_{lane}"), Signal(WEIGHT_SLOT, name=f"drive_{lane}")
        m.d.sync += [
            word.summed.eq(Mux(memory.stale, first.summed, memory.states[lane].summed)),
            word.count.eq(first.count),
            drive.eq(memory.weights[lane] ^ self.negative.replicate(WEIGHT_SLOT)),
        ]
        m.d.comb += [
            self.states[lane].eq(word),
            accumulate.state.eq(word),
            accumulate.drive.eq(drive),
            accumulate.negative.eq(self.negative),
            want.facts.eq(facts),
            want.state.eq(word),
            take.facts.eq(facts),
            held.eq(take.held),
        ]

        # A register, then back to memory, or to the greatest counts of the place.
        count = Signal.like(word.count, name=f"count_{lane}")
        greatest, greatest_before = self.counts[lane], Signal.like(word.count, name=f"greatest_before_{lane}")
        summed = Signal.like(word.summed, name=f"summed_{lane}")
        wanted, outside = Signal.like(want.wanted, name=f"wanted_{lane}"), Signal(name=f"outside_{lane}")
        m.d.sync += [
            summed.eq(accumulate.summed),
            wanted.eq(want.wanted),
            outside.eq(want.outside),
            count.eq(word.count),
        ]
        m.d.comb += [memory.write_states[lane].summed.eq(summed), take.wanted.eq(wanted), take.outside.eq(outside)]
        with m.If(done.first | (take.count > greatest)):
            m.d.sync += greatest.eq(take.count)
        with m.If(done.first | (count > greatest_before)):
            m.d.sync += greatest_before.eq(count)

        # What the place fires.
        spikes = spikes_of((greatest - greatest_before).as_signed(), max(1, self._folded.more_bits))
        m.d.comb += changes.eq(spikes.plus | spikes.minus)
        with m.If(self.settles):
            m.d.sync += [self.plus[lane].eq(spikes.plus), self.minus[lane].eq(spikes.minus), self.more[lane].eq(spikes.more)]
