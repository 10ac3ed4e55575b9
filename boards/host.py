"""`python -m boards.host`: a board from the host's side, over any serial port. The protocol is in docs/link.md.

    with Device.open("/dev/ttyUSB0") as device:
        print(device.classify(frame).answer)

A port is what pyserial takes for one: a device, or a URL such as ``socket://localhost:4567`` of a virtual board.
"""

import hashlib
import json
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import serial
from amaranth.hdl import Const
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from boards.top import BAUD
from hw.aer import HostEvent, Kind
from hw.build import BUNDLED
from hw.link.protocol import (
    COUNTED,
    PLAN_HASH_BYTES,
    PROTOCOL_VERSION,
    REFUSED,
    SYNC,
    WORD_BYTES,
    Ability,
    Command,
    Status,
    crc8,
    load_payloads,
    longest_payload,
    packet,
)
from model.encode import encode
from model.engine.engine import run_fast, run_frames
from model.events import Events
from model.golden import LayerTrace
from model.machine.folded_layout import Folded, signature
from model.machine.named_plans import load_plan
from model.machine.plan import Plan
from model.machine.stages import ports
from model.machine.stored_state import settled
from model.network import Network, NetworkError, Neurons
from model.support.cli import group
from model.support.datasets import DataError, load
from model.support.errors import BadInputError, DeviceError, Exit, fail
from model.support.frames import real_frames

__all__ = ["Answer", "Device", "DeviceError", "Errors", "Identity", "Passed", "State", "UnansweredError", "self_test"]

_REFUSALS = {
    Status.NOT_LOADED: "weights must be loaded first: python -m boards.host load",
    Status.BUSY: "a list of events without its end has begun a frame; forget it with: python -m boards.host reset",
    Status.NO_PLACE: "there is no such neuron, or no way in at that port",
}

_IDENTITY = struct.Struct(f"<BBB8s6HI{PLAN_HASH_BYTES}s")
"""Answer to `Command.IDENTIFY`, up to the name of the plan: see docs/link.md."""

_STATE = struct.Struct("<ihB")
"""Answer to `Command.STATE`: sum, count, and whether there was an update."""

_HEADER = 5
"""Bytes before the payload: `SYNC`, sequence number, command, length."""

_FIRST_WAIT = 0.25
"""Seconds for which a device that may still be reading its flash is asked at first; then twice as long each time."""


class UnansweredError(DeviceError):
    """No answer, or only errors, however often it was asked."""


@dataclass(frozen=True)
class Identity:
    """What a device says that it is.

    Parameters
    ----------
    network_hash : first 16 digits of the network's content hash
    event_bytes : bytes of an event in a list
    height, width, channels : shape of a frame
    classes : counts in an answer; a single one answers by its sign
    weight_first, weight_words : of the memory with one port, where its weights are, for a device whose weights have to be
        loaded; 0 words for one that has them all from its bitstream
    clock_hz : cycles a second
    plan_hash : first 8 digits of the plan's content hash
    plan_name : name of the plan, cut off behind 16 bytes
    watch, states, loads, inject : whether it can be watched, tells states, has to be loaded, and takes events at inner ports
    """

    network_hash: str
    event_bytes: int
    height: int
    width: int
    channels: int
    classes: int
    weight_first: int
    weight_words: int
    clock_hz: int
    plan_hash: str
    plan_name: str
    watch: bool
    states: bool
    loads: bool
    inject: bool

    @classmethod
    def of(cls, payload: bytes) -> "Identity":
        """What an answer to `Command.IDENTIFY` says."""
        _, event_bytes, abilities, network_hash, *sizes, first, words, clock_hz, plan_hash = _IDENTITY.unpack_from(payload)
        height, width, channels, classes = sizes
        can = Ability(abilities)
        return cls(
            network_hash=network_hash.hex(),
            event_bytes=event_bytes,
            height=height,
            width=width,
            channels=channels,
            classes=classes,
            weight_first=first,
            weight_words=words,
            clock_hz=clock_hz,
            plan_hash=plan_hash.hex(),
            plan_name=payload[_IDENTITY.size :].decode(errors="replace"),
            watch=Ability.WATCH in can,
            states=Ability.STATES in can,
            loads=Ability.LOADS in can,
            inject=Ability.INJECT in can,
        )

    def plan(self, network: Network, text: str | None = None) -> Plan:
        """The plan on the device: the named one that it says, or ``text``, a name or a file, with the device's abilities.

        Raises
        ------
        PlanError : there is none of that name
        """
        return replace(load_plan(network, text or self.plan_name), watch=self.watch, states=self.states)


@dataclass(frozen=True)
class Answer:
    """What the machine says of a frame.

    Parameters
    ----------
    answer : the class
    counts : signed spike count of each class
    cycles : from the frame's first event to the answer
    """

    answer: int
    counts: tuple[int, ...]
    cycles: int


@dataclass(frozen=True)
class State:
    """A neuron, in the frame that has begun and not ended.

    Parameters
    ----------
    potential : membrane potential ``V``, in the layer's units: ``theta`` is a spike
    count : signed spike count ``Q``
    """

    potential: int
    count: int


@dataclass(frozen=True)
class Passed:
    """A spike that passed on a watched link.

    Parameters
    ----------
    link : the layer that fired, or `model.network.INPUT`
    sign : +1 or -1
    y, x, c : the neuron
    """

    link: str
    sign: int
    y: int
    x: int
    c: int


@dataclass(frozen=True)
class Errors:
    """What went wrong on the wire since reset, as the device counts it, and for how many cycles it has run (32 bits)."""

    bad_crc: int
    bad_command: int
    bad_length: int
    timeout: int
    bytes_lost: int
    cycles: int

    @property
    def clean(self) -> bool:
        """Whether nothing went wrong."""
        return not any(count for name, count in asdict(self).items() if name != "cycles")


class Device:
    """A board that talks; a context manager, which closes the port.

    Parameters
    ----------
    wire : an open port of pyserial
    name : of the port, for messages
    timeout : seconds without a byte after which a device counts as silent
    retries : how often a packet that got no answer, or an error, is sent again

    Raises
    ------
    DeviceError : silent, not a Tally device, or of another version of the protocol
    """

    def __init__(self, wire: serial.SerialBase, name: str, *, timeout: float = 5.0, retries: int = 2) -> None:
        self._wire = wire
        self._name = name
        self._timeout = timeout
        self._retries = retries
        self._number = int(time.time()) & 0xFF
        self._kept = bytearray()
        self.resent = 0
        wire.timeout = 0.02
        payload = self._ask_one_that_starts(Command.IDENTIFY)
        if len(payload) < _IDENTITY.size or payload[0] != PROTOCOL_VERSION:
            version = payload[0] if payload else "none"
            raise DeviceError(f"{name}: protocol version must be {PROTOCOL_VERSION}, not {version}: build the bitstream anew")
        self.identity = Identity.of(payload)

    @classmethod
    def open(cls, port: str, *, baud: int = BAUD, timeout: float = 5.0, retries: int = 2) -> "Device":
        """The device at ``port``, which was built for so many bits a second.

        Raises
        ------
        DeviceError : the port cannot be opened, or nothing that talks is there
        """
        try:
            wire = serial.serial_for_url(port, baudrate=baud)
        except (serial.SerialException, ValueError, OSError) as error:
            raise DeviceError(f"{port}: cannot be opened: {error}") from None
        try:
            return cls(wire, port, timeout=timeout, retries=retries)
        except BaseException:
            wire.close()
            raise

    def __enter__(self) -> "Device":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wire.close()

    def require(self, network: Network, plan: Plan | None = None) -> None:
        """Raise `DeviceError` where another network than this, or another plan, is on the device."""
        if self.identity.network_hash != network.content_hash[:16]:
            raise DeviceError(
                f"{self._name}: network must be {network.name} ({network.content_hash[:16]}), "
                f"not {self.identity.network_hash}, which is on the device"
            )
        if plan and not plan.content_hash.startswith(self.identity.plan_hash):
            raise DeviceError(
                f"{self._name}: plan must be {self.identity.plan_name!r} ({self.identity.plan_hash}), which is on the device, "
                f"not {plan.name!r} ({plan.content_hash[: 2 * PLAN_HASH_BYTES]})"
            )

    def loaded(self, network: Network, plan: Plan) -> bool:
        """Whether the weights of ``network`` are there, as the device reads them; True where none have to be loaded.

        Raises
        ------
        DeviceError : another network or plan is on the device
        """
        if not self.identity.loads:
            self.require(network)
            return True
        words = self._weights(network, plan)
        return self.check() == (signature(words), True)

    def load(self, network: Network, plan: Plan, *, done: Callable[[int], None] = lambda words: None) -> None:
        """Load the weights of ``network``, and have the device check them.

        Parameters
        ----------
        network, plan : what is on the device
        done : called with the number of words that are there, of `Identity.weight_words`

        Raises
        ------
        DeviceError : another network or plan is on the device, or what it reads back is not what was sent
        """
        words, at = self._weights(network, plan), 0
        for payload in load_payloads(network, words, first=self.identity.weight_first):
            self._ask(Command.LOAD, payload)
            at += len(payload) // WORD_BYTES
            done(at)
        found, right = self.check()
        if found != signature(words):
            raise DeviceError(f"{self._name}: the weights that the device reads back are not those that it was sent")
        if not right:
            raise DeviceError(f"{self._name}: the device expects other weights: plan {plan.name!r} is not what it was built with")

    def check(self) -> tuple[int, bool]:
        """Have the device read its weights: their signature, and whether it is the one that it expects."""
        payload = self._ask(Command.CHECK)[0]
        return int.from_bytes(payload[:WORD_BYTES], "little"), bool(payload[WORD_BYTES])

    def _weights(self, network: Network, plan: Plan) -> list[int]:
        self.require(network, plan)
        return Folded.of(network, plan).single_weights()

    def classify(self, frame: npt.NDArray[np.uint8]) -> Answer:
        """The answer to a frame of pixels, ``uint8``, ``(height, width, channels)``.

        Raises
        ------
        ValueError : the frame's shape or type
        DeviceError : no answer
        """
        return self._answer(self._ask(Command.FRAME, self._pixels(frame))[0])

    def observe(
        self, frame: npt.NDArray[np.uint8], network: Network, links: Sequence[str]
    ) -> tuple[Answer, list[Passed]]:
        """The answer to a frame, and what passed on ``links`` in the order in which the host heard of it.

        Of one link, that is the order in which its layer fired.

        Raises
        ------
        ValueError : the frame, or no such link
        DeviceError : no answer, or a device whose plan has no watching
        """
        self.require(network)
        known = ports(network)
        if unknown := set(links) - set(known):
            raise BadInputError(f"link must be one of {', '.join(known)}, not {', '.join(sorted(unknown))}")
        if not self.identity.watch:
            raise DeviceError(f"{self._name}: plan must have 'watch' for spikes to be watched: build it with --watch")
        names = {port: name for name, port in known.items()}
        mask_bytes = -(-(len(network.layers) + 1) // 8)
        mask = sum(1 << known[link] for link in links)
        layout = HostEvent(network)

        def unpacked(raw: bytes) -> Any:
            return layout.from_bits(int.from_bytes(raw, "little") & ((1 << layout.size) - 1))

        def is_end(raw: bytes) -> bool:
            return bool(unpacked(raw).kind is Kind.END)

        self._ask(Command.WATCH, mask.to_bytes(mask_bytes, "little"))
        try:
            # What is watched may come behind the result, but each link's last is the end of the frame.
            payload, watched = self._ask(Command.FRAME, self._pixels(frame), ends=len(set(links)), is_end=is_end)
        finally:
            self._ask(Command.WATCH, bytes(mask_bytes))
        passed = []
        for event in map(unpacked, watched):
            if event.kind is Kind.SPIKE:
                passed.append(Passed(names[event.port], -1 if event.negative else 1, event.y, event.x, event.c))
        return self._answer(payload), passed

    def classify_events(self, network: Network, addresses: Sequence[int], signs: Sequence[int] | None = None) -> Answer:
        """The answer to a frame of input events, signed, in this order; its end is added.

        Parameters
        ----------
        addresses : ``(y * width + x) * channels + c``, each within the network's input
        signs : +1 or -1 each; all +1 by default

        Raises
        ------
        ValueError : an address or a sign
        DeviceError : no answer
        """
        tokens = self._tokens(network, addresses, signs)
        # The last packet has the end, and with it the answer.
        rest = self._send_events([*tokens, {"kind": Kind.END}], network)
        return self._answer(self._ask(Command.EVENTS, rest, answered_by=Command.FRAME, retries=0)[0])

    def begin_frame(self, network: Network, addresses: Sequence[int], signs: Sequence[int] | None = None) -> None:
        """Begin a frame of input events, or go on with one, without its end: as `classify_events`.

        What they do to the neurons can be read with `state`, until `end_frame`.
        """
        if tokens := self._tokens(network, addresses, signs):
            self._ask(Command.EVENTS, self._send_events(tokens, network), retries=0)

    def end_frame(self, network: Network) -> Answer:
        """The answer to the frame that has begun."""
        rest = self._send_events([{"kind": Kind.END}], network)
        return self._answer(self._ask(Command.EVENTS, rest, answered_by=Command.FRAME, retries=0)[0])

    def state(self, network: Network, layer: str, y: int, x: int, c: int) -> State:
        """Membrane potential and count of a neuron, when all that has come in so far has had its effect.

        Raises
        ------
        ValueError : no such neuron
        DeviceError : no answer, another network, or a device whose plan has no reading of states
        """
        self.require(network)
        if not self.identity.states:
            raise DeviceError(f"{self._name}: plan must have 'states' for membrane potentials to be read: build it with --states")
        neurons = {la.name: la for la in network.layers if isinstance(la, Neurons)}
        if layer not in neurons:
            raise BadInputError(f"layer must be one of {', '.join(neurons)}, not {layer!r}")
        for name, value, size in zip(("y", "x", "c"), (y, x, c), network.shape_of(layer), strict=True):
            if not 0 <= value < size:
                raise BadInputError(f"{name} must be within 0..{size - 1} in {layer}, not {value}")
        place = {"port": network.layers.index(neurons[layer]) + 1, "y": y, "x": x, "c": c}
        payload = self._ask(Command.STATE, self._packed(place, network))[0]
        if len(payload) != _STATE.size:
            raise DeviceError(f"{self._name}: a state must have {_STATE.size} bytes, not {len(payload)}")
        summed, count, updated = _STATE.unpack(payload)
        return State(*settled(neurons[layer], summed, count, updated=bool(updated)))

    def _tokens(self, network: Network, addresses: Sequence[int], signs: Sequence[int] | None) -> list[dict[str, Any]]:
        self.require(network)
        shape, tokens = network.input_shape, []
        for address, sign in zip(addresses, signs or [1] * len(addresses), strict=True):
            if not 0 <= address < shape.size:
                raise BadInputError(f"address must be within 0..{shape.size - 1}, not {address}")
            if sign not in (-1, 1):
                raise BadInputError(f"sign must be +1 or -1, not {sign}")
            place, c = divmod(address, shape.channels)
            y, x = divmod(place, shape.width)
            tokens.append({"kind": Kind.SPIKE, "negative": sign < 0, "y": y, "x": x, "c": c})
        return tokens

    def _packed(self, token: dict[str, Any], network: Network) -> bytes:
        return _bits(HostEvent(network).const(token)).to_bytes(self.identity.event_bytes, "little")

    def _send_events(self, tokens: list[dict[str, Any]], network: Network) -> bytes:
        """Send all but the last packet of a list, whose payload is given back."""
        packed = [self._packed(token, network) for token in tokens]
        most = longest_payload(network, short=True) // self.identity.event_bytes
        parts = [b"".join(packed[at : at + most]) for at in range(0, len(packed), most)]
        # A part that went astray cannot be sent again by itself.
        for part in parts[:-1]:
            self._ask(Command.EVENTS, part, retries=0)
        return parts[-1]

    def saturations(self) -> tuple[int, ...]:
        """Of each neuron layer, input events since reset in which something saturated."""
        return tuple(np.frombuffer(self._ask(Command.SATURATIONS)[0], "<u2").tolist())

    def errors(self) -> Errors:
        """What went wrong on the wire."""
        return self._errors(self._ask(Command.STATUS)[0])

    @staticmethod
    def _errors(payload: bytes) -> Errors:
        names = (*(status.name.lower() for status in COUNTED), "bytes_lost")
        cycles = int.from_bytes(payload[len(names) :], "little")
        return Errors(**dict(zip(names, payload, strict=False)), cycles=cycles)

    def reset(self) -> None:
        """As after power-up: whatever is in the machine is gone, counters are 0."""
        self._ask(Command.RESET)
        time.sleep(0.05)
        errors = self._errors(self._ask_one_that_starts(Command.STATUS))
        if not errors.clean:
            raise DeviceError(f"{self._name}: errors must be 0 after a reset, not {errors}")

    def _pixels(self, frame: npt.NDArray[np.uint8]) -> bytes:
        identity = self.identity
        shape = (identity.height, identity.width, identity.channels)
        frame = np.asarray(frame)
        if frame.dtype != np.uint8 or frame.shape != shape:
            raise BadInputError(f"frame must be uint8 of shape {shape}, not {frame.dtype} of {frame.shape}")
        return frame.tobytes()

    def _answer(self, payload: bytes) -> Answer:
        counts = tuple(np.frombuffer(payload[6:], "<i2").tolist())
        if len(counts) != self.identity.classes:
            raise DeviceError(f"{self._name}: a result must have {self.identity.classes} counts, not {len(counts)}")
        return Answer(int.from_bytes(payload[:2], "little"), counts, int.from_bytes(payload[2:6], "little"))

    def _ask_one_that_starts(self, command: Command) -> bytes:
        """The answer of a device that may still be reading its flash, and hears nothing until then."""
        wait = _FIRST_WAIT
        while wait < self._timeout / 2:
            with suppress(UnansweredError):
                return self._ask(command, retries=0, timeout=wait)[0]
            self._settle()
            wait *= 2
        return self._ask(command)[0]

    def _ask(
        self,
        command: Command,
        payload: bytes = b"",
        *,
        answered_by: Command | None = None,
        retries: int | None = None,
        timeout: float | None = None,
        ends: int = 0,
        is_end: Callable[[bytes], bool] = lambda raw: False,
    ) -> tuple[bytes, list[bytes]]:
        """Send a packet; the payload of its answer, and of the watched events around it, which have so many ends."""
        wanted = answered_by or command
        tries = 1 + (self._retries if retries is None else retries)
        timeout = timeout or self._timeout
        trouble = ""
        for attempt in range(tries):
            if attempt:
                self.resent += 1
                self._settle()
            self._number = (self._number + 1) & 0xFF
            with self._talking():
                self._wire.write(packet(self._number, command, payload))
            watched: list[bytes] = []
            answer: bytes | None = None
            left = ends
            for number, found, content in self._packets(timeout):
                if number != self._number:
                    continue
                if found == wanted:
                    answer = content
                elif found == Status.WATCHED:
                    watched.append(content)
                    left -= is_end(content)
                elif found in REFUSED:
                    raise DeviceError(f"{self._name}: {_REFUSALS[Status(found)]}")
                elif found in COUNTED:
                    trouble = f"answers {Status(found).name.lower().replace('_', ' ')} to {command.name.lower()}"
                    break
                if answer is not None and left == 0:
                    return answer, watched
            else:
                trouble = f"no answer to {command.name.lower()} within {timeout:g} s"
        hint = ": is the board programmed, and is this its port?" if trouble.startswith("no") else ""
        raise UnansweredError(f"{self._name}: {trouble}, tried {tries} times{hint}")

    def _settle(self) -> None:
        """Wait until nothing comes any more, and forget what came."""
        self._kept.clear()
        with self._talking():
            while self._wire.read(4096):
                pass

    def _packets(self, timeout: float) -> Iterator[tuple[int, int, bytes]]:
        """Whole packets, their checksums right, until nothing comes for a while; what is between them is skipped."""
        deadline = time.monotonic() + timeout
        longest = max(256, 2 * self.identity.classes + 6) if hasattr(self, "identity") else 256
        while time.monotonic() < deadline:
            with self._talking():
                more = self._wire.read(max(1, self._wire.in_waiting))
            if more:
                self._kept += more
            while True:
                start = self._kept.find(SYNC)
                del self._kept[: start if start >= 0 else len(self._kept)]
                if len(self._kept) < _HEADER:
                    break
                size = int.from_bytes(self._kept[3:5], "little")
                if size > longest:
                    del self._kept[0]
                    continue
                if len(self._kept) < _HEADER + size + 1:
                    break
                if crc8(bytes(self._kept[1 : _HEADER + size + 1])):
                    del self._kept[0]
                    continue
                found = bytes(self._kept[: _HEADER + size])
                del self._kept[: _HEADER + size + 1]
                deadline = time.monotonic() + timeout
                yield found[1], found[2], found[_HEADER:]

    @contextmanager
    def _talking(self) -> Iterator[None]:
        try:
            yield
        except (serial.SerialException, OSError) as error:
            raise DeviceError(f"{self._name}: the connection is gone: {error}") from None


def _bits(value: Any) -> int:
    found = Const.cast(value.as_value())
    return int(found.value)


def self_test(device: Device, network: Network, images: npt.NDArray[np.uint8]) -> list[tuple[str, bool, str]]:
    """What works: of each test its name, whether it passed, and what was seen."""
    device.require(network)
    device.reset()
    if device.identity.loads:
        # What the memory holds outlives a reset, but has to be checked again.
        device.check()
    expected = run_frames(network, images)
    answers = [device.classify(image) for image in images]
    wrong = sum(list(a.counts) != list(c) for a, c in zip(answers, expected.counts, strict=True))
    cycles = [answer.cycles for answer in answers]
    again = [device.classify(image).cycles for image in images]
    # Every frame went in twice.
    events = 2 * expected.saturated_events.sum(axis=0)
    wanted = tuple(int(n) for n, layer in zip(events, network.layers, strict=True) if isinstance(layer, Neurons))
    saturations = device.saturations()
    states = [_states(device, network, images[0])] if device.identity.states else []
    errors = device.errors()
    return [
        ("frames", not wrong, f"{len(images)} frames, {wrong} differ from the golden model"),
        ("cycles", cycles == again, f"{min(cycles):,} to {max(cycles):,} a frame, the same twice"),
        ("saturations", saturations == wanted, f"input events of each layer: {saturations}, golden model {wanted}"),
        *states,
        ("wire", errors.clean and not device.resent, f"{errors}, {device.resent} packets sent again"),
    ]


def _states(device: Device, network: Network, image: npt.NDArray[np.uint8]) -> tuple[str, bool, str]:
    """Whether the output layer's neurons, before the frame ends, are as in the golden model."""
    events, output = encode(network, image), network.output
    expected = run_fast(network, events).layers[output.name]
    places = np.ndindex(*network.shape_of(output.name))
    found, answer = _layer_states(device, network, output.name, events, places)
    wanted = _golden_states(expected)
    right = found == wanted and answer.counts == tuple(state.count for state in wanted)
    potentials, golden = ([state.potential for state in states] for states in (found, wanted))
    return "potentials", right, f"of {output.name}: {potentials}, golden model {golden}"


def _layer_states(
    device: Device, network: Network, layer: str, events: Events, places: Iterable[tuple[int, ...]]
) -> tuple[list[State], Answer]:
    """The states of these neurons behind all events of a frame, and its answer."""
    device.begin_frame(network, events["address"].tolist())
    found = [device.state(network, layer, *place) for place in places]
    return found, device.end_frame(network)


def _golden_states(trace: LayerTrace) -> list[State]:
    return [State(int(v), int(q)) for v, q in zip(trace.potential.flat, trace.count.flat, strict=True)]


_PORT = click.option("--port", required=True, metavar="PORT", help="Serial port, or a URL such as socket://localhost:4567.")
_BAUD = click.option(
    "--baud", default=BAUD, show_default=True, type=click.IntRange(9600), help="Bits a second, as the device was built."
)
_TIMEOUT = click.option(
    "--timeout", default=5.0, show_default=True, type=click.FloatRange(0, min_open=True), help="Seconds without an answer."
)
_NET = click.option(
    "--net", type=click.Path(path_type=Path), help="Network (.npz) on the device; found among the bundled ones by default."
)
_PLAN = click.option(
    "--plan", help="Plan on the device (name or .json), where its weights have to be loaded; the named one that it is by default."
)
_DATASET = click.option("--dataset", metavar="DATA", help="mnist, digits5k or an .npz file; mnist where it is found.")
_DATA_DIR = click.option("--data-dir", type=click.Path(path_type=Path), help="First folder to look for the MNIST files in.")
@group(help="Talk to a board.")
def main() -> None:
    """See the help text above."""


@main.command(help="Say what is on the device.")
@_PORT
@_BAUD
@_TIMEOUT
def identify(port: str, baud: int, timeout: float) -> None:
    """See the help text above."""
    with Device.open(port, baud=baud, timeout=timeout) as device:
        print(json.dumps(asdict(device.identity), indent=2))


@main.command(help="Errors on the wire, saturations and cycles since reset.")
@_PORT
@_BAUD
@_TIMEOUT
def status(port: str, baud: int, timeout: float) -> None:
    """See the help text above."""
    with Device.open(port, baud=baud, timeout=timeout) as device:
        print(json.dumps({**asdict(device.errors()), "saturations": device.saturations()}, indent=2))


@main.command(help="Set the device back to how it is after power-up.")
@_PORT
@_BAUD
@_TIMEOUT
def reset(port: str, baud: int, timeout: float) -> None:
    """See the help text above."""
    with Device.open(port, baud=baud, timeout=timeout) as device:
        device.reset()


@main.command("load", help="Load the weights into a device that has no memory for them in its bitstream, and check them.")
@_PORT
@_BAUD
@_TIMEOUT
@_NET
@_PLAN
def load_command(port: str, baud: int, timeout: float, net: Path | None, plan: str | None) -> None:
    """See the help text above."""
    with Device.open(port, baud=baud, timeout=timeout) as device:
        network = _network_on(device, net)
        if not device.identity.loads:
            print(f"{port}: all weights are in the bitstream")
            return
        _load(device, network, plan, anew=True)
    print(f"{port}: {device.identity.weight_words:,} words loaded, and read back as sent")


def _network_on(device: Device, net: Path | None) -> Network:
    """The network in this file, which must be the one on the device; without a file the bundled one that it is."""
    if net is None:
        for bundled in sorted(BUNDLED.parent.glob("*.npz")):
            network = Network.load(bundled)
            if network.content_hash.startswith(device.identity.network_hash):
                return network
        raise NetworkError(f"--net must be given: {device.identity.network_hash}, which is on the device, is no bundled network")
    network = Network.load(net)
    device.require(network)
    return network


def _load(device: Device, network: Network, plan_name: str | None, *, anew: bool = False) -> None:
    """Load weights where that is needed, with a progress bar; whatever frame was begun is forgotten."""
    device.require(network)
    device.reset()
    if not device.identity.loads:
        return
    plan = device.identity.plan(network, plan_name)
    if not anew and device.loaded(network, plan):
        return
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("weights", total=device.identity.weight_words)
        device.load(network, plan, done=lambda words: bar.update(task, completed=words))


@main.command(help="Test a device against the golden model; exit code 5 where they differ.")
@_PORT
@_BAUD
@_TIMEOUT
@_NET
@_PLAN
@click.option("--frames", default=10, show_default=True, type=click.IntRange(1), help="Frames to compare.")
def selftest(port: str, baud: int, timeout: float, net: Path | None, plan: str | None, frames: int) -> None:
    """See the help text above."""
    with Device.open(port, baud=baud, timeout=timeout) as device:
        network = _network_on(device, net)
        images, _, _ = real_frames(network, None, None, frames)
        _load(device, network, plan)
        found = self_test(device, network, images)
    for name, passed, seen in found:
        print(f"{'pass' if passed else 'FAIL'}  {name}: {seen}")
    if not all(passed for _, passed, _ in found):
        fail(Exit.MISMATCH, f"{port}: the device is not as the golden model")


@main.command(
    help="Membrane potentials and counts of a layer before a frame ends; exit code 5 where they differ from the golden model's."
)
@_PORT
@_BAUD
@_TIMEOUT
@_NET
@_PLAN
@_DATASET
@_DATA_DIR
@click.option("--frame", default=0, show_default=True, type=click.IntRange(0), help="Which frame of the test set.")
@click.option("--layer", help="A layer of neurons; the last by default.")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON on standard output.")
def states(
    port: str,
    baud: int,
    timeout: float,
    net: Path | None,
    plan: str | None,
    dataset: str | None,
    data_dir: Path | None,
    frame: int,
    layer: str | None,
    as_json: bool,
) -> None:
    """See the help text above."""
    console = Console(stderr=True)
    with Device.open(port, baud=baud, timeout=timeout) as device:
        network = _network_on(device, net)
        name = layer or network.output.name
        images, _, data_name = real_frames(network, dataset, data_dir, None)
        if frame >= len(images):
            raise DataError(f"--frame must be within 0..{len(images) - 1} of {data_name}, not {frame}")
        _load(device, network, plan)
        events = encode(network, images[frame])
        # Whatever is wrong with the request shows before a frame begins.
        device.state(network, name, 0, 0, 0)
        places = list(np.ndindex(*network.shape_of(name)))
        with Progress(console=console, disable=not console.is_terminal) as bar:
            found, _ = _layer_states(device, network, name, events, bar.track(places, description=name))
    expected = _golden_states(run_fast(network, events).layers[name])
    rows = [
        {"y": y, "x": x, "c": c, "potential": state.potential, "count": state.count}
        for (y, x, c), state in zip(places, found, strict=True)
    ]
    if as_json:
        print(json.dumps({"network": network.name, "layer": name, "frame": frame, "neurons": rows}, indent=2))
    else:
        shown = Table("y", "x", "c", "potential", "count", title=f"{name}, frame {frame} of {data_name}")
        for row in rows:
            shown.add_row(*(str(value) for value in row.values()))
        Console().print(shown)
    wrong = [n for n, (state, wanted) in enumerate(zip(found, expected, strict=True)) if state != wanted]
    if wrong:
        first = wrong[0]
        fail(
            Exit.MISMATCH,
            f"neuron {places[first]} of {name} must be {expected[first]}, not {found[first]}, and so on for {len(wrong)} neurons",
        )


@main.command(help="Evaluate a test set on a device, every answer beside the golden model's; goes on where it stopped.")
@_PORT
@_BAUD
@_TIMEOUT
@_NET
@_PLAN
@_DATASET
@_DATA_DIR
@click.option("--limit", type=click.IntRange(1), help="Only the first so many frames.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for results; build/NAME by default.")
@click.option("--restart", is_flag=True, help="Forget what an earlier run found.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
def evaluate(
    port: str,
    baud: int,
    timeout: float,
    net: Path | None,
    plan: str | None,
    dataset: str | None,
    data_dir: Path | None,
    limit: int | None,
    out: Path | None,
    restart: bool,
    as_json: bool,
) -> None:
    """See the help text above."""
    console = Console(stderr=True)
    with Device.open(port, baud=baud, timeout=timeout) as device:
        network = _network_on(device, net)
        data = load(dataset or "mnist", "test", data_dir)
        images, labels = data.images[:limit], data.labels[:limit]
        real_frames(network, dataset or "mnist", data_dir, 1)
        folder = out or Path("build") / network.name
        folder.mkdir(parents=True, exist_ok=True)
        journal = folder / "device.jsonl"
        if restart:
            journal.unlink(missing_ok=True)
        frames_hash = hashlib.sha256(np.ascontiguousarray(data.images).tobytes()).hexdigest()
        head = {"network_hash": network.content_hash, "dataset": data.name, "frames_hash": frames_hash}
        done = _read(journal, head)
        if not journal.exists():
            journal.write_text(json.dumps(head) + "\n")
        expected = run_frames(network, images).counts
        columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
        _load(device, network, plan)
        with (
            journal.open("a") as file,
            Progress(*columns, console=console, disable=not console.is_terminal) as bar,
        ):
            task = bar.add_task(f"{network.name} at {port}", total=len(images), completed=0)
            for index, image in enumerate(images):
                if index not in done:
                    done[index] = device.classify(image)
                    file.write(json.dumps({"frame": index, **asdict(done[index])}) + "\n")
                    file.flush()
                bar.update(task, advance=1)
            resent = device.resent
    answers = [done[index] for index in range(len(images))]
    wrong = [n for n, (a, c) in enumerate(zip(answers, expected, strict=True)) if list(a.counts) != list(c)]
    result = {
        "network": network.name,
        "network_hash": network.content_hash,
        "port": port,
        "dataset": data.name,
        "frames": len(images),
        "accuracy": float(np.mean([a.answer == label for a, label in zip(answers, labels, strict=True)])),
        "mismatches": len(wrong),
        "first_mismatch": wrong[0] if wrong else None,
        "latency_cycles_mean": round(float(np.mean([a.cycles for a in answers])), 1),
        "packets_sent_again": resent,
    }
    (folder / "device.json").write_text(json.dumps(result, indent=2) + "\n")
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        for name, value in result.items():
            print(f"{name}: {value}")
    if wrong:
        fail(Exit.MISMATCH, f"frame {wrong[0]} of {data.name}: counts must be {list(expected[wrong[0]])}, "
             f"not {list(answers[wrong[0]].counts)}, and so on for {len(wrong)} frames")


def _read(journal: Path, wanted: dict[str, str]) -> dict[int, Answer]:
    """Answers that an earlier run wrote down; none where it was of another network or other frames."""
    if not journal.exists():
        return {}
    head, *lines = journal.read_text().splitlines() or [""]
    try:
        known = json.loads(head)
        if known != wanted:
            journal.unlink()
            return {}
        found = [json.loads(line) for line in lines]
    except json.JSONDecodeError:
        # The last line of a run that was cut off.
        found = [json.loads(line) for line in lines[:-1]]
        journal.write_text("\n".join([head, *lines[:-1]]) + "\n")
    return {line["frame"]: Answer(line["answer"], tuple(line["counts"]), line["cycles"]) for line in found}


if __name__ == "__main__":
    main()
