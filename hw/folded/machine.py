"""The folded machine: one core that all layers share, event by event; `model.machine.folded_layout` says what lies where."""

from dataclasses import dataclass

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hw.aer import AddressEvent, Kind, SpikeGroup
from hw.folded.answer import Answer
from hw.folded.block_pipeline import BlockPipeline
from hw.folded.branches import Branches
from hw.folded.burst_block import BurstBlock
from hw.folded.fired_block import FiredBlock
from hw.folded.layouts import Event
from hw.folded.memories import Memories
from hw.folded.pool_window import PoolWindow
from hw.folded.queues import Queues
from hw.folded.walk import Walk
from hw.folded.watch import LinkToken, Watch
from hw.interface import Trace, WeightPort, known_place, machine_members
from model.machine.checks import check_plan
from model.machine.folded_layout import Folded
from model.machine.plan import Plan
from model.machine.stages import more_bits, ports
from model.network import Network

__all__ = ["FoldedMachine"]


class FoldedMachine(wiring.Component):
    """A network in hardware, all its layers on one core; of one that fires deferred see `hw.folded.deferred_machine`.

    Operation
    ---------
    Takes an event of the deepest layer that has one, or else the host's next. Its window is walked block by block: read, update,
    write. A block that fires stops the walk; what was begun after it is dropped. Where a max-pool follows, the counts in the
    window are read, and what does not move their maximum goes no further. The rest goes to the next layer's queue, or is an
    output spike; then the walk resumes after that block. At the end of a frame all queues are empty: the counts of the last
    layer are read, and by a new generation of tags all other states are those of a new frame.

    Where the layers are no chain, the deepest link that has an event serves it to the inputs that take it, one after the other,
    each time with all that follows (`model.machine.folded_order`): `Branches` are in the place of `Queues`.

    `Walk` says which block is next, `BlockPipeline` updates it in the `Memories`, `FiredBlock` has the spikes that leave,
    `PoolWindow` and `Queues` say where to, and `Answer` reads out; here is the control that makes them take turns.

    Timing
    ------
    ============================================ =================================================
    what                                         cycles
    ============================================ =================================================
    event from a queue, from the host            4, 3
    where the layers are no chain                4 each time that an event is taken; 2 each time that one is kept, and once all
                                                 that an input kept is released
    block                                        1, or 2 where its state has one port; 4 more a walk, or 3 with one port
    block that fires                             4 (3) more after it, 2, and one a spike that leaves, at least 1
    with a max-pool                              3 more and one per position of the window; in no window, 2 in all
    end of a frame                               7 (6), 1 (2) a block of classes, and one per lane of those blocks
    sweep of the tags                            one per position, once in ``2 ** generation_bits - 1`` frames
    ============================================ =================================================

    `model.machine.folded_cycles` has them exactly.

    Parameters
    ----------
    network : Network
        what to build
    plan : Plan
        the plan by which it is built; ``plan.architecture`` is ``"folded"``

    Members
    -------
    host, result, watched, watch, saturations, states : as of `hw.interface.machine_members`
    weights : In, WeightPort
        where there are weights in the memory with one port
    """

    def __init__(self, *, network: Network, plan: Plan) -> None:
        check_plan(network, plan)
        self._network = network
        self._plan = plan
        self._folded = folded = Folded.of(network, plan)
        members = machine_members(network, plan)
        if folded.single_weight_words:
            members["weights"] = In(WeightPort())
        super().__init__(members)

    @property
    def network(self) -> Network:
        """The network that is built."""
        return self._network

    @property
    def plan(self) -> Plan:
        """The plan by which it is built."""
        return self._plan

    @property
    def folded(self) -> Folded:
        """What lies where."""
        return self._folded

    @property
    def traces(self) -> tuple[Trace, ...]:
        """The traces: the spikes of every layer as groups, and the events of every link."""
        traces = []
        for layer in self._folded.layers:
            core = self._plan.core(layer.layer.name)
            for fires in (layer.layer, layer.pool):
                if fires:
                    more = more_bits(self._network, fires.name)
                    groups = SpikeGroup(self._network.shape_of(fires.name), core, more)
                    traces.append(Trace(f"groups_{fires.name}", fires.name, "groups", groups))
        for name in ports(self._network):
            traces.append(Trace(f"events_{name}", name, "events", AddressEvent(self._network.shape_of(name))))
        return tuple(traces)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        parts = self._parts(m)
        state = _Control(self._folded)
        self._connect_walk(m, parts, state)
        self._connect_spikes(m, parts, state)
        if self._plan.states:
            self._connect_states(m, parts, state)
        with m.FSM(name="control"):
            with m.State("SWEEP"):
                m.d.comb += parts.memories.sweep.eq(1)
                with m.If(parts.memories.swept):
                    m.next = "PICK"
            self._take_an_event(m, parts, state)
            self._walk_its_window(m, parts, state)
            self._visit_the_pool(m, parts)
            self._emit_spikes(m, parts, state)
            self._end_a_frame(m, parts, state)
            if self._plan.states:
                self._show_a_state(m)
            if self._folded.single_weight_words:
                with m.State("CHECK"), m.If(parts.memories.checked):
                    m.next = "PICK"
        self._trace(m, parts, state)
        return m

    def _parts(self, m: Module) -> "_Parts":
        """The submodules, by what they need of each other and of the host alone."""
        network, folded = self._network, self._folded
        parts = _Parts(
            walk=Walk(folded=folded),
            memories=Memories(folded=folded),
            pipeline=BlockPipeline(folded=folded),
            window=PoolWindow(folded=folded),
            fired=(BurstBlock if folded.more_bits else FiredBlock)(folded=folded),
            queues=(Queues if folded.chain else Branches)(folded=folded),
            answer=Answer(network=network, folded=folded),
            watch=Watch(network=network, folded=folded) if self._plan.watch else None,
        )
        m.submodules.walk = parts.walk
        m.submodules.memories = parts.memories
        m.submodules.pipeline = parts.pipeline
        m.submodules.window = parts.window
        m.submodules.fired = parts.fired
        m.submodules.queues = parts.queues
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

    def _connect_walk(self, m: Module, parts: "_Parts", state: "_Control") -> None:
        """The event in hand, its walk, and the blocks that are requested."""
        walk, pipeline, window, request = parts.walk, parts.pipeline, parts.window, parts.pipeline.request
        m.d.comb += [
            walk.taken_by.eq(state.taken_by),
            walk.event.eq(state.event),
            parts.memories.layer.eq(state.layer),
            pipeline.layer.eq(state.layer),
            pipeline.negative.eq(state.event.negative),
            pipeline.last_block.eq(walk.last_block),
            # A block of the walk, or of the pool's window; which of them it is has a register, as all addresses wait for it.
            request.valid.eq(state.requests | window.visits),
            request.compare.eq(window.visits),
            request.fired_itself.eq((window.member_y == walk.step.y) & (window.member_x == walk.step.x)),
            request.collect.eq(state.at_end),
            request.step.eq(walk.step),
            pipeline.y.eq(Mux(window.visits, window.member_y, walk.step.y)),
            pipeline.x.eq(Mux(window.visits, window.member_x, walk.step.x)),
            # The walk resumes from the block that fired.
            walk.jump.eq(pipeline.fires),
            walk.jump_to.eq(pipeline.fired_step),
            parts.answer.collect.eq(pipeline.collects),
            parts.answer.counts.eq(pipeline.counts),
        ]
        with m.If(pipeline.saturates):
            m.d.sync += state.saturated.eq(1)

    def _connect_spikes(self, m: Module, parts: "_Parts", state: "_Control") -> None:
        """What fires, and where it goes."""
        walk, pipeline, window, fired, queues = parts.walk, parts.pipeline, parts.window, parts.fired, parts.queues
        m.d.comb += [
            window.layer.eq(state.layer),
            window.y.eq(walk.step.y),
            window.x.eq(walk.step.x),
            fired.layer.eq(state.layer),
            fired.block.eq(walk.step.block),
            fired.y.eq(window.leaving_y),
            fired.x.eq(window.leaving_x),
            fired.load.eq(pipeline.fires),
            fired.plus.eq(pipeline.plus),
            fired.minus.eq(pipeline.minus),
            fired.compare.eq(pipeline.compares),
            fired.counts.eq(pipeline.counts),
            fired.highest.eq(pipeline.highest),
            fired.take.eq(state.emits),
            queues.layer.eq(state.layer),
            queues.spike.eq(fired.spike),
            queues.push.eq(state.emits),
        ]
        if isinstance(fired, BurstBlock):
            # All spikes of a neuron wait in one word.
            m.d.comb += [
                fired.more.eq(pipeline.more),
                queues.following.eq(fired.following),
                queues.push.eq(state.emits & fired.last_of_neuron),
            ]
        if parts.watch:
            m.d.comb += [
                parts.watch.layer.eq(state.layer),
                parts.watch.host_passes.eq(state.takes),
                parts.watch.layer_passes.eq(state.emits | state.ends_pass),
            ]

    def _connect_states(self, m: Module, parts: "_Parts", state: "_Control") -> None:
        """What the host sees of a neuron's state: its lane, of the block that comes from memory."""
        port = self.states
        lane = Signal(range(max(2, self._folded.lanes)))
        for number, la in enumerate(self._folded.layers):
            with m.If(state.layer == number):
                m.d.comb += lane.eq(port.place.c[: la.lanes.bit_length() - 1])
        states = parts.pipeline.states
        shown = states.shape().elem_shape(Array(word.as_value() for word in states)[lane])
        known = [known_place(self._network, la.layer, port.place) for la in self._folded.layers]
        m.d.comb += [port.state.summed.eq(shown.summed), port.state.count.eq(shown.count), port.known.eq(Cat(known).any())]

    def _take_an_event(self, m: Module, parts: "_Parts", state: "_Control") -> None:
        """States in which the next event is found: of the deepest queue, or else the host's."""
        queues = parts.queues
        with m.State("PICK"):
            m.d.sync += state.saturated.eq(0)
            for number, count in enumerate(self.saturations):
                with m.If(state.saturated & (state.layer == number) & ~count.all()):
                    m.d.sync += count.eq(count + 1)
            with m.If(queues.waiting):
                if isinstance(queues, Queues):
                    if not self._folded.more_bits:
                        m.d.comb += queues.pop.eq(1)
                    m.d.sync += state.layer.eq(queues.deepest)
                m.next = "FETCH"
            with m.Else():
                self._take_from_host(m, parts, state)
        with m.State("FETCH"):
            if isinstance(queues, Queues):
                if self._folded.more_bits:
                    m.d.comb += queues.pop.eq(1)
                m.next = "LOOK"
            else:
                self._serve(m, queues, state)
            m.d.sync += state.event.eq(queues.event)
        if parts.watch:
            # The end of a frame passes on the link of every layer in turn.
            with m.State("ENDS"):
                m.d.comb += [parts.watch.token.kind.eq(Kind.END), state.ends_pass.eq(parts.watch.layer_ready)]
                with m.If(parts.watch.layer_ready):
                    with m.If(state.layer == len(self._folded.layers) - 1):
                        m.next = "LOOK"
                    with m.Else():
                        m.d.sync += state.layer.eq(state.layer + 1)

    def _serve(self, m: Module, branches: Branches, state: "_Control") -> None:
        """An event is taken by the input whose turn it is, or kept by it."""
        m.d.comb += branches.serve.eq(1)
        m.next = "PICK"
        with m.If(branches.takes):
            m.next = "LOOK"
            m.d.sync += state.taken_by.eq(branches.taken_by)
            for number, each in enumerate(self._folded.inputs):
                with m.If(branches.taken_by == number):
                    m.d.sync += state.layer.eq(each.layer)

    def _take_from_host(self, m: Module, parts: "_Parts", state: "_Control") -> None:
        folded, host, token = self._folded, self.host, self.host.payload
        ready: Value = (token.kind == Kind.SPIKE) | ~self.result.valid
        if folded.single_weight_words:
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
            m.d.comb += parts.answer.start.eq(~state.in_frame)
            m.d.sync += [
                state.in_frame.eq(~state.ends),
                state.at_end.eq(state.ends),
                state.layer.eq(Mux(state.ends, len(folded.layers) - 1, 0)),
                *(state.event[name].eq(token[name]) for name in state.event.shape().members),
            ]
            m.next = "LOOK"
            if isinstance(parts.queues, Branches):
                # At the end of a frame all blocks of the last layer are walked, as by an event of its first input.
                last, first = len(folded.inputs) - len(folded.layers[-1].inputs), folded.links[0].services[0].number
                m.d.sync += [
                    state.taken_by.eq(Mux(state.ends, last, first)),
                    state.layer.eq(Mux(state.ends, len(folded.layers) - 1, folded.inputs[first].layer)),
                ]
                m.d.comb += [
                    parts.queues.hosts.eq(~state.ends),
                    *(parts.queues.host[name].eq(token[name]) for name in state.event.shape().members),
                ]
            if self._plan.watch:
                with m.If(state.ends & self.watch[1:].any()):
                    m.d.sync += state.layer.eq(0)
                    m.next = "ENDS"
        if folded.single_weight_words:
            with m.Elif(self.weights.check):
                m.d.comb += parts.memories.check.eq(1)
                m.next = "CHECK"
        if self._plan.states:
            with m.Elif(self.states.ask):
                self._look_up(m, parts.walk, state.layer)
                m.next = "ASKED"

    def _walk_its_window(self, m: Module, parts: "_Parts", state: "_Control") -> None:
        """States in which the blocks that the event reaches are updated."""
        walk, pipeline = parts.walk, parts.pipeline
        with m.State("LOOK"):
            m.next = "SUM"
        with m.State("SUM"):
            m.d.comb += walk.start.eq(1)
            m.d.sync += state.waits.eq(0)
            m.next = "WALK"
            with m.If(~walk.reaches):
                m.next = "PICK"
        with m.State("WALK"):
            m.d.sync += state.waits.eq(~state.waits & parts.memories.one_port)
            m.d.comb += state.requests.eq(~state.waits)
            with m.If(pipeline.fires):
                m.next = "FIRED"
            with m.Elif(~state.waits):
                m.d.comb += walk.advance.eq(1)
                with m.If(walk.last):
                    m.next = "DRAIN"
        with m.State("DRAIN"):
            with m.If(pipeline.fires):
                m.next = "FIRED"
            with m.Elif(~pipeline.busy & ~pipeline.writing):
                m.next = "PICK"
                with m.If(state.at_end):
                    m.next = "COMPARE"

    def _visit_the_pool(self, m: Module, parts: "_Parts") -> None:
        """States in which a block has fired: the counts in its pool's window are compared with its own."""
        window = parts.window
        with m.State("FIRED"):
            m.d.comb += window.start.eq(1)
            m.next = "EMIT"
            with m.If(window.pools & window.inside):
                m.next = "MEMBERS"
            with m.Elif(window.pools):
                m.next = "RESUME"
        with m.State("MEMBERS"), m.If(window.last):
            m.next = "SETTLE"
        with m.State("SETTLE"), m.If(~parts.pipeline.busy):
            m.next = "EMIT"

    def _emit_spikes(self, m: Module, parts: "_Parts", state: "_Control") -> None:
        """States in which the spikes leave; then the walk resumes."""
        walk, fired = parts.walk, parts.fired
        with m.State("EMIT"):
            m.d.comb += state.emits.eq(fired.valid)
            if parts.watch:
                m.d.comb += [
                    *(parts.watch.token[name].eq(fired.spike[name]) for name in ("negative", "y", "x", "c")),
                    state.emits.eq(fired.valid & parts.watch.layer_ready),
                ]
            with m.If(~fired.valid | (state.emits & fired.last)):
                m.next = "RESUME"
        with m.State("RESUME"):
            m.d.comb += walk.advance.eq(1)
            m.d.sync += state.waits.eq(0)
            m.next = "WALK"
            with m.If(walk.last):
                m.next = "PICK"

    def _end_a_frame(self, m: Module, parts: "_Parts", state: "_Control") -> None:
        """The state in which the counts of the classes are compared."""
        memories, answer = parts.memories, parts.answer
        with m.State("COMPARE"):
            m.d.comb += answer.compare.eq(1)
            with m.If(answer.last):
                m.d.comb += memories.next_frame.eq(1)
                m.d.sync += state.at_end.eq(0)
                m.next = "PICK"
                with m.If(memories.wraps):
                    m.next = "SWEEP"

    def _look_up(self, m: Module, walk: Walk, layer: Signal) -> None:
        """The block of the neuron that the host asks for becomes that of the walk."""
        place, jump_to = self.states.place, walk.jump_to
        m.d.comb += [walk.jump.eq(1), jump_to.y.eq(place.y), jump_to.x.eq(place.x)]
        for number, la in enumerate(self._folded.layers):
            with m.If(place.port == self._network.layers.index(la.layer) + 1):
                m.d.comb += jump_to.block.eq(place.c >> (la.lanes.bit_length() - 1))
                m.d.sync += layer.eq(number)

    def _show_a_state(self, m: Module) -> None:
        """States in which the host is shown a neuron's state: that of the walk's block is on its way whenever nothing else is."""
        with m.State("ASKED"):
            m.next = "READ"
        with m.State("READ"):
            m.next = "FOUND"
        with m.State("FOUND"):
            m.d.comb += self.states.found.eq(1)
            with m.If(~self.states.ask):
                m.next = "PICK"

    def _trace(self, m: Module, parts: "_Parts", state: "_Control") -> None:
        """The signals of `traces`."""
        step, pipeline, window, fired = parts.walk.step, parts.pipeline, parts.window, parts.fired
        # Of what a pool passes on, whether nothing has left of this block.
        fresh = Signal()
        with m.If(window.start):
            m.d.sync += fresh.eq(1)
        with m.Elif(state.emits):
            m.d.sync += fresh.eq(0)

        block = {
            "y": pipeline.fired_step.y,
            "x": pipeline.fired_step.x,
            "part": pipeline.fired_step.block,
            "plus": pipeline.plus,
            "minus": pipeline.minus,
        }
        survivors = {
            "y": window.leaving_y,
            "x": window.leaving_x,
            "part": step.block,
            "plus": fired.left_plus,
            "minus": fired.left_minus,
        }
        if isinstance(fired, BurstBlock):
            block["more"], survivors["more"] = pipeline.more, fired.left_more
        members = ("negative", "y", "x", "c")
        spike = {name: fired.spike[name] for name in members}
        groups: dict[str, tuple[Value, dict[str, Value]]] = {}
        events = {"input": (state.takes & ~state.ends, {name: self.host.payload[name] for name in members})}
        for number, la in enumerate(self._folded.layers):
            in_use = state.layer == number
            groups[la.layer.name] = pipeline.fires & in_use, block
            if la.pool:
                groups[la.pool.name] = state.emits & fresh & in_use, survivors
            events[(la.pool or la.layer).name] = state.emits & in_use, spike
        for trace in self.traces:
            strobe = Signal(name=f"trace_{trace.name}_strobe")
            payload = Signal(trace.layout, name=f"trace_{trace.name}_payload")
            passes, values = (groups if trace.form == "groups" else events)[trace.layer]
            m.d.comb += strobe.eq(passes | state.ends)
            with m.If(state.ends):
                m.d.comb += payload.kind.eq(Kind.END)
            with m.Else():
                m.d.comb += [payload[name].eq(value) for name, value in values.items() if name != "more"]
                if trace.form == "groups" and trace.layout.more_bits:
                    plus_or_minus = values["plus"] | values["minus"]
                    m.d.comb += [
                        into.eq(Mux(plus_or_minus[lane], more, 0))
                        for lane, (into, more) in enumerate(zip(payload.more, values["more"], strict=False))
                    ]


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """The submodules."""

    walk: Walk
    memories: Memories
    pipeline: BlockPipeline
    window: PoolWindow
    fired: FiredBlock | BurstBlock
    queues: Queues | Branches
    answer: Answer
    watch: Watch | None


class _Control:
    """What the control keeps, and what it says in a cycle.

    Attributes
    ----------
    layer, event
        the event in hand, and the number of the layer that takes it; registers, as are those up to ``waits``
    taken_by
        the number of the input that takes that event; where the layers are a chain, ``layer``
    in_frame, at_end
        whether a frame has begun; whether its end was taken and it is read out
    saturated
        whether something saturated in the event in hand
    waits
        whether the memory with one port is busy with writing, so that no block of the walk is requested
    takes, ends
        whether a token of the host is taken; whether it is the end of a frame
    ends_pass, emits
        whether the end passes the link from that layer; whether a spike leaves it
    requests
        whether the walk's block is requested
    """

    def __init__(self, folded: Folded) -> None:
        self.layer = Signal(range(max(2, len(folded.layers))))
        self.taken_by = self.layer if folded.chain else Signal(range(max(2, len(folded.inputs))))
        self.event = Signal(Event(folded))
        self.in_frame, self.at_end, self.saturated, self.waits = Signal(), Signal(), Signal(), Signal()
        self.takes, self.ends, self.ends_pass, self.emits, self.requests = Signal(), Signal(), Signal(), Signal(), Signal()
