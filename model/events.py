"""Address-event sequences: what flows between layers, in the canonical order.

A sequence is a NumPy structured array of `EVENT`. The end of a frame is the end of the array.
"""

import numpy as np
import numpy.typing as npt

__all__ = ["EVENT", "Events", "make_events"]

EVENT = np.dtype([("address", np.int32), ("sign", np.int8), ("cause", np.int32), ("origin", np.int32)])
"""One address event: ``address`` (channel-minor), ``sign`` (+1 or -1), ``cause`` (index of the event of
the layer's own input that caused it) and ``origin`` (index of the network's input event that did)."""

Events = npt.NDArray[np.void]


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
