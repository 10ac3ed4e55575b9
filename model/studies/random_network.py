"""Networks with weights drawn at random, described in a line: for studies of area and speed, whatever they answer."""

import hashlib
import re
from typing import Any

import numpy as np

from model.network import INPUT, Convolution, Layer, Linear, MaxPool, Network, Padding, Shape
from model.support.errors import BadInputError

__all__ = ["drawn"]


def drawn(text: str, bits: tuple[int, int, int] = (8, 14, 8), *, threshold_log2: int | None = None) -> Network:
    """A network of the form that ``text`` describes.

    Parameters
    ----------
    text : str
        Input shape and layers, as ``"16x16x1: 8C5 P2 32F 10F"``: ``8C5`` is a convolution of 8 channels and window 5 (``8C5p``
        padded to keep the size), ``P2`` a max-pool, ``32F`` a linear layer.
    bits : tuple[int, int, int]
        Of weights, potentials and counts.
    threshold_log2 : int | None
        Of all layers; the higher, the fewer spikes. By default the threshold is twice the greatest weight.

    Raises
    ------
    BadInputError : a layer is written otherwise
    """
    size, _, rest = text.partition(": ")
    shape = Shape(*map(int, size.split("x")))
    chance = np.random.default_rng(int(hashlib.sha256(text.encode()).hexdigest()[:8], 16))
    weight_bits, potential_bits, count_bits = bits
    high = (1 << weight_bits - 1) - 1
    layers: list[Layer] = []
    words = rest.split()
    source, current = INPUT, shape
    for number, word in enumerate(words):
        match = re.fullmatch(r"(\d*)([CPF])(\d*)(p?)", word)
        if not match:
            raise BadInputError(f"layer must be like 8C5, 8C5p, P2 or 10F, not {word!r}")
        channels, kind, window, padded = match[1], match[2], match[3], match[4]
        name = f"{kind.lower()}{number}"
        last = number == len(words) - 1
        common: dict[str, Any] = {
            "name": name,
            "source": source,
            "threshold_log2": min(potential_bits - 2, weight_bits if threshold_log2 is None else threshold_log2),
            "activation": "identity" if last else "relu",
            "weight_bits": weight_bits,
            "potential_bits": potential_bits,
            "count_bits": count_bits,
        }
        layer: Layer
        if kind == "P":
            layer = MaxPool(name=name, source=source, window=(int(window),) * 2, stride=(int(window),) * 2)
        else:
            inputs = (current.channels, int(window), int(window)) if kind == "C" else (current.size,)
            weights = chance.integers(-high, high + 1, (int(channels), *inputs))
            common |= {"weights": weights, "bias": chance.integers(-high, high + 1, int(channels))}
            if kind == "C":
                border = int(window) // 2 if padded else 0
                layer = Convolution(stride=(1, 1), padding=Padding(border, border, border, border), **common)
            else:
                layer = Linear(**common)
        layers.append(layer)
        source, current = name, layer.output_shape(current)
    return Network(name="drawn", input_shape=shape, layers=tuple(layers), input_threshold=64)
