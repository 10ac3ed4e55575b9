"""Inputs of layers on their way from the float network to the integer one."""

import functools
import operator
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from model.arrays import Floats
from model.conversion.bounds import Bounds
from model.importers.float_network import FloatLayer, FloatNetwork, FloatProjection
from model.network import Convolution, Layer, Linear, Neurons, Transposed
from model.projection import ConvolutionProjection, LinearProjection, Projection, Shape, TransposedProjection
from model.rest import weighted_sums

__all__ = ["driven", "forget", "integer_projection", "sums_of", "with_neurons"]

T = TypeVar("T")


def sums_of(
    inputs: Sequence[FloatProjection | Projection],
    weights: Sequence[npt.NDArray[np.signedinteger]],
    counts: Mapping[str, Bounds],
) -> Bounds:
    """Bounds of what the inputs of a layer bring it together with these weights, from those of the counts of its sources."""
    each = (
        counts[taken.source].of_windows(taken.averaged).sums(values, getattr(taken, "groups", 1))
        for taken, values in zip(inputs, weights, strict=True)
    )
    return functools.reduce(operator.add, each)


def integer_projection(taken: FloatProjection, weights: npt.NDArray[Any]) -> Projection:
    """An input of the float network with integer weights."""
    if taken.kind == "linear":
        return LinearProjection(source=taken.source, weights=weights, averaged=taken.averaged)
    window: dict[str, Any] = {
        "source": taken.source,
        "weights": weights,
        "averaged": taken.averaged,
        "stride": taken.stride,
        "padding": taken.padding,
        "groups": taken.groups,
    }
    return TransposedProjection(**window, more=taken.more) if taken.kind == "transposed" else ConvolutionProjection(**window)


def with_neurons(projection: Projection, **more: Any) -> Neurons:
    """A layer of neurons whose first input is ``projection``; ``more`` are its other fields."""
    kinds: dict[str, type[Neurons]] = {kind.KIND: kind for kind in (Convolution, Linear, Transposed)}
    return kinds[projection.KIND](**vars(projection), **more)


def driven(
    floats: FloatNetwork, layer: FloatLayer, values: Mapping[str, Floats], weights: Sequence[Floats] | None = None
) -> Floats:
    """What the inputs of a layer bring it together, ``(frames, *shape)``, the bias apart.

    Parameters
    ----------
    floats : FloatNetwork
        The network.
    layer : FloatLayer
        A layer of neurons of it.
    values : Mapping
        Of each of its sources, ``(frames, *shape)``.
    weights : Sequence or None
        In the place of its inputs' own.
    """
    own = [taken.weights for taken in layer.inputs] if weights is None else weights
    return functools.reduce(
        np.add,
        (
            _sums(taken, each, values[taken.source], floats.shape_of(taken.source), floats.shape_of(layer.name))
            for taken, each in zip(layer.inputs, own, strict=True)
            if each is not None
        ),
    )


def _sums(taken: FloatProjection, weights: Floats, values: Floats, shape: Shape, output: Shape) -> Floats:
    geometry = integer_projection(taken, np.zeros(weights.shape, np.int32))
    return weighted_sums(geometry, weights, values, shape, output)


def forget(values: MutableMapping[str, T], layers: Iterable[FloatLayer | Layer], done: str) -> None:
    """Leave out of ``values`` what no layer after ``done`` takes.

    Parameters
    ----------
    values : MutableMapping
        By name of a layer, or of the input.
    layers : Iterable
        All layers of the network.
    done : str
        The last one for which they were needed.
    """
    names = [layer.name for layer in layers]
    later = list(layers)[names.index(done) + 1 :]
    wanted = {taken.source for layer in later for taken in layer.inputs}
    for name in [name for name in values if name not in wanted and name != done]:
        del values[name]
