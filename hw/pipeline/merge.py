"""Where a layer has several inputs: their events as one stream."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.aer import AddressEvent, Kind
from model.network import Shape

__all__ = ["Merge", "merged_shape"]


def merged_shape(shapes: Sequence[Shape]) -> Shape:
    """The shape whose rows, columns and channels are those of all inputs, one after the other."""
    heights, widths, channels = zip(*shapes, strict=True)
    return Shape(sum(heights), sum(widths), sum(channels))


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
            before = merged_shape([Shape(0, 0, 0), *self._shapes[:number]])
            m.d.comb += [
                chosen.eq(spikes[number] & ~spikes[:number].any() if number else spikes[number]),
                each.ready.eq(merged.ready & (chosen | all_end)),
            ]
            with m.If(chosen):
                m.d.comb += [
                    merged.payload.negative.eq(each.payload.negative),
                    merged.payload.y.eq(each.payload.y + before.height),
                    merged.payload.x.eq(each.payload.x + before.width),
                    merged.payload.c.eq(each.payload.c + before.channels),
                ]
        return m
