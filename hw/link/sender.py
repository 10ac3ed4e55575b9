"""Bytes out of packets: one after the other, whatever there is to say."""

from collections.abc import Mapping, Sequence

from amaranth.hdl import Array, Module, Signal, Value, unsigned
from amaranth.lib import crc, data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.link.protocol import SYNC, Command, Status
from model.machine.limits import SATURATIONS_WIDTH

__all__ = ["Choice", "PacketSender"]


class Choice(data.StructLayout):
    """Which packet is to be sent.

    Members
    -------
    head : unsigned(8)
        its command byte, which says what its payload is
    sequence : unsigned(8)
        its sequence number
    """

    def __init__(self) -> None:
        super().__init__({"head": 8, "sequence": 8})


class PacketSender(wiring.Component):
    """Sends packets.

    Operation
    ---------
    What is in a payload has to stay as it is until the packet has left. Only saturation counters go on counting: the high byte
    of each is that of the moment at which its low byte was read.

    Timing
    ------
    Each byte waits for its reader, a byte of the payload for two more cycles: it is looked up in each payload in one, and that of
    the packet's payload is chosen in the next.

    Parameters
    ----------
    payloads : mapping of Command or Status to int
        bytes of each payload that there is; a packet of another command has none

    Members
    -------
    choice : In, stream of Choice
        the next packet, taken when it begins
    contents : In, struct
        the payloads, by the names of their commands in lower case
    sent : Out, stream of unsigned(8)
        bytes for the wire
    head : Out, unsigned(8)
        command byte of the packet in hand
    done : Out, 1 bit
        1 in the cycle in which its last byte leaves
    """

    def __init__(self, *, payloads: Mapping[Command | Status, int]) -> None:
        self._payloads = dict(payloads)
        super().__init__(
            {
                "choice": In(stream.Signature(Choice())),
                "contents": In(data.StructLayout({command.name.lower(): 8 * size for command, size in payloads.items()})),
                "sent": Out(stream.Signature(unsigned(8))),
                "head": Out(8),
                "done": Out(1),
            }
        )

    @property
    def payloads(self) -> dict[Command | Status, int]:
        """Bytes of each payload that there is."""
        return self._payloads

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.crc = checksum = crc.catalog.CRC8_SMBUS(data_width=8).create()
        longest = max(self._payloads.values())
        sequence, index, size = Signal(8), Signal(range(longest + 1)), Signal(16)
        byte = self.sent.payload
        m.d.comb += checksum.data.eq(byte)

        def send(value: Value | int, following: str) -> None:
            m.d.comb += [self.sent.valid.eq(1), byte.eq(value), checksum.valid.eq(self.sent.ready)]
            with m.If(self.sent.ready):
                m.next = following

        at_hand, kept, high = Signal(8), Signal(8), Signal(8)
        found = {command: Signal(8, name=f"{command.name.lower()}_byte") for command in self._payloads}
        for command, its_byte in found.items():
            content = self.contents[command.name.lower()]
            m.d.sync += its_byte.eq(_one_of([content[at : at + 8] for at in range(0, len(content), 8)], index))
            if command is Command.SATURATIONS:
                with m.If(index[0]):
                    m.d.sync += its_byte.eq(high)
        with m.Switch(self.head):
            for command, its_byte in found.items():
                with m.Case(command.value):
                    m.d.comb += at_hand.eq(its_byte)

        with m.FSM():
            # What to send is chosen in one cycle and looked up in the next.
            with m.State("WAIT"):
                m.d.comb += [self.choice.ready.eq(1), checksum.start.eq(1)]
                m.d.sync += [
                    index.eq(0),
                    size.eq(0),
                    self.head.eq(self.choice.payload.head),
                    sequence.eq(self.choice.payload.sequence),
                ]
                with m.If(self.choice.valid):
                    m.next = "SYNC"
            with m.State("SYNC"):
                m.d.comb += [self.sent.valid.eq(1), byte.eq(SYNC)]
                with m.Switch(self.head):
                    for command, payload_bytes in self._payloads.items():
                        with m.Case(command.value):
                            m.d.sync += size.eq(payload_bytes)
                with m.If(self.sent.ready):
                    m.next = "SEQUENCE"
            with m.State("SEQUENCE"):
                send(sequence, "HEAD")
            with m.State("HEAD"):
                send(self.head, "SIZE_LOW")
            with m.State("SIZE_LOW"):
                send(size[:8], "SIZE_HIGH")
            with m.State("SIZE_HIGH"):
                send(size[8:], "FETCH")
            with m.State("FETCH"):
                counters = self.contents.saturations
                highs = [counters[at + 8 : at + SATURATIONS_WIDTH] for at in range(0, len(counters), SATURATIONS_WIDTH)]
                with m.If(~index[0]):
                    m.d.sync += high.eq(_one_of(highs, index[1:]))
                m.next = "CHOOSE"
                with m.If(index == size):
                    m.next = "CRC"
            with m.State("CHOOSE"):
                m.d.sync += kept.eq(at_hand)
                m.next = "BODY"
            with m.State("BODY"):
                send(kept, "FETCH")
                with m.If(self.sent.ready):
                    m.d.sync += index.eq(index + 1)
            with m.State("CRC"):
                m.d.comb += [self.sent.valid.eq(1), byte.eq(checksum.crc), self.done.eq(self.sent.ready)]
                with m.If(self.sent.ready):
                    m.next = "WAIT"
        return m


def _one_of(values: Sequence[Value], index: Value) -> Value:
    """The value at an index; any of them where that is none of theirs, whose upper bits are not looked at."""
    width = (len(values) - 1).bit_length()
    return Array(values)[index[:width]] if width else values[0]
