"""The tags: which positions had an event in this frame, so that no frame starts with a sweep over all states."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from model.machine.folded_layout import Folded

__all__ = ["Tags"]


class Tags(wiring.Component):
    """A tag per position: the generation in which its states were written last.

    Operation
    ---------
    Each frame is a generation. A tag of another one is stale: the states of that position are those after reset. Generations
    count from 1; after the last one all tags are swept to 0, which is none, and they count from 1 again.

    Timing
    ------
    ``stale`` a cycle after its address; a sweep takes a cycle a position.

    Parameters
    ----------
    folded : Folded
        the machine's memories

    Members
    -------
    addr : In, range(tags)
        the tag that is read
    stale : Out, 1 bit
        whether it is of another generation
    mark : In, 1 bit
        the tag at ``mark_addr`` is of this generation from now on
    mark_addr : In, range(tags)
    next_frame : In, 1 bit
        the next generation begins
    wraps : Out, 1 bit
        1 in the last generation: a sweep has to follow it
    sweep : In, 1 bit
        a tag is swept
    swept : Out, 1 bit
        1 where it is the last one
    """

    def __init__(self, *, folded: Folded) -> None:
        self._depth, self._bits = folded.tag_depth, folded.generation_bits
        addr = range(self._depth)
        super().__init__(
            {
                "addr": In(addr),
                "stale": Out(1),
                "mark": In(1),
                "mark_addr": In(addr),
                "next_frame": In(1),
                "wraps": Out(1),
                "sweep": In(1),
                "swept": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.tags = tags = Memory(
            shape=unsigned(self._bits),
            depth=self._depth,
            init=[],
            # No word is read while it is written: Yosys need not build what would make that well defined.
            attrs={"no_rw_check": 1, "ram_style": "block"},
        )
        read, write = tags.read_port(), tags.write_port()
        generation = Signal(self._bits, init=1)
        sweep_addr = Signal(range(self._depth))
        m.d.comb += [
            read.addr.eq(self.addr),
            self.stale.eq(read.data != generation),
            write.en.eq(self.sweep | self.mark),
            write.addr.eq(Mux(self.sweep, sweep_addr, self.mark_addr)),
            write.data.eq(Mux(self.sweep, 0, generation)),
            self.wraps.eq(generation.all()),
            self.swept.eq(sweep_addr == self._depth - 1),
        ]
        with m.If(self.next_frame):
            m.d.sync += generation.eq(Mux(self.wraps, 1, generation + 1))
        with m.If(self.sweep):
            m.d.sync += sweep_addr.eq(Mux(self.swept, 0, sweep_addr + 1))
        return m
