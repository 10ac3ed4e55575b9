"""UART: what the transmitter is given leaves as frames, and the receiver gives what frames of a line say, and no more."""

from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

from amaranth.hdl import Array, Cat, Const, Mux, Signal, Value

import hw.parts.uart
from sim.formal.bench import Bench
from sim.formal.order import in_order
from sim.formal.properties import Fault, Property

__all__ = ["PROPERTIES", "edges"]

_SHORT, _MEDIUM = 4, 9
"""Divisors up to which several bytes are reached, and whole ones; of greater ones the first bits are."""


def edges(divisor: int) -> tuple[int, int]:
    """Cycles by which an edge of a frame may be early, and late, as seen from its first one."""
    return (divisor - 1) // 2, divisor // 2


class _Late(NamedTuple):
    """A line and what is on it, two cycles ago: as the receiver sees it, behind its synchronizer."""

    line: Value
    known: Value
    """Whether it keeps to what is said of lines."""
    framed: Value
    """Whether it is within a frame, or its stop bit lasts."""
    pulsed: Value
    """Whether it is within a pulse, which is no start bit."""
    at: Value
    """Cycles since either began."""
    byte: Value
    stop: Value
    """Of a frame what it carries, and its stop bit."""
    quiet: Value
    """For how long before it has been 1, where it keeps to nothing."""


def received(bench: Bench, uarts: ModuleType, *, divisor: int) -> None:
    """A `UartReceiver`, a line, and a reader that takes what it likes when it likes.

    A line carries frames of any bytes at any time. Each of a frame's edges, and the begin of the next frame, may be as much off
    as `edges` says, whatever the others are. There are frames without a stop bit, and pulses that are 1 again in the middle of a
    start bit. At any time the line may begin to do what it likes; it is known again once it has been 1 for nine bits.
    """
    m, half = bench.m, divisor // 2
    dut = uarts.UartReceiver(divisor=divisor)
    inside = bench.add("dut", dut)
    late = _any_line(bench, dut)
    bench.sink(dut.data, "data")
    m.d.comb += dut.unheard.eq(bench.any(1, "unheard"))
    valid, ready, payload, errors = dut.data.valid, dut.data.ready, dut.data.payload, dut.errors
    arrives = late.known & late.framed & (late.at == 9 * divisor + half)
    accepted = arrives & late.stop & (~valid | ready)
    dropped = (arrives & ~accepted) | (valid & ready & dut.unheard)
    knew, accepted_before = bench.before(late.known, "known"), bench.before(accepted, "accepted")

    # Each byte of a frame with a stop bit is offered once, and nothing else is.
    waited = bench.before(valid & ~ready, "byte_waits")
    bench.holds(~knew | (valid == (accepted_before | waited)))
    bench.holds(~accepted_before | (payload == bench.before(late.byte, "byte")))
    bench.holds(~waited | (valid & (payload == bench.before(payload, "payload"))))
    # What is dropped is counted: of two that are in one cycle, one.
    errors_before = bench.before(errors, "errors")
    counts = bench.before(dropped, "dropped") & (errors_before != 255)
    bench.holds(~knew | (errors == errors_before + counts))
    bench.holds((errors == errors_before) | (errors == errors_before + 1))

    bench.reaches(late.framed & (inside.left == 9))
    bench.reaches(late.pulsed & (late.at == half))
    bench.reaches(~late.known & (inside.left == 9))
    if divisor <= _MEDIUM:
        bench.reaches(accepted & (late.byte == 0xA5))
    if divisor <= _SHORT:
        was_wild = Signal(name="was_wild")
        m.d.sync += was_wild.eq(was_wild | ~late.known)
        bench.reaches(knew & valid & waited & arrives & late.stop)
        bench.reaches(was_wild & accepted & (late.byte == 0xA5))
        bench.reaches(accepted & ready & valid)
        bench.reaches(arrives & ~late.stop & (errors == 1))
    _follows(bench, inside, divisor, late)
    # When it listens again after what is no frame.
    timer, left = inside.timer, inside.left
    bench.lemma(~(late.known & late.pulsed & (late.at != 0)) | ((left == 10) & (late.at + timer == half)))
    bench.lemma(late.known | (left == 0) | (left == 10) | (timer + 1 + (left - 1) * divisor + late.quiet <= 9 * divisor))
    bench.lemma(late.known | (left != 10) | (timer + 1 + late.quiet <= half))


def _any_line(bench: Bench, dut: Any) -> _Late:
    """A line as `received` says."""
    m, divisor, half = bench.m, dut.divisor, dut.divisor // 2
    early, latest = edges(divisor)
    wild, begins, moves, gives_up = (bench.any(1, name) for name in ("wild", "begins", "moves", "gives_up"))
    is_pulse, any_byte, any_stop = bench.any(1, "is_pulse"), bench.any(8, "any_byte"), bench.any(1, "any_stop")
    known, was_framed, was_pulsed = Signal(init=1, name="known"), Signal(name="was_framed"), Signal(name="was_pulsed")
    since, bit_before = Signal(range(10 * divisor + 1), name="since"), Signal(4, name="bit_before")
    kept_byte, kept_stop, quiet = Signal(8, name="kept_byte"), Signal(name="kept_stop"), Signal(range(9 * divisor), name="quiet")
    starts, framed, pulsed = Signal(name="starts"), Signal(name="framed"), Signal(name="pulsed")
    at, bit, byte, stop = Signal.like(since, name="at"), Signal(4, name="bit"), Signal(8, name="byte"), Signal(name="stop")
    may_start = (bit_before == 9) & kept_stop & (since >= 10 * divisor - early)
    m.d.comb += [
        starts.eq(known & begins & ~was_pulsed & (~was_framed | may_start)),
        framed.eq(Mux(starts, ~is_pulse, was_framed)),
        pulsed.eq(Mux(starts, is_pulse, was_pulsed)),
        at.eq(Mux(starts, 0, since)),
        bit.eq(Mux(starts, 0, bit_before + (was_framed & moves))),
        byte.eq(Mux(starts, any_byte, kept_byte)),
        stop.eq(Mux(starts, any_stop, kept_stop)),
    ]
    # An edge is within so many cycles of where it ought to be.
    bench.assume(~(known & framed & ~starts & moves) | ((bit_before != 9) & (at + early >= bit * divisor)))
    bench.assume(~(known & framed & (bit != 9)) | (at < (bit + 1) * divisor + latest))
    frame, line = Cat(Const(0, 1), byte, stop), Signal(name="line")
    m.d.comb += dut.line.eq(line)
    with m.If(~known):
        m.d.comb += line.eq(wild)
    with m.Elif(pulsed):
        m.d.comb += line.eq((at != 0) & (wild | (at == half)))
    with m.Elif(framed):
        m.d.comb += line.eq(Array(frame)[bit])
    with m.Else():
        m.d.comb += line.eq(1)
    m.d.sync += [
        was_framed.eq(framed),
        was_pulsed.eq(pulsed & (at != half)),
        since.eq(Mux(at == 10 * divisor, at, at + 1)),
        Cat(bit_before, kept_byte, kept_stop).eq(Cat(bit, byte, stop)),
        quiet.eq(Mux(~known & line & (quiet != 9 * divisor - 1), quiet + 1, 0)),
    ]
    without_stop = framed & ~stop & (at == 9 * divisor + half)
    with m.If(known):
        m.d.sync += known.eq(~gives_up & ~without_stop)
    with m.Elif(line & (quiet == 9 * divisor - 1)):
        m.d.sync += known.eq(1)
    with m.If(~known):
        m.d.sync += [was_framed.eq(0), was_pulsed.eq(0)]
    bench.lemma(~(framed & pulsed) & (~pulsed | (at <= half)))
    bench.lemma(~(known & framed) | ((bit <= 9) & (at + early >= bit * divisor)))
    bench.lemma((quiet < 9 * divisor) & (since <= 10 * divisor))
    bench.lemma(~known | (quiet == 0))
    bench.lemma(~(known & framed & ~stop) | (at <= 9 * divisor + half))
    return _Late(
        line=_late(bench, line, init=1), known=_late(bench, known, init=1), framed=_late(bench, framed),
        pulsed=_late(bench, pulsed), at=_late(bench, at), byte=_late(bench, byte), stop=_late(bench, stop),
        quiet=_late(bench, quiet),
    )  # fmt: skip


def _late(bench: Bench, value: Value, *, init: int = 0) -> Signal:
    """What a value was two cycles ago; ``init`` in the first two."""
    stages = [Signal(value.shape(), init=init, name=f"{value.name}_{number}") for number in (1, 2)]
    bench.m.d.sync += [stages[0].eq(value), stages[1].eq(stages[0])]
    return stages[1]


def _follows(bench: Bench, inside: SimpleNamespace, divisor: int, late: _Late) -> None:
    """Lemmas: where the receiver is in a frame."""
    half, timer, left, bits = divisor // 2, inside.timer, inside.left, inside.bits
    within = late.known & late.framed & (late.at != 0) & (late.at <= 9 * divisor + half)
    bench.lemma(inside.line == late.line)
    bench.lemma((timer < divisor) & (left <= 10))
    bench.lemma(~late.known | within | (late.pulsed & (late.at != 0)) | (left == 0))
    bench.lemma(~within | ((left != 0) & (late.at + timer == half + (10 - left) * divisor)))
    frame = Cat(Const(0, 1), late.byte)
    for taken in range(1, 10):
        bench.lemma(~(within & (left == 10 - taken)) | (bits[9 - taken :] == frame[:taken]))


def transmitted(bench: Bench, uarts: ModuleType, *, divisor: int, receiver: int) -> None:
    """A `UartTransmitter`, any bytes at any time; and at its line a receiver with a divisor of its own, and its reader.

    The reader takes each byte before the next one is there: in the time of a frame.
    """
    m, frame_cycles = bench.m, 10 * divisor
    dut, reader = uarts.UartTransmitter(divisor=divisor), uarts.UartReceiver(divisor=receiver)
    inside, of_reader = bench.add("dut", dut), bench.add("reader", reader)
    m.d.comb += reader.line.eq(dut.line)
    bench.source(dut.data, "sent")
    bench.sink(reader.data, "received")
    within, at, byte = Signal(name="within"), Signal(range(frame_cycles), name="at"), Signal(8, name="byte")
    last = at == frame_cycles - 1
    with m.If(dut.data.valid & dut.data.ready):
        m.d.sync += [within.eq(1), at.eq(0), byte.eq(dut.data.payload)]
    with m.Elif(within):
        m.d.sync += [within.eq(~last), at.eq(Mux(last, 0, at + 1))]

    # Each byte is on the line from the next cycle on: start bit, lowest bit first, stop bit; without one the line is 1.
    bench.holds(dut.data.ready == (~within | last))
    due: Value = Const(1, 1)
    for number, bit in reversed(list(enumerate(Cat(Const(0, 1), byte)))):
        due = Mux(at < (number + 1) * divisor, bit, due)
    bench.holds(dut.line == (~within | due))
    bench.lemma(~within | ((inside.left != 0) & (at + inside.timer + 1 == (11 - inside.left) * divisor)))
    bench.lemma((inside.timer < divisor) & (inside.left <= 10))
    bench.lemma(within | ((inside.left == 0) & (at == 0)))
    frame, ones = Cat(Const(0, 1), byte, Const(1, 1)), Const(0x3FF, 10)
    for left in range(1, 11):
        bench.lemma(~(within & (inside.left == left)) | (inside.bits == Cat(frame[10 - left :], ones[left:])))
    bench.lemma(within | (inside.bits[0] == 1))
    bench.reaches(within & (at == 8) & ~dut.line)
    if divisor <= _SHORT:
        bench.reaches(last & dut.data.valid)
    _through(bench, dut, reader, of_reader, within, at, byte)


def _through(
    bench: Bench, dut: Any, reader: Any, inside: SimpleNamespace, within: Signal, at: Signal, byte: Signal
) -> None:
    """State that the bytes that come out are those that went in, each once, in order."""
    m, frame_cycles, divisor = bench.m, 10 * dut.divisor, reader.divisor
    comes = 9 * divisor + divisor // 2 + 3
    given = reader.data
    waits = Signal(range(frame_cycles + 1), name="waits")
    m.d.sync += waits.eq(Mux(given.valid & ~given.ready, waits + 1, 0))
    bench.assume(~(given.valid & ~given.ready) | (waits < frame_cycles - 1))
    capacity = 3 if comes > frame_cycles else 2
    tokens = in_order(
        bench, dut.data, given, capacity=capacity, latency=comes + 1, full=0, fills=False
    )
    bench.holds(reader.errors == 0)
    if dut.divisor <= _SHORT:
        bench.reaches(tokens.one & (tokens.ahead == 1) & given.valid & given.ready)

    framed, at_late, byte_late = _late(bench, within), _late(bench, at), _late(bench, byte)
    known, never = Const(1, 1), Const(0, 1)
    late = _Late(
        line=_late(bench, dut.line, init=1), known=known, framed=framed, pulsed=never, at=at_late, byte=byte_late, stop=known,
        quiet=Const(0),
    )  # fmt: skip
    _follows(bench, inside, divisor, late)
    new = Signal(name="new_comes")
    old = Signal(name="old_comes")
    m.d.comb += [new.eq(within & (at < comes)), old.eq(framed & (at_late < comes - 2) & ~(within & (at == at_late + 2)))]
    bench.lemma(tokens.level == given.valid + old + new)
    on_their_way = Mux(old, byte_late, byte)
    places = (Mux(given.valid, given.payload, on_their_way), Mux(given.valid, on_their_way, byte), byte)
    for number, place in enumerate(places[:capacity]):
        bench.lemma(~(tokens.one & (tokens.ahead == number)) | (tokens.token == place))
    # How long one has been waiting, and one has been on its way.
    bench.lemma(~given.valid | old | new | ~within | (waits + comes == at))
    bench.lemma(~(given.valid & ~old & (new | ~within)) | (waits + comes >= at + frame_cycles))
    bench.lemma(~(given.valid & old) | (waits + comes >= at_late + 2 + frame_cycles))
    bench.lemma(~(new & ~old) | given.valid | (tokens.starves <= at))
    bench.lemma(~old | given.valid | (tokens.starves <= at_late + 2))


PROPERTIES = (
    Property(
        name="UART receiver: of each frame its byte once, with edges up to half a bit off; none without a stop bit; "
        "after nine silent bits, the next one, whatever came before",
        module=hw.parts.uart,
        part="UartReceiver",
        bound="4 to 9, 12, 25, 52 and 104 cycles per bit",
        build=received,
        cases=[{"divisor": divisor} for divisor in (*range(4, 10), 12, 25, 52, 104)],
        reach=100,
        steps=3,
        fault=Fault(
            says="a byte without a stop bit is taken",
            right="with m.If(line & (~self.data.valid | self.data.ready)):",
            wrong="with m.If(~self.data.valid | self.data.ready):",
            steps=46,
        ),
        more_faults=[
            Fault(
                says="bits are sampled at their end",
                right="timer.eq(self._divisor // 2 - 1)",
                wrong="timer.eq(self._divisor - 1)",
                steps=46,
            ),
            Fault(
                says="a pulse is a start bit",
                right="with m.If((left == 10) & line):",
                wrong="with m.If(0):",
                steps=46,
            ),
            Fault(
                says="a byte that waits is lost to the next one",
                right="(~self.data.valid | self.data.ready)",
                wrong="1",
                steps=84,
            ),
            Fault(
                says="a byte that is dropped is not counted",
                right="                with m.Else():\n                    m.d.comb += dropped.eq(1)\n",
                wrong="",
                steps=46,
            ),
            Fault(
                says="bits are a cycle shorter than they are",
                right="timer.eq(self._divisor - 1), left.eq(left - 1), bits",
                wrong="timer.eq(self._divisor - 2), left.eq(left - 1), bits",
                steps=46,
            ),
            Fault(
                says="bits are sampled a cycle after their middle",
                right="timer.eq(self._divisor // 2 - 1)",
                wrong="timer.eq(self._divisor // 2)",
                steps=46,
            ),
        ],
    ),
    Property(
        name="UART transmitter: each byte as start bit, eight bits, stop bit, at once and without gaps; "
        "through a receiver bytes out are bytes in",
        module=hw.parts.uart,
        part="UartTransmitter",
        bound="4 to 9, 12, 25, 52 and 104 cycles per bit; a receiver of the same, and one of 52 for 50 and 54",
        build=transmitted,
        cases=[
            *({"divisor": divisor, "receiver": divisor} for divisor in (*range(4, 10), 12, 25, 52, 104)),
            *({"divisor": divisor, "receiver": 52} for divisor in (50, 54)),
        ],
        reach=130,
        steps=3,
        fault=Fault(
            says="the lowest bit is always 0",
            right="bits.eq(Cat(bits[1:], Const(1, 1)))",
            wrong="bits.eq(Cat(bits[1] & (left != 9), bits[2:], Const(1, 1)))",
            steps=14,
        ),
        more_faults=[
            Fault(
                says="bits are a cycle too long",
                right="left.eq(left - 1), timer.eq(self._divisor - 1)]",
                wrong="left.eq(left - 1), timer.eq(self._divisor)]",
                steps=14,
                case=1,
            ),
            Fault(
                says="a byte is taken while one leaves",
                right="free = (left == 0) | ((left == 1) & (timer == 0))",
                wrong="free = (left == 0) | (left == 1)",
                steps=42,
            ),
            Fault(
                says="there is a gap between two bytes",
                right="free = (left == 0) | ((left == 1) & (timer == 0))",
                wrong="free = left == 0",
                steps=44,
            ),
            Fault(
                says="at the other end the start bit is the lowest one",
                right="self.data.payload.eq(bits[1:])",
                wrong="self.data.payload.eq(bits[:8])",
                steps=46,
            ),
        ],
    ),
)
