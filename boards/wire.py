"""Packets over a serial port, with an end to every wait. The protocol is in docs/link.md."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import serial

from boards.choices import BAUD
from hw.link.protocol import HEADER_BYTES, SYNC, crc8, packet
from model.support.errors import DeviceError

__all__ = ["BAUD", "Packet", "Wire", "printable"]

_QUIET = 0.25
"""Seconds without a byte after which a wire is quiet: more than those after which a device gives up a packet that stands still,
so that it hears the next one, whatever came before."""

_AT_MOST = 0.02
"""Seconds for which a byte is waited for before the clock is looked at again."""

_AT_ONCE = 4096
"""Bytes read at once."""


class Packet(NamedTuple):
    """What a packet says.

    Parameters
    ----------
    sequence : int
        Sequence number.
    command : int
        Command, or error.
    payload : bytes
        The rest.
    """

    sequence: int
    command: int
    payload: bytes


class Wire:
    """A serial port that carries packets.

    Parameters
    ----------
    port : serial.SerialBase
        An open port of pyserial.
    name : str
        The port's name, for messages.
    timeout : float
        Seconds for which what is written may stand still, and for which what comes unasked is waited out.
    clock : callable, optional
        The time in seconds, `time.monotonic` by default. For a simulated device it is that of the simulation.
    """

    def __init__(
        self, port: serial.SerialBase, name: str, *, timeout: float, clock: Callable[[], float] | None = None
    ) -> None:
        self._port = port
        self._timeout = timeout
        self._kept = bytearray()
        self.name = name
        self.clock = clock or time.monotonic
        with self._talking():
            port.timeout = _AT_MOST
            port.write_timeout = timeout

    @classmethod
    def open(
        cls, name: str, *, baud: int, timeout: float, clock: Callable[[], float] | None = None
    ) -> "Wire":
        """Open a port by its name or URL.

        Raises
        ------
        DeviceError
            If it cannot be opened.
        """
        try:
            port = serial.serial_for_url(name, baudrate=baud, do_not_open=True)
            # Of a socket, pyserial would empty this at opening, for as long as something comes.
            port.reset_input_buffer = lambda: None
            port.open()
        except (serial.SerialException, ValueError, OSError) as error:
            raise DeviceError(f"{name}: cannot be opened: {error}") from None
        try:
            return cls(port, name, timeout=timeout, clock=clock)
        except BaseException:
            port.close()
            raise

    def close(self) -> None:
        """Close the port."""
        self._port.close()

    def send(self, sequence: int, command: int, payload: bytes = b"") -> None:
        """Send a packet."""
        with self._talking():
            self._port.write(packet(sequence, command, payload))

    def receive(self, *, until: float, longest: int) -> Packet | None:
        """The next packet with a right checksum; what comes before it is skipped.

        Parameters
        ----------
        until : float
            Time of ``clock`` at which the wait ends, whatever comes.
        longest : int
            Bytes of the longest payload that there may be.

        Returns
        -------
        Packet or None
            None where there was none in time.
        """
        while self.clock() < until:
            if (found := self._parsed(until, longest)) is not None:
                return found
            with self._talking():
                self._kept += self._port.read(min(_AT_ONCE, max(1, self._port.in_waiting)))
        return None

    def drain(self) -> None:
        """Wait until nothing comes any more, and forget what came.

        Raises
        ------
        DeviceError
            If it comes without end.
        """
        self._kept.clear()
        last = self.clock()
        until = last + self._timeout
        with self._talking():
            while self.clock() < last + _QUIET:
                if self._port.read(_AT_ONCE):
                    last = self.clock()
                if last > until:
                    raise DeviceError(f"{self.name}: bytes come without end: is this the port of a Tally device?")

    def pause(self, seconds: float) -> None:
        """Let time pass."""
        until = self.clock() + seconds
        while self.clock() < until:
            time.sleep(min(seconds, _AT_MOST))

    def _parsed(self, until: float, longest: int) -> Packet | None:
        """The next packet among the bytes that have come."""
        kept = self._kept
        while self.clock() < until:
            start = kept.find(SYNC)
            del kept[: start if start >= 0 else len(kept)]
            if len(kept) < HEADER_BYTES:
                return None
            size = int.from_bytes(kept[HEADER_BYTES - 2 : HEADER_BYTES], "little")
            if size <= longest:
                if len(kept) <= HEADER_BYTES + size:
                    return None
                body = bytes(kept[1 : HEADER_BYTES + size + 1])
                if crc8(body) == 0:
                    del kept[: HEADER_BYTES + size + 1]
                    return Packet(body[0], body[1], body[HEADER_BYTES - 1 : -1])
            # No packet begins here; the next one may begin within what looked like one.
            del kept[0]
        return None

    @contextmanager
    def _talking(self) -> Iterator[None]:
        try:
            yield
        except (serial.SerialException, OSError) as error:
            raise DeviceError(f"{self.name}: the connection is gone: {error}") from None


def printable(text: str) -> str:
    """``text`` with what is not printable as an escape, so that a device cannot command a terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
