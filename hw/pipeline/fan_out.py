"""Fan-out as tables: which words and weights an event at an input coordinate reaches, step by step.

A window is separable: rows and columns each have a table, and the addresses of state and weights are a sum of a
row's part and a column's part. The tables are constants of the plan; strides, padding and clipping at the border
are all in them, so that the machine only looks up and adds. Several inputs are one whose rows, columns and channels are those of
all, one after the other, as `hw.pipeline.merge.Merge` moves their events.

An event of a group of channels visits the blocks that its group is in, and lanes of other groups rest. Weights are stored as a
projection has them: where a block is of several groups, its word has a weight of each, of input channels that have the same place
in their groups. So no weight is stored that no event adds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from model.machine.plan import CorePlan
from model.machine.stages import blocks_reached, grouped
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
        Of several inputs, or of groups, for each input channel the address that its weights begin at; empty where there is one
        input, whose channels' are `channel_weight` apart.
    visited : tuple of range
        Of groups, for each input channel the blocks that its events visit; empty where they visit all.
    reached : tuple of range
        Of groups, for each input channel the output channels that its events reach; empty where they are all of the blocks that
        they visit.
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
    visited: tuple[range, ...]
    reached: tuple[range, ...]
    depth: int
    weight_depth: int

    @classmethod
    def of(cls, layer: Neurons, source: Shape, core: CorePlan, *, joined: Sequence[Shape] = ()) -> "FanOut":
        """The fan-out of ``layer`` with the parallelism of ``core``; ``joined`` are the shapes of its further inputs' sources."""
        output, shapes = layer.output_shape(source), (source, *joined)
        blocks = -(-output.channels // core.channels)
        words_a_row = -(-output.width // core.columns) * blocks
        rows, columns, channel_weights, first = [], [], [], 0
        visited: list[range] = []
        reached: list[range] = []
        for each, shape in zip(layer.inputs, shapes, strict=True):
            row_weight, column_weight, channel_weight, words = _weight_shares(each, shape, blocks)
            rows += _window_steps(each, shape, 0, core.rows, words_a_row, row_weight)
            columns += _window_steps(each, shape, 1, core.columns, blocks, column_weight)
            of_group = each.weights.shape[1] if isinstance(each, ConvolutionProjection) else shape.channels
            channel_weights += [first + channel % of_group * channel_weight for channel in range(shape.channels)]
            visited += blocks_reached(each, shape, core)
            reached += [each.channels_of(channel) for channel in range(shape.channels)]
            first += words
        return cls(
            rows=Axis(core.rows, tuple(rows)),
            columns=Axis(core.columns, tuple(columns)),
            blocks=blocks,
            channel_weight=_weight_shares(layer, source, blocks)[2],
            channel_weights=tuple(channel_weights) if joined or grouped(layer) else (),
            visited=tuple(visited) if any(found != range(blocks) for found in visited) else (),
            reached=tuple(reached) if any(_apart(found, core.channels, output.channels) for found in reached) else (),
            depth=-(-output.height // core.rows) * words_a_row,
            weight_depth=first,
        )


    @property
    def reuse(self) -> int:
        """Fewest cycles between two accesses to the same word: an event visits all its blocks of a position before the next."""
        visited = {(0, self.blocks), *((found.start, found.stop) for found in self.visited)}
        return min(stop - start for _, stop in visited for start, _ in visited if start < stop)


def _apart(channels: range, block: int, every: int) -> bool:
    """Whether some of the blocks that have ``channels`` have others too."""
    return channels.start % block != 0 or (channels.stop % block != 0 and channels.stop != every)


def _weight_shares(layer: Projection, source: Shape, blocks: int) -> tuple[int, int, int, int]:
    """Words of weights from one row of an input's window to the next, from column to column, of a channel, and of all."""
    if isinstance(layer, LinearProjection):
        taken = layer.taken(source)
        return taken.width * taken.channels * blocks, taken.channels * blocks, blocks, taken.size * blocks
    if not isinstance(layer, ConvolutionProjection):
        raise TypeError(f"layer must be a Convolution or Linear, not {type(layer).__name__}")
    positions = layer.kernel[0] * layer.kernel[1]
    return layer.kernel[1] * blocks, blocks, positions * blocks, layer.weights.shape[1] * positions * blocks


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
