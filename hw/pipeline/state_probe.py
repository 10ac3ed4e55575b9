"""Reading a neuron's state from outside: where in a core's banks it lies."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.parts.tables import lookup, times
from model.machine.plan import CorePlan
from model.network import Shape

__all__ = ["QUIET_CYCLES", "StateProbe"]

QUIET_CYCLES = 32
"""Where nothing is seen on its way for so long, a pipeline is at rest: an event passes unseen through selector, pool or
serializer, which take 4, 10 and 1 cycles. A read takes less as well."""


class StateProbe(wiring.Component):
    """Where a neuron's state lies in the banks of a core.

    Timing
    ------
    `addr` two cycles after the coordinates, the rest one.

    Parameters
    ----------
    shape : Shape
        Shape of the layer.
    core : CorePlan
        Its parallelism.

    Members
    -------
    y, x, c : In
        The neuron.
    bank, addr, channel : Out
        Its bank, its word there, and its channel in the word.
    block : Out
        The block of channels that the word is of.
    """

    def __init__(self, *, shape: Shape, core: CorePlan) -> None:
        self._shape = shape
        self._core = core
        self._blocks = -(-shape.channels // core.channels)
        depth = -(-shape.height // core.rows) * -(-shape.width // core.columns) * self._blocks
        super().__init__(
            {
                **{name: In(range(max(2, size))) for name, size in zip(("y", "x", "c"), shape, strict=True)},
                "bank": Out(range(max(2, core.rows * core.columns))),
                "addr": Out(range(max(2, depth))),
                "channel": Out(range(max(2, core.channels))),
                "block": Out(range(max(2, self._blocks))),
            }
        )

    @property
    def shape(self) -> Shape:
        """Shape of the layer."""
        return self._shape

    def elaborate(self, platform: object) -> Module:
        m = Module()
        shape, core, blocks = self._shape, self._core, self._blocks
        words_a_row = -(-shape.width // core.columns) * blocks

        def parts(name: str, size: int, by: int) -> tuple[Signal, Signal]:
            quotient_and_rest = []
            for part, values in (("of", [n // by for n in range(size)]), ("in", [n % by for n in range(size)])):
                value = lookup(m, f"{name}_{part}", values, getattr(self, name))
                kept = Signal.like(value, name=f"{name}_{part}_kept")
                m.d.sync += kept.eq(value)
                quotient_and_rest.append(kept)
            return quotient_and_rest[0], quotient_and_rest[1]

        (row, y_phase), (column, x_phase), (block, channel) = (
            parts(name, size, by)
            for name, size, by in (
                ("y", shape.height, core.rows), ("x", shape.width, core.columns), ("c", shape.channels, core.channels)
            )
        )
        m.d.comb += [
            self.bank.eq(times(y_phase, core.columns) + x_phase),
            self.block.eq(block),
            self.channel.eq(channel),
        ]
        m.d.sync += self.addr.eq(times(row, words_a_row) + times(column, blocks) + block)
        return m
