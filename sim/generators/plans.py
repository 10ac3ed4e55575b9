"""Random plans: any parallelism, memories and FIFOs that suit a network."""

import random
from dataclasses import replace
from typing import Any

from model.machine.folded_layout import SINGLE_BITS
from model.machine.named_plans import choices, named_plan
from model.machine.plan import CorePlan, Plan
from model.machine.stages import grouped, stages
from model.machine.stored_state import StoredWidths
from model.machine.turns import joins
from model.network import Network, Neurons

__all__ = ["random_folded_plan", "random_pipeline_plan"]


def random_pipeline_plan(network: Network, seed: int) -> Plan:
    """Any parallelism that suits the network, and any depth of FIFOs."""
    chance, queued = random.Random(seed), joins(network)
    cores = []
    for core in named_plan(network, "fast").cores:
        channels, columns, rows = core.channels, core.columns, core.rows
        level = chance.randrange(3)
        cores.append(
            CorePlan(
                layer=core.layer,
                channels=channels if level else chance.randint(1, channels),
                columns=(columns if level == 2 else chance.randint(1, columns)) if level else 1,
                rows=chance.randint(1, rows) if level == 2 else 1,
                group_fifo=chance.choice([8, 9, 16]),
                event_fifo=chance.choice([2, 3, 16]),
                join_fifo=queued.get(core.layer, 0),
                generation_bits=chance.choice([1, 2, 4]),
            )
        )
    # Drawn apart, so that what else is drawn of a seed stays what it was.
    memories = random.Random(f"memories of {seed}")
    cores = [
        replace(
            core,
            state_memory=memories.choice(["auto", "block", "distributed"]),
            tag_memory=memories.choice(["auto", "distributed"]),
            weight_memory=memories.choice(["auto", "block", "mixed", "distributed"]),
        )
        for core in cores
    ]
    # Drawn last of all, so that the other choices of a seed stay what they were.
    cores = [replace(core, weight_memory="split") if memories.random() < 0.2 else core for core in cores]
    cores = [_of_groups(network, core, memories) for core in cores]
    pooled = [stage.layers[0].name for stage in stages(network) if len(stage.layers) > 1]
    cores = [replace(core, pool_fifo=chance.choice([0, 8, 11, 64])) if core.layer in pooled else core for core in cores]
    inject, watch = chance.random() < 0.7, chance.random() < 0.7
    return Plan(
        name=f"random{seed}",
        cores=tuple(cores),
        inject=inject and not network.branched,
        watch=watch,
        weight_check=random.Random(f"weight check of {seed}").random() < 0.3,
    )


def _of_groups(network: Network, core: CorePlan, chance: random.Random) -> CorePlan:
    """A core, of a layer of several groups often with any parallelism that is of use: the fastest seldom has several columns."""
    if not grouped(network.layer(core.layer)) or chance.random() < 0.5:
        return core
    chosen = chance.choice(choices(network, core.layer))
    return replace(core, channels=chosen.channels, columns=chosen.columns, rows=chosen.rows)


def random_folded_plan(network: Network, seed: int) -> Plan:
    """Any memories, lanes and tags."""
    chance = random.Random(seed)
    lanes = chance.choice([1, 2, 4, 8])
    cores = []
    neurons = [layer for layer in network.layers if isinstance(layer, Neurons)]
    for layer in neurons:
        channels = min(lanes, layer.channels)
        state, weight = chance.choice([("block", "block"), ("block", "single_port"), *[("single_port", "block")] * 2])
        if state == "single_port":
            # As many of the widest states of any layer as a word holds, or fewer.
            bits = StoredWidths.of(neurons).bits
            channels = min(channels, chance.choice([n for n in (1, 2, 4, 8) if n * bits <= SINGLE_BITS]))
        memories: dict[str, Any] = {"state_memory": state, "weight_memory": weight, "generation_bits": chance.choice([1, 2, 4])}
        cores.append(CorePlan(layer=layer.name, channels=channels, **memories))
    bits = cores[0].generation_bits
    return Plan(
        name=f"random{seed}",
        cores=tuple(replace(core, generation_bits=bits) for core in cores),
        architecture="folded",
        inject=False,
        watch=chance.random() < 0.7,
    )
