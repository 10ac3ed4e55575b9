"""The architectures: which machine a plan asks for."""

from hw.folded import FoldedMachine
from hw.machine import Machine
from model.network import Network
from model.plan import Plan

__all__ = ["AnyMachine", "machine_of"]

AnyMachine = Machine | FoldedMachine


def machine_of(network: Network, plan: Plan) -> AnyMachine:
    """The machine that ``plan`` asks for."""
    return (FoldedMachine if plan.folded else Machine)(network=network, plan=plan)
