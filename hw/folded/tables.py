"""Tables of a folded machine: where an event's walk goes, and where the window of a pool lies, of each layer."""

from amaranth.hdl import Const, Module, Signal, Value
from amaranth.lib import data

from hw.parts.tables import lookup, times
from model.machine.folded_layout import FoldedLayer
from model.network import Convolution

__all__ = ["Reach", "Window"]


class Reach:
    """Tables of one layer: where the walk of an event starts, and how far it goes."""

    def __init__(self, m: Module, number: int, la: FoldedLayer, event: data.View, weight_bits: int) -> None:
        rows, columns, blocks = la.axis(0), la.axis(1), la.blocks
        convolution = la.layer if isinstance(la.layer, Convolution) else None
        stride = convolution.stride if convolution else (1, 1)
        if convolution:
            row_weight, column_weight = convolution.kernel[1] * blocks, blocks
            channel_weight = convolution.kernel[0] * row_weight
        else:
            channel_weight, column_weight = blocks, la.source.channels * blocks
            row_weight = la.source.width * column_weight

        def table(name: str, values: list[int], coordinate: Value) -> Signal:
            return lookup(m, f"{name}_{number}", values, coordinate)

        def starts(axis: list[list[tuple[int, int]]], part: int, factor: int = 1, base: int = 0) -> list[int]:
            return [base + (pairs[0][part] if pairs else 0) * factor for pairs in axis]

        self.first_y = table("first_y", starts(rows, 0), event.y)
        self.first_x = table("first_x", starts(columns, 0), event.x)
        self.rows = table("rows", [max(0, len(pairs) - 1) for pairs in rows], event.y)
        self.columns = table("columns", [max(0, len(pairs) - 1) for pairs in columns], event.x)
        self.weight_y = table("weight_y", starts(rows, 1, row_weight, la.weight_base), event.y)
        self.weight_x = table("weight_x", starts(columns, 1, column_weight), event.x)
        self.weight_c = times(event.c, channel_weight)
        reaching = [
            table(f"reaches_{name}", [int(bool(pairs)) for pairs in axis], at)
            for name, axis, at in (("y", rows, event.y), ("x", columns, event.x))
        ]
        self.reaches = reaching[0] & reaching[1]
        # From the last block of a position to the first of the next, in the same row and in the next one, as the address wraps.
        wrap = 1 << weight_bits
        self.column_jump = Const((stride[1] * blocks - (blocks - 1)) % wrap, weight_bits)
        jumps = [stride[0] * row_weight - (max(1, len(pairs)) - 1) * stride[1] * blocks - (blocks - 1) for pairs in columns]
        self.row_jump = table("row_jump", [jump % wrap for jump in jumps], event.x)


class Window:
    """Where the pool's window of a position lies, of the layer in use."""

    def __init__(self, m: Module, layers: tuple[FoldedLayer, ...], layer: Signal, step: data.View) -> None:
        coordinates = {"y": step.y, "x": step.x}
        self.pools, self.inside = Signal(name="pools"), Signal(name="inside")
        self.pooled_y, self.first_y, self.rows = (
            Signal.like(step.y, name=name) for name in ("pooled_y", "window_y", "window_rows")
        )
        self.pooled_x, self.first_x, self.columns = (
            Signal.like(step.x, name=name) for name in ("pooled_x", "window_first_x", "window_columns")
        )
        m.d.comb += [self.pooled_y.eq(step.y), self.pooled_x.eq(step.x)]
        of_axes = (("y", self.pooled_y, self.first_y, self.rows), ("x", self.pooled_x, self.first_x, self.columns))
        for number, la in enumerate(layers):
            if not la.pool:
                continue
            inside: list[Value] = []
            with m.If(layer == number):
                m.d.comb += self.pools.eq(1)
            for axis, (name, pooled, start, size) in enumerate(of_axes):
                entries = la.window(axis)
                for into, values in (
                    (pooled, [entry[0] if entry else 0 for entry in entries]),
                    (start, [entry[1] if entry else 0 for entry in entries]),
                    (size, [entry[2] - 1 if entry else 0 for entry in entries]),
                ):
                    value = lookup(m, f"{into.name}_{number}", values, coordinates[name])
                    with m.If(layer == number):
                        m.d.comb += into.eq(value)
                inside.append(
                    lookup(m, f"inside_{name}_{number}", [int(entry is not None) for entry in entries], coordinates[name])
                )
            with m.If(layer == number):
                m.d.comb += self.inside.eq(inside[0] & inside[1])
