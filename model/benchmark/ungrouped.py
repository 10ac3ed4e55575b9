"""A network as hardware builds it: grouped convolutions as ordinary ones, which fire the same spikes."""

from dataclasses import replace

from model.importers.float_network import ungrouped_weights
from model.network import Convolution, Layer, Network

__all__ = ["ungrouped"]


def ungrouped(network: Network) -> Network:
    """The network with weights of 0 from the channels of other groups; itself where it has no groups.

    No spike differs, only accumulations: those of the zeros are counted too.
    """
    if not any(isinstance(layer, Convolution) and layer.groups > 1 for layer in network.layers):
        return network
    return replace(network, layers=tuple(_ordinary(layer) for layer in network.layers))


def _ordinary(layer: Layer) -> Layer:
    if not isinstance(layer, Convolution) or layer.groups == 1:
        return layer
    return replace(layer, weights=ungrouped_weights(layer.weights, layer.groups), groups=1)
