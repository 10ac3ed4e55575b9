"""A device without hardware: it answers as the golden model, or lies; behind a port in memory with a clock of its own."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import cache, lru_cache
from types import SimpleNamespace

import numpy as np

from hw.link.protocol import (
    CHECK,
    COUNTED,
    FRAMES,
    HEADER_BYTES,
    IDENTITY,
    PLAN_HASH_BYTES,
    PLAN_NAME_BYTES,
    PROTOCOL_VERSION,
    RESULT,
    STATE,
    STATUS,
    SYNC,
    WEIGHTS,
    WORD_BYTES,
    Capability,
    Command,
    Event,
    Flag,
    Status,
    crc8,
    event_bytes,
    pack_event,
    packet,
    takes_bits,
    unpack_event,
    weight_mask_bytes,
)
from model.encode import encode
from model.engine.engine import run_fast
from model.events import EVENT, Events, make_events
from model.golden import Trace
from model.machine.folded_layout import Folded
from model.machine.plan import Plan
from model.machine.signature import signature
from model.machine.stages import ports
from model.network import INPUT, Network, Neurons

__all__ = ["FakeDevice", "FakePort", "Lie", "host_packets"]

Lie = Callable[[int, int, bytes], Iterable[bytes] | None]
"""Bytes in pieces, possibly without end, for a sequence number, a command and the honest payload; None for the honest answer."""


@cache
def _weights_to_load(network: Network, plan: Plan) -> tuple[int, list[int]]:
    """First word, and words, of weights that a machine has to be loaded with."""
    if not plan.folded:
        return 0, []
    layout = Folded.of(network, plan)
    return layout.single_state_words, layout.single_weights()


@lru_cache(maxsize=64)
def _plan_hash(plan: Plan) -> bytes:
    return bytes.fromhex(plan.content_hash)[:PLAN_HASH_BYTES]


@lru_cache(maxsize=64)
def _trace(network: Network, events: bytes) -> Trace:
    """What the golden model gives for events, which are often the same again."""
    return run_fast(network, np.frombuffer(events, EVENT).copy())


@lru_cache(maxsize=64)
def _watched(network: Network, events: bytes, mask: int) -> tuple[bytes, ...]:
    """What passes on the links of a mask of ports, as it is sent."""
    trace, watched = _trace(network, events), []
    for link, port in ports(network).items():
        if mask >> port & 1:
            shape = network.shape_of(link)
            for event in trace.events if link == INPUT else trace.layers[link].spikes:
                y, x, c = map(int, shape.coordinates(event["address"]))
                watched.append(Event(port, False, bool(event["sign"] < 0), y, x, c))
            watched.append(Event(port, end=True))
    return tuple(pack_event(network, event) for event in watched)


class FakeDevice:
    """Takes packets, and answers each with bytes.

    Parameters
    ----------
    network, plan : Network, Plan
        What it says that it is.
    lie : Lie
        Asked for every answer.

    Attributes
    ----------
    differing : int
        Mask of neuron layers whose weights are not the network's, where the plan has a check of weights: a pass finds them.
    """

    def __init__(self, network: Network, plan: Plan, lie: Lie = lambda sequence, command, payload: None) -> None:
        self.network, self.plan, self.lie = network, plan, lie
        self.first, self.words = _weights_to_load(network, plan)
        self.memory = [0] * len(self.words)
        self.differing = 0
        self.reset()

    def reset(self) -> None:
        """As after power-up."""
        self.begun: list[tuple[int, int]]
        self.checked, self.mask, self.begun = not self.words, 0, []
        self.passes, self.differ = 0, 0
        self.saturated = np.zeros(len(self.network.layers), np.int64)

    def answers(self, sequence: int, command: int, payload: bytes) -> Iterator[bytes]:
        """Pieces of bytes that answer a packet."""
        for kind, honest in self._honest(Command(command), payload):
            lied = self.lie(sequence, kind, honest)
            yield from [packet(sequence, kind, honest)] if lied is None else lied

    def identity(self) -> bytes:
        """The payload of the answer to `Command.IDENTIFY`."""
        network, plan = self.network, self.plan
        can = {
            Capability.WATCH: plan.watch,
            Capability.STATES: plan.states,
            Capability.LOADS: self.words,
            Capability.INJECT: plan.inject,
            Capability.BITS: takes_bits(network),
            Capability.WEIGHT_CHECK: plan.weight_check,
        }
        head = IDENTITY.pack(
            PROTOCOL_VERSION,
            event_bytes(network),
            sum(capability for capability, is_so in can.items() if is_so),
            bytes.fromhex(network.content_hash)[:8],
            *network.input_shape,
            network.outputs,
            self.first,
            len(self.words),
            60_000_000,
            _plan_hash(plan),
        )
        return head + plan.name.encode()[:PLAN_NAME_BYTES]

    def _honest(self, command: Command, payload: bytes) -> Iterable[tuple[int, bytes]]:
        if command in (*FRAMES, Command.EVENTS) and not self.checked:
            return [(Status.NOT_LOADED, b"")]
        if command is Command.IDENTIFY:
            return [(command, self.identity())]
        if command in FRAMES:
            if self.begun:
                return [(Status.BUSY, b"")]
            pixels = np.frombuffer(payload, np.uint8)
            if command is Command.BITS:
                pixels = 255 * np.unpackbits(pixels, bitorder="little")
            frame = pixels.reshape(tuple(self.network.input_shape))
            return self._result(encode(self.network, frame))
        if command is Command.EVENTS:
            return self._events(payload)
        if command is Command.WATCH:
            self.mask = int.from_bytes(payload, "little")
        if command is Command.SATURATIONS:
            neurons = [n for n, layer in zip(self.saturated, self.network.layers, strict=True) if isinstance(layer, Neurons)]
            return [(command, np.minimum(neurons, 0xFFFF).astype("<u2").tobytes())]
        if command is Command.STATUS:
            return [(command, STATUS.pack(*[0] * (len(COUNTED) + 1), 1234))]
        if command is Command.RESET:
            self.reset()
        if command is Command.LOAD:
            at = int.from_bytes(payload[:2], "little") - self.first
            words = [int.from_bytes(payload[n : n + WORD_BYTES], "little") for n in range(2, len(payload), WORD_BYTES)]
            self.memory[at : at + len(words)] = words
            self.checked = False
        if command is Command.CHECK:
            found, wanted = signature(self.memory), signature(self.words)
            self.checked = found == wanted
            return [(command, CHECK.pack(found, self.checked))]
        if command is Command.STATE:
            return [(command, self._state(unpack_event(self.network, payload)))]
        if command is Command.WEIGHTS:
            self._pass()
            return [(command, WEIGHTS.pack(self.passes) + self.differ.to_bytes(weight_mask_bytes(self.network), "little"))]
        return [(command, b"")]

    def _pass(self) -> None:
        """All weights are read and compared once more."""
        self.passes += 1
        self.differ |= self.differing

    def _events(self, payload: bytes) -> Iterable[tuple[int, bytes]]:
        size = event_bytes(self.network)
        events = [unpack_event(self.network, payload[at : at + size]) for at in range(0, len(payload), size)]
        shape = self.network.input_shape
        self.begun += [(shape.address(e.y, e.x, e.c), -1 if e.negative else 1) for e in events if not e.end]
        answers: list[tuple[int, bytes]] = [(Command.EVENTS, b"")]
        if events and events[-1].end:
            begun, self.begun = self.begun, []
            answers += self._result(make_events([a for a, _ in begun], [s for _, s in begun]))
        return answers

    def _result(self, events: Events) -> list[tuple[int, bytes]]:
        raw = events.tobytes()
        trace = _trace(self.network, raw)
        self.saturated += [trace.layers[layer.name].saturated_events for layer in self.network.layers]
        counts = trace.counts.astype("<i2").tobytes()
        told = [(Status.WATCHED, payload) for payload in _watched(self.network, raw, self.mask)]
        half = len(told) // 2
        self._pass()
        flags = Flag.WEIGHTS_DIFFER if self.plan.weight_check and self.differ else 0
        return [*told[:half], (Command.FRAME, RESULT.pack(trace.answer, 100 + len(events), flags) + counts), *told[half:]]

    def _state(self, place: Event) -> bytes:
        layer = self.network.layers[place.port - 1]
        assert isinstance(layer, Neurons)
        begun = make_events([a for a, _ in self.begun], [s for _, s in self.begun])
        trace = _trace(self.network, begun.tobytes()).layers[layer.name]
        count = int(trace.count[place.y, place.x, place.c])
        return STATE.pack(int(trace.potential[place.y, place.x, place.c]) - count * layer.theta, count, 0)


def host_packets(kept: bytearray) -> Iterator[tuple[int, int, bytes]]:
    """Whole packets that the host has sent, which are taken off ``kept``."""
    while len(kept) > HEADER_BYTES:
        assert kept[0] == SYNC
        size = int.from_bytes(kept[HEADER_BYTES - 2 : HEADER_BYTES], "little")
        if len(kept) <= HEADER_BYTES + size:
            return
        body = bytes(kept[1 : HEADER_BYTES + size + 1])
        assert crc8(body) == 0
        del kept[: HEADER_BYTES + size + 1]
        yield body[0], body[1], body[HEADER_BYTES - 1 : -1]


_BYTE_SECONDS = 1e-4


class FakePort:
    """A port as pyserial's, in memory; `clock` goes on with what is read, and with waiting for what does not come.

    Parameters
    ----------
    device : FakeDevice
        What is at its other end.
    patience : float
        Virtual seconds after which whoever still waits never ends: an `AssertionError`.
    """

    timeout: float = 0.0
    write_timeout: float = 0.0

    def __init__(self, device: FakeDevice, *, patience: float) -> None:
        self.now, self.is_open, self._patience = 0.0, False, patience
        self._device, self._sent, self._kept = device, bytearray(), bytearray()
        self._coming: Iterator[bytes] = iter(())

    def open(self) -> None:
        """Open it."""
        self.is_open = True

    def close(self) -> None:
        """Close it."""
        self.is_open = False

    def clock(self) -> SimpleNamespace:
        """Stands for the module `time`."""
        return SimpleNamespace(monotonic=lambda: self.now, time=lambda: self.now, sleep=self._pass)

    def _pass(self, seconds: float) -> None:
        self.now += seconds
        assert self.now < self._patience, f"the host still waits after {self._patience} s"

    def write(self, data: bytes) -> None:
        """Take bytes of the host, and have the device answer."""
        self._sent += data
        for sequence, command, payload in host_packets(self._sent):
            self._coming = itertools.chain(self._coming, self._device.answers(sequence, command, payload))

    def _fetch(self, size: int) -> None:
        while len(self._kept) < size and (piece := next(self._coming, None)) is not None:
            self._kept += piece

    @property
    def in_waiting(self) -> int:
        """Bytes that are there."""
        self._fetch(1)
        return len(self._kept)

    def read(self, size: int) -> bytes:
        """Bytes that come within `timeout`, as many as that."""
        most = min(size, round(self.timeout / _BYTE_SECONDS))
        self._fetch(most)
        found = bytes(self._kept[:most])
        del self._kept[:most]
        self._pass(self.timeout if len(found) < size else len(found) * _BYTE_SECONDS)
        return found
