"""Address-event sequences: what flows between layers, in the canonical order.

A sequence is a NumPy structured array of `EVENT`. The end of a frame is the end of the array. In a network that fires deferred
flushes stand between the events, and one at the end.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["EVENT", "Events", "Flush", "input_flushes", "make_events"]

EVENT = np.dtype([("address", np.int32), ("sign", np.int8), ("cause", np.int32), ("origin", np.int32)])
"""One address event: ``address`` (channel-minor), ``sign`` (+1 or -1), ``cause`` (index of the event of
the layer's own input that caused it) and ``origin`` (index of the network's input event that did)."""

Events = npt.NDArray[np.void]


class Flush(NamedTuple):
    """A flush in a sequence of events.

    Parameters
    ----------
    after : int
        How many events of the sequence stand before it.
    origin : int
        Index of the network's last input event before it, -1 where there is none.
    """

    after: int
    origin: int


def input_flushes(events: Events, every: int) -> tuple[Flush, ...]:
    """The flushes of a frame of input events: one after ``every`` so many (0 for none), and one at the end."""
    ends = [*(range(every, len(events) + 1, every) if every else ()), len(events)]
    return tuple(Flush(end, int(events["origin"][end - 1]) if end else -1) for end in ends)


def make_events(addresses: npt.ArrayLike, signs: npt.ArrayLike = 1) -> Events:
    """Input events with these addresses and signs (+1 or -1), each its own cause and origin."""
    address = np.asarray(addresses, dtype=np.int32).reshape(-1)
    events = np.zeros(len(address), dtype=EVENT)
    events["address"] = address
    events["sign"] = signs
    if not np.isin(events["sign"], (-1, 1)).all():
        raise ValueError("sign must be +1 or -1")
    events["cause"] = events["origin"] = np.arange(len(address))
    return events
