"""The host link: packets of bytes in, frames into the machine, answers out. The protocol is in docs/link.md."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from hw.aer import AddressEvent, HostEvent, Kind
from hw.interface import PASSES_WIDTH, Result, StatePort, WeightPort
from hw.link.identity import identity
from hw.link.protocol import (
    ADDR_BYTES,
    CHECK,
    COUNTED,
    FRAMES,
    LOADED,
    RESULT,
    STATE,
    STATUS,
    WEIGHTS,
    WORD_BYTES,
    Command,
    Status,
    event_bytes,
    longest_payload,
    mask_bytes,
    takes_bits,
    weight_mask_bytes,
)
from hw.link.receiver import PacketReceiver
from hw.link.sender import PacketSender
from hw.link.work import PART_ADDR_BITS, Work
from hw.parts.memory import DISTRIBUTED, BuiltMemory, placed
from hw.pipeline.router import answered_ports, enters
from model.machine.folded_layout import Folded
from model.machine.limits import FRAMES_IN_FLIGHT, SATURATIONS_WIDTH
from model.machine.plan import Plan
from model.network import Network

__all__ = ["SEQUENCES", "Link"]

SEQUENCES = 2 * FRAMES_IN_FLIGHT
"""Frames whose packets are remembered: those in the machine, and a few whose results wait on their way to the sender."""

_CYCLES_WIDTH = 32
"""Width of the clock that the answer to `Command.STATUS` has."""


class Link(wiring.Component):
    """Takes packets, feeds the machine, answers.

    Operation
    ---------
    A packet is kept until its checksum is right; only then does it reach the machine. A wrong checksum, an unknown
    command, a length that does not suit or a packet that does not go on gets an error packet. Answers of the machine (results,
    watched events) are sent as they come, one packet each. The host waits for the answer to a packet before it sends the next
    one: of a packet that comes while one is carried out nothing is heard (`hw.link.receiver.PacketReceiver`). An answer
    has the sequence number of its packet, and a result that of the packet with the end of its frame, however late it comes.

    Timing
    ------
    A byte a cycle in; a frame is encoded once it is there. Each answer byte waits for the transmitter.

    Parameters
    ----------
    network : Network
        gives sizes, and the hash by which the host knows it
    plan : Plan
        gives its hash, and what the machine can do
    clock_hz : float
        cycles a second, for the host
    saturations : int
        counters of the machine
    timeout : int
        cycles for which a packet that has begun may stand still
    settle : int
        cycles between the answer to a reset and the reset: the answer has to be out by then
    lean : bool
        for a machine that has one frame at a time, and takes the end of none while a result waits: packets are as short as a
        frame allows, and the last one alone is remembered
    weights : Folded, optional
        of a machine whose weights have to be loaded, what lies where: no frame is taken before they are there

    Members
    -------
    received : In, stream of unsigned(8)
        bytes from the wire
    sent : Out, stream of unsigned(8)
        bytes for the wire
    pixels : Out, stream of unsigned(8)
        bytes of a frame, for the encoder
    encoded : In, stream of AddressEvent
        what the encoder makes of them
    host : Out, stream of HostEvent
        to the machine
    result : In, stream of Result
        from the machine
    watched : In, stream of HostEvent
        where ``plan.watch``
    watch_mask : Out, a bit a port
        what is to be watched, likewise
    saturations : In, SATURATIONS_WIDTH bits each
        the machine's counters
    lost : In, unsigned(8)
        bytes that were dropped
    deaf : Out, 1 bit
        1 where bytes that come are dropped
    weights : Out, WeightPort
        where there are ``weights``
    loads_only : In, 1 bit
        1 where packets do not come from the host, and only `LOADED` are obeyed; likewise
    stop : Out, 1 bit
        1 where that ought to end: at an error, at a byte that is not `SYNC` where a packet ought to begin, and after a check;
        likewise
    states : Out, StatePort
        where ``plan.states``
    weight_passes, weights_differ : In, PASSES_WIDTH bits, and a bit a neuron layer
        as of `hw.interface.machine_members`, where ``plan.weight_check``
    restart : Out, 1 bit
        1 where everything, this too, is to be reset
    """

    def __init__(
        self,
        *,
        network: Network,
        plan: Plan,
        clock_hz: float,
        saturations: int,
        timeout: int,
        settle: int,
        lean: bool = False,
        weights: Folded | None = None,
    ) -> None:
        self._network = network
        self._plan = plan
        self._clock_hz = clock_hz
        self._saturations = saturations
        self._timeout = timeout
        self._settle = settle
        self._lean = lean
        self._weights = weights
        members: dict[str, In | Out] = {
            "received": In(stream.Signature(unsigned(8))),
            "sent": Out(stream.Signature(unsigned(8))),
            "pixels": Out(stream.Signature(unsigned(8))),
            "encoded": In(stream.Signature(AddressEvent(network.input_shape))),
            "host": Out(stream.Signature(HostEvent(network))),
            "result": In(stream.Signature(Result(network, clips=plan.inject))),
            "saturations": In(SATURATIONS_WIDTH * saturations),
            "lost": In(8),
            "deaf": Out(1),
            "restart": Out(1),
        }
        if plan.watch:
            members["watched"] = In(stream.Signature(HostEvent(network)))
            members["watch_mask"] = Out(len(network.layers) + 1)
        if weights:
            members |= {"weights": Out(WeightPort()), "loads_only": In(1), "stop": Out(1)}
        if plan.states:
            members["states"] = Out(StatePort(network))
        if plan.weight_check:
            members |= {"weight_passes": In(PASSES_WIDTH), "weights_differ": In(saturations)}
        super().__init__(members)

    @property
    def network(self) -> Network:
        """Gives sizes and the hash."""
        return self._network

    @property
    def memories(self) -> tuple[BuiltMemory, ...]:
        """That of its receiver, and the sequence numbers of the frames whose results are to come, where these are several."""
        sequences = BuiltMemory(name="sequences", width=8, depth=SEQUENCES, kind=DISTRIBUTED)
        return (*placed("receiver", self._receiver().memories), *([] if self._lean else [sequences]))

    @property
    def _frames(self) -> tuple[Command, ...]:
        """The commands there are of `FRAMES`."""
        return FRAMES if takes_bits(self._network) else (Command.FRAME,)

    def _receiver(self) -> PacketReceiver:
        return PacketReceiver(lengths=self._lengths(), timeout=self._timeout, longest_silence=self._settle)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.receiver = receiver = self._receiver()
        wiring.connect(m, wiring.flipped(self.received), receiver.received)
        m.d.comb += self.deaf.eq(receiver.deaf)
        work = Work(m, self._network, weights=bool(self._weights))
        if self._weights:
            m.d.comb += [
                receiver.loads_only.eq(self.loads_only),
                self.stop.eq(receiver.noise | work.stop),
                Cat(self.weights.part, self.weights.addr).eq(work.addr),
                self.weights.data.eq(work.part),
            ]
        if self._plan.states:
            m.d.comb += [self.states.place.eq(work.event), work.asking.eq(self.states.ask)]
            with m.If(work.told):
                m.d.sync += self.states.ask.eq(0)
        self._carry_out(m, receiver, work)
        self._feed_machine(m, work)
        sequence = receiver.packet.payload.sequence
        self._send(m, work, sequence, self._follow_frames(m, work, sequence))
        return m

    def _lengths(self) -> dict[Command, range]:
        """The commands that there are, and the lengths of payload that suit each."""
        network, longest = self._network, longest_payload(self._network, short=self._lean)

        def only(length: int) -> range:
            return range(length, length + 1)

        lengths = {
            Command.IDENTIFY: only(0),
            Command.FRAME: only(network.input_shape.size),
            Command.EVENTS: range(longest + 1),
            Command.SATURATIONS: only(0),
            Command.STATUS: only(0),
            Command.RESET: only(0),
        }
        if Command.BITS in self._frames:
            lengths[Command.BITS] = only(network.input_shape.size // 8)
        if self._plan.watch:
            lengths[Command.WATCH] = only(mask_bytes(network))
        if self._weights:
            lengths |= {Command.LOAD: range(ADDR_BYTES + WORD_BYTES, longest + 1, WORD_BYTES), Command.CHECK: only(0)}
        if self._plan.states:
            lengths[Command.STATE] = only(event_bytes(network))
        if self._plan.weight_check:
            lengths[Command.WEIGHTS] = only(0)
        return lengths

    def _carry_out(self, m: Module, receiver: PacketReceiver, work: Work) -> None:
        """What a packet asks for: its payload goes where it belongs, then it is answered."""
        packet, payload = receiver.packet.payload, receiver.payload
        command, width = packet.command, event_bytes(self._network)
        at = Signal(range(max(width, ADDR_BYTES)))
        mask = Signal(8 * mask_bytes(self._network))
        m.d.comb += self.pixels.payload.eq(payload.payload)
        if self._plan.watch:
            m.d.comb += self.watch_mask.eq(mask)

        with m.FSM():
            with m.State("WAIT"):
                m.d.sync += [at.eq(0), work.begins.eq(1)]
                with m.If(receiver.packet.valid):
                    m.next = "GATHER"
                    self._refuse(m, command, work)
                    with m.If(packet.error != 0):
                        work.refuse(packet.error)
            with m.State("GATHER"):
                with m.If(command == Command.FRAME.value):
                    m.d.comb += [self.pixels.valid.eq(payload.valid), payload.ready.eq(self.pixels.ready)]
                if Command.BITS in self._frames:
                    with m.Elif(command == Command.BITS.value):
                        self._take_bits(m, payload)
                with m.Else():
                    m.d.comb += payload.ready.eq(1)
                with m.If(payload.valid):
                    m.d.sync += [work.gathered.eq(Cat(work.gathered, payload.payload)[8:]), at.eq(at + 1)]
                    if self._plan.watch:
                        with m.If(command == Command.WATCH.value):
                            m.d.sync += mask.eq(Cat(mask, payload.payload)[8:])
                    with m.If((command == Command.EVENTS.value) & (at == width - 1)):
                        m.d.sync += at.eq(0)
                        m.next = "LOOK"
                    if self._weights:
                        with m.If((command == Command.LOAD.value) & at[0]):
                            m.d.sync += at.eq(0)
                            m.next = "LOAD"
                with m.Elif(receiver.complete), m.Switch(command):
                    with m.Case(*(one.value for one in self._frames)):
                        m.next = "ENCODE"
                    with m.Case(Command.EVENTS.value):
                        work.answer(command)
                        with m.If(at != 0):
                            # A part of an event is left over.
                            work.refuse(Status.BAD_LENGTH)
                    for asks, state in ((Command.CHECK, "CHECK"), (Command.STATE, "ASK")):
                        if asks in receiver.lengths:
                            with m.Case(asks.value):
                                m.next = state
                    with m.Default():
                        work.answer(command)
            with m.State("LOOK"):
                m.next = "ENTER"
            with m.State("ENTER"):
                m.d.comb += work.entering.eq(work.placed)
                with m.If(~work.placed):
                    work.refuse(Status.NO_PLACE)
                with m.Elif(self.host.ready):
                    m.next = "GATHER"
            with m.State("ENCODE"):
                # The next packet's frame must not overtake this one's.
                m.d.comb += work.encoding.eq(1)
                with m.If(self.host.valid & self.host.ready & (self.encoded.payload.kind == Kind.END)):
                    m.d.comb += receiver.packet.ready.eq(1)
                    m.next = "WAIT"
            if self._weights:
                self._load(m, work)
            if self._plan.states:
                self._ask(m, command, work)
            with m.State("REPLY"):
                resets = work.reply == Command.RESET.value
                m.d.comb += receiver.hold.eq(resets)
                with m.If(~work.replying & ~work.asking):
                    m.d.comb += receiver.packet.ready.eq(~resets)
                    m.next = "WAIT"
                    with m.If(resets):
                        m.next = "RESTART"
            with m.State("RESTART"):
                m.d.comb += [work.restarting.eq(1), self.restart.eq(receiver.silence == self._settle)]

    def _take_bits(self, m: Module, payload: stream.Interface) -> None:
        """In a state: each bit of a byte becomes a pixel, as dark or as bright as can be."""
        bit = Signal(3)
        m.d.comb += [
            self.pixels.payload.eq(payload.payload.bit_select(bit, 1).replicate(8)),
            self.pixels.valid.eq(payload.valid),
            payload.ready.eq(self.pixels.ready & bit.all()),
        ]
        with m.If(payload.valid & self.pixels.ready):
            m.d.sync += bit.eq(bit + 1)

    def _refuse(self, m: Module, command: Value, work: Work) -> None:
        """Where a packet that is all right cannot be carried out now."""
        # A frame of pixels must not go on with what a list of events has begun.
        pixels = reduce(or_, (command == one.value for one in self._frames))
        with m.If(pixels & work.in_frame):
            work.refuse(Status.BUSY)
        if self._weights:
            needs, loads = (
                Cat(command == one.value for one in commands).any() for commands in ((*self._frames, Command.EVENTS), LOADED)
            )
            with m.If(needs & ~self.weights.loaded):
                work.refuse(Status.NOT_LOADED)
            with m.If(loads & ~self.weights.idle):
                work.refuse(Status.BUSY)

    def _load(self, m: Module, work: Work) -> None:
        """States in which weights are written and checked; of a packet the first bytes are where the first word goes."""
        with m.State("LOAD"):
            m.d.comb += self.weights.en.eq(~work.begins)
            m.d.sync += [work.begins.eq(0), work.addr.eq(work.addr + 1)]
            m.next = "GATHER"
            with m.If(work.begins):
                m.d.sync += work.addr.eq(work.part << PART_ADDR_BITS)
                with m.If(work.part[len(self.weights.addr) :].any()):
                    work.refuse(Status.BAD_LENGTH)
        with m.State("CHECK"):
            m.d.comb += self.weights.check.eq(1)
            m.next = "CHECKING"
        with m.State("CHECKING"), m.If(self.weights.idle):
            m.d.comb += work.stop.eq(1)
            work.answer(Command.CHECK)

    def _ask(self, m: Module, command: Value, work: Work) -> None:
        """The state in which a neuron's state is asked for; it stays as it is until it has been sent."""
        with m.State("ASK"):
            m.d.sync += self.states.ask.eq(1)
            with m.If(self.states.found):
                work.answer(command)
                with m.If(~self.states.known):
                    m.d.sync += self.states.ask.eq(0)
                    work.refuse(Status.NO_PLACE)

    def _feed_machine(self, m: Module, work: Work) -> None:
        """Events of a list, or of the encoder's frame; those that are nowhere do not enter."""
        token, event, encoded = self.host.payload, work.event, self.encoded.payload
        m.d.sync += work.placed.eq(enters(self._network, event, inject=self._plan.inject))
        with m.If(work.encoding):
            m.d.comb += [self.host.valid.eq(self.encoded.valid), self.encoded.ready.eq(self.host.ready)]
            m.d.comb += [token[name].eq(encoded[name]) for name in ("kind", "negative", "y", "x", "c")]
        with m.Else():
            m.d.comb += [self.host.valid.eq(work.entering), token.port.eq(event.port), token.kind.eq(event.kind)]
            # An end of frame is at no place, whatever its bits say.
            with m.If(event.kind == Kind.SPIKE):
                m.d.comb += [token[name].eq(event[name]) for name in ("negative", "y", "x", "c")]

    def _follow_frames(self, m: Module, work: Work, sequence: Value) -> Value:
        """Whether a frame has begun; gives the sequence number of the packet with the end of the frame whose result is next."""
        token, taken = self.host.payload, self.host.valid & self.host.ready
        ends = taken & (token.kind == Kind.END)
        with m.If(taken):
            m.d.sync += work.in_frame.eq(token.kind == Kind.SPIKE)
        if self._lean:
            # The machine takes no end while a result waits.
            last = Signal(8, name="sequence_of_frame", reset_less=True)
            with m.If(ends):
                m.d.sync += last.eq(sequence)
            return last
        if self._plan.inject:
            # A frame goes where its first token does, and not all ways lead to an answer.
            leads, led = Signal(), Signal()
            m.d.comb += leads.eq(Cat(token.port == port for port in sorted(answered_ports(self._network))).any())
            with m.If(taken & ~work.in_frame):
                m.d.sync += led.eq(leads)
            ends = ends & Mux(work.in_frame, led, leads)
        m.submodules.sequences = sequences = SyncFIFO(width=8, depth=SEQUENCES)
        m.d.comb += [
            sequences.w_en.eq(ends),
            sequences.w_data.eq(sequence),
            sequences.r_en.eq(self.result.valid & self.result.ready),
        ]
        return sequences.r_data

    def _send(self, m: Module, work: Work, sequence: Value, sequence_of_result: Value) -> None:
        """Answers to commands first, then results, then watched events."""
        network = self._network
        result = self.result.payload
        who = identity(network, self._plan, self._clock_hz, self._weights)
        sizes: dict[Command | Status, int] = {
            Command.IDENTIFY: len(who),
            Command.SATURATIONS: len(self.saturations) // 8,
            Command.STATUS: STATUS.size,
            Command.FRAME: RESULT.size + 2 * network.outputs,
        }
        contents: dict[Command | Status, Value] = {
            Command.IDENTIFY: Const(int.from_bytes(who, "little"), 8 * len(who)),
            Command.SATURATIONS: self.saturations,
            Command.FRAME: Cat(
                _padded(result.answer, 16),
                result.cycles,
                self._flags(result),
                *(_padded(count, 16) for count in result.counts),
            ),
        }
        if self._weights:
            sizes[Command.CHECK] = CHECK.size
            contents[Command.CHECK] = Cat(self.weights.found, self.weights.loaded)
        if self._plan.states:
            found = self.states.state
            sizes[Command.STATE] = STATE.size
            contents[Command.STATE] = Cat(_padded(found.summed, 32), _padded(found.count, 16), found.updated)
        if self._plan.watch:
            sizes[Status.WATCHED] = event_bytes(network)
            contents[Status.WATCHED] = self.watched.payload.as_value()
        if self._plan.weight_check:
            sizes[Command.WEIGHTS] = WEIGHTS.size + weight_mask_bytes(network)
        m.submodules.sender = sender = PacketSender(payloads=sizes)
        wiring.connect(m, sender.sent, wiring.flipped(self.sent))

        choice, replies = sender.choice.payload, Signal()
        m.d.comb += [
            replies.eq(sender.choice.ready & work.replying),
            sender.choice.valid.eq(~work.restarting),
            choice.sequence.eq(sequence),
            work.told.eq(sender.done & (sender.head == Command.STATE.value)),
            self.result.ready.eq(sender.done & (sender.head == Command.FRAME.value)),
        ]
        if self._plan.watch:
            m.d.comb += self.watched.ready.eq(sender.done & (sender.head == Status.WATCHED.value))
        with m.If(work.replying):
            m.d.comb += choice.head.eq(work.reply)
            m.d.sync += work.replying.eq(~replies)
        with m.Elif(self.result.valid):
            m.d.comb += [choice.head.eq(Command.FRAME.value), choice.sequence.eq(sequence_of_result)]
        with m.Elif(self.watched.valid if self._plan.watch else Const(0)):
            m.d.comb += choice.head.eq(Status.WATCHED.value)
        with m.Else():
            m.d.comb += sender.choice.valid.eq(0)
        contents[Command.STATUS] = self._status(m, replies, work.reply)
        if self._plan.weight_check:
            # As it was when the answer began; the mask says what it says at that count, or more.
            sent_passes = Signal(PASSES_WIDTH)
            with m.If(replies):
                m.d.sync += sent_passes.eq(self.weight_passes)
            contents[Command.WEIGHTS] = Cat(sent_passes, _padded(self.weights_differ, 8 * weight_mask_bytes(network)))
        m.d.comb += [sender.contents[command.name.lower()].eq(content) for command, content in contents.items()]

    def _flags(self, result: Value) -> Value:
        """The byte of a result that says what else is to be known."""
        clipped = result.clipped if self._plan.inject else Const(0)
        if self._plan.weight_check:
            return _padded(Cat(clipped, self.weights_differ.any()), 8)
        return _padded(clipped, 8)

    def _status(self, m: Module, replies: Value, reply: Value) -> Value:
        """Errors since reset, and the clock as it was when the last answer began: what is sent must not change meanwhile."""
        counters = [Signal(8, name=f"{counted.name.lower()}_count") for counted in COUNTED]
        cycles, sent_cycles = Signal(_CYCLES_WIDTH), Signal(_CYCLES_WIDTH)
        m.d.sync += cycles.eq(cycles + 1)
        with m.If(replies):
            m.d.sync += sent_cycles.eq(cycles)
        for counted, counter in zip(COUNTED, counters, strict=True):
            with m.If(replies & (reply == counted.value) & ~counter.all()):
                m.d.sync += counter.eq(counter + 1)
        return Cat(*counters, self.lost, sent_cycles)


def _padded(value: Value, width: int) -> Value:
    """``value`` in ``width`` bits, sign kept."""
    value = Value.cast(value)
    extension = value[-1].replicate(width - len(value)) if value.shape().signed else Const(0, width - len(value))
    return Cat(value, extension) if len(value) < width else value[:width]
