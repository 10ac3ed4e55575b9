"""The encoder: a frame of pixels in, its events brightest first out. Compare `model/encode.py`."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from hw.aer import AddressEvent, Kind
from hw.parts.memory import ram_kind, style
from model.network import Network

__all__ = ["Encoder"]

LEVELS = 256


class Encoder(wiring.Component):
    """Intensity-to-delay coding by counting sort.

    Operation
    ---------
    Pixels above the threshold are kept as they come, and counted by brightness. Then each brightness gets its place in
    the order, brightest first, and each pixel, in raster order, the next place of its brightness: equal pixels keep their
    order. Last, the events leave in order, and an ``END``.

    Timing
    ------
    Every memory's output has a register behind it, and every read waits for that. For ``n`` pixels of which ``k`` fire:
    ``3 * n`` cycles to take them, ``3 * 256 + 5 * k + 1`` to sort, ``3 * (k + 1)`` to send, and 256 to clear.

    Parameters
    ----------
    network : gives the input shape and the threshold

    Members
    -------
    pixels : In stream, 8 bits, raster order ``(y, x, c)``
    events : Out stream, `AddressEvent` of the input
    """

    def __init__(self, *, network: Network) -> None:
        self._network = network
        super().__init__(
            {
                "pixels": In(stream.Signature(unsigned(8))),
                "events": Out(stream.Signature(AddressEvent(network.input_shape))),
            }
        )

    @property
    def network(self) -> Network:
        """Gives the input shape and the threshold."""
        return self._network

    def elaborate(self, platform: object) -> Module:
        m = Module()
        shape = self._network.input_shape
        event = self.events.payload
        place_width = bits_for(shape.size)
        address_width = len(event.y) + len(event.x) + len(event.c)

        kept, places, order = (
            Memory(shape=unsigned(width), depth=depth, init=[], attrs=style(ram_kind(width, depth)))
            for width, depth in ((8 + address_width, shape.size), (place_width, LEVELS), (address_width, shape.size))
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

        with m.FSM():
            with m.State("CLEAR"):
                m.d.comb += [place_write.addr.eq(level), place_write.data.eq(0), place_write.en.eq(1)]
                m.d.sync += level.eq(level + 1)
                with m.If(level == LEVELS - 1):
                    m.next = "TAKE"
            with m.State("TAKE"):
                m.d.comb += [self.pixels.ready.eq(1), place_read.addr.eq(self.pixels.payload)]
                m.d.sync += pixel.eq(self.pixels.payload)
                with m.If(self.pixels.valid):
                    m.next = "TOOK"
            with m.State("TOOK"):
                m.next = "COUNT"
            with m.State("COUNT"):
                fires = pixel > self._network.input_threshold
                m.d.comb += [
                    kept_write.addr.eq(count),
                    kept_write.data.eq(pixel | address << 8),
                    kept_write.en.eq(fires),
                    place_write.addr.eq(pixel),
                    place_write.data.eq(place_data + 1),
                    place_write.en.eq(fires),
                ]
                m.d.sync += [
                    count.eq(count + fires),
                    c.eq(Mux(c == shape.channels - 1, 0, c + 1)),
                    level.eq(LEVELS - 1),
                    total.eq(0),
                    index.eq(0),
                ]
                with m.If(c == shape.channels - 1):
                    m.d.sync += x.eq(Mux(x == shape.width - 1, 0, x + 1))
                    with m.If(x == shape.width - 1):
                        m.d.sync += y.eq(Mux(y == shape.height - 1, 0, y + 1))
                m.next = "TAKE"
                with m.If(last):
                    m.next = "LOOK"
            with m.State("LOOK"):
                m.d.comb += place_read.addr.eq(level)
                m.next = "LOOKED"
            with m.State("LOOKED"):
                m.next = "PLACE"
            with m.State("PLACE"):
                # The level's count becomes its first place: the number of all brighter pixels.
                m.d.comb += [place_write.addr.eq(level), place_write.data.eq(total), place_write.en.eq(1)]
                m.d.sync += [total.eq(total + place_data), level.eq(level - 1)]
                m.next = "LOOK"
                with m.If(level == 0):
                    m.next = "FETCH"
            with m.State("FETCH"):
                m.next = "FETCHED"
                with m.If(index == count):
                    m.d.sync += index.eq(0)
                    m.next = "LOAD"
            with m.State("FETCHED"):
                m.next = "FIND"
            with m.State("FIND"):
                m.d.comb += place_read.addr.eq(kept_data[:8])
                m.next = "FOUND"
            with m.State("FOUND"):
                m.next = "SORT"
            with m.State("SORT"):
                m.d.comb += [
                    order_write.addr.eq(place_data),
                    order_write.data.eq(kept_data[8:]),
                    order_write.en.eq(1),
                    place_write.addr.eq(kept_data[:8]),
                    place_write.data.eq(place_data + 1),
                    place_write.en.eq(1),
                ]
                m.d.sync += index.eq(index + 1)
                m.next = "FETCH"
            with m.State("LOAD"):
                m.next = "LOADED"
            with m.State("LOADED"):
                m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += self.events.valid.eq(1)
                with m.If(index == count):
                    m.d.comb += event.kind.eq(Kind.END)
                with m.Else():
                    m.d.comb += [
                        event.c.eq(order_data[: len(c)]),
                        event.x.eq(order_data[len(c) : len(c) + len(x)]),
                        event.y.eq(order_data[len(c) + len(x) :]),
                    ]
                with m.If(self.events.ready):
                    m.d.sync += index.eq(index + 1)
                    m.next = "LOAD"
                    with m.If(index == count):
                        m.d.sync += [count.eq(0), index.eq(0), level.eq(0)]
                        m.next = "CLEAR"
        return m
