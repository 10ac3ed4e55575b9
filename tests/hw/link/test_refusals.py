"""What there is not, next to what there is: lengths, commands, checksums and pauses one bit or a few cycles off."""

import numpy as np
import pytest

from hw.link.protocol import STATUS, Command, Status, event_bytes, mask_bytes, packet
from model.encode import encode
from model.golden import run
from model.machine.named_plans import named_plan
from sim.generators.networks import random_network
from sim.wire import DIVISOR, TIMEOUT, SimulatedWire
from tests.hw.link.test_link import answer_of

NETWORK = random_network(2)
PLAN = named_plan(NETWORK, "minimal")
LENGTHS = {
    Command.IDENTIFY: 0,
    Command.FRAME: NETWORK.input_shape.size,
    Command.WATCH: mask_bytes(NETWORK),
    Command.SATURATIONS: 0,
    Command.STATUS: 0,
    Command.RESET: 0,
    Command.STATE: event_bytes(NETWORK),
}


@pytest.fixture
def wire():
    with SimulatedWire(NETWORK, PLAN) as found:
        yield found


def told(wire):
    """Errors that are counted, bytes lost, and the clock."""
    wire.send(packet(1, Command.STATUS))
    ((_, command, payload),) = wire.receive(1)
    assert command == Command.STATUS
    return STATUS.unpack(payload)


def test_a_length_that_differs_in_one_bit_does_not_suit(wire):
    refused = 0
    for command, right in LENGTHS.items():
        for length in {0, *(right ^ 1 << bit for bit in range(9))} - {right}:
            wire.send(packet(length % 256, command, bytes(length)))
            assert wire.receive(1) == [(length % 256, Status.BAD_LENGTH, b"")], (command.name, length)
            refused += 1
    assert told(wire)[:4] == (0, 0, refused, 0)


def test_there_are_no_other_commands(wire):
    others = [command for command in range(256) if command not in (*LENGTHS, Command.EVENTS)]
    for command in others:
        wire.send(packet(command, command))
        assert wire.receive(1) == [(command, Status.BAD_COMMAND, b"")]
    assert told(wire)[:4] == (0, len(others), 0, 0)


def test_every_wrong_checksum_is_found_and_their_count_stays_at_its_end(wire):
    right = packet(1, Command.STATUS)
    for wrong in (*range(1, 256), 1):
        wire.send(right[:-1] + bytes([right[-1] ^ wrong]))
        assert wire.receive(1) == [(1, Status.BAD_CRC, b"")]
        if wrong % 100 == 0:
            assert told(wire)[:4] == (wrong, 0, 0, 0)
    assert told(wire)[:4] == (255, 0, 0, 0)


def test_bytes_may_be_any_number_of_cycles_apart(wire):
    image = (np.arange(NETWORK.input_shape.size) * 37 % 256).astype(np.uint8).reshape(tuple(NETWORK.input_shape))
    trace = run(NETWORK, encode(NETWORK, image))
    for gap in range(1, 5):
        for byte in packet(gap, Command.FRAME, image.tobytes()):
            wire.send(bytes([byte]))
            wire.run(10 * DIVISOR + gap)
        ((number, command, payload),) = wire.receive(1)
        assert (number, command) == (gap, Command.FRAME)
        assert answer_of(payload) == (trace.answer, trace.counts.tolist())


@pytest.mark.parametrize("at", range(1, 6))
def test_a_packet_may_stand_still_until_the_timeout_and_no_longer(wire, at):
    """Silence counts from the middle of a byte's last bit to that of the next one's."""
    sent = packet(3, Command.STATUS)
    for late in (-8, 8):
        wire.send(sent[:at])
        wire.run(10 * DIVISOR * at + TIMEOUT - 10 * DIVISOR + late)
        wire.send(sent[at:])
        ((number, command, _),) = wire.quiet()
        expected = Command.STATUS if late < 0 else Status.TIMEOUT
        assert command == expected and (number == 3 or at < 2)


def test_the_clock_that_is_told_is_the_one_that_runs(wire):
    first, before = told(wire), None
    for cycles in (1, 130, 1021, 40_000):
        wire.run(cycles)
        begun, clock = wire.cycles, told(wire)[5]
        if before is not None:
            assert clock - before[1] == begun - before[0]
        before = begun, clock
    assert first[5] < before[1]
