"""Readout: signed spike counts of the classes, and the answer."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from hw.aer import AddressEvent, Kind
from hw.interface import CYCLES_WIDTH, Result
from hw.parts.memory import DISTRIBUTED, BuiltMemory
from hw.parts.tables import times
from model.machine.limits import FRAMES_IN_FLIGHT, STARTS_UNSEEN
from model.network import Network
from model.rest import first_states

__all__ = ["Readout"]


class Readout(wiring.Component):
    """Counts the output layer's spikes and picks the class.

    Operation
    ---------
    Counts begin a frame at those of the state at rest. At ``END`` they are set aside and compared one output a cycle, while those
    of the next frame are counted. Flushes within a frame pass without effect.

    Timing
    ------
    A spike a cycle. The answer is valid ``outputs + 2`` cycles after ``END``; a second ``END`` waits for it to be taken.

    Parameters
    ----------
    network : gives the outputs
    clips : whether more spikes can come than the output layer fires: counts stop at their ends then, and the result says so

    Members
    -------
    spikes : In stream, `AddressEvent` of the output layer
    started : In, 1 in the cycle in which a frame's first token is offered to a core
    room : Out, 1 while one more frame may start
    result : Out stream, `Result`
    """

    def __init__(self, *, network: Network, clips: bool = False) -> None:
        self._network = network
        self._clips = clips
        super().__init__(
            {
                "spikes": In(stream.Signature(AddressEvent(network.shapes[-1]))),
                "started": In(1),
                "room": Out(1, init=1),
                "result": Out(stream.Signature(Result(network, clips=clips))),
            }
        )

    @property
    def network(self) -> Network:
        """The network that is read out."""
        return self._network

    @property
    def clips(self) -> bool:
        """Whether more spikes can come than the output layer fires."""
        return self._clips

    @property
    def memories(self) -> tuple[BuiltMemory, ...]:
        """The starts of the frames in flight."""
        return (BuiltMemory(name="starts", width=CYCLES_WIDTH, depth=FRAMES_IN_FLIGHT, kind=DISTRIBUTED),)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        shape, outputs = self._network.shapes[-1], self._network.outputs
        result = self.result.payload

        m.submodules.starts = starts = SyncFIFO(width=CYCLES_WIDTH, depth=FRAMES_IN_FLIGHT)
        now = Signal(CYCLES_WIDTH)
        m.d.sync += now.eq(now + 1)
        # A start is written a cycle late, and room is known another cycle late: until then as many frames may have started.
        began, then = Signal(), Signal(CYCLES_WIDTH)
        m.d.sync += [began.eq(self.started), then.eq(now), self.room.eq(starts.level <= FRAMES_IN_FLIGHT - STARTS_UNSEEN)]
        m.d.comb += [starts.w_en.eq(began), starts.w_data.eq(then)]

        # The event in hand; each output has a counter of its own.
        event, held = Signal(AddressEvent(shape)), Signal()
        is_end, take = Signal(), Signal()
        address = Signal(range(outputs))
        start = [int(count) for count in first_states(self._network)[self._network.output.name].count.reshape(-1)]
        counting = Signal(result.counts.shape(), init=start)
        comparing, index = Signal(), Signal(range(outputs))
        clipped = Signal()
        best = Signal(result.counts.shape().elem_shape)
        m.d.comb += [
            is_end.eq(event.kind == Kind.END),
            take.eq(~held | ~is_end | (~comparing & ~self.result.valid)),
            self.spikes.ready.eq(take),
            address.eq(times(event.y, shape.width * shape.channels) + times(event.x, shape.channels) + event.c),
        ]
        arrives = self.spikes.valid
        if self._network.flush_events:
            # A flush within the frame is not held.
            arrives = arrives & ((self.spikes.payload.kind == Kind.SPIKE) | ~self.spikes.payload.negative)
        with m.If(take):
            m.d.sync += [held.eq(arrives), event.eq(self.spikes.payload)]
        for number in range(outputs):
            count = counting[number]
            with m.If(held & ~is_end & (address == number)):
                m.d.sync += count.eq(count + Cat(Const(1, 1), event.negative).as_signed())
                if self._clips:
                    # The ends are those bits that are all the same but for the sign.
                    at_end = Mux(event.negative, count[-1] & ~count[:-1].any(), ~count[-1] & count[:-1].all())
                    with m.If(at_end):
                        m.d.sync += [count.eq(count), clipped.eq(1)]
        if self._clips:
            with m.If(held & take & is_end):
                m.d.sync += [result.clipped.eq(clipped), clipped.eq(0)]
        with m.If(held & take & is_end):
            m.d.sync += [result.counts.eq(counting), counting.eq(counting.shape().const(start)), comparing.eq(1), index.eq(0)]

        # The counts go round once while they are compared, so that always the first one is at hand.
        with m.If(comparing):
            with m.If((index == 0) | (result.counts[0] > best)):
                # A single output answers by its sign.
                answer = index if outputs > 1 else result.counts[0] > 0
                m.d.sync += [best.eq(result.counts[0]), result.answer.eq(answer)]
            m.d.sync += index.eq(index + 1)
            m.d.sync += [
                result.counts[number].eq(result.counts[(number + 1) % outputs]) for number in range(outputs)
            ]
            with m.If(index == outputs - 1):
                m.d.comb += starts.r_en.eq(1)
                m.d.sync += [comparing.eq(0), self.result.valid.eq(1), result.cycles.eq(now - starts.r_data)]
        with m.If(self.result.valid & self.result.ready):
            m.d.sync += self.result.valid.eq(0)
        return m
