"""Random ONNX graphs with branches: sums, differences and concatenations of whatever came before."""

from typing import Any

import numpy as np

from sim.generators.onnx_graphs import TWO, Graph

__all__ = ["RandomGraph"]

_NODES = {
    "conv": 5, "relu": 4, "clip": 1, "norm": 2, "scale": 1, "add": 5, "concat": 3, "max_pool": 1, "average_pool": 1,
    "transposed": 1, "enlarged": 1,
}  # fmt: skip
"""What a node may be, and how often it is."""

_MOST_CHANNELS = 12


class RandomGraph:
    """A graph that grows by random nodes on random tensors, all of one height and width until these are halved.

    Parameters
    ----------
    rng : numpy.random.Generator
        What is drawn from.

    Attributes
    ----------
    graph : Graph
        The graph.
    kinds : list of str
        What its nodes are.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.graph = Graph(shape=("frames", 2, 8, 8), seed=int(rng.integers(1 << 30)))
        self.known = [("image", 2)]
        self.kinds: list[str] = []
        self._size = 8
        for _ in range(self._number(1, 2)):
            for _ in range(self._number(3, 9)):
                self._node()
            self._halve()
        for _ in range(self._number(0, 4)):
            self._node()
        self._end()

    def _number(self, least: int, most: int) -> int:
        return int(self.rng.integers(least, most + 1))

    def _one(self) -> tuple[str, int]:
        """A tensor, rather a late one."""
        return self.known[max(self._number(0, len(self.known) - 1) for _ in range(2))]

    def _take(self, operator: str, name: str, *more: Any, channels: int, **attributes: Any) -> None:
        self.graph.add(operator, *more, data=name, **attributes)
        self.known.append((self.graph.last, channels))

    def _node(self) -> None:
        weights = list(_NODES.values())
        kind = str(self.rng.choice(list(_NODES), p=[weight / sum(weights) for weight in weights]))
        self.kinds.append(kind)
        getattr(self, f"_{kind}")(*self._one())

    def _conv(self, name: str, channels: int, **attributes: Any) -> None:
        draw = self.graph.rng
        groups = channels if self.rng.random() < 0.25 else 1
        outputs = groups * self._number(1, 2) if groups > 1 else self._number(1, 4)
        kernel = int(self.rng.choice([1, 3]))
        more = [draw.normal(0, 0.3, outputs)] if self.rng.random() < 0.7 else []
        weights = draw.normal(0, 0.6, (outputs, channels // groups, kernel, kernel))
        self._take(
            "Conv", name, weights, *more, channels=outputs, group=groups, pads=[kernel // 2] * 4, **attributes
        )

    def _relu(self, name: str, channels: int) -> None:
        self._take("Relu", name, channels=channels)

    def _clip(self, name: str, channels: int) -> None:
        self._take("Clip", name, channels=channels, min=0.0, max=1.5)

    def _norm(self, name: str, channels: int) -> None:
        draw = self.graph.rng
        gain, variance = draw.uniform(-0.5, 1.5, channels), draw.uniform(0.5, 1.5, channels)
        self._take("BatchNormalization", name, gain, *draw.normal(0, 0.5, (2, channels)), variance, channels=channels)

    def _scale(self, name: str, channels: int) -> None:
        operator = str(self.rng.choice(["Add", "Mul", "Sub", "Div"]))
        self._take(operator, name, self.graph.rng.uniform(0.3, 1.5, (channels, 1, 1)), channels=channels)

    def _add(self, name: str, channels: int) -> None:
        others = [other for other, found in self.known if found == channels]
        more = [str(self.rng.choice(others)) for _ in range(self._number(1, 2))]
        operator = "Sum" if len(more) > 1 else str(self.rng.choice(["Add", "Add", "Sub"]))
        self._take(operator, name, *more, channels=channels)

    def _concat(self, name: str, channels: int) -> None:
        more = [self._one() for _ in range(self._number(1, 2))]
        if (total := channels + sum(own for _, own in more)) <= _MOST_CHANNELS:
            self._take("Concat", name, *(other for other, _ in more), channels=total, axis=1)

    def _max_pool(self, name: str, channels: int) -> None:
        self._take("MaxPool", name, channels=channels, kernel_shape=[3, 3], pads=[1] * 4)

    def _average_pool(self, name: str, channels: int) -> None:
        self._take("AveragePool", name, channels=channels, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1)

    def _transposed(self, name: str, channels: int) -> None:
        draw, outputs = self.graph.rng, self._number(1, 4)
        weights = draw.normal(0, 0.6, (channels, outputs, 3, 3))
        self._take("ConvTranspose", name, weights, draw.normal(0, 0.3, outputs), channels=outputs, pads=[1] * 4)

    def _enlarged(self, name: str, channels: int) -> None:
        self.graph.add("MaxPool", data=name, **TWO)
        self._take("Resize", self.graph.last, "", np.array([1.0, 1.0, 2.0, 2.0]), channels=channels)

    def _halve(self) -> None:
        """Half the height and width of two to four tensors, which are those that go on."""
        chosen = [self._one() for _ in range(self._number(2, 4))]
        self.known, self._size = [], self._size // 2
        for name, channels in chosen:
            kind = self._number(0, 2)
            if kind == 0:
                self._conv(name, channels, strides=[2, 2])
            else:
                self._take(("MaxPool", "AveragePool")[kind - 1], name, channels=channels, **TWO)

    def _end(self) -> None:
        """Scores, from one tensor or two; or an image as it is."""
        (name, channels), (other, more) = self.known[-1], self._one()
        kind, area = self._number(0, 4), self._size**2
        graph = self.graph
        if kind == 0:
            graph.add("Transpose", data=name, perm=[0, 2, 3, 1]).add("Flatten").linear(area * channels, 3)
        elif kind == 1:
            graph.add("Concat", other, data=name, axis=1).add("GlobalAveragePool").add("Flatten").linear(channels + more, 3)
        elif kind == 2:
            flat = graph.add("Flatten", data=name).last
            graph.add("Flatten", data=other).add("Concat", flat, axis=-1).linear(area * (channels + more), 3)
        elif kind == 3:
            graph.add("Flatten", data=name).linear(area * channels, 3)
        else:
            graph.add("Identity", data=name)
