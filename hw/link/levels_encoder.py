"""The encoder for several levels: a frame of pixels in, its events out, the pixel furthest past its limit first.

Compare `model/encode.py`.
"""

from dataclasses import dataclass

from amaranth.hdl import Module, Mux, Signal, Value, unsigned
from amaranth.lib import data
from amaranth.lib.memory import Memory, ReadPort, WritePort
from amaranth.utils import bits_for

from hw.aer import Kind
from hw.link.frame_encoder import FrameEncoder
from hw.parts.memory import BuiltMemory, style

__all__ = ["LevelsEncoder"]


class LevelsEncoder(FrameEncoder):
    """Intensity-to-delay coding with several levels: one counting sort, then rounds over its result.

    Operation
    ---------
    Say that limits went on above the last one, a step apart, as far as pixels go. Then a pixel is above ``a`` of them, and ``p``
    past the highest of these, ``1 <= p <= step``. Where it fires at the ``j``-th of its limits, it is ``p + (a - j) * step`` past
    it. So who is furthest is a matter of ``a - j`` first, then of ``p``, then of raster order.

    Pixels are split into ``a`` and ``p`` as they come, and counted by ``p``. Each ``p`` gets its place in the order, the greatest
    first, and each pixel, in raster order, the next place of its ``p``: equal ones keep their order. Then the order is read
    in rounds, one for each value of ``a - j``, from the greatest on: in each, every pixel with a limit ``j`` among its levels
    leaves as an event. Last comes an ``END``.

    Timing
    ------
    Every memory's output has a register after it. For ``n`` pixels of which ``k`` fire:

    ======  =================================================================================
    take    ``4 * n``, and for each pixel that fires ``a - 1``
    sort    ``3 * step + 3 * n``
    send    ``k`` a round, of which there are as many as the greatest ``a`` of the frame, and 3
    clear   ``step``
    ======  =================================================================================

    An event leaves in the cycle in which its pixel is read, and waits for its reader.

    Parameters
    ----------
    network : Network
        Gives the input shape, and the limits above which a pixel fires.

    Members
    -------
    pixels, events
        As of `hw.link.frame_encoder.FrameEncoder`.
    """

    @property
    def memories(self) -> tuple[BuiltMemory, BuiltMemory, BuiltMemory]:
        """The pixels, the place in the order of each way past a limit, and the order."""
        pixels = self._network.input_shape.size
        return (
            BuiltMemory.written(name="kept", width=self._pixel.size, depth=pixels),
            BuiltMemory.written(name="places", width=bits_for(pixels), depth=self._network.input_step),
            BuiltMemory.written(name="order", width=self._entry.size, depth=pixels),
        )

    @property
    def _limits(self) -> int:
        """How many limits a pixel can be above, if they go on above the last level."""
        return -(-(255 - self._network.input_threshold) // self._network.input_step)

    @property
    def _pixel(self) -> data.StructLayout:
        """How far it is past the highest limit that it is above, less one; how many it is above."""
        return data.StructLayout({"past": range(self._network.input_step), "above": range(self._limits + 1)})

    @property
    def _entry(self) -> data.StructLayout:
        """A pixel in the order: how many limits it is above, and where it is."""
        event = self.events.payload
        coordinates = {name: len(getattr(event, name)) for name in ("c", "x", "y")}
        return data.StructLayout({"above": range(self._limits + 1), **coordinates})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        event = self.events.payload

        # What is read in the cycle in which it is written is never used.
        kept, places, order = (
            Memory(shape=shape, depth=built.depth, init=[], attrs={"no_rw_check": 1} | style(built.kind))
            for built, shape in zip(self.memories, (self._pixel, unsigned(self.memories[1].width), self._entry), strict=True)
        )
        m.submodules.kept, m.submodules.places, m.submodules.order = kept, places, order
        kept_read, place_read, order_read = kept.read_port(), places.read_port(), order.read_port()
        d = _Datapath(
            kept_write=kept.write_port(),
            kept_data=Signal(self._pixel, name="kept_data", reset_less=True),
            place_read=place_read,
            place_write=places.write_port(),
            place_data=Signal.like(place_read.data, name="place_data", reset_less=True),
            order_write=order.write_port(),
            order_data=Signal(self._entry, name="order_data", reset_less=True),
            y=Signal.like(event.y, name="y"),
            x=Signal.like(event.x, name="x"),
            c=Signal.like(event.c, name="c"),
            past=Signal(8, name="past"),
            above=Signal(range(self._limits + 1), name="above"),
            round=Signal(range(self._limits + 1), name="round"),
            index=Signal(range(self._network.input_shape.size), name="index"),
            total=Signal(range(self._network.input_shape.size + 1), name="total"),
            moves=Signal(name="moves"),
            ends=Signal(name="ends"),
        )
        next_is_first, asked_ends = Signal(), Signal()
        m.d.comb += [
            kept_read.addr.eq(d.index),
            place_read.addr.eq(d.past),
            d.place_write.addr.eq(d.past),
            order_read.addr.eq(d.index),
            order_read.en.eq(d.moves),
            next_is_first.eq(d.index + 1 == d.total),
        ]
        m.d.sync += [d.kept_data.eq(kept_read.data), d.place_data.eq(place_read.data)]
        with m.If(d.moves):
            m.d.sync += [
                d.index.eq(Mux(next_is_first, 0, d.index + 1)),
                asked_ends.eq(next_is_first),
                d.ends.eq(asked_ends),
                d.order_data.eq(order_read.data),
            ]
        with m.FSM():
            self._take(m, d)
            self._sort(m, d)
            self._send(m, d)
        return m

    def _take(self, m: Module, d: "_Datapath") -> None:
        """States that keep the pixels, split, and count those that fire by how far they are past their highest limit."""
        first, step = self._network.input_threshold, self._network.input_step
        with m.State("CLEAR"):
            m.d.comb += d.place_write.en.eq(1)
            m.d.sync += d.past.eq(d.past + 1)
            with m.If(d.past == step - 1):
                m.next = "TAKE"
        with m.State("TAKE"):
            m.d.comb += self.pixels.ready.eq(1)
            m.d.sync += [d.past.eq(self.pixels.payload - (first + 1)), d.above.eq(self.pixels.payload > first)]
            with m.If(self.pixels.valid):
                m.next = "SPLIT"
        with m.State("SPLIT"):
            with m.If((d.above != 0) & (d.past >= step)):
                m.d.sync += [d.past.eq(d.past - step), d.above.eq(d.above + 1)]
            with m.Else():
                m.next = "TOOK"
        with m.State("TOOK"):
            m.next = "COUNT"
        with m.State("COUNT"):
            m.d.comb += [
                d.kept_write.addr.eq(d.index),
                d.kept_write.data.past.eq(d.past),
                d.kept_write.data.above.eq(d.above),
                d.kept_write.en.eq(1),
                d.place_write.data.eq(d.place_data + 1),
                d.place_write.en.eq(d.above != 0),
            ]
            m.d.sync += d.index.eq(self._after(d.index))
            with m.If(d.above > d.round):
                m.d.sync += d.round.eq(d.above)
            m.next = "TAKE"
            with m.If(self._is_last(d.index)):
                m.d.sync += d.past.eq(step - 1)
                m.next = "LOOK"

    def _sort(self, m: Module, d: "_Datapath") -> None:
        """States that give each way past a limit its place, and each pixel that fires the next one of its own."""
        shape = self._network.input_shape
        with m.State("LOOK"):
            m.next = "LOOKED"
        with m.State("LOOKED"):
            m.next = "PLACE"
        with m.State("PLACE"):
            # The count becomes the first place: the number of all pixels that are further past.
            m.d.comb += [d.place_write.data.eq(d.total), d.place_write.en.eq(1)]
            m.d.sync += d.total.eq(d.total + d.place_data)
            with m.If(d.past == 0):
                m.next = "FIND"
            with m.Else():
                m.d.sync += d.past.eq(d.past - 1)
                m.next = "LOOK"
        with m.State("FIND"):
            m.d.comb += d.place_read.addr.eq(d.kept_data.past)
            # The next pixel is read while this one gets its place.
            m.d.sync += d.index.eq(self._after(d.index))
            m.next = "FOUND"
        with m.State("FOUND"):
            m.next = "SORT"
        with m.State("SORT"):
            fires = d.kept_data.above != 0
            m.d.comb += [
                d.order_write.addr.eq(d.place_data),
                d.order_write.data.above.eq(d.kept_data.above),
                d.order_write.data.c.eq(d.c),
                d.order_write.data.x.eq(d.x),
                d.order_write.data.y.eq(d.y),
                d.order_write.en.eq(fires),
                d.place_write.addr.eq(d.kept_data.past),
                d.place_write.data.eq(d.place_data + 1),
                d.place_write.en.eq(fires),
            ]
            m.d.sync += d.c.eq(Mux(d.c == shape.channels - 1, 0, d.c + 1))
            with m.If(d.c == shape.channels - 1):
                m.d.sync += d.x.eq(Mux(d.x == shape.width - 1, 0, d.x + 1))
                with m.If(d.x == shape.width - 1):
                    m.d.sync += d.y.eq(Mux(d.y == shape.height - 1, 0, d.y + 1))
            m.next = "FIND"
            with m.If(d.index == 0):
                m.next = "LOAD"

    def _send(self, m: Module, d: "_Datapath") -> None:
        """States in which the order is read once a round, its events leave, and their ``END``."""
        event, levels = self.events.payload, self._network.input_levels
        with m.State("LOAD"):
            m.d.comb += d.moves.eq(1)
            m.next = "LOADED"
        with m.State("LOADED"):
            m.d.comb += d.moves.eq(1)
            m.next = "SEND"
            with m.If(d.round == 0):
                m.next = "END"
        with m.State("SEND"):
            above = d.order_data.above
            fires = above >= d.round
            if self._limits > levels:
                fires &= above - d.round < levels
            m.d.comb += [
                self.events.valid.eq(fires),
                event.c.eq(d.order_data.c),
                event.x.eq(d.order_data.x),
                event.y.eq(d.order_data.y),
                d.moves.eq(~self.events.valid | self.events.ready),
            ]
            with m.If(d.moves & d.ends):
                m.d.sync += d.round.eq(d.round - 1)
                with m.If(d.round == 1):
                    m.next = "END"
        with m.State("END"):
            m.d.comb += [self.events.valid.eq(1), event.kind.eq(Kind.END)]
            with m.If(self.events.ready):
                m.d.sync += [d.index.eq(0), d.total.eq(0)]
                m.next = "CLEAR"

    def _is_last(self, index: Value) -> Value:
        return index == self._network.input_shape.size - 1

    def _after(self, index: Value) -> Value:
        """The pixel after this one; the first after the last."""
        return Mux(self._is_last(index), 0, index + 1)


@dataclass(frozen=True, kw_only=True)
class _Datapath:
    """What the states work on.

    Parameters
    ----------
    kept_write, place_read, place_write, order_write : memory.ReadPort, memory.WritePort
        ports of the memories: pixels, places by how far past a limit, pixels in order
    kept_data, place_data, order_data : Signal
        what was read, a register later
    past, above : Signal
        the pixel in hand: how far past a limit, less one, and how many limits above; ``past`` goes through the places too
    y, x, c : Signal
        where the pixel is that gets its place
    index, total : Signal
        the word that is written or read of the pixels or the order; pixels that have places
    round : Signal
        the greatest ``above`` of the frame; then of the rounds those that are left: in each, pixels fire that are above so many
        limits, or up to a level fewer than ``input_levels`` more
    moves, ends : Signal
        whether the next word of the order is read; whether the one at hand is the last
    """

    kept_write: WritePort
    kept_data: data.View
    place_read: ReadPort
    place_write: WritePort
    place_data: Signal
    order_write: WritePort
    order_data: data.View
    y: Signal
    x: Signal
    c: Signal
    past: Signal
    above: Signal
    round: Signal
    index: Signal
    total: Signal
    moves: Signal
    ends: Signal
