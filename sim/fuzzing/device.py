"""Fuzzing of what a host sends: bytes at the wire of a system's RTL, compiled by Verilator.

An input is bytes that come without a gap, to a system that is silent and has begun nothing. What the first packet among them
gets is known from the protocol and the golden model. After a silence a frame is answered as by the golden model again.
"""

import random
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from hw.link.identity import identity
from hw.link.protocol import (
    HEADER_BYTES,
    RESULT,
    STATUS,
    SYNC,
    Command,
    Event,
    Status,
    crc8,
    event_bytes,
    longest_payload,
    mask_bytes,
    pack_event,
    packet,
    takes_bits,
    unpack_event,
)
from model.encode import encode
from model.engine.engine import run_fast
from model.events import make_events
from model.machine.named_plans import named_plan
from model.machine.plan import Plan
from model.network import Linear, Network, Neurons, Shape
from sim.fuzzing.mutations import noisy, number_near
from sim.fuzzing.targets import RefusedError, Target, WrongError
from sim.wire import CLOCK_HZ, DIVISOR, Packet, SimulatedWire

__all__ = ["TARGET", "first_answer", "machine"]

_TIMEOUT_BITS = 420
_SILENCE = 3 * _TIMEOUT_BITS * DIVISOR // 2
"""Cycles after which nothing comes any more: what stands still is given up, and what is reset begins anew."""

_AFTER = 60 * DIVISOR
"""Cycles after the one answer to a frame that is whole. Whatever comes later is seen with the next input."""

_PROBE, _NEXT = 250, 251
"""Numbers of the packets after an input."""


@cache
def machine() -> tuple[Network, Plan]:
    """A system that is small, and so quick: pixels in, one hidden layer."""
    rng = np.random.default_rng(3)
    first, second = rng.integers(-40, 60, (4, 8), dtype=np.int32), rng.integers(-40, 60, (3, 4), dtype=np.int32)
    hidden = Linear(name="hidden", source="input", weights=first, bias=np.arange(-8, 8, 4, dtype=np.int32), threshold_log2=5)
    zeros = np.zeros(3, np.int32)
    out = Linear(name="out", source="hidden", weights=second, bias=zeros, threshold_log2=5, activation="identity")
    network = Network(name="fuzzed", input_shape=Shape(2, 2, 2), layers=(hidden, out))
    return network, named_plan(network, "minimal")


@cache
def _seeds() -> tuple[bytes, ...]:
    network, _ = machine()
    rng = np.random.default_rng(0)
    frames = [packet(n, Command.FRAME, rng.integers(0, 256, 8, dtype=np.uint8).tobytes()) for n in (1, 2)]
    events = [Event(y=1, x=0, c=1), Event(negative=True, y=0, x=1, c=0), Event(end=True)]
    listed = packet(3, Command.EVENTS, b"".join(pack_event(network, event) for event in events))
    inner = packet(4, Command.EVENTS, pack_event(network, Event(port=1, c=2)) + pack_event(network, Event(port=1, end=True)))
    bare = (Command.IDENTIFY, Command.SATURATIONS, Command.STATUS, Command.RESET)
    plain = [packet(5 + n, command) for n, command in enumerate(bare)]
    watch = packet(20, Command.WATCH, b"\x07") + frames[0]
    state = packet(21, Command.STATE, pack_event(network, Event(port=1, c=3)))
    return (*frames, listed, inner, *plain, watch, state, frames[0] + plain[2])


def _mutated(content: bytes, chance: random.Random) -> bytes:
    kind = chance.random()
    if kind < 0.4 or len(content) <= HEADER_BYTES:
        return noisy(content, chance)[:600]
    # A packet whose checksum is right, whatever it says.
    size = int.from_bytes(content[3:5], "little")
    sequence, command, payload = content[1], content[2], content[HEADER_BYTES : HEADER_BYTES + size]
    if kind < 0.5:
        command = chance.choice((*Command, chance.randrange(256)))
    elif kind < 0.8:
        payload = noisy(payload, chance)[:400]
    elif kind < 0.9:
        payload = chance.choice((payload[:-1], payload + b"\0", payload * 2, b"", chance.randbytes(chance.randrange(80))))
    body = bytes([sequence, command]) + len(payload).to_bytes(2, "little") + payload
    if kind > 0.97:
        body = body[:2] + (number_near(len(payload), chance) & 0xFFFF).to_bytes(2, "little") + payload
    made = bytes([SYNC]) + body + bytes([crc8(body)])
    return chance.choice((made, made, made + content, chance.randbytes(3) + made, bytes([SYNC]) + made))[:600]


class _Bench:
    """The system, which stays switched on from one input to the next, also where that is refused.

    Attributes
    ----------
    wire : SimulatedWire or None
        Its wires; None where it is switched off.
    inputs : int
        What came since it was switched on.
    """

    wire: SimulatedWire | None = None
    inputs = 0

    @classmethod
    def switched_on(cls) -> SimulatedWire:
        if cls.wire is None:
            cls.inputs = 0
            cls.wire = SimulatedWire(*machine(), timeout_bits=_TIMEOUT_BITS, runs_long=True)
        return cls.wire

    @classmethod
    def switch_off(cls) -> None:
        if cls.wire is not None:
            cls.wire.__exit__(None, None, None)
        cls.wire = None


def first_answer(content: bytes) -> list[tuple[int | None, int, bytes | None]] | None:
    """What the first packet of an input gets, as the protocol says.

    Returns
    -------
    list or None
        Of each packet that answers its sequence number, command and payload, None for what is not known. None where only the form
        of the answer is known.
    """
    network, _ = machine()
    start = content.find(SYNC)
    if start < 0:
        return []
    found = content[start:]
    size = int.from_bytes(found[3:5], "little")
    whole = HEADER_BYTES + size + 1
    if len(found) < whole or len(found) <= HEADER_BYTES:
        return [(found[1] if len(found) > 1 else None, Status.TIMEOUT, b"")]
    sequence, command, payload = found[1], found[2], found[HEADER_BYTES : HEADER_BYTES + size]
    if crc8(found[1:whole]) != 0:
        return [(sequence, Status.BAD_CRC, b"")]
    lengths = _lengths()
    if command not in lengths:
        return [(sequence, Status.BAD_COMMAND, b"")]
    if size not in lengths[command]:
        return [(sequence, Status.BAD_LENGTH, b"")]
    if command == Command.IDENTIFY:
        return [(sequence, command, _identity())]
    if command == Command.FRAME:
        frame = np.frombuffer(payload, np.uint8).reshape(tuple(network.input_shape))
        return [(sequence, command, _counts(network, encode(network, frame)))]
    if command == Command.EVENTS:
        return _listed(network, sequence, payload)
    if command in (Command.WATCH, Command.RESET):
        return [(sequence, command, b"")]
    return [(sequence, command, None)] if command != Command.STATE else None


@cache
def _identity() -> bytes:
    """What the system says that it is."""
    return identity(*machine(), CLOCK_HZ, None)


@cache
def _lengths() -> dict[int, range]:
    """The commands that there are, and how long their payloads may be."""
    network, plan = machine()
    none = range(1)
    size, mask, event = network.input_shape.size, mask_bytes(network), event_bytes(network)
    found: dict[int, range] = dict.fromkeys((Command.IDENTIFY, Command.SATURATIONS, Command.STATUS, Command.RESET), none)
    found |= {Command.FRAME: range(size, size + 1), Command.EVENTS: range(longest_payload(network) + 1)}
    if takes_bits(network):
        found[Command.BITS] = range(size // 8, size // 8 + 1)
    if plan.watch:
        found[Command.WATCH] = range(mask, mask + 1)
    if plan.states:
        found[Command.STATE] = range(event, event + 1)
    return found


def _counts(network: Network, events: Any) -> bytes:
    """The counts of an answer, which come last in its payload."""
    return run_fast(network, events).counts.astype("<i2").tobytes()


def _listed(network: Network, sequence: int, payload: bytes) -> list[tuple[int | None, int, bytes | None]] | None:
    """What a list of events gets that is a frame at the network's input, and no more; None for others."""
    size, shape = event_bytes(network), network.input_shape
    events = [unpack_event(network, payload[at : at + size]) for at in range(0, len(payload) // size * size, size)]
    for at, event in enumerate(events):
        inside = event.y < shape.height and event.x < shape.width and event.c < shape.channels
        if event.port or (event.end and at < len(events) - 1) or not (inside or event.end):
            return None
    if len(payload) % size:
        return None
    answers: list[tuple[int | None, int, bytes | None]] = [(sequence, Command.EVENTS, b"")]
    if events and events[-1].end:
        places = [shape.address(event.y, event.x, event.c) for event in events[:-1]]
        signs = [-1 if event.negative else 1 for event in events[:-1]]
        answers.append((sequence, Command.FRAME, _counts(network, make_events(places, signs))))
    return answers


def _read(content: bytes, folder: Path) -> str:
    try:
        return _sent(content)
    except RefusedError:
        # It is said after the probe: the system is as it must be.
        raise
    except WrongError as error:
        before = _Bench.inputs - 1
        _Bench.switch_off()
        if not before:
            raise
        alone = _wrong_alone(content)
        raise alone or WrongError(f"{error}; only after {before} inputs, not by a system that was just switched on") from None
    except BaseException:
        # The next input begins with a system that was just switched on.
        _Bench.switch_off()
        raise


def _wrong_alone(content: bytes) -> WrongError | None:
    """What is wrong where an input is the first that comes to a system."""
    try:
        _sent(content)
    except RefusedError:
        return None
    except WrongError as error:
        return error
    finally:
        _Bench.switch_off()
    return None


def _sent(content: bytes) -> str:
    network, _ = machine()
    system = _Bench.switched_on()
    _Bench.inputs += 1
    system.send(content)
    answers = _taken(system)
    _check_form(answers)
    _check_asked(answers, content)
    expected = first_answer(content)
    if expected is not None:
        # A result is one of the packets after its list's; what is watched may come between.
        left = [each for each in answers if each[1] != Status.WATCHED]
        for wanted in expected:
            if not any(_suits(wanted, each) for each in left[: len(expected)]):
                raise WrongError(f"an answer must be {_shown(wanted)}, not {[_shown(each) for each in answers]}")
        if not expected and answers:
            raise WrongError(f"nothing was asked, but {[_shown(each) for each in answers]} is answered")
    _probe(system, network, answers)
    commands = [command for _, command, _ in answers]
    if not commands or commands[0] in tuple(Status):
        kind = Status(commands[0]).name if commands else "silence"
        if kind != "WATCHED":
            raise RefusedError(f"answered with {kind}", kind=kind)
    return "answered as the protocol and the golden model say" if expected else "answered in form"


def _taken(system: SimulatedWire, after: int = _SILENCE) -> list[Packet]:
    """The packets that come until the wires are silent, each whole and with a right checksum."""
    try:
        return system.quiet(_SILENCE, after=after)
    except AssertionError as error:
        raise WrongError(f"what comes must be packets: {error}") from None


@cache
def _sizes() -> dict[int, tuple[int, ...]]:
    """How long the payloads of answers are, where they are not empty."""
    network, _ = machine()
    return {
        Command.FRAME: (RESULT.size + 2 * network.outputs,),
        Command.SATURATIONS: (2 * sum(isinstance(layer, Neurons) for layer in network.layers),),
        Command.STATUS: (STATUS.size,),
        Command.STATE: (7,),
        Command.IDENTIFY: (len(_identity()),),
        Status.WATCHED: (event_bytes(network),),
    }


_ANSWERS = frozenset(map(int, (*Command, *Status)))


def _check_form(answers: list[Packet]) -> None:
    """What comes must be answers that there are, of their lengths."""
    for each in answers:
        if each[1] not in _ANSWERS or len(each[2]) not in _sizes().get(each[1], (0,)):
            raise WrongError(f"there is no answer such as {_shown(each)}")


def _check_asked(answers: list[Packet], content: bytes) -> None:
    """What comes must be asked for by the input, and by nothing before it."""
    watches = any(command == Command.WATCH for _, command, _ in answers)
    for each in answers:
        sequence, command, _ = each
        # An error may have the number of a packet before, if it broke off before its own.
        if not (watches if command == Status.WATCHED else command in tuple(Status) or sequence in content):
            raise WrongError(f"nothing asks for {_shown(each)}")


def _probe(system: SimulatedWire, network: Network, answers: list[Packet]) -> None:
    """After a silence a frame is answered rightly, whatever came before."""
    commands = [command for _, command, _ in answers]
    if Command.WATCH in commands:
        system.send(packet(_NEXT, Command.WATCH, bytes(mask_bytes(network))))
        # A frame that is begun may still be watched.
        if (_NEXT, Command.WATCH, b"") not in _taken(system):
            raise WrongError("watching must end where the host says so")
    frame = np.arange(0, 256, 32, dtype=np.uint8).reshape(tuple(network.input_shape))
    asked = packet(_PROBE, Command.FRAME, frame.tobytes())
    wanted = _PROBE, Command.FRAME, _counts(network, encode(network, frame))
    system.send(asked)
    found = _taken(system, after=_AFTER)
    if found == [(_PROBE, Status.BUSY, b"")] and {Command.EVENTS, Status.NO_PLACE, Status.BAD_LENGTH} & set(commands):
        # A list of events has begun a frame.
        system.send(packet(_NEXT, Command.RESET))
        if _taken(system) != [(_NEXT, Command.RESET, b"")]:
            raise WrongError("a reset must be answered")
        system.send(asked)
        found = _taken(system, after=_AFTER)
    if len(found) != 1 or not _suits(wanted, found[0]):
        heard = [_shown(each) for each in found]
        raise WrongError(f"after a silence a frame must be answered with {_shown(wanted)}, not {heard}")


def _suits(wanted: tuple[int | None, int, bytes | None], found: Packet) -> bool:
    sequence, command, payload = wanted
    if sequence not in (None, found[0]) or command != found[1]:
        return False
    return payload is None or (found[2][RESULT.size :] if command == Command.FRAME else found[2]) == payload


def _shown(answer: tuple[int | None, int, bytes | None]) -> str:
    names = {int(each): each.name for kind in (Command, Status) for each in kind}
    payload = answer[2].hex() if answer[2] is not None else "any"
    return f"{names.get(answer[1], answer[1])} {answer[0]} {payload}"


TARGET = Target(name="device", ending=".bin", seeds=_seeds, mutated=_mutated, read=_read, seconds=10.0)
