"""What a network may ask for that no machine, or no folded one, is built for yet: refused by name, never answered wrongly."""

from model.machine.plan import PlanError
from model.machine.stages import refused_by_hardware
from model.machine.turns import joins
from model.network import Network

__all__ = ["check_machine_can"]


def check_machine_can(network: Network, *, folded: bool = False) -> None:
    """Raise `PlanError` with one line where machines and their cycle models cannot do what ``network`` asks for.

    Parameters
    ----------
    network : Network
        What is to be built.
    folded : bool
        Whether as a folded machine.
    """
    for layer in network.layers:
        if refusal := refused_by_hardware(layer, folded=folded):
            raise PlanError(f"layer {layer.name!r}: {'; '.join(refusal)}")
    if not folded:
        # What its merges would have to keep may be too much.
        joins(network)
    if folded and network.flush_events:
        raise PlanError(
            f"network {network.name!r}: no folded machine is built for flushes within a frame yet: it has one after every "
            f"{network.flush_events} input events"
        )
