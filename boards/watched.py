"""What passes on watched links in a frame."""

from collections.abc import Sequence
from dataclasses import dataclass

from hw.link.protocol import pack_event, unpack_event
from model.machine.stages import ports
from model.network import Network
from model.support.errors import DeviceError

__all__ = ["Watched", "WatchedSpike"]

_SHOWN_BYTES = 16
"""Bytes of an answer that a message shows."""


@dataclass(frozen=True)
class WatchedSpike:
    """A spike that passed on a watched link.

    Parameters
    ----------
    link : str
        The layer that fired, or `model.network.INPUT`.
    sign : int
        +1 or -1.
    y, x, c : int
        The neuron.
    """

    link: str
    sign: int
    y: int
    x: int
    c: int


class Watched:
    """What passes on watched links in a frame, checked: each link's last token is the end of the frame."""

    def __init__(self, device: str, network: Network, links: Sequence[str]) -> None:
        self._device = device
        self._network = network
        self._links = {port: (name, network.shape_of(name)) for name, port in ports(network).items() if name in links}
        self.clear()

    @property
    def mask(self) -> int:
        """A bit for each watched port."""
        return sum(1 << port for port in self._links)

    def clear(self) -> None:
        """Forget what passed."""
        self.spikes: list[WatchedSpike] = []
        self._open = set(self._links)

    @property
    def complete(self) -> bool:
        """Whether the frame has ended on every link."""
        return not self._open

    def take(self, payload: bytes) -> None:
        """Take a event.

        Raises
        ------
        DeviceError
            If there can be no such token here.
        """
        event = unpack_event(self._network, payload)
        if payload != pack_event(self._network, event):
            raise DeviceError(f"{self._device}: what is watched must be events, not {payload[:_SHOWN_BYTES].hex(' ')}")
        if event.port not in self._open:
            raise DeviceError(
                f"{self._device}: what is watched must be of ports {sorted(self._links)}, up to the end of the frame, "
                f"not of port {event.port}"
            )
        if event.end:
            # With a sign it is a flush within the frame, where there are any.
            if not (event.negative and self._network.flush_events):
                self._open.remove(event.port)
            return
        link, shape = self._links[event.port]
        place = (event.y, event.x, event.c)
        if any(n >= size for n, size in zip(place, shape, strict=True)):
            raise DeviceError(f"{self._device}: a spike of {link} must be within {tuple(shape)}, not at {place}")
        self.spikes.append(WatchedSpike(link, -1 if event.negative else 1, *place))
