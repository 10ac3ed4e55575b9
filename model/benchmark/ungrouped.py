"""A network as folded machines walk it: grouped convolutions as ordinary ones, which fire the same spikes."""

from dataclasses import replace
from typing import TypeVar

from model.importers.float_network import ungrouped_weights
from model.network import Layer, Network, Neurons
from model.projection import ConvolutionProjection, Projection

__all__ = ["ungrouped"]

_Input = TypeVar("_Input", bound=Projection)


def ungrouped(network: Network) -> Network:
    """The network with weights of 0 from the channels of other groups; itself where it has no groups.

    No spike differs, only accumulations: those of the zeros are counted too.
    """
    if not any(_grouped(each) for layer in network.layers for each in layer.inputs):
        return network
    return replace(network, layers=tuple(_ordinary(layer) for layer in network.layers))


def _grouped(each: Layer | Projection) -> bool:
    return isinstance(each, ConvolutionProjection) and each.groups > 1


def _ordinary(layer: Layer) -> Layer:
    if not isinstance(layer, Neurons):
        return layer
    return replace(_ungrouped(layer), joined=tuple(_ungrouped(each) for each in layer.joined))


def _ungrouped(each: _Input) -> _Input:
    if not isinstance(each, ConvolutionProjection) or each.groups == 1:
        return each
    return replace(each, weights=ungrouped_weights(each.weights, each.groups), groups=1)
