"""An encoder without memories to sort in: it looks for each brightness in turn. Compare `hw/link/encoder.py`."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib.memory import Memory

from hw.aer import Kind
from hw.link.frame_encoder import FrameEncoder
from model.machine.stages import kept_pixel_bits

__all__ = ["ScanEncoder"]


class ScanEncoder(FrameEncoder):
    """Intensity-to-delay coding by scanning.

    Operation
    ---------
    Pixels are kept as they come, and the greatest is remembered. Then the frame is read again and again in raster order: the
    pixels of the brightness in hand leave as events, the greatest of those below it is the next. Below the threshold it ends.
    With several levels a pixel that left is kept darker by a step, or as dark as the threshold where that was its last spike.

    Timing
    ------
    A cycle a pixel to take them, and for each brightness that occurs, of a pixel that has fired a darker one, a cycle a pixel
    and three more; two to end. An event waits for its reader. A folded machine takes longer for the events than the scan for
    finding them.

    Parameters
    ----------
    network : Network
        Gives the input shape, and the limits above which a pixel fires.

    Members
    -------
    pixels, events
        As of `hw.link.frame_encoder.FrameEncoder`.
    """

    def elaborate(self, platform: object) -> Module:
        m = Module()
        shape, threshold = self._network.input_shape, self._network.input_threshold
        levels, step = self._network.input_levels, self._network.input_step
        event = self.events.payload
        width = kept_pixel_bits(self._network)
        m.submodules.kept = kept = Memory(
            shape=unsigned(width), depth=shape.size, init=[], attrs={"no_rw_check": 1, "ram_style": "block"}
        )
        read, write = kept.read_port(), kept.write_port()

        # The address of the pixel that is taken or asked for; the coordinates of the one at hand.
        addr, all_asked = Signal(range(shape.size)), Signal()
        y, x, c = Signal.like(event.y), Signal.like(event.x), Signal.like(event.c)
        held, last = Signal(), Signal()
        held_addr = Signal.like(addr)
        level, below = Signal(8, init=threshold), Signal(8, init=threshold)
        pixel, matches, moves = Signal(8), Signal(), Signal()
        # What is kept of a pixel that fires; how often it has, where its levels may end before it is dark.
        darker = Signal(8)
        fired = read.data[8:]
        again = fired != levels - 1 if width > 8 else Const(1)
        last_addr = addr == shape.size - 1
        m.d.comb += [
            read.addr.eq(addr),
            read.en.eq(moves),
            write.addr.eq(addr),
            write.data.eq(self.pixels.payload),
            pixel.eq(read.data[:8]),
            last.eq((c == shape.channels - 1) & (x == shape.width - 1) & (y == shape.height - 1)),
            matches.eq(held & (pixel == level)),
            moves.eq(~matches | self.events.ready),
        ]

        with m.FSM():
            with m.State("TAKE"):
                m.d.comb += [self.pixels.ready.eq(1), write.en.eq(self.pixels.valid)]
                m.d.sync += [all_asked.eq(0), held.eq(0)]
                with m.If(self.pixels.valid):
                    m.d.sync += addr.eq(Mux(last_addr, 0, addr + 1))
                    with m.If(self.pixels.payload > level):
                        m.d.sync += level.eq(self.pixels.payload)
                    with m.If(last_addr):
                        m.next = "START"
            with m.State("START"):
                m.d.sync += [y.eq(0), x.eq(0), c.eq(0), all_asked.eq(0), below.eq(threshold)]
                if levels > 1:
                    m.d.sync += darker.eq(Mux(level > threshold + step, level - step, threshold))
                m.next = "SCAN"
                with m.If(level == threshold):
                    m.next = "END"
            with m.State("SCAN"):
                m.d.comb += [self.events.valid.eq(matches), event.y.eq(y), event.x.eq(x), event.c.eq(c)]
                with m.If(moves):
                    m.d.sync += held.eq(~all_asked)
                    if levels > 1:
                        m.d.sync += held_addr.eq(addr)
                    with m.If(~all_asked):
                        m.d.sync += [addr.eq(Mux(last_addr, 0, addr + 1)), all_asked.eq(last_addr)]
                    with m.If(held):
                        with m.If((pixel < level) & (pixel > below)):
                            m.d.sync += below.eq(pixel)
                        if levels > 1:
                            m.d.comb += [
                                write.en.eq(matches),
                                write.addr.eq(held_addr),
                                write.data.eq(Cat(Mux(again, darker, threshold), fired + 1)),
                            ]
                            with m.If(matches & again & (darker > below)):
                                m.d.sync += below.eq(darker)
                        m.d.sync += c.eq(Mux(c == shape.channels - 1, 0, c + 1))
                        with m.If(c == shape.channels - 1):
                            m.d.sync += x.eq(Mux(x == shape.width - 1, 0, x + 1))
                            with m.If(x == shape.width - 1):
                                m.d.sync += y.eq(Mux(y == shape.height - 1, 0, y + 1))
                        with m.If(last):
                            m.next = "NEXT"
            with m.State("NEXT"):
                m.d.sync += level.eq(below)
                m.next = "START"
            with m.State("END"):
                m.d.comb += [self.events.valid.eq(1), event.kind.eq(Kind.END)]
                with m.If(self.events.ready):
                    m.next = "TAKE"
        return m
