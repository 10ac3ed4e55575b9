"""Plans by name, and how their parallelism is chosen."""

import math
from dataclasses import replace

from model.machine.capability import check_machine_can
from model.machine.checks import check_plan
from model.machine.folded_plan import folded_plan
from model.machine.plan import CorePlan, Plan, PlanError
from model.machine.stages import blocks_visited, fan_outs, flush_steps, grouped, one_block, pooled_at_flushes, widest_step
from model.machine.turns import joins
from model.network import Network, Neurons

__all__ = [
    "DEFAULT_LANES",
    "DEFERRED_POOL_FIFO",
    "FOLDED",
    "NAMED_PLANS",
    "choices",
    "is_folded",
    "load_plan",
    "named_plan",
    "steps_per_event",
]

NAMED_PLANS = ("minimal", "default", "fast")
"""Plans of a pipeline that every network has."""

FOLDED = "folded"
"""The plan of a folded machine, which not every network has."""

DEFAULT_LANES = 150
"""Lanes that the ``default`` plan may spend."""

DEFERRED_POOL_FIFO = 64
"""Depth of the FIFO after a max-pool of a deferred network: what it sends at a flush waits there while the next frame comes."""


def steps_per_event(network: Network, core: CorePlan) -> float:
    """Mean cycles a core takes for an event, over all positions of an input, windows clipped; the mean of all its inputs."""
    steps = []
    for (rows, columns), visited in zip(fan_outs(network, core.layer), blocks_visited(network, core), strict=True):
        blocks = sum(map(len, visited)) / len(visited)
        row_steps = sum(math.ceil(n / core.rows) for n in rows) / len(rows)
        column_steps = sum(math.ceil(n / core.columns) for n in columns) / len(columns)
        steps.append(max(1.0, row_steps * column_steps * blocks))
    return sum(steps) / len(steps)


def choices(network: Network, name: str) -> list[CorePlan]:
    """Every useful parallelism of the core of layer ``name``, from one lane to the whole window a cycle.

    Where events reach the channels of a group only, those that save no cycle over one of fewer lanes are none.
    """
    channels, columns, rows = widest_step(network, name)
    blocks = sorted({math.ceil(channels / n) for n in range(1, channels + 1)})
    least = CorePlan(layer=name, join_fifo=joins(network).get(name, 0))
    found = [replace(least, channels=math.ceil(channels / math.ceil(channels / n))) for n in blocks]
    if grouped(network.layer(name)):
        at_once = [core for core in found if one_block(network, core)]
        found += [replace(core, columns=n) for core in at_once for n in range(2, columns + 1)]
        found += [replace(core, columns=columns, rows=n) for core in at_once for n in range(2, rows + 1)]
        return _worthwhile(network, found)
    found += [replace(least, channels=channels, columns=n) for n in range(2, columns + 1)]
    found += [replace(least, channels=channels, columns=columns, rows=n) for n in range(2, rows + 1)]
    unique = {core.lanes: core for core in reversed(found)}
    return [unique[lanes] for lanes in sorted(unique)]


def _worthwhile(network: Network, options: list[CorePlan]) -> list[CorePlan]:
    """From the fewest lanes on, those that take fewer cycles than all before them: for an event, or for a flush."""
    costs = {core: (steps_per_event(network, core), flush_steps(network, network.layer(core.layer), core)) for core in options}
    kept: list[CorePlan] = []
    for core in sorted(options, key=lambda core: (core.lanes, costs[core])):
        steps, flush = costs[core]
        if not any(costs[other][0] <= steps and costs[other][1] <= flush for other in kept):
            kept.append(core)
    return kept


def _balanced(network: Network, names: list[str], lanes: int) -> list[CorePlan]:
    """Give the slowest core more lanes, again and again, while ``lanes`` suffice."""
    options = {name: choices(network, name) for name in names}
    chosen = dict.fromkeys(names, 0)
    # Where events visit the channels of a group only, a flush may take longer than they do.
    flushes = any(grouped(layer) for layer in network.layers)

    def cycles(name: str, index: int) -> float:
        layer, core = network.layer(name), options[name][index]
        flush = flush_steps(network, layer, core) if flushes else 0
        return max(1.0, layer.mean_events) * steps_per_event(network, core) + flush

    while True:
        slowest = max(names, key=lambda name: cycles(name, chosen[name]))
        faster = [
            index
            for index in range(chosen[slowest] + 1, len(options[slowest]))
            if cycles(slowest, index) < cycles(slowest, chosen[slowest])
        ]
        spent = sum(options[name][index].lanes for name, index in chosen.items() if name != slowest)
        if not faster or spent + options[slowest][faster[0]].lanes > lanes:
            return [options[name][chosen[name]] for name in names]
        chosen[slowest] = faster[0]


def named_plan(network: Network, name: str) -> Plan:
    """A plan by name.

    ``minimal``: one lane per core, and states that the host can read. ``default``: 150 lanes, given to the slowest core one
    after the other, by each layer's events seen in calibration. ``fast``: every core takes one event per cycle. In these two,
    FIFOs after the max-pools of a deferred network hold `DEFERRED_POOL_FIFO` groups. Where a layer has several inputs, the host
    cannot inject events beyond the network's input. ``folded``: one core for all layers, as
    `model.machine.folded_plan.folded_plan` lays it out for an iCE40 UP5K; its states can be read.
    """
    if name == FOLDED:
        return folded_plan(network)
    check_machine_can(network)
    names = [layer.name for layer in network.layers if isinstance(layer, Neurons)]
    if name == "minimal":
        cores = [CorePlan(layer=layer, join_fifo=joins(network).get(layer, 0)) for layer in names]
    elif name == "default":
        cores = _balanced(network, names, DEFAULT_LANES)
    elif name == "fast":
        cores = [choices(network, layer)[-1] for layer in names]
    else:
        raise PlanError(f"plan must be a file or one of {', '.join((*NAMED_PLANS, FOLDED))}, not {name!r}")
    if name != "minimal":
        pooled = pooled_at_flushes(network)
        cores = [replace(core, pool_fifo=DEFERRED_POOL_FIFO) if core.layer in pooled else core for core in cores]
    plan = Plan(name=name, cores=tuple(cores), inject=not network.branched, states=name == "minimal")
    check_plan(network, plan)
    return plan


def is_folded(text: str) -> bool:
    """Whether a plan, by name or from a ``.json`` file, is of a folded machine."""
    return Plan.load(text).folded if text.endswith(".json") else text == FOLDED


def load_plan(network: Network, text: str) -> Plan:
    """A plan by name, or from a ``.json`` file, checked against ``network``."""
    plan = Plan.load(text) if text.endswith(".json") else named_plan(network, text)
    check_plan(network, plan)
    return plan
