"""Lines and branches that no machine reaches, and that are no dead code: each with the reason why.

An entry names a module and a function, of which it is for all, or a line of it as well, by its text: so it holds wherever the
line moves to, and no longer once it is another. Entries that are for nothing are told.
"""

from collections.abc import Iterable, Mapping

from sim.elaboration.measuring import Hole

__all__ = ["ARGUED", "reason", "unused"]

ARGUED: Mapping[str, str] = {
    "hw/link/flash.py: flash_image": "What a build writes to a board's flash, in bytes: it describes no hardware.",
    "hw/pipeline/pool.py: _distances: if start is not None:": (
        "A max-pool by itself, in tests and its proof, starts with counts of 0; in a machine it is told what it starts with."
    ),
    "hw/pipeline/projection.py: _initial_states": (
        "A core by itself, in tests and its proof, starts with its biases; in a machine it is told what it starts with."
    ),
}
"""Reasons, by `Hole.place`, or by as much of it as names the function."""


def reason(hole: Hole, argued: Mapping[str, str] = ARGUED) -> str | None:
    """Why it is no dead code; None where nothing says so."""
    return argued.get(hole.place) or argued.get(f"{hole.module}: {hole.function}")


def unused(holes: Iterable[Hole], argued: Mapping[str, str] = ARGUED) -> list[str]:
    """Entries that are for none of them."""
    places = {place for hole in holes for place in (hole.place, f"{hole.module}: {hole.function}")}
    return [place for place in argued if place not in places]
