"""The whole system over its two wires: every command, and everything that can go wrong with a packet."""

import numpy as np
import pytest

from hw.link.protocol import (
    PROTOCOL_VERSION,
    RESULT,
    SYNC,
    Capability,
    Command,
    Event,
    Status,
    event_bytes,
    longest_payload,
    pack_event,
)
from hw.link.protocol import packet as numbered_packet
from model.encode import encode
from model.golden import run
from model.machine.named_plans import named_plan
from model.network import Neurons
from sim.generators.frames import random_frames
from sim.generators.networks import random_network
from sim.wire import CLOCK_HZ, DIVISOR, TIMEOUT, Packet, SimulatedWire
from tests.hardware import event_tokens

NETWORK = random_network(2)
PLAN = named_plan(NETWORK, "minimal")


def packet(command: int, payload: bytes = b"", number: int = 7) -> bytes:
    return numbered_packet(number, command, payload)


def packed(token: dict[str, int]) -> bytes:
    """A token of `event_tokens` as its bytes."""
    place = {name: token[name] for name in ("y", "x", "c")}
    return pack_event(NETWORK, Event(token["port"], bool(token["kind"]), bool(token["negative"]), **place))


def talk(*turns: tuple[bytes, int]) -> list[tuple[int, bytes]]:
    """As `exchange`, all packets with number 7: gives commands and payloads."""
    found = exchange(*turns)
    assert {number for number, _, _ in found} == {7}
    return [(command, payload) for _, command, payload in found]


def exchange(*turns: tuple[bytes, int | Command], total: int = 0) -> list[Packet]:
    """Send bytes over the wire, in turns, each followed by that many packets back; gives those.

    A command in place of a number waits for its answer, whatever comes before it; ``total`` is then the number of all packets.
    Each exchange has a system of its own, just switched on.
    """
    found: list[Packet] = []
    with SimulatedWire(NETWORK, PLAN) as wire:
        for sent, wanted in turns:
            wire.send(sent)
            if isinstance(wanted, Command):
                came: list[Packet] = []
                while wanted not in [command for _, command, _ in came]:
                    came += wire.receive(1)
            else:
                came = wire.receive(wanted)
            found += came
        found += wire.receive(total - len(found))
        assert wire.quiet() == []
    return found


def answer_of(payload: bytes) -> tuple[int, list[int]]:
    answer, cycles, clipped = RESULT.unpack_from(payload)
    assert cycles > 0 and clipped == 0
    return answer, np.frombuffer(payload[RESULT.size :], "<i2").tolist()


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
    capabilities = Capability.WATCH | Capability.STATES | Capability.INJECT
    assert list(identity[:3]) == [PROTOCOL_VERSION, event_bytes(NETWORK), capabilities]
    assert identity[3:11].hex() == NETWORK.content_hash[:16]
    sizes = [shape.height, shape.width, shape.channels, NETWORK.classes]
    assert np.frombuffer(identity[11:23], "<u2").tolist() == [*sizes, 0, 0]
    assert np.frombuffer(identity[23:27], "<u4") == CLOCK_HZ
    assert identity[27:31].hex() == PLAN.content_hash[:8] and identity[31:] == b"minimal"
    expected = [sum(t.layers[la.name].saturated_events for t in traces) for la in NETWORK.layers if isinstance(la, Neurons)]
    assert found[-1][0] == Command.SATURATIONS
    assert np.frombuffer(found[-1][1], "<u2").tolist() == expected
    assert max(expected) > 0


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (bytes([SYNC, 7, Command.IDENTIFY, 0, 0, 0x55]), Status.BAD_CRC),
        (packet(0x7F), Status.BAD_COMMAND),
        (packet(Command.IDENTIFY, b"x"), Status.BAD_LENGTH),
        (packet(Command.FRAME, b"short"), Status.BAD_LENGTH),
        (packet(Command.EVENTS, bytes(0x1234)), Status.BAD_LENGTH),
        (bytes([SYNC, 7, Command.EVENTS, 0xFF, 0xFF]), Status.TIMEOUT),
        (packet(Command.FRAME, bytes(NETWORK.input_shape.size))[:-5], Status.TIMEOUT),
        (bytes([SYNC, 7]), Status.TIMEOUT),
        (packet(Command.LOAD, bytes(10)), Status.BAD_COMMAND),
        (packet(Command.CHECK), Status.BAD_COMMAND),
        (packet(Command.STATE, b""), Status.BAD_LENGTH),
        (packet(Command.STATE, bytes(event_bytes(NETWORK))), Status.NO_PLACE),
    ],
    ids=["checksum", "command", "length", "short frame", "long list", "longer list", "cut-off frame", "cut-off head", "load",
         "check", "state of nothing", "state of the input"],
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


def test_errors_are_counted_and_the_clock_is_told():
    bad = bytearray(packet(Command.IDENTIFY))
    bad[-1] ^= 1
    turns = [(bytes(bad), 1), (packet(0x7F), 1), (packet(0x7F), 1), (packet(Command.FRAME, b"short"), 1), (bytes([SYNC, 7]), 1)]
    found = talk(*turns, (packet(Command.STATUS), 1))
    command, payload = found[-1]
    assert command == Command.STATUS
    assert list(payload[:5]) == [1, 2, 1, 1, 0]
    cycles = int.from_bytes(payload[5:], "little")
    assert cycles > TIMEOUT


def test_a_result_has_the_number_of_its_frame():
    """Two frames in one packet, and two in a packet that comes before their results are out."""
    frames = random_frames(NETWORK.input_shape, 5, frames=3, events=20)
    assert len(frames) == 4
    first, second = (
        b"".join(map(packed, event_tokens(NETWORK.input_shape, part, port=0))) for part in (frames[:2], frames[2:])
    )
    sent = packet(Command.EVENTS, first, 10), packet(Command.EVENTS, second, 11)
    found = exchange((sent[0], Command.EVENTS), (sent[1], Command.EVENTS), total=6)
    assert [number for number, command, _ in found if command == Command.FRAME] == [10, 10, 11, 11]
    assert [number for number, command, _ in found if command == Command.EVENTS] == [10, 11]
    answers = [answer_of(payload) for _, command, payload in found if command == Command.FRAME]
    assert answers == [(trace.answer, trace.counts.tolist()) for trace in (run(NETWORK, frame) for frame in frames)]


@pytest.mark.parametrize(
    ("spikes", "negative", "count", "clipped"),
    [(255, False, 255, 0), (256, False, 255, 1), (256, True, -256, 0), (300, True, -256, 1)],
)
def test_more_spikes_at_the_outputs_port_than_a_count_holds(spikes, negative, count, clipped):
    """The count stops there, the answer says so, and the next frame's does not."""
    port = len(NETWORK.layers)
    spike, end = Event(port, negative=negative, c=2), pack_event(NETWORK, Event(port, end=True))
    assert NETWORK.output.count_bits == 8
    most = longest_payload(NETWORK) // event_bytes(NETWORK)
    parts = [pack_event(NETWORK, spike) * min(most, spikes - at) for at in range(0, spikes, most)]
    turns = [(packet(Command.EVENTS, part), 1) for part in parts]
    frame = packet(Command.EVENTS, pack_event(NETWORK, spike) + end)
    found = talk(*turns, (packet(Command.EVENTS, end), 2), (frame, 2))
    assert sum(command == Command.EVENTS for command, _ in found) == len(parts) + 2
    first, second = (payload for command, payload in found if command == Command.FRAME)
    assert np.frombuffer(first[RESULT.size :], "<i2").tolist() == [0, 0, count, 0]
    assert (RESULT.unpack_from(first)[0], RESULT.unpack_from(first)[2]) == (0 if negative else 2, clipped)
    assert np.frombuffer(second[RESULT.size :], "<i2").tolist() == [0, 0, -1 if negative else 1, 0]
    assert RESULT.unpack_from(second)[2] == 0


def test_reset_in_the_middle_of_a_frame():
    """Half a frame is in the machine; behind the reset, a whole one gets the answer that it always gets."""
    frame = random_frames(NETWORK.input_shape, 5, frames=1, events=40)[0]
    tokens = [packed(token) for token in event_tokens(NETWORK.input_shape, [frame], port=0)]
    half, whole = b"".join(tokens[:20]), b"".join(tokens)
    # What the host says before the reset is over gets lost: these bytes are the rest that it must give.
    rest = bytes(60)
    turns = [(packet(Command.EVENTS, half), 1), (packet(Command.RESET), 1), (rest + packet(Command.STATUS), 1)]
    found = talk(*turns, (packet(Command.EVENTS, whole), 2))
    assert [command for command, _ in found] == [
        Command.EVENTS, Command.RESET, Command.STATUS, Command.EVENTS, Command.FRAME,
    ]
    assert int.from_bytes(found[2][1][5:], "little") < len(rest) * 10 * DIVISOR
    trace = run(NETWORK, frame)
    assert answer_of(found[-1][1]) == (trace.answer, trace.counts.tolist())
