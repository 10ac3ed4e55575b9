"""Random networks that are graphs, small, for what has to hold of all of them."""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from model.network import INPUT, Convolution, Linear, MaxPool, Network, Transposed
from model.projection import ConvolutionProjection, LinearProjection, Padding, Projection, Shape, TransposedProjection

__all__ = ["nested_graph", "random_graph"]


def random_graph(
    seed: int, *, firing: str = "immediate", wide: bool = False, plain: bool = False, most_layers: int = 8
) -> Network:
    """A network whose layers take whatever earlier ones fit: diamonds, nested forks, long shortcuts, one source twice.

    ``wide`` makes nothing saturate. ``plain`` is what machines build: no groups, nothing transposed, no pools that overlap.
    """
    rng = np.random.default_rng(seed)
    shapes = {INPUT: Shape(int(rng.integers(2, 5)), int(rng.integers(2, 5)), int(rng.integers(1, 4)))}
    layers: list[Convolution | Linear | MaxPool | Transposed] = []
    count, stem = int(rng.integers(3, most_layers + 1)), int(rng.integers(0, 3))
    for number in range(count):
        name = f"layer{number}"
        # Past the stem no layer takes what is before its end; the latest more often, which gives depth and shortcuts.
        names = list(shapes)[min(stem, number) :]
        source = names[-1 - min(int(rng.geometric(0.5)) - 1, len(names) - 1)]
        shape = shapes[source]
        if source != INPUT and rng.random() < 0.15 and number < count - 1:
            window = (int(rng.integers(1, min(3, shape.height) + 1)), int(rng.integers(1, min(3, shape.width) + 1)))
            stride = window if plain else (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
            layers.append(MaxPool(name=name, source=source, window=window, stride=stride))
        else:
            known = {each: shapes[each] for each in names}
            layers.append(_neurons(rng, name, source, known, last=number == count - 1, wide=wide, plain=plain))
        shapes[name] = layers[-1].output_shape(shape)
    deferred = firing == "deferred"
    return Network(
        name=f"graph{seed}",
        input_shape=shapes[INPUT],
        layers=tuple(layers),
        firing=firing,
        rest=bool(rng.random() < 0.5),
        flush_events=int(rng.choice([0, 0, 1, 3])) if deferred else 0,
    )


def nested_graph(seed: int) -> Network:
    """A network that fires immediate whose forks and merges lie one within the other, as machines build them.

    Ways of up to three layers, shortcuts, one source twice, max-pools alone and after neurons, whose windows leave a border out.
    """
    rng = np.random.default_rng(seed)
    shapes = {INPUT: Shape(3, int(rng.integers(2, 4)), int(rng.integers(1, 3)))}
    layers: list[Convolution | Linear | MaxPool] = []

    def add(layer: Convolution | Linear | MaxPool) -> str:
        layers.append(layer)
        shapes[layer.name] = layer.output_shape(shapes[layer.source])
        return layer.name

    def window(source: str, channels: int) -> ConvolutionProjection:
        kernel = (1, 1) if rng.random() < 0.4 else (3, 3)
        border = Padding(*(size // 2 for size in (*kernel, *kernel)))
        weights = _weights(rng, channels, shapes[source].channels, *kernel)
        return ConvolutionProjection(source=source, weights=weights, padding=border)

    def neurons(sources: list[str]) -> str:
        channels = int(rng.integers(1, 3))
        first, *joined = (window(source, channels) for source in sources)
        common: dict[str, Any] = {
            "threshold_log2": int(rng.integers(4, 6)), "weight_bits": 6, "potential_bits": int(rng.choice([10, 16])),
            "burst": int(rng.choice([1, 1, 3])),
        }  # fmt: skip
        return add(
            Convolution(
                name=f"layer{len(layers)}", source=first.source, weights=first.weights, padding=first.padding,
                bias=_bias(rng, channels), joined=tuple(joined), **common,
            )
        )  # fmt: skip

    def way(source: str, depth: int, *, pooled: bool) -> str:
        if not pooled and rng.random() < 0.3:
            return source
        if not pooled or rng.random() < 0.6:
            source = neurons([source])
        if pooled:
            source = add(MaxPool(name=f"pool{len(layers)}", source=source, window=(2, 2), stride=(2, 2)))
        if depth and rng.random() < 0.6:
            return region(source, depth - 1)
        for _ in range(int(rng.integers(0, 3)) if depth else 0):
            source = neurons([source])
        return source

    def region(source: str, depth: int) -> str:
        pooled = depth == 1 and min(shapes[source][:2]) > 1 and rng.random() < 0.5
        ends = [way(source, depth, pooled=pooled) for _ in range(int(rng.choice([2, 2, 3])))]
        return neurons([ends[number] for number in rng.permutation(len(ends))])

    # The last merge takes what has any shape.
    stem = neurons([INPUT]) if rng.random() < 0.5 else INPUT
    ends = [way(stem, 2, pooled=False) for _ in range(2)]
    first, *joined = (LinearProjection(source=end, weights=_weights(rng, 3, shapes[end].size)) for end in ends)
    add(
        Linear(
            name="out", source=first.source, weights=first.weights, bias=_bias(rng, 3), activation="identity",
            threshold_log2=5, weight_bits=6, potential_bits=16, joined=tuple(joined),
        )
    )  # fmt: skip
    return Network(
        name=f"nested{seed}", input_shape=shapes[INPUT], layers=tuple(layers), firing="immediate", rest=bool(rng.random() < 0.5)
    )


def _neurons(
    rng: np.random.Generator, name: str, source: str, shapes: dict[str, Shape], *, last: bool, wide: bool, plain: bool
) -> Convolution | Linear | Transposed:
    shape = shapes[source]
    potential_bits = 24 if wide else int(rng.choice([8, 10, 14, 16]))
    common: dict[str, Any] = {
        "name": name,
        "source": source,
        "threshold_log2": int(rng.integers(2, 6)),
        "activation": "identity" if last or rng.random() < 0.2 else "relu",
        "weight_bits": 6,
        "potential_bits": potential_bits,
        "count_bits": 16 if wide else int(rng.choice([3, 8])),
        "burst": int(rng.choice([1, 1, 0, 3])),
    }
    found: Convolution | Linear | Transposed
    if last or rng.random() < 0.2:
        outputs = 4 if last else int(rng.integers(1, 6))
        found = Linear(weights=_weights(rng, outputs, shape.size), bias=_bias(rng, outputs), **common)
    else:
        groups = 1 if plain else int(rng.choice([1, 1, shape.channels]))
        channels = groups * int(rng.integers(1, 3))
        kernel, padding = (int(rng.integers(1, 4)), int(rng.integers(1, 4))), int(rng.integers(0, 2))
        border = Padding(*(min(padding, size - 1) for size in (*kernel, *kernel)))
        fits = all(size + border[axis] + border[axis + 2] >= kernel[axis] for axis, size in enumerate(shape[:2]))
        kernel, border = (kernel, border) if fits else ((1, 1), Padding())
        weights = _weights(rng, channels, shape.channels // groups, *kernel)
        stride = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
        if not plain and max(shape[:2]) <= 5 and rng.random() < 0.25:
            # At least as many positions as it takes: nothing is cut off of a single one.
            cut = border if min(shape[:2]) > 1 else Padding()
            more = (int(rng.integers(0, stride[0])), int(rng.integers(0, stride[1])))
            common |= {"padding": cut, "more": more}
            found = Transposed(weights=weights, bias=_bias(rng, channels), stride=stride, groups=groups, **common)
            return replace(found, joined=_joined(rng, shapes, found.output_shape(shape), plain=plain))
        found = Convolution(weights=weights, bias=_bias(rng, channels), stride=stride, padding=border, groups=groups, **common)
    return replace(found, joined=_joined(rng, shapes, found.output_shape(shape), plain=plain))


def _joined(
    rng: np.random.Generator, shapes: dict[str, Shape], output: Shape, *, plain: bool
) -> tuple[Projection, ...]:
    """Further inputs of a layer of shape ``output``."""
    found = []
    for _ in range(int(rng.choice([0, 1, 1, 2, 3]))):
        other = list(shapes)[-1 - min(int(rng.geometric(0.35)) - 1, len(shapes) - 1)]
        further = _further(rng, other, shapes[other], output, plain=plain)
        found += [further] if further else []
    return tuple(found)


def _further(
    rng: np.random.Generator, source: str, shape: Shape, output: Shape, *, plain: bool
) -> Projection | None:
    """An input from a source to a layer of shape ``output``; None where no small window gives it."""
    if output[:2] == (1, 1) and rng.random() < 0.6:
        return LinearProjection(source=source, weights=_weights(rng, output.channels, shape.size))
    ways = []
    for kernel, stride, before, after in product((1, 2, 3), (1, 2, 3), (0, 1), (0, 1)):
        ways.append((kernel, stride, min(before, kernel - 1), min(after, kernel - 1)))
    fitting = [
        [way for way in ways if (size + way[2] + way[3] - way[0]) // way[1] + 1 == wanted and size + way[2] + way[3] >= way[0]]
        for size, wanted in zip(shape[:2], output[:2], strict=True)
    ]
    if not all(fitting):
        return None if plain else _enlarging(rng, source, shape, output)
    (ky, sy, top, bottom), (kx, sx, left, right) = (each[rng.integers(len(each))] for each in fitting)
    one_to_one = not plain and shape.channels == output.channels and rng.random() < 0.5
    groups = shape.channels if one_to_one else 1
    weights = _weights(rng, output.channels, shape.channels // groups, ky, kx)
    padding = Padding(top, left, bottom, right)
    return ConvolutionProjection(source=source, weights=weights, stride=(sy, sx), padding=padding, groups=groups)


def _enlarging(rng: np.random.Generator, source: str, shape: Shape, output: Shape) -> Projection | None:
    """A transposed convolution from a source to a larger layer; None where strides of up to three do not do."""
    ways: list[list[tuple[int, int, int, int, int]]] = []
    for size, wanted in zip(shape[:2], output[:2], strict=True):
        found = []
        for kernel, stride, before, more in product((1, 2, 3), (1, 2, 3), (0, 1), (0, 1)):
            after = (size - 1) * stride + kernel - before + more - wanted
            if before < kernel and 0 <= after < kernel and more < stride:
                found.append((kernel, stride, before, after, more))
        ways.append(found)
    if not all(ways):
        return None
    down, across = (each[rng.integers(len(each))] for each in ways)
    return TransposedProjection(
        source=source,
        weights=_weights(rng, output.channels, shape.channels, down[0], across[0]),
        stride=(down[1], across[1]),
        padding=Padding(down[2], across[2], down[3], across[3]),
        more=(down[4], across[4]),
    )


def _weights(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-20, 26, shape)


def _bias(rng: np.random.Generator, channels: int) -> np.ndarray:
    return rng.integers(-20, 60, channels)
