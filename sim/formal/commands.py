"""The link: what a packet does to the machine and is answered, and that it always comes to the next one."""

from collections.abc import Mapping
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

from amaranth.hdl import Cat, Const, Mux, Signal, Value

import hw.link.link
from hw.aer import Kind
from hw.link.protocol import ADDR_BYTES, COUNTED, FRAMES, LOADED, REFUSED, Command, Status, event_bytes, event_widths, mask_bytes
from hw.parts.single_port import PART_BITS, PARTS
from model.machine.folded_layout import SINGLE_WORDS, Folded
from model.machine.plan import CorePlan, Plan
from model.machine.stages import ports, stages
from model.network import INPUT, Network, Shape
from sim.formal.bench import Bench, kept
from sim.formal.link_ends import GAP, AnySender, OfferingReceiver
from sim.formal.networks import folded_plan, small_network, small_tree
from sim.formal.properties import Fault, Property
from sim.formal.queues import IdealFifo

__all__ = ["PROPERTIES"]

_TIMEOUT, _SETTLE = 4, 3
"""Cycles of silence that end a packet, and from a reset's answer to the reset."""

_PART_BYTES = PART_BITS // 8

_CLOCK_HZ = 12_345_678


class _Built(NamedTuple):
    """A link between a receiver, a sender and a machine that are as is said of them, and what is inside of it."""

    dut: Any
    network: Network
    plan: Plan
    receiver: OfferingReceiver
    sender: AnySender
    state: dict[str, Value]
    work: Any
    inside: dict[str, SimpleNamespace]
    fifo: IdealFifo | None
    watch: Value


def commanded(bench: Bench, links: ModuleType, *, of: str) -> None:
    """A `Link`, any packets, right and wrong ones, and a machine and an encoder that take and give what they like, when they do.

    What the machine gives stays until it is taken: results, as many as frames have ended, what is watched, and what it tells of a
    state. Packets and answers are those of `sim.formal.packets` and `sim.formal.senders`.
    """
    built = _built(bench, links, **_OF[of])
    packet = _Packet(bench, built)
    frames = _Frames(bench, built, packet)
    _events(bench, built, packet)
    if built.plan.watch:
        _mask(bench, built, packet)
    if _weighs(built):
        _weights(bench, built, packet)
    if built.plan.states:
        _states(bench, built, packet)
    _answer(bench, built, packet, frames)
    _leave(bench, built, packet, frames)
    _status(bench, built, packet)
    _told(bench, built)
    if _weighs(built):
        _found(bench, built, packet)
        _stop(bench, built, packet)
    _reset(bench, built, packet)
    _goes_on(bench, built, packet)
    _lemmas(bench, built, packet)


def _weighs(built: _Built) -> bool:
    return hasattr(built.dut, "weights")


def _built(bench: Bench, links: ModuleType, *, network: Network, plan: Plan, longest: int, **options: Any) -> _Built:
    receivers: list[OfferingReceiver] = []
    senders: list[AnySender] = []
    fifos: list[IdealFifo] = []
    watch = bench.any(1, "watch_frame")

    def receiver(**of: Any) -> OfferingReceiver:
        receivers.append(OfferingReceiver(bench, **of))
        return receivers[-1]

    def sender(**of: Any) -> AnySender:
        senders.append(AnySender(bench, **of))
        return senders[-1]

    def fifo(**of: Any) -> IdealFifo:
        fifos.append(IdealFifo(bench, watch, **of))
        return fifos[-1]

    with patch.multiple(
        links, PacketReceiver=receiver, PacketSender=sender, SyncFIFO=fifo, longest_payload=lambda *_, **__: longest
    ):
        dut = links.Link(
            network=network, plan=plan, clock_hz=_CLOCK_HZ, saturations=1, timeout=_TIMEOUT, settle=_SETTLE, **options
        )
        found = {name: kept(dut, name) for name in ("_carry_out", "_take_bits", "_send", "_status", "_follow_frames")}
        inside = bench.add("dut", dut)
    bench.source(dut.received, "received")
    bench.sink(dut.sent, "sent")
    bench.sink(dut.pixels, "pixels")
    bench.sink(dut.host, "host")
    bench.source(dut.encoded, "encoded")
    bench.source(dut.result, "result")
    if plan.watch:
        bench.source(dut.watched, "watched")
    for name in ("encoded", "result", "watched"):
        if hasattr(dut, name):
            _stays(bench, getattr(dut, name), name)
    inputs = {"saturations": dut.saturations, "lost": dut.lost}
    if hasattr(dut, "weights"):
        inputs |= {"loads_only": dut.loads_only, **{name: getattr(dut.weights, name) for name in ("idle", "found", "loaded")}}
    if plan.states:
        inputs |= {"state_found": dut.states.found, "known": dut.states.known, "state": Value.cast(dut.states.state)}
    bench.m.d.comb += [member.eq(bench.any(len(member), name)) for name, member in inputs.items()]
    fsm = inside.m._generated["fsm"]
    names = ["WAIT", "GATHER", "LOOK", "ENTER", "ENCODE", "REPLY", "RESTART"]
    names += ["LOAD", "CHECK", "CHECKING"] if hasattr(dut, "weights") else []
    names += ["ASK"] if plan.states else []
    state = {name: fsm.ongoing(name) for name in names}
    kinds = {name: runs[0] for name, runs in found.items() if runs}
    return _Built(
        dut, network, plan, receivers[-1], senders[-1], state, inside.work, kinds, fifos[0] if fifos else None, watch
    )


def _stays(bench: Bench, offered: Any, name: str) -> None:
    """Assume that a token stays until it is taken."""
    token = Value.cast(offered.payload)
    waited = bench.before(offered.valid & ~offered.ready, f"{name}_waits")
    bench.assume(~waited | (offered.valid & (token == bench.before(token, f"{name}_waiting"))))


class _Packet:
    """The packet that is carried out, told from what the receiver offers.

    Attributes
    ----------
    old : Signal
        Whether it was offered in the cycle before: what it does begins then.
    let_go : Value
        Whether it is taken.
    refused : Signal
        With what it is answered in place of being carried out, by what was so in its first cycle; or 0.
    goes : Value
        Whether it is carried out: it is right, and not refused.
    given : Signal
        Bytes of its payload that have passed.
    passes : Value
        Whether one passes.
    last : Signal
        The last of them, the newest in the highest bits.
    complete : Value
        Whether all have.
    answered : Signal
        Whether its answer has begun.
    answers : Value
        Whether it begins.
    may_answer, with_head : Value
        Whether it may, and what it is then; by what it has done.
    turn, checking, resets : Value
        Whether it waits for what the encoder makes of its pixels, for a check of weights, or for the reset.
    exists, entered, over, waits : Value
        Of a list of events: whether there is the place that the last bytes say, how many events have entered, bytes that have
        come since then, and whether these are a whole one.
    """

    def __init__(self, bench: Bench, built: _Built) -> None:
        m, packet, payload = bench.m, built.receiver.packet, built.receiver.payload
        self._built, self.header = built, packet.payload
        self.old, self.refused, self.answered = Signal(name="old"), Signal(8, name="refused"), Signal(name="answered")
        self.given = Signal(17, name="bytes_given")
        width = event_bytes(built.network)
        self.last = Signal(8 * max(width, ADDR_BYTES, mask_bytes(built.network)), name="last_bytes")
        self.let_go = packet.valid & packet.ready
        self.passes = payload.valid & payload.ready
        self.goes = packet.valid & self.old & (self.refused == 0)
        self.complete = self.given == self.header.length
        self.in_frame = Signal(name="in_a_frame")
        choice = built.sender.choice
        answer = (choice.payload.head != Command.FRAME.value) & (choice.payload.head != Status.WATCHED.value)
        self.answers = choice.valid & choice.ready & answer
        m.d.sync += self.old.eq(packet.valid & ~packet.ready)
        with m.If(packet.valid & ~self.old):
            m.d.sync += [self.refused.eq(self._verdict(built)), self.given.eq(0), self.answered.eq(0)]
        with m.Else():
            with m.If(self.passes):
                m.d.sync += [self.given.eq(self.given + 1), self.last.eq(Cat(self.last, payload.payload)[8:])]
            with m.If(self.answers):
                m.d.sync += self.answered.eq(1)
        host = built.dut.host
        with m.If(host.valid & host.ready):
            m.d.sync += self.in_frame.eq(host.payload.kind == Kind.SPIKE)
        self.due: list[tuple[Value, Value]] = [(self.refused != 0, self.refused)]
        self.turn: Value = Const(0)
        self.checking: Value = Const(0)
        self.resets = self.is_(Command.RESET) & self.answered
        self.exists, self.entered = Signal(name="exists"), Signal(17, name="entered")
        self.over = self.given - self.entered * width
        self.waits = self.is_(Command.EVENTS) & (self.given == (self.entered + 1) * width)

    def is_(self, *commands: Command) -> Value:
        """Whether it is carried out, and is one of these."""
        return self.goes & Cat(self.header.command == command.value for command in commands).any()

    def _verdict(self, built: _Built) -> Value:
        """With what it is answered without being carried out."""

        def one_of(commands: tuple[Command, ...]) -> Value:
            return Cat(self.header.command == command.value for command in commands).any()

        verdict: Value = Mux(one_of(FRAMES) & self.in_frame, Status.BUSY.value, 0)
        if _weighs(built):
            weights = built.dut.weights
            verdict = Mux(one_of((*FRAMES, Command.EVENTS)) & ~weights.loaded, Status.NOT_LOADED.value, verdict)
            verdict = Mux(one_of(LOADED) & ~weights.idle, Status.BUSY.value, verdict)
        return Mux(self.header.error != 0, self.header.error, verdict)

    @property
    def may_answer(self) -> Value:
        """Whether what has to come before the answer has been done."""
        return Cat(when for when, _ in self.due).any()

    @property
    def with_head(self) -> Value:
        """With what it is answered."""
        head: Value = Const(0, 8)
        for when, what in self.due:
            head = Mux(when, what, head)
        return head


class _Frames:
    """Pixels to the encoder, what it makes of them to the machine; and whose result comes next."""

    def __init__(self, bench: Bench, built: _Built, packet: _Packet) -> None:
        m, dut, size = bench.m, built.dut, built.network.input_shape.size
        host, encoded, pixels = dut.host, dut.encoded, dut.pixels
        self.frame = frame = packet.is_(*FRAMES)
        self.pixels = taken = Signal(17, name="pixels_taken")
        with m.If(~packet.goes):
            m.d.sync += taken.eq(0)
        with m.Elif(pixels.valid & pixels.ready):
            m.d.sync += taken.eq(taken + 1)
        bits = packet.is_(Command.BITS)
        byte, pixel = built.receiver.payload.payload, Signal(8, name="pixel_due")
        m.d.comb += pixel.eq(Mux(bits, Mux(byte.bit_select(taken[:3], 1), 255, 0), byte))
        at_byte = Mux(bits, taken >> 3, taken)
        bench.holds(~pixels.valid | (frame & (taken < size) & (packet.given == at_byte) & (pixels.payload == pixel)))
        bench.holds(~(pixels.valid & ~built.receiver.payload.valid))
        bench.holds(~(frame & packet.passes) | (pixels.valid & pixels.ready))
        # Once the encoder has all, what it gives enters, up to the end of the frame.
        packet.turn = turn = frame & (taken == size)
        bench.holds(~encoded.ready | (turn & host.ready))
        self.enters = turn & host.valid & host.ready & (host.payload.kind == Kind.END)
        bench.holds(~(frame & host.valid) | (turn & encoded.valid & (host.payload.port == 0)))
        same = Cat(host.payload[name] == encoded.payload[name] for name in ("kind", "negative", "y", "x", "c")).all()
        bench.holds(~(frame & host.valid) | same)
        through = (host.valid == encoded.valid) & (encoded.ready == host.ready)
        bench.holds(~(turn & bench.before(turn, "turn")) | through)
        bench.holds(~self.enters | packet.let_go)
        bench.reaches(self.enters & bench.before(encoded.valid & ~encoded.ready, "encoded_waited"))
        bench.lemma(~(packet.is_(Command.FRAME)) | (packet.given == taken))
        bench.lemma(~frame | (taken <= size))
        if "_take_bits" in built.inside:
            bench.lemma(~bits | (packet.given == taken >> 3))
            bench.lemma(built.inside["_take_bits"].bit == Mux(bits, taken[:3], 0))
            bench.lemma(~(bits & ~built.receiver.payload.valid) | (taken[:3] == 0))
        self._results(bench, built, packet)

    def _results(self, bench: Bench, built: _Built, packet: _Packet) -> None:
        """State that a result has the sequence number of the packet with the end of its frame."""
        m, host, result = bench.m, built.dut.host, built.dut.result
        room = 1 if built.fifo is None else hw.link.link.SEQUENCES
        on_their_way = Signal(range(room + 1), name="frames_on_their_way")
        leads, led = Signal(name="leads"), Signal(name="led")
        answered = [port for name, port in ports(built.network).items() if name in _above(built.network)]
        enters, leaves = host.valid & host.ready, result.valid & result.ready
        m.d.comb += leads.eq(Mux(packet.in_frame, led, Cat(host.payload.port == port for port in answered).any()))
        ends = Signal(name="frame_ends")
        m.d.comb += ends.eq(enters & (host.payload.kind == Kind.END) & leads)
        with m.If(enters):
            m.d.sync += led.eq(leads)
        m.d.sync += on_their_way.eq(on_their_way + ends - leaves)
        bench.assume(~ends | (on_their_way < room))
        bench.assume(~result.valid | (on_their_way != 0))
        one, ahead, number = Signal(name="one"), Signal(range(max(2, room)), name="ahead"), Signal(8, name="number")
        with m.If(ends & ~one & built.watch):
            m.d.sync += [one.eq(1), ahead.eq(on_their_way - leaves), number.eq(packet.header.sequence)]
        with m.Elif(leaves & one):
            m.d.sync += [one.eq(ahead != 0), ahead.eq(ahead - (ahead != 0))]
        choice = built.sender.choice
        chosen = choice.valid & choice.ready & (choice.payload.head == Command.FRAME.value)
        bench.holds(~(chosen & one & (ahead == 0)) | (choice.payload.sequence == number))
        bench.holds(~chosen | result.valid)
        bench.reaches(chosen & one & (number != packet.header.sequence))
        if built.fifo is not None:
            fifo = built.fifo
            bench.lemma((fifo.level == on_their_way) & (fifo.one == one))
            bench.lemma(~one | ((fifo.ahead == ahead) & (fifo.token == number) & (ahead < on_their_way)))
            led_inside = built.inside["_follow_frames"].led if built.plan.inject else 1
            bench.lemma(~packet.in_frame | (led == led_inside))
        else:
            bench.lemma(~one | ((built.inside["_follow_frames"].last == number) & (on_their_way == 1) & (ahead == 0)))
            bench.lemma(~packet.in_frame | led)
        bench.lemma(built.work.in_frame == packet.in_frame)


def _above(network: Network) -> set[str]:
    """The output, and all links that it comes of."""
    found = {network.output.name}
    for stage in reversed(stages(network)):
        if stage.name in found:
            found |= set(stage.sources)
    return found


def _events(bench: Bench, built: _Built, packet: _Packet) -> None:
    """State that each event of a list enters, once, in order, as it came, up to one that is nowhere."""
    m, host, width, network = bench.m, built.dut.host, event_bytes(built.network), built.network
    events, length = packet.is_(Command.EVENTS), packet.header.length
    raw, fields, at = packet.last[-8 * width :], {}, 0
    for name, bits in event_widths(network).items():
        fields[name] = raw[at : at + bits]
        at += bits
    exists = []
    for name, port in ports(network).items():
        if name == INPUT or built.plan.inject:
            sizes = zip((fields["y"], fields["x"], fields["c"]), network.shape_of(name), strict=True)
            exists.append((fields["port"] == port) & (fields["end"] | Cat(at < size for at, size in sizes).all()))
    there, entered, waits = packet.exists, packet.entered, packet.waits
    m.d.comb += there.eq(Cat(exists).any())
    with m.If(packet.let_go | ~packet.old):
        m.d.sync += entered.eq(0)
    with m.Elif(events & host.valid & host.ready):
        m.d.sync += entered.eq(entered + 1)
    token = host.payload
    same = (token.port == fields["port"]) & ((token.kind == Kind.END) == fields["end"])
    place = Cat(token[name] == Mux(fields["end"], 0, fields[name]) for name in ("negative", "y", "x", "c")).all()
    bench.holds(~(events & host.valid) | (waits & there & same & place & ~packet.answered))
    bench.holds(~(host.valid & ~packet.goes))
    bench.holds(~host.valid | Cat(packet.header.command == one.value for one in (*FRAMES, Command.EVENTS)).any())
    token_before = bench.before(token.as_value(), "token")
    bench.holds(~bench.before(host.valid & ~host.ready, "token_waits") | (host.valid & (token.as_value() == token_before)))
    # One that is nowhere ends the list; so does what is left over.
    done = events & packet.complete & (packet.over < width)
    packet.due += [
        (waits & ~there, Const(Status.NO_PLACE.value, 8)),
        (done, Mux(packet.over == 0, Command.EVENTS.value, Status.BAD_LENGTH.value)),
    ]
    bench.lemma(~events | ((packet.given >= entered * width) & (packet.over <= width) & (packet.given <= length)))
    bench.reaches(packet.answers & done & (entered == 2))
    bench.reaches(packet.answers & waits & (entered == 1))


def _mask(bench: Bench, built: _Built, packet: _Packet) -> None:
    """State that the mask changes only by its command, to what that says."""
    mask, watches = built.dut.watch_mask, packet.is_(Command.WATCH)
    changed = mask != bench.before(mask, "mask")
    bench.holds(~changed | bench.before(watches & packet.passes, "mask_given"))
    wanted = packet.last[-8 * mask_bytes(built.network) :][: len(mask)]
    whole = built.inside["_carry_out"].mask
    bench.holds(~(watches & packet.complete & (packet.given != 0)) | (mask == wanted))
    bench.lemma(~(watches & packet.complete) | (whole == packet.last[-len(whole) :]))
    packet.due.append((watches & packet.complete, Const(Command.WATCH.value, 8)))
    bench.reaches(packet.answers & watches & (mask != 0))


def _weights(bench: Bench, built: _Built, packet: _Packet) -> None:
    """State which parts of words are written, and that a check is asked for once, and answered when it has been made."""
    m, weights, given = bench.m, built.dut.weights, packet.given
    loads, checks = packet.is_(Command.LOAD), packet.is_(Command.CHECK)
    first, parts = Signal(16, name="first_word"), Signal(16, name="parts_written")
    checked, rested = Signal(name="checked"), Signal(name="rested")
    with m.If(loads & packet.passes & (given < ADDR_BYTES)):
        m.d.sync += first.eq(Cat(first, built.receiver.payload.payload)[8:])
    with m.If(~packet.goes):
        m.d.sync += [parts.eq(0), checked.eq(0), rested.eq(0)]
    with m.Else():
        m.d.sync += [parts.eq(parts + weights.en), checked.eq(checked | weights.check)]
        m.d.sync += rested.eq(rested | (checked & weights.idle))
    beyond = loads & (given == ADDR_BYTES) & (first >= SINGLE_WORDS)
    here = Signal(16, name="word_here")
    m.d.comb += here.eq(first + parts // PARTS)
    due = loads & (given == ADDR_BYTES + _PART_BYTES * (parts + 1)) & (first < SINGLE_WORDS)
    place = (weights.addr == here[: len(weights.addr)]) & (weights.part == parts % PARTS)
    bench.holds(~weights.en | (due & place & (weights.data == packet.last[-PART_BITS:])))
    bench.holds(~weights.check | (checks & ~checked & ~packet.answered))
    whole = loads & packet.complete & (given == ADDR_BYTES + _PART_BYTES * parts)
    packet.due += [
        (beyond, Const(Status.BAD_LENGTH.value, 8)),
        (whole, Const(Command.LOAD.value, 8)),
        (checks & rested, Const(Command.CHECK.value, 8)),
    ]
    bench.reaches(weights.en & (parts == PARTS) & (weights.data != 0))
    bench.reaches(packet.answers & beyond)
    bench.reaches(packet.answers & checks)
    # The inside.
    state, work, at = built.state, built.work, built.inside["_carry_out"].at
    written = ADDR_BYTES + _PART_BYTES * parts
    bench.lemma(~(loads & (given >= ADDR_BYTES)) | beyond | (first < SINGLE_WORDS))
    bench.lemma(~(loads & (given == ADDR_BYTES)) | (first == packet.last[-PART_BITS:]))
    bench.lemma(~(loads & (given == 1)) | (first[8:] == packet.last[-8:]))
    bench.lemma(~(loads & (given < ADDR_BYTES + _PART_BYTES)) | (parts == 0))
    bench.lemma(~state["GATHER"] | ~loads | (at == given[0]))
    bench.lemma(~state["GATHER"] | ~loads | (work.begins == (given < ADDR_BYTES)))
    ready = loads & ~beyond & (given >= ADDR_BYTES) & (state["GATHER"] | (given > ADDR_BYTES))
    bench.lemma(~ready | (work.addr == Cat(Const(0, 2), first) + parts))
    bench.lemma(~(state["GATHER"] & loads & (given >= ADDR_BYTES)) | ((given - given[0] == written) & ~beyond))
    bench.lemma(~state["LOAD"] | (loads & (given >= ADDR_BYTES) & (at == 0) & (work.begins == (given == ADDR_BYTES))))
    bench.lemma(~state["LOAD"] | (given == ADDR_BYTES) | due)
    bench.lemma(~loads | (packet.header.length[:1] == 0))
    for name, done in (("CHECK", 0), ("CHECKING", 1)):
        bench.lemma(~state[name] | (checks & (checked == done) & packet.complete))
    bench.lemma(~(state["GATHER"] & checks) | ~(checked | rested))
    bench.lemma(~(checks & rested) | (checked & state["REPLY"]))
    packet.checking = checks & checked & ~rested


def _states(bench: Bench, built: _Built, packet: _Packet) -> None:
    """State that the machine is asked for one state, until its answer has left."""
    m, states, sender = bench.m, built.dut.states, built.sender
    asks = packet.is_(Command.STATE)
    seen, known, told = Signal(name="state_seen"), Signal(name="state_known"), Signal(states.state.shape(), name="state_told")
    # It is found while it is asked for, and stays.
    bench.assume(~states.found | states.ask)
    kept_state = Cat(states.known, Value.cast(states.state))
    was = bench.before(states.ask & states.found, "state_found")
    bench.assume(~(was & states.ask) | (states.found & (kept_state == bench.before(kept_state, "kept_state"))))
    with m.If(~asks):
        m.d.sync += seen.eq(0)
    with m.Elif(states.found & ~seen):
        m.d.sync += [seen.eq(1), known.eq(states.known), told.eq(states.state)]
    leaves = sender.within & (sender.head == Command.STATE.value)
    raw = packet.last[-8 * event_bytes(built.network) :][: len(Value.cast(states.place))]
    bench.holds(~states.ask | (asks & packet.complete & (Value.cast(states.place) == raw)))
    bench.holds(~leaves | (states.ask & seen & known & packet.answered))
    bench.holds(~(packet.let_go & asks) | ~states.ask)
    written = Cat(_signed(told.summed, 32), _signed(told.count, 16), told.updated, Const(0, 7))
    bench.holds(~leaves | (sender.contents.state == written))
    packet.due.append((asks & seen, Mux(known, Command.STATE.value, Status.NO_PLACE.value)))
    bench.reaches(sender.done & leaves)
    bench.reaches(packet.answers & asks & ~known)
    state, work = built.state, built.work
    bench.lemma(~state["ASK"] | (asks & packet.complete & ~seen))
    bench.lemma(~states.ask | ~seen | (known & states.found & ~state["ASK"]))
    bench.lemma(~(states.ask & seen) | (told.as_value() == Value.cast(states.state)))
    bench.lemma(~states.ask | state["ASK"] | (state["REPLY"] & seen & known))
    bench.lemma(~(asks & seen & known & work.replying) | states.ask)
    bench.lemma(~(states.ask & packet.answered) | leaves)
    bench.lemma(~(asks & state["GATHER"]) | (~states.ask & ~seen))
    bench.lemma(~(asks & ~packet.answered & seen) | state["REPLY"])


def _answer(bench: Bench, built: _Built, packet: _Packet, frames: _Frames) -> None:
    """State that each packet is answered once, rightly, or its frame enters; and is let go then, not before."""
    others = (Command.IDENTIFY, Command.SATURATIONS, Command.STATUS, Command.RESET)
    packet.due.append((packet.is_(*others) & packet.complete, packet.header.command))
    choice, answers = built.sender.choice, packet.answers
    right = (choice.payload.sequence == packet.header.sequence) & (choice.payload.head == packet.with_head)
    bench.holds(~answers | (built.receiver.packet.valid & packet.old & ~packet.answered & packet.may_answer & right))
    bench.holds(~packet.let_go | (packet.old & (packet.answered != frames.enters)))
    for status in (*COUNTED, Status.BUSY, *([Status.NOT_LOADED] if _weighs(built) else [])):
        bench.reaches(packet.let_go & packet.answered & (packet.refused == status.value))
    for command in others[:-1]:
        bench.reaches(packet.let_go & packet.answered & packet.is_(command))


def _leave(bench: Bench, built: _Built, packet: _Packet, frames: _Frames) -> None:
    """State that a result, or what is watched, is taken when its packet has left, which says what it is."""
    m, dut, sender = bench.m, built.dut, built.sender
    choice, waits = sender.choice, [dut.result.valid]
    offers: dict[str, tuple[Any, Command | Status, str]] = {"result": (dut.result, Command.FRAME, "frame")}
    if built.plan.watch:
        offers["watched"] = (dut.watched, Status.WATCHED, "watched")
        waits.append(dut.watched.valid)
    for name, (offered, head, content) in offers.items():
        leaves = sender.within & (sender.head == head.value)
        bench.holds(~leaves | offered.valid)
        bench.holds((offered.valid & offered.ready) == (leaves & sender.done))
        token, kept_token = Value.cast(offered.payload), Signal.like(Value.cast(offered.payload), name=f"{name}_chosen")
        with m.If(choice.valid & choice.ready):
            m.d.sync += kept_token.eq(token)
        view = offered.payload.shape()(kept_token)
        written = _result(view, clips=built.plan.inject) if name == "result" else kept_token
        found = sender.contents[content]
        bench.holds(~leaves | (found == Cat(written, Const(0, len(found) - len(written)))))
        bench.reaches(leaves & sender.done)
    bench.holds(~(choice.ready & Cat(waits).any()) | choice.valid | packet.resets)
    first = choice.valid & choice.ready & (choice.payload.head != Command.FRAME.value) & ~packet.answers
    bench.holds(~first | ~dut.result.valid)


def _result(view: Any, *, clips: bool) -> Value:
    """A result as its packet has it: numbers of 2, 4, 1 and 2 bytes each."""
    clipped = view.clipped if clips else Const(0, 1)
    counts = [_signed(count, 16) for count in view.counts]
    return Cat(view.answer, Const(0, 16 - len(view.answer)), view.cycles, clipped, Const(0, 7), *counts)


def _signed(value: Value, width: int) -> Value:
    """A signed number in so many bits."""
    return Cat(value, *(value[-1:] for _ in range(width - len(value))))


def _status(bench: Bench, built: _Built, packet: _Packet) -> None:
    """State what the answer to `STATUS` says: errors that were answered, and the clock when it began."""
    m, sender, inside = bench.m, built.sender, built.inside["_status"]
    counts = [Signal(8, name=f"answered_{status.name.lower()}") for status in COUNTED]
    cycles, then = Signal(32, name="clock"), Signal(32, name="clock_then")
    m.d.sync += cycles.eq(cycles + 1)
    with m.If(packet.answers):
        m.d.sync += then.eq(cycles)
        for status, count in zip(COUNTED, counts, strict=True):
            with m.If((sender.choice.payload.head == status.value) & (count != 255)):
                m.d.sync += count.eq(count + 1)
    leaves = sender.within & (sender.head == Command.STATUS.value)
    bench.holds(~leaves | (sender.contents.status == Cat(*counts, built.dut.lost, then)))
    bench.reaches(leaves & (counts[0] == 1) & (counts[3] == 1))
    for count, found in zip(counts, inside.counters, strict=True):
        bench.lemma(count == found)
    bench.lemma((inside.cycles == cycles) & (inside.sent_cycles == then))


def _told(bench: Bench, built: _Built) -> None:
    """State what the answers to `IDENTIFY` and `SATURATIONS` say, all the time while they leave."""
    sender, dut = built.sender, built.dut
    for command, content in {Command.IDENTIFY: _identity(built), Command.SATURATIONS: dut.saturations}.items():
        # Compared with itself it would be left out as what always holds.
        name = command.name.lower()
        due = bench.any(len(content), f"{name}_due")
        bench.assume(due == content)
        leaves = sender.within & (sender.head == command.value)
        bench.holds(~leaves | (sender.contents[name] == due))
        bench.reaches(leaves & sender.done)


def _identity(built: _Built) -> Const:
    """The device identity as docs/link.md has it: numbers of 1, 2 and 4 bytes, begins of hashes, and a name."""
    network, plan = built.network, built.plan
    folded = Folded.of(network, plan) if _weighs(built) else None
    bits = (plan.watch, plan.states, folded, plan.inject, Command.BITS in built.receiver.lengths, plan.weight_check)
    who = bytearray([4, event_bytes(network), sum(1 << number for number, can in enumerate(bits) if can)])
    who += bytes.fromhex(network.content_hash[:16])
    height, width, channels = network.input_shape
    words = (folded.single_state_words, folded.single_weight_words) if folded else (0, 0)
    for number in (height, width, channels, network.outputs, *words):
        who += number.to_bytes(2, "little")
    who += _CLOCK_HZ.to_bytes(4, "little") + bytes.fromhex(plan.content_hash[:8]) + plan.name.encode()[:16]
    return Const(int.from_bytes(who, "little"), 8 * len(who))


def _found(bench: Bench, built: _Built, packet: _Packet) -> None:
    """State that the answer to `CHECK` says what that check has found, as long as no load and no other check follows."""
    m, weights, sender = bench.m, built.dut.weights, built.sender
    now, fresh = Cat(weights.found, weights.loaded), Signal(name="found_is_fresh")
    result = Signal(len(now), name="found_by_check")
    changes = weights.en | weights.check
    # It is there when the machine rests, and stays until then.
    changed = bench.before(changes | (packet.checking & ~weights.idle), "found_may_change")
    bench.assume(~bench.started | changed | (now == bench.before(now, "found")))
    with m.If(packet.checking & weights.idle):
        m.d.sync += [fresh.eq(1), result.eq(now)]
    with m.Elif(changes):
        m.d.sync += fresh.eq(0)
    leaves = sender.within & (sender.head == Command.CHECK.value)
    bench.holds(~(leaves & fresh) | (sender.contents.check == Cat(result, Const(0, 7))))
    bench.holds(~(packet.answers & (packet.with_head == Command.CHECK.value)) | fresh)
    bench.reaches(leaves & fresh & sender.done & (result[:8] == 0xA5) & result[-1])
    bench.lemma(~fresh | ((now == result) & ~packet.checking))
    bench.lemma(~(packet.is_(Command.CHECK) & built.state["REPLY"]) | fresh)


def _stop(bench: Bench, built: _Built, packet: _Packet) -> None:
    """State when reading a flash ends: at noise, and once where a packet is answered with an error or a check, before that."""
    m, stop, noise, state = bench.m, built.dut.stop, built.receiver.noise, built.state
    offered = built.receiver.packet.valid
    seen, own = Signal(name="stop_seen"), Signal(name="stopped_by_packet")
    with m.If(~offered | packet.let_go):
        m.d.sync += [seen.eq(0), own.eq(0)]
    with m.Elif(stop):
        m.d.sync += [seen.eq(1), own.eq(own | ~noise)]

    def ends(head: Value) -> Value:
        return Cat(head == one.value for one in (Command.CHECK, *COUNTED, *REFUSED)).any()

    bench.holds(Mux(noise, stop, ~stop | (offered & ~own & ~(packet.old & packet.answered))))
    bench.holds(~packet.answers | Mux(ends(packet.with_head), seen, ~own))
    bench.holds(~packet.let_go | packet.answered | ~own)
    bench.reaches(stop & ~offered)
    bench.reaches(packet.answers & own & (packet.with_head == Command.CHECK.value))
    bench.reaches(packet.answers & own & packet.goes & (packet.with_head == Status.BAD_LENGTH.value))
    bench.lemma(seen | ~own)
    bench.lemma(packet.old | ~seen)
    bench.lemma(~packet.old | state["REPLY"] | state["RESTART"] | ~own)
    bench.lemma(~(state["REPLY"] & built.work.replying) | Mux(ends(built.work.reply), seen, ~own))


def _reset(bench: Bench, built: _Built, packet: _Packet) -> None:
    """State that a reset comes so many cycles after the answer to its command, with no packet begun in between."""
    m, resets = bench.m, packet.resets
    since, over = Signal(range(_SETTLE + 3), name="since_answer"), Signal(name="over")
    m.d.sync += since.eq(Mux(~resets, 0, Mux(since == _SETTLE + 2, since, since + 1)))
    with m.If(built.dut.restart):
        m.d.sync += over.eq(1)
    bench.holds(over | (built.dut.restart == (resets & (since == _SETTLE + 1))))
    bench.holds(~(resets & built.sender.choice.valid & built.sender.choice.ready))
    bench.reaches(built.dut.restart)
    bench.lemma(~over | resets)
    bench.lemma(since <= _SETTLE + 2)
    bench.lemma(~built.state["RESTART"] | (resets & (since != 0)))
    bench.lemma(~(resets & (since != 0)) | built.state["RESTART"])
    bench.lemma(~(resets & (since == 0)) | (built.state["REPLY"] & built.sender.within))
    bench.lemma(~(resets & ~over & (since != 0)) | (built.receiver.still == since - 1))
    holds, receiver = built.state["REPLY"] & (built.work.reply == Command.RESET.value), built.receiver
    bench.lemma(~(holds & ~built.work.replying) | receiver.stirred)
    bench.lemma(~(resets & (since == 0)) | (holds & ~built.work.replying))
    bench.lemma(~(resets & (since == 1)) | (receiver.stirred & receiver.stirred_before))
    bench.lemma(~(resets & (since > 1)) | ~receiver.stirred)
    bench.lemma(over | (since != _SETTLE + 2))


_PER_BYTE, _ELSE = 12, 25
"""Cycles at most of its own that a packet takes, for each byte of its payload, and for the rest."""


def _goes_on(bench: Bench, built: _Built, packet: _Packet) -> None:
    """State in how many cycles a packet is let go, and in how many after its answer, apart from those in which others hold it up.

    They do where a pixel or an event is not taken, where the encoder has all of a frame, the machine looks for a state or checks
    its weights, or the packet is to be answered and the sender sends another one, or the state that was asked for.
    """
    m, dut, sender, state = bench.m, built.dut, built.sender, built.state
    held = [dut.pixels.valid & ~dut.pixels.ready, dut.host.valid & ~dut.host.ready, packet.turn]
    held.append(packet.may_answer & ~packet.answered & sender.within & ~sender.done)
    if built.plan.states:
        held.append(dut.states.ask & ~dut.states.found)
        held.append(packet.answered & sender.within & (sender.head == Command.STATE.value) & ~sender.done)
    if _weighs(built):
        held.append(packet.checking & ~dut.weights.idle)
    spent, bound = Signal(24, name="spent"), packet.header.length * _PER_BYTE + _ELSE
    with m.If(~packet.old | packet.let_go):
        m.d.sync += spent.eq(0)
    with m.Elif(~Cat(held).any()):
        m.d.sync += spent.eq(spent + 1)
    ends, answered = packet.resets, Signal(2, name="cycles_since_answer")
    with m.If(~packet.old | ~packet.answered | packet.let_go):
        m.d.sync += answered.eq(0)
    with m.Elif(~Cat(held).any() & (answered != 3)):
        m.d.sync += answered.eq(answered + 1)
    bench.holds(~packet.old | ends | (answered <= 1))
    bench.holds(~packet.old | ends | (spent <= Mux(packet.refused != 0, 8, bound)))
    # What is left to do.
    receiver, rank = built.receiver, Signal(24, name="rank")
    n, more = packet.header.length - packet.given, packet.given != packet.header.length
    bit = built.inside["_take_bits"].bit if "_take_bits" in built.inside else 0
    bytes_left = Mux(more, (n * _PER_BYTE)[:20] + Mux(receiver.ripe, 8 - bit, 11 - receiver.waited), 0)
    own: Value = Const(0, 5)
    asking = dut.states.ask if built.plan.states else Const(0)
    bench.lemma(~packet.old | ends | ~asking | (answered == 0))
    bench.lemma(~packet.old | packet.answered | (answered == 0))
    replies = built.work.replying
    ranks: dict[str, Value | int] = {"GATHER": 10, "LOOK": 12, "ENTER": 11, "LOAD": 11, "CHECK": 9, "CHECKING": 8}
    ranks |= {"ASK": 9 - asking, "REPLY": Mux(replies, Mux(sender.within, 6, 5), Mux(asking, 4, 3)), "ENCODE": 9}
    for name, of in ranks.items():
        if name in state:
            own = Mux(state[name], of, own)
    m.d.comb += rank.eq(Mux(state["REPLY"], 0, bytes_left) + own)
    bench.lemma(~packet.old | ends | (spent + rank <= Mux(packet.refused != 0, 8, bound)))
    ripens = (receiver.waited >= 1) & (receiver.waited <= GAP + receiver.ripe)
    bench.lemma(~receiver.packet.valid | ripens)
    bench.lemma(~receiver.packet.valid | packet.old | ((receiver.given == 0) & ~receiver.ripe))
    bench.reaches(packet.let_go & packet.goes & (packet.header.length > 1) & (spent > 8))


def _lemmas(bench: Bench, built: _Built, packet: _Packet) -> None:
    """Which state the link is in, by what the packet has done."""
    state, work, receiver = built.state, built.work, built.receiver
    header, offered = packet.header, built.receiver.packet.valid

    def one_of(*names: str) -> Value:
        return Cat(state[name] for name in names if name in state).any()

    bench.lemma(one_of(*state))
    bench.lemma(packet.old == ~state["WAIT"])
    bench.lemma(~packet.old | offered)
    bench.lemma(~packet.old | (packet.given == receiver.given))
    bench.lemma(~packet.old | (packet.given <= header.length))
    others = Cat(packet.refused == value for value in (0, Status.BUSY.value, Status.NOT_LOADED.value)).any()
    bench.lemma(~packet.old | Mux(header.error == 0, others, packet.refused == header.error))
    fits = Cat((header.command == command.value) & _within(header.length, fit) for command, fit in receiver.lengths.items())
    errors = Cat(header.error == one.value for one in COUNTED)
    bench.lemma(~offered | Mux(header.error == 0, fits.any(), errors.any()))
    does = one_of(*(name for name in state if name not in ("WAIT", "REPLY", "RESTART")))
    bench.lemma(~does | (packet.goes & ~packet.answered))
    events = packet.is_(Command.EVENTS)
    bench.lemma(~one_of("LOOK", "ENTER") | (events & packet.waits & (built.inside["_carry_out"].at == 0)))
    at = built.inside["_carry_out"].at
    bench.lemma(~(state["GATHER"] & events) | ((at == packet.over) & (packet.over < event_bytes(built.network))))
    bench.lemma(~state["ENTER"] | (work.placed == packet.exists))
    bench.lemma(~state["ENCODE"] | packet.turn & packet.complete)
    bench.lemma(~packet.is_(*FRAMES) | state["GATHER"] | state["ENCODE"])
    bench.lemma(~work.replying | state["REPLY"])
    bench.lemma(~state["REPLY"] | (work.replying == ~packet.answered))
    bench.lemma(~(state["REPLY"] & work.replying) | (packet.may_answer & (work.reply == packet.with_head)))
    bench.lemma(~packet.answered | ~packet.old | one_of("REPLY", "RESTART"))
    bench.lemma(~(state["REPLY"] & packet.answered) | (work.reply == packet.with_head))
    gathered = work.gathered
    bench.lemma(~packet.goes | packet.is_(*FRAMES) | (packet.given == 0) | _same_end(gathered, packet.last, packet.given))


def _same_end(gathered: Value, last: Value, given: Value) -> Value:
    """Whether the bytes that have come are the same, newest first."""

    def newest(value: Value, n: int) -> Value:
        return value[len(value) - 8 * (n + 1) :][:8]

    return Cat((given <= n) | (newest(gathered, n) == newest(last, n)) for n in range(len(gathered) // 8)).all()


def _within(value: Value, numbers: range) -> Value:
    return Cat(value == number for number in numbers).any()


def _one(network: Network, **options: Any) -> Plan:
    return Plan(name="small", cores=tuple(CorePlan(layer=la.name) for la in network.layers), **options)


def _cases() -> Mapping[str, dict[str, Any]]:
    tree, wide = small_tree((0, 0)), small_network(shape=(1, 1, 9))
    bits = small_network(shape=(1, 2, 4), firing="deferred")
    folded = folded_plan(Shape(1, 2, 2), lanes=2, weights=("fc",), deferred=True, states=True)
    return {
        "a tree": {"network": tree, "plan": _one(tree, inject=True, watch=True, states=True), "longest": 5},
        "a layer": {"network": wide, "plan": _one(wide, inject=False, watch=False), "longest": 7},
        "frames of bits": {"network": bits, "plan": _one(bits, inject=True, watch=True), "longest": 4},
        "a folded machine": {
            "network": folded[0], "plan": folded[1], "longest": 18, "lean": True, "weights": Folded.of(*folded),
        },
    }  # fmt: skip


_OF = _cases()

PROPERTIES = (
    Property(
        name="The link: what right packets do and no other, each answered once; results once; it always comes to the next packet",
        module=hw.link.link,
        part="Link",
        bound="all commands but *weights*; networks of one and two layers, a folded machine; payloads of up to 4, 5, 7 and "
        "18 bytes; 3 cycles before a reset",
        build=commanded,
        cases=[{"of": of} for of in _OF],
        reach=30,
        fault=Fault(
            says="a packet with a wrong checksum is carried out",
            right="with m.If(packet.error != 0):",
            wrong="with m.If((packet.error != 0) & (packet.error != Status.BAD_CRC.value)):",
            steps=12,
        ),
        more_faults=[
            Fault(
                says="an event that is nowhere enters",
                right="work.entering.eq(work.placed)",
                wrong="work.entering.eq(1)",
                steps=14,
            ),
            Fault(
                says="an event that waits is lost",
                right="with m.Elif(self.host.ready):",
                wrong="with m.Else():",
                steps=16,
            ),
            Fault(
                says="an end of frame is where its other bits say",
                right="with m.If(event.kind == Kind.SPIKE):",
                wrong="with m.If(1):",
                steps=14,
            ),
            Fault(
                says="a list that ends within an event is answered as a whole one",
                right="with m.If(at != 0):",
                wrong="with m.If(0):",
                steps=14,
                case=1,
            ),
            Fault(
                says="a frame of pixels goes on with what a list has begun",
                right="with m.If(pixels & work.in_frame):",
                wrong="with m.If(0):",
                steps=30,
            ),
            Fault(
                says="a frame is over with its first event",
                right="with m.If(self.host.valid & self.host.ready & (self.encoded.payload.kind == Kind.END)):",
                wrong="with m.If(self.host.valid & self.host.ready):",
                steps=24,
            ),
            Fault(
                says="the bits of a byte are its pixels from the last one on",
                right="payload.payload.bit_select(bit, 1)",
                wrong="payload.payload.bit_select(bit ^ 7, 1)",
                steps=14,
                case=2,
            ),
            Fault(
                says="a byte of bits is one pixel",
                right="payload.ready.eq(self.pixels.ready & bit.all()),",
                wrong="payload.ready.eq(self.pixels.ready),",
                steps=14,
                case=2,
            ),
            Fault(
                says="all payloads are masks",
                right="with m.If(command == Command.WATCH.value):",
                wrong="with m.If(1):",
                steps=12,
            ),
            Fault(
                says="frames are taken before the weights are there",
                right="with m.If(needs & ~self.weights.loaded):",
                wrong="with m.If(0):",
                steps=12,
                case=3,
            ),
            Fault(
                says="words go to where the next ones belong",
                right="work.addr.eq(work.part << PART_ADDR_BITS)",
                wrong="work.addr.eq((work.part + 1) << PART_ADDR_BITS)",
                steps=22,
                case=3,
            ),
            Fault(
                says="a word beyond the memory is written at its begin",
                right="with m.If(work.part[len(self.weights.addr) :].any()):",
                wrong="with m.If(0):",
                steps=22,
                case=3,
            ),
            Fault(
                says="a check is answered before it has been made",
                right='with m.State("CHECKING"), m.If(self.weights.idle):',
                wrong='with m.State("CHECKING"):',
                steps=14,
                case=3,
            ),
            Fault(
                says="the state of a neuron that does not exist is told",
                right="with m.If(~self.states.known):",
                wrong="with m.If(0):",
                steps=14,
            ),
            Fault(
                says="once a state has been told, nothing goes on",
                right="with m.If(work.told):",
                wrong="with m.If(0):",
                steps=18,
            ),
            Fault(
                says="nothing goes on while a frame has begun",
                right="m.If(~work.replying & ~work.asking):",
                wrong="m.If(~work.replying & ~work.asking & ~work.in_frame):",
                steps=18,
            ),
            Fault(
                says="an answer is lost where another one leaves",
                right="replies.eq(sender.choice.ready & work.replying),",
                wrong="replies.eq(work.replying),",
                steps=30,
            ),
            Fault(
                says="a result is taken with any packet",
                right="self.result.ready.eq(sender.done & (sender.head == Command.FRAME.value)),",
                wrong="self.result.ready.eq(sender.done),",
                steps=14,
            ),
            Fault(
                says="a result has the number of the packet that came last",
                right="choice.sequence.eq(sequence_of_result)",
                wrong="choice.sequence.eq(sequence)",
                steps=24,
                case=1,
            ),
            Fault(
                says="frames that lead to no answer are taken for some that do",
                right="ends = ends & Mux(work.in_frame, led, leads)",
                wrong="pass",
                steps=36,
            ),
            Fault(
                says="the clock is told as it is while it leaves",
                right="with m.If(replies):\n            m.d.sync += sent_cycles.eq(cycles)",
                wrong="m.d.sync += sent_cycles.eq(cycles)",
                steps=14,
            ),
            Fault(
                says="a reset comes with its answer",
                right="self.restart.eq(receiver.silence == self._settle)",
                wrong="self.restart.eq(1)",
                steps=12,
            ),
            Fault(
                says="a packet is begun that a reset cuts off",
                right="sender.choice.valid.eq(~work.restarting),",
                wrong="sender.choice.valid.eq(1),",
                steps=24,
            ),
            Fault(
                says="what it is is told from the last byte on",
                right='int.from_bytes(who, "little")',
                wrong='int.from_bytes(who, "big")',
                steps=12,
            ),
            Fault(
                says="saturations are told as none",
                right="Command.SATURATIONS: self.saturations,",
                wrong="Command.SATURATIONS: Const(0, len(self.saturations)),",
                steps=12,
            ),
            Fault(
                says="all weights are the network's",
                right="Cat(self.weights.found, self.weights.loaded)",
                wrong="Cat(self.weights.found, Const(1, 1))",
                steps=16,
                case=3,
            ),
            Fault(
                says="a flash is read on after what is no packet",
                right="self.stop.eq(receiver.noise | work.stop)",
                wrong="self.stop.eq(work.stop)",
                steps=3,
                case=3,
            ),
            Fault(
                says="nor does a packet with an error end that",
                right="work.refuse(packet.error)",
                wrong="work.answer(packet.error)",
                steps=8,
                case=3,
            ),
            Fault(
                says="nor a check",
                right="m.d.comb += work.stop.eq(1)\n            work.answer(Command.CHECK)",
                wrong="work.answer(Command.CHECK)",
                steps=16,
                case=3,
            ),
        ],
    ),
)
