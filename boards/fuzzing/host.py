"""Fuzzing of what a board sends: every operation of the host, against a device whose answers are garbled.

An input is a script: which operations the host asks for, and what becomes of each piece of bytes that an honest device sends.
"""

import json
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from boards import exchange, wire
from boards.device import Answer, Device, State
from boards.fuzzing.fake_device import FakeDevice, FakePort
from boards.wire import Wire
from hw.link.protocol import COUNTED, REFUSED, SYNC, Status, packet
from model.encode import encode
from model.engine.engine import run_fast
from model.events import make_events
from model.machine.named_plans import named_plan
from model.machine.plan import Plan
from model.machine.stages import ports
from model.network import INPUT, Network, Neurons
from model.support.errors import DeviceError
from sim.fuzzing.mutations import noisy
from sim.fuzzing.targets import Target, WrongError
from sim.generators.networks import random_network

__all__ = ["TARGET"]

_ASKED = ("identify", "classify", "observe", "events", "state", "status", "saturations", "reset")

_TIMEOUT = 0.6
_PATIENCE = 200.0
"""Virtual seconds of an operation at the most."""


@cache
def _machine() -> tuple[Network, Plan, Any]:
    network = random_network(2)
    rng = np.random.default_rng(1)
    # Few pixels: what is watched is a piece for each spike.
    few = rng.random(tuple(network.input_shape)) < 0.25
    frame = few * rng.integers(0, 256, tuple(network.input_shape), dtype=np.uint8)
    return network, named_plan(network, "minimal"), frame


@cache
def _expected() -> dict[str, Any]:
    """What is right: the golden model's answers."""
    network, _, frame = _machine()
    trace, listed = run_fast(network, encode(network, frame)), run_fast(network, make_events([0, 3, 5]))
    passed = sum(len(trace.events if name == INPUT else trace.layers[name].spikes) for name in ports(network))
    return {
        "classify": (trace.answer, tuple(trace.counts.tolist())),
        "observe": passed,
        "events": (listed.answer, tuple(listed.counts.tolist())),
    }


@cache
def _seeds() -> tuple[bytes, ...]:
    scripts = [{"asked": [asked], "pieces": {}} for asked in _ASKED] + [{"asked": list(_ASKED), "pieces": {}}]
    return tuple(json.dumps(script).encode() for script in scripts)


_KINDS = (
    *("noise", "noise", "payload", "payload", "payload", "random", "length", "lost", "twice", "late", "cut", "sequence"),
    *("command", "error", "before", "behind", "long", "endless", "replaced"),
)
"""What may become of a piece."""


def _mutated(content: bytes, chance: random.Random) -> bytes:
    script = json.loads(content)
    for _ in range(chance.choice((1, 1, 2, 4))):
        # One for each piece that is sent; 99 is all from there on.
        at = chance.choice((chance.randrange(4), chance.randrange(12), chance.randrange(80)))
        script["pieces"][str(at)] = [chance.choice(_KINDS), chance.randrange(1 << 32), chance.choice((1, 1, 1, 5, 99_999))]
    if chance.random() < 0.2:
        script["asked"] = [chance.choice(_ASKED) for _ in range(chance.randint(1, 4))]
    return json.dumps(script).encode()


class _Garbler:
    """What becomes of the pieces that a device sends.

    Attributes
    ----------
    is_honest : bool
        Whether nothing becomes of any.
    changed : int
        Pieces so far that are not what an honest device sends.
    forges : bool
        Whether answers of the next number come without end: no host can tell them from those to what it asks next.
    """

    def __init__(self, pieces: dict[str, list[Any]]) -> None:
        self._pieces = sorted((int(at), *what) for at, what in pieces.items())
        self._number = -1
        self._late: list[bytes] = []
        self.is_honest = not pieces
        self.changed = 0
        self.forges = False

    def __call__(self, sequence: int, command: int, payload: bytes) -> Iterable[bytes] | None:
        self._number += 1
        found = next((p for p in self._pieces if p[0] <= self._number < p[0] + p[3]), None)
        late, self._late = self._late, []
        if found is None:
            return [*late, packet(sequence, command, payload)] if late else None
        self.changed += 1
        chance = random.Random(f"{found[2]} {self._number - found[0]}")
        # Some have no end.
        return chain(late, self._garbled(found[1], chance, sequence, command, payload))

    def _garbled(self, kind: str, chance: random.Random, sequence: int, command: int, payload: bytes) -> Iterable[bytes]:
        honest = packet(sequence, command, payload)
        if kind == "endless":
            other = packet(sequence + 1 & 0xFF, command, payload)
            piece = chance.choice((b"no Tally device \x1b[31m\r\n", bytes([SYNC]) * 64, other))
            self.forges |= piece == other
            return _endless(piece)
        if kind == "late":
            self._late = [honest]
            return []
        sent = {
            "noise": lambda: noisy(honest, chance),
            "payload": lambda: packet(sequence, command, noisy(payload, chance)[:2000]),
            "random": lambda: packet(sequence, command, chance.randbytes(len(payload))),
            "length": lambda: packet(sequence, command, chance.choice((payload[:-1], payload + b"\0", payload * 2, bytes(300)))),
            "lost": lambda: b"",
            "twice": lambda: honest * chance.choice((2, 3, 40)),
            "cut": lambda: honest[: chance.randrange(len(honest))],
            "sequence": lambda: packet(chance.randrange(256), command, payload),
            "command": lambda: packet(sequence, chance.randrange(256), payload),
            "error": lambda: packet(sequence, chance.choice((*COUNTED, *REFUSED, Status.WATCHED)), bytes(chance.choice((0, 3)))),
            "before": lambda: chance.randbytes(chance.choice((1, 5, 200))) + honest,
            "behind": lambda: honest + chance.randbytes(chance.choice((1, 5, 200))),
            "long": lambda: bytes([SYNC, sequence, command, 0xFF, 0xFF]) + chance.randbytes(200) + honest,
            "replaced": lambda: chance.randbytes(chance.choice((1, 30, 300, 5000))),
        }
        return [sent[kind]()]


def _endless(piece: bytes) -> Iterator[bytes]:
    while True:
        yield piece


@contextmanager
def _virtual_time(port: FakePort) -> Iterator[None]:
    """A context in which the host's time is the port's."""
    before = wire.time, exchange.time
    wire.time = exchange.time = port.clock()  # type: ignore[assignment]
    try:
        yield
    finally:
        wire.time, exchange.time = before


def _read(content: bytes, folder: Path) -> str:
    script = json.loads(content)
    network, plan, _ = _machine()
    garbler = _Garbler(script["pieces"])
    fake = FakeDevice(network, plan, garbler)
    port = FakePort(fake, patience=_PATIENCE)
    refused: DeviceError | None = None
    with _virtual_time(port):
        device = Device(Wire(port, "fake", timeout=_TIMEOUT), timeout=_TIMEOUT)
        for asked in script["asked"]:
            port.now = 0.0
            try:
                _ask(device, asked, garbler, fake)
            except DeviceError as error:
                # The host goes on: what comes next must be right again.
                refused = error
    if refused is not None:
        raise refused
    return "answers as the golden model" if not garbler.changed else "garbled, answered all the same"


def _ask(device: Device, asked: str, garbler: _Garbler, fake: FakeDevice) -> None:
    """Ask for one operation, and check what the host makes of it; only where nothing in it was garbled can it be known."""
    network, _, frame = _machine()
    # A list that the host could not end goes on with what comes next.
    before, begun = garbler.changed, bool(fake.begun)
    found: Any = None
    if asked == "classify":
        answer = device.classify(frame)
        found = answer.answer, answer.counts
    elif asked == "observe":
        answer, spikes = device.observe(frame, network, list(ports(network)))
        _check_answer(answer, network)
        found = len(spikes)
    elif asked == "events":
        answer = device.classify_events(network, [0, 3, 5])
        found = answer.answer, answer.counts
    elif asked == "state":
        device.begin_frame(network, [0, 3, 5])
        state = device.state(network, network.layers[0].name, 0, 0, 0)
        if not isinstance(state, State):
            raise WrongError(f"a state must be one, not {state!r}")
        device.end_frame(network)
    elif asked == "status":
        device.errors()
    elif asked == "saturations":
        if len(device.saturations(network)) != sum(isinstance(layer, Neurons) for layer in network.layers):
            raise WrongError("saturations must be one for each layer of neurons")
    elif asked == "reset":
        device.reset()
    else:
        device.require(network)
    known = garbler.changed == before and not begun and not garbler.forges
    if known and found is not None and found != _expected()[asked]:
        raise WrongError(f"{asked} must give {_expected()[asked]}, not {found}")


def _check_answer(answer: Answer, network: Network) -> None:
    if not 0 <= answer.answer < network.classes or len(answer.counts) != network.outputs:
        raise WrongError(f"an answer must be a class and a count for each, not {answer}")


TARGET = Target(name="host", ending=".json", seeds=_seeds, mutated=_mutated, read=_read)
