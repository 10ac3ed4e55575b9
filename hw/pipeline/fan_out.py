"""Fan-out as tables: which words and weights an event at an input coordinate reaches, step by step.

A window is separable: rows and columns each have a table, and the addresses of state and weights are a sum of a
row's part and a column's part. The tables are constants of the plan; strides, padding and clipping at the border
are all in them, so that the machine only looks up and adds. Several inputs are one whose rows, columns and channels are those of
all, one after the other, as `hw.pipeline.merge.Merge` moves their events.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from model.machine.plan import CorePlan
from model.network import Neurons, Shape
from model.projection import ConvolutionProjection, LinearProjection, Projection

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
        Weight words per input channel, of the first input.
    channel_weights : tuple of int
        Of several inputs, for each input channel the address that its weights begin at; empty where there is one, whose channels'
        are `channel_weight` apart.
    depth : int
        State words per bank.
    weight_depth : int
        Weight words per bank.
    """

    rows: Axis
    columns: Axis
    blocks: int
    channel_weight: int
    channel_weights: tuple[int, ...]
    depth: int
    weight_depth: int

    @classmethod
    def of(cls, layer: Neurons, source: Shape, core: CorePlan, *, joined: Sequence[Shape] = ()) -> "FanOut":
        """The fan-out of ``layer`` with the parallelism of ``core``; ``joined`` are the shapes of its further inputs' sources."""
        output, shapes = layer.output_shape(source), (source, *joined)
        blocks = -(-output.channels // core.channels)
        words_a_row = -(-output.width // core.columns) * blocks
        rows, columns, channel_weights, first = [], [], [], 0
        for each, shape in zip(layer.inputs, shapes, strict=True):
            row_weight, column_weight, channel_weight, words = _weight_shares(each, shape, blocks)
            rows += _window_steps(each, shape, 0, core.rows, words_a_row, row_weight)
            columns += _window_steps(each, shape, 1, core.columns, blocks, column_weight)
            channel_weights += [first + channel * channel_weight for channel in range(shape.channels)]
            first += words
        return cls(
            rows=Axis(core.rows, tuple(rows)),
            columns=Axis(core.columns, tuple(columns)),
            blocks=blocks,
            channel_weight=_weight_shares(layer, source, blocks)[2],
            channel_weights=tuple(channel_weights) if joined else (),
            depth=-(-output.height // core.rows) * words_a_row,
            weight_depth=first,
        )


def _weight_shares(layer: Projection, source: Shape, blocks: int) -> tuple[int, int, int, int]:
    """Words of weights from one row of an input's window to the next, from column to column, of a channel, and of all."""
    if isinstance(layer, LinearProjection):
        taken = layer.taken(source)
        return taken.width * taken.channels * blocks, taken.channels * blocks, blocks, taken.size * blocks
    if not isinstance(layer, ConvolutionProjection):
        raise TypeError(f"layer must be a Convolution or Linear, not {type(layer).__name__}")
    positions = layer.kernel[0] * layer.kernel[1]
    return layer.kernel[1] * blocks, blocks, positions * blocks, source.channels * positions * blocks


_Step = tuple[int, tuple[Reach | None, ...]]


def _window_steps(
    layer: Projection, source: Shape, axis: int, banks: int, word: int, weight: int
) -> list[tuple[_Step, ...]]:
    """The steps of each row, or column, of an input: `Axis`."""
    steps = []
    for pairs in layer.taps(source, axis):
        coordinate_steps = []
        for start in range(0, len(pairs), banks):
            reaches: list[Reach | None] = [None] * banks
            for o, k in pairs[start : start + banks]:
                reaches[o % banks] = Reach(o // banks * word, k * weight)
            coordinate_steps.append((pairs[start][0], tuple(reaches)))
        steps.append(tuple(coordinate_steps))
    return steps
