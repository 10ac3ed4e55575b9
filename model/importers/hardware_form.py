"""A float network as hardware has it: what no machine builds, written in what machines do."""

from dataclasses import replace

from model.importers.float_network import ConversionError, FloatLayer, FloatNetwork, expand_groups, pool_of
from model.importers.folding import spread_averages
from model.importers.limits import MOST_WEIGHTS
from model.machine.stages import refused_by_hardware
from model.network import Shape

__all__ = ["hardware_form"]


def hardware_form(network: FloatNetwork) -> FloatNetwork:
    """The network with all groups expanded, and averages spread over the weights.

    Raises
    ------
    ConversionError : one line that names the layer that hardware does not build, why, and what could be done
    """
    return replace(network, layers=tuple(_built(network, layer, shape) for layer, shape, _ in network.walk()))


def _built(network: FloatNetwork, layer: FloatLayer, shape: Shape) -> FloatLayer:
    if layer.kind == "maxpool" and (refusal := refused_by_hardware(pool_of(layer))):
        raise ConversionError(f"{network.path}: layer {layer.name!r}: {'; '.join(refusal)}")
    expanded = expand_groups(layer)
    if layer.averaged == (1, 1):
        return expanded
    assert expanded.weights is not None
    size = expanded.weights.size * layer.averaged[0] * layer.averaged[1]
    found = spread_averages(expanded, shape) if size <= MOST_WEIGHTS else None
    if found is None:
        why = f"takes averages of {layer.averaged[0]}x{layer.averaged[1]} positions, which do not spread over its weights"
        raise ConversionError(f"{network.path}: layer {layer.name!r}: {why}; use MaxPool, or average less")
    return found
