"""Numbers that the hardware and its cycle model share: how deep what lies between the cores is, and how long pipelines are."""

__all__ = [
    "COUNTED_POOL_CYCLES",
    "FRAMES_IN_FLIGHT",
    "FRAMES_TO_LEAF",
    "POOL_CYCLES",
    "SATURATIONS_WIDTH",
    "SHARED_STEP_CYCLES",
    "STARTS_UNSEEN",
    "STEP_CYCLES",
    "WATCHED_FIFO",
]

FRAMES_IN_FLIGHT = 16
"""Frames whose start the readout remembers; one more waits at the door."""

STARTS_UNSEEN = 4
"""Starts that must have room when the next frame is let in: some are on their way into that memory."""

SATURATIONS_WIDTH = 16
"""Width of a layer's saturation counter; it stops at its end."""

FRAMES_TO_LEAF = 255
"""Frames that the router counts on their way to a leaf."""

WATCHED_FIFO = 16
"""Depth of the FIFO of what is watched, in tokens."""

STEP_CYCLES = (
    "issued",
    "looked",
    "summed",
    "tagged",
    "comparing",
    "reading",
    "fetching",
    "loading",
    "updating",
    "updated",
    "fired",
    "masked",
)
"""The cycles of a step in a projection core, from the one after it is issued to that in which what it fires enters the FIFO."""

SHARED_STEP_CYCLES = (*STEP_CYCLES[:-3], "shared", *STEP_CYCLES[-3:])
"""The same where banks share the lanes of a flush."""

POOL_CYCLES = ("looked", "summed", "tagged", "comparing", "reading", "fetching", "loading", "updating", "fired")
"""Those of a group of a max-pool, from the one after it is taken, to that in which what moves enters the FIFO."""

COUNTED_POOL_CYCLES = (*POOL_CYCLES[:-1], "compared", "fired", "told")
"""The same of a max-pool that keeps counts: its maxima take a cycle more to find, and what they tell of as well."""
