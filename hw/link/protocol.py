"""The host link's protocol, as both of its sides need it: commands, errors, and what packets look like. See docs/link.md."""

import enum
import struct
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from model.machine.folded_layout import LEAST_PACKET, SINGLE_BITS
from model.network import Network, Neurons, Shape

__all__ = [
    "ADDR_BYTES",
    "CHECK",
    "COUNTED",
    "CRC_POLYNOMIAL",
    "FRAMES",
    "HEADER_BYTES",
    "IDENTITY",
    "LOADED",
    "PLAN_HASH_BYTES",
    "PLAN_NAME_BYTES",
    "PROTOCOL_VERSION",
    "REFUSED",
    "RESULT",
    "STATE",
    "STATUS",
    "SYNC",
    "WEIGHTS",
    "WORD_BYTES",
    "Capability",
    "Command",
    "Event",
    "Flag",
    "Status",
    "crc8",
    "event_bytes",
    "event_widths",
    "load_payloads",
    "longest_payload",
    "mask_bytes",
    "pack_bits",
    "pack_event",
    "packet",
    "takes_bits",
    "unpack_event",
    "weight_mask_bytes",
]

PROTOCOL_VERSION = 4
SYNC = 0xA5
"""First byte of every packet."""

HEADER_BYTES = 5
"""Bytes before the payload: `SYNC`, sequence number, command, and two of the payload's length."""

CRC_POLYNOMIAL = 0x07
"""CRC-8 (SMBus), most significant bit first, from 0; over all bytes of the packet after `SYNC`."""

PLAN_HASH_BYTES, PLAN_NAME_BYTES = 4, 16
"""Bytes of a plan's hash, and at the most of its name, in the answer to `Command.IDENTIFY`."""

ADDR_BYTES, WORD_BYTES = 2, SINGLE_BITS // 8
"""Bytes of an address in the memory with one port, and of a word there."""

IDENTITY = struct.Struct(f"<BBB8s6HI{PLAN_HASH_BYTES}s")
"""Answer to `Command.IDENTIFY`, up to the plan's name: version, bytes of an event, capabilities, network's hash, height, width,
channels, outputs, first word of weights to load, their number, clock in Hz, plan's hash."""

RESULT = struct.Struct("<HIB")
"""A result up to its counts, which have two bytes each: class, cycles, and what else is to be known (`Flag`)."""

STATE = struct.Struct("<ihB")
"""Answer to `Command.STATE`: residual, count, and whether the spike of the last update is in neither yet."""

CHECK = struct.Struct("<QB")
"""Answer to `Command.CHECK`: signature of the weights, and whether it is the network's."""

WEIGHTS = struct.Struct("<I")
"""Answer to `Command.WEIGHTS`, up to its mask: how often all weights have been read and compared since reset, modulo 2^32."""


class Command(enum.IntEnum):
    """What the host asks for."""

    IDENTIFY = 0x01
    FRAME = 0x02
    EVENTS = 0x03
    WATCH = 0x04
    SATURATIONS = 0x05
    STATUS = 0x06
    RESET = 0x07
    LOAD = 0x08
    CHECK = 0x09
    STATE = 0x0A
    BITS = 0x0B
    WEIGHTS = 0x0C


class Capability(enum.IntFlag):
    """What a device can do besides, as its answer to `Command.IDENTIFY` says."""

    WATCH = 0x01
    STATES = 0x02
    LOADS = 0x04
    INJECT = 0x08
    BITS = 0x10
    WEIGHT_CHECK = 0x20


class Flag(enum.IntFlag):
    """What a result says besides."""

    CLIPPED = 0x01
    """A count had to stop at its end."""
    WEIGHTS_DIFFER = 0x02
    """The device has found other weights in it than the network's, since reset."""


class Status(enum.IntEnum):
    """What the command byte of a packet from the device says where it is no command: something watched, or an error."""

    WATCHED = 0x44
    BAD_CRC = 0xE1
    BAD_COMMAND = 0xE2
    BAD_LENGTH = 0xE3
    TIMEOUT = 0xE4
    NOT_LOADED = 0xE5
    BUSY = 0xE6
    NO_PLACE = 0xE7


REFUSED = (Status.NOT_LOADED, Status.BUSY, Status.NO_PLACE)
"""What a device does not do yet, not now, or not at all, though it has understood."""

FRAMES = (Command.FRAME, Command.BITS)
"""Commands that are a frame of pixels: a byte or a bit each."""

LOADED = (Command.LOAD, Command.CHECK)
"""Commands that only a machine has whose weights have to be loaded."""

COUNTED = (Status.BAD_CRC, Status.BAD_COMMAND, Status.BAD_LENGTH, Status.TIMEOUT)
"""Errors that are counted, in the order in which the answer to `Command.STATUS` has them; after them, bytes lost on the wire."""

STATUS = struct.Struct(f"<{len(COUNTED) + 1}BI")
"""Answer to `Command.STATUS`: `COUNTED`, bytes lost, and cycles since reset."""


def _crc_table() -> bytes:
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = (crc << 1 ^ CRC_POLYNOMIAL) & 0xFF if crc & 0x80 else crc << 1
        table.append(crc)
    return bytes(table)


_CRC_TABLE = _crc_table()


def crc8(data: bytes) -> int:
    """The packets' checksum; 0 where ``data`` ends with its own."""
    crc = 0
    for byte in data:
        crc = _CRC_TABLE[crc ^ byte]
    return crc


def packet(sequence: int, command: int, payload: bytes = b"") -> bytes:
    """A packet, as it goes over the wire."""
    body = bytes([sequence, command]) + len(payload).to_bytes(2, "little") + payload
    return bytes([SYNC]) + body + bytes([crc8(body)])


@dataclass(frozen=True)
class Event:
    """An event in a list, or one that was watched.

    Parameters
    ----------
    port : int
        0 for the network's input, ``i + 1`` for the output of layer ``i``.
    end : bool
        Whether it is the end of a frame; the other fields are 0 then.
    negative : bool
        Whether the spike's sign is -1; of an end that was watched, whether it is a flush within the frame.
    y, x, c : int
        The neuron.
    """

    port: int = 0
    end: bool = False
    negative: bool = False
    y: int = 0
    x: int = 0
    c: int = 0


def event_widths(network: Network) -> dict[str, int]:
    """Bits of each field of an `Event`, in their order, from the least significant bit on: those that hold the largest value."""
    return dict(_fields((network.input_shape, *network.shapes))[0])


@lru_cache(maxsize=256)
def _fields(shapes: tuple[Shape, ...]) -> tuple[tuple[tuple[str, int], ...], int]:
    """Of an `Event` of a network with these shapes, its input's first, each field and its bits; and its bytes."""
    height, width, channels = (max(sizes) for sizes in zip(*shapes, strict=True))
    largest = {"port": len(shapes) - 1, "end": 1, "negative": 1, "y": height - 1, "x": width - 1, "c": channels - 1}
    widths = tuple((name, max(1, value.bit_length())) for name, value in largest.items())
    return widths, -(-sum(bits for _, bits in widths) // 8)


def event_bytes(network: Network) -> int:
    """Bytes of one event in an event list."""
    return _fields((network.input_shape, *network.shapes))[1]


def pack_event(network: Network, event: Event) -> bytes:
    """An event, as it goes over the wire.

    Raises
    ------
    ValueError
        If a field does not fit its bits.
    """
    packed = at = 0
    widths, size = _fields((network.input_shape, *network.shapes))
    for name, width in widths:
        value = int(getattr(event, name))
        if not 0 <= value < 1 << width:
            raise ValueError(f"{name} of an event must be within 0..{(1 << width) - 1}, not {value}")
        packed |= value << at
        at += width
    return packed.to_bytes(size, "little")


def unpack_event(network: Network, raw: bytes) -> Event:
    """What an event says; whether there is such a neuron it leaves open."""
    packed, fields = int.from_bytes(raw, "little"), []
    for _, width in _fields((network.input_shape, *network.shapes))[0]:
        fields.append(packed & (1 << width) - 1)
        packed >>= width
    port, end, negative, y, x, c = fields
    return Event(port, bool(end), bool(negative), y, x, c)


def takes_bits(network: Network) -> bool:
    """Whether there is `Command.BITS`: where pixels fire once at most, and their order does not decide what neurons fire."""
    ordered = not network.deferred or network.flush_events > 0
    return not ordered and network.input_levels == 1 and network.input_shape.size % 8 == 0


def pack_bits(frame: npt.NDArray[np.bool_]) -> bytes:
    """A frame of bits as its payload, the first pixel in the lowest bit of the first byte."""
    return np.packbits(frame.ravel(), bitorder="little").tobytes()


def mask_bytes(network: Network) -> int:
    """Bytes of a mask of ports."""
    return -(-(len(network.layers) + 1) // 8)


def weight_mask_bytes(network: Network) -> int:
    """Bytes of a mask of neuron layers, in the answer to `Command.WEIGHTS`."""
    return -(-sum(isinstance(layer, Neurons) for layer in network.layers) // 8)


def longest_payload(network: Network, *, short: bool = False) -> int:
    """Bytes of the longest payload: a frame, or as many events; where it is to be ``short``, no more than a frame."""
    return max(LEAST_PACKET, network.input_shape.size * (1 if short else event_bytes(network)))


def load_payloads(network: Network, words: list[int], *, first: int) -> list[bytes]:
    """Payloads of the `Command.LOAD` packets that bring these words of the memory with one port, from ``first`` on, there."""
    most = (longest_payload(network, short=True) - ADDR_BYTES) // WORD_BYTES
    return [
        (first + at).to_bytes(ADDR_BYTES, "little")
        + b"".join(word.to_bytes(WORD_BYTES, "little") for word in words[at : at + most])
        for at in range(0, len(words), most)
    ]
