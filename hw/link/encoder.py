"""The encoder for one level: a frame of pixels in, its events out, the brightest first. Compare `model/encode.py`."""

from dataclasses import dataclass

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib.memory import Memory, ReadPort, WritePort
from amaranth.utils import bits_for

from hw.aer import Kind
from hw.link.frame_encoder import FrameEncoder
from hw.parts.memory import BuiltMemory, style
from model.network import Network

__all__ = ["Encoder"]

LEVELS = 256


class Encoder(FrameEncoder):
    """Intensity-to-delay coding by counting sort, of pixels that fire once or not.

    Operation
    ---------
    Pixels above the threshold are kept as they come, and counted by brightness. Then each brightness gets its place in
    the order, brightest first, and each pixel, in raster order, the next place of its brightness: equal pixels keep their
    order. Last, the events leave in order, and an ``END``.

    Timing
    ------
    Every memory's output has a register after it, and every read waits for that. For ``n`` pixels of which ``k`` fire:
    ``3 * n`` cycles to take them, ``3 * 256 + 5 * k + 1`` to sort, ``3 * (k + 1)`` to send, and 256 to clear.

    Parameters
    ----------
    network : Network
        Gives the input shape, and the threshold above which a pixel fires; of one input level.

    Members
    -------
    pixels, events
        As of `hw.link.frame_encoder.FrameEncoder`.
    """

    def __init__(self, *, network: Network) -> None:
        if network.input_levels != 1:
            raise ValueError(f"network {network.name!r}: input_levels must be 1, not {network.input_levels}")
        super().__init__(network=network)

    @property
    def memories(self) -> tuple[BuiltMemory, BuiltMemory, BuiltMemory]:
        """The pixels that are kept, the place of each brightness in the order, and the order."""
        address_width, pixels = self._address_width, self._network.input_shape.size
        return (
            BuiltMemory.written(name="kept", width=8 + address_width, depth=pixels),
            BuiltMemory.written(name="places", width=bits_for(pixels), depth=LEVELS),
            BuiltMemory.written(name="order", width=address_width, depth=pixels),
        )

    @property
    def _address_width(self) -> int:
        event = self.events.payload
        return len(event.y) + len(event.x) + len(event.c)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        shape = self._network.input_shape
        event = self.events.payload
        place_width = bits_for(shape.size)
        address_width = self._address_width

        kept, places, order = (
            Memory(shape=unsigned(built.width), depth=built.depth, init=[], attrs=style(built.kind)) for built in self.memories
        )
        m.submodules.kept, m.submodules.places, m.submodules.order = kept, places, order
        kept_read, kept_write = kept.read_port(), kept.write_port()
        place_read, place_write = places.read_port(), places.write_port()
        order_read, order_write = order.read_port(), order.write_port()
        kept_data, place_data, order_data = (
            Signal.like(port.data, name=name, reset_less=True)
            for name, port in (("kept_data", kept_read), ("place_data", place_read), ("order_data", order_read))
        )
        m.d.sync += [kept_data.eq(kept_read.data), place_data.eq(place_read.data), order_data.eq(order_read.data)]

        y, x, c = Signal.like(event.y), Signal.like(event.x), Signal.like(event.c)
        address = Signal(address_width)
        count, index, total = Signal(place_width), Signal(place_width), Signal(place_width)
        level = Signal(8)
        pixel = Signal(8)
        last = Signal()
        m.d.comb += [
            address[: len(c)].eq(c),
            address[len(c) : len(c) + len(x)].eq(x),
            address[len(c) + len(x) :].eq(y),
            last.eq((c == shape.channels - 1) & (x == shape.width - 1) & (y == shape.height - 1)),
            kept_read.addr.eq(index),
            order_read.addr.eq(index),
        ]

        path = _Datapath(
            kept_write=kept_write,
            kept_data=kept_data,
            place_read=place_read,
            place_write=place_write,
            place_data=place_data,
            order_write=order_write,
            order_data=order_data,
            y=y,
            x=x,
            c=c,
            address=address,
            count=count,
            index=index,
            total=total,
            level=level,
            pixel=pixel,
            last=last,
        )
        with m.FSM():
            self._count(m, path)
            self._sort(m, path)
            self._send(m, path)
        return m

    def _count(self, m: Module, d: "_Datapath") -> None:
        """States that keep the pixels that fire, and count them by brightness."""
        shape = self._network.input_shape
        with m.State("CLEAR"):
            m.d.comb += [d.place_write.addr.eq(d.level), d.place_write.data.eq(0), d.place_write.en.eq(1)]
            m.d.sync += d.level.eq(d.level + 1)
            with m.If(d.level == LEVELS - 1):
                m.next = "TAKE"
        with m.State("TAKE"):
            m.d.comb += [self.pixels.ready.eq(1), d.place_read.addr.eq(self.pixels.payload)]
            m.d.sync += d.pixel.eq(self.pixels.payload)
            with m.If(self.pixels.valid):
                m.next = "TOOK"
        with m.State("TOOK"):
            m.next = "COUNT"
        with m.State("COUNT"):
            fires = d.pixel > self._network.input_threshold
            m.d.comb += [
                d.kept_write.addr.eq(d.count),
                d.kept_write.data.eq(d.pixel | d.address << 8),
                d.kept_write.en.eq(fires),
                d.place_write.addr.eq(d.pixel),
                d.place_write.data.eq(d.place_data + 1),
                d.place_write.en.eq(fires),
            ]
            m.d.sync += [
                d.count.eq(d.count + fires),
                d.c.eq(Mux(d.c == shape.channels - 1, 0, d.c + 1)),
                d.level.eq(LEVELS - 1),
                d.total.eq(0),
                d.index.eq(0),
            ]
            with m.If(d.c == shape.channels - 1):
                m.d.sync += d.x.eq(Mux(d.x == shape.width - 1, 0, d.x + 1))
                with m.If(d.x == shape.width - 1):
                    m.d.sync += d.y.eq(Mux(d.y == shape.height - 1, 0, d.y + 1))
            m.next = "TAKE"
            with m.If(d.last):
                m.next = "LOOK"

    def _sort(self, m: Module, d: "_Datapath") -> None:
        """States that give each brightness its place, and each pixel the next one of its brightness."""
        with m.State("LOOK"):
            m.d.comb += d.place_read.addr.eq(d.level)
            m.next = "LOOKED"
        with m.State("LOOKED"):
            m.next = "PLACE"
        with m.State("PLACE"):
            # The level's count becomes its first place: the number of all brighter pixels.
            m.d.comb += [d.place_write.addr.eq(d.level), d.place_write.data.eq(d.total), d.place_write.en.eq(1)]
            m.d.sync += [d.total.eq(d.total + d.place_data), d.level.eq(d.level - 1)]
            m.next = "LOOK"
            with m.If(d.level == 0):
                m.next = "FETCH"
        with m.State("FETCH"):
            m.next = "FETCHED"
            with m.If(d.index == d.count):
                m.d.sync += d.index.eq(0)
                m.next = "LOAD"
        with m.State("FETCHED"):
            m.next = "FIND"
        with m.State("FIND"):
            m.d.comb += d.place_read.addr.eq(d.kept_data[:8])
            m.next = "FOUND"
        with m.State("FOUND"):
            m.next = "SORT"
        with m.State("SORT"):
            m.d.comb += [
                d.order_write.addr.eq(d.place_data),
                d.order_write.data.eq(d.kept_data[8:]),
                d.order_write.en.eq(1),
                d.place_write.addr.eq(d.kept_data[:8]),
                d.place_write.data.eq(d.place_data + 1),
                d.place_write.en.eq(1),
            ]
            m.d.sync += d.index.eq(d.index + 1)
            m.next = "FETCH"

    def _send(self, m: Module, d: "_Datapath") -> None:
        """States in which the events leave in order, and their ``END``."""
        event = self.events.payload
        with m.State("LOAD"):
            m.next = "LOADED"
        with m.State("LOADED"):
            m.next = "SEND"
        with m.State("SEND"):
            m.d.comb += self.events.valid.eq(1)
            with m.If(d.index == d.count):
                m.d.comb += event.kind.eq(Kind.END)
            with m.Else():
                m.d.comb += [
                    event.c.eq(d.order_data[: len(d.c)]),
                    event.x.eq(d.order_data[len(d.c) : len(d.c) + len(d.x)]),
                    event.y.eq(d.order_data[len(d.c) + len(d.x) :]),
                ]
            with m.If(self.events.ready):
                m.d.sync += d.index.eq(d.index + 1)
                m.next = "LOAD"
                with m.If(d.index == d.count):
                    m.d.sync += [d.count.eq(0), d.index.eq(0), d.level.eq(0)]
                    m.next = "CLEAR"


@dataclass(frozen=True, kw_only=True)
class _Datapath:
    """What the states work on.

    Parameters
    ----------
    kept_write, place_read, place_write, order_write : memory.ReadPort, memory.WritePort
        ports of the memories: pixels that fire, places by brightness, addresses in order
    kept_data, place_data, order_data : Signal
        what was read, a register later
    y, x, c, address, last : Signal
        the pixel in hand, packed, and whether it is the frame's last
    pixel, level : Signal
        its brightness; the one whose place is looked for
    count, index, total : Signal
        pixels that fire; the one in hand of those; those that are brighter than ``level``
    """

    kept_write: WritePort
    kept_data: Signal
    place_read: ReadPort
    place_write: WritePort
    place_data: Signal
    order_write: WritePort
    order_data: Signal
    y: Signal
    x: Signal
    c: Signal
    address: Signal
    count: Signal
    index: Signal
    total: Signal
    level: Signal
    pixel: Signal
    last: Signal
