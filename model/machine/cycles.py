"""What the cycle models find: when everything passes, and how each core spends its time."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.arrays import Ints

__all__ = ["ACTIVITIES", "CoreUse", "CycleError", "Cycles"]

ACTIVITIES = ("starved", "working", "blocked", "sweeping")
"""What a core's walker does in a cycle: it has no event; it takes a step; what comes after it has no room; it clears tags."""


class CycleError(RuntimeError):
    """The machine hangs."""


@dataclass(frozen=True, kw_only=True)
class CoreUse:
    """How one core spent its cycles.

    Parameters
    ----------
    name : str
        Name of the core: of the link that leaves it.
    starved, working, blocked, sweeping : int
        Cycles, see `ACTIVITIES`; a max-pool alone has no walker and only starves.
    group_fifo, pool_fifo, event_fifo : int
        The most that each FIFO held.
    """

    name: str
    starved: int
    working: int
    blocked: int
    sweeping: int
    group_fifo: int
    pool_fifo: int
    event_fifo: int

    @property
    def utilization(self) -> float:
        """Share of the cycles in which the walker took a step."""
        return self.working / max(1, self.starved + self.working + self.blocked + self.sweeping)


@dataclass(frozen=True, kw_only=True)
class Cycles:
    """What a machine did, cycle by cycle; cycle 0 is the first after reset.

    Parameters
    ----------
    frames : int
        Frames answered.
    passed : dict of str to Ints
        Of each trace of the hardware (``events_NAME``, ``groups_NAME``), the cycle in which each token passes, ends of frames
        included; empty where it was not recorded.
    watched : Ints
        Cycles in which a watched copy leaves.
    started, compared, answered : Ints
        Of each frame, the cycle in which its first token is offered to a core, that in which its answer is found, and that in
        which the host takes it.
    cores : tuple of CoreUse
        How each core spent its cycles up to the last answer.
    activity : array of int8
        Of each core (row), what its walker did in each cycle recorded: an index into `ACTIVITIES`.
    """

    frames: int
    passed: dict[str, Ints]
    watched: Ints
    started: Ints
    compared: Ints
    answered: Ints
    cores: tuple[CoreUse, ...]
    activity: npt.NDArray[np.int8]

    @property
    def latency(self) -> Ints:
        """Of each frame, cycles from its first token to its answer, as the hardware's `Result` has it."""
        return self.compared - self.started

    @property
    def cycles_per_frame(self) -> float:
        """Mean cycles per frame: from the first token taken to the last answer, over the frames."""
        return float(self.answered[-1] - self.started[0]) / self.frames

    @property
    def steady_cycles_per_frame(self) -> float:
        """Mean cycles from one answer to the next; while the first quarter of the frames fills the pipeline is left out."""
        filled = self.frames // 4
        if self.frames - filled < 2:
            return self.cycles_per_frame
        return float(self.answered[-1] - self.answered[filled]) / (self.frames - 1 - filled)
