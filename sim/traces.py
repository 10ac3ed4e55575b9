"""Two traces of the same frame: what in them differs."""

from model.golden import Trace

__all__ = ["differing"]


def differing(expected: Trace, found: Trace) -> list[str]:
    """The fields of layers that are not the same in two traces of a frame; none where the traces are equal.

    Parameters
    ----------
    expected, found : Trace
        Of the same network and the same events.
    """
    names = []
    for name, wanted in expected.layers.items():
        layer = found.layers[name]
        same = {
            "spikes": layer.spikes.tolist() == wanted.spikes.tolist(),
            "potential": bool((layer.potential == wanted.potential).all()),
            "count": bool((layer.count == wanted.count).all()),
            "flushes": layer.flushes == wanted.flushes,
            "operations": layer.operations == wanted.operations,
            "saturated_updates": layer.saturated_updates == wanted.saturated_updates,
            "saturated_events": layer.saturated_events == wanted.saturated_events,
        }
        names += [f"{name}.{field}" for field, equal in same.items() if not equal]
    if found.answer != expected.answer:
        names.append("answer")
    return names
