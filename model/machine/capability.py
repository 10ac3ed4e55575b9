"""What a network may ask for that a machine is not built for yet: refused by name, never answered wrongly."""

from collections.abc import Iterator

from model.machine.plan import ARCHITECTURES, PlanError
from model.machine.stages import refused_by_hardware
from model.network import Network, Neurons

__all__ = ["check_machine_can"]


def check_machine_can(network: Network, architecture: str | None = None) -> None:
    """Raise `PlanError` with one line where machines and their cycle models cannot do what ``network`` asks for.

    Parameters
    ----------
    network : Network
        The network.
    architecture : str | None
        Of which machine, one of `model.machine.plan.ARCHITECTURES`; where none is given, there must be one that can.
    """
    for layer in network.layers:
        if refusal := refused_by_hardware(layer):
            raise PlanError(f"layer {layer.name!r}: {'; '.join(refusal)}")
    asked = ARCHITECTURES if architecture is None else (architecture,)
    refused = {name: what for name in asked if (what := next(_not_built(network, name), None))}
    if len(refused) == len(asked):
        name, what = next(iter(refused.items()))
        raise PlanError(f"network {network.name!r}: no {_told(network, name, what)} is built for {what}")


def _told(network: Network, architecture: str, what: str) -> str:
    """How a machine that cannot do it is called: by its architecture, where another one can."""
    if all(what in _not_built(network, other) for other in ARCHITECTURES):
        return "machine"
    return f"{architecture} machine"


def _not_built(network: Network, architecture: str) -> Iterator[str]:
    if network.deferred and network.flush_events:
        yield f"flushes within a frame yet: it has one after every {network.flush_events} input events"
    for layer in network.layers:
        # A flush fires as many spikes as there are, whatever a burst is, and ends where the activation does.
        if isinstance(layer, Neurons) and layer.burst != 1 and not network.deferred and architecture == "folded":
            yield f"bursts yet: layer {layer.name!r} has burst {layer.burst}"
