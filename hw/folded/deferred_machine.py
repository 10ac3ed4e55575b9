"""The folded machine of a network that fires deferred: events add up, and at the end of a frame layer after layer is flushed."""

from dataclasses import dataclass

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring

from hw.aer import Kind
from hw.folded.answer import Answer
from hw.folded.deferred_pipeline import DeferredPipeline
from hw.folded.flush_sweep import FlushSweep
from hw.folded.flushed_block import FlushedBlock
from hw.folded.layouts import Event
from hw.folded.machine import FoldedMachine
from hw.folded.memories import Memories
from hw.folded.walk import Walk
from hw.folded.watch import LinkToken, Watch
from hw.interface import known_place
from model.machine.folded_layout import Folded

__all__ = ["DeferredMachine"]


class DeferredMachine(FoldedMachine):
    """A network that fires deferred in hardware, all its layers on one core.

    Operation
    ---------
    The host's events are taken by the first layer, whose neurons only add: the window of each is walked block by block. At the
    end of the frame the layers are flushed in order. A flush reads all neurons of its layer, block by block; where a max-pool
    follows, then all windows, member by member. What fires, of the neurons or of the windows, stops the flush; each spike is
    taken by the next layer at once, which adds it as the first does the host's. So nothing waits anywhere: there are no queues,
    however much fires. The counts that the last layer takes are the answer, and by a new generation of tags all states are those
    of a new frame.

    Where the layers are no chain, an event is taken by all inputs of its link, one after the other. As a layer is flushed after
    all that it takes the events of, and the order of what is added to it means nothing, several inputs need no more than that.

    Timing
    ------
    ============================================ =================================================
    what                                         cycles
    ============================================ =================================================
    event of the host, spike of a flush          1, and where it reaches anything 4 and a block each, or 2 where its state has one
                                                 port, less one; 2 where it reaches nothing, of the last layer none
    the same, of each further input that takes it 1 more
    flush of a layer                             7, and a block of neurons each
    its max-pool                                 6, and a block of each member of each window
    place that fires there                       7 more, but 2 where it is the last
    end of a frame                               one per lane of the classes' blocks
    sweep of the tags                            one per position, once in ``2 ** generation_bits - 1`` frames
    ============================================ =================================================

    `model.machine.folded_flush` has them exactly.

    Parameters and members are those of `FoldedMachine`.
    """

    def elaborate(self, platform: object) -> Module:
        m = Module()
        parts = self._build(m)
        state = _Flow(self._folded)
        self._join(m, parts, state)
        if self._plan.states:
            self._connect_block(m, parts, state)
        with m.FSM(name="control"):
            with m.State("SWEEP"):
                m.d.comb += parts.memories.sweep.eq(1)
                with m.If(parts.memories.swept):
                    m.next = "PICK"
            with m.State("PICK"):
                self._pick(m, parts, state)
            self._add_an_event(m, parts, state)
            self._flush_a_layer(m, parts, state)
            self._send_spikes(m, parts, state)
            self._pass_the_end(m, parts, state)
            if self._plan.states:
                self._show_a_state(m)
            if self._folded.single_weight_words:
                with m.State("CHECK"), m.If(parts.memories.checked):
                    m.next = "PICK"
        self._show(m, parts, state)
        return m

    def _build(self, m: Module) -> "_DeferredParts":
        """The submodules, by what they need of each other and of the host alone."""
        network, folded = self._network, self._folded
        parts = _DeferredParts(
            walk=Walk(folded=folded),
            memories=Memories(folded=folded),
            pipeline=DeferredPipeline(folded=folded),
            sweep=FlushSweep(folded=folded),
            fired=FlushedBlock(folded=folded),
            answer=Answer(network=network, folded=folded),
            watch=Watch(network=network, folded=folded) if self._plan.watch else None,
        )
        m.submodules.walk = parts.walk
        m.submodules.memories = parts.memories
        m.submodules.pipeline = parts.pipeline
        m.submodules.sweep = parts.sweep
        m.submodules.fired = parts.fired
        m.submodules.answer = parts.answer
        wiring.connect(m, parts.pipeline.memory, parts.memories.port)
        wiring.connect(m, parts.answer.result, wiring.flipped(self.result))
        if parts.watch:
            m.submodules.watch = parts.watch
            wiring.connect(m, parts.watch.watched, wiring.flipped(self.watched))
            m.d.comb += parts.watch.watch.eq(self.watch)
        if folded.single_weight_words:
            wiring.connect(m, wiring.flipped(self.weights), parts.memories.weights)
        return parts

    def _join(self, m: Module, parts: "_DeferredParts", state: "_Flow") -> None:
        """The event in hand and its walk, the flush, what is requested, and what fires."""
        walk, pipeline, sweep, fired, request = parts.walk, parts.pipeline, parts.sweep, parts.fired, parts.pipeline.request
        pools = Cat(la.pool is not None for la in self._folded.layers)
        m.d.comb += [
            walk.taken_by.eq(state.taken_by),
            walk.event.eq(state.event),
            parts.memories.layer.eq(state.layer),
            pipeline.layer.eq(state.layer),
            pipeline.negative.eq(state.event.negative),
            pipeline.last_block.eq(walk.last_block),
            pipeline.weight.eq(walk.step.weight),
            request.valid.eq(state.requests | sweep.visits),
            request.flush.eq(sweep.visits),
            request.first.eq(sweep.first),
            request.last.eq(sweep.last),
            sweep.layer.eq(state.flushed),
            sweep.pooled.eq(state.pooled),
            sweep.jump_to.eq(pipeline.fired),
            # The neurons before a max-pool only show what they fire: its windows send.
            state.stops.eq(pipeline.fires & (state.pooled | ~pools.bit_select(state.flushed, 1))),
            state.pool_follows.eq(~state.pooled & pools.bit_select(state.flushed, 1)),
            pipeline.drop.eq(state.stops),
            fired.layer.eq(state.flushed),
            fired.place.eq(pipeline.fired),
            fired.load.eq(state.stops),
            fired.plus.eq(pipeline.plus),
            fired.minus.eq(pipeline.minus),
            fired.more.eq(pipeline.more),
            fired.take.eq(state.emits),
            parts.answer.collect.eq(pipeline.settles & state.of_output),
            parts.answer.counts.eq(pipeline.counts),
            state.of_output.eq(state.flushed == len(self._folded.layers) - 1),
        ]
        for name in ("y", "x", "block"):
            m.d.comb += request.place[name].eq(Mux(sweep.visits, sweep.place[name], walk.step[name]))
        for name, member in (("y", sweep.member_y), ("x", sweep.member_x)):
            m.d.comb += getattr(pipeline, name).eq(Mux(sweep.visits, member, walk.step[name]))
        with m.If(pipeline.saturates):
            m.d.sync += state.saturated.eq(1)
        if parts.watch:
            m.d.comb += [
                parts.watch.layer.eq(state.flushed),
                parts.watch.host_passes.eq(state.takes),
                parts.watch.layer_passes.eq(state.emits | state.ends_pass),
            ]

    def _connect_block(self, m: Module, parts: "_DeferredParts", state: "_Flow") -> None:
        """What the host sees of a neuron's state: its lane, of the block that comes from memory."""
        port, states = self.states, parts.pipeline.states
        lane = Signal(range(max(2, self._folded.lanes)))
        shown = states.shape().elem_shape(Array(word.as_value() for word in states)[lane])
        for number, la in enumerate(self._folded.layers):
            with m.If(state.layer == number):
                m.d.comb += [
                    lane.eq(port.place.c[: la.lanes.bit_length() - 1]),
                    port.state.summed.eq(shown.summed[: la.layer.potential_bits + 1].as_signed()),
                ]
        known = [known_place(self._network, la.layer, port.place) for la in self._folded.layers]
        m.d.comb += [port.state.count.eq(shown.count), port.known.eq(Cat(known).any())]

    def _pick(self, m: Module, parts: "_DeferredParts", state: "_Flow") -> None:
        """The host's next token is taken: an event, or the end of the frame, with which the first layer's flush begins."""
        host, token = self.host, self.host.payload
        ready: Value = (token.kind == Kind.SPIKE) | ~self.result.valid
        if self._folded.single_weight_words:
            ready &= self.weights.loaded
            m.d.comb += parts.memories.idle.eq(~state.in_frame & ~host.valid)
        if parts.watch:
            ready &= parts.watch.host_ready
            m.d.comb += [parts.watch.token[name].eq(token[name]) for name in LinkToken(self._network).members]
        m.d.comb += [
            state.takes.eq(host.valid & ready),
            state.ends.eq(state.takes & (token.kind == Kind.END)),
            host.ready.eq(state.takes),
        ]
        with m.If(state.takes):
            m.d.comb += [parts.answer.start.eq(~state.in_frame), parts.sweep.start.eq(state.ends)]
            m.d.sync += [
                state.in_frame.eq(~state.ends),
                state.at_end.eq(state.ends),
                state.layer.eq(0),
                *([] if self._folded.chain else [state.taken_by.eq(0)]),
                *(state.event[name].eq(token[name]) for name in state.event.shape().members),
            ]
            m.next = "LOOK"
            with m.If(state.ends):
                m.next = "FLUSH"
        if self._folded.single_weight_words:
            with m.Elif(self.weights.check):
                m.d.comb += parts.memories.check.eq(1)
                m.next = "CHECK"
        if self._plan.states:
            with m.Elif(self.states.ask):
                self._look_up(m, parts.walk, state.layer)
                m.next = "ASKED"

    def _add_an_event(self, m: Module, parts: "_DeferredParts", state: "_Flow") -> None:
        """States in which the event in hand is added to the neurons that it reaches."""
        walk = parts.walk
        with m.State("LOOK"):
            m.next = "SUM"
        with m.State("SUM"):
            m.d.comb += walk.start.eq(1)
            m.d.sync += state.waits.eq(0)
            m.next = "WALK"
            with m.If(~walk.reaches):
                self._go_on(m, state)
        with m.State("WALK"):
            m.d.sync += state.waits.eq(~state.waits & parts.memories.one_port)
            m.d.comb += state.requests.eq(~state.waits)
            with m.If(~state.waits):
                m.d.comb += walk.advance.eq(1)
                with m.If(walk.last):
                    m.next = "DRAIN"
        # The next event comes to the lanes when this one has been written.
        with m.State("DRAIN"), m.If(~parts.pipeline.waits):
            self._go_on(m, state)
        further = self._folded.further
        if further:
            with m.State("SHARE"), m.Switch(state.taken_by):
                for before, number in further.items():
                    with m.Case(before):
                        self._take(m, state, number)

    def _go_on(self, m: Module, state: "_Flow") -> None:
        """After an event: to the next input that takes it, to the host's next, or to what its flush still has to send."""
        m.next = "PICK"
        with m.If(state.at_end):
            m.next = "SEND"
        if self._folded.further:
            with m.Switch(state.taken_by), m.Case(*self._folded.further):
                m.next = "SHARE"

    def _take(self, m: Module, state: "_Flow", number: int) -> None:
        """The event in hand is taken by that input."""
        m.d.sync += [state.taken_by.eq(number), state.layer.eq(self._folded.inputs[number].layer)]
        m.next = "LOOK"

    def _flush_a_layer(self, m: Module, parts: "_DeferredParts", state: "_Flow") -> None:
        """The state in which a layer's neurons, or the windows of its max-pool, are visited."""
        sweep, pipeline = parts.sweep, parts.pipeline
        with m.State("FLUSH"):
            m.d.comb += sweep.run.eq(1)
            with m.If(state.stops):
                m.d.comb += sweep.jump.eq(1)
                m.next = "SEND"
            with m.Elif(sweep.done & ~pipeline.busy):
                m.next = "PASS"
                with m.If(state.pool_follows):
                    m.d.comb += sweep.start.eq(1)
                    m.d.sync += state.pooled.eq(1)
                    m.next = "FLUSH"

    def _send_spikes(self, m: Module, parts: "_DeferredParts", state: "_Flow") -> None:
        """The state in which a spike of a flush leaves, to be taken by the next layer; or the flush continues."""
        fired = parts.fired
        with m.State("SEND"):
            m.d.comb += state.emits.eq(fired.valid)
            if parts.watch:
                m.d.comb += [
                    *(parts.watch.token[name].eq(fired.spike[name]) for name in ("negative", "y", "x", "c")),
                    state.emits.eq(fired.valid & parts.watch.layer_ready),
                ]
            self._give(m, parts, state)
            with m.If(~fired.valid):
                m.d.comb += parts.sweep.skip.eq(1)
                m.d.sync += state.layer.eq(state.flushed)
                m.next = "FLUSH"

    def _give(self, m: Module, parts: "_DeferredParts", state: "_Flow") -> None:
        """A spike that leaves is taken by the next layer, or by the first input that takes it."""
        event = [state.event[name].eq(parts.fired.spike[name]) for name in state.event.shape().members]
        if self._folded.chain:
            with m.If(state.emits & ~state.of_output):
                m.d.sync += [state.layer.eq(state.flushed + 1), *event]
                m.next = "LOOK"
            return
        with m.If(state.emits), m.Switch(state.flushed):
            for number, la in enumerate(self._folded.layers):
                if takers := self._folded.takers(la.link):
                    with m.Case(number):
                        m.d.sync += event
                        self._take(m, state, takers[0])

    def _pass_the_end(self, m: Module, parts: "_DeferredParts", state: "_Flow") -> None:
        """States in which the end of the frame passes the link of a layer that was flushed, and the answer is found."""
        memories, answer = parts.memories, parts.answer
        with m.State("PASS"):
            m.d.comb += state.ends_pass.eq(1)
            if parts.watch:
                m.d.comb += [parts.watch.token.kind.eq(Kind.END), state.ends_pass.eq(parts.watch.layer_ready)]
            with m.If(state.ends_pass):
                m.d.sync += [state.saturated.eq(0), state.pooled.eq(0)]
                for number, count in enumerate(self.saturations):
                    with m.If(state.saturated & (state.flushed == number) & ~count.all()):
                        m.d.sync += count.eq(count + 1)
                with m.If(state.of_output):
                    m.d.sync += state.flushed.eq(0)
                    m.next = "COMPARE"
                with m.Else():
                    m.d.comb += parts.sweep.start.eq(1)
                    m.d.sync += [state.flushed.eq(state.flushed + 1), state.layer.eq(state.flushed + 1)]
                    m.next = "FLUSH"
        with m.State("COMPARE"):
            m.d.comb += answer.compare.eq(1)
            with m.If(answer.last):
                m.d.comb += memories.next_frame.eq(1)
                m.d.sync += state.at_end.eq(0)
                m.next = "PICK"
                with m.If(memories.wraps):
                    m.next = "SWEEP"

    def _show(self, m: Module, parts: "_DeferredParts", state: "_Flow") -> None:
        """The signals of `traces`."""
        pipeline, fired = parts.pipeline, parts.fired
        members = ("negative", "y", "x", "c")
        passes: dict[str, tuple[Value, Value]] = {}
        for number, la in enumerate(self._folded.layers):
            in_use = state.flushed == number
            ends = state.ends_pass & in_use
            passes[f"groups_{la.layer.name}"] = pipeline.fires & in_use & ~state.pooled, ends
            if la.pool:
                passes[f"groups_{la.pool.name}"] = pipeline.fires & in_use & state.pooled, ends
            passes[f"events_{(la.pool or la.layer).name}"] = state.emits & in_use, ends
        passes["events_input"] = state.takes & ~state.ends, state.ends
        for trace in self.traces:
            strobe = Signal(name=f"trace_{trace.name}_strobe")
            payload = Signal(trace.layout, name=f"trace_{trace.name}_payload")
            spikes, ends = passes[trace.name]
            m.d.comb += strobe.eq(spikes | ends)
            with m.If(ends):
                m.d.comb += payload.kind.eq(Kind.END)
            with m.Elif(spikes):
                if trace.form == "groups":
                    m.d.comb += [
                        *(payload[name].eq(pipeline.fired[name]) for name in ("y", "x")),
                        payload.part.eq(pipeline.fired.block),
                        payload.plus.eq(pipeline.plus),
                        payload.minus.eq(pipeline.minus),
                    ]
                    if trace.layout.more_bits:
                        m.d.comb += [into.eq(more) for into, more in zip(payload.more, pipeline.more, strict=False)]
                else:
                    source = self.host.payload if trace.layer == "input" else fired.spike
                    m.d.comb += [payload[name].eq(source[name]) for name in members]


@dataclass(frozen=True, kw_only=True)
class _DeferredParts:
    """The submodules."""

    walk: Walk
    memories: Memories
    pipeline: DeferredPipeline
    sweep: FlushSweep
    fired: FlushedBlock
    answer: Answer
    watch: Watch | None


class _Flow:
    """What the control keeps, and what it says in a cycle.

    Attributes
    ----------
    layer, event
        the event in hand, and the number of the layer that takes it or is flushed; registers, as are those up to ``waits``
    taken_by
        the number of the input that takes that event; where the layers are a chain, ``layer``
    flushed, pooled
        the number of the layer that is flushed, whether now of its max-pool's windows; both 0 at other times
    in_frame, at_end
        whether a frame has begun; whether its end was taken and the layers are flushed
    saturated
        whether something did not fit in the flush of the layer
    waits
        whether the memory with one port is busy with writing, so that no block of the walk is requested
    takes, ends
        whether a token of the host is taken; whether it is the end of a frame
    ends_pass, emits
        whether the end passes the link from the layer that is flushed; whether a spike leaves it
    requests
        whether the walk's block is requested
    stops
        whether a place fired whose spikes are to leave
    pool_follows
        whether the windows of a max-pool come next
    of_output
        whether the last layer is flushed
    """

    def __init__(self, folded: Folded) -> None:
        number = range(max(2, len(folded.layers)))
        self.layer, self.flushed = Signal(number), Signal(number)
        self.taken_by = self.layer if folded.chain else Signal(range(max(2, len(folded.inputs))))
        self.event = Signal(Event(folded))
        self.in_frame, self.at_end, self.pooled, self.saturated, self.waits = Signal(), Signal(), Signal(), Signal(), Signal()
        self.takes, self.ends, self.ends_pass, self.emits, self.requests = Signal(), Signal(), Signal(), Signal(), Signal()
        self.stops, self.pool_follows, self.of_output = Signal(), Signal(), Signal()
