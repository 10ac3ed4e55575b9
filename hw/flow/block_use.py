"""What the memory blocks of a machine hold, core by core, and how many would be free with a bit less of it."""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace

from hw.flow.area import memories, memory_luts
from model.machine.plan import Plan
from model.machine.stages import stages
from model.network import Network, Neurons

__all__ = ["BlockUse", "blocks_by_core"]


@dataclass(frozen=True, kw_only=True)
class BlockUse:
    """The memory blocks of a core, or of what is around the cores.

    Parameters
    ----------
    core : str
        Its name; ``"encoder"``, ``"link"`` and so on for what is around the cores.
    weights, states, others : int
        Blocks that hold weights, potentials and counts, and all else: queues, first states, pools.
    freed_by_weight_bit, freed_by_potential_bit : int or None
        Blocks that are free if each weight or potential of the core has a bit less; None where there are none.
    freed_by_luts, luts_instead : int
        Blocks that are free because the plan moves what they would hold into LUTs, or divides memories of weights by address, and
        the LUTs that it takes for that, estimated.
    """

    core: str
    weights: int
    states: int
    others: int
    freed_by_weight_bit: int | None
    freed_by_potential_bit: int | None
    freed_by_luts: int = 0
    luts_instead: int = 0


def blocks_by_core(network: Network, plan: Plan) -> tuple[BlockUse, ...]:
    """The memory blocks of a `hw.link.system.System`, in the order of its cores; what takes none is left out."""
    neurons = {f"core_{stage.name}" for stage in stages(network) if isinstance(stage.layers[0], Neurons)}
    used, moved = _used(network, plan), _moved(network, plan)
    less = [_used(_changed(network, narrower), plan) for narrower in (_narrow_weights, _narrow_potentials)]
    less_weights, less_potentials = less
    return tuple(
        BlockUse(
            core=part.removeprefix("core_"),
            weights=blocks["weights"],
            states=blocks["states"],
            others=blocks["others"],
            freed_by_weight_bit=blocks.total() - less_weights[part].total() if part in neurons else None,
            freed_by_potential_bit=blocks.total() - less_potentials[part].total() if part in neurons else None,
            freed_by_luts=moved[part]["blocks"],
            luts_instead=moved[part]["luts"],
        )
        for part, blocks in used.items()
        if blocks.total() or moved[part]
    )


def _used(network: Network, plan: Plan) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for memory in memories(network, plan):
        part, _, name = memory.name.partition(".")
        _, _, inside = name.partition("projection.")
        what = "weights" if inside.startswith("weights_") else "states" if inside.startswith("state_") else "others"
        found.setdefault(part, Counter())[what] += memory.blocks
    return found


def _moved(network: Network, plan: Plan) -> dict[str, Counter[str]]:
    """Of each part, the blocks that are free because of what is moved into LUTs or divided, and the LUTs of that."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for memory in memories(network, plan):
        if memory.moved or memory.further or memory.freed_blocks:
            found[memory.name.partition(".")[0]] += Counter(blocks=memory.freed_blocks, luts=round(memory_luts(memory)))
    return found


def _changed(network: Network, narrower: Callable[[Neurons], Neurons]) -> Network:
    layers = tuple(narrower(layer) if isinstance(layer, Neurons) else layer for layer in network.layers)
    return replace(network, layers=layers)


def _narrow_weights(layer: Neurons) -> Neurons:
    """The layer with half its weights in a bit less. What they are worth does not matter to memories."""
    if layer.weight_bits == 1:
        return layer
    joined = tuple(replace(each, weights=each.weights >> 1) for each in layer.joined)
    return replace(layer, weights=layer.weights >> 1, joined=joined, weight_bits=layer.weight_bits - 1)


def _narrow_potentials(layer: Neurons) -> Neurons:
    if layer.threshold_log2 <= 1:
        return layer
    bits, threshold = layer.potential_bits - 1, layer.threshold_log2 - 1
    return replace(layer, bias=layer.bias >> 1, potential_bits=bits, threshold_log2=threshold)
