"""The folded machine: one core that all layers share, event by event; `model.machine.folded_layout` says what lies where."""

from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In

from hw.aer import AddressEvent, Kind, SpikeGroup
from hw.folded.lane import SettledState
from hw.folded.lane_array import LaneArray
from hw.folded.tables import Reach, Window
from hw.interface import CYCLES_WIDTH, Trace, WeightPort, known_place, machine_members
from hw.parts.single_port import PARTS, SinglePort
from hw.parts.tables import lookup, scaled
from model.machine.checks import check_plan
from model.machine.folded_layout import (
    SIGNATURE_POLYNOMIAL,
    SINGLE_BITS,
    SINGLE_WORDS,
    WEIGHT_SLOT,
    Folded,
    FoldedLayer,
    signature,
)
from model.machine.plan import Plan
from model.machine.stages import ports
from model.network import Network, Shape

__all__ = ["FoldedMachine"]


class FoldedMachine(wiring.Component):
    """A network in hardware, all its layers on one core.

    Operation
    ---------
    Takes an event of the deepest layer that has one, or else the host's next. Its window is walked block by block: read, update,
    write. A block that fires stops the walk; what was begun behind it is dropped. Where a max-pool follows, the counts in the
    window are read, and what does not move their maximum goes no further. The rest goes to the next layer's queue, or is an
    output spike; then the walk goes on behind that block. At the end of a frame all queues are empty: the counts of the last
    layer are read, and by a new generation of tags all other states are those of a new frame.

    Timing
    ------
    ============================================ =================================================
    what                                         cycles
    ============================================ =================================================
    event from a queue, from the host            4, 3
    block                                        1, or 2 where its state has one port; 4 more a walk, or 3 with one port
    block that fires                             4 (3) more behind it, 2, and one a spike that leaves, at least 1
    with a max-pool                              3 more and one a position of the window; in no window, 2 in all
    end of a frame                               7 (6), 1 (2) a block of classes, and one a lane of those blocks
    sweep of the tags                            one a position, once in ``2 ** generation_bits - 1`` frames
    ============================================ =================================================

    `model.machine.folded_cycles` has them exactly.

    Parameters
    ----------
    network, plan : what to build; ``plan.architecture`` is ``"folded"``

    Members
    -------
    host, result, watched, watch, saturations, states : as of `hw.pipeline.machine.Machine`
    weights : In `WeightPort`, where there are weights in the memory with one port
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
        """The traces, as of `hw.pipeline.machine.Machine`."""
        found = []
        for layer in self._folded.layers:
            core = self._plan.core(layer.layer.name)
            for of in (layer.layer, layer.pool):
                if of:
                    found.append(Trace(f"groups_{of.name}", of.name, "groups", SpikeGroup(self._network.shape_of(of.name), core)))
        for name in ports(self._network):
            found.append(Trace(f"events_{name}", name, "events", AddressEvent(self._network.shape_of(name))))
        return tuple(found)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        network, plan, folded = self._network, self._plan, self._folded
        layers, lanes = folded.layers, folded.lanes
        last = len(layers) - 1
        slots = SINGLE_BITS // (WEIGHT_SLOT * lanes)
        slot_bits = slots.bit_length() - 1
        # No word is read while it is written: Yosys need not build what would make that well defined.
        written = {"no_rw_check": 1, "ram_style": "block"}

        # Memories.
        m.submodules.tags = tags = Memory(shape=unsigned(folded.generation_bits), depth=folded.tag_depth, init=[], attrs=written)
        tag_read, tag_write = tags.read_port(), tags.write_port()
        # States in the same memory have the same form, those in the lanes that of all layers.
        block_form, single_form = (
            SettledState(*those) if (those := [la.layer for la in layers if la.state_single is is_single]) else None
            for is_single in (False, True)
        )
        states = Memory(shape=unsigned(max(1, folded.state_width)), depth=max(1, folded.state_depth), init=[], attrs=written)
        if block_form:
            m.submodules.states = states
        state_read, state_write = states.read_port(), states.write_port()
        block_word: Value = Const(0, WEIGHT_SLOT * lanes)
        weight_addr = Signal(range(max(2, folded.weight_depth)))
        if folded.weight_depth:
            m.submodules.weights = weight_blocks = Memory(
                shape=unsigned(WEIGHT_SLOT * lanes),
                depth=folded.weight_depth,
                init=folded.block_weights(),
                attrs={"ram_style": "block"},
            )
            weight_read = weight_blocks.read_port()
            m.d.comb += weight_read.addr.eq(weight_addr)
            block_word = weight_read.data
        single = SinglePort()
        if folded.single_words:
            m.submodules.single = single
        queue = Memory(shape=unsigned(max(1, folded.queue_width)), depth=max(1, folded.queue_depth), init=[], attrs=written)
        if folded.queue_depth:
            m.submodules.queue = queue
        queue_read, queue_write = queue.read_port(), queue.write_port()
        m.submodules.lanes = lane_array = LaneArray(layers=layers, lanes=lanes)

        # The event in hand, and where its walk is.
        event_layout = self._event_layout()
        event = Signal(event_layout)
        layer = Signal(range(max(2, len(layers))))
        step_layout = self._step_layout()
        step, first, advanced = (Signal(step_layout, name=name) for name in ("step", "first", "advanced"))
        weight_y, weight_x, weight_c, row_jump, column_jump = (
            Signal.like(step.weight, name=name) for name in ("weight_y", "weight_x", "weight_c", "row_jump", "column_jump")
        )
        final_block = Signal.like(step.block)
        reaches, reading_out, saturated = Signal(), Signal(), Signal()
        block_ends, column_ends, last_step = Signal(), Signal(), Signal()
        m.d.comb += [
            block_ends.eq(step.block == final_block),
            column_ends.eq(block_ends & (step.columns == 0)),
            last_step.eq(column_ends & (step.rows == 0)),
            advanced.eq(step),
            advanced.block.eq(Mux(block_ends, 0, step.block + 1)),
            advanced.weight.eq(step.weight + Mux(column_ends, row_jump, Mux(block_ends, column_jump, 1))),
        ]
        with m.If(column_ends):
            m.d.comb += [
                advanced.y.eq(step.y + 1),
                advanced.rows.eq(step.rows - 1),
                advanced.x.eq(first.x),
                advanced.columns.eq(first.columns),
            ]
        with m.Elif(block_ends):
            m.d.comb += [advanced.x.eq(step.x + 1), advanced.columns.eq(step.columns - 1)]

        # The pipeline: a block's address, its words, its update, and whether it fires.
        moving = data.StructLayout(
            {
                "valid": 1,
                "member": 1,
                "own": 1,
                "reads": 1,
                "step": step_layout,
                "state": range(max(2, folded.state_depth, folded.single_state_words)),
                "tag": range(folded.tag_depth),
            }
        )
        issued, loaded, updated, done = (Signal(moving, name=name) for name in ("issued", "loaded", "updated", "done"))
        fires, settled = Signal(), Signal()
        m.d.comb += settled.eq(~(loaded.valid | updated.valid))
        m.d.sync += [loaded.eq(issued), updated.eq(loaded), done.eq(updated)]
        with m.If(fires):
            m.d.sync += [stage.valid.eq(0) for stage in (loaded, updated, done)]

        # Where a block lies: one of the walk, or of the pool's window. Which of both it is has a register of its own, as all
        # addresses wait for it.
        issue_step, issue_member = Signal(), Signal()
        member_y, member_x = Signal.like(step.y), Signal.like(step.x)
        place_y, place_x = Signal.like(step.y), Signal.like(step.x)
        states_single, weights_single = Signal(), Signal()
        single_state = Signal(range(SINGLE_WORDS))
        m.d.comb += [
            place_y.eq(Mux(issue_member, member_y, step.y)),
            place_x.eq(Mux(issue_member, member_x, step.x)),
            issued.valid.eq(issue_step | issue_member),
            issued.member.eq(issue_member),
            issued.own.eq((member_y == step.y) & (member_x == step.x)),
            issued.reads.eq(reading_out),
            issued.step.eq(step),
        ]
        for number, la in enumerate(layers):
            position = scaled(place_y, la.output.width) + place_x
            state = la.state_base + _block_of(position, la.blocks, step.block)
            with m.If(layer == number):
                m.d.comb += [
                    issued.tag.eq(la.tag_base + position),
                    issued.state.eq(state),
                    states_single.eq(int(la.state_single)),
                    weights_single.eq(int(la.weight_single)),
                ]
            if la.state_single:
                # Nothing but the layers that have states there is on the way to that memory, which is the longest.
                with m.If((layer == number) if folded.single_state_layers > 1 else Const(1)):
                    m.d.comb += single_state.eq(state)

        # From memory. A word of another generation is that of a neuron without an event in this frame.
        generation = Signal(folded.generation_bits, init=1)
        stale = Signal()
        initial, raw = (Signal(lane_array.word.shape(), name=name) for name in ("initial", "raw"))
        weights = Signal.like(lane_array.drive)
        share = SINGLE_BITS // max(1, folded.single_lanes)
        slot = loaded.step.weight[:slot_bits] if slot_bits else Const(0)
        single_words = Array(single.read_data.word_select(n, WEIGHT_SLOT * lanes) for n in range(slots))
        m.d.comb += [
            tag_read.addr.eq(issued.tag),
            stale.eq(tag_read.data != generation),
            weight_addr.eq(step.weight),
            weights.eq(Mux(weights_single, single_words[slot], block_word)),
            state_read.addr.eq(issued.state),
        ]
        biases = [_bias_words(la, lanes, lane_array.word.shape().elem_shape) for la in layers]
        found_biases = [
            [lookup(m, f"bias_{number}_{lane}", biases[number][lane], loaded.step.block) for lane in range(lanes)]
            for number in range(len(layers))
        ]
        with m.Switch(layer):
            for number, found_bias in enumerate(found_biases):
                with m.Case(number):
                    m.d.comb += [initial[lane].eq(found_bias[lane]) for lane in range(lanes)]
        for lane in range(lanes):
            if block_form:
                m.d.comb += _same_state(raw[lane], block_form(state_read.data.word_select(lane, block_form.size)))
            if single_form:
                # A lane that a layer does not use has a state of 0 and weights of 0: it never fires.
                with m.If(states_single):
                    m.d.comb += raw[lane].eq(0)
                    if lane < folded.single_lanes:
                        in_word = single.read_data.word_select(lane, share)
                        m.d.comb += _same_state(raw[lane], single_form(in_word[: single_form.size]))
            m.d.sync += [
                lane_array.word[lane].eq(Mux(stale, initial[lane].as_value(), raw[lane].as_value())),
                lane_array.drive[lane].eq(weights[lane] ^ event.negative.replicate(WEIGHT_SLOT)),
            ]
        m.d.comb += [lane_array.layer.eq(layer), lane_array.negative.eq(event.negative)]

        # Back into memory. With its last block a position is of this generation.
        writes, single_walks, single_other = Signal(), Signal(), Signal(range(SINGLE_WORDS))
        sweeping, sweep_addr = Signal(), Signal(range(folded.tag_depth))
        m.d.comb += [
            writes.eq(done.valid & ~done.member & ~done.reads & ~fires),
            tag_write.en.eq(sweeping | (writes & (done.step.block == final_block))),
            tag_write.addr.eq(Mux(sweeping, sweep_addr, done.tag)),
            tag_write.data.eq(Mux(sweeping, 0, generation)),
            single_other.eq(Mux(states_single, done.state, step.weight >> slot_bits)),
            single_walks.eq(states_single & ~writes),
            single.addr.eq(Mux(single_walks, single_state, single_other)),
            single.write_en.eq((writes & states_single).replicate(PARTS)),
        ]
        m.d.comb += [state_write.en.eq(writes & ~states_single), state_write.addr.eq(done.state)]
        for lane in range(lanes):
            if block_form:
                stored = Signal(block_form, name=f"stored_{lane}")
                m.d.comb += _same_state(stored, lane_array.after[lane])
                m.d.comb += state_write.data.word_select(lane, block_form.size).eq(stored)
            if single_form and lane < folded.single_lanes:
                stored = Signal(single_form, name=f"stored_single_{lane}")
                m.d.comb += _same_state(stored, lane_array.after[lane])
                m.d.comb += single.write_data.word_select(lane, share).eq(stored)

        # What fires, a cycle after it was written. Of a pool's window, each other count must be less than the greater of the
        # counts before and after, or the maximum does not move.
        plus, minus, pending, fired_minus, chosen = (
            Signal(lanes, name=name) for name in ("plus", "minus", "pending", "fired_minus", "chosen")
        )
        counts = list(lane_array.count)
        greater = [Signal.like(count, name=f"greater_{lane}") for lane, count in enumerate(counts)]
        caught = Signal(step_layout)
        m.d.comb += [fires.eq((plus | minus).any()), chosen.eq(pending & -pending)]
        m.d.sync += [
            plus.eq(lane_array.plus & writes.replicate(lanes)),
            minus.eq(lane_array.minus & writes.replicate(lanes)),
        ]
        with m.If(writes):
            m.d.sync += [
                caught.eq(done.step),
                *(greater[lane].eq(counts[lane] + lane_array.plus[lane]) for lane in range(lanes)),
            ]
        with m.If(fires):
            m.d.sync += [step.eq(caught), fired_minus.eq(minus), pending.eq(plus | minus)]
        with m.If(done.valid & done.member & ~done.own):
            m.d.sync += [pending[lane].eq(pending[lane] & (counts[lane] < greater[lane])) for lane in range(lanes)]
        with m.If(writes & lane_array.saturated.any()):
            m.d.sync += saturated.eq(1)

        # The pool's window.
        found = Window(m, layers, layer, step)
        token_y, token_x, window_x = (
            Signal.like(of, name=name) for name, of in (("token_y", step.y), ("token_x", step.x), ("window_x", step.x))
        )
        rows_left, columns_left, columns = (
            Signal.like(of, name=name) for name, of in (("rows_left", step.y), ("columns_left", step.x), ("columns", step.x))
        )

        # Queues start again from their first word whenever they are empty.
        heads, tails = (
            [Signal(range(max(2, la.queue_depth + 1)), name=f"{name}_{number}") for number, la in enumerate(layers)]
            for name in ("head", "tail")
        )
        queued = Signal(len(layers))

        # Copies for the host wait in a register; what is watched waits for it.
        numbers = ports(network)
        of_links = [numbers["input"], *(numbers[(la.pool or la.layer).name] for la in layers)]
        copied: Value = Const(0, 1)
        if plan.watch:
            copied = self.watched.valid
            with m.If(self.watched.ready):
                m.d.sync += self.watched.valid.eq(0)

        def passes(port: int) -> Value:
            return ~(self.watch[port] & copied) if plan.watch else Const(1, 1)

        def copy(port: int, **payload: Value | Kind) -> None:
            if plan.watch:
                with m.If(self.watch[port]):
                    m.d.sync += [
                        self.watched.valid.eq(1),
                        self.watched.payload.eq(0),
                        self.watched.payload.port.eq(port),
                        *(self.watched.payload[name].eq(value) for name, value in payload.items()),
                    ]

        # Frames and answers.
        result = self.result.payload
        in_frame, cycles = Signal(), Signal(CYCLES_WIDTH)
        count_shape = result.counts.shape().elem_shape
        collected = Signal(data.ArrayLayout(count_shape, layers[last].lanes * layers[last].blocks))
        best, index = Signal(count_shape), Signal(range(len(collected)))
        m.d.sync += cycles.eq(cycles + 1)
        m.d.comb += [into.eq(value) for into, value in zip(result.counts, collected, strict=False)]
        with m.If(self.result.ready):
            m.d.sync += self.result.valid.eq(0)
        with m.If(done.valid & done.reads):
            kept = [*list(collected)[layers[last].lanes :], *counts[: layers[last].lanes]]
            m.d.sync += [into.eq(value) for into, value in zip(collected, kept, strict=True)]
        host = self.host.payload
        token = {name: host[name] for name in ("kind", "negative", "y", "x", "c")}
        takes, ends, pushes, fresh, beat = Signal(), Signal(), Signal(), Signal(), Signal()
        emitted = Signal(
            data.StructLayout(
                {name: event_layout[name].shape for name in event_layout.members}
                | {"y": step.y.shape(), "x": step.x.shape(), "c": range(max(la.blocks * la.lanes for la in layers))}
            )
        )
        lane_number = Signal(range(max(2, lanes)))
        ending = Signal(range(len(layers) + 2))
        m.d.comb += [
            emitted.negative.eq((fired_minus & chosen).any()),
            emitted.y.eq(token_y),
            emitted.x.eq(token_x),
        ]
        for number, la in enumerate(layers):
            with m.If(layer == number):
                m.d.comb += emitted.c.eq(Cat(lane_number[: la.lanes.bit_length() - 1], step.block))
        for lane in reversed(range(lanes)):
            with m.If(pending[lane]):
                m.d.comb += lane_number.eq(lane)

        # A signature register takes all weights in turn.
        check_addr, signed_at = Signal(range(SINGLE_WORDS + 1)), Signal()
        if folded.single_weight_words:
            found_signature = self.weights.found
            feedback = Mux(found_signature[-1], SIGNATURE_POLYNOMIAL, 0)
            m.d.sync += signed_at.eq(0)
            with m.If(signed_at):
                m.d.sync += found_signature.eq((found_signature << 1) ^ feedback ^ single.read_data)

        with m.FSM(name="control"):
            with m.State("SWEEP"):
                m.d.comb += sweeping.eq(1)
                m.d.sync += sweep_addr.eq(sweep_addr + 1)
                with m.If(sweep_addr == folded.tag_depth - 1):
                    m.d.sync += sweep_addr.eq(0)
                    m.next = "PICK"
            with m.State("PICK"):
                m.d.sync += saturated.eq(0)
                for number, count in enumerate(self.saturations):
                    with m.If(saturated & (layer == number) & ~count.all()):
                        m.d.sync += count.eq(count + 1)
                with m.If(queued.any()):
                    m.next = "FETCH"
                with m.Else():
                    m.d.comb += [
                        takes.eq(self.host.valid & self._loaded() & passes(0) & ((host.kind == Kind.SPIKE) | ~self.result.valid)),
                        ends.eq(takes & (host.kind == Kind.END)),
                        self.host.ready.eq(takes),
                    ]
                    with m.If(takes):
                        m.next = "LOOK"
                        m.d.sync += [
                            in_frame.eq(~ends),
                            reading_out.eq(ends),
                            layer.eq(Mux(ends, last, 0)),
                            ending.eq(1),
                            *(event[name].eq(host[name]) for name in event_layout.members),
                        ]
                        copy(0, **token)
                        with m.If(~in_frame):
                            m.d.sync += cycles.eq(0)
                        if plan.watch:
                            with m.If(ends & self.watch[1:].any()):
                                m.next = "ENDS"
                    if folded.single_weight_words:
                        m.d.comb += self.weights.idle.eq(~in_frame & ~self.host.valid)
                        with m.If(self.weights.check):
                            m.next = "CHECK"
                    if plan.states:
                        with m.If(self.states.ask):
                            place = self.states.place
                            m.d.sync += [step.y.eq(place.y), step.x.eq(place.x)]
                            for number, la in enumerate(layers):
                                with m.If(place.port == network.layers.index(la.layer) + 1):
                                    m.d.sync += [layer.eq(number), step.block.eq(place.c >> (la.lanes.bit_length() - 1))]
                            m.next = "ASKED"
                for number in range(1, len(layers)):
                    with m.If(queued[number] & ~queued[number + 1 :].any()):
                        head, tail = heads[number], tails[number]
                        m.d.comb += queue_read.addr.eq(layers[number].queue_base + head)
                        m.d.sync += [layer.eq(number), head.eq(head + 1)]
                        with m.If(head + 1 == tail):
                            m.d.sync += [head.eq(0), tail.eq(0), queued[number].eq(0)]
            if plan.watch:
                with m.State("ENDS"), m.Switch(ending):
                    for number, port in enumerate(of_links[1:], start=1):
                        with m.Case(number), m.If(passes(port)):
                            copy(port, kind=Kind.END)
                            m.d.sync += ending.eq(number + 1)
                            if number == len(layers):
                                m.next = "LOOK"
            with m.State("FETCH"):
                m.next = "LOOK"
                with m.Switch(layer):
                    for number, la in enumerate(layers[1:], start=1):
                        with m.Case(number):
                            queued_event = data.View(_queued(la.source), queue_read.data[: _queued(la.source).size])
                            m.d.sync += [event[name].eq(queued_event[name]) for name in event_layout.members]
            with m.State("LOOK"):
                m.next = "SUM"
            with m.State("SUM"):
                m.d.sync += [step.eq(first), step.weight.eq(weight_y + weight_x + weight_c), beat.eq(0)]
                m.next = "WALK"
                with m.If(~reaches):
                    m.next = "PICK"
            with m.State("WALK"):
                m.d.sync += beat.eq(~beat & states_single)
                m.d.comb += issue_step.eq(~beat)
                with m.If(fires):
                    m.next = "FIRED"
                with m.Elif(~beat):
                    m.d.sync += step.eq(advanced)
                    with m.If(last_step):
                        m.next = "DRAIN"
            with m.State("DRAIN"):
                with m.If(fires):
                    m.next = "FIRED"
                with m.Elif(settled & ~done.valid):
                    m.next = "PICK"
                    with m.If(reading_out):
                        m.d.sync += index.eq(0)
                        m.next = "COMPARE"
            with m.State("FIRED"):
                m.d.sync += [
                    token_y.eq(found.pooled_y),
                    token_x.eq(found.pooled_x),
                    member_y.eq(found.first_y),
                    member_x.eq(found.first_x),
                    window_x.eq(found.first_x),
                    rows_left.eq(found.rows),
                    columns_left.eq(found.columns),
                    columns.eq(found.columns),
                    fresh.eq(1),
                    beat.eq(0),
                ]
                m.next = "EMIT"
                with m.If(found.pools & found.inside):
                    m.d.sync += issue_member.eq(1)
                    m.next = "MEMBERS"
                with m.Elif(found.pools):
                    m.next = "RESUME"
            with m.State("MEMBERS"):
                m.d.sync += [member_x.eq(member_x + 1), columns_left.eq(columns_left - 1)]
                with m.If(columns_left == 0):
                    m.d.sync += [
                        member_x.eq(window_x),
                        columns_left.eq(columns),
                        member_y.eq(member_y + 1),
                        rows_left.eq(rows_left - 1),
                    ]
                    with m.If(rows_left == 0):
                        m.d.sync += issue_member.eq(0)
                        m.next = "SETTLE"
            with m.State("SETTLE"), m.If(settled):
                m.next = "EMIT"
            with m.State("EMIT"):
                with m.Switch(layer):
                    for number, la in enumerate(layers):
                        with m.Case(number):
                            m.d.comb += pushes.eq(pending.any() & passes(of_links[number + 1]))
                            with m.If(pushes):
                                copy(of_links[number + 1], **{name: emitted[name] for name in ("negative", "y", "x", "c")})
                                if number < last:
                                    tail = tails[number + 1]
                                    layout = _queued(la.leaving)
                                    entry = Cat(emitted[name][: layout[name].width] for name in layout.members)
                                    m.d.comb += [
                                        queue_write.en.eq(1),
                                        queue_write.addr.eq(layers[number + 1].queue_base + tail),
                                        queue_write.data.eq(entry),
                                    ]
                                    m.d.sync += [tail.eq(tail + 1), queued[number + 1].eq(1)]
                with m.If(pushes):
                    m.d.sync += [pending.eq(pending & ~chosen), fresh.eq(0)]
                with m.If(~pending.any() | (pushes & (pending == chosen))):
                    m.next = "RESUME"
            with m.State("RESUME"):
                m.d.sync += step.eq(advanced)
                m.next = "WALK"
                with m.If(last_step):
                    m.next = "PICK"
            with m.State("COMPARE"):
                m.d.sync += [
                    index.eq(index + 1),
                    *(into.eq(value) for into, value in zip(collected, [*list(collected)[1:], collected[0]], strict=True)),
                ]
                with m.If((index == 0) | ((index < network.outputs) & (collected[0] > best))):
                    # A single output answers by its sign.
                    answer = index if network.outputs > 1 else collected[0] > 0
                    m.d.sync += [best.eq(collected[0]), result.answer.eq(answer)]
                with m.If(index == len(collected) - 1):
                    m.d.sync += [
                        reading_out.eq(0),
                        result.cycles.eq(cycles + 1),
                        self.result.valid.eq(1),
                        generation.eq(generation + 1),
                    ]
                    m.next = "PICK"
                    with m.If(generation.all()):
                        m.d.sync += generation.eq(1)
                        m.next = "SWEEP"
            if plan.states:
                # The state at `step` is on its way whenever nothing else is.
                with m.State("ASKED"):
                    m.next = "READ"
                with m.State("READ"):
                    m.next = "FOUND"
                with m.State("FOUND"):
                    m.d.comb += self.states.found.eq(1)
                    with m.If(~self.states.ask):
                        m.next = "PICK"
            if folded.single_weight_words:
                with m.State("CHECK"):
                    m.d.sync += [check_addr.eq(folded.single_state_words), found_signature.eq(0)]
                    m.next = "SIGN"
                with m.State("SIGN"):
                    m.d.comb += [single_walks.eq(0), single_other.eq(check_addr), single.write_en.eq(0)]
                    m.d.sync += [check_addr.eq(check_addr + 1), signed_at.eq(1)]
                    with m.If(check_addr == folded.single_words):
                        m.d.sync += signed_at.eq(0)
                        m.next = "SIGNED"
                with m.State("SIGNED"):
                    m.d.sync += self.weights.loaded.eq(found_signature == signature(folded.single_weights()))
                    m.next = "PICK"
        if folded.single_weight_words:
            with m.If(self.weights.en):
                m.d.comb += [
                    single_walks.eq(0),
                    single_other.eq(self.weights.addr),
                    single.write_data.eq(self.weights.data.replicate(PARTS)),
                    single.write_en.eq(1 << self.weights.part),
                ]
                m.d.sync += self.weights.loaded.eq(0)

        if plan.states:
            words = Array(lane_array.word[lane].as_value() for lane in range(lanes))
            asked = Signal(range(max(2, lanes)))
            for number, la in enumerate(layers):
                with m.If(layer == number):
                    m.d.comb += asked.eq(self.states.place.c[: la.lanes.bit_length() - 1])
            m.d.comb += [
                *_same_state(self.states.state, lane_array.word.shape().elem_shape(words[asked])),
                self.states.known.eq(Cat(known_place(network, la.layer, self.states.place) for la in layers).any()),
            ]

        # How far an event reaches: looked up in LOOK.
        for number, la in enumerate(layers):
            looked = Reach(m, number, la, event, len(step.weight))
            with m.If(layer == number):
                m.d.sync += [
                    first.y.eq(looked.first_y),
                    first.x.eq(looked.first_x),
                    first.block.eq(0),
                    first.rows.eq(looked.rows),
                    first.columns.eq(looked.columns),
                    weight_y.eq(looked.weight_y),
                    weight_x.eq(looked.weight_x),
                    weight_c.eq(looked.weight_c),
                    row_jump.eq(looked.row_jump),
                    column_jump.eq(looked.column_jump),
                    reaches.eq(looked.reaches),
                    final_block.eq(la.blocks - 1),
                ]

        # Traces.
        of_groups: dict[str, tuple[Value, dict[str, Value]]] = {}
        for number, la in enumerate(layers):
            block = {"y": caught.y, "x": caught.x, "part": caught.block, "plus": plus, "minus": minus}
            of_groups[la.layer.name] = fires & (layer == number), block
            if la.pool:
                survivors = {
                    "y": token_y,
                    "x": token_x,
                    "part": step.block,
                    "plus": pending & ~fired_minus,
                    "minus": pending & fired_minus,
                }
                of_groups[la.pool.name] = pushes & fresh & (layer == number), survivors
        of_events = {"input": (takes & ~ends, {name: host[name] for name in ("negative", "y", "x", "c")})}
        for number, la in enumerate(layers):
            of_events[(la.pool or la.layer).name] = (
                pushes & (layer == number),
                {name: emitted[name] for name in ("negative", "y", "x", "c")},
            )
        for trace in self.traces:
            strobe = Signal(name=f"trace_{trace.name}_strobe")
            payload = Signal(trace.layout, name=f"trace_{trace.name}_payload")
            passing, values = (of_groups if trace.form == "groups" else of_events)[trace.layer]
            m.d.comb += strobe.eq(passing | ends)
            with m.If(ends):
                m.d.comb += payload.kind.eq(Kind.END)
            with m.Else():
                m.d.comb += [payload[name].eq(value) for name, value in values.items()]
        return m

    def _loaded(self) -> Value:
        return self.weights.loaded if self._folded.single_weight_words else Const(1, 1)

    def _event_layout(self) -> data.StructLayout:
        """An event of any layer."""
        sources = [AddressEvent(la.source) for la in self._folded.layers]
        return data.StructLayout({name: max(of[name].width for of in sources) for name in ("negative", "y", "x", "c")})

    def _step_layout(self) -> data.StructLayout:
        """A block in a walk: position, block, block of weights; rows and columns left behind it."""
        layers = self._folded.layers
        most_weight = max(la.weight_base + la.weight_words for la in layers)
        rows, columns = (max(len(pairs) for la in layers for pairs in la.axis(axis)) for axis in (0, 1))
        return data.StructLayout(
            {
                "y": range(max(2, *(la.output.height for la in layers))),
                "x": range(max(2, *(la.output.width for la in layers))),
                "block": range(max(2, *(la.blocks for la in layers))),
                "weight": range(most_weight),
                "rows": range(max(2, rows)),
                "columns": range(max(2, columns)),
            }
        )


def _queued(shape: Shape) -> data.StructLayout:
    """An event in a queue."""
    event = AddressEvent(shape)
    return data.StructLayout({name: event[name].width for name in ("negative", "y", "x", "c")})


def _block_of(position: Value, blocks: int, block: Value) -> Value:
    """Number of a block at a position, of so many each."""
    if blocks & blocks - 1 == 0:
        return Cat(block[: (blocks - 1).bit_length()], position)
    return scaled(position, blocks) + block


def _same_state(into: data.View, of: data.View) -> list[Any]:
    """The same state in another `SettledState`."""
    return [into[name].eq(of[name]) for name in ("summed", "count")]


def _bias_words(la: FoldedLayer, lanes: int, layout: data.Layout) -> list[list[int]]:
    """Of each lane, the state after reset of its neuron in each block."""
    biases = [*map(int, la.layer.bias), *[0] * (la.blocks * la.lanes - la.output.channels)]
    states = [layout.const({"summed": bias, "count": 0}).as_value().value for bias in biases]
    return [states[lane :: la.lanes] if lane < la.lanes else [0] for lane in range(lanes)]
