"""The packet that is carried out, as the parts of the host link share it."""

from amaranth.hdl import Module, Signal, Value

from hw.aer import HostEvent
from hw.link.protocol import ADDR_BYTES, event_bytes
from hw.parts.single_port import PART_BITS, PARTS
from model.network import Network

__all__ = ["PART_ADDR_BITS", "Work"]

PART_ADDR_BITS = (PARTS - 1).bit_length()
"""Bits that number the parts of a word of weights."""


class Work:
    """What the parts of a `Link` tell each other about the packet that is carried out.

    Members
    -------
    gathered, event
        last bytes of its payload, and those of an event
    part, addr, begins
        part of a word of weights, and where it goes; whether that is not known yet
    placed, entering
        whether there is such a place, a cycle late; whether the event is to enter
    encoding
        whether the encoder's events are to enter
    in_frame
        whether a frame has begun in the machine
    reply, replying
        command byte of the answer; 1 until it is sent
    asking, told
        whether a neuron's state is asked for; 1 in the cycle in which its last byte leaves
    restarting
        1 from a reset's answer on: what waits to be sent is lost with everything else, and not begun
    stop
        1 where reading a flash ends
    """

    def __init__(self, m: Module, network: Network, *, weights: bool) -> None:
        self._m = m
        layout = HostEvent(network)
        width = 8 * event_bytes(network)
        self.gathered = Signal(max(width, 8 * ADDR_BYTES) if weights else width)
        self.event = layout(self.gathered[-width:][: layout.size])
        self.part, self.addr = self.gathered[-PART_BITS:], Signal(8 * ADDR_BYTES + PART_ADDR_BITS, name="addr")
        self.begins, self.placed, self.entering, self.encoding, self.in_frame = (
            Signal(name=name) for name in ("begins", "placed", "entering", "encoding", "in_frame")
        )
        self.reply = Signal(8)
        self.replying, self.asking, self.told, self.restarting, self.stop = (
            Signal(name=name) for name in ("replying", "asking", "told", "restarting", "stop")
        )

    def answer(self, reply: Value | int) -> None:
        """In a state: answer, and go on from there."""
        self._m.d.sync += [self.reply.eq(reply), self.replying.eq(1)]
        self._m.next = "REPLY"

    def refuse(self, error: Value | int) -> None:
        """In a state: answer with an error."""
        self._m.d.comb += self.stop.eq(1)
        self.answer(error)
