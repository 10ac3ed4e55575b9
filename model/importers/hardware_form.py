"""A float network as hardware has it: what no machine builds, written in what machines do."""

from dataclasses import replace

from model.importers.float_network import ConversionError, FloatLayer, FloatNetwork, expand_groups, pool_of
from model.machine.stages import refused_by_hardware

__all__ = ["hardware_form"]


def hardware_form(network: FloatNetwork) -> FloatNetwork:
    """The network with all groups expanded.

    Raises
    ------
    ConversionError
        One line that names the layer that hardware does not build, why, and what could be done.
    """
    return replace(network, layers=tuple(_built(network, layer) for layer in network.layers))


def _built(network: FloatNetwork, layer: FloatLayer) -> FloatLayer:
    if layer.kind == "maxpool" and (refusal := refused_by_hardware(pool_of(layer))):
        raise ConversionError(f"{network.path}: layer {layer.name!r}: {'; '.join(refusal)}")
    return expand_groups(layer)
