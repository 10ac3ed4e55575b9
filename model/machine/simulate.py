"""The cycle model of a machine, whichever architecture its plan has."""

from collections.abc import Callable, Sequence

from model.arrays import Images
from model.events import Events
from model.machine.checks import check_plan
from model.machine.cycles import Cycles
from model.machine.folded_cycles import simulate_folded
from model.machine.folded_flush import simulate_deferred
from model.machine.pipeline_cycles import simulate_pipeline
from model.machine.plan import Plan
from model.network import Network

__all__ = ["BATCH", "simulate"]

BATCH = 64
"""Frames whose spikes are found at once."""


def simulate(
    network: Network,
    plan: Plan,
    images: Images | Sequence[Events],
    *,
    idle: int = 0,
    stall: int = 0,
    seed: int = 1,
    watch: int = 0,
    record: bool = False,
    activity: int = 0,
    batch: int = BATCH,
    done: Callable[[int], None] | None = None,
) -> Cycles:
    """Run frames back to back through the machine.

    Parameters
    ----------
    network, plan : Network, Plan
        The machine.
    images : Images or sequence of Events
        Frames of pixels, or sequences of input events.
    idle, stall : int
        Chance, of 65,536 in a cycle, that the source is idle, that a sink is stalled.
    seed : int
        Of those, as `sim.recorder` draws them.
    watch : int
        Mask of watched ports.
    record : bool
        Whether to keep the cycle of every event and group.
    activity : int
        Cycles to record what the walkers do in.
    batch : int
        Frames whose spikes are found at once; it changes nothing but the memory that is taken.
    done : callable, optional
        Called with the number of frames more that have entered.

    Raises
    ------
    PlanError
        The plan does not suit the network.
    CycleError
        The machine hangs.
    """
    check_plan(network, plan)
    if not len(images):
        raise ValueError("images must be at least one frame")
    folded = simulate_deferred if network.deferred else simulate_folded
    run = folded if plan.folded else simulate_pipeline
    return run(
        network,
        plan,
        images,
        idle=idle,
        stall=stall,
        seed=seed,
        watch=watch,
        record=record,
        activity=activity,
        batch=batch,
        done=done,
    )
