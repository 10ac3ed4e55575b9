"""The layers of branches that meet, each once.

What folds back into a layer changes it in the branch in which it does, and in no other. So where branches meet, the layer that
they have in common may have two forms, one with a ReLU, say, and one without: it is then kept twice, under two names.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from model.arrays import Floats
from model.importers.float_network import FloatLayer, FloatProjection
from model.importers.graph import OnnxGraph

__all__ = ["united"]


def united(
    graph: OnnxGraph, branches: Sequence[tuple[FloatLayer, ...]]
) -> tuple[tuple[FloatLayer, ...], list[dict[str, str]]]:
    """The layers of all branches, each after its sources.

    Parameters
    ----------
    graph : OnnxGraph
        Gives names to layers of another form.
    branches : sequence of tuple of FloatLayer
        Of each branch a layer, last, and all that it depends on.

    Returns
    -------
    tuple of FloatLayer, list of dict of (str, str)
        The layers, and of each branch the names that its layers have among them, where these are others.
    """
    if len(branches) == 1:
        return branches[0], [{}]
    # What they have in common mostly comes first.
    same = itertools.takewhile(lambda layers: all(layer is layers[0] for layer in layers), zip(*branches, strict=False))
    found = {layer.name: layer for layer, *_ in same}
    common = len(found)
    forms: dict[str, list[str]] = {}
    for name in found if any(len(branch) > common for branch in branches[1:]) else ():
        forms.setdefault(graph.forms.get(name, name), []).append(name)
    renamed: list[dict[str, str]] = []
    for branch in branches:
        names: dict[str, str] = {}
        for own in branch[common:]:
            layer = _with_sources(own, names)
            if found.get(layer.name) is layer:
                continue
            known = forms.setdefault(graph.forms.get(layer.name, layer.name), [])
            new = next((other for other in known if _same(found[other], layer)), None)
            if new is None:
                new = graph.another_form(layer.name) if layer.name in found else layer.name
                found[new] = layer if new == layer.name else replace(layer, name=new)
                known.append(new)
            if new != own.name:
                names[own.name] = new
        renamed.append(names)
    return tuple(found.values()), renamed


def _with_sources(layer: FloatLayer, names: dict[str, str]) -> FloatLayer:
    """The layer with other names of its sources."""
    if not any(taken.source in names for taken in layer.inputs):
        return layer
    joined = tuple(replace(taken, source=names.get(taken.source, taken.source)) for taken in layer.joined)
    return replace(layer, source=names.get(layer.source, layer.source), joined=joined)


def _same(one: FloatLayer, other: FloatLayer) -> bool:
    """Whether both give the same."""
    if one is other:
        return True
    if (one.relu, one.end, one.quantizer) != (other.relu, other.end, other.quantizer):
        return False
    if len(one.joined) != len(other.joined) or not _equal(one.bias, other.bias):
        return False
    return all(_same_input(*both) for both in zip(one.inputs, other.inputs, strict=True))


def _same_input(one: FloatProjection, other: FloatProjection) -> bool:
    geometry = [(p.kind, p.source, p.window, p.stride, p.padding, p.groups, p.averaged, p.more) for p in (one, other)]
    return geometry[0] == geometry[1] and _equal(one.weights, other.weights)


def _equal(one: Floats | None, other: Floats | None) -> bool:
    if one is None or other is None:
        return one is other
    return one is other or np.array_equal(one, other)
