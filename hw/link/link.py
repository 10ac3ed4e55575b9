"""The host link: packets of bytes in, frames into the machine, answers out. The protocol is in docs/link.md."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.aer import AddressEvent, HostEvent, Kind
from hw.interface import SATURATIONS_WIDTH, Result, StatePort, WeightPort
from hw.link.protocol import (
    ADDR_BYTES,
    COUNTED,
    CRC_POLYNOMIAL,
    LOADED,
    PLAN_HASH_BYTES,
    PLAN_NAME_BYTES,
    PROTOCOL_VERSION,
    SYNC,
    Ability,
    Command,
    Status,
    event_bytes,
    longest_payload,
)
from hw.parts.memory import ram_kind, style
from hw.parts.single_port import PART_BITS, PARTS
from hw.pipeline.router import answered_ports
from model.machine.folded_layout import Folded
from model.machine.limits import FRAMES_IN_FLIGHT
from model.machine.plan import Plan
from model.machine.stages import ports
from model.network import Network

__all__ = ["SEQUENCES", "Link"]

SEQUENCES = 2 * FRAMES_IN_FLIGHT
"""Frames whose packets are remembered: those in the machine, and a few whose results wait on their way to the sender."""


class Link(wiring.Component):
    """Takes packets, feeds the machine, answers.

    Operation
    ---------
    A packet is kept until its checksum is right; only then does it reach the machine. A wrong checksum, an unknown
    command, a length that does not suit or a packet that does not go on gets an error packet, and the link waits for the
    next `SYNC`. Answers of the machine (results, watched events) are sent as they come, one packet each. The host waits for
    the answer to a packet before it sends the next one: bytes that come while a packet is carried out are lost. An answer
    has the sequence number of its packet, and a result that of the packet with the end of its frame, however late it comes.

    Timing
    ------
    A byte a cycle in; a frame is encoded behind it. Each answer byte waits for the transmitter.

    Parameters
    ----------
    network, plan : give sizes, the hashes by which the host knows them, and what the machine can do
    clock_hz : cycles a second, for the host
    saturations : counters of the machine
    lean : for a machine that has one frame at a time: packets are as short as a frame allows, and no more of them are remembered
    weights : of a machine whose weights have to be loaded, what lies where: no frame is taken before they are there
    timeout : cycles for which a packet that has begun may stand still
    settle : cycles between the answer to a reset and the reset: the answer has to be out by then

    Members
    -------
    received, sent : In and Out stream, bytes
    pixels : Out stream, bytes of a frame, for the encoder
    encoded : In stream, `AddressEvent`, what the encoder makes of them
    host : Out stream, `HostEvent`, to the machine
    result : In stream, `Result`
    watched, watch_mask : In stream `HostEvent`, Out mask; where ``plan.watch``
    saturations : In, the machine's counters
    lost : In, bytes that the receiver dropped
    weights : Out `WeightPort`, where there are ``weights``
    loads_only : In, 1 where packets do not come from the host, and only `LOADED` are obeyed; likewise
    stop : Out, 1 where that ought to end: at an error, at a byte that is not `SYNC` where a packet ought to begin, and behind
        a check; likewise
    states : Out `StatePort`; where ``plan.states``
    restart : Out, 1 where everything, this too, is to be reset
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
        self._watch = plan.watch
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
            "result": In(stream.Signature(Result(network))),
            "saturations": In(SATURATIONS_WIDTH * saturations),
            "lost": In(8),
            "restart": Out(1),
        }
        if plan.watch:
            members["watched"] = In(stream.Signature(HostEvent(network)))
            members["watch_mask"] = Out(len(network.layers) + 1)
        if weights:
            members |= {"weights": Out(WeightPort()), "loads_only": In(1), "stop": Out(1)}
        if plan.states:
            members["states"] = Out(StatePort(network))
        super().__init__(members)

    @property
    def network(self) -> Network:
        """Gives sizes and the hash."""
        return self._network

    def elaborate(self, platform: object) -> Module:
        m = Module()
        network = self._network
        frame_size = network.input_shape.size
        mask_bytes = -(-(len(network.layers) + 1) // 8)
        width = event_bytes(network)
        longest = longest_payload(network, short=self._lean)

        # Receiver: SYNC, sequence number, command, length (two bytes, low first), payload, CRC.
        m.submodules.kept = kept = Memory(
            shape=unsigned(8), depth=longest, init=[], attrs=style(ram_kind(8, longest))
        )
        kept_read, kept_write = kept.read_port(), kept.write_port()
        sequence, command, length, at = Signal(8), Signal(8), Signal(16), Signal(16)
        crc = Signal(8)
        byte = self.received.payload
        error = Signal(8)
        pending = Signal()
        take, took = Signal(), Signal()
        m.d.comb += [
            took.eq(self.received.valid & self.received.ready),
            kept_write.addr.eq(at),
            kept_write.data.eq(byte),
            kept_read.addr.eq(at),
        ]
        kept_byte = Signal(8, reset_less=True)
        m.d.sync += kept_byte.eq(kept_read.data)
        m.d.comb += self.pixels.payload.eq(kept_byte)
        encoder_busy = Signal()
        identity = self._identity()
        # An event, or a part of a word of weights, and where it goes; the first bytes are where the first one goes.
        part_addr, part_at, part_begins = Signal(8 * ADDR_BYTES + (PARTS - 1).bit_length()), Signal(), Signal()
        gathered = Signal(8 * (max(width, ADDR_BYTES) if self._weights else width))
        event, part = gathered[-8 * width :], gathered[-PART_BITS:]
        if self._weights:
            m.d.comb += [Cat(self.weights.part, self.weights.addr).eq(part_addr), self.weights.data.eq(part)]
        event_at = Signal(range(width + 1))
        host_token = Signal(HostEvent(network))
        mask = Signal(8 * mask_bytes)
        reply = Signal(8)
        replying, replied = Signal(), Signal()
        # Whether a frame has begun; whether a state is asked for, and has been sent.
        in_frame, asking, told = Signal(), Signal(), Signal()
        placed = Signal()
        status = Signal(8 * len(COUNTED) + 8 + 32)
        fits = Signal()
        with m.Switch(command):
            with m.Case(*(c.value for c in (Command.IDENTIFY, Command.SATURATIONS, Command.STATUS, Command.RESET))):
                m.d.comb += fits.eq(length == 0)
            with m.Case(Command.FRAME.value):
                m.d.comb += fits.eq(length == frame_size)
            with m.Case(Command.EVENTS.value):
                m.d.comb += fits.eq(length <= longest)
            if self._watch:
                with m.Case(Command.WATCH.value):
                    m.d.comb += fits.eq(length == mask_bytes)
            if self._plan.states:
                with m.Case(Command.STATE.value):
                    m.d.comb += fits.eq(length == width)
            if self._weights:
                with m.Case(Command.CHECK.value):
                    m.d.comb += fits.eq(length == 0)
                with m.Case(Command.LOAD.value):
                    m.d.comb += fits.eq((length[:3] == ADDR_BYTES) & (length > ADDR_BYTES) & (length <= longest))
        known = Signal()
        absent = [
            *([] if self._watch else [Command.WATCH]),
            *([] if self._weights else LOADED),
            *([] if self._plan.states else [Command.STATE]),
        ]
        commands = [c.value for c in Command if c not in absent]
        m.d.comb += known.eq(Cat(command == value for value in commands).any())
        if self._weights:
            with m.If(self.loads_only):
                m.d.comb += known.eq(Cat(command == value.value for value in LOADED).any())

        # A packet stands still for so many cycles.
        still, late = Signal(range(max(self._timeout, self._settle) + 1)), Signal()
        m.d.comb += late.eq(still == self._timeout)
        m.d.sync += still.eq(Mux(took | late, 0, still + 1))

        def give_up() -> None:
            with m.If(late & ~took):
                m.d.sync += error.eq(Status.TIMEOUT.value)
                m.next = "ERROR"

        def header(state: str, into: Value, following: str) -> None:
            with m.State(state):
                m.d.comb += self.received.ready.eq(1)
                give_up()
                with m.If(took):
                    m.d.sync += [into.eq(byte), crc.eq(_crc_step(crc, byte))]
                    m.next = following

        with m.FSM(name="receiver"):
            with m.State("SYNC"):
                m.d.comb += self.received.ready.eq(1)
                m.d.sync += [at.eq(0), crc.eq(0)]
                if self._weights:
                    m.d.comb += self.stop.eq(took & (byte != SYNC))
                with m.If(took & (byte == SYNC)):
                    m.next = "SEQUENCE"
            header("SEQUENCE", sequence, "COMMAND")
            header("COMMAND", command, "LENGTH_LOW")
            header("LENGTH_LOW", length[:8], "LENGTH_HIGH")
            header("LENGTH_HIGH", length[8:], "CHECK")
            with m.State("CHECK"):
                m.next = "PAYLOAD"
                with m.If(length == 0):
                    m.next = "CRC"
                with m.If(~known | ~fits):
                    m.d.sync += error.eq(Mux(known, Status.BAD_LENGTH.value, Status.BAD_COMMAND.value))
                    m.next = "ERROR"
            with m.State("PAYLOAD"):
                m.d.comb += [self.received.ready.eq(1), kept_write.en.eq(took)]
                give_up()
                with m.If(took):
                    m.d.sync += [at.eq(at + 1), crc.eq(_crc_step(crc, byte))]
                    with m.If(at + 1 == length):
                        m.next = "CRC"
            with m.State("CRC"):
                m.d.comb += self.received.ready.eq(1)
                m.d.sync += [event_at.eq(0)]
                give_up()
                with m.If(took):
                    m.d.sync += at.eq(0)
                    with m.If(byte != crc):
                        m.d.sync += error.eq(Status.BAD_CRC.value)
                        m.next = "ERROR"
                    with m.Else():
                        m.next = "ACT"
                    if self._weights:
                        m.d.sync += part_begins.eq(1)
                        needs = Cat(command == c.value for c in (Command.FRAME, Command.EVENTS)).any()
                        loads = Cat(command == c.value for c in LOADED).any()
                        with m.If((byte == crc) & needs & ~self.weights.loaded):
                            m.d.sync += error.eq(Status.NOT_LOADED.value)
                            m.next = "ERROR"
                        with m.If((byte == crc) & loads & ~self.weights.idle):
                            m.d.sync += error.eq(Status.BUSY.value)
                            m.next = "ERROR"
                    # A frame of pixels must not go on with what a list of events has begun.
                    with m.If((byte == crc) & (command == Command.FRAME.value) & in_frame):
                        m.d.sync += error.eq(Status.BUSY.value)
                        m.next = "ERROR"
            with m.State("ACT"), m.Switch(command):
                with m.Case(Command.FRAME.value):
                    m.next = "READ"
                with m.Case(Command.EVENTS.value):
                    m.next = "READ"
                    with m.If(length == 0):
                        m.d.sync += [reply.eq(command), replying.eq(1)]
                        m.next = "REPLY"
                with m.Case(Command.WATCH.value, *([Command.STATE.value] if self._plan.states else [])):
                    m.next = "READ"
                if self._weights:
                    with m.Case(Command.LOAD.value):
                        m.d.sync += part_at.eq(0)
                        m.next = "READ"
                    with m.Case(Command.CHECK.value):
                        m.next = "CHECKS"
                with m.Default():
                    m.d.sync += [reply.eq(command), replying.eq(1)]
                    m.next = "REPLY"
            with m.State("READ"):
                m.next = "READY"
            with m.State("READY"):
                m.next = "PASS"
            with m.State("PASS"):
                done = Signal()
                with m.Switch(command):
                    with m.Case(Command.FRAME.value):
                        m.d.comb += [self.pixels.valid.eq(1), take.eq(self.pixels.ready)]
                    with m.Case(Command.WATCH.value):
                        m.d.comb += take.eq(1)
                        m.d.sync += mask.eq(Cat(mask[8:], kept_byte))
                    if self._weights:
                        with m.Case(Command.LOAD.value):
                            m.d.comb += take.eq(1)
                            m.d.sync += [gathered.eq(Cat(gathered[8:], kept_byte)), part_at.eq(~part_at)]
                    with m.Default():
                        m.d.comb += take.eq(1)
                        m.d.sync += [gathered.eq(Cat(gathered[8:], kept_byte)), event_at.eq(event_at + 1)]
                m.d.comb += done.eq(at + 1 == length)
                with m.If(take):
                    m.d.sync += at.eq(at + 1)
                    m.next = "READ"
                    with m.If(done):
                        m.next = "SYNC"
                        with m.If(command == Command.FRAME.value):
                            m.next = "ENCODE"
                        with m.If(command == Command.WATCH.value):
                            m.d.sync += [reply.eq(command), replying.eq(1)]
                            m.next = "REPLY"
                        if self._plan.states:
                            with m.If(command == Command.STATE.value):
                                m.next = "ASK"
                    if self._weights:
                        with m.If((command == Command.LOAD.value) & part_at):
                            m.next = "LOAD"
                    with m.If(command == Command.EVENTS.value):
                        with m.If(event_at == width - 1):
                            m.next = "EVENT"
                        with m.Elif(done):
                            # A part of an event is left over.
                            m.d.sync += error.eq(Status.BAD_LENGTH.value)
                            m.next = "ERROR"
            with m.State("EVENT"):
                m.d.comb += pending.eq(placed)
                m.d.sync += event_at.eq(0)
                with m.If(~placed):
                    m.d.sync += error.eq(Status.NO_PLACE.value)
                    m.next = "ERROR"
                with m.Elif(self.host.ready):
                    m.next = "READ"
                    with m.If(at == length):
                        m.d.sync += [reply.eq(command), replying.eq(1)]
                        m.next = "REPLY"
                with m.Else():
                    m.next = "EVENT"
            if self._weights:
                with m.State("LOAD"):
                    m.d.comb += self.weights.en.eq(~part_begins)
                    m.d.sync += [part_begins.eq(0), part_addr.eq(part_addr + 1)]
                    m.next = "READ"
                    with m.If(part_begins):
                        m.d.sync += part_addr.eq(part << (PARTS - 1).bit_length())
                        with m.If(part[len(self.weights.addr) :].any()):
                            m.d.sync += error.eq(Status.BAD_LENGTH.value)
                            m.next = "ERROR"
                    with m.If(at == length):
                        m.d.sync += [reply.eq(command), replying.eq(1)]
                        m.next = "REPLY"
                with m.State("CHECKS"):
                    m.d.comb += self.weights.check.eq(1)
                    m.next = "CHECKING"
                with m.State("CHECKING"), m.If(self.weights.idle):
                    m.d.comb += self.stop.eq(1)
                    m.d.sync += [reply.eq(command), replying.eq(1)]
                    m.next = "REPLY"
            if self._plan.states:
                with m.State("ASK"):
                    m.d.sync += self.states.ask.eq(1)
                    with m.If(self.states.found):
                        m.d.sync += [reply.eq(command), replying.eq(1)]
                        m.next = "REPLY"
                        with m.If(~self.states.known):
                            m.d.sync += [error.eq(Status.NO_PLACE.value), replying.eq(0), self.states.ask.eq(0)]
                            m.next = "ERROR"
            with m.State("ENCODE"):
                # The next packet's frame must not overtake this one's.
                m.d.comb += encoder_busy.eq(1)
                with m.If(self.host.valid & self.host.ready & (self.encoded.payload.kind == Kind.END)):
                    m.next = "SYNC"
            with m.State("ERROR"):
                if self._weights:
                    m.d.comb += self.stop.eq(1)
                m.d.sync += [reply.eq(error), replying.eq(1)]
                m.next = "REPLY"
            with m.State("REPLY"), m.If(~replying & ~asking):
                m.d.sync += still.eq(0)
                m.next = "SYNC"
                with m.If((command == Command.RESET.value) & (reply == Command.RESET.value)):
                    m.next = "RESTART"
            with m.State("RESTART"), m.If(still == self._settle):
                m.d.comb += self.restart.eq(1)
                m.next = "SYNC"

        if self._plan.states:
            # The state that is sent stays as it is until it is out.
            m.d.comb += [self.states.place.eq(event), asking.eq(self.states.ask)]
            with m.If(told):
                m.d.sync += self.states.ask.eq(0)
        taken = self.host.valid & self.host.ready
        with m.If(taken):
            m.d.sync += in_frame.eq(self.host.payload.kind == Kind.SPIKE)
        # A frame goes where its first token does, and not all ways lead to an answer.
        leads, led = Signal(), Signal()
        m.d.comb += leads.eq(Cat(self.host.payload.port == port for port in sorted(answered_ports(network))).any())
        with m.If(taken & ~in_frame):
            m.d.sync += led.eq(leads)

        # Without injection there is one way in, and none leads into a layer that another one is fused to.
        ways_in = ports(network).values() if self._plan.inject else [0]
        m.d.comb += [host_token.eq(event), placed.eq(Cat(host_token.port == port for port in ways_in).any())]
        with m.If(encoder_busy):
            m.d.comb += [self.host.valid.eq(self.encoded.valid), self.encoded.ready.eq(self.host.ready)]
            m.d.comb += [
                self.host.payload[part].eq(self.encoded.payload[part]) for part in ("kind", "negative", "y", "x", "c")
            ]
        with m.Else():
            m.d.comb += [self.host.valid.eq(pending), self.host.payload.eq(host_token)]
        if self._watch:
            m.d.comb += self.watch_mask.eq(mask)

        # Of each frame in the machine, the packet that it came with.
        m.submodules.sequences = sequences = SyncFIFO(width=8, depth=2 if self._lean else SEQUENCES)
        ends = taken & (self.host.payload.kind == Kind.END) & Mux(in_frame, led, leads)
        m.d.comb += [
            sequences.w_en.eq(ends),
            sequences.w_data.eq(sequence),
            sequences.r_en.eq(self.result.valid & self.result.ready),
        ]
        counters = [Signal(8, name=f"{counted.name.lower()}_count") for counted in COUNTED]
        cycles = Signal(32)
        m.d.sync += cycles.eq(cycles + 1)
        # What is sent byte by byte must not change on the way.
        sent_cycles = Signal(32)
        with m.If(replied):
            m.d.sync += sent_cycles.eq(cycles)
        for counted, counter in zip(COUNTED, counters, strict=True):
            with m.If(replied & (reply == counted.value) & ~counter.all()):
                m.d.sync += counter.eq(counter + 1)
        m.d.comb += status.eq(Cat(*counters, self.lost, sent_cycles))
        self._send(m, reply, replying, replied, told, identity, status, sequence, sequences.r_data)
        return m

    def _identity(self) -> bytes:
        """Payload of the answer to IDENTIFY."""
        network, plan, loads = self._network, self._plan, self._weights
        shape = network.input_shape
        can = {Ability.WATCH: plan.watch, Ability.STATES: plan.states, Ability.LOADS: loads, Ability.INJECT: plan.inject}
        abilities = sum(ability for ability, is_so in can.items() if is_so)
        sizes = [shape.height, shape.width, shape.channels, network.outputs]
        weights = [loads.single_state_words, loads.single_weight_words] if loads else [0, 0]
        return (
            bytes([PROTOCOL_VERSION, event_bytes(network), abilities])
            + bytes.fromhex(network.content_hash)[:8]
            + b"".join(number.to_bytes(2, "little") for number in (*sizes, *weights))
            + round(self._clock_hz).to_bytes(4, "little")
            + bytes.fromhex(plan.content_hash)[:PLAN_HASH_BYTES]
            + plan.name.encode()[:PLAN_NAME_BYTES]
        )

    def _send(
        self,
        m: Module,
        reply: Signal,
        replying: Signal,
        replied: Signal,
        told: Signal,
        identity: bytes,
        status: Value,
        sequence: Value,
        of_result: Value,
    ) -> None:
        """Answers, one packet after the other: replies to commands first, then results, then watched events."""
        result = self.result.payload
        result_bits = Cat(_padded(result.answer, 16), result.cycles, *(_padded(n, 16) for n in result.counts))
        payloads: list[tuple[int, Value]] = [
            (Command.IDENTIFY.value, Const(int.from_bytes(identity, "little"), 8 * len(identity))),
            (Command.SATURATIONS.value, self.saturations),
            (Command.STATUS.value, status),
            (Command.FRAME.value, result_bits),
        ]
        if self._weights:
            payloads.append((Command.CHECK.value, Cat(self.weights.found, self.weights.loaded, Const(0, 7))))
        if self._plan.states:
            found = self.states.state
            numbers = Cat(_padded(found.summed, 32), _padded(found.count, 16))
            payloads.append((Command.STATE.value, Cat(numbers, found.updated, Const(0, 7))))
        if self._watch:
            payloads.append((Status.WATCHED.value, _padded(self.watched.payload.as_value(), 8 * event_bytes(self._network))))
        longest = max(len(bits) for _, bits in payloads) // 8
        head, number, sent = Signal(8), Signal(8), Signal()
        index, size = Signal(range(longest + 1)), Signal(16)
        crc = Signal(8)
        byte = Signal(8)
        m.d.comb += self.sent.payload.eq(byte)

        def send(value: Value | int, following: str) -> None:
            m.d.comb += [self.sent.valid.eq(1), byte.eq(value)]
            with m.If(self.sent.ready):
                m.d.sync += crc.eq(_crc_step(crc, byte))
                m.next = following

        # The byte at hand. What is sent stays where it is until it is out, but for counters.
        at_hand, kept, high = Signal(8), Signal(8), Signal(8)
        with m.Switch(head):
            for command, bits in payloads:
                with m.Case(command):
                    m.d.comb += at_hand.eq(Array(bits[at : at + 8] for at in range(0, len(bits), 8))[index])
                    if command == Command.SATURATIONS.value:
                        # A counter's high byte is that of the moment at which its low byte was read.
                        with m.If(index[0]):
                            m.d.comb += at_hand.eq(high)

        with m.FSM(name="sender"):
            # What to send is chosen in one cycle and looked up in the next.
            with m.State("WAIT"):
                m.d.sync += [crc.eq(0), index.eq(0)]
                with m.If(replying):
                    m.d.comb += replied.eq(1)
                    m.d.sync += [head.eq(reply), replying.eq(0)]
                    m.next = "CHOSEN"
                with m.Elif(self.result.valid):
                    m.d.sync += head.eq(Command.FRAME.value)
                    m.next = "CHOSEN"
                if self._watch:
                    with m.Elif(self.watched.valid):
                        m.d.sync += head.eq(Status.WATCHED.value)
                        m.next = "CHOSEN"
            with m.State("CHOSEN"):
                m.d.sync += size.eq(0)
                m.d.sync += number.eq(Mux(head == Command.FRAME.value, of_result, sequence))
                with m.Switch(head):
                    for command, bits in payloads:
                        with m.Case(command):
                            m.d.sync += size.eq(len(bits) // 8)
                m.next = "SYNC"
            with m.State("SYNC"):
                m.d.comb += [self.sent.valid.eq(1), byte.eq(SYNC)]
                with m.If(self.sent.ready):
                    m.next = "NUMBER"
            with m.State("NUMBER"):
                send(number, "HEAD")
            with m.State("HEAD"):
                send(head, "SIZE_LOW")
            with m.State("SIZE_LOW"):
                send(size[:8], "SIZE_HIGH")
            with m.State("SIZE_HIGH"):
                send(size[8:], "FETCH")
            with m.State("FETCH"):
                m.d.sync += kept.eq(at_hand)
                highs = [self.saturations[at : at + 8] for at in range(8, len(self.saturations), 16)]
                with m.If(~index[0]):
                    m.d.sync += high.eq(Array(highs)[index[1:]])
                m.next = "BODY"
                with m.If(index == size):
                    m.next = "CRC"
            with m.State("BODY"):
                send(kept, "FETCH")
                with m.If(self.sent.ready):
                    m.d.sync += index.eq(index + 1)
            with m.State("CRC"):
                m.d.comb += [self.sent.valid.eq(1), byte.eq(crc)]
                with m.If(self.sent.ready):
                    m.d.comb += sent.eq(1)
                    m.next = "WAIT"
        m.d.comb += [self.result.ready.eq(sent & (head == Command.FRAME.value)), told.eq(sent & (head == Command.STATE.value))]
        if self._watch:
            m.d.comb += self.watched.ready.eq(sent & (head == Status.WATCHED.value))


def _padded(value: Value, width: int) -> Value:
    """``value`` in ``width`` bits, sign kept."""
    value = Value.cast(value)
    extension = value[-1].replicate(width - len(value)) if value.shape().signed else Const(0, width - len(value))
    return Cat(value, extension) if len(value) < width else value[:width]


def _crc_step(crc: Value, byte: Value) -> Value:
    """`crc8` one byte on."""
    bits = list(crc ^ byte)
    for _ in range(8):
        top = bits[-1]
        bits = [
            (bits[n - 1] if n else Const(0, 1)) ^ (top if CRC_POLYNOMIAL >> n & 1 else Const(0, 1)) for n in range(8)
        ]
    return Cat(bits)
