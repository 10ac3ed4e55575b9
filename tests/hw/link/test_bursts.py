"""Bursts of bytes of all kinds: after them and a silence a frame is answered rightly; no packet is heard by halves."""

import random
from dataclasses import replace

import numpy as np
import pytest

from hw.link.protocol import (
    COUNTED,
    HEADER_BYTES,
    REFUSED,
    RESULT,
    STATUS,
    SYNC,
    Command,
    Event,
    Status,
    event_bytes,
    mask_bytes,
    pack_event,
    packet,
)
from model.encode import encode
from model.engine.engine import run_fast
from model.machine.named_plans import named_plan
from model.machine.plan import Plan
from model.network import Network
from sim.generators.networks import random_network
from sim.wire import DIVISOR, TIMEOUT, SimulatedWire
from tests.hw.folded.test_machine import random_chain


def single_port(plan: Plan) -> Plan:
    """States of the first layer, and weights of the others, in the memory with one port."""
    first, *rest = plan.cores
    cores = [
        replace(first, channels=1, state_memory="single_port", weight_memory="block"),
        *(replace(core, state_memory="block", weight_memory="single_port") for core in rest),
    ]
    return replace(plan, cores=tuple(cores))


PIPELINE, CHAIN = random_network(2), random_chain(5)
MACHINES = {
    "pipeline": (PIPELINE, replace(named_plan(PIPELINE, "minimal"), weight_check=True)),
    "folded": (CHAIN, single_port(named_plan(CHAIN, "folded"))),
}


class Bursts:
    """What a burst is made of, for one network."""

    def __init__(self, network: Network, plan: Plan, chance: random.Random) -> None:
        self.network, self.plan, self.chance = network, plan, chance
        rng = np.random.default_rng(0)
        self.images = [rng.integers(0, 256, network.input_shape, dtype=np.uint8) for _ in range(4)]

    def bytes(self, count: int) -> bytes:
        return self.chance.randbytes(count)

    def packet(self, command: Command, number: int) -> bytes:
        """A packet that is all right, whatever it asks for."""
        network, chance = self.network, self.chance
        payload = b""
        if command is Command.FRAME:
            payload = chance.choice(self.images).tobytes()
        elif command is Command.EVENTS:
            shape = network.input_shape
            for _ in range(chance.randrange(5)):
                place = shape.coordinates(chance.randrange(shape.size))
                payload += pack_event(network, Event(0, False, chance.random() < 0.3, *place))
            # Whatever its bits say.
            payload += self.bytes(event_bytes(network) * chance.randrange(3))
            if chance.random() < 0.7:
                payload += pack_event(network, Event(end=True))
        elif command is Command.WATCH:
            payload = self.bytes(mask_bytes(network))
        elif command is Command.STATE:
            payload = self.bytes(event_bytes(network))
        return packet(number, command, payload)

    def pieces(self) -> list[bytes]:
        """Packets, cut off, with a wrong bit or whole; noise, and begins of packets."""
        chance, found = self.chance, []
        for _ in range(chance.randrange(1, 7)):
            kind = chance.random()
            if kind < 0.15:
                found.append(self.bytes(chance.randrange(1, 40)))
                continue
            if kind < 0.2:
                found.append(bytes([SYNC]) * chance.randrange(1, 4))
                continue
            if kind < 0.27:
                # Whole, and of a command or a length that there is not.
                found.append(packet(chance.randrange(128), chance.randrange(1, 20), self.bytes(chance.randrange(1, 8))))
                continue
            commands = [command for command in Command if command is not Command.LOAD]
            command = chance.choice([*commands, *[Command.FRAME, Command.EVENTS] * 3])
            piece = bytearray(self.packet(command, chance.randrange(128)))
            if kind < 0.4:
                del piece[chance.randrange(1, len(piece)) :]
            elif kind < 0.5:
                piece[chance.randrange(len(piece))] ^= 1 << chance.randrange(8)
            found.append(bytes(piece))
        return found


def answers_after(name: str, seed: int) -> set[str]:
    """Send a burst, wait for silence, and have a frame answered; says what was seen on the way."""
    network, plan = MACHINES[name]
    chance, seen = random.Random(f"{name} {seed}"), set()
    bursts = Bursts(network, plan, chance)
    with SimulatedWire(network, plan) as wire:
        wire.load(network, plan)
        for piece in bursts.pieces():
            wire.send(piece)
            if chance.random() < 0.3:
                # Less than the silence, or all of it.
                wire.run(chance.choice((chance.randrange(1, 40 * DIVISOR), chance.randrange(1, TIMEOUT), 2 * TIMEOUT)))
        heard = wire.quiet()
        seen |= {Status(command).name for _, command, _ in heard if command in (*COUNTED, *REFUSED, Status.WATCHED)}
        # What it is asked next it answers, each with its own number.
        wire.send(packet(200, Command.WATCH, bytes(mask_bytes(network))))
        assert wire.quiet()[-1] == (200, Command.WATCH, b""), (name, seed)
        if "NOT_LOADED" in seen or any(command == Command.RESET for _, command, _ in heard):
            wire.load(network, plan)
        for number, image in enumerate(bursts.images, start=210):
            frame = packet(number, Command.FRAME, image.tobytes())
            wire.send(frame)
            found = wire.quiet()
            if found == [(number, Status.BUSY, b"")]:
                # A list of the burst has begun a frame: it ends, wherever it led, and the next one is the host's own.
                seen.add("begun")
                wire.send(packet(201, Command.RESET))
                assert wire.quiet() == [(201, Command.RESET, b"")], (name, seed)
                wire.load(network, plan)
                wire.send(frame)
                found = wire.quiet()
            trace = run_fast(network, encode(network, image))
            ((sequence, command, payload),) = found
            assert (sequence, command) == (number, Command.FRAME), (name, seed, found)
            assert np.frombuffer(payload[RESULT.size :], "<i2").tolist() == trace.counts.tolist(), (name, seed)
    return seen


ERRORS = {"BAD_CRC", "BAD_COMMAND", "BAD_LENGTH", "TIMEOUT", "NO_PLACE", "BUSY", "WATCHED", "begun"}


@pytest.mark.parametrize("name", MACHINES)
def test_after_a_burst_and_a_silence_frames_are_answered(name):
    seen = set().union(*(answers_after(name, seed) for seed in range(15)))
    assert seen >= {"BAD_CRC", "TIMEOUT", "NO_PLACE", "begun"}, seen


@pytest.mark.full
@pytest.mark.parametrize("name", MACHINES)
def test_after_thousands_of_bursts_frames_are_answered(name):
    seen = set().union(*(answers_after(name, seed) for seed in range(100, 1100)))
    assert seen >= ERRORS, ERRORS - seen


def test_a_reset_cuts_no_packet():
    """It comes while events that are watched still wait to be sent: after its own answer nothing is begun."""
    network, plan = MACHINES["pipeline"]
    image = Bursts(network, plan, random.Random(1)).images[0]
    asked = [packet(1, Command.WATCH, bytes([0xFF] * mask_bytes(network))), packet(2, Command.FRAME, image.tobytes())]

    def started(wire: SimulatedWire) -> None:
        for one in asked:
            wire.send(one)

    with SimulatedWire(network, plan) as wire:
        started(wire)
        whole, silence = wire.quiet(), 3 * TIMEOUT
        last = wire.cycles - silence
    cut = 0
    for before in range(2, 14, 2):
        with SimulatedWire(network, plan) as wire:
            started(wire)
            wire.run(last - before * 10 * DIVISOR * (HEADER_BYTES + 2))
            wire.send(packet(3, Command.RESET))
            found = wire.quiet()
            if (3, Command.RESET, b"") in found:
                assert found[-1] == (3, Command.RESET, b"")
                cut += len(found) <= len(whole)
    assert cut > 2


@pytest.mark.parametrize("name", MACHINES)
def test_a_packet_that_comes_while_one_is_carried_out_is_answered_or_not_heard_at_all(name):
    """A second packet begins anywhere in the time that the first one takes, and another one after a silence."""
    network, plan = MACHINES[name]
    chance, outcomes = random.Random(1), {True: 0, False: 0}
    bursts = Bursts(network, plan, chance)
    first_ones = [Command.FRAME, Command.EVENTS, Command.STATE, Command.SATURATIONS, Command.IDENTIFY]
    if plan.folded:
        first_ones.append(Command.CHECK)
    event = pack_event(network, Event(port=len(network.layers)))
    end = pack_event(network, Event(end=True))

    def whole(command: Command, number: int) -> tuple[bytes, set[tuple[int, int]]]:
        """A packet, and what answers it."""
        payload = {Command.EVENTS: 3 * pack_event(network, Event()) + end, Command.STATE: event}.get(command, b"")
        if command is Command.FRAME:
            payload = bursts.images[0].tobytes()
        answers = {(number, command), *([(number, Command.FRAME)] if command is Command.EVENTS else [])}
        return packet(number, command, payload), answers

    with SimulatedWire(network, plan) as wire:
        wire.load(network, plan)
        for _ in range(60):
            (one, of_one), (two, of_two) = whole(chance.choice(first_ones), 1), whole(chance.choice(first_ones[:5]), 2)
            wire.send(packet(0, Command.STATUS))
            before = STATUS.unpack(wire.receive(1)[0][2])
            wire.send(one)
            wire.run(10 * DIVISOR * len(one) + chance.choice((0, chance.randrange(200), chance.randrange(3000))))
            wire.send(two)
            # Behind the second one, a third without a gap: it is not heard if the second one is not.
            wire.send(packet(3, Command.IDENTIFY)[: chance.choice((0, HEADER_BYTES + 1))])
            heard = {(number, command) for number, command, _ in wire.quiet()}
            wire.send(packet(4, Command.STATUS))
            after = STATUS.unpack(wire.receive(1)[0][2])
            assert heard - {(3, Command.IDENTIFY)} in (of_one, of_one | of_two), (one.hex(), two.hex(), heard)
            is_heard = of_two <= heard
            outcomes[is_heard] += 1
            assert before[:4] == after[:4]
            assert is_heard or after[4] == 255 or after[4] > before[4]
    assert all(count > 5 for count in outcomes.values()), outcomes
