"""Flushes within a frame: one after every so many of its input events."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.aer import HostEvent, Kind
from model.machine.stages import ports
from model.network import INPUT, Network

__all__ = ["FlushInserter"]


class FlushInserter(wiring.Component):
    """Puts flushes among the input events of a frame.

    Operation
    ---------
    A flush is an ``END`` with ``negative``. It follows every ``flush_events``-th input event of a frame at once, even if that is
    the last one. Each frame counts anew. Frames that enter at another port pass as they are.

    Timing
    ------
    A cycle a flush; otherwise combinational.

    Parameters
    ----------
    network : Network
        Gives the events between two flushes.

    Members
    -------
    host : In, stream of HostEvent
        Frames without flushes.
    flushed : Out, stream of HostEvent
        Frames with flushes.
    """

    def __init__(self, *, network: Network) -> None:
        if not network.flush_events:
            raise ValueError(f"network {network.name!r}: flush_events must be at least 1, not {network.flush_events!r}")
        self._network = network
        super().__init__(
            {"host": In(stream.Signature(HostEvent(network))), "flushed": Out(stream.Signature(HostEvent(network)))}
        )

    @property
    def network(self) -> Network:
        """Gives the events between two flushes."""
        return self._network

    def elaborate(self, platform: object) -> Module:
        m = Module()
        every, port = self._network.flush_events, ports(self._network)[INPUT]
        events, due, last = Signal(range(every)), Signal(), Signal()
        flush = self.flushed.payload.shape().const({"port": port, "kind": Kind.END, "negative": 1})
        m.d.comb += [
            last.eq(events == every - 1),
            self.host.ready.eq(self.flushed.ready & ~due),
            self.flushed.valid.eq(self.host.valid | due),
            self.flushed.payload.eq(Mux(due, flush.as_value(), self.host.payload.as_value())),
        ]
        with m.If(due & self.flushed.ready):
            m.d.sync += due.eq(0)
        with m.If(self.host.valid & self.host.ready):
            with m.If(self.host.payload.kind == Kind.END):
                m.d.sync += events.eq(0)
            with m.Elif(self.host.payload.port == port):
                m.d.sync += events.eq(events + 1)
                with m.If(last):
                    m.d.sync += [events.eq(0), due.eq(1)]
        return m
