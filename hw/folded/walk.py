"""The walk: which blocks of neurons an event reaches, one after another."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.folded.layouts import Event, Step
from hw.folded.tables import Reach, ReachTable
from model.machine.folded_layout import Folded

__all__ = ["Walk"]


class Walk(wiring.Component):
    """Walks through the window of an event, block by block, in canonical order.

    Operation
    ---------
    At each position of the window come its blocks of channels, then the next column, then the next row. The address of the
    weights goes with them: it only ever adds one of three distances.

    Timing
    ------
    ======================================= ======
    from                                    cycles
    ======================================= ======
    ``event`` and its number to ``reaches`` 1
    the same to ``start``                   at least 1
    ``start`` to the first ``step``         1
    ``advance`` to the next ``step``        1
    ``jump`` to ``jump_to`` as ``step``     1
    ======================================= ======

    At most one of ``start``, ``advance`` and ``jump`` is 1.

    Parameters
    ----------
    folded : Folded
        the machine's layers

    Members
    -------
    layer, or input where the layers are no chain : In, range(inputs)
        number of the input that takes the event
    event : In, Event
    start : In, 1 bit
        the first block comes next
    advance : In, 1 bit
        the block after this one comes next
    jump : In, 1 bit
        the block of ``jump_to`` comes next
    jump_to : In, Step
    step : Out, Step
        the block of this cycle
    last : Out, 1 bit
        1 where it is the walk's last one
    last_block : Out, unsigned
        number of the last block at each position
    reaches : Out, 1 bit
        0 where the event reaches no neuron
    """

    def __init__(self, *, folded: Folded) -> None:
        self._folded = folded
        step = Step(folded)
        super().__init__(
            {
                "layer" if folded.chain else "input": In(range(max(2, len(folded.inputs)))),
                "event": In(Event(folded)),
                "start": In(1),
                "advance": In(1),
                "jump": In(1),
                "jump_to": In(step),
                "step": Out(step),
                "last": Out(1),
                "last_block": Out(step["block"].shape),
                "reaches": Out(1),
            }
        )

    @property
    def folded(self) -> Folded:
        """The machine's layers."""
        return self._folded

    @property
    def taken_by(self) -> Signal:
        """Number of the input that takes the event."""
        return self.layer if self._folded.chain else self.input

    def elaborate(self, platform: object) -> Module:
        m = Module()
        step = self.step

        # What the event reaches.
        reach = Signal(Reach(self._folded))
        for number, each in enumerate(self._folded.inputs):
            m.submodules[f"reach_{number}"] = table = ReachTable(folded=self._folded, number=number)
            m.d.comb += table.event.eq(self.event)
            with m.If(self.taken_by == number):
                m.d.sync += [reach.eq(table.reach), self.last_block.eq(each.blocks - 1)]
        m.d.comb += self.reaches.eq(reach.reaches)

        # The block after this one.
        following = Signal.like(step)
        block_ends, row_ends = Signal(), Signal()
        m.d.comb += [
            block_ends.eq(step.block == self.last_block),
            row_ends.eq(block_ends & (step.columns == 0)),
            self.last.eq(row_ends & (step.rows == 0)),
            following.eq(step),
            following.block.eq(Mux(block_ends, 0, step.block + 1)),
            following.weight.eq(step.weight + Mux(row_ends, reach.row_jump, Mux(block_ends, reach.column_jump, 1))),
        ]
        with m.If(row_ends):
            m.d.comb += [
                following.y.eq(step.y + 1),
                following.rows.eq(step.rows - 1),
                following.x.eq(reach.first_x),
                following.columns.eq(reach.columns),
            ]
        with m.Elif(block_ends):
            m.d.comb += [following.x.eq(step.x + 1), following.columns.eq(step.columns - 1)]

        with m.If(self.jump):
            m.d.sync += step.eq(self.jump_to)
        with m.If(self.start):
            m.d.sync += [
                step.y.eq(reach.first_y),
                step.x.eq(reach.first_x),
                step.block.eq(0),
                step.weight.eq(reach.weight_y + reach.weight_x + reach.weight_c),
                step.rows.eq(reach.rows),
                step.columns.eq(reach.columns),
            ]
        with m.If(self.advance):
            m.d.sync += step.eq(following)
        return m
