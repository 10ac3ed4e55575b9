"""Networks for parts that take one: as small as can be."""

from typing import Any

import numpy as np

from model.network import Linear, Network, Shape

__all__ = ["small_network"]


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
