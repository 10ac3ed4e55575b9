"""What a step of a projection core fires, and the order of its banks."""

from amaranth.hdl import Array, Cat, Value, unsigned
from amaranth.lib import data
from amaranth.utils import bits_for

from hw.aer import Kind
from hw.parts.memory import stored_bits
from model.machine.plan import CorePlan
from model.network import Shape

__all__ = ["StepGroup", "turned"]


class StepGroup(data.StructLayout):
    """All spikes of one step: of each bank, one block of channels at one position, in chunks of as many as a group has.

    Parameters
    ----------
    shape : Shape
        Shape of the layer that fires.
    core : CorePlan
        Its parallelism.
    more_bits, flushes, levels : int, bool, int
        As of `hw.aer.SpikeGroup`.

    Members
    -------
    kind : `Kind`
        Where it is ``END``, nothing has fired, and the other members but for ``flush`` and ``closes`` mean nothing.
    y, x
        First position of the step.
    block
        Index of the block of channels.
    y_phase, x_phase
        Bank of that position, ``y mod rows`` and ``x mod columns``.
    fired
        One bit per chunk, position after position in ascending ``(y, x)``: whether it has spikes.
    plus, minus
        Of each chunk, bank after bank, one bit per channel.
    more
        Of each chunk, bank after bank, the spikes of each channel beyond its first; where there is any room for it.
    flush, closes
        As of `hw.aer.SpikeGroup`.
    """

    def __init__(
        self, shape: Shape, core: CorePlan, more_bits: int = 0, *, flushes: bool = False, levels: int = 0
    ) -> None:
        chunks = core.rows * core.columns * core.chunks
        blocks = -(-shape.channels // core.channels)
        self._values = {
            "y": shape.height, "x": shape.width, "block": blocks, "y_phase": core.rows, "x_phase": core.columns
        }
        super().__init__(
            {
                "kind": Kind,
                "y": unsigned(bits_for(shape.height - 1)),
                "x": unsigned(bits_for(shape.width - 1)),
                "block": unsigned(bits_for(blocks - 1)),
                "y_phase": unsigned(bits_for(core.rows - 1)),
                "x_phase": unsigned(bits_for(core.columns - 1)),
                "fired": unsigned(chunks),
                "plus": data.ArrayLayout(unsigned(core.group_channels), chunks),
                "minus": data.ArrayLayout(unsigned(core.group_channels), chunks),
                **({"more": data.ArrayLayout(unsigned(core.group_channels * more_bits), chunks)} if more_bits else {}),
                **({"flush": 1} if flushes else {}),
                **({"closes": unsigned(bits_for(levels))} if levels else {}),
            }
        )

    @property
    def stored_bits(self) -> int:
        """Bits of it that a memory keeps."""
        return stored_bits(self, self._values)


def turned(core: CorePlan, bits: Value, y_phase: Value, x_phase: Value, *, to: str) -> Value:
    """One bit per chunk of each bank, in the order of positions (``to="positions"``), or back in that of ``"banks"``."""
    sign = {"positions": 1, "banks": -1}[to]
    rows, columns, chunks = core.rows, core.columns, core.chunks
    places = [(row, column, chunk) for row in range(rows) for column in range(columns) for chunk in range(chunks)]

    def bit(row: int, column: int, chunk: int) -> Value:
        return bits[(row % rows * columns + column % columns) * chunks + chunk]

    by_column = {(r, c, k): Array(bit(r, c + sign * n, k) for n in range(columns))[x_phase] for r, c, k in places}
    return Cat(Array(by_column[(r + sign * n) % rows, c, k] for n in range(rows))[y_phase] for r, c, k in places)
