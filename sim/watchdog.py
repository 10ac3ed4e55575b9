"""When a simulated machine counts as hanging, and the words in which the bench says so.

Apart from both who use it: `sim.bench` runs inside the simulator, `sim.simulators` outside of it and reads its log.
"""

from dataclasses import dataclass

__all__ = ["HANGS", "PATIENCE_CYCLES", "Watchdog"]

HANGS = "hangs: "
"""How the bench's message begins where a machine will answer no more."""

PATIENCE_CYCLES = 100_000
"""Cycles that a machine may take longer than the cycle model, from token to token, before it hangs."""


@dataclass(frozen=True, kw_only=True)
class Watchdog:
    """What the cycle model expects of a machine, and when it hangs.

    Parameters
    ----------
    pause : int
        The longest, in cycles, that no token passes anywhere: none enters, fires, passes a link, is copied or leaves.
    cycles : int
        Until all frames are answered.
    patience : int
        Cycles more than these that are waited.
    """

    pause: int
    cycles: int
    patience: int

    def check(self, *, answered: int, frames: int, quiet: int, cycle: int) -> None:
        """Raise `AssertionError` where a machine hangs: where no token has passed for too long, or they never end.

        Parameters
        ----------
        answered, frames : int
            Frames answered, and those wanted.
        quiet : int
            Cycles since a token passed.
        cycle : int
            Cycles since the machine was ready for the first.
        """
        told = f"{HANGS}{answered} of {frames} frames answered"
        assert quiet < self.pause + self.patience, f"{told}, no token has passed anywhere for {quiet} cycles"
        # Spikes without end are no progress either.
        assert cycle < 2 * self.cycles + self.patience, (
            f"{told} after {cycle} cycles, where the cycle model says {self.cycles} for all"
        )
