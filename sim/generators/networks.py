"""Random networks, small, with what is rare in larger ones: layers of every kind, for what has to hold of all of them."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from model.network import Convolution, Layer, Linear, MaxPool, Network, Neurons, Padding, Shape, Transposed

__all__ = [
    "bursting",
    "grouped",
    "mixed",
    "overlapped",
    "pooled_input",
    "random_convolution",
    "random_linear",
    "random_network",
    "restless",
    "single_layer",
]


def random_convolution(seed: int, *, inputs: int, name: str = "conv", source: str = "input", **options: Any) -> Convolution:
    """A convolution of random weights and geometry."""
    rng = np.random.default_rng(seed)
    kernel = options.pop("kernel", tuple(int(n) for n in rng.integers(1, 5, 2)))
    channels = options.pop("channels", int(rng.integers(1, 6)))
    options.setdefault("stride", tuple(int(n) for n in rng.integers(1, 3, 2)))
    options.setdefault("padding", Padding(*(int(rng.integers(0, kernel[n % 2])) for n in range(4))))
    options.setdefault("threshold_log2", 6)
    return Convolution(
        name=name,
        source=source,
        weights=_drawn(rng, -60, 80, (channels, inputs, *kernel)),
        bias=_drawn(rng, -30, 60, channels),
        **options,
    )


def random_linear(seed: int, *, inputs: int, outputs: int, name: str = "fc", source: str = "input", **options: Any) -> Linear:
    """A linear layer of random weights."""
    rng = np.random.default_rng(seed)
    options.setdefault("threshold_log2", 6)
    return Linear(
        name=name,
        source=source,
        weights=_drawn(rng, -60, 80, (outputs, inputs)),
        bias=_drawn(rng, -30, 60, outputs),
        **options,
    )


def random_network(seed: int) -> Network:
    """A small network with every layer kind: a fused pool, a pool alone, a side branch, narrow saturating neurons."""
    rng = np.random.default_rng(seed)
    shape = Shape(int(rng.integers(6, 10)), int(rng.integers(6, 10)), int(rng.integers(1, 3)))
    layers: list[Neurons | MaxPool] = [
        random_convolution(
            seed,
            inputs=shape.channels,
            name="conv1",
            kernel=(3, 3),
            stride=(1, 1),
            padding=Padding(1, 1, 1, 1),
            potential_bits=9,
        ),
        MaxPool(name="pool1", source="conv1", window=(2, 2), stride=(2, 2)),
    ]
    shape1 = layers[1].output_shape(layers[0].output_shape(shape))
    layers.append(MaxPool(name="pool2", source="pool1", window=(1, 2), stride=(1, 2)))
    layers.append(random_linear(seed + 1, inputs=shape1.size, outputs=3, name="side", source="pool1"))
    shape2 = layers[2].output_shape(shape1)
    layers.append(
        random_convolution(
            seed + 2,
            inputs=shape2.channels,
            name="conv2",
            source="pool2",
            kernel=(2, 2),
            padding=Padding(1, 0, 0, 1),
            stride=(1, 1),
        )
    )
    layers.append(
        random_linear(
            seed + 3,
            inputs=layers[-1].output_shape(shape2).size,
            outputs=11,
            name="fc1",
            source="conv2",
            potential_bits=8,
            count_bits=3,
        )
    )
    layers.append(random_linear(seed + 4, inputs=11, outputs=4, name="fc2", source="fc1", activation="identity"))
    return Network(name=f"random{seed}", input_shape=shape, layers=tuple(layers))


def grouped(seed: int, *, firing: str = "immediate", burst: int = 1, flush_events: int = 0) -> Network:
    """A small network of a grouped, a depthwise and a transposed convolution, none of whose inputs is one of zeros."""
    rng = np.random.default_rng(seed)
    shape = Shape(int(rng.integers(3, 5)), int(rng.integers(3, 5)), 4)
    common: dict[str, Any] = {"threshold_log2": 5, "burst": burst}
    first = random_convolution(
        seed, inputs=2, groups=2, channels=6, name="grouped", kernel=(2, 3), stride=(1, 1), potential_bits=10, **common
    )
    second = random_convolution(
        seed + 1, inputs=1, groups=6, channels=6 * int(rng.integers(1, 3)), name="depthwise", source="grouped", kernel=(3, 3),
        stride=(1, int(rng.integers(1, 3))), padding=Padding(1, 1, 1, 1), **common,
    )  # fmt: skip
    groups = int(rng.integers(1, 3))
    third = Transposed(
        name="transposed", source="depthwise", weights=_drawn(rng, -60, 80, (4, second.channels // groups, 3, 2)),
        bias=_drawn(rng, -30, 60, 4), groups=groups, stride=(2, int(rng.integers(1, 4))), more=(1, 0),
        padding=Padding(*(int(n) for n in rng.integers(0, 2, 4))), threshold_log2=7, burst=burst,
    )  # fmt: skip
    source = second.output_shape(first.output_shape(shape))
    if source.width == 1 and third.padding.left and third.padding.right:
        # Two columns come of one; a border on both sides would leave none.
        third = replace(third, padding=third.padding._replace(right=0))
    size = third.output_shape(source).size
    last = random_linear(
        seed + 2, inputs=size, outputs=2, name="out", source="transposed", activation="identity", threshold_log2=6, burst=burst
    )
    return Network(
        name=f"grouped{seed}",
        input_shape=shape,
        layers=(first, second, third, last),
        firing=firing,
        flush_events=flush_events,
    )


def overlapped(seed: int, *, burst: int = 1, **changes: Any) -> Network:
    """A network with a max-pool after neurons, and one alone after it, whose windows overlap."""
    first = random_convolution(
        seed, inputs=2, kernel=(2, 2), channels=3, stride=(1, 1), padding=Padding(1, 1, 0, 0), threshold_log2=5, burst=burst
    )
    pools = (
        MaxPool(name="after", source="conv", window=(3, 3), stride=(2, 1 + seed % 2), padding=Padding(1, 1, 1, 0)),
        MaxPool(name="alone", source="after", window=(2, 2), stride=(1, 2 - seed % 2)),
    )
    size = pools[1].output_shape(pools[0].output_shape(first.output_shape(Shape(5, 6, 2)))).size
    out = random_linear(seed + 1, inputs=size, outputs=3, name="out", source="alone", activation="identity", burst=burst)
    layers = (first, *pools, out)
    return Network(name=f"overlapped{seed}", input_shape=Shape(5, 6, 2), layers=layers, rest=seed > 2, **changes)


def mixed(
    seed: int, *, firing: str = "immediate", rest: bool = False, burst: int = 1, flush_events: int = 0, wide: bool = False
) -> Network:
    """A network of every layer kind with biases and weights above thresholds, signed counts before a max-pool too.

    ``wide`` makes nothing saturate.
    """
    rng = np.random.default_rng(seed)
    shape = Shape(int(rng.integers(5, 9)), int(rng.integers(5, 9)), 2)
    widths: dict[str, Any] = {"potential_bits": 24, "count_bits": 16} if wide else {}
    narrow = widths or {"potential_bits": 9, "count_bits": 3}
    layers: list[Neurons | MaxPool] = [
        random_convolution(seed, inputs=2, name="conv1", channels=4, kernel=(3, 3), stride=(1, 1), threshold_log2=5, **widths),
        MaxPool(name="pool1", source="conv1", window=(3, 2), stride=(1, 2), padding=Padding(1, 1, 1, 0)),
    ]
    pooled = layers[1].output_shape(layers[0].output_shape(shape))
    by_position = Padding(1, 0, 0, 1)
    signed = random_convolution(
        seed + 1, inputs=2, groups=2, channels=6, name="conv2", source="pool1", kernel=(2, 2), stride=(1, 1),
        padding=by_position, threshold_log2=4, activation="identity", **widths,
    )  # fmt: skip
    after = signed.output_shape(pooled)
    layers.append(replace(signed, bias=_drawn(rng, -40, 60, after)))
    layers.append(MaxPool(name="pool2", source="conv2", window=(2, 2), stride=(2, 2)))
    last = layers[-1].output_shape(after)
    averaged = (min(2, last.height), 1)
    inputs = last.height // averaged[0] * last.width * 6
    layers.append(
        random_linear(
            seed + 2, inputs=inputs, outputs=9, name="fc1", source="pool2", averaged=averaged, threshold_log2=5, **narrow
        )
    )
    layers.append(
        random_linear(seed + 3, inputs=9, outputs=4, name="fc2", source="fc1", activation="identity", threshold_log2=4, **widths)
    )
    layers = [replace(layer, burst=burst) if isinstance(layer, Neurons) else layer for layer in layers]
    return Network(
        name=f"mixed{seed}", input_shape=shape, layers=tuple(layers), firing=firing, rest=rest, flush_events=flush_events
    )


def bursting(network: Network, bursts: Sequence[int], threshold_log2: int) -> Network:
    """The network with bursts of its layers of neurons, one after the other, and so low thresholds that there are any."""
    layers: list[Layer] = []
    of = itertools.cycle(bursts)
    for layer in network.layers:
        layers.append(replace(layer, burst=next(of), threshold_log2=threshold_log2) if isinstance(layer, Neurons) else layer)
    return replace(network, name=f"{network.name}_burst", layers=tuple(layers))


def restless(seed: int, **changes: Any) -> Network:
    """A `random_network` that starts frames from its state at rest, with biases above thresholds, by position in convolutions.

    ``changes`` are of all its layers of neurons.
    """
    network, rng = random_network(seed), np.random.default_rng(seed)
    layers: list[Layer] = []
    for layer, shape in zip(network.layers, network.shapes, strict=True):
        if isinstance(layer, Neurons):
            bias = _drawn(rng, -100, 120, layer.channels)
            if isinstance(layer, Convolution):
                bias = np.broadcast_to(bias, shape).copy()
                bias[0] = rng.integers(-100, 120, shape[1:])
            layers.append(replace(layer, bias=bias, **changes))
        else:
            layers.append(layer)
    return replace(network, name=f"restless{seed}", layers=tuple(layers), rest=True)


def pooled_input(seed: int) -> Network:
    """A network that begins with a max-pool whose windows leave a border out, and ends with one."""
    first = MaxPool(name="first", source="input", window=(2, 2), stride=(3, 2))
    middle = random_convolution(seed, inputs=2, name="middle", source="first", kernel=(2, 2), stride=(2, 1), channels=5)
    last = MaxPool(name="last", source="middle", window=(1, 2), stride=(1, 2))
    shape = Shape(8, 7, 2)
    network = Network(name=f"pooled{seed}", input_shape=shape, layers=(first, middle, last))
    size = network.shape_of("last").size
    out = random_linear(seed, inputs=size, outputs=3, name="out", source="last", activation="identity")
    return Network(name=f"pooled{seed}", input_shape=shape, layers=(first, middle, last, out))


def single_layer(seed: int, *, linear: bool = False) -> Network:
    """A network of one layer: a convolution, or a linear one, which ``linear`` makes sure of."""
    shape = Shape(4 + seed % 3, 5, 1 + seed % 2)
    layer: Neurons = (
        random_linear(seed, inputs=shape.size, outputs=3, activation="identity")
        if linear or seed % 3
        else random_convolution(seed, inputs=shape.channels, kernel=(3, 2))
    )
    return Network(name=f"single{seed}", input_shape=shape, layers=(layer,))


def _drawn(rng: np.random.Generator, low: int, high: int, shape: int | tuple[int, ...]) -> np.ndarray:
    return rng.integers(low, high, shape)
