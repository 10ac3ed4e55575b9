"""What a network may ask for that no machine is built for yet: refused by name, never answered wrongly."""

from collections.abc import Iterator

from model.machine.plan import PlanError
from model.machine.stages import refused_by_hardware
from model.network import Network, Neurons

__all__ = ["check_machine_can"]


def check_machine_can(network: Network) -> None:
    """Raise `PlanError` with one line where machines and their cycle models cannot do what ``network`` asks for."""
    for layer in network.layers:
        if refusal := refused_by_hardware(layer):
            raise PlanError(f"layer {layer.name!r}: {'; '.join(refusal)}")
    for what in _not_built(network):
        raise PlanError(f"network {network.name!r}: no machine is built for {what} yet")


def _not_built(network: Network) -> Iterator[str]:
    if network.deferred:
        yield "deferred firing"
    if network.rest:
        yield "frames that start from the state at rest"
    for layer in network.layers:
        if isinstance(layer, Neurons):
            if layer.burst != 1:
                yield f"burst {layer.burst} of layer {layer.name!r}, only for 1"
            if layer.count_max is not None:
                yield f"the end of the activation of layer {layer.name!r} (count_max {layer.count_max})"
            if layer.bias.ndim > 1:
                yield f"the bias by position of layer {layer.name!r}"
