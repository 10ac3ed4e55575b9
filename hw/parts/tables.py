"""Tables and products by constants: what addresses are made of where nothing may be multiplied or divided."""

from collections.abc import Sequence

from amaranth.hdl import Array, Const, Module, Signal, Value
from amaranth.utils import bits_for

__all__ = ["lookup", "scaled", "times"]


def lookup(m: Module, name: str, table: Sequence[int], index: Value) -> Signal:
    """A combinational signal that is ``table[index]``."""
    value = Signal(bits_for(max(table)), name=name)
    entries = {entry: Const(entry, len(value)) for entry in set(table)}
    m.d.comb += value.eq(Array(entries[entry] for entry in table)[index])
    return value


def times(value: Value, factor: int) -> Value:
    """``value * factor`` for a constant factor, as shifts and adds."""
    total: Value = Const(0, 1)
    for bit in range(factor.bit_length()):
        if factor >> bit & 1:
            total = total + (value << bit)
    return total


def scaled(value: Value, factor: int) -> Value:
    """As `times`, with the fewest adds and subtracts (canonical signed digits): where an address waits for every one of them."""
    plus: list[Value] = []
    minus: list[Value] = []
    width = len(value) + factor.bit_length()
    bit = 0
    while factor >> bit:
        if factor >> bit & 3 == 3:
            minus.append(value << bit)
            factor += 1 << bit
        elif factor >> bit & 1:
            plus.append(value << bit)
        bit += 1
    total = sum(plus, Const(0, 1))
    return (total - sum(minus, Const(0, 1)))[:width] if minus else total
