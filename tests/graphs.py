"""A network that is a graph, as people train them."""

import numpy as np

from model.network import INPUT, Convolution, Linear, Network
from model.projection import ConvolutionProjection, Padding, Shape

__all__ = ["residual_block"]


def residual_block(firing: str = "immediate") -> Network:
    """Two convolutions with a one-to-one shortcut around them, then a projected one, then ten answers."""
    rng = np.random.default_rng(5)
    wide = {"threshold_log2": 5, "weight_bits": 8, "potential_bits": 16}

    def convolution(name: str, source: str, inputs: int, channels: int, stride: int = 1, **more: object) -> Convolution:
        return Convolution(
            name=name, source=source, weights=rng.integers(-12, 17, (channels, inputs, 3, 3)),
            bias=rng.integers(-8, 17, channels), stride=(stride, stride), padding=Padding(1, 1, 1, 1), **wide, **more,
        )  # fmt: skip

    shortcut = ConvolutionProjection(source="stem", weights=np.full((4, 1, 1, 1), 32), groups=4)
    strided = ConvolutionProjection(source="block1", weights=rng.integers(-20, 21, (6, 4, 1, 1)), stride=(2, 2))
    return Network(
        name="residual",
        input_shape=Shape(6, 6, 1),
        layers=(
            convolution("stem", INPUT, 1, 4),
            convolution("inner1", "stem", 4, 4),
            convolution("block1", "inner1", 4, 4, joined=(shortcut,)),
            convolution("inner2", "block1", 4, 6, 2),
            convolution("block2", "inner2", 6, 6, joined=(strided,)),
            Linear(
                name="out", source="block2", weights=rng.integers(-16, 17, (10, 54)), bias=rng.integers(-8, 9, 10),
                activation="identity", **wide,
            ),
        ),
        firing=firing,
        rest=firing == "deferred",
    )  # fmt: skip
