"""The plan of a folded machine: in which memories its states and weights lie, so that it fits an iCE40 UP5K and is fast."""

from collections.abc import Iterator
from itertools import product

import numpy as np

from model.machine.blocks import UP5K_BLOCKS
from model.machine.capability import check_machine_can
from model.machine.folded_layout import FOLDED_LANES, SINGLE_BITS, Fixed, Folded, FoldedLayer, TooManyWordsError
from model.machine.plan import CorePlan, Plan, PlanError
from model.machine.stored_state import folded_state_bits
from model.network import Network, Neurons
from model.support.errors import DoesNotFitError

__all__ = ["folded_plan"]

_MOST_PLACED = 7
"""Layers whose memories are tried in every way; the others, the smallest, stay in block RAM."""


def folded_plan(network: Network, *, lanes: int = 8, blocks: int = UP5K_BLOCKS, watch: bool = True) -> Plan:
    """The fastest plan of a folded machine whose memories fit an iCE40 UP5K; of equally fast ones that with the fewest blocks.

    Parameters
    ----------
    network : Network
        Calibrated, so that its events are known.
    lanes : int
        Neurons updated at once, at most.
    blocks : int
        Block RAMs that there are, for the machine and its link.

    Raises
    ------
    PlanError
        It is no network for a folded machine.
    DoesNotFitError
        Its memories fit in no way.
    """
    check_machine_can(network, folded=True)
    neurons = [layer for layer in network.layers if isinstance(layer, Neurons)]
    widest = max(layer.channels for layer in neurons)
    best: tuple[tuple[float, int], Plan] | None = None
    fewest, trouble, fixed, cycles = 0, "", Fixed.of(network), _Cycles(deferred=network.deferred)
    tried = [n for n in FOLDED_LANES if n <= min(lanes, widest)]
    for plan in (plan for n in reversed(tried) for plan in _candidates(network, neurons, n, watch)):
        try:
            found = Folded.of(network, plan, fixed=fixed)
        except TooManyWordsError:
            continue
        except PlanError as error:
            trouble = trouble or str(error)
            continue
        needs = found.blocks + found.link_blocks
        fewest = min(fewest or needs, needs)
        if needs > blocks:
            continue
        score = (sum(map(cycles.mean, found.layers)), found.blocks)
        if best is None or score < best[0]:
            best = score, plan
    if best is not None:
        return best[1]
    if fewest:
        raise DoesNotFitError(
            f"does not fit an iCE40 UP5K as a folded machine: short of {fewest - blocks} block RAMs "
            f"(needs {fewest}, has {blocks})"
        )
    raise PlanError(trouble)


def _candidates(network: Network, neurons: list[Neurons], lanes: int, watch: bool) -> Iterator[Plan]:
    choices = (("block", "block"), ("block", "single_port"), ("single_port", "block"))
    sizes = {layer.name: max(layer.weights.size, network.shape_of(layer.name).size) for layer in neurons}
    largest = sorted(sizes, key=lambda name: -sizes[name])[:_MOST_PLACED]
    for memories in product(*(choices if layer.name in largest else choices[:1] for layer in neurons)):
        cores = tuple(
            CorePlan(
                layer=layer.name,
                channels=min(_lanes_of(layer, lanes, state, deferred=network.deferred), network.shape_of(layer.name).channels),
                state_memory=state,
                weight_memory=weight,
            )
            for layer, (state, weight) in zip(neurons, memories, strict=True)
        )
        yield Plan(name="folded", cores=cores, architecture="folded", inject=False, watch=watch, states=True)


def _lanes_of(layer: Neurons, lanes: int, state_memory: str, *, deferred: bool) -> int:
    """Lanes that a layer can use: as many states as a word of the memory with one port holds, where they are there."""
    bits = folded_state_bits([layer], deferred=deferred)
    return max((n for n in FOLDED_LANES if n <= lanes and (state_memory != "single_port" or n * bits <= SINGLE_BITS)), default=1)


class _Cycles:
    """Cycles that layers take; found once for each layer and number of lanes."""

    def __init__(self, *, deferred: bool) -> None:
        self._deferred = deferred
        self._found: dict[tuple[str, int, int], float] = {}

    def mean(self, layer: FoldedLayer) -> float:
        """Cycles that the layer's blocks take of a mean frame, those of a flush included."""
        key = layer.layer.name, layer.lanes, layer.step_cycles
        if key not in self._found:
            reached = [[np.mean([len(pairs) for pairs in each.axis(axis)]) for axis in (0, 1)] for each in layer.inputs]
            positions = np.mean([rows * columns for rows, columns in reached])
            cycles = float(max(1.0, layer.layer.mean_events) * positions * layer.blocks * layer.step_cycles)
            self._found[key] = cycles + layer.flush_cycles if self._deferred else cycles
        return self._found[key]
