"""The host's library: a board over any serial port. The protocol is in docs/link.md.

    with Device.open("/dev/ttyUSB0") as device:
        print(device.classify(frame).answer)

A port is what pyserial takes for one: a device, or a URL such as ``socket://localhost:4567`` of a virtual board.
What a device answers is checked before it is used: lengths, ranges, and that an answer comes to an end.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from types import TracebackType

import numpy as np
import numpy.typing as npt

from boards.exchange import LONGEST_UNKNOWN, Exchange
from boards.identity import Identity
from boards.watched import Watched, WatchedSpike
from boards.wire import BAUD, Wire
from hw.link.protocol import (
    CHECK,
    COUNTED,
    PLAN_HASH_BYTES,
    RESULT,
    STATE,
    STATUS,
    WEIGHTS,
    WORD_BYTES,
    Command,
    Event,
    Flag,
    event_bytes,
    load_payloads,
    longest_payload,
    mask_bytes,
    pack_bits,
    pack_event,
)
from model.machine.folded_layout import Folded
from model.machine.plan import Plan
from model.machine.signature import signature
from model.machine.stages import ports
from model.machine.stored_state import settled
from model.network import Network, Neurons
from model.support.errors import BadInputError, DeviceError, WeightsDifferError

__all__ = ["Answer", "Device", "DeviceError", "Errors", "State", "WeightCheck", "WeightsDifferError"]

_PASSES, _PASSES_SECONDS = 3, 60.0
"""Until each core has begun a pass and ended it, whatever was under way; it needs milliseconds, a simulated device longer."""


@dataclass(frozen=True)
class Answer:
    """What the machine says of a frame.

    Parameters
    ----------
    answer : int
        The class.
    counts : tuple of int
        Signed spike count of each class.
    cycles : int
        From the frame's first event to the answer.
    clipped : bool
        Whether a count had to stop at its end: spikes that a host sends in the output's place may be more than it holds.
    """

    answer: int
    counts: tuple[int, ...]
    cycles: int
    clipped: bool = False


@dataclass(frozen=True)
class State:
    """A neuron, in the frame that has begun and not ended.

    Parameters
    ----------
    potential : int
        Membrane potential ``V``, in the layer's units: ``theta`` is a spike.
    count : int
        Signed spike count ``Q``.
    """

    potential: int
    count: int


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


@dataclass(frozen=True)
class WeightCheck:
    """What a device says of its weights, which it reads while it runs.

    Parameters
    ----------
    passes : int
        How often it has read and compared all of them since reset, modulo 2^32.
    differing : tuple of int
        Numbers of the neuron layers, from 0 on, of which it found other weights than the network's, since reset.
    """

    passes: int
    differing: tuple[int, ...]


class Device:
    """A board that talks; a context manager, which closes the port.

    A device that checks its weights while it runs says with every result whether it has found others than its network's. Such a
    result raises `WeightsDifferError`, whatever asked for it.

    Parameters
    ----------
    wire : Wire
        The port.
    timeout : float
        Seconds within which an answer has to be there.
    retries : int
        How often a packet that got no answer, or an error, is sent again.

    Raises
    ------
    DeviceError
        If it is silent, no Tally device, or one of another version of the protocol.
    """

    def __init__(self, wire: Wire, *, timeout: float = 5.0, retries: int = 2) -> None:
        self._wire = wire
        self._name = wire.name
        self._exchange = Exchange(wire, timeout=timeout, retries=retries)
        self.identity = self._identify()
        self._exchange.longest = max(LONGEST_UNKNOWN, RESULT.size + 2 * self.identity.classes)

    @classmethod
    def open(
        cls,
        port: str,
        *,
        baud: int = BAUD,
        timeout: float = 5.0,
        retries: int = 2,
        clock: Callable[[], float] | None = None,
    ) -> "Device":
        """The device at ``port``, which was built for so many bits a second; the time is that of ``clock``.

        Raises
        ------
        DeviceError
            If the port cannot be opened, or nothing that talks is there.
        """
        wire = Wire.open(port, baud=baud, timeout=timeout, clock=clock)
        try:
            return cls(wire, timeout=timeout, retries=retries)
        except BaseException:
            wire.close()
            raise

    def __enter__(self) -> "Device":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wire.close()

    @property
    def resent(self) -> int:
        """Packets that were sent again so far."""
        return self._exchange.resent

    def require(self, network: Network, plan: Plan | None = None) -> None:
        """Check that this network, and this plan where one is given, are on the device.

        Raises
        ------
        DeviceError
            If others are.
        """
        identity = self.identity
        if identity.network_hash != network.content_hash[:16]:
            raise DeviceError(
                f"{self._name}: network must be {network.name} ({network.content_hash[:16]}), "
                f"not {identity.network_hash}, which is on the device"
            )
        said = (identity.height, identity.width, identity.channels, identity.classes, identity.event_bytes)
        wanted = (*network.input_shape, network.outputs, event_bytes(network))
        if said != wanted:
            raise DeviceError(
                f"{self._name}: height, width, channels, classes and bytes of an event must be {wanted}, "
                f"those of {network.name}, not {said}, which the device says"
            )
        if plan and not plan.content_hash.startswith(identity.plan_hash):
            raise DeviceError(
                f"{self._name}: plan must be {identity.plan_name!r} ({identity.plan_hash}), which is on the device, "
                f"not {plan.name!r} ({plan.content_hash[: 2 * PLAN_HASH_BYTES]})"
            )

    def loaded(self, network: Network, plan: Plan) -> bool:
        """Whether the weights of ``network`` are there, as the device reads them; True where none have to be loaded.

        Raises
        ------
        DeviceError
            If another network or plan is on the device.
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
        network : Network
            What is on the device.
        plan : Plan
            What it was built with.
        done : callable
            Called with the number of words that are there, of `Identity.weight_words`.

        Raises
        ------
        DeviceError
            If another network or plan is on the device, or what it reads back is not what was sent.
        """
        words, at = self._weights(network, plan), 0
        for payload in load_payloads(network, words, first=self.identity.weight_first):
            self._exchange.ask(Command.LOAD, payload, size=0)
            at += len(payload) // WORD_BYTES
            done(at)
        found, right = self.check()
        if found != signature(words):
            raise DeviceError(f"{self._name}: the weights that the device reads back are not those that it was sent")
        if not right:
            raise DeviceError(f"{self._name}: the device expects other weights: plan {plan.name!r} is not what it was built with")

    def check(self) -> tuple[int, bool]:
        """Have the device read its weights: their signature, and whether it is the one that it expects."""
        found, right = CHECK.unpack(self._exchange.ask(Command.CHECK, size=CHECK.size))
        return found, self._flag("whether weights are right", right)

    def _weights(self, network: Network, plan: Plan) -> list[int]:
        self.require(network, plan)
        layout = Folded.of(network, plan)
        said = (self.identity.weight_first, self.identity.weight_words)
        wanted = (layout.single_state_words, layout.single_weight_words)
        if said != wanted:
            raise DeviceError(f"{self._name}: first word and words of weights must be {wanted}, not {said}, as the device says")
        return layout.single_weights()

    def classify(self, frame: npt.NDArray[np.uint8]) -> Answer:
        """The answer to a frame of pixels, ``uint8``, ``(height, width, channels)``.

        Raises
        ------
        BadInputError
            If the frame is of another shape or type.
        DeviceError
            If there is no answer.
        """
        return self._answer(self._exchange.ask(Command.FRAME, self._pixels(frame)))

    def classify_bits(self, network: Network, frame: npt.NDArray[np.uint8]) -> Answer:
        """The answer to a frame of which a bit per pixel is sent, whether it fires: an eighth of the bytes, the same answer.

        Raises
        ------
        BadInputError
            If the frame is of another shape or type.
        DeviceError
            If there is no answer, another network is on the device, or it takes no such frames.
        """
        self.require(network)
        if not self.identity.bits:
            raise DeviceError(f"{self._name}: the device takes no frames of a bit per pixel (docs/link.md says which do)")
        self._pixels(frame)
        payload = pack_bits(frame > network.input_threshold)
        return self._answer(self._exchange.ask(Command.BITS, payload, answered_by=Command.FRAME))

    def observe(
        self, frame: npt.NDArray[np.uint8], network: Network, links: Sequence[str]
    ) -> tuple[Answer, list[WatchedSpike]]:
        """The answer to a frame, and what passed on ``links`` in the order in which the host heard of it.

        Of one link, that is the order in which its layer fired.

        Raises
        ------
        BadInputError
            If the frame is of another shape or type, or there is no such link.
        DeviceError
            If there is no answer, or the device's plan has no watching.
        """
        self.require(network)
        known = ports(network)
        if unknown := set(links) - set(known):
            raise BadInputError(f"link must be one of {', '.join(known)}, not {', '.join(sorted(unknown))}")
        if not self.identity.watch:
            raise DeviceError(f"{self._name}: plan must have 'watch' for spikes to be watched: build it with --watch")
        watched = Watched(self._name, network, links)
        pixels = self._pixels(frame)
        self._exchange.ask(Command.WATCH, watched.mask.to_bytes(mask_bytes(network), "little"), size=0)
        try:
            payload = self._exchange.ask(Command.FRAME, pixels, watched=watched)
        except BaseException:
            # What went wrong first is what is told.
            with suppress(DeviceError):
                self._exchange.ask(Command.WATCH, bytes(mask_bytes(network)), size=0)
            raise
        self._exchange.ask(Command.WATCH, bytes(mask_bytes(network)), size=0)
        return self._answer(payload), watched.spikes

    def classify_events(self, network: Network, addresses: Sequence[int], signs: Sequence[int] | None = None) -> Answer:
        """The answer to a frame of input events, signed, in this order; its end is added.

        Parameters
        ----------
        network : Network
            What is on the device.
        addresses : sequence of int
            ``(y * width + x) * channels + c``, each within the network's input.
        signs : sequence of int, optional
            +1 or -1 each; all +1 by default.

        Raises
        ------
        BadInputError
            If an address or a sign is out of range.
        DeviceError
            If there is no answer.
        """
        tokens = self._tokens(network, addresses, signs)
        # The last packet has the end, and with it the answer.
        rest = self._send_events([*tokens, Event(end=True)], network)
        return self._answer(self._exchange.ask(Command.EVENTS, rest, answered_by=Command.FRAME, retries=0))

    def begin_frame(self, network: Network, addresses: Sequence[int], signs: Sequence[int] | None = None) -> None:
        """Begin a frame of input events, or go on with one, without its end: as `classify_events`.

        What they do to the neurons can be read with `state`, until `end_frame`.
        """
        if tokens := self._tokens(network, addresses, signs):
            self._exchange.ask(Command.EVENTS, self._send_events(tokens, network), size=0, retries=0)

    def end_frame(self, network: Network) -> Answer:
        """The answer to the frame that has begun."""
        rest = self._send_events([Event(end=True)], network)
        return self._answer(self._exchange.ask(Command.EVENTS, rest, answered_by=Command.FRAME, retries=0))

    def state(self, network: Network, layer: str, y: int, x: int, c: int) -> State:
        """Membrane potential and count of a neuron, when all that has come in so far has had its effect.

        Raises
        ------
        BadInputError
            If there is no such neuron.
        DeviceError
            If there is no answer, another network is on the device, or its plan has no reading of states.
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
        place = Event(port=network.layers.index(neurons[layer]) + 1, y=y, x=x, c=c)
        payload = self._exchange.ask(Command.STATE, pack_event(network, place), size=STATE.size)
        summed, count, updated = STATE.unpack(payload)
        return State(*settled(neurons[layer], summed, count, updated=self._flag("whether there was an update", updated)))

    def _tokens(self, network: Network, addresses: Sequence[int], signs: Sequence[int] | None) -> list[Event]:
        self.require(network)
        shape, tokens = network.input_shape, []
        for address, sign in zip(addresses, signs or [1] * len(addresses), strict=True):
            if not 0 <= address < shape.size:
                raise BadInputError(f"address must be within 0..{shape.size - 1}, not {address}")
            if sign not in (-1, 1):
                raise BadInputError(f"sign must be +1 or -1, not {sign}")
            place, c = divmod(address, shape.channels)
            y, x = divmod(place, shape.width)
            tokens.append(Event(negative=sign < 0, y=y, x=x, c=c))
        return tokens

    def _send_events(self, tokens: list[Event], network: Network) -> bytes:
        """Send all but the last packet of a list, whose payload is given back."""
        packed = [pack_event(network, token) for token in tokens]
        most = longest_payload(network, short=True) // event_bytes(network)
        parts = [b"".join(packed[at : at + most]) for at in range(0, len(packed), most)]
        # A part that went astray cannot be sent again by itself.
        for part in parts[:-1]:
            self._exchange.ask(Command.EVENTS, part, size=0, retries=0)
        return parts[-1]

    def saturations(self, network: Network | None = None) -> tuple[int, ...]:
        """Of each neuron layer, input events since reset in which something saturated.

        Parameters
        ----------
        network : Network, optional
            What is on the device, where that is known: there must be as many numbers as it has layers of neurons.

        Raises
        ------
        DeviceError
            If there is no answer, or one of another length.
        """
        size = None if network is None else 2 * sum(isinstance(layer, Neurons) for layer in network.layers)
        payload = self._exchange.ask(Command.SATURATIONS, size=size)
        if not payload or len(payload) % 2:
            raise DeviceError(f"{self._name}: the answer to saturations must have 2 bytes a layer, not {len(payload)}")
        return tuple(np.frombuffer(payload, "<u2").tolist())

    def errors(self) -> Errors:
        """What went wrong on the wire."""
        payload = self._exchange.ask(Command.STATUS, size=STATUS.size)
        names = (*(status.name.lower() for status in COUNTED), "bytes_lost", "cycles")
        return Errors(**dict(zip(names, STATUS.unpack(payload), strict=True)))

    def weight_check(self) -> WeightCheck:
        """What the device has found of its weights so far.

        Raises
        ------
        DeviceError
            If there is no answer, or its plan has no check of weights.
        """
        if not self.identity.weight_check:
            needed = "plan must have 'weight_check' for weights to be checked: build it with --weight-check"
            raise DeviceError(f"{self._name}: {needed}")
        payload = self._exchange.ask(Command.WEIGHTS)
        if len(payload) <= WEIGHTS.size:
            raise DeviceError(f"{self._name}: the answer to weights must have more than {WEIGHTS.size} bytes, not {len(payload)}")
        mask = int.from_bytes(payload[WEIGHTS.size :], "little")
        differing = tuple(number for number in range(mask.bit_length()) if mask >> number & 1)
        return WeightCheck(WEIGHTS.unpack_from(payload)[0], differing)

    def confirm_weights(self) -> None:
        """Wait until the device has read all its weights from now on: what was wrong of them in an answer before is seen.

        Nothing happens where its plan has no check of weights.

        Raises
        ------
        WeightsDifferError
            If they are not the network's.
        DeviceError
            If there is no answer, or the device does not read them in time.
        """
        if not self.identity.weight_check:
            return
        first, passes, until = self.weight_check().passes, 0, self._wire.clock() + _PASSES_SECONDS
        # Of the next count some cores may have done their part before it was asked. Between that and two more all begin a pass.
        while passes < _PASSES:
            found = self.weight_check()
            self.require_weights(found)
            passes = found.passes - first & 0xFFFF_FFFF
            if passes < _PASSES and self._wire.clock() >= until:
                needed = f"read its weights {_PASSES} times within {_PASSES_SECONDS:g} s"
                raise DeviceError(f"{self._name}: the device must {needed}, not {passes} times")
            self._wire.pause(0.01)

    def require_weights(self, found: WeightCheck) -> None:
        """Check that the device has found no other weights than its network's.

        Raises
        ------
        WeightsDifferError
            If it has.
        """
        if found.differing:
            layers = ", ".join(map(str, found.differing))
            raise self._weights_differ(f" of layer {layers} (neuron layers, from 0)")

    def _weights_differ(self, where: str = "") -> WeightsDifferError:
        return WeightsDifferError(
            f"{self._name}: the device has found weights{where} that are not its network's, and its answers may be wrong: "
            "load its bitstream again"
        )

    def reset(self) -> None:
        """As after power-up: whatever is in the machine is gone, counters are 0."""
        self._exchange.ask(Command.RESET, size=0)
        self._wire.pause(0.05)
        identity = self._identify()
        if identity != self.identity:
            raise DeviceError(f"{self._name}: the device says to be another one after its reset")
        errors = self.errors()
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
        classes = self.identity.classes
        if len(payload) != RESULT.size + 2 * classes:
            raise DeviceError(f"{self._name}: a result must have {RESULT.size + 2 * classes} bytes, not {len(payload)}")
        answer, cycles, flags = RESULT.unpack_from(payload)
        if self.identity.weight_check and flags & Flag.WEIGHTS_DIFFER:
            raise self._weights_differ()
        # A single output answers by its sign.
        if answer >= max(2, classes):
            raise DeviceError(f"{self._name}: class must be within 0..{max(2, classes) - 1}, not {answer}")
        counts = tuple(np.frombuffer(payload[RESULT.size :], "<i2").tolist())
        return Answer(answer, counts, cycles, self._flag("whether a count was clipped", flags))

    def _flag(self, what: str, value: int) -> bool:
        if value > 1:
            raise DeviceError(f"{self._name}: {what} must be 0 or 1, not {value}")
        return bool(value)

    def _identify(self) -> Identity:
        try:
            return Identity.parse(self._exchange.first(Command.IDENTIFY))
        except ValueError as error:
            raise DeviceError(f"{self._name}: {error}") from None
