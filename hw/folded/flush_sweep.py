"""The sweep of a flush: all neurons of a layer, or of its max-pool all windows, one after another."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.folded.layouts import Step
from hw.parts.tables import lookup
from model.machine.folded_layout import Folded

__all__ = ["FlushPlace", "FlushSweep"]


class FlushPlace(data.StructLayout):
    """Where a flush is: a block of neurons, or of a max-pool's windows.

    Parameters
    ----------
    folded : Folded
        the machine's layers

    Members
    -------
    y, x, block : unsigned
        position, of the neurons or of the pool, and block of channels
    """

    def __init__(self, folded: Folded) -> None:
        step = Step(folded)
        super().__init__({name: step[name].shape for name in ("y", "x", "block")})


class FlushSweep(wiring.Component):
    """Goes through all places of a layer in canonical order, and through the members of each: the positions that it is of.

    Operation
    ---------
    A place of neurons has one member, itself; one of a max-pool has those of its window. While the members of a place are visited
    the next place is at hand already.

    Timing
    ------
    While ``run`` is 1, a member per cycle, from the second cycle after ``start`` or ``skip`` on. At most one of ``start``,
    ``jump`` and ``skip`` is 1.

    Parameters
    ----------
    folded : Folded
        the machine's layers

    Members
    -------
    layer : In, range(layers)
        number of the layer that is flushed
    pooled : In, 1 bit
        1 for the windows of the max-pool that follows it
    start : In, 1 bit
        the first place comes next
    run : In, 1 bit
        the member that is visited, if any, is taken
    jump : In, 1 bit
        nothing comes after ``jump_to`` until ``skip``
    jump_to : In, FlushPlace
    skip : In, 1 bit
        the place after that of ``jump_to`` comes next
    visits : Out, 1 bit
        whether a member is visited
    place : Out, FlushPlace
        the place of it
    member_y, member_x : Out, unsigned
        its position
    first, last : Out, 1 bit
        whether it is the place's first one, its last one
    done : Out, 1 bit
        1 where nothing is left
    """

    def __init__(self, *, folded: Folded) -> None:
        self._folded = folded
        step, place = Step(folded), FlushPlace(folded)
        super().__init__(
            {
                "layer": In(range(max(2, len(folded.layers)))),
                "pooled": In(1),
                "start": In(1),
                "run": In(1),
                "jump": In(1),
                "jump_to": In(place),
                "skip": In(1),
                "visits": Out(1),
                "place": Out(place),
                "member_y": Out(step["y"].shape),
                "member_x": Out(step["x"].shape),
                "first": Out(1),
                "last": Out(1),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        place_layout = FlushPlace(self._folded)
        coming, following, ends = Signal(place_layout), Signal(place_layout), Signal(place_layout)
        comes = Signal()
        window = self._tables(m, coming, ends)

        # The place after the one that comes.
        block_ends, row_ends, is_last = Signal(), Signal(), Signal()
        m.d.comb += [
            block_ends.eq(coming.block == ends.block),
            row_ends.eq(block_ends & (coming.x == ends.x)),
            is_last.eq(row_ends & (coming.y == ends.y)),
            following.block.eq(Mux(block_ends, 0, coming.block + 1)),
            following.x.eq(Mux(row_ends, 0, coming.x + block_ends)),
            following.y.eq(coming.y + row_ends),
        ]

        # The members of the place that is visited.
        first_x, columns = Signal.like(self.member_x, name="first_x"), Signal.like(self.member_x, name="columns")
        rows_left, columns_left = Signal.like(self.member_y, name="rows_left"), Signal.like(self.member_x, name="columns_left")
        row_done = Signal()
        m.d.comb += [
            row_done.eq(columns_left == 0),
            self.last.eq(row_done & (rows_left == 0)),
            self.done.eq(~comes & ~self.visits),
        ]
        with m.If(self.run):
            with m.If(self.last | ~self.visits):
                m.d.sync += [
                    self.visits.eq(comes),
                    self.place.eq(coming),
                    self.first.eq(1),
                    self.member_y.eq(window["first_y"]),
                    self.member_x.eq(window["first_x"]),
                    first_x.eq(window["first_x"]),
                    rows_left.eq(window["rows"]),
                    columns_left.eq(window["columns"]),
                    columns.eq(window["columns"]),
                    coming.eq(following),
                    comes.eq(comes & ~is_last),
                ]
            with m.Else():
                m.d.sync += [
                    self.first.eq(0),
                    self.member_x.eq(Mux(row_done, first_x, self.member_x + 1)),
                    columns_left.eq(Mux(row_done, columns, columns_left - 1)),
                    self.member_y.eq(self.member_y + row_done),
                    rows_left.eq(rows_left - row_done),
                ]
        with m.If(self.jump):
            m.d.sync += [coming.eq(self.jump_to), comes.eq(0), self.visits.eq(0)]
        with m.If(self.skip):
            m.d.sync += [coming.eq(following), comes.eq(~is_last)]
        with m.If(self.start):
            m.d.sync += [coming.eq(0), comes.eq(1), self.visits.eq(0)]
        return m

    def _tables(self, m: Module, coming: Signal, ends: Signal) -> dict[str, Signal]:
        """Of the place that comes, its first member and how many rows and columns follow; and the last place of the layer."""
        like = {"first_y": self.member_y, "rows": self.member_y, "first_x": self.member_x, "columns": self.member_x}
        window = {name: Signal.like(member, name=f"window_{name}") for name, member in like.items()}
        m.d.comb += [window["first_y"].eq(coming.y), window["first_x"].eq(coming.x)]
        for number, la in enumerate(self._folded.layers):
            tables: dict[str, Signal] = {}
            for axis, (of, size, at) in enumerate((("first_y", "rows", coming.y), ("first_x", "columns", coming.x))):
                if la.pool:
                    first, members = zip(*la.windows(axis), strict=True)
                    tables[of] = lookup(m, f"{of}_{number}", first, at)
                    tables[size] = lookup(m, f"{size}_{number}", [count - 1 for count in members], at)
            with m.If(self.layer == number):
                m.d.comb += [
                    ends.block.eq(la.blocks - 1),
                    ends.y.eq(la.output.height - 1),
                    ends.x.eq(la.output.width - 1),
                ]
                if la.pool:
                    with m.If(self.pooled):
                        m.d.comb += [
                            ends.y.eq(la.leaving.height - 1),
                            ends.x.eq(la.leaving.width - 1),
                            *(window[name].eq(value) for name, value in tables.items()),
                        ]
        return window
