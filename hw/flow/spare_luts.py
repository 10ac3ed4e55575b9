"""Memories moved from blocks into LUTs, where a plan is short of the ones and others are spare.

What is small takes a whole block all the same: the tags of a bank, what is left of the width of its weights, a bank that is wide
and not deep. As LUTs these cost little; what fills its blocks costs a thousand LUTs or more for each. Weights whose words are not
as many as a power of two leave a part of their blocks empty; divided by address they do not, and LUTs select what is read.

So what frees the most blocks for its LUTs is moved or divided first. Cycles stay what they are: whatever holds a memory, it is
read and written in the same cycles.
"""

from dataclasses import dataclass, replace

from hw.flow.area import estimate_area, memory_luts
from hw.pipeline.core import LayerCore
from model.machine.plan import CorePlan, Plan
from model.machine.stages import stages
from model.network import Network, Neurons

__all__ = ["SpareLuts"]

_MOVES = (
    ("tag_memory", "distributed"),
    ("weight_memory", "split"),
    ("weight_memory", "mixed"),
    ("weight_memory", "distributed"),
    ("state_memory", "distributed"),
)
"""What can be moved of a core: a field of its plan, and what it says then."""

_LEAST_LUTS = 1.0
"""What a move takes at the least."""


@dataclass(frozen=True)
class _Move:
    """One memory of one core, moved.

    Parameters
    ----------
    place : int
        Number of the core in its plan.
    core : CorePlan
        The core with it moved.
    blocks : int
        Blocks that this frees.
    luts : float
        LUTs that it takes, estimated; at least `_LEAST_LUTS`.
    """

    place: int
    core: CorePlan
    blocks: int
    luts: float


class SpareLuts:
    """Makes plans of a network need no more blocks than there are, if there are LUTs for it.

    Parameters
    ----------
    network : Network
        What plans are of.
    ram_blocks : int
        Memory blocks that there are.
    luts : int
        LUTs that a machine may take, that which is moved included.
    """

    def __init__(self, network: Network, *, ram_blocks: int, luts: int) -> None:
        self._network = network
        self._ram_blocks = ram_blocks
        self._luts = luts
        self._stages = {stage.layers[0].name: stage for stage in stages(network) if isinstance(stage.layers[0], Neurons)}
        self._taken: dict[CorePlan, tuple[int, float]] = {}

    def __call__(self, plan: Plan) -> Plan:
        """The plan with memories moved, one after the other, until it fits; as it is where it does, or none of this helps.

        If one move is enough, that of the fewest LUTs; if not, that of the fewest LUTs for each block that it frees.
        """
        area = estimate_area(self._network, plan)
        over, spare, found = area.ram_blocks - self._ram_blocks, float(self._luts - area.luts), plan
        while over > 0:
            if spare < _LEAST_LUTS:
                return plan
            moves = [move for move in self._moves(found) if move.luts <= spare]
            if not moves:
                return plan
            enough = [move for move in moves if move.blocks >= over]
            by_block = min(moves, key=lambda move: move.luts / move.blocks)
            move = min(enough, key=lambda move: move.luts, default=by_block)
            found = replace(found, cores=(*found.cores[: move.place], move.core, *found.cores[move.place + 1 :]))
            over, spare = over - move.blocks, spare - move.luts
        return found

    def _moves(self, plan: Plan) -> list[_Move]:
        """The moves that free a block or more."""
        found = []
        for place, core in enumerate(plan.cores):
            blocks, luts = self._of(plan, core)
            for name, memory in _MOVES:
                if getattr(core, name) in (memory, "distributed"):
                    continue
                moved = replace(core, **{name: memory})  # type: ignore[arg-type]
                blocks_then, luts_then = self._of(plan, moved)
                if blocks_then < blocks:
                    found.append(_Move(place, moved, blocks - blocks_then, max(_LEAST_LUTS, luts_then - luts)))
        return found

    def _of(self, plan: Plan, core: CorePlan) -> tuple[int, float]:
        """Blocks of a core, and the LUTs of its memories."""
        if core not in self._taken:
            cores = tuple(core if other.layer == core.layer else other for other in plan.cores)
            built = LayerCore(network=self._network, stage=self._stages[core.layer], plan=replace(plan, cores=cores)).memories
            self._taken[core] = sum(memory.blocks for memory in built), sum(map(memory_luts, built))
        return self._taken[core]
