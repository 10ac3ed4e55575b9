"""A float network in the form of folded machines: what they do not walk, written in what they do."""

from dataclasses import replace

from model.importers.float_network import FloatNetwork, expand_groups

__all__ = ["without_groups"]


def without_groups(network: FloatNetwork) -> FloatNetwork:
    """The network with its grouped convolutions as ordinary ones."""
    return replace(network, layers=tuple(map(expand_groups, network.layers)))
