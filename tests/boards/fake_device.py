"""A device without hardware: it answers as the golden model, or lies. In memory with a clock of its own, or behind a TCP port."""

import itertools
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
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
    WORD_BYTES,
    Capability,
    Command,
    Event,
    Status,
    crc8,
    event_bytes,
    pack_event,
    packet,
    takes_bits,
    unpack_event,
)
from model.encode import encode
from model.engine.engine import run_fast
from model.events import make_events
from model.machine.folded_layout import Folded, signature
from model.machine.stages import ports
from model.network import INPUT, Neurons


@cache
def weights_to_load(network, plan):
    """First word, and words, of weights that a machine has to be loaded with."""
    if not plan.folded:
        return 0, []
    layout = Folded.of(network, plan)
    return layout.single_state_words, layout.single_weights()


class FakeDevice:
    """Takes packets, and answers each with bytes.

    ``lie`` is asked for every answer: it is given sequence number, command and the honest payload, and gives bytes in pieces,
    possibly without end, or None where the answer is to be the honest one.
    """

    def __init__(self, network, plan, lie=lambda sequence, command, payload: None):
        self.network, self.plan, self.lie = network, plan, lie
        self.first, self.words = weights_to_load(network, plan)
        self.memory = [0] * len(self.words)
        self.reset()

    def reset(self):
        self.checked, self.mask, self.begun = not self.words, 0, []
        self.saturated = np.zeros(len(self.network.layers), np.int64)

    def answers(self, sequence: int, command: int, payload: bytes) -> Iterator[bytes]:
        """Pieces of bytes that answer a packet."""
        for kind, honest in self._honest(Command(command), payload):
            lied = self.lie(sequence, kind, honest)
            yield from [packet(sequence, kind, honest)] if lied is None else lied

    def identity(self) -> bytes:
        network, plan = self.network, self.plan
        can = {
            Capability.WATCH: plan.watch,
            Capability.STATES: plan.states,
            Capability.LOADS: self.words,
            Capability.INJECT: plan.inject,
            Capability.BITS: takes_bits(network),
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
            bytes.fromhex(plan.content_hash)[:PLAN_HASH_BYTES],
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
        return [(command, b"")]

    def _events(self, payload: bytes) -> Iterable[tuple[int, bytes]]:
        size = event_bytes(self.network)
        events = [unpack_event(self.network, payload[at : at + size]) for at in range(0, len(payload), size)]
        shape = self.network.input_shape
        self.begun += [(shape.address(e.y, e.x, e.c), -1 if e.negative else 1) for e in events if not e.end]
        answers = [(Command.EVENTS, b"")]
        if events and events[-1].end:
            begun, self.begun = self.begun, []
            answers += self._result(make_events([a for a, _ in begun], [s for _, s in begun]))
        return answers

    def _result(self, events) -> list[tuple[int, bytes]]:
        trace = run_fast(self.network, events)
        self.saturated += [trace.layers[layer.name].saturated_events for layer in self.network.layers]
        counts = trace.counts.astype("<i2").tobytes()
        watched = []
        for link, port in ports(self.network).items():
            if self.mask >> port & 1:
                shape = self.network.shape_of(link)
                for event in trace.events if link == INPUT else trace.layers[link].spikes:
                    y, x, c = map(int, shape.coordinates(event["address"]))
                    watched.append(Event(port, False, bool(event["sign"] < 0), y, x, c))
                watched.append(Event(port, end=True))
        told = [(Status.WATCHED, pack_event(self.network, event)) for event in watched]
        half = len(told) // 2
        return [*told[:half], (Command.FRAME, RESULT.pack(trace.answer, 100 + len(events), 0) + counts), *told[half:]]

    def _state(self, place: Event) -> bytes:
        layer = self.network.layers[place.port - 1]
        trace = run_fast(self.network, make_events([a for a, _ in self.begun], [s for _, s in self.begun])).layers[layer.name]
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


BYTE_SECONDS = 1e-4


class FakePort:
    """A port as pyserial's, in memory; `clock` goes on with what is read, and with waiting for what does not come."""

    def __init__(self, device: FakeDevice, *, patience: float) -> None:
        self.now, self.is_open, self._patience = 0.0, False, patience
        self._device, self._sent, self._kept = device, bytearray(), bytearray()
        self._coming: Iterator[bytes] = iter(())

    def open(self) -> None:
        self.is_open = True

    def close(self) -> None:
        self.is_open = False

    def clock(self) -> SimpleNamespace:
        """Stands for the module `time`."""
        return SimpleNamespace(monotonic=lambda: self.now, time=lambda: self.now, sleep=self._pass)

    def _pass(self, seconds: float) -> None:
        self.now += seconds
        assert self.now < self._patience, f"the host still waits after {self._patience} s"

    def write(self, data: bytes) -> None:
        self._sent += data
        for sequence, command, payload in host_packets(self._sent):
            self._coming = itertools.chain(self._coming, self._device.answers(sequence, command, payload))

    def _fetch(self, size: int) -> None:
        while len(self._kept) < size and (piece := next(self._coming, None)) is not None:
            self._kept += piece

    @property
    def in_waiting(self) -> int:
        self._fetch(1)
        return len(self._kept)

    def read(self, size: int) -> bytes:
        most = min(size, round(self.timeout / BYTE_SECONDS))
        self._fetch(most)
        found = bytes(self._kept[:most])
        del self._kept[:most]
        self._pass(self.timeout if len(found) < size else len(found) * BYTE_SECONDS)
        return found


def connected(monkeypatch, device: FakeDevice, *, patience: float = 200.0) -> FakePort:
    """Whatever port is opened now leads to ``device``; more than ``patience`` virtual seconds of waiting are an error."""
    port = FakePort(device, patience=patience)
    monkeypatch.setattr("boards.wire.serial.serial_for_url", lambda *args, **options: port)
    monkeypatch.setattr("boards.wire.time", port.clock())
    monkeypatch.setattr("boards.exchange.time", port.clock())
    return port


@contextmanager
def served(device: FakeDevice) -> Iterator[str]:
    """The device behind a TCP port, for one host after the other; gives its URL."""
    listening = socket.create_server(("localhost", 0))

    def serve() -> None:
        while True:
            try:
                host, _ = listening.accept()
            except OSError:
                return
            kept = bytearray()
            try:
                with host:
                    while data := host.recv(4096):
                        kept += data
                        for asked in host_packets(kept):
                            for piece in device.answers(*asked):
                                host.sendall(piece)
            except OSError:
                pass

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"socket://localhost:{listening.getsockname()[1]}"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
