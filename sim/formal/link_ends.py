"""Both ends of a link as they are proved, in the place of the receiver and the sender: packets come, and packets leave."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value

from hw.link.protocol import COUNTED
from hw.link.receiver import Header, PacketReceiver
from hw.link.sender import PacketSender
from sim.formal.bench import Bench

__all__ = ["GAP", "AnySender", "OfferingReceiver"]

GAP = 2
"""Cycles at most in which the receiver does not have the next byte of a payload."""


class OfferingReceiver(PacketReceiver):
    """What `sim.formal.packets` proves of a `PacketReceiver`, in its place: right packets of any bytes, and errors.

    Parameters
    ----------
    bench : Bench
        Where it is.
    **options
        As of `PacketReceiver`.
    """

    def __init__(self, bench: Bench, **options: Any) -> None:
        super().__init__(**options)
        self._any = {name: bench.any(1, name) for name in ("packet_comes", "ripens", "complete", "noise", "deaf", "hears")}
        self._coming = coming = Header()(bench.any(Header().size, "coming_header"))
        self._byte = bench.any(8, "coming_byte")
        suits = Cat((coming.command == command.value) & _one_of(coming.length, fit) for command, fit in self.lengths.items())
        bench.assume((coming.error == 0) | Cat(coming.error == one.value for one in COUNTED).any())
        bench.assume((coming.error != 0) | suits.any())
        self.given, self.ripe, self.waited = Signal(17, name="given"), Signal(name="ripe"), Signal(2, name="waited")
        self._offered = Signal(name="offered")
        self.still = Signal.like(self.silence, name="still")
        self.stirred, self.stirred_before = Signal(name="stirred"), Signal(name="stirred_before")
        self._any_silence = bench.any(len(self.silence), "any_silence")

    def elaborate(self, platform: object) -> Module:
        m, packet, payload, other, coming = Module(), self.packet, self.payload, self._byte, self._coming
        header, byte = Signal(Header(), name="offered_header"), Signal(8, name="kept_byte")
        right, took = header.error == 0, payload.valid & payload.ready
        more = self._offered & right & (self.given != header.length)
        m.d.comb += [
            packet.valid.eq(self._offered),
            packet.payload.eq(Mux(self._offered, header, coming)),
            payload.valid.eq(more & self.ripe),
            payload.payload.eq(Mux(payload.valid, byte, other)),
            self.complete.eq(Mux(self._offered & right, self.given == header.length, self._any["complete"])),
            *(getattr(self, name).eq(self._any[name]) for name in ("noise", "deaf")),
            self.received.ready.eq(~self._offered & self._any["hears"]),
        ]
        with m.If(self._offered):
            m.d.sync += self._offered.eq(~packet.ready)
        with m.Elif(self._any["packet_comes"]):
            m.d.sync += [self._offered.eq(1), header.eq(coming), self.given.eq(0), self.ripe.eq(0), self.waited.eq(1)]
        with m.If(took):
            m.d.sync += [self.given.eq(self.given + 1), self.ripe.eq(0), self.waited.eq(1)]
        with m.Elif(more & ~self.ripe):
            m.d.sync += [self.ripe.eq((self.waited == GAP) | self._any["ripens"]), self.waited.eq(self.waited + 1)]
            m.d.sync += byte.eq(other)
        stirs, still = (self.received.valid & self.received.ready) | self.hold, self.still
        m.d.sync += [
            still.eq(Mux(stirs | (still == self.timeout), 0, still + 1)),
            Cat(self.stirred, self.stirred_before).eq(Cat(stirs, self.stirred)),
        ]
        m.d.comb += self.silence.eq(Mux(self.stirred, Mux(self.stirred_before, 1, self._any_silence), still))
        return m


class AnySender(PacketSender):
    """What `sim.formal.senders` proves of a `PacketSender`, in its place: it takes any time for a packet.

    Attributes
    ----------
    within : Signal
        Whether a packet leaves.
    """

    def __init__(self, bench: Bench, **options: Any) -> None:
        super().__init__(**options)
        self._done, self._head, self._sent = bench.any(1, "last_leaves"), bench.any(8, "other_head"), bench.any(9, "sent")
        self.within = Signal(name="leaves")

    def elaborate(self, platform: object) -> Module:
        m, kept_head = Module(), Signal(8, name="leaving_head")
        m.d.comb += [
            self.choice.ready.eq(~self.within),
            self.head.eq(Mux(self.within, kept_head, self._head)),
            self.done.eq(self.within & self._done),
            Cat(self.sent.valid, self.sent.payload).eq(self._sent),
        ]
        with m.If(self.within):
            m.d.sync += self.within.eq(~self.done)
        with m.Elif(self.choice.valid):
            m.d.sync += [self.within.eq(1), kept_head.eq(self.choice.payload.head)]
        return m


def _one_of(value: Value, numbers: range) -> Value:
    return Cat(value == number for number in numbers).any()
