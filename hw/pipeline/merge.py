"""Where a layer has several inputs: their events as one stream."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.aer import AddressEvent, Kind, is_barrier
from model.network import Shape

__all__ = ["Merge", "OrderedMerge", "merged_shape"]


def merged_shape(shapes: Sequence[Shape]) -> Shape:
    """The shape whose rows, columns and channels are those of all inputs, one after the other."""
    heights, widths, channels = zip(*shapes, strict=True)
    return Shape(sum(heights), sum(widths), sum(channels))


def _moved(merged: data.View, event: data.View, before: Sequence[Shape]) -> list[Any]:
    """Assignments: a spike of an input, its coordinates moved behind those of the inputs before."""
    shape = merged_shape([Shape(0, 0, 0), *before])
    return [
        merged.negative.eq(event.negative),
        merged.y.eq(event.y + shape.height),
        merged.x.eq(event.x + shape.width),
        merged.c.eq(event.c + shape.channels),
    ]


class Merge(wiring.Component):
    """The events of several inputs as one stream, as they come; a flush, or the end of a frame, once all have brought it.

    Operation
    ---------
    Coordinates are moved by the sums of those of the inputs before, so that each tells which input an event is of. Of several
    events that are there at once, that of the first input goes. An ``END`` waits for those of the other inputs, and all of them
    go as one. Nothing is lost, and nothing of an input is reordered. Only in a network that fires deferred does the order
    between the inputs mean nothing.

    Timing
    ------
    Combinational, an event per cycle. `merged` may offer another event in place of one that was not taken yet.

    Parameters
    ----------
    shapes : sequence of Shape
        Of each input's source.

    Members
    -------
    events_N : In, stream of AddressEvent
        Of input N.
    merged : Out, stream of AddressEvent
        Of the `merged_shape`.
    """

    def __init__(self, *, shapes: Sequence[Shape]) -> None:
        if len(shapes) < 2:
            raise ValueError(f"shapes must be at least two, not {len(shapes)}")
        self._shapes = tuple(shapes)
        members: dict[str, In | Out] = {
            f"events_{number}": In(stream.Signature(AddressEvent(shape))) for number, shape in enumerate(shapes)
        }
        super().__init__({**members, "merged": Out(stream.Signature(AddressEvent(merged_shape(shapes))))})

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Of each input's source."""
        return self._shapes

    def elaborate(self, platform: object) -> Module:
        m = Module()
        inputs = [getattr(self, f"events_{number}") for number in range(len(self._shapes))]
        merged = self.merged
        ends, spikes = Signal(len(inputs)), Signal(len(inputs))
        all_end = Signal()
        m.d.comb += [
            ends.eq(Cat(each.valid & (each.payload.kind == Kind.END) for each in inputs)),
            spikes.eq(Cat(each.valid & (each.payload.kind == Kind.SPIKE) for each in inputs)),
            all_end.eq(ends.all()),
            merged.valid.eq(all_end | spikes.any()),
            merged.payload.kind.eq(Mux(all_end, Kind.END, Kind.SPIKE)),
            # Of an END all inputs say the same.
            merged.payload.negative.eq(inputs[0].payload.negative),
        ]
        for number, each in enumerate(inputs):
            chosen = Signal(name=f"chosen_{number}")
            m.d.comb += [
                chosen.eq(spikes[number] & ~spikes[:number].any() if number else spikes[number]),
                each.ready.eq(merged.ready & (chosen | all_end)),
            ]
            with m.If(chosen):
                m.d.comb += _moved(merged.payload, each.payload, self._shapes[:number])
        return m


class OrderedMerge(wiring.Component):
    """The events of several inputs as one stream, in the order of `model.golden.merged`, kept by barriers.

    Operation
    ---------
    The inputs take turns, the first one first. A turn ends with a token that closes the innermost level, that of the merge's
    fork. What the last input closes closes behind the merge as well, the innermost level only where others after it need that. A
    barrier alone that says nothing there is dropped. The ends of a frame, of which each input brings one when the first has its
    turn, go as one, once all are there. Coordinates are moved as `Merge` does.

    Timing
    ------
    Combinational, but for whose turn it is; a token per cycle, one that is dropped included.

    Parameters
    ----------
    shapes : sequence of Shape
        Of each input's source.
    levels : int
        Levels of barriers that come, as of `AddressEvent`.
    ends_here : bool
        Whether the innermost level ends here.

    Members
    -------
    events_N : In, stream of AddressEvent
        Of input N.
    merged : Out, stream of AddressEvent
        Of the `merged_shape`.
    """

    def __init__(self, *, shapes: Sequence[Shape], levels: int, ends_here: bool) -> None:
        if len(shapes) < 2:
            raise ValueError(f"shapes must be at least two, not {len(shapes)}")
        if levels < 1:
            raise ValueError(f"levels must be at least 1, not {levels!r}")
        self._shapes = tuple(shapes)
        self._levels = levels
        self._ends_here = ends_here
        members: dict[str, In | Out] = {
            f"events_{number}": In(stream.Signature(AddressEvent(shape, levels))) for number, shape in enumerate(shapes)
        }
        merged = AddressEvent(merged_shape(shapes), levels - ends_here)
        super().__init__({**members, "merged": Out(stream.Signature(merged))})

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Of each input's source."""
        return self._shapes

    def elaborate(self, platform: object) -> Module:
        m = Module()
        inputs = [getattr(self, f"events_{number}") for number in range(len(self._shapes))]
        merged = self.merged
        turn = Signal(range(len(inputs)))
        all_end = Signal()
        m.d.comb += [
            all_end.eq(Cat(each.valid & (each.payload.kind == Kind.END) & ~is_barrier(each.payload) for each in inputs).all()),
            merged.payload.kind.eq(Kind.END),
        ]
        with m.If(all_end):
            m.d.comb += [merged.valid.eq(1), *(each.ready.eq(merged.ready) for each in inputs)]
        for number, each in enumerate(inputs):
            is_last = number == len(inputs) - 1
            # What it closes behind the merge, and whether it says anything there.
            closes = Signal.like(each.payload.closes, name=f"closes_{number}")
            goes_on, leaves = Signal(name=f"goes_on_{number}"), Signal(name=f"leaves_{number}")
            spike, ends_turn = each.payload.kind == Kind.SPIKE, each.payload.closes != 0
            if is_last:
                m.d.comb += closes.eq(each.payload.closes - (ends_turn if self._ends_here else 0))
            m.d.comb += [
                goes_on.eq(spike | (closes != 0)),
                leaves.eq(each.valid & (spike | ends_turn) & (turn == number) & (merged.ready | ~goes_on)),
            ]
            with m.If((turn == number) & (spike | ends_turn)):
                m.d.comb += [merged.valid.eq(each.valid & goes_on), each.ready.eq(merged.ready | ~goes_on)]
                if self._levels > self._ends_here:
                    m.d.comb += merged.payload.closes.eq(closes)
                with m.If(spike):
                    m.d.comb += [
                        merged.payload.kind.eq(Kind.SPIKE),
                        *_moved(merged.payload, each.payload, self._shapes[:number]),
                    ]
            with m.If(leaves & ends_turn):
                m.d.sync += turn.eq(0 if is_last else number + 1)
        return m
