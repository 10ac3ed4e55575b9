"""Reading a flash: what it is told, and that its bytes come in order, each once, until reading stops."""

from math import ceil
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

from amaranth.hdl import Cat, Const, Mux, Signal, Value

import hw.link.flash
from hw.link.flash import WAKE_SECONDS
from sim.formal.bench import Bench
from sim.formal.properties import Fault, Property

__all__ = ["PROPERTIES"]

_WAKE, _READ = 0xAB, 0x03
"""What a flash is told, as its data sheet has it."""

_SLOW_HZ = 20e3
"""A clock by which the first byte comes soon enough to be searched for."""


class _Flash(NamedTuple):
    """A flash, as its pins tell it what to do.

    Any byte is watched, which has any value; all others may be any, at any time.
    """

    rises: Signal
    """Rising edges of its clock since it was selected, up to 32 for the command and 0 to 7 for bits of each byte after it."""
    heard: Signal
    """The last 32 bits that it was told."""
    begun: Signal
    """Whether it has been told the whole command, all 32 bits."""
    place: Signal
    """The address of the byte that leaves, or will next."""
    watched: Value
    byte: Value
    """The address that is watched, and what it holds."""
    awake: Signal
    """Whether it was selected before."""
    clocked: Signal
    """Its clock in the cycle before."""


def read(bench: Bench, flashes: ModuleType, *, addr: int, clock_hz: float) -> None:
    """A `FlashReader`, a flash, and a reader that takes bytes when it likes, and stops it when it likes.

    The flash takes a bit at each rising edge of its clock while it is selected. Once it has been told to read, and where, it
    shows the next bit in the cycle in which the clock is 0 again, and takes the next address after 8 of them; beyond the last one
    it goes on with the first.
    """
    m = bench.m
    dut = flashes.FlashReader(addr=addr, clock_hz=clock_hz)
    inside = bench.add("dut", dut)
    data, stop = dut.data, bench.any(1, "stop")
    bench.sink(data, "data")
    m.d.comb += dut.stop.eq(stop)
    flash = _flash(bench, dut)
    stopped = Signal(name="has_stopped")
    m.d.sync += stopped.eq(stopped | stop)
    gone = bench.before(stopped, "stopped")

    # First it wakes up, and nothing else; when it has had its time, it is told to read from the address on.
    selected, was = ~dut.select_n, bench.before(~dut.select_n, "selected")
    pause = ceil(clock_hz * WAKE_SECONDS)
    rests = Signal(range(pause + 1), name="rests")
    m.d.sync += rests.eq(Mux(dut.select_n, Mux(rests == pause, rests, rests + 1), 0))
    ends = was & ~selected & ~gone
    bench.holds(~ends | (~flash.awake & (flash.rises == 8) & (flash.heard[:8] == _WAKE)))
    bench.holds(~selected | flash.awake | (flash.rises <= 8))
    bench.holds(~(selected & ~was & flash.awake) | (rests == pause))
    bench.holds(~(selected & ~was) | ~dut.clock)
    bench.holds(~flash.begun | (flash.heard == (_READ << 24 | addr)))
    hears = selected & ~flash.begun & dut.clock & ~flash.clocked
    bench.holds(~hears | (dut.copi == bench.before(dut.copi, "copi")))

    # The n-th byte is that of the n-th address from there on, is offered until it is taken, and comes in time.
    number = Signal(24, name="bytes_taken")
    m.d.sync += number.eq(number + (data.valid & data.ready))
    bench.holds(~(data.valid & (flash.watched == (addr + number)[:24])) | (data.payload == flash.byte))
    waited = bench.before(data.valid & ~data.ready & ~stop, "byte_waits")
    bench.holds(~waited | (data.valid & (data.payload == bench.before(data.payload, "payload"))))
    bench.holds(~data.valid | flash.begun)
    first = (1 << len(inside.at) - 1) + 64 + 16
    lasts = Signal(range(first + 2), name="no_byte")
    any_yet = Signal(name="any_yet")
    m.d.sync += [lasts.eq(Mux(data.valid, 0, Mux(lasts == first, lasts, lasts + 1))), any_yet.eq(any_yet | data.valid)]
    bench.holds(stopped | data.valid | (lasts < Mux(any_yet, 15, first)))
    # Once it is told to stop it offers nothing, and leaves the flash alone.
    bench.holds(dut.active == ~stopped)
    bench.holds(~(stopped & data.valid))
    bench.holds(~gone | (dut.select_n & ~dut.clock))

    bench.reaches(ends & (flash.heard[:8] == _WAKE))
    bench.reaches(stopped & was & ~selected)
    if clock_hz == _SLOW_HZ:
        bench.reaches(data.valid & ~bench.before(data.valid, "valid") & (number == 1) & (data.payload == 0xA5))
        bench.reaches(waited & data.ready & (number == 0))
    spec = SimpleNamespace(
        stopped=stopped, gone=gone, number=number, lasts=lasts, any_yet=any_yet, was=was, rests=rests, pause=pause
    )
    _lemmas(bench, dut, inside, flash, spec)


def _flash(bench: Bench, dut: Any) -> _Flash:
    m = bench.m
    rises, heard, begun = Signal(6, name="rises"), Signal(32, name="heard"), Signal(name="begun")
    place, awake, clocked = Signal(24, name="place"), Signal(name="awake"), Signal(name="clocked")
    watched, byte, cipo = bench.constant(24, "watched"), bench.constant(8, "byte"), bench.any(1, "cipo")
    m.d.comb += dut.cipo.eq(cipo)
    m.d.sync += clocked.eq(dut.clock)
    with m.If(dut.select_n):
        m.d.sync += [rises.eq(0), begun.eq(0), awake.eq(awake | (rises != 0))]
    with m.Elif(dut.clock & ~clocked):
        with m.If(begun):
            m.d.sync += [rises.eq(Mux(rises == 7, 0, rises + 1)), place.eq(place + (rises == 7))]
        with m.Else():
            m.d.sync += [rises.eq(rises + 1), heard.eq(Cat(dut.copi, heard[:-1]))]
            with m.If(rises == 31):
                m.d.sync += [rises.eq(0), begun.eq(1), place.eq(Cat(dut.copi, heard[:23]))]
    shown = byte.bit_select(~rises[:3], 1)
    bench.assume(~(begun & ~dut.clock & (place == watched)) | (cipo == shown))
    return _Flash(rises, heard, begun, place, watched, byte, awake, clocked)


def _lemmas(bench: Bench, dut: Any, inside: SimpleNamespace, flash: _Flash, spec: SimpleNamespace) -> None:
    """What the flash has been told, and which bits have come, by the cycles since the begin."""
    at, reading, clock, valid = inside.at, inside.reading, dut.clock, dut.data.valid
    stopped, gone, number, any_yet = spec.stopped, spec.gone, spec.number, spec.any_yet
    bits = len(at) - 1
    begin = 1 << bits
    whole = dut.addr | _READ << 24
    told, woken = _first(whole, 32), _first(_WAKE, 8)

    wakes, asks = ~reading & (at >= 1) & (at <= 16), ~flash.begun & (at > begin)
    bench.lemma((inside.stopped == stopped) & (stopped | ~gone))
    was = reading | ((at >= 2) & (at <= 17)) | (at > begin + 1)
    bench.lemma(gone | (spec.was == was))
    bench.lemma(gone | reading | (at < begin + 64))
    bench.lemma(gone | ~reading | flash.begun | ((at == begin + 64) & clock & ~valid & ~any_yet))
    bench.lemma(gone | ~flash.begun | reading)
    bench.lemma(gone | (dut.select_n == ~(reading | wakes | (at > begin))))
    bench.lemma(gone | (flash.awake == (reading | (at >= 18))))
    bench.lemma(gone | ~(clock & (at[0] | flash.clocked)))
    bench.lemma(gone | reading | at[0] | (clock == (at != 0)))
    # Edges that the flash has seen, and bits that it has heard.
    seen = Signal(len(at), name="edges_seen")
    bench.m.d.comb += seen.eq((at >> 1) - clock)
    bench.lemma(gone | ~(wakes | asks | (~reading & (at == 17))) | (flash.rises == seen[:5]))
    bench.lemma(gone | reading | (at < 18) & (at != 0) | (at > begin) | (flash.rises == 0))
    bench.lemma(gone | ~flash.begun | (flash.rises == seen[:3]))
    for count in range(1, 9):
        bench.lemma(gone | ~((wakes | (~reading & (at == 17))) & (seen == count)) | (flash.heard[:count] == _WAKE >> 8 - count))
    for count in range(1, 32):
        bench.lemma(gone | ~(asks & (seen[:5] == count)) | (flash.heard[:count] == whole >> 32 - count))
    bench.lemma(gone | ~flash.begun | (flash.heard == whole))
    bench.lemma(gone | ~wakes | (dut.copi == woken.bit_select((at - 1)[1:4], 1)))
    bench.lemma(gone | ~asks | (dut.copi == told.bit_select((at - 1)[1:6], 1)))
    # Bytes.
    bench.lemma(stopped | ~valid | (reading & flash.begun & (at[:4] == 0)))
    bench.lemma(stopped | ~flash.begun | valid | (at[:4] != 0))
    bench.lemma(stopped | ~flash.begun | at[0] | valid | clock)
    bench.lemma(stopped | ~flash.begun | (flash.place == (dut.addr + number + (valid & ~clock))[:24]))
    comes = flash.begun & ~valid & (flash.place == flash.watched)
    for count in range(1, 8):
        bench.lemma(stopped | ~(comes & (at[1:4] == count)) | (dut.data.payload[:count] == flash.byte[8 - count :]))
    # Time.
    bench.lemma(gone | any_yet | (number == 0))
    bench.lemma(gone | ~any_yet | flash.begun)
    bench.lemma(stopped | any_yet | valid | ((spec.lasts == at) & (at < begin + 80) & (~reading | (at >= begin + 64))))
    bench.lemma(stopped | any_yet | ~valid | (at == begin + 80))
    bench.lemma(stopped | ~any_yet | valid | (spec.lasts == at[:4] - 1))
    since = at - 17
    bench.lemma(gone | reading | (at < 17) | (at > begin + 1) | (spec.rests == Mux(since > spec.pause, spec.pause, since)))


def _first(number: int, width: int) -> Const:
    """A number's bits, the most significant one first."""
    return Const(int(f"{number:0{width}b}"[::-1], 2), width)


PROPERTIES = (
    Property(
        name="Reading a flash: it is woken, told to read after a pause; its bytes come in order, each once, until it is to stop",
        module=hw.link.flash,
        part="FlashReader",
        bound="clocks of 20 kHz, 2, 12 and 28.875 MHz, at three addresses",
        build=read,
        cases=[
            {"addr": 0x100000, "clock_hz": 2e6},
            {"addr": 0x34A5C3, "clock_hz": _SLOW_HZ},
            {"addr": 0xFFFFFF, "clock_hz": _SLOW_HZ},
            {"addr": 0x34A5C3, "clock_hz": 12e6},
            {"addr": 0x34A5C3, "clock_hz": 28.875e6},
        ],
        reach=240,
        fault=Fault(
            says="what it is told comes lowest bit first",
            right="for n in reversed(range(width))]",
            wrong="for n in range(width)]",
            steps=20,
        ),
        more_faults=[
            Fault(
                says="the address is the next one",
                right="READ << 24 | self._addr",
                wrong="READ << 24 | self._addr + 1",
                steps=200,
            ),
            Fault(
                says="it does not wait until the flash is awake",
                right="wake_cycles + ceil(self._clock_hz * WAKE_SECONDS)",
                wrong="wake_cycles",
                steps=135,
                case=3,
            ),
            Fault(
                says="a byte that waits goes on",
                right="with m.If(~self.data.valid | taken):",
                wrong="with m.If(1):",
                steps=215,
            ),
            Fault(
                says="bits are taken while the clock is 1",
                right="with m.If(high):",
                wrong="with m.If(~high):",
                steps=215,
            ),
            Fault(
                says="a byte is still offered when it has been told to stop",
                right="stopped.eq(1), self.data.valid.eq(0)]",
                wrong="stopped.eq(1)]",
                steps=215,
            ),
            Fault(
                says="its clock goes on when it has been told to stop",
                right="self.clock.eq(high & ~stopped)",
                wrong="self.clock.eq(high)",
                steps=8,
            ),
        ],
    ),
)
