"""What a machine's netlist toggles on frames: counted in the simulation that holds it equal to the golden model."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hw.flow.families.base import Family
from hw.machines import machine_of
from model.machine.plan import Plan
from model.network import Network
from model.support.cache import alone
from sim.cosimulation import CACHE, VerifyResult, verify
from sim.netlist import machine_netlist, netlist_verilog
from sim.toggling.counting import ANSWER, FILE, QUIET, Group, counted, read_totals
from sim.toggling.energy import Energy, energy
from sim.toggling.kinds import ACCESSES, KINDS

__all__ = ["Row", "Toggles", "toggles"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was counted of a kind.

    Parameters
    ----------
    kind : str
        Of nets or of accesses.
    count : int
        Nets that have a sink; of accesses ports of memories.
    per_frame : float
        Toggles or accesses, a mean frame.
    reached_per_frame : float
        Sinks that the toggles reach; 0 of accesses.
    idle_per_cycle : float
        Toggles or accesses in a cycle in which no frame is under way.
    """

    kind: str
    count: int
    per_frame: float
    reached_per_frame: float
    idle_per_cycle: float


@dataclass(frozen=True, kw_only=True)
class Toggles:
    """What a machine's netlist toggles, a frame.

    Parameters
    ----------
    network, plan, family, dataset : str
        What was simulated, and of which data set.
    frames : int
        Frames, back to back.
    spikes_compared, cycles_compared : int
        What was compared with the golden model and the cycle model; all of it is equal.
    cycles_per_frame : float
        From the first token to the last answer, over the frames.
    cells : dict[str, int]
        Cells of the machine, by type.
    flip_flops : int
        Those that take each edge of the clock.
    rows : tuple[Row, ...]
        Nets by the kind of cell that drives them.
    accesses : tuple[Row, ...]
        Accesses to memories by kind.
    toggles_each : tuple[int, ...]
        Toggles of all nets from one answer to the next.
    energy_nj : Energy | None
        Of a frame, where there are coefficients for the family.
    idle_energy_nj : Energy | None
        Of a cycle in which no frame is under way.
    """

    network: str
    plan: str
    family: str
    dataset: str
    frames: int
    spikes_compared: int
    cycles_compared: int
    cycles_per_frame: float
    cells: dict[str, int]
    flip_flops: int
    rows: tuple[Row, ...]
    accesses: tuple[Row, ...]
    toggles_each: tuple[int, ...]
    energy_nj: Energy | None = None
    idle_energy_nj: Energy | None = None


def toggles(
    network: Network,
    plan: Plan,
    images: npt.NDArray[np.uint8],
    *,
    dataset: str,
    family: Family,
    out_dir: Path,
    cache: Path = CACHE,
    progress: Callable[[int], None] | None = None,
    line: Callable[[str], None] | None = None,
) -> tuple[VerifyResult, Toggles | None]:
    """Simulate frames back to back, compare, and count; nothing is said of toggles where anything differs.

    Parameters
    ----------
    network, plan, images
        As of `sim.cosimulation.verify`.
    dataset : str
        What the images are.
    family : Family
        For which family the netlist is synthesized.
    out_dir, cache, progress, line
        As of `sim.cosimulation.verify`.

    Raises
    ------
    SimulationError : a cell is not known; and as `sim.cosimulation.verify`
    """
    family.check_memories(plan)
    out_dir.mkdir(parents=True, exist_ok=True)
    if line:
        line("synthesis")
    netlist = machine_netlist(machine_of(network, plan), cache=cache, log=out_dir / "synthesis.log", line=line, family=family)
    found = counted(netlist.module, begins="host__valid", marked="result__valid && result__ready")
    text = netlist_verilog(netlist.module, "machine", more=found.lines)
    # Two that run in one folder would read each other's counts.
    with alone(out_dir / FILE):
        result = verify(
            network, plan, images, level="netlist", family=family, out_dir=out_dir, cache=cache, verilog=text, progress=progress,
            line=line,
        )
        if result.mismatches or result.cycle_mismatches:
            return result, None
        totals = read_totals(out_dir / FILE)
    answers = [total for total in totals if total.what == ANSWER]
    first, last = [total for total in totals[totals.index(answers[-1]) :] if total.what == QUIET]
    idle_cycles, frames = last.cycles - first.cycles, len(answers)
    idle = [(b - a) / idle_cycles for a, b in zip(first.counts, last.counts, strict=True)]
    rows = _rows(found.groups, [count / frames for count in answers[-1].counts], idle)
    nets, accesses = (tuple(rows[kind] for kind in kinds if kind in rows) for kinds in (KINDS, ACCESSES))
    each = np.diff([0, *(sum(_of_nets(found.groups, total.counts)) for total in answers)])
    cycles = answers[-1].cycles / frames
    return result, Toggles(
        network=network.name,
        plan=plan.name,
        family=family.NAME,
        dataset=dataset,
        frames=frames,
        spikes_compared=result.spikes_compared,
        cycles_compared=result.cycles_compared,
        cycles_per_frame=cycles,
        cells=dict(sorted(found.cells.items())),
        flip_flops=found.flip_flops,
        rows=nets,
        accesses=accesses,
        toggles_each=tuple(int(count) for count in each),
        energy_nj=energy(
            family.NAME,
            toggles=sum(row.per_frame for row in nets),
            reached=sum(row.reached_per_frame for row in nets),
            accesses={row.kind: row.per_frame for row in accesses},
            flip_flops=found.flip_flops,
            cycles=cycles,
        ),
        idle_energy_nj=energy(
            family.NAME,
            toggles=sum(row.idle_per_cycle for row in nets),
            reached=sum(group.sinks * count for group, count in zip(found.groups, idle, strict=True)),
            accesses={row.kind: row.idle_per_cycle for row in accesses},
            flip_flops=found.flip_flops,
            cycles=1,
        ),
    )


def _of_nets(groups: Sequence[Group], counts: Sequence[int]) -> list[int]:
    return [count for group, count in zip(groups, counts, strict=True) if group.kind in KINDS]


def _rows(groups: Sequence[Group], per_frame: Sequence[float], idle: Sequence[float]) -> Mapping[str, Row]:
    """The groups of each kind together."""
    members: dict[str, list[tuple[Group, float, float]]] = defaultdict(list)
    for group, of_frame, of_idle in zip(groups, per_frame, idle, strict=True):
        members[group.kind].append((group, of_frame, of_idle))
    return {
        kind: Row(
            kind=kind,
            count=sum(group.count for group, _, _ in of),
            per_frame=sum(frame for _, frame, _ in of),
            reached_per_frame=sum(group.sinks * frame for group, frame, _ in of),
            idle_per_cycle=sum(rest for _, _, rest in of),
        )
        for kind, of in members.items()
    }
