"""FIFOs and buffers: nothing lost, duplicated or reordered."""

from types import ModuleType
from typing import NamedTuple

import amaranth.lib.fifo
from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

import hw.parts.buffer
import hw.parts.queue
from sim.formal.bench import Bench
from sim.formal.order import Watched, in_order
from sim.formal.properties import Fault, Property

__all__ = ["PROPERTIES", "IdealFifo"]


def buffer(bench: Bench, buffers: ModuleType, *, width: int) -> None:
    """A `hw.parts.buffer.StreamBuffer`."""
    dut = buffers.StreamBuffer(payload=width)
    inside = bench.add("dut", dut)
    bench.source(dut.taken)
    bench.sink(dut.given)
    within = in_order(bench, dut.taken, dut.given, capacity=2, latency=1)
    bench.lemma(within.level == dut.given.valid + inside.has_second)
    bench.lemma(~inside.has_second | dut.given.valid)
    bench.lemma(~(within.one & (within.ahead == 1)) | (inside.second == within.token))


def block_queue(bench: Bench, queues: ModuleType, *, width: int, depth: int) -> None:
    """A `hw.parts.queue.BlockQueue`."""
    dut = queues.BlockQueue(payload=width, depth=depth)
    inside = bench.add("dut", dut)
    bench.source(dut.taken)
    bench.sink(dut.given)
    within = in_order(bench, dut.taken, dut.given, capacity=depth + 1, latency=2, full=depth)
    bench.holds(dut.holds == (within.level != 0))
    bench.lemma((inside.count + dut.given.valid == within.level) & (inside.count <= depth))
    bench.lemma(dut.given.valid | (within.starves == 0))
    _ring(bench, within, inside.first, inside.last, inside.words, at_output=dut.given.valid)


def sync_fifo(bench: Bench, fifos: ModuleType, *, width: int, depth: int) -> None:
    """A `SyncFIFO` of Amaranth's library, as cores and the router use it."""
    dut = fifos.SyncFIFO(width=width, depth=depth)
    inside = bench.add("dut", dut)
    bench.m.d.comb += [
        dut.w_en.eq(bench.any(1, "w_en")),
        dut.w_data.eq(bench.any(width, "w_data")),
        dut.r_en.eq(bench.any(1, "r_en")),
    ]
    taken, given = _Stream(dut.w_en, dut.w_rdy, dut.w_data), _Stream(dut.r_rdy, dut.r_en, dut.r_data)
    within = in_order(bench, taken, given, capacity=depth, latency=1)
    bench.holds(dut.level == within.level)
    _ring(bench, within, inside.consume, inside.produce, inside.storage, at_output=Const(0))


class IdealFifo(wiring.Component):
    """What `sync_fifo` proves of a FIFO, in its place: how many tokens it has, and one watched token in its turn, others any.

    Parameters
    ----------
    bench : Bench
        Where it is.
    watch : Value
        Whether the token that it takes is watched, where none is yet.
    width, depth : int
        As of `SyncFIFO`.

    Attributes
    ----------
    one : Signal
        Whether the watched token is within.
    ahead : Signal
        How many leave before it.
    token : Signal
        It.
    """

    def __init__(self, bench: Bench, watch: Value, *, width: int, depth: int) -> None:
        self._watch, self._depth, self._other = watch, depth, bench.any(width, "fifo_other")
        super().__init__(
            {
                "w_en": In(1),
                "w_data": In(width),
                "w_rdy": Out(1),
                "r_en": In(1),
                "r_data": Out(width),
                "r_rdy": Out(1),
                "level": Out(range(depth + 1)),
            }
        )
        self.one, self.ahead = Signal(name="fifo_one"), Signal(range(depth), name="fifo_ahead")
        self.token = Signal(width, name="fifo_token")

    def elaborate(self, platform: object) -> Module:
        m = Module()
        writes, reads = self.w_en & self.w_rdy, self.r_en & self.r_rdy
        m.d.comb += [
            self.w_rdy.eq(self.level != self._depth),
            self.r_rdy.eq(self.level != 0),
            self.r_data.eq(Mux(self.one & (self.ahead == 0), self.token, self._other)),
        ]
        m.d.sync += self.level.eq(self.level + writes - reads)
        with m.If(writes & ~self.one & self._watch):
            m.d.sync += [self.one.eq(1), self.ahead.eq(self.level - reads), self.token.eq(self.w_data)]
        with m.Elif(reads & self.one):
            m.d.sync += [self.one.eq(self.ahead != 0), self.ahead.eq(self.ahead - (self.ahead != 0))]
        return m


class _Stream(NamedTuple):
    valid: Value
    ready: Value
    payload: Value


def _ring(bench: Bench, within: Watched, first: Signal, last: Signal, words: Memory, *, at_output: Value) -> None:
    """Lemmas of a ring of words: where it begins and ends, and where the watched token is."""
    depth = words.depth
    bench.lemma((first < depth) & (last < depth))
    bench.lemma(last == _around(first + within.level - at_output, depth))
    look = words.read_port(domain="comb")
    bench.m.d.comb += look.addr.eq(_around(first + within.ahead - at_output, depth))
    stored = within.one & ((within.ahead != 0) | ~at_output)
    bench.lemma(~stored | (look.data == within.token))


def _around(place: Value, depth: int) -> Value:
    """A place of a ring, at most once beyond its end."""
    return Mux(place >= depth, place - depth, place)


PROPERTIES = (
    Property(
        name="Buffer: each token once, in order, after 1 cycle, held until taken",
        module=hw.parts.buffer,
        part="StreamBuffer",
        bound="1, 2, 3, 8 and 16 bits",
        build=buffer,
        cases=[{"width": width} for width in (1, 2, 3, 8, 16)],
        reach=6,
        fault=Fault(
            says="the second token is not kept",
            right="m.d.sync += [has_second.eq(self.taken.valid), second.eq(_bits(self.taken.payload))]",
            wrong="m.d.sync += has_second.eq(self.taken.valid)",
            steps=6,
        ),
    ),
    Property(
        name="Queue in block RAM: each token once, in order, after 2 cycles, held until taken",
        module=hw.parts.queue,
        part="BlockQueue",
        bound="2 to 17 words of 2 bits, 4 words of 1, 8 and 16 bits",
        build=block_queue,
        cases=[{"width": 2, "depth": depth} for depth in range(2, 18)] + [{"width": width, "depth": 4} for width in (1, 8, 16)],
        reach=30,
        fault=Fault(
            says="it takes a token when it is full",
            right="self.taken.ready.eq(count != self._depth)",
            wrong="self.taken.ready.eq(1)",
            steps=8,
        ),
    ),
    Property(
        name="FIFO of Amaranth's library: each token once, in order, after 1 cycle, held until taken",
        module=amaranth.lib.fifo,
        part="SyncFIFO",
        bound="1 to 17 words of 2 bits, 4 words of 1, 8 and 16 bits",
        build=sync_fifo,
        cases=[{"width": 2, "depth": depth} for depth in range(1, 18)] + [{"width": width, "depth": 4} for width in (1, 8, 16)],
        reach=30,
        fault=Fault(
            says="it takes a token when it is full",
            right="""            self.w_rdy.eq(self.level != self.depth),
            self.r_rdy.eq(self.level != 0),
            self.w_level.eq(self.level),""",
            wrong="""            self.w_rdy.eq(1),
            self.r_rdy.eq(self.level != 0),
            self.w_level.eq(self.level),""",
            steps=6,
        ),
    ),
)
