"""The architectures: which machine a plan asks for."""

from hw.folded.deferred_machine import DeferredMachine
from hw.folded.machine import FoldedMachine
from hw.pipeline.machine import Machine
from model.machine.plan import Plan
from model.network import Network

__all__ = ["AnyMachine", "machine_of"]

AnyMachine = Machine | FoldedMachine


def machine_of(network: Network, plan: Plan) -> AnyMachine:
    """The machine that ``plan`` asks for."""
    if plan.folded:
        return (DeferredMachine if network.deferred else FoldedMachine)(network=network, plan=plan)
    return Machine(network=network, plan=plan)
