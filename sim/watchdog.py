"""When a simulated machine counts as hanging, and the words in which the bench says so.

Apart from both who use it: `sim.bench` runs inside the simulator, `sim.simulators` outside of it and reads its log.
"""

__all__ = ["HANGS", "PATIENCE_CYCLES"]

HANGS = "hangs: "
"""How the bench's message begins where nothing moves any more."""

PATIENCE_CYCLES = 100_000
"""A machine that takes and gives nothing for this long hangs."""
