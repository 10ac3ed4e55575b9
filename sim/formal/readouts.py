"""The readout: of each frame the signed counts of its spikes, which class has the most, and how long that took."""

from collections.abc import Sequence
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
from amaranth.hdl import Array, Cat, Const, Mux, Signal, Value, signed

import hw.pipeline.readout
from hw.aer import Kind
from hw.interface import CYCLES_WIDTH
from model.machine.limits import FRAMES_IN_FLIGHT, STARTS_UNSEEN
from model.network import Convolution, Network, Neurons, Shape
from sim.formal.bench import Bench
from sim.formal.properties import Fault, Property
from sim.formal.queues import IdealFifo

__all__ = ["PROPERTIES"]

_MOST_FRAMES = 2
"""Frames that have ended and are not answered yet: one that is compared or waits to be taken, and one behind it."""


def readout(
    bench: Bench,
    readouts: ModuleType,
    *,
    outputs: tuple[int, int, int],
    count_bits: int = 3,
    biases: Sequence[int] = (0,),
    flushes: bool = False,
    clips: bool = False,
) -> None:
    """A `Readout`, beside the counts of the frame that comes, and of those that have ended.

    A frame starts where there is room, and ends in a later cycle. Where nothing clips, counts keep to what a result has room for,
    as those of neurons do. One start, any, is watched. The FIFO of starts is one as `sync_fifo` proves it; that it is never asked
    for what it has not got, nor to take what it has no room for, is asserted.
    """
    m = bench.m
    network = _network(Shape(*outputs), count_bits=count_bits, biases=biases, flushes=flushes)
    dut = readouts.Readout(network=network, clips=clips)
    marks = Signal(name="marks_start")
    fifos: list[IdealFifo] = []

    def ideal(**options: Any) -> IdealFifo:
        fifos.append(IdealFifo(bench, marks, **options))
        return fifos[-1]

    with patch.object(readouts, "SyncFIFO", ideal):
        inside = bench.add("dut", dut)
    bench.source(dut.spikes, "spikes")
    bench.sink(dut.result, "result")
    started = bench.any(1, "starts")
    m.d.comb += dut.started.eq(started)
    event, result = dut.spikes.payload, dut.result.payload
    enters, answered = dut.spikes.valid & dut.spikes.ready, dut.result.valid & dut.result.ready
    for coordinate, size in ((event.y, outputs[0]), (event.x, outputs[1]), (event.c, outputs[2])):
        bench.assume(coordinate < size)
    is_end = (event.kind == Kind.END) & (~event.negative if flushes else Const(1))
    ends, comes = enters & is_end, enters & (event.kind == Kind.SPIKE)

    counts = _Counts(bench, network, clips=clips)
    number = (event.y * outputs[1] + event.x) * outputs[2] + event.c
    counts.step(comes=comes, number=number, negative=event.negative, ends=ends)
    frames, age = Signal(range(_MOST_FRAMES + 1), name="frames"), Signal(range(network.outputs + 4), init=1, name="age")
    first, second = counts.frame("first"), counts.frame("second")
    into_first = (frames == 0) | (frames == 1) & answered
    m.d.sync += [frames.eq(frames + ends - answered), age.eq(age + (age != network.outputs + 2))]
    with m.If(answered | (frames == 0)):
        m.d.sync += age.eq(1)
        m.d.sync += counts.kept(first, second)
    with m.If(ends & into_first):
        m.d.sync += counts.kept(first, counts)
    with m.Elif(ends):
        m.d.sync += counts.kept(second, counts)

    # As many frames have started as end, and an answer tells for how long.
    done = (frames != 0) & (age == network.outputs + 1)
    starts, fifo = _Starts(bench, started, done=done), fifos[0]
    m.d.comb += marks.eq(starts.marks)
    bench.assume(~started | dut.room)
    bench.assume(~ends | (starts.flight > frames - dut.result.valid))
    bench.holds((~fifo.w_en | fifo.w_rdy) & (~fifo.r_en | fifo.r_rdy))

    # Another frame is taken while one waits to be answered; an answer is there after so many cycles, until it is taken.
    bench.holds(dut.spikes.ready == (frames != _MOST_FRAMES))
    bench.holds(dut.result.valid == ((frames != 0) & (age == network.outputs + 2)))
    for count, kept in zip(result.counts, first.counts, strict=True):
        bench.holds(~dut.result.valid | (count == kept))
    bench.holds(~dut.result.valid | _is_answer(result.answer, first.counts))
    if clips:
        bench.holds(~dut.result.valid | (result.clipped == first.clipped))
    bench.holds(~(dut.result.valid & starts.known) | (result.cycles == starts.cycles))

    starts.lemmas(fifo, inside, dut.room)
    bench.lemma(fifo.level >= frames - dut.result.valid)
    _lemmas(bench, dut, inside, counts, first, second, frames=frames, age=age, clips=clips)
    bench.reaches(starts.known & (frames == _MOST_FRAMES) & answered)
    bench.reaches(answered & ends)
    bench.reaches(dut.result.valid & (first.counts[-1] < 0))
    if flushes:
        bench.reaches(enters & (event.kind == Kind.END) & event.negative & (frames == 0))
    if clips:
        bench.reaches(dut.result.valid & first.clipped)


def _lemmas(
    bench: Bench,
    dut: Any,
    inside: SimpleNamespace,
    counts: "_Counts",
    first: Any,
    second: Any,
    *,
    frames: Signal,
    age: Signal,
    clips: bool,
) -> None:
    """How far the frames that have ended are: in hand, compared, answered."""
    outputs, result, event = len(counts.counts), dut.result.payload, inside.event
    ended = inside.held & (event.kind == Kind.END)
    spike = inside.held & (event.kind == Kind.SPIKE)
    in_hand, compares = (frames != 0) & (age == 1), (frames != 0) & (age > 1) & (age < outputs + 2)
    bench.lemma((age != 0) & (age <= outputs + 2) & (frames <= _MOST_FRAMES))
    bench.lemma(ended == (in_hand | (frames == _MOST_FRAMES)))
    bench.lemma(~in_hand | (frames == 1))
    bench.lemma((inside.comparing == compares) & (~compares | (inside.index + 2 == age)))
    # What is counted, and what the spike in hand adds to it.
    height, width, channels = inside.shape
    bench.lemma(~inside.held | ended | ((event.y < height) & (event.x < width) & (event.c < channels)))
    number = (event.y * width + event.x) * channels + event.c
    stuck: Value = Const(0)
    for n, (count, of_first, of_second) in enumerate(zip(counts.counts, first.counts, second.counts, strict=True)):
        counted, at = inside.counting[n], spike & (number == n)
        follows = counted + Mux(at, Mux(event.negative, -1, 1), 0)
        outside = (follows < counts.limits[0]) | (follows > counts.limits[1])
        stuck = stuck | outside
        bench.lemma(ended | (count == (Mux(outside, counted, follows) if clips else follows)))
        bench.lemma(~ended | (count == counts.start[n]))
        bench.lemma(~in_hand | (counted == of_first))
        bench.lemma((frames != _MOST_FRAMES) | (counted == of_second))
        bench.lemma((count >= counts.limits[0]) & (count <= counts.limits[1]))
        # They go round once.
        turned = Array(result.counts)[(n + outputs - inside.index) % outputs if outputs > 1 else 0]
        bench.lemma(~compares | (turned == of_first))
        is_best = (result.answer == n) if outputs > 1 else Const(1)
        seen = compares & (inside.index > n)
        bench.lemma(~seen | Mux(is_best, inside.best == of_first, (inside.best >= of_first)))
        if outputs > 1:
            bench.lemma(~seen | (result.answer <= n) | (inside.best > of_first))
    if outputs > 1:
        bench.lemma(~compares | (inside.index == 0) | (result.answer < inside.index))
    if clips:
        bench.lemma(counts.clipped == Mux(ended, 0, inside.clipped | stuck))
        bench.lemma(~in_hand | (inside.clipped == first.clipped))
        bench.lemma((frames != _MOST_FRAMES) | (inside.clipped == second.clipped))
        bench.lemma(~compares | (result.clipped == first.clipped))


class _Counts:
    """The counts of the frame that comes.

    Attributes
    ----------
    counts : list of Signal
        Of each output.
    clipped : Signal
        Whether one had to stop at its end.
    """

    def __init__(self, bench: Bench, network: Network, *, clips: bool) -> None:
        self._bench, self._network, self._clips = bench, network, clips
        bits = _layer(network).count_bits + 1
        self.limits = -(1 << bits - 1), (1 << bits - 1) - 1
        self._shape = signed(bits + 1)
        # Biases of whole thresholds are where a frame starts that starts at rest.
        height, width, _ = network.shapes[-1]
        self.start = [count if network.rest else 0 for _ in range(height * width) for count in _wholes(network)]
        self.counts = [Signal(self._shape, init=start, name=f"count_{n}") for n, start in enumerate(self.start)]
        self.clipped = Signal(name="clipped_now")

    def step(self, *, comes: Value, number: Value, negative: Value, ends: Value) -> None:
        """Count a spike, or start a frame."""
        m, (lowest, highest) = self._bench.m, self.limits
        for n, (count, start) in enumerate(zip(self.counts, self.start, strict=True)):
            with m.If(ends):
                m.d.sync += count.eq(start)
            following = Signal(self._shape, name=f"count_{n}_next")
            m.d.comb += following.eq(Mux(comes & (number == n), Mux(negative, count - 1, count + 1), count))
            outside = (following < lowest) | (following > highest)
            if self._clips:
                with m.If(outside):
                    m.d.sync += self.clipped.eq(1)
                with m.Elif(~ends):
                    m.d.sync += count.eq(following)
            else:
                self._bench.assume(~outside)
                with m.If(~ends):
                    m.d.sync += count.eq(following)
        with m.If(ends):
            m.d.sync += self.clipped.eq(0)

    def frame(self, name: str) -> SimpleNamespace:
        """Counts of a frame that has ended."""
        counts = [Signal(self._shape, name=f"{name}_count_{n}") for n in range(len(self.counts))]
        return SimpleNamespace(counts=counts, clipped=Signal(name=f"{name}_clipped"))

    def kept(self, frame: Any, other: Any) -> list[Any]:
        """Assignments of other counts to those of a frame."""
        return [*(to.eq(of) for to, of in zip(frame.counts, other.counts, strict=True)), frame.clipped.eq(other.clipped)]


def _is_answer(answer: Value, counts: list[Signal]) -> Value:
    """Whether an answer is the first class with the most spikes; of a single output, whether its count is above 0."""
    if len(counts) == 1:
        return answer == (counts[0] > 0)
    most = Array(counts)[answer]
    lower = Cat(Mux(answer > n, most > count, most >= count) for n, count in enumerate(counts))
    return lower.all() & (answer < len(counts))


class _Starts:
    """The frames that have started and are not compared yet; of one of them, any, for how long.

    Attributes
    ----------
    marks : Signal
        Whether the start that is watched enters the FIFO.
    known : Signal
        Whether the answer at hand is that of the watched one.
    cycles : Signal
        For how many cycles it was under way.
    """

    def __init__(self, bench: Bench, started: Value, *, done: Value) -> None:
        m, self._bench, self._started = bench.m, bench, started
        self.flight, self._ahead = (Signal(range(FRAMES_IN_FLIGHT + 2), name=name) for name in ("flight", "starts_ahead"))
        self._one, self.known, self.marks = (Signal(name=name) for name in ("start_watched", "cycles_known", "marks"))
        self._elapsed, self.cycles = (Signal(CYCLES_WIDTH, name=name) for name in ("elapsed", "cycles_taken"))
        watched = started & ~self._one & bench.any(1, "watch")
        m.d.sync += [self.flight.eq(self.flight + started - done), self.marks.eq(watched)]
        m.d.sync += self._elapsed.eq(Mux(watched, 1, self._elapsed + 1))
        with m.If(done):
            m.d.sync += [self.known.eq(self._one & (self._ahead == 0)), self.cycles.eq(self._elapsed)]
        with m.If(watched):
            m.d.sync += [self._one.eq(1), self._ahead.eq(self.flight - done)]
        with m.Elif(self._one & done):
            m.d.sync += [self._one.eq(self._ahead != 0), self._ahead.eq(self._ahead - (self._ahead != 0))]

    def lemmas(self, fifo: IdealFifo, inside: SimpleNamespace, room: Value) -> None:
        """Which of them are in the FIFO, and that there is room for those that are not yet."""
        bench, level, most = self._bench, fifo.level, FRAMES_IN_FLIGHT - STARTS_UNSEEN
        bench.lemma(level + inside.began == self.flight)
        bench.lemma((~room | (level <= most + 1)) & (level + inside.began <= most + 3))
        bench.lemma(~self._one | (self._ahead < self.flight))
        bench.lemma((self.marks | fifo.one) == self._one)
        bench.lemma(~(self.marks & fifo.one))
        started_at = (inside.now - self._elapsed)[:CYCLES_WIDTH]
        bench.lemma(~self.marks | (inside.began & (self._ahead == level) & (inside.then == started_at)))
        bench.lemma(~fifo.one | ((fifo.ahead == self._ahead) & (fifo.token == started_at)))


def _network(shape: Shape, *, count_bits: int, biases: Sequence[int], flushes: bool) -> Network:
    """A network whose output layer has a shape, and whole thresholds for biases, in turn."""
    channels = [biases[n % len(biases)] for n in range(shape.channels)]
    layer = Convolution(
        name="conv",
        source="input",
        weights=np.ones((shape.channels, 1, 1, 1), int),
        bias=np.array(channels) << 2,
        activation="identity",
        threshold_log2=2,
        count_bits=count_bits,
    )
    options: dict[str, Any] = {"firing": "deferred", "flush_events": 3} if flushes else {}
    input_shape = Shape(shape.height, shape.width, 1)
    return Network(name="small", input_shape=input_shape, layers=(layer,), rest=any(channels), **options)


def _layer(network: Network) -> Neurons:
    layer = network.output
    if not isinstance(layer, Neurons):
        raise TypeError(f"layer must be of neurons, not {type(layer).__name__}")
    return layer


def _wholes(network: Network) -> list[int]:
    return [int(bias) >> 2 for bias in _layer(network).bias]


PROPERTIES = (
    Property(
        name="Readout: of each frame the signed counts of its spikes, the first class with the most, and its cycles",
        module=hw.pipeline.readout,
        part="Readout",
        bound="1 to 4 outputs, of one position and several; counts of 2 to 4 bits, at rest as well, that end or do not; "
        "flushes within frames",
        build=readout,
        cases=[
            {"outputs": (1, 1, 2)},
            {"outputs": (1, 1, 1), "clips": True},
            {"outputs": (1, 1, 3), "clips": True, "biases": (1, -2, 0)},
            {"outputs": (2, 1, 2), "flushes": True, "biases": (0, 3)},
            {"outputs": (1, 2, 1), "flushes": True, "clips": True, "count_bits": 2},
            {"outputs": (2, 2, 1), "count_bits": 4},
        ],
        reach=16,
        fault=Fault(
            says="negative spikes count as positive ones",
            right="Cat(Const(1, 1), event.negative).as_signed()",
            wrong="1",
            steps=10,
        ),
        more_faults=[
            Fault(
                says="of several classes the last one answers",
                right="(result.counts[0] > best)",
                wrong="(result.counts[0] >= best)",
                steps=10,
            ),
            Fault(
                says="an answer that has not been taken is lost to the next frame",
                right="(~comparing & ~self.result.valid)",
                wrong="~comparing",
                steps=14,
            ),
            Fault(
                says="a frame starts with the counts of the last one",
                right="counting.eq(counting.shape().const(start)), ",
                wrong="",
                steps=16,
            ),
            Fault(
                says="a flush within a frame ends it",
                right="arrives = arrives & ((self.spikes.payload.kind == Kind.SPIKE) | ~self.spikes.payload.negative)",
                wrong="pass",
                steps=12,
                case=3,
            ),
            Fault(
                says="a count goes on beyond its end",
                right="m.d.sync += [count.eq(count), clipped.eq(1)]",
                wrong="m.d.sync += clipped.eq(1)",
                steps=14,
                case=4,
            ),
            Fault(
                says="one frame tells that another was clipped",
                right="m.d.sync += [result.clipped.eq(clipped), clipped.eq(0)]",
                wrong="m.d.sync += result.clipped.eq(clipped)",
                steps=18,
                case=4,
            ),
            Fault(
                says="there is room for a frame until all places are taken",
                right="FRAMES_IN_FLIGHT - STARTS_UNSEEN",
                wrong="FRAMES_IN_FLIGHT - 1",
                steps=20,
            ),
            Fault(
                says="time is told from where the next frame starts",
                right="then.eq(now)",
                wrong="then.eq(now + 1)",
                steps=10,
            ),
        ],
    ),
)
