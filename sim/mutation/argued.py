"""Mutants that change nothing, where no proof says so: each with the argument why.

An entry is that of a survivor's line, with its line of the source, its cell and what is changed there: it is for this one alone,
and no longer for any where the source has moved.
"""

from collections.abc import Mapping

__all__ = ["ARGUED"]

_OTHER_ORDER = (
    "A sweep clears the same words, in another order and as many cycles: what the address comes to is each number below the "
    "depth once, the greatest one last. No word is accessed before all are cleared."
)

_CLEARED_JUST_NOW = (
    "A word other than the one that was cleared just before is new then, and that one is not for this reason. Only the first "
    "access after a sweep comes just after a word was cleared, and all words are new to it. It is never at the word that was "
    "cleared last: this is of the last block of several, and each walk begins with the first one."
)

ARGUED: Mapping[str, str] = {
    "state: immediate: hw/pipeline/state.py:209 machine.core_fc.projection.state_0 $and $17 B[0] inv": _CLEARED_JUST_NOW,
    "state: immediate: hw/pipeline/state.py:209 machine.core_pool.projection.state_0 $and $23 B[0] inv": _CLEARED_JUST_NOW,
    "state: ordered merge: hw/pipeline/state.py:315 machine.core_layer4.projection.reset $dff $13 Q[2] cnot1 by bit 1": (
        _OTHER_ORDER
    ),
    "state: ordered merge: hw/pipeline/state.py:322 machine.core_layer1.projection.reset $add $8 Y[1] cnot1 by bit 3": (
        _OTHER_ORDER
    ),
    "link: link: hw/link/receiver.py:170 system.link.receiver $logic_not $178 Y[0] const1": (
        "The payload of a packet that will be refused is written to memory, too. Nothing reads it: of a packet that is "
        "carried out each byte that is read has been written after that."
    ),
    "link: folded link: hw/link/system.py:100 system system.link link saturations[37] const0": (
        "The counter is that of the output's neurons, none of which saturates in this network: for all counts of its source, "
        "0 to 7 each, potentials are between -561 and 391. Counts, of -8 to 7, follow these at once by steps of 64: no weight "
        "is greater."
    ),
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
