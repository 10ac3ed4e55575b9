"""Whether a plan suits a network, of whichever architecture."""

from model.machine.barriers import barred
from model.machine.capability import check_machine_can
from model.machine.folded_layout import Folded
from model.machine.plan import Plan, PlanError
from model.machine.stages import grouped, one_block, stages, widest_step
from model.machine.turns import joins
from model.network import INPUT, Network, Neurons
from model.support.names import shortened

__all__ = ["check_plan"]

_MOST_READERS = 60
"""Inputs that a link with barriers may have: a bit of a number stands for each."""


def check_plan(network: Network, plan: Plan) -> None:
    """Raise `PlanError` with one line where ``plan`` does not suit ``network``."""
    check_machine_can(network, folded=plan.folded)
    wanted = [layer.name for layer in network.layers if isinstance(layer, Neurons)]
    found = [core.layer for core in plan.cores]
    if network.branched and plan.inject:
        merged = next(layer.name for layer in network.layers if len(layer.sources) > 1)
        raise PlanError(
            f"plan {plan.name!r}: inject must be false where a layer has several inputs, as {merged!r} has: a frame that enters "
            "beyond the network's input does not reach them all"
        )
    if wanted != found:
        needed, given = (shortened(", ".join(names), most=500) for names in (wanted, found))
        raise PlanError(f"plan {plan.name!r}: cores must be {needed}, not {given}")
    if barred(network) and not plan.folded:
        _check_readers(network)
    pooled = {stage.layers[0].name for stage in stages(network) if len(stage.layers) > 1 and not plan.folded}
    joined = {} if plan.folded else joins(network)
    for core in plan.cores:
        channels, columns, rows = widest_step(network, core.layer)
        where = f"plan {plan.name!r}: core {core.layer!r}"
        for name, limit in (("channels", channels), ("columns", columns), ("rows", rows)):
            value = getattr(core, name)
            if value > limit:
                raise PlanError(f"{where}: {name} must be within 1..{limit}, not {value}")
        # More of a window at once than all channels of a column, and than all columns of a row, would be another order of spikes.
        for name in ("columns", "rows"):
            value = getattr(core, name)
            if value > 1 and not one_block(network, core):
                of_groups = grouped(network.layer(core.layer))
                needed = "each event reaches one block of channels" if of_groups else f"channels is {channels}"
                raise PlanError(f"{where}: {name} must be 1 unless {needed}, not {value}")
        if core.rows > 1 and core.columns != columns:
            raise PlanError(f"{where}: rows must be 1 unless columns is {columns}, not {core.rows}")
        if core.pool_fifo and core.layer not in pooled:
            raise PlanError(f"{where}: pool_fifo must be 0 in a core without a max-pool of its own, not {core.pool_fifo}")
        several = len(network.layer(core.layer).sources) > 1
        if core.join_fifo and (plan.folded or not several):
            raise PlanError(
                f"{where}: join_fifo must be 0 in a core without several inputs of a pipeline, not {core.join_fifo}"
            )
        deep = joined.get(core.layer, 0)
        if core.join_fifo < deep:
            raise PlanError(
                f"{where}: join_fifo must be at least {deep}, as many events of an input as one of "
                f"{network.fork(core.layer)!r} may cause, or the machine could hang; not {core.join_fifo}"
            )
        if not plan.folded and "single_port" in (core.state_memory, core.weight_memory):
            raise PlanError(f"{where}: memories must not be 'single_port' unless architecture is 'folded'")
    if plan.folded:
        if plan.weight_check:
            raise PlanError(
                f"plan {plan.name!r}: weight_check must be false unless architecture is 'pipeline', not true"
            )
        Folded.of(network, plan)


def _check_readers(network: Network) -> None:
    """Refuse more readers of a link with barriers than the cycle model tells apart."""
    for name in (INPUT, *(layer.name for layer in network.layers)):
        readers = sum(layer.sources.count(name) for layer in network.layers)
        if readers > _MOST_READERS:
            raise PlanError(
                f"layer {name!r}: inputs that read it must be at most {_MOST_READERS} in a pipeline of a network with merges "
                f"that fires immediate, not {readers}; convert with --firing deferred"
            )
