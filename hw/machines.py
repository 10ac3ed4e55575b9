"""The architectures: which machine a plan asks for."""

from hw.folded.machine import FoldedMachine
from hw.pipeline.machine import Machine
from model.machine.plan import Plan
from model.network import Network

__all__ = ["AnyMachine", "machine_of"]

AnyMachine = Machine | FoldedMachine


def machine_of(network: Network, plan: Plan) -> AnyMachine:
    """The machine that ``plan`` asks for."""
    return (FoldedMachine if plan.folded else Machine)(network=network, plan=plan)
