"""Tables of a folded machine: where an event's walk goes, where a pool's window lies, and the states after reset."""

import numpy as np
from amaranth.hdl import Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.folded.deferred_lane import IntegratedState
from hw.folded.lane import SettledState
from hw.folded.layouts import Event, Step
from hw.parts.tables import lookup, scaled, times
from model.machine.folded_layout import Folded, FoldedInput, FoldedLayer
from model.projection import ConvolutionProjection

__all__ = ["InitialStates", "Reach", "ReachTable", "Window", "WindowTable"]


class Reach(data.StructLayout):
    """What an event of a layer reaches.

    Parameters
    ----------
    folded : Folded
        the machine's layers

    Members
    -------
    reaches : 1 bit
        0 where it reaches no neuron
    first_y, first_x : unsigned
        first position of its window
    rows, columns : unsigned
        rows and columns after the first
    weight_y, weight_x, weight_c : unsigned
        the event's row's, column's and channel's share of the address of the first block of weights
    column_jump, row_jump : unsigned
        from the weights of the last block at a position to those of the first at the next, in the same row and in the next one;
        the address wraps
    """

    def __init__(self, folded: Folded) -> None:
        step = Step(folded)
        of_step = {"first_y": "y", "first_x": "x", "rows": "rows", "columns": "columns"}
        weights = ("weight_y", "weight_x", "weight_c", "column_jump", "row_jump")
        super().__init__(
            {
                "reaches": 1,
                **{name: step[member].shape for name, member in of_step.items()},
                **{name: step["weight"].shape for name in weights},
            }
        )


class ReachTable(wiring.Component):
    """What each event of one input of a layer reaches.

    A window is separable: rows and columns have a table each.

    Timing
    ------
    Combinational.

    Parameters
    ----------
    folded : Folded
        the machine's layers
    number : int
        which of the machine's inputs takes the event

    Members
    -------
    event : In, Event
    reach : Out, Reach
    """

    def __init__(self, *, folded: Folded, number: int) -> None:
        self._folded = folded
        self._input = folded.inputs[number]
        super().__init__({"event": In(Event(folded)), "reach": Out(Reach(folded))})

    @property
    def taken_by(self) -> FoldedInput:
        """The input that takes the event."""
        return self._input

    def elaborate(self, platform: object) -> Module:
        m = Module()
        event, reach, taken_by = self.event, self.reach, self._input
        rows, columns, blocks = taken_by.axis(0), taken_by.axis(1), taken_by.blocks
        stride = taken_by.taker.stride if isinstance(taken_by.taker, ConvolutionProjection) else (1, 1)
        weight_base = self._folded.layers[taken_by.layer].weight_base + taken_by.first_word
        row_weight, column_weight, channel_weight = self._weight_factors()

        # From the last block at a position to the first at the next one.
        wrap = 1 << len(reach.weight_y)
        row_jumps = [stride[0] * row_weight - (max(1, len(pairs)) - 1) * stride[1] * blocks - (blocks - 1) for pairs in columns]

        tables = {
            "first_y": (_firsts(rows, 0), event.y),
            "first_x": (_firsts(columns, 0), event.x),
            "rows": (_after_first(rows), event.y),
            "columns": (_after_first(columns), event.x),
            "weight_y": ([weight_base + tap * row_weight for tap in _firsts(rows, 1)], event.y),
            "weight_x": ([tap * column_weight for tap in _firsts(columns, 1)], event.x),
            "row_jump": ([jump % wrap for jump in row_jumps], event.x),
        }
        m.d.comb += [reach[name].eq(lookup(m, name, table, index)) for name, (table, index) in tables.items()]
        m.d.comb += [
            reach.weight_c.eq(times(event.c, channel_weight)),
            reach.column_jump.eq((stride[1] * blocks - (blocks - 1)) % wrap),
            reach.reaches.eq(
                lookup(m, "reaches_y", [int(bool(pairs)) for pairs in rows], event.y)
                & lookup(m, "reaches_x", [int(bool(pairs)) for pairs in columns], event.x)
            ),
        ]
        return m

    def _weight_factors(self) -> tuple[int, int, int]:
        """Blocks of weights from one row, column and channel to the next: of the kernel, or of the source where there is none."""
        taker, source, blocks = self._input.taker, self._input.source, self._input.blocks
        if isinstance(taker, ConvolutionProjection):
            height, width = taker.kernel
            return width * blocks, blocks, height * width * blocks
        column = source.channels * blocks
        return taker.taken(source).width * column, column, blocks


def _firsts(axis: list[list[tuple[int, int]]], part: int) -> list[int]:
    """Of each coordinate the first output that it reaches (part 0), or that one's tap (part 1)."""
    return [pairs[0][part] if pairs else 0 for pairs in axis]


def _after_first(axis: list[list[tuple[int, int]]]) -> list[int]:
    """Of each coordinate how many outputs follow the first."""
    return [max(0, len(pairs) - 1) for pairs in axis]


class Window(data.StructLayout):
    """The window of a max-pool that a position is in.

    Parameters
    ----------
    folded : Folded
        the machine's layers

    Members
    -------
    pools : 1 bit
        0 where the layer has no max-pool; then ``pooled_y`` and ``pooled_x`` are the position itself
    inside : 1 bit
        1 where the position is in a window
    pooled_y, pooled_x : unsigned
        the pool's position
    first_y, first_x : unsigned
        first position of the window
    rows, columns : unsigned
        rows and columns after the first
    """

    def __init__(self, folded: Folded) -> None:
        step = Step(folded)
        axes = {f"{name}_{axis}": step[axis].shape for name in ("pooled", "first") for axis in ("y", "x")}
        super().__init__({"pools": 1, "inside": 1, **axes, "rows": step["y"].shape, "columns": step["x"].shape})


class WindowTable(wiring.Component):
    """The window of a max-pool that a position of the layer in use is in.

    Timing
    ------
    Combinational.

    Parameters
    ----------
    folded : Folded
        the machine's layers

    Members
    -------
    layer : In, range(layers)
        number of the layer in use
    y, x : In, unsigned
        position
    window : Out, Window
    """

    def __init__(self, *, folded: Folded) -> None:
        self._folded = folded
        step = Step(folded)
        super().__init__(
            {
                "layer": In(range(max(2, len(folded.layers)))),
                "y": In(step["y"].shape),
                "x": In(step["x"].shape),
                "window": Out(Window(folded)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        window = self.window
        m.d.comb += [window.pooled_y.eq(self.y), window.pooled_x.eq(self.x)]
        for number, la in enumerate(self._folded.layers):
            if not la.pool:
                continue
            inside = []
            tables: dict[str, Value] = {}
            for axis, (of, size, at) in enumerate((("y", "rows", self.y), ("x", "columns", self.x))):
                entries = la.window(axis)
                # What is said of a position in no window is not used.
                pooled, first, positions = zip(*(entry or (0, 0, 1) for entry in entries), strict=True)
                tables |= {
                    f"pooled_{of}": lookup(m, f"pooled_{of}_{number}", pooled, at),
                    f"first_{of}": lookup(m, f"first_{of}_{number}", first, at),
                    size: lookup(m, f"{size}_{number}", [count - 1 for count in positions], at),
                }
                inside.append(lookup(m, f"inside_{of}_{number}", [int(entry is not None) for entry in entries], at))
            with m.If(self.layer == number):
                m.d.comb += [
                    window.pools.eq(1),
                    window.inside.eq(inside[0] & inside[1]),
                    *(window[name].eq(value) for name, value in tables.items()),
                ]
        return m


class InitialStates(wiring.Component):
    """The states of a block's neurons at the start of a frame.

    Timing
    ------
    ``states`` follow ``layer`` and ``block`` in the same cycle, and ``y`` and ``x`` by a cycle.

    Parameters
    ----------
    folded : Folded
        the machine's layers

    Members
    -------
    layer : In, range(layers)
        number of the layer in use
    block : In, unsigned
        block of channels
    y, x : In, unsigned
        position, where any layer has several initial states
    states : Out, array of SettledState or, where neurons fire deferred, IntegratedState
        of each lane; 0 of a lane that the layer does not use
    """

    def __init__(self, *, folded: Folded) -> None:
        self._folded = folded
        self._state = (IntegratedState if folded.deferred else SettledState)(*(la.layer for la in folded.layers))
        step = Step(folded)
        members: dict[str, In | Out] = {
            "layer": In(range(max(2, len(folded.layers)))),
            "block": In(step["block"].shape),
            "states": Out(data.ArrayLayout(self._state, folded.lanes)),
        }
        if self.by_position:
            members |= {"y": In(step["y"].shape), "x": In(step["x"].shape)}
        super().__init__(members)

    @property
    def by_position(self) -> bool:
        """Whether the states of any layer differ by position."""
        return any(la.initial.several for la in self._folded.layers)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        words: list[list[Signal]] = []
        for number, la in enumerate(self._folded.layers):
            index = self._index(m, number, la)
            words.append([lookup(m, f"bias_{number}_{lane}", table, index) for lane, table in enumerate(self._words(la))])
        with m.Switch(self.layer):
            for number, of_lanes in enumerate(words):
                with m.Case(number):
                    m.d.comb += [self.states[lane].eq(word) for lane, word in enumerate(of_lanes)]
        return m

    def _index(self, m: Module, number: int, la: FoldedLayer) -> Value:
        """Where the words of a block lie in the tables of its layer: by block, class of columns and class of rows."""
        if not la.initial.several:
            return self.block
        row, column = (
            lookup(m, f"{name}_class_{number}", classes, at)
            for name, classes, at in (("row", la.initial.row_classes, self.y), ("column", la.initial.column_classes, self.x))
        )
        of_row, of_column = Signal.like(row, name=f"row_{number}"), Signal.like(column, name=f"column_{number}")
        m.d.sync += [of_row.eq(row), of_column.eq(column)]
        columns = max(la.initial.column_classes) + 1
        return scaled(scaled(of_row, columns) + of_column, la.blocks) + self.block

    def _words(self, la: FoldedLayer) -> list[list[int]]:
        """Of each lane, the initial state of its neuron in each block, as a number; for each class of rows and of columns."""
        tables: list[list[int]] = [[] if lane < la.lanes else [0] for lane in range(self._folded.lanes)]
        silent = [0] * (la.blocks * la.lanes - la.output.channels)
        for at in np.ndindex(*la.initial.residual.shape[:2]):
            words = [
                self._state.const({"summed": int(residual), "count": int(count)}).as_value().value
                for residual, count in zip((*la.initial.residual[at], *silent), (*la.initial.count[at], *silent), strict=True)
            ]
            for lane, table in enumerate(tables[: la.lanes]):
                table += words[lane :: la.lanes]
        return tables
