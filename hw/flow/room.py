"""What a machine may take of a board, and what its cores and queues take of that, one by one.

Who chooses lanes, memories and queues together has to know what each core takes whatever the others are: the area model is a sum
over the cores.
"""

from dataclasses import replace
from itertools import product

from hw.aer import AddressEvent
from hw.flow.area import core_area, estimate_area
from hw.parts.memory import BLOCK, BuiltMemory
from model.machine.plan import CorePlan, Plan
from model.machine.queues import Taken
from model.machine.stages import stages
from model.network import Network

__all__ = ["BoardRoom"]

_MEMORIES = {
    "tag_memory": ("distributed",),
    "weight_memory": ("split", "mixed", "distributed"),
    "state_memory": ("distributed",),
}
"""What may hold a core's memories besides what they say of themselves."""


class BoardRoom:
    """Room for machines of a network.

    Parameters
    ----------
    network : Network
        What plans are of.
    ram_blocks : int
        Memory blocks that there are.
    luts : int
        LUTs that a machine may take.
    lanes : int, optional
        Lanes that it may have; any number where it is not given.
    """

    def __init__(self, network: Network, *, ram_blocks: int, luts: int, lanes: int | None = None) -> None:
        self._network = network
        self._ram_blocks = ram_blocks
        self._luts = luts
        self._lanes = lanes
        self._stages = {stage.layers[0].name: stage for stage in stages(network)}
        self._variants: dict[CorePlan, list[tuple[Taken, CorePlan]]] = {}

    @property
    def ram_blocks(self) -> int:
        """Memory blocks that there are."""
        return self._ram_blocks

    @property
    def luts(self) -> int:
        """LUTs that a machine may take."""
        return self._luts

    @property
    def lanes(self) -> int | None:
        """Lanes that it may have; None for any number."""
        return self._lanes

    def around(self, plan: Plan) -> Taken:
        """What is taken by all but the cores of neurons."""
        area = estimate_area(self._network, plan)
        cores = [self._of(plan, core) for core in plan.cores]
        return Taken(area.ram_blocks - sum(core.blocks for core in cores), area.luts - sum(core.luts for core in cores))

    def variants(self, plan: Plan, core: CorePlan) -> list[tuple[Taken, CorePlan]]:
        """A core of ``plan`` with its memories in blocks or in LUTs, each with what it takes: those of which no other takes less
        of both, from the fewest blocks on."""
        if core not in self._variants:
            plain = self._of(plan, core)
            moves = []
            for name, memories in _MEMORIES.items():
                # A memory takes what it takes, whatever the others are made of.
                of_name: list[tuple[dict[str, str], int, float]] = [({}, 0, 0.0)]
                for memory in memories:
                    moved = self._of(plan, replace(core, **{name: memory}))  # type: ignore[arg-type]
                    if moved.blocks < plain.blocks:
                        of_name.append(({name: memory}, moved.blocks - plain.blocks, moved.luts - plain.luts))
                moves.append(of_name)
            found = []
            for picked in product(*moves):
                changes = {name: memory for change, _, _ in picked for name, memory in change.items()}
                blocks = plain.blocks + sum(blocks for _, blocks, _ in picked)
                taken = Taken(blocks, plain.luts + sum(luts for *_, luts in picked))
                found.append((taken, replace(core, **changes)))  # type: ignore[arg-type]
            found.sort(key=lambda pair: pair[0])
            kept: list[tuple[Taken, CorePlan]] = []
            for taken, variant in found:
                if not kept or taken.luts < kept[-1][0].luts:
                    kept.append((taken, variant))
            self._variants[core] = kept
        return self._variants[core]

    def queue_blocks(self, source: str, depth: int) -> int:
        """Memory blocks of a queue of that many events of ``source``, in a network without barriers."""
        width = AddressEvent(self._network.shape_of(source)).size
        return BuiltMemory(name="words", width=width, depth=depth, kind=BLOCK).blocks

    def _of(self, plan: Plan, core: CorePlan) -> Taken:
        cores = tuple(core if other.layer == core.layer else other for other in plan.cores)
        luts, blocks = core_area(self._network, replace(plan, cores=cores), self._stages[core.layer])
        return Taken(blocks, luts)
