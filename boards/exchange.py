"""A packet and its answer: numbers, waits, tries again, and takes what is watched meanwhile."""

import time
from contextlib import suppress

from boards.watched import Watched
from boards.wire import Wire
from hw.link.protocol import COUNTED, REFUSED, Command, Status
from model.support.errors import DeviceError

__all__ = ["LONGEST_UNKNOWN", "Exchange", "UnansweredError"]

_REFUSALS = {
    Status.NOT_LOADED: "weights must be loaded first: python -m boards.host load",
    Status.BUSY: "a list of events without its end has begun a frame; forget it with: python -m boards.host reset",
    Status.NO_PLACE: "there is no such neuron, or no way in at that port",
}

LONGEST_UNKNOWN = 256
"""Bytes of the longest payload that a device sends before it is known how many classes it has."""

_FIRST_WAIT = 0.25
"""Seconds for which a device that may still be reading its flash is asked at first; then twice as long each time."""

_WATCHED_TIMEOUTS = 12
"""Timeouts within which everything watched in a frame has to be there: it is far more than an answer."""


class UnansweredError(DeviceError):
    """No answer, or only errors, however often it was asked."""


class Exchange:
    """Asks a device and waits for its answer; asks again where none comes, or an error.

    Parameters
    ----------
    wire : Wire
        The port.
    timeout : float
        Seconds within which an answer has to be there.
    retries : int
        How often a packet that got no answer, or an error, is sent again.

    Attributes
    ----------
    longest : int
        Bytes of the longest payload that the device sends.
    resent : int
        Packets that were sent again so far.
    """

    def __init__(self, wire: Wire, *, timeout: float, retries: int) -> None:
        self._wire = wire
        self.name = wire.name
        self.timeout = timeout
        self._retries = retries
        self._number = int(time.time()) & 0xFF
        self.longest = LONGEST_UNKNOWN
        self.resent = 0

    def first(self, command: Command) -> bytes:
        """The first answer of a device that may still be reading its flash, and hears nothing until then."""
        wait = _FIRST_WAIT
        while wait < self.timeout / 2:
            with suppress(UnansweredError):
                return self.ask(command, retries=0, timeout=wait)
            self._wire.drain()
            wait *= 2
        return self.ask(command)

    def ask(
        self,
        command: Command,
        payload: bytes = b"",
        *,
        size: int | None = None,
        answered_by: Command | None = None,
        retries: int | None = None,
        timeout: float | None = None,
        watched: Watched | None = None,
    ) -> bytes:
        """Send a packet; the payload of its answer, which has ``size`` bytes where that is given.

        With ``watched``, what is watched around the answer goes there, and has to be complete as well.
        """
        tries = 1 + (self._retries if retries is None else retries)
        trouble = ""
        for attempt in range(tries):
            if attempt:
                self.resent += 1
                self._wire.drain()
            try:
                answer = self._once(command, payload, answered_by or command, timeout or self.timeout, watched)
            except UnansweredError as error:
                trouble = str(error)
                continue
            if size is not None and len(answer) != size:
                raise DeviceError(f"{self.name}: the answer to {command.name.lower()} must have {size} bytes, not {len(answer)}")
            return answer
        hint = ": is the board programmed, and is this its port?" if trouble.startswith("no") else ""
        raise UnansweredError(f"{self.name}: {trouble}, tried {tries} times{hint}")

    def _once(
        self, command: Command, payload: bytes, wanted: Command, timeout: float, watched: Watched | None
    ) -> bytes:
        """Send a packet once; the payload of its answer."""
        self._number = (self._number + 1) & 0xFF
        self._wire.send(self._number, command, payload)
        if watched:
            watched.clear()
        answer = None
        until = self._wire.clock() + timeout
        # What is watched may take longer than an answer, while it goes on; that too has an end.
        last = until + (_WATCHED_TIMEOUTS - 1) * timeout if watched else until
        while (found := self._wire.receive(until=until, longest=self.longest)) is not None:
            if found.sequence != self._number:
                continue
            if found.command == wanted:
                answer = found.payload
            elif found.command == Status.WATCHED and watched:
                watched.take(found.payload)
                until = min(last, self._wire.clock() + timeout)
            elif found.command in REFUSED:
                raise DeviceError(f"{self.name}: {_REFUSALS[Status(found.command)]}")
            elif found.command in COUNTED:
                error = Status(found.command).name.lower().replace("_", " ")
                raise UnansweredError(f"answers {error} to {command.name.lower()}")
            # What is watched may come after the result.
            if answer is not None and (watched is None or watched.complete):
                return answer
        if watched and self._wire.clock() >= last:
            raise DeviceError(f"{self.name}: what is watched in a frame must end within {_WATCHED_TIMEOUTS * timeout:g} s")
        raise UnansweredError(f"no answer to {command.name.lower()} within {timeout:g} s")
