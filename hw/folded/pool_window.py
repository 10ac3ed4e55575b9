"""The window of a max-pool: the positions whose counts say whether a spike moves the maximum."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.folded.layouts import Step
from hw.folded.tables import WindowTable
from model.machine.folded_layout import Folded

__all__ = ["PoolWindow"]


class PoolWindow(wiring.Component):
    """Visits the positions of the pool's window that a position is in.

    Timing
    ------
    ``pools`` and ``inside`` follow ``layer``, ``y`` and ``x`` in the same cycle, all other outputs are registers. A position a
    cycle, from the cycle after ``start``.

    Parameters
    ----------
    folded : Folded
        the machine's layers

    Members
    -------
    layer : In, range(layers)
        number of the layer in use
    y, x : In, unsigned
        the position that fired
    pools : Out, 1 bit
        whether a max-pool follows that layer
    inside : Out, 1 bit
        whether the position is in a window of it
    start : In, 1 bit
        the window is visited from the next cycle on, if there is one
    visits : Out, 1 bit
        1 in the cycles in which positions are visited
    member_y, member_x : Out, unsigned
        the position that is visited
    last : Out, 1 bit
        1 where it is the last one
    leaving_y, leaving_x : Out, unsigned
        since ``start``, where a spike of that position leaves: the pool's position, or without a pool its own
    """

    def __init__(self, *, folded: Folded) -> None:
        self._folded = folded
        step = Step(folded)
        y, x = step["y"].shape, step["x"].shape
        super().__init__(
            {
                "layer": In(range(max(2, len(folded.layers)))),
                "y": In(y),
                "x": In(x),
                "pools": Out(1),
                "inside": Out(1),
                "start": In(1),
                "visits": Out(1),
                "member_y": Out(y),
                "member_x": Out(x),
                "last": Out(1),
                "leaving_y": Out(y),
                "leaving_x": Out(x),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.table = table = WindowTable(folded=self._folded)
        window = table.window
        m.d.comb += [
            table.layer.eq(self.layer),
            table.y.eq(self.y),
            table.x.eq(self.x),
            self.pools.eq(window.pools),
            self.inside.eq(window.inside),
        ]
        first_x, columns = Signal.like(self.x, name="first_x"), Signal.like(self.x, name="columns")
        rows_left, columns_left = Signal.like(self.y, name="rows_left"), Signal.like(self.x, name="columns_left")
        row_ends = Signal()
        m.d.comb += [row_ends.eq(columns_left == 0), self.last.eq(row_ends & (rows_left == 0))]
        with m.If(self.visits):
            m.d.sync += [self.member_x.eq(self.member_x + 1), columns_left.eq(columns_left - 1)]
            with m.If(row_ends):
                m.d.sync += [
                    self.member_x.eq(first_x),
                    columns_left.eq(columns),
                    self.member_y.eq(self.member_y + 1),
                    rows_left.eq(rows_left - 1),
                ]
            with m.If(self.last):
                m.d.sync += self.visits.eq(0)
        with m.If(self.start):
            m.d.sync += [
                self.leaving_y.eq(window.pooled_y),
                self.leaving_x.eq(window.pooled_x),
                self.member_y.eq(window.first_y),
                self.member_x.eq(window.first_x),
                first_x.eq(window.first_x),
                rows_left.eq(window.rows),
                columns_left.eq(window.columns),
                columns.eq(window.columns),
                self.visits.eq(window.pools & window.inside),
            ]
        return m
