"""The planner: which parallelism and which FIFOs, from what calibration frames do.

Cores work at the same time, so a machine is as fast as its slowest core. How many cycles a core's walker takes for a mean frame
follows exactly from where its input events are; so the fewest lanes that keep up with a number of cycles are found core by
core, and no search over all plans is needed. FIFOs are then grown where the cycle model says that it helps.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from model.engine.engine import run_streams
from model.machine.cycles import Cycles
from model.machine.named_plans import choices
from model.machine.plan import CorePlan, Plan
from model.machine.schedule import flush_steps, reached
from model.machine.simulate import simulate
from model.network import Network, Neurons
from model.support.errors import DoesNotFitError

__all__ = ["Demand", "Shortage", "fastest", "ladder", "size_fifos", "walker_cycles"]

_GAIN = 0.005
"""Share of the cycles that a larger FIFO has to save."""

_MOST_GROUPS, _MOST_EVENTS = 32, 128
"""Depths beyond which FIFOs are not grown: of groups, which are wide, and of events."""

Shortage = Callable[[Plan], list[str]]
"""Says what a plan needs more of than there is, and by how much; nothing where it fits."""


@dataclass(frozen=True)
class Demand:
    """What calibration frames ask of each core.

    Parameters
    ----------
    frames : int
        Frames looked at.
    events : dict of str to array of float64
        Of each neuron layer, mean input events per frame at each position, shape (height, width) of its source.
    """

    frames: int
    events: dict[str, npt.NDArray[np.float64]]

    @classmethod
    def of(cls, network: Network, images: npt.NDArray[np.uint8]) -> "Demand":
        """Run the frames (uint8) and count."""
        if not len(images):
            raise ValueError("images must be at least one frame")
        streams = run_streams(network, images)
        events = {}
        for layer in network.layers:
            if isinstance(layer, Neurons):
                height, width, channels = network.shape_of(layer.source)
                counts = np.bincount(streams[layer.source].address // channels, minlength=height * width)
                events[layer.name] = counts.reshape(height, width) / len(images)
        return cls(len(images), events)


def walker_cycles(network: Network, demand: Demand, core: CorePlan) -> float:
    """Cycles that a core's walker takes for a mean frame, its ``END`` (and flush) included, if nothing holds it up.

    A memory with one port is read and written by turns.
    """
    layer = network.layer(core.layer)
    rows, columns = (reached(network, layer, axis)[1] for axis in (0, 1))
    blocks = -(-network.shape_of(core.layer).channels // core.channels)
    steps = np.outer(-(-rows // core.rows), -(-columns // core.columns)) * blocks
    cycles = 2 if core.state_memory == "single_port" else 1
    return float((demand.events[core.layer] * np.maximum(1, steps * cycles)).sum()) + flush_steps(network, layer, core) + 1


def ladder(network: Network, demand: Demand, *, name: str = "planned") -> list[tuple[float, Plan]]:
    """Plans from the smallest to the fastest, each with the cycles that the slowest of its walkers takes for a mean frame.

    For every pace that some core can have: of each core the fewest lanes that keep up, or its fastest where none does.
    """
    by_core = []
    for layer in network.layers:
        if isinstance(layer, Neurons):
            cores = sorted(choices(network, layer.name), key=lambda core: core.lanes)
            by_core.append([(walker_cycles(network, demand, core), core) for core in cores])
    found: dict[Plan, float] = {}
    for pace in sorted({cycles for options in by_core for cycles, _ in options}, reverse=True):
        picked = []
        for options in by_core:
            enough = max(pace, min(cycles for cycles, _ in options))
            picked.append(next(option for option in options if option[0] <= enough))
        found.setdefault(Plan(name=name, cores=tuple(core for _, core in picked)), max(cycles for cycles, _ in picked))
    return [(cycles, plan) for plan, cycles in found.items()]


def fastest(network: Network, demand: Demand, short_of: Shortage, *, name: str = "planned") -> Plan:
    """The plan with the fewest cycles that is short of nothing; of those, the one with the fewest lanes.

    Raises
    ------
    DoesNotFitError
        Even the smallest plan is short of something; names it.
    """
    plans = ladder(network, demand, name=name)
    affordable = [(cycles, number) for number, (cycles, plan) in enumerate(plans) if not short_of(plan)]
    if not affordable:
        smallest = plans[0][1]
        raise DoesNotFitError(
            f"the smallest plan, of {smallest.lanes} lanes, does not fit: short of {' and '.join(short_of(smallest))}"
        )
    return plans[min(affordable)[1]][1]


def size_fifos(
    network: Network, plan: Plan, images: npt.NDArray[np.uint8], short_of: Shortage = lambda plan: []
) -> tuple[Plan, Cycles]:
    """Double FIFOs, one after the other, while that saves cycles on ``images`` and is short of nothing; gives the plan and
    its cycles."""
    found = simulate(network, plan, images)
    grown = True
    while grown:
        grown = False
        for number, core in enumerate(plan.cores):
            for field, most in (("event_fifo", _MOST_EVENTS), ("group_fifo", _MOST_GROUPS)):
                depth = 2 * getattr(core, field)
                if depth > most:
                    continue
                wider = replace(core, **{field: depth})
                tried = replace(plan, cores=(*plan.cores[:number], wider, *plan.cores[number + 1 :]))
                if short_of(tried):
                    continue
                cycles = simulate(network, tried, images)
                if cycles.cycles_per_frame < (1 - _GAIN) * found.cycles_per_frame:
                    plan, core, found, grown = tried, wider, cycles, True
    return plan, found
