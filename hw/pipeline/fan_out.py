"""Fan-out as tables: which words and weights an event at an input coordinate reaches, step by step.

A window is separable: rows and columns each have a table, and the addresses of state and weights are a sum of a
row's part and a column's part. The tables are constants of the plan; strides, padding and clipping at the border
are all in them, so that the machine only looks up and adds.
"""

from dataclasses import dataclass

from model.machine.plan import CorePlan
from model.network import Convolution, Linear, Neurons, Shape

__all__ = ["Axis", "FanOut", "Reach"]


@dataclass(frozen=True)
class Reach:
    """What one bank does in one step: the word's and the weight's share of their addresses."""

    word: int
    weight: int


@dataclass(frozen=True)
class Axis:
    """Fan-out along one axis.

    Parameters
    ----------
    banks : int
        Banks along this axis.
    steps : tuple
        For each input coordinate its steps; for each step the first output coordinate and each bank's `Reach`, or None where
        the bank has nothing to do.
    """

    banks: int
    steps: tuple[tuple[tuple[int, tuple[Reach | None, ...]], ...], ...]

    @property
    def most_steps(self) -> int:
        """The most steps of any coordinate."""
        return max(1, *(len(steps) for steps in self.steps), 0)


@dataclass(frozen=True)
class FanOut:
    """Fan-out of a projection core.

    Parameters
    ----------
    rows, columns : Axis
        The axes.
    blocks : int
        Blocks of output channels at a position, the last one padded with silent neurons.
    channel_weight : int
        Weight words per input channel.
    depth : int
        State words per bank.
    weight_depth : int
        Weight words per bank.
    """

    rows: Axis
    columns: Axis
    blocks: int
    channel_weight: int
    depth: int
    weight_depth: int

    @classmethod
    def of(cls, layer: Neurons, source: Shape, core: CorePlan) -> "FanOut":
        """The fan-out of ``layer`` with the parallelism of ``core``."""
        output = layer.output_shape(source)
        blocks = -(-output.channels // core.channels)
        if isinstance(layer, Linear):
            taken = layer.taken(source)
            return cls(
                rows=_window_axis(layer, source, 0, 1, 0, taken.width * taken.channels * blocks),
                columns=_window_axis(layer, source, 1, 1, 0, taken.channels * blocks),
                blocks=blocks,
                channel_weight=blocks,
                depth=blocks,
                weight_depth=taken.size * blocks,
            )
        if not isinstance(layer, Convolution):
            raise TypeError(f"layer must be a Convolution or Linear, not {type(layer).__name__}")
        words_a_row = -(-output.width // core.columns) * blocks
        rows = _window_axis(layer, source, 0, core.rows, words_a_row, layer.kernel[1] * blocks)
        columns = _window_axis(layer, source, 1, core.columns, blocks, blocks)
        positions = layer.kernel[0] * layer.kernel[1]
        return cls(
            rows=rows,
            columns=columns,
            blocks=blocks,
            channel_weight=positions * blocks,
            depth=-(-output.height // core.rows) * words_a_row,
            weight_depth=source.channels * positions * blocks,
        )


def _window_axis(layer: Convolution | Linear, source: Shape, axis: int, banks: int, word: int, weight: int) -> Axis:
    steps = []
    for pairs in layer.taps(source, axis):
        coordinate_steps = []
        for start in range(0, len(pairs), banks):
            reaches: list[Reach | None] = [None] * banks
            for o, k in pairs[start : start + banks]:
                reaches[o % banks] = Reach(o // banks * word, k * weight)
            coordinate_steps.append((pairs[start][0], tuple(reaches)))
        steps.append(tuple(coordinate_steps))
    return Axis(banks, tuple(steps))
