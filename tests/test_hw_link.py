"""The whole system over its two wires: every command, and everything that can go wrong with a packet."""

import numpy as np
import pytest

from hw.link import SYNC, Command, Status, crc8, event_bytes
from hw.system import System
from model.encode import encode
from model.golden import run
from model.network import Neurons
from model.plan import named_plan
from tests.hardware import event_tokens, random_frames, random_network, simulate

DIVISOR = 4
NETWORK = random_network(2)


def packet(command: int, payload: bytes = b"") -> bytes:
    body = bytes([command]) + len(payload).to_bytes(2, "little") + payload
    return bytes([SYNC]) + body + bytes([crc8(body)])


def packed(token: dict[str, int]) -> bytes:
    """A host event as its bytes, by the layout in docs/link.md."""
    shapes = [NETWORK.input_shape, *NETWORK.shapes]
    widths = {
        "port": len(NETWORK.layers).bit_length(),
        "kind": 1,
        "negative": 1,
        **{n: max(1, (max(s[i] for s in shapes) - 1).bit_length()) for i, n in enumerate(("y", "x", "c"))},
    }
    value = at = 0
    for name, width in widths.items():
        value |= token[name] << at
        at += width
    assert -(-at // 8) == event_bytes(NETWORK)
    return value.to_bytes(event_bytes(NETWORK), "little")


def talk(*turns: tuple[bytes, int], cycles: int = 100_000) -> list[tuple[int, bytes]]:
    """Send bytes over the wire, in turns, each followed by that many packets back; gives those, checksums checked."""
    system = System(network=NETWORK, plan=named_plan(NETWORK, "minimal"), divisor=DIVISOR)
    packets: list[tuple[int, bytes]] = []
    answers = sum(count for _, count in turns)

    async def host_sends(ctx):
        await ctx.tick().repeat(200)
        expected = 0
        for sent, count in turns:
            for byte in sent:
                for bit in (0, *(byte >> n & 1 for n in range(8)), 1):
                    ctx.set(system.rx, bit)
                    await ctx.tick().repeat(DIVISOR)
            expected += count
            while len(packets) < expected:
                await ctx.tick().repeat(DIVISOR)

    async def host_receives(ctx):
        data = b""
        while len(packets) < answers:
            while ctx.get(system.tx):
                await ctx.tick()
            await ctx.tick().repeat(DIVISOR // 2)
            byte = 0
            for bit in range(8):
                await ctx.tick().repeat(DIVISOR)
                byte |= ctx.get(system.tx) << bit
            await ctx.tick().repeat(DIVISOR)
            data += bytes([byte])
            size = 5 + int.from_bytes(data[2:4], "little") if len(data) >= 4 else None
            if len(data) == size:
                assert data[0] == SYNC
                assert crc8(data[1:]) == 0
                packets.append((data[1], data[4:-1]))
                data = b""

    simulate(system, host_sends, host_receives, cycles=cycles)
    return packets


def answer_of(payload: bytes) -> tuple[int, list[int]]:
    counts = np.frombuffer(payload[6:], "<i2").tolist()
    assert int.from_bytes(payload[2:6], "little") > 0
    return int.from_bytes(payload[:2], "little"), counts


def test_identify_frames_events_and_saturations():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, *NETWORK.input_shape), dtype=np.uint8)
    events = random_frames(NETWORK.input_shape, 5, frames=2)
    turns = [(packet(Command.IDENTIFY), 1), *((packet(Command.FRAME, image.tobytes()), 1) for image in images)]
    turns += [
        (packet(Command.EVENTS, b"".join(map(packed, event_tokens(NETWORK.input_shape, [frame], port=0)))), 2) for frame in events
    ]
    found = talk(*turns, (packet(Command.SATURATIONS), 1))
    traces = [run(NETWORK, encode(NETWORK, image)) for image in images] + [run(NETWORK, frame) for frame in events]
    results = [answer_of(payload) for command, payload in found if command == Command.FRAME]
    assert results == [(trace.answer, trace.counts.tolist()) for trace in traces]
    assert sum(command == Command.EVENTS for command, _ in found) == len(events)
    identity = next(payload for command, payload in found if command == Command.IDENTIFY)
    shape = NETWORK.input_shape
    assert identity[2:10].hex() == NETWORK.content_hash[:16]
    assert np.frombuffer(identity[10:], "<u2").tolist() == [shape.height, shape.width, shape.channels, NETWORK.classes]
    expected = [sum(t.layers[la.name].saturated_events for t in traces) for la in NETWORK.layers if isinstance(la, Neurons)]
    assert found[-1][0] == Command.SATURATIONS
    assert np.frombuffer(found[-1][1], "<u2").tolist() == expected
    assert max(expected) > 0


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (bytes([SYNC, Command.IDENTIFY, 0, 0, 0x55]), Status.BAD_CRC),
        (packet(0x7F), Status.BAD_COMMAND),
        (packet(Command.IDENTIFY, b"x"), Status.BAD_LENGTH),
        (packet(Command.FRAME, b"short"), Status.BAD_LENGTH),
        (bytes([SYNC, Command.EVENTS, 0xFF, 0xFF]), Status.BAD_LENGTH),
    ],
)
def test_a_bad_packet_gets_an_error_and_the_next_one_is_understood(bad, status):
    found = talk((b"noise \x00\xff" + bad, 1), (packet(Command.IDENTIFY), 1))
    assert [command for command, _ in found] == [status, Command.IDENTIFY]


def test_a_frame_with_a_wrong_checksum_never_reaches_the_machine():
    image = np.full(tuple(NETWORK.input_shape), 200, np.uint8)
    frame = bytearray(packet(Command.FRAME, image.tobytes()))
    frame[-1] ^= 1
    found = talk((bytes(frame), 1), (packet(Command.FRAME, image.tobytes()), 1))
    assert [command for command, _ in found] == [Status.BAD_CRC, Command.FRAME]
    assert answer_of(found[1][1]) == (
        run(NETWORK, encode(NETWORK, image)).answer,
        run(NETWORK, encode(NETWORK, image)).counts.tolist(),
    )


def test_watched_events_come_as_packets():
    frame = random_frames(NETWORK.input_shape, 5, frames=1, events=6)[0]
    tokens = event_tokens(NETWORK.input_shape, [frame], port=0)
    events = packet(Command.EVENTS, b"".join(map(packed, tokens)))
    found = talk((packet(Command.WATCH, b"\x01"), 1), (events, 1 + len(tokens) + 1))
    assert found[0] == (Command.WATCH, b"")
    assert [payload for command, payload in found if command == Status.WATCHED] == [packed(token) for token in tokens]
    assert sum(command == Command.FRAME for command, _ in found) == 1
