"""Device identity: what a device says that it is, checked before it is used."""

from dataclasses import dataclass, replace

from hw.link.protocol import IDENTITY, PLAN_NAME_BYTES, PROTOCOL_VERSION, RESULT, Capability
from model.machine.named_plans import load_plan, named_plan
from model.machine.plan import Plan, PlanError
from model.network import Network

__all__ = ["Identity"]

_LARGEST_PAYLOAD = 0xFFFF
"""Bytes that a packet's length can say."""


@dataclass(frozen=True)
class Identity:
    """Device identity: what a device says that it is.

    Parameters
    ----------
    network_hash : str
        First 16 digits of the network's content hash.
    event_bytes : int
        Bytes of an event in a list.
    height, width, channels : int
        Shape of a frame.
    classes : int
        Counts in an answer; a single one answers by its sign.
    weight_first, weight_words : int
        Where weights that have to be loaded begin in the memory with one port, and how many words they are; 0 for a device
        that has them all from its bitstream.
    clock_hz : int
        Cycles a second.
    plan_hash : str
        First 8 digits of the plan's content hash.
    plan_name : str
        Name of the plan, cut off after 16 bytes. It is what the device says: see `boards.wire.printable`.
    watch, states, loads, inject, bits, weight_check : bool
        Capabilities: whether it can be watched, tells states, has to be loaded, takes events at inner ports, takes frames of
        a bit per pixel, and checks its weights while it runs.
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
    bits: bool
    weight_check: bool

    @classmethod
    def parse(cls, payload: bytes) -> "Identity":
        """What an answer to `Command.IDENTIFY` says.

        Raises
        ------
        ValueError
            If its length or a value cannot be; the message says which.
        """
        if not payload or payload[0] != PROTOCOL_VERSION:
            version = payload[0] if payload else "none"
            raise ValueError(f"protocol version must be {PROTOCOL_VERSION}, not {version}: build the bitstream anew")
        if not IDENTITY.size <= len(payload) <= IDENTITY.size + PLAN_NAME_BYTES:
            most = IDENTITY.size + PLAN_NAME_BYTES
            raise ValueError(f"device identity must have {IDENTITY.size} to {most} bytes, not {len(payload)}")
        _, size, capabilities, network_hash, *sizes, first, words, clock_hz, plan_hash = IDENTITY.unpack_from(payload)
        height, width, channels, classes = sizes
        can = Capability(capabilities)
        frame_bytes = height * width * channels
        for name, value, least, most in (
            ("bytes of an event", size, 1, 0xFF),
            ("pixels of a frame", frame_bytes, 1, _LARGEST_PAYLOAD),
            ("classes", classes, 1, (_LARGEST_PAYLOAD - RESULT.size) // 2),
            ("clock in Hz", clock_hz, 1, 1 << 32),
            ("words of weights", words, int(Capability.LOADS in can), 0xFFFF if Capability.LOADS in can else 0),
        ):
            if not least <= value <= most:
                raise ValueError(f"device identity: {name} must be within {least}..{most}, not {value}")
        return cls(
            network_hash=network_hash.hex(),
            event_bytes=size,
            height=height,
            width=width,
            channels=channels,
            classes=classes,
            weight_first=first,
            weight_words=words,
            clock_hz=clock_hz,
            plan_hash=plan_hash.hex(),
            plan_name=payload[IDENTITY.size :].decode(errors="replace"),
            watch=Capability.WATCH in can,
            states=Capability.STATES in can,
            loads=Capability.LOADS in can,
            inject=Capability.INJECT in can,
            bits=Capability.BITS in can,
            weight_check=Capability.WEIGHT_CHECK in can,
        )

    def plan(self, network: Network, text: str | None = None) -> Plan:
        """The plan on the device, with the device's capabilities.

        Parameters
        ----------
        network : Network
            What is on the device.
        text : str, optional
            The plan, by name or file; otherwise it is the named plan that the device says. A device never names a file.

        Raises
        ------
        PlanError
            If there is no such plan.
        """
        try:
            plan = named_plan(network, self.plan_name) if text is None else load_plan(network, text)
        except PlanError as error:
            if text is not None:
                raise
            raise PlanError(f"--plan must be given, as of the plan on the device it is not known: {error}") from None
        return replace(plan, watch=self.watch, states=self.states, weight_check=self.weight_check)
