"""Mutants that change nothing, where no proof says so: each with the argument why.

An entry is that of a survivor's line, with its line of the source, its cell and what is changed there: it is for this one alone,
and no longer for any where the source has moved.
"""

from collections.abc import Mapping

__all__ = ["ARGUED"]

ARGUED: Mapping[str, str] = {
    "folded: folded: hw/folded/queues.py:101 machine.queues $logic_not $42 Y[0] const1": (
        "Spikes of the last layer, too, are then written behind the last event of the first queue. No event is there, and the "
        "next one that comes is written over them; behind a full queue it is the first word of the second one, which has been "
        "taken when the last layer is at work."
    ),
    "folded: folded: hw/folded/tables.py:112 machine.walk.reach_1 $and $15 B[0] const1": (
        "The layer is a linear one: all positions of its source reach it, and no event is at any other."
    ),
    "folded: folded, deferred: hw/folded/tables.py:112 machine.walk.reach_1 $and $15 A[0] const1": (
        "The layer is a linear one: all positions of its source reach it, and no event is at any other."
    ),
}
"""Arguments, by part, design and mutant."""
