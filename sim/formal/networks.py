"""Networks for parts that take one: as small as can be."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from model.machine.folded_layout import Folded
from model.machine.plan import CorePlan, Plan
from model.network import INPUT, Convolution, Linear, Network, Shape

__all__ = ["folded_plan", "small_folded", "small_network", "small_tree"]


def small_network(*, shape: tuple[int, int, int] = (1, 2, 2), **options: Any) -> Network:
    """A network of one layer of two neurons."""
    size = Shape(*shape).size
    layer = Linear(
        name="fc",
        source="input",
        weights=np.ones((2, size), int),
        bias=np.zeros(2, int),
        threshold_log2=4,
        activation="identity",
    )
    return Network(name="small", input_shape=Shape(*shape), layers=(layer,), **options)


def small_folded(shape: Shape, **options: Any) -> Folded:
    """A folded machine, as of `folded_plan`."""
    return Folded.of(*folded_plan(shape, **options))


def folded_plan(
    shape: Shape,
    *,
    lanes: int,
    single: tuple[str, ...] = (),
    weights: tuple[str, ...] = (),
    deferred: bool = False,
    generation_bits: int = 2,
    states: bool = False,
) -> tuple[Network, Plan]:
    """Network and plan of a folded machine of a layer of ``shape``, and one of three neurons, of wider potentials.

    Of the layers ``single`` states, and of ``weights`` weights, are in the memory with one port.
    """
    options: dict[str, Any] = {"threshold_log2": 1, "weight_bits": 2, "count_bits": 2}
    channels, outputs = shape.channels, 3
    conv = Convolution(
        name="conv",
        source="input",
        weights=np.ones((channels, 1, 1, 1), int),
        bias=np.zeros(channels, int),
        activation="relu",
        potential_bits=3,
        **options,
    )
    last = Linear(
        name="fc",
        source="conv",
        weights=np.ones((outputs, shape.size), int),
        bias=np.zeros(outputs, int),
        activation="identity",
        potential_bits=4,
        **options,
    )
    network = Network(
        name="small",
        input_shape=Shape(shape.height, shape.width, 1),
        layers=(conv, last),
        firing="deferred" if deferred else "immediate",
    )
    cores = tuple(
        CorePlan(
            layer=name,
            channels=min(lanes, of),
            generation_bits=generation_bits,
            state_memory="single_port" if name in single else "block",
            weight_memory="single_port" if name in weights else "block",
        )
        for name, of in (("conv", channels), ("fc", outputs))
    )
    return network, Plan(name="small", cores=cores, architecture="folded", inject=False, states=states)


def small_tree(tree: Sequence[int], *, flushes: bool = False) -> Network:
    """A network with a layer of each link of ``tree``; the last one is the output."""
    layers: list[Linear] = []
    sizes = [4]
    for number, source in enumerate(tree):
        sizes.append(2 + number)
        layers.append(
            Linear(
                name=f"layer{number + 1}",
                source=layers[source - 1].name if source else INPUT,
                weights=np.ones((sizes[-1], sizes[source]), int),
                bias=np.zeros(sizes[-1], int),
                threshold_log2=4,
                activation="identity",
            )
        )
    options: dict[str, Any] = {"firing": "deferred", "flush_events": 2} if flushes else {}
    return Network(name="small", input_shape=Shape(1, 2, 2), layers=tuple(layers), **options)
